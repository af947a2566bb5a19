# Whatever Supabase does to a request: the documented answer within the
# deadline, no row, no crash, one line that says what to do, and nothing sent
# twice that must not be.

use UserSync::Background;
use UserSync::Test;

my ($LOGIN, $REGISTER) = (0.6, 0.7);

double->add_user(email => 'ada@example.com', password => 'correct horse');
my $httpd; # with a vhost for each fault: none holds another one's lines back
my $number = 0;

sub body { return { email => $_[0], password => 'correct horse' } }

# ---- the kinds of faults

# The documented result: status and code of a login, of a sign-up.
my %OUTCOME = (
    fine    => [200, undef, 200, undef],
    unsent  => [503, 'upstream_unavailable', 503, 'upstream_unavailable'],
    slow    => [504, 'upstream_timeout', 504, 'outcome_unknown'],
    broken  => [502, 'upstream_bad_answer', 502, 'outcome_unknown'],
    refused => [502, 'upstream_rejected_key', 502, 'upstream_rejected_key'],
);

my $TIMEOUT = qr/UserSync(?:Register)?Timeout/;
my $TOO_BIG = qr/1 MiB|1048576|too (?:large|big)/;

# name, fault, outcome, text of its log line
my @FAULTS = (
    ['nobody listens', { kind => 'refuse' }, 'unsent', qr/connect/i],
    ['no answer', { kind => 'hang_before' }, 'slow', $TIMEOUT],
    ['headers and no body', { kind => 'hang_after_headers' }, 'slow',
        $TIMEOUT],
    ['accepted and not read', { kind => 'hang_accept' }, 'slow', $TIMEOUT],
    ['a byte now and then', { kind => 'drip', interval_ms => 20 }, 'slow',
        $TIMEOUT],
    ['more announced than sent', { kind => 'wrong_length', delta => 20 },
        'slow', $TIMEOUT],
    ['closed without a byte', { kind => 'close' }, 'broken', qr/./],
    ['closed after the work', { kind => 'close_after_commit' }, 'broken',
        qr/./],
    ['reset', { kind => 'reset' }, 'broken', qr/./],
    ['cut', { kind => 'cut' }, 'broken', qr/./],
    ['cut after the headers', { kind => 'cut', bytes => 0 }, 'broken', qr/./],
    ['more announced, closed',
        { kind => 'wrong_length', delta => 20, close => 1 }, 'broken', qr/./],
    ['less announced than sent', { kind => 'wrong_length', delta => -20 },
        'broken', qr/UserSyncSupabaseURL/],
    ['garbage', { kind => 'garbage' }, 'broken', qr/./],
    ['empty', { kind => 'empty' }, 'broken', qr/UserSyncSupabaseURL/],
    ['8 MB', { kind => 'huge' }, 'broken', $TOO_BIG],
    ['8 MB in chunks', { kind => 'huge', framing => 'chunked' }, 'broken',
        $TOO_BIG],
    ['JSON cut off', { kind => 'truncate_json' }, 'broken',
        qr/UserSyncSupabaseURL/],
    ['a page with 502', { kind => 'html' }, 'broken', qr/502/],
    ['a page with 200', { kind => 'html', status => 200 }, 'broken',
        qr/UserSyncSupabaseURL/],
    ['a page with 403', { kind => 'html', status => 403 }, 'unsent',
        qr/edge refuses this server.*403/],
    (map {
        ["a bare $_", { kind => 'status', status => $_, body => '' },
            'broken', qr/$_/]
    } 500, 502, 503, 504, 599),
    ['500 with a code', { kind => 'status', status => 500,
        headers => { 'x-sb-error-code' => 'unexpected_failure' },
        body => { code => 'unexpected_failure', msg => 'x' } }, 'broken',
        qr/500.*unexpected_failure/],
    ['504 with a code', { kind => 'status', status => 504,
        body => { code => 'request_timeout', msg => 'x' } }, 'slow',
        qr/request_timeout/, 'at once'],
    ['a bare 404', { kind => 'status', status => 404, body => '' }, 'broken',
        qr/404.*UserSyncSupabaseURL/],
    ['another page', { kind => 'redirect' }, 'broken',
        qr/302.*UserSyncSupabaseURL/],
    ['another page, POST', { kind => 'redirect', status => 307,
        location => '/auth/v1/token?grant_type=password' }, 'broken', qr/307/],
    ['a key that is refused', { kind => 'fixture',
        file => 'gw_hosted_invalid_api_key.json' }, 'refused',
        qr/UserSyncSupabaseKey/],
    ['chunks', { kind => 'chunked' }, 'fine'],
    ['closed after the answer', { kind => 'close_idle' }, 'fine'],
    ['late', { kind => 'delay', ms => 300 }, 'fine'],
    ['pieces', { kind => 'drip', interval_ms => 1, bytes => 100 }, 'fine'],
);

# Sends a login and a sign-up at the same time: the responses by name.
sub both {
    my ($vhost) = @_;
    my $email = 'new' . ++$number . '@example.com';
    my %response;
    @response{qw(login register)} = parallel(2, sub {
        my $op = ('login', 'register')[$_[0]];
        return ($httpd->url("/auth/$op", $vhost),
            body($op eq 'login' ? 'ada@example.com' : $email));
    });
    return %response;
}

# The log lines about a response.
sub lines_of {
    my ($response, $mark) = @_;
    my $id = $response->{headers}{'x-request-id'} || 'none';
    return grep {/usersync:(?:warn|error|crit)\].*\[\Q$id\E\]/}
        $httpd->log_since($mark);
}

sub deadline_ok {
    my ($op, $response, $outcome, $at_once) = @_;
    my $deadline = $op eq 'login' ? $LOGIN : $REGISTER;
    my $least = $outcome eq 'slow' && !$at_once ? $deadline - 0.05 : 0;
    my $took = $response->{elapsed};
    return ok $took >= $least && $took <= $deadline + slack,
        "$op: within the deadline" || diag $took;
}

sub fault_ok {
    my ($vhost, $fault, $outcome, $log, $at_once) = @_;
    my $wanted = $OUTCOME{$outcome};
    postgres->sql(app => 'DELETE FROM users');
    my $mark = $httpd->log->mark;
    double->clear_requests;
    double->fault(%$fault, times => -1);
    my %response = both($vhost);
    my @signups = double->requests('signup');
    double->clear_faults;

    my @lines;
    for my $op ('login', 'register') {
        my $response = $response{$op};
        my ($status, $code) = @$wanted[$op eq 'login' ? (0, 1) : (2, 3)];
        is $response->{status}, $status, "$op: status" or diag show($response);
        is $response->{json}{code}, $code, "$op: code";
        deadline_ok($op, $response, $outcome, $at_once);
        like $response->{headers}{'retry-after'}, qr/^[1-9]\d*$/,
            "$op: Retry-After" if $status == 503;
        push @lines, [lines_of($response, $mark)];
    }
    # each child logs the same cause once in ten seconds
    my $same = $wanted->[1] && $wanted->[1] eq $wanted->[3];
    my @counts = map { scalar @$_ } @lines;
    my $expected = !$wanted->[1] ? '0 0' : $same ? '1 0|0 1|1 1' : '1 1';
    like "@counts", qr/^(?:$expected)$/, 'lines in the log'
        or diag map {@$_} @lines;
    like $_, $log, 'which say what happened' for map {@$_} @lines;
    my $read = $fault->{kind} !~ /refuse|hang_accept/;
    is scalar @signups, $read ? 1 : 0, 'how often the sign-up was sent';
    is postgres->value(app => 'SELECT count(*) FROM users'),
        $outcome eq 'fine' ? 2 : 0, 'rows';
    my @other = double->requests('other');
    is scalar @other, 0, 'no redirect is followed';
    my %after = both($vhost);
    is $after{$_}{status}, 200, "$_: the next one" or diag show($after{$_})
        for sort keys %after;
    return;
}

# <IfDirective>: a breaker would answer instead of Supabase
$httpd = UserSync::Httpd->new(
    # with its own line, each of them has its own connections
    vhosts => { map { ("fault$_" => 'UserSyncTimeout 600ms') } 0 .. $#FAULTS },
    config => module_config(
        UserSyncRegisterTimeout => '700ms',
        UserSyncConnectTimeout => '400ms') . <<'CONF')->start;
<IfDirective UserSyncCircuitBreaker>
    UserSyncCircuitBreaker Off
</IfDirective>
CONF
$httpd->expect_log(qr/: $_\b/) for map { grep {$_} @$_[1, 3] } values %OUTCOME;

for my $i (0 .. $#FAULTS) {
    my ($name, @fault) = @{ $FAULTS[$i] };
    subtest $name => sub { fault_ok("fault$i", @fault) };
}

# ---- what is sent again

# A server with one child, so that a kept connection is found again.
my $one = UserSync::Httpd->new(children => 1, threads => 17,
    config => module_config);

sub at_one {
    my ($op, $email) = @_;
    return post($one->url("/auth/$op"), body($email || 'ada@example.com'));
}

# Connections that requests came on, in order.
sub connections { return map { $_->{connection} } double->requests(@_) }

sub distinct { return scalar keys %{ { map { $_ => 1 } @_ } } }

subtest 'sent exactly once' => sub {
    $one->start;
    $one->expect_log(qr/outcome_unknown/);
    for my $kind (qw(close close_after_commit reset cut garbage)) {
        is at_one('login')->{status}, 200, 'a connection is kept';
        double->clear_requests;
        double->fault(kind => $kind, op => 'signup');
        my $email = "$kind\@example.com";
        my $response = at_one('register', $email);
        is $response->{json}{code}, 'outcome_unknown', $kind;
        is scalar(connections('signup')), 1, "$kind: one sign-up was sent";
        double->clear_faults;
    }
    my $healed = at_one('login', 'close_after_commit@example.com');
    user_row_ok $healed, 'close_after_commit@example.com',
        'the account that was created can log in';
};

subtest 'a kept connection that is dead' => sub {
    double->fault(kind => 'close_idle');
    is at_one('login')->{status}, 200, 'the answer came before the end';
    is at_one('login')->{status}, 200, 'seen before it is used';

    double->clear_requests;
    double->fault(kind => 'close');
    is at_one('login')->{status}, 200, 'seen when it is used';
    my @seen = connections('token');
    is scalar @seen, 2, 'a login may be sent again';
    is distinct(@seen), 2, 'on another connection';

    # restarts without notice: all kept connections are dead
    double->fault(kind => 'refuse');
    double->clear_faults;
    is at_one('login')->{status}, 200, 'Supabase restarted';
    double->fault(kind => 'refuse');
    double->clear_faults;
    double->clear_requests;
    is at_one('register', 'restarted@example.com')->{status}, 200,
        'a sign-up after a restart';
    is scalar(connections('signup')), 1, 'is sent once';
};

subtest 'connections' => sub {
    double->clear_requests;
    at_one('login') for 1 .. 20;
    is distinct(connections('token')), 1, 'twenty logins on one connection';
    at_one('register', "fresh$_\@example.com") for 1 .. 5;
    is distinct(connections('signup')), 5, 'five sign-ups on five';
    is distinct(connections()), 6, 'none of which was used before';
    double->clear_requests;
    at_one('login') for 1 .. 5;
    is distinct(connections('token')), 1, 'logins go on with the last one';

    my $before = double->stats->{connections};
    my $workers = mpm() eq 'prefork' ? 1 : 16;
    for (1 .. 4) {
        my @all = parallel(16, sub {
            return ($one->url('/auth/login'), body('ada@example.com'));
        });
        is scalar(grep { $_->{status} == 200 } @all), 16, 'sixteen at once';
    }
    cmp_ok double->stats->{connections} - $before, '<=', $workers,
        'no more connections than workers';
    $one->stop;
};

# ---- Supabase restarts

subtest 'a restart under load' => sub {
    my $supabase = UserSync::Double->start(
        dir => UserSync::Util::new_dir('double'));
    $supabase->add_user(email => 'ada@example.com',
        password => 'correct horse');
    my $server = UserSync::Httpd->new(config =>
        module_config(UserSyncSupabaseURL => $supabase->url))->start;
    $server->allow_log(qr/upstream_(?:unavailable|bad_answer)/);
    my @load = map { UserSync::Background->start(sub {
        my ($job) = @_;
        my @done;
        until ($job->stopping(0.005)) {
            my $start = time;
            my $response = post($server->url('/auth/login'),
                body('ada@example.com'));
            push @done, [$start, time, $response->{status},
                $response->{json}{code}];
        }
        return \@done;
    }) } 1 .. 4;
    my $logins = sub { $supabase->stats->{requests}{token} || 0 };
    wait_until { $logins->() > 40 } 20, 'logins';
    my $down = time;
    $supabase->restart;
    my $up = time;
    wait_until { $logins->() > 40 } 20, 'logins after the restart';
    my @done = map { @{ $_->result } } @load;
    my @failed = grep { $_->[2] != 200 } @done;
    my @outside = grep { $_->[1] < $down || $_->[0] > $up } @failed;
    cmp_ok scalar(grep { $_->[1] < $down && $_->[2] == 200 } @done), '>', 20,
        'logins before it';
    cmp_ok scalar(grep { $_->[0] > $up && $_->[2] == 200 } @done), '>', 20,
        'logins after it';
    is_deeply \@outside, [], 'no failure before or after the restart';
    is_deeply [grep { $_->[3] !~ /^upstream_(?:unavailable|bad_answer)$/ }
        @failed], [], 'the failures in between say what they are'
        or diag scalar @failed;
    $server->stop;
    $supabase->stop;
};

done_testing;
