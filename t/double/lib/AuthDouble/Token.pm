package AuthDouble::Token;
# POST /token (password, refresh_token), POST /logout, GET /user, and the
# session object that all of them issue.
use strict;
use warnings;
use AuthDouble::Http qw(query_param);
use AuthDouble::Json qw(obj num bool);
use AuthDouble::UserJson qw(user_json now);

sub token {
    my ($c) = @_;
    my $failed = $c->rate_limited('token');
    return $failed if $failed;
    my $grant = query_param($c->{req}, 'grant_type') // '';
    $failed = $c->captcha if $grant ne 'refresh_token';
    return $failed if $failed;
    return _password($c) if $grant eq 'password';
    return _refresh($c) if $grant eq 'refresh_token';
    return $c->error(400, 'invalid_credentials', 'unsupported_grant_type');
}

sub _password {
    my ($c) = @_;
    my $p = $c->params({email => 'string', phone => 'string',
        password => 'string'}, 'PasswordGrantParams') or return $c->{failed};
    $_ //= '' for @$p{qw(email phone password)};
    my $failed = _provider($c, $p);
    return $failed if $failed;
    my $store = $c->{store};
    my $wrong = sub { $c->error(400, 'invalid_credentials',
        'Invalid login credentials') };
    my $user = $store->find($c->aud, lc $p->{email}, $p->{phone})
        or return $wrong->();
    return $wrong->() if !defined $user->{password} || $user->{password} eq '';
    return $c->error(400, 'user_banned', 'User is banned')
        if $store->banned($user);
    # bcrypt reads 72 bytes
    return $wrong->()
        if substr($p->{password}, 0, 72) ne substr $user->{password}, 0, 72;
    if (!$store->confirmed($user)) {
        return $p->{email} ne ''
            ? $c->error(400, 'email_not_confirmed', 'Email not confirmed')
            : $c->error(400, 'phone_not_confirmed', 'Phone not confirmed');
    }
    return _login($c, $user, $p->{password});
}

sub _provider {
    my ($c, $p) = @_;
    return $c->error(400, 'validation_failed', 'Only an email address or phone'
        . ' number should be provided on login.')
        if $p->{email} ne '' && $p->{phone} ne '';
    if ($p->{email} ne '') {
        return $c->{config}{email_provider} ? undef
            : $c->error(422, 'email_provider_disabled',
            'Email logins are disabled');
    }
    return $c->error(400, 'validation_failed', 'missing email or phone')
        if $p->{phone} eq '';
    $p->{phone} =~ s/[+ ]//g;
    return $c->{config}{phone_provider} ? undef
        : $c->error(422, 'phone_provider_disabled', 'Phone logins are disabled');
}

sub _login {
    my ($c, $user, $password) = @_;
    my $cache = $user->{cache};
    return $cache->{res} if $cache && $cache->{until} > time
        && $cache->{password} eq $password;
    my ($text, @reasons) = AuthDouble::Signup::weakness($c->{config}, $password);
    my $res = session($c, $user, method => 'password', weak_password =>
        (@reasons ? obj(message => $text, reasons => \@reasons) : undef));
    $user->{cache} = {res => $res, password => $password,
        until => time + $c->{config}{jwt_exp} / 2} if $c->{config}{reuse_tokens};
    return $res;
}

# session($c, $user, method =>, weak_password? =>, session? =>, headers? =>,
#     and the options of user_json): the answer that signs a user in
sub session {
    my ($c, $user, %opt) = @_;
    my $store = $c->{store};
    my $s = $opt{session} // $store->new_session($user, $opt{method});
    if (!$opt{session}) {
        $user->{last_sign_in_at} = now();
        $store->touch($user);
        $opt{fresh}{last_sign_in_at} = 1;
    }
    my $iat = time;
    my $exp = $iat + $c->{config}{jwt_exp};
    my $refresh = $s->{tokens}[-1];
    my $body = obj(
        access_token => $c->{jwt}->sign(claims($c->{config}, $user, $s, $iat,
            $exp), $c->{config}{jwt_alg}),
        token_type => 'bearer', expires_in => num($c->{config}{jwt_exp}),
        expires_at => num($exp), refresh_token => $refresh,
        user => user_json($user, %opt),
        (exists $opt{weak_password} ? (weak_password => $opt{weak_password})
            : ()));
    return $c->json(200, $body, _headers($s, $refresh), @{$opt{headers} || []});
}

sub _headers {
    my ($s, $refresh) = @_;
    return (['Sb-Auth-User-Id', $s->{user_id}],
        ['Sb-Auth-Session-Id', $s->{id}],
        length $refresh == 12
            ? ['Sb-Auth-Refresh-Token-Prefix', substr $refresh, 0, 5]
            : ['Sb-Auth-Refresh-Token-Counter', $s->{counter}]);
}

sub claims {
    my ($config, $user, $s, $iat, $exp) = @_;
    return obj(
        ($config->{issuer} ? (iss => $config->{issuer}) : ()),
        sub => $user->{id}, aud => $user->{aud}, exp => num($exp),
        iat => num($iat), email => $user->{email}, phone => $user->{phone},
        app_metadata => $user->{app_metadata},
        user_metadata => $user->{user_metadata}, role => $user->{role},
        aal => 'aal1', amr => [obj(method => $s->{method},
            timestamp => num($s->{started}))],
        session_id => $s->{id}, is_anonymous => bool($user->{is_anonymous}));
}

sub _refresh {
    my ($c) = @_;
    my $p = $c->params({refresh_token => 'string'}, 'RefreshTokenGrantParams')
        or return $c->{failed};
    my $token = $p->{refresh_token} // '';
    my $bad = sub { $c->error(400, $_[0], "Invalid Refresh Token: $_[1]") };
    return $c->error(400, 'validation_failed', 'Refresh token is not valid')
        if $token !~ /\A(?:[a-z0-9]{12}|[A-Za-z0-9_-]{51,})\z/;
    my $store = $c->{store};
    my $row = $store->{refresh}{$token};
    my $s = $row && $store->{sessions}{$row->{session}};
    my $user = $s && $store->user($s->{user_id});
    return $bad->('refresh_token_not_found', 'Refresh Token Not Found')
        if !$user;
    return $bad->('user_banned', 'User Banned') if $store->banned($user);
    my $reuse = $row->{revoked} ? 1 : 0;
    if ($reuse && !_tolerated($c, $s, $token, $row)) {
        $store->{refresh}{$_}{revoked} //= time for @{$s->{tokens}};
        $s->{revoked} = 1;
        return $bad->('refresh_token_already_used', 'Already Used');
    }
    if (!$reuse) {
        $row->{revoked} = time;
        $store->new_refresh_token($s);
    }
    return session($c, $user, session => $s, headers => [
        ['Sb-Auth-Refresh-Token-Reuse', $reuse ? 'true' : 'false']]);
}

# the token just before the current one may be sent again
sub _tolerated {
    my ($c, $s, $token, $row) = @_;
    return 0 if $s->{revoked};
    return 1 if @{$s->{tokens}} > 1 && $s->{tokens}[-2] eq $token;
    my $interval = $c->{config}{refresh_reuse_interval};
    return $interval && time - $row->{revoked} < $interval;
}

# who($c) -> (user, session) of the bearer token, or (undef, undef, answer)
sub _who {
    my ($c) = @_;
    my $no = sub { return (undef, undef, $c->error(@_)) };
    my $claims = {};
    if (!$c->{role}) {
        return $no->(401, 'no_authorization',
            'This endpoint requires a valid Bearer token') if $c->{bearer} eq '';
        $claims = eval { $c->{jwt}->verify($c->{bearer}) };
        if (!$claims) {
            chomp(my $why = $@);
            return $no->(403, 'bad_jwt', $why);
        }
    }
    my $id = $claims->{sub} // '';
    return $no->(403, 'bad_jwt', 'invalid claim: missing sub claim')
        if $id eq '';
    return $no->(400, 'bad_jwt', 'invalid claim: sub claim must be a UUID')
        if $id !~ /\A[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\z/i;
    my $user = $c->{store}->user($id) or return $no->(403, 'user_not_found',
        'User from sub claim in JWT does not exist');
    my $s = $c->{store}{sessions}{$claims->{session_id} // ''}
        or return $no->(403, 'session_not_found',
        'Session from session_id claim in JWT does not exist');
    return ($user, $s, undef, $claims);
}

sub user {
    my ($c) = @_;
    my ($user, $s, $failed, $claims) = _who($c);
    return $failed if $failed;
    return $c->error(403, 'user_banned', 'User is banned')
        if $c->{store}->banned($user);
    return $c->error(400, 'validation_failed',
        "Token audience doesn't match request audience")
        if ($claims->{aud} // '') ne $c->aud;
    return $c->json(200, user_json($user));
}

sub logout {
    my ($c) = @_;
    my ($user, $s, $failed) = _who($c);
    return $failed if $failed;
    my $scope = query_param($c->{req}, 'scope') // '';
    $scope = 'global' if $scope eq '';
    return $c->error(400, 'validation_failed',
        qq(Unsupported logout scope "$scope"))
        if $scope !~ /\A(?:global|local|others)\z/;
    for my $other (values %{$c->{store}{sessions}}) {
        next if $other->{user_id} ne $user->{id};
        my $same = $other->{id} eq $s->{id};
        next if $scope eq 'local' && !$same || $scope eq 'others' && $same;
        $c->{store}->end_session($other);
    }
    delete $user->{cache};
    return {status => 204, headers => [], body => ''};
}

1;
