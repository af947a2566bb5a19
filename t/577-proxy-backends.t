# Ways to forward, and backends that fail: the filter finds its requests however
# mod_proxy gets them; what mod_proxy answers itself goes out as it is; and what
# that says about Supabase opens and closes the circuit.

use UserSync::Proxied;
use UserSync::Tables qw(scratch_db);
use UserSync::Test;
use UserSync::Upstream;

my $db = scratch_db('usersync_backends');
my $upstream = UserSync::Upstream->new;
my $path = UserSync::Util::new_dir('unix') . '/socket';
my $local = UserSync::Upstream->new(path => $path);
my ($port, $to) = ($upstream->port, $upstream->url);

sub unreadable { return session_json() =~ s/"user":/"nobody":/r =~ s/[.]\w+//r }

# ---- ways to forward

my $section = <<'CONF';
<Location "/auth/v1/">
    UserSyncEnsureResponse On
</Location>
CONF

# name => lines of a vhost
my %WAY = (
    'ProxyPass'      => qq{ProxyPass "/auth/v1/" "$to"\n$section},
    'for the server' => qq{ProxyPass "/" "http://127.0.0.1:$port/"\n}
        . 'UserSyncEnsureResponse On',
    'nocanon'        => qq{ProxyPass "/auth/v1/" "$to" nocanon\n$section},
    'ProxyPassMatch' => qq{ProxyPassMatch "^/auth/v1/(.*)" "$to\$1"\n$section},
    'RewriteRule'    => <<"CONF" . $section,
RewriteEngine On
RewriteRule "^/auth/v1/(.*)" "$to\$1" [P]
CONF
    'another path'   => <<"CONF",
RewriteEngine On
RewriteRule "^/auth/v1/(.*)" "/supabase/\$1" [PT]
ProxyPass "/supabase/" "$to"
<Location "/supabase/">
    UserSyncEnsureResponse On
</Location>
CONF
    'no gateway'     => proxied(to => "http://127.0.0.1:$port/"),
    'a balancer'     => <<"CONF",
<Proxy "balancer://supabase">
    BalancerMember "http://127.0.0.1:$port"
</Proxy>
@{[proxied(to => 'balancer://supabase/auth/v1/')]}
CONF
    'a Unix socket'  => proxied(to => "unix:$path|http://localhost/auth/v1/"),
    '<Proxy>'        => <<"CONF",
ProxyPass "/auth/v1/" "$to"
<Proxy "$to*">
    UserSyncEnsureResponse On
</Proxy>
CONF
    'SetHandler'     => <<"CONF",
<Location "/auth/v1/">
    SetHandler "proxy:http://127.0.0.1:$port"
    UserSyncEnsureResponse On
</Location>
CONF
);
my %VHOST = map { $_ => s/\W+//gr } keys %WAY;

my $httpd = proxied_server($db, to => $to, config => <<'CONF',
UserSyncCircuitBreaker Off
UserSyncMaxPerClient Off
CONF
    modules => [qw(proxy_balancer slotmem_shm lbmethod_byrequests)],
    vhosts => { map { $VHOST{$_} => $WAY{$_} } keys %WAY })->start;
$httpd->allow_log(qr/usersync-response: upstream_bad_answer: .*nobody can say/);

for my $way (sort keys %WAY) {
    my $where = $httpd->url('', $VHOST{$way});
    my $server = $way =~ /socket/ ? $local : $upstream;
    subtest $way => sub {
        my $text = session_json();
        my ($client, $visit) = $server->visit($where, POST => $GRANT);
        my $prefix = $way eq 'no gateway' ? '' : '/auth/v1';
        like $visit->{path}, qr{\Q$prefix$GRANT\E\z}, 'what is asked'
            if $way ne 'SetHandler';
        $visit->send($_) for head(200, $JSON, $CHUNKED), chunks($text, 100),
            "0\r\n\r\n";
        goes_out_ok $client, $text, 'a session';
        withheld_ok $server->through($where, POST => $GRANT,
            sender(whole(200, unreadable(), $JSON)))->response, 502,
            'upstream_bad_answer', 'nobody\'s session';
        my $id = new_id();
        my $link = 'https://app.example.com/#access_token=';
        my $token = token_for(sub => $id);
        my $response = $server->through($where, GET => '/verify?token=x',
            sender(whole(303, '', "Location: $link$token")))->response;
        is_deeply [$response->{headers}{location}, has_row($id)],
            ["$link$token", 1], 'a session in a link';
        $response = $server->through($where, GET => '/callback?code=x',
            sender(whole(302, '', "Location: ${link}x")))->response;
        like $response->{headers}{location},
            qr/#error=server_error&error_code=upstream_bad_answer/,
            'nobody\'s link';
        ($client, $visit) = $server->visit($where, POST => '/otp');
        at_once($client, $visit, head(200, $JSON, $CHUNKED),
            chunks('{"a":1}', 4), "0\r\n\r\n");
        is $client->response->{body}, '{"a":1}', 'a stream';
        withheld_ok ask($httpd, POST => "$where/auth/v1/admin/users", {}), 403,
            'admin_not_proxied', 'an administrator';
    };
}

# ---- backends that fail

my $refusing = 'http://127.0.0.1:' . reserve_port() . '/auth/v1/';
my $slow = UserSync::Upstream->new; # mod_proxy waits a second for it
my $CODE = 'x-sb-error-code: unexpected_failure';
my $HTML = 'Content-Type: text/html';

sub page { return sender(whole($_[0], '<html>', $HTML, @_[1 .. $#_])) }

# name, whether it counts, what the upstream does (none: it is not asked), the
# status that clients get, which upstream
my @FAILURE = (
    ['nobody listens',    1, undef, 503],
    ['closes',            1, sub { $_[0]->close }, 502],
    ['resets',            1, sub { $_[0]->reset }, 502],
    ['says nothing',      1, sub { }, 502, $slow],
    ['stops in the head', 1, sender('HTTP/1.1 200 OK'), 502, $slow],
    ['stops in the body', 1, sender(head(200, $JSON, $CHUNKED)), 502, $slow],
    ['is no server',      0, sender("SSH-2.0\r\n", undef), 200],
    ['cuts off',          1, sender(head(200, $JSON, $CHUNKED), undef), 502],
    ['502 of a gateway',  1, page(502), 502],
    ['503 of a gateway',  1, page(503), 503],
    ['504 of a gateway',  1, page(504), 504],
    ['522 of the edge',   1, page(522), 522],
    ['an error',          0, page(500), 500],
    ['an error with a code', 0, page(504, $CODE), 504],
    ['a wrong password',  0, page(400), 400],
    ['a key refused',     0, page(401), 401],
    ['the edge refuses',  0, page(403), 403],
    ['a wrong path',      0, page(404), 404],
    ['a limit',           0, page(429), 429],
    ['compressed',        0, sender(whole(200, 'x', $JSON,
        'Content-Encoding: br')), 502],
    ['too large',         0, sender(whole(200, '{' . ' ' x 1_100_000, $JSON)),
        502],
    ['nobody\'s',         0, sender(whole(200, unreadable(), $JSON)), 502],
    ['not JSON',          0, page(200), 200],
);
my %FAILS = map { $_->[0] => 'f' . ($_->[0] =~ s/\W+//gr) } @FAILURE;

# Each has a name of its own, and so circuits of its own.
my $failing = proxied_server($db, to => $to, config => <<'CONF',
UserSyncCircuitBreaker 2 60s
UserSyncMaxPerClient Off
CONF
    vhosts => { (map {
        my ($name, undef, $does, undef, $other) = @$_;
        $FAILS{$name} => "ServerName $FAILS{$name}.test\n" . proxied(
            to => !$does ? $refusing : $other ? $other->url : $to,
            worker => $other ? 'timeout=1' : 'retry=0');
    } @FAILURE),
        plain => proxied(to => $refusing, worker => 'retry=0',
            lines => ['UserSyncEnsureResponse Off']) })->start;
$failing->allow_log(qr/\[proxy(?:_http)?:error\]/);
$failing->allow_log(qr/AH01106: bad HTTP/);
$failing->allow_log(qr/usersync-response: upstream_(?:bad_answer|unavailable)/);
$failing->allow_log(qr/US012: circuit to /);

my $address = 0;

sub next_address { return '127.0.1.' . ++$address }

# A request that fails in this way, from another address each time.
sub fail_once {
    my ($where, $does, $server) = @_;
    if (!$does) {
        return ask($failing, POST => "$where/auth/v1$GRANT", {},
            -from => next_address());
    }
    return ($server || $upstream)->through($where, POST => $GRANT, $does,
        -from => next_address())->response;
}

# Waits for the circuit of a server to open: the last request counts when all of
# it is over, not when it is answered.
sub until_open {
    my ($server, $name) = @_;
    wait_until {
        grep {/US012: circuit to \Q$name\E .* opens/} $server->log_since
    } 20, "the circuit to $name to open";
    return;
}

for my $failure (@FAILURE) {
    my ($name, $counts, $does, $status, $server) = @$failure;
    my $where = $failing->url('', $FAILS{$name});
    is fail_once($where, $does, $server)->{status}, $status, $name for 1, 2;
    my $asked = sub { ask($failing, POST => "$where/auth/v1$_[0]", {},
        -from => next_address()) };
    if ($counts) {
        until_open($failing, "$FAILS{$name}.test");
        my $response = $asked->($GRANT);
        withheld_ok $response, 503, 'upstream_unavailable',
            "$name: opens the circuit";
        cmp_ok $response->{headers}{'retry-after'}, '<=', 60, 'for its time';
        next;
    }
    my $text = session_json();
    goes_out_ok $upstream->through($where, POST => $GRANT,
        sender(whole(200, $text, $JSON)), -from => next_address()), $text,
        "$name: does not";
}

subtest 'an open circuit' => sub {
    my $where = $failing->url('', $FAILS{'closes'});
    my $text = session_json();
    goes_out_ok $upstream->through($where,
        POST => '/token?grant_type=refresh_token',
        sender(whole(200, $text, $JSON))), $text, 'is one of several';
    my $client = $upstream->through($where, POST => '/otp',
        sender(whole(200, '{}', $JSON)));
    is $client->response->{status}, 200, 'and holds up nothing else';
    my $page = ask($failing, GET => "$where/auth/v1/verify?token=x");
    is_deeply [$page->{status}, $page->{headers}{'content-type'},
        $page->{headers}{'retry-after'} ? 1 : 0],
        [503, 'text/html; charset=iso-8859-1', 1], 'people get a page'
        or diag show($page);
};

subtest 'it closes again' => sub {
    my $soon = $upstream->server($db, "UserSyncCircuitBreaker 2 1s\n")->start;
    $soon->allow_log(qr/\[proxy(?:_http)?:error\]/);
    $soon->allow_log(qr/usersync-response: upstream_unavailable/);
    $soon->expect_log(qr/usersync:error.* US012: circuit to .* opens/, 1);
    my $where = $soon->url;
    fail_once($where, sub { $_[0]->close }) for 1, 2;
    until_open($soon, '127.0.0.1');
    # one after the other, until one may try
    my ($client, $visit);
    wait_until {
        $client = connection($where, from => next_address());
        $client->send(post_bytes("$where/auth/v1$GRANT", {}));
        $visit = $upstream->forwarded($client)
    } 20, 'one that may try';
    my $text = session_json();
    $visit->send(whole(200, $text, $JSON));
    goes_out_ok $client, $text, 'the one that tries';
    $text = session_json();
    goes_out_ok $upstream->through($where, POST => $GRANT,
        sender(whole(200, $text, $JSON))), $text, 'and then all may';
    like join("\n", $soon->log_since), qr/US012: .* closes/, 'in the log';
};

subtest 'what mod_proxy answers itself' => sub {
    my ($with, $without) = map {
        my $where = $failing->url('', $_);
        my $client = connection($where, from => next_address());
        $client->send(post_bytes("$where/auth/v1/otp", {}));
        all_bytes($client) =~ s/^Date: .*\r\n//mr;
    } $FAILS{'nobody listens'}, 'plain';
    like $with, qr{^HTTP/1.1 503 }, 'a page';
    is $with, $without, 'as without the filter';
};

done_testing;
