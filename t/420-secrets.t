# Passwords, tokens and keys are never logged, whatever goes wrong and at any
# log level; a new key in the file is used after a graceful restart.

use UserSync::Test;

my $db = 'secrets';
postgres->createdb($db);
my ($pg_log, $pg_mark) = (postgres->log_file, -s postgres->log_file || 0);
# PostgreSQL logs everything, including parameters
postgres->sql(postgres => qq{ALTER ROLE "www-data" IN DATABASE $db SET $_}) for
    q{log_statement = 'all'}, q{log_min_messages = 'debug2'},
    'log_parameter_max_length_on_error = -1', 'log_error_verbosity = verbose';

my $key_file = "$ENV{USERSYNC_RUN}/rotated.$$.key";

sub write_key {
    my ($key) = @_;
    my $umask = umask 077;
    spew($key_file, "$key\n");
    umask $umask;
    return;
}

write_key(double->key);
my $params = postgres->dsn($db, password => 'DbPwNeverLogged');
my $httpd = UserSync::Httpd->new(
    children => 1, # each finds out for itself that a table is mended
    config => "LogLevel trace8\n" . module_config(
            DBDParams => qq{"$params"},
            UserSyncSupabaseKey => "file:$key_file",
            UserSyncTimeout => '600ms', UserSyncRegisterTimeout => '600ms',
            UserSyncConnectTimeout => '500ms', UserSyncStoreTimeout => '700ms',
        ),
    vhosts => { legacy =>
        "UserSyncSupabaseKey file:$ENV{USERSYNC_RUN}/anon.key" },
)->start;
# failures here are intended; only what is logged about them matters
$httpd->allow_log(qr/:(?:warn|error|crit)\]/);

# ---- things that go wrong

my %secret = (
    password => 'PwNeverLogged', access => 'AtNeverLogged',
    refresh  => 'RtNeverLogged', captcha => 'CtNeverLogged',
    database => 'DbPwNeverLogged',
);
my $number = 0;
my @bodies;

# One login or sign-up of a new user; the user exists for a login.
sub attempt {
    my ($op, %arg) = @_;
    my $n = ++$number;
    my $email = $arg{email} || "Hidden$n\@example.com";
    my $password = qq{$secret{password}-$n "\\\x{e4}};
    double->add_user(email => $email, password => $password) if $op eq 'login';
    $arg{before}->() if $arg{before};
    my $body = $arg{body} || { email => $email, password => $password,
        captcha_token => $secret{captcha}, data => { name => 'Ada' } };
    my $response = post($httpd->url("/auth/$op", $arg{vhost}), $body,
        %{ $arg{header} || {} });
    push @bodies, $response->{body} if $response->{status} != 200;
    my $session = eval { $response->{json}{session} } || {};
    $secret{"$_ $n"} = $session->{$_}
        for grep { $session->{$_} } 'access_token', 'refresh_token';
    return $response;
}

sub both {
    my ($name, %arg) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    for my $op ('login', 'register') {
        my $response = attempt($op, %arg);
        double->clear_faults;
        my $expected = $arg{status} || qr/^(?:400|500|502|503|504)$/;
        like $response->{status}, $expected, "$op: $name"
            or diag show($response);
    }
    return;
}

subtest 'all is well' => sub {
    double->config(autoconfirm => JSON::PP::true);
    both('a session', status => qr/200/);
    both('with a legacy key', status => qr/200/, vhost => 'legacy');
    double->config(autoconfirm => JSON::PP::false);
    is attempt('register')->{json}{session}, undef, 'confirmation is pending';
    is attempt('login', body => { email => 'x@example.com',
        password => "$secret{password}-wrong" })->{status}, 401, 'refused';
    double->config(autoconfirm => JSON::PP::true);
};

subtest 'requests that are wrong' => sub {
    my $start = qq({"email":"a\@example.com","password":"$secret{password});
    my %wrong = (
        'cut off'          => $start,
        'a bad escape'     => qq($start\\q"}),
        'bytes of Latin 1' => qq($start\xe4"}),
        'behind the end'   => qq($start"}$secret{password}),
        'a number as name' => qq($start", $secret{password}: 1}),
        'in a list' =>
            qq({"email":"a\@b.c","password":["$secret{password}"]}),
        'as the address'   => { email => $secret{password}, password => 'x' },
        'control character' => qq($start\n"}),
    );
    for my $name (sort keys %wrong) {
        both($name, body => $wrong{$name}, status => qr/400/);
    }
    both('large', body => $start . 'x' x 9000 . '"}', status => qr/413/);
    both('another type', header => { 'Content-Type' => 'text/plain' },
        status => qr/415/);
    my $cut = connection($httpd->url);
    $cut->send(substr post_bytes($httpd->url('/auth/login'),
        { email => 'a@example.com', password => $secret{password} }), 0, -3);
    $cut->done_sending;
    $cut->response;
    $cut->close;
};

# What Supabase may say, including tokens and an echo of the password.
my %tokens = (access_token => $secret{access},
    refresh_token => $secret{refresh}, token_type => 'bearer',
    expires_in => 3600);
my $id = '11111111-2222-4333-8444-555555555555';
my @answers = (
    ['no user',          200, { %tokens }],
    ['no uuid',          200, { %tokens, user => { id => $secret{access} } }],
    ['no object',        200, [ {%tokens} ]],
    ['cut JSON',         200, substr JSON::PP::encode_json({%tokens}), 0, -2],
    ['no JSON',          200, "access_token=$secret{access}"],
    ['an echo',          400, { code => 'validation_failed',
        msg => "the password $secret{password} is bad" }],
    ['a hook',           400, { code => 'unknown',
        msg => "the password is bad" }],
    ['an old echo',      400, { error => 'invalid_request',
        error_description => $secret{password} }],
    ['a coded failure',  500, { code => 'unexpected_failure',
        msg => $secret{password} }, 'x-sb-error-code' => 'unexpected_failure'],
    ['a bare failure',   500, { message => $secret{password} }],
    ['a page',           503, "<html>$secret{password} $secret{access}</html>"],
);

subtest 'Supabase fails' => sub {
    for my $kind (qw(hang_before close close_after_commit reset cut html empty
        redirect garbage truncate_json hang_after_headers)) {
        # twice: a login is sent again if its connection dies
        both($kind, before => sub {
            double->fault(kind => $kind, times => 2) });
    }
    both('wrong_length', before => sub {
        double->fault(kind => 'wrong_length', delta => -20) });
    both('huge', before => sub { double->fault(kind => 'huge') });
    for my $answer (@answers) {
        my ($name, $status, $body, %header) = @$answer;
        both($name, before => sub {
            double->fault(kind => 'status', status => $status, body => $body,
                headers => { Location => "/#access_token=$secret{access}",
                    %header });
        });
    }
    both('the key is refused', status => qr/502/,
        before => sub { double->config(keys => []) });
    double->config(keys => [map { double->key($_) } qw(publishable anon)]);
    both('nobody listens', status => qr/503/,
        before => sub { double->fault(kind => 'refuse') });
};

sub sql { postgres->sql($db => $_) for @_; return }

# A session of a new user that this server has not seen.
sub fresh_session {
    my $n = ++$number;
    my %who = (email => "Hidden$n\@example.com",
        password => "$secret{password}-$n");
    double->add_user(%who);
    my $session = UserSync::HTTP->exchange('POST',
        double->url . '/auth/v1/token?grant_type=password', {%who},
        apikey => double->key)->{json};
    $secret{"$_ $n"} = $session->{$_} for 'access_token', 'refresh_token';
    return $session;
}

sub token_of { return { refresh_token => $_[0] } }

# One refresh, and one logout with the session that comes of it, or that was.
sub go_on_and_end {
    my ($name, %arg) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $session = fresh_session();
    double->fault(times => 2, %{ $arg{fault} }) if $arg{fault};
    my $next = post($httpd->url('/auth/refresh', $arg{vhost}),
        $arg{body} || token_of($session->{refresh_token}));
    double->clear_faults;
    like $next->{status}, $arg{status}[0], "refresh: $name"
        or diag show($next);
    my $got = eval { $next->{json}{session} } || {};
    $secret{"$_ ${number}b"} = $got->{$_}
        for grep { $got->{$_} } 'access_token', 'refresh_token';
    double->fault(times => 2, %{ $arg{fault} }) if $arg{fault};
    my $end = request(POST => $httpd->url('/auth/logout', $arg{vhost}),
        undef, Authorization => sprintf $arg{header} || 'Bearer %s',
        $session->{access_token});
    double->clear_faults;
    like $end->{status}, $arg{status}[1], "logout: $name"
        or diag show($end);
    push @bodies, map { $_->{body} } grep { $_->{status} != 200 } $next, $end;
    return;
}

subtest 'sessions that go on and end' => sub {
    my ($good, $bad) = ([qr/200/, qr/204/], [qr/^[45]/, qr/^(?:204|[45])/]);
    go_on_and_end('all is well', status => $good);
    go_on_and_end('with a legacy key', status => $good, vhost => 'legacy');
    go_on_and_end($_, fault => { kind => $_ }, status => $bad)
        for qw(hang_before close close_after_commit reset cut html empty
            redirect garbage truncate_json);
    for my $answer (@answers) {
        my ($name, $status, $body, %header) = @$answer;
        go_on_and_end($name, status => $bad, fault => { kind => 'status',
            status => $status, body => $body, headers => {%header} });
    }
    my $token = $secret{refresh};
    for my $body ("{\"refresh_token\":\"$token", "{\"$token\":1}", "\"$token\"",
        "{\"refresh_token\":[\"$token\"]}", "$token", "{}$token",
        '{"refresh_token":"' . $token x 400 . '"}', token_of($token)) {
        go_on_and_end('a body', body => $body, header => "Bearer $_%s",
            status => $bad) for 'x ', '"', "$secret{access},";
    }
    go_on_and_end('another scheme', header => "Basic $secret{access}%s",
        status => [qr/200/, qr/401/]);
    # one that was used before ends the session
    my $session = fresh_session();
    my $once = $session->{refresh_token};
    for my $time (1 .. 3) {
        my $next = post($httpd->url('/auth/refresh'),
            token_of($session->{refresh_token}))->{json}{session};
        $secret{"$_ $number-$time"} = $next->{$_}
            for 'access_token', 'refresh_token';
        $session = $next;
    }
    is post($httpd->url('/auth/refresh'), token_of($once))->{status}, 401,
        'a token that was used before';
};

subtest 'PostgreSQL fails' => sub {
    my $known = sub {
        double->fault(kind => 'transform', set => {
            access_token => $secret{access}, refresh_token => $secret{refresh},
        });
    };
    my $fails = sub {
        my ($name, $break, $mend) = @_;
        sql(@$break);
        both($name, before => $known, status => qr/^(?:500|503)$/);
        sql(@$mend);
        # a table that does not match is checked again a moment later
        wait_until { attempt('login')->{status} == 200 } 5;
        both("$name: over", before => $known, status => qr/200/);
    };
    $fails->('no table', ['ALTER TABLE users RENAME TO gone'],
        ['ALTER TABLE gone RENAME TO users']);
    $fails->('a check', ['DELETE FROM users',
        q{ALTER TABLE users ADD CONSTRAINT no CHECK (email IS NULL)}],
        ['ALTER TABLE users DROP CONSTRAINT no']);
    $fails->('a column that nothing fills',
        ['DELETE FROM users', 'ALTER TABLE users ADD must text NOT NULL'],
        ['ALTER TABLE users DROP must']);
    $fails->('a trigger', [<<'SQL', <<'SQL'], ['DROP FUNCTION no() CASCADE']);
CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql
    AS $$ BEGIN RAISE EXCEPTION 'not today'; END $$
SQL
CREATE TRIGGER no BEFORE INSERT ON users FOR EACH ROW EXECUTE FUNCTION no()
SQL
    my $dbh = postgres->connect($db);
    $dbh->begin_work;
    $dbh->do('LOCK TABLE users');
    both('a lock', before => $known, status => qr/503/);
    go_on_and_end('a lock', status => [qr/503/, qr/204/]);
    $dbh->rollback;
    $dbh->disconnect;

    sql('CREATE UNIQUE INDEX one ON users (email)');
    sql("INSERT INTO users (id, email) "
        . "VALUES ('$id', 'hidden\@example.com')");
    is attempt('login', email => 'hidden@example.com', before => $known)
        ->{status}, 409, 'the address is taken';
    sql('DROP INDEX one');

    postgres->sql(postgres => "ALTER DATABASE $db ALLOW_CONNECTIONS false");
    postgres->terminate_backends($db);
    both('no connection', before => $known, status => qr/503/);
    postgres->sql(postgres => "ALTER DATABASE $db ALLOW_CONNECTIONS true");
    wait_until { attempt('login')->{status} == 200 } 10, 'PostgreSQL again';
};

# ---- the logs

subtest 'nothing of it is logged' => sub {
    $httpd->graceful;    # what is said at a start counts, too
    my %text = (
        'error log'  => slurp($httpd->error_log),
        'access log' => slurp($httpd->access_log),
        'PostgreSQL' => slurp($pg_log, $pg_mark),
        'terminal'   => $httpd->said,
        'replies'    => join("\n", @bodies),
    );
    # httpd itself writes the headers of each request: SECURITY.md says so
    my $of_httpd = qr{^.*\[http:trace4\].*\]   Authorization: .*\n}m;
    cmp_ok scalar($text{'error log'} =~ s/$of_httpd//g), '>', 20,
        'lines of httpd that are left out';
    # the logs were at their most verbose
    my %sign = (
        'headers of requests' =>
            ['error log', qr{\[http:trace\d\].*Content-Type: application}],
        'our own requests' =>
            ['error log', qr{\[usersync:debug\].*POST http.*answered}],
        'statements' => ['PostgreSQL', qr{INSERT INTO}],
        'parameters' => ['PostgreSQL', qr{hidden1\@example\.com}],
    );
    for my $what (sort keys %sign) {
        my ($where, $like) = @{ $sign{$what} };
        ok scalar($text{$where} =~ $like), "$what are logged: $where";
    }
    cmp_ok scalar(grep {/_token/} keys %secret), '>', 20,
        'many tokens were issued';

    $secret{"key $_"} = double->key($_) for qw(publishable anon);
    $secret{'any JWT'} = 'eyJhbGci';
    for my $where (sort keys %text) {
        my @told = grep { index($text{$where}, $secret{$_}) >= 0 }
            sort keys %secret;
        is_deeply \@told, [], "$where: $number attempts";
        for my $secret (@secret{@told}) {
            diag $1 if $text{$where} =~ /^(.*\Q$secret\E.*)$/m;
        }
    }

    my @address = grep { /\[usersync:(?:info|notice|warn|error|crit)\]/
        && /hidden\d+\@|example\.com/i } split /\n/, $text{'error log'};
    is_deeply \@address, [], 'addresses at debug levels only';
};

# ---- rotation

subtest 'the key file changes' => sub {
    my $sent = sub {
        my ($key) = @_;
        double->clear_requests;
        my $response = attempt('login');
        my ($request) = double->requests('token');
        return $response->{status} . ' with '
            . double->header($request, 'apikey');
    };
    my ($old, $new) = ('sb_publishable_old', 'sb_publishable_new');
    double->config(keys => [$old, $new]);
    write_key($old);
    $httpd->graceful;
    is $sent->(), "200 with $old", 'the key of the start';

    unlink $key_file;
    is $sent->(), "200 with $old", 'without the file';
    $httpd->kill_children;
    is $sent->(), "200 with $old", 'in children that came later';

    write_key($new);
    is $sent->(), "200 with $old", 'before the graceful restart';
    $httpd->graceful;
    is $sent->(), "200 with $new", 'after it';
    chmod 0000, $key_file;
    $httpd->kill_children;
    is $sent->(), "200 with $new", 'in children that may not read it';
};

$httpd->stop;
unlink $key_file;
postgres->dropdb($db);

done_testing;
