# UserSyncEnsureResponse Report: no client can tell it from Off, whatever is
# answered and however the users table fares; the row is made afterwards; and
# the notes say what On answers to the same requests.

use UserSync::Background;
use UserSync::Outage qw(own_postgres);
use UserSync::Proxied;
use UserSync::Test;
use UserSync::Ways;

use constant THREADS => 32;

my $ways = UserSync::Ways->new(double());
my $pg = own_postgres();
my %ADA = (email => 'ada@example.com', password => 'correct horse');
my %SLOW = (email => 'slow@example.com', password => 'correct horse');
my $ADMIN = double->key('secret');

# The main server has Report, and the vhosts On and Off.
sub server_of {
    my (%set) = @_;
    my %line = (UserSyncSupabaseURL => double->url,
        UserSyncStoreTimeout => '1s', UserSyncMaxConcurrent => '100%',
        UserSyncMaxPerClient => 'Off',
        UserSyncCircuitBreaker => 'Off', %set);
    my $httpd = proxied_server($pg->dsn('app'),
        mpm() eq 'prefork' ? (children => THREADS)
            : (children => 1, threads => THREADS),
        lines => ['UserSyncEnsureResponse Report'], worker => 'retry=0',
        config => "UserSyncSupabaseKey file:$ENV{USERSYNC_RUN}/publishable.key"
            . "\n" . join('', map {"$_ $line{$_}\n"} sort keys %line),
        vhosts => {
            on => proxied(worker => 'retry=0'),
            off => proxied(worker => 'retry=0',
                lines => ['UserSyncEnsureResponse Off']) });
    $httpd->allow_log($_) for qr/\[dbd:error\]/, qr/\[proxy(?:_http)?:error\]/,
        qr/usersync-response: (?:store_una|upstream_|busy|user_row_)/,
        qr/US012/;
    return $httpd->start;
}

sub fresh {
    double->reset;
    $ways = UserSync::Ways->new(double());
    # the same answer to the same request
    double->config(reuse_tokens => JSON::PP::true());
    double->add_user(%$_) for \%ADA, \%SLOW;
    $pg->sql(app => 'TRUNCATE users CASCADE');
    return;
}

sub exists_in {
    my ($id) = @_;
    return $pg->value(app => 'SELECT count(*) FROM users WHERE id = ?', $id);
}

# ---- what Supabase may answer

my %SB = ('Sb-Auth-User-Id' => new_id(), 'Sb-Auth-Session-Id' => new_id(),
    'Sb-Auth-Refresh-Token-Prefix' => 'abcde');
my %CORS = ('Access-Control-Allow-Origin' => '*', Vary => 'Origin');
my $JUNK = 'x' x (1024 * 1024);

my @PASSWORD = (POST => '/token?grant_type=password', \%ADA);
my @REFRESH = (POST => '/token?grant_type=refresh_token',
    { refresh_token => 'abcdefghijkl' });
my @LINK = (GET => '/verify?type=magiclink&token=x');

# The fault that answers so.
sub says {
    my ($status, $body, %header) = @_;
    return { kind => 'status', status => $status, body => $body,
        headers => {%header} };
}

# [name, the fault that makes the answer or none, method, path, body, headers].
# Each answer is the same each time.
sub script { return (with_sessions(), without_sessions()) }

sub with_sessions {
    my $session = session_json();
    my $bare = UserSync::HTTP::encode_json({ access_token =>
        token_for(sub => new_id(), email => 'oauth@example.com') });
    my $to = 'http://127.0.0.1:3000/#access_token='
        . token_for(sub => $SB{'Sb-Auth-User-Id'}) . '&token_type=bearer';
    return (
        ['a session', undef, @PASSWORD],
        ['a session for a page from elsewhere', undef, @PASSWORD,
            Origin => 'https://app.example.com'],
        ['one in chunks', { kind => 'chunked' }, @PASSWORD],
        ['one piece by piece', { kind => 'drip', bytes => 400,
            interval_ms => 1 }, @PASSWORD],
        ['one that is cut off', { kind => 'cut' }, @PASSWORD],
        ['one that is too long', says(200,
            session_json(user_metadata => { junk => $JUNK })), @REFRESH],
        ['one that cannot be read', says(200,
            '{"access_token":"x","user":{}}'), @REFRESH],
        ['one with cookies', says(200, $session, %SB, %CORS,
            'Set-Cookie' => 'a=b; Path=/'), @REFRESH],
        ['a part of one', undef, @PASSWORD, Range => 'bytes=0-9'],
        ['a token of an application', says(200, $bare, %CORS),
            POST => '/oauth/token', {}],
        ['a path that is not known', says(200, $session),
            POST => '/brand/new', {}],
        ['a redirect', says(303, '', %SB, Location => $to), @LINK],
        ['a redirect whose token cannot be read', says(302, '',
            Location => 'http://127.0.0.1:3000/#access_token=x'),
            GET => '/callback?code=x'],
        ['a user', says(200, { id => new_id(), email => 'own@example.com',
            aud => 'authenticated' }), GET => '/user'],
    );
}

sub without_sessions {
    return (
        ['a redirect with nobody', says(303, '', Location =>
            'http://127.0.0.1:3000/#error=access_denied'), @LINK],
        ['a wrong password', undef, POST => '/token?grant_type=password',
            { %ADA, password => 'wrong' }],
        ['a refused refresh', says(400, { code => 'refresh_token_not_found',
            message => 'Invalid Refresh Token' }, %SB), @REFRESH],
        ['a limit', says(429, {}, 'Retry-After' => 7), @PASSWORD],
        ['an error of Supabase', says(500, { code => 'unexpected_failure' }),
            @PASSWORD],
        ['an error of its gateway', { kind => 'html' }, @PASSWORD],
        ['an empty answer', { kind => 'empty' }, @PASSWORD],
        ['a list', says(200, '[]'), @PASSWORD],
        ['a lot of text', { kind => 'huge', bytes => 2 * length $JUNK },
            @PASSWORD],
        ['no HTTP', { kind => 'garbage' }, @PASSWORD],
        ['nobody there', { kind => 'reset' }, @PASSWORD],
        ['settings', undef, GET => '/settings'],
        ['a mail', undef, POST => '/recover', { email => $ADA{email} }],
        ['a logout', says(204, ''), POST => '/logout'],
        ['the users', undef, GET => '/admin/users', undef, apikey => $ADMIN],
        ['an invitation', says(200, {}), POST => '/invite', {}],
        ['a preflight', undef, OPTIONS => '/token', undef,
            Origin => 'https://app.example.com',
            'Access-Control-Request-Method' => 'POST'],
    );
}

# ---- what is seen

# What a client sees of an answer, without the time.
sub seen {
    my ($response) = @_;
    return { %$response{qw(status reason body error unread)},
        headers => [map {"$_->[0]: $_->[1]"} grep { $_->[0] ne 'Date' }
            @{ $response->{header_list} }] };
}

# A request of the script to a vhost: its answer, once it is in the log.
sub run_case {
    my ($httpd, $vhost, $case) = @_;
    my (undef, $fault, $method, $path, $body, @header) = @$case;
    double->fault(%$fault) if $fault;
    my $before = lines_of($httpd);
    my $response = ask($httpd, $method, $httpd->url("/auth/v1$path", $vhost),
        $body, @header);
    wait_until { lines_of($httpd) > $before } 30, 'the line in the log';
    double->clear_faults if $fault;
    return $response;
}

sub lines_of {
    my ($httpd) = @_;
    return scalar(() = (slurp($httpd->dir . '/outcomes') || '') =~ /\n/g);
}

# Off and Report look the same, and Report notes what On does, but of answers
# that httpd itself gives.
sub script_ok {
    my ($httpd, $httpds) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my %n;
    for my $case (script()) {
        my $name = $case->[0];
        my $off = run_case($httpd, 'off', $case);
        my $report = run_case($httpd, undef, $case);
        is_deeply seen($report), seen($off), "$name: looks as with Off"
            or diag show($report), show($off);
        my ($said, undef, $how) = outcome($httpd);
        run_case($httpd, 'on', $case);
        my ($outcome) = outcome($httpd);
        is_deeply [$said, $how], [$outcome, $outcome ? 'report' : undef],
            "$name: the notes say what On does"
            if !$httpds || $name !~ $httpds;
        $n{ $outcome || 'nobody' }++;
    }
    note join ', ', map {"$n{$_} x $_"} sort keys %n;
    return %n;
}

# ---- the store is there, or not

subtest 'the users table is there' => sub {
    fresh();
    my $httpd = server_of();
    my %n = script_ok($httpd);
    is_deeply [sort keys %n], [qw(admin_not_proxied nobody ok
        upstream_bad_answer)], 'all of these were among them';
    $httpd->stop;
};

# Until On refuses without Supabase: it was found out that the table cannot be
# asked. Report has seen it, too.
sub until_known {
    my ($httpd) = @_;
    my @tries = map { $ways->prepare('password') } 1 .. 3;
    wait_until {
        push @tries, shift @tries;
        $ways->take($httpd, $tries[1]);
        double->clear_requests;
        my $response = $ways->take($httpd, $tries[0], vhost => 'on');
        my @forwarded = double->requests;
        $response->{status} == 503 && !@forwarded;
    } 30, 'it to be known';
    return;
}

# A row of somebody in the script, which each server has seen.
sub see_ada {
    my ($httpd) = @_;
    my @known = ('known', undef, POST => '/token?grant_type=password', \%ADA);
    run_case($httpd, $_, \@known) for 'on', undef;
    return;
}

subtest 'PostgreSQL is away' => sub {
    fresh();
    my $httpd = server_of();
    see_ada($httpd);
    $pg->stop;
    until_known($httpd);
    my %n = script_ok($httpd, qr/^(?:no HTTP|nobody there)/);
    is_deeply [sort keys %n], [qw(admin_not_proxied nobody
        store_unavailable)], 'all of these were among them';
    $pg->start;
    $httpd->stop;
};

subtest 'the table takes no rows' => sub {
    fresh();
    my $httpd = server_of();
    see_ada($httpd);
    $pg->sql(app => 'REVOKE INSERT ON users FROM "www-data"');
    wait_until {
        $ways->take($httpd, $ways->prepare('anonymous'), vhost => 'on')
            ->{status} == 503;
    } 10, 'sign-ups to be refused';
    my %n = script_ok($httpd, qr/^(?:no HTTP|nobody there)/);
    is_deeply [sort keys %n], [qw(admin_not_proxied nobody ok
        store_unavailable upstream_bad_answer)],
        'all of these were among them';
    $pg->sql(app => 'GRANT INSERT ON users TO "www-data"');
    $httpd->stop;
};

subtest 'the table refuses a row' => sub {
    fresh();
    my $httpd = server_of();
    $pg->sql(app => q{CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql
        AS 'BEGIN RAISE EXCEPTION ''not here''; END'});
    $pg->sql(app => 'CREATE TRIGGER refuse AFTER INSERT ON users FOR EACH ROW '
        . 'EXECUTE FUNCTION refuse()');
    my %n = script_ok($httpd);
    is_deeply [sort keys %n], [qw(admin_not_proxied nobody
        upstream_bad_answer user_row_refused)], 'all of these were among them';
    $pg->sql(app => 'DROP FUNCTION refuse CASCADE');
    $httpd->stop;
};

# ---- limits

subtest 'all seats are taken' => sub {
    fresh();
    my $httpd = server_of(UserSyncMaxConcurrent => 3);
    double->fault(kind => 'hold', op => 'token', email => $SLOW{email},
        times => -1);
    double->clear_requests;
    my @slow = map { [POST =>
        $httpd->url('/auth/v1/token?grant_type=password', $_), \%SLOW,
        apikey => double->key] } 'off', (undef) x 4;
    my $job = UserSync::Background->start(
        sub { [map { $_->{status} } UserSync::HTTP->at_once(60, @slow)] });
    wait_until { @slow <= (my @all = double->requests) } 20,
        'all of them at Supabase: Report does not refuse any';
    my @answers;
    for my $vhost ('off', undef, 'on') {
        my $before = lines_of($httpd);
        push @answers, ask($httpd, POST => $httpd->url(
            '/auth/v1/token?grant_type=password', $vhost), \%ADA);
        wait_until { lines_of($httpd) > $before } 30, 'the line in the log';
        push @answers, outcome($httpd);
    }
    is_deeply [map { ref ? seen($_) : $_ } @answers[0 .. 2]],
        [seen($answers[0]), undef, undef], 'Off';
    is_deeply seen($answers[3]), seen($answers[0]), 'Report looks the same';
    is_deeply [$answers[4], $answers[6]], ['busy', 'report'], 'and notes it';
    is_deeply [$answers[7]{status}, $answers[8]], [503, 'busy'], 'as On does';
    double->release;
    is_deeply [grep { $_ != 200 } @{ $job->finished }], [], 'all are answered';
    double->clear_faults;
    $httpd->stop;
};

subtest 'the circuit is open' => sub {
    fresh();
    my $httpd = server_of(UserSyncCircuitBreaker => '2 300s');
    my @case = ('', { kind => 'html' }, POST => '/token?grant_type=password',
        \%ADA);
    for my $address (1, 2) {
        run_case($httpd, undef, [@case, -from => "127.0.1.$address"]);
        is_deeply [outcome($httpd)], [undef, undef], 'a gateway fails';
    }
    ok scalar(grep {/US012: .* logins opens/} $httpd->log_since),
        'the circuit opens';
    $case[1] = undef;
    my ($off, $report) = map { run_case($httpd, $_, [@case]) } 'off', undef;
    is_deeply seen($report), seen($off), 'Report looks as Off does';
    my ($said, undef, $how) = outcome($httpd);
    is_deeply [$said, $how], ['upstream_unavailable', 'report'],
        'the notes say what On does';
    is run_case($httpd, 'on', \@case)->{status}, 503, 'and that is it';
    $httpd->stop;
};

# ---- afterwards, and not before

sub freeze {
    $pg->stop_backend($pg->backends('app'), $pg->pid);
    return sub { $pg->cont };
}

sub lock_table {
    my $lock = $pg->connect('app');
    $lock->begin_work;
    $lock->do('LOCK TABLE users IN ACCESS EXCLUSIVE MODE');
    return sub { $lock->rollback; $lock->disconnect };
}

# Everybody has a whole answer on a connection that stays open, while nothing
# but the table keeps their requests from an end.
for my $trouble (['frozen', \&freeze], ['locked', \&lock_table]) {
    my ($name, $begin) = @$trouble;
    subtest "the rows come later: PostgreSQL or the table is $name" => sub {
        fresh();
        my $httpd = server_of(UserSyncStoreTimeout => '30s');
        my $first = $ways->prepare('password');
        $ways->take($httpd, $first);
        wait_until { exists_in($first->{id}) } 10, 'a row';
        my @tries = map { $ways->prepare($_) } $ways->names;
        my $lines = lines_of($httpd);
        my $end = $begin->();
        my (@connections, @ids);
        for my $try (@tries) {
            my $connection = connection($httpd->url('/'));
            $connection->send(UserSync::HTTP::build($try->{method},
                $httpd->url("/auth/v1$try->{path}"), $try->{body},
                Connection => 'keep-alive', apikey => double->key,
                %{ $try->{header} }));
            my $response = $connection->response(60, $try->{method});
            push @connections, $connection;
            push @ids, holder_of($response);
            is $response->{status}, $try->{status}, "$try->{way}: answered"
                or diag show($response);
            last if lines_of($httpd) > $lines; # it waits for the table
        }
        is lines_of($httpd), $lines, 'no request has ended';
        is scalar(grep { exists_in($_) } @ids), 0, 'nobody has a row'
            if $name ne 'locked';
        $end->();
        wait_until { lines_of($httpd) == $lines + @ids } 60,
            'all requests to end';
        is_deeply [map { exists_in($_) } @ids], [(1) x @tries],
            'everybody has a row';
        $_->close for @connections;
        $httpd->stop;
    };
}

subtest 'the same over HTTP/2' => sub {
    plan(skip_all => 'mod_http2 does not work with prefork')
        if mpm() eq 'prefork';
    fresh();
    my $httpd = server_of(UserSyncStoreTimeout => '30s',
        Protocols => 'h2c http/1.1');
    my $try = $ways->prepare('password');
    my $end = lock_table();
    my $body = UserSync::HTTP::encode_json($try->{body});
    my ($status, $said) = curl('--http2-prior-knowledge', '-w',
        ' %{http_code} %{http_version}', '--json', $body, '-H',
        'apikey: ' . double->key, $httpd->url("/auth/v1$try->{path}"));
    like $said, qr/"access_token".* 200 2\z/s, 'a whole answer';
    is $status, 0, 'the stream has ended';
    is lines_of($httpd), 0, 'the request has not';
    $end->();
    wait_until { exists_in($try->{id}) } 30, 'a row';
    ok exists_in($try->{id}), 'the row comes later';
    $httpd->stop;
};

done_testing;
