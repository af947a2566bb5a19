#!/usr/bin/perl
# What clients of Supabase's own ask besides: changes of a user, providers and
# SAML, applications, administrators, and pages from elsewhere.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib", "$FindBin::RealBin/../lib";
use Crypt::Digest::SHA256 qw(sha256_b64u);
use File::Temp qw(tempdir);
use JSON::PP ();
use MIME::Base64 qw(decode_base64url encode_base64);
use Test::More;
use AuthDouble::Redirect qw(form_encode);
use AuthDouble::SelfTest qw(http request);
use UserSync::Double;

my $dir = tempdir(CLEANUP => 1);
my $d = UserSync::Double->start(dir => "$dir/double");
my ($T, $F) = (JSON::PP::true(), JSON::PP::false());
my $UTF8 = JSON::PP->new->utf8;
my %ADA = (email => 'ada@example.com', password => 'correct horse');
my $SITE = 'http://127.0.0.1:3000';
my $VERIFIER = 'v' x 50;
my %CHALLENGE = (code_challenge => sha256_b64u($VERIFIER),
    code_challenge_method => 's256');
my %JSON = ('Content-Type' => 'application/json');
my %FORM = ('Content-Type' => 'application/x-www-form-urlencoded');

sub send_to {
    my ($method, $path, $data, %h) = @_;
    return request($d->port, http($method, "/auth/v1$path",
        ref $data ? $UTF8->encode($data) : $data, apikey => $d->key,
        'X-Supabase-Api-Version' => '2024-01-01', %h));
}
sub post { return send_to('POST', @_) }
sub get { my $path = shift; return send_to('GET', $path, undef, @_) }
sub grant { return post("/token?grant_type=$_[0]", $_[1]) }
sub body_of { return $UTF8->decode($_[0]{body}) }
sub claims { return $UTF8->decode(decode_base64url((split /\./, $_[0])[1])) }
sub said { return "$_[0]{status} $_[0]{body}" }
sub error_of { return "$_[0]{status} " . body_of($_[0])->{code} }
sub bearer { return (Authorization => 'Bearer ' . $_[0]{access_token}) }
sub code_in { return ($_[0]{h}{location} // '') =~ /[?&]code=([0-9a-f-]{36})/ }

sub fresh {
    my (%config) = @_;
    $d->reset;
    return $d->config(%config);
}

# Ada, who has signed in
sub ada {
    my $user = $d->add_user(%ADA);
    return ($user, body_of(grant(password => \%ADA)));
}

# the body of a page that sends a browser on
sub page_ok {
    my ($r, $text, $name) = @_;
    (my $html = $r->{h}{location}) =~ s/&/&amp;/g;
    is $r->{body}, qq(<a href="$html">$text</a>.\n\n), "$name: the page";
    return is $r->{h}{'content-type'}, 'text/html; charset=utf-8',
        "$name: is HTML";
}

# the parameters of a fragment, sorted, without their values
sub names_in {
    my ($fragment) = $_[0]{h}{location} =~ /#(.*)/ or return '';
    return join ' ', map { (split /=/)[0] } split /&/, $fragment;
}

# ---- PUT /user
fresh(autoconfirm => $F);
my ($user, $session) = ada();
my @ada = bearer($session);
my $r = send_to('PUT', '/user', {data => {lang => 'de'}}, @ada);
is $r->{status}, 200, 'user: changed';
is body_of($r)->{user_metadata}{lang}, 'de', 'user: the data';
ok !exists $r->{h}{'sb-auth-user-id'}, 'user: no header about it';
is error_of(send_to('PUT', '/user', {password => $ADA{password}}, @ada)),
    '422 same_password', 'user: the same password';
my $other = body_of(grant(password => \%ADA));
is send_to('PUT', '/user', {password => 'battery staple'}, @ada)->{status},
    200, 'user: another password';
is grant(password => {%ADA, password => 'battery staple'})->{status}, 200,
    'user: which is theirs';
is error_of(get('/user', bearer($other))), '403 session_not_found',
    'user: other sessions end';
is get('/user', @ada)->{status}, 200, 'user: this one goes on';
is error_of(send_to('PUT', '/user', {password => 'x'}, @ada)),
    '422 weak_password', 'user: a weak password';
is error_of(send_to('PUT', '/user', {})), '403 bad_jwt', 'user: nobody';
$d->add_user(email => 'bea@example.com');
is error_of(send_to('PUT', '/user', {email => 'Bea@example.com'}, @ada)),
    '422 email_exists', 'user: the address of another';

# ---- a new address, which both confirm
sub change {
    my (%more) = @_;
    return send_to('PUT', '/user', {email => 'Countess@example.com', %more},
        @ada);
}
sub link_of { return "/verify?type=email_change&token=$_[0]{hash}" }
$r = change();
my $body = body_of($r);
is "$r->{status} $body->{email} $body->{new_email}",
    '200 ada@example.com countess@example.com', 'address: the old one still';
like $r->{body}, qr/"new_email":"[^"]*","email_change_sent_at":"/,
    'address: in order';
my ($old, $new) = map { $d->otp('ada@example.com', "email_change_$_") }
    qw(current new);
is "$old->{to} $new->{to}", 'ada@example.com countess@example.com',
    'address: a mail to each';
$r = get(link_of($new));
is "$r->{status} $r->{h}{location}", "303 $SITE#message=Confirmation+link"
    . '+accepted.+Please+proceed+to+confirm+link+sent+to+the+other+email&sb=',
    'address: the first';
page_ok($r, 'See Other', 'address');
is $d->user($user->{id})->{email}, 'ada@example.com', 'address: not yet';
is get(link_of($new))->{h}{location} =~ /error_code=otp_expired/, 1,
    'address: each counts once';
$r = get(link_of($old));
is names_in($r), 'access_token expires_at expires_in refresh_token sb'
    . ' token_type type', 'address: the second signs in';
is $r->{h}{'sb-auth-user-id'}, $user->{id}, 'address: and names them';
my ($token) = $r->{h}{location} =~ /access_token=([^&]*)/;
is claims($token)->{email}, 'countess@example.com', 'address: in the token';
is $d->user($user->{id})->{email}, 'countess@example.com', 'address: theirs';
is grant(password => {%ADA, password => 'battery staple'})->{status}, 400,
    'address: the old one is nobody\'s';
$d->change_user($user->{id}, email => 'ada@example.com');
change();
is post('/resend', {type => 'email_change', email => 'ada@example.com'})
    ->{body}, '{}', 'address: once more';
($old, $new) = map { $d->otp('ada@example.com', "email_change_$_") }
    qw(current new);
my %code = (type => 'email_change');
is said(post('/verify', {%code, email => $old->{to}, token => $old->{code}})),
    '200 {"code":"200","msg":"Confirmation link accepted. Please proceed to'
    . ' confirm link sent to the other email"}', 'address: the first by code';
$r = post('/verify', {%code, email => $new->{to}, token => $new->{code}});
is body_of($r)->{user}{email}, 'countess@example.com',
    'address: the second by code' or diag $r->{body};
$d->config(secure_email_change => $F);
send_to('PUT', '/user', {email => 'third@example.com', %CHALLENGE}, @ada);
is scalar(my @mails = $d->mails('third@example.com')), 1,
    'address: one is enough if the project says so';
$r = get(link_of($mails[0]));
like $r->{h}{location}, qr/\A\Q$SITE\E\?code=[0-9a-f-]{36}\z/,
    'address: with PKCE a code';
is body_of(grant(pkce => {auth_code => code_in($r),
    code_verifier => $VERIFIER}))->{user}{email}, 'third@example.com',
    'address: for a session';

# ---- an anonymous user who gives an address
for my $confirmed ($T, $F) {
    fresh(anonymous => $T, autoconfirm => $confirmed);
    my $in = body_of(post('/signup', {}));
    ok $in->{user}{is_anonymous}, 'anonymous: nobody known';
    my @whose = bearer($in);
    is error_of(send_to('PUT', '/user', {password => 'battery staple'},
        @whose)), '422 validation_failed', 'anonymous: an address comes first';
    $body = body_of(send_to('PUT', '/user', {email => 'ann@example.com'},
        @whose));
    is "$body->{email} " . ($body->{new_email} // ''), $confirmed
        ? 'ann@example.com ' : ' ann@example.com', 'anonymous: the answer';
    if (!$confirmed) {
        $new = $d->otp('ann@example.com');
        $r = post('/verify', {%code, email => $new->{to},
            token => $new->{code}});
        $body = body_of($r)->{user};
    }
    is "$body->{id} $body->{email}", "$in->{user}{id} ann\@example.com",
        'anonymous: the same user';
    ok !$body->{is_anonymous}, 'anonymous: no longer';
    is $body->{identities}[0]{user_id}, $body->{id}, 'anonymous: an identity';
}

# ---- mails again, and a code to prove who it is
fresh(autoconfirm => $F);
post('/signup', {%ADA});
my $first = $d->otp($ADA{email});
is said(post('/resend', {type => 'signup', email => $ADA{email}})), '200 {}',
    'resend: sent';
isnt $d->otp($ADA{email})->{hash}, $first->{hash}, 'resend: another link';
is said(post('/resend', {type => 'signup', email => 'x@example.com'})),
    '200 {}', 'resend: nobody learns who is there';
is error_of(post('/resend', {type => 'x', email => $ADA{email}})),
    '400 validation_failed', 'resend: no such mail';
post('/verify', {type => 'signup', email => $ADA{email},
    token => $d->otp($ADA{email})->{code}});
$session = body_of(grant(password => \%ADA));
is said(get('/reauthenticate', bearer($session))), '200 {}', 'reauthenticate';
ok $d->otp($ADA{email}, 'reauthentication'), 'reauthenticate: a mail';
is error_of(get('/reauthenticate')), '403 bad_jwt', 'reauthenticate: nobody';

# ---- the link of a sign-up with PKCE
fresh(autoconfirm => $F);
post('/signup', {%ADA, %CHALLENGE});
my $hash = $d->otp($ADA{email})->{hash};
like $hash, qr/\Apkce_[0-9a-f]{56}\z/, 'PKCE: the token says so';
$r = get("/verify?type=signup&token=$hash");
like $r->{h}{location}, qr/\A\Q$SITE\E\?code=[0-9a-f-]{36}\z/,
    'PKCE: a code, and no token';
ok !exists $r->{h}{'sb-auth-user-id'}, 'PKCE: nobody is named';
my %pkce = (auth_code => code_in($r), code_verifier => $VERIFIER);
is error_of(grant(pkce => {%pkce, code_verifier => 'w' x 50})),
    '400 bad_code_verifier', 'PKCE: another verifier';
is body_of(grant(pkce => \%pkce))->{user}{email}, $ADA{email},
    'PKCE: signed in';
$r = get("/verify?type=signup&token=$hash");
is $r->{h}{location}, "$SITE?error=access_denied&error_code=otp_expired"
    . '&error_description=Email+link+is+invalid+or+has+expired#error='
    . 'access_denied&error_code=otp_expired&error_description=Email+link+is'
    . '+invalid+or+has+expired&sb=', 'PKCE: errors are in the query, too';
for (['/otp', 'magiclink'], ['/recover', 'recovery']) {
    post($_->[0], {email => $ADA{email}, %CHALLENGE});
    $r = get("/verify?type=$_->[1]&token=" . $d->otp($ADA{email})->{hash});
    ok code_in($r), "PKCE: $_->[1]";
}

# ---- providers
fresh(providers => {github => {sub => 'g-7', email => 'Gus@example.com',
    name => 'Gus'}, sad => {error => 'access_denied',
    error_description => 'No, thanks'}});

# follow($path): the answer of the callback, as a browser comes there
sub follow {
    my ($path, $method) = @_;
    my $answer = get($path);
    for (1, 2) {
        my ($next) = $answer->{h}{location} =~ m{\Ahttp://[^/]+(/.*)}
            or return $answer;
        return request($d->port, http('POST', (split /\?/, $next)[0],
            (split /\?/, $next)[1], %FORM)) if $method && $_ == 2;
        $answer = request($d->port, http('GET', $next, undef));
    }
    return $answer;
}
$r = get('/authorize?provider=github');
is $r->{status}, 302, 'provider: sent there';
page_ok($r, 'Found', 'provider');
like $r->{h}{location}, qr{\Ahttp://[^/]+/provider/github/authorize\?
    client_id=double&redirect_uri=http%3A%2F%2F[^/&]+%2Fauth%2Fv1%2Fcallback&
    response_type=code&scope=&state=eyJ}x, 'provider: and back';
is error_of(get('/authorize?provider=x')), '400 validation_failed',
    'provider: unknown';
$r = follow('/authorize?provider=github');
is $r->{status}, 302, 'callback';
is names_in($r), 'access_token expires_at expires_in provider_refresh_token'
    . ' provider_token refresh_token sb token_type', 'callback: a session';
page_ok($r, 'Found', 'callback');
($user) = $d->users;
is $r->{h}{'sb-auth-user-id'}, $user->{id}, 'callback: names the user';
is "$user->{email} $user->{app_metadata}{provider}", 'gus@example.com github',
    'callback: a new user';
$r = follow('/authorize?provider=github', 'POST');
is $r->{status}, 302, 'callback: as a form';
is "$r->{body}" . ($r->{h}{'content-type'} // ''), '', 'callback: no page';
is names_in($r) =~ /access_token/, 1, 'callback: a session as well';
is scalar(my @one = $d->users), 1, 'callback: the same user';
my $query = join '&', map {"$_=$CHALLENGE{$_}"} sort keys %CHALLENGE;
$r = follow("/authorize?provider=github&$query");
like $r->{h}{location}, qr/\A\Q$SITE\E\?code=[0-9a-f-]{36}\z/,
    'callback with PKCE: a code';
ok !exists $r->{h}{'sb-auth-user-id'}, 'callback with PKCE: names nobody';
$r = grant(pkce => {auth_code => code_in($r), code_verifier => $VERIFIER});
is body_of($r)->{user}{id}, $user->{id}, 'callback with PKCE: signed in';
my $denied = 'error=access_denied&error_description=No%2C+thanks';
(my $twice = $denied) =~ s/%/%25/;
is follow('/authorize?provider=sad')->{h}{location}, "$SITE?$denied#$twice&sb=",
    'callback: refused';
is get('/callback?code=x')->{h}{location}, "$SITE?error=invalid_request"
    . '&error_code=bad_oauth_callback&error_description=OAuth+state+parameter'
    . '+missing#error=invalid_request&error_code=bad_oauth_callback'
    . '&error_description=OAuth+state+parameter+missing&sb=',
    'callback: no state';
$d->change_user($user->{id}, banned => $T);
like follow('/authorize?provider=github')->{h}{location},
    qr/\?error=access_denied&error_code=user_banned&/, 'callback: banned';

# ---- SAML
fresh(providers => {});
sub acs {
    my (%form) = @_;
    return post('/sso/saml/acs', form_encode(%form), %FORM, apikey => undef);
}
my $assertion = $d->saml_response(sub => 's-1', email => 'sam@example.com');
$r = acs(RelayState => "$SITE/in", SAMLResponse => $assertion);
is "$r->{status} $r->{body}", '302 ', 'SAML: from the identity provider';
like $r->{h}{location}, qr{\A\Q$SITE\E/in#access_token=}, 'SAML: a session';
is names_in($r), 'access_token expires_at expires_in refresh_token sb'
    . ' token_type', 'SAML: and no more';
($user) = $d->users;
is "$user->{email} $user->{app_metadata}{provider}",
    'sam@example.com sso:double', 'SAML: the user';
is $r->{h}{'sb-auth-user-id'}, $user->{id}, 'SAML: names them';
$r = post('/sso', {domain => 'example.com', skip_http_redirect => $T,
    %CHALLENGE});
my ($relay) = body_of($r)->{url} =~ /RelayState=([0-9a-f-]{36})/;
ok $relay, 'SAML: to the identity provider' or diag $r->{body};
$r = acs(RelayState => $relay, SAMLResponse => $assertion);
ok code_in($r), 'SAML with PKCE: a code';
is body_of(grant(pkce => {auth_code => code_in($r),
    code_verifier => $VERIFIER}))->{user}{id}, $user->{id},
    'SAML with PKCE: signed in';
$r = acs(RelayState => $relay, SAMLResponse => $assertion);
is "$r->{status} $r->{h}{location}", "303 $SITE?error=server_error&error_code="
    . 'saml_relay_state_not_found&error_description=SAML+RelayState+does+not'
    . '+exist%2C+try+logging+in+again%3F', 'SAML: once';
is post('/sso', {domain => 'example.com'})->{status}, 303, 'SAML: sent there';

# ---- applications
fresh();
($user, $session) = ada();
my %app = (grant_type => 'authorization_code', client_id => 'app',
    code => $d->oauth_code($user->{id}, 'app', $VERIFIER));
is body_of(post('/oauth/token', {%app, code_verifier => 'x'},
    %JSON))->{error},
    'invalid_grant', 'application: another verifier';
is body_of(post('/oauth/token', {%app, client_id => 'x'}, %JSON))->{error},
    'invalid_grant', 'application: another one';
$r = post('/oauth/token', {%app, code_verifier => $VERIFIER}, %JSON,
    apikey => undef);
like $r->{body}, qr/\A\{"access_token":"[\w.-]+","expires_in":3600,
    "refresh_token":"[a-z0-9]{12}","token_type":"bearer"\}\z/x,
    'application: tokens, and no user';
my $tokens = body_of($r);
my $claims = claims($tokens->{access_token});
is "$claims->{sub} $claims->{email} $claims->{client_id}",
    "$user->{id} ada\@example.com app", 'application: the token knows them';
is $r->{h}{'sb-auth-user-id'}, $user->{id}, 'application: headers as well';
my $form = 'grant_type=refresh_token&client_id=app&refresh_token=';
$r = post('/oauth/token', $form . $tokens->{refresh_token}, %FORM);
ok body_of($r)->{access_token}, 'application: refreshed, as a form';
is body_of(grant(refresh_token => {refresh_token =>
    body_of($r)->{refresh_token}}))->{error}, 'invalid_client',
    'application: its tokens are its own';
is body_of(post('/oauth/token', $form . $session->{refresh_token}, %FORM))
    ->{error}, 'invalid_client', 'application: others are not';

# ---- headers of refused refreshes
$d->change_user($user->{id}, banned => $T);
$r = grant(refresh_token => {refresh_token => $session->{refresh_token}});
is error_of($r) . " $r->{h}{'sb-auth-user-id'}",
    "400 user_banned $user->{id}", 'a refused refresh names the user';

# ---- administrators
fresh();
sub admin {
    my ($method, $path, $data) = @_;
    return send_to($method, $path, $data, apikey => $d->key('secret'));
}
$r = admin('POST', '/admin/users', {email => 'gus@example.com',
    email_confirm => $T, user_metadata => {full_name => 'Gus'}});
my $TIME = qr/"[0-9T:.-]+Z"/;
my $UUID = qr/"[0-9a-f-]{36}"/;
like $r->{body}, qr/\A\{"id":$UUID,"aud":"authenticated","role":"authenticated"
    ,"email":"gus\@example.com","email_confirmed_at":$TIME,"phone":""
    ,"app_metadata":\{"provider":"email","providers":\["email"\]\}
    ,"user_metadata":\{"email_verified":true,"full_name":"Gus"\}
    ,"identities":\[\{.*\}\],"created_at":$TIME,"updated_at":$TIME
    ,"is_anonymous":false\}\z/x, 'admin: a user';
$user = body_of($r);
is error_of(admin('POST', '/admin/users', {email => 'gus@example.com'})),
    '422 email_exists', 'admin: once';
is error_of(send_to('POST', '/admin/users', {email => 'x@example.com'})),
    '403 not_admin', 'admin: not for everybody';
$body = body_of(admin('PUT', "/admin/users/$user->{id}",
    {email => 'gil@example.com', ban_duration => '24h'}));
is $body->{email}, 'gil@example.com', 'admin: another address, at once';
ok $body->{banned_until}, 'admin: banned';
$body = body_of(admin('PUT', "/admin/users/$user->{id}",
    {ban_duration => 'none'}));
ok !exists $body->{banned_until}, 'admin: no longer';
is said(admin('DELETE', "/admin/users/$user->{id}",
    {should_soft_delete => $T})), '200 {}', 'admin: softly deleted';
ok $d->user($user->{id})->{deleted_at}, 'admin: and still there';
is said(admin('DELETE', "/admin/users/$user->{id}")), '200 {}',
    'admin: deleted';
is error_of(admin('GET', "/admin/users/$user->{id}")), '404 user_not_found',
    'admin: and gone';
$body = body_of(admin('POST', '/invite', {email => 'inge@example.com'}));
is "$body->{email} " . defined $body->{invited_at}, 'inge@example.com 1',
    'admin: invited';
$r = get('/verify?type=invite&token='
    . $d->otp('inge@example.com')->{hash});
is names_in($r) =~ /access_token/, 1, 'admin: the invitation signs in';
is error_of(admin('POST', '/invite', {email => 'inge@example.com'})),
    '422 email_exists', 'admin: once confirmed, no more';
$body = body_of(admin('POST', '/admin/generate_link', {type => 'magiclink',
    email => 'inge@example.com'}));
my ($path) = $body->{action_link} =~ m{/auth/v1(/verify\?.*)};
is names_in(get($path)) =~ /access_token/, 1, 'admin: a link';

# ---- second factors
fresh();
($user, $session) = ada();
@ada = bearer($session);
my %totp = (factor_type => 'totp', friendly_name => 'app');
my ($factor, $spare) = map { body_of(post('/factors',
    {%totp, friendly_name => $_}, @ada))->{id} } 'app', 'spare';
is error_of(post('/factors', \%totp, @ada)), '422 mfa_factor_name_conflict',
    'factor: a name is one factor\'s';
is_deeply [map { "$_->{friendly_name} $_->{status}" }
    @{body_of(get('/user', @ada))->{factors}}],
    ['app unverified', 'spare unverified'], 'factor: of the user';
is said(send_to('DELETE', "/factors/$spare", undef, @ada)),
    qq(200 {"id":"$spare"}), 'factor: removed';
my $challenge = body_of(post("/factors/$factor/challenge", {}, @ada))->{id};
my $two = body_of(post("/factors/$factor/verify",
    {challenge_id => $challenge, code => '123456'}, @ada));
is claims($two->{access_token})->{aal}, 'aal2', 'factor: verified';
my $one = body_of(grant(password => \%ADA));
is error_of(send_to('DELETE', "/factors/$factor", undef, bearer($one))),
    '422 insufficient_aal', 'factor: not by the password alone';
is error_of(send_to('PUT', '/user', {email => 'x@example.com'},
    bearer($one))), '401 insufficient_aal', 'factor: nor a new address';
is send_to('DELETE', "/factors/$factor", undef, bearer($two))->{status}, 200,
    'factor: with both';
is claims(body_of(grant(refresh_token => {refresh_token =>
    $two->{refresh_token}}))->{access_token})->{aal}, 'aal1',
    'factor: one is left';

# ---- pages from elsewhere
sub allowed {
    my ($answer) = @_;
    return join '|', map { $answer->{h}{$_} // '' } 'vary',
        map {"access-control-$_"} qw(allow-origin allow-credentials
        expose-headers allow-methods allow-headers);
}
my %from = (Origin => 'https://app.example.com');
my $all = 'Origin|*|true|X-Total-Count, Link, X-Supabase-Api-Version||';
is allowed(grant(password => \%ADA)), 'Origin|||||', 'CORS: nobody asks';
is allowed(post('/token?grant_type=password', \%ADA, %from)), $all,
    'CORS: a session';
is allowed(post('/token?grant_type=password', {}, %from)), $all,
    'CORS: an error';
is allowed(get('/nowhere', %from)), $all, 'CORS: no such path';
is allowed(get('/user', %from, apikey => undef)), '|||||',
    'CORS: the gateway has none';
$r = send_to('OPTIONS', '/token', undef, %from, apikey => undef,
    'Access-Control-Request-Method' => 'POST',
    'Access-Control-Request-Headers' => 'apikey,content-type');
is "$r->{status} " . allowed($r), '204 Origin, Access-Control-Request-Method,'
    . ' Access-Control-Request-Headers|*|true||POST|apikey,content-type',
    'CORS: what a browser asks first';
is send_to('OPTIONS', '/signup')->{status}, 405, 'OPTIONS: nothing else';

# ---- a restart forgets none of it
fresh(autoconfirm => $F);
post('/signup', {%ADA, %CHALLENGE});
$hash = $d->otp($ADA{email})->{hash};
$d->restart;
ok code_in(get("/verify?type=signup&token=$hash")),
    'a link works after a restart';

is $d->stderr, '', 'nothing on stderr';
$d->stop;
done_testing;
