# Supabase's answers when a hook of the project fails, when many users sign up
# with one address at the same time, when it is too old for codes, when its
# edge refuses this server, and when a user's answer is too large: the reply,
# the row, and the log line that says what to do.

use UserSync::Test;
use UserSync::Contract;
use UserSync::Tables;

my ($register, $login) = my @routes = ('/auth/register', '/auth/login');
my ($yes, $no) = (JSON::PP::true, JSON::PP::false);
my $db = scratch_db('usersync_hooks');
my $UUID = qr/[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/;

# A child suppresses repeated lines about one cause: each question has its own
# cause, on a server with one child.
my $httpd = server($db, {}, UserSyncCircuitBreaker => '3 60s')->start;
$httpd->allow_log(upstream_lines());

sub ask { return post($httpd->url($_[0]), $_[1]) }

# The only line that the block logs about a request to that route.
sub line_of {
    my ($path, $code) = @_;
    my ($route) = $path =~ m{(\w+)\z};
    $httpd->restart;
    my $mark = $httpd->log->mark;
    $code->();
    my @lines = grep {/usersync:(?:warn|error)\].* usersync-$route: /}
        $httpd->log_since($mark);
    is scalar @lines, 1, 'one line' or diag join '', @lines;
    unlike $lines[0] // '', qr/\@/, 'without an address';
    return $lines[0] // '';
}

# ---- hooks

# hook, what it does, route, reply, what the line says
my $where = qr/see Authentication, Hooks/;
my @AWAY = (
    ['before_user_created', { away => 'timeout' }, $register,
        [503, 'upstream_unavailable'],
        qr/code hook_timeout, .*\(before-user-created, or send-email\)/],
    ['before_user_created', { away => 'refused' }, $register,
        [503, 'upstream_unavailable'], qr/code hook_timeout_after_retry/],
    ['before_user_created', { http => 200, type => 'text/html' }, $register,
        [503, 'upstream_unavailable'],
        qr/code hook_payload_invalid_content_type/],
    ['before_user_created', { http => 503 }, $register,
        [503, 'upstream_unavailable'],
        qr/"Service currently unavailable due to hook"/],
    ['before_user_created', { http => 404 }, $register,
        [503, 'upstream_unavailable'],
        qr/"Unexpected status code returned from hook: 404"/],
    ['custom_access_token', { away => 'refused' }, $register,
        [502, 'outcome_unknown'],
        qr/\(custom-access-token\).*the account exists.*\(user $UUID\)/],
    ['custom_access_token', { away => 'timeout' }, $login,
        [503, 'upstream_unavailable'], qr/\(custom-access-token\)/],
    ['custom_access_token', { claims => 'missing' }, $login,
        [503, 'upstream_unavailable'], qr/"output claims field is missing"/],
    ['custom_access_token', { claims => 'empty' }, $login,
        [503, 'upstream_unavailable'],
        qr/"output claims do not conform to the expected schema\.\.\."/],
    ['password_verification_attempt', { away => 'timeout' }, $login,
        [503, 'upstream_unavailable'], qr/password-verification-attempt/],
);

subtest 'a hook that is away' => sub {
    for my $case (@AWAY) {
        my ($hook, $what, $path, $reply, $says) = @$case;
        my $person = person();
        my $who = $path eq $register ? credentials() : $person;
        double->config(hooks => { $hook => $what });
        my $name = "$hook " . join ' ', %$what;
        my $line = line_of($path, sub {
            problem_ok ask($path,
                { map { $_ => $who->{$_} } qw(email password) }), @$reply,
                $name;
        });
        like $line, $says, 'the line says what happened';
        like $line, $where, 'and where to look';
        like $line, qr/usersync:error\]/, 'at error';
        double->config(hooks => {});
        is ask($path, { map { $_ => $who->{$_} } qw(email password) })
            ->{status}, $reply->[1] eq 'outcome_unknown' ? 409 : 200,
            'what was done matches the answer';
    }
    double->config(autoconfirm => $no,
        hooks => { after_user_created => { away => 'timeout' } });
    my $line = line_of($register, sub {
        problem_ok ask($register, credentials()), 502, 'outcome_unknown',
            'after_user_created', detail => qr/log in/;
    });
    like $line, qr/"Error invoking hook".*after-user-created.*account exists/,
        'the line says so';
    double->reset;
};

subtest 'a hook that refuses' => sub {
    $httpd->restart;
    my $text = 'Not with us.';
    for my $status (undef, 403, 404, 503) {
        my $error = { error => { message => $text,
            defined $status ? (http_code => $status) : () } };
        my $name = $status // 'without a status';
        double->config(hooks => { before_user_created => $error });
        problem_ok ask($register, credentials()), 400, 'unknown',
            "a sign-up, $name", detail => $text;
        my $person = person();
        double->config(hooks => { custom_access_token => $error });
        problem_ok ask($login, { map { $_ => $person->{$_} }
                qw(email password) }), 400, 'unknown', "a login, $name",
            detail => $text;
    }
    my $person = person();
    my $who = { map { $_ => $person->{$_} } qw(email password) };
    double->config(hooks => { password_verification_attempt =>
        { decision => 'reject', message => 'Too many attempts.' } });
    problem_ok ask($login, $who), 401, 'invalid_credentials',
        'the hook for passwords', detail => 'Too many attempts.';
    double->config(hooks => { password_verification_attempt =>
        { error => { http_code => 429, message => 'Slow down.' } } });
    $httpd->expect_log(qr/unknown: Supabase answered 429/);
    problem_ok ask($login, $who), 429, 'unknown', 'its 429',
        detail => 'Slow down.', retry_after => [48, 72];
    double->config(hooks => { before_user_created =>
        { error => { http_code => 99, message => $text } } });
    problem_ok ask($register, credentials()), 502, 'outcome_unknown',
        'a status that is none is not shown', detail => qr/log in/;
    double->config(hooks => {});
    problem_ok ask($login, { %$who, password => 'guessed' }), 401,
        'invalid_credentials', "Supabase's own text is not shown",
        detail => 'The e-mail address or the password is wrong.';
    double->reset;
};

# ---- sign-ups at the same time

for my $autoconfirm ($yes, $no) {
    subtest 'forty sign-ups of one address, '
        . ($autoconfirm ? 'auto-confirm' : 'confirmation by mail') => sub {
        my $many = UserSync::Httpd->new(
            mpm eq 'prefork' ? (children => 41) : (threads => 41),
            config => module_config(DBDParams => dsn_of($db)))->start;
        $many->allow_log(upstream_lines());
        double->reset;
        double->config(autoconfirm => $autoconfirm, signup_together => 40);
        my $who = credentials();
        my $mark = $many->log->mark;
        my @all = parallel(40, sub { ($many->url($register), $who) });
        my %count;
        $count{ $_->{status} . ' ' . ($_->{json}{code} // 'ok') }++ for @all;
        is_deeply \%count, { '200 ok' => 1, '502 upstream_bad_answer' => 39 },
            'one is registered, and the others know that they are not'
            or diag explain \%count;
        my ($lost) = grep { $_->{status} == 502 } @all;
        problem_ok $lost, 502, 'upstream_bad_answer', 'who lost', detail =>
            qr/\ANo account was created\. .*just been registered: try to log/;
        is scalar(() = double->users), 1, 'one account';
        is rows_in($db, "users WHERE email = '$who->{email}'"), 1, 'one row';
        my @lines = grep {/usersync-register: upstream_bad_answer/}
            $many->log_since($mark);
        like $lines[0] // '', qr/"Database error saving new user"; no account/,
            'the line says why';
        like $lines[0] // '', qr/another sign-up of this address came first/,
            'and what may have been';
        unlike "@lines", qr/\@/, 'without the address';
        double->config(signup_together => 0);
        is ask($login, $who)->{status}, $autoconfirm ? 200 : 403,
            'the advice is good: the account is there';
        $many->stop;
        double->reset;
    };
}

# ---- before GoTrue had codes

subtest 'an old Supabase Auth' => sub {
    $httpd->restart;
    double->config(api_format => 'old');
    my $person = person();
    my $who = { map { $_ => $person->{$_} } qw(email password) };
    problem_ok ask($login, { %$who, password => 'guessed' }), 401,
        'invalid_credentials', 'a wrong password',
        detail => 'The e-mail address or the password is wrong.';
    problem_ok ask($register, $who), 409, 'user_already_exists', 'taken';
    problem_ok ask($register, credentials(password => 'short')), 422,
        'weak_password', 'weak', reasons => ['length'];
    my $new = person(confirmed => $no);
    problem_ok ask($login, { map { $_ => $new->{$_} } qw(email password) }),
        403, 'email_not_confirmed', 'not confirmed';
    double->config(disable_signup => $yes);
    problem_ok ask($register, credentials()), 403, 'signup_disabled',
        'closed';
    is ask($login, $who)->{status}, 200, 'a login';
    double->config(disable_signup => $no);
    double->fault(kind => 'fixture',
        file => 'err_old_unexpected_failure_db.json');
    my $line = line_of($register, sub {
        problem_ok ask($register, credentials()), 502,
            'upstream_bad_answer', 'its database fails',
            detail => qr/\ANo account was created/;
    });
    like $line, qr/"Database error saving new user".*\(error_id $UUID\)/,
        'the line says why, and names the failure';
    double->reset;
};

# ---- the edge

subtest "the edge's firewall" => sub {
    for my $path (@routes) {
        double->fault(kind => 'html', status => 403, times => -1);
        my $line = line_of($path, sub {
            problem_ok ask($path, credentials()), 503,
                'upstream_unavailable', $path, retry_after => [4, 6];
        });
        like $line, qr/edge refuses this server \(403/, 'the line says so';
        double->clear_faults;
    }
};

# ---- too large

# Five in a row: the circuit opens after three.
subtest 'an account with huge metadata is nobody else\'s trouble' => sub {
    my $huge = person(user_metadata => { a => 'x' x 600_000 });
    my $other = person();
    my $line = line_of($login, sub {
        for (1 .. 5) {
            problem_ok ask($login,
                { map { $_ => $huge->{$_} } qw(email password) }), 502,
                'upstream_bad_answer', 'too large';
        }
        is ask($login, { map { $_ => $other->{$_} } qw(email password) })
            ->{status}, 200, 'others are served';
    });
    like $line, qr/larger\ than\ 1\ MiB.*the\ user's\ metadata
        .*\(user\ $huge->{id}\)/x, 'the line names the cause and the user';
    unlike $line, qr/UserSyncSupabaseURL/, 'and nothing else';
};

done_testing;
