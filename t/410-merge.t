# Every directive is inherited by vhosts, overridden in them and reset to its
# default; checked by what is sent and written, not by what is configured.

use UserSync::Background;
use UserSync::Test;

my $auth = double->url;
my ($port) = $auth =~ /:(\d+)$/;

postgres->createdb('merge');
postgres->sql(merge => $_) for
    'CREATE TABLE members (id uuid PRIMARY KEY, mail text, phone text,'
        . ' name text, other text)',
    'GRANT SELECT, INSERT, UPDATE ON members TO "www-data"',
    map {qq{ALTER ROLE "www-data" IN DATABASE merge SET $_ = 0}}
        qw(lock_timeout statement_timeout);

# The double is its own proxy: a request through the proxy contains a whole
# URL.
my %main = (
    DBDParams                 => '"' . postgres->dsn('merge') . '"',
    UserSyncSupabaseURL       => $auth,
    UserSyncTimeout           => '700ms',
    UserSyncRegisterTimeout   => '800ms',
    UserSyncConnectTimeout    => '300ms',
    UserSyncStoreTimeout      => '600ms',
    UserSyncCACertificateFile => double->ca_file,
    UserSyncProxy             => $auth,
    UserSyncForwardClientIP   => 'X-Forwarded-For',
    UserSyncTable             => 'public.members',
    UserSyncMaxBodySize       => 1000,
);
my $main_more = <<'CONF';
UserSyncColumn email mail
UserSyncColumn phone phone
UserSyncColumn user_metadata.name name
<Location "/auth/register">
    UserSyncMaxBodySize 600
</Location>
CONF

my %vhost = (
    same    => '',
    url     => "UserSyncSupabaseURL http://localhost:$port/auth/v1",
    key     => "UserSyncSupabaseKey file:$ENV{USERSYNC_RUN}/anon.key",
    patient => <<'CONF',
UserSyncTimeout 3s
UserSyncRegisterTimeout 3100ms
UserSyncStoreTimeout 3s
CONF
    direct => 'UserSyncProxy None',
    off    => 'UserSyncForwardClientIP Off',
    sb     => 'UserSyncForwardClientIP Sb-Forwarded-For',
    column => 'UserSyncColumn user_metadata.name other',
    none   => 'UserSyncColumn phone None',
    table  => <<'CONF',
UserSyncTable public.users
UserSyncColumn email email
UserSyncColumn phone None
UserSyncColumn user_metadata.name None
CONF
    other => 'DBDParams "' . postgres->dsn('other') . '"' . <<'CONF',

UserSyncTable users
UserSyncColumn email email
UserSyncColumn phone None
UserSyncColumn user_metadata.name None
CONF
    tls => 'UserSyncProxy None
UserSyncSupabaseURL ' . double->https_url,
    size => <<'CONF',
UserSyncMaxBodySize 2000
<Location "/auth/login">
    UserSyncMaxBodySize 700
</Location>
<Location "/auth">
    UserSyncMaxBodySize 800
</Location>
<LocationMatch "^/narrow/">
    UserSyncMaxBodySize 300
</LocationMatch>
<Location "/narrow/wide">
    UserSyncMaxBodySize 3000
</Location>
<LocationMatch "^/(?:narrow/)?(?:wide|login)$">
    SetHandler usersync-login
</LocationMatch>
<If "%{HTTP:X-Size} == 'large'">
    UserSyncMaxBodySize 4000
</If>
CONF
    default_size => 'UserSyncMaxBodySize 8192',
);
$vhost{tls_patient} = "$vhost{tls}\n" . <<'CONF';
UserSyncTimeout 5s
UserSyncRegisterTimeout 5s
UserSyncConnectTimeout 3s
CONF
$vhost{tls_unknown} = "$vhost{tls}\nUserSyncCACertificateFile "
    . ca_file();

my $httpd = UserSync::Httpd->new(
    config => module_config(%main) . $main_more, vhosts => \%vhost)->start;

my $count = 0;
my $user;

# Logs a new user in at a vhost: (response, request that the double saw)
sub login {
    my ($where) = @_;
    my $email = 'user' . ++$count . '@example.com';
    $user = double->add_user(email => $email, password => 'correct horse',
        phone => '4915550' . $count, user_metadata => { name => "Ada $count" });
    double->clear_requests;
    my $response = post(url($where), body($email));
    my ($request) = double->requests('token');
    return ($response, $request);
}

sub body { return { email => $_[0], password => 'correct horse' } }

sub url {
    my ($where, $path) = @_;
    return $httpd->url($path || '/auth/login',
        $where eq 'main' ? undef : $where);
}

# The part of a request that a directive decides on.
my %look = (
    url   => sub { double->header($_[0], 'Host') },
    key   => sub { double->header($_[0], 'apikey') },
    proxy => sub { $_[0]{target} =~ m{^http://} ? 'proxy' : 'direct' },
    forwarded => sub {
        join ', ', map {"$_->[0]: $_->[1]"}
            grep { $_->[0] =~ /forwarded/i } @{ $_[0]{headers} };
    },
);

subtest 'what is sent' => sub {
    my ($here, $xff) = ("127.0.0.1:$port", 'X-Forwarded-For: 127.0.0.1');
    my @as_main = (url => $here, key => double->key, proxy => 'proxy',
        forwarded => $xff);
    my @cases = (
        [main   => @as_main],
        [same   => @as_main],
        [url    => @as_main, url => "localhost:$port"],
        [key    => @as_main, key => double->key('anon')],
        [direct => @as_main, proxy => 'direct'],
        [off    => @as_main, forwarded => ''],
        [sb     => @as_main, forwarded => 'Sb-Forwarded-For: 127.0.0.1'],
    );
    for my $case (@cases) {
        my ($where, %expected) = @$case;
        my ($response, $request) = login($where);
        is $response->{status}, 200, "$where: logged in"
            or diag show($response);
        is $look{$_}->($request), $expected{$_}, "$where: $_"
            for sort keys %look;
    }
};

# A refresh and a logout at a vhost: (status, request) of each
sub go_on_and_end {
    my ($where) = @_;
    my ($in) = login($where);
    my $session = $in->{json}{session};
    double->clear_requests;
    my $next = post(url($where, '/auth/refresh'),
        { refresh_token => $session->{refresh_token} });
    my $end = request(POST => url($where, '/auth/logout'), undef,
        Authorization => "Bearer $session->{access_token}");
    return ([$next->{status}, double->requests('token')],
        [$end->{status}, double->requests('logout')]);
}

subtest 'what a refresh and a logout send' => sub {
    my @as_main = (url => "127.0.0.1:$port", key => double->key,
        proxy => 'proxy', forwarded => 'X-Forwarded-For: 127.0.0.1');
    my %cases = (
        main   => {@as_main},
        url    => {@as_main, url => "localhost:$port"},
        key    => {@as_main, key => double->key('anon')},
        direct => {@as_main, proxy => 'direct'},
        off    => {@as_main, forwarded => ''},
    );
    for my $where (sort keys %cases) {
        my @got = go_on_and_end($where);
        for my $i (0, 1) {
            my ($status, $request) = @{ $got[$i] };
            my $name = "$where: " . (qw(refresh logout))[$i];
            is $status, (200, 204)[$i], $name;
            is_deeply { map { $_ => $look{$_}->($request) } keys %look },
                $cases{$where}, "$name: what is sent";
        }
    }
};

subtest 'how long these two wait' => sub {
    # a child that has logged one does not repeat the cause for the other
    $httpd->expect_log(qr/usersync-(?:refresh|logout): upstream_timeout/);
    double->fault(kind => 'hang_before', times => -1);
    for my $case ([main => 0.7], [same => 0.7], [patient => 3]) {
        my ($where, $from) = @$case;
        for my $response (
            post(url($where, '/auth/refresh'), { refresh_token => 'x' }),
            request(POST => url($where, '/auth/logout'), undef,
                Authorization => 'Bearer a.b.c')) {
            my $took = $response->{elapsed};
            is $response->{json}{code}, 'upstream_timeout', "$where: gave up";
            ok $took >= $from - 0.02 && $took < $from + 2,
                "after $from s" or diag $took;
        }
    }
    double->clear_faults;
};

subtest 'what is written' => sub {
    # columns of the row, or another place
    my %expected = (
        main   => { mail => 1, phone => 1, name => 1, other => 0 },
        same   => { mail => 1, phone => 1, name => 1, other => 0 },
        column => { mail => 1, phone => 1, name => 0, other => 1 },
        none   => { mail => 1, phone => 0, name => 1, other => 0 },
    );
    for my $where (sort keys %expected) {
        my ($response) = login($where);
        my ($row) = postgres->sql(merge => 'SELECT * FROM members WHERE id = ?',
            $user->{id});
        is_deeply { map { $_ => defined $row->{$_} ? 1 : 0 }
                keys %{ $expected{$where} } }, $expected{$where}, $where
            or diag show($response);
    }
    for my $case ([table => 'merge'], [other => 'other']) {
        my ($where, $db) = @$case;
        my ($response) = login($where);
        my $row = row_of($user->{id}, $db) || {};
        is $row->{email}, $user->{email}, "$where: in users of $db"
            or diag show($response);
        is postgres->value(merge =>
            'SELECT count(*) FROM members WHERE id = ?', $user->{id}), 0,
            "$where: not in members";
    }
};

# Waits at the same time: [where, path, at least this many seconds]. The
# shorter waits prove that they did not take the longer time.
sub waits_ok {
    my ($code, @cases) = @_;
    my @responses = parallel(scalar @cases, sub {
        my ($where, $path) = @{ $cases[$_[0]] };
        return (url($where, $path), body('user1@example.com'));
    });
    for my $i (0 .. $#cases) {
        my ($where, $path, $from) = @{ $cases[$i] };
        my ($response, $took) = ($responses[$i], $responses[$i]{elapsed});
        is $response->{json}{code}, $code->{$path} || $code->{any},
            "$where$path: gave up" or diag show($response);
        my $to = $from < 2 ? 2.9 : $from + 2;
        ok $took >= $from - 0.02 && $took < $to, "$where$path: after $from s"
            or diag $took;
    }
    return;
}

subtest 'how long Supabase is waited for' => sub {
    $httpd->expect_log(qr/outcome_unknown/);
    $httpd->expect_log(qr/upstream_timeout/);
    double->fault(kind => 'hang_before', times => -1);
    waits_ok({ '/auth/login' => 'upstream_timeout',
            '/auth/register' => 'outcome_unknown' },
        ['main',    '/auth/login',    0.7],
        ['same',    '/auth/login',    0.7],
        ['patient', '/auth/login',    3.0],
        ['main',    '/auth/register', 0.8],
        ['same',    '/auth/register', 0.8],
        ['patient', '/auth/register', 3.1],
    );
    double->clear_faults;
};

subtest 'how long connecting may take' => sub {
    my ($response, $request) = login('tls');
    is $response->{status}, 200, 'over TLS' or diag show($response);
    ok $request->{tls}, 'seen by the double';
    $httpd->expect_log(qr/upstream_unavailable/);
    $httpd->graceful;    # drops the kept connections
    double->fault(kind => 'hang_accept', times => -1);
    waits_ok({ any => 'upstream_unavailable' },
        ['tls',         '/auth/login', 0.3],
        ['tls_patient', '/auth/login', 3.0],
    );
    double->clear_faults;
};

subtest 'which authority is trusted' => sub {
    my ($response, $request) = login('tls');
    is $response->{status}, 200, 'that of the main server'
        or diag show($response);
    ($response, $request) = login('tls_unknown');
    is $response->{json}{code}, 'upstream_unavailable', 'another one'
        or diag show($response);
    is $request, undef, 'and nothing is sent';
};

subtest 'how long PostgreSQL is waited for' => sub {
    double->fault(kind => 'delay', ms => 1, times => -1);
    my $dbh = postgres->connect('merge');
    $dbh->begin_work;
    $dbh->do('LOCK TABLE members');
    $httpd->expect_log(qr/store_unavailable/);
    waits_ok({ any => 'store_unavailable' },
        ['main',    '/auth/login', 0.6],
        ['same',    '/auth/login', 0.6],
        ['patient', '/auth/login', 3.0],
    );
    $dbh->rollback;
    my ($response) = login('patient');
    is $response->{status}, 200, 'the lock is gone' or diag show($response);
};

subtest 'UserSyncMaxBodySize' => sub {
    # the same number of bytes: accepted, but refused for the address
    my $status_of = sub {
        my ($where, $path, $size, @header) = @_;
        my $body = '{"email":"x","password":"y","pad":""}';
        my $pad = 'x' x ($size - length $body);
        $body =~ s/""\}/"$pad"}/;
        return post(url($where, $path), $body, @header)->{status};
    };
    my @large = ('X-Size' => 'large');
    my @cases = (
        ['main: server',               'main', '/auth/login',    1000],
        ['main: Location',             'main', '/auth/register', 600],
        ['inherited',                  'same', '/auth/login',    1000],
        ['inherited Location',         'same', '/auth/register', 600],
        ['vhost over main server',     'size', '/login',         2000],
        ['the last Location wins',     'size', '/auth/login',    800],
        ['vhost over main, Location',  'size', '/auth/register', 800],
        ['LocationMatch',              'size', '/narrow/login',  300],
        ['nested Location',            'size', '/narrow/wide',   3000],
        ['If over the server',         'size', '/login',         4000, @large],
        ['If over a nested Location',  'size', '/narrow/wide',   4000, @large],
        ['a refresh',                  'main', '/auth/refresh',  1000],
        ['the default, restored',      'default_size', '/auth/login', 8192],
        ['Location over the default, restored',
            'default_size', '/auth/register', 600],
    );
    for my $case (@cases) {
        my ($name, $where, $path, $size, @header) = @$case;
        is $status_of->($where, $path, $size, @header), 400, "$name: $size";
        is $status_of->($where, $path, $size + 1, @header), 413, "$name: more";
    }
};

$httpd->stop;
postgres->dropdb('merge');

# Not allowed in a vhost: one value for all of them.
subtest 'the limits' => sub {
    double->reset;
    my $other = UserSync::Double->start(
        dir => UserSync::Util::new_dir('double'));
    my $shared = UserSync::Httpd->new(
        config => module_config(UserSyncMaxConcurrent => 3,
            UserSyncMaxPerClient => 2, UserSyncCircuitBreaker => '2 60s',
            UserSyncTimeout => '20s'),
        vhosts => {
            same  => '',
            own   => 'UserSyncTimeout 10s',
            other => 'UserSyncSupabaseURL ' . $other->url,
        })->start;
    $shared->allow_log(qr/: (?:busy|upstream_\w+)\b|US012/);
    my $login = sub {
        my ($where, @header) = @_;
        return post($shared->url('/auth/login', $where eq 'main' ? undef
            : $where), body('ada@example.com'), @header);
    };
    double->fault(kind => 'hang_before', times => 2);
    my @waiting = map { my $where = $_;
        UserSync::Background->start(sub { $login->($where)->{status} })
    } qw(main own);
    double->wait_requests(token => 2, 20) or fail 'two wait';
    for my $where (qw(main same own other)) {
        is $login->($where)->{json}{code}, 'busy',
            "$where: this client's two wait in other vhosts";
        is $login->($where, -from => '127.0.0.9')->{json}{code},
            'invalid_credentials', "$where: another client has a seat";
    }
    double->clear_faults;
    $_->result for @waiting;
    $shared->graceful;    # what has failed there counts no more

    double->fault(kind => 'html', times => -1);
    my %from = (same => '127.0.0.2', own => '127.0.0.3');
    is post($shared->url('/auth/login', $_), body("$_\@example.com"),
        -from => $from{$_})->{json}{code}, 'upstream_bad_answer', "$_: fails"
        for qw(same own);
    is $login->($_)->{json}{code}, 'upstream_unavailable',
        "$_: the circuit of the project is open" for qw(main same own);
    isnt $login->('other')->{json}{code}, 'upstream_unavailable',
        'that of another project is not';
    $shared->stop;
    $other->stop;
};

done_testing;
