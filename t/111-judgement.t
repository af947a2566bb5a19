# The order of judgement, with constructed answers: where a code is looked for,
# what a status means without one, which texts are passed on, Retry-After, and
# which ids are proven.

use UserSync::Test;
use UserSync::Contract;

my ($register, $login) = my @routes = ('/auth/register', '/auth/login');
my $id = '0f0e0d0c-1234-4abc-8def-0123456789ab';
my $other = '99999999-1234-4abc-8def-0123456789ab';
our $sent = 'ada@example.com';
allow_log(upstream_lines());
allow_log(qr/usersync:warn\].*: unknown: Supabase answered 429 .*a hook/);

# The reply to an answer of Supabase: status, body (bytes, or JSON if it is a
# reference), headers; content_type => ... is one of them. $sent is the user
# who asked.
sub answered {
    my ($path, $status, $body, %header) = @_;
    my $type = exists $header{content_type} ? delete $header{content_type}
        : 'application/json';
    double->fault(kind => 'status', times => -1, status => $status,
        body => $body, headers => \%header, content_type => $type);
    my $response = post($path, credentials(email => $sent));
    double->clear_faults;
    return $response;
}

sub bad_ok {
    my ($path, $response, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return problem_ok $response, 502, $path eq $login ? 'upstream_bad_answer'
        : 'outcome_unknown', "$path: $name";
}

sub rows {
    return [map { [@$_{qw(id email)}] } postgres()->sql(app =>
        'SELECT id::text, email FROM users ORDER BY 1')];
}

subtest 'where the code is' => sub {
    my $code = 'email_not_confirmed';
    my @cases = (
        ['code', { code => $code }],
        ['code before error_code and error',
            { code => $code, error_code => 'user_banned', error => 'x' }],
        ['error_code when code is a number',
            { code => 400, error_code => $code, msg => 'x' }],
        ['error_code before error', { error_code => $code, error => 'x' }],
        ['error', { error => $code, error_description => 'x' }],
        ['x-sb-error-code with JSON', { message => 'x' },
            'x-sb-error-code' => $code],
        ['x-sb-error-code with an empty body', '', 'x-sb-error-code' => $code],
        ['x-sb-error-code with HTML', '<html>', 'X-Sb-Error-Code' => $code,
            content_type => 'text/html'],
        ['the body before the header', { code => $code },
            'x-sb-error-code' => 'user_banned'],
        ['whatever the content type', { code => $code },
            content_type => 'text/plain'],
        ['or none', { code => $code }, content_type => undef],
    );
    for my $case (@cases) {
        my ($name, @answer) = @$case;
        for my $status (400, 403, 500) {
            problem_ok answered($_, $status, @answer), 403, $code,
                "$_: $name ($status)" for @routes;
        }
    }
};

subtest 'text that is not a code' => sub {
    for my $code ('', ' ', 'two words', '<b>bold</b>', "a\nb", 'x' x 1000,
        '"quoted"', "caf\x{e9}", undef, 42, ['a'], { a => 1 }) {
        my $name = JSON::PP->new->allow_nonref->ascii->encode($code);
        for my $path (@routes) {
            my $response = answered($path, 400, { code => $code });
            bad_ok $path, $response, substr $name, 0, 20;
            unlike $response->{json}{detail},
                qr/<b>|two words|xxxx|caf|quoted/, 'is not shown';
        }
    }
};

# GoTrue's codes that are not in any list here: the class of the status
# decides.
subtest 'an unknown code' => sub {
    for my $path (@routes) {
        problem_ok answered($path, $_, { code => 'brand_new_code' }), 400,
            'brand_new_code', "$path: $_" for 400, 403, 404, 409, 422;
        problem_ok answered($path, 429, { code => 'over_new_limit' }), 429,
            'over_new_limit', "$path: 429", retry_after => [48, 72];
        bad_ok $path, answered($path, $_, { code => 'brand_new_code' }), $_
            for 500, 502, 503;
    }
};

# With 401, 402 and 540 a gateway means our key or our project, and so does any
# word that GoTrue would not use. GoTrue's own header decides.
subtest 'words of a gateway' => sub {
    for my $path (@routes) {
        problem_ok answered($path, @$_), 502, 'upstream_rejected_key',
            "$path: $_->[0]"
            for [401, { code => 'brand_new_code' }],
            [401, { error => 'Unauthorized' }], [401, { code => '401' }],
            [403, { error => 'Forbidden' }];
        problem_ok answered($path, @$_), 503, 'upstream_unavailable',
            "$path: $_->[0]", retry_after => [4, 6]
            for [402, { error => 'payment_required' }],
            [540, { code => 'PROJECT_PAUSED' }];
        problem_ok answered($path, 401, { code => 'brand_new_code' },
            'x-sb-error-code' => 'brand_new_code'), 400,
            'brand_new_code', "$path: 401 by GoTrue";
    }
};

subtest 'without a code' => sub {
    my %html = (content_type => 'text/html; charset=UTF-8');
    for my $path (@routes) {
        my $key = sub {
            problem_ok answered($path, @{ $_[1] }), 502,
                'upstream_rejected_key', "$path: $_[0]";
        };
        $key->('401 JSON', [401, { message => 'Invalid API key' }]);
        $key->('401 empty', [401, '', content_type => undef]);
        $key->('401 HTML', [401, '<html>', %html]);
        $key->('401 text', [401, 'Unauthorized', content_type => 'text/plain']);
        $key->('403 JSON', [403, { message => 'x' }]);
        $key->('403 text', [403, 'RBAC: access denied',
            content_type => 'text/plain']);
        $key->('403 empty', [403, '', content_type => undef]);
        # the edge's firewall: nothing was done
        problem_ok answered($path, 403, '<html>', content_type => $_), 503,
            'upstream_unavailable', "$path: 403 $_", retry_after => [4, 6]
            for 'text/html; charset=UTF-8', 'Text/HTML';
        problem_ok answered($path, $_, { message => 'x' }), 503,
            'upstream_unavailable', "$path: $_ JSON" for 402, 540;
        problem_ok answered($path, $_, '<html>', %html), 503,
            'upstream_unavailable', "$path: $_ HTML" for 402, 540;
        problem_ok answered($path, 429, '<html>', %html), 429,
            'over_request_rate_limit', "$path: 429 HTML";
        problem_ok answered($path, 429, ''), 429,
            'over_request_rate_limit', "$path: 429 empty";
        bad_ok $path, answered($path, $_, '<html>', %html), $_ for 300, 301,
            304, 307, 308, 400, 404, 405, 408, 409, 413, 418, 422, 451, 500,
            501, 502, 503, 504, 520, 521, 522, 523, 524, 525, 526, 530, 544;
        bad_ok $path, answered($path, $_, { message => 'no Route matched' }),
            "$_ JSON" for 400, 404, 500, 503, 504;
    }
};

# A hook answers with any status, and always with the same code.
subtest "a hook's refusal" => sub {
    my $text = 'Only company addresses.';
    for my $path (@routes) {
        for my $status (200, 201, 202, 302, 400, 401, 403, 404, 409, 418, 422,
            429, 500, 502, 503, 599) {
            my @as = $status == 429 ? (429, 'unknown', "$path: 429",
                retry_after => [48, 72]) : (400, 'unknown', "$path: $status");
            problem_ok answered($path, $status, { code => 'unknown',
                message => $text }), @as, detail => $text;
        }
        problem_ok answered($path, $_, { code => $_, error_code => 'unknown',
            msg => $text }), 400, 'unknown', "$path: $_, old format",
            detail => $text for 200, 403, 500;
        # without a status: GoTrue's code for failures, but not its header
        for my $body ({ code => 'unexpected_failure', message => $text },
            { code => 500, error_code => 'unexpected_failure',
                msg => $text, error_id => 'b3' }) {
            problem_ok answered($path, 500, $body), 400, 'unknown',
                "$path: 500 without a status", detail => $text;
            bad_ok $path, answered($path, 500, $body,
                'x-sb-error-code' => 'unexpected_failure'), 'and with it';
        }
        bad_ok $path, answered($path, 500, { code => 'unexpected_failure',
            message => $_ }), $_ for 'Internal Server Error', 'Unexpected '
            . 'failure, please check server logs for more information';
    }
    problem_ok answered($login, 400, { code => 'invalid_credentials',
        message => $text }, 'x-sb-error-code' => 'invalid_credentials'), 401,
        'invalid_credentials', 'of the hook for passwords', detail => $text;
    is_deeply rows(), [], 'no row came of it';
};

subtest 'a text that is passed on' => sub {
    my @shown = (
        ['as it is', "Nur f\x{fc}r Kolleg:innen \x{2013} <b>&</b> \"x\" \\"],
        ['the longest that GoTrue has', 'x' x 200],
    );
    for my $case (@shown) {
        my ($name, $text) = @$case;
        problem_ok answered($register, 403, { code => 'unknown',
            message => $text }), 400, 'unknown', $name, detail => $text;
    }
    my @checked = (
        ['control characters', "line\r\nbreak\x01\x1b[2J\x7f\tend"],
        ['much too long', 'x' x 100_000],
        ['cut in the middle of a character', "a" . "\x{1f600}" x 10_000],
        ['and of another', "ab" . "\x{20ac}" x 10_000],
    );
    for my $case (@checked) {
        my ($name, $text) = @$case;
        my $response = answered($register, 403,
            { code => 'unknown', message => $text });
        problem_ok $response, 400, 'unknown', $name;
        my $detail = $response->{json}{detail};
        cmp_ok length $detail, '<=', 1000, 'is bounded';
        unlike $detail, qr/[\x00-\x1f\x7f\x{fffd}]/, 'and clean';
    }
    problem_ok answered($register, 403, { code => 'unknown', %$_ }), 400,
        'unknown', 'none: a text of our own'
        for {}, { message => '' }, { message => undef }, { message => 1 },
        { message => ['x'] }, { message => { a => 1 } };
};

subtest 'when to retry' => sub {
    my $text = 'For security purposes, you can only request this after';
    my @cases = (
        # seconds, text, Retry-After
        [42, "$text 42 seconds."], [1, "$text 1 seconds."],
        [7, "$text 42 seconds.", 7], [3600, 'Slow down', 3600],
        [[48, 72], 'email rate limit exceeded'], [[48, 72], "$text seconds."],
        [[48, 72], "$text -5 seconds."], [[48, 72], 'after all'],
        [[48, 72], 'x', 'soon'], [[48, 72], 'x', '-1'],
    );
    for my $case (@cases) {
        my ($seconds, $message, $header) = @$case;
        for my $body ({ code => 'over_email_send_rate_limit',
                message => $message },
            { code => 429, error_code => 'over_email_send_rate_limit',
                msg => $message }) {
            problem_ok answered($register, 429, $body, defined $header
                ? ('Retry-After' => $header) : ()), 429,
                'over_email_send_rate_limit', $message,
                retry_after => $seconds;
        }
    }
};

# ---- which ids are proven

sub user {
    my (%more) = @_;
    my %user = (id => $id, email => 'ada@example.com', identities =>
        [{ id => $id, user_id => $id, provider => 'email' }], %more);
    delete @user{ grep { ref $user{$_} eq 'CODE' } keys %user };
    return \%user;
}
my $left_out = sub { };

sub session {
    my ($user, %more) = @_;
    return { access_token => 'eyJ.x.y', token_type => 'bearer',
        refresh_token => 'r', expires_in => 3600,
        defined $user ? (user => $user) : (), %more };
}

subtest 'an incomplete session' => sub {
    my @bodies = (
        ['no user', session(undef)],
        ['user null', session(undef, user => undef)],
        ['user a string', session(undef, user => $id)],
        ['user a list', session(undef, user => [user()])],
        ['no id', session(user(id => $left_out))],
        map({ ["id " . (defined $_ ? $_ : 'null'), session(user(id => $_))] }
            undef, '', 1, 'x', "$id ", " $id", "{$id}", "${id}0",
            substr($id, 1), $id =~ s/-//gr, $id =~ s/0f/0g/r, [$id]),
        ['no token', { user => user() }],
        ['an empty token', session(user(), access_token => '')],
        ['token null', session(user(), access_token => undef)],
        ['token a number', session(user(), access_token => 1)],
    );
    for my $case (@bodies) {
        my ($name, $body) = @$case;
        bad_ok $_, answered($_, 200, $body), $name for @routes;
    }
    is_deeply rows(), [], 'no row came of it';
};

subtest 'a session' => sub {
    my @cases = (
        ['as usual', $id, 'ada@example.com', user()],
        ['no identities', $id, 'ada@example.com', user(identities => [])],
        ['e-mail in capitals', $id, 'Ada@Example.com',
            user(email => 'Ada@Example.com')],
        ['e-mail beyond ASCII', $id, "j\x{f6}rg'\"\\\@example.com",
            user(email => "j\x{f6}rg'\"\\\@example.com")],
        ['id in capitals', $id, 'ada@example.com', user(id => uc $id)],
    );
    for my $case (@cases) {
        my ($name, $user_id, $email, $user) = @$case;
        local $sent = $email;
        for my $path (@routes) {
            postgres()->sql(app => 'DELETE FROM users');
            success_ok answered($path, 200, session($user)), "$path: $name",
                session => 1, user_id => $user_id;
            is_deeply rows(), [[$user_id, $email]], 'its row';
        }
    }
    success_ok answered($login, 201, session(user())), 'any 2xx will do';
};

# Whose answer it is: the e-mail that was sent decides.
subtest "another user's answer" => sub {
    my $about = qr/upstream_bad_answer|outcome_unknown/;
    my @others = (
        ['another address', 'eve@example.com'], ['none', $left_out],
        ['an empty one', ''], ['null', undef], ['a list', ['ada@example.com']],
        ['a longer one', 'ada@example.com.example'],
    );
    postgres()->sql(app => 'DELETE FROM users');
    httpd->graceful; # children that have not said it within ten seconds
    my $mark = log_mark();
    for my $case (@others) {
        my ($name, $email) = @$case;
        bad_ok $_, answered($_, 200, session(user(email => $email))),
            "a session, $name" for @routes;
        bad_ok $register, answered($register, 200, user(email => $email)),
            "a user, $name";
    }
    is_deeply rows(), [], 'no row came of it';
    my @lines = grep {/$about: Supabase's answer is about another user/}
        log_since($mark);
    ok @lines >= 1, 'the log says so';
    is_deeply [grep {/\bada\b|\beve\b|\@/} @lines], [], 'without an address';
    {
        local $sent = 'ADA@Example.com';
        success_ok answered($_, 200, session(user())), "$_: capitals",
            session => 1, user_id => $id for @routes;
        local $sent = "\x{130}nci\@example.com";
        success_ok answered($_, 200, session(user(email =>
            'inci@example.com'))), "$_: a dotted I", session => 1,
            user_id => $id for @routes;
    }
    # made up from an account that has this address from another identity
    success_ok answered($register, 200, user(email => 'eve@example.com',
        role => '', identities => [])), 'an invented user', session => 0,
        user_id => $id;
    postgres()->sql(app => 'DELETE FROM users');
};

subtest 'a session is passed on byte for byte' => sub {
    local $sent = 'a@b.c';
    my $start = qq({"access_token":"x","user":{"id":"$id","email":"a\@b.c");
    my @bodies = (
        ['blanks and line ends', qq( { "user" :\r\n\t{"id" : "$id", "email" : "a\@b.c"} ,\n)
            . '"access_token": "x" , "list" : [ 1 , 2 ] } '],
        ['numbers', $start . '},"n":[1.0,1E5,-0,12345678901234567890]}'],
        ['escapes', $start . '},"s":"\u003c\/\u00e9\ud83d\ude00\\\\\""}'],
        ['beyond ASCII', $start . qq(},"s":"\x{e9}\x{1f600}\x{2028}\x7f"})],
        ['members twice', $start . '},"a":1,"a":2,"":3}'],
        ['close to a megabyte', $start . ',"m":"' . 'x' x 1_000_000 . '"}}'],
    );
    for my $case (@bodies) {
        my ($name, $body) = @$case;
        for my $path (@routes) {
            my $response = answered($path, 200, $body);
            success_ok $response, "$path: $name", session => 1,
                user_id => $id;
            utf8::encode(my $bytes = $body);
            $bytes =~ s/\A\s+|\s+\z//g;
            ok session_text($response) eq $bytes, 'as it was'
                or diag substr $response->{body}, 0, 500;
        }
    }
};

subtest 'a user without a session' => sub {
    my $own = { user_id => $id };
    my @cases = (
        ['their identity', 1, [$own]],
        ['one of two is theirs', 1, [{ user_id => $other }, $own]],
        ['none', 0, []],
        ["somebody else's", 0, [{ user_id => $other }]],
        ['one without user_id', 0, [{ id => $id }]],
        ['user_id null', 0, [{ user_id => undef }]],
        ['an empty user_id', 0, [{ user_id => '' }]],
        ['the id alone', 0, [$id]],
        ['null', 0, [undef]],
    );
    for my $case (@cases) {
        my ($name, $proven, $identities) = @$case;
        postgres()->sql(app => 'DELETE FROM users');
        my $user = user(identities => $identities);
        success_ok answered($register, 200, $user), $name, session => 0,
            user_id => $id;
        is_deeply rows(), [$proven ? [$id, 'ada@example.com'] : ()],
            $proven ? 'a row' : 'no row';
        bad_ok $login, answered($login, 200, $user), $name;
    }
    postgres()->sql(app => 'DELETE FROM users');
    bad_ok $register, answered($register, 200, user(id => $_)), "id $_"
        for '', 'x', "$id\n", "{$id}", '00000000';
    bad_ok $register, answered($register, 200, user(id => $left_out)),
        'no id';
    answered($register, 200, user(identities => $_))
        for undef, $left_out, 'x', { user_id => $id };
    is_deeply rows(), [], 'identities that are no list prove nothing';
};

done_testing;
