# Answers as they come to the filter: in pieces, with any framing, cut off,
# without a body. A session stays here until its row is sure; what carries
# nobody goes on at once, byte for byte as mod_proxy alone would send it.

use UserSync::Proxied;
use UserSync::Tables qw(scratch_db waiting_in);
use UserSync::Test;
use UserSync::Upstream;

my $db = scratch_db('usersync_framing');
postgres->sql(postgres => qq{ALTER ROLE "www-data" IN DATABASE $db SET $_})
    for q{statement_timeout = '60s'}, q{lock_timeout = '60s'};

my $upstream = UserSync::Upstream->new;
my $httpd = $upstream->server($db, "UserSyncStoreTimeout 60s\n")->start;
my ($on, $plain) = ($httpd->url, $httpd->url('', 'plain'));

# the lines of what is withheld here
$httpd->allow_log(qr/usersync-response: upstream_bad_answer: .*nobody can say/);

# ---- what is held back

subtest 'a session in pieces' => sub {
    my $text = session_json(my %user = (id => new_id()));
    my @body = (chunks($text, 1 + length($text) / 3), "0\r\n\r\n");
    my ($client, $visit) = $upstream->visit($on, POST => $GRANT);
    my $lock = postgres->connect($db);
    $lock->begin_work;
    $lock->do('LOCK TABLE users IN ACCESS EXCLUSIVE MODE');
    $visit->send_slowly(head(200, $JSON, $CHUNKED), @body);
    is $client->arrived, '', 'nothing goes out before its end';
    wait_until { waiting_in($db) } 20, 'the statement';
    is $client->arrived, '', 'nor before the row is sure';
    $lock->rollback;
    goes_out_ok $client, $text, 'then all of it';
    is_deeply [outcome($httpd)], ['ok', $user{id}], 'noted';
};

subtest 'a session in a redirect' => sub {
    my $id = new_id();
    my $fragment = 'access_token=' . token_for(sub => $id) . '&type=signup';
    my $page = qq{<a href="https://app.example.com/#$fragment">See Other</a>};
    my ($client, $visit) = $upstream->visit($on, GET => '/verify?token=x');
    my $lock = postgres->connect($db);
    $lock->begin_work;
    $lock->do('LOCK TABLE users IN ACCESS EXCLUSIVE MODE');
    $visit->send_slowly(head(303, 'Content-Type: text/html', $CHUNKED,
        "Location: https://app.example.com/#$fragment"), chunks($page, 40),
        "0\r\n\r\n");
    is $client->arrived, '', 'nothing goes out before its end';
    wait_until { waiting_in($db) } 20, 'the statement';
    is $client->arrived, '', 'nor before the row is sure';
    $lock->rollback;
    my $response = $client->response(60);
    is_deeply [@$response{qw(status body)}, $response->{headers}{location},
        has_row($id)], [303, $page, "https://app.example.com/#$fragment", 1],
        'then all of it' or diag show($response);
};

# name => what the upstream sends for a body
my %FRAMING = (
    'of known length'     => sub { (whole(200, $_[0], $JSON)) },
    'in chunks of a byte' => sub {
        (head(200, $JSON, $CHUNKED) . join('', chunks($_[0], 1)) . "0\r\n\r\n")
    },
    'in chunks with extensions and trailers' => sub {
        (head(200, $JSON, $CHUNKED, 'Trailer: X-Sum'),
            (map {s/\r\n/;a="b"\r\n/r} chunks($_[0], 50)),
            "0\r\nX-Sum: 1\r\n\r\n")
    },
    'of HTTP/1.0, to the end of the connection' => sub {
        (head(200, $JSON) =~ s/1[.]1/1.0/r, $_[0], undef)
    },
    'to the end of the connection' => sub {
        (head(200, $JSON, 'Connection: close'), $_[0], undef)
    },
    'with both a length and chunks' => sub {
        (head(200, $JSON, $CHUNKED, 'Content-Length: 5'), chunks($_[0]),
            "0\r\n\r\n")
    },
    'with a bare status line' => sub { ("HTTP/1.1 200\r\n\r\n$_[0]", undef) },
);

for my $name (sort keys %FRAMING) {
    my $text = session_json(name => 'x' x 100);
    goes_out_ok $upstream->through($on, POST => $GRANT,
        sender($FRAMING{$name}->($text))), $text, "a session $name";
}

# ---- what is not

# name, method, path, status, header lines
my @STREAMS = (
    ['an error',              POST => $GRANT, 400, $JSON],
    ['a limit',               POST => $GRANT, 429, $JSON],
    ['a page',                POST => '/new', 200, 'Content-Type: text/html'],
    ['events',                POST => '/new', 200,
        'Content-Type: text/event-stream'],
    ['a mail',                POST => '/otp', 200, $JSON],
    ['the settings',          GET => '/settings', 200, $JSON],
    ['keys without a type',   GET => '/.well-known/jwks.json', 200],
    ['what is deleted',       DELETE => '/factors/1', 200, $JSON],
    ['a preflight',           OPTIONS => $GRANT, 200, $JSON],
    ['a redirect with a code', GET => '/verify', 303,
        'Location: https://app.example.com/?code=1'],
    ['a redirect with an error', GET => '/callback', 302,
        'Location: https://app.example.com/#error=server_error'],
);

for my $stream (@STREAMS) {
    my ($name, $method, $path, $status, @lines) = @$stream;
    my @pieces = (head($status, @lines, $CHUNKED), chunks('{"a":1}{"b":2}', 5),
        "0\r\n\r\n");
    my ($with, $without) = map {
        my ($client, $visit) = $upstream->visit($_, $method, $path);
        at_once($client, $visit, @pieces);
        $client->done_sending;
        all_bytes($client);
    } $on, $plain;
    is $with, $without, "$name: each piece at once, byte for byte";
}

# Where browsers go, too, an answer is looked at: a page is none from its first
# character on.
{
    my ($client, $visit) = $upstream->visit($on, GET => '/verify?token=x');
    $visit->send_slowly(head(200, 'Content-Type: text/html', $CHUNKED));
    at_once($client, $visit, chunks('<html>', 1), chunks('{"a":1}', 7),
        "0\r\n\r\n");
    is $client->response->{body}, '<html>{"a":1}', 'a page for people';
}

# A body that turns out not to be an object goes out from there on.
my %NO_OBJECT = (
    'a list'           => [' ', '[', '{"access_token":1}', ']'],
    'a text'           => ['"', 'access_token', '"'],
    'a number'         => ["\n", '1', '2'],
    'a page'           => ["\r\n\t", '<', 'html>'],
    'bytes'            => ["\0", "\xff"],
);

for my $name (sort keys %NO_OBJECT) {
    my ($start, @rest) = @{ $NO_OBJECT{$name} };
    my ($client, $visit) = $upstream->visit($on, POST => $GRANT);
    $visit->send_slowly(head(200, $JSON, $CHUNKED));
    if ($start =~ /^\s/) {
        $visit->send_slowly(map { chunks($_, 1) } $start);
        is $client->arrived, '', "$name: white space says nothing";
    }
    else { unshift @rest, $start }
    at_once($client, $visit, (map { chunks($_) } @rest), "0\r\n\r\n");
    is $client->response->{body}, join('', @{ $NO_OBJECT{$name} }),
        "$name is not held back";
}

# ---- what begins or ends in an odd way

subtest 'white space and byte order marks' => sub {
    for my $space (' ' x 3000, "\r\n\t ") {
        my $text = $space . session_json();
        goes_out_ok $upstream->through($on, POST => $GRANT, sender(
            $FRAMING{'in chunks of a byte'}->($text))), $text,
            length($space) . ' bytes of white space';
    }
    # the clients' libraries take it off, and read what follows
    my $mark = "\xef\xbb\xbf";
    for my $start ($mark, " $mark", "$mark\n") {
        my $text = $start . session_json(id => my $id = new_id());
        my $client = $upstream->through($on, POST => $GRANT,
            sender($FRAMING{'in chunks of a byte'}->($text)));
        withheld_ok $client->response, 502, 'upstream_bad_answer',
            sprintf 'a byte order mark: %vx', $start;
        ok !has_row($id), 'and no row';
    }
};

subtest 'no JSON' => sub {
    my $text = session_json();
    my %bad = (
        'two sessions'      => $text . $text,
        'something after'   => "$text;",
        'not its end'       => substr($text, 0, -1),
        'single quotes'     => $text =~ s/"/'/gr,
    );
    for my $name (sort keys %bad) {
        my $client = $upstream->through($on, POST => $GRANT,
            sender(whole(200, $bad{$name}, $JSON)));
        withheld_ok $client->response, 502, 'upstream_bad_answer', $name;
    }
    $upstream->untouched_ok(POST => $GRANT, sender(whole(200, $_, $JSON)),
        "no session in '$_'")
        for '', '   ', '{', '{"error":', '{}', '{"user":1}';
};

# mod_proxy takes it for the answer of a very old server, if it has a line.
subtest 'no head' => sub {
    my $text = session_json();
    goes_out_ok $upstream->through($on, POST => $GRANT,
        sender("$text\n", undef)), $text, 'a session alone';
    $httpd->allow_log(qr/AH01102: error reading status line/);
    $upstream->untouched_ok(POST => $GRANT, sender($_, undef),
        'a bad answer: ' . length)
        for 'x' x 10, session_json();
};

subtest 'no body' => sub {
    my $token = 'access_token=' . token_for(sub => my $id = new_id());
    for my $case (
        ['204 for a session', POST => $GRANT, head(204)],
        ['204 for others', POST => '/logout', head(204)],
        ['not modified', GET => '/user', head(304, 'ETag: "1"')],
        ['nothing to show (205)', POST => $GRANT,
            head(205, 'Content-Length: 0')],
        ['an empty 200', POST => $GRANT, head(200, 'Content-Length: 0')],
        ['empty chunks', POST => $GRANT,
            head(200, $JSON, $CHUNKED) . "0\r\n\r\n"],
        ['HEAD', HEAD => '/settings', head(200, $JSON, 'Content-Length: 99')],
        ['HEAD of a link', HEAD => '/verify', head(303, 'Content-Length: 9',
            'Location: https://app.example.com/?code=1')],
    ) {
        my ($name, $method, $path, $answer) = @$case;
        $upstream->untouched_ok($method, $path, sender($answer), $name);
    }
    my $client = $upstream->through($on, HEAD => '/verify', sender(head(303,
        "Location: https://app.example.com/#$token", 'Content-Length: 9')));
    my $response = $client->response(20, 'HEAD');
    like $response->{headers}{location}, qr/\Q$token\E/,
        'HEAD of a link with a session: goes out';
    is has_row($id), 1, 'with a row';
};

subtest 'a part of an answer' => sub {
    my $text = session_json();
    my $half = length($text) / 2;
    my $client = $upstream->through($on, POST => $GRANT, sender(whole(206,
        substr($text, 0, $half), $JSON, 'Content-Range: bytes 0-99/200')));
    withheld_ok $client->response, 502, 'upstream_bad_answer',
        'half a session';
    $client = $upstream->through($on, POST => $GRANT,
        sender(whole(206, $text, $JSON)));
    my $response = $client->response;
    is_deeply [$response->{status}, $response->{body},
        has_row(user_of($response))], [206, $text, 1], 'all of it';
};

subtest 'interim answers' => sub {
    my $interim = "HTTP/1.1 100 Continue\r\n\r\n"
        . "HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n";
    my $text = session_json();
    my ($client, $visit) = $upstream->visit($on, POST => $GRANT);
    $visit->send($interim . head(200, $JSON, $CHUNKED));
    is $client->response->{status}, 103, '103 goes on';
    $visit->send($_) for chunks($text, 90), "0\r\n\r\n";
    goes_out_ok $client, $text, 'and the session after it';
    $upstream->untouched_ok(POST => $GRANT,
        sender($interim . whole(400, '{}', $JSON)), 'an error after it');
};

# ---- what is cut off

# name => how the connection ends
my %END = (closed => sub { $_[0]->close }, reset => sub { $_[0]->reset });
my %CUT = (
    chunks   => sub { head(200, @_, $CHUNKED) },
    'length' => sub { head(200, @_, 'Content-Length: 5000') },
);

sub cut {
    my ($framing, $end, $text, @lines) = @_;
    return sub {
        my ($visit) = @_;
        $visit->send_slowly($CUT{$framing}->(@lines),
            $framing eq 'chunks' ? chunks($text, 60) : $text);
        $END{$end}->($visit);
    };
}

subtest 'cut off' => sub {
    $httpd->allow_log(qr/AH01110: error reading response/);
    $httpd->expect_log(qr/usersync:error\].*upstream_bad_answer.*cut off/);
    for my $framing (sort keys %CUT) {
        for my $end (sort keys %END) {
            my $name = "$framing, $end";
            my $text = session_json(id => my $id = new_id());
            for my $part (substr($text, 0, 100), $text) {
                my $client = $upstream->through($on, POST => $GRANT,
                    cut($framing, $end, $part, $JSON));
                withheld_ok $client->response, 502, 'upstream_bad_answer',
                    "$name: " . length($part) . ' bytes of a session';
                ok !has_row($id), 'and no row';
            }
            my $client = $upstream->through($on, POST => $GRANT,
                cut($framing, $end, '', $JSON));
            withheld_ok $client->response, 502, 'upstream_bad_answer',
                "$name: after the head";
            $upstream->untouched_ok(POST => '/otp',
                cut($framing, $end, '{"a":', $JSON), "$name: a stream");
        }
    }
    my $location = 'https://app.example.com/#access_token='
        . token_for(sub => new_id());
    my $client = $upstream->through($on, GET => '/verify',
        cut('chunks', 'closed', 'See Other', "Location: $location"));
    my $response = $client->response;
    unlike $response->{headers}{location}, qr/access_token/, 'a redirect';
};

subtest 'cut off before there is an answer' => sub {
    $httpd->allow_log(qr/AH0(?:1102|0898)|AH10404|AH01106/);
    for my $start ('', 'HTTP/1.1 2', head(200, $JSON) =~ s/\r\n\r\n\z//r) {
        $upstream->untouched_ok(POST => $GRANT, sender($start, undef),
            sprintf 'after %d bytes', length $start);
    }
};

done_testing;
