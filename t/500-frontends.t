# Whatever the client uses, the answer is the same and the row is written: TLS,
# HTTP/2, kept and pipelined connections, chunks, Expect, clients that leave,
# many at a time, and a server that restarts meanwhile.

use UserSync::Background;
use UserSync::Test;

use Socket qw(SOL_SOCKET SO_LINGER);

my $password = 'correct horse';
my $number = 0;

sub new_user {
    return double->add_user(email => 'user' . ++$number . '@example.com',
        password => $password);
}

sub body { return { email => $_[0]{email}, password => $password } }

sub json { return UserSync::HTTP::encode_json($_[0]) }

# The bytes of a request on a connection that stays open.
sub kept {
    my ($path, $body, %header) = @_;
    return post_bytes($path, $body, Connection => undef, %header);
}

sub chunked {
    my ($path, @chunks) = @_;
    return kept($path, join('', @chunks), 'Transfer-Encoding' => 'chunked');
}

# For many at a time: a threaded child lets all but one of its threads wait for
# Supabase.
my $crowd;

sub crowd {
    return $crowd ||= UserSync::Httpd->new(threads => 65,
        config => module_config, vhosts => { tls => <<"CONF" })->start;
SSLEngine On
SSLCertificateFile "$ENV{USERSYNC_RUN}/tls/server.pem"
SSLCertificateKeyFile "$ENV{USERSYNC_RUN}/tls/server.key"
<IfModule http2_module>
    Protocols h2 http/1.1
</IfModule>
CONF
}

# A body in chunks of this many bytes.
sub chunks {
    my ($body, $size, $extension) = @_;
    return map { sprintf "%x%s\r\n%s\r\n", length, $extension || '', $_ }
        $body =~ /(.{1,$size})/gs;
}

subtest 'TLS' => sub {
    my $user = new_user();
    user_row_ok post('tls:/auth/login', body($user)), $user->{email}, 'login';
    my $registered = post('tls:/auth/register',
        { email => 'tls@example.com', password => $password });
    user_row_ok $registered, 'tls@example.com', 'register';
    is post('tls:/auth/login', { email => 'tls@example.com',
        password => 'guess' })->{status}, 401, 'refused';
};

# ---- HTTP/2

# (status, HTTP version, head, body) of a curl request
sub http2 {
    my ($path, @arg) = @_;
    my $head = "$ENV{USERSYNC_RUN}/h2.head";
    my ($status, $said) = curl('--http2', '-D', $head, '-w',
        "\n%{http_code} %{http_version}",
        '-H', 'Content-Type: application/json', @arg, vhost_url('tls', $path));
    $said =~ s{\n(\d+) (\S+)\z}{} or diag "curl: $status $said";
    return ($1, $2, slurp($head), $said);
}

subtest 'HTTP/2' => sub {
    plan(skip_all => 'mod_http2 does not work with prefork')
        if mpm() eq 'prefork';
    my $user = new_user();
    my $file = spew("$ENV{USERSYNC_RUN}/h2.json", json(body($user)));
    my ($status, $version, $head, $said)
        = http2('/auth/login', '--data-binary', "\@$file");
    is "$status $version", '200 2', 'login' or diag $said;
    ok row_of($user->{id}), 'has made the row';
    like $head, qr/^cache-control: no-store\r$/m, 'headers';

    postgres->sql(app => 'DELETE FROM users');
    ($status) = http2('/auth/login', '-X', 'POST', '-T', $file);
    is $status, 200, 'a body of known length that is sent as a stream';
    my ($shell, $streamed) = run_command('sh', '-c', 'exec curl "$@" <"$0"',
        $file, '-sS', '--http2', '--noproxy', '*', '--cacert', ca_file(),
        '-X', 'POST', '-H', 'Content-Type: application/json', '-H', 'Expect:',
        '-T', '-', vhost_url('tls', '/auth/login'));
    like $streamed, qr/"user_id":"\Q$user->{id}\E"/, 'a body of unknown length';

    my $wrong = json({ %{ body($user) }, password => 'x' });
    ($status, $version, $head, $said) = http2('/auth/login', '-d', $wrong);
    is "$status $version", '401 2', 'a wrong password';
    like $head, qr{^content-type: application/problem\+json\r$}m,
        'as a problem';
    like $head, qr{^www-authenticate: Bearer }m, 'with a challenge';
    is((http2('/auth/login', '-d', '{'))[0], 400, 'malformed');
    # mod_http2 may reset the stream of an unread body before the answer is
    # out, for any handler: 000 in curl
    my $large;
    wait_until {
        ($large) = http2('/auth/login', '-d', 'x' x 20_000);
        $large ne '000';
    } 10;
    is $large, 413, 'too large';
    is((http2('/auth/login'))[0], 405, 'GET');
    is((http2('/auth/login', '-X', 'OPTIONS'))[0], 204, 'OPTIONS');
    is((http2('/auth/register', '-d', json(
        { email => 'h2@example.com', password => $password })))[0], 200,
        'register');

    ($status, $said) = run_command('h2load', '-n', 60, '-c', 3, '-m', 20,
        '-d', $file, '-H', 'content-type: application/json',
        crowd()->url('/auth/login', 'tls') =~ s/^http:/https:/r);
    like $said, qr/status codes: 60 2xx/, 'sixty streams on three connections';
};

# ---- HTTP/1.1

subtest 'a connection that is kept' => sub {
    my $user = new_user();
    my ($login, $register) = map { httpd()->url("/auth/$_") }
        qw(login register);
    my $large = '{"email":"' . 'x' x 9000 . '"}';
    my @cases = (
        ['login', kept($login, body($user)), 200],
        ['wrong password',
            kept($login, { %{ body($user) }, password => 'guess' }), 401],
        ['malformed', kept($login, '{"email"'), 400],
        ['an unread body', kept($login, body($user),
            'Content-Type' => 'text/plain'), 415],
        ['a large body', kept($login, $large), 413],
        ['a large body in chunks',
            chunked($login, chunks($large, 1000), "0\r\n\r\n"), 413],
        ['below the route', kept("$login/x", body($user)), 404],
        ['taken', kept($register, body($user)), 409],
        ['no body', kept($login, ''), 400],
    );
    my $connection = connection();
    for my $case (@cases) {
        my ($name, $bytes, $status) = @$case;
        ok $connection->send($bytes), "$name: sent";
        my $response = $connection->response;
        is $response->{status}, $status, "$name: answered"
            or diag show($response);
        # an unread body may cost the connection, but the reply says so
        $connection = connection()
            if lc($response->{headers}{connection} || '') eq 'close';
    }
    my @logins = map { $connection->send(kept($login, body($user)));
        $connection->response->{status} } 1 .. 5;
    is "@logins", '200 200 200 200 200', 'and the connection continues';
};

subtest 'pipelining' => sub {
    my @users = map { new_user() } 1 .. 2;
    my $login = httpd()->url('/auth/login');
    my $bytes = join '', map { kept($login, $_) } body($users[0]),
        { %{ body($users[0]) }, password => 'guess' }, body($users[1]);
    my @responses = raw('/', $bytes . post_bytes($login, body($users[0])));
    is join(' ', map { $_->{status} } @responses), '200 401 200 200',
        'four in one write' or diag map { show($_) } @responses;
    user_row_ok $responses[0], $users[0]{email}, 'the first one';
    user_row_ok $responses[2], $users[1]{email}, 'the third one';

    @responses = raw('/', map({ \0.01, $_ } $bytes =~ /(.{1,60})/gs),
        post_bytes($login, body($users[0])));
    is join(' ', map { $_->{status} } @responses), '200 401 200 200',
        'in small pieces';
};

subtest 'Expect: 100-continue' => sub {
    my $user = new_user();
    my $login = httpd()->url('/auth/login');
    my $body = json(body($user));
    my $ask = sub {
        my (%header) = @_;
        my ($head) = kept($login, $body, Expect => '100-continue', %header)
            =~ /\A(.*?\r\n\r\n)/s;
        my $connection = connection();
        $connection->send($head);
        return ($connection, $connection->response);
    };
    my ($connection, $response) = $ask->();
    is $response->{status}, 100, 'go on';
    $connection->send($body);
    user_row_ok $connection->response, $user->{email}, 'and it is answered';

    (undef, $response) = $ask->('Content-Type' => 'text/plain');
    is $response->{status}, 415, 'another type: refused without the body';
    (undef, $response) = $ask->('Content-Length' => 100_000);
    is $response->{status}, 413, 'too large: refused without the body';
};

subtest 'chunks' => sub {
    my $user = new_user();
    my $login = httpd()->url('/auth/login');
    my $body = json(body($user));
    my %good = (
        'one'            => [chunks($body, 9999), "0\r\n\r\n"],
        'single bytes'   => [chunks($body, 1), "0\r\n\r\n"],
        'extensions'     => [chunks($body, 7, ';a=b;c="d"'), "0;x\r\n\r\n"],
        'a trailer'      => [chunks($body, 7), "0\r\nX-A: b\r\n\r\n"],
        'leading zeroes' => [sprintf("%08x\r\n%s\r\n", length $body, $body),
            "0000\r\n\r\n"],
    );
    for my $name (sort keys %good) {
        my $connection = connection();
        # each more or less in its own packet
        $connection->send($_)
            for chunked($login) =~ /(.*)/s, @{ $good{$name} };
        is $connection->response->{status}, 200, $name;
        $connection->send(kept($login, $body));
        is $connection->response->{status}, 200, "$name: the next one";
    }
    my $padded = sub {
        my ($size) = @_;
        my $text = '{"email":"x","password":"y","pad":""}';
        my $pad = 'x' x ($size - length $text);
        $text =~ s/""\}/"$pad"}/;
        return chunked($login, chunks($text, 1000), "0\r\n\r\n");
    };
    is((raw('/', $padded->(8192)))[0]{status}, 400, 'as much as may be');
    is((raw('/', $padded->(8193)))[0]{status}, 413, 'one byte more');

    my %bad = (
        'no size'      => "x\r\n$body\r\n0\r\n\r\n",
        'negative'     => "-1\r\n$body\r\n0\r\n\r\n",
        'huge size'    => "ffffffffffffffff\r\n$body\r\n0\r\n\r\n",
        'longer than it says' => sprintf("%x\r\n%s\r\n0\r\n\r\n",
            length($body) - 1, $body),
    );
    for my $name (sort keys %bad) {
        my ($response) = raw('/', chunked($login, $bad{$name}));
        like $response->{status}, qr/^(?:400|413)$/, $name
            or diag show($response);
    }
    my $connection = connection();
    $connection->send(chunked($login, chunks($body, 7)));
    $connection->done_sending;
    isnt $connection->response->{status}, 200, 'no end: not taken as complete';
};

# ---- clients that leave

# How to leave: the connection is closed, reset, or half closed.
my %leave = (
    closes => sub { $_[0]->close },
    resets => sub {
        setsockopt $_[0]->socket, SOL_SOCKET, SO_LINGER, pack 'ii', 1, 0;
        $_[0]->close;
    },
);

subtest 'a client that leaves' => sub {
    for my $vhost (undef, 'tls') {
        for my $how (sort keys %leave) {
            my $name = ($vhost || 'plain') . ", $how";
            my $user = new_user();
            my $url = vhost_url($vhost, '/auth/login');
            double->clear_requests;
            double->fault(kind => 'delay', ms => 300, op => 'token');
            my $connection = connection($url);
            $connection->send(kept($url, body($user)));
            wait_until { scalar(my @r = double->requests('token')) } 10,
                'the login to arrive';
            $leave{$how}->($connection);
            ok wait_until(sub { row_of($user->{id}) }, 10), "$name: login";

            my $email = 'gone' . ++$number . '@example.com';
            $url = vhost_url($vhost, '/auth/register');
            double->fault(kind => 'delay', ms => 300, op => 'signup');
            $connection = connection($url);
            $connection->send(kept($url, { email => $email,
                password => $password }));
            wait_until { scalar(my @r = double->requests('signup')) } 10,
                'the sign-up to arrive';
            $leave{$how}->($connection);
            ok wait_until(sub {
                postgres->value(app =>
                    'SELECT 1 FROM users WHERE email = ?', $email)
            }, 10), "$name: register";
        }
    }
    my $user = new_user();
    my $half = connection();
    $half->send(kept(httpd()->url('/auth/login'), body($user)));
    $half->done_sending;
    user_row_ok $half->response, $user->{email}, 'a half-closed connection';
};

subtest 'an HTTP/2 client that leaves' => sub {
    plan(skip_all => 'mod_http2 does not work with prefork')
        if mpm() eq 'prefork';
    my $user = new_user();
    double->fault(kind => 'delay', ms => 1500, op => 'token');
    my ($status) = curl('--http2', '--max-time', '0.7', '-d',
        json(body($user)), '-H', 'Content-Type: application/json',
        vhost_url('tls', '/auth/login'));
    is $status, 28, 'curl gave up';
    ok wait_until(sub { row_of($user->{id}) }, 10), 'login';
};

# ---- many at once

subtest 'sixty-four at once' => sub {
    my @users = map { new_user() } 1 .. 16;
    my @responses = parallel(64, sub {
        return (crowd()->url('/auth/login'), body($users[$_[0] % 16]));
    });
    my @bad = grep { $_->{status} != 200 } @responses;
    is scalar @bad, 0, 'all are logged in' or diag show($bad[0]);
    my $rows = postgres->value(app =>
        'SELECT count(*) FROM users WHERE id::text = ANY (?)',
        [map { $_->{id} } @users]);
    is $rows, 16, 'each user has one row';
    my %whose = map { $_->{id} => 1 } @users;
    is scalar(grep { !$whose{ $_->{json}{user_id} } } @responses), 0,
        'and nobody got another one\'s answer';
    my @mixed = grep {
        $responses[$_]{json}{user_id} ne $users[$_ % 16]{id}
            || $responses[$_]{json}{session}{user}{id} ne $users[$_ % 16]{id}
    } 0 .. 63;
    is_deeply \@mixed, [], 'but their own';
};

subtest 'graceful restarts under load' => sub {
    my $server = UserSync::Httpd->new(config => module_config)->start;
    my $user = new_user();
    double->fault(kind => 'delay', ms => 30, times => -1);
    my @load = map { UserSync::Background->start(sub {
        my ($job) = @_;
        my %count;
        until ($job->stopping) {
            my $response = post($server->url('/auth/login'), body($user));
            $count{ $response->{error} || $response->{status} }++;
        }
        return \%count;
    }) } 1 .. 6;
    my $served = sub { double->stats->{requests}{token} || 0 };
    my $before = $served->();
    for my $round (1 .. 5) {
        my $now = $served->();
        wait_until { $served->() > $now + 10 } 20, 'load';
        $server->graceful;
    }
    my $now = $served->();
    wait_until { $served->() > $now + 10 } 20, 'load after the last restart';
    my %count;
    for my $job (@load) {
        my $result = $job->result;
        $count{$_} += $result->{$_} for keys %$result;
    }
    is_deeply [keys %count], [200], 'every login of ' . ($served->() - $before)
        or diag explain \%count;
    double->clear_faults;
    $server->stop;
};

done_testing;
