# A password for our routes reaches nothing else: not the proxies, rewrites or
# redirects beside them; and a route works in every kind of section.

use UserSync::Test;

# The double plays the application: it records what it gets.
my $backend = double->url . '/backend';
my @email = map {"user$_\@example.com"} 1 .. 4;
double->add_user(email => $_, password => 'correct horse') for @email;

my $docs = UserSync::Util::new_dir('docs');
mkdir "$docs/$_" for qw(htaccess rewritten dir files typed);
spew("$docs/$_/index.html", 'mine') for qw(htaccess rewritten dir files);
spew("$docs/htaccess/.htaccess", <<"CONF");
RewriteEngine On
RewriteRule ^(.*)\$ $backend/\$1 [P]
CONF
spew("$docs/typed/.htaccess", "SetHandler usersync-login\n");

# Everything under the vhost goes to the application, in some way.
my %beside = (
    ProxyPass => "ProxyPass / $backend/",
    'ProxyPass, encoded' => "ProxyPass / $backend/ mapping=encoded",
    'ProxyPass in a Location' =>
        "<Location \"/\">\nProxyPass $backend/\n</Location>",
    ProxyPassMatch => "ProxyPassMatch ^/(.*)\$ $backend/\$1",
    'RewriteRule [P]' =>
        "RewriteEngine On\nRewriteRule ^/(.*)\$ $backend/\$1 [P]",
    'RewriteRule [P] in a Directory' => <<"CONF",
DocumentRoot "$docs/rewritten"
<Directory "$docs/rewritten">
    RewriteEngine On
    RewriteRule ^(.*)\$ $backend/\$1 [P]
</Directory>
CONF
    'RewriteRule [P] in a Location' => <<"CONF",
<Location "/">
    RewriteEngine On
    RewriteRule ^ $backend%{REQUEST_URI} [P]
</Location>
CONF
    'RewriteRule [P] in .htaccess' => <<"CONF",
DocumentRoot "$docs/htaccess"
<Directory "$docs/htaccess">
    AllowOverride All
</Directory>
CONF
    'SetHandler proxy:' => <<"CONF",
<Location "/">
    SetHandler "proxy:$backend/"
</Location>
<Location "/auth/login">
    SetHandler usersync-login
</Location>
<Location "/auth/register">
    SetHandler usersync-register
</Location>
<Location "/auth/refresh">
    SetHandler usersync-refresh
</Location>
<Location "/auth/logout">
    SetHandler usersync-logout
</Location>
CONF
    'Redirect' => "Redirect 307 / $backend/",
    'Alias'    => "Alias / \"$docs/files/\"",
    'RewriteRule [R]' =>
        "RewriteEngine On\nRewriteRule ^/(.*)\$ $backend/\$1 [R=307]",
);

# A login route in every kind of section that can set a handler.
my %sections = (
    '/any/login' => <<'CONF',
<LocationMatch "^/any/(?:login|signin)$">
    SetHandler usersync-login
</LocationMatch>
CONF
    '/dir/login' => <<"CONF",
<Directory "$docs/dir">
    SetHandler usersync-login
</Directory>
CONF
    '/dir/index.html' => '',
    '/files/login.json' => <<'CONF',
<Files "login.json">
    SetHandler usersync-login
</Files>
CONF
    '/files/x.login' => <<'CONF',
<FilesMatch "\.login$">
    SetHandler usersync-login
</FilesMatch>
CONF
    '/files/x.signin' => "AddHandler usersync-login .signin\n",
    '/if/login' => <<'CONF',
<If "%{REQUEST_URI} == '/if/login'">
    SetHandler usersync-login
</If>
CONF
    '/nested/login' => <<'CONF',
<Location "/nested">
    <If "-n %{HTTP_HOST}">
        SetHandler usersync-login
    </If>
</Location>
CONF
    '/typed/login' => <<"CONF",
<Directory "$docs/typed">
    AllowOverride FileInfo
</Directory>
CONF
);

my %vhost
    = (sections => "DocumentRoot \"$docs\"\n" . join '', values %sections);
my %vhost_of;
@vhost_of{ sort keys %beside } = map {"beside$_"} 1 .. keys %beside;
$vhost{ $vhost_of{$_} } = "ServerAlias x\n$beside{$_}" for keys %beside;

my $httpd = UserSync::Httpd->new(
    config => "<Directory \"$docs\">\nRequire all granted\n</Directory>\n"
        . module_config(), vhosts => \%vhost)->start;

sub body { return { email => $_[0], password => 'correct horse' } }

# The paths of requests that reached the application.
sub passed_on { return map { $_->{target} } double->requests('other') }

for my $name (sort keys %beside) {
    subtest "beside $name" => sub {
        my $vhost = $vhost_of{$name};
        my $url = sub { $httpd->url($_[0], $vhost) };
        double->clear_requests;
        if ($name !~ /Redirect|\[R\]|Alias/) {
            get($url->('/index.html'));
            my @passed = passed_on();
            is scalar @passed, 1, 'other paths go to the application';
        }
        elsif ($name eq 'Alias') {
            is get($url->('/index.html'))->{body}, 'mine', 'other paths';
        }
        else {
            is get($url->('/index.html'))->{status}, 307, 'other paths';
        }
        double->clear_requests;

        for my $path ('/auth/login', '//auth///login', '/x/../auth/login',
            '/auth/./login', '/auth/%6Cogin', '/auth/login?next=/index.html') {
            my $response = post($url->($path), body($email[0]));
            is $response->{status}, 200, "$path: logged in"
                or diag show($response);
        }
        my $taken = post($url->('/auth/register'), body($email[1]));
        is $taken->{json}{code}, 'user_already_exists', 'register'
            or diag show($taken);
        is post($url->('/auth/login'), body('nobody@example.com'))->{status},
            401, 'refused';
        is post($url->('/auth/refresh'), { refresh_token => 'a0l3l2t5k7ct' })
            ->{json}{code}, 'invalid_refresh_token', 'refresh';
        is request(POST => $url->('/auth/logout'), undef,
            Authorization => 'Bearer a.b.c')->{json}{code}, 'invalid_token',
            'logout';
        is post($url->('/auth/login'), '{"password":"correct horse"')
            ->{status}, 400, 'malformed';
        is post($url->('/auth/login/more'), body($email[0]))->{status}, 404,
            'a path below the route';
        is get($url->('/auth/login'))->{status}, 405, 'another method';
        is request(OPTIONS => $url->('/auth/login'))->{status}, 204, 'OPTIONS';
        is_deeply [passed_on()], [], 'nothing of it is passed on';
    };
}

subtest 'routes in other sections' => sub {
    for my $path (sort keys %sections) {
        postgres->sql(app => 'DELETE FROM users');
        my $response = post($httpd->url($path, 'sections'), body($email[2]));
        user_row_ok $response, $email[2], $path;
        is get($httpd->url($path, 'sections'))->{status}, 405, "$path: GET";
    }
    is post($httpd->url('/any/other', 'sections'), body($email[2]))->{status},
        404, 'beside a LocationMatch';
    is get($httpd->url('/files/index.html', 'sections'))->{body}, 'mine',
        'beside a Files';
};

$httpd->allow_log(qr/AH01276|AH00128|proxy.*AH01144/);

done_testing;
