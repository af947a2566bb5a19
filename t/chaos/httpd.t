# httpd restarts gracefully again and again, stops gracefully, and loses
# children, all under load: graceful restarts cost no request, a stop answers
# the requests that it has begun, and every place of UserSyncMaxConcurrent is
# free afterwards.

use UserSync::Test;
use UserSync::Chaos;
use UserSync::Outage;

use constant LIMIT   => 12;

my $PREFORK = mpm() eq 'prefork';
my ($CHILDREN, $THREADS) = $PREFORK ? (24, 1) : (2, 16);
my $REFUSED = 'Connection refused|closed|Connection reset by peer';

double->config(autoconfirm => JSON::PP::true, reuse_tokens => JSON::PP::true);
my @people = people(100);

# Room for the old generations beside the new one: ServerLimit cannot change
# while httpd runs.
sub server {
    my $httpd = UserSync::Httpd->new(children => $CHILDREN,
        threads => $THREADS, config => module_config(
            UserSyncMaxConcurrent => LIMIT, UserSyncTimeout => '30s',
            UserSyncStoreTimeout => '5s')
            . sprintf("ServerLimit %d\n", 4 * $CHILDREN)
            # longer than Supabase takes, however busy the machine is
            . "GracefulShutdownTimeout 60\n");
    UserSync::Util::spew($httpd->dir . '/htdocs/index.html', 'fine');
    $httpd->allow_log(qr/AH03490: scoreboard is full/);
    $httpd->start;
    return $httpd;
}

# Logins and registrations, by this many clients.
sub mixed {
    my ($httpd, $prefix, $clients) = @_;
    my $register = registrations($httpd->url('/auth/register'), $prefix);
    return UserSync::Load->start(clients => $clients, keep => 1,
        request => sub {
            my ($n) = @_;
            return $register->($n) if $n % 10 == 0;
            my $person = $people[ $n % @people ];
            return ([POST => $httpd->url('/auth/login'), {
                email => $person->{email}, password => $person->{password} }],
                $person->{email});
        });
}

sub everybody_has_a_row {
    my ($seen) = @_;
    my %row = map { $_->{id} => 1 }
        postgres->sql(app => 'SELECT id FROM users');
    return is_deeply [grep { !$row{$_} } @{ $seen->{ids} }], [],
        'every user with a token has a row';
}

subtest 'a graceful restart each second' => sub {
    my $httpd = server();
    my $load = mixed($httpd, 'graceful', LIMIT - 3);
    for (1 .. scaled(5, 20)) {
        my $next = time + 1;
        $httpd->graceful;
        sleep $next - time if time < $next; # so often
    }
    my $seen = $load->stop;
    kinds_ok($seen, '200', 'nothing fails');
    cmp_ok $seen->{count}, '>', 20, 'many came';
    everybody_has_a_row($seen);
    places_ok($httpd, LIMIT, $people[0], 'all places are free again');
    $httpd->stop;
};

subtest 'children killed' => sub {
    my $httpd = server();
    $httpd->allow_log(qr/AH1039[23]: children are killed successively/);
    # what a killed child had counts until httpd has noticed: room for that
    my $load = mixed($httpd, 'killed', LIMIT / 2);
    my $killed = 0;
    for (1 .. scaled(5, 60)) {
        my @children;
        wait_until { @children = $httpd->children } 20, 'children';
        my $child = pick(@children);
        kill 'KILL', $child;
        $killed++;
        wait_until { !-d "/proc/$child" } 20, 'httpd to see it';
    }
    my $seen = $load->stop;
    kinds_ok($seen, "200|$REFUSED|cut off",
        'a killed child answers nothing, all others do');
    my $lost = $seen->{count} - count_of($seen, '200');
    cmp_ok $lost, '<=', $killed * ($PREFORK ? 1 : LIMIT / 2),
        "$killed killed, no more requests lost than they had";
    everybody_has_a_row($seen);
    $httpd->allow_log(qr/AH00052: child pid \d+ exit signal Killed/);
    places_ok($httpd, LIMIT, $people[0], 'their places are free again');
    $httpd->stop;
};

subtest 'a graceful stop' => sub {
    for my $round (1 .. scaled(1, 10)) {
        my $httpd = server();
        my $load = mixed($httpd, "stop$round", LIMIT - 3);
        wait_until { double->stats->{requests}{token} } 20, 'logins';
        # some wait for Supabase when the stop comes: they are answered
        double->fault(kind => 'delay', ms => 1500 * UserSync::Util::patience(),
            op => 'token', times => -1);
        double->clear_requests;
        my %waiting;
        wait_until {
            %waiting = map { $_->{json}{email} => 1 }
                double->requests('token');
            keys %waiting >= 3;
        } 20, 'logins that wait';
        my $told = time;
        my $took = $httpd->stop('WINCH');
        my $seen = $load->stop;
        double->clear_faults;
        kinds_ok($seen, "200|$REFUSED", "round $round: answered or refused");
        my @begun = grep { $waiting{ $_->{who} } && $_->{opened} < $told
            && $_->{ended} > $told } @{ $seen->{replies} };
        is_deeply [grep { $_->{kind} ne '200' } @begun], [],
            'what was begun is finished';
        cmp_ok scalar @begun, '>=', 3, scalar(@begun) . ' were';
        everybody_has_a_row($seen);
        note sprintf 'stopped after %.3f s', $took;
    }
};

done_testing;
