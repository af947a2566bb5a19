# How the application learns who the user is: only by our headers. What a
# client sends under their names never gets there, with or without a gate.

use UserSync::App;
use UserSync::Gate;
use UserSync::Tables;
use UserSync::Test;

my $app = UserSync::App->start;
my $back = $app->url;

my @HEADERS = ('UserSyncEnsure On', 'UserSyncEnsureHeaders On',
    'UserSyncEnsureEmail "%{HTTP:X-Mail}"');
my @OURS = qw(x-user-id x-user-email x-usersync-outcome);

# What a back end may read as one of ours: CGI and the like.
sub is_ours {
    my ($name) = @_;
    (my $key = uc $name) =~ tr/A-Z0-9/_/c;
    return $key =~ /\A(?:X_USER_ID|X_USER_EMAIL|X_USERSYNC_OUTCOME)\z/;
}

# Headers of ours, in any spelling, in the last request to the application:
# [name, value] in order.
sub told {
    my ($request) = reverse $app->requests;
    return [map {"$_->[0]: $_->[1]"} sort { $a->[0] cmp $b->[0] }
        grep { is_ours($_->[0]) } @{ $request->{header_list} }];
}

sub want {
    my ($id, $email, $outcome) = @_;
    return [defined $email ? "X-User-Email: $email" : (), "X-User-Id: $id",
        'X-Usersync-Outcome: ' . ($outcome || 'ok')];
}

# Every separator that is allowed in a header's name, at every place in it.
my @SEPARATORS = split //, '-_.!#$%&\'*+^`|~';
my @SPOOFED = map {
    my $separator = $_;
    map { s/-/$separator/gr } qw(X-User-Id x-user-email X-USERSYNC-OUTCOME)
} @SEPARATORS;
push @SPOOFED, 'X-User_Id', 'x_USER-email', 'X-usersync_Outcome';

sub spoof { return map { ($_ => 'spoofed@example.com') } @_ }

my $proxies = join '', map {qq{ProxyPass "/$_" "$back/$_"\n}}
    qw(app open off free public error turned);

subtest 'what the application gets' => sub {
    my $httpd = gate_server('app', guarded('/app', @HEADERS)
        . guarded('/off', 'UserSyncEnsure On') . $proxies)->start;
    my $id = new_id();
    for my $email ('ada@example.com', undef, "j\xc3\xb6rg\@example.com") {
        visit_ok visit($httpd, '/app', $id,
            defined $email ? ('X-Mail' => $email) : ()), $id;
        my $shown = defined $email && $email =~ /\A[!-~]+\z/ ? $email : undef;
        is_deeply told(), want($id, $shown),
            defined $email ? 'id and e-mail' : 'id only';
    }
    visit_ok visit($httpd, '/off', $id), $id, 'gate without headers';
    is_deeply told(), [], 'no headers';
    visit_ok visit($httpd, '/off', $id, spoof(@SPOOFED)), $id, 'spoofed';
    is_deeply told(), [], 'still none';
};

subtest 'every spelling, in every place' => sub {
    my $httpd = gate_server('app', guarded('/app', @HEADERS) . <<"CONF"
<Location "/app/off">
    UserSyncEnsure Off
</Location>
<Location "/app/nothing">
    UserSyncEnsure Off
    UserSyncEnsureHeaders Off
</Location>
ErrorDocument 401 /error/401
ErrorDocument 404 /error/404
RewriteEngine On
RewriteRule ^/away /turned/away [PT]
<Directory "\@DIR\@/htdocs/free">
    RewriteEngine On
    RewriteRule ^in\$ /app/in
    RewriteRule ^out\$ /open
    Options +Includes
    AddOutputFilter INCLUDES .shtml
</Directory>
CONF
        . guarded('/free', 'UserSyncEnsure On', 'UserSyncEnsureHeaders On')
        . join('', grep { !m{"/free"} } map {"$_\n"} split /\n/, $proxies),
        modules => ['include'])->start;
    mkdir $httpd->dir . '/htdocs/free';
    spew($httpd->dir . "/htdocs/free/$_->[0].shtml",
        qq{<!--#include virtual="$_->[1]" -->\n})
        for ['in', '/app/in'], ['out', '/open'];
    my $id = new_id();
    my @spoof = spoof(@SPOOFED);
    for (['/app', want($id), 'with the gate'],
        ['/app/off', [], 'gate off below it'],
        ['/app/nothing', [], 'headers off below it'],
        ['/public', [], 'elsewhere in the server'],
        ['/away', [], 'a rewritten path'],
        ['/free/in', want($id), 'turned from one gate to another'],
        ['/free/out', [], 'turned from a gate to where there is none'],
        ['/free/in.shtml', want($id), 'a part of a page, by a gate'],
        ['/free/out.shtml', [], 'a part of a page, by none']) {
        my ($path, $want, $name) = @$_;
        is visit($httpd, $path, $id, @spoof)->{status}, 200, $path;
        is_deeply told(), $want, $name;
    }
    for (['/app', undef, '/error/401'], ['/missing', $id, '/error/404']) {
        my ($path, $user, $document) = @$_;
        visit($httpd, $path, $user, @spoof);
        is +(reverse $app->requests)[0]{path}, $document, $document;
        is_deeply told(), [], 'an error document of the application';
    }
    visit($httpd, '/public', $id, 'X-User-Idea' => 'kept',
        'X-User' => 'kept', 'XX-User-Id' => 'kept', 'X--User-Id' => 'kept');
    my ($request) = reverse $app->requests;
    is_deeply [@{ $request->{headers} }
            {qw(x-user-idea x-user xx-user-id x--user-id)}], [('kept') x 4],
        'other headers pass';
};

subtest 'refused requests reach no back end' => sub {
    my $httpd = gate_server('host=127.0.0.1 port=1 dbname=app '
        . 'connect_timeout=2', guarded('/app', @HEADERS)
        . guarded('/open', @HEADERS, 'UserSyncEnsureOnError Allow')
        . "UserSyncStoreTimeout 100ms\n" . $proxies)->start;
    $app->forget;
    for my $id (new_id(), 'ada') {
        like visit($httpd, '/app', $id, spoof(@SPOOFED))->{status},
            qr/^(?:503|403)$/, "$id is refused";
    }
    is_deeply [$app->requests], [], 'nothing came';
    my $id = new_id();
    is visit($httpd, '/open', $id, spoof(@SPOOFED))->{status}, 200,
        'let through';
    is_deeply told(), want($id, undef, 'unsynced'), 'and marked';
    $httpd->allow_log(qr/dbd:error|usersync-gate: \w+/);
};

subtest 'a client cannot make the proxy drop them' => sub {
    my $httpd = gate_server('app', guarded('/app', @HEADERS) . $proxies)
        ->start;
    my $id = new_id();
    for my $value ('X-User-Id', 'close, X-User-Id, x-user-email',
        'x_user_id', 'X-Usersync-Outcome,X-Other',
        'close;X-User-Id; x-user-email', "close X-Other\tX-User-Id;",
        ['X-Other', 'X-User-Id', 'X-User-Email']) {
        visit_ok visit($httpd, '/app', $id, Connection => $value,
            'X-Mail' => 'ada@example.com', 'X-Other' => 'mine'), $id;
        my $name = ref $value ? join ' / ', @$value : $value;
        is_deeply told(), want($id, 'ada@example.com'), "Connection: $name";
        my ($request) = reverse $app->requests;
        is $request->{headers}{'x-other'}, $name =~ /X-Other/ ? undef : 'mine',
            'its own it may';
    }
};

subtest 'a trailer is not one of them' => sub {
    my $httpd = gate_server('app', guarded('/app', @HEADERS) . $proxies)
        ->start;
    my $id = new_id();
    my %header = as_user($id);
    for my $path ('/app', '/public') {
        my $connection = connection($httpd->url('/'));
        $connection->send("POST $path HTTP/1.1\r\nHost: x\r\n"
            . "Authorization: $header{Authorization}\r\n"
            . "Transfer-Encoding: chunked\r\nTrailer: X-User-Id, X_User_Id\r\n"
            . "\r\n5\r\nhello\r\n0\r\nX-User-Id: spoofed\r\n"
            . "X_User_Id: spoofed\r\nX-User-Email: spoofed\r\n\r\n");
        ok $connection->response(20)->{status}, "$path: answered";
        $connection->close;
        is_deeply [grep {/spoofed/} @{ told() }], [], 'nothing spoofed';
    }
    # the server that would make headers of them does not start
    for my $merge (["MergeTrailers On\n", ''], ['', 'MergeTrailers On']) {
        my ($status, $said) = gate_server('app', guarded('/app', @HEADERS)
            . $merge->[0], vhosts => { inheriting => $merge->[1] })->configtest;
        is $status, 1, 'MergeTrailers is refused';
        like $said, qr/needs MergeTrailers Off/, 'with the reason';
    }
};

subtest 'the administrator\'s own headers stay' => sub {
    my $httpd = gate_server('app', guarded('/app', @HEADERS) . $proxies
        . "RequestHeader set X-User-Id early early\n"
        . qq{<Location "/public">\nRequestHeader set X-User-Id late\n}
        . "</Location>\n")->start;
    visit($httpd, '/open', undef, spoof(@SPOOFED));
    is_deeply told(), ['X-User-Id: early'], 'set early';
    visit($httpd, '/public', undef, spoof(@SPOOFED));
    is_deeply told(), ['X-User-Id: late'], 'set late';
    my $id = new_id();
    visit($httpd, '/app', $id, spoof(@SPOOFED));
    is_deeply told(), want($id), 'the gate\'s is stronger than the early one';
};

subtest 'where they are On, and nowhere else' => sub {
    my $off = "UserSyncEnsureHeaders Off\n";
    my $other = "UserSyncTable public.users\n";
    my @cases = (
        # main server, vhosts; which of them strip
        ['a section of a vhost', '', { on => guarded('/app', @HEADERS),
            other => $other, plain => '' }, ['on']],
        ['a vhost', '', { on => join("\n", @HEADERS, ''), other => $other,
            plain => '' }, ['on']],
        ['a section of the main server', guarded('/app', @HEADERS),
            { plain => '', other => $other }, ['main', 'other', 'plain']],
        ['the main server', join("\n", @HEADERS, ''),
            { plain => '', other => $other, off => $off,
                off_but => $off . guarded('/app', @HEADERS) },
            ['main', 'off_but', 'other', 'plain']],
        ['nowhere in the end', join("\n", @HEADERS, $off),
            { plain => '', on => "UserSyncEnsureHeaders On\n" }, ['on']],
    );
    for my $case (@cases) {
        my ($name, $main, $vhosts, $who) = @$case;
        my $httpd = gate_server('app', $main . $proxies, vhosts =>
            { map { $_ => $vhosts->{$_} . $proxies } keys %$vhosts })->start;
        my %url = (main => $httpd->url('/public'),
            map { $_ => $httpd->url('/public', $_) } keys %$vhosts);
        my @strip = grep {
            visit($httpd, $url{$_}, new_id(), 'X-User-Id' => 'kept');
            !grep {/kept/} @{ told() }
        } sort keys %url;
        is_deeply \@strip, $who, "On in $name";
        $httpd->stop;
    }
    # vhosts of one address, which differ by the name in the request
    my $port = reserve_port();
    my $named = sub {
        my ($name, @lines) = @_;
        return "<VirtualHost 127.0.0.1:$port>\nServerName $name\n"
            . join("\n", @lines, $proxies, "</VirtualHost>\n");
    };
    my $httpd = gate_server('app', "Listen 127.0.0.1:$port\n"
        . $named->('a.example') . $named->('b.example', @HEADERS))->start;
    for (['a.example', ['X-User-Id: kept']], ['b.example', []]) {
        my ($host, $want) = @$_;
        visit($httpd, "http://127.0.0.1:$port/open", undef, Host => $host,
            'X-User-Id' => 'kept');
        is_deeply told(), $want, $host;
    }
};

subtest 'a server without such headers lets them be' => sub {
    my $httpd = gate_server('app', guarded('/app', 'UserSyncEnsure On')
        . $proxies, vhosts => { other => guarded('/app', @HEADERS)
        . $proxies })->start;
    visit($httpd, '/open', undef, 'X-User-Id' => 'of a front end');
    is_deeply told(), ['X-User-Id: of a front end'], 'the main server';
    visit($httpd, $httpd->url('/open', 'other'), undef, spoof(@SPOOFED));
    is_deeply told(), [], 'its neighbour does not';
};

done_testing;
