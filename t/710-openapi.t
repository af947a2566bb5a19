# docs/openapi.yaml is true: each of its outcomes is caused on each route, and
# the real answers, its examples and the outcome table of the source agree with
# it. t/openapi/judge.py compares; what that needs is in t/openapi/install.

use UserSync::Background;
use UserSync::Contract;
use UserSync::Gate ();
use UserSync::Event;
use UserSync::Hook;
use UserSync::OpenAPI;
use UserSync::Test;

my ($yes, $no) = (JSON::PP::true, JSON::PP::false);
my $UNIQUE = '11111111-2222-4333-8444-555555555555';
my %PATH = map { $_ => "/auth/$_" } qw(register login refresh logout);
my $HOOK = '/hooks/supabase';
my $EVENT = '/events/supabase';
my $LATE = '{"email":"a@example.com",';    # the rest does not come

needs_tools();

# ---- servers

my $pg = postgres();
$pg->dropdb('openapi')->createdb('openapi');
$pg->sql(openapi => $_) for
    q{CREATE TABLE users_strict (id uuid PRIMARY KEY,
        email text CHECK (email NOT LIKE '%refused%'))},
    'CREATE TABLE users_unique (id uuid PRIMARY KEY, email text UNIQUE)',
    'GRANT SELECT, INSERT, UPDATE ON users_strict, users_unique
        TO "www-data"';
END { postgres()->dropdb('openapi') if $pg }

my $secret = spew("$ENV{USERSYNC_RUN}/openapi.secret", "$SECRET\n");
chmod 0600, $secret;
my $hook = "UserSyncHookSecret file:$secret\n" . hook_lines($HOOK);
my $db = 'DBDParams "' . $pg->dsn('openapi') . '"';
my $nowhere = "UserSyncStoreTimeout 300ms\n" . 'DBDParams "'
    . $pg->dsn_tcp('app', port => reserve_port()) . '"';
my $server = UserSync::Httpd->new(
    modules => ['authn_anon'],
    config => module_config() . $hook,
    vhosts => {
        quick   => "UserSyncConnectTimeout 300ms\nUserSyncTimeout 500ms\n"
            . 'UserSyncRegisterTimeout 500ms',
        slow    => 'RequestReadTimeout header=20 body=1',
        away    => 'UserSyncSupabaseURL http://127.0.0.1:' . reserve_port(),
        nowhere => $nowhere,
        allow   => "$nowhere\n<Location $HOOK>\nUserSyncHookOnError Allow\n"
            . '</Location>',
        strict  => "$db\nUserSyncTable users_strict",
        unique  => "$db\nUserSyncTable users_unique",
        gate    => UserSync::Gate::guarded('/app', 'UserSyncEnsure On'),
    },
)->start;

# Events, into tables with the columns of a user's life.
my $events_db = event_db('openapi_events', map {
    ("CREATE TABLE users_$_ (LIKE users INCLUDING ALL)",
        qq{GRANT SELECT, INSERT, UPDATE ON users_$_ TO "www-data"})
} qw(strict unique));
$pg->sql($events_db => $_) for
    q{ALTER TABLE users_strict ADD CHECK (email NOT LIKE '%refused%')},
    'ALTER TABLE users_unique ADD UNIQUE (phone)';
my $events = event_server($events_db, modules => ['authn_anon'],
    config => event_lines($EVENT) . hook_lines($HOOK), vhosts => {
    gate    => UserSync::Gate::guarded('/app', 'UserSyncEnsure On'),
    slow    => 'RequestReadTimeout header=20 body=1',
    nowhere => $nowhere,
    strict  => 'UserSyncTable users_strict',
    unique  => 'UserSyncTable users_unique',
})->start;

# Requests that wait for each other, and a hook of the project that is slow.
my $busy = UserSync::Httpd->new(
    mpm eq 'prefork' ? (children => 4) : (children => 1, threads => 8),
    config => module_config(UserSyncMaxConcurrent => 1,
        UserSyncTimeout => '20s') . $hook
        . "UserSyncHookForward @{[double->url]}/slow\n",
)->start;

# No project, where configtest does not see it.
my $bare = UserSync::Httpd->new(config => <<'CONF');
<Directory "@DIR@/htdocs">
    AllowOverride All
</Directory>
CONF
for (['auth', sort keys %PATH], ['hooks', 'supabase'],
    ['events', 'supabase']) {
    my ($name, @files) = @$_;
    my $dir = $bare->dir . "/htdocs/$name";
    mkdir $dir or die "$dir: $!";
    spew("$dir/.htaccess", join '', map {
        my $handler = $_ eq 'supabase' ? $name =~ s/s$//r : $_;
        "<Files $_>\n    SetHandler usersync-$handler\n</Files>\n"
    } @files);
}
$bare->start;

for ($server, $busy, $bare, $events) {
    $_->allow_log(upstream_lines());
    $_->allow_log(store_lines());
    $_->allow_log(qr/\[dbd:error\]|usersync-(?:hook|event): |US012|US0\d\d/);
    $_->allow_log(qr/not_configured|: busy: |user_not_identified/);
    $_->allow_log(qr/usersync:warn\].*: unknown: Supabase answered 429/);
}

# ---- requests

my @answers;

# Writes an answer down; outcome => that of a success.
sub keep {
    my ($what, $path, $method, $response, $outcome) = @_;
    diag "$what: $response->{error}" if $response->{error};
    push @answers, { what => $what, path => $path, method => $method,
        status => $response->{status}, headers => $response->{headers},
        body => $response->{body} // '',
        defined $outcome ? (outcome => $outcome) : () };
    return $response;
}

my $token; # an access token that is good

# The arguments of a request that has all it needs, and more members.
sub good {
    my ($route, %more) = @_;
    return ({%more}, Authorization => "Bearer $token") if $route eq 'logout';
    return ({ refresh_token => 'a0l3l2t5k7ct', %more }) if $route eq 'refresh';
    return ({ %{ credentials() }, %more });
}

# What is asked for, and what the answer must be: [status, code]
sub ask {
    my ($what, $route, $vhost, $want, @arg) = @_;
    @arg = good($route) unless @arg;
    my $response = keep("$route: $what", $PATH{$route}, 'POST',
        post($server->url($PATH{$route}, $vhost), @arg));
    is_deeply [$response->{status}, eval { $response->{json}{code} }], $want,
        "$route: $what" or diag show($response);
    return $response;
}

# A user's session, made at Supabase alone; and the user
sub session {
    my $who = credentials(@_);
    my $user = double->add_user(%$who);
    my $in = UserSync::HTTP->exchange('POST',
        double->url . '/auth/v1/token?grant_type=password',
        { map { $_ => $who->{$_} } qw(email password) },
        apikey => double->key);
    return ($in->{json}, $user, $who);
}

# ---- each outcome, on each route

subtest 'successes' => sub {
    double->config(autoconfirm => $yes);
    my $who = credentials();
    my $in = keep('registered', $PATH{register}, 'POST',
        post($server->url($PATH{register}), { %$who,
            data => { full_name => 'Ada Lovelace' } }), 'ok');
    is $in->{status}, 200, 'register' or diag show($in);
    $in = keep('logged in', $PATH{login}, 'POST',
        post($server->url($PATH{login}), $who), 'ok');
    is $in->{status}, 200, 'login' or diag show($in);
    my $next = keep('refreshed', $PATH{refresh}, 'POST',
        post($server->url($PATH{refresh}), { refresh_token =>
            $in->{json}{session}{refresh_token} }), 'ok');
    is $next->{status}, 200, 'refresh' or diag show($next);
    $token = $next->{json}{session}{access_token};
    double->config(autoconfirm => $no);
    my $pending = keep('confirmation pending', $PATH{register}, 'POST',
        post($server->url($PATH{register}), credentials()), 'pending');
    is $pending->{status}, 200, 'pending' or diag show($pending);
    for my $body (undef, {}, { scope => 'global' }) {
        my $out = keep('logged out', $PATH{logout}, 'POST',
            request(POST => $server->url($PATH{logout}), $body,
                Authorization => "Bearer $token"), 'logged_out');
        is $out->{status}, 204, 'logout' or diag show($out);
    }
    double->config(weak_password_min => 8);
    my $weak = credentials(password => 'abc');
    double->add_user(%$weak);
    $in = keep('weak by now', $PATH{login}, 'POST',
        post($server->url($PATH{login}), $weak), 'ok');
    ok $in->{json}{session}{weak_password}, 'a password that is weak by now';
    double->reset;
};

subtest 'what HTTP asks for' => sub {
    for my $path (@PATH{ sort keys %PATH }, $HOOK, $EVENT) {
        my $url = ($path eq $EVENT ? $events : $server)->url($path);
        keep('OPTIONS', $path, 'OPTIONS', request(OPTIONS => $url), 'options');
        my @all = map { keep($_, $path, $_, request($_ => $url)) }
            qw(GET HEAD PUT PATCH DELETE TRACE PROPFIND);
        is_deeply [map { $_->{status} } @all], [(405) x @all],
            "$path: other methods";
        my $below = keep('below', $path, 'POST', post("$url/x", {}));
        is $below->{status}, 404, "$path: a path below";
    }
    for my $route (sort keys %PATH) {
        my ($body, @header) = good($route);
        my $large = '{"x":"' . 'y' x 9000 . '"}';
        ask('another type', $route, undef, [415, 'unsupported_media_type'],
            '{"x":1}', @header, 'Content-Type' => 'text/plain');
        ask('a large body', $route, undef, [413, 'body_too_large'], $large,
            @header);
        my $late = connection($server->url($PATH{$route}, 'slow'));
        $late->send(UserSync::HTTP::build('POST',
            $server->url($PATH{$route}), $LATE, @header,
            'Content-Length' => 200));
        my $response = keep('late', $PATH{$route}, 'POST',
            $late->response(10));
        is $response->{status}, 408, "$route: late";
        ask('nothing', $route, undef, [400, 'invalid_request'], '[', @header);
    }
    ask('no address', 'register', undef, [400, 'invalid_request'],
        { password => 'x' });
    ask('no address', 'login', undef, [400, 'invalid_request'],
        { password => 'x' });
    ask('no token', 'refresh', undef, [400, 'invalid_request'], {});
    ask('no scope', 'logout', undef, [400, 'invalid_request'],
        good(logout => scope => 'all'));
};

# file of the answer => what it becomes, and on which of the routes
my @refused = (
    [err_old_other => 400, 'refused'],
    [err_captcha_failed_missing => 400, 'captcha_failed'],
    [err_email_address_invalid => 400, 'email_address_invalid',
        qw(register login)],
    [err_invalid_credentials => 401, 'invalid_credentials', 'login'],
    [err_refresh_token_not_found => 401, 'invalid_refresh_token', 'refresh'],
    [err_bad_jwt_expired => 401, 'invalid_token', 'logout'],
    [err_email_not_confirmed => 403, 'email_not_confirmed'],
    [err_user_banned_login => 403, 'user_banned'],
    [err_signup_disabled => 403, 'signup_disabled'],
    [err_email_provider_disabled_login => 403, 'email_provider_disabled'],
    [err_user_already_exists => 409, 'user_already_exists', 'register'],
    [err_weak_password => 422, 'weak_password', 'register'],
    [err_over_request_rate_limit => 429, 'over_request_rate_limit'],
    [err_over_email_send_rate_limit_global => 429,
        'over_email_send_rate_limit'],
    [gw_hosted_invalid_api_key => 502, 'upstream_rejected_key'],
    [err_unexpected_failure_mail => 502, 'upstream_bad_answer'],
    [err_refresh_conflict => 503, 'conflict', 'refresh'],
);

subtest 'refused by Supabase' => sub {
    for my $case (@refused) {
        my ($name, $status, $code, @routes) = @$case;
        my ($file) = grep { -e UserSync::Util::top_dir()
            . "/t/fixtures/supabase/$_" } "$name.v2024.json", "$name.json";
        for my $route (@routes ? @routes : sort keys %PATH) {
            double->fault(kind => 'fixture', file => $file);
            ask($name, $route, undef, [$status, $code]);
            double->clear_faults;
        }
    }
    double->config(hook_reject =>
        { http_code => 403, message => 'Only company addresses.' });
    ask('a hook', 'register', undef, [400, 'unknown']);
    double->reset;
    my ($session, undef, $who) = session();
    double->config(hooks => { custom_access_token => { error =>
        { http_code => 403, message => 'Only company addresses.' } } });
    ask('a hook', 'login', undef, [400, 'unknown'], $who);
    ask('a hook', 'refresh', undef, [400, 'unknown'],
        { refresh_token => $session->{refresh_token} });
    # a usersync-hook, to whom the row says so
    double->config(hooks => { custom_access_token => { error =>
        { http_code => 401, message => 'This account has been deleted.' } } });
    ask('deleted', 'login', undef, [401, 'user_deleted'], $who);
    ask('deleted', 'refresh', undef, [401, 'user_deleted'],
        { refresh_token => $session->{refresh_token} });
    double->reset;
    ask('no header', 'logout', undef, [401, 'no_authorization'], '');
};

subtest 'Supabase is away' => sub {
    for my $route (sort keys %PATH) {
        my $new = $route eq 'register';
        ask('nobody listens', $route, 'away', [503, 'upstream_unavailable']);
        double->fault(kind => 'hang_before', times => -1);
        ask('no answer', $route, 'quick',
            [504, $new ? 'outcome_unknown' : 'upstream_timeout']);
        double->clear_faults;
        double->fault(kind => 'html', times => -1);
        ask('a page', $route, undef,
            [502, $new ? 'outcome_unknown' : 'upstream_bad_answer']);
        double->clear_faults;
    }
};

subtest 'the table' => sub {
    double->config(autoconfirm => $yes);
    my %case = (nowhere => [503, 'store_unavailable'],
        strict => [500, 'user_row_refused'],
        unique => [409, 'user_row_conflict']);
    for my $vhost (sort keys %case) {
        for my $route (qw(register login refresh)) {
            my $email = "refused.$vhost.$route\@example.com";
            $pg->sql(openapi => 'DELETE FROM users_unique');
            $pg->sql(openapi => 'INSERT INTO users_unique VALUES (?, ?)',
                $UNIQUE, $email);
            my ($session, undef, $who) = $route eq 'register'
                ? (undef, undef, credentials(email => $email))
                : session(email => $email);
            ask($vhost, $route, $vhost, $case{$vhost}, $route eq 'refresh'
                ? { refresh_token => $session->{refresh_token} } : $who);
        }
    }
};

subtest 'the server itself' => sub {
    for my $route (sort keys %PATH) {
        my $response = keep('bare', $PATH{$route}, 'POST',
            post($bare->url($PATH{$route}), good($route)));
        is $response->{status}, 500, "$route: without a project";
    }
    my $who = credentials();
    double->add_user(%$who);
    double->clear_requests;
    double->fault(kind => 'hold', op => 'token', times => 1);
    my $job = UserSync::Background->start(
        sub { post($busy->url($PATH{login}), $who)->{status} });
    wait_until { my @all = double->requests('token'); scalar @all } 10
        or diag 'it does not arrive';
    for my $route (sort keys %PATH) {
        my $response = keep('busy', $PATH{$route}, 'POST',
            post($busy->url($PATH{$route}), good($route)));
        is eval { $response->{json}{code} }, 'busy', "$route: no seat"
            or diag show($response);
    }
    double->release;
    is $job->result, 200, 'which another had';
    my $response = keep('the gate', undef, 'GET',
        UserSync::Gate::visit($server, $server->url('/app', 'gate'), 'ada'));
    is $response->{status}, 403, 'the gate: a user who is no UUID';
};

# ---- the hook

sub hook_answer {
    my ($what, $want, $response, $outcome) = @_;
    keep("the hook: $what", $HOOK, 'POST', $response, $outcome);
    my $json = ref $response->{json} ? $response->{json} : {};
    is_deeply [$response->{status}, $json->{error}{http_code} || $json->{code}
        || ()], $want, "the hook: $what" or diag show($response);
    return;
}

sub ask_hook {
    my ($what, $vhost, $want, $outcome, $body, %arg) = @_;
    my $url = ref $vhost ? $vhost->url($HOOK) : $server->url($HOOK, $vhost);
    hook_answer($what, $want, post($url, $body, sign_hook($body, %arg),
        %{ $arg{headers} || {} }), $outcome);
    return;
}

subtest 'the hook' => sub {
    UserSync::Gate::has_rows_in('openapi');
    my $bad = token_body(email => 'refused@example.com');
    $pg->sql(openapi => 'INSERT INTO users_unique VALUES (?, ?)',
        new_id(), 'refused@example.com');
    my @cases = (
        ['a token', undef, [200], 'ok', token_body()],
        ['a new user', undef, [200], 'ok', created_body('after-user-created')],
        ['a user to be', undef, [200], 'ok',
            created_body('before-user-created')],
        ['not served', undef, [200, 500], 'hook_not_served',
            created_body('send-email')],
        ['store away', 'nowhere', [200, 503], 'store_unavailable',
            token_body()],
        ['without a row', 'allow', [200], 'unsynced', token_body()],
        ['row refused', 'strict', [200, 500], 'user_row_refused', $bad],
        ['row conflict', 'unique', [200, 409], 'user_row_conflict', $bad],
        ['not its form', undef, [400, 'invalid_request'], undef, '[]'],
        ['too large', undef, [413, 'body_too_large'], undef, 'x' x 300_000],
        ['another type', undef, [415, 'unsupported_media_type'], undef, '{}',
            headers => { 'Content-Type' => 'text/plain' }],
        ['forged', undef, [401, 'invalid_signature'], undef, '{}',
            signature => 'v1,AAAA'],
        ['no hook here', $bare, [500, 'not_configured'], undef, '{}'],
    );
    ask_hook(@$_) for @cases;
    my $late = connection($server->url($HOOK, 'slow'));
    $late->send(UserSync::HTTP::build('POST', $server->url($HOOK), '{"x":',
        sign_hook('{}'), 'Content-Length' => 200));
    hook_answer('late', [408, 'body_timeout'], $late->response(10));
};

# A child of prefork has one thread, so that there nobody has to wait.
subtest "the project's own hook" => sub {
    my $threads = mpm ne 'prefork';
    double->fault(kind => 'hang_before', times => -1);
    my @all = parallel($threads ? 6 : 1, sub {
        my $body = token_body();
        return ($busy->url($HOOK), $body, sign_hook($body));
    });
    double->clear_faults;
    my ($late) = grep { $_->{body} =~ /Signing in is not possible/ } @all;
    my ($full) = grep { $_->{body} =~ /Too many sign-ins/ } @all;
    hook_answer('no answer', [200, 503], $late || $all[0],
        'hook_forward_failed');
    hook_answer('too many wait', [200, 503], $full || $all[0], 'busy')
        if $threads;
};

# ---- events

subtest 'events' => sub {
    my $ask = sub {
        my ($what, $vhost, $want, $body, %arg) = @_;
        my ($at, $name) = ref $vhost ? ($vhost) : ($events, $vhost);
        my $response = keep("an event: $what", $EVENT, 'POST',
            send_event($at, $body, path => $EVENT, vhost => $name, %arg),
            $want->[0] == 204 ? 'applied' : ());
        is_deeply [$response->{status}, $response->{json}
            ? $response->{json}{code} : ()], $want, "an event: $what"
            or diag show($response);
    };
    $ask->('a user', undef, [204], {});
    $ask->('store away', 'nowhere', [503, 'store_unavailable'], {});
    # what nothing of the event can cure
    $pg->sql($events_db => $_) for
        'ALTER TABLE users_strict ADD CHECK (id IS NULL) NOT VALID',
        'DELETE FROM users_unique',
        'ALTER TABLE users_unique ADD COLUMN one integer DEFAULT 1 UNIQUE';
    $ask->('row refused', 'strict', [500, 'user_row_refused'],
        { type => 'INSERT' });
    $ask->('the first', 'unique', [204], {});
    $ask->('row conflict', 'unique', [409, 'user_row_conflict'],
        { type => 'INSERT' });
    $ask->('not its form', undef, [400, 'invalid_request'], '[]');
    $ask->('too large', undef, [413, 'body_too_large'], 'x' x 600_000);
    $ask->('another type', undef, [415, 'unsupported_media_type'], '{}',
        headers => { 'Content-Type' => 'text/plain' });
    $ask->('forged', undef, [401, 'invalid_signature'], '{}',
        signature => 'v1,AAAA');
    $ask->('none here', $bare, [500, 'not_configured'], '{}');
    my $late = connection($events->url($EVENT, 'slow'));
    $late->send(UserSync::HTTP::build('POST', $events->url($EVENT), '{"x":',
        sign_hook('{}'), 'Content-Length' => 200));
    my $response = keep('late', $EVENT, 'POST', $late->response(10));
    is $response->{status}, 408, 'late';
};

subtest 'the gate and what events have said' => sub {
    for my $case ([banned_until => '2126-11-28', 403, 'user_banned'],
        [deleted_at => '2026-11-28', 401, 'user_deleted']) {
        my ($column, $time, $status, $code) = @$case;
        $pg->sql($events_db => "INSERT INTO users (id, $column) VALUES (?, ?)",
            my $id = new_id(), $time);
        my $response = keep("the gate: $code", undef, 'GET',
            UserSync::Gate::visit($events, $events->url('/app', 'gate'), $id));
        is_deeply [$response->{status}, $response->{json}{code}],
            [$status, $code], "the gate: $code" or diag show($response);
        ask_hook($code, $events, [200, $status], $code,
            token_body(sub => $id));
    }
};

# ---- and the judgement

my $judged = judgement(\@answers,
    mpm eq 'prefork' ? [$HOOK, 200, 'busy'] : ());
cmp_ok keys %$judged, '>=', 6, 'all is judged';
cmp_ok scalar @answers, '>', 150, 'there are answers';
is_deeply $judged->{$_}, [], $_ or diag join "\n", @{ $judged->{$_} }
    for sort keys %$judged;

# A judge that finds nothing wrong with these is none.
subtest 'what must be found' => sub {
    my ($problem) = grep { $_->{body} =~ /"code":"busy"/ } @answers;
    my ($session) = grep { $_->{body} =~ /"session":\{/ } @answers;
    my %broken = (
        'a member more' => [body => $problem->{body} =~ s/\{/{"x":1,/r],
        'a member of an error more' => [path => $PATH{login}, status => 400,
            body => '{"type":"about:blank","title":"x","status":400,'
                . '"detail":"x","code":"invalid_request","request_id":'
                . '"0123456789abcdef","errors":[{"field":"x","message":"y",'
                . '"z":1}]}'],
        'a member less' => [body => $problem->{body} =~ s/"detail":"[^"]*",//r],
        'another code' => [body => $problem->{body} =~ s/busy/full/r],
        'another status' => [status => 502],
        'a status that is not described' => [status => 418],
        'another content type' => [headers => { %{ $problem->{headers} },
            'content-type' => 'application/json' }],
        'a header more' => [headers => { %{ $problem->{headers} },
            'x-supabase' => 1 }],
        'a header less' => [headers => { map { $_ => $problem->{headers}{$_} }
            grep { $_ ne 'retry-after' } keys %{ $problem->{headers} } }],
    );
    $broken{$_} = { %$problem, @{ $broken{$_} } } for keys %broken;
    $broken{'no user id'} = { %$session,
        body => $session->{body} =~ s/"user_id":"[^"]*"/"user_id":"x"/r };
    $broken{'a member beside the session'} = { %$session,
        body => $session->{body} =~ s/\{/{"x":1,/r };
    my $found = judgement([map { { %{ $broken{$_} }, what => $_ } }
        sort keys %broken]);
    for my $what (sort keys %broken) {
        ok scalar(grep {/^\Q$what\E: /} @{ $found->{'the answers'} }), $what;
    }
};

done_testing;
