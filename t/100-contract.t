# Every row of the outcome table: status, public code, headers and body of the
# reply, each caused as it would be in production.

use UserSync::Test;
use UserSync::Contract;

my ($yes, $no) = (JSON::PP::true, JSON::PP::false);
my @routes = ('/auth/register', '/auth/login');

# ---- a database with tables that refuse, and a server with a vhost for each

my $pg = postgres();
$pg->dropdb('contract')->createdb('contract');
$pg->sql(contract => $_) for
    q{CREATE TABLE users_strict (id uuid PRIMARY KEY,
        email text CHECK (email NOT LIKE '%refused%'))},
    'CREATE TABLE users_tenant (id uuid PRIMARY KEY, email text,
        tenant text NOT NULL)',
    'CREATE TABLE users_unique (id uuid PRIMARY KEY, email text UNIQUE)',
    'CREATE TABLE users_denied (id uuid PRIMARY KEY, email text)',
    'ALTER TABLE users_denied ENABLE ROW LEVEL SECURITY',
    'GRANT SELECT, INSERT, UPDATE ON users_strict, users_tenant, users_unique,
        users_denied TO "www-data"';
END { postgres()->dropdb('contract') if $pg }

my $db = 'DBDParams "' . $pg->dsn('contract') . '"';
my $server = UserSync::Httpd->new(
    config => module_config(),
    vhosts => {
        quick  => "UserSyncConnectTimeout 300ms\nUserSyncTimeout 500ms\n"
            . 'UserSyncRegisterTimeout 500ms',
        away   => 'UserSyncSupabaseURL http://127.0.0.1:' . reserve_port(),
        nowhere => "UserSyncStoreTimeout 300ms\n" . 'DBDParams "'
            . $pg->dsn_tcp('app', port => reserve_port()) . '"',
        strict => "$db\nUserSyncTable users_strict",
        tenant => "$db\nUserSyncTable users_tenant",
        unique => "$db\nUserSyncTable users_unique",
        denied => "$db\nUserSyncTable users_denied",
    },
)->start;
$server->allow_log(upstream_lines());
$server->allow_log(store_lines());
# the warnings about row-level security, and that libpq cannot connect
$server->allow_log(qr/usersync:warn\].*users_denied/);
$server->allow_log(qr/\[dbd:error\]/);

sub at { my ($vhost, $path) = @_; return $server->url($path, $vhost) }
sub register { my ($vhost, $who) = @_; post(at($vhost, $routes[0]), $who) }
sub login    { my ($vhost, $who) = @_; post(at($vhost, $routes[1]), $who) }

sub without_id {
    my ($response) = @_;
    my %body = %{ $response->{json} || {} };
    delete $body{request_id};
    return \%body;
}

subtest 'registered or logged in' => sub {
    my $who = credentials();
    my $registered = register(undef, $who);
    success_ok $registered, 'register', session => 1;
    user_row_ok $registered, $who->{email};
    my $id = $registered->{json}{user_id};
    success_ok login(undef, $who), 'login', session => 1, user_id => $id;

    double->config(autoconfirm => $no);
    my $pending = register(undef, my $other = credentials());
    success_ok $pending, 'confirmation pending', session => 0;
    user_row_ok $pending, $other->{email};
    my $taken = register(undef, $who);
    success_ok $taken, 'address taken: the same reply', session => 0;
    is row_of($taken->{json}{user_id}), undef, 'and no row without a user';
    isnt $taken->{json}{user_id}, $id, 'the true id is not shown';
    double->config(autoconfirm => $yes);
};

subtest 'refused by Supabase, the user can do something about it' => sub {
    my $who = credentials();
    double->add_user(%$who);
    my $unknown = login(undef, credentials());
    problem_ok $unknown, 401, 'invalid_credentials', 'unknown user';
    my $wrong = login(undef, { %$who, password => 'a guess' });
    problem_ok $wrong, 401, 'invalid_credentials', 'wrong password';
    is_deeply without_id($wrong), without_id($unknown), 'the same answer';

    my $not_yet = credentials();
    double->add_user(%$not_yet, confirmed => $no);
    problem_ok login(undef, $not_yet), 403, 'email_not_confirmed',
        'not confirmed';
    my $banned = credentials();
    double->add_user(%$banned, banned => $yes);
    problem_ok login(undef, $banned), 403, 'user_banned', 'banned';
    problem_ok register(undef, $who), 409, 'user_already_exists',
        'address exists';
    problem_ok register(undef, credentials(password => 'abc')), 422,
        'weak_password', 'weak password', reasons => ['length'];

    double->config(weak_password_characters => ['abc', '0123'],
        pwned_passwords => ['xyz'], weak_password_min => 8);
    problem_ok register(undef, credentials(password => 'xyz')), 422,
        'weak_password', 'weak in every way',
        reasons => ['length', 'characters', 'pwned'];
    my $weak = credentials(password => 'xyz');
    double->add_user(%$weak);
    my $response = login(undef, $weak);
    success_ok $response, 'a password that is weak by now still logs in';
    is_deeply $response->{json}{session}{weak_password}{reasons},
        ['length', 'characters', 'pwned'], 'and the session tells';
    double->reset;
};

subtest 'switched off at Supabase' => sub {
    double->config(disable_signup => $yes);
    problem_ok register(undef, credentials()), 403, 'signup_disabled',
        'sign-ups';
    double->reset;
    double->config(email_provider => $no);
    problem_ok register(undef, credentials()), 403,
        'email_provider_disabled', 'the provider, for register';
    problem_ok login(undef, credentials()), 403,
        'email_provider_disabled', 'the provider, for login';
    double->reset;
};

subtest 'other refusals' => sub {
    double->config(invalid_emails => ['a@gmail.com'],
        unauthorized_emails => ['b@gmail.com']);
    problem_ok register(undef, credentials(email => 'a@gmail.com')), 400,
        'email_address_invalid', 'its code, not its text',
        detail => qr/\A(?!.*gmail)/;
    problem_ok register(undef, credentials(email => 'b@gmail.com')), 400,
        'email_address_not_authorized', 'its code and its text',
        detail => 'Email address "b@gmail.com" cannot be used as it is not'
            . ' authorized';
    double->config(hook_reject =>
            { http_code => 403, message => 'Only company addresses.' });
    problem_ok register(undef, credentials()), 400, 'unknown',
        "a hook's refusal, with its text", detail => 'Only company addresses.';
    double->reset;
    double->config(captcha_token => 'right');
    problem_ok post(at(undef, $_), credentials()), 400, 'captcha_failed',
        "captcha: $_" for @routes;
    double->reset;
};

subtest 'rate limited' => sub {
    double->config(rate_limit => { token => 0, signup => 0 });
    for my $path (@routes) {
        my @all = map { post(at(undef, $path), credentials()) } 1 .. 30;
        problem_ok $_, 429, 'over_request_rate_limit', $path,
            retry_after => [48, 72] for @all[0, 1];
        my @seconds = sort { $a <=> $b }
            map { $_->{headers}{'retry-after'} } @all;
        cmp_ok $seconds[0], '>=', 48, 'at least a minute less a fifth';
        cmp_ok $seconds[-1], '<=', 72, 'at most a minute and a fifth';
        cmp_ok $seconds[-1] - $seconds[0], '>', 0, 'spread';
    }
    double->reset;
};

# What Supabase or the edge in front of it says is passed on, without
# additions.
subtest "the edge's Retry-After" => sub {
    for my $path (@routes) {
        for my $n (1, 17, 3600) {
            double->fault(kind => 'status', status => 429, body => 'slow',
                content_type => 'text/html', headers =>
                    { 'Retry-After' => $n });
            problem_ok post(at(undef, $path), credentials()), 429,
                'over_request_rate_limit', "$path: $n seconds",
                retry_after => $n;
        }
        double->fault(kind => 'html', status => 429);
        problem_ok post(at(undef, $path), credentials()), 429,
            'over_request_rate_limit', "$path: without one",
            retry_after => [48, 72];
    }
    my @when = gmtime time + 100;
    my $date = POSIX::strftime('%a, %d %b %Y %H:%M:%S GMT', @when);
    double->fault(kind => 'status', status => 429, body => '',
        headers => { 'Retry-After' => $date });
    my $response = login(undef, credentials());
    my $value = $response->{headers}{'retry-after'} || '';
    ok $value eq $date || $value =~ /\A\d+\z/ && $value > 80 && $value <= 100,
        'as a date: kept, or the same in seconds' or diag show($response);
};

subtest 'our key is refused' => sub {
    double->config(keys => ['sb_publishable_another']);
    problem_ok post(at(undef, $_), credentials()), 502,
        'upstream_rejected_key', $_, detail => qr/\A(?!.*key)/i for @routes;
    double->reset;
};

subtest 'nothing can be sent' => sub {
    for my $path (@routes) {
        my @all = map { post(at(away => $path), credentials()) } 1 .. 30;
        problem_ok $all[0], 503, 'upstream_unavailable', $path;
        my @seconds = sort { $a <=> $b }
            map { $_->{headers}{'retry-after'} } @all;
        cmp_ok $seconds[-1], '<=', 1.5 * $seconds[0], 'within a fifth';
        cmp_ok $seconds[-1], '>', $seconds[0], 'spread';
    }
};

# An unusable answer: it fails a login; a sign-up may have happened.
my @broken = (
    ['an error page' => { kind => 'html' }],
    ['an error page with 200' => { kind => 'html', status => 200 }],
    ['an empty 200' => { kind => 'empty' }],
    ['204' => { kind => 'status', status => 204 }],
    ['an empty 500' => { kind => 'empty', status => 500 }],
    ['a 503 without a code' =>
        { kind => 'status', status => 503, body => { message => 'x' } }],
    ['a coded 500' => { kind => 'status', status => 500,
        headers => { 'x-sb-error-code' => 'unexpected_failure' },
        body => { code => 'unexpected_failure', message => 'x' } }],
    ['a 4xx that is not GoTrue\'s' =>
        { kind => 'status', status => 404, body => { message => 'x' } }],
    ['no answer' => { kind => 'close' }],
    ['a reset' => { kind => 'reset' }],
    ['a cut body' => { kind => 'cut', bytes => 20 }],
    ['a body too short' => { kind => 'wrong_length', delta => 10,
        close => $yes }],
    ['a body too long' => { kind => 'wrong_length', delta => -10 }],
    ['not HTTP' => { kind => 'garbage' }],
    ['half of the JSON' => { kind => 'truncate_json' }],
    ['8 MiB' => { kind => 'huge' }],
    ['a redirect' => { kind => 'redirect' }],
    ['an array' => { kind => 'status', status => 200, body => [] }],
    ['an empty object' => { kind => 'status', status => 200, body => {} }],
);

subtest 'bad answers' => sub {
    my $who = credentials();
    double->add_user(%$who);
    my $rows = $pg->value(app => 'SELECT count(*) FROM users');
    for my $case (@broken) {
        my ($name, $fault) = @$case;
        double->fault(%$fault, times => -1);
        problem_ok login(undef, $who), 502, 'upstream_bad_answer',
            "login: $name";
        my $before = double->stats->{requests}{signup} || 0;
        problem_ok register(undef, credentials()), 502, 'outcome_unknown',
            "register: $name", detail => qr/log in/;
        is double->stats->{requests}{signup} - $before, 1, 'sent once';
        double->clear_faults;
    }
    is $pg->value(app => 'SELECT count(*) FROM users'), $rows,
        'no row came of it';
};

subtest 'too slow' => sub {
    my @slow = (
        ['no answer' => { kind => 'hang_before' }],
        ['headers only' => { kind => 'hang_after_headers' }],
        ['a byte now and then' => { kind => 'drip', interval_ms => 20 }],
    );
    for my $case (@slow) {
        my ($name, $fault) = @$case;
        double->fault(%$fault, times => -1);
        my $login = login(quick => credentials());
        problem_ok $login, 504, 'upstream_timeout', "login: $name";
        my $register = register(quick => credentials());
        problem_ok $register, 504, 'outcome_unknown', "register: $name",
            detail => qr/log in/;
        for ($login, $register) {
            cmp_ok $_->{elapsed}, '>', 0.4, 'not before the time is over';
            cmp_ok $_->{elapsed}, '<', 1 + slack, 'nor much later';
        }
        double->clear_faults;
    }
};

subtest 'the database is away' => sub {
    double->config(autoconfirm => $no);
    my ($old, $new) = (credentials(), credentials());
    double->add_user(%$old);
    my $login = login(nowhere => $old);
    problem_ok $login, 503, 'store_unavailable', 'login';
    unlike $login->{body}, qr/token|eyJ/, 'no token in the body';
    my $pending = register(nowhere => $new);
    problem_ok $pending, 503, 'store_unavailable', 'register';
    my $taken = register(nowhere => $old);
    problem_ok $taken, 503, 'store_unavailable', 'register again';
    is_deeply without_id($taken), without_id($pending),
        'which does not reveal who has an account';

    my $healed = login(undef, $old);
    success_ok $healed, 'the next login heals', session => 1;
    user_row_ok $healed, $old->{email};
    double->config(autoconfirm => $yes);
    my $session = register(nowhere => credentials());
    problem_ok $session, 503, 'store_unavailable', 'register, auto-confirm';
    unlike $session->{body}, qr/token|eyJ/, 'no token in the body';
};

subtest 'the table refuses the row' => sub {
    for my $vhost (qw(tenant denied)) {
        my $who = credentials();
        my $response = register($vhost => $who);
        problem_ok $response, 500, 'user_row_refused', "register: $vhost";
        # a table that accepts no rows is known before an account is created
        double->add_user(%$who) if $vhost eq 'tenant';
        problem_ok login($vhost => $who), 500, 'user_row_refused',
            "login: $vhost";
    }
    my $fine = credentials();
    success_ok register(strict => $fine), 'a row that the check takes';
    my $who = credentials(email => 'refused@example.com');
    my $response = register(strict => $who);
    problem_ok $response, 500, 'user_row_refused', 'register: a check';
    unlike $response->{body}, qr/token|eyJ|users_strict|refused\@/,
        'neither a token nor the table in the body';
    problem_ok login(strict => $who), 500, 'user_row_refused', 'login: check';
    success_ok login(strict => $fine), 'a user with a row can log in';
};

subtest 'another user has the address' => sub {
    my $who = credentials();
    $pg->sql(contract => 'INSERT INTO users_unique VALUES (?, ?)',
        '11111111-2222-4333-8444-555555555555', $who->{email});
    problem_ok register(unique => $who), 409, 'user_row_conflict', 'register';
    my $response = login(unique => $who);
    problem_ok $response, 409, 'user_row_conflict', 'login';
    unlike $response->{body}, qr/token|eyJ|\Q$who->{email}/,
        'neither a token nor the address in the body';
    success_ok register(unique => credentials()), 'others are not affected';
};

done_testing;
