# usersync-logout: a session ends for its access token, as often as one likes;
# limits and circuits of refresh and logout are their own.

use UserSync::Background;
use UserSync::Test;
use UserSync::Contract;

my ($yes, $no) = (JSON::PP::true, JSON::PP::false);
my $path = '/auth/logout';
my $json = 'application/json';

my $server = UserSync::Httpd->new(
    config => module_config(), children => 1,
    vhosts => {
        quick   => "UserSyncConnectTimeout 300ms\nUserSyncTimeout 500ms",
        away    => 'UserSyncSupabaseURL http://127.0.0.1:' . reserve_port(),
        nowhere => "UserSyncStoreTimeout 300ms\n" . 'DBDParams "'
            . postgres->dsn_tcp('app', port => reserve_port()) . '"',
        legacy  => "UserSyncForwardClientIP X-Forwarded-For\n"
            . "UserSyncSupabaseKey file:$ENV{USERSYNC_RUN}/anon.key",
        realm   => "<Location /auth>\n    AuthName \"Members only\"\n"
            . '</Location>',
    },
)->start;
$server->allow_log(upstream_lines());

sub at { my ($vhost) = @_; return $server->url($path, $vhost) }

sub log_out {
    my ($token, $vhost, $body, %header) = @_;
    return request(POST => at($vhost), $body,
        (defined $token ? (Authorization => "Bearer $token") : ()), %header);
}

my %who;

# $n sessions of a new user
sub sessions {
    my ($n) = @_;
    %who = %{ credentials() };
    double->add_user(%who);
    my @all = map { post($server->url('/auth/login'), {%who})->{json}{session} }
        1 .. $n;
    double->clear_requests;
    return @all;
}

sub lives {
    my ($session) = @_;
    return post($server->url('/auth/refresh'),
        { refresh_token => $session->{refresh_token} })->{status} == 200
        ? 1 : 0;
}

subtest 'a session ends' => sub {
    my ($one, $two) = sessions(2);
    logged_out_ok log_out($one->{access_token}), 'logged out';
    my @all = double->requests;
    is scalar @all, 1, 'one request';
    my $got = $all[0];
    is "$got->{method} $got->{path}?$got->{query}",
        'POST /auth/v1/logout?scope=local', 'to the right place';
    is double->header($got, 'Authorization'), "Bearer $one->{access_token}",
        "with the user's token";
    is double->header($got, 'apikey'), double->key, 'and our key';
    is $got->{body}, '', 'and no body';
    is lives($one) . lives($two), '01', 'this session alone';
    logged_out_ok log_out($one->{access_token}), 'once more';
    double->fault(kind => 'fixture', op => 'logout', file => $_) and
        logged_out_ok log_out($two->{access_token}), "gone already: $_"
        for qw(err_session_not_found.v2024.json
            err_session_not_found.legacy.json
            err_user_not_found_jwt.v2024.json);
};

subtest 'with a legacy key' => sub {
    my ($one) = sessions(1);
    logged_out_ok log_out($one->{access_token}, 'legacy', undef,
        -from => '127.0.1.9'), 'logged out';
    my ($got) = double->requests;
    my @bearer = map { $_->[1] }
        grep { lc $_->[0] eq 'authorization' } @{ $got->{headers} };
    is_deeply \@bearer, ["Bearer $one->{access_token}"],
        "the user's token alone is the Bearer";
    is double->header($got, 'apikey'), double->key('anon'), 'beside our key';
    is double->header($got, 'X-Forwarded-For'), '127.0.1.9',
        'and the address is told';
};

subtest 'the scope' => sub {
    my %ends = (local => '011', global => '000', others => '100');
    for my $scope (sort keys %ends) {
        my @all = sessions(3);
        logged_out_ok log_out($all[0]{access_token}, undef,
            { scope => $scope }), $scope;
        is join('', map { lives($_) } @all), $ends{$scope}, 'as it says';
    }
    my @all = sessions(2);
    logged_out_ok log_out($all[0]{access_token}, undef, '{}',
        'Content-Type' => $json), 'none: local';
    is join('', map { lives($_) } @all), '01', 'as it says';
    my ($token) = map { $_->{access_token} } sessions(1);
    for my $body ('{"scope":"all"}', '{"scope":""}', '{"scope":1}',
        '{"scope":["local"]}', '{"scope":"local&scope=global"}') {
        problem_ok log_out($token, undef, $body, 'Content-Type' => $json),
            400, 'invalid_request', $body, fields => ['scope'];
    }
    problem_ok log_out($token, undef, $_, 'Content-Type' => $json), 400,
        'invalid_request', $_ for '[]', 'x', '"global"', '{"scope":"global"';
    problem_ok log_out($token, undef, '{}', 'Content-Type' => 'text/plain'),
        415, 'unsupported_media_type', 'another type';
    problem_ok log_out($token, undef, ' ' x 9000, 'Content-Type' => $json),
        413, 'body_too_large', 'a large body';
    not_asked_ok;
    logged_out_ok log_out($token, undef, '', 'Content-Type' => 'text/plain'),
        'nothing has no type';
};

subtest 'the header' => sub {
    my ($token) = map { $_->{access_token} } sessions(1);
    problem_ok log_out(), 401, 'no_authorization', 'none';
    problem_ok request(POST => at(), undef, Authorization => $_), 401,
        'no_authorization', "'$_'" for 'Bearer', 'Basic YTpi', $token, 'x';
    my %bad = (
        'an API key'  => double->key, 'a comma' => "$token,",
        'two'         => "$token, Bearer $token", 'quotes' => qq("$token"),
        'no ASCII'    => "$token\xe4", 'no JWT' => 'undefined',
        'a blank'     => "$token x",
    );
    for my $name (sort keys %bad) {
        problem_ok log_out($bad{$name}), 401, 'invalid_token', $name;
    }
    problem_ok request(POST => at(), undef,
        Authorization => ["Bearer $token", "Bearer $token"]), 401,
        'invalid_token', 'twice';
    is request(POST => at(), undef, Authorization => 'Bearer '
        . 'x' x 9000)->{status}, 400, 'httpd refuses a longer one';
    my $response = request(POST => at('realm'), undef,
        Authorization => 'Bearer x');
    is $response->{headers}{'www-authenticate'},
        'Bearer realm="Members only", error="invalid_token"', 'the challenge';
    not_asked_ok;
    logged_out_ok request(POST => at(), undef,
        Authorization => "bEARER  $token"), 'in any case';
    double->clear_requests;
};

subtest 'methods and paths' => sub {
    problem_ok request($_ => at(), undef, Authorization => 'Bearer a.b.c'),
        405, 'method_not_allowed', $_ for qw(GET PUT DELETE);
    problem_ok post(at() . '/x', {}), 404, 'not_found', 'below the route';
    my $options = request(OPTIONS => at());
    is $options->{status}, 204, 'OPTIONS';
    is_deeply [reply_complaints($options)], [], 'as on the other routes';
    not_asked_ok;
};

subtest 'a token that Supabase does not accept' => sub {
    my ($session) = sessions(1);
    my $id = (double->users)[-1]{id};
    problem_ok log_out(double->mint($id, expires_in => -60)), 401,
        'invalid_token', 'expired';
    problem_ok log_out('eyJh.eyJz.c2ln'), 401, 'invalid_token', 'forged';
    problem_ok log_out(double->mint($id, claims => { sub => undef })), 401,
        'invalid_token', 'of nobody';
    double->delete_user($id);
    logged_out_ok log_out($session->{access_token}), 'a user who is gone';
};

my @refused = (
    ['err_user_banned_token.v2024.json' => 403, 'user_banned'],
    ['err_bad_jwt_expired.legacy.json' => 401, 'invalid_token'],
    ['err_no_authorization.v2024.json' => 502, 'upstream_rejected_key'],
    ['gw_hosted_invalid_api_key.json' => 502, 'upstream_rejected_key'],
    ['gw_cloudflare_522.html' => 502, 'upstream_bad_answer'],
    ['gw_cloudflare_403.html' => 503, 'upstream_unavailable'],
    ['err_request_timeout.v2024.json' => 504, 'upstream_timeout'],
    ['err_over_request_rate_limit.v2024.json' => 429,
        'over_request_rate_limit', retry_after => [48, 72]],
    ['err_unexpected_failure_db.v2024.json' => 502, 'upstream_bad_answer'],
    # an answer to something else
    ['token_refresh_session.json' => 502, 'upstream_bad_answer'],
    ['health.json' => 502, 'upstream_bad_answer'],
);

subtest 'other answers' => sub {
    for my $case (@refused) {
        my ($file, @reply) = @$case;
        double->fault(kind => 'fixture', op => 'logout', file => $file);
        my $response = log_out('eyJh.eyJz.c2ln');
        problem_ok $response, splice(@reply, 0, 2), $file, @reply;
        unlike $response->{body}, qr/eyJ/, 'without a token';
    }
};

subtest 'the connection' => sub {
    my ($token) = map { $_->{access_token} } sessions(1);
    double->fault(kind => 'close_idle', op => 'logout');
    logged_out_ok log_out($token), 'an answer, and the end';
    logged_out_ok log_out($token), 'the next on another connection';
    double->fault(kind => 'surplus', op => 'logout', status => 400);
    logged_out_ok log_out($token), 'an answer, and one more';
    # the double does one thing after the other: all is written now
    is_deeply [double->faults], [], 'which has been sent';
    logged_out_ok log_out($token), 'which is not the next one';
    double->fault(kind => 'close', op => 'logout', times => 2);
    problem_ok log_out($token), 502, 'upstream_bad_answer', 'no answer';
    double->clear_faults;
    double->fault(kind => 'hang_before', op => 'logout');
    problem_ok log_out($token, 'quick'), 504, 'upstream_timeout',
        'no answer in time';
    problem_ok log_out($token, 'away'), 503, 'upstream_unavailable',
        'nobody listens';
    # no row is needed
    logged_out_ok log_out($token, 'nowhere'), 'the database is away';
    my $good = UserSync::HTTP::build('POST', at(), undef,
        Connection => 'keep-alive', Authorization => "Bearer $token");
    my $last = UserSync::HTTP::build('POST', at(), undef,
        Authorization => "Bearer $token");
    my @all = raw($server->url('/'), $good, $good, $last);
    is_deeply [map { $_->{status} } @all], [204, 204, 204], 'pipelined';
};

# A header of the administrator's log format cannot show the token, and the
# lines do not.
subtest 'the log' => sub {
    my $own = UserSync::Httpd->new(children => 1, config => module_config()
            . qq{LogFormat "at=%{Authorization}i %{usersync-outcome}n" shown\n}
            . "CustomLog shown.log shown\n")->start;
    my ($one) = sessions(1);
    my $mark = $own->log->mark;
    request(POST => $own->url($path), undef,
        Authorization => "Bearer $one->{access_token}");
    request(POST => $own->url($path), undef, Authorization => 'Bearer a.b.c');
    # refused before anything is read
    my @early = (['GET', $path], ['OPTIONS', $path], ['POST', "$path/x"]);
    request($_->[0] => $own->url($_->[1]), undef,
        Authorization => "Bearer $one->{access_token}") for @early;
    my $file = $own->dir . '/shown.log';
    my $text = wait_until {
        my $text = -e $file ? slurp($file) : '';
        return ($text =~ tr/\n//) == 2 + @early ? $text : undef;
    } 10, 'the log';
    is $text, join('', map {"at=- $_\n"} qw(logged_out invalid_token
        method_not_allowed options not_found)), 'no token';
    my @lines = grep {/usersync-logout: /} $own->log_since($mark);
    my ($said, @more) = grep {!/debug\]|method_not|not_found/} @lines;
    is scalar(@more), 0, 'one line' or diag @lines;
    like $said, qr/: invalid_token: Supabase answered 403 with code bad_jwt/,
        'with the code';
    $own->stop;
};

# ---- limits and circuits

sub limited {
    my (%set) = @_;
    my $httpd = UserSync::Httpd->new(
        mpm eq 'prefork' ? (children => 4) : (children => 1, threads => 8),
        config => module_config(%set))->start;
    $httpd->allow_log(upstream_lines());
    $httpd->allow_log(qr/: busy: |US012/);
    return $httpd;
}

subtest 'busy' => sub {
    my $httpd = limited(UserSyncMaxConcurrent => 1, UserSyncTimeout => '20s');
    my ($one) = sessions(1);
    double->fault(kind => 'hold', op => 'logout', times => 1);
    my $job = UserSync::Background->start(sub {
        request(POST => $httpd->url($path), undef,
            Authorization => "Bearer $one->{access_token}")->{status};
    });
    wait_until { scalar(() = double->requests('logout')) } 10,
        'its arrival';
    problem_ok post($httpd->url($_->[0]), @{$_}[1 .. $#$_]), 503, 'busy',
        "$_->[0] waits for a logout", retry_after => 1
        for [$path, undef, Authorization => 'Bearer a.b.c'],
            ['/auth/refresh', { refresh_token => $one->{refresh_token} }],
            ['/auth/login', {%who}];
    double->release;
    is $job->result, 204, 'which has the seat';
    logged_out_ok request(POST => $httpd->url($path), undef,
        Authorization => "Bearer $one->{access_token}"), 'and gives it back';
    $httpd->stop;
};

subtest 'the circuits' => sub {
    my $httpd = limited(UserSyncCircuitBreaker => '3 60s');
    my $turn = 0;
    my %ask = (
        logout => sub {
            request(POST => $httpd->url($path), undef, -from => $_[0],
                Authorization => 'Bearer eyJh.eyJz.' . $turn++);
        },
        refresh => sub {
            post($httpd->url('/auth/refresh'),
                { refresh_token => sprintf 'a0l3l2t%05d', $turn++ },
                -from => $_[0]);
        },
        login => sub {
            post($httpd->url('/auth/login'), credentials(), -from => $_[0]);
        },
    );
    my $kinds = sub {
        return join ' ', map { $ask{$_}->('127.0.1.99')->{status} }
            qw(login logout refresh);
    };
    is $kinds->(), '401 401 401', 'all are closed';
    for my $name (qw(logout refresh)) {
        double->fault(kind => 'html', times => -1);
        my $mark = $httpd->log->mark;
        # one client alone does not open it for others
        is $ask{$name}->('127.0.1.1')->{status}, 502, "$name: a failure"
            for 1 .. 2;
        is $ask{$name}->("127.0.1.$_")->{status}, 502, "$name: of another"
            for 2 .. 3;
        double->clear_faults;
        double->clear_requests;
        problem_ok $ask{$name}->('127.0.1.4'), 503, 'upstream_unavailable',
            "$name: open", retry_after => [50, 61];
        not_asked_ok;
        like join('', $httpd->log_since($mark)),
            qr/US012: circuit to \S+ for ${name}e?s opens: /, 'the line';
        is $kinds->(), $name eq 'logout' ? '401 503 401' : '401 503 503',
            'the others are closed';
    }
    $httpd->stop;
};

done_testing;
