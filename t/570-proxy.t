# What Supabase's own clients ask through mod_proxy: before which answers the
# user's row is made sure of, and which go out as they are.

use UserSync::Proxied;
use UserSync::Test;

my $OFF = proxied(lines => ['UserSyncEnsureResponse Off']);
my $httpd = proxied_server('app', vhosts => { plain => $OFF })->start;
my $password = 'correct horse';
my $number = 0;
my ($T, $F) = (JSON::PP::true(), JSON::PP::false());
my %FORM = ('Content-Type' => 'application/x-www-form-urlencoded');

double->config(autoconfirm => $T, anonymous => $T,
    providers => { github => { sub => 'g-7', email => 'gus@example.com' } });

sub person {
    return double->add_user(email => 'p' . ++$number . '@example.com',
        password => $password, @_);
}

sub grant {
    my ($type, $data, %header) = @_;
    return ask($httpd, POST => "/token?grant_type=$type", $data, %header);
}

sub log_in {
    my ($user) = @_;
    return grant(password =>
            { email => $user->{email}, password => $password });
}

# Past this server, so that nobody is known here.
sub log_in_elsewhere {
    my ($user) = @_;
    return ask($httpd, POST => double->url . '/auth/v1/token?grant_type=password',
        { email => $user->{email}, password => $password });
}

sub bearer {
    my ($session) = @_;
    return (Authorization => "Bearer $session->{json}{access_token}");
}

sub mail_to {
    my ($email, @kind) = @_;
    return double->otp($email, @kind);
}

sub form {
    my (%value) = @_;
    return join '&', map { "$_=" . $value{$_} =~ s/(\W)/sprintf '%%%02X',
        ord $1/ger } sort keys %value;
}

# The path below /auth/v1 of a redirect to the double.
sub next_path {
    my ($response) = @_;
    my ($path) = ($response->{headers}{location} || '') =~ m{/auth/v1(/.*)};
    return $path;
}

# The browser's way to a provider and back, to the path of the callback.
sub callback_path {
    my ($query) = @_;
    my $to = ask($httpd, GET => "/authorize?provider=github$query");
    return next_path(get($to->{headers}{location}));
}

# An answer with a session, in the body or in Location, and the row of its
# user.
sub session_ok {
    my ($response, $name, $status) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $token = $response->{headers}{location} || $response->{body};
    my $id = claims_in($token)->{sub};
    return is_deeply([$response->{status}, $id && has_row($id),
            [outcome($httpd)], $response->{headers}{'sb-auth-user-id'}],
        [$status || 200, 1, ['ok', $id], undef],
        $name || 'a session and a row') || diag show($response);
}

subtest 'sessions in the body' => sub {
    my $user = person();
    my $session = log_in($user);
    session_ok $session, 'password';
    is row_of($user->{id})->{email}, $user->{email}, 'with the e-mail';
    session_ok grant(refresh_token =>
            { refresh_token => $session->{json}{refresh_token} }), 'refresh';
    session_ok ask($httpd, POST => '/signup',
        { email => 'new@example.com', password => $password }), 'sign-up';
    session_ok ask($httpd, POST => '/signup', {}), 'anonymous';
    ask($httpd, POST => '/otp', { email => $user->{email} });
    is_deeply [outcome($httpd)], [undef, undef], 'a mail: nobody is in there';
    session_ok ask($httpd, POST => '/verify', { type => 'email',
        email => $user->{email}, token => mail_to($user->{email})->{code} }),
        'a code by mail';
    session_ok grant(id_token => { provider => 'google', id_token =>
            double->id_token(provider => 'google', sub => 'i-1',
                email => 'ida@example.com') }), 'a token of a provider';
};

subtest 'a second factor' => sub {
    my $session = log_in_elsewhere(person());
    my $factor = ask($httpd, POST => '/factors',
        { factor_type => 'totp', friendly_name => 'app' }, bearer($session));
    is_deeply [$factor->{status}, outcome($httpd)], [200, undef, undef],
        'enrolled';
    my $path = "/factors/$factor->{json}{id}";
    my $challenge = ask($httpd, POST => "$path/challenge", {},
        bearer($session));
    session_ok ask($httpd, POST => "$path/verify", { code => '123456',
        challenge_id => $challenge->{json}{id} }, bearer($session)),
        'verified';
};

subtest 'sessions in a redirect' => sub {
    my $user = person();
    ask($httpd, POST => '/magiclink', { email => $user->{email} });
    session_ok ask($httpd, GET => '/verify?type=magiclink&token='
            . mail_to($user->{email})->{hash}), 'the link of a mail', 303;
    is row_of($user->{id})->{email}, $user->{email},
        'the e-mail is in the token';
    session_ok ask($httpd, GET => callback_path('')), 'a provider', 302;
    my ($path, $form) = split /\?/, callback_path('');
    session_ok ask($httpd, POST => $path, $form, %FORM),
        'a provider, by a form', 302;
    session_ok ask($httpd, POST => '/sso/saml/acs',
        form(RelayState => 'http://127.0.0.1:3000/', SAMLResponse =>
                double->saml_response(sub => 's-1',
                    email => 'sam@example.com')), %FORM), 'SAML', 302;
};

# Where Supabase sends browsers on, it answers with a session to nobody so far.
subtest 'sessions in place of a redirect' => sub {
    for my $case ([GET => '/verify?type=magiclink&token=x'],
        [GET => '/callback?code=x'], [POST => '/callback', 'code=x', %FORM],
        [POST => '/sso/saml/acs', 'RelayState=x', %FORM]) {
        my ($method, $path, @rest) = @$case;
        double->fault(kind => 'status', status => 200,
            body => session_json());
        session_ok ask($httpd, $method, $path, @rest), "$method $path";
    }
};

subtest 'PKCE' => sub {
    my $verifier = 'v' x 50;
    my $challenge = UserSync::Proxied::challenge_of($verifier);
    my $back = ask($httpd, GET => callback_path(
        "&code_challenge=$challenge&code_challenge_method=s256"));
    my ($code) = $back->{headers}{location} =~ /[?]code=([0-9a-f-]{36})/;
    is_deeply [$back->{status}, outcome($httpd)], [302, undef, undef],
        'a code: nobody is in there';
    session_ok grant(pkce =>
            { auth_code => $code, code_verifier => $verifier }), 'a session';
};

subtest 'tokens of an application' => sub {
    my $user = person();
    my $verifier = 'v' x 50;
    my $response = ask($httpd, POST => '/oauth/token',
        { grant_type => 'authorization_code', client_id => 'app',
            code => double->oauth_code($user->{id}, 'app', $verifier),
            code_verifier => $verifier });
    session_ok $response, 'the token names the user';
    ok !$response->{json}{user}, 'though the answer does not';
    is row_of($user->{id})->{email}, $user->{email}, 'nor their e-mail';
};

subtest 'users without a session' => sub {
    double->config(autoconfirm => $F);
    my %ann = (email => 'ann@example.com', password => $password);
    my $pending = ask($httpd, POST => '/signup', \%ann);
    my $id = user_of($pending);
    is_deeply [$pending->{status}, outcome($httpd), has_row($id)],
        [200, 'pending', $id, 1], 'a sign-up to confirm';
    session_ok ask($httpd, GET => '/verify?type=signup&token='
            . mail_to($ann{email})->{hash}), 'confirmed', 303;
    my $taken = ask($httpd, POST => '/signup', \%ann);
    is_deeply [$taken->{status}, outcome($httpd), has_row(user_of($taken))],
        [200, 'pending', undef, 0], 'an invented user has no row';
    double->config(autoconfirm => $T);

    my $session = log_in_elsewhere(my $user = person());
    my $own = ask($httpd, GET => '/user', undef, bearer($session));
    is_deeply [$own->{status}, outcome($httpd), has_row($user->{id})],
        [200, 'ok', $user->{id}, 1], 'the user of a token';
    my $guest = ask($httpd, POST => '/signup', {});
    my $upgraded = ask($httpd, PUT => '/user',
        { email => 'known@example.com' }, bearer($guest));
    is_deeply [$upgraded->{status}, row_of(user_of($upgraded))->{email}],
        [200, 'known@example.com'], 'an anonymous user who is known now';
    double->config(autoconfirm => $F);
    ask($httpd, PUT => '/user', { email => 'other@example.com' },
        bearer($guest));
    is row_of(user_of($upgraded))->{email}, 'known@example.com',
        'the old address, until the new one is confirmed';
    double->config(autoconfirm => $T);
};

subtest 'the same bytes as without it' => sub {
    my $user = person();
    my $session = log_in($user);
    for my $case (
        ['an error', POST => '/token?grant_type=password',
            { email => $user->{email}, password => 'wrong' }],
        ['no such path', GET => '/nowhere'],
        ['settings', GET => '/settings'],
        ['health', GET => '/health'],
        ['nobody', GET => '/user'],
        ['preflight', OPTIONS => '/token', undef,
            Origin => 'https://app.example.com',
            'Access-Control-Request-Method' => 'POST'],
        ['a wrong method', PATCH => '/token'],
        ['a provider', GET => '/authorize?provider=x'],
        ['a used link', GET => '/verify?type=signup&token=x'],
        ['a user', GET => '/user', undef, bearer($session)],
        ['mail', POST => '/recover', { email => $user->{email} }]) {
        my ($name, $method, $path, $body, %header) = @$case;
        my ($with, $without) = map {
            ask($httpd, $method => $httpd->url("/auth/v1$path", $_), $body,
                %header)
        } undef, 'plain';
        for my $response ($with, $without) {
            $response->{header_list} = [grep { lc $_->[0] ne 'date' }
                    @{ $response->{header_list} }];
        }
        is_deeply [@$with{qw(status header_list body)}],
            [@$without{qw(status header_list body)}], $name
            or diag show($with), show($without);
    }
    ask($httpd, POST => '/logout', undef, bearer($session));
    is_deeply [outcome($httpd)], [undef, undef], 'a logout';
};

subtest 'administrators' => sub {
    for my $path ('/admin/users', '/Admin/users', '/%61dmin/users',
        '//admin/users', '/x/../admin/users', '/invite', '/scim/v2/Users') {
        double->clear_requests;
        my $response = ask($httpd, GET => $path, undef,
            apikey => double->key('secret'));
        withheld_ok $response, 403, 'admin_not_proxied', $path;
        is_deeply [double->requests], [], "$path: is not forwarded";
    }
};

subtest 'without the store' => sub {
    my $away = proxied_server('host=/nowhere dbname=app')->start;
    UserSync::Gate::has_rows_in('app');
    $away->allow_log(qr/usersync-response: store_unavailable/);
    $away->allow_log(qr/\[dbd:error\]/);
    my $user = person();
    double->clear_requests;
    my $response = ask($away, POST => '/token?grant_type=password',
        { email => $user->{email}, password => $password });
    withheld_ok $response, 503, 'store_unavailable';
    is ask($away, GET => '/verify?type=signup&token=x')->{status}, 503,
        'a page';
};

done_testing;
