# Connections to clients and to Supabase: kept, pipelined, left, with answers of
# any size. What is withheld costs neither a connection nor memory, and nothing
# of it turns up in the next answer.

use UserSync::Background;
use UserSync::Proxied;
use UserSync::Tables qw(scratch_db);
use UserSync::Test;
use UserSync::Upstream;

use Socket qw(SOL_SOCKET SO_LINGER);

my $MAX = 1024 * 1024;

my $db = scratch_db('usersync_connections');
my $upstream = UserSync::Upstream->new;
my $httpd = $upstream->server($db, '', children => 1, vhosts => {
    tls => proxied(to => $upstream->url) . <<"CONF" })->start;
SSLEngine On
SSLCertificateFile "$ENV{USERSYNC_RUN}/tls/server.pem"
SSLCertificateKeyFile "$ENV{USERSYNC_RUN}/tls/server.key"
<IfModule http2_module>
    Protocols h2 http/1.1
</IfModule>
CONF
my $on = $httpd->url;
$httpd->allow_log(qr/AH01110: error reading response/);
$httpd->allow_log(qr/usersync-response: upstream_bad_answer: /);

# A session of exactly this many bytes.
sub session_of {
    my ($bytes, %user) = @_;
    my $text = session_json(%user, pad => '');
    my $pad = 'x' x ($bytes - length $text);
    return $text =~ s/"pad":""/"pad":"$pad"/r;
}

# A session of nobody.
sub unreadable { return session_json() =~ s/"user":/"nobody":/r =~ s/[.]\w+//r }

sub token { return 'access_token=' . token_for(sub => new_id()) }

# ---- kept

subtest 'kept connections' => sub {
    my $cut = sub { $_[0]->send(whole(200, session_json(), $JSON) =~ s/.\z//r);
        $_[0]->close };
    my $link = 'Location: https://app.example.com/#';
    # name, method, path, answer (none: it is not forwarded), status, the
    # number of the connection to the upstream
    my @steps = (
        ['a session', POST => $GRANT, sender(whole(200, session_json(), $JSON)),
            200, 1],
        ['nobody\'s session', POST => $GRANT,
            sender(whole(200, unreadable(), $JSON)), 502, 1],
        ['a stream', POST => '/otp', sender(whole(200, '{}', $JSON)), 200, 1],
        ['a session in chunks', POST => $GRANT, sender(head(200, $CHUNKED),
            chunks(session_json(), 9), "0\r\n\r\n"), 200, 1],
        ['an administrator', POST => '/admin/users', undef, 403],
        ['a link', GET => '/verify', sender(whole(303, 'x', $link . token())),
            303, 1],
        ['nobody\'s link', GET => '/verify',
            sender(whole(303, 'x', "${link}access_token=x")), 303, 1],
        ['an error', POST => $GRANT, sender(whole(422, '{}', $JSON)), 422, 1],
        ['an answer cut off', POST => $GRANT, $cut, 502, 1],
        ['the next session', POST => $GRANT,
            sender(whole(200, session_json(), $JSON)), 200, 2],
        ['an answer without end', POST => $GRANT, \&endless, 502, 2],
        ['the last session', POST => $GRANT,
            sender(whole(200, session_json(), $JSON)), 200, 3],
    );
    my $client = connection($on);
    for my $step (@steps) {
        my ($name, $method, $path, $answer, $status, $number) = @$step;
        my $visit;
        if ($answer) {
            (undef, $visit) = $upstream->visit($on, $method, $path,
                -on => $client);
            is $visit->number, $number, "$name: the upstream's connection";
            $answer->($visit);
        }
        else {
            $client->send(post_bytes("$on/auth/v1$path", '{"a":1}' x 5000,
                Connection => undef));
        }
        my $response = $client->response;
        is $response->{status}, $status, "$name: the client's"
            or diag show($response);
        is $client->arrived, '', "$name: and no more";
    }
    ok !$client->{eof}, 'it is open still';
};

subtest 'pipelined requests' => sub {
    my @answers = (whole(200, session_json(), $JSON),
        whole(200, unreadable(), $JSON), whole(422, '{"a":1}', $JSON),
        whole(200, session_json(), $JSON));
    my $client = connection($on);
    $client->send(join '', map { post_bytes("$on/auth/v1$GRANT", {},
        Connection => undef) } @answers);
    for my $answer (@answers) {
        my $visit = $upstream->next_request;
        # every one before it has been answered
        $visit->send($_) for $answer =~ /(.{1,100})/gs;
    }
    is_deeply [map { $client->response->{status} } @answers],
        [200, 502, 422, 200], 'in their order';
};

# mod_proxy closes a client's connection that it has used before, without an
# answer, where the server behind it does so: browsers then ask again.
subtest 'no answer on a kept connection' => sub {
    $httpd->allow_log(qr/AH01102: error reading status line/);
    my %end = (closes => sub { $_[0]->close }, resets => sub { $_[0]->reset });
    for my $request ([POST => $GRANT], [POST => '/otp'], [GET => '/verify']) {
        for my $how (sort keys %end) {
            # a connection to the upstream that is new, or not
            for my $fresh (0, 1) {
                my ($with, $without) = map {
                    my $where = $httpd->url('', $_);
                    my ($client, $visit) = $upstream->visit($where,
                        POST => '/otp');
                    $visit->send(whole(200, '{}', $JSON,
                        $fresh ? 'Connection: close' : ()));
                    $visit->close if $fresh;
                    $client->response;
                    (undef, $visit) = $upstream->visit($where, @$request,
                        -on => $client);
                    $end{$how}->($visit);
                    all_bytes($client);
                } undef, 'plain';
                is $with, $without, "@$request, $how, "
                    . ($fresh ? 'at once' : 'later');
            }
        }
    }
};

# ---- TLS and HTTP/2

my $tls = $httpd->url('', 'tls') =~ s/^http:/https:/r;

subtest 'TLS' => sub {
    my $text = session_json();
    my ($client, $visit) = $upstream->visit($tls, POST => $GRANT,
        -ca => ca_file());
    $visit->send_slowly(head(200, $JSON, $CHUNKED), chunks($text, 90));
    is $client->arrived, '', 'nothing of a session before its end';
    $visit->send("0\r\n\r\n");
    goes_out_ok $client, $text, 'then all of it';
    (undef, $visit) = $upstream->visit($tls, POST => $GRANT, -on => $client);
    $visit->send(whole(200, unreadable(), $JSON));
    withheld_ok $client->response, 502, 'upstream_bad_answer', 'nobody\'s';
    (undef, $visit) = $upstream->visit($tls, POST => '/otp', -on => $client);
    at_once($client, $visit, head(200, $JSON, $CHUNKED), chunks('{"a":1}', 3),
        "0\r\n\r\n");
    is $client->response->{body}, '{"a":1}', 'a stream, piece by piece';
};

# curl in the background, which asks for these paths, one after the other over
# one connection: (job, file with the bodies).
my $asked = 0;

sub h2 {
    my (@paths) = @_;
    my $file = "$ENV{USERSYNC_RUN}/h2." . ++$asked;
    spew($file, '');
    my @each = map { ('-X', 'POST', '-d', '{}', '-w',
        '%{http_code} %{http_version} %{num_connects}\n', '-o', "$file.$_",
        "$tls/auth/v1$paths[$_]", '--next') } 0 .. $#paths;
    pop @each;
    my @option = ('-sS', '-N', '--http2', '--noproxy', '*', '--cacert',
        ca_file(), '--max-time', 60);
    my @command = ('curl', map { $_ eq '--next' ? ($_, @option) : $_ }
        @option, @each);
    return (UserSync::Background->start(sub { (run_command(@command))[1] }),
        map {"$file.$_"} 0 .. $#paths);
}

subtest 'HTTP/2' => sub {
    plan(skip_all => 'mod_http2 does not work with prefork')
        if mpm() eq 'prefork';
    my $text = session_of($MAX, id => my $id = new_id());
    my ($job, @file) = h2($GRANT, $GRANT, '/otp', $GRANT);
    my $visit = $upstream->next_request;
    $visit->send_slowly(head(200, $JSON, $CHUNKED), chunks($text, 50_000));
    is slurp($file[0]) || '', '', 'nothing of a session before its end';
    $visit->send("0\r\n\r\n");
    $upstream->next_request->send(whole(200, unreadable(), $JSON));
    ok slurp($file[0]) eq $text, 'then all of it';
    is has_row($id), 1, 'with a row';
    $visit = $upstream->next_request;
    is_deeply [sort keys %{ UserSync::Util::read_json($file[1]) }],
        [qw(code error_code message msg)], 'nobody\'s';
    $visit->send(head(200, $JSON, $CHUNKED));
    my $sent = '';
    for my $piece ('{"a":1', ',"b":2', '}') {
        $visit->send(chunks($piece));
        $sent .= $piece;
        wait_until { (slurp($file[2]) || '') eq $sent } 20, 'the piece';
    }
    $visit->send("0\r\n\r\n");
    $visit = $upstream->next_request;
    is slurp($file[2]), $sent, 'a stream, piece by piece';
    $visit->send_slowly(head(200, $JSON, $CHUNKED), chunks(session_json()));
    $visit->close;
    is $job->finished, "200 2 1\n502 2 0\n200 2 0\n502 2 0\n",
        'over one connection';
    unlike slurp($file[3]), qr/_token/, 'nothing of a session that is cut off';
};

# ---- large

# What happens to the memory of the child during a block, in kB: how much more
# it has at most.
sub growth {
    my ($code) = @_;
    my ($child) = $httpd->children;
    my $kb = sub {
        my ($name) = @_;
        my ($n) = slurp("/proc/$child/status") =~ /^$name:\s+(\d+) kB/m;
        return $n;
    };
    spew_in("/proc/$child/clear_refs", 5);    # the peak is what it is now
    my $before = $kb->('VmRSS');
    $code->();
    return $kb->('VmHWM') - $before;
}

sub spew_in {
    my ($file, $text) = @_;
    open my $fh, '>', $file or die "$file: $!";
    print {$fh} $text;
    close $fh or die "$file: $!";
    return;
}

# 1 MiB is kept, and looked at; the rest is what httpd itself takes, which is
# measured with the sanitizers' own memory otherwise.
my $BOUND = $ENV{USERSYNC_HTTPD} ? 1024 * 1024 : 8 * 1024;

sub bounded_ok {
    my ($name, $code) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $kb = growth($code);
    return cmp_ok $kb, '<=', $BOUND, "$name: $kb kB more at most";
}

# Sends a piece again and again until httpd closes the connection, or has read
# far too much.
sub endless {
    my ($visit, $piece, @lines) = @_;
    $piece ||= '{"access_token":"x';
    my $chunk = join '', chunks($piece x 5000);
    my $times = 64 * $MAX / length $chunk;
    $visit->send(head(200, $JSON, $CHUNKED, @lines));
    $times-- while $times > 0 && $visit->send($chunk);
    cmp_ok $times, '>', 0, 'httpd stops reading';
    $visit->close;
    return;
}

subtest 'the largest session' => sub {
    for my $case (['known', sub { whole(200, $_[0], $JSON) }],
        ['chunked', sub { join '', head(200, $JSON, $CHUNKED),
            chunks($_[0], 4001), "0\r\n\r\n" }]) {
        my ($name, $framed) = @$case;
        my $text = session_of($MAX);
        goes_out_ok $upstream->through($on, POST => $GRANT,
            sender($framed->($text))), $text, "$name length: 1 MiB";
        my $client = $upstream->through($on, POST => $GRANT,
            sender($framed->(session_of($MAX + 1, id => my $id = new_id()))));
        withheld_ok $client->response, 502, 'upstream_bad_answer',
            "$name length: one byte more";
        ok !has_row($id), 'and no row';
    }
};

# Each in its own packet takes httpd 8000 bytes if it keeps it as it comes.
subtest 'a session in very many pieces' => sub {
    my $text = session_of($MAX);
    my $bytes = join '', chunks($text, 1), "0\r\n\r\n";
    bounded_ok 'chunks of a byte' => sub {
        goes_out_ok $upstream->through($on, POST => $GRANT, sender(
            head(200, $JSON, $CHUNKED), $bytes)), $text, 'a session';
    };
};

subtest '14 MB' => sub {
    my $large = session_of(14_000_000);
    for my $round (1, 2) {
        bounded_ok "session $round" => sub {
            my ($client, $visit) = $upstream->visit($on, POST => $GRANT);
            ok !$visit->send(whole(200, $large, $JSON)),
                'the upstream sends in vain';
            withheld_ok $client->response, 502, 'upstream_bad_answer',
                'a session';
            ok +(wait_until { $visit->is_closed } 20),
                'its connection is closed';
        };
    }
    my ($client, $visit) = $upstream->visit($on, POST => '/otp');
    my $job = UserSync::Background->start(sub {
        $visit->send(whole(200, $large, $JSON)) });
    my $response = $client->response(120);
    ok $response->{body} eq $large, 'a stream goes out';
    ok $job->finished, 'with all of it';
};

subtest 'without end' => sub {
    for my $case (['a session', POST => $GRANT],
        ['white space', POST => $GRANT, ' '],
        ['a new path', POST => '/new'],
        ['a redirect', GET => '/verify', 'x',
            'Location: https://app.example.com/#' . token()]) {
        my ($name, $method, $path, @answer) = @$case;
        my ($client, $visit) = $upstream->visit($on, $method => $path);
        bounded_ok $name => sub { endless($visit, @answer) };
        next if $name eq 'a redirect';
        withheld_ok $client->response, 502, 'upstream_bad_answer', $name;
    }
    my ($client, $visit) = $upstream->visit($on, POST => $GRANT);
    $visit->send(head(200, $JSON, $CHUNKED) . join '',
        chunks(session_of($MAX + 1), 50_000));
    withheld_ok $client->response, 502, 'upstream_bad_answer',
        'nobody waits for the end';
    $visit->close;
};

# ---- clients that leave

my %LEAVE = (
    closes => sub { $_[0]->close },
    resets => sub {
        setsockopt $_[0]->socket, SOL_SOCKET, SO_LINGER, pack 'ii', 1, 0;
        $_[0]->close;
    },
);

subtest 'clients that leave' => sub {
    my $narrow = $upstream->server($db, <<'CONF')->start;
UserSyncMaxConcurrent 1
UserSyncCircuitBreaker 2 60s
Proxy100Continue Off
CONF
    $narrow->allow_log(qr/AH(?:01110|01102|00898): error reading/i);
    $narrow->allow_log(qr/AH01095: prefetch request body failed/);
    $narrow->allow_log(qr/usersync-response: upstream_bad_answer: .*cut off/);
    $narrow->allow_log(qr/usersync-response: busy: /);
    my $where = $narrow->url;
    my $last = 1;
    my $told = sub {
        my ($what) = @_;
        return scalar grep {/$what/} split /\n/,
            slurp($narrow->dir . '/outcomes') || '';
    };
    # the one seat is free, and the circuit closed
    my $free_ok = sub {
        my ($name) = @_;
        my ($client, $visit);
        # all of a request is over a moment after its line is in the log
        wait_until {
            $client = connection($where, from => '127.0.0.' . ++$last);
            $client->send(post_bytes("$where/auth/v1$GRANT", {}));
            $visit = $upstream->forwarded($client)
        } 20, "a free seat when $name";
        my $text = session_json();
        $visit->send(whole(200, $text, $JSON));
        goes_out_ok $client, $text, "$name: the next one is served";
    };
    my %upstream_does = (
        answers => sub { $_[0]->send(whole(200, session_json(), $JSON)) },
        closes  => sub { $_[0]->close },
        'sends half an answer' => sub {
            $_[0]->send(head(200, $JSON, $CHUNKED) . join '',
                chunks(session_json()));
            $_[0]->close;
        },
    );
    for my $how (sort keys %LEAVE) {
        for my $then (sort keys %upstream_does) {
            my $before = $told->('POST');
            my ($client, $visit) = $upstream->visit($where, POST => $GRANT,
                -from => '127.0.0.' . ++$last);
            my $busy = ask($narrow, POST => $GRANT, {});
            withheld_ok $busy, 503, 'busy', 'the seat is taken';
            $LEAVE{$how}->($client);
            $upstream_does{$then}->($visit);
            wait_until { $told->('POST') == $before + 2 } 20, 'its end';
            $free_ok->("the client $how, Supabase $then");
        }
        my $before = $told->(' 400 POST ');
        my $client = connection($where);
        my ($head) = post_bytes("$where/auth/v1$GRANT", { a => 1 },
            Expect => '100-continue') =~ /\A(.*?\r\n\r\n)/s;
        $client->send($head);
        is $client->response->{status}, 100, 'a client that is not done';
        withheld_ok ask($narrow, POST => $GRANT, {}), 503, 'busy',
            'has taken the seat';
        $LEAVE{$how}->($client);
        wait_until { $told->(' 400 POST ') > $before } 20, 'its end';
        $free_ok->("the client $how in its request");
    }
};

done_testing;
