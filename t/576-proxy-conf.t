# conf/usersync-proxy.conf as shipped, before a whole project: sessions come
# with a row, the other services pass as they are, uploads and downloads stream,
# realtime is a WebSocket, and nobody but the project is taken for it.

use IO::Socket::SSL ();

use UserSync::Gateway;
use UserSync::Test;

my $file    = UserSync::Util::top_dir() . '/conf/usersync-proxy.conf';
my $project = UserSync::Gateway->start(double->port);
my @key     = (apikey => double->key('publishable'));

# An httpd with the file for this project; define => {...} for more, edit =>
# [pattern => new] for a change of the file.
sub front {
    my ($url, %arg) = @_;
    my %define = (USERSYNC_SUPABASE_URL => $url,
        USERSYNC_CA_BUNDLE => double->ca_file, %{ $arg{define} || {} });
    my $conf = $file;
    if (my ($pattern, $new) = @{ $arg{edit} || [] }) {
        my $text = slurp($file);
        $text =~ s/$pattern/$new/ or die "$file has no $pattern\n";
        $conf = spew(UserSync::Util::new_dir('conf') . '/edited.conf', $text);
    }
    return join '', module_config(),
        map({"Define $_ $define{$_}\n"} sort keys %define),
        qq{Include "$conf"\n};
}

sub server { return UserSync::Httpd->new(config => front(@_))->start }

my $error = "HTTP/1.1 500 Internal Server Error\r\n"
    . "Content-Type: application/json\r\nContent-Length: 15\r\n\r\n"
    . '{"code":"XX00"}';

sub email { return "user$_[0]\@proxy.example" }

# A new user's session, and their row: it was there before the answer.
sub signs_up_ok {
    my ($httpd, $path, $number, $name, @header) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $response = post($httpd->url($path), { email => email($number),
        password => 'correct horse' }, @key, @header);
    my $json = $response->{json} || {};
    my $row = row_of($json->{user}{id} || '');
    is_deeply [$response->{status}, $row && $row->{email},
        $json->{access_token} ? 'a token' : 'none'],
        [200, email($number), 'a token'], $name or diag show($response);
    return $response;
}

# Reads until this has come, however long it takes.
sub comes_ok {
    my ($connection, $expected, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $in = $connection->{in};
    while ($in !~ $expected) {
        sysread $connection->socket, $in, 65536, length $in or last;
    }
    $connection->{in} = '';
    return like $in, $expected, $name;
}

double->config(autoconfirm => JSON::PP::true);
my $httpd = server($project->url);

subtest 'configtest' => sub {
    my %ca = (USERSYNC_CA_BUNDLE => double->ca_file);
    my $text = module_config() . "Define USERSYNC_CA_BUNDLE "
        . double->ca_file . "\n";
    my $here = UserSync::Httpd->new(config => qq{${text}Include "$file"\n});
    is_deeply [$here->configtest], [0, "Syntax OK\n"], 'as it stands';
    my $inside = UserSync::Httpd->new(config => $text,
        vhosts => { site => qq{Include "$file"\n} });
    is_deeply [$inside->configtest], [0, "Syntax OK\n"], 'in a site';
};

subtest 'auth' => sub {
    double->clear_requests;
    my $response = signs_up_ok($httpd, '/auth/v1/signup', 1, 'a sign-up',
        Cookie => 'session=of-the-site', 'Sb-Forwarded-For' => '192.0.2.1');
    is_deeply [grep {/^sb-auth-/} keys %{ $response->{headers} }], [],
        'headers that name the user are gone';
    my ($request) = double->requests('signup');
    my %header = map { lc($_->[0]) => $_->[1] } @{ $request->{headers} };
    is $header{host}, $project->url =~ s{^http://}{}r,
        'the name of the project';
    is_deeply [@header{qw(cookie sb-forwarded-for)}], [undef, undef],
        'neither cookies nor a forged address';
    $response = post($httpd->url('/auth/v1/token?grant_type=password'),
        { email => email(1), password => 'wrong' }, @key);
    is_deeply [$response->{status}, $response->{json}{error_code}
            || $response->{json}{code}], [400, 'invalid_credentials'],
        'an error of Supabase is as it was' or diag show($response);
    double->clear_requests;
    $response = get($httpd->url('/auth/v1/admin/users'), @key);
    is_deeply [$response->{status}, $response->{json}{code},
            scalar(my @all = double->requests)],
        [403, 'admin_not_proxied', 0], 'admin paths are not forwarded'
        or diag show($response);
};

subtest 'rest, graphql and functions' => sub {
    my $answer = "HTTP/1.1 206 Partial Content\r\nContent-Range: 0-1/5\r\n"
        . "Content-Type: application/json\r\nContent-Length: 7\r\n\r\n[1, 2]\n";
    $project->answers('/rest/v1/todos' => $answer,
        '/functions/v1/hello' => $error);
    my $response = get($httpd->url('/rest/v1/todos?select=id&id=in.(1,"2")'),
        @key, Authorization => 'Bearer x', Range => '0-1',
        'Accept-Profile' => 'crm', Cookie => 'session=of-the-site');
    is_deeply [$response->{status}, $response->{body},
            $response->{headers}{'content-range'}], [206, "[1, 2]\n", '0-1/5'],
        'the answer' or diag show($response);
    my ($request) = $project->requests;
    is_deeply [$request->{path},
            @{ $request->{headers} }{qw(authorization range accept-profile
            cookie)}], ['/rest/v1/todos?select=id&id=in.(1,"2")', 'Bearer x',
            '0-1', 'crm', undef], 'and the request';
    $response = post($httpd->url('/functions/v1/hello'), { n => 1 }, @key);
    is_deeply [$response->{status}, $response->{body}],
        [500, '{"code":"XX00"}'], 'an error of a function is as it was';
    $response = post($httpd->url('/graphql/v1'), { query => '{}' }, @key);
    is_deeply [$response->{status}, ($project->requests)[-1]{path}],
        [200, '/graphql/v1'], 'graphql';
};

subtest 'an upload streams' => sub {
    my $half = 'x' x 262_144;
    $project->answers('/storage/v1/object/files/a b.bin' => '',
        '/storage/v1/upload/resumable' => "HTTP/1.1 201 Created\r\nLocation: "
            . $project->url . "/storage/v1/upload/resumable/1\r\n"
            . "Content-Length: 0\r\n\r\n");
    my $before = $project->received;
    my $connection = connection($httpd->url);
    $connection->send("POST /storage/v1/object/files/a%20b.bin HTTP/1.1\r\n"
        . "Host: localhost\r\nContent-Type: application/octet-stream\r\n"
        . 'Content-Length: ' . 2 * length($half) . "\r\n\r\n$half");
    ok((wait_until { $project->received > $before } 20),
        'the first half arrives before the second is sent');
    $connection->send($half);
    is $connection->response(20)->{status}, 200, 'then the rest';
    my $request = ($project->requests)[-1];
    is_deeply [@$request{qw(path length)}],
        ['/storage/v1/object/files/a%20b.bin', 2 * length $half],
        'all of it, under its name';
    my $response = post($httpd->url('/storage/v1/upload/resumable'), '', @key);
    is $response->{headers}{location},
        $httpd->url('/storage/v1/upload/resumable/1'),
        'one that can be resumed goes on here';
};

subtest 'a download streams' => sub {
    $project->answers('/functions/v1/events' => "HTTP/1.1 200 OK\r\n"
        . "Content-Type: text/event-stream\r\n"
        . "Transfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n"
        . "HOLD6\r\nsecond\r\n0\r\n\r\n");
    my $connection = connection($httpd->url);
    $connection->send("GET /functions/v1/events HTTP/1.1\r\n"
        . "Host: localhost\r\n\r\n");
    comes_ok $connection, qr/\bfirst\b/,
        'the first piece, while there is no other';
    $project->go;
    comes_ok $connection, qr/\bsecond\b/, 'then the second';
};

subtest 'realtime' => sub {
    my $connection = connection($httpd->url);
    $connection->send("GET /realtime/v1/websocket?vsn=1.0.0 HTTP/1.1\r\n"
        . "Host: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        . "Sec-WebSocket-Version: 13\r\n"
        . "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
    my $response = $connection->response(20, 'GET');
    is_deeply [$response->{status},
            $response->{headers}{'sec-websocket-accept'}],
        [101, 's3pPLMBiTxaQ9kYGzzhZRbK+xOo='], 'a WebSocket'
        or diag show($response);
    for my $text (qw(one two)) {
        $connection->send("$text\n");
        comes_ok $connection, qr/\A$text\n\z/, "there and back: $text";
    }
    $response = post($httpd->url('/realtime/v1/api/broadcast'), {}, @key);
    is $response->{status}, 200, 'and plain requests' or diag show($response);
};

subtest 'where other applications are proxied otherwise' => sub {
    my $beside = UserSync::Httpd->new(config =>
        "ProxyErrorOverride On\nProxyPreserveHost On\n" . front($project->url))
        ->start;
    $project->answers('/functions/v1/hello' => $error);
    double->clear_requests;
    my $wrong = post($beside->url('/auth/v1/token?grant_type=password'),
        { email => email(1), password => 'wrong' }, @key);
    my ($request) = double->requests('token');
    my ($host) = map { $_->[1] } grep { lc $_->[0] eq 'host' }
        @{ $request->{headers} };
    my $failed = post($beside->url('/functions/v1/hello'), { n => 1 }, @key);
    is_deeply [@$failed{qw(status body)}], [500, '{"code":"XX00"}'],
        'errors are those of the project';
    is $wrong->{headers}{'content-type'}, 'application/json', 'of Auth, too';
    is_deeply [$host, ($project->requests)[-1]{headers}{host}],
        [($project->url =~ s{^http://}{}r) x 2], 'and so is the name';
};

subtest 'below a path' => sub {
    my $below = server($project->url,
        define => { USERSYNC_PROXY_BASE => '/supabase/' });
    signs_up_ok($below, '/supabase/auth/v1/signup', 2, 'a sign-up');
    is get($below->url('/supabase/rest/v1/x'), @key)->{status}, 200, 'rest';
    is get($below->url('/auth/v1/settings'), @key)->{status}, 404,
        'and not without it';
};

# Report, and the log that docs/supabase-clients.md makes of it.
subtest 'Report' => sub {
    my $dir = UserSync::Util::new_dir('log');
    my $report = UserSync::Httpd->new(
        env => { APACHE_LOG_DIR => $dir },
        config => front($project->url, edit => [qr/(?<=EnsureResponse )On/
            => 'Report']) . in_page(qr/^LogFormat/m))->start;
    my $response = post($report->url('/auth/v1/signup'),
        { email => email(3), password => 'correct horse' }, @key);
    is $response->{status}, 200, 'a sign-up' or diag show($response);
    my $id = $response->{json}{user}{id};
    ok((wait_until { row_of($id) } 20), 'the row follows');
    my $log = "$dir/usersync-clients.log";
    like +(wait_until { slurp($log) } 20, 'the line in the log'),
        qr{\Aok 1 200 POST /auth/v1/signup $id \d+ \[}, 'and is logged';
    get($report->url('/auth/v1/settings'), @key);
    is scalar(my @lines = split /\n/, slurp($log)), 1,
        'what carries nobody is not';
};

# The block of configuration in docs/supabase-clients.md that has this.
sub in_page {
    my ($pattern) = @_;
    my ($block) = grep {/$pattern/} slurp(UserSync::Util::top_dir()
            . '/docs/supabase-clients.md') =~ /^```apache\n(.*?)^```$/msg;
    return $block || die "docs/supabase-clients.md has no $pattern\n";
}

# ---- TLS

# A chain of a root, an intermediate authority and a server: (root, chain, key)
sub chain {
    my $dir = UserSync::Util::new_dir('chain');
    my $new = '-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes';
    my $ca = 'basicConstraints=critical,CA:TRUE';
    spew("$dir/ca.ext", "$ca\nkeyUsage=critical,keyCertSign\n");
    spew("$dir/server.ext", "subjectAltName=DNS:localhost\n");
    my $sign = sub {
        my ($name, $by, $ext) = @_;
        return "openssl req $new -subj /CN=$name -keyout $name.key "
            . "-out $name.csr && openssl x509 -req -in $name.csr -CA $by.pem "
            . "-CAkey $by.key -CAcreateserial -days 2 -extfile $ext "
            . "-out $name.pem";
    };
    my ($status, $said) = run_command('sh', '-e', '-c', "cd '$dir'\n"
        . "openssl req -x509 $new -days 2 -subj /CN=root -addext $ca "
        . "-keyout root.key -out root.pem\n"
        . $sign->('between', 'root', 'ca.ext') . "\n"
        . $sign->('server', 'between', 'server.ext') . "\n"
        . "cat server.pem between.pem >chain.pem\n");
    die $said if $status;
    return map {"$dir/$_"} qw(root.pem chain.pem server.key);
}

subtest 'the project is who it says' => sub {
    my $good = server(double->https_url('good', 'localhost'));
    signs_up_ok($good, '/auth/v1/signup', 4, 'a good certificate');
    my ($url, $ca) = (double->https_url('good', 'localhost'), double->ca_file);
    (my $lines = in_page(qr/^SSLProxyVerify/m)) =~ s/^DBD.*\n//mg;
    $lines =~ s{https://abcdefgh[.]supabase[.]co}{$url};
    $lines =~ s{/etc/ssl/certs/ca-certificates[.]crt}{$ca};
    my $page = UserSync::Httpd->new(config => module_config() . $lines)->start;
    signs_up_ok($page, '/auth/v1/signup', 6, 'with the lines in the page');
    for my $kind (qw(wrong_name unknown_ca expired)) {
        my $bad = server(double->https_url($kind, 'localhost'));
        $bad->expect_log(qr/AH00898: Error during SSL Handshake/);
        $bad->allow_log(qr/AH0(?:1084|1097): pass request body failed/);
        $bad->allow_log(qr/AH02039: Certificate Verification/);
        double->clear_requests;
        my $response = post($bad->url('/auth/v1/signup'),
            { email => email(5), password => 'correct horse' }, @key);
        is_deeply [$response->{status} >= 500 ? 'refused' : 'let through',
                scalar(my @all = double->requests)], ['refused', 0], $kind
            or diag show($response);
    }
};

subtest 'an intermediate authority' => sub {
    my ($root, $chain, $key) = chain();
    my $listener = IO::Socket::SSL->new(LocalAddr => '127.0.0.1',
        LocalPort => 0, Listen => 16, ReuseAddr => 1, SSL_server => 1,
        SSL_cert_file => $chain, SSL_key_file => $key)
        or die IO::Socket::SSL::errstr();
    my $port = $listener->sockport;
    my $job = UserSync::Background->start(sub {
        while (!$_[0]->stopping) {
            next unless IO::Select->new($listener)->can_read(0.05);
            my $client = $listener->accept or next;
            sysread $client, my $in, 65536;
            print {$client} "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
            close $client;
        }
    });
    close $listener;
    my $httpd = server("https://localhost:$port",
        define => { USERSYNC_CA_BUNDLE => $root });
    my $response = get($httpd->url('/rest/v1/x'), @key);
    is $response->{status}, 200, 'is in order' or diag show($response);
};

done_testing;
