# What operators see: the notes for CustomLog, at most one line per failed
# request at the right level, suppressed repetitions, and which data is in the
# log at which level.

use UserSync::Test;
use UserSync::Contract;

my ($yes, $no) = (JSON::PP::true, JSON::PP::false);
my ($register, $login) = ('/auth/register', '/auth/login');
my $pg = postgres();
$pg->dropdb('logs')->createdb('logs');
$pg->sql(logs => $_) for
    'CREATE TABLE users_unique (id uuid PRIMARY KEY, email text UNIQUE)',
    q{CREATE TABLE users_strict (id uuid PRIMARY KEY,
        email text CHECK (email NOT LIKE '%refused%'))},
    'GRANT SELECT, INSERT, UPDATE ON users_unique, users_strict
        TO "www-data"';
END { postgres()->dropdb('logs') if $pg }

my $db = 'DBDParams "' . $pg->dsn('logs') . '"';
my %vhosts = (
    quick  => "UserSyncConnectTimeout 300ms\nUserSyncTimeout 500ms\n"
        . 'UserSyncRegisterTimeout 500ms',
    away   => 'UserSyncSupabaseURL http://127.0.0.1:' . reserve_port(),
    nowhere => "UserSyncStoreTimeout 100ms\n" . 'DBDParams "'
        . $pg->dsn_tcp('app', port => reserve_port()) . '"',
    unique => "$db\nUserSyncTable users_unique",
    strict => "$db\nUserSyncTable users_strict",
);

# One child: each child counts its suppressed lines.
sub server {
    my $server = UserSync::Httpd->new(config => module_config(),
        vhosts => \%vhosts, children => 1, @_)->start;
    $server->allow_log(upstream_lines());
    $server->allow_log(store_lines());
    $server->allow_log(qr/\[dbd:error\]/);
    $server->allow_log(qr/usersync:warn\].*the e-mail/);
    return $server;
}
my $server = server();

my @secrets = map { double->key($_) } qw(publishable secret anon);
my @users;

sub person {
    my (%more) = @_;
    my $who = credentials(password => 'secret-' . rand, %more);
    push @secrets, $who->{password};
    return $who;
}

sub known {
    my (%more) = @_;
    my $who = person();
    my $user = double->add_user(%$who, %more);
    push @users, $user->{id};
    return ($who, $user->{id});
}

# The CustomLog line of a response, and our lines in the error log above debug,
# as {level, text}
sub logged {
    my ($marks, $response) = @_;
    my $token = eval { $response->{json}{session}{access_token} };
    push @secrets, $token, $response->{json}{session}{refresh_token}
        if defined $token;
    my ($line) = wait_until {
        my $text = UserSync::Util::slurp($server->access_log, $marks->[0]);
        $text =~ /\A(.*)\n/ ? $1 : undef;
    } 10, 'the access log';
    my %note = $line =~ /(\w+)=(\S+)/g;
    my @lines = grep { $_ && $_->{module} eq 'usersync'
        && $_->{level} !~ /^(?:debug|trace)/ }
        map { UserSync::Log::parse($_) } $server->log->since($marks->[1]);
    return (\%note, \@lines);
}

sub marks {
    return [-s $server->access_log || 0, $server->log->mark];
}

my $ms = qr/\A\d+\z/;
my $none = qr/\A-\z/;

# Notes: outcome, user's id or undef, whether Supabase was called, whether the
# database was ('?': a child looks at the table before its first sign-in); then
# the level of the only line, or undef for none.
sub told_ok {
    my ($name, $marks, $response, $outcome, $id, $up, $store, $level) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my ($note, $lines) = logged($marks, $response);
    subtest $name => sub {
        is $note->{outcome}, $outcome, 'outcome';
        is $note->{user}, defined $id ? $id : '-', 'user';
        like $note->{upstream}, $up ? $ms : $none, 'upstream-ms';
        like $note->{store}, $store eq '?' ? qr/\A(?:-|\d+)\z/
            : $store ? $ms : $none, 'store-ms';
        is_deeply [map { $_->{level} } @$lines], [$level || ()],
            $level ? "one line, $level" : 'no line';
        my $request_id = $response->{headers}{'x-request-id'};
        for my $line (@$lines) {
            like $line->{text}, qr/\Q$request_id\E/, 'with the request id';
            like $line->{text}, qr/\Q$id\E/, "and the user's"
                if defined $id;
        }
    } or diag show($response), map {"$_->{level} $_->{text}"} @$lines;
    return;
}

# sends the request, and checks its notes and lines
sub told {
    my ($name, $vhost, $path, $body, @expected) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $marks = marks();
    my $response = post($server->url($path, $vhost), $body);
    told_ok $name, $marks, $response, @expected;
    return $response;
}

subtest 'successes' => sub {
    my ($who, $id) = known();
    told 'login', undef, $login, $who, 'ok', $id, 1, 1;
    told 'login again', undef, $login, $who, 'ok', $id, 1, 1;
    my $marks = marks();
    my $response = post($server->url($register), person());
    told_ok 'register', $marks, $response, 'ok', $response->{json}{user_id},
        1, 1;
    push @users, $response->{json}{user_id};
    double->config(autoconfirm => $no);
    $marks = marks();
    $response = post($server->url($register), person());
    told_ok 'confirmation pending', $marks, $response, 'pending',
        $response->{json}{user_id}, 1, 1;
    # an id that Supabase invented belongs to no user
    told 'address taken', undef, $register, $who, 'pending', undef, 1, 1;
    double->config(autoconfirm => $yes);
    $marks = marks();
    $response = request(OPTIONS => $server->url($login));
    told_ok 'OPTIONS', $marks, $response, 'options', undef, 0, 0;
};

subtest 'refused before Supabase is asked' => sub {
    my $who = person();
    told 'invalid', undef, $login, 'x', 'invalid_request', undef, 0, 0, 'info';
    told 'too large', undef, $login, 'x' x 9000, 'body_too_large', undef, 0,
        0, 'info';
    my $marks = marks();
    told_ok 'method', $marks, get($server->url($login)),
        'method_not_allowed', undef, 0, 0, 'info';
    $marks = marks();
    told_ok 'content type', $marks, post($server->url($login), 'x',
        'Content-Type' => 'text/plain'), 'unsupported_media_type', undef, 0,
        0, 'info';
    told 'below the route', undef, "$login/x", $who, 'not_found', undef, 0,
        0, 'info';
};

subtest 'refused by Supabase' => sub {
    my ($who) = known();
    told 'wrong password', undef, $login, { %$who, password => 'guess' },
        'invalid_credentials', undef, 1, 0, 'info';
    told 'address exists', undef, $register, $who, 'user_already_exists',
        undef, 1, 0, 'info';
    told 'weak', undef, $register, person(password => 'w~k'),
        'weak_password', undef, 1, 0, 'info';
    my ($banned) = known(banned => $yes);
    told 'banned', undef, $login, $banned, 'user_banned', undef, 1, 0, 'info';
    double->config(unauthorized_emails => ['b@example.com'],
        rate_limit => { token => 0 });
    told 'another code', undef, $register, person(email => 'b@example.com'),
        'email_address_not_authorized', undef, 1, 0, 'info';
    told 'rate limited', undef, $login, $who, 'over_request_rate_limit',
        undef, 1, 0, 'warn';
    double->config(rate_limit => undef, keys => ['sb_publishable_another']);
    my $mark = $server->log->mark;
    told 'our key', undef, $login, $who, 'upstream_rejected_key', undef, 1,
        0, 'error';
    ok scalar(grep {/upstream_rejected_key.*UserSyncSupabaseKey/}
        $server->log_since($mark)), 'the line names the directive';
    double->config(keys => [map { double->key($_) }
        qw(publishable secret anon service_role)]);
};

subtest 'failures on the way to Supabase' => sub {
    my ($who) = known();
    told 'nobody there', 'away', $login, $who, 'upstream_unavailable', undef,
        1, '?', 'error';
    double->fault(kind => 'html', times => -1);
    told 'a bad answer', undef, $login, $who, 'upstream_bad_answer', undef,
        1, 0, 'error';
    told 'and to a sign-up', undef, $register, person(), 'outcome_unknown',
        undef, 1, 0, 'error';
    double->clear_faults;
    double->fault(kind => 'hang_before', times => -1);
    my $marks = marks();
    my $response = post($server->url($login, 'quick'), $who);
    told_ok 'too slow', $marks, $response, 'upstream_timeout', undef, 1,
        '?', 'error';
    my ($note) = logged($marks, $response);
    cmp_ok $note->{upstream}, '>=', 400, 'the milliseconds at Supabase';
    cmp_ok $note->{upstream}, '<', 1000 * (1 + slack), 'and no more';
    double->clear_faults;
};

subtest 'failures of the database' => sub {
    my ($who, $id) = known();
    told 'away', 'nowhere', $login, $who, 'store_unavailable', undef, 0, 1,
        'error';
    my $refused = person(email => 'refused@example.com');
    $id = double->add_user(%$refused)->{id};
    told 'refused', 'strict', $login, $refused, 'user_row_refused', $id, 1,
        1, 'error';
    ($who, $id) = known();
    $pg->sql(logs => 'INSERT INTO users_unique VALUES (?, ?)',
        '11111111-2222-4333-8444-555555555555', $who->{email});
    told 'conflict', 'unique', $login, $who, 'user_row_conflict', $id, 1, 1,
        'error';
};

subtest 'an e-mail address that cannot follow' => sub {
    my ($who, $id) = known();
    $pg->sql(logs => 'INSERT INTO users_unique VALUES (?, ?), (?, ?)',
        $id, 'old@example.com', '22222222-2222-4333-8444-555555555555',
        $who->{email});
    my $response = told 'a warning', 'unique', $login, $who, 'email-stale',
        $id, 1, 1, 'warn';
    success_ok $response, 'but the login succeeds', session => 1;
};

subtest 'how long it took' => sub {
    my ($who) = known();
    double->fault(kind => 'delay', ms => 300);
    my $marks = marks();
    my $response = post($server->url($login), $who);
    my ($note) = logged($marks, $response);
    cmp_ok $note->{upstream}, '>=', 250, 'at Supabase';
    cmp_ok $note->{upstream}, '<=', 1000 * $response->{elapsed},
        'no longer than the request';
    cmp_ok $note->{store}, '<=', 1000 * $response->{elapsed} - 250,
        'the database does not count for it';
};

# Everything above is in this log, at all levels down to trace8.
subtest 'what is in the log' => sub {
    my @lines = $server->log_since(0);
    cmp_ok scalar @lines, '>', 30, 'the log is not empty';
    my @personal = grep {/\@example\.com|\@example%/i} @lines;
    is_deeply [grep {
        my $line = UserSync::Log::parse($_);
        !$line || $line->{level} !~ /^(?:debug|trace\d)$/;
    } @personal], [], 'e-mail addresses at debug and below only';
    my $secret = join '|', map {quotemeta} @secrets;
    is_deeply [grep {/$secret/} @lines], [],
        'passwords, tokens and keys at no level';
    is_deeply [grep {/eyJ\w|"password"|DETAIL|CONTEXT|Failing row/} @lines],
        [], 'nor anything that looks like one, nor a row';
    my $users = join '|', @users;
    ok scalar(grep {/$users/} @lines), 'users go by their ids';
    my $log = UserSync::Util::slurp($server->access_log);
    unlike $log, qr/\@example|$secret/, 'the same for the notes';
};

subtest 'a persistent cause' => sub {
    # its own children, which have logged nothing yet
    my $quiet = server(threads => 51);
    my ($who) = known();
    my @causes = (
        ['upstream_bad_answer', $login, sub { double->fault(kind => 'html',
            times => -1, status => 500) }],
        # Another cause of the same outcome has its own line. libcurl is not
        # part of it: its words for one cause differ between versions.
        ['upstream_bad_answer', $login, sub { double->clear_faults;
            double->fault(kind => 'html', times => -1, status => 200) }],
        ['outcome_unknown', $register, sub { }],
        ['upstream_rejected_key', $login, sub { double->clear_faults;
            double->config(keys => ['sb_publishable_another']) }],
        ['over_request_rate_limit', $login, sub { double->config(
            rate_limit => { token => 0 }, keys =>
                [double->key('publishable')]) }],
        ['store_unavailable', $login, sub { double->config(rate_limit =>
            undef) }, 'nowhere'],
    );
    for my $case (@causes) {
        my ($code, $path, $set_up, $vhost) = @$case;
        $set_up->();
        my $mark = $quiet->log->mark;
        my $start = time;
        my @all = parallel(50, sub { ($quiet->url($path, $vhost), $who) });
        my $elapsed = time - $start;
        is scalar(grep { ($_->{json}{code} || '') eq $code } @all), 50,
            "$code: fifty are counted";
        my @lines = grep {/usersync:\w+\].*\b$code\b/} grep {
            UserSync::Log::parse($_)->{level} !~ /debug|trace/
        } $quiet->log_since($mark);
        cmp_ok scalar @lines, '>=', 1, 'the log says so';
        # a request that relies on the finding of another one says so
        my @of_others = grep {/another request that finds out/} @lines;
        cmp_ok scalar @$_, '<=', 1 + int($elapsed / 10),
            'once each ten seconds'
            for \@of_others, [grep { !/another request that/ } @lines];
    }
    double->reset;
};

done_testing;
