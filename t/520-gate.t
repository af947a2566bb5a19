# The gate: an authenticated user has a row before a handler sees their
# request, whichever module has authenticated them and wherever the gate is.

use UserSync::Gate;
use UserSync::Tables;
use UserSync::Test;

my $ENSURE = 'UserSyncEnsure On';
my $DB = logged_db('usersync_gate');

subtest 'a new user, and the same again' => sub {
    my $httpd = gate_server($DB, guarded('/app', $ENSURE,
        'UserSyncEnsureEmail "%{HTTP:X-Mail}"'))->start;
    my $id = new_id();
    my $first;
    my $sql = sql_of($DB, sub {
        $first = visit($httpd, '/app/file', $id, 'X-Mail' => 'a@example.com');
    });
    visit_ok $first, $id, 'the first request';
    is_deeply $sql, [qw(SELECT INSERT SELECT)], 'looked up and made';
    is row_of($id, $DB)->{email}, 'a@example.com', 'with the e-mail';
    is_deeply [@{ $first->{headers} }{qw(env-id env-email env-outcome)}],
        [$id, 'a@example.com', 'ok'], 'the environment names the user';
    wait_until { gate_notes($httpd)->[0] } 10;
    is_deeply gate_notes($httpd), ['ok', $id, 'SQL'], 'and so do the notes';
    $sql = sql_of($DB, sub {
        for (1 .. 5) {
            my $again = visit($httpd, '/app/file', $id,
                'X-Mail' => 'b@example.com');
            visit_ok $again, $id, 'again';
            is $again->{headers}{'env-email'}, 'b@example.com',
                'today\'s e-mail';
        }
    });
    is_deeply $sql, [], 'without SQL';
    is row_of($id, $DB)->{email}, 'a@example.com', 'the row is as it was';
    is_deeply gate_notes($httpd), ['ok', $id, 'no SQL'], 'as the notes say';
    my $upper = new_id();
    $upper =~ s/0/A/;
    visit_ok visit($httpd, '/app/file', $upper), lc $upper, 'upper case';
    visit_ok visit($httpd, '/app/file', lc $upper), lc $upper, 'lower case';
};

subtest 'any name of the user in httpd' => sub {
    my $httpd = gate_server($DB, guarded('/app', $ENSURE,
        'UserSyncEnsureUser "%{HTTP:X-Remote-Id}"')
        . guarded('/any', $ENSURE) . <<"CONF")->start;
<Location "/open">
    $ENSURE
</Location>
<Location "/any">
    AuthMerging Off
    <RequireAny>
        Require ip 127.0.0.1
        Require valid-user
    </RequireAny>
</Location>
<Location "/app/index.html">
    AuthMerging Off
    <RequireAll>
        <RequireAny>
            Require user somebody
            Require expr true
        </RequireAny>
        <RequireNone>
            Require ip 10.0.0.1
        </RequireNone>
        Require valid-user
    </RequireAll>
</Location>
CONF
    spew($httpd->dir . '/htdocs/any', 'any');
    my $id = new_id();
    visit_ok visit($httpd, '/app/file', 'somebody', 'X-Remote-Id' => $id),
        $id, 'an expression names the user';
    $id = new_id();
    visit_ok visit($httpd, '/app/index.html', 'ada', 'X-Remote-Id' => $id),
        $id, 'nested Require sections';
    my $sql = sql_of($DB, sub {
        for my $path ('/open', '/any') {
            my $response = visit($httpd, $path);
            is $response->{status}, 200, "$path: no user, and none required";
            is_deeply gate_notes($httpd), ['-', '-', 'no SQL'],
                'not our business';
        }
        is visit($httpd, '/app/file')->{status}, 401, 'no name, no entry';
    });
    is_deeply $sql, [], 'no SQL without a user';
    my $mark = $httpd->log->mark;
    problem_ok visit($httpd, '/app/file', 'ada@example.com'), 403,
        'user_not_identified', 'authenticated, but the expression is empty';
    one_line $httpd, $mark, qr/UserSyncEnsureUser is empty/, 'one line';
};

subtest 'no UUID' => sub {
    my $httpd = gate_server($DB, guarded('/app', $ENSURE), children => 1)
        ->start;
    my @wrong = ('ada@example.com', 'ada', '0', 'x' x 4000,
        '11111111-1111-4111-8111-11111111111', # one digit is missing
        '11111111-1111-4111-8111-1111111111111',
        '11111111-1111-4111-8111-11111111111g',
        '{11111111-1111-4111-8111-111111111111}',
        ' 11111111-1111-4111-8111-111111111111',
        "11111111-1111-4111-8111-111111111111\t",
        '11111111111141118111111111111111');
    my $mark = $httpd->log->mark;
    my $sql = sql_of($DB, sub {
        problem_ok visit($httpd, '/app/file', $_), 403, 'user_not_identified',
            '"' . substr($_, 0, 45) . '"' for @wrong;
    });
    is_deeply $sql, [], 'no SQL';
    my @lines = our_lines($httpd, $mark);
    is scalar @lines, 1, 'it is logged once';
    unlike $_, qr/\bada\b|example/, 'without the name' for @lines;
    $httpd->allow_log(qr/user_not_identified/);
};

subtest 'text that is not an e-mail' => sub {
    my $httpd = gate_server($DB, guarded('/app', $ENSURE,
        'UserSyncEnsureEmail "%{HTTP:X-Mail}"') . guarded('/none', $ENSURE,
        'UserSyncEnsureEmail "%{HTTP:X-Mail}"', 'UserSyncEnsureEmail None'))
        ->start;
    spew($httpd->dir . '/htdocs/none', 'none');
    my %case = (
        'none'        => [undef, undef],
        'empty'       => ['', undef],
        'UTF-8'       => ["j\xc3\xb6rg\@example.com", "j\xf6rg\@example.com"],
        'not UTF-8'   => ["j\xf6rg\@example.com", undef],
        'overlong'    => ["\xc0\xaf\@example.com", undef],
        'a control'   => ["a\tb\@example.com", undef],
        'as long as may be' => [('x' x 308) . '@example.com',
            ('x' x 308) . '@example.com'],
        'too long'    => [('x' x 309) . '@example.com', undef],
        'quotes'      => [q{"a';--"@example.com}, q{"a';--"@example.com}],
    );
    for my $name (sort keys %case) {
        my ($mail, $want) = @{ $case{$name} };
        my $id = new_id();
        visit_ok visit($httpd, '/app/file', $id,
            defined $mail ? ('X-Mail' => $mail) : ()), $id, $name;
        is row_of($id, $DB)->{email}, $want, "$name: the row's";
    }
    my $id = new_id();
    visit_ok visit($httpd, '/none', $id, 'X-Mail' => 'a@example.com'), $id,
        'None';
    is row_of($id, $DB)->{email}, undef, 'None as the last line';
};

subtest 'a token is older than the row' => sub {
    my $httpd = gate_server($DB, "UserSyncCache none\n" . guarded('/app',
        $ENSURE, 'UserSyncEnsureEmail "%{HTTP:X-Mail}"'))->start;
    my $id = new_id();
    my $sql = sql_of($DB, sub {
        for my $mail ('new@example.com', 'old@example.com', '') {
            visit_ok visit($httpd, '/app/file', $id, 'X-Mail' => $mail), $id,
                qq{with "$mail"};
        }
    });
    is_deeply $sql, [qw(SELECT INSERT SELECT SELECT SELECT)], 'nothing is updated';
    is row_of($id, $DB)->{email}, 'new@example.com', 'the row\'s stays';
};

subtest 'an e-mail that the database cannot hold' => sub {
    my $db = encoded_db('usersync_latin1', 'LATIN1');
    my $httpd = gate_server($db, "UserSyncCache none\n" . guarded('/app',
        $ENSURE, 'UserSyncEnsureEmail "%{HTTP:X-Mail}"'))->start;
    my $id = new_id();
    visit_ok visit($httpd, '/app/file', $id, 'X-Mail' => 'a@example.com'),
        $id, 'a user';
    visit_ok visit($httpd, '/app/file', $id,
        'X-Mail' => "\xe4\xbd\xa0\@example.com"), $id,
        'their row is found whatever their address is now';
};

subtest 'a CGI program behind the gate' => sub {
    my $cgi = mpm eq 'prefork' ? 'cgi' : 'cgid';
    my $httpd = gate_server($DB, guarded('/app', $ENSURE,
        'UserSyncEnsureHeaders On', 'UserSyncEnsureEmail "%{HTTP:X-Mail}"')
        . <<'CONF', modules => [$cgi])->start;
<IfModule mod_cgid.c>
    ScriptSock "@DIR@/cgid"
</IfModule>
<Location "/app/script">
    SetHandler cgi-script
    Options +ExecCGI
</Location>
CONF
    my $script = spew($httpd->dir . '/htdocs/app/script',
        "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n'\n"
        . "env | grep -E '^(USERSYNC|HTTP_X_USER)' | sort\n");
    chmod 0755, $script;
    my $id = new_id();
    my $response = visit($httpd, '/app/script', $id,
        'X-Mail' => 'a@example.com', 'X_User_Id' => 'spoofed');
    visit_ok $response, $id, 'passes';
    is $response->{body}, <<"ENV", 'its environment';
HTTP_X_USERSYNC_OUTCOME=ok
HTTP_X_USER_EMAIL=a\@example.com
HTTP_X_USER_ID=$id
USERSYNC_OUTCOME=ok
USERSYNC_USER_EMAIL=a\@example.com
USERSYNC_USER_ID=$id
ENV
};

subtest 'a user that is set late' => sub {
    my $id = new_id();
    my $httpd = gate_server($DB, guarded('/app', $ENSURE, "SetEnv UID $id",
        'UserSyncEnsureUser "%{reqenv:UID}"',
        'RequestHeader set X-Id "%{USERSYNC_USER_ID}e"',
        'Header set Echo "expr=%{HTTP:X-Id}"'))->start;
    my $response = visit($httpd, '/app/file', 'ada');
    visit_ok $response, $id, 'SetEnv of the same section';
    is $response->{headers}{echo}, $id, 'and mod_headers hears of it';
};

subtest 'not in .htaccess' => sub {
    my $httpd = gate_server($DB, guarded('/app') . <<'CONF')->start;
<Directory "@DIR@/htdocs/app">
    AllowOverride All
    AllowOverrideList UserSyncEnsure UserSyncEnsureHeaders UserSyncEnsureUser \
        UserSyncEnsureEmail UserSyncEnsureOnError
</Directory>
CONF
    my $file = $httpd->dir . '/htdocs/app/.htaccess';
    for my $line ('Ensure On', 'EnsureHeaders On', 'EnsureUser %{REMOTE_USER}',
        'EnsureEmail None', 'EnsureOnError Allow') {
        spew($file, "UserSync$line\n");
        is visit($httpd, '/app/file', new_id())->{status}, 500, $line;
    }
    $httpd->expect_log(qr/UserSyncEnsure\w* (?:cannot occur|not allowed)/);
    unlink $file;
};

subtest 'where the gate is' => sub {
    my $httpd = gate_server($DB, guarded('/') . <<"CONF")->start;
<Directory "\@DIR\@/htdocs/app">
    $ENSURE
    <Files "other">
        UserSyncEnsure Off
    </Files>
</Directory>
<Location "/open">
    <If "%{QUERY_STRING} == 'gate'">
        $ENSURE
    </If>
</Location>
<Location "/app/deep">
    UserSyncEnsure Off
</Location>
<LocationMatch "^/app/deep/(here|there)\$">
    $ENSURE
</LocationMatch>
CONF
    mkdir $httpd->dir . '/htdocs/app/deep';
    spew($httpd->dir . "/htdocs/app/deep/$_", $_) for qw(here there else);
    my %want = ('/app/file' => 1, '/app/other' => 0, '/app/' => 1,
        '/open' => 0, '/open?gate' => 1, '/open?gates' => 0,
        '/app/deep/here' => 1, '/app/deep/else' => 0);
    for my $path (sort keys %want) {
        my $id = new_id();
        is visit($httpd, $path, $id)->{status}, 200, $path;
        is has_row($id), $want{$path}, $want{$path} ? 'a row' : 'no row';
    }
};

subtest 'the routes and the gate know the same users' => sub {
    my $httpd = gate_server($DB, guarded('/app', $ENSURE) . $ENSURE . "\n"
        . join("\n", grep { !/^DBD/ } split /\n/, module_config()))->start;
    my $person = person();
    is log_in($httpd, $person)->{status}, 200, 'a login';
    my $sql = sql_of($DB, sub {
        visit_ok visit($httpd, '/app/file', $person->{id}), $person->{id},
            'passes the gate';
    });
    is_deeply $sql, [], 'without SQL';
    my $new = sign_up($httpd);
    is $new->{status}, 200, 'a registration';
    isnt visit($httpd, '/app/file', $new->{json}{user_id})->{status}, 500,
        'and its user';
};

subtest 'HTTP/2' => sub {
    plan(skip_all => 'mod_http2 does not work with prefork')
        if mpm eq 'prefork';
    my $httpd = gate_server($DB, '', vhosts => {
        tls => guarded('/app', $ENSURE) . <<"CONF" })->start;
SSLEngine On
SSLCertificateFile "$ENV{USERSYNC_RUN}/tls/server.pem"
SSLCertificateKeyFile "$ENV{USERSYNC_RUN}/tls/server.key"
Protocols h2 http/1.1
CONF
    (my $url = $httpd->url('/app/file', 'tls')) =~ s/^http:/https:/;
    my $id = new_id();
    my %header = as_user($id);
    my ($exit, $said) = curl('--http2', '-w', ' %{http_code} %{http_version}',
        '-H', "Authorization: $header{Authorization}", $url);
    is $said, "app/file\n 200 2", 'passes';
    is has_row($id), 1, 'with a row';
    %header = as_user('ada');
    ($exit, $said) = curl('--http2', '-w', ' %{http_code} %{http_version}',
        '-H', "Authorization: $header{Authorization}", $url);
    like $said, qr/^\{"type":.*"user_not_identified".* 403 2$/, 'is refused';
    $httpd->allow_log(qr/user_not_identified/);
};

done_testing;
