# UserSyncCircuitBreaker: after this many failures in a row Supabase is not
# asked, for one operation of one project, in all children alike; then one
# request tries, and decides.

use UserSync::Background;
use UserSync::Load;
use UserSync::Test;

my $PREFORK = mpm() eq 'prefork';
my ($CHILDREN, $THREADS) = $PREFORK ? (12, 1) : (3, 25);
my ($FAILURES, $PAUSE, $DEADLINE) = (4, 2, 2);
my $new = 0;

# Each request comes from another client and another account, as in a real
# outage; other subtests test what one client can do alone.
my $CROWD = 60;
my $turn = 0;

sub person {
    my ($n) = @_;
    return { email => "person$n\@example.com", password => 'correct horse' };
}

sub address { return '127.0.1.' . (1 + $_[0]) }

sub add_people { my ($double) = @_; $double->add_user(%{ person($_) })
    for 0 .. $CROWD - 1; return }

# (who, -from => where) of the next request
sub next_one {
    my $n = $turn++ % $CROWD;
    return (person($n), -from => address($n));
}

# Another project, which does not depend on the first one.
my $second = UserSync::Double->start(dir => UserSync::Util::new_dir('double'));
add_people($second);
$second->config(keys => [double->key]);

sub server {
    my (%set) = @_;
    double->reset;
    double->config(reuse_tokens => JSON::PP::true);
    add_people(double);
    my $httpd = UserSync::Httpd->new(children => $CHILDREN,
        threads => $THREADS, config => module_config(
            UserSyncCircuitBreaker  => "$FAILURES ${PAUSE}s",
            UserSyncTimeout         => "${DEADLINE}s",
            UserSyncRegisterTimeout => "${DEADLINE}s",
            UserSyncConnectTimeout  => '1s', %set)
            . sprintf("ServerLimit %d\n", 3 * $CHILDREN),
        vhosts => { second => 'UserSyncSupabaseURL ' . $second->url,
            # the same project, and so the same circuit
            again => 'UserSyncTable users' });
    $httpd->allow_log(
        qr/: (?:upstream_\w+|over_\w+|outcome_unknown|user_row_\w+)\b|US012/);
    $httpd->start;
    wait_until { $httpd->children >= $CHILDREN } 20, 'all children';
    return $httpd;
}

sub login {
    my ($httpd, $vhost, %more) = @_;
    my ($who, @from) = next_one();
    return post($httpd->url('/auth/login', $vhost), { %$who, %more }, @from);
}

sub register {
    my ($httpd, $vhost) = @_;
    my ($who, @from) = next_one();
    return post($httpd->url('/auth/register', $vhost),
        { %$who, email => 'new' . ++$new . '@example.com' }, @from);
}

sub kind { return UserSync::Load::kind($_[0]) }

sub tally {
    my %n;
    $n{ kind($_) }++ for @_;
    return join ', ', map {"$n{$_} x $_"} sort keys %n;
}

sub fail_with { double->fault(op => 'token', times => -1, @_); return }

# Is it answered without Supabase?
sub is_open {
    my ($response) = @_;
    return kind($response) eq '503 upstream_unavailable'
        && $response->{elapsed} < $DEADLINE / 2;
}

sub arrived {
    my @all = double->requests($_[0] || 'token');
    return scalar @all;
}

# The lines about a change, without their prefix.
sub states {
    my ($httpd, $mark) = @_;
    return map { /\[usersync:(\w+)\].* US012: (.*)/ ? "$1 $2" : () }
        $httpd->log_since($mark);
}

# Opens the circuit with enough failing logins.
sub open_it {
    my ($httpd, @fault) = @_;
    fail_with(@fault ? @fault : (kind => 'html'));
    my @all = map { login($httpd) } 1 .. $FAILURES;
    double->clear_faults;
    my $refused = login($httpd);
    is_open($refused) or die "it does not open: " . tally(@all) . "\n"
        . show($refused);
    return time;
}

# A graceful restart, after which no old child accepts a request any more.
sub new_generation {
    my ($httpd) = @_;
    my @old = $httpd->children;
    $httpd->graceful;
    wait_until { !grep { UserSync::Util::alive($_) } @old } 20,
        'the end of the old children';
    return;
}

# Waits until a probe is due.
sub until_due {
    my ($since) = @_;
    my $left = $since + $PAUSE + 0.2 - time;
    sleep $left if $left > 0;
    return;
}

subtest 'one life' => sub {
    my $httpd = server();
    fail_with(kind => 'html');
    my @all = map { login($httpd) } 1 .. $FAILURES;
    is tally(@all), "$FAILURES x 502 upstream_bad_answer", 'failures';
    my $opened = time;
    is arrived(), $FAILURES, 'have reached Supabase';
    my @open = parallel(12, sub { ($httpd->url('/auth/login'), next_one()) });
    is scalar(grep { is_open($_) } @open), 12, 'then none does, of any child'
        or diag tally(@open);
    is arrived(), $FAILURES, 'seen from there';
    is scalar(grep { my $s = $_->{headers}{'retry-after'};
        $s < 1 || $s > $PAUSE } @open), 0, 'Retry-After is the time left';
    is_open(login($httpd, 'again')) or fail 'another vhost of the project';
    my ($about) = grep {/upstream_unavailable/} $httpd->log_since;
    like $about, qr/\[usersync:warn\].*circuit.*UserSyncCircuitBreaker/,
        'the line of a request that is refused';

    is tally(register($httpd)), '1 x 200', 'sign-ups go on';
    is tally(login($httpd, 'second')), '1 x 200', 'another project, too';
    is get($httpd->url('/auth/login'))->{status}, 405, 'what needs no Supabase';

    until_due($opened);
    my $probe = login($httpd);
    is kind($probe), '502 upstream_bad_answer', 'one may try';
    my $again = time;
    ok is_open(login($httpd)), 'in vain';
    is arrived(), $FAILURES + 1, 'one it was';
    double->clear_faults;
    ok is_open(login($httpd)), 'no child knows that Supabase works again';
    until_due($again);
    is tally(login($httpd)), '1 x 200', 'until one tries';
    is tally(parallel(8, sub { ($httpd->url('/auth/login'), next_one()) })),
        '8 x 200', 'and then all may';
    my $url = double->url . '/auth/v1';
    is_deeply [states($httpd)], [
        "error circuit to $url for logins opens: Supabase failed too often in"
            . ' a row; they are refused at once until a probe succeeds',
        "warn circuit to $url for logins stays open: the probe failed",
        "notice circuit to $url for logins closes: Supabase answers again",
    ], 'one line for each change';

    fail_with(kind => 'html');
    login($httpd) for 1 .. $FAILURES - 1;
    double->clear_faults;
    is tally(login($httpd)), '1 x 200', 'it counts from the beginning again';
    $httpd->stop;
};

subtest 'sign-ups have a circuit of their own' => sub {
    my $httpd = server();
    double->fault(op => 'signup', kind => 'status', status => 503, body => '',
        times => -1);
    is tally(map { register($httpd) } 1 .. $FAILURES),
        "$FAILURES x 502 outcome_unknown", 'failures';
    my $refused = register($httpd);
    ok is_open($refused), 'refused' or diag show($refused);
    is arrived('signup'), $FAILURES, 'nothing was sent';
    like +(states($httpd))[0], qr/for sign-ups opens/, 'the line';
    is tally(login($httpd)), '1 x 200', 'logins go on';
    $httpd->stop;
};

subtest 'before the body' => sub {
    my $httpd = server(UserSyncCircuitBreaker => "$FAILURES 60s");
    open_it($httpd);
    my ($host) = $httpd->url =~ m{//([^/]+)};
    my $connection = connection($httpd->url);
    $connection->send("POST /auth/login HTTP/1.1\r\nHost: $host\r\n"
        . "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n");
    my $response = $connection->response(10);
    ok is_open($response), 'refused' or diag show($response);
    cmp_ok $response->{headers}{'retry-after'}, '>', 40, 'Retry-After';
    cmp_ok $response->{headers}{'retry-after'}, '<=', 60, 'Retry-After';
    $httpd->stop;
};

# ---- what counts

# name, fault, does it count
my @COUNT = (
    ['nobody listens',    1, kind => 'refuse'],
    ['reset',             1, kind => 'reset'],
    ['closed',            1, kind => 'close'],
    ['cut',               1, kind => 'cut'],
    ['garbage',           1, kind => 'garbage'],
    ['a bare 500',        1, kind => 'status', status => 500, body => ''],
    ['a page with 502',   1, kind => 'html'],
    ['540, paused',       1, kind => 'status', status => 540, body => ''],
    ['500 with a code',   0, kind => 'status', status => 500,
        headers => { 'x-sb-error-code' => 'unexpected_failure' },
        body => { code => 'unexpected_failure', msg => 'x' }],
    ['504 with a code',   0, kind => 'status', status => 504,
        body => { code => 'request_timeout', msg => 'x' }],
    ['a page with 200',   0, kind => 'html', status => 200],
    ['the edge refuses',  1, kind => 'html', status => 403],
    ['8 MB',              0, kind => 'huge'],
    ['a hook is away',    0, kind => 'fixture',
        file => 'err_hook_unreachable.v2024.json'],
    ['500 before codes',  0, kind => 'fixture',
        file => 'err_old_unexpected_failure_db.json'],
    ["somebody else's",   0, kind => 'fixture',
        file => 'token_password_session.json'],
    ['a key refused',     0, kind => 'status', status => 401, body => ''],
    ['a 429',             0, kind => 'status', status => 429, body => ''],
    ['a 404',             0, kind => 'status', status => 404, body => ''],
);

subtest 'what counts' => sub {
    my $httpd = server(UserSyncCircuitBreaker => "$FAILURES 60s");
    for my $case (@COUNT) {
        my ($name, $counts, @fault) = @$case;
        new_generation($httpd);    # closed again
        fail_with(@fault);
        my @all = map { login($httpd) } 1 .. $FAILURES + 2;
        double->clear_faults;
        is scalar(states($httpd)) ? 1 : 0, $counts, $name
            or diag tally(@all);
        $httpd->{log}{start} = $httpd->log->mark;
    }
    $httpd->stop;
};

subtest 'time-outs count, all at once' => sub {
    my $httpd = server(UserSyncCircuitBreaker => "$FAILURES 60s");
    fail_with(kind => 'hang_before');
    my @all = parallel(8, sub { ($httpd->url('/auth/login'), next_one()) });
    is tally(@all), '8 x 504 upstream_timeout', 'time-outs';
    is scalar(states($httpd)), 1, 'one line';
    ok is_open(login($httpd)), 'open';
    double->clear_faults;
    $httpd->stop;
};

# A sequence of answers: F a failure, - an unclear one, + a success.
my %ANSWER = (
    F   => [{ kind => 'html' }],
    '-' => [{ kind => 'status', status => 500,
        headers => { 'x-sb-error-code' => 'unexpected_failure' },
        body => { code => 'unexpected_failure', msg => 'x' } }],
    '+' => [undef],
    4   => [{ kind => 'fixture', file => 'gw_hosted_invalid_api_key.json' }],
);

subtest 'in a row' => sub {
    my $httpd = server(UserSyncCircuitBreaker => "$FAILURES 60s");
    for my $case (['FFFF', 1], ['FFF+FFF', 0], ['FFF4FFF', 0],
        ['F-F-F-F', 1], ['FFF-----', 0], ['+-4+FFFF', 1]) {
        my ($sequence, $open) = @$case;
        new_generation($httpd);
        $httpd->{log}{start} = $httpd->log->mark;
        for my $step (split //, $sequence) {
            double->fault(%{ $ANSWER{$step}[0] }) if $ANSWER{$step}[0];
            login($httpd);
            double->clear_faults;
        }
        is scalar(states($httpd)), $open, $sequence;
    }
    $httpd->stop;
};

subtest 'wrong passwords do not open it' => sub {
    my $httpd = server();
    is tally(map { login($httpd, undef, password => 'guess') } 1 .. 10),
        '10 x 401 invalid_credentials', 'ten of them';
    is_deeply [states($httpd)], [], 'no line';
    $httpd->stop;
};

subtest 'off' => sub {
    my $httpd = server(UserSyncCircuitBreaker => 'Off');
    fail_with(kind => 'html');
    is tally(map { login($httpd) } 1 .. 20), '20 x 502 upstream_bad_answer',
        'all are sent';
    is arrived(), 20, 'seen from there';
    double->clear_faults;
    $httpd->stop;
};

# ---- which failures count

# One login by this client (a number) to this account.
sub login_of {
    my ($httpd, $client, $account, @more) = @_;
    return post($httpd->url('/auth/login'), person($account),
        -from => address($client), @more);
}

# Logins that all fail, at the same time: [client, account].
sub all_fail {
    my ($httpd, @who) = @_;
    my @all = parallel(scalar @who, sub {
        my ($client, $account) = @{ $who[$_[0]] };
        return ($httpd->url('/auth/login'), person($account),
            -from => address($client));
    });
    return tally(@all);
}

my $MANY = 2 * $FAILURES;

subtest 'one account' => sub {
    my $httpd = server(UserSyncCircuitBreaker => "$FAILURES 60s");
    double->fault(kind => 'html', op => 'token', times => -1,
        email => person(0)->{email});
    is all_fail($httpd, map { [0, 0] } 1 .. $MANY),
        "$MANY x 502 upstream_bad_answer", 'again and again';
    is all_fail($httpd, map { [$_, 0] } 1 .. $MANY),
        "$MANY x 502 upstream_bad_answer", 'from everywhere';
    is_deeply [states($httpd)], [], 'no line';
    is kind(login_of($httpd, 0, 1)), '200', 'others log in';
    $httpd->stop;
};

subtest 'one client, many accounts' => sub {
    my $httpd = server();
    double->fault(kind => 'html', op => 'token', times => $FAILURES);
    login_of($httpd, 0, $_) for 1 .. $FAILURES;
    ok is_open(login_of($httpd, 0, 0)), 'it has a circuit of its own';
    ok !is_open(my $other = login_of($httpd, 1, 20)), 'no other client has';
    is kind($other), '200', 'they log in';
    is kind(login_of($httpd, 0, 0)), '200', 'which closes it';
    is_deeply [map {/^(\w+) .* (opens|closes) for one client:/ ? "$1 $2" : $_}
        states($httpd)], ['warn opens', 'notice closes'], 'the lines';

    # there are no other clients
    $httpd->{log}{start} = $httpd->log->mark;
    double->fault(kind => 'html', op => 'token', times => $FAILURES + 1);
    login_of($httpd, 0, $_) for 1 .. $FAILURES;
    until_due(time);
    is kind(login_of($httpd, 0, 30)), '502 upstream_bad_answer', 'its probe';
    until_due(time);
    ok is_open(login_of($httpd, 0, 30)), 'the next one is not the same account\'s';
    is kind(login_of($httpd, 0, 31)), '200', 'but another one\'s';
    is_deeply [map {/(opens|stays open|closes) for one client:/}
        states($httpd)], ['opens', 'stays open', 'closes'], 'its lines';
    $httpd->stop;
};

subtest 'a client that hangs while others log in' => sub {
    my $httpd = server(UserSyncCircuitBreaker => "$FAILURES 60s");
    double->fault(kind => 'hang_before', op => 'token', times => -1,
        email => person($_)->{email}) for 1 .. $MANY;
    my $job = UserSync::Background->start(sub {
        all_fail($httpd, map { [$_, $_] } 1 .. $MANY) });
    wait_until { arrived() >= $MANY } 20, 'the attacker';
    is kind(login_of($httpd, 0, 0)), '200', 'a login meanwhile';
    is $job->result, "$MANY x 504 upstream_timeout",
        'many addresses with many slow accounts';
    is_deeply [states($httpd)], [], 'open nothing';
    double->clear_faults;
    $httpd->stop;
};

subtest 'the most frequent client' => sub {
    my $httpd = server();
    my $opened = open_it($httpd);
    double->fault(kind => 'html', op => 'token', times => -1,
        email => person(0)->{email});
    until_due($opened);
    is kind(login_of($httpd, 0, 0)), '502 upstream_bad_answer',
        'the attacker has the probe';
    until_due(time);
    ok is_open(login_of($httpd, 0, 0)), 'and not the next one';
    ok is_open(login_of($httpd, 0, 59)), 'nor with another account';
    ok is_open(login_of($httpd, 59, 0)), 'nor from another address';
    is kind(login_of($httpd, 58, 58)), '200', 'another client has';
    is kind(login_of($httpd, 57, 57)), '200', 'and all may';
    $httpd->stop;
};

# ---- the probe

subtest 'one probe at a time' => sub {
    my $httpd = server();
    my $opened = open_it($httpd);
    double->clear_requests;
    fail_with(kind => 'hang_before', times => 2);
    my $load = UserSync::Load->start(url => $httpd->url('/auth/login'),
        clients => 10, request => sub {
            ([POST => $httpd->url('/auth/login'), next_one()], 'login') });
    wait_until { grep {/closes/} states($httpd) } 20, 'the circuit to close';
    my $seen = $load->stop;
    my @sent = double->requests('token');
    note sprintf '%d logins: %s', $seen->{count}, join ', ',
        map {"$seen->{by}{$_} x $_"} sort keys %{ $seen->{by} };
    cmp_ok $seen->{by}{'504 upstream_timeout'}, '==', 2,
        'two have waited, the others have not';
    cmp_ok $sent[1]{time} - $sent[0]{time}, '>=', $DEADLINE + $PAUSE - 0.1,
        'one after the other';
    cmp_ok $sent[2]{time} - $sent[1]{time}, '>=', $DEADLINE + $PAUSE - 0.1,
        'and the third that has found it well';
    is scalar(grep {/stays open/} states($httpd)), 2, 'two lines for two';
    is scalar(grep {/closes/} states($httpd)), 1, 'one when it is over';
    $httpd->stop;
};

# An answer without a code is not a failure of Supabase; nor does it keep the
# circuit open.
subtest 'a probe that is answered' => sub {
    my $httpd = server(UserSyncCircuitBreaker => "$FAILURES 1s");
    for my $case (['500 with a code', { kind => 'status', status => 500,
            headers => { 'x-sb-error-code' => 'unexpected_failure' },
            body => { code => 'unexpected_failure', msg => 'x' } }],
        ['401', { kind => 'status', status => 401, body => '' }]) {
        my ($name, $fault) = @$case;
        my $opened = open_it($httpd);
        until_due($opened);
        double->fault(%$fault);
        login($httpd);
        is tally(login($httpd)), '1 x 200', "closed by a $name";
    }
    my $opened = open_it($httpd);
    until_due($opened);
    is tally(login($httpd, undef, password => 'guess')),
        '1 x 401 invalid_credentials', 'a wrong password is passed on';
    is tally(login($httpd)), '1 x 200', 'and closes it';
    $httpd->stop;
};

subtest 'a body that cannot be used is no probe' => sub {
    my $httpd = server();
    my $opened = open_it($httpd);
    until_due($opened);
    is post($httpd->url('/auth/login'), '{')->{status}, 400, 'malformed';
    my $slow = connection($httpd->url);
    my $bytes = post_bytes($httpd->url('/auth/login'), person(0),
        Expect => '100-continue');
    $slow->send(substr $bytes, 0, length($bytes) - 1);
    is $slow->response(10)->{status}, 100, 'it has been let in';
    is tally(login($httpd)), '1 x 200', 'the next one is';
    $slow->send(substr $bytes, -1);
    is kind($slow->response(10)), '200', 'the slow one gets through as well';
    $httpd->stop;
};

subtest 'the child of the probe is killed' => sub {
    my $httpd = server(UserSyncCircuitBreaker => "$FAILURES 1s");
    $httpd->allow_log(qr/AH1039[23]: children are killed successively/);
    my $opened = open_it($httpd);
    until_due($opened);
    double->clear_requests;
    fail_with(kind => 'hang_before');
    my $before = double->stats->{requests}{token};
    my $job = UserSync::Background->start(sub { kind(login($httpd)) });
    double->wait_requests(token => $before + 1, 20) or die "no probe\n";
    my $sent = time;
    $httpd->kill_children;
    double->clear_faults;
    like $job->result, qr/^(?:closed|cut off)/, 'its client gets nothing';
    my $refused = login($httpd);
    ok is_open($refused), 'still open' or diag show($refused);
    my $response;
    ok wait_until { ($response = login($httpd))->{status} == 200 }
        $DEADLINE + 5, 'another one may try';
    cmp_ok time - $sent, '>=', $DEADLINE, 'when the first cannot be any more';
    is arrived(), 2, 'none in between';
    like +(states($httpd))[-1], qr/closes/, 'closed';
    $httpd->stop;
};

subtest 'a graceful restart while it is open' => sub {
    my $httpd = server(UserSyncCircuitBreaker => "$FAILURES 60s");
    open_it($httpd);
    new_generation($httpd);
    is tally(login($httpd)), '1 x 200', 'the new generation asks for itself';
    open_it($httpd);
    new_generation($httpd) for 1 .. 3;
    is tally(map { login($httpd) } 1 .. 5), '5 x 200', 'again and again';
    $httpd->stop;
};

$second->stop;

done_testing;
