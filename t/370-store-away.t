# While PostgreSQL is known to be away, no request goes to Supabase: a
# registration creates no account and a login no session that would have no
# row. When it is back, the next request notices.

use UserSync::Test;
use UserSync::Outage;
use UserSync::Relay;

use constant DEADLINE => 1;

my $pg = own_postgres();
my $new = 0;

sub httpd_with {
    my (%arg) = @_;
    my $httpd = outage_lines(own_httpd($pg, workers => 8,
        set => { UserSyncStoreTimeout => DEADLINE . 's' }, %arg));
    $httpd->allow_log(qr/usersync-register: store_unavailable/);
    return $httpd->start;
}

sub registrations {
    my ($httpd, $n) = @_;
    return parallel($n, sub { ($httpd->url('/auth/register'), {
        email => 'new' . ++$new . '@example.com', password => 'x' x 12 }) });
}

# Each child notices at a login: until all fail at once except the one that
# probes PostgreSQL.
sub until_known {
    my ($httpd) = @_;
    my @responses;
    my $rounds = 0;
    wait_until {
        @responses = logins($httpd, 12);
        $rounds = 1 >= grep({ $_->{elapsed} >= DEADLINE / 2 } @responses)
            ? $rounds + 1 : 0;
        return $rounds == 2;
    } 30, 'all children to know';
    is tally(@responses), '12 x 503 store_unavailable', 'away';
    return;
}

sub arrived {
    my @all = double->requests($_[0]);
    return scalar @all;
}

# Neither an account nor a token request, for $n of each.
sub nothing_asked_ok {
    my ($httpd, $n, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return subtest $name => sub {
        double->clear_requests;
        my $accounts = double->users;
        my @all = (registrations($httpd, $n), logins($httpd, $n));
        is tally(@all), 2 * $n . ' x 503 store_unavailable', 'all are refused';
        is arrived('signup'), 0, 'no sign-up was sent';
        is arrived('token'), 0, 'no token was asked for';
        is scalar @{ double->users }, scalar @$accounts, 'no account is new';
    };
}

subtest 'PostgreSQL is down' => sub {
    my $httpd = httpd_with(children => 2);
    serves($httpd, 8, 5, 'at first');
    $pg->stop;
    my ($response) = registrations($httpd, 1);
    is tally($response), '1 x 503 store_unavailable', 'the first request';
    # it was not known yet, unless the last write was a while ago
    cmp_ok arrived('signup'), '<=', 1, 'has an account, if any';
    until_known($httpd);
    nothing_asked_ok($httpd, 8, 'then no request goes to Supabase');
    # also when it is time to probe PostgreSQL again
    my $end = time + 2.5;
    my @all;
    double->clear_requests;
    while (time < $end) {
        push @all, registrations($httpd, 2);
        sleep 0.1;
    }
    is tally(@all), @all . ' x 503 store_unavailable', 'for longer';
    is arrived('signup'), 0, 'not even the one that looks for PostgreSQL';
    ok scalar(grep {/store_unavailable.*: PostgreSQL has not let us/}
        $httpd->log_since), 'the log says why';
    ok slurp($httpd->access_log) =~
        /outcome=store_unavailable user=- upstream=- store=\d/, 'the notes';

    $pg->start;
    my $back = time;
    wait_until { ($response) = registrations($httpd, 1);
        $response->{status} == 200 } 20, 'a registration';
    my $took = time - $back;
    note sprintf 'healed after %.3f s', $took;
    cmp_ok $took, '<', 2 + slack, 'heals by itself';
    is +(double->user($response->{json}{user_id}) || {})->{id},
        $response->{json}{user_id}, 'the account is there';
    serves($httpd, 8, 2 + slack, 'all children');
    # a child that had no login lately may not have noticed yet
    my @last;
    wait_until { @last = registrations($httpd, 8);
        tally(@last) eq '8 x 200' } 5;
    is tally(@last), '8 x 200', 'registrations, too';
    $httpd->stop;
};

# Earlier checks answer first: a bad request needs no database.
subtest 'requests that need none' => sub {
    my $httpd = httpd_with();
    $pg->stop;
    until_known($httpd);
    is get($httpd->url('/auth/login'))->{status}, 405, 'GET';
    is request('OPTIONS', $httpd->url('/auth/login'))->{status}, 204,
        'OPTIONS';
    is get($httpd->url('/auth/login/x'))->{status}, 404, 'below the route';
    my $connection = connection($httpd->url);
    my ($host) = $httpd->url =~ m{//([^/]+)};
    $connection->send("POST /auth/register HTTP/1.1\r\nHost: $host\r\n"
        . "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n");
    my $response = $connection->response(10);
    is tally($response), '1 x 503 store_unavailable', 'before the body'
        or diag show($response);
    $pg->start;
    serves($httpd, 8, 2 + slack, 'back');
    $httpd->stop;
};

# All connections are open and swallow what is sent: the statement of the probe
# hangs, not the connect.
subtest 'a black hole' => sub {
    my $relay = UserSync::Relay->start($pg->port);
    my $httpd = httpd_with(
        params => $pg->dsn_tcp('app', port => $relay->port));
    serves($httpd, 8, 5, 'at first');
    fill_pool($pg, $httpd, 8);
    $relay->freeze;
    logins($httpd, 8);
    until_known($httpd);
    my @waited;
    double->clear_requests;
    my $end = time + 4;
    while (time < $end) {
        push @waited, scalar grep { $_->{elapsed} > DEADLINE / 2 }
            registrations($httpd, 8);
    }
    is arrived('signup'), 0, 'no sign-up was sent';
    my ($most) = sort { $b <=> $a } @waited;
    cmp_ok $most, '<=', 1, 'one at a time waits for PostgreSQL';
    cmp_ok $most, '>=', 1, 'but one does';
    $relay->thaw;
    serves($httpd, 8, 4 + slack, 'thawed');
    $httpd->stop;
};

done_testing;
