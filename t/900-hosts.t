# Several hosts: two with httpd behind haproxy, PostgreSQL with a streaming
# standby, pgbouncer in transaction mode, and a redis cache that both share.
# Whatever dies under load, nobody has a token without a row, no row is
# nobody's, and no account stays without one.

use UserSync::Hosts;
use UserSync::Test -keep;
use UserSync::Chaos;
use UserSync::Fleet;
use UserSync::Outage;
use UserSync::Services;

my %pg = map { $_ => UserSync::Postgres->new(on => host($_), settings => {
    wal_level => 'replica', max_wal_senders => 4, max_connections => 150,
}) } qw(db1 db2);
my ($primary, $standby) = @pg{qw(db1 db2)};
$primary->start->createdb('app');

# The other one follows, and commits wait for it from then on.
sub pair {
    $standby->follow($primary);
    $primary->sql(postgres => "ALTER SYSTEM SET synchronous_standby_names = "
        . "'$standby->{on}{name}'");
    $primary->sql(postgres => 'SELECT pg_reload_conf()');
    wait_until {
        $primary->value(postgres => q{SELECT count(*) FROM pg_stat_replication
            WHERE sync_state = 'sync'});
    } 30, 'a synchronous standby';
    return;
}

sub swap { ($primary, $standby) = ($standby, $primary); return }

sub rows_of {
    return $primary->value(app => 'SELECT count(*) FROM users '
        . 'WHERE id::text = ANY (?)', [map { $_->{id} } @_]);
}

sub rows { return $primary->value(app => 'SELECT count(*) FROM users') }

# The load goes on for a while: so many more rows.
sub more_rows {
    my $before = rows();
    wait_until { rows() >= $before + 20 } 30, 'new rows';
    return;
}

# host=... port=... of the two databases, or of what is in front of them.
sub params {
    my (%port) = @_;
    my @names = sort keys %pg;
    return join ' ', 'host=' . join(',', map { host($_)->address } @names),
        'port=' . join(',', @port{@names}), 'dbname=app user=www-data',
        'target_session_attrs=read-write connect_timeout=2';
}

pair();
my %direct = map { $_ => $pg{$_}->port } keys %pg;
my $fleet = UserSync::Fleet->start(params => params(%direct));

subtest 'all is well' => sub {
    for my $httpd ($fleet->httpds) {
        my $person = $fleet->person;
        is $fleet->login($httpd, $person)->{status}, 200, 'a login';
        is $fleet->visit($_, $person)->{status}, 200, 'let in at both hosts'
            for $fleet->httpds;
        is get($httpd->url('/usersync-status?check'))->{status}, 200, 'well';
    }
};

subtest 'rolling graceful' => sub {
    my $load = $fleet->load;
    for my $httpd ($fleet->httpds, $fleet->httpds) {
        more_rows();
        $httpd->graceful;
    }
    more_rows();
    my $seen = $load->stop;
    UserSync::Fleet::kinds_ok($seen, 'none', 'no request fails');
    $fleet->promise_ok($seen, $primary);
};

# Did the last request cost the module a connection?
sub asked_table {
    my ($httpd, $mark) = @_;
    return scalar grep {/borrowed a connection/} $httpd->log_since($mark);
}

# What another host has seen counts once it must have heard of all that came
# before: after UserSyncCacheTimeout and UserSyncStoreTimeout.
subtest 'the cache that both share' => sub {
    my ($one, $two) = $fleet->httpds;
    ok +(wait_until {
        my $person = $fleet->person;
        $fleet->login($one, $person);
        my $mark = $two->log->mark;
        $fleet->visit($two, $person)->{status} == 200
            && !asked_table($two, $mark);
    } 30), 'a user who logged in at one host is known at the other';
};

subtest 'a host is killed' => sub {
    my $load = $fleet->load;
    more_rows();
    my $from = time;
    host('web1')->kill;
    more_rows();
    my $to = time;
    $fleet->httpd('web1')->start;
    more_rows();
    my $seen = $load->stop;
    # those that it had in hand
    UserSync::Fleet::kinds_ok($seen, '502', 'served by the other');
    my @lost = grep { $_->{kind} eq '502' } @{ $seen->{replies} };
    is scalar(grep { $_->{opened} > $to || $_->{ended} < $from } @lost), 0,
        'nobody else is refused';
    $fleet->promise_ok($seen, $primary);
    is $fleet->login($_, $fleet->person)->{status}, 200, 'both serve again'
        for $fleet->httpds;
};

# The primary dies under load, for longer than anybody waits for it, and the
# standby is promoted.
#
# die      instead of the death of its host
# promote  what belongs to a promotion here
# within   how many seconds instead of two it may then take
sub fail_over {
    my ($name, %arg) = @_;
    my $load = $fleet->load;
    more_rows();
    my $host = $primary->{on};
    $arg{die} ? $arg{die}->($host) : $host->kill;
    $fleet->wait_for_outage;
    swap();
    $primary->become_primary;
    my $promoted = time;
    $arg{promote}->() if $arg{promote};
    my $seen = $fleet->recovers_ok($promoted, $arg{within} || 2, $load, $name,
        \&more_rows);
    UserSync::Fleet::kinds_ok($seen, '503 store_unavailable|503 busy',
        "$name: served or told to come again");
    $fleet->promise_ok($seen, $primary);
    $host->kill->plug;
    pair();
    return;
}

subtest 'the primary is killed' => sub {
    fail_over('several hosts') for 1 .. scaled(1, 20);
};

# Then nobody refuses. Whoever connects waits for connect_timeout first, and
# whoever has a connection does not know that it leads nowhere.
subtest 'the primary is unplugged' => sub {
    plan skip_all => 'not in the short form' unless $ENV{USERSYNC_CHAOS};
    plan skip_all => 'hosts have no cables here' unless has_cables();
    fail_over('without a cable', die => sub { $_[0]->unplug }, within => 15)
        for 1 .. 5;
};

# Without a synchronous standby a fail-over loses the last rows. Nobody may be
# let in as known whose row is gone: neither where they were seen, nor at a host
# that shares the cache.
subtest 'rows that the standby never had' => sub {
    my ($one, $two) = $fleet->httpds;
    $primary->sql(postgres => 'ALTER SYSTEM RESET synchronous_standby_names');
    $primary->sql(postgres => 'SELECT pg_reload_conf()');
    wait_until { $primary->value(postgres =>
        q{SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'async'})
    } 30, 'an asynchronous standby';
    my ($receiver) = map { $_->{pid} } $standby->sql(postgres =>
        'SELECT pid FROM pg_stat_wal_receiver');
    $standby->stop_backend($receiver);
    my @lost = map { $fleet->person } 1 .. 4;
    is $fleet->login($_, $lost[0])->{status}, 200, 'a login' for $one, $two;
    is $fleet->login($one, $_)->{status}, 200, 'a login' for @lost;
    $primary->{on}->kill;
    kill KILL => $receiver;
    swap();
    wait_until { eval { $primary->value(postgres => 'SELECT 1') } } 30,
        'a standby that is there again';
    $primary->become_primary;
    is rows_of(@lost), 0, 'their rows are lost';
    wait_until { $fleet->login($_, $fleet->person)->{status} == 200 } 30,
        'a host that is served again' for $one, $two;
    for my $httpd ($two, $one, $two, $one) {
        my $person = shift @lost;
        is $fleet->visit($httpd, $person)->{status}, 200, 'let in';
        is rows_of($person), 1, 'with a row again';
    }
    $fleet->everybody_ok($primary);
    pair();
};

# One on each host. It cannot know which database is the primary: whoever
# promotes one tells it so. httpd needs no word.
subtest 'pgbouncer in transaction mode' => sub {
    my $where = sub { 'host=' . $primary->{on}->address
        . ' port=' . $primary->port };
    my %bouncer = map { $_ => start_pgbouncer($primary, on => host($_),
        size => 10, to => $where->()) } qw(web1 web2);
    $fleet->connect_to({ map { $_ => 'host=' . host($_)->address
        . " port=$bouncer{$_}{port} dbname=app user=www-data connect_timeout=2"
    } keys %bouncer });
    fail_over('pgbouncer',
        promote => sub { $_->lead_to($where->()) for values %bouncer })
        for 1 .. scaled(1, 20);
};

done_testing;
