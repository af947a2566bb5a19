# UserSyncMaxConcurrent, UserSyncMaxPerClient and UserSyncCircuitBreaker where
# mod_proxy forwards: the routes and Supabase's own clients share seats and
# circuits, and whatever a request held is free again, however it ended.

use UserSync::Background;
use UserSync::Outage qw(tally);
use UserSync::Proxied;
use UserSync::Test;
use UserSync::Ways;

my $PREFORK = mpm() eq 'prefork';
my @SIZE = $PREFORK ? (children => 24) : (children => 2, threads => 20);
my %ADA = (email => 'ada@example.com', password => 'correct horse');
my $ways = UserSync::Ways->new(double());
double->add_user(%ADA);

# With the routes, too; set => directives of theirs that differ.
sub server_of {
    my (%arg) = @_;
    my %set = %{ delete $arg{set} || {} };
    my $httpd = proxied_server('app', @SIZE, worker => 'retry=0', %arg,
        config => module_config(
            (map { $_ => undef } qw(DBDriver DBDParams DBDMin DBDKeep DBDMax)),
            UserSyncTimeout => '30s', %set) . ($arg{config} || ''));
    $httpd->allow_log(qr/usersync-(?:response|login): busy/);
    return $httpd->start;
}

# ---- requests

# What is sent to take a way, for at_once.
sub request_of {
    my ($httpd, $try, %header) = @_;
    return [$try->{method}, $httpd->url("/auth/v1$try->{path}"), $try->{body},
        apikey => double->key, %{ $try->{header} }, %header];
}

sub login_of {
    my ($httpd, %header) = @_;
    return [POST => $httpd->url('/auth/login'), \%ADA, %header];
}

# A session, or the code of an error, on a route or by a way.
sub kind_of {
    my ($response) = @_;
    my $json = ref $response->{json} eq 'HASH' ? $response->{json} : {};
    return $response->{error} if $response->{error};
    return 'session' if token_in($response);
    return join ' ', $response->{status}, $json->{code} || ();
}

sub kinds {
    my %n;
    $n{$_}++ for @_;
    return join ', ', map {"$n{$_} x $_"} sort keys %n;
}

sub arrived { my @all = double->requests; return scalar @all }

# Supabase keeps these waiting until it is told to answer.
sub hold {
    double->fault(kind => 'hold', op => $_, times => -1)
        for qw(token signup verify callback sso oauth factors);
    return;
}

sub answer {
    my ($job) = @_;
    double->release;
    my @kinds = @{ $job->finished };
    double->clear_faults;
    return @kinds;
}

# Sends these at the same moment, in the background: returns when as many have
# arrived at Supabase. The result are the kinds of their answers.
sub waiting {
    my ($n, @requests) = @_;
    hold();
    double->clear_requests;
    my $job = UserSync::Background->start(
        sub { [map { kind_of($_) } UserSync::HTTP->at_once(60, @requests)] });
    wait_until { arrived() >= $n } 20, "$n requests at Supabase";
    return $job;
}

# How many have been told that there is no seat.
sub busy {
    my ($httpd) = @_;
    return scalar(() = (slurp($httpd->access_log) || '') =~ /outcome=busy/g);
}

# Exactly this many wait at Supabase, and all others are told so.
sub limit_ok {
    my ($httpd, $limit, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my @requests = map { request_of($httpd, $ways->prepare('password')) }
        1 .. $limit + 3;
    my $before = busy($httpd);
    my $job = waiting($limit, @requests);
    # before anybody is let go
    wait_until { busy($httpd) >= $before + 3 } 20, 'the others to be told';
    is arrived(), $limit, "$name: so many wait";
    is kinds(answer($job)), "3 x 503 busy, $limit x session",
        "$name: and are answered";
    return;
}

# ---- seats

subtest 'routes and ways share the seats' => sub {
    my $httpd = server_of(set => { UserSyncMaxConcurrent => 6 });
    my @tries = map { $ways->prepare($_) } $ways->names;
    my ($first) = grep { $_->{way} eq 'link' } @tries;
    my $job = waiting(6, (map { login_of($httpd) } 1 .. 3),
        map { request_of($httpd, $ways->prepare($_)) } qw(password mfa link));
    my $before = arrived();
    is tally(post($httpd->url('/auth/login'), \%ADA)), '1 x 503 busy',
        'a route';
    for my $try (@tries) {
        my $response = $ways->take($httpd, $try);
        my ($outcome) = outcome($httpd);
        is $outcome, 'busy', "$try->{way}: the note";
        if (!$try->{page}) { withheld_ok $response, 503, 'busy', $try->{way} }
        else {
            is_deeply [$response->{status},
                @{ $response->{headers} }{qw(retry-after location)}],
                [503, 1, undef], "$try->{way}: a page" or diag show($response);
        }
    }
    is arrived(), $before, 'nothing is forwarded';
    is ask($httpd, GET => '/settings')->{status}, 200,
        'what holds nobody needs no seat';
    is ask($httpd, POST => '/recover', { email => $ADA{email} })->{status},
        200, 'nor does a mail';
    is kinds(answer($job)), '6 x session', 'who waited is answered';
    is kinds(map { kind_of($ways->take($httpd, $_)) } @tries),
        @tries . ' x session', 'and nothing was used up';
    limit_ok($httpd, 6, 'then');
    my @lines = grep {/: busy: /} $httpd->log_since;
    like $lines[0], qr/\[usersync:warn\].*UserSyncMaxConcurrent is reached/,
        'the line names the directive';
    $httpd->stop;
};

subtest 'a seat is free again, however its request ended' => sub {
    my $httpd = server_of(set => { UserSyncMaxConcurrent => 4 });
    $httpd->allow_log(qr/\[proxy(?:_http)?:error\]/);
    $httpd->allow_log(qr/usersync-response: upstream_bad_answer/);
    for my $fault (map { [kind => $_] } qw(html reset garbage cut empty huge
        truncate_json close)) {
        my @requests = map { request_of($httpd, $ways->prepare($_)) }
            qw(password refresh pkce id_token);
        double->fault(@$fault, op => 'token', times => -1);
        UserSync::HTTP->at_once(60, @requests);
        double->clear_faults;
    }
    my @links = map { $ways->prepare('link') } 1 .. 5;
    double->fault(kind => 'redirect', op => 'verify', times => -1,
        location => 'http://127.0.0.1:3000/#access_token=nobody');
    $ways->take($httpd, $_) for @links;
    double->clear_faults;
    double->fault(kind => 'refuse');
    my @kinds = map { ask($httpd, POST => '/token?grant_type=password', \%ADA)
            ->{status} } 1 .. 5;
    is kinds(@kinds), '5 x 503', 'Supabase is not there';
    double->clear_faults;
    # a client that does not wait for its answer
    my $job = waiting(0);
    for (1 .. 5) {
        my $connection = connection($httpd->url('/'));
        my $try = $ways->prepare('password');
        my $before = arrived();
        $connection->send(post_bytes($httpd->url("/auth/v1$try->{path}"),
            $try->{body}, apikey => double->key));
        wait_until { arrived() > $before } 20, 'it to arrive';
        $connection->close;
        double->release;
    }
    answer($job);
    wait_until { kind_of(ask($httpd, POST => '/token?grant_type=password',
        \%ADA)) eq 'session' } 10, 'a seat';
    limit_ok($httpd, 4, 'in the end');
    $httpd->stop;
};

subtest 'a client with many requests takes no seat from others' => sub {
    my $httpd = server_of(set => { UserSyncMaxConcurrent => 10,
        UserSyncMaxPerClient => undef });
    my @many = map {
        request_of($httpd, $ways->prepare('password'), -from => '127.0.0.2')
    } 1 .. 16;
    my $job = waiting(8, @many);
    wait_until { busy($httpd) >= 8 } 20, 'the others to be told';
    is arrived(), 8, 'four fifths are theirs';
    double->clear_requests;
    # one of each door: the faults hold what came before only
    my $second = waiting(2, login_of($httpd, -from => '127.0.0.3'),
        request_of($httpd, $ways->prepare('otp'), -from => '127.0.0.4'));
    is arrived(), 2, 'others are served';
    is kind_of($ways->take($httpd, $ways->prepare('password'),
        -from => '127.0.0.2')), '503 busy', 'and it is not';
    double->release;
    is kinds(map { @{ $_->finished } } $job, $second),
        '8 x 503 busy, 10 x session', 'all are answered'
        or diag join "\n", $httpd->log_since;
    double->clear_faults;
    my @lines = grep {/: busy: /} $httpd->log_since;
    like $lines[0], qr/UserSyncMaxPerClient is reached/, 'the line says so';
    $httpd->stop;
};

# ---- circuits

my $FAILURES = 4;

# Its circuits stay open for as long as a subtest takes, or for so long.
sub circuit_server {
    my ($seconds, %arg) = @_;
    my $httpd = server_of(set => { UserSyncCircuitBreaker =>
        "$FAILURES ${\($seconds || 300)}s" }, %arg);
    $httpd->allow_log($_) for qr/US012/, qr/\[proxy(?:_http)?:error\]/,
        qr/usersync-(?:response|login|refresh): upstream_\w+/;
    return $httpd;
}

sub states {
    my ($httpd) = @_;
    return map {/US012: circuit to \S+ for ([^:]+):/} $httpd->log_since;
}

my $address = 0;
sub from_elsewhere { return (-from => '127.0.1.' . (1 + $address++ % 200)) }

sub proxied_login {
    my ($httpd, %header) = @_;
    return ask($httpd, POST => '/token?grant_type=password', \%ADA,
        %header ? %header : from_elsewhere());
}

# Each of another account: one that is slow says nothing about Supabase.
sub route_login {
    my ($httpd, %header) = @_;
    my $person = $ways->person;
    return post($httpd->url('/auth/login'),
        { map { $_ => $person->{$_} } qw(email password) },
        %header ? %header : from_elsewhere());
}

# What a circuit that is open does to each of these.
sub refused_ok {
    my ($httpd, @ways) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    for my $way (@ways) {
        my $try = $ways->prepare($way);
        double->clear_requests;
        my $response = $ways->take($httpd, $try, from_elsewhere());
        if (!$try->{page}) {
            withheld_ok $response, 503, 'upstream_unavailable',
                "$way: refused";
        }
        else { is $response->{status}, 503, "$way: refused" }
        is arrived(), 0, "$way: is not forwarded";
    }
    return;
}

sub served_ok {
    my ($httpd, @ways) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is kind_of($ways->take($httpd, $ways->prepare($_), from_elsewhere())),
        'session', "$_: goes on" for @ways;
    return;
}

my @LOGINS = qw(password pkce otp link oauth mfa);
my @OTHERS = qw(signup anonymous refresh id_token callback callback_form saml);

for my $case (
    ['of proxied requests', sub { map { proxied_login($_[0]) } 1 .. 4 }],
    ['of a route', sub { map { route_login($_[0]) } 1 .. 4 }],
    ['of both', sub { map { (proxied_login($_[0]), route_login($_[0])) }
        1 .. 2 }]) {
    my ($name, $fail) = @$case;
    subtest "failures $name open the circuit for all" => sub {
        my $httpd = circuit_server();
        double->fault(op => 'token', kind => 'html', times => -1);
        is scalar(grep { $_->{status} == 502 } $fail->($httpd)), 4,
            'failures of a gateway';
        double->clear_faults;
        is_deeply [states($httpd)], ['logins opens'], 'the line';
        refused_ok($httpd, @LOGINS);
        is tally(route_login($httpd)), '1 x 503 upstream_unavailable',
            'a login on a route';
        served_ok($httpd, @OTHERS);
        $httpd->stop;
    };
}

subtest 'sign-ups and refreshes have circuits of their own' => sub {
    for my $case (['signup', 'sign-ups', 'signup', 'anonymous'],
        ['token', 'refreshes', 'refresh']) {
        my ($op, $names, @refused) = @$case;
        my $httpd = circuit_server();
        my @tries = map { $ways->prepare($refused[0]) } 1 .. $FAILURES;
        double->fault(op => $op, kind => 'html', times => -1);
        $ways->take($httpd, $_, from_elsewhere()) for @tries;
        double->clear_faults;
        is_deeply [states($httpd)], ["$names opens"], "$names: the line";
        refused_ok($httpd, @refused);
        served_ok($httpd, grep { my $way = $_; !grep { $way eq $_ } @refused }
            $ways->names);
        $httpd->stop;
    }
};

subtest 'whatever keeps an answer away counts' => sub {
    for my $kind (qw(reset garbage close cut refuse)) {
        my $httpd = circuit_server();
        double->fault(op => 'token', kind => $kind, times => -1);
        proxied_login($httpd) for 1 .. $FAILURES;
        double->clear_faults;
        is_deeply [states($httpd)], ['logins opens'], $kind;
        $httpd->stop;
    }
    my $httpd = circuit_server(undef, worker => 'timeout=1');
    double->fault(op => 'token', kind => 'hang_before', times => -1);
    proxied_login($httpd) for 1 .. $FAILURES;
    double->clear_faults;
    is_deeply [states($httpd)], ['logins opens'], 'a time-out of mod_proxy';
    $httpd->stop;
};

subtest 'what Supabase itself says does not' => sub {
    my $httpd = circuit_server();
    for my $fault ([status => 500, body => { code => 'unexpected_failure' }],
        [status => 504, body => {}, headers => { 'x-sb-error-code' =>
            'hook_timeout' }],
        [status => 403, body => {}], [status => 429, body => {}]) {
        double->fault(op => 'token', kind => 'status', times => -1, @$fault);
        is kinds(map { proxied_login($httpd)->{status} } 1 .. $FAILURES + 1),
            $FAILURES + 1 . " x $fault->[1]", "$fault->[1] is passed on";
        double->clear_faults;
    }
    # a session that cannot be read says nothing about Supabase
    double->fault(op => 'token', kind => 'transform', times => -1,
        set => { user => undef, access_token => 'x' });
    proxied_login($httpd) for 1 .. $FAILURES + 1;
    double->clear_faults;
    is_deeply [states($httpd)], [], 'no circuit opens';
    is kind_of(proxied_login($httpd)), 'session', 'and all is well';
    $httpd->stop;
};

subtest 'one client alone' => sub {
    my $httpd = circuit_server();
    my @here = (-from => '127.0.0.9');
    double->fault(op => 'token', kind => 'html', times => -1);
    proxied_login($httpd, @here) for 1 .. $FAILURES;
    double->clear_faults;
    is_deeply [states($httpd)], ['logins opens for one client'], 'the line';
    is kind_of(proxied_login($httpd, @here)), '503 upstream_unavailable',
        'it is refused';
    is tally(route_login($httpd, @here)), '1 x 503 upstream_unavailable',
        'on the route, too';
    is kind_of(proxied_login($httpd)), 'session', 'others are served';
    is kind_of(proxied_login($httpd, @here)), 'session',
        'which shows that Supabase is there';
    $httpd->stop;
};

subtest 'it closes when Supabase answers again' => sub {
    my $httpd = circuit_server(1);
    double->fault(op => 'token', kind => 'html', times => -1);
    proxied_login($httpd) for 1 .. $FAILURES;
    wait_until {
        proxied_login($httpd);
        grep {/stays open/} states($httpd);
    } 20, 'a probe that fails';
    double->clear_faults;
    ok +(wait_until { kind_of(proxied_login($httpd)) eq 'session' } 20),
        'a probe that is answered';
    is tally(route_login($httpd)), '1 x 200', 'closes it for routes, too';
    my @states = states($httpd);
    is_deeply [@states[0, -1]], ['logins opens', 'logins closes'], 'the lines';
    $httpd->stop;
};

subtest 'another project has circuits of its own' => sub {
    my $httpd = circuit_server(undef, vhosts => { other =>
        "UserSyncSupabaseURL https://other.example.com\n" . proxied() });
    double->fault(op => 'token', kind => 'html', times => -1);
    proxied_login($httpd) for 1 .. $FAILURES;
    double->clear_faults;
    is kind_of(proxied_login($httpd)), '503 upstream_unavailable', 'open';
    is kind_of($ways->take($httpd, $ways->prepare('password'),
        vhost => 'other')), 'session', 'and closed';
    $httpd->stop;
};

done_testing;
