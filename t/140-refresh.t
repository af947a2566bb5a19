# usersync-refresh: a session goes on for its refresh token, with a row before
# the new tokens leave; and every way in which it does not.

use UserSync::Test;
use UserSync::Contract;

my ($yes, $no) = (JSON::PP::true, JSON::PP::false);
my $path = '/auth/refresh';
my $UUID = qr/[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/;

my $pg = postgres();
$pg->dropdb('refresh')->createdb('refresh');
$pg->sql(refresh => $_) for
    'CREATE TABLE users_unique (id uuid PRIMARY KEY, email text UNIQUE)',
    q{CREATE TABLE users_strict (id uuid PRIMARY KEY,
        email text CHECK (email NOT LIKE '%refused%'))},
    'GRANT SELECT, INSERT, UPDATE ON users_unique, users_strict
        TO "www-data"';
END { postgres()->dropdb('refresh') if $pg }
my $db = 'DBDParams "' . $pg->dsn('refresh') . '"';

my $server = UserSync::Httpd->new(
    config => module_config(), children => 1,
    vhosts => {
        quick   => "UserSyncConnectTimeout 300ms\nUserSyncTimeout 500ms",
        away    => 'UserSyncSupabaseURL http://127.0.0.1:' . reserve_port(),
        nowhere => "UserSyncStoreTimeout 300ms\n" . 'DBDParams "'
            . $pg->dsn_tcp('app', port => reserve_port()) . '"',
        unique  => "$db\nUserSyncTable users_unique",
        strict  => "$db\nUserSyncTable users_strict",
        other   => "UserSyncForwardClientIP X-Forwarded-For\n"
            . "UserSyncSupabaseKey file:$ENV{USERSYNC_RUN}/anon.key",
    },
)->start;
$server->allow_log(upstream_lines());
$server->allow_log(store_lines());
$server->allow_log(qr/\[dbd:error\]/);
# the addresses that the project's hooks are given to say
$server->allow_log(qr/usersync:warn\].*: unknown: Supabase answered 429/);

sub at { my ($vhost) = @_; return $server->url($path, $vhost) }

sub refresh {
    my ($token, $vhost, %header) = @_;
    return post(at($vhost), { refresh_token => $token }, %header);
}

# A user's session, without a row here; and the user
sub session {
    my (%more) = @_;
    my $who = credentials();
    my $user = double->add_user(%$who, %more);
    my $in = UserSync::HTTP->exchange('POST',
        double->url . '/auth/v1/token?grant_type=password',
        { map { $_ => $who->{$_} } qw(email password) },
        apikey => double->key);
    $in->{status} == 200 or die show($in);
    double->clear_requests;
    return ($in->{json}, $user, $who);
}

subtest 'a session goes on' => sub {
    my ($old, $user, $who) = session();
    is row_of($user->{id}), undef, 'there is no row yet';
    my $next = refresh($old->{refresh_token});
    success_ok $next, 'refreshed', session => 1, user_id => $user->{id};
    user_row_ok $next, $who->{email};
    my $session = $next->{json}{session};
    isnt $session->{refresh_token}, $old->{refresh_token}, 'a new token';
    my @all = double->requests;
    is scalar @all, 1, 'one request';
    is "$all[0]{path}?$all[0]{query}", '/auth/v1/token?grant_type='
        . 'refresh_token', 'to the right place';
    is_deeply $all[0]{json}, { refresh_token => $old->{refresh_token} },
        'with nothing but the token';
    is double->header($all[0], 'Authorization'), undef,
        'and no Authorization';

    my $again = refresh($old->{refresh_token});
    success_ok $again, 'the token that was used last', session => 1;
    is $again->{json}{session}{refresh_token}, $session->{refresh_token},
        'gives the same';
    success_ok refresh($session->{refresh_token}), 'and on';
};

subtest 'the request' => sub {
    my ($old) = session();
    my $long = 'A-' . '_' x 200;
    double->fault(kind => 'fixture', op => 'token',
        file => 'err_refresh_token_not_found.v2024.json');
    my $response = post(at('other'), { refresh_token => $long,
        email => 'a@b.c', password => 'x', captcha_token => 'y',
        grant_type => 'password' }, Authorization => 'Bearer a.b.c',
        -from => '127.0.1.9');
    problem_ok $response, 401, 'invalid_refresh_token', 'a long token';
    my ($got) = double->requests;
    is_deeply $got->{json}, { refresh_token => $long }, 'arrives alone';
    is double->header($got, 'Authorization'), 'Bearer ' . double->key('anon'),
        "a legacy key is the Bearer, not the client's";
    is double->header($got, 'X-Forwarded-For'), '127.0.1.9',
        'and the address is told';
    double->clear_requests;

    my %wrong = (
        'nothing'  => [''], 'no JSON' => ['x'], 'a list' => [[]],
        'no token' => [{}, 'refresh_token'],
        'another name' => [{ refreshToken => 'x' }, 'refresh_token'],
        'null'   => [{ refresh_token => undef }, 'refresh_token'],
        'a number' => ['{"refresh_token":1}', 'refresh_token'],
        'a list as token' => [{ refresh_token => ['x'] }, 'refresh_token'],
        'empty'    => [{ refresh_token => '' }, 'refresh_token'],
        'too long' => [{ refresh_token => 'x' x 4097 }, 'refresh_token'],
        'no UTF-8' => ["{\"refresh_token\":\"\xff\"}"],
        'cut off'  => ['{"refresh_token":"x"'],
        'a NUL'    => ['{"refresh_token":"x\u0000"}'],
    );
    for my $name (sort keys %wrong) {
        my ($body, @fields) = @{ $wrong{$name} };
        problem_ok post(at(), $body, 'Content-Type' => 'application/json'),
            400, 'invalid_request', $name, (@fields ? (fields => \@fields)
                : ());
    }
    problem_ok post(at(), { refresh_token => 'x' x 9000 }), 413,
        'body_too_large', 'a large body';
    problem_ok post(at(), { refresh_token => 'x' },
        'Content-Type' => 'text/plain'), 415, 'unsupported_media_type',
        'another type';
    problem_ok request($_ => at()), 405, 'method_not_allowed', $_
        for qw(GET PUT DELETE);
    problem_ok post(at() . '/x', { refresh_token => 'x' }), 404, 'not_found',
        'below the route';
    my $options = request(OPTIONS => at());
    is $options->{status}, 204, 'OPTIONS';
    is_deeply [reply_complaints($options)], [], 'as on the other routes';
    not_asked_ok;
};

subtest 'the e-mail follows' => sub {
    my ($old, $user, $who) = session();
    my $next = refresh($old->{refresh_token});
    user_row_ok $next, $who->{email};
    double->change_user($user->{id}, email => 'moved@example.com');
    $next = refresh($next->{json}{session}{refresh_token});
    user_row_ok $next, 'moved@example.com', 'a changed address';
};

# Whoever has a session may refresh it, however they signed in.
subtest 'without an address' => sub {
    my ($old, $user) = session();
    double->fault(kind => 'transform', op => 'token',
        set => { 'user.email' => '', 'user.is_anonymous' => $yes });
    my $next = refresh($old->{refresh_token});
    success_ok $next, 'an anonymous user', session => 1;
    my $row = row_of($user->{id});
    ok $row, 'has a row';
    is $row->{email}, undef, 'without an e-mail';
};

# file or body of the answer => the reply
my @refused = (
    [err_refresh_token_not_found => 401, 'invalid_refresh_token'],
    [err_refresh_token_already_used => 401, 'invalid_refresh_token'],
    [err_refresh_session_not_found => 401, 'invalid_refresh_token'],
    [err_refresh_session_expired => 401, 'invalid_refresh_token'],
    [err_refresh_token_malformed => 401, 'invalid_refresh_token'],
    [err_refresh_user_banned => 403, 'user_banned'],
    [err_refresh_conflict => 503, 'conflict', retry_after => 1],
    [err_over_request_rate_limit => 429, 'over_request_rate_limit',
        retry_after => [48, 72]],
    [err_request_timeout => 504, 'upstream_timeout'],
    [err_hook_timeout => 503, 'upstream_unavailable'],
    [err_hook_503 => 503, 'upstream_unavailable'],
    [err_unexpected_failure_db => 502, 'upstream_bad_answer'],
);

subtest 'refused by Supabase' => sub {
    for my $case (@refused) {
        my ($file, @reply) = @$case;
        double->fault(kind => 'fixture', op => 'token', times => 2,
            file => "$file.v2024.json");
        my $response = refresh('a0l3l2t5k7ct');
        double->clear_faults;
        problem_ok $response, splice(@reply, 0, 2), $file, @reply;
        unlike $response->{json}{detail}, qr/password|e-mail/,
            'the text fits a refresh';
    }
    for my $file (qw(err_refresh_token_not_found.legacy.json
        err_refresh_token_already_used.legacy.json)) {
        double->fault(kind => 'fixture', op => 'token', file => $file);
        problem_ok refresh('a0l3l2t5k7ct'), 401, 'invalid_refresh_token',
            $file, detail => 'The session has ended: log in again.';
    }
    double->fault(kind => 'fixture', op => 'token',
        file => 'err_oauth_invalid_client.json');
    problem_ok refresh('a0l3l2t5k7ct'), 400, 'invalid_client',
        "an OAuth client's session";
    double->fault(kind => 'html', op => 'token', status => 522);
    problem_ok refresh('a0l3l2t5k7ct'), 502, 'upstream_bad_answer',
        'an error page';
    double->config(keys => ['another']);
    problem_ok refresh('a0l3l2t5k7ct'), 502, 'upstream_rejected_key',
        'our key is refused';
    double->config(keys => [map { double->key($_) } qw(publishable anon)]);
};

subtest 'in life' => sub {
    problem_ok refresh('a0l3l2t5k7ct'), 401, 'invalid_refresh_token',
        'an unknown token';
    problem_ok refresh('nonsense'), 401, 'invalid_refresh_token',
        'one that is none';
    my ($old, $user) = session();
    my $next = refresh($old->{refresh_token});
    refresh($next->{json}{session}{refresh_token});
    problem_ok refresh($old->{refresh_token}), 401, 'invalid_refresh_token',
        'one that was used before';
    ($old, $user) = session();
    double->change_user($user->{id}, banned => $yes);
    problem_ok refresh($old->{refresh_token}), 403, 'user_banned', 'banned';
    ($old, $user) = session();
    double->delete_user($user->{id});
    problem_ok refresh($old->{refresh_token}), 401, 'invalid_refresh_token',
        'a user who is gone';
};

# What the project's token hook says, if that is a usersync-hook.
subtest 'the token hook refuses' => sub {
    my %text = (
        store_unavailable => [503,
            'The user database is not available: try again later.'],
        user_row_refused  => [500,
            'The user database does not accept this user.'],
        user_row_conflict => [409,
            'Another user in the user database has the same address.'],
    );
    for my $code (sort keys %text) {
        my ($status, $text) = @{ $text{$code} };
        my ($old, $user, $who) = session();
        double->config(hooks => { custom_access_token =>
            { error => { http_code => 503, message => $text } } });
        my %want = (detail => $text,
            $status == 503 ? (retry_after => [4, 6]) : ());
        problem_ok refresh($old->{refresh_token}), $status, $code,
            "refresh: $code", %want;
        problem_ok post($server->url('/auth/login'), $who), $status, $code,
            "login: $code", %want;
        double->config(autoconfirm => $yes);
        problem_ok post($server->url('/auth/register'), credentials()),
            $status, $code, "register: $code", %want;
        double->config(hooks => {});
        success_ok refresh($old->{refresh_token}), 'and then it is served';
        user_row_ok post($server->url('/auth/login'), $who), $who->{email};
    }
    my ($old) = session();
    double->config(hooks => { custom_access_token =>
        { error => { http_code => 403, message => 'Not on Sundays.' } } });
    problem_ok refresh($old->{refresh_token}), 400, 'unknown',
        "another hook's text", detail => 'Not on Sundays.';
    double->config(hooks => { custom_access_token => { away => 'timeout' } });
    problem_ok refresh($old->{refresh_token}), 503, 'upstream_unavailable',
        'a hook that is away';
    double->config(hooks => {});
};

subtest 'the connection' => sub {
    my ($old) = session();
    success_ok refresh($old->{refresh_token}), 'on any connection';
    my $token = $old->{refresh_token};
    double->fault(kind => 'close_idle', op => 'token');
    success_ok refresh($token), 'an answer, and the end of the connection';
    double->clear_requests;
    success_ok refresh($token), 'the next is sent on another';
    is scalar(() = double->requests('token')), 1, 'once';
    for my $more ({}, { joined => 1 }, { status => 400 },
        { status => 408, close => 1 }) {
        my ($other) = session();
        ($old, my $user) = session();
        double->fault(kind => 'surplus', op => 'token', %$more);
        refresh($other->{refresh_token});
        # the double does one thing after the other: all is written now
        is_deeply [double->faults], [], 'more than an answer';
        my $next = refresh($old->{refresh_token});
        success_ok $next, "what waits is not the answer: @{[%$more]}",
            user_id => $user->{id};
        is $next->{json}{session}{user}{id}, $user->{id}, 'in the session';
    }
    double->fault(kind => 'close', op => 'token', times => 2);
    problem_ok refresh($old->{refresh_token}), 502, 'upstream_bad_answer',
        'no answer';
    double->clear_faults;
    double->fault(kind => 'hang_before', op => 'token');
    problem_ok refresh($old->{refresh_token}, 'quick'), 504,
        'upstream_timeout', 'no answer in time';
    problem_ok refresh($old->{refresh_token}, 'away'), 503,
        'upstream_unavailable', 'nobody listens';
    for my $bad ({ kind => 'empty' }, { kind => 'truncate_json' },
        { kind => 'status', status => 204 }, { kind => 'redirect' },
        { kind => 'transform', set => { access_token => undef } },
        { kind => 'transform', set => { 'user.id' => 'x' } }) {
        double->fault(op => 'token', %$bad);
        my $response = refresh($old->{refresh_token});
        problem_ok $response, 502, 'upstream_bad_answer', $bad->{kind};
        unlike $response->{body}, qr/eyJ/, 'without a token';
    }
};

subtest 'the store is away' => sub {
    my ($old, $user, $who) = session();
    my $response = refresh($old->{refresh_token}, 'nowhere');
    problem_ok $response, 503, 'store_unavailable', 'away',
        retry_after => [4, 6];
    unlike $response->{body}, qr/eyJ|token/, 'without a token';
    my $next = refresh($old->{refresh_token});
    success_ok $next, 'the same token is served later', session => 1;
    user_row_ok $next, $who->{email};

    ($old, $user) = session();
    $pg->sql(refresh => 'INSERT INTO users_unique VALUES (?, ?)',
        '11111111-2222-4333-8444-555555555555', $user->{email});
    problem_ok refresh($old->{refresh_token}, 'unique'), 409,
        'user_row_conflict', 'another user has the address';
    double->change_user($user->{id}, email => 'refused@example.com');
    problem_ok refresh($old->{refresh_token}, 'strict'), 500,
        'user_row_refused', 'the table refuses the row';
};

# A line and notes for each request, as for a login.
subtest 'the log' => sub {
    $server->restart;
    my ($old, $user) = session();
    my $mark = $server->log->mark;
    refresh('a0l3l2t5k7ct');
    my @lines = grep {/usersync-refresh: /} $server->log_since($mark);
    is scalar @lines, 1, 'one line' or diag @lines;
    like $lines[0], qr/:info\].*: invalid_refresh_token: Supabase answered 400/,
        'of what Supabase said';
    like $lines[0], qr/with code refresh_token_not_found/,
        "with Supabase's code";
    my $size = -s $server->access_log;
    refresh($old->{refresh_token});
    my ($line) = wait_until {
        slurp($server->access_log, $size) =~ /\A(.*)\n/ ? $1 : undef;
    } 10, 'the access log';
    my %note = $line =~ /(\w+)=(\S+)/g;
    is "$note{outcome} $note{user}", "ok $user->{id}", 'the notes';
    like $note{$_}, qr/\A\d+\z/, $_ for qw(upstream store);
};

done_testing;
