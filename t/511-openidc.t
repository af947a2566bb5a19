# conf/usersync-openidc.conf as it is shipped, with Debian's mod_auth_openidc:
# the same as with mod_oauth2.

use UserSync::Tables qw(person);
use UserSync::Test;
use UserSync::Tokens;

my @module = (module => 'openidc', type => 'oauth20', load => 'auth_openidc',
    url => double->https_url, config => 'OIDCCABundlePath ' . double->ca_file);
my $front = front(@module);

gate_tests($front, @module);
secret_tests('OIDCOAuthVerifySharedKeys "plain##' . hs256_secret . '"',
    @module);

subtest 'headers of the client' => sub {
    my @names = map { ($_, lc, tr/_/-/r) } qw(OIDC_CLAIM_email OIDC_CLAIM_sub
        OIDC_access_token);
    my ($response, $request) = ask($front, token(person()), undef,
        map { $_ => 'mine' } @names);
    is $response->{status}, 200, 'a user';
    my @kept = grep { $_->[1] eq 'mine' } @{ $request->{header_list} };
    is_deeply \@kept, [], 'none is kept';
};

subtest 'Supabase hangs' => sub {
    my $limit = 2;
    my $hasty = front(@module, edit =>
        [qr/(?<=OIDCHTTPTimeoutLong )\d+/ => $limit]);
    my $person = person();
    passes_ok $hasty, token($person), $person, 'a user';
    double->fault(op => 'jwks', kind => 'hang_before', times => -1);
    my $unknown = token($person, header => { kid => 'unknown' });
    my ($response) = ask($hasty, $unknown);
    is $response->{status}, 401, 'an unknown key';
    cmp_ok $response->{elapsed}, '<', $limit + slack, 'in time';
    passes_ok $hasty, token($person), $person, 'a user goes on';
    double->clear_faults;
};

subtest 'somebody else says he is Supabase' => sub {
    for my $who (qw(unknown_ca wrong_name expired)) {
        my $fooled = front(@module, url => double->https_url($who));
        stopped_ok $fooled, token(person()), $who;
    }
};

end_fronts;
done_testing;
