# The hook with Supabase: whoever gets a token, wherever they sign in, has a row
# first; and sign-ins through this server, which make Supabase call it back.

use UserSync::Background;
use UserSync::Gate;
use UserSync::Hook;
use UserSync::Load;
use UserSync::Tables;
use UserSync::Test;
use UserSync::Util;

use JSON::PP ();

use lib UserSync::Util::top_dir() . '/t/double/lib';
use AuthDouble::HookServer;

my $T = JSON::PP::true();
my $PASSWORD = 'correct horse battery';

# Routes and hook on one server, which looks each user up; the double, empty,
# asks the hook. db => another than app, set => {directives}, else as for
# hook_server.
sub both {
    my (%arg) = @_;
    my $set = delete $arg{set} || {};
    my $db = delete $arg{db} || 'app';
    double->reset;
    my $httpd = hook_server($db, %arg, lines => $arg{lines} || [],
        config => module_config(DBDriver => undef, DBDParams => undef,
            DBDMin => undef, DBDKeep => undef, DBDMax => undef,
            UserSyncCache => 'none', %$set)
            . ($arg{config} || ''))->start;
    double->config(autoconfirm => $T, anonymous => $T, hooks => {
        map { $_ => { uri => $httpd->url('/hook'), secrets => $SECRET } }
            qw(custom_access_token before_user_created after_user_created)
    });
    return $httpd;
}

# A request at Supabase's own door.
sub at_supabase {
    my ($path, $data, %header) = @_;
    return post(double->url . "/auth/v1/$path", $data, apikey => double->key,
        'X-Supabase-Api-Version' => '2024-01-01', %header);
}

sub email_of { return "$_[0]\@door.example" }

# A session, and its user has a row with that e-mail.
sub session_ok {
    my ($response, $email, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $id = eval { $response->{json}{user}{id} } || '';
    my $row = $id && row_of($id);
    return is_deeply([$response->{status}, $row && $row->{email}],
        [200, $email], $name) || diag show($response);
}

# ---- each door of Supabase

subtest 'at Supabase\'s own doors' => sub {
    my $httpd = both();
    my $response = at_supabase('signup',
        { email => email_of('new'), password => $PASSWORD });
    session_ok $response, email_of('new'), 'sign-up';
    my $old = person(email => email_of('old'));
    ok !row_of($old->{id}), 'a user from before has no row';
    $response = at_supabase('token?grant_type=password',
        { email => $old->{email}, password => $old->{password} });
    session_ok $response, $old->{email}, 'password';
    my $refresh = $response->{json}{refresh_token};
    postgres()->sql(app => 'DELETE FROM users');
    $response = at_supabase('token?grant_type=refresh_token',
        { refresh_token => $refresh });
    session_ok $response, $old->{email}, 'refresh';
    double->change_user($old->{id}, email => email_of('changed'));
    $response = at_supabase('token?grant_type=refresh_token',
        { refresh_token => $response->{json}{refresh_token} });
    session_ok $response, email_of('changed'), 'a changed e-mail is followed';
    is_deeply [map { $_->{method} || $_->{authentication_method} || '?' }
        double->issued], [qw(password password token_refresh token_refresh)],
        'four tokens' or diag explain [double->issued];
};

subtest 'a table that wants an e-mail' => sub {
    my $httpd = both(db => scratch_db('usersync_not_null',
        'ALTER TABLE users ALTER COLUMN email SET NOT NULL'));
    my $response = at_supabase('signup', {});
    is_deeply [@$response{qw(status)}, @{ $response->{json} || {} }{
        qw(code message)}], [500, 'unexpected_failure',
        'Database error creating anonymous user'], 'refuses anonymous users'
        or diag show($response);
    is scalar(double->issued), 0, 'no token';
    is scalar(@{ double->users }), 0, 'and no user';
    $httpd->expect_log(qr/user_row_refused/);
};

# ---- through this server

subtest 'the routes of the same server' => sub {
    my $httpd = both();
    my $url = $httpd->url('/auth/register');
    my $response = post($url,
        { email => email_of('reg'), password => $PASSWORD });
    is $response->{status}, 200, 'register' or diag show($response);
    user_row_ok $response, email_of('reg');
    $response = post($httpd->url('/auth/login'),
        { email => email_of('reg'), password => $PASSWORD });
    is $response->{status}, 200, 'login' or diag show($response);
    is double->hook_stats->{custom_access_token}{calls}, 2,
        'the hook was called for both' or diag explain double->hook_stats;
};

# Everybody gets a session, and is told "busy" at most while they wait for a
# seat, or for the project's own hook.
sub crowd_is_let_in {
    my ($httpd, $crowd) = @_;
    my @people = map { person() } 1 .. $crowd;
    my %left = map { $_->{email} => $_ } @people;
    my %count;
    my $rounds = 0;
    while (%left && $rounds++ < 200) {
        my @now = sort keys %left;
        my @responses = parallel(scalar @now, sub {
            my $one = $left{$now[$_[0]]};
            return ($httpd->url('/auth/login'),
                { email => $one->{email}, password => $one->{password} });
        }, 30);
        for my $i (0 .. $#now) {
            my $what = "$responses[$i]{status} "
                . ($responses[$i]{json}{code} || 'session');
            $count{$what}++;
            user_row_ok $responses[$i], $now[$i]
                if $what eq '200 session' && delete $left{$now[$i]};
        }
    }
    note explain \%count;
    is_deeply [sort keys %count], [grep { $count{$_} } '200 session',
        '503 busy'], 'a session, or busy because the seats are taken';
    is $count{'200 session'}, $crowd, 'everybody is let in';
    $httpd->allow_log(qr/usersync-(?:login|hook): busy/);
    unlike join("\n", $httpd->log_since(0)), qr/US012/, 'no open circuit';
    return;
}

my %SMALL = mpm() eq 'prefork' ? (children => 8)
    : (children => 2, threads => 4);
my $BREAKER = { UserSyncCircuitBreaker => '5 10s' };

subtest 'more logins at once than threads' => sub {
    crowd_is_let_in(both(%SMALL, set => $BREAKER), 40);
};

# Each login needs a thread for itself, for the hook and for the own hook.
subtest 'the same, with the project\'s own hook on this server' => sub {
    for my $children (1, 2) {
        my %size = mpm() eq 'prefork' ? (children => 8 * $children)
            : (children => $children, threads => 8);
        crowd_is_let_in(both(%size, set => $BREAKER,
            vhosts => { own => "UserSyncHookForward None\n" }, config =>
                "UserSyncHookForward http://127.0.0.1:\@PORT:own\@/hook\n"),
            40);
    }
};

# Calls of the hook at once, in the background.
sub hook_calls {
    my ($httpd, $count) = @_;
    my @bodies = map { token_body() } 1 .. $count;
    return UserSync::Background->start(sub {
        return [map { { status => $_->{status}, json => $_->{json} } }
            parallel($count, sub {
                my $body = $bodies[$_[0]];
                return ($httpd->url('/hook'), $body, sign_hook($body));
            }, 20)];
    });
}

# The project's own hook is behind this server, and the connections to it that
# are kept lead to the child that forwards. If sign-ins and forwarded hooks held
# all threads of this child, it would wait for itself.
subtest 'kept connections that lead to the same child' => sub {
    my $own = AuthDouble::HookServer->start("$ENV{USERSYNC_RUN}/own_hook.$$");
    my ($start, %size) = mpm() eq 'prefork' ? ('', children => 16)
        : ("StartServers 1\n", children => 2, threads => 8);
    my $httpd = both(%size, set => { UserSyncMaxPerClient => 'Off' }, vhosts =>
        { own => 'ProxyPass /own http://127.0.0.1:' . $own->port
            . " disablereuse=on\n" },
        config => "KeepAliveTimeout 60\n${start}"
            . "UserSyncHookForward http://127.0.0.1:\@PORT:own\@/own\n");
    # at once, so that each that is forwarded opens a connection of its own
    $own->answer(({ hold => 1 }) x 2);
    my $first = hook_calls($httpd, 2);
    ok +(wait_until {
        my @held = $own->requests;
        @held && (@held > 1
            || grep { /usersync-hook: busy/ } $httpd->log_since);
    } 20), 'the own hook is called';
    $own->answer;
    $own->release;
    ok scalar(grep { exists $_->{json}{claims} } @{ $first->result }),
        'which stays open';

    my @people = map { person() } 1 .. 6;
    double->config(hooks => {});
    double->fault(kind => 'hold', op => 'token', times => scalar @people);
    my $logins = UserSync::Background->start(sub {
        return [map { $_->{status} } parallel(scalar @people, sub {
            my $one = $people[$_[0]];
            return ($httpd->url('/auth/login'),
                { email => $one->{email}, password => $one->{password} });
        }, 30)];
    });
    ok double->wait_requests(token => 6, 20), 'six sign-ins wait for Supabase';
    my %count;
    $count{ $_->{json}{error}{message} || 'claims' }++
        for @{ hook_calls($httpd, 2)->result };
    my $busy = 'Too many sign-ins are in progress: try again.';
    ok $count{claims}, 'a token in the meantime';
    is_deeply [grep { !/^(?:claims|\Q$busy\E)$/ } keys %count], [],
        'and nobody else is told more than to come again';
    double->release;
    is_deeply $logins->result, [(200) x 6], 'the six go on';
    $httpd->allow_log(qr/usersync-hook: busy/);
};

# ---- the database is away

sub stop_table { postgres()->sql(app => 'ALTER TABLE users RENAME TO away') }
sub start_table { postgres()->sql(app => 'ALTER TABLE away RENAME TO users') }

my $TEXT = 'The user database is not available: try again later.';

subtest 'a refusal comes back through Supabase' => sub {
    my $httpd = both(children => 1, set => {UserSyncCircuitBreaker => '2 10s'});
    my $old = person(email => email_of('back'));
    my $first = at_supabase('token?grant_type=password',
        { email => $old->{email}, password => $old->{password} });
    session_ok $first, $old->{email}, 'at first';
    stop_table();
    my $response = at_supabase('token?grant_type=refresh_token',
        { refresh_token => $first->{json}{refresh_token} });
    is_deeply [$response->{status}, @{ $response->{json} }{qw(code message)}],
        [503, 'unknown', $TEXT], 'a refresh' or diag show($response);
    my $new = at_supabase('signup',
        { email => email_of('late'), password => $PASSWORD });
    is_deeply [$new->{status}, $new->{json}{message}], [503, $TEXT],
        'a sign-up';
    is scalar(grep { $_->{email} eq email_of('late') } @{ double->users }), 0,
        'leaves no account behind';
    start_table();
    ok +(wait_until {
        $response = at_supabase('token?grant_type=refresh_token',
            { refresh_token => $first->{json}{refresh_token} });
        $response->{status} == 200;
    } 10), 'the same refresh token works';
    session_ok $response, $old->{email}, 'once the table is back';
    ok +(wait_until {
        $new = at_supabase('signup',
            { email => email_of('late'), password => $PASSWORD });
        $new->{status} == 200;
    } 10), 'so does the sign-up';
    session_ok $new, email_of('late'), 'with a row';
    $httpd->allow_log(qr/usersync-hook: store_unavailable/);
};

subtest 'our own routes understand it' => sub {
    my $hook = hook_server('app', children => 1)->start;
    my $routes = UserSync::Httpd->new(children => 1, config =>
        module_config(UserSyncCircuitBreaker => '2 10s'))->start;
    double->config(autoconfirm => $T, hooks => { custom_access_token =>
        { uri => $hook->url('/hook'), secrets => $SECRET } });
    my @people = map { person() } 1 .. 4;
    is log_in($routes, $people[0])->{status}, 200, 'at first';
    # away for the hook's server alone
    postgres()->sql(postgres => 'CREATE DATABASE usersync_gone');
    my $gone = hook_server('usersync_gone', children => 1)->start;
    double->config(hooks => { custom_access_token =>
        { uri => $gone->url('/hook'), secrets => $SECRET } });
    for my $person (@people) {
        my $response = log_in($routes, $person);
        refused_ok $response, 503, 'store_unavailable', 'login';
        ok $response->{headers}{'retry-after'}, 'with Retry-After';
    }
    my $nowhere = hook_server('app', children => 1, config =>
        'UserSyncHookForward http://127.0.0.1:' . reserve_port() . "/\n")
        ->start;
    double->config(hooks => { custom_access_token =>
        { uri => $nowhere->url('/hook'), secrets => $SECRET } });
    my $failed = log_in($routes, $people[0]);
    refused_ok $failed, 503, 'upstream_unavailable', 'an own hook that is away';
    ok $failed->{headers}{'retry-after'}, 'with Retry-After';
    $routes->expect_log(qr/upstream_unavailable: .*hook/);
    $nowhere->expect_log(qr/hook_forward_failed/);
    my $strict = hook_server(scratch_db('usersync_strict',
        "ALTER TABLE users ADD CHECK (email <> '$people[0]{email}')",
        'CREATE UNIQUE INDEX one ON users (email)'), children => 1)->start;
    double->config(hooks => { custom_access_token =>
        { uri => $strict->url('/hook'), secrets => $SECRET } });
    refused_ok log_in($routes, $people[0]), 500, 'user_row_refused',
        'a row that the table refuses';
    postgres()->sql(usersync_strict =>
        'INSERT INTO users (id, email) VALUES (gen_random_uuid(), ?)',
        $people[1]{email});
    refused_ok log_in($routes, $people[1]), 409, 'user_row_conflict',
        'an address that another row has';
    unlike join("\n", $routes->log_since(0)), qr/US012/,
        'the circuit stays closed';
    $routes->expect_log(qr/usersync-login: user_row_$_: .*hook/)
        for qw(refused conflict);
    $strict->expect_log(qr/usersync-hook: user_row_$_/)
        for qw(refused conflict);
    $routes->expect_log(qr/usersync-login: store_unavailable: .*hook/);
    $gone->expect_log(qr/usersync-hook: store_unavailable/);
    $gone->stop;
    postgres()->dropdb('usersync_gone');
};

done_testing;
