# mod_dbd's pool: full, refused by PostgreSQL, or configured differently.
# Nobody waits longer than UserSyncStoreTimeout and no thread is forgotten in
# the queue.

use UserSync::Test;
use UserSync::Outage;

use constant DEADLINE => 2;
use constant WORKERS => 16;

my $prefork = mpm() eq 'prefork';
my $pg = own_postgres(max_connections => 60);

sub httpd_with {
    my (%set) = @_;
    return outage_lines(own_httpd($pg, workers => WORKERS,
        set => { UserSyncStoreTimeout => DEADLINE . 's', %set }));
}

# All answers came, and every one is a login or the expected error.
sub in_order {
    my ($name, @responses) = @_;
    my @other = grep { UserSync::Load::kind($_) !~ /^(?:200|503 store_un\w+)$/ }
        @responses;
    is tally(@other), '', "$name: logged in, or 503";
    within(DEADLINE, "$name: in time", @responses);
    return;
}

subtest 'DBDMax 2 and 16 at once' => sub {
    my $httpd = httpd_with(DBDMax => 2)->start;
    slow_inserts($pg, 0.1);
    for my $round (1 .. 3) {
        # 8 x 0.1 s: all get a connection before the deadline
        no_rows($pg);
        my @responses = logins($httpd, WORKERS);
        is tally(@responses), WORKERS . ' x 200', "round $round: all served";
        within(0.8, "round $round: nobody is forgotten", @responses);
    }
    no_rows($pg);
    slow_inserts($pg, 0.7);
    my @responses = logins($httpd, WORKERS);
    in_order('too slow for all', @responses);
    my $served = grep { $_->{status} == 200 } @responses;
    cmp_ok $served, '>=', 2, 'some are served';
    cmp_ok $served, '<', WORKERS, 'some are not' unless $prefork;
    slow_inserts($pg, 0);
    serves($httpd, WORKERS, DEADLINE + 1, 'afterwards all are');
    cmp_ok scalar(() = $pg->backends('app')), '<=', 2, 'DBDMax is kept'
        unless $prefork;
};

subtest "one pool of mod_dbd's, written in two ways" => sub {
    my $httpd = outage_lines(own_httpd($pg, workers => WORKERS,
        set => { UserSyncStoreTimeout => DEADLINE . 's', DBDMax => 4,
            DBDKeep => 4 },
        # says what is the default: mod_dbd sees the same pool
        vhosts => { other => "DBDPersist On\n" }))->start;
    no_rows($pg);
    slow_inserts($pg, 0.05);
    for my $round (1 .. 3) {
        for my $vhost (undef, 'other') {
            no_rows($pg);
            my @people = people(WORKERS);
            my @responses = parallel(WORKERS, sub {
                ($httpd->url('/auth/login', $vhost), {
                    map { $_ => $people[ $_[0] ]{$_} } qw(email password) });
            });
            my $name = "round $round, " . ($vhost || 'main');
            is tally(@responses), WORKERS . ' x 200', "$name: all served";
            within(DEADLINE, "$name: none waits for the other", @responses);
        }
    }
    $httpd->stop;
};

subtest 'DBDMax enough for all' => sub {
    my $httpd = httpd_with()->start;
    no_rows($pg);
    slow_inserts($pg, 0.5);
    my @responses = logins($httpd, WORKERS);
    is tally(@responses), WORKERS . ' x 200', 'all served';
    within(0.5, 'nobody waits for the statement of another', @responses);
};

subtest 'PostgreSQL dies while others queue for it' => sub {
    my $httpd = httpd_with(DBDMax => 2)->start;
    no_rows($pg);
    slow_inserts($pg, 0.5);
    my $queue = sub {
        my ($meanwhile) = @_;
        no_rows($pg);
        my $job = UserSync::Background->start(sub {
            [map { { status => $_->{status}, elapsed => $_->{elapsed},
                headers => $_->{headers}, json => $_->{json} } }
                logins($httpd, WORKERS)]
        });
        wait_until { busy_backends($pg) >= 2 } 10, 'two slow statements';
        $meanwhile->();
        return @{ $job->result };
    };
    my @responses = $queue->(sub { $pg->terminate_backends('app') });
    in_order('connections killed', @responses);
    @responses = $queue->(sub { $pg->restart('immediate') });
    in_order('restart', @responses);
    slow_inserts($pg, 0.05);
    @responses = $queue->(sub { $pg->restart('immediate') });
    is tally(@responses), WORKERS . ' x 200',
        'restart, time enough for all: none fails';
    slow_inserts($pg, 0.5);
    @responses = $queue->(sub { $pg->stop('immediate') });
    in_order('gone for good', @responses);
    ok scalar(grep { $_->{status} == 503 } @responses), 'some fail';
    $pg->start;
    slow_inserts($pg, 0);
    serves($httpd, WORKERS, DEADLINE + 3, 'back');
};

subtest 'max_connections exhausted' => sub {
    no_rows($pg);
    slow_inserts($pg, 0);
    my @hogs;
    my $take_all = sub {
        while (my $hog = eval { $pg->connect('app', 'www-data') }) {
            push @hogs, $hog;
        }
        return $@;
    };
    like $take_all->(), qr/remaining connection slots|too many clients/,
        'no slot is left';
    my $httpd = httpd_with()->start;
    my @responses = logins($httpd, WORKERS);
    is tally(@responses), WORKERS . ' x 503 store_unavailable', 'all fail';
    within(DEADLINE, 'in time', @responses);
    ok scalar(grep {/too many clients|remaining connection slots/}
        $httpd->log_since), 'mod_dbd tells why';
    $_->disconnect for splice @hogs, -2;
    if (!$prefork) {
        # a child of prefork would need a connection of its own
        serves($httpd, WORKERS, 3, 'two connections serve all');
    }
    $_->disconnect for splice @hogs;
    serves($httpd, WORKERS, 3, 'slots are free again');
};

subtest 'other settings' => sub {
    for my $set ([DBDPersist => 'Off'], [DBDMin => 1], [DBDKeep => 1]) {
        my ($name, $value) = @$set;
        no_rows($pg);
        my $httpd = httpd_with(UserSyncStoreTimeout => '1s', @$set)->start;
        serves($httpd, WORKERS, 2, "$name $value");
        serves($httpd, WORKERS, 2, "$name $value again");
        $pg->terminate_backends('app');
        serves($httpd, WORKERS, 2, "$name $value, connections killed");
        ok +(wait_until { !$pg->backends('app') } 5),
            'nothing is kept' if $name eq 'DBDPersist';
        $pg->stop;
        my $failed = login($httpd);
        is tally($failed), '1 x 503 store_unavailable',
            "$name $value, PostgreSQL away";
        within(DEADLINE, "$name $value: in time", $failed);
        $pg->start;
        serves($httpd, WORKERS, 3, "$name $value, PostgreSQL back");
        $httpd->stop;
    }
};

done_testing;
