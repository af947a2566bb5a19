package AuthDouble::Mail;
# What begins and ends with a mail (or a text message): POST /otp, /magiclink
# and /recover, GET and POST /verify. Tests read the mail through the control
# port.
use strict;
use warnings;
use AuthDouble::Http qw(query_param);
use AuthDouble::Json qw(obj);
use AuthDouble::Later qw(when);
use AuthDouble::Redirect qw(redirect target with_session with_error with_query
    form_encode challenge code_for);
use AuthDouble::Session qw(session);
use AuthDouble::Signup;
use AuthDouble::UserJson qw(now);

my %PKCE = map { $_ => 'string' } qw(code_challenge code_challenge_method);

sub otp {
    my ($c) = @_;
    my $failed = $c->rate_limited('otp') // $c->captcha;
    return $failed if $failed;
    my $p = $c->params({email => 'string', phone => 'string', data => 'map',
        create_user => 'bool', channel => 'string', %PKCE}, 'OtpParams')
        or return $c->{failed};
    $_ //= '' for @$p{qw(email phone)};
    my $bad = sub { $c->error(400, 'validation_failed', $_[0]) };
    return $bad->('Only an email address or phone number should be provided')
        if $p->{email} ne '' && $p->{phone} ne '';
    return $bad->('One of email or phone must be set')
        if $p->{email} eq '' && $p->{phone} eq '';
    $failed = $p->{email} ne '' ? AuthDouble::Signup::check_email($c, $p, $bad)
        : AuthDouble::Signup::check_phone($c, $p, $bad);
    return $failed if $failed;
    return $c->error(422, 'otp_disabled', 'Signups not allowed for otp')
        if defined $p->{create_user} && !$p->{create_user}
        && !$c->{store}->find($c->aud, $p->{email}, $p->{phone});
    return _send($c, $p);
}

sub magiclink {
    my ($c) = @_;
    my $failed = $c->rate_limited('otp') // $c->captcha;
    return $failed if $failed;
    my $p = $c->params({email => 'string', data => 'map', %PKCE},
        'MagicLinkParams') or return $c->{failed};
    $p->{phone} = '';
    $p->{email} //= '';
    return AuthDouble::Signup::check_email($c, $p,
        sub { $c->error(400, 'validation_failed', $_[0]) }) // _send($c, $p);
}

sub recover {
    my ($c) = @_;
    my $failed = $c->rate_limited('recover') // $c->captcha;
    return $failed if $failed;
    my $p = $c->params({email => 'string', %PKCE}, 'RecoverParams')
        or return $c->{failed};
    $p->{email} //= '';
    $failed = AuthDouble::Signup::check_email($c, $p,
        sub { $c->error(400, 'validation_failed', $_[0]) });
    return $failed if $failed;
    my $user = $c->{store}->find($c->aud, $p->{email}, '');
    return $user ? _recovery($c, $user, $p) : $c->json(200, {});
}

# Who has no confirmed account is signed up first, with a password that nobody
# knows: that sends a confirmation, or else a second mail is needed.
sub _send {
    my ($c, $p) = @_;
    my $user = $c->{store}->find($c->aud, $p->{email}, $p->{phone});
    return _recovery($c, $user, $p) if $user && $c->{store}->confirmed($user);
    return $c->error(422, 'signup_disabled',
        'Signups not allowed for this instance')
        if $c->{config}{disable_signup};
    $p->{password} = join '', map { ('a' .. 'z', 0 .. 9)[rand 36] } 1 .. 64;
    return when(AuthDouble::Signup::account($c, $p), sub {
        my ($res) = @_;
        return $res if $res->{status} != 200;
        return $c->json(200, {}) if !$c->{config}{autoconfirm};
        return _recovery($c,
            $c->{store}->find($c->aud, $p->{email}, $p->{phone}), $p);
    });
}

sub _recovery {
    my ($c, $user, $p) = @_;
    my $failed = AuthDouble::Signup::mail($c, $user->{recovery_sent_at});
    return $failed if $failed;
    $user->{recovery_sent_at} = now();
    $c->{store}->touch($user);
    $c->{store}->new_otp($user, 'recovery', challenge($p));
    return $c->json(200, {});
}

# ---- verification
my %KIND = (signup => ['confirmation'], invite => ['confirmation'],
    magiclink => ['recovery'], recovery => ['recovery'], sms => ['recovery',
    'confirmation'], email => ['confirmation', 'recovery'],
    email_change => ['email_change_current', 'email_change_new']);

sub verify_post {
    my ($c) = @_;
    my $failed = $c->rate_limited('verify');
    return $failed if $failed;
    my $p = $c->params({map { $_ => 'string' } qw(type token token_hash email
        phone redirect_to)}, 'VerifyParams') or return $c->{failed};
    $_ //= '' for @$p{qw(type token token_hash email phone redirect_to)};
    my $bad = sub { $c->error(400, 'validation_failed', $_[0]) };
    return $bad->('Verify requires a verification type') if $p->{type} eq '';
    return $bad->('Verify requires either a token or a token hash')
        if ($p->{token} eq '') == ($p->{token_hash} eq '');
    return $bad->('Invalid email verification type') if !$KIND{$p->{type}};
    return _by_code($c, $p, $bad) if $p->{token} ne '';
    return $bad->('Only the token_hash and type should be provided')
        if $p->{email} . $p->{phone} . $p->{redirect_to} ne '';
    return _by_hash($c, $p->{token_hash}, $p->{type});
}

sub _by_code {
    my ($c, $p, $bad) = @_;
    return $bad->('Only an email address or phone number should be provided on'
        . ' verify') if ($p->{email} eq '') == ($p->{phone} eq '');
    $p->{phone} =~ s/[+ ]//g;
    my ($user, $kind) = _by_address($c, $p);
    return $c->error(403, 'otp_expired', 'Token has expired or is invalid')
        if !$kind || _expired($c, $user, $kind);
    return _verified($c, $user, $kind);
}

# who has had this code by a mail to that address
sub _by_address {
    my ($c, $p) = @_;
    my $store = $c->{store};
    my $email = lc $p->{email};
    my $type = $p->{type};
    my @users = $type eq 'email_change' ? $store->users
        : $store->find($c->aud, $email, $p->{phone}) // ();
    for my $user (@users) {
        my $otp = $user->{otp} || {};
        my ($kind) = grep { $otp->{$_} && $otp->{$_}{code} eq $p->{token}
            && ($type ne 'email_change' || $otp->{$_}{to} eq $email) }
            @{$KIND{$type}};
        return ($user, $kind) if $kind;
    }
    return;
}

sub _by_hash {
    my ($c, $hash, $type) = @_;
    my ($id, $kind) = @{$c->{store}{otps}{$hash} || []};
    my $user = defined $id ? $c->{store}->user($id) : undef;
    return $c->error(403, 'otp_expired', 'Email link is invalid or has expired')
        if !$user || !grep({ $_ eq $kind } @{$KIND{$type}})
        || _expired($c, $user, $kind);
    return _verified($c, $user, $kind);
}

sub _expired {
    my ($c, $user, $kind) = @_;
    return $user->{otp}{$kind}{sent} + $c->{config}{otp_exp} < time;
}

my $FIRST = 'Confirmation link accepted. Please proceed to confirm link sent to'
    . ' the other email';

# the answer: a session, or of two addresses the first is confirmed
sub _verified {
    my ($c, $user, $kind) = @_;
    my $store = $c->{store};
    return $c->error(403, 'user_banned', 'User is banned')
        if $store->banned($user);
    return _sign_in($c, $user, $kind) if $kind !~ /\Aemail_change/;
    if ($user->{otp}{email_change_current} && !$user->{email_change_step}) {
        $user->{email_change_step} = 1;
        $store->drop_otp($user, $kind);
        my $res = $c->json(200, obj(code => '200', msg => $FIRST));
        $res->{message} = $FIRST;
        return $res;
    }
    my $old = $user->{email};
    return session($c, $user, method => 'otp',
        change => sub { $store->take_new_email($_[0]) }, commit => sub {
            delete $store->{by_email}{"$user->{aud}\0$old"};
            $store->index_user($user);
            $store->drop_otp($user, $_) for @{$KIND{email_change}};
        });
}

# the token is used up when there is a session, and not before
sub _sign_in {
    my ($c, $user, $kind) = @_;
    my $store = $c->{store};
    return session($c, $user, method => 'otp',
        change => sub { $store->confirm($_[0]) if !$store->confirmed($_[0]) },
        commit => sub { $store->drop_otp($user, $kind) });
}

# ---- the link of a mail: the browser is sent on, whatever comes of it
sub verify_get {
    my ($c) = @_;
    my $failed = $c->rate_limited('verify');
    return $failed if $failed;
    my ($type, $token) = map { query_param($c->{req}, $_) // '' }
        qw(type token);
    my $bad = sub { $c->error(400, 'validation_failed', $_[0]) };
    return $bad->('Verify requires a verification type') if $type eq '';
    return $bad->('Verify requires a token or a token hash') if $token eq '';
    my $pkce = $token =~ /\Apkce_/;
    my $res = !$KIND{$type}
        ? $bad->('Invalid email verification type')
        : $pkce ? _code($c, $token, $type) : _by_hash($c, $token, $type);
    return when($res, sub { _send_on($c, $type, $pkce, $_[0]) });
}

my %METHOD = (signup => 'email/signup');

# With PKCE the session comes later: this link ends in a code for it.
sub _code {
    my ($c, $hash, $type) = @_;
    my $store = $c->{store};
    my ($id, $kind) = @{$store->{otps}{$hash} || []};
    my $user = defined $id ? $store->user($id) : undef;
    return $c->error(403, 'otp_expired', 'Email link is invalid or has expired')
        if !$user || !grep({ $_ eq $kind } @{$KIND{$type}})
        || _expired($c, $user, $kind);
    return $c->error(403, 'user_banned', 'User is banned')
        if $store->banned($user);
    my $challenge = $user->{otp}{$kind}{challenge};
    if ($kind =~ /\Aemail_change/) {
        if ($user->{otp}{email_change_current} && !$user->{email_change_step}) {
            return _verified($c, $user, $kind);
        }
        $store->unindex_user($user);
        $store->take_new_email($user);
        $store->index_user($user);
    }
    $store->confirm($user) if !$store->confirmed($user);
    $store->drop_otp($user, $_) for $kind, @{$KIND{email_change}};
    return {code => code_for($store, $user, $METHOD{$type} // $type,
        $challenge)};
}

sub _send_on {
    my ($c, $type, $pkce, $res) = @_;
    my $to = target($c);
    my $message = $res->{message};
    return redirect($c, 303, with_query($to, code => $res->{code}))
        if $res->{code};
    return redirect($c, 303, with_session($to, $res, type => $type),
        grep { $_->[0] =~ /\ASb-Auth-/ } @{$res->{headers}})
        if $res->{session};
    return redirect($c, 303, ($pkce ? with_query($to, message => $message) : $to)
        . '#' . form_encode(message => $message, sb => '')) if $message;
    return redirect($c, 303, with_error($to, $res->{error}, query => $pkce),
        grep { $_->[0] =~ /\ASb-Auth-/ } @{$res->{headers}});
}

1;
