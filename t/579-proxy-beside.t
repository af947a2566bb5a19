# What else httpd does with requests and answers: parts of pages, error
# documents, redirects of its own, caches, logs. None of it gets a session past
# the filter, or keeps one.

use UserSync::Proxied;
use UserSync::Tables qw(scratch_db);
use UserSync::Test;
use UserSync::Upstream;

my $db = scratch_db('usersync_beside');
my $upstream = UserSync::Upstream->new;
my $to = $upstream->url;
my $filtered = proxied(to => $to);
my $LINK = 'Location: https://app.example.com/#access_token=';

my $cache = <<"CONF" . $filtered;
CacheRoot "\@DIR\@/cache"
CacheEnable disk "/"
CacheIgnoreNoLastMod On
CacheStorePrivate On
CacheStoreNoStore On
CacheStoreExpired On
ExpiresActive On
ExpiresDefault "access plus 1 hour"
CONF
my $errors = $filtered . <<'CONF';
ErrorDocument 404 /auth/v1/settings
ErrorDocument 502 /sorry.html
ErrorDocument 503 /sorry.html
CONF
my $pages = <<'CONF';
UserSyncMaxConcurrent 4
<Directory "@DIR@/htdocs">
    Options +Includes
    <Files "*.shtml">
        SetOutputFilter INCLUDES
    </Files>
    RewriteEngine On
    RewriteRule "^login$" "/auth/v1/token?grant_type=password" [END]
    FallbackResource "/auth/v1/settings"
</Directory>
CONF
my $httpd = $upstream->server($db, $pages,
    modules => [qw(cache cache_disk expires include)], vhosts => {
        errors => $errors, cache => $cache,
        late => "CacheQuickHandler Off\n$cache" })->start;
my $on = $httpd->url;
mkdir $httpd->dir . '/cache';
chmod 0777, $httpd->dir . '/cache';
$httpd->allow_log(qr/usersync-response: (?:upstream_bad_answer|busy)/);

sub file { return spew($httpd->dir . "/htdocs/$_[0]", $_[1]) }

sub unreadable { return session_json() =~ s/"user":/"nobody":/r =~ s/[.]\w+//r }

# A client that asks for any path, and the upstream's visit.
sub visit {
    my ($method, $url, $body) = @_;
    my $client = connection($url);
    $client->send(UserSync::HTTP::build($method, $url, $body));
    return ($client, $upstream->next_request);
}

# ---- parts of pages, and other requests of httpd's own

subtest 'server-side includes' => sub {
    my $part = sub { qq{<!--#include virtual="/auth/v1/$_[0]" -->} };
    file('page.shtml', '<p>' . join(',', map { $part->($_) } 'settings',
        'user') . '</p>');
    my ($client, $visit) = visit(GET => "$on/page.shtml");
    is "$visit->{method} $visit->{path}", 'GET /auth/v1/settings', 'a part';
    $visit->send_slowly(head(200, $JSON, $CHUNKED), chunks('{"a":1}', 3));
    $visit->send("0\r\n\r\n");
    $visit = $upstream->next_request;
    is $visit->{path}, '/auth/v1/user', 'another part';
    $visit->send(whole(401, '{"b":1}', $JSON));
    is $client->response->{body}, '<p>{"a":1},{"b":1}</p>', 'the page';

    my @refused = ('admin/users', 'verify?token=x&type=magiclink',
        'callback?code=x');
    file('parts.shtml', '<p>' . join(',', map { $part->($_) } @refused,
        'settings') . '</p>');
    $httpd->allow_log(qr/AH01335|include:error/);
    my $from = $httpd->log->mark;
    ($client, $visit) = visit(GET => "$on/parts.shtml");
    is $visit->{path}, '/auth/v1/settings', 'what may be no part is not asked';
    $visit->send(whole(200, '{"a":1}', $JSON));
    like $client->response->{body},
        qr{^<p>(?:\[an error occurred[^,]*,){3}\{"a":1\}</p>$}, 'nor shown';
    my @lines = grep {/usersync-response/} $httpd->log_since($from);
    like $lines[0], qr/admin_not_proxied: a part of a page asks for an admin/,
        'an admin path';
    like $_, qr/not_allowed: a part of a page .*let the page link there/,
        'a session' for @lines[1, 2];
    is @lines, 3, 'a line for each' or diag @lines;
};

subtest 'two places at once' => sub {
    my @to = ($LINK . token_for(sub => new_id()),
        'Location: https://app.example.com/');
    for my $order ([0, 1], [1, 0]) {
        my $response = $upstream->through($on, GET => '/verify?token=x',
            sender(whole(303, '', @to[@$order])))->response;
        unlike show($response), qr/access_token/, 'the session is withheld';
        like $response->{headers}{location}, qr/error_code=upstream_bad_answer/,
            'and the client is told';
    }
    my $response = $upstream->through($on, GET => '/verify?token=x',
        sender(whole(303, '', ($to[1]) x 2)))->response;
    is $response->{status}, 303, 'two without a session pass';
};

subtest 'internal redirects' => sub {
    my ($client, $visit) = visit(POST => "$on/login", { email => 'x' });
    is_deeply [@$visit{qw(method path body)}], ['POST',
        '/auth/v1/token?grant_type=password', '{"email":"x"}'],
        'from another path';
    my $text = session_json();
    $visit->send_slowly(head(200, $JSON, $CHUNKED), chunks($text, 100));
    is $client->arrived, '', 'held back';
    $visit->send("0\r\n\r\n");
    goes_out_ok $client, $text, 'a session';
    ($client, $visit) = visit(POST => "$on/login", {});
    $visit->send(whole(200, unreadable(), $JSON));
    withheld_ok $client->response, 502, 'upstream_bad_answer', 'nobody\'s';

    ($client, $visit) = visit(GET => "$on/nowhere");
    is $visit->{path}, '/auth/v1/settings', 'FallbackResource';
    $visit->send(whole(200, '{"a":1}', $JSON));
    is $client->response->{body}, '{"a":1}', 'the answer';
};

subtest 'error documents' => sub {
    file('sorry.html', 'Sorry!');
    my $where = $httpd->url('', 'errors');
    my ($client, $visit) = visit(GET => "$where/missing");
    is $visit->{path}, '/auth/v1/settings', 'in the proxied tree';
    $visit->send(whole(200, '{"a":1}', $JSON));
    my $response = $client->response;
    # the status is that of what is shown, with mod_proxy
    is_deeply [@$response{qw(status body)}], [200, '{"a":1}'], 'as it came';

    withheld_ok $upstream->through($where, POST => $GRANT,
        sender(whole(200, unreadable(), $JSON)))->response, 502,
        'upstream_bad_answer', 'errors for programs have none';
    # all seats are taken
    my @busy = map { [$upstream->visit($where, POST => $GRANT)] } 1 .. 4;
    withheld_ok ask($httpd, POST => "$where/auth/v1$GRANT", {}), 503, 'busy',
        'nor have those before';
    for my $request ([GET => '/verify?token=x'], [GET => '/callback?code=x'],
        [POST => '/callback', 'code=x'], [POST => '/sso/saml/acs', 'x']) {
        my ($method, $path, $body) = @$request;
        $response = ask($httpd, $method => "$where/auth/v1$path", $body,
            Origin => 'https://app.example.com');
        is_deeply [@$response{qw(status body)},
            @{ $response->{headers} }{qw(content-type
                access-control-allow-origin)},
            $response->{headers}{'retry-after'} ? 'wait' : ''],
            [503, 'Sorry!', undef, undef, 'wait'],
            "but $method $path, for people" or diag show($response);
    }
    for my $busy (@busy) {
        my ($kept, $its) = @$busy;
        my $text = session_json();
        $its->send(whole(200, $text, $JSON));
        goes_out_ok $kept, $text, 'a seat is free again';
    }
};

# ---- caches

# Asks twice; returns both responses, and how often the upstream was asked.
sub twice {
    my ($vhost, $method, $path, @answer) = @_;
    my ($asked, @responses) = (0);
    for my $answer (@answer) {
        my $client = connection($httpd->url('', $vhost));
        $client->send(UserSync::HTTP::build($method, $httpd->url(
            "/auth/v1$path", $vhost), $method eq 'POST' ? '{}' : undef));
        if (my $visit = $upstream->forwarded($client)) {
            $asked++;
            $visit->send($answer);
        }
        push @responses, $client->response;
        # the cache has it now, if at all
        $client->closed(20);
    }
    return ($asked, @responses);
}

my @FRESH = ('Cache-Control: max-age=600, public',
    'Expires: Tue, 01 Jan 2030 00:00:00 GMT');

for my $vhost (qw(cache late)) {
    subtest "mod_cache: $vhost" => sub {
        my ($asked) = twice($vhost, GET => '/settings', map {
            whole(200, '{}', $JSON, @FRESH) } 1, 2);
        is $asked, 1, 'keeps what may be kept';
        ($asked) = twice($vhost, GET => '/authorize', map {
            whole(302, 'Found', 'Location: https://x.test/', @FRESH) } 1, 2);
        is $asked, 1, 'redirects, too';
        for my $headers ([], \@FRESH) {
            my $name = @$headers ? 'to be kept' : 'plain';
            my @text = map { session_json() } 1, 2;
            my ($n, @all) = twice($vhost, POST => $GRANT, map {
                whole(200, $_, $JSON, @$headers) } @text);
            is_deeply [$n, map { $_->{body} } @all], [2, @text],
                "$name: two sessions";
            my @link = map { $LINK . token_for(sub => new_id()) } 1, 2;
            ($n, @all) = twice($vhost, GET => '/verify?token=' . @$headers,
                map { whole(303, 'See Other', $_, @$headers) } @link);
            is_deeply [$n, map { "Location: $_->{headers}{location}" } @all],
                [2, @link], "$name: two sessions in links";
            ($n, @all) = twice($vhost, GET => '/verify?nobody=' . @$headers,
                map { whole(303, 'See Other', "${LINK}x", @$headers) }
                1, 2);
            is_deeply [$n, map { $_->{headers}{location} =~ /(error_code=\w+)/ }
                @all], [2, ('error_code=upstream_bad_answer') x 2],
                "$name: what is withheld";
        }
    };
}

# ---- logs

subtest 'logs' => sub {
    my $verbose = $upstream->server($db, <<'CONF')->start;
LogLevel trace8
LogIOTrackTTFB On
CustomLog "@DIR@/io" "%r %>s %I %O %S %^FB"
CONF
    $verbose->allow_log(qr/usersync-response: upstream_bad_answer:/);
    my $where = $verbose->url;
    my @secrets = ('abcdefghijkl');
    my $token = sub { push @secrets, token_for(@_ ? @_ : (sub => new_id()));
        return $secrets[-1] };
    my $session = sub {
        my $text = session_json(@_);
        push @secrets, $text =~ /"access_token":"([^"]+)/;
        return whole(200, $text, $JSON);
    };
    for my $answer ($session->(), whole(200, unreadable(), $JSON),
        whole(200, '{"access_token":"' . $token->(), $JSON)) {
        $upstream->through($where, POST => $GRANT, sender($answer), -body =>
            { email => 'ada@example.com', password => 'correct horse' },
            Connection => 'close')->response;
    }
    $upstream->through($where, POST => '/new', sender($session->()))->response;
    my @lines = $verbose->log_since;
    my $secret = join '|', 'correct horse', map {quotemeta} @secrets;
    is_deeply [grep {/$secret/} @lines], [], 'no session of a body';
    for my $nobody ([], [email => 'ada@example.com']) {
        $upstream->through($where, GET => '/verify',
            sender(whole(303, '', $LINK . $token->(@$nobody))))->response;
    }
    $secret = join '|', map {quotemeta} @secrets;
    @lines = map { UserSync::Log::parse($_) } grep {/$secret/}
        $verbose->log_since;
    # the headers that came from Supabase, and those of the one that went out
    is_deeply [sort map {"$_->{module}:$_->{level}"} @lines],
        ['http:trace4', ('proxy_http:trace4') x 2],
        'of links, what httpd itself writes of all headers'
        or diag explain \@lines;
    unlike slurp($verbose->dir . "/$_"), qr/$secret/, "$_: none"
        for qw(io outcomes);
    unlike slurp($verbose->access_log), qr/$secret/, 'access log: none';
};

done_testing;
