# The event door: what the project says of its users reaches the table, in both
# forms; and nothing else does, whoever sends it.

use UserSync::Event;
use UserSync::Gate;
use UserSync::Hook;
use UserSync::Tables;
use UserSync::Test;

my $DB = event_db('usersync_event',
    'ALTER TABLE users ADD COLUMN full_name text, ADD COLUMN facts jsonb',
    'GRANT INSERT (full_name, facts), SELECT (full_name, facts), '
    . 'UPDATE (full_name, facts) ON users TO "www-data"',
    qq{ALTER DATABASE usersync_event SET log_statement = 'all'});
my $OTHER = secret_of(24);
my $COLUMNS = $LIFE_LINES . <<'CONF';
UserSyncColumn user_metadata.full_name full_name
UserSyncColumn app_metadata.facts facts
CONF
my $BY_HEADER = "UserSyncEventHeader $HEADER $HEADER_VALUE\n";
my $httpd = event_server($DB, children => 1, columns => $COLUMNS,
    secret => "$OTHER|$SECRET", config => $BY_HEADER)->start;

# Sends a Database Webhook with its header; further headers may follow.
sub send_stock {
    my ($to, $body, %header) = @_;
    return send_event($to, $body, unsigned => 1,
        headers => { $HEADER => $HEADER_VALUE, %header });
}

# The columns of a user's row.
sub columns_of {
    my ($id, @names) = @_;
    return [@{ row_of($id, $DB) || {} }{@names}];
}

# Refused without SQL, with one line in the log that matches.
sub refused_event_ok {
    my ($name, $call, $status, $code, $line) = @_;
    my $mark = $httpd->log->mark;
    my $response;
    my $sql = sql_of($DB, sub { $response = $call->() });
    problem_ok $response, $status, $code, $name;
    is_deeply $sql, [], "$name: no SQL";
    one_line($httpd, $mark, $line, "$name: one line") if $line;
    return $response;
}

subtest 'messages' => sub {
    my $id = new_id();
    my $time = time_stamp();
    applied_ok send_event($httpd, { type => 'INSERT', id => $id,
        email => 'ada@example.com', phone => '491234',
        banned_until => '2126-01-01T00:00:00+00:00', updated_at => $time,
        user_metadata => { full_name => 'Ada' },
        app_metadata => \'{"facts":[1.50]}' }), 'a new user';
    is_deeply columns_of($id, qw(email phone is_anonymous full_name facts
        deleted_at)), ['ada@example.com', '491234', 0, 'Ada', '[1.50]', undef],
        'has all columns';
    is postgres()->value($DB => <<'SQL', $time, $id), 1, 'and its times';
SELECT count(*) FROM users WHERE updated_at = ?::timestamptz AND id = ?::uuid
   AND banned_until = '2126-01-01 00:00:00 UTC'
SQL
    is_deeply gate_notes($httpd), ['applied', $id, 'SQL'], 'the notes';
    my $upper = new_id();
    applied_ok send_event($httpd, { type => 'INSERT', id => uc $upper,
        email => undef }), 'an id in upper case, and no e-mail';
    is_deeply columns_of($upper, 'email'), [undef], 'which is NULL';
    my $body = event_body(type => 'INSERT');
    applied_ok send_event($httpd, $body), "once $_" for 'and', 'again';
};

subtest 'Database Webhooks' => sub {
    my $id = new_id();
    applied_ok send_stock($httpd, stock_body(id => $id, phone => '4977',
        raw_user_meta_data => { full_name => 'Cyd' },
        raw_app_meta_data => { facts => 7 })), 'a new user';
    is_deeply columns_of($id, qw(email phone full_name facts)),
        ["$id\@example.com", '4977', 'Cyd', '7'], 'has all columns';
    for my $name (qw(insert update)) {
        my $body = slurp(UserSync::Util::top_dir() . '/t/fixtures/supabase/'
            . "dbwebhook_auth_users_$name.request.json");
        applied_ok send_stock($httpd, $body), "recorded: $name";
    }
    ok has_row('7f1a2c9e-3b54-4d0e-9c61-52a8d0b4e117'), 'the recorded user';
    my $known = postgres()->value($DB => <<'SQL');
SELECT count(*) FROM users u WHERE u::text ~ 'Encrypted|EXAMPLEEX|Recover'
SQL
    is $known, 0, 'nothing else of the row has got into the table';
};

subtest 'who may send' => sub {
    my $body = event_body();
    my $try = sub {
        my ($name, $line, $text, %arg) = @_;
        my $response = refused_event_ok($name,
            sub { send_event($httpd, $text, %arg) }, 401, 'invalid_signature');
        is $response->{headers}{'www-authenticate'}, 'Standard-Webhooks',
            "$name: a challenge";
        my @lines = grep { $_ =~ $line } our_lines($httpd, 0);
        ok @lines >= 1, "$name: the log says why"
            or diag map {"$_\n"} our_lines($httpd, 0);
        return;
    };
    my %sign = sign_hook($body);
    $try->('another secret', qr/the signature does not match/, $body,
        secrets => secret_of(30));
    $try->('a body that was changed', qr/does not match/, "$body ",
        headers => \%sign);
    $try->('an old one', qr/more than 5 minutes old/, $body,
        time => int(time) - 301);
    $try->('one from the future', qr/more than 5 minutes ahead/, $body,
        time => int(time + 303 + slack));
    $try->('an empty signature', qr/the signature is empty/, $body,
        signature => '');
    $try->('no id', qr/Webhook-Id, .* is missing/, $body,
        headers => { 'Webhook-Id' => undef });
    $try->('nothing at all', qr/neither a signature nor the header/, $body,
        unsigned => 1);
    my $stock = stock_body();
    for my $value ('', 'x', substr($HEADER_VALUE, 1), "${HEADER_VALUE}x",
        uc $HEADER_VALUE, [$HEADER_VALUE, $HEADER_VALUE]) {
        $try->('another value of the header', qr/has another value: is it/,
            $stock, unsigned => 1, headers => { $HEADER => $value });
    }
    $try->('no header', qr/neither a signature nor the header/, $stock,
        unsigned => 1);
    $try->('the header does not heal a signature', qr/does not match/, $stock,
        secrets => secret_of(30), headers => { $HEADER => $HEADER_VALUE });
    $try->('no signature, not JSON', qr/neither a signature/, '{',
        unsigned => 1);
    $httpd->expect_log(qr/usersync-event: invalid_signature/);
    applied_ok send_event($httpd, { type => 'INSERT' }, secrets => $_),
        'one of the secrets' for $SECRET, $OTHER, "$OTHER|$SECRET";
};

subtest 'what is no event' => sub {
    my @cases = (
        ['another table', qr/of another table .*\(INSERT, public\.orders\)/,
            stock => stock_body(schema => 'public', table => 'orders')],
        ['another schema', undef, # a line about this cause has been written
            stock => stock_body(schema => 'public')],
        ['an unknown type', qr/type is not INSERT, .*\(TRUNCATE\)/,
            event => event_body(type => 'TRUNCATE')],
        ['no type', undef, event => event_body(type => \'{}')],
        ['a type for the terminal', undef,
            event => event_body(type => "\e[31m\n")],
        ['no id', qr/id is not a user's id/,
            event => event_body(id => 'ada@secret.example')],
        ['no time', qr/without a time in updated_at/,
            event => event_body(updated_at => undef)],
        ['words for a time', qr/not a time stamp/,
            event => event_body(banned_until => 'now')],
        ['no record', qr/no record/, stock => stock_body(record => undef)],
        ['a signed Database Webhook', qr/a Database Webhook is signed/,
            event => stock_body()],
        ['a message by its header', qr/no Database Webhook.*sign it/,
            stock => event_body()],
        ['a hook', qr/SetHandler usersync-hook/, event => token_body()],
        ['not JSON', qr/is not an event: /, event => 'type=INSERT'],
        ['an array', qr/is not an event: /, event => '[' . event_body() . ']'],
        ['cut off', qr/is not an event: /,
            event => substr(event_body(), 0, -1)],
        ['nothing', undef, event => ''],
        ['not UTF-8', qr/is not an event: /,
            event => event_body(email => \"\"\xff\"")],
        ['U+0000', qr/is not an event: /,
            event => event_body(email => \'"a\u0000"')],
    );
    for my $case (@cases) {
        my ($name, $line, $form, $body) = @$case;
        refused_event_ok($name, sub {
            return $form eq 'stock' ? send_stock($httpd, $body)
                : send_event($httpd, $body);
        }, 400, 'invalid_request', $line);
    }
};

subtest 'size, type and method' => sub {
    my $size = 512 * 1024;
    my $fill = length event_body(x => \'""');
    my $id = new_id();
    my $most = event_body(id => $id, x => \('"' . 'x' x ($size - $fill) . '"'));
    is length $most, $size, '512 KiB';
    applied_ok send_event($httpd, $most), 'are taken';
    ok has_row($id), 'with a row';
    refused_event_ok('one byte more', sub { send_event($httpd, "$most ") },
        413, 'body_too_large', qr/larger than 512 KiB: if it is the project's/);
    my $body = event_body();
    refused_event_ok("type '$_'", sub { send_event($httpd, $body,
        headers => { 'Content-Type' => $_ }) }, 415, 'unsupported_media_type')
        for 'text/plain', 'application/x-www-form-urlencoded';
    refused_event_ok('an encoding', sub { send_event($httpd, $body,
        headers => { 'Content-Encoding' => 'gzip' }) }, 415,
        'unsupported_media_type');
    $httpd->expect_log(qr/usersync-event: unsupported_media_type/);
    my $response = request(GET => $httpd->url('/event'), undef,
        sign_hook(''), $HEADER => $HEADER_VALUE);
    problem_ok $response, 405, 'method_not_allowed', 'GET';
    is request(OPTIONS => $httpd->url('/event'))->{headers}{allow},
        'POST, OPTIONS', 'OPTIONS';
    problem_ok post($httpd->url('/event/x'), $body, sign_hook($body)), 404,
        'not_found', 'a path below';
};

subtest 'one of the two is enough' => sub {
    my $header = event_server($DB, children => 1, secret => '',
        config => $BY_HEADER)->start;
    applied_ok send_stock($header, stock_body()), 'a header alone';
    problem_ok send_event($header, {}), 401, 'invalid_signature',
        'nobody can sign';
    $header->expect_log(qr/is signed, but UserSyncHookSecret is missing/);
    my $signed = event_server($DB, children => 1)->start;
    applied_ok send_event($signed, {}), 'a secret alone';
    problem_ok send_stock($signed, stock_body()), 401, 'invalid_signature',
        'a header is nothing';
    $signed->expect_log(qr/the request is not signed/);
    my $none = UserSync::Httpd->new(children => 1, config =>
        database($DB) . <<"CONF")->start;
UserSyncHookSecret $SECRET
<Location "/event">
    SetHandler "%{tolower:USERSYNC-EVENT}"
</Location>
CONF
    problem_ok send_event($none, {}), 500, 'not_configured',
        'no column for updated_at where configtest cannot see the door';
    $none->expect_log(qr/not_configured: this server takes no events/);
    $none->allow_log(qr/US002/);
};

subtest 'the table' => sub {
    my $away = event_server('host=127.0.0.1 port=' . reserve_port()
        . ' dbname=app connect_timeout=2', children => 1)->start;
    my $mark = $away->log->mark;
    my $response = send_event($away, {});
    problem_ok $response, 503, 'store_unavailable', 'PostgreSQL is away';
    ok $response->{headers}{'retry-after'}, 'with Retry-After';
    $away->allow_log(qr/dbd:error/);
    one_line($away, $mark, qr/usersync-event: store_unavailable, user \S+: /,
        'one line');
    UserSync::Gate::has_rows_in($DB);

    postgres()->sql($DB => 'ALTER TABLE users RENAME TO gone');
    my $misfit = event_server($DB, children => 1)->start;
    $mark = $misfit->log->mark;
    problem_ok send_event($misfit, {}), 503, 'store_unavailable',
        'the table is not there';
    one_line($misfit, $mark, qr/table .* does not exist/, 'one line');
    postgres()->sql($DB => 'ALTER TABLE gone RENAME TO users');

    postgres()->sql($DB =>
        q{ALTER TABLE users ADD CONSTRAINT c CHECK (email <> 'bad@x')});
    $mark = $httpd->log->mark;
    applied_ok send_event($httpd, { type => 'INSERT', email => 'bad@x' }),
        'the e-mail is refused';
    one_line($httpd, $mark, qr/applied, user \S+ the new row has neither e-mail/,
        'one line');
    postgres()->sql($DB => 'ALTER TABLE users DROP CONSTRAINT c,
        ADD CONSTRAINT c CHECK (id IS NULL) NOT VALID');
    $mark = $httpd->log->mark;
    problem_ok send_event($httpd, { type => 'INSERT' }), 500,
        'user_row_refused', 'the row is refused';
    one_line($httpd, $mark, qr/user_row_refused, user /, 'one line');
};

# values that the tests have sent are in no log
no_values_ok($httpd, 'ada@example', 'ada@secret', 'bad@x', '491234',
    map {quotemeta} $HEADER_VALUE, map { s/^v1,whsec_//r } $SECRET, $OTHER);

done_testing;
