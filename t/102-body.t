# How the request body is received: content type and encoding, size limits with
# and without Content-Length, and bodies that stop or never come.

use UserSync::Test;
use UserSync::Contract;

my @routes = ('/auth/register', '/auth/login');
my $server = UserSync::Httpd->new(
    config => module_config(),
    vhosts => {
        small => "UserSyncMaxBodySize 256\n<Location /auth/login>\n"
            . "UserSyncMaxBodySize 300\n</Location>",
        large => 'UserSyncMaxBodySize 1048576',
        slow  => 'RequestReadTimeout header=20 body=1',
        # httpd's own limits, with the same result
        core  => "RequestReadTimeout header=0 body=0\nTimeout 1\n"
            . 'LimitRequestBody 300',
    },
)->start;

sub at { my ($vhost, $path) = @_; return $server->url($path, $vhost) }

my $json = UserSync::HTTP::encode_json(credentials());
double->add_user(%{ JSON::PP::decode_json($json) });

# The same request in exactly $n bytes: blanks are part of the body.
sub padded { my ($n) = @_; return $json . ' ' x ($n - length $json) }

sub chunked {
    my ($body, $size) = @_;
    my $out = '';
    while (length $body) {
        my $part = substr $body, 0, $size || 100, '';
        $out .= sprintf "%x\r\n%s\r\n", length $part, $part;
    }
    return $out . "0\r\n\r\n";
}

my @chunked = ('Transfer-Encoding' => 'chunked');

# A new account for register, the same one for login.
sub accepted_ok {
    my ($where, $body, $name, @header) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    double->delete_user($_->{id})
        for grep { $where =~ /register/ } double->users;
    my $ok = success_ok post($where, $body, @header), $name, session => 1;
    double->clear_requests;
    return $ok;
}

subtest 'content types' => sub {
    accepted_ok '/auth/login', $json, $_, 'Content-Type' => $_ for
        'application/json', 'application/json; charset=utf-8',
        'application/json;charset=UTF-8', 'Application/JSON',
        'APPLICATION/JSON ; Charset="utf-8"', 'application/json;';
    accepted_ok '/auth/register', $json, 'register',
        'Content-Type' => 'application/json; charset=utf-8';
    for my $path (@routes) {
        problem_ok post($path, $json, 'Content-Type' => $_), 415,
            'unsupported_media_type', "$path: " . (defined $_ ? $_ : 'none')
            for undef, '', 'text/plain', 'text/json', 'application/jsonx',
            'application/problem+json', 'application/vnd.api+json',
            'application/json+x', 'application/x-www-form-urlencoded',
            'multipart/form-data; boundary=x', '*/*', 'json',
            'text/plain; application/json', 'application/json, text/plain';
        problem_ok post($path, 'email=a%40b.c&password=x', 'Content-Type' =>
            'application/x-www-form-urlencoded'), 415,
            'unsupported_media_type', "$path: a form";
    }
    not_asked_ok;
};

subtest 'content encodings' => sub {
    accepted_ok '/auth/login', $json, 'identity',
        'Content-Encoding' => 'identity';
    problem_ok post('/auth/login', $json, 'Content-Encoding' => $_), 415,
        'unsupported_media_type', $_
        for qw(gzip deflate br zstd x-gzip), 'gzip, identity';
    not_asked_ok;
};

subtest 'sizes' => sub {
    my @cases = ([undef, 8192, @routes], [small => 256, $routes[0]],
        [small => 300, $routes[1]], [large => 1_048_576, $routes[1]]);
    for my $case (@cases) {
        my ($vhost, $max, @paths) = @$case;
        for my $path (@paths) {
            my $where = at($vhost, $path);
            my $name = "$path, limit $max";
            accepted_ok $where, padded($max), "$name: just fits";
            accepted_ok $where, chunked(padded($max), 1000),
                "$name: just fits, in chunks", @chunked;
            accepted_ok $where, chunked(padded($max), $max),
                "$name: just fits, in one chunk", @chunked;
            problem_ok post($where, padded($max + 1)), 413, 'body_too_large',
                "$name: a byte too long";
            problem_ok post($where, chunked(padded($max + 1), $_), @chunked),
                413, 'body_too_large', "$name: a byte too long in chunks of $_"
                for 100, 100_000;
            not_asked_ok;
        }
    }
    accepted_ok '/auth/login', chunked($json, 1), 'chunks of a byte', @chunked;
};

subtest 'too large is answered at once' => sub {
    my ($response) = raw('/auth/login', "POST /auth/login HTTP/1.1\r\n"
        . "Host: x\r\nContent-Type: application/json\r\n"
        . "Content-Length: 1000000000\r\nConnection: close\r\n\r\n{");
    problem_ok $response, 413, 'body_too_large', 'it does not wait for 1 GB';
    cmp_ok $response->{elapsed}, '<', 5, 'at once';
    not_asked_ok;
};

subtest 'Expect: 100-continue' => sub {
    my $head = sub {
        my ($length) = @_;
        return "POST /auth/login HTTP/1.1\r\nHost: x\r\n"
            . "Content-Type: application/json\r\nConnection: close\r\n"
            . "Expect: 100-continue\r\nContent-Length: $length\r\n\r\n";
    };
    my $connection = connection('/');
    $connection->send($head->(length $json));
    is $connection->response(10)->{status}, 100, 'the body is asked for';
    $connection->send($json);
    success_ok $connection->response(10), 'and taken', session => 1;
    double->clear_requests;
    $connection = connection('/');
    $connection->send($head->(100_000));
    problem_ok $connection->response(10), 413, 'body_too_large',
        'or refused before it is sent';
    not_asked_ok;
};

subtest 'what is left of a refused body is no request' => sub {
    my $inner = post_bytes('/auth/login', $json);
    my @keep = (Connection => 'keep-alive');
    for my $first (
        [415, 'Content-Type' => 'text/plain'], [413],
        [415, 'Content-Encoding' => 'gzip']) {
        my ($status, @header) = @$first;
        my $body = $status == 413 ? $inner . ' ' x 9000 : $inner;
        my @all = raw('/', post_bytes('/auth/login', $body, @keep, @header),
            post_bytes('/auth/login', 'x'));
        is $all[0]{status}, $status, "refused with $status";
        # httpd may close the connection instead of reading on
        ok @all == 1 || @all == 2 && $all[1]{status} == 400,
            'then the next request, or the end'
            or diag map { show($_) } @all;
    }
    not_asked_ok;
};

subtest 'no body' => sub {
    for my $path (@routes) {
        problem_ok post($path, ''), 400, 'invalid_request', "$path: empty";
        problem_ok post($path, undef, 'Content-Type' => 'application/json'),
            400, 'invalid_request', "$path: none";
        problem_ok post($path, "0\r\n\r\n", @chunked), 400,
            'invalid_request', "$path: no chunks";
    }
    not_asked_ok;
};

# httpd answers these itself, in its own words, before the module can.
subtest 'badly framed' => sub {
    for my $case (
        [400, 'chunk size zz', "zz\r\n$json\r\n0\r\n\r\n"],
        [400, 'chunk size -1', "-1\r\n$json\r\n0\r\n\r\n"],
        [413, 'a huge chunk size', "ffffffffffffffffffff\r\n$json"]) {
        my ($status, $name, $body) = @$case;
        my @all = raw('/', post_bytes('/auth/login', $body, @chunked,
            Connection => 'keep-alive'), post_bytes('/auth/login', 'x'));
        is_deeply [map { $_->{status} } @all], [$status], $name;
    }
    my $connection = connection('/');
    my $bytes = post_bytes('/auth/login', $json);
    $connection->send(substr $bytes, 0, -5);
    $connection->done_sending;
    problem_ok $connection->response(10), 400, 'invalid_request',
        'an end before the end';
    not_asked_ok;
};

# A body that stops, as a list of the parts that are sent.
my $half = substr $json, 0, 20;
my @stopping = (
    ['nothing at all', 'Content-Length' => 100],
    ['half of it', 'Content-Length' => 100, $half],
    ['a chunk without the next', @chunked, sprintf "%x\r\n%s\r\n",
        length $half, $half],
    ['half of a chunk', @chunked, "64\r\n$half"],
    ['all but the last chunk', @chunked, sprintf "%x\r\n%s\r\n",
        length $json, $json],
);

subtest 'a body that stops' => sub {
    my @waiting = map {
        my ($vhost, $case) = @$_;
        my ($name, $header, $value, $sent) = @$case;
        my $path = $routes[@$case % 2];
        my $connection = connection(at($vhost));
        $connection->send("POST $path HTTP/1.1\r\nHost: x\r\n"
            . "Content-Type: application/json\r\n$header: $value\r\n\r\n"
            . ($sent || ''));
        ["$vhost: $name", $connection, time];
    } map { my $case = $_; map { [$_, $case] } qw(slow core) } @stopping;
    for my $case (@waiting) {
        my ($name, $connection, $start) = @$case;
        my $response = $connection->response(10);
        my $elapsed = time - $start;
        problem_ok $response, 408, 'body_timeout', $name;
        cmp_ok $elapsed, '>', 0.5, 'not before the time is over';
        ok $connection->closed(10), 'and the connection is closed';
    }
    not_asked_ok;
};

subtest 'a body that drips' => sub {
    my $bytes = post_bytes(at(slow => '/auth/login'), $json);
    my $head = substr $bytes, 0, -length $json;
    my ($response) = raw(at(slow => '/'), $head,
        map { ($_, \0.15) } split //, substr $json, 0, 12);
    problem_ok $response, 408, 'body_timeout', 'mod_reqtimeout';
    not_asked_ok;
};

subtest 'a client that leaves' => sub {
    for my $path (@routes) {
        my $connection = connection('/');
        $connection->send(substr post_bytes($path, $json), 0, -5);
        $connection->close;
    }
    success_ok post('/auth/login', $json), 'the server continues';
    is scalar(@{ double->requests }), 1, 'Supabase heard of one only';
    double->clear_requests;
};

subtest "httpd's LimitRequestBody" => sub {
    my $where = at(core => '/auth/login');
    accepted_ok $where, padded(300), 'just fits';
    is post($where, padded(301))->{status}, 413, 'too large';
    is post($where, chunked(padded(301)), @chunked)->{status}, 413,
        'too large in chunks';
    not_asked_ok;
};

done_testing;
