#!/usr/bin/perl
# How the double calls the project's hooks, and what it makes of their answers,
# beside what the real server was seen to send and to answer
# (t/fixtures/supabase/hooks).
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib", "$FindBin::RealBin/../lib";
use Digest::SHA qw(hmac_sha256_base64);
use File::Temp qw(tempdir);
use JSON::PP ();
use MIME::Base64 qw(decode_base64 decode_base64url);
use Test::More;
use Time::HiRes qw(time);
use AuthDouble::HookServer;
use AuthDouble::Json ();
use AuthDouble::SelfTest qw(shape raw_connect raw_send http request read_answer
    slurp);
use UserSync::Double;

my $SEEN = "$FindBin::RealBin/../fixtures/supabase/hooks";
my $KEY = 'MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=';
my $SECOND = 'YW5vdGhlciBzZWNyZXQgb2YgdGhlIHRlc3RzIG9ubHkh';
my $dir = tempdir(CLEANUP => 1);
my $server = AuthDouble::HookServer->start("$dir/hooks");
my $d = UserSync::Double->start(dir => "$dir/double");
my ($T, $F) = (JSON::PP::true(), JSON::PP::false());
my $UTF8 = JSON::PP->new->utf8;
my %ADA = (email => 'ada@example.com', password => 'correct horse');
my $JSON = [['Content-Type', 'application/json']];

sub bytes_of {
    my ($path, $data, %h) = @_;
    return http('POST', "/auth/v1$path", ref $data ? $UTF8->encode($data)
        : $data, apikey => $d->key, 'Content-Type' => 'application/json',
        'X-Supabase-Api-Version' => '2024-01-01', %h);
}
sub post { return request($d->port, bytes_of(@_)) }
sub login { return post('/token?grant_type=password', {%ADA, @_}) }
sub refresh {
    return post('/token?grant_type=refresh_token', {refresh_token => $_[0]});
}
sub body_of { return $UTF8->decode($_[0]{body}) }
sub claims_text { return decode_base64url((split /\./, $_[0])[1]) }

# a fresh double with these hooks at the server, over http or https
sub fresh {
    my ($hooks, %config) = @_;
    my $hook = {uri => $server->uri($config{scheme}),
        ca_file => $server->ca_file, secrets => "v1,whsec_$KEY",
        %{delete $config{hook} || {}}};
    delete $config{scheme};
    $server->forget;
    $d->reset;
    # the machine may be too busy for the real 5 seconds
    $d->config(issuer => 'http://127.0.0.1:45545/auth/v1', hook_timeout => 60,
        %config,
        hooks => {map { $_ => $hook } @$hooks});
    return;
}
is $d->config->{hook_timeout}, 5, 'the time that a hook has';
is $d->config->{hook_backoff}, 2, 'and a pause';
my @TOKEN = ['custom_access_token'];
my @USER = [qw(before_user_created after_user_created)];

# ---- what the real server sends
sub signature {
    my ($key, $id, $time, $body) = @_;
    my $mac = hmac_sha256_base64("$id.$time.$body", decode_base64($key));
    return 'v1,' . $mac . '=' x (-length($mac) % 4);
}

# {head => [[name, value]...], body} as captured
sub seen {
    my ($name) = @_;
    return {body => slurp("$SEEN/$name.request.body"), headers => [
        map { [split /: /, $_, 2] } split /\n/,
        slurp("$SEEN/$name.request.headers")]};
}

sub header {
    my ($request, $name) = @_;
    my ($found) = grep { lc $_->[0] eq lc $name } @{$request->{headers}};
    return $found ? $found->[1] : undef;
}

for my $name (qw(token_signup token_password token_refresh token_anonymous
    token_magiclink created_signup-1 created_signup-2)) {
    my $seen = seen($name);
    is header($seen, 'Webhook-Signature'), signature($KEY, map({
        header($seen, "Webhook-$_") } qw(Id Timestamp)), $seen->{body}),
        "the capture $name is signed with this secret";
}

# like_seen($request, $capture): the same headers in the same order, the same
# members in the same order with the same types and constants
sub like_seen {
    my ($request, $name) = @_;
    my $seen = seen($name);
    is join(' ', map { $_->[0] } @{$request->{headers}}),
        join(' ', map { $_->[0] } @{$seen->{headers}}), "$name: headers";
    for (qw(User-Agent Accept-Encoding Content-Type)) {
        is header($request, $_), header($seen, $_), "$name: $_";
    }
    is header($request, 'Content-Length'), length $request->{body},
        "$name: length";
    is header($request, 'Webhook-Signature'), signature($KEY, map({
        header($request, "Webhook-$_") } qw(Id Timestamp)), $request->{body}),
        "$name: signature";
    is shape($request->{body}), shape($seen->{body}), "$name: body";
    return;
}

sub signup_ada {
    # JSON::PP has no numbers like this
    my $body = $UTF8->encode({%ADA, data =>
        {full_name => "Ada <&> \x{d6}", n => 'N'}});
    $body =~ s/"N"/1e21/;
    return post('/signup', $body, @_);
}

for my $scheme (qw(http https)) {
    fresh(@TOKEN, scheme => $scheme, anonymous => $T);
    my $r = signup_ada();
    is $r->{status}, 200, "$scheme: sign-up" or diag $r->{body};
    $r = login();
    my $session = body_of($r);
    $r = refresh($session->{refresh_token});
    is $r->{status}, 200, "$scheme: refresh";
    is post('/signup', {})->{status}, 200, "$scheme: anonymous";
    post('/magiclink', {email => $ADA{email}});
    is post('/verify', {type => 'magiclink', token_hash =>
        $d->otp($ADA{email})->{hash}})->{status}, 200, "$scheme: magic link";
    my @asked = $server->requests;
    like_seen($asked[$_], (qw(token_signup token_password token_refresh
        token_anonymous token_magiclink))[$_]) for 0 .. 4;
    my ($first, $second) = map { $_->{claims} }
        map { body_of($_) } @asked[1, 2];
    is $session->{access_token} =~ s/^.*?\.(.*)\..*$/$1/r,
        MIME::Base64::encode_base64url(AuthDouble::Json::slice(
        $asked[1]{body}, 'claims')), "$scheme: these claims, byte for byte";
    is $first->{session_id}, $second->{session_id}, 'the session goes on';
    is $asked[0]{tls}, $scheme eq 'https' ? 1 : 0, $scheme;
    is $asked[3]{connection}, $asked[0]{connection},
        "$scheme: on one connection";
    isnt header($asked[1], 'Webhook-Id'), header($asked[0], 'Webhook-Id'),
        'each with an id';

    fresh(@USER, scheme => $scheme, autoconfirm => 0);
    $r = post('/signup', {email => 'cyd@example.com', password => 'horse 123',
        data => {full_name => 'Cyd'}});
    is $r->{status}, 200, "$scheme: sign-up with a mail" or diag $r->{body};
    @asked = $server->requests;
    is @asked, 2, 'two calls';
    like_seen($asked[$_ - 1], "created_signup-$_") for 1, 2;
    my ($before, $after) = map { body_of($_)->{user} } @asked;
    is $before->{created_at}, '0001-01-01T00:00:00Z', 'not created yet';
    is $before->{id}, $after->{id}, 'the id that it gets';
    is $after->{id}, body_of($r)->{id}, 'the answer has it, too';
}

# ---- details of a request
fresh(@TOKEN, hook => {secrets => "v1,whsec_$KEY|v1,whsec_$SECOND"});
$d->add_user(%ADA);
is login()->{status}, 200, 'two secrets';
my ($asked) = $server->requests;
is header($asked, 'Webhook-Signature'), join(', ', map { signature($_,
    map({ header($asked, "Webhook-$_") } qw(Id Timestamp)), $asked->{body}) }
    $KEY, $SECOND), 'two signatures, a comma and a blank between';
is_deeply body_of($asked)->{claims}{aud}, ['authenticated'],
    'before the first token, golang-jwt writes a list';
login();
is body_of(($server->requests)[1])->{claims}{aud}, 'authenticated',
    'and then a string';
is body_of(($server->requests)[1])->{metadata}{ip_address}, '127.0.0.1',
    'the address of the peer';
post('/token?grant_type=password', \%ADA, apikey => $d->key('secret'),
    'Sb-Forwarded-For' => '192.0.2.7');
post('/token?grant_type=password', \%ADA, 'X-Forwarded-For' => '2001:db8::7');
is join(' ', map { body_of($_)->{metadata}{ip_address} }
    ($server->requests)[2, 3]), '192.0.2.7 2001:db8::7', 'of the user';
fresh(@TOKEN, hook => {secrets => 'v1a,whpk_x'});
$d->add_user(%ADA);
is body_of(login())->{code}, 'unexpected_failure', 'no such signatures';
is scalar($server->requests), 0, 'nothing sent';
ok !eval { $d->config(hooks => {send_email => {uri => $server->uri}}); 1 },
    'no other hook is called';

# the claims that come back are those of the token, as they are written
fresh(@TOKEN);
my $user = $d->add_user(%ADA);
my $odd = '{"z":1.50, "sub":"s","aud":["a","b"],"exp":17959012950,"iat":1,'
    . '"email":"","phone":"","role":"r","aal":"aal1","session_id":"x",'
    . '"is_anonymous":false ,"big":123456789012345678901234567890,'
    . '"z":"\u00e9"}';
$server->answer({body => qq({"other":[1,{"claims":2}], "claims" : $odd })});
is claims_text(body_of(login())->{access_token}), $odd, 'claims as written';
$d->config(hook_claims => 'sorted');
$server->answer({claims => '{"sub":"s","exp":1,"iat":1,"email":"","phone":"",'
    . '"role":"r","aal":"aal1","session_id":"x","is_anonymous":false,'
    . '"aud":"a"}'});
is claims_text(body_of(login())->{access_token}), '{"aal":"aal1","aud":"a",'
    . '"email":"","exp":1,"iat":1,"is_anonymous":false,"phone":"","role":"r",'
    . '"session_id":"x","sub":"s"}', 'or as the real server writes them';

# ---- what comes of the answers
# like_answer($answer, $capture): status, body, and the headers that matter
sub like_answer {
    my ($r, $name) = @_;
    my ($status, @lines) = split /\r?\n/, slurp("$SEEN/$name.answer");
    my $body = pop @lines;
    my $names = sub { join ' ', sort grep { /^(?:x-s|sb-)/ } map { lc } @_ };
    is $r->{status}, $status, "$name: status";
    is $r->{body}, $body, "$name: body";
    is $names->(map { $_->[0] } @{$r->{headers}}),
        $names->(map { /^([^:]+): / ? $1 : () } @lines), "$name: headers";
    return;
}

# how often the server was asked since the last time
sub tries { my $n = () = $server->requests; $server->forget; return $n }

my $AWAY = 'The user database is not available: try again later.';
my %REFUSE = (error => {http_code => 503, message => $AWAY});
fresh(@TOKEN);
$d->add_user(%ADA);
for my $case (
    [503 => \%REFUSE],
    [403 => {error => {http_code => 403, message => 'no'}}],
    [429 => {error => {http_code => 429, message => 'slow down'}}],
    [500 => {error => {http_code => 500, message => 'refused'}}],
    [500 => {error => {http_code => 0, message => 'refused'}}],
    [500 => {error => {message => 'refused'}}],
    [plain503 => {status => 503}],
    [plain503 => {status => 429}],
    [plain503retry => {status => 503, headers => [['Retry-After', 1]]}, 3],
    [plain503retry => {status => 429, headers => [['Retry-After', 0]]}, 3],
    [plain401 => {status => 401}],
    [plain204 => {status => 204}],
    [noclaims => {body => '{}'}],
    [noclaims => {body => 'null'}],
    [claimsnull => {claims => 'null'}]) {
    my ($name, $answer, $tries) = @$case;
    $tries //= 1;
    $server->answer(($answer) x $tries, {error => {message => 'too often'}});
    my $r = login();
    my @asked = $server->requests;
    like_answer($r, "password_hook_$name");
    is tries(), $tries, "$name: $tries";
    my %ids = map { $_ => 1 } map { header($_, 'Webhook-Id'),
        header($_, 'Webhook-Signature') } @asked;
    is keys %ids, 2 * $tries, "$name: each with its own id";
    is scalar(keys %{{map { $_->{body} => 1 } @asked}}), 1,
        "$name: the same body";
}
$server->answer(({status => 503, headers => [['Retry-After', 1]]}) x 2);
is login()->{status}, 200, 'the third try is good';
is tries(), 3, 'three tries';

# the hook may refuse with any status, and without a text it allows
for my $case ([{http_code => 403, message => ''}, 500, 'claims field'],
    [{http_code => 'x', message => 'm'}, 500, 'claims field'],
    [{http_code => 418, message => 'tea'}, 418, 'tea'],
    [{http_code => 99, message => 'm'}, 500, 'Internal Server Error'],
    [{Message => 'M', HTTP_code => 404}, 404, 'M']) {
    my ($error, $status, $text) = @$case;
    $server->answer({body => JSON::PP->new->encode({error => $error})});
    my $r = login();
    is $r->{status}, $status, "refused with $status";
    like body_of($r)->{message}, qr/$text/, "and: $text";
}
fresh([qw(before_user_created custom_access_token)]);
$server->answer({body => '{"error":{"http_code":403,"message":""}}'});
is signup_ada()->{status}, 200, 'without a text a new user is allowed';
for my $case (
    [{body => '<html>', headers => [['Content-Type', 'text/html']]}, 400,
        'hook_payload_invalid_content_type', qr/: text\/html$/],
    [{body => '{}', headers => []}, 400,
        'hook_payload_invalid_content_type', qr/^Invalid Content-Type: M/],
    [{body => '{"claims"', }, 500, 'unexpected_failure',
        qr/^Error unmarshaling JSON output\.$/],
    [{body => '[]'}, 500, 'unexpected_failure', qr/^Error unmarshaling/],
    [{body => '{"claims":[]}'}, 500, 'unexpected_failure',
        qr/^Error unmarshaling/],
    [{body => '{"claims":{"aud":1}}'}, 500, 'unexpected_failure',
        qr/exp is required\n.*aud: Invalid type. Expected: \[string,array\]/s],
    [{body => '"' . 'x' x (200 * 1024) . '"'}, 422,
        'hook_payload_over_size_limit', qr/limit of 204800 bytes$/],
    [{status => 400}, 500, 'unexpected_failure',
        qr/^Invalid payload sent to hook$/],
    [{status => 302, headers => [['Location', '/x']]}, 500,
        'unexpected_failure', qr/^Unexpected status code .* hook: 302$/],
    [{status => 500}, 500, 'unexpected_failure', qr/hook: 500$/],
    [{status => 403, body => '{}', headers => $JSON}, 500,
        'unexpected_failure', qr/hook: 403$/]) {
    my ($answer, $status, $code, $text) = @$case;
    $server->forget;
    $server->answer($answer);
    my $r = login();
    my $said = body_of($r);
    is "$r->{status} $said->{code}", "$status $code", "$status $code";
    like $said->{message}, $text, "$status: $text";
    is tries(), 1, 'once';
}
$server->answer({body => '{"x":"' . 'y' x (200 * 1024 - 8) . '"}'});
like body_of(login())->{message}, qr/claims field/, '200 KiB may be read';
for my $type ('application/json; charset=utf-8', 'Application/JSON') {
    $server->answer({body => '{}', headers => [['Content-Type', $type]]});
    like body_of(login())->{message}, qr/claims field/, $type;
}
$server->answer({status => 202});
is login()->{status}, 200, 'a 202 is as good';

# ---- nobody answers
$server->forget;
$d->config(hook_timeout => 1.5);
$server->answer({hold => 1}, {close => 1}, {hold => 1});
my $from = time;
my $r = login();
is "$r->{status} $r->{body}", '422 {"code":"hook_timeout","message":"Failed to '
    . 'reach hook within maximum time of 1.500000 seconds"}', 'in vain';
cmp_ok time - $from, '>=', 1.5, 'for as long as it may take';
ok $server->wait_for(1, 'gone'), 'and the connection is given up';
is tries(), 1, 'one try took all the time';
$d->config(hook_timeout => 60, hook_backoff => 0.1);
$server->answer(({close => 1}) x 3);
$from = time;
$r = login();
is "$r->{status} $r->{body}", '422 {"code":"hook_timeout_after_retry",'
    . '"message":"Failed to reach hook after maximum retries"}', 'closed';
cmp_ok time - $from, '>=', 0.2, 'after a pause before each other try';
is tries(), 3, 'three tries';
$server->answer({close => 1}, {close => 1});
is login()->{status}, 200, 'the third gets through';
$d->config(hook_timeout => 2, hook_backoff => 1.2);
$server->forget;
$server->answer(({close => 1}) x 3);
is body_of(login())->{code}, 'hook_timeout', 'no time for a third try';
is tries(), 2, 'two tries';
$d->config(hook_timeout => 60);
$server->answer({part => 1, body => '{"claims":{}}'});
$r = login();
is "$r->{status} " . body_of($r)->{message}, '500 error generating jwt token',
    'half an answer';
$server->forget;
$d->config(hook_backoff => 0,
    hooks => {custom_access_token => {uri => 'http://127.0.0.1:'
    . UserSync::Util::reserve_port() . '/'}});
is body_of(login())->{code}, 'hook_timeout_after_retry', 'nobody listens';
for my $bad ($d->ca_file, undef) {
    $d->config(hooks => {custom_access_token => {uri => $server->uri('https'),
        secrets => "v1,whsec_$KEY", ($bad ? (ca_file => $bad) : ())}});
    is body_of(login())->{code}, 'hook_timeout_after_retry', 'not trusted';
}
is tries(), 0, 'and not asked';

# connections that the server has ended while they were idle are no failure
for my $scheme (qw(http https)) {
    fresh(@TOKEN, scheme => $scheme);
    $d->add_user(%ADA);
    is login()->{status}, 200, "$scheme: a connection";
    $server->hang_up;
    is login()->{status}, 200, "$scheme: another one";
    $server->answer({headers => [@$JSON, ['Connection', 'close']]});
    is login()->{status}, 200, "$scheme: closed with the answer";
    is login()->{status}, 200, "$scheme: and a third";
    my @on = map { $_->{connection} } $server->requests;
    is_deeply [map { $on[$_] != $on[$_ - 1] } 1 .. 3], ['1', '', '1'],
        "$scheme: three connections for four requests, without a pause";
}

# ---- what a refusal leaves
fresh(@TOKEN, anonymous => $T);
$server->answer(\%REFUSE);
like_answer(signup_ada(), 'signup_hook_503');
my ($account) = $d->users;
ok $account->{email_confirmed_at}, 'the account is there';
ok !$account->{last_sign_in_at}, 'but nobody has signed in';
is scalar(my @issued = $d->issued), 0, 'no token';
$r = login();
is $r->{status}, 200, 'the next login is a success';
my $old = body_of($r)->{refresh_token};
my $new;
for my $format ('new', 'old') {
    my $token = $format eq 'new' ? $old : $new->{parent};
    $server->answer({error => {http_code => 503, message =>
        $format eq 'new' ? 'x' : $AWAY}});
    like_answer(refresh($token), $format eq 'new' ? 'refresh_hook_503'
        : 'refresh_old_hook_503');
    $r = refresh($token);
    if ($format eq 'new') {
        is $r->{status}, 200, 'the same token works';
        is $r->{h}{'sb-auth-refresh-token-reuse'}, 'false', 'as a new one';
        $new = {parent => $token, token => body_of($r)->{refresh_token}};
    }
    else {
        is body_of($r)->{refresh_token}, $new->{token},
            'the parent leads to the same token';
    }
}
$server->answer(\%REFUSE);
$r = post('/signup', {});
like_answer($r, 'anonymous_hook_503');
is scalar(grep { $_->{is_anonymous} } $d->users), 0, 'no anonymous user';

fresh(@USER, autoconfirm => 0);
$server->answer(\%REFUSE);
is signup_ada()->{status}, 503, 'before_user_created refuses';
is scalar(my @nobody = $d->users), 0, 'nobody is created';
my $never = body_of(($server->requests)[0])->{user}{id};
is signup_ada()->{status}, 200, 'the next time it does not';
my @ids = map { $_->{id} } $d->users;
isnt $ids[0], $never, 'and the id is another one';
is scalar($server->requests), 3, 'after_user_created was asked, too';
$server->forget;
is signup_ada()->{status}, 200, 'again: the mail is sent again';
is join(' ', map { body_of($_)->{metadata}{name} } $server->requests),
    'after-user-created', 'and only the second hook is asked';
$server->answer({}, {status => 500});
$r = post('/signup', {%ADA, email => 'bea@example.com'});
is "$r->{status} $r->{body}", '500 {"code":"unexpected_failure",'
    . '"message":"Error invoking hook"}', 'after_user_created fails';
is scalar(my @both = $d->users), 2, 'although the account exists';
fresh(@USER, autoconfirm => 1, anonymous => $T);
is signup_ada()->{status}, 200, 'auto-confirm';
is join(' ', keys %{$d->hook_stats}), 'before_user_created',
    'without after_user_created';
$server->answer(\%REFUSE);
is post('/signup', {})->{status}, 503, 'an anonymous user is refused before';
for my $case ([{status => 204}, 200], [{body => '{}'}, 200],
    [{error => {http_code => -1, message => 'm'}}, 500],
    [{error => {http_code => 409, message => 'm'}}, 409],
    [{body => 'x'}, 500], [{status => 403}, 500]) {
    my ($answer, $status) = @$case;
    $server->answer($answer);
    is post('/signup', {%ADA, email => rand . '@example.com'})->{status},
        $status, "before_user_created: $status";
}

# a race: both have been looked up before one is stored
fresh(@USER, autoconfirm => 1);
$server->answer({hold => 1}, {hold => 1});
my @racers = map { raw_connect($d->port) } 1, 2;
raw_send($_, bytes_of('/signup', \%ADA)) for @racers;
ok $server->wait_for(2), 'two at the same time';
$server->release;
is join(' ', sort map { read_answer($_)->{status} } @racers), '200 500',
    'one is first';
fresh(@USER, autoconfirm => 1, signup_together => 2);
@racers = map { raw_connect($d->port) } 1, 2;
raw_send($_, bytes_of('/signup', \%ADA)) for @racers;
is join(' ', sort map { read_answer($_)->{status} } @racers), '200 500',
    'and when the double makes the race';

# ---- many at once, and nothing blocks
fresh(@TOKEN);
my @many = map { $d->add_user(%ADA, email => "u$_\@example.com") } 1 .. 200;
$server->answer(({hold => 1}) x 200);
my @sockets = map {
    my $s = raw_connect($d->port);
    raw_send($s, bytes_of('/token?grant_type=password',
        {%ADA, email => $_->{email}}));
    $s;
} @many;
ok $server->wait_for(200), '200 calls at the same time';
is request($d->port, http('GET', '/auth/v1/health', undef,
    apikey => $d->key))->{status}, 200, 'others are served';
is scalar(my @none = $d->issued), 0, 'no token yet';
$server->release;
is scalar(grep { (read_answer($_) || {status => 0})->{status} == 200 }
    @sockets), 200, 'all get their tokens';
is_deeply [sort map { $_->{sub} } $d->issued], [sort map { $_->{id} } @many],
    'which were issued to these users';
is scalar(keys %{{map { $_->{session_id} => 1 } $d->issued}}), 200,
    'each in a session';
is_deeply $d->hook_stats, {custom_access_token => {calls => 200, tries => 200,
    answers => {allowed => 200}}}, 'counted';

# one refresh of a session at a time
my $token = body_of(login(email => 'u1@example.com'))->{refresh_token};
$server->forget;
$server->answer({hold => 1});
my @twice = map { raw_connect($d->port) } 1, 2;
raw_send($twice[0], bytes_of('/token?grant_type=refresh_token',
    {refresh_token => $token}));
ok $server->wait_for(1), 'a refresh waits for the hook';
$d->config(refresh_wait => 0.1);
$r = refresh($token);
is "$r->{status} " . body_of($r)->{code}, '409 conflict', 'another one waits';
$d->config(refresh_wait => 30);
raw_send($twice[1], bytes_of('/token?grant_type=refresh_token',
    {refresh_token => $token}));
ok $d->wait_requests('token', 204), 'arrived';
$server->release;
my @tokens = map { body_of(read_answer($_))->{refresh_token} } @twice;
is $tokens[1], $tokens[0], 'and gets the same token';

# a client that leaves: the hook is left, too, and nothing has happened
$server->forget;
$server->answer({hold => 1});
my $s = raw_connect($d->port);
raw_send($s, bytes_of('/token?grant_type=refresh_token',
    {refresh_token => $tokens[0]}));
ok $server->wait_for(1), 'asked';
close $s;
ok $server->wait_for(1, 'gone'), 'the call ends with the client';
is refresh($tokens[0])->{h}{'sb-auth-refresh-token-reuse'}, 'false',
    'its refresh token is as good as new';

# what is on its way at a reset comes to nothing
$server->forget;
$server->answer({hold => 1});
$s = raw_connect($d->port);
raw_send($s, bytes_of('/token?grant_type=password',
    {%ADA, email => 'u1@example.com'}));
ok $server->wait_for(1), 'asked before a reset';
$d->reset;
$server->release;
is read_answer($s)->{status}, 500, 'an answer';
is scalar(@issued = $d->issued), 0, 'but no token';

# faults and an end in the middle
fresh(@TOKEN);
$d->add_user(%ADA);
$d->fault(op => 'token', kind => 'close_after_commit');
$s = raw_connect($d->port);
raw_send($s, bytes_of('/token?grant_type=password', \%ADA));
is read_answer($s), undef, 'a fault after the commit';
is scalar(@issued = $d->issued), 1, 'which comes after the hook';
$d->fault(op => 'token', kind => 'cut', bytes => 5);
$s = raw_connect($d->port);
raw_send($s, bytes_of('/token?grant_type=password', \%ADA));
is read_answer($s), undef, 'a fault of the answer';
my $before = time;
login();
cmp_ok +($d->issued)[-1]{time}, '>', $before, 'the time of a token, exactly';
$token = body_of(login())->{refresh_token};
$server->forget;
$server->answer({hold => 1});
$s = raw_connect($d->port);
raw_send($s, bytes_of('/token?grant_type=refresh_token',
    {refresh_token => $token}));
ok $server->wait_for(1), 'the double ends in the middle of a refresh';
@issued = map { $_->{session_id} } $d->issued;
$d->restart;
is_deeply [map { $_->{session_id} } $d->issued], \@issued,
    'it knows the tokens of before';
is read_answer($s), undef, 'no answer';
is refresh($token)->{h}{'sb-auth-refresh-token-reuse'}, 'false',
    'and nothing has happened';

is $d->stderr, '', 'nothing on stderr';
$d->stop;
$server->stop;
done_testing;
