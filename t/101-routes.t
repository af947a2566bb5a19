# Which methods and paths are the route, what the front server adds to its
# replies (CORS, ErrorDocument, realm), and where the request id comes from.

use UserSync::Test;
use UserSync::Contract;

my @routes = ('/auth/register', '/auth/login');
my $who = credentials();
double->add_user(%$who);

my $pages = join '', map {"ErrorDocument $_ \"a page of the site\"\n"}
    400, 401, 403, 404, 405, 409, 413, 415, 422, 429, 500, 502, 503, 504;
my $local = $pages;
$local =~ s/"a page of the site"/\/page.html/g;
my $server = UserSync::Httpd->new(
    modules => ['unique_id'],
    config => module_config(),
    vhosts => {
        pages => $pages,
        local => $local,
        cors  => <<'CONF',
Header always set Access-Control-Allow-Origin "https://app.example"
Header always set Access-Control-Allow-Methods "POST"
Header always set Access-Control-Allow-Headers "content-type"
Header always set Vary "Origin"
CONF
        realm => "<Location /auth>\n    AuthName \"Members only\"\n"
            . '</Location>',
        ids   => 'Header always set X-Unique "%{UNIQUE_ID}e"',
    },
)->start;
UserSync::Util::spew($server->dir . '/htdocs/page.html', 'a page of the site');
$server->allow_log(upstream_lines());

sub wrong_password { return { %$who, password => 'a guess' } }

subtest 'OPTIONS' => sub {
    for my $path (@routes) {
        my $response = request(OPTIONS => $path);
        is $response->{status}, 204, $path or diag show($response);
        is_deeply [reply_complaints($response)], [], 'headers';
        is $response->{body}, '', 'no body';
        is $response->{headers}{'content-type'}, undef, 'no content type';
        is $response->{headers}{'content-length'}, undef,
            'no content length (RFC 9110, 8.6)';
        is request(OPTIONS => $path, 'x' x 100)->{status}, 204,
            'whatever is in its body';
    }
    not_asked_ok;
};

subtest 'other methods' => sub {
    for my $path (@routes) {
        problem_ok request($_ => $path), 405, 'method_not_allowed',
            "$_ $path" for qw(GET PUT DELETE PATCH TRACE PROPFIND FOO post);
        problem_ok request(PUT => $path, $who), 405, 'method_not_allowed',
            "PUT $path with a body";
        problem_ok request(HEAD => $path), 405, '', "HEAD $path", head => 1;
    }
    not_asked_ok;
};

subtest 'below the route' => sub {
    for my $path (map { ("$_/", "$_/x", "$_/x/y", "$_/x?y=z") } @routes) {
        problem_ok post($path, $who), 404, 'not_found', "POST $path";
        problem_ok request($_ => $path), 404, 'not_found', "$_ $path"
            for qw(GET OPTIONS);
    }
    not_asked_ok;
};

subtest 'beside the route' => sub {
    for my $path ('/auth/loginx', '/auth', '/auth/', '/auth/login;x',
        '/AUTH/LOGIN', '/auth/login%2fx', '/auth/login%00', '/login') {
        my $response = post($path, $who);
        is $response->{status}, 404, "$path is not ours";
        is $response->{headers}{'x-request-id'}, undef, 'at all';
    }
    not_asked_ok;
};

subtest 'other ways to write the path' => sub {
    success_ok post($_, $who), $_ for '/auth/login', '/auth/login?',
        '/auth/login?a=b&c', '/auth/%6Cogin', '//auth///login',
        '/auth/./login', '/x/../auth/login', '/auth/login/../login';
};

subtest 'a connection is used again' => sub {
    my $good = post_bytes('/auth/login', $who, Connection => 'keep-alive');
    my $bad = post_bytes('/auth/login', wrong_password(),
        Connection => 'keep-alive');
    my $get = "GET /auth/login HTTP/1.1\r\nHost: x\r\n\r\n";
    my $end = post_bytes('/auth/login', $who);
    my @all = raw('/', $good, $bad, $get, $good, $end);
    is_deeply [map { $_->{status} } @all], [200, 401, 405, 200, 200],
        'pipelined';
    is_deeply [map { reply_complaints($_) } @all], [],
        'each with headers of its own';
};

subtest 'HTTP/1.0' => sub {
    my $body = UserSync::HTTP::encode_json($who);
    my ($response) = raw('/', "POST /auth/login HTTP/1.0\r\n"
        . "Content-Type: application/json\r\nContent-Length: "
        . length($body) . "\r\n\r\n$body");
    success_ok $response, 'a login', session => 1;
};

subtest 'HTTP/2' => sub {
    plan skip_all => 'prefork has none' if mpm() eq 'prefork';
    my @post = ('--http2', '-X', 'POST', '-H',
        'Content-Type: application/json', '-d');
    my (undef, $said) = curl(@post, UserSync::HTTP::encode_json($who), '-w',
        ' %{http_version} %{http_code}', vhost_url('tls', '/auth/login'));
    like $said, qr/\A\{"user_id".*\} 2 200\z/s, 'a login';
    (undef, $said) = curl(@post, 'x', '-w', ' %{http_version} %{http_code}'
        . ' %{content_type}', vhost_url('tls', '/auth/login'));
    like $said, qr{"code":"invalid_request".* 2 400 application/problem\+json},
        'an error';
};

subtest 'the request id' => sub {
    my $mark = log_mark();
    my $response = post('/auth/login', wrong_password(),
        'X-Request-Id' => 'chosen-by-the-client');
    problem_ok $response, 401, 'invalid_credentials', 'an error';
    my $id = $response->{headers}{'x-request-id'};
    like $id, qr/\A[0-9a-f]{32}\z/, '128 bits';
    my @lines;
    wait_until { @lines = grep {/usersync:/} log_since($mark) } 10,
        'the log line';
    ok scalar(grep {/\Q$id\E/} @lines), 'is in our log line';
    ok !(grep {/chosen-by-the-client/} @lines), "the client's is not";
    my $success = post('/auth/login', $who,
        'X-Request-Id' => ['chosen-by-the-client', 'twice']);
    success_ok $success, 'a success has one';
    unlike $success->{headers}{'x-request-id'}, qr/chosen/, "not the client's";
    my %id = map { $_->{headers}{'x-request-id'} => 1 }
        parallel(40, sub { ('/auth/login', 'x') });
    is scalar keys %id, 40, 'all are different';
};

subtest "mod_unique_id's request id" => sub {
    for my $body ($who, wrong_password(), 'x') {
        my $mark = $server->log->mark;
        my $response = post($server->url('/auth/login', 'ids'), $body);
        my $id = $response->{headers}{'x-unique'};
        is $response->{headers}{'x-request-id'}, $id,
            "the one for $response->{status}";
        is_deeply [reply_complaints($response, 'x-unique')], [], 'headers';
        my @lines;
        wait_until {
            @lines = grep {/usersync:\w+\].*\Q$id\E/}
                $server->log_since($mark)
        } 10, 'the log line';
        ok scalar @lines, 'is in our log line';
    }
};

subtest 'ErrorDocument is not used' => sub {
    for my $vhost (qw(pages local)) {
        my $url = sub { $server->url($_[0], $vhost) };
        my $login = $url->('/auth/login');
        is get($url->('/nowhere'))->{body}, 'a page of the site',
            "$vhost: it would be";
        problem_ok post($login, 'x'), 400, 'invalid_request', 'a 400';
        problem_ok post($login, wrong_password()), 401,
            'invalid_credentials', 'a 401';
        problem_ok post("$login/x", $who), 404, 'not_found', 'a 404';
        problem_ok get($login), 405, 'method_not_allowed', 'a 405';
        problem_ok post($url->('/auth/register'), $who), 409,
            'user_already_exists', 'a 409';
        problem_ok post($login, ' ' x 9000), 413, 'body_too_large', 'a 413';
        problem_ok post($login, 'x', 'Content-Type' => 'text/plain'), 415,
            'unsupported_media_type', 'a 415';
        problem_ok post($url->('/auth/register'),
            credentials(password => 'x')), 422, 'weak_password', 'a 422';
        double->fault(kind => 'html', status => $_) for 429, 500, 402;
        problem_ok post($login, $who), 429, 'over_request_rate_limit', 'a 429';
        problem_ok post($login, $who), 502, 'upstream_bad_answer', 'a 502';
        problem_ok post($login, $who), 503, 'upstream_unavailable', 'a 503';
    }
};

subtest 'CORS by mod_headers' => sub {
    my %cors = ('access-control-allow-origin' => 'https://app.example',
        'access-control-allow-methods' => 'POST', vary => 'Origin',
        'access-control-allow-headers' => 'content-type');
    my $login = $server->url('/auth/login', 'cors');
    my @preflight = (Origin => 'https://app.example',
        'Access-Control-Request-Method' => 'POST',
        'Access-Control-Request-Headers' => 'content-type');
    double->fault(kind => 'html');
    my @all = (
        [204, request(OPTIONS => $login, undef, @preflight)],
        [502, post($login, $who, @preflight[0, 1])],
        [200, post($login, $who, @preflight[0, 1])],
        [401, post($login, wrong_password(), @preflight[0, 1])],
        [400, post($login, 'x', @preflight[0, 1])],
        [415, post($login, 'x', 'Content-Type' => 'text/plain')],
        [413, post($login, ' ' x 9000)],
        [405, get($login)],
        [404, get("$login/x")],
    );
    for my $case (@all) {
        my ($status, $response) = @$case;
        is $response->{status}, $status, "status $status";
        my %got = map { $_ => $response->{headers}{$_} } keys %cors;
        is_deeply \%got, \%cors, 'has the headers, once';
        is_deeply [reply_complaints($response, keys %cors)], [],
            'and its own';
    }
};

subtest 'the realm' => sub {
    my $response = post('/auth/login', wrong_password());
    unlike $response->{headers}{'www-authenticate'}, qr/Basic/i, 'no Basic';
    $response = post($server->url('/auth/login', 'realm'), wrong_password());
    is $response->{headers}{'www-authenticate'},
        'Bearer realm="Members only"', 'is AuthName';
};

# httpd cuts a 200 to the requested range; half a session is useless.
subtest 'a Range is not obeyed' => sub {
    my $who = credentials();
    double->add_user(%$who);
    for my $header ('Range', 'Request-Range') {
        success_ok post('/auth/login', $who, $header => 'bytes=0-20'),
            $header;
    }
};

done_testing;
