# The token hook: no token of the project is signed before its user has a row.
# What the real server sends, and what the module answers.

use UserSync::Gate;
use UserSync::Hook;
use UserSync::Tables;
use UserSync::Test;

my $DB = logged_db('usersync_hook',
    'ALTER TABLE users ADD COLUMN full_name text, ADD COLUMN facts jsonb',
    'ALTER TABLE users ALTER COLUMN email DROP NOT NULL',
    'GRANT INSERT (full_name, facts) ON users TO "www-data"');
my $httpd = hook_server($DB, children => 1, config => <<'CONF')->start;
UserSyncColumn user_metadata.full_name full_name
UserSyncColumn user_metadata.facts facts
CONF

subtest 'captured tokens' => sub {
    for my $name (qw(signup password refresh magiclink anonymous)) {
        postgres()->sql($DB, 'DELETE FROM users');
        $httpd->graceful; # the users are forgotten
        my $body = captured("token_$name")->{body};
        my $response = call_hook($httpd, $body);
        allowed_ok $response, $body, "$name: its claims, byte for byte";
        is $response->{headers}{'cache-control'}, 'no-store',
            "$name: no cache keeps it";
        my ($id) = $body =~ /"user_id":"([^"]+)"/;
        is_deeply [@{ row_of($id, $DB) }{qw(email full_name)}],
            $name eq 'anonymous' ? [undef, undef]
            : ['ada@example.com', "Ada <&> \x{d6}"],
            "$name: the row has all that a login knows";
    }
    is_deeply gate_notes($httpd),
        ['ok', '6466fabc-9a74-46de-a5ef-66724a538eb4', 'SQL'], 'the notes';
};

subtest 'captured new users' => sub {
    my ($before, $after)
        = map { captured("created_signup-$_")->{body} } 1, 2;
    my ($id) = $after =~ /"user":\{"id":"([^"]+)"/;
    my $response = call_hook($httpd, $before);
    is_deeply [@$response{qw(status body)}], [200, '{}'], 'before: allowed';
    ok !has_row($id), 'nothing is written: the id is provisional';
    $response = call_hook($httpd, $after);
    is_deeply [@$response{qw(status body)}], [200, '{}'], 'after: good';
    is_deeply [@{ row_of($id, $DB) }{qw(email full_name)}],
        ['cyd@example.com', 'Cyd'], 'after: the row';
    $response = call_hook($httpd, $after);
    is_deeply [@$response{qw(status body)}], [200, '{}'], 'and once more';
};

subtest 'an address and metadata as of today' => sub {
    my $id = new_id();
    my %at = (sub => $id, user_metadata => \'{"full_name":"A","facts":[1.50]}');
    my $body;
    my $sql = sql_of($DB, sub {
        $body = token_body(%at, email => 'old@example.com');
        allowed_ok call_hook($httpd, $body), $body, 'a new user';
    });
    is_deeply $sql, [qw(SELECT INSERT SELECT)], 'is looked up and made';
    is_deeply [@{ row_of($id, $DB) }{qw(email full_name facts)}],
        ['old@example.com', 'A', '[1.50]'], 'with all columns';
    $sql = sql_of($DB, sub {
        allowed_ok call_hook($httpd, token_body(%at,
            email => 'old@example.com', method => $_)), $body, "again by $_"
            for qw(token_refresh otp);
    });
    is_deeply $sql, [], 'a known user with this e-mail needs no SQL';
    is_deeply gate_notes($httpd), ['ok', $id, 'no SQL'], 'as the notes say';
    $sql = sql_of($DB, sub {
        $body = token_body(%at, email => 'new@example.com');
        allowed_ok call_hook($httpd, $body), $body, 'another e-mail';
    });
    is_deeply $sql, [qw(SELECT UPDATE SELECT)], 'is followed';
    is row_of($id, $DB)->{email}, 'new@example.com', 'in the row';
    $httpd->graceful;
    $sql = sql_of($DB, sub { call_hook($httpd, $body) });
    is_deeply $sql, ['SELECT'],
        'a user whom the cache does not know costs one look';
    my $upper = new_id();
    $upper =~ s/0/A/;
    $body = token_body(sub => $upper);
    allowed_ok call_hook($httpd, $body), $body, 'an id in upper case';
};

subtest 'claims of any kind go back as they came' => sub {
    my %claim = (
        'large numbers' => [user_metadata =>
            \'{"n":1e21,"m":1e+21,"d":12345678901234567890,"z":-0.0}'],
        'half a pair' => [user_metadata => \'{"full_name":"\ud800x\udfff"}'],
        'line separators' => [user_metadata =>
            \'{"full_name":"a\u2028b\u2029c\u003c"}'],
        'raw ones' => [user_metadata =>
            \"{\"full_name\":\"a\xe2\x80\xa8b\xe2\x80\xa9c<>&\"}"],
        'blanks' => [app_metadata => \"{ \"a\" :\t[ 1 ,\n 2 ] }"],
        'duplicates' => [aal => \'"aal1","aal":"aal2","role":"x"'],
        'depth 500' => [app_metadata => \('{"a":' . '[' x 500 . ']' x 500
            . '}')],
        'an array as audience' => [aud => \'["a","b"]'],
        'no e-mail' => [email => ''],
        'no e-mail at all' => [email => \'null'],
        'many members' => [app_metadata => \('{' . join(',',
            map {"\"m$_\":$_"} 1 .. 10_000) . '}')],
    );
    for my $name (sort keys %claim) {
        my $body = token_body(@{ $claim{$name} });
        allowed_ok call_hook($httpd, $body), $body, $name;
    }
    my $body = token_body(sub => my $id = new_id(), email => 'a@example.com',
        aal => \'"aal1","email":"b@example.com"');
    allowed_ok call_hook($httpd, $body), $body, 'a second e-mail';
    is row_of($id, $DB)->{email}, 'b@example.com',
        'the last one counts, as in Go';
};

subtest 'hooks that are not ours' => sub {
    for my $name (qw(send-email send-sms mfa-verification-attempt
        password-verification-attempt customize-access-tokens), 'x y', '') {
        my $mark = $httpd->log->mark;
        my $body = created_body($name);
        refused_hook_ok call_hook($httpd, $body), 500,
            qr/^This server does not serve this hook\.$/, "'$name' is refused";
        my ($id) = $body =~ /"id":"([^"]+)"/;
        ok !has_row($id), 'and nothing is written';
        my ($line) = our_lines($httpd, $mark) or next;
        like $line, qr/hook_not_served: .*point it elsewhere/, 'the log';
        like $line, $name =~ /^[\w-]+$/ ? qr/\($name\)/ : qr/\(\?\)/,
            'names it';
    }
    $httpd->expect_log(qr/hook_not_served/);
};

subtest 'signed, but not what Supabase sends' => sub {
    my $id = new_id();
    my $good = token_body(sub => $id);
    my %wrong = (
        'no JSON' => '{"metadata":',
        'an array' => '[]',
        'nothing' => '{}',
        'no claims' => $good =~ s/"claims":/"claim":/r,
        'claims that are no object' =>
            $good =~ s/"claims":\{.*\},"auth/"claims":[],"auth/r,
        'claims that are null' =>
            $good =~ s/"claims":\{.*\},"auth/"claims":null,"auth/r,
        'no user' => $good =~ s/"user_id":"[^"]+"/"user_id":""/r,
        'another user' => $good =~ s/"user_id":"[^"]+"/
            '"user_id":"' . new_id() . '"'/er,
        'a user who is no UUID' => token_body(sub => 'ada'),
        'no UUID' => created_body('after-user-created', id => 'ada'),
        'no user object' =>
            created_body('after-user-created') =~ s/"user":/"person":/r,
        'depth 2000' => token_body(app_metadata =>
            \('[' x 2000 . ']' x 2000)),
        'U+0000' => token_body(app_metadata => \'{"a":"\u0000"}'),
        'no UTF-8' => token_body(app_metadata => \"{\"a\":\"\xff\"}"),
    );
    delete $wrong{nothing}; # a hook without a name is not ours
    for my $name (sort keys %wrong) {
        my $sql = sql_of($DB, sub {
            problem_ok call_hook($httpd, $wrong{$name}), 400,
                'invalid_request', $name;
        });
        is_deeply $sql, [], 'no SQL';
    }
    # Supabase's client is the one who suffers: an administrator must see it
    $httpd->expect_log(qr/usersync:warn.*invalid_request: the signed body is n/);
};

subtest 'the rules of a route' => sub {
    is get($httpd->url('/hook'))->{status}, 405, 'GET';
    is request(OPTIONS => $httpd->url('/hook'))->{status}, 204, 'OPTIONS';
    problem_ok post($httpd->url('/hook/x'), '{}'), 404, 'not_found', 'below';
};

done_testing;
