# What an event door knows is inherited by vhosts and overridden in them;
# checked by what happens to events.

use UserSync::Event;
use UserSync::Gate;
use UserSync::Hook;
use UserSync::Test;

my $DB = event_db('usersync_merge_event',
    'ALTER TABLE users ADD COLUMN other_time timestamptz',
    'GRANT SELECT (other_time), INSERT (other_time), UPDATE (other_time) '
    . 'ON users TO "www-data"');
my $OTHER = secret_of(32);
my $OWN_VALUE = 'another.value.of.the.header';

sub file_of {
    my ($name, $value) = @_;
    my $file = spew("$ENV{USERSYNC_RUN}/$name.$$.secret", "$value\n");
    chmod 0600, $file;
    return "file:$file";
}

my $own = "UserSyncEventHeader X-Own " . file_of(own => $OWN_VALUE);
my %vhost = (
    same   => '',
    lines  => 'UserSyncStoreTimeout 2s',
    header => $own,
    secret => 'UserSyncHookSecret ' . file_of(other => $OTHER),
    both   => "$own\nUserSyncHookSecret " . file_of(again => $OTHER),
    column => 'UserSyncColumn updated_at other_time',
    last   => "UserSyncEventHeader X-First 0123456789abcdef\n$own",
);

my $httpd = event_server($DB, children => 1, vhosts => \%vhost,
    config => "UserSyncEventHeader $HEADER " . file_of(main => $HEADER_VALUE)
        . "\n")->start;
$httpd->allow_log(qr/usersync-event: invalid_signature|US002/);

sub status_of {
    my ($where, $secret) = @_;
    return send_event($httpd, {}, secrets => $secret,
        vhost => $where eq 'main' ? undef : $where)->{status};
}

sub stock_status_of {
    my ($where, $name, $value) = @_;
    return send_event($httpd, stock_body(), unsigned => 1,
        headers => { $name => $value },
        vhost => $where eq 'main' ? undef : $where)->{status};
}

subtest 'UserSyncEventHeader' => sub {
    for my $where (qw(main same lines secret column)) {
        is stock_status_of($where, $HEADER, $HEADER_VALUE), 204,
            "$where: the main server's";
        is stock_status_of($where, 'X-Own', $OWN_VALUE), 401,
            "$where: not another's";
    }
    for my $where (qw(header both last)) {
        is stock_status_of($where, 'x-own', $OWN_VALUE), 204,
            "$where: its own";
        is stock_status_of($where, $HEADER, $HEADER_VALUE), 401,
            "$where: not the main server's";
        is stock_status_of($where, 'X-Own', $HEADER_VALUE), 401,
            "$where: nor its value";
    }
    is stock_status_of('last', 'X-First', '0123456789abcdef'), 401,
        'the last line counts';
};

subtest 'UserSyncHookSecret' => sub {
    for my $where (qw(main same lines header column last)) {
        is status_of($where, $SECRET), 204, "$where: the main server's";
        is status_of($where, $OTHER), 401, "$where: not another's";
    }
    for my $where (qw(secret both)) {
        is status_of($where, $OTHER), 204, "$where: its own";
        is status_of($where, $SECRET), 401, "$where: not the main server's";
    }
};

subtest 'UserSyncColumn updated_at' => sub {
    my $time = '2026-08-21T10:00:00.5+00:00';
    for my $case ([main => 'updated_at'], [column => 'other_time']) {
        my ($where, $column) = @$case;
        my $id = new_id();
        applied_ok send_event($httpd, { type => 'INSERT', id => $id,
            updated_at => $time },
            vhost => $where eq 'main' ? undef : $where), $where;
        is postgres()->value($DB, "SELECT count(*) FROM users WHERE "
            . "id::text = ? AND $column = ?::timestamptz", $id, $time), 1,
            "$where: $column";
    }
};

# ---- UserSyncOnDelete

postgres()->sql($DB, $_) for
    'CREATE TABLE users_deleted (id uuid PRIMARY KEY, deleted_at timestamptz '
    . 'NOT NULL, updated_at timestamptz NOT NULL)',
    'GRANT SELECT, INSERT, UPDATE, DELETE ON users_deleted TO "www-data"',
    'GRANT DELETE ON users TO "www-data"';

# What becomes of a user who is made and deleted: kept, marked or deleted.
sub fate {
    my ($server, $where) = @_;
    my $id = new_id();
    my $vhost = $where eq 'main' ? undef : $where;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    applied_ok send_event($server, { type => $_, id => $id },
        vhost => $vhost), "$where: $_" for 'INSERT', 'DELETE';
    return postgres()->value($DB, <<'SQL', $id, $id);
SELECT COALESCE((SELECT CASE WHEN deleted_at IS NULL THEN 'kept'
    ELSE 'marked' END FROM users WHERE id = ?),
    (SELECT 'deleted' FROM users_deleted WHERE id = ?), 'gone')
SQL
}

# Vhosts that say something else than their main server.
my %own = (
    same   => '',
    lines  => 'UserSyncStoreTimeout 2s',
    keep   => 'UserSyncOnDelete Keep',
    mark   => 'UserSyncOnDelete mark',
    delete => 'UserSyncOnDelete Delete',
    last   => "UserSyncOnDelete Keep\nUserSyncOnDelete Delete",
    none   => 'UserSyncColumn deleted_at None',
);

subtest 'UserSyncOnDelete' => sub {
    my %said = (keep => 'kept', mark => 'marked', delete => 'deleted',
        last => 'deleted');
    my %main = ('' => 'marked', 'UserSyncOnDelete Keep' => 'kept',
        'UserSyncOnDelete Delete' => 'deleted');
    for my $line (sort keys %main) {
        my $server = event_server($DB, children => 1, vhosts => \%own,
            config => "$line\n")->start;
        my $name = $line || 'no line';
        is fate($server, 'main'), $main{$line}, "$name: the main server";
        for my $where (qw(same lines)) {
            is fate($server, $where), $main{$line}, "$name: $where inherits";
        }
        is fate($server, $_), $said{$_}, "$name: $_ has its own"
            for sort keys %said;
        # the default is Mark where there is a column, and Keep elsewhere
        is fate($server, 'none'), $line =~ /Delete$/ ? 'deleted' : 'kept',
            "$name: a vhost without the column";
        $server->stop;
    }
};

done_testing;
