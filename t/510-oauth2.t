# conf/usersync-oauth2.conf as shipped, with Debian's mod_oauth2: a user with a
# valid Supabase token has a row before the application is asked, and nobody
# else gets through.

use UserSync::Tables qw(person);
use UserSync::Test;
use UserSync::Tokens;

use Digest::SHA qw(hmac_sha256);

my @module = (module => 'oauth2', type => 'oauth2', url => double->url);
my $secret = qq{OAuth2TokenVerify plain "${\ hs256_secret }" }
    . '${USERSYNC_TOKEN_OPTIONS}';
my %no_jwks = (USERSYNC_NO_JWKS => '');
# Locations of another application, whose verdicts are cached.
my $other = <<'CONF';
<Location "/other/NUMBER">
    AuthType oauth2
    OAuth2TokenVerify plain another-secret-for-another-application
    Require valid-user
</Location>
CONF
my $front = front(@module, config => $other =~ s/NUMBER/1/r,
    more => $other =~ s/NUMBER/2/r);

gate_tests($front, @module);
secret_tests($secret, @module);

subtest 'the verdict of another location' => sub {
    for my $number (1, 2) {
        my $person = person();
        my $foreign = same_claims(token($person), { alg => 'HS256' },
            sub { hmac_sha256($_[0], 'another-secret-for-another-application') });
        my ($there) = ask($front, $foreign, "/other/$number");
        is $there->{status}, 404, 'good there';
        stopped_ok $front, $foreign, 'no good here';
        my $good = token($person);
        passes_ok $front, $good, $person, 'good here';
        ($there) = ask($front, $good, "/other/$number");
        is $there->{status}, 401, 'no good there';
    }
};

subtest 'keys that are not fetched' => sub {
    my @lines = map {
        my $jwk = UserSync::HTTP::encode_json($_) =~ s/"/\\"/gr;
        qq{OAuth2TokenVerify jwk "$jwk" } . '${USERSYNC_TOKEN_OPTIONS}';
    } public_keys();
    my $pinned = front(@module, define => { %no_jwks,
        USERSYNC_TOKEN_KEYS => key_file(@lines) });
    my %bad = bad_tokens(person());
    double->clear_requests;
    for my $alg (qw(ES256 RS256)) {
        my $person = person();
        passes_ok $pinned, token($person, alg => $alg), $person, $alg;
    }
    stopped_ok $pinned, $bad{$_}, $_ for sort keys %bad;
    is scalar(my @fetched = double->requests('jwks')), 0, 'none is fetched';
};

subtest 'another server claims to be Supabase' => sub {
    my $fooled = front(@module, url => double->https_url);
    double->clear_requests;
    stopped_ok $fooled, token(person()), 'a certificate of no known authority';
    is scalar(my @asked = double->requests('jwks')), 0, 'nothing is asked';
};

end_fronts;
done_testing;
