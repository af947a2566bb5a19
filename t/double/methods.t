#!/usr/bin/perl
# The ways to sign in that end without a password: mails, second factors,
# providers, refresh tokens. All of them ask the project's hook, and a refusal
# consumes nothing.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib", "$FindBin::RealBin/../lib";
use File::Temp qw(tempdir);
use JSON::PP ();
use MIME::Base64 qw(decode_base64url);
use Test::More;
use AuthDouble::HookServer;
use AuthDouble::SelfTest qw(http request);
use UserSync::Double;

my $dir = tempdir(CLEANUP => 1);
my $server = AuthDouble::HookServer->start("$dir/hooks");
my $d = UserSync::Double->start(dir => "$dir/double");
my ($T, $F) = (JSON::PP::true(), JSON::PP::false());
my $UTF8 = JSON::PP->new->utf8;
my %ADA = (email => 'ada@example.com', password => 'correct horse');
my $AWAY = 'The user database is not available: try again later.';
my %REFUSE = (error => {http_code => 503, message => $AWAY});

sub send_to {
    my ($method, $path, $data, %h) = @_;
    return request($d->port, http($method, "/auth/v1$path",
        $data ? $UTF8->encode($data) : undef, apikey => $d->key,
        'X-Supabase-Api-Version' => '2024-01-01', %h));
}
sub post { return send_to('POST', @_) }
sub get { return send_to('GET', $_[0], undef) }
sub grant { return post("/token?grant_type=$_[0]", $_[1]) }
sub refresh { return grant(refresh_token => {refresh_token => $_[0]}) }
sub body_of { return $UTF8->decode($_[0]{body}) }
sub claims { return $UTF8->decode(decode_base64url((split /\./, $_[0])[1])) }
sub token_of { return body_of($_[0])->{access_token} }

# a fresh double with hooks at the server, before and after a user is created
# and for each token
sub fresh {
    my (%config) = @_;
    $d->reset;
    $d->config(hooks => {map { $_ => {uri => $server->uri,
        secrets => 'v1,whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY='} }
        qw(before_user_created after_user_created custom_access_token)},
        hook_timeout => 60, %config);
    $server->forget;
    return;
}

# what the hooks were asked since the last time: the name, or for tokens the
# method
sub asked {
    my @asked = map { my $body = body_of($_);
        $body->{authentication_method} // $body->{metadata}{name} }
        $server->requests;
    $server->forget;
    return "@asked";
}

# refused(sub { answer }, $name): with 503 and our text, and nothing else
sub refused {
    my ($code, $name) = @_;
    $server->answer(\%REFUSE);
    my $r = $code->();
    is "$r->{status} $r->{body}", '503 {"code":"unknown","message":"'
        . $AWAY . '"}', "$name: refused";
    return $r;
}

# ---- a code by mail, for a user who is new
fresh(autoconfirm => $T);
my $r = post('/otp', {email => 'New@example.com', create_user => $T,
    data => {lang => 'de'}});
is "$r->{status} $r->{body}", '200 {}', 'otp: sent';
is asked(), 'before-user-created password',
    'otp: with auto-confirm, a sign-up with a session that nobody gets';
my $mail = $d->otp('new@example.com');
is $mail->{kind}, 'recovery', 'otp: the mail of a known user';
like $mail->{code}, qr/\A[0-9]{6}\z/, 'otp: six digits';
my %verify = (type => 'email', email => 'new@example.com',
    token => $mail->{code});
refused(sub { post('/verify', \%verify) }, 'otp');
$r = post('/verify', {%verify, token => '00000x'});
is "$r->{status} $r->{body}", '403 {"code":"otp_expired","message":"Token has'
    . ' expired or is invalid"}', 'otp: another code';
$r = post('/verify', \%verify);
is $r->{status}, 200, 'otp: the same code works';
is claims(token_of($r))->{user_metadata}{lang}, 'de', 'otp: the user';
is claims(token_of($r))->{amr}[0]{method}, 'otp', 'otp: amr';
is asked(), 'otp otp', 'otp: and nothing else was asked';
is post('/verify', \%verify)->{status}, 403, 'otp: once';
is post('/otp', {email => 'x@example.com', create_user => $F})->{status}, 422,
    'otp: nobody is created';
$d->config(otp_exp => -1);
post('/otp', {email => 'new@example.com'});
is post('/verify', {%verify, token => $d->otp('new@example.com')->{code}})
    ->{status}, 403, 'otp: too late';

# ---- the links of mails
fresh(autoconfirm => $F);
is post('/signup', {%ADA, data => {}})->{status}, 200, 'sign-up with a mail';
my ($user) = $d->users;
$mail = $d->otp($ADA{email}, 'confirmation');
asked();
sub link_of { return "/verify?token=$_[0]{hash}&type=$_[1]&redirect_to=http"
    . '%3A%2F%2F127.0.0.1%3A3000' }
my $SITE = 'http://127.0.0.1:3000';
# the text is escaped twice, as the real server does
(my $twice = $AWAY) =~ s/:/%253A/;
$twice =~ tr/ /+/;
$server->answer(\%REFUSE);
$r = get(link_of($mail, 'signup'));
is "$r->{status} $r->{h}{location}", "303 $SITE#error=temporarily_unavailable"
    . "&error_code=&error_description=$twice&sb=", 'link: refused';
ok !$d->user($user->{id})->{email_confirmed_at}, 'link: not confirmed';
is grant(password => \%ADA)->{status}, 400, 'link: nor may they log in';
$server->answer({error => {http_code => 429, message => 'slow & down'}});
$r = get(link_of($mail, 'signup'));
is $r->{h}{location}, "$SITE#error_code=&error_description=slow+%2526+down&sb=",
    'link: no OAuth error for 429';
$r = get(link_of($mail, 'signup'));
like $r->{h}{location}, qr/\A\Q$SITE\E\x23access_token=[\w.-]+
    &expires_at=[0-9]+&expires_in=3600&refresh_token=[a-z0-9]{12}&sb=
    &token_type=bearer&type=signup\z/x, 'link: the same one works';
is $r->{status}, 303, 'link: 303';
is $r->{h}{'content-type'}, 'text/html; charset=utf-8', 'link: HTML';
(my $html = $r->{h}{location}) =~ s/&/&amp;/g;
is $r->{body}, qq(<a href="$html">See Other</a>.\n\n), 'link: with a link';
is $r->{h}{'sb-auth-user-id'}, $user->{id}, 'link: headers';
ok $d->user($user->{id})->{email_confirmed_at}, 'link: confirmed';
is asked(), 'otp otp otp', 'link: the hook was asked each time';
$r = get(link_of($mail, 'signup'));
is "$r->{status} $r->{h}{location}", "303 $SITE#error=access_denied"
    . '&error_code=otp_expired&error_description=Email+link+is+invalid+or+has'
    . '+expired&sb=', 'link: once';
is asked(), '', 'link: nobody was asked';
for my $case (['/magiclink', 'magiclink'], ['/recover', 'recovery']) {
    my ($path, $type) = @$case;
    is post($path, {email => $ADA{email}})->{body}, '{}', "$type: sent";
    my %hash = (type => $type, token_hash => $d->otp($ADA{email})->{hash});
    refused(sub { post('/verify', \%hash) }, $type);
    is post('/verify', \%hash)->{status}, 200, "$type: works";
    is post('/verify', \%hash)->{status}, 403, "$type: once";
    is asked(), 'otp otp', "$type: as otp";
}
is post('/recover', {email => 'nobody@example.com'})->{body}, '{}',
    'recover: nobody learns who is there';
is get('/verify?type=signup')->{status}, 400, 'verify: no token';
is post('/verify', {type => 'signup', token => 'x', token_hash => 'y'})
    ->{status}, 400, 'verify: two tokens';
is get('/verify?type=signup&token=x&redirect_to=http://evil.test/')
    ->{h}{location} =~ s/#.*//r, $SITE, 'verify: only to the site';

# a refused sign-up with a mail leaves nobody
fresh(autoconfirm => $F);
refused(sub { post('/otp', {email => 'bea@example.com'}) }, 'new user');
is scalar(my @none = $d->users), 0, 'new user: nobody';
is post('/otp', {email => 'bea@example.com'})->{status}, 200, 'again';
is asked(), 'before-user-created before-user-created after-user-created',
    'new user: the hooks';
is $d->otp('bea@example.com')->{kind}, 'confirmation', 'one mail confirms';
is post('/verify', {type => 'email', email => 'bea@example.com', token =>
    $d->otp('bea@example.com')->{code}})->{status}, 200, 'and signs in';

# ---- a second factor
fresh();
$user = $d->add_user(%ADA);
my ($session, $other) = map { body_of(grant(password => \%ADA)) } 1, 2;
my @bearer = (Authorization => "Bearer $session->{access_token}");
$r = post('/factors', {factor_type => 'totp', friendly_name => 'app'}, @bearer);
is $r->{status}, 200, 'mfa: enrolled';
my $factor = body_of($r)->{id};
$r = post("/factors/$factor/challenge", {}, @bearer);
like $r->{body}, qr/\A\{"id":"[0-9a-f-]{36}","type":"totp","expires_at":[0-9]+
    \}\z/x, 'mfa: challenge';
my %code = (challenge_id => body_of($r)->{id}, code => '123456');
is post("/factors/$factor/verify", {%code, code => '000000'}, @bearer)
    ->{status}, 422, 'mfa: a wrong code';
asked();
refused(sub { post("/factors/$factor/verify", \%code, @bearer) }, 'mfa');
is $d->user($user->{id})->{factors}[0]{status}, 'unverified',
    'mfa: the factor is as before';
$r = refresh($session->{refresh_token});
is $r->{h}{'sb-auth-refresh-token-reuse'}, 'false',
    'mfa: the refresh token works';
is claims(token_of($r))->{aal}, 'aal1', 'mfa: with one factor';
my $active = body_of($r)->{refresh_token};
$r = post("/factors/$factor/verify", \%code, @bearer);
is $r->{status}, 200, 'mfa: the same challenge works' or diag $r->{body};
my $claims = claims(token_of($r));
is join(' ', $claims->{aal}, map { $_->{method} } @{$claims->{amr}}),
    'aal2 totp password', 'mfa: what the token says';
is $claims->{session_id}, claims($session->{access_token})->{session_id},
    'mfa: the session goes on';
ok !exists $r->{h}{'sb-auth-session-id'}, 'mfa: no headers about it';
is body_of($r)->{user}{factors}[0]{status}, 'verified', 'mfa: verified';
is asked(), 'totp token_refresh totp', 'mfa: the hook';
is post("/factors/$factor/verify", \%code, @bearer)->{status}, 422,
    'mfa: a challenge is good once';
is refresh($other->{refresh_token})->{status}, 400,
    'mfa: sessions with one factor end';
is claims(token_of(refresh(body_of($r)->{refresh_token})))->{aal}, 'aal2',
    'mfa: refreshed with two factors';

# ---- sign-ins that begin elsewhere
fresh();
my %google = (provider => 'google', id_token => $d->id_token(sub => 'g-1',
    provider => 'google', email => 'gus@example.com', name => 'Gus'));
refused(sub { grant(id_token => \%google) }, 'id_token, before');
$server->answer({}, \%REFUSE);
my $refused = grant(id_token => \%google);
is $refused->{status}, 503, 'id_token: the token is refused';
is scalar(@none = $d->users), 0, 'id_token: no user';
my $body = body_of(($server->requests)[0]);
is_deeply $body->{user}{app_metadata},
    {provider => 'google', providers => ['google']}, 'id_token: the provider';
$r = grant(id_token => \%google);
is $r->{status}, 200, 'id_token: signed in' or diag $r->{body};
($user) = $d->users;
is $user->{identities}[0]{id}, 'g-1', 'id_token: the identity';
my @before = grep { $_->{metadata}{name} =~ /before/ } map { body_of($_) }
    $server->requests;
ok !grep({ $_->{user}{id} eq $user->{id} } @before),
    'id_token: the first hook is told of other ids';
asked();
is grant(id_token => \%google)->{status}, 200, 'id_token: again';
is asked(), 'oauth', 'id_token: a known user';
is grant(id_token => {%google, id_token => 'x'})->{status}, 400,
    'id_token: a bad one';
is scalar(my @one = $d->users), 1, 'id_token: one user';

for my $method (qw(oauth magiclink email/signup)) {
    my %pkce = (auth_code => $d->auth_code($user->{id}, $method, 'secret'),
        code_verifier => 'secret');
    is grant(pkce => {%pkce, code_verifier => 'x'})->{status}, 400,
        'pkce: another verifier';
    refused(sub { grant(pkce => \%pkce) }, 'pkce');
    is grant(pkce => \%pkce)->{status}, 200, 'pkce: the same code works';
    is grant(pkce => \%pkce)->{status}, 404, 'pkce: once';
    is asked(), "$method $method", "pkce: $method";
}

# ---- refresh tokens
fresh(refresh_reuse_interval => 60);
$d->add_user(%ADA);
my @token = body_of(grant(password => \%ADA))->{refresh_token};
push @token, body_of(refresh($token[-1]))->{refresh_token} for 1, 2;
$r = refresh($token[0]);
is $r->{status}, 200, 'reuse: in the interval';
ok !grep({ $_ eq body_of($r)->{refresh_token} } @token), 'reuse: a new token';
$d->config(refresh_reuse_interval => 0, refresh_rotation => 0);
is body_of(refresh($token[1]))->{code}, 'refresh_token_already_used',
    'reuse: refused';
is refresh($token[2])->{status}, 200, 'without rotation others are good';
$d->config(refresh_rotation => 1);
my $last = body_of($r)->{refresh_token};
refresh($token[1]);
is body_of(refresh($last))->{code}, 'refresh_token_already_used',
    'with rotation the family is lost';

fresh(refresh_format => 'v2');
$d->add_user(%ADA);
$session = body_of(grant(password => \%ADA));
@token = $session->{refresh_token};
refused(sub { refresh($token[0]) }, 'v2');
push @token, body_of(refresh($token[-1]))->{refresh_token};
$r = refresh($token[0]);
is body_of($r)->{refresh_token}, $token[1], 'v2: not saved by the client';
is "$r->{h}{'sb-auth-refresh-token-reuse-cause'} "
    . $r->{h}{'sb-auth-refresh-token-counter'}, 'fail-to-save 1', 'v2: why';
push @token, body_of(refresh($token[1]))->{refresh_token};
$r = refresh($token[0]);
is body_of($r)->{code}, 'refresh_token_already_used', 'v2: reuse';
is $r->{h}{'sb-auth-refresh-token-rotated'}, 'true', 'v2: has ended it';
is body_of(refresh($token[2]))->{code}, 'refresh_token_not_found',
    'v2: no session';
is send_to('GET', '/user', undef, Authorization =>
    "Bearer $session->{access_token}")->{status}, 403, 'v2: none at all';

# ---- a restart forgets neither mails nor codes
fresh(autoconfirm => $F);
post('/signup', \%ADA);
$mail = $d->otp($ADA{email});
$d->restart;
is get(link_of($mail, 'signup'))->{h}{location} =~ /#access_token/, 1,
    'a link works after a restart';

is $d->stderr, '', 'nothing on stderr';
$d->stop;
$server->stop;
done_testing;
