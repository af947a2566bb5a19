# Other filters around the one that looks at sessions: answers that Supabase
# compresses although nobody asked, what this server compresses or substitutes
# itself, and headers of the site's own.

use UserSync::Proxied;
use UserSync::Tables qw(scratch_db);
use UserSync::Test;
use UserSync::Upstream;

use Compress::Zlib ();

my $GZIP = 'Content-Encoding: gzip';
my $MAX = 1024 * 1024;

my $db = scratch_db('usersync_encodings');
my $upstream = UserSync::Upstream->new;

# vhosts: name => lines in the <Location> that has the filter
my %BESIDE = (
    deflate    => ['SetOutputFilter DEFLATE'],
    bytype     => ['AddOutputFilterByType DEFLATE application/json'],
    inflate    => ['SetOutputFilter INFLATE'],
    again      => ['SetOutputFilter INFLATE;DEFLATE'],
    brotli     => ['SetOutputFilter BROTLI_COMPRESS'],
    substitute => ['SetOutputFilter SUBSTITUTE',
        'Substitute s/old.example.org/new.example.org/n'],
    both       => ['SetOutputFilter SUBSTITUTE;DEFLATE',
        'Substitute s/old.example.org/new.example.org/n'],
    set        => ['Header set Access-Control-Allow-Origin https://site.test',
        'Header set X-Set a', 'Header always set X-Always b',
        'Header onsuccess unset Vary', 'Header set Cache-Control private'],
);
my $httpd = $upstream->server($db, '', modules => [qw(brotli deflate filter
    substitute)], vhosts => { map { $_ => proxied(to => $upstream->url, lines =>
        ['UserSyncEnsureResponse On', @{ $BESIDE{$_} }]) } keys %BESIDE });
my $bare = $upstream->server($db, '');
$_->allow_log(qr/usersync-response: upstream_bad_answer: /)->start
    for $bare, $httpd;
$_->allow_log(qr/AH01110: error reading response/) for $bare, $httpd;

sub gzip { return Compress::Zlib::memGzip($_[0]) }

sub unreadable { return session_json() =~ s/"user":/"nobody":/r =~ s/[.]\w+//r }

# The response to a session of these bytes, through a vhost of a server.
sub through {
    my ($server, $vhost, $answer, %header) = @_;
    my $client = $upstream->through($server->url('', $vhost), POST => $GRANT,
        sender($answer), %header);
    return $client->response(60);
}

sub session_ok {
    my ($response, $text, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $json = eval { JSON::PP::decode_json($text) };
    return is_deeply [@$response{qw(status body)},
        $response->{headers}{'content-encoding'}, has_row($json->{user}{id})],
        [200, $text, undef, 1], $name || diag show($response);
}

# ---- Supabase compresses

subtest 'asked for nothing' => sub {
    my ($client, $visit) = $upstream->visit($httpd->url, POST => $GRANT,
        'Accept-Encoding' => 'gzip, br');
    is $visit->{headers}{'accept-encoding'}, undef, 'a session: not compressed';
    $visit->send(whole(200, '{}', $JSON));
    $client->response;
    ($client, $visit) = $upstream->visit($httpd->url, POST => '/otp',
        'Accept-Encoding' => 'gzip, br');
    is $visit->{headers}{'accept-encoding'}, 'gzip, br', 'others: as asked';
    $visit->send(whole(200, gzip('{}'), $JSON, $GZIP));
    is $client->response->{headers}{'content-encoding'}, 'gzip',
        'and go on so';
};

subtest 'gzip' => sub {
    for my $lines ([$GZIP], ['Content-Encoding: x-gzip'],
        ["\u$GZIP", 'ETag: "1"', 'Content-MD5: 1']) {
        my $text = session_json(name => 'x' x 5000);
        session_ok through($httpd, undef,
            whole(200, gzip($text), $JSON, @$lines)), $text,
            "inflated: @$lines";
        my $id = new_id();
        withheld_ok through($bare, undef, whole(200, gzip(session_json(
            id => $id)), $JSON, @$lines)), 502, 'upstream_bad_answer',
            'without mod_deflate: withheld';
        ok !has_row($id), 'and no row';
    }
    ok scalar(grep {/compressed \(gzip\).* mod_deflate would/}
        $bare->log_since), 'and the log says why';
    my $text = session_json();
    my $wire = join '', head(200, $JSON, $GZIP, $CHUNKED),
        chunks(gzip($text), 1), "0\r\n\r\n";
    session_ok through($httpd, undef, $wire), $text, 'in chunks of a byte';
    withheld_ok through($httpd, undef, whole(200, gzip(unreadable()), $JSON,
        $GZIP)), 502, 'upstream_bad_answer', 'nobody\'s session';
    session_ok through($httpd, 'inflate', whole(200, gzip($text), $JSON,
        $GZIP)), $text, 'beside INFLATE of the site';
};

# Text that does not get much shorter.
sub dense {
    return join '', map { sprintf '%08x', $_ * 2_654_435_761 % 2**32 }
        1 .. $_[0] / 8;
}

# All of a session, with a row, or nothing of one.
sub whole_or_nothing_ok {
    my ($response, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $body = $response->{body} . ($response->{unread} || '');
    my $id = user_of($response);
    return ok $body !~ /_token/ || ($id && has_row($id)), $name
        || diag show($response);
}

subtest 'gzip that is broken' => sub {
    $httpd->allow_log(qr/\[deflate:(?:error|warn)\]/);
    my $text = session_json(name => dense(9000));
    my $good = gzip($text);
    my %broken = (
        'half of it'           => substr($good, 0, length($good) / 2),
        'without its checksum' => substr($good, 0, -8),
        'a wrong checksum'     => substr($good, 0, -8) . 'x' x 8,
        'not gzip'             => $text,
        'two in a row'         => $good . gzip(session_json()),
        'a wrong byte'         => substr($good, 0, 2000) . "\xff\xff"
            . substr($good, 2002),
    );
    for my $name (sort keys %broken) {
        my $wire = $broken{$name};
        whole_or_nothing_ok through($httpd, undef,
            whole(200, $wire, $JSON, $GZIP)), $name;
        my ($client, $visit) = $upstream->visit($httpd->url, POST => $GRANT);
        $visit->send_slowly(head(200, $JSON, $GZIP, $CHUNKED),
            chunks($wire, 1000));
        $visit->close;
        my $response = $client->response;
        unlike $response->{body} . ($response->{unread} || ''), qr/_token/,
            "$name, cut off" or diag show($response);
    }
};

subtest 'gzip that is large' => sub {
    my $empty = session_json(id => my $id = new_id(), pad => '');
    my $sized = sub {
        my $pad = dense($_[0]);
        $pad .= 'x' x ($_[0] - length($empty) - length $pad);
        $pad = substr $pad, 0, $_[0] - length $empty;
        return $empty =~ s/"pad":""/"pad":"$pad"/r;
    };
    my $text = $sized->($MAX);
    session_ok through($httpd, undef, whole(200, gzip($text), $JSON, $GZIP)),
        $text, '1 MiB when inflated';
    withheld_ok through($httpd, undef, whole(200, gzip($sized->($MAX + 1)),
        $JSON, $GZIP)), 502, 'upstream_bad_answer', 'one byte more';
    withheld_ok through($httpd, undef, whole(200, gzip($sized->(9 * $MAX)),
        $JSON, $GZIP)), 502, 'upstream_bad_answer', '9 MiB';
    # mod_deflate's own limit: it breaks off
    my $response = through($httpd, undef,
        whole(200, gzip($empty . 'x' x (50 * $MAX)), $JSON, $GZIP));
    unlike $response->{body} . $response->{unread}, qr/_token/,
        'a thousand times as large';
};

subtest 'other encodings' => sub {
    my $text = session_json();
    for my $line ('Content-Encoding: identity',
        'Content-Encoding: Identity') {
        for my $server ($httpd, $bare) {
            my $response = through($server, undef,
                whole(200, $text, $JSON, $line));
            is_deeply [@$response{qw(status body)},
                has_row(user_of($response))], [200, $text, 1], $line;
        }
    }
    # who does not know the encoding sees no session in there
    my $secret = gzip($text) =~ s/^../br/r;
    for my $lines (['Content-Encoding: br'], ['Content-Encoding: zstd'],
        ['Content-Encoding: deflate'], ['Content-Encoding: aws-chunked'],
        ['Content-Encoding: gzip, br'], ['Content-Encoding: br, gzip'],
        ['Content-Encoding: identity, br'],
        ['Content-Encoding: identity', 'Content-Encoding: br']) {
        my $wire = "@$lines" =~ /br, gzip/ ? gzip($secret) : $secret;
        withheld_ok through($_, undef, whole(200, $wire, $JSON, @$lines)), 502,
            'upstream_bad_answer', "@$lines" for $httpd, $bare;
    }
};

# ---- this server compresses

my %AE = ('Accept-Encoding' => 'gzip');

# The text of a response that may be compressed.
sub text_of {
    my ($response) = @_;
    my $body = $response->{body};
    return ($response->{headers}{'content-encoding'} || '') eq 'gzip'
        ? Compress::Zlib::memGunzip($body) : $body;
}

for my $vhost (qw(deflate bytype again both)) {
    for my $from ('as it is', 'compressed') {
        my $text = session_json(my %user = (id => new_id(),
            name => 'x' x 1000));
        my $answer = $from eq 'as it is' ? whole(200, $text, $JSON)
            : whole(200, gzip($text), $JSON, $GZIP);
        my $response = through($httpd, $vhost, $answer, %AE);
        is_deeply [$response->{status}, text_of($response),
            $response->{headers}{'content-encoding'}, has_row($user{id})],
            [200, $text, 'gzip', 1], "$vhost: a session that came $from"
            or diag show($response);
        session_ok through($httpd, $vhost, $answer), $text,
            'not for a client that does not want it';
    }
    my $response = through($httpd, $vhost, whole(200, unreadable(), $JSON),
        %AE);
    $response->{json} = JSON::PP::decode_json(text_of($response));
    is_deeply [$response->{status}, $response->{json}{code},
        $response->{headers}{'content-type'}],
        [502, 'upstream_bad_answer', 'application/json'],
        "$vhost: an error in place of a session" or diag show($response);
    unlike text_of($response), qr/_token/, 'without one';
}

subtest 'brotli' => sub {
    my $where = $httpd->url('', 'brotli');
    my $text = session_json(my %user = (id => new_id(), name => 'x' x 1000));
    my $response = through($httpd, 'brotli', whole(200, $text, $JSON),
        'Accept-Encoding' => 'br');
    is_deeply [$response->{status}, $response->{headers}{'content-encoding'},
        has_row($user{id})], [200, 'br', 1], 'a session, with a row';
    cmp_ok length $response->{body}, '<', length($text) / 2, 'compressed';
    $response = through($httpd, 'brotli', whole(200, unreadable(), $JSON));
    withheld_ok $response, 502, 'upstream_bad_answer', 'nobody\'s';
};

# ---- this server substitutes

for my $vhost (qw(substitute both)) {
    my $text = session_json(id => my $id = new_id(),
        url => 'https://old.example.org/');
    my $response = through($httpd, $vhost, whole(200, $text, $JSON));
    is_deeply [$response->{status}, $response->{body}, has_row($id)],
        [200, $text =~ s/old[.]example[.]org/new.example.org/r, 1],
        "$vhost: a session" or diag show($response);
    withheld_ok through($httpd, $vhost, whole(200, unreadable(), $JSON)), 502,
        'upstream_bad_answer', "$vhost: nobody's";
}

# ---- headers

# [name, value] of what a response has of these headers
sub headers_of {
    my ($response, $name) = @_;
    return [map { $_->[1] } grep { lc $_->[0] eq lc $name }
        @{ $response->{header_list} }];
}

subtest 'headers' => sub {
    my $cors = 'Access-Control-Allow-Origin';
    my @supabase = ("$cors: *", 'Vary: Origin', 'Set-Cookie: a=b',
        'Access-Control-Expose-Headers: X-Supabase-Api-Version');
    my %answer = (
        'a session' => whole(200, session_json(), $JSON, @supabase),
        'nobody\'s' => whole(200, unreadable(), $JSON, @supabase),
    );
    for my $name (sort keys %answer) {
        my $response = through($httpd, 'set', $answer{$name});
        is_deeply headers_of($response, $cors), ['https://site.test'],
            "$name: one $cors, the site's" or diag show($response);
        is_deeply [map { @{ headers_of($response, $_) } } qw(X-Set X-Always
            Vary Cache-Control Access-Control-Expose-Headers)],
            ['a', 'b', 'private', 'X-Supabase-Api-Version'],
            "$name: set, unset and kept";
        $response = through($httpd, undef, $answer{$name});
        is_deeply headers_of($response, $cors), ['*'],
            "$name: one $cors, Supabase's";
    }
    my $refused = ask($httpd, POST => $httpd->url('/auth/v1/admin/users',
        'set'), {}, Origin => 'https://app.example.com');
    is_deeply [$refused->{status}, headers_of($refused, $cors)],
        [403, ['https://site.test']], 'refused before: the same';
};

done_testing;
