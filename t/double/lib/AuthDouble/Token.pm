package AuthDouble::Token;
# POST /token (password and refresh_token here), POST /logout, GET /user.
use strict;
use warnings;
use Time::HiRes ();
use AuthDouble::External;
use AuthDouble::Hook;
use AuthDouble::Http qw(query_param);
use AuthDouble::Json qw(obj);
use AuthDouble::Later qw(pause);
use AuthDouble::Session qw(session);
use AuthDouble::UserJson qw(user_json);

sub token {
    my ($c) = @_;
    my $failed = $c->rate_limited('token');
    return $failed if $failed;
    my $grant = query_param($c->{req}, 'grant_type') // '';
    $failed = $c->captcha if $grant ne 'refresh_token';
    return $failed if $failed;
    return _password($c) if $grant eq 'password';
    return _refresh($c) if $grant eq 'refresh_token';
    return AuthDouble::External::id_token($c) if $grant eq 'id_token';
    return AuthDouble::External::pkce($c) if $grant eq 'pkce';
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
    my $right
        = substr($p->{password}, 0, 72) eq substr $user->{password}, 0, 72;
    $failed = AuthDouble::Hook::run($c, 'password_verification_attempt');
    return $failed if $failed;
    return $wrong->() if !$right;
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
    my $reuse = $c->{config}{reuse_tokens}
        && !AuthDouble::Hook::is_called($c, 'custom_access_token');
    my $cache = $reuse && $user->{cache};
    return $cache->{res} if $cache && $cache->{until} > time
        && $cache->{password} eq $password;
    my ($text, @reasons) = AuthDouble::Signup::weakness($c->{config}, $password);
    my $res = session($c, $user, method => 'password', weak_password =>
        (@reasons ? obj(message => $text, reasons => \@reasons) : undef));
    $user->{cache} = {res => $res, password => $password,
        until => time + $c->{config}{jwt_exp} / 2} if $reuse;
    return $res;
}

sub _refresh {
    my ($c) = @_;
    my $p = $c->params({refresh_token => 'string'}, 'RefreshTokenGrantParams')
        or return $c->{failed};
    return refresh($c, $p->{refresh_token} // '', '');
}

# refresh($c, $token, $client): for an application, if there is one
sub refresh {
    my ($c, $token, $client) = @_;
    return $c->error(400, 'validation_failed', 'Refresh token is not valid')
        if $token !~ /\A(?:[a-z0-9]{12}|[A-Za-z0-9_-]{51,})\z/;
    return _swap($c, $token, $client,
        Time::HiRes::time() + $c->{config}{refresh_wait});
}

# One at a time for each session: others look again until it is their turn.
sub _swap {
    my ($c, $token, $client, $until) = @_;
    my @said;    # the headers are there before it fails
    my $bad = sub { $c->error(400, $_[0], "Invalid Refresh Token: $_[1]",
        headers => \@said) };
    my $store = $c->{store};
    my $row = $store->{refresh}{$token};
    my $s = $row && $store->{sessions}{$row->{session}};
    my $user = $s && $store->user($s->{user_id});
    return $bad->('refresh_token_not_found', 'Refresh Token Not Found')
        if !$user;
    push @said, ['Sb-Auth-User-Id', $user->{id}];
    return $bad->('user_banned', 'User Banned') if $store->banned($user);
    push @said, ['Sb-Auth-Session-Id', $s->{id}];
    return _other_client($c, $s, \@said) if ($s->{client_id} // '') ne $client;
    if ($store->{busy}{$s->{id}}) {
        return pause(0.01 + rand 0.02)->then(sub { _swap($c, $token, $client,
            $until) })
            if Time::HiRes::time() < $until;
        return $c->error(409, 'conflict', 'Too many concurrent token refresh'
            . ' requests on the same session or refresh token',
            headers => \@said);
    }
    my ($issued, @headers) = length $token == 12
        ? _successor_v1($c, $s, $token) : _successor_v2($c, $s, $token);
    push @said, @headers;
    return $bad->('refresh_token_already_used', 'Already Used')
        if !defined $issued;
    my $new = !$store->{refresh}{$issued};
    return session($c, $user, session => $s, method => 'token_refresh',
        token => $issued, counter => $s->{counter} + $new,
        headers => \@headers,
        commit => sub { $store->add_token($s, $issued, $token) if $new });
}

# a session that belongs to another application, or to one
sub _other_client {
    my ($c, $s, $said) = @_;
    return $c->json(400, obj(error => 'invalid_client', error_description =>
        $s->{client_id} ? 'Client authentication required for OAuth session'
        : 'Client authentication not allowed for non-OAuth session'), @$said);
}

# The token that follows, undef if it may not be used again; headers. Its
# parent may be: whoever has it never got the answer to the last refresh.
sub _successor_v1 {
    my ($c, $s, $token) = @_;
    my $store = $c->{store};
    my $revoked = $store->{refresh}{$token}{revoked};
    return ($store->make_token, ['Sb-Auth-Refresh-Token-Reuse', 'false'])
        if !$revoked;
    my $active = $store->active_token($s);
    return $active if defined $active
        && ($store->{refresh}{$active}{parent} // '') eq $token;
    my $interval = $c->{config}{refresh_reuse_interval};
    return $store->make_token if $interval && time - $revoked <= $interval;
    if ($c->{config}{refresh_rotation}) {
        $store->{refresh}{$_}{revoked} //= time for @{$s->{tokens}};
    }
    return undef;
}

sub _successor_v2 {
    my ($c, $s, $token) = @_;
    my ($store, $config) = @$c{qw(store config)};
    my ($at) = grep { $s->{tokens}[$_] eq $token } 0 .. $#{$s->{tokens}};
    my $behind = $#{$s->{tokens}} - $at;
    return ($store->make_token, ['Sb-Auth-Refresh-Token-Reuse', 'false'])
        if !$behind;
    my $interval = $config->{refresh_reuse_interval};
    my @why = (($interval && time - $s->{refreshed} < $interval
        ? 'concurrent-refresh' : ()), ($behind == 1 ? 'fail-to-save' : ()));
    return ($s->{tokens}[-1], ['Sb-Auth-Refresh-Token-Reuse-Cause',
        join ',', @why]) if @why;
    return undef if !$config->{refresh_rotation};
    $store->end_session($s);
    return (undef, ['Sb-Auth-Refresh-Token-Rotated', 'true']);
}

# who($c) -> (user, session) of the bearer token, or (undef, undef, answer)
sub who {
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
    my ($user, $s, $failed, $claims) = who($c);
    return $failed if $failed;
    return $c->error(403, 'user_banned', 'User is banned')
        if $c->{store}->banned($user);
    return $c->error(400, 'validation_failed',
        "Token audience doesn't match request audience")
        if (ref $claims->{aud} eq 'ARRAY' ? $claims->{aud}[0] // ''
        : $claims->{aud} // '') ne $c->aud;
    return $c->json(200, user_json($user));
}

sub logout {
    my ($c) = @_;
    my ($user, $s, $failed) = who($c);
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
