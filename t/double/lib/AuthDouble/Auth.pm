package AuthDouble::Auth;
# What the hosted gateway and GoTrue do with one request: answer($req) returns
# {status, headers, body}.
use strict;
use warnings;
use AuthDouble::Admin;
use AuthDouble::AdminWrite;
use AuthDouble::Cors;
use AuthDouble::Hook;
use AuthDouble::Json qw(obj bool);
use AuthDouble::Later qw(when);
use AuthDouble::Mail;
use AuthDouble::Mfa;
use AuthDouble::OAuthServer;
use AuthDouble::Provider;
use AuthDouble::Signup;
use AuthDouble::Store;
use AuthDouble::Token;
use AuthDouble::User;

use constant MAX_BODY => 1_048_576;

my %ROUTE = (
    '/signup' => ['signup', POST => \&AuthDouble::Signup::signup],
    '/token' => ['token', POST => \&AuthDouble::Token::token],
    '/logout' => ['logout', POST => \&AuthDouble::Token::logout],
    '/user' => ['user', GET => \&AuthDouble::Token::user,
        PUT => \&AuthDouble::User::update],
    '/reauthenticate' => ['reauthenticate',
        GET => \&AuthDouble::User::reauthenticate],
    '/resend' => ['resend', POST => \&AuthDouble::User::resend],
    '/otp' => ['otp', POST => \&AuthDouble::Mail::otp],
    '/magiclink' => ['otp', POST => \&AuthDouble::Mail::magiclink],
    '/recover' => ['otp', POST => \&AuthDouble::Mail::recover],
    '/verify' => ['verify', GET => \&AuthDouble::Mail::verify_get,
        POST => \&AuthDouble::Mail::verify_post],
    '/factors' => ['factors', POST => \&AuthDouble::Mfa::enroll],
    '/factors/ID' => ['factors', DELETE => \&AuthDouble::Mfa::unenroll],
    '/factors/ID/challenge' => ['factors',
        POST => \&AuthDouble::Mfa::challenge],
    '/factors/ID/verify' => ['factors', POST => \&AuthDouble::Mfa::verify],
    '/authorize' => ['authorize', GET => \&AuthDouble::Provider::authorize],
    '/callback' => ['callback', GET => \&AuthDouble::Provider::callback,
        POST => \&AuthDouble::Provider::callback],
    '/sso' => ['sso', POST => \&AuthDouble::Provider::sso],
    '/sso/saml/acs' => ['sso', POST => \&AuthDouble::Provider::acs],
    '/oauth/token' => ['oauth', POST => \&AuthDouble::OAuthServer::token],
    '/invite' => ['invite', POST => \&AuthDouble::AdminWrite::invite],
    '/admin/users' => ['admin_list', GET => \&AuthDouble::Admin::users,
        POST => \&AuthDouble::AdminWrite::create],
    '/admin/users/ID' => ['admin_user', GET => \&AuthDouble::Admin::user,
        PUT => \&AuthDouble::AdminWrite::update,
        DELETE => \&AuthDouble::AdminWrite::remove],
    '/admin/generate_link' => ['generate_link',
        POST => \&AuthDouble::AdminWrite::generate_link],
    '/.well-known/jwks.json' => ['jwks', GET => \&_jwks],
    '/health' => ['health', GET => \&_health],
    '/settings' => ['settings', GET => \&_settings],
);
my $ID = qr{\A/(?:factors/\K[0-9a-f-]{36}(?=/|\z)|admin/users/\K[^/]+\z)};
# paths that the stock gateways let through without a key
my $OPEN = qr{\A/(?:verify|callback|authorize|sso/saml/acs|oauth/token
    |\.well-known/jwks\.json)\z}x;

sub new {
    my ($class, %self) = @_;    # store, jwt, fixtures
    return bless {%self}, $class;
}

sub op {
    my ($self, $req) = @_;
    my $path = $req->{path};
    return 'provider' if $path =~ m{\A/provider/};
    return 'other' if $path !~ s{\A/auth/v1(?=/)}{};
    $path =~ s/$ID/ID/;
    my $route = $ROUTE{$path};
    return $route ? $route->[0] : 'other';
}

sub answer {
    my ($self, $req) = @_;
    my $c = bless {auth => $self, store => $self->{store}, req => $req,
        jwt => $self->{jwt}, config => $self->{store}{config}},
        'AuthDouble::Auth::Call';
    return AuthDouble::Provider::page($c) if $req->{path} =~ m{\A/provider/};
    return AuthDouble::Cors::preflight($c) // $c->gateway
        // when($c->dispatch, sub { AuthDouble::Cors::add($c, @_) });
}

sub _jwks {
    my ($c) = @_;
    return $c->json(200, $c->{jwt}->jwks,
        ['Cache-Control', 'public, max-age=600']);
}

sub _health {
    my ($c) = @_;
    return $c->json(200, obj(version => 'v2.196.0', name => 'GoTrue',
        description => 'GoTrue is a user registration and authentication API'));
}

my @EXTERNAL = qw(anonymous_users apple azure bitbucket discord facebook
    snapchat figma fly github gitlab google keycloak kakao linkedin
    linkedin_oidc notion spotify slack slack_oidc workos twitch twitter email
    phone zoom);

sub _settings {
    my ($c) = @_;
    my $f = $c->{config};
    my %on = (anonymous_users => $f->{anonymous},
        email => $f->{email_provider}, phone => $f->{phone_provider});
    return $c->json(200, obj(
        external => obj(map { $_ => bool($on{$_}) } @EXTERNAL),
        disable_signup => bool($f->{disable_signup}),
        mailer_autoconfirm => bool($f->{autoconfirm}),
        phone_autoconfirm => bool($f->{autoconfirm} && $f->{phone_provider}),
        sms_provider => '', saml_enabled => bool(0),
        saml_private_key_next_configured => bool(0),
        passkeys_enabled => bool(0)));
}

package AuthDouble::Auth::Call;
# One request on its way: the helpers that the endpoints share.
use AuthDouble::Http qw(query_param);
use AuthDouble::Json qw(encode decode obj num bind_struct);

sub dispatch {
    my ($c) = @_;
    $c->{id} = $& if $c->{path} =~ s/$ID/ID/;
    my $route = $ROUTE{$c->{path}};
    return {status => 404, body => "404 page not found\n", headers => [
        ['Content-Type', 'text/plain; charset=utf-8'],
        ['X-Content-Type-Options', 'nosniff']]} if !$route;
    my (undef, %code) = @$route;
    my $code = $code{$c->{req}{method}};
    return {status => 405, body => '', headers => [['Allow', join ', ',
        sort keys %code]]} if !$code;
    return $code->($c);
}

# the hosted gateway; undef when the request may pass
sub gateway {
    my ($c) = @_;
    my $h = $c->{req}{h};
    $c->{path} = $c->{req}{path};
    return $c->json(404, obj(error => 'requested path is invalid'))
        if $c->{path} !~ s{\A/auth/v1(?=/)}{};
    my $key = $h->{apikey} // query_param($c->{req}, 'apikey');
    my $bearer = ($h->{authorization} // '') =~ /\Abearer (\S+)\z/i ? $1 : '';
    if ($c->{path} !~ $OPEN) {
        return $c->json(401, obj(message => 'No API key found in request',
            hint => 'No `apikey` request header or url param was found.'))
            if !defined $key || $key eq '';
        return $c->json(401, obj(message => 'Invalid API key', hint =>
            'Double check your Supabase `anon` or `service_role` API key.'))
            if !grep { $_ eq $key } @{$c->{config}{keys}};
        return $c->json(401, obj(message => 'Invalid API key', hint =>
            'API keys do not belong into the Authorization header.'))
            if $bearer =~ /\Asb_/ && $bearer ne $key;
        return $c->json(401, obj(
            message => 'Forbidden use of secret API key in browser',
            hint => 'Secret API keys can only be used in a protected'
                . ' environment and should never be used in a browser.'
                . ' Delete this secret API key immediately.'))
            if $key =~ /\Asb_secret_/ && ($h->{'user-agent'} // '') =~ /Mozilla/;
    }
    $c->{key} = $key // '';
    $c->{bearer} = $bearer;
    # a publishable or secret key becomes a role token unless the user sent one
    $c->{role} = $c->{key} =~ /\Asb_secret_/ ? 'service_role' : 'anon'
        if $bearer eq '' && $c->{key} =~ /\Asb_/;
    return undef;
}

# true when GoTrue sees an admin role: captcha is skipped
sub is_admin {
    my ($c) = @_;
    return $c->{role} eq 'service_role' if $c->{role};
    return 0 if $c->{bearer} eq '' || $c->{bearer} =~ /\Asb_/;
    my $claims = eval { $c->{jwt}->verify($c->{bearer}) } or return 0;
    return ($claims->{role} // '') =~ /\A(?:service_role|supabase_admin)\z/;
}

sub api_2024 {
    my ($c) = @_;
    return 0 if $c->{config}{api_format} ne 'header';
    my $v = $c->{req}{h}{'x-supabase-api-version'} // '';
    return $v =~ /\A[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])\z/
        && $v ge '2024-01-01';
}

sub json {
    my ($c, $status, $value, @headers) = @_;
    return {status => $status, body => encode($value),
        headers => [['Content-Type', 'application/json'], @headers]};
}

# error($status, $code, $message, weak => [...], headers => [...], quiet => 1)
# "error" of the answer has status, code and message for those who say it in
# another way.
sub error {
    my ($c, $status, $code, $message, %opt) = @_;
    my $res = $c->_error($status, $code, $message, %opt);
    $res->{error} = [$status, $opt{quiet} ? '' : $code, $message];
    return $res;
}

sub _error {
    my ($c, $status, $code, $message, %opt) = @_;
    my @weak = $opt{weak} ? (weak_password => obj(reasons => $opt{weak})) : ();
    my @headers = @{$opt{headers} || []};
    return $c->_old_error($status, $code, $message)
        if $c->{config}{api_format} eq 'old';
    my $v2024 = $c->api_2024;
    push @headers, ['X-Supabase-Api-Version', '2024-01-01'] if $v2024;
    push @headers, ['X-Sb-Error-Code', $code]
        if !$opt{quiet} && !($opt{weak} && $v2024);
    return $c->json($status,
        obj(code => $code, message => $message, @weak), @headers) if $v2024;
    return $c->json($status, obj(code => num($status), error_code => $code,
        msg => $message,
        ($status >= 500 ? (error_id => AuthDouble::Store::uuid()) : ()), @weak),
        @headers);
}

# As GoTrue answered before it had codes: OAuth's two texts, or status and msg.
my %OLD_STATUS = (signup_disabled => 403, user_already_exists => 400,
    email_provider_disabled => 400, weak_password => 422);

sub _old_error {
    my ($c, $status, $code, $message) = @_;
    $message = 'Invalid login credentials' if $code eq 'user_banned';
    return $c->json(400, obj(error => 'invalid_grant',
        error_description => $message)) if $code
        =~ /\A(?:invalid_credentials|(?:email|phone)_not_confirmed|user_banned)\z/;
    $status = $OLD_STATUS{$code} // $status;
    $message =~ s/\.\z// if $code eq 'weak_password';
    return $c->json($status, obj(code => num($status), msg => $message,
        ($status >= 500 ? (error_id => AuthDouble::Store::uuid()) : ())));
}

# reads the body once; undef or an error answer
sub read_json {
    my ($c) = @_;
    my $body = $c->{req}{body};
    $body = '' if ($c->{req}{h}{'content-type'} // '')
        =~ m{\Aapplication/x-www-form-urlencoded\b}i;
    return $c->error(413, 'request_entity_too_large',
        'Request body too large (max 1048576 bytes)')
        if length $body > AuthDouble::Auth::MAX_BODY();
    $c->{value} = eval { decode($body) };
    return $@ ? $c->bad_json($@) : undef;
}

sub bad_json {
    my ($c, $why) = @_;
    chomp $why;
    return $c->error(400, 'bad_json',
        "Could not parse request body as JSON: $why");
}

# params({name => type}, 'GoStruct'): hash of what arrived, or undef after
# setting $c->{failed}
sub params {
    my ($c, $fields, $name) = @_;
    my $failed = exists $c->{value} ? undef : $c->read_json;
    my $p = $failed ? undef : eval { bind_struct($c->{value}, $fields, $name) };
    $c->{failed} = $failed // ($p ? undef : $c->bad_json($@));
    return $p;
}

sub aud {
    my ($c) = @_;
    my $aud = $c->{req}{h}{'x-jwt-aud'} // '';
    return $aud eq '' ? 'authenticated' : $aud;
}

# the address that the rate limit is kept for; only a secret key may name one
sub ip {
    my ($c) = @_;
    my $h = $c->{req}{h};
    my $sbff = $h->{'sb-forwarded-for'} // '';
    return $1 if $c->{key} =~ /\Asb_secret_/
        && $sbff =~ /\A\s*([0-9a-fA-F.:]+)\s*(?:,|\z)/;
    my $name = $c->{config}{rate_limit_header};
    return $1 if $name ne '' && ($h->{lc $name} // '') =~ /\A\s*([^,\s]+)/;
    return 'peer';
}

# the address that hooks are told
sub client_ip {
    my ($c) = @_;
    my $ip = qr/[0-9]{1,3}(?:\.[0-9]{1,3}){3}|[0-9a-fA-F:]*:[0-9a-fA-F:.]+/;
    my $h = $c->{req}{h};
    return $1 if $c->{key} =~ /\Asb_secret_/
        && ($h->{'sb-forwarded-for'} // '') =~ /\A\s*($ip)\s*(?:,|\z)/;
    for (split /,/, $h->{'x-forwarded-for'} // '') {
        return $1 if /\A\s*($ip)\s*\z/;
    }
    return '127.0.0.1';
}

sub rate_limited {
    my ($c, $bucket) = @_;
    return undef if $c->{store}->take_rate($bucket, $c->ip);
    return $c->error(429, 'over_request_rate_limit',
        'Request rate limit reached');
}

sub captcha {
    my ($c) = @_;
    my $want = $c->{config}{captcha_token};
    return undef if !defined $want || $c->is_admin;
    my $p = $c->params({gotrue_meta_security => {captcha_token => 'string'}},
        'GotrueRequest') or return $c->{failed};
    my $got = $p->{gotrue_meta_security}{captcha_token} // '';
    my $no = 'captcha protection: request disallowed';
    return $c->error(400, 'captcha_failed', "$no (no captcha_token found)")
        if $got =~ /\A\s*\z/;
    return $c->error(400, 'captcha_failed', "$no (timeout-or-duplicate)")
        if $got ne $want;
    return undef;
}

1;
