package AuthDouble::User;
# PUT /user, GET /reauthenticate and POST /resend.
use strict;
use warnings;
use AuthDouble::Redirect qw(challenge);
use AuthDouble::Signup;
use AuthDouble::Token;
use AuthDouble::UserJson qw(user_json now);

my %FIELDS = (email => 'string', password => 'string', nonce => 'string',
    data => 'map', phone => 'string', channel => 'string',
    code_challenge => 'string', code_challenge_method => 'string');

sub update {
    my ($c) = @_;
    my ($user, $s, $failed) = AuthDouble::Token::who($c);
    return $failed if $failed;
    $failed = $c->rate_limited('user');
    return $failed if $failed;
    my $p = $c->params(\%FIELDS, 'UserUpdateParams') or return $c->{failed};
    $failed = _check($c, $p, $user, $s);
    return $failed if $failed;
    my $store = $c->{store};
    if (length($p->{password} // '')) {
        $user->{password} = $p->{password};
        $store->end_session($_) for grep { $_->{user_id} eq $user->{id}
            && $_->{id} ne $s->{id} } values %{$store->{sessions}};
    }
    $user->{user_metadata} = {%{$user->{user_metadata}}, %{$p->{data}}}
        if $p->{data};
    delete @{$user->{user_metadata}}{grep { !defined $p->{data}{$_} }
        keys %{$p->{data}}} if $p->{data};
    $failed = _change_email($c, $user, $p)
        if length($p->{email} // '') && $p->{email} ne $user->{email};
    return $failed if $failed;
    $store->touch($user);
    return $c->json(200, user_json($user));
}

sub _check {
    my ($c, $p, $user, $s) = @_;
    my $bad = sub { $c->error(400, 'validation_failed', $_[0]) };
    my $email = $p->{email} // '';
    my $failed = $email eq '' ? undef
        : AuthDouble::Signup::check_email($c, $p, $bad);
    return $failed if $failed;
    $email = $p->{email} if $email ne '';
    my $password = $p->{password};
    if (defined $password) {
        my ($text, @reasons)
            = AuthDouble::Signup::weakness($c->{config}, $password);
        return $c->error(422, 'weak_password', $text, weak => \@reasons)
            if @reasons;
    }
    $password //= '';
    return $c->error(401, 'insufficient_aal', 'AAL2 session is required to'
        . ' update email or password when MFA is enabled.')
        if $s->{aal} ne 'aal2'
        && grep({ $_->{status} eq 'verified' } @{$user->{factors} || []})
        && ($password ne '' || $email ne '' && $email ne $user->{email});
    return $c->error(422, 'validation_failed', 'Updating password of an'
        . ' anonymous user without an email or phone is not allowed')
        if $user->{is_anonymous} && $password ne '' && $email eq '';
    my $other = $email eq '' || $email eq $user->{email} ? undef
        : $c->{store}->find($user->{aud}, $email, '');
    return $c->error(422, 'email_exists',
        'A user with this email address has already been registered') if $other;
    return $c->error(422, 'same_password', 'New password should be different'
        . ' from the old password.')
        if $password ne '' && $password eq ($user->{password} // '');
    return undef;
}

# An anonymous user gets their first address at once where sign-ups do; others
# have it confirmed, by a mail to each address.
sub _change_email {
    my ($c, $user, $p) = @_;
    my ($store, $config) = @$c{qw(store config)};
    if ($user->{is_anonymous} && $config->{autoconfirm}) {
        $user->{new_email} = $p->{email};
        $store->unindex_user($user);
        $store->take_new_email($user);
        $store->index_user($user);
        return undef;
    }
    my $failed = AuthDouble::Signup::mail($c, $user->{email_change_sent_at});
    return $failed if $failed;
    _send_change($store, $config, $user, $p->{email}, challenge($p));
    return undef;
}

sub _send_change {
    my ($store, $config, $user, $email, $challenge) = @_;
    @$user{qw(new_email email_change_sent_at)} = ($email, now());
    delete $user->{email_change_step};
    $store->new_otp($user, 'email_change_new', $challenge);
    $store->new_otp($user, 'email_change_current', $challenge)
        if $config->{secure_email_change} && $user->{email} ne '';
    return;
}

sub reauthenticate {
    my ($c) = @_;
    my ($user, undef, $failed) = AuthDouble::Token::who($c);
    return $failed if $failed;
    return $c->error(422, 'validation_failed', 'Reauthentication requires the'
        . ' user to have an email or a phone number')
        if $user->{email} eq '' && $user->{phone} eq '';
    return $c->error(422, 'email_not_confirmed',
        'Please verify your email first.') if !$c->{store}->confirmed($user);
    $failed = AuthDouble::Signup::mail($c, $user->{reauthentication_sent_at});
    return $failed if $failed;
    $user->{reauthentication_sent_at} = now();
    $c->{store}->touch($user);
    $c->{store}->new_otp($user, 'reauthentication');
    return $c->json(200, {});
}

# nobody learns who is there
sub resend {
    my ($c) = @_;
    my $failed = $c->rate_limited('resend') // $c->captcha;
    return $failed if $failed;
    my $p = $c->params({map { $_ => 'string' } qw(type email phone
        code_challenge code_challenge_method)}, 'ResendConfirmationParams')
        or return $c->{failed};
    my $bad = sub { $c->error(400, 'validation_failed', $_[0]) };
    return $bad->('Missing one of these types: signup, email_change, sms,'
        . ' phone_change')
        if ($p->{type} // '') !~ /\A(?:signup|email_change)\z/;
    return $bad->('Type provided requires an email address')
        if ($p->{email} // '') eq '';
    $failed = AuthDouble::Signup::check_email($c, $p, $bad);
    return $failed if $failed;
    my $store = $c->{store};
    my $user = $store->find($c->aud, $p->{email}, '');
    my $signup = $p->{type} eq 'signup';
    return $c->json(200, {}) if !$user
        || ($signup ? $store->confirmed($user) : !defined $user->{new_email});
    my $sent = $signup ? 'confirmation_sent_at' : 'email_change_sent_at';
    $failed = AuthDouble::Signup::mail($c, $user->{$sent});
    return $failed if $failed;
    if (!$signup) {
        _send_change($store, $c->{config}, $user, $user->{new_email});
        return $c->json(200, {});
    }
    $user->{$sent} = now();
    $store->touch($user);
    $store->new_otp($user, 'confirmation', challenge($p));
    return $c->json(200, {});
}

1;
