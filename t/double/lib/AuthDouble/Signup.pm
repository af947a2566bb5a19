package AuthDouble::Signup;
# POST /signup in GoTrue's order of checks, with all its outcomes.
use strict;
use warnings;
use AuthDouble::Hook;
use AuthDouble::Json ();
use AuthDouble::Later qw(when);
use AuthDouble::Redirect qw(challenge);
use AuthDouble::Session qw(session);
use AuthDouble::Store;
use AuthDouble::UserJson qw(user_json now);

my %FIELDS = (email => 'string', phone => 'string', password => 'string',
    channel => 'string', data => 'map', code_challenge => 'string',
    code_challenge_method => 'string');

my $LABEL = qr/[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?/;
my $EMAIL = qr/\A[a-zA-Z0-9.!#\$%&'*+\/=?^_`{|}~-]+\@$LABEL(?:\.$LABEL)*\z/;

sub signup {
    my ($c) = @_;
    my $failed = $c->captcha;
    return $failed if $failed;
    my $p = $c->params(\%FIELDS, 'SignupParams') or return $c->{failed};
    $_ //= '' for @$p{qw(email phone password)};
    my $anonymous = $p->{email} eq '' && $p->{phone} eq '';
    return $c->error(422, 'anonymous_provider_disabled',
        'Anonymous sign-ins are disabled')
        if $anonymous && !$c->{config}{anonymous};
    $failed = $c->rate_limited($anonymous ? 'anonymous' : 'signup');
    return $failed if $failed;
    return $c->error(422, 'signup_disabled',
        'Signups not allowed for this instance') if $c->{config}{disable_signup};
    return _anonymous($c, $p) if $anonymous;
    return _check($c, $p) // account($c, $p);
}

# What a sign-up sees when it arrives, where config "signup_together" lets
# others come before it inserts: GoTrue looks the address up, then makes the
# password's hash and asks its hook.
sub look_up {
    my ($store, $req) = @_;
    my $body = eval { AuthDouble::Json::plain(
        AuthDouble::Json::decode($req->{body})) };
    my $email = ref $body eq 'HASH' ? $body->{email} : undef;
    $req->{saw_nobody} = 1 if defined $email && !ref $email
        && !$store->find('authenticated', lc $email, '');
    return;
}

# The user is made together with the token: a refusal of the token leaves
# nobody, and nobody learns of it.
sub _anonymous {
    my ($c, $p) = @_;
    my $store = $c->{store};
    my $user = $store->make_user(aud => $c->aud, anonymous => 1,
        data => $p->{data});
    my $failed = AuthDouble::Hook::run($c, 'before_user_created',
        sub { before_input($user, $p->{data}) });
    return when($failed, sub {
        return $_[0] if $_[0];
        return when(session($c, $user, method => 'anonymous',
            no_confirmed_at => 1, commit => sub { $store->add_user($user) }),
            sub { _anonymous_end($c, $user, @_) });
    });
}

sub _anonymous_end {
    my ($c, $user, $res) = @_;
    if ($res->{status} != 200) {
        return $c->error(500, 'unexpected_failure',
            'Database error creating anonymous user', headers =>
            [grep { $_->[0] =~ /\ASb-Auth-/ } @{$res->{headers}}]);
    }
    return when(AuthDouble::Hook::run($c, 'after_user_created',
        sub { (user => user_json($user)) }), sub { $_[0] // $res });
}

# Before it is stored, a user has neither role nor identities, and no times. If
# it will be, this is its id.
sub before_input {
    my ($user, $data) = @_;
    my $never = '0001-01-01T00:00:00Z';
    return (user => user_json({
        (map { $_ => $user->{$_} } qw(id aud email phone app_metadata
            is_anonymous)), role => '', identities => [],
        user_metadata => $data || {}, created_at => $never,
        updated_at => $never}));
}

sub _check {
    my ($c, $p) = @_;
    my $bad = sub { $c->error(400, 'validation_failed', $_[0]) };
    return $bad->('Signup requires a valid password') if $p->{password} eq '';
    return $bad->('Only an email address or phone number should be provided'
        . ' on signup.') if $p->{email} ne '' && $p->{phone} ne '';
    return $bad->('Password cannot be longer than 72 characters')
        if length $p->{password} > 72;
    my ($text, @reasons) = weakness($c->{config}, $p->{password});
    return $c->error(422, 'weak_password', $text, weak => \@reasons)
        if @reasons;
    my ($challenge, $how) = map { $_ // '' }
        @$p{qw(code_challenge code_challenge_method)};
    return $bad->('PKCE flow requires code_challenge_method and code_challenge')
        if ($challenge eq '') != ($how eq '');
    return $bad->('code challenge has to be between 43 and 128 characters')
        if $challenge ne '' && $challenge !~ /\A[A-Za-z0-9._~-]{43,128}\z/;
    return $p->{email} ne '' ? check_email($c, $p, $bad)
        : check_phone($c, $p, $bad);
}

sub check_email {
    my ($c, $p, $bad) = @_;
    return $c->error(400, 'email_provider_disabled',
        'Email signups are disabled') if !$c->{config}{email_provider};
    return $bad->('Unable to validate email address: invalid format')
        if $p->{email} !~ $EMAIL || length $p->{email} > 255;
    my $email = $p->{email} = lc $p->{email};
    return $c->error(400, 'email_address_invalid',
        qq(Email address "$email" is invalid))
        if grep { $_ eq $email } @{$c->{config}{invalid_emails}};
    return $c->error(400, 'email_address_not_authorized',
        qq(Email address "$email" cannot be used as it is not authorized))
        if grep { $_ eq $email } @{$c->{config}{unauthorized_emails}};
    return undef;
}

sub check_phone {
    my ($c, $p, $bad) = @_;
    return $c->error(400, 'phone_provider_disabled',
        'Phone signups are disabled') if !$c->{config}{phone_provider};
    $p->{phone} =~ s/[+ ]//g;
    return $bad->('Invalid phone number format (E.164 required)')
        if $p->{phone} !~ /\A[1-9][0-9]{1,14}\z/;
    return undef;
}

# weakness($config, $password) -> (text, reasons...)
sub weakness {
    my ($config, $password) = @_;
    my (@text, @reasons);
    my $min = $config->{weak_password_min};
    if (length $password < $min) {
        push @text, "Password should be at least $min characters.";
        push @reasons, 'length';
    }
    my @sets = @{$config->{weak_password_characters}};
    if (grep { $password !~ /[\Q$_\E]/ } @sets) {
        push @text, 'Password should contain at least one character of each: '
            . join(', ', @sets) . '.';
        push @reasons, 'characters';
    }
    if (grep { $_ eq $password } @{$config->{pwned_passwords}}) {
        push @text, 'Password is known to be weak and easy to guess, please'
            . ' choose a different one.';
        push @reasons, 'pwned';
    }
    return (join(' ', @text), @reasons);
}

# account($c, $params): a new account, or what comes of a known one
sub account {
    my ($c, $p) = @_;
    my ($store, $config) = @$c{qw(store config)};
    my $user = $store->find($c->aud, $p->{email}, $p->{phone});
    # others may have come first since this request looked
    undef $user if $c->{req}{saw_nobody};
    if ($user && $store->confirmed($user)) {
        return $c->error(422, 'user_already_exists', 'User already registered')
            if $config->{autoconfirm};
        return $c->json(200, _fake($c, $user, $p));
    }
    return _known($c, $p, $user, 1) if $user;
    my $new = $store->make_user(aud => $c->aud, identity => $p->{data},
        map { $_ => $p->{$_} } qw(email phone password data));
    return when(_before_create($c, $p, $new), sub {
        return $_[0] if $_[0];
        # or during the hook
        return _not_saved($c)
            if $store->find($c->aud, $p->{email}, $p->{phone});
        return _known($c, $p, $new, 0);
    });
}

sub _not_saved {
    return $_[0]->error(500, 'unexpected_failure',
        'Database error saving new user');
}

# the account is unconfirmed, or as new as this request
sub _known {
    my ($c, $p, $user, $known) = @_;
    my ($store, $config) = @$c{qw(store config)};
    my $failed = $config->{autoconfirm} ? undef
        : mail($c, $known ? $user->{confirmation_sent_at} : undef)
        // AuthDouble::Hook::run($c, 'send_email');
    return $failed if $failed;
    $store->add_user($user) if !$known;
    if ($config->{autoconfirm}) {
        $store->confirm($user);
        return session($c, $user, method => 'password', no_confirmed_at => 1,
            fresh => {email_confirmed_at => 1, phone_confirmed_at => 1},
            fresh_identity => !$known);
    }
    $user->{confirmation_sent_at} = now();
    $store->touch($user);
    $store->new_otp($user, 'confirmation', challenge($p));
    my %fresh = (fresh => {confirmation_sent_at => 1},
        fresh_identity => !$known);
    return when(AuthDouble::Hook::run($c, 'after_user_created',
        sub { (user => user_json($user, %fresh)) }), sub {
        return $_[0] // $c->json(200, user_json($user, %fresh,
            stripped => defined $user->{invited_at}));
    });
}

# what can refuse a new account although the request was fine
sub _before_create {
    my ($c, $p, $user) = @_;
    if (my $hook = $c->{config}{hook_reject}) {
        my $status = $hook->{http_code} || 500;
        return $c->error($status,
            $status == 500 ? 'unexpected_failure' : 'unknown',
            $hook->{message} // '', quiet => 1);
    }
    my $failed = AuthDouble::Hook::run($c, 'before_user_created',
        sub { before_input($user, $p->{data}) });
    return when($failed, sub {
        return $_[0] if $_[0];
        return _not_saved($c) if AuthDouble::Json::encode($p->{data})
            =~ /(?<!\\)(?:\\\\)*\\u0000/;
        return undef;
    });
}

# mail($c, $last): sending a mail, after the last one to this user; a refusal
# leaves everything as it was
sub mail {
    my ($c, $last) = @_;
    my $config = $c->{config};
    my $left = ref $last
        ? $last->[0] + $config->{mail_window} - time : 0;
    return $c->error(429, 'over_email_send_rate_limit', 'For security purposes,'
        . " you can only request this after $left seconds.")
        if $config->{mail_window} && $left > 0;
    return undef if !defined $config->{mail_budget};
    return $c->error(429, 'over_email_send_rate_limit',
        'email rate limit exceeded') if $config->{mail_budget} <= 0;
    $config->{mail_budget}--;
    return undef;
}

# the obfuscated user: an id that does not exist, what was not cleared leaks
sub _fake {
    my ($c, $user, $p) = @_;
    my $t = now();
    my $phone = $p->{email} eq '';
    my $provider = $phone ? 'phone' : 'email';
    my %fake = (
        (map { $_ => $user->{$_} } qw(aud invited_at recovery_sent_at
            reauthentication_sent_at phone_change_sent_at new_phone factors
            banned_until is_anonymous)),
        id => AuthDouble::Store::uuid(), role => '', identities => [],
        email => $phone ? '' : $user->{email},
        phone => $phone ? $user->{phone} : '',
        app_metadata => {provider => $provider, providers => [$provider]},
        user_metadata => $p->{data} || {},
        map { $_ => $t } qw(created_at updated_at confirmation_sent_at),
    );
    return user_json(\%fake, fresh => {created_at => 1, updated_at => 1,
        confirmation_sent_at => 1});
}

1;
