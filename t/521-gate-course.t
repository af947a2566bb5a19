# One request is one visit, whatever httpd makes of it: subrequests, internal
# redirects, error documents. And a refusal is an answer before any handler.

use UserSync::App;
use UserSync::Gate;
use UserSync::Tables;
use UserSync::Test;

my $ENSURE = 'UserSyncEnsure On';

# Without the cache every look at the table can be counted.
my $UNCACHED = "UserSyncCache none\n";

# The statements of a new user's visit.
my @ONCE = qw(SELECT INSERT SELECT);

my $DB = logged_db('usersync_gate');

sub visit_sql {
    my ($httpd, $path, $id, @header) = @_;
    my $response;
    my $sql = sql_of($DB,
        sub { $response = visit($httpd, $path, $id, @header) });
    return ($response, $sql);
}

subtest 'subrequests and internal redirects' => sub {
    my $httpd = gate_server($DB, $UNCACHED . guarded('/app', $ENSURE)
        . guarded('/free') . <<"CONF", modules => [qw(include actions)])->start;
DirectoryIndex none.html also-none.html index.html
<Directory "\@DIR\@/htdocs">
    Options +Includes +FollowSymLinks
    AddOutputFilter INCLUDES .shtml
    AddType text/html .shtml
</Directory>
<Directory "\@DIR\@/htdocs/app">
    RewriteEngine On
    RewriteRule ^turned\$ /app/file
    RewriteRule ^again\$ /app/turned
</Directory>
RewriteEngine On
RewriteCond "%{LA-U:REMOTE_USER}" .
RewriteRule ^/app/ahead\$ /app/file
CONF
    my $root = $httpd->dir . '/htdocs';
    spew("$root/app/page.shtml", join "\n",
        map {qq{<!--#include virtual="/app/$_" -->}} qw(file other index.html));
    mkdir "$root/free";
    spew("$root/free/page.shtml", qq{<!--#include virtual="/app/file" -->});
    for (['/app/', "app/index.html\n", 'DirectoryIndex'],
        ['/app/turned', "app/file\n", 'a rewritten path'],
        ['/app/again', "app/file\n", 'rewritten twice'],
        ['/app/ahead', "app/file\n", 'a look ahead for the user'],
        ['/app/page.shtml', "app/file\n\napp/other\n\napp/index.html\n",
            'a page of three parts'],
        ['/free/page.shtml', "app/file\n", 'a part behind the gate']) {
        my ($path, $body, $name) = @$_;
        my $id = new_id();
        my ($response, $sql) = visit_sql($httpd, $path, $id);
        visit_ok $response, $id, $name;
        is $response->{body}, $body, 'what was asked for';
        is_deeply $sql, \@ONCE, 'one visit';
    }
    my $id = new_id();
    my ($response, $sql) = visit_sql($httpd, '/free/page.shtml', 'ada');
    is $response->{status}, 200, 'a page whose part is refused';
    unlike $response->{body}, qr{app/file}, 'without the part';
    $httpd->allow_log(qr/user_not_identified|AH01337|unable to include/);
};

subtest 'an error document is no visit' => sub {
    my $victim = new_id();
    my $httpd = gate_server($DB, $UNCACHED . <<"CONF")->start;
ErrorDocument 401 /app/401
ErrorDocument 403 /app/403
ErrorDocument 404 /app/404
<LocationMatch "^/(?:app|same)/">
    AuthType Basic
    AuthName app
    AuthBasicProvider file
    AuthUserFile "\@DIR\@/passwords"
    Require valid-user
    $ENSURE
    Header always set Env-Id "expr=%{reqenv:USERSYNC_USER_ID}%{reqenv:REDIRECT_USERSYNC_USER_ID}"
</LocationMatch>
<LocationMatch "^/same/">
    ErrorDocument 401 /same/401
</LocationMatch>
<LocationMatch "^/app/4">
    AuthMerging Off
    Require all granted
</LocationMatch>
<Location "/app/forbidden">
    Require user somebody
    AuthzSendForbiddenOnFailure On
</Location>
CONF
    spew($httpd->dir . "/htdocs/app/$_", "document $_") for 401, 403, 404;
    mkdir $httpd->dir . '/htdocs/same';
    spew($httpd->dir . "/htdocs/same/$_", "same/$_\n") for 401, 'file';
    spew($httpd->dir . '/passwords', "$victim:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n");
    my ($response, $sql) = visit_sql($httpd, '/app/file', $victim);
    is_deeply [@$response{qw(status body)}], [401, 'document 401'],
        'a wrong password for a real name';
    is_deeply $sql, [], 'no row was created for it';
    is $response->{headers}{'env-id'} || '', '', 'and no user is named';
    ($response, $sql) = visit_sql($httpd, '/same/file', $victim);
    is_deeply [@$response{qw(status body)}], [401, "same/401\n"],
        'the same, with a document in the same section';
    is_deeply $sql, [], 'no row was created for that either';
    is $response->{headers}{'env-id'} || '', '', 'nor is a user named';
    $httpd->allow_log(qr/AH01617|password mismatch|AH01618/);

    my %known = (Authorization => 'Basic '
        . MIME::Base64::encode("$victim:secret", ''));
    $sql = sql_of($DB, sub {
        $response = get($httpd->url('/app/forbidden'), %known);
    });
    is_deeply [@$response{qw(status body)}], [403, 'document 403'],
        'the right password, but not allowed';
    is_deeply $sql, [], 'no row was created';
    $sql = sql_of($DB, sub {
        $response = get($httpd->url('/app/missing'), %known);
    });
    is_deeply [@$response{qw(status body)}], [404, 'document 404'],
        'the file is missing';
    is_deeply $sql, \@ONCE,
        'but the gate had been passed';
    is $response->{headers}{'env-id'}, $victim, 'and the document knows it';
    $httpd->allow_log(qr/AH01631/);
};

subtest 'an error document that is a visit' => sub {
    my $app = UserSync::App->start;
    my $httpd = gate_server($DB, guarded('/app', $ENSURE,
        'UserSyncEnsureHeaders On') . <<"CONF")->start;
ProxyPass "/app" "${\ $app->url }/app"
ErrorDocument 404 /app/missing
ErrorDocument 400 /app/bad
CONF
    # a request that fails before it reaches the gate is authenticated on its
    # way to the document: the application must not be asked without a row
    for my $path ('/x%2Fy', '/app/x%2Fy', '/nothing', '/app/%00') {
        my $id = new_id();
        $app->forget;
        visit($httpd, $path, $id);
        my ($request) = $app->requests;
        is_deeply [has_row($id), $request->{headers}{'x-user-id'}], [1, $id],
            "$path, then $request->{path}";
    }
    $httpd->allow_log(qr/AH00026|AH10508/);
};

subtest 'a document for a status that is no error' => sub {
    my $victim = new_id();
    my $httpd = gate_server($DB, <<"CONF",
<Location "/app">
    AuthType form
    AuthName app
    AuthFormProvider file
    AuthUserFile "\@DIR\@/passwords"
    AuthFormLoginRequiredLocation "/open"
    Session On
    SessionCookieName session path=/
    Require valid-user
    $ENSURE
    ErrorDocument 302 /app/file
</Location>
CONF
        modules => [qw(auth_form session session_cookie request)])->start;
    spew($httpd->dir . '/passwords',
        "$victim:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n");
    for my $password ('wrong', 'secret') {
        get($httpd->url('/app/file'),
            Cookie => "session=app-user=$victim&app-pw=$password");
        is has_row($victim), $password eq 'secret' ? 1 : 0,
            "a session with the $password password";
    }
    $httpd->allow_log(qr/AH01807|AH01617|AH01618|mod_auth_form|auth_form:/);
};

subtest 'a refusal comes before every handler' => sub {
    my $app = UserSync::App->start;
    my $httpd = gate_server($DB, guarded('/app', $ENSURE,
        'Header always set Access-Control-Allow-Origin "https://a.example"',
        'Header set Cache-Control "public, max-age=3600"')
        . guarded('/proxied', $ENSURE) . <<"CONF")->start;
ErrorDocument 403 "the administrator's own"
ProxyPass "/proxied" "${\ $app->url }/"
CONF
    for my $method (qw(GET POST PUT DELETE)) {
        my $response = UserSync::HTTP->exchange($method,
            $httpd->url('/proxied/x'), $method eq 'GET' ? undef : 'x' x 20000,
            as_user('ada'));
        problem_ok $response, 403, 'user_not_identified', $method;
    }
    my $head = UserSync::HTTP->exchange('HEAD', $httpd->url('/proxied/x'),
        undef, as_user('ada'));
    is $head->{status}, 403, 'HEAD';
    is_deeply [$app->requests], [], 'the application has seen none of them';
    my $cors = visit($httpd, '/app/file', 'ada');
    problem_ok $cors, 403, 'user_not_identified', 'a file';
    is $cors->{headers}{'access-control-allow-origin'}, 'https://a.example',
        'mod_headers has had its part';
    is visit($httpd, '/proxied/x', new_id())->{status}, 200, 'others pass';
    is scalar($app->requests), 1, 'to the application';
    my $connection = connection($httpd->url('/'));
    my %header = as_user('ada');
    for my $path ('/proxied/x', '/app/file') {
        $connection->send("GET $path HTTP/1.1\r\nHost: x\r\n"
            . "Authorization: $header{Authorization}\r\n\r\n");
        is $connection->response(20)->{status}, 403,
            'the connection can be used again';
    }
    $connection->close;
    $httpd->allow_log(qr/user_not_identified/);
};

subtest 'a row that the table refuses' => sub {
    my $db = scratch_db('usersync_refusing', <<'SQL',
ALTER TABLE users ADD CONSTRAINT no_bots CHECK (email NOT LIKE '%@bots.example')
SQL
        'CREATE UNIQUE INDEX one ON users (email)');
    my $httpd = gate_server($db, guarded('/app', $ENSURE,
        'UserSyncEnsureOnError Allow',
        'UserSyncEnsureEmail "%{HTTP:X-Mail}"'), children => 1)->start;
    my $visit = sub { visit($httpd, '/app/file', $_[0], 'X-Mail' => $_[1]) };
    my ($id, $bot, $twin) = map { new_id() } 1 .. 3;
    visit_ok $visit->($id, 'a@example.com'), $id, 'a user';
    for (1, 2) { # what was refused is not remembered
        problem_ok $visit->($bot, 'x@bots.example'), 500, 'user_row_refused';
        problem_ok $visit->($twin, 'a@example.com'), 409, 'user_row_conflict';
    }
    $httpd->expect_log(qr/usersync-gate: user_row_refused.*no_bots/);
    $httpd->expect_log(qr/usersync-gate: user_row_conflict/);
    visit_ok $visit->($bot, 'y@example.com'), $bot, 'with a better address';

    postgres->sql($db => $_) for 'DROP INDEX one',
        'ALTER TABLE users ADD COLUMN nick text NOT NULL DEFAULT \'none\'',
        'ALTER TABLE users ALTER COLUMN nick DROP DEFAULT';
    my $mark = $httpd->log->mark;
    problem_ok $visit->($twin, 'a@example.com'), 500, 'user_row_refused',
        'a column that nothing fills';
    one_line $httpd, $mark, qr/user_row_refused.*nick/, 'its name is logged';
};

subtest 'columns of the routes keep their defaults' => sub {
    my $db = scratch_db('usersync_columns', 'ALTER TABLE users ADD COLUMN phone text'
        . " DEFAULT 'unknown', ADD COLUMN name text NOT NULL DEFAULT '-'",
        'GRANT INSERT (phone, name) ON users TO "www-data"');
    my $httpd = gate_server($db, <<"CONF" .
UserSyncColumn phone phone
UserSyncColumn user_metadata.name name
CONF
        guarded('/app', $ENSURE, 'UserSyncEnsureEmail "%{HTTP:X-Mail}"'))
        ->start;
    my $id = new_id();
    visit_ok visit($httpd, '/app/file', $id, 'X-Mail' => 'a@example.com'),
        $id, 'passes';
    my $row = row_of($id, $db);
    is_deeply [@$row{qw(email phone name)}], ['a@example.com', 'unknown', '-'],
        'id and e-mail only';
    postgres->sql($db =>
        'ALTER TABLE users ALTER COLUMN name DROP DEFAULT');
    problem_ok visit($httpd, '/app/file', new_id()), 500, 'user_row_refused',
        'a column that the routes alone would fill';
    $httpd->expect_log(qr/user_row_refused.*UserSyncEnsure fills id and e-mail/);
};

done_testing;
