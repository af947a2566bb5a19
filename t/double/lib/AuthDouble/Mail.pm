package AuthDouble::Mail;
# What begins and ends with a mail (or a text message): POST /otp, /magiclink
# and /recover, GET and POST /verify. Tests read the mail through the control
# port.
use strict;
use warnings;
use AuthDouble::Http qw(query_param unescape);
use AuthDouble::Later qw(when);
use AuthDouble::Session qw(session);
use AuthDouble::Signup;
use AuthDouble::UserJson qw(now);

sub otp {
    my ($c) = @_;
    my $failed = $c->rate_limited('otp') // $c->captcha;
    return $failed if $failed;
    my $p = $c->params({email => 'string', phone => 'string', data => 'map',
        create_user => 'bool', channel => 'string'}, 'OtpParams')
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
    my $p = $c->params({email => 'string', data => 'map'}, 'MagicLinkParams')
        or return $c->{failed};
    $p->{phone} = '';
    $p->{email} //= '';
    return AuthDouble::Signup::check_email($c, $p,
        sub { $c->error(400, 'validation_failed', $_[0]) }) // _send($c, $p);
}

sub recover {
    my ($c) = @_;
    my $failed = $c->rate_limited('recover') // $c->captcha;
    return $failed if $failed;
    my $p = $c->params({email => 'string'}, 'RecoverParams')
        or return $c->{failed};
    $p->{email} //= '';
    $failed = AuthDouble::Signup::check_email($c, $p,
        sub { $c->error(400, 'validation_failed', $_[0]) });
    return $failed if $failed;
    my $user = $c->{store}->find($c->aud, $p->{email}, '');
    return $user ? _recovery($c, $user) : $c->json(200, {});
}

# Who has no confirmed account is signed up first, with a password that nobody
# knows: that sends a confirmation, or else a second mail is needed.
sub _send {
    my ($c, $p) = @_;
    my $user = $c->{store}->find($c->aud, $p->{email}, $p->{phone});
    return _recovery($c, $user) if $user && $c->{store}->confirmed($user);
    return $c->error(422, 'signup_disabled',
        'Signups not allowed for this instance')
        if $c->{config}{disable_signup};
    $p->{password} = join '', map { ('a' .. 'z', 0 .. 9)[rand 36] } 1 .. 64;
    return when(AuthDouble::Signup::account($c, $p), sub {
        my ($res) = @_;
        return $res if $res->{status} != 200;
        return $c->json(200, {}) if !$c->{config}{autoconfirm};
        return _recovery($c,
            $c->{store}->find($c->aud, $p->{email}, $p->{phone}));
    });
}

sub _recovery {
    my ($c, $user) = @_;
    my $failed = AuthDouble::Signup::mail($c, $user->{recovery_sent_at});
    return $failed if $failed;
    $user->{recovery_sent_at} = now();
    $c->{store}->touch($user);
    $c->{store}->new_otp($user, 'recovery');
    return $c->json(200, {});
}

# ---- verification
my %KIND = (signup => ['confirmation'], invite => ['confirmation'],
    magiclink => ['recovery'], recovery => ['recovery'], sms => ['recovery',
    'confirmation'], email => ['confirmation', 'recovery']);

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
    my $user = $c->{store}->find($c->aud, lc $p->{email}, $p->{phone});
    my ($kind) = grep { $user && ($user->{otp}{$_} || {code => ''})->{code}
        eq $p->{token} } @{$KIND{$p->{type}}};
    return $c->error(403, 'otp_expired', 'Token has expired or is invalid')
        if !$kind || _expired($c, $user, $kind);
    return _sign_in($c, $user, $kind);
}

sub _by_hash {
    my ($c, $hash, $type) = @_;
    my ($id, $kind) = @{$c->{store}{otps}{$hash} || []};
    my $user = defined $id ? $c->{store}->user($id) : undef;
    return $c->error(403, 'otp_expired', 'Email link is invalid or has expired')
        if !$user || !grep({ $_ eq $kind } @{$KIND{$type}})
        || _expired($c, $user, $kind);
    return _sign_in($c, $user, $kind);
}

sub _expired {
    my ($c, $user, $kind) = @_;
    return $user->{otp}{$kind}{sent} + $c->{config}{otp_exp} < time;
}

# the token is used up when there is a session, and not before
sub _sign_in {
    my ($c, $user, $kind) = @_;
    my $store = $c->{store};
    return $c->error(403, 'user_banned', 'User is banned')
        if $store->banned($user);
    return session($c, $user, method => 'otp',
        change => sub { $store->confirm($_[0]) if !$store->confirmed($_[0]) },
        commit => sub { $store->drop_otp($user, $kind) });
}

# ---- the link of a mail: the browser is sent on, whatever comes of it
my %OAUTH = (400 => 'invalid_request', 401 => 'unauthorized_client',
    403 => 'access_denied', 500 => 'server_error',
    503 => 'temporarily_unavailable');

sub verify_get {
    my ($c) = @_;
    my $failed = $c->rate_limited('verify');
    return $failed if $failed;
    my ($type, $token) = map { query_param($c->{req}, $_) // '' }
        qw(type token);
    my $bad = sub { $c->error(400, 'validation_failed', $_[0]) };
    return $bad->('Verify requires a verification type') if $type eq '';
    return $bad->('Verify requires a token or a token hash') if $token eq '';
    my $res = $KIND{$type} ? _by_hash($c, $token, $type)
        : $bad->('Invalid email verification type');
    return when($res, sub { _redirect($c, $type, $_[0]) });
}

sub _redirect {
    my ($c, $type, $res) = @_;
    my ($fragment, $s) = ('', $res->{session});
    if ($s) { $fragment = _query(%$s, sb => '', token_type => 'bearer',
        type => $type) }
    else {
        my ($status, $code, $message) = @{$res->{error}};
        $fragment = _query(error_code => $code, error_description => $message,
            sb => '', $OAUTH{$status} ? (error => $OAUTH{$status}) : ());
        $fragment =~ s/%/%25/g;    # Go escapes it once more
    }
    my $to = _target($c) . "#$fragment";
    my %html = ('&' => '&amp;', '<' => '&lt;', '>' => '&gt;', '"' => '&#34;',
        q(') => '&#39;');
    (my $html = $to) =~ s/([&<>"'])/$html{$1}/g;
    return {status => 303, body => qq(<a href="$html">See Other</a>.\n\n),
        headers => [['Content-Type', 'text/html; charset=utf-8'],
            ['Location', $to],
            grep { $_->[0] =~ /\ASb-Auth-/ } @{$res->{headers}}]};
}

# where the query or the referrer wants, on the host of the site
sub _target {
    my ($c) = @_;
    my $site = $c->{config}{site_url};
    my ($host) = $site =~ m{\A\w+://([^/:]+)};
    for (query_param($c->{req}, 'redirect_to'), $c->{req}{h}{referer}) {
        return $_ if defined && m{\Ahttps?://\Q$host\E(?:[:/?]|\z)};
    }
    return $site;
}

sub _query {
    my (%value) = @_;
    return join '&', map {"$_=" . _escape($value{$_})} sort keys %value;
}

sub _escape {
    my ($s) = @_;
    $s =~ s/([^A-Za-z0-9_.~ -])/sprintf '%%%02X', ord $1/ge;
    $s =~ tr/ /+/;
    return $s;
}

1;
