# The headers on both ways through mod_proxy: what Supabase is told about the
# client and what it may compress, what clients are told about the session; and
# the log, which holds no secret.

use UserSync::Proxied;
use UserSync::Test;
use UserSync::Ways;

use IO::Socket::IP ();

my $ways = UserSync::Ways->new(double());
my %ADA = (email => 'ada@example.com', password => 'correct horse');
my @PASSWORD = (POST => '/token?grant_type=password', \%ADA);
double->add_user(%ADA);

# The values of a header in the request that Supabase has just got, in order.
sub got {
    my ($name) = @_;
    my @requests = double->requests;
    return [map { $_->[1] } grep { lc $_->[0] eq lc $name }
        @{ $requests[-1]{headers} }];
}

# What Supabase is told about the client by a request to a vhost.
sub told {
    my ($httpd, $vhost, $request, %header) = @_;
    my ($method, $path, $body) = @$request;
    double->clear_requests;
    my $response = ask($httpd, $method, $httpd->url("/auth/v1$path", $vhost),
        $body, %header);
    is $response->{status}, 200, "$method $path" or diag show($response);
    return { map { $_ => got($_) } qw(x-forwarded-for sb-forwarded-for) };
}

# ---- the client's address

my %MODE = (sb => 'Sb-Forwarded-For', xff => 'X-Forwarded-For', off => 'Off');

# What is left of it, where the client's address is this one and a server
# without the filter tells what plain says.
sub want {
    my ($mode, $address, $plain) = @_;
    my @ours = ($address);
    return { 'x-forwarded-for' => $mode eq 'off' ? $plain->{'x-forwarded-for'}
            : \@ours, 'sb-forwarded-for' => $mode eq 'sb' ? \@ours : [] };
}

# A vhost for each mode, with and without mod_proxy's own headers, and two
# without the filter.
sub address_server {
    my ($config, %arg) = @_;
    my %vhost;
    for my $own ('', '_bare') {
        my @lines = $own ? 'ProxyAddHeaders Off' : ();
        for my $mode (keys %MODE) {
            $vhost{"$mode$own"} = "UserSyncForwardClientIP $MODE{$mode}\n"
                . proxied(lines => ['UserSyncEnsureResponse On', @lines]);
        }
        $vhost{"plain$own"} = proxied(
            lines => ['UserSyncEnsureResponse Off', @lines]);
    }
    my $httpd = proxied_server('app', config => $config, vhosts => \%vhost,
        %arg);
    $httpd->expect_log(qr/US010: vhost .* UserSyncForwardClientIP is Off/);
    return $httpd;
}

my @COPIES = (
    [], ['X-Forwarded-For' => '192.0.2.66'],
    ['X-Forwarded-For' => '192.0.2.66, 198.51.100.7'],
    ['X-Forwarded-For' => ['192.0.2.66', '198.51.100.7']],
    ['x-forwarded-FOR' => 'unknown', 'X-FORWARDED-for' => '127.0.0.1'],
    ['X-Forwarded-For' => ''],
    ['Sb-Forwarded-For' => '192.0.2.66'],
    ['SB-forwarded-for' => ['192.0.2.66', '198.51.100.7, 127.0.0.1']],
    ['Sb-Forwarded-For' => '192.0.2.66', 'X-Forwarded-For' => '192.0.2.67'],
);

subtest 'copies of the forwarding headers' => sub {
    my $httpd = address_server('')->start;
    for my $own ('', '_bare') {
        for my $copy (@COPIES) {
            my %copy = @$copy;
            my $name = UserSync::HTTP::encode_json(\%copy) . $own;
            for my $request (\@PASSWORD, [GET => '/settings']) {
                my $plain = told($httpd, "plain$own", $request, %copy);
                for my $mode (sort keys %MODE) {
                    is_deeply told($httpd, "$mode$own", $request, %copy),
                        want($mode, '127.0.0.1', $plain), "$mode: $name";
                }
            }
        }
    }
    $httpd->stop;
};

# A client says which headers end here; ours do not.
subtest 'headers that Connection names' => sub {
    my $httpd = address_server('')->start;
    my %copy = ('X-Forwarded-For' => '192.0.2.66',
        'Sb-Forwarded-For' => '192.0.2.66',
        Connection => 'X-Forwarded-For, Sb-Forwarded-For, close');
    my $plain = told($httpd, 'plain', \@PASSWORD, %copy);
    is_deeply told($httpd, $_, \@PASSWORD, %copy),
        want($_, '127.0.0.1', $plain), $_ for sort keys %MODE;
    $httpd->stop;
};

subtest 'behind a proxy, with mod_remoteip' => sub {
    my $httpd = address_server(<<'CONF', modules => ['remoteip'])->start;
RemoteIPHeader        X-Forwarded-For
RemoteIPInternalProxy 127.0.0.0/8
CONF
    for my $case (['192.0.2.66', '192.0.2.66'],
        ['203.0.113.9, 192.0.2.66', '192.0.2.66'],
        ['2001:db8::66', '2001:db8::66'],
        ['2001:DB8:0:0::66', '2001:db8::66']) {
        my ($sent, $address) = @$case;
        my %copy = ('X-Forwarded-For' => $sent);
        my $plain = told($httpd, 'plain', \@PASSWORD, %copy);
        is_deeply told($httpd, $_, \@PASSWORD, %copy),
            want($_, $address, $plain), "$_: $sent" for sort keys %MODE;
    }
    $httpd->stop;
};

subtest 'over IPv6' => sub {
    my $try = IO::Socket::IP->new(LocalHost => '::1', Listen => 1);
    plan(skip_all => 'this machine has no address ::1') if !$try;
    my $port = $try->sockport;
    close $try;
    my $httpd = proxied_server('app', config => "Listen [::1]:$port\n"
        . "UserSyncForwardClientIP Sb-Forwarded-For\n")->start;
    my $socket = IO::Socket::IP->new(PeerHost => '::1', PeerPort => $port)
        or die "::1: $@\n";
    double->clear_requests;
    print {$socket} UserSync::HTTP::build(POST =>
        "http://127.0.0.1:$port/auth/v1$PASSWORD[1]", \%ADA,
        apikey => double->key);
    like join('', <$socket>), qr{^HTTP/1\.1 200 }, 'answered';
    is_deeply [got('x-forwarded-for'), got('sb-forwarded-for')],
        [['::1'], ['::1']], 'with the address';
    $httpd->stop;
};

# ---- what is asked for

# Requests, and whether their answers are looked at.
my @LOOKED_AT = (
    [POST => '/signup', 1], [POST => '/token?grant_type=password', 1],
    [POST => '/token', 1], [POST => '/verify', 1], [POST => '/oauth/token', 1],
    [POST => "/factors/${\new_id()}/verify", 1],
    [GET => '/user', 1], [PUT => '/user', 1], [POST => '/brand/new', 1],
    [PATCH => '/brand/new', 1], [PUT => '/brand/new', 1],
    [GET => '/settings', 0], [GET => '/health', 0], [GET => '/brand/new', 0],
    [DELETE => '/brand/new', 0], [OPTIONS => '/token', 0],
    (map { [POST => "/$_", 0] } qw(otp magiclink recover resend logout
        factors sso), "factors/${\new_id()}/challenge"),
    [GET => '/verify?type=x', 1], [GET => '/callback?code=x', 1],
    [GET => '/authorize?provider=x', 0], [GET => '/reauthenticate', 0],
);

# A part, another form or another time of the answer.
my %WISHES = ('Accept-Encoding' => 'gzip, br', Range => 'bytes=0-9',
    'If-Range' => '"x"', 'Request-Range' => 'bytes=0-9',
    'If-Match' => '"x"', 'If-None-Match' => '"x"',
    'If-Modified-Since' => 'Mon, 30 Nov 2026 10:00:00 GMT',
    'If-Unmodified-Since' => 'Mon, 30 Nov 2026 10:00:00 GMT');

subtest 'an answer that is looked at comes whole and readable' => sub {
    my $httpd = proxied_server('app', vhosts => { report => proxied(
        lines => ['UserSyncEnsureResponse Report']) })->start;
    for my $case (@LOOKED_AT) {
        my ($method, $path, $is) = @$case;
        for my $vhost (undef, 'report') {
            double->clear_requests;
            my $response = ask($httpd, $method,
                $httpd->url("/auth/v1$path", $vhost),
                $method =~ /^P/ ? {} : undef, %WISHES);
            is_deeply { map { $_ => got($_) } keys %WISHES },
                { map { $_ => $is ? [] : [$WISHES{$_}] } keys %WISHES },
                "$method $path" . ($vhost ? ", $vhost" : '')
                or diag show($response);
        }
    }
    $httpd->stop;
};

# ---- what clients are told

# The names of all that begins with sb- in an answer.
sub told_clients {
    my ($response) = @_;
    return join ' ', grep {/^sb-/} sort keys %{ $response->{headers} };
}

my %SB = ('Sb-Auth-User-Id' => new_id(), 'SB-AUTH-SESSION-ID' => new_id(),
    'sb-auth-refresh-token-prefix' => 'abcde', 'Sb-Auth-Anything' => 'x',
    'Sb-Request-Id' => 'an id', 'Sb-Gateway-Version' => '1');
my $KEPT = join ' ', sort map {lc} keys %SB;
my $LEFT = 'sb-gateway-version sb-request-id';

subtest 'headers about the session' => sub {
    my $httpd = proxied_server('app', vhosts => {
        keep => proxied(lines => ['UserSyncEnsureResponse On',
            'UserSyncProxyHeaders Keep']),
        report => proxied(lines => ['UserSyncEnsureResponse Report']) })
        ->start;
    $httpd->allow_log(qr/usersync-response: upstream_bad_answer/);
    my $to = 'http://127.0.0.1:3000/#';
    for my $case (
        ['a session', 200, session_json(), @PASSWORD],
        ['a redirect', 303, '', GET => '/verify?type=x',
            $to . 'access_token='
                . token_for(sub => $SB{'Sb-Auth-User-Id'})],
        ['a redirect with nobody', 303, '', GET => '/verify?type=x',
            "${to}error=access_denied"],
        ['a refused refresh', 400, '{"code":"refresh_token_not_found"}',
            POST => '/token?grant_type=refresh_token', {}],
        ['a refused code', 403, '{"code":"otp_expired"}',
            POST => '/verify', {}],
        ['an error', 500, '{"code":"unexpected_failure"}', @PASSWORD],
        ['settings', 200, '{}', GET => '/settings'],
        ['a head', 200, '', HEAD => '/settings'],
        ['no content', 204, '', POST => '/logout']) {
        my ($name, $status, $answer, $method, $path, $body) = @$case;
        my %location = ref $body ? () : $body ? (Location => $body) : ();
        for my $vhost (['', undef, $LEFT], [', Keep', 'keep', $KEPT],
            [', Report', 'report', $KEPT]) {
            double->fault(kind => 'status', status => $status,
                body => $answer, headers => { %SB, %location });
            my $response = ask($httpd, $method,
                $httpd->url("/auth/v1$path", $vhost->[1]),
                ref $body ? $body : undef);
            is_deeply [$response->{status}, told_clients($response)],
                [$status, $vhost->[2]], $name . $vhost->[0]
                or diag show($response);
        }
    }
    # what nobody can read is withheld, with all headers
    for my $vhost (undef, 'keep') {
        double->fault(kind => 'status', status => 200, headers => {%SB},
            body => '{"access_token":"x"}');
        withheld_ok ask($httpd, POST => $httpd->url(
            "/auth/v1$PASSWORD[1]", $vhost), \%ADA), 502,
            'upstream_bad_answer';
    }
    $httpd->stop;
};

# The double sends them as Supabase does.
subtest 'by every way to a session' => sub {
    my $httpd = proxied_server('app', vhosts => {
        keep => proxied(lines => ['UserSyncEnsureResponse On',
            'UserSyncProxyHeaders Keep']) })->start;
    for my $way ($ways->names) {
        my $removed = $ways->take($httpd, $ways->prepare($way));
        is_deeply [told_clients($removed), $removed->{status}],
            ['', $ways->prepare($way)->{status}], "$way: none";
        next if $way eq 'mfa'; # which has none
        my $kept = $ways->take($httpd, $ways->prepare($way),
            vhost => 'keep');
        like told_clients($kept), qr/\bsb-auth-user-id\b/, "$way: kept";
    }
    my $refresh = $ways->prepare('refresh');
    $ways->take_directly({ %$refresh, path => '/logout?scope=global',
        body => undef, header => { Authorization => 'Bearer '
            . token_in($ways->take_directly($refresh)) } });
    my $refused = $ways->take($httpd, $refresh);
    is_deeply [$refused->{status}, told_clients($refused)], [400, ''],
        'a refused refresh';
    $httpd->stop;
};

# ---- requests of administrators, in disguise

# Does a server read this as a request of an administrator? Paths are compared
# in any case, with and without their encoding, and as gateways tidy them up.
sub is_admins {
    my ($target) = @_;
    for my $decode (0, 1) {
        my ($path) = $target =~ m{\A(?:https?://[^/]+)?([^?]*)};
        $path =~ s/%([0-9a-f]{2})/chr hex $1/gie if $decode;
        my @segments;
        for my $segment (split m{[/\\]}, lc $path) {
            if ($segment eq '..') { pop @segments }
            elsif ($segment !~ /\A[.]?\z/) { push @segments, $segment }
        }
        my ($rest) = join('/', @segments) =~ m{\A(?:auth/v1/)?(.*)};
        return 1 if $rest =~ m{\A(?:admin|invite|scim)(?:/|\z)};
    }
    return 0;
}

my @DISGUISES = (
    map({"/auth/v1/$_"} qw(admin admin/ admin/users Admin/users ADMIN
        admin?x=y invite Invite/ scim/v2/Users
        %61dmin/users %61%64%6d%69%6e admin%2fusers admin%2Fusers
        %41dmin%2F /admin/users //admin ./admin/users .//./admin
        x/../admin/users x/%2e%2e/admin %2e/admin x%2f..%2fadmin
        x%2F%2E%2E%2Fadmin %2fadmin %2f%2fadmin/users %2e%2fadmin
        x\..\admin \admin/users x%5c..%5cadmin %5cadmin x/..\admin
        token/../admin/users token;x/../admin admin%00 admin%zz %61dmin/%zz
        admin%23 admin;/ admin%3b settings/..%2f../v1/admin ad%6Din/users
        .%2e/v1/admin x/..%252fadmin %2561dmin), 'x#/../admin'),
    '/auth/v1//./admin', '/auth//v1/admin', '/auth/./v1/admin/users',
    '/auth/x/../v1/admin', '//auth/v1/admin', '/auth/v1%2fadmin/users',
    '/auth%2fv1/admin', '/auth/v1/../v1/admin',
);

# Ways to forward that keep more or less of what the client wrote.
sub forwarding {
    my ($lines, %arg) = @_;
    return map {
        my $admin = $_;
        ($arg{before} || '') . proxied(%arg,
            lines => ['UserSyncEnsureResponse On',
                "UserSyncProxyAdmin $admin", @{ $lines || [] }])
    } qw(Deny Allow);
}

sub location {
    my @lines = @_;
    return map {
        join "\n", '<Location "/auth/v1">', 'UserSyncEnsureResponse On',
            "UserSyncProxyAdmin $_", @lines, "</Location>\n"
    } qw(Deny Allow);
}

sub forwardings {
    my $to = double->url;
    my $open = "AllowEncodedSlashes NoDecode\n";
    my $pass = "RewriteEngine On\nRewriteRule ^/auth/v1/(.*) $to/auth/v1/\$1 ";
    my @location = location();
    return (
        plain => [forwarding()],
        slashes => [forwarding(undef, before => "AllowEncodedSlashes On\n")],
        nodecode => [forwarding(undef, before => $open)],
        nocanon => [forwarding(undef, before => $open, worker => 'nocanon')],
        unmerged => [forwarding(undef, before => "MergeSlashes Off\n")],
        raw => [forwarding(undef, before => "$open MergeSlashes Off\n",
            worker => 'nocanon')],
        bare => [forwarding(undef, before => $open, to => "$to/",
            worker => 'nocanon')],
        rewrite => [map {"$open$pass [P]\n$_"} @location],
        rewrite_raw => [map {"$open$pass [P,NE,B]\n$_"} @location],
        match => [map {"${open}ProxyPassMatch ^/auth/v1/(.*) $to/auth/v1/\$1\n"
                . $_} @location],
        handler => [map {"$open$_"} location(qq{SetHandler "proxy:$to/"})],
    );
}

# What arrives at Supabase of a request line, and the status.
sub sent_raw {
    my ($httpd, $vhost, $method, $target) = @_;
    double->clear_requests;
    my $connection = connection($httpd->url('/', $vhost));
    my $key = double->key('secret');
    $connection->send("$method $target HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        . "apikey: $key\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}");
    my $response = $connection->response(20, $method);
    $connection->close;
    return ($response, map { $_->{target} } double->requests);
}

subtest 'requests of administrators, in disguise' => sub {
    my %forwarding = forwardings();
    my %vhosts = map {
        ("deny_$_" => $forwarding{$_}[0], "allow_$_" => $forwarding{$_}[1])
    } keys %forwarding;
    my $httpd = proxied_server('app', vhosts => \%vhosts)->start;
    $httpd->allow_log(qr/\[(?:core|proxy):(?:error|warn)\]/);
    for my $how (sort keys %forwarding) {
        my ($arrived, @through, @said) = 0;
        for my $target (@DISGUISES, map {"http://127.0.0.1$_"} @DISGUISES) {
            my (undef, @allowed)
                = sent_raw($httpd, "allow_$how", GET => $target);
            $arrived += my @admins = grep { is_admins($_) } @allowed;
            my ($response, @denied)
                = sent_raw($httpd, "deny_$how", POST => $target);
            push @through, map {"$target as $_"} grep { is_admins($_) } @denied;
            push @said, "$target: $response->{status}" if @admins
                && $response->{body} !~ /"code":"admin_not_proxied"/;
        }
        cmp_ok $arrived, '>', 20, "$how: $arrived reach Supabase with Allow";
        is_deeply \@through, [], "$how: none with Deny";
        is_deeply \@said, [], "$how: and each is told so";
    }
    my ($response, @all)
        = sent_raw($httpd, 'deny_raw', GET => '/auth/v1/administer');
    is "@all", '/auth/v1/administer', 'a name that only begins so passes';
    $httpd->stop;
};

# ---- the log

subtest 'no secret in the log' => sub {
    my $httpd = proxied_server('app', children => 1,
        vhosts => { report => proxied(
            lines => ['UserSyncEnsureResponse Report']),
            away => "DBDParams \"host=/nowhere dbname=app\"\nDBDriver pgsql\n"
                . proxied() })->start;
    $httpd->allow_log($_) for qr/usersync-response: (?:upstream_b|store_una)/,
        qr/\[proxy(?:_http)?:error\]/, qr/\[dbd:error\]/;
    my %secret = (double->key => 'the key', double->key('secret') =>
        'a secret key', 'correct horse' => 'a password');
    my $learn = sub {
        my ($try, $response) = @_;
        my ($sent, $got) = map { UserSync::HTTP::encode_json($_) }
            [@$try{qw(body header path)}], [@$response{qw(body header_list)}];
        $secret{$_} = $try->{way} for grep { length > 5 }
            $sent =~ /(?:code|token|verifier|state)"?[=:]"?([\w.-]+)/g,
            $sent =~ /(?:Bearer |SAMLResponse=)([\w.-]+)/g,
            $got =~ /_token\\?"?[=:]\\?"?([\w.-]+)/g;
        $secret{ $try->{email} } = 'an address' if $try->{email};
    };
    for my $way ($ways->names) {
        for my $vhost (undef, 'report', 'away') {
            my $try = $ways->prepare($way);
            $learn->($try, $ways->take($httpd, $try, vhost => $vhost));
            $learn->($try, $ways->take($httpd, $try, vhost => $vhost));
        }
        my $try = $ways->prepare($way);
        double->fault(kind => 'cut');
        $learn->($try, $ways->take($httpd, $try));
        double->clear_faults;
    }
    ask($httpd, GET => '/admin/users', undef, apikey => double->key('secret'));
    my @lines = $httpd->log_since(0);
    cmp_ok scalar(grep {/usersync:(?:debug|trace)/} @lines), '>', 30,
        'the log has much to say';
    cmp_ok scalar(keys %secret), '>', 100, keys(%secret) . ' secrets';
    my @found;
    for my $secret (keys %secret) {
        push @found, map {"$secret{$secret}: $_"}
            grep { index($_, $secret) >= 0 } @lines;
    }
    is_deeply \@found, [], 'and tells none of them';
    $httpd->stop;
};

done_testing;
