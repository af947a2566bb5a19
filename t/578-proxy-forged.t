# A browser chooses where Supabase sends it, and could write the token of
# somebody else there: only the session that Supabase appends makes a row.

use UserSync::Proxied;
use UserSync::Test;

my $httpd = proxied_server('app')->start;
my $SITE = 'http://127.0.0.1:3000';
my $FORGED = new_id();
my $TOKEN = 'access_token=' . token_for(sub => $FORGED,
    email => 'forged@example.com', iat => 1787217302);

double->config(providers => {
    github => { sub => 'g-1', email => 'gus@example.com' } });

sub escaped { return $_[0] =~ s/(\W)/sprintf '%%%02X', ord $1/ger }

# The answer to the link of a mail that has been sent to the user, or to a link
# that does not work.
sub follow_link {
    my ($to, $user) = @_;
    ask($httpd, POST => '/magiclink', { email => $user->{email} }) if $user;
    my $token = $user ? double->otp($user->{email})->{hash} : 'x';
    return ask($httpd, GET => "/verify?type=magiclink&token=$token"
        . '&redirect_to=' . escaped("$SITE$to"));
}

# The answer to a sign-in at a provider, with PKCE.
sub use_provider {
    my ($to) = @_;
    my $there = ask($httpd, GET => '/authorize?provider=github'
        . '&code_challenge=' . UserSync::Proxied::challenge_of('v' x 50)
        . '&code_challenge_method=s256&redirect_to=' . escaped("$SITE$to"));
    my $back = request(GET => $there->{headers}{location});
    return ask($httpd, GET => $back->{headers}{location}
        =~ s{.*?/auth/v1/}{/}r);
}

sub location_of { return $_[0]{headers}{location} || '' }

sub nobody_ok {
    my ($response, $status, $location, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is_deeply [$response->{status}, outcome($httpd)],
        [$status, undef, undef], "$name: nobody" or diag show($response);
    like location_of($response), $location, "$name: as it is";
    ok !has_row($FORGED), 'and the token makes no row';
}

my $ERROR = qr/#error=access_denied&error_code=otp_expired&/;

subtest 'a link that does not work' => sub {
    nobody_ok follow_link("/?$TOKEN"), 303, qr{/\?access_token=.*$ERROR},
        'in the query';
    nobody_ok follow_link("/#$TOKEN"), 303, qr{3000/$ERROR},
        'in the fragment';
};

subtest 'a code' => sub {
    nobody_ok use_provider("/?$TOKEN"), 302, qr{access_token=.*&code=},
        'in the query';
    nobody_ok use_provider('/#/welcome'), 302, qr{\?code=[^&]*#/welcome$},
        'the fragment of the site';
    $httpd->expect_log(
        qr/usersync-response: upstream_bad_answer.*the redirect has a code/);
    my $response = use_provider("/#$TOKEN");
    is $response->{status}, 302, 'in the fragment';
    like location_of($response), qr{
        ^\Q$SITE\E/\?code=[^&\#]+\#error=server_error
        &error_code=upstream_bad_answer&error_description=[^&]+&sb=$}x,
        'it does not go out';
    is_deeply [outcome($httpd)], ['upstream_bad_answer', undef],
        'and nobody has signed in';
    ok !has_row($FORGED), 'so it makes no row';
};

subtest 'a session' => sub {
    for my $to ("/?$TOKEN", "/#$TOKEN", "/?$TOKEN#$TOKEN", '/#/welcome') {
        my $user = double->add_user(email => new_id() . '@example.com',
            password => 'correct horse');
        my $response = follow_link($to, $user);
        is_deeply [$response->{status}, outcome($httpd),
            has_row($user->{id}), has_row($FORGED)],
            [303, 'ok', $user->{id}, 1, 0],
            'the user of the link, by way of ' . substr $to, 0, 20
            or diag show($response);
        is substr(location_of($response), 0, length "$SITE$to#"), "$SITE$to#",
            'where they wanted to go';
    }
};

done_testing;
