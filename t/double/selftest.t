#!/usr/bin/perl
# The double against the fixtures, and every fault at socket level.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib", "$FindBin::RealBin/../lib";
use File::Temp qw(tempdir);
use MIME::Base64 qw(decode_base64url);
use Test::More;
use Time::HiRes qw(sleep time);
use AuthDouble::Json qw(encode decode);
use AuthDouble::SelfTest qw(shape raw_connect raw_send raw_read raw_eof http
    request read_answer slurp);
use UserSync::Double;

my $FIX = "$FindBin::RealBin/../fixtures/supabase";
my $V = '2024-01-01';
my $dir = tempdir(CLEANUP => 1);
my $d = UserSync::Double->start(dir => "$dir/double");
my %index = map { $_->{file} => $_ }
    @{JSON::PP->new->utf8->decode(slurp("$FIX/index.json"))};
my $T = JSON::PP::true();

sub send_to {
    my ($method, $path, $data, %h) = @_;
    my %head = (apikey => $d->key, 'Content-Type' => 'application/json',
        'X-Supabase-Api-Version' => $V, %h);
    my $body = !defined $data ? undef : ref $data
        ? JSON::PP->new->utf8->encode($data) : $data;
    return request($d->port, http($method, "/auth/v1$path", $body, %head));
}

sub post { return send_to('POST', @_) }
sub get { my ($path, %h) = @_; return send_to('GET', $path, undef, %h) }
sub login { return post('/token?grant_type=password', @_) }
sub refresh {
    my ($token) = @_;
    return post('/token?grant_type=refresh_token', {refresh_token => $token});
}
my %ADA = (email => 'ada@example.com', password => 'Secret-pass-12');
sub signup { return post('/signup', {%ADA, @_}) }
sub body_of { return JSON::PP->new->utf8->decode($_[0]{body}) }

# like_fixture($answer, $file): status, headers and shape of the body
sub like_fixture {
    my ($r, $file, $name) = @_;
    my $want = $index{$file};
    $name = $name ? "$file ($name)" : $file;
    subtest $name => sub {
        is $r->{status}, $want->{status}, 'status';
        my %h = %{$want->{headers}};
        for (sort keys %h) {
            my $got = $r->{h}{lc $_};
            my $variable = /user-id|session-id|prefix/;
            ok defined $got, "header $_";
            is $got, $h{$_}, "value of $_" if !$variable;
        }
        for (qw(x-sb-error-code x-supabase-api-version retry-after
            sb-auth-user-id)) {
            my $name = $_;
            ok !exists $r->{h}{$name}, "no header $name"
                if !grep { lc $_ eq $name } keys %h;
        }
        my $fixture = slurp("$FIX/$file");
        is $file =~ /json\z/ ? shape($r->{body}) : $r->{body},
            $file =~ /json\z/ ? shape($fixture) : $fixture, 'body';
    };
    return;
}

# ---- sign-up and its outcomes
sub fresh {
    my (%config) = @_;
    $d->reset;
    $d->config(autoconfirm => 0, %config);
    return;
}

fresh(autoconfirm => 1);
my $r = signup();
like_fixture($r, 'signup_autoconfirm_session.json');
my $s = body_of($r);
is $r->{h}{'sb-auth-user-id'}, $s->{user}{id}, 'sb-auth-user-id';
is $r->{h}{'sb-auth-refresh-token-prefix'}, substr($s->{refresh_token}, 0, 5),
    'refresh token prefix';
is $s->{user}{identities}[0]{user_id}, $s->{user}{id}, 'identity of the user';
like_fixture(signup(), "err_user_already_exists.v2024.json");
like_fixture(post('/signup', \%ADA, 'X-Supabase-Api-Version' => undef),
    'err_user_already_exists.legacy.json');
is scalar($d->users)->[0]{id}, $s->{user}{id}, 'still the same user';

fresh();
$r = signup();
like_fixture($r, 'signup_pending_confirmation_user.json', 'case B');
my $id = body_of($r)->{id};
$r = signup(password => 'another-pass-9');
my $again = body_of($r);
is $again->{id}, $id, 'case D: the real user';
is shape($r->{body}), shape(slurp(
    "$FIX/signup_existing_unconfirmed_real_user.json")), 'case D: shape';
like_fixture(login(\%ADA), 'err_email_not_confirmed.v2024.json');
like_fixture(login(\%ADA, 'X-Supabase-Api-Version' => '2023-01-01'),
    'err_email_not_confirmed.legacy.json');
$d->config(mail_window => 60);
like_fixture(signup(), 'err_over_email_send_rate_limit_user.v2024.json');
like_fixture(post('/signup', \%ADA, 'X-Supabase-Api-Version' => 'x'),
    'err_over_email_send_rate_limit_user.legacy.json');
$d->config(mail_window => 0, autoconfirm => 1);
is body_of(signup())->{user}{id}, $id, 'case F: a session without proof';
$d->config(autoconfirm => 0);

$r = signup();
like_fixture($r, 'signup_existing_confirmed_fake_user.json', 'case C');
isnt body_of($r)->{id}, $id, 'case C: an invented id';
isnt body_of(signup())->{id}, body_of($r)->{id}, 'case C: another each time';
like_fixture(signup(data => {full_name => 'Mallory'}),
    'signup_existing_confirmed_fake_user_with_data.json');
$d->change_user($id, invited_at => '2026-07-01T08:00:00.25Z',
    recovery_sent_at => $T);
like_fixture(signup(), 'signup_existing_confirmed_fake_user_was_invited.json');
is scalar(@{$d->users}), 1, 'no user came of all this';

fresh();
my $invited = $d->add_user(email => $ADA{email}, invited_at => $T);
$r = signup();
like_fixture($r, 'signup_invited_unconfirmed_real_user.json', 'case E');
is body_of($r)->{id}, $invited->{id}, 'case E: the id is real';

fresh(anonymous => 1);
like_fixture(post('/signup', {}), 'signup_anonymous_session.json');
like_fixture(get('/user', Authorization => 'Bearer '
    . body_of(post('/signup', {email => ''}))->{access_token}),
    'user_get_anonymous.json');
fresh(phone_provider => 1);
my $phone = $d->add_user(phone => '15551234567', password => 'x');
like_fixture(post('/signup', {phone => '+1 5551234567', password => 'abcdef'}),
    'signup_phone_existing_fake_user.json');

# ---- refusals
fresh();
like_fixture(post('/signup', {password => 'abcdefgh'}),
    'err_anonymous_provider_disabled.v2024.json');
like_fixture(signup(password => ''),
    'err_validation_failed_password_missing.v2024.json');
like_fixture(signup(password => "\x{e9}" x 36 . "x"),
    'err_validation_failed_password_too_long.v2024.json');
is signup(email => 'long@example.com', password => "\x{e9}" x 36)->{status},
    200, '72 bytes are allowed';
for my $bad (' ada@example.com', 'ada', 'ada@', "a\@b..c", 'a@-b.c',
    "\x{e4}da\@example.com", 'a@b ', ('a' x 250) . '@b.com', "a\@b.c\n") {
    is signup(email => $bad)->{status}, 400, "e-mail refused";
}
is signup(email => 'a@b')->{status}, 200, 'single label domain';
is body_of(signup(email => 'ADA+x@Example.com'))->{email},
    'ada+x@example.com', 'lower-cased';
for (['v2024', $V], ['legacy', undef]) {
    my ($format, $version) = @$_;
    my @h = ('X-Supabase-Api-Version' => $version);
    like_fixture(post('/signup', {%ADA, email => ' a@b.c'}, @h),
        "err_validation_failed_email.$format.json");
    $d->config(weak_password_min => 8);
    like_fixture(post('/signup', {%ADA, password => 'short'}, @h),
        "err_weak_password.$format.json");
    $d->config(disable_signup => $T);
    like_fixture(post('/signup', \%ADA, @h),
        "err_signup_disabled.$format.json");
    $d->config(disable_signup => 0, captcha_token => 'good');
    like_fixture(login(\%ADA, @h), "err_captcha_failed_missing.$format.json");
    $d->config(captcha_token => undef, rate_limit => {token => 0});
    like_fixture(login(\%ADA, @h), "err_over_request_rate_limit.$format.json");
    $d->config(rate_limit => undef);
    like_fixture(login({%ADA, password => 'no'}, @h),
        "err_invalid_credentials.$format.json");
    $d->config(hook_reject => {http_code => 403,
        message => 'Only company emails are allowed to sign up.'});
    like_fixture(post('/signup', \%ADA, @h), "err_hook_rejected.$format.json");
    $d->config(hook_reject => undef);
    like_fixture(post('/signup', {%ADA, data => {a => "x\0y"}}, @h),
        "err_unexpected_failure_db.$format.json");
}
# hooks of the project, as the captured server treats them
my $text = {message => 'x'};
for my $case (
    [panic => before_user_created => {error => {http_code => 99, %$text}}],
    [unreachable => before_user_created => {away => 'refused'}],
    [timeout => before_user_created => {away => 'timeout'}],
    [content_type => before_user_created => {http => 200,
        type => 'text/html'}],
    [503 => before_user_created => {http => 503}],
    [403 => before_user_created => {http => 403}],
    [no_json => before_user_created => {http => 200, body => 'x'}],
    [send_email => send_email => {error => {http_code => 422,
        message => 'we do not mail there'}}],
    [after_signup => after_user_created => {http => 500}]) {
    my ($file, $name, $does) = @$case;
    $d->config(hooks => {$name => $does});
    like_fixture(signup(email => "$file\@b.c"), "err_hook_$file.v2024.json");
}
$d->config(hooks => {before_user_created => {error => {http_code => 403,
    message => ''}}});
is signup(email => 'empty@b.c')->{status}, 200, 'a hook without a text';
$d->add_user(email => 'hook@b.c', password => 'Secret-pass-12');
for my $case (
    [token_text => custom_access_token => {error => {message => 'refused'}}],
    [token_no_claims => custom_access_token => {claims => 'missing'}],
    [token_empty_claims => custom_access_token => {claims => 'empty'}],
    [token_401 => custom_access_token => {http => 401}],
    [password_reject => password_verification_attempt => {decision => 'reject',
        message => 'Too many attempts, wait a minute'}],
    [password_429 => password_verification_attempt => {error =>
        {http_code => 429, message => 'slow down'}}]) {
    my ($file, $name, $does) = @$case;
    $d->config(hooks => {$name => $does});
    like_fixture(login({%ADA, email => 'hook@b.c'}),
        "err_hook_$file.v2024.json");
}
$d->config(autoconfirm => 1, hooks => {custom_access_token =>
    {error => {http_code => 503, message => 'The user database is not '
    . 'available: try again later.'}}});
like_fixture(signup(email => 'late@b.c'), 'err_hook_token_signup.v2024.json');
is scalar(grep { $_->{email} eq 'late@b.c' } $d->users), 1,
    'the account is there';
$d->config(autoconfirm => 0, hooks => {});
is scalar(grep { $_->{email} eq $ADA{email} } $d->users), 0, 'nobody created';

# before there were codes
$d->config(api_format => 'old');
like_fixture(login({%ADA, password => 'no'}),
    'err_old_invalid_credentials.json');
like_fixture(signup(password => 'short'), 'err_old_weak_password.json')
    if $d->config(weak_password_min => 6);
$d->add_user(email => 'new@b.c', password => 'Secret-pass-12',
    confirmed => JSON::PP::false());
like_fixture(login({%ADA, email => 'new@b.c'}),
    'err_old_email_not_confirmed.json');
$d->config(autoconfirm => 1);
like_fixture(signup(email => 'hook@b.c'),
    'err_old_user_already_registered.json');
$d->config(autoconfirm => 0, email_provider => 0);
like_fixture(signup(), 'err_old_email_signups_disabled.json');
$d->config(email_provider => 1, disable_signup => $T);
like_fixture(signup(), 'err_old_signup_disabled.json');
$d->config(disable_signup => 0, api_format => 'header');
$d->config(weak_password_min => 8, pwned_passwords => ['abc'],
    weak_password_characters => [join('', 'a' .. 'z'), join '', 0 .. 9]);
like_fixture(signup(password => 'abc'), 'err_weak_password_multi.v2024.json');
fresh(captcha_token => 'good', invalid_emails => ['a@gmail.com'],
    unauthorized_emails => ['ada@example.com'], mail_budget => 1);
my $captcha = sub { (gotrue_meta_security => {captcha_token => $_[0]}) };
like_fixture(signup($captcha->('bad')), 'err_captcha_failed_rejected.v2024.json');
like_fixture(signup($captcha->('good')),
    'err_email_address_not_authorized.v2024.json');
like_fixture(signup($captcha->('good'), email => 'a@gmail.com'),
    'err_email_address_invalid.v2024.json');
is post('/signup', {%ADA, email => 'b@b.c'}, apikey => $d->key('secret'))
    ->{status}, 200, 'a secret key skips the captcha';
$d->config(captcha_token => undef);
like_fixture(signup(email => 'c@b.c'),
    'err_over_email_send_rate_limit_global.v2024.json');
$d->config(email_provider => 0);
like_fixture(signup(), 'err_email_provider_disabled_signup.v2024.json');
like_fixture(login(\%ADA), 'err_email_provider_disabled_login.v2024.json');
$d->config(api_format => 'legacy');
is body_of(login(\%ADA))->{code}, 422, 'legacy format by configuration';

# ---- JSON as Go reads it
fresh();
like_fixture(post('/signup', ''), 'err_bad_json.v2024.json');
like_fixture(login('x' x 1_048_577), 'err_request_entity_too_large.v2024.json');
for ('{"email":1}', '[]', '"x"', '{"email":"a@b.c",}', '{"data":[]}', "{'a':1}",
    '{"password":{}}', '{"email":"a@b.c"}{}', '{"email":"a' . "\n" . '"}') {
    is body_of(post('/signup', $_))->{code}, 'bad_json', "bad_json: $_";
}
$r = post('/signup', '{"EMAIL":"x@b.c","Email":"y@b.c","pass\u0077ord":'
    . '"abcdefgh","extra":[1],"data":{"b":1.50,"a":"\ud83d\ude00<"}}');
is body_of($r)->{email}, 'y@b.c', 'names without case, the last one counts';
like $r->{body}, qr/"user_metadata":\{"a":"\xf0\x9f\x98\x80\\u003c","b":1\.5,/,
    'map keys sorted, characters escaped, numbers as float64';
is body_of(post('/signup', 'null'))->{code}, 'anonymous_provider_disabled',
    'null is an empty struct';
is body_of(post('/signup', \%ADA, 'Content-Type' =>
    'application/x-www-form-urlencoded'))->{code}, 'bad_json', 'form swallowed';

# ---- sessions
fresh();
my $user = $d->add_user(%ADA, confirmation_sent_at => $T);
$r = login({%ADA, email => 'ADA@example.com'});
like_fixture($r, 'token_password_session.json');
is $r->{framing}, 'chunked', 'a session is more than 2 KB: chunked';
is $r->{chunks}, 1, 'in one chunk, as Go writes it';
is $r->{h}{'content-type'}, 'application/json', 'no charset';
unlike $r->{body}, qr/\n/, 'no newline';
my $session = body_of($r);
is $session->{user}{id}, $user->{id}, 'the user';
$d->config(weak_password_min => 20);
my $weak = shape(slurp("$FIX/token_password_session_weak.json"));
$weak =~ s/at least 8/at least 20/;
is shape(login(\%ADA)->{body}), $weak, 'weak password on login';
$d->config(weak_password_min => 6, refresh_format => 'v2');
like_fixture(login(\%ADA), 'token_password_session_rt_v2.json');
$d->config(refresh_format => 'v1');
my $esc = '{"full_name":"Zo' . "\xc3\xab" . ' \"Z\" \u003cb\u003e\u0026\u003c/b'
    . "\\u003e \xf0\x9f\x98\x80 " . '\u2028 \\\\ /"}';
is encode(decode($esc)), $esc, 'escapes of the fixture';
like slurp("$FIX/token_password_session_escapes.json"), qr/\Q@{[substr $esc,
    1, -1]}\E/, 'which are these';

my @bearer = (Authorization => "Bearer $session->{access_token}");
my $got = shape(get('/user', @bearer)->{body});
is $got, shape(slurp("$FIX/user_get.json")), 'GET /user';
is get('/user', @bearer)->{status}, 200, 'GET /user: status';
$d->change_user($user->{id}, banned => $T);
like_fixture(get('/user', @bearer), 'err_user_banned_token.v2024.json');
like_fixture(login({%ADA, password => 'x'}), 'err_user_banned_login.v2024.json');
like_fixture(refresh($session->{refresh_token}),
    'err_refresh_user_banned.v2024.json');
$d->change_user($user->{id}, banned => 0, factors => [{id => $id,
    created_at => '2026-08-20T10:00:00.1Z', status => 'verified',
    updated_at => '2026-08-20T10:01:00.2Z', friendly_name => 'phone app',
    factor_type => 'totp', phone => '', last_challenged_at => undef}]);
(my $mfa = shape(slurp("$FIX/user_get_mfa.json")))
    =~ s/(?=confirmed_at:TIME,last)/confirmation_sent_at:TIME,/;
is shape(get('/user', @bearer)->{body}), $mfa, 'GET /user with factors';
$d->change_user($user->{id}, factors => []);

like_fixture(get('/user', Authorization => 'Basic x', apikey => $d->key('anon')),
    'err_no_authorization.v2024.json');
like_fixture(get('/user', Authorization => 'Basic x', apikey => $d->key('anon'),
    'X-Supabase-Api-Version' => undef), 'err_no_authorization.legacy.json');
like_fixture(get('/user', Authorization => 'Bearer ' . $d->key('anon')),
    'err_bad_jwt_missing_sub.v2024.json');
like_fixture(get('/user'), 'err_bad_jwt_missing_sub.v2024.json',
    'role token injected for the publishable key');
my $expired = 'Bearer ' . $d->mint($user->{id}, expires_in => -1);
like_fixture(get('/user', Authorization => $expired),
    'err_bad_jwt_expired.v2024.json');
like_fixture(get('/user', Authorization => $expired,
    'X-Supabase-Api-Version' => undef), 'err_bad_jwt_expired.legacy.json');
like_fixture(get('/user', Authorization => 'Bearer ' . $d->mint($user->{id},
    claims => {sub => $id})), 'err_user_not_found_jwt.v2024.json');
my ($forged) = $session->{access_token} =~ /(.*)\./;
is get('/user', Authorization => "Bearer $forged.AAAA")->{status}, 403,
    'forged signature';
for my $alg (qw(ES256 RS256 HS256)) {
    is get('/user', Authorization => 'Bearer ' . $d->mint($user->{id},
        alg => $alg))->{status}, 200, "$alg token";
}

# refresh: rotation, tolerated and punished reuse
my @rt = ($session->{refresh_token});
$r = refresh($rt[0]);
(my $want = shape(slurp("$FIX/token_refresh_session.json")))
    =~ s/(?=confirmed_at:TIME,last)/confirmation_sent_at:TIME,/;
is shape($r->{body}), $want, 'refresh: shape';
is $r->{h}{'sb-auth-refresh-token-reuse'}, 'false', 'refresh: header';
push @rt, body_of($r)->{refresh_token};
isnt $rt[1], $rt[0], 'rotated';
is body_of(refresh($rt[0]))->{refresh_token}, $rt[1], 'the last one again';
push @rt, body_of(refresh($rt[1]))->{refresh_token};
like_fixture(refresh($rt[0]), 'err_refresh_token_already_used.v2024.json');
like_fixture(post('/token?grant_type=refresh_token', {refresh_token => $rt[2]},
    'X-Supabase-Api-Version' => undef),
    'err_refresh_token_already_used.legacy.json');
like_fixture(refresh('nope'), 'err_refresh_token_malformed.v2024.json');
like_fixture(refresh('abcdefghij12'), 'err_refresh_token_not_found.v2024.json');
like_fixture(post('/token?grant_type=refresh_token',
    {refresh_token => 'abcdefghij12'}, 'X-Supabase-Api-Version' => undef),
    'err_refresh_token_not_found.legacy.json');
like_fixture(post('/token?grant_type=x', {}),
    'err_unsupported_grant_type.v2024.json');
like_fixture(login({}), 'err_missing_email_or_phone.v2024.json');

# logout
my ($one, $two, $three) = map { body_of(login(\%ADA)) } 1 .. 3;
my $logout = sub { post("/logout$_[1]", undef,
    Authorization => "Bearer $_[0]{access_token}") };
my $alive = sub { get('/user',
    Authorization => "Bearer $_[0]{access_token}")->{status} == 200 };
is $logout->($one, '?scope=bogus')->{status}, 400, 'logout: bad scope';
$r = $logout->($one, '?scope=local');
is "$r->{status}$r->{body}", '204', 'logout: no content';
ok !$alive->($one) && $alive->($two), 'logout: local';
like_fixture($logout->($one, ''), 'err_session_not_found.v2024.json');
like_fixture(refresh($one->{refresh_token}),
    'err_refresh_token_not_found.v2024.json');
$logout->($two, '?scope=others');
ok $alive->($two) && !$alive->($three), 'logout: others';
$logout->($two, '');
ok !$alive->($two), 'logout: global';
like_fixture(get('/user', Authorization => "Bearer $two->{access_token}",
    'X-Supabase-Api-Version' => undef), 'err_session_not_found.legacy.json');

fresh(phone_provider => 1);
$phone = $d->add_user(phone => '15551234567', password => 'abcdef');
$r = login({phone => '+15551234567', password => 'abcdef'});
is shape(get('/user', Authorization => 'Bearer ' . body_of($r)->{access_token})
    ->{body}), shape(slurp("$FIX/user_get_phone_only.json")), 'phone only';

# ---- the rest of the service and the gateway
fresh();
my @none = (apikey => undef);
my %jwks = map { shape(get('/.well-known/jwks.json', @none)->{body}) => 1 }
    1 .. 40;
is keys %jwks, 2, 'JWKS in random order';
$r = get('/.well-known/jwks.json', @none);
is_deeply [sort { $a->{alg} cmp $b->{alg} } @{body_of($r)->{keys}}],
    body_of({body => slurp("$FIX/jwks_es256_rs256.json")})->{keys}, 'JWKS';
is $r->{h}{'cache-control'}, 'public, max-age=600', 'JWKS may be kept';

# a new signing key: the old one is known until it is revoked
$user = $d->add_user(email => 'keys@example.com');
sub kids {
    return join ' ', sort map { "$_->{alg} $_->{kid}" }
        @{body_of(get('/.well-known/jwks.json', @none))->{keys}};
}
sub status_of {
    return get('/user', Authorization => "Bearer $_[0]")->{status};
}
my ($first, $before) = (kids(), $d->mint($user->{id}));
for my $alg (qw(ES256 RS256)) {
    my $kid = $d->rotate($alg);
    like kids(), qr/$alg $kid/, "$alg: a new key";
    my $after = $d->mint($user->{id}, alg => $alg);
    like decode_base64url($after =~ s/\..*//r), qr/"kid":"$kid"/, 'signs';
    is status_of($after), 200, 'and is known';
}
is status_of($before), 200, 'as the old one is';
$d->revoke_keys;
is scalar(my @kids = kids() =~ /256 /g), 2, 'revoked';
is status_of($before), 403, 'and unknown';
fresh();
is kids(), $first, 'reset';
$user = $d->add_user(email => 'keys@example.com');
like decode_base64url($d->mint($user->{id}, header => {kid => undef})
    =~ s/\..*//r), qr/^\{"alg":"ES256","typ":"JWT"\}$/, 'another header';
like_fixture(get('/health'), 'health.json');
like_fixture(get('/settings'), 'settings.json');
like_fixture(get('/nope'), 'auth_404_unknown_route.txt');
$r = get('/signup');
is "$r->{status}$r->{body}", '405', 'wrong method: empty body';
like_fixture(get('/health', @none), 'gw_hosted_no_api_key.json');
like_fixture(get('/health', apikey => 'x'), 'gw_hosted_invalid_api_key.json');
like_fixture(get('/health', apikey => $d->key('secret'),
    'User-Agent' => 'Mozilla/5.0'), 'gw_hosted_secret_key_browser_ua.json');
is login(\%ADA, Authorization => 'Bearer sb_publishable_x')->{status}, 401,
    'a new-style key is no Bearer token';
is get('/health?apikey=' . $d->key, @none)->{status}, 200, 'key in the URL';
$d->config(rate_limit => {token => 1, signup => 1});
my $from = sub { login(\%ADA, apikey => $d->key($_[0]),
    'Sb-Forwarded-For' => $_[1])->{status} };
is $from->(@$_), $_->[2], "rate limit: @$_" for
    ['secret', '192.0.2.1', 400], ['secret', '192.0.2.1', 429],
    ['secret', '2001:db8::1', 400], ['publishable', '192.0.2.9', 400],
    ['publishable', '192.0.2.8', 429];

# ---- HTTP
fresh();
$d->clear_requests;
my $key = $d->key;
my $chunked = http('POST', '/auth/v1/token?grant_type=password',
    "5\r\n{\"ema\r\nc;x=y\r\nil\":\"a\@b.c\"}\r\n0\r\nT: x\r\n\r\n",
    apikey => $key, 'Transfer-Encoding' => 'chunked');
my $health = http('GET', '/auth/v1/health', undef, apikey => $key);
$s = raw_connect($d->port);
raw_send($s, $chunked . $health . $health);
is read_answer($s)->{status}, 400, 'pipelining: first';
is read_answer($s)->{status}, 200, 'pipelining: second';
is read_answer($s)->{status}, 200, 'pipelining: third';
raw_send($s, substr $chunked, $_, 1) for 0 .. length($chunked) - 1;
is read_answer($s)->{status}, 400, 'byte by byte';
my @req = $d->requests;
is $req[0]{body}, '{"email":"a@b.c"}', 'chunks put together';
is_deeply $req[0]{json}, {email => 'a@b.c'}, 'recorded: json';
is $d->header($req[0], 'APIKEY'), $key, 'recorded: headers';
is "@{$req[0]}{qw(op method path query tls)}",
    'token POST /auth/v1/token grant_type=password 0', 'recorded: the line';
is $req[0]{connection}, $req[3]{connection}, 'recorded: one connection';
raw_send($s, http('POST', '/auth/v1/signup', '{', apikey => $key,
    Connection => 'close'));
is read_answer($s)->{h}{connection}, 'close', 'asked to close';
is raw_eof($s), 'eof', 'closed';
$s = raw_connect($d->port);
raw_send($s, http('POST', '/auth/v1/signup', undef, apikey => $key,
    Expect => '100-continue', 'Content-Length' => 2));
is read_answer($s)->{status}, 100, '100 Continue';
raw_send($s, '{}');
is read_answer($s)->{status}, 422, 'and the answer';
for (["GET /auth/v1/health HTTP/1.1\r\n\r\n", 400, 'no Host'],
    ["GET /auth/v1/health HTTP/1.1\nHost: x\n\n", 400, 'bare LF'],
    ["\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400, 'TLS on a plain port'],
    [http('POST', '/', '', 'Content-Length' => '1x'), 400, 'bad length'],
    [http('POST', '/', undef, 'Transfer-Encoding' => 'gzip'), 501, 'coding'],
    [http('POST', '/', "x\r\n", 'Transfer-Encoding' => 'chunked'), 400,
        'bad chunk']) {
    my ($bytes, $status, $name) = @$_;
    is request($d->port, $bytes)->{status}, $status, "refused: $name";
}
$s = raw_connect($d->port);
raw_send($s, "POST /auth/v1/token?grant_type=password HTTP/1.0\r\n"
    . "apikey: $key\r\nContent-Length: 2\r\n\r\n{}");
is read_answer($s)->{status}, 400, 'HTTP/1.0';
is raw_eof($s), 'eof', 'HTTP/1.0: closed';
is get('/health', Host => 'x')->{status}, 200, 'still well';
is request($d->port, http('GET', 'http://supabase.test/auth/v1/health', undef,
    apikey => $key))->{status}, 200, 'as a proxy';

# ---- TLS
require IO::Socket::SSL;
my $tls = sub {
    my ($which, %opt) = @_;
    my $name = $which ? "https_$which" : 'https';
    return raw_connect($d->port($name), tls => {SSL_ca_file => $d->ca_file,
        SSL_verifycn_name => '127.0.0.1', SSL_verifycn_scheme => 'http',
        SSL_hostname => 'localhost', %opt});
};
$s = $tls->('');
ok $s, 'TLS: good certificate' or diag $IO::Socket::SSL::SSL_ERROR;
raw_send($s, $health . $health);
is read_answer($s)->{status}, 200, "TLS: answer $_" for 1, 2;
ok $tls->('', SSL_verifycn_name => 'localhost'), 'TLS: for localhost, too';
for (['wrong_name', qr/hostname verification/], ['unknown_ca',
    qr/certificate verify failed/], ['expired', qr/certificate verify failed/]) {
    ok !$tls->($_->[0]), "TLS: $_->[0] fails";
    like $IO::Socket::SSL::SSL_ERROR, $_->[1], "TLS: $_->[0] for that reason";
    my $blind = $tls->($_->[0], SSL_verify_mode => 0);
    raw_send($blind, $health);
    is read_answer($blind)->{status}, 200, "TLS: $_->[0] without checking";
}
ok !$tls->('expired', SSL_verifycn_name => 'localhost'), 'TLS: expired';
like $IO::Socket::SSL::SSL_ERROR, qr/verify failed/, 'TLS: expired';

# ---- many at once, load, restart
fresh(reuse_tokens => $T);
$d->add_user(%ADA);
is login(\%ADA)->{body}, login(\%ADA)->{body}, 'the same session bytes';
$d->fault(op => 'token', kind => 'delay', ms => 300, times => -1);
my $bytes = http('POST', '/auth/v1/token?grant_type=password',
    JSON::PP->new->encode(\%ADA), apikey => $key);
my @many = map { raw_connect($d->port) } 1 .. 300;
raw_send($_, $bytes) for @many;
is scalar(grep { (read_answer($_) || {status => 0})->{status} == 200 } @many),
    300, '300 concurrent logins';
cmp_ok $d->stats->{open}, '>=', 300, 'all of them open';
@many = ();

my %before = map { $_->{id} => $_->{email} } $d->users;
my $old_port = $d->port;
$s = raw_connect($old_port);
raw_send($s, $health);
is read_answer($s)->{status}, 200, 'before the restart';
$d->down;
is raw_eof($s), 'eof', 'down: connections are gone';
ok !raw_connect($old_port), 'down: refused';
$d->up;
is $d->port, $old_port, 'up: the same port';
is_deeply {map { $_->{id} => $_->{email} } $d->users}, \%before,
    'up: the same users';
is login(\%ADA)->{status}, 200, 'up: logs in';
my $attached = UserSync::Double->attach(ready_file => "$dir/double/ready.json");
is_deeply [$attached->users], [$d->users], 'attach';

# ---- nobody left behind
my $child = fork // die "fork: $!";
if (!$child) {
    my $orphan = UserSync::Double->start(dir => "$dir/orphan");
    POSIX::_exit(0);
}
waitpid $child, 0;
ok -e "$dir/orphan/ready.json", 'a double whose parent is gone';
my $until = time + 10;
sleep 0.02 while -e "$dir/orphan/ready.json" && time < $until;
ok !-e "$dir/orphan/ready.json", 'ends';
my $failed = eval {
    UserSync::Double->start(dir => "$dir/bad", config => {nonsense => 1}); 1 };
ok !$failed, 'a bad option is fatal';
like $@, qr/nonsense/, 'and says so';

is $d->stderr, '', 'nothing on stderr';
$d->stop;
ok !-e "$dir/double/ready.json", 'stopped';
done_testing;
