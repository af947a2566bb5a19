# Every directive of the gate is inherited by vhosts and sections, overridden
# in them and reset to its default; checked by what happens to requests.

use UserSync::Gate;
use UserSync::Tables;
use UserSync::Test;

my $DB = logged_db('usersync_merge_gate');
my $AWAY = '"host=127.0.0.1 port=' . reserve_port()
    . ' dbname=app connect_timeout=2"';

# How long a visit waits in vain while PostgreSQL is away.
my $SHORT = "\nUserSyncStoreTimeout 200ms";

# What a back end sees, as response headers.
my $SEEN = <<'CONF';
<Location "/">
    Header set Seen-Id "expr=%{HTTP:X-User-Id}"
</Location>
CONF

my $main = <<'CONF';
UserSyncEnsure On
UserSyncEnsureUser "%{HTTP:X-One}"
UserSyncEnsureEmail "%{HTTP:X-Mail-One}"
UserSyncEnsureOnError Allow
UserSyncEnsureHeaders On
UserSyncCacheTimeout 1s
CONF

my %vhost = (
    # httpd merges all sections: with nothing of ours, or with something
    same            => '',
    own             => 'UserSyncTable public.users',
    off             => 'UserSyncEnsure Off',
    user            => 'UserSyncEnsureUser "%{HTTP:X-Two}"',
    default_user    => 'UserSyncEnsureUser "%{REMOTE_USER}"',
    email           => 'UserSyncEnsureEmail "%{HTTP:X-Mail-Two}"',
    no_email        => 'UserSyncEnsureEmail None',
    no_headers      => 'UserSyncEnsureHeaders Off',
    long            => 'UserSyncCacheTimeout 60s',
    default_timeout => 'UserSyncCacheTimeout 5mi',
    nest            => <<'CONF',
<Directory "@DIR@/htdocs/app">
    UserSyncEnsureUser "%{HTTP:X-Two}"
    UserSyncEnsureEmail None
    UserSyncEnsureHeaders Off
    <Files "other">
        UserSyncEnsureUser "%{REMOTE_USER}"
        UserSyncEnsureEmail "%{HTTP:X-Mail-Two}"
        <If "%{QUERY_STRING} == 'none'">
            UserSyncEnsureEmail None
        </If>
    </Files>
    <If "%{QUERY_STRING} == 'if'">
        UserSyncEnsureHeaders On
        UserSyncEnsureEmail "%{HTTP:X-Mail-One}"
    </If>
</Directory>
<Location "/app/index.html">
    UserSyncEnsure Off
</Location>
<Location "/open">
    UserSyncEnsure Off
    <If "%{QUERY_STRING} =~ /if/">
        UserSyncEnsure On
        UserSyncEnsureUser "%{HTTP:X-Two}"
        <If "%{QUERY_STRING} == 'if-not'">
            UserSyncEnsure Off
        </If>
    </If>
</Location>
CONF
    away      => "DBDParams $AWAY$SHORT",
    away_deny => "DBDParams $AWAY$SHORT\nUserSyncEnsureOnError Deny",
    away_nest => "DBDParams $AWAY$SHORT" . <<'CONF',

UserSyncEnsureOnError Deny
<Location "/app">
    UserSyncEnsureOnError Allow
</Location>
<Directory "@DIR@/htdocs/app">
    <Files "other">
        UserSyncEnsureOnError Deny
    </Files>
</Directory>
<Location "/app/index.html">
    UserSyncEnsureOnError Deny
    <If "%{QUERY_STRING} == 'if'">
        UserSyncEnsureOnError Allow
    </If>
</Location>
CONF
);

our $httpd = gate_server($DB, $main . guarded('/') . $SEEN, vhosts => \%vhost)
    ->start;

sub url {
    my ($where, $path) = @_;
    return $httpd->url($path || '/app/file', $where eq 'main' ? undef : $where);
}

# The result of a request that names three users and two e-mails: "the gate's
# user, their e-mail, what the back end sees"
sub outcome_of {
    my ($where, $path) = @_;
    my %id = (remote => new_id(), one => new_id(), two => new_id());
    my $response = visit($httpd, url($where, $path), $id{remote},
        'X-One' => $id{one}, 'X-Two' => $id{two}, 'X-Mail-One' => 'one@x',
        'X-Mail-Two' => 'two@x');
    my $header = $response->{headers};
    my ($who) = grep { $id{$_} eq ($header->{'env-id'} || '') } keys %id;
    my %row = map { $_ => row_of($id{$_}, $DB) } keys %id;
    my ($made, @more) = grep { $row{$_} } sort keys %row;
    fail "$where: rows of $made and @more" if @more;
    return $response->{status} unless $who || $made;
    my $email = $made && $row{$made}{email};
    my $seen = $header->{'seen-id'} ? 'header' : 'no header';
    # environment, row and header agree
    fail "$where: " . show($response)
        if !$who || !$made || $who ne $made
        || ($email || '') ne ($header->{'env-email'} || '')
        || ($header->{'seen-id'} && $header->{'seen-id'} ne $id{$who});
    return join ', ', $who, $email || 'none', $seen;
}

subtest 'the user, and which back end learns it' => sub {
    my @cases = (
        [main         => undef, 'one, one@x, header'],
        [same         => undef, 'one, one@x, header'],
        [own          => undef, 'one, one@x, header'],
        [off          => undef, '200'],
        [user         => undef, 'two, one@x, header'],
        [default_user => undef, 'remote, one@x, header'],
        [email        => undef, 'one, two@x, header'],
        [no_email     => undef, 'one, none, header'],
        [no_headers   => undef, 'one, one@x, no header'],
        [nest => '/app/file',       'two, none, no header'],
        [nest => '/app/file?if',    'two, one@x, header'],
        [nest => '/app/other',      'remote, two@x, no header'],
        [nest => '/app/other?none', 'remote, none, no header'],
        [nest => '/app/index.html', '200'],
        [nest => '/open',           '200'],
        [nest => '/open?if',        'two, one@x, header'],
        [nest => '/open?if-not',    '200'],
    );
    for my $case (@cases) {
        my ($where, $path, $expected) = @$case;
        is outcome_of($where, $path), $expected,
            join ' ', grep {defined} $where, $path;
    }
};

subtest 'UserSyncEnsureOnError' => sub {
    $httpd->allow_log(qr/dbd:error|usersync-gate: (?:store_una|unsynced)/);
    my @cases = (
        [away      => '/app/file',          'unsynced'],
        [away_deny => '/app/file',          503],
        [away_nest => '/open',              503],
        [away_nest => '/app/file',          'unsynced'],
        [away_nest => '/app/other',         'unsynced'], # the Location is last
        [away_nest => '/app/index.html',    503],
        [away_nest => '/app/index.html?if', 'unsynced'],
    );
    for my $case (@cases) {
        my ($where, $path, $expected) = @$case;
        my $response = visit($httpd, url($where, $path), new_id(),
            'X-One' => new_id());
        my $outcome = $response->{headers}{'env-outcome'};
        is $outcome || $response->{status}, $expected, "$where $path"
            or diag show($response);
    }
};

# How many SQL statements a visit of this user costs.
sub asks {
    my ($where, $id) = @_;
    my $response;
    my $sql = sql_of($DB, sub {
        $response = visit($httpd, url($where), new_id(), 'X-One' => $id);
    });
    return $response->{status} == 200 ? scalar @$sql : show($response);
}

subtest 'UserSyncCacheTimeout' => sub {
    my %id = map { $_ => new_id() } qw(main same own long default_timeout);
    is asks($_, $id{$_}), 3, "$_: looked up, made and seen" for sort keys %id;
    # a second after it was seen, the row is looked up again
    for my $where ('main', 'same', 'own') {
        ok +(wait_until { asks($where, $id{$where}) eq 1 } 10),
            "$where: for a second";
    }
    is asks($_, $id{$_}), 0, "$_: for longer" for qw(long default_timeout);
    is asks(same => $id{long}), 0, 'and that in all vhosts';
};
$httpd->stop;

# Not allowed in a vhost: one value for all of them.
subtest 'UserSyncCache' => sub {
    for my $case (['none', 1], ["none\nUserSyncCache shmcb:known(512000)", 0],
        ["shmcb\nUserSyncCache none", 1]) {
        my ($value, $expected) = @$case;
        local $httpd = gate_server($DB,
            $main . guarded('/') . "UserSyncCacheTimeout 60s\n"
                . "UserSyncCache $value\n",
            vhosts => { same => '', own => 'UserSyncTable public.users' })
            ->start;
        for my $where ('main', 'same', 'own') {
            my $id = new_id();
            is asks($where, $id), 3, "$where: looked up, made and seen";
            is asks($where, $id), $expected, "$where: the second time";
        }
        $httpd->stop;
    }
};

# If the headers are On in any section, clients cannot set them anywhere.
subtest 'UserSyncEnsureHeaders and what clients send' => sub {
    my $on = "<Location \"/nowhere\">\nUserSyncEnsureHeaders On\n</Location>\n";
    my $off = "UserSyncEnsureHeaders Off\n";
    my %case = (
        # main server, { vhost => lines }, where they are removed
        'in the main server' => [$on,
            { same => '', own => 'UserSyncTable users', off => $off },
            { map { $_ => 1 } qw(main same own off) }],
        'in a vhost' => [$off, { on => $on, same => '', off => $off },
            { on => 1 }],
    );
    for my $name (sort keys %case) {
        my ($lines, $vhosts, $taken) = @{ $case{$name} };
        local $httpd = gate_server($DB, $SEEN . $lines, vhosts => $vhosts)
            ->start;
        for my $where ('main', sort keys %$vhosts) {
            my $response = get(url($where, '/open'), 'X-User-Id' => 'spoofed');
            is $response->{headers}{'seen-id'} || '',
                $taken->{$where} ? '' : 'spoofed', "$name: $where";
        }
        $httpd->stop;
    }
};

done_testing;
