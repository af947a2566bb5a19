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

done_testing;
