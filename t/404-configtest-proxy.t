# configtest checks what stands beside UserSyncEnsureResponse: lines of
# mod_proxy and mod_headers that would break Supabase's clients or give them an
# admin's rights, wherever httpd would apply both.

use UserSync::Test -keep;
use UserSync::Configtest;

my $check = UserSync::Configtest->new(modules => [qw(macro info)],
    without => [qw(ssl http2 socache_shmcb status)]);
my $dir = $check->dir;

sub lines { return join '', map {"$_\n"} @_ }

my $BASE = lines('DBDriver pgsql', 'DBDParams "dbname=app"',
    'UserSyncCache none');
my $ON     = 'UserSyncEnsureResponse On';
my $HOSTED = 'ProxyPass "https://abcdefgh.supabase.co/auth/v1/"';
my $LOCAL  = 'ProxyPass "http://127.0.0.1:9999/"';

sub section {
    my ($start, @lines) = @_;
    my ($name) = $start =~ /(\w+)/;
    return ("<$start>", @lines, "</$name>");
}

sub location { return section('Location "/auth/v1/"', @_) }

sub vhost { return $check->vhost('shop.example', @_) }

# FILE:LINE of a line, which stands once in the last configuration.
sub place_of {
    my ($line) = @_;
    my $file   = $check->httpd->conf_file;
    my @lines  = split /\n/, slurp($file);
    my ($at) = grep { $lines[$_ - 1] eq $line } 1 .. @lines;
    return "$file:" . ($at || '?');
}

# Refused for one server, "main server" or "shop.example", with a message that
# names the places of these lines.
sub beside_ok {
    my ($name, $server, $text, $message, @lines) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    $check->said($BASE . $text);
    my $prefix = $server =~ /main/ ? qr/main server: /
        : $check->prefix($server);
    my $places = join '.*', map { quotemeta '(' . place_of($_) . ')' } @lines;
    my $said = $check->refused_ok($BASE . $text, $name,
        qr/US000: $prefix$message/, qr/$places/);
    is scalar(() = $said =~ /US000/g), 1, '... once' or diag $said;
    return $said;
}

sub fine_ok {
    my ($name, @lines) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return $check->accepted_ok($BASE . lines(@lines), $name);
}

# ---- values

my %WORDS = (
    UserSyncEnsureResponse => ['On, Report or Off', [qw(On on REPORT Off)],
        ['Yes', 'None', '1', 'On ', 'Reports', 'Deny', 'On,Off']],
    UserSyncProxyAdmin => ['Deny or Allow', [qw(Deny allow ALLOW)],
        ['On', 'Off', 'None', 'Allowed', 'Deny ', 'admin', '403']],
    UserSyncProxyHeaders => ['Remove or Keep', [qw(Remove KEEP keep)],
        ['On', 'Off', 'None', 'Removed', 'Keep ', 'Unset', 'sb-auth-*']],
);

for my $directive (sort keys %WORDS) {
    my ($list, $good, $bad) = @{ $WORDS{$directive} };
    subtest $directive => sub {
        for my $value (@$bad) {
            for my $text (qq{$directive "$value"\n},
                lines(location(qq{$directive "$value"}))) {
                my $said = $check->refused_ok($BASE . $text, "\"$value\"",
                    qr/^\Q$directive takes $list, not "\E\Q$value\E"$/m);
                my ($line) = grep {/"\Q$value\E"/} split /\n/, $text;
                like $said, qr/Syntax error on line \d+ of /, 'with its line';
                like $said, qr/line ${\(place_of($line) =~ s{.*:}{}r)} of /,
                    'which is the right one';
            }
        }
        fine_ok("$_ in each place", "$directive $_",
            location($HOSTED, "$directive $_")) for @$good;
        for my $value ('', '""', 'On On') {
            $check->refused_ok("$BASE$directive $value\n",
                "$directive $value", qr/^\Q$directive\E takes one argument/m);
        }
    };
}

# ---- mod_proxy

subtest 'without mod_proxy' => sub {
    my $other = UserSync::Configtest->new(without => [qw(ssl http2
        socache_shmcb status rewrite proxy_http proxy)]);
    my @like = (qr/mod_proxy is not loaded/, qr/LoadModule proxy_module/,
        qr/a2enmod proxy_http/);
    for my $mode (qw(On Report)) {
        my @ensure = location("UserSyncEnsureResponse $mode");
        $other->refused_ok($BASE . lines(@ensure), "$mode in a section",
            qr/US000: main server: /, @like);
        my $said = $other->refused_ok("${BASE}UserSyncEnsureResponse $mode\n"
            . $other->vhost('shop.example', 'UserSyncTable members'),
            'in the main server, with a vhost', @like);
        is scalar(() = $said =~ /US000/g), 1, 'which is told once';
        $other->refused_ok($BASE . $other->vhost('shop.example', @ensure),
            'in a vhost', qr/vhost shop\.example \(/, @like);
    }
    $other->accepted_ok($BASE . lines('UserSyncEnsureResponse Off',
        location('UserSyncEnsureResponse Off', 'UserSyncProxyAdmin Allow',
            'UserSyncProxyHeaders Keep')), 'Off needs nothing');
};

subtest 'the database' => sub {
    for my $case (["$ON\n"], [lines(location($ON))],
        [lines(location('UserSyncEnsureResponse Report'))]) {
        $check->refused_ok("UserSyncCache none\n" . $case->[0],
            'no DBDriver', qr/US000: main server: DBDriver is missing/);
    }
    $check->accepted_ok("UserSyncEnsureResponse Off\n", 'Off needs none');
};

# ---- ProxyErrorOverride

my $PAGES = qr/ProxyErrorOverride On \(.*cannot read.*say Off beside /;
my $OVERRIDE = 'ProxyErrorOverride On';

# name, main server's lines, vhost's lines
my @OVERRIDDEN = (
    ['in the section', [location($HOSTED, $ON, $OVERRIDE)]],
    ['before it', [location($OVERRIDE, $HOSTED, $ON)]],
    ['with Report', [location($OVERRIDE, $HOSTED,
        'UserSyncEnsureResponse Report')]],
    ['in the server', [$OVERRIDE, location($HOSTED, $ON)]],
    ['in the server, below', [location($HOSTED, $ON), $OVERRIDE]],
    ['all in the server', [$ON, $OVERRIDE]],
    ['UserSyncEnsureResponse in the server',
        [$ON, location($HOSTED, $OVERRIDE)]],
    ['in a section within', [location($HOSTED, $ON,
        section('If "true"', $OVERRIDE))]],
    ['UserSyncEnsureResponse in a section within',
        [location($HOSTED, $OVERRIDE, section('If "true"', $ON))]],
    ['two sections within', [location($HOSTED, section('If "true"', $ON,
        section('If "true"', $OVERRIDE)))]],
    ['the last line of two', [location($ON, 'ProxyErrorOverride Off',
        $OVERRIDE)]],
    ['On again, within Off', [$ON, 'ProxyErrorOverride Off',
        location($OVERRIDE)]],
    ['a section in two parts', [location($HOSTED, $ON), location($OVERRIDE)]],
    ['two parts, the other way', [location($OVERRIDE),
        section('Location /auth/v1/', $HOSTED, $ON)]],
    ['a section above', [section('Location "/"', $OVERRIDE),
        location($HOSTED, $ON)]],
    ['a section above that comes later', [location($HOSTED, $ON),
        section('Location /auth', $OVERRIDE)]],
    ['a section below', [section('Location /auth/', $HOSTED, $ON),
        section('Location /auth/v1/token', $OVERRIDE)]],
    ['in an IfModule', [section('IfModule proxy_module', location($ON,
        section('IfModule mod_proxy.c', $OVERRIDE)))]],
    ['another section', [section('LocationMatch "^/auth/"', $ON, $OVERRIDE)]],
    ['Proxy', [section('Proxy "https://*"', $ON, $OVERRIDE)]],
    ['both in a vhost', [], [location($HOSTED, $ON, $OVERRIDE)]],
    ['in a vhost, all at once', [], [$OVERRIDE, $ON]],
    ['inherited by a vhost', [$OVERRIDE], [location($HOSTED, $ON)]],
    ['UserSyncEnsureResponse inherited', [$ON], [$OVERRIDE]],
    ['a section inherited', [location($HOSTED, $ON)], [$OVERRIDE]],
    ['a section in two parts, one inherited', [location($OVERRIDE)],
        [location($HOSTED, $ON)]],
    ['two parts, the other inherited', [location($HOSTED, $ON)],
        [location($OVERRIDE)]],
);

subtest 'ProxyErrorOverride' => sub {
    for my $case (@OVERRIDDEN) {
        my ($name, $main, $vhost) = @$case;
        beside_ok($name, $vhost ? 'shop.example' : 'main server',
            lines(@$main) . ($vhost ? vhost(@$vhost) : ''), $PAGES,
            $OVERRIDE);
    }
    for my $words ('on', '"On"', 'On 404', 'On 404 500 502', 'ON   503') {
        my $line = "ProxyErrorOverride $words";
        beside_ok($line, 'main server', lines(location($HOSTED, $ON, $line)),
            $PAGES, $line);
    }
    my $text = lines($ON, $OVERRIDE) . vhost('UserSyncTable members');
    beside_ok('a fault of the main server', 'main server', $text, $PAGES,
        $OVERRIDE);
};

subtest 'where ProxyErrorOverride is no fault' => sub {
    fine_ok('Off', location($HOSTED, $ON, 'ProxyErrorOverride Off'));
    fine_ok('Off in the end', location($HOSTED, $ON, $OVERRIDE,
        'ProxyErrorOverride off'));
    fine_ok('Off within', $OVERRIDE, location($HOSTED, $ON,
        'ProxyErrorOverride Off'));
    fine_ok('Off in another part', location($OVERRIDE), location($HOSTED, $ON,
        'ProxyErrorOverride Off'));
    fine_ok('without UserSyncEnsureResponse', $OVERRIDE, location($HOSTED));
    fine_ok('UserSyncEnsureResponse Off', location($ON, $OVERRIDE,
        'UserSyncEnsureResponse Off'));
    fine_ok('Off there', $ON, section('Location /app/', $OVERRIDE,
        'UserSyncEnsureResponse Off'));
    fine_ok('elsewhere', location($HOSTED, $ON),
        section('Location "/app/"', $OVERRIDE),
        section('Location "/auth/v12"', $OVERRIDE),
        section('Location "/auth/v"', $OVERRIDE),
        section('LocationMatch "^/app"', $OVERRIDE),
        section('Directory "/app"', $OVERRIDE));
    fine_ok('in another vhost', vhost(location($HOSTED, $ON)),
        $check->vhost('other.example', $OVERRIDE));
    fine_ok('Off in the vhost', $OVERRIDE, vhost('ProxyErrorOverride Off',
        location($HOSTED, $ON)));
    fine_ok('in the vhost alone', location($HOSTED, $ON), vhost($OVERRIDE,
        location('UserSyncEnsureResponse Off')));
    fine_ok('in a section that does not count', location($HOSTED, $ON,
        section('IfModule nothing.c', $OVERRIDE)));
};

# ---- ProxyPreserveHost

my $NAME = qr/ProxyPreserveHost On \(.*finds no project: say Off beside /;
my $KEEP = 'ProxyPreserveHost On';
my $URL  = 'https://abcdefgh.supabase.co/auth/v1/';

subtest 'ProxyPreserveHost' => sub {
    my $set = "SetHandler \"proxy:$URL\"";
    my $rule = "RewriteRule ^/auth/v1/(.*)\$ $URL\$1 [P,L]";
    for my $case (
        ['in the section', [location($HOSTED, $ON, $KEEP)]],
        ['in the server', [$KEEP, location($HOSTED, $ON)]],
        ['a section in two parts', [location($HOSTED), location($ON, $KEEP)]],
        ['a target in the server', [location($ON, $KEEP),
            "ProxyPass /auth/v1/ $URL"], "ProxyPass /auth/v1/ $URL"],
        ['with options', [location($ON, $KEEP,
            "ProxyPass $URL retry=0 timeout=5")],
            "ProxyPass $URL retry=0 timeout=5"],
        ['ProxyPassMatch', [$KEEP, $ON, "ProxyPassMatch ^/a/(.*)\$ $URL\$1"],
            "ProxyPassMatch ^/a/(.*)\$ $URL\$1"],
        ['a handler', [location($set, $ON, $KEEP)], $set],
        ['RewriteRule', ['RewriteEngine On', $rule, location($ON, $KEEP)],
            $rule],
        ['another domain', [location($ON, $KEEP,
            'ProxyPass https://x.supabase.in/auth/v1')],
            'ProxyPass https://x.supabase.in/auth/v1'],
        ['a port and capitals', [location($ON, $KEEP,
            'ProxyPass https://X.Supabase.CO:443/auth/v1')],
            'ProxyPass https://X.Supabase.CO:443/auth/v1']) {
        my ($name, $main, $target) = @$case;
        $target ||= $HOSTED;
        beside_ok($name, 'main server', lines(@$main), $NAME, $KEEP, $target);
    }
    beside_ok('inherited by a vhost', 'shop.example',
        lines($KEEP) . vhost(location($HOSTED, $ON)), $NAME, $KEEP, $HOSTED);
    my $defined = 'ProxyPass "https://${PROJECT}.supabase.co/auth/v1/"';
    beside_ok('a name that is defined', 'main server', lines(
        'Define PROJECT abcdefgh', location($defined, $ON, $KEEP)), $NAME,
        $KEEP, $defined);
    $defined = 'ProxyPass "${TARGET}"';
    beside_ok('a URL that is defined', 'main server', lines(
        "Define TARGET $URL", location($defined, $ON, $KEEP)), $NAME, $KEEP,
        $defined);
    my $macro = 'ProxyPass "https://$project.supabase.co/"';
    $check->refused_ok($BASE . lines(section('Macro Auth $project',
        location($macro, $ON, $KEEP)), 'Use Auth abcdefgh'), 'a macro',
        qr/US000: main server: $NAME/);
    $check->file('auth.inc', lines(location($HOSTED, $ON, $KEEP)));
    $check->refused_ok("${BASE}Include $dir/auth.inc\n", 'a file',
        qr{US000: main server: ProxyPreserveHost On \(\S*auth\.inc:4\) },
        qr{Supabase \(\S*auth\.inc:2\)});
};

subtest 'where ProxyPreserveHost is no fault' => sub {
    fine_ok('Off', location($HOSTED, $ON, 'ProxyPreserveHost Off'));
    fine_ok('to a server of the site', location($LOCAL, $ON, $KEEP));
    fine_ok("to other servers: $_", location($ON, $KEEP, "ProxyPass $_"))
        for 'https://supabase.co/', 'https://x.supabase.co.example/',
        'https://xsupabase.co/', 'https://auth.example/?x.supabase.co',
        'https://auth.example/x.supabase.co';
    fine_ok('a section with a target of its own', $KEEP,
        "ProxyPass /rest/ $URL", location($LOCAL, $ON));
    fine_ok('a path that is not forwarded', 'RewriteEngine On', $KEEP,
        "RewriteRule ^/a/ $URL [R,L]", "RewriteRule ^/b/ $URL",
        "RewriteRule ^/c/ $URL [PT]", location($ON));
    fine_ok('Off in the section', $KEEP, location($HOSTED, $ON,
        'ProxyPreserveHost Off'));
    fine_ok('without UserSyncEnsureResponse', location($HOSTED, $KEEP));
};

# ---- keys of administrators

my $ADMIN = qr/UserSyncProxyAdmin Allow \(.*secret key \(.*administrator/;
my $ALLOW = 'UserSyncProxyAdmin Allow';
my $SECRET  = double->key('secret');
my $SERVICE = double->key('service_role');
my ($ANON) = map { $_->{token} }
    grep { $_->{name} eq 'legacy_anon_key_like' } @{ JSON::PP::decode_json(
        slurp(UserSync::Util::top_dir() . '/t/fixtures/supabase/'
            . 'jwt_tokens.json')) };

# RequestHeader lines; nothing shows their keys.
sub key_ok {
    my ($name, $server, $text, @lines) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $said = beside_ok($name, $server, $text, $ADMIN, @lines);
    unlike $said, qr/\Q$SECRET\E|\Q$SERVICE\E/, 'and the key is not shown';
    return;
}

subtest 'a key for administrators' => sub {
    for my $words (
        (map {"$_ apikey $SECRET"} qw(set add append merge setifempty SET)),
        "set ApiKey $SECRET", "set apikey: $SECRET", "set apikey \"$SECRET\"",
        "set apikey $SECRET early", "set apikey $SECRET env=X",
        "set apikey $SERVICE", "set Authorization \"Bearer $SERVICE\"",
        "set authorization: \"bearer $SECRET\"", "set Authorization $SECRET",
        "edit apikey ^.*\$ $SECRET", "edit* apikey x $SECRET",
        "edit Authorization .* \"Bearer $SERVICE\"",
        "set apikey \"expr=$SECRET\"") {
        my $line = "RequestHeader $words";
        key_ok($line =~ s/\w{20,}\S*/KEY/r, 'main server',
            lines(location($HOSTED, $ON, $ALLOW, $line)), $ALLOW, $line);
    }
    my $line = "RequestHeader set apikey $SECRET";
    for my $case (
        ['in the server', [$line, location($HOSTED, $ON, $ALLOW)]],
        ['all in the server', [$line, $ALLOW, $ON]],
        ['Allow in the server', [$ALLOW, location($HOSTED, $ON, $line)]],
        ['a section in two parts', [location($line), location($ON, $ALLOW)]],
        ['within', [location($ON, $ALLOW, section('If "true"', $line))]],
        ['a vhost', [], [location($ON, $ALLOW, $line)]],
        ['inherited', [$line], [location($ON, $ALLOW)]],
        ['Allow inherited', [$ALLOW], [location($ON, $line)]]) {
        my ($name, $main, $vhost) = @$case;
        key_ok($name, $vhost ? 'shop.example' : 'main server',
            lines(@$main) . ($vhost ? vhost(@$vhost) : ''), $ALLOW, $line);
    }
    my $defined = 'RequestHeader set apikey ${KEY}';
    key_ok('a key that is defined', 'main server', lines("Define KEY $SECRET",
        location($ON, $ALLOW, $defined)), $ALLOW, $defined);
    my $again = "RequestHeader add apikey $SECRET";
    key_ok('one that comes after it was taken away', 'main server',
        lines(location($ON, $ALLOW, $line, 'RequestHeader unset apikey',
            $again)), $ALLOW, $again);
    key_ok("one that is only taken away for some: $_", 'main server',
        lines(location($ON, $ALLOW, $line, "RequestHeader $_")), $ALLOW,
        $line) for 'unset apikey env=X', 'unset apikey "expr=true"',
        'unset Authorization', 'add apikey x', 'setifempty apikey x';
};

subtest 'where a key is no fault' => sub {
    my $line = "RequestHeader set apikey $SECRET";
    fine_ok('Deny', location($HOSTED, $ON, $line));
    fine_ok('Deny in words', $ALLOW, location($HOSTED, $ON, $line,
        'UserSyncProxyAdmin Deny'));
    fine_ok('without UserSyncEnsureResponse', location($ALLOW, $line));
    fine_ok('elsewhere', location($HOSTED, $ON, $ALLOW),
        section('Location "/rest/v1/"', $line));
    fine_ok('Allow elsewhere', location($HOSTED, $ON, $line),
        section('Location "/rest/v1/"', $ALLOW));
    my $allowed = sub { return location($HOSTED, $ON, $ALLOW, @_) };
    fine_ok($_->[0] =~ s/\w{20,}\S*/KEY/r, $allowed->("RequestHeader $_->[0]"))
        for ['set apikey ' . double->key], ["set apikey $ANON"],
        ["set Authorization \"Bearer $ANON\""], ["set X-Key $SECRET"],
        ["set X-apikey $SECRET"], ["set apikeys $SECRET"],
        ['unset apikey'], ['unset Authorization'], ['set apikey ""'],
        ['set Authorization "Basic YTpi"'], ["edit apikey $SECRET x"],
        ['set apikey "%{KEY}e"'], ['edit apikey x y'];
    fine_ok('taken away again', $allowed->($line,
        'RequestHeader unset apikey'));
    fine_ok('taken away within', $line, $allowed->(
        'RequestHeader unset APIKEY'));
    fine_ok('another one in its place', $line, $allowed->(
        'RequestHeader set apikey ' . double->key));
    fine_ok('in the answer', $allowed->("Header set apikey $SECRET"));
};

# ---- certificates

subtest 'certificates that nobody verifies' => sub {
    my $tls = UserSync::Configtest->new(without => [qw(http2 status)]);
    my @engine = ('SSLProxyEngine On');
    my @verify = (@engine, 'SSLProxyVerify require');
    my $warned = sub {
        my ($name, @lines) = @_;
        $tls->warned_ok($BASE . lines(@lines), $name,
            qr/US004: .*[(]\S+:\d+[)], but takes any server for Supabase/,
            qr/say SSLProxyVerify require beside SSLProxyEngine/);
    };
    my $fine = sub { $tls->accepted_ok($BASE . lines(@_[1 .. $#_]), $_[0]) };
    $warned->('none', @engine, location($HOSTED, $ON));
    $warned->('Report', @engine, location($HOSTED,
        'UserSyncEnsureResponse Report'));
    $warned->($_, @engine, "SSLProxyVerify $_", location($HOSTED, $ON))
        for qw(none optional optional_no_ca);
    $warned->('a server', @engine, "RewriteEngine On\n$ON",
        'RewriteRule "^/auth/(.*)" "https://10.0.0.1/$1" [P]');
    $warned->('HTTP/2', @engine, location('ProxyPass "h2://10.0.0.1/"', $ON));
    $warned->('a handler', @engine, location(
        'SetHandler "proxy:https://10.0.0.1/"', $ON));
    $warned->('told once', @engine, location($HOSTED, $ON),
        $tls->vhost('shop.example', 'UserSyncTable members'));
    $warned->('a vhost', @engine, $tls->vhost('shop.example',
        location($HOSTED, $ON)));
    $warned->('another vhost verifies', @engine,
        $tls->vhost('shop.example', location($HOSTED, $ON)),
        $tls->vhost('fine.example', @verify, location($HOSTED, $ON)));
    $fine->('verified', @verify, location($HOSTED, $ON));
    $fine->('in <Proxy>', section('Proxy "https://abcdefgh.supabase.co/"',
        @verify), location($HOSTED, $ON));
    $fine->('in the vhost', $tls->vhost('shop.example', @verify,
        location($HOSTED, $ON)));
    $fine->('by the main server', @verify, $tls->vhost('shop.example',
        @engine, location($HOSTED, $ON)));
    $fine->('Off', @engine, location($HOSTED));
    $fine->('without TLS', location($LOCAL, $ON));
    $fine->('a target of its own', @engine, $HOSTED =~ s{ }{ /all/ }r,
        location($LOCAL, $ON));
};

# ---- .htaccess

subtest 'not in .htaccess' => sub {
    my $httpd = $check->httpd;
    $httpd->write_config($check->config . <<"CONF")->start;
<Directory "$dir/htdocs">
    AllowOverride All
    AllowOverrideList UserSyncEnsureResponse UserSyncProxyAdmin \\
        UserSyncProxyHeaders
</Directory>
CONF
    spew("$dir/htdocs/page", 'fine');
    is get($httpd->url('/page'))->{status}, 200, 'without';
    for my $line ('EnsureResponse On', 'EnsureResponse Off',
        'ProxyAdmin Allow', 'ProxyHeaders Keep') {
        spew("$dir/htdocs/.htaccess", "UserSync$line\n");
        is get($httpd->url('/page'))->{status}, 500, $line;
    }
    $httpd->expect_log(qr/UserSync\w+ (?:cannot occur|not allowed)/);
    $httpd->stop;
};

# ---- what is fine, and what is shown

subtest 'good configurations' => sub {
    fine_ok('as the manual has it', 'UserSyncForwardClientIP Sb-Forwarded-For',
        location($HOSTED, $ON));
    fine_ok('a whole project', 'ProxyRequests Off', 'ProxyPreserveHost Off',
        location($HOSTED, $ON, 'UserSyncProxyAdmin Deny',
            'RequestHeader set apikey ' . double->key),
        section('Location /rest/v1/',
            'ProxyPass https://abcdefgh.supabase.co/rest/v1/',
            "RequestHeader set apikey $SECRET"),
        section('Location /app/', 'ProxyPass http://127.0.0.1:8000/',
            $OVERRIDE, $KEEP));
    fine_ok('a server of the site', $KEEP, location($LOCAL, $ON, $ALLOW,
        'UserSyncProxyHeaders Keep'));
    fine_ok('vhosts', location($HOSTED, $ON), vhost(location($LOCAL, $ON)),
        $check->vhost('plain.example', $OVERRIDE,
            'UserSyncEnsureResponse Off', location(
                'UserSyncEnsureResponse Off')));
};

subtest 'dumps' => sub {
    my @lines = ($ON, $ALLOW, 'UserSyncProxyHeaders Keep');
    my ($status, $said) = $check->said($BASE . lines(location($LOCAL, @lines)),
        '-t', '-D', 'DUMP_CONFIG');
    is $status, 0, 'are made';
    like $said, qr/^\s*\Q$_\E$/m, $_ for @lines;
};

done_testing;
