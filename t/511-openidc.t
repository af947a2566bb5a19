# conf/usersync-openidc.conf as shipped, with Debian's mod_auth_openidc: the
# same as with mod_oauth2.

use UserSync::Tables qw(person);
use UserSync::Test;
use UserSync::Tokens;

my @module = (module => 'openidc', type => 'oauth20', load => 'auth_openidc',
    url => double->https_url, config => 'OIDCCABundlePath ' . double->ca_file);
my $bundle = sub { return (define => { USERSYNC_CA_BUNDLE => $_[0] }) };
my $front = front(@module);

gate_tests($front, @module);
# The secret of a project is for those versions that keep it: 2.4.17 takes the
# line and has no key, so that the users with such a token stay outside.
my ($version) = UserSync::Util::slurp(
    UserSync::Httpd::module_file('auth_openidc')) =~ /mod_auth_openidc-([\d.]+)/;
secret_tests('OIDCOAuthVerifySharedKeys "plain##' . hs256_secret . '"',
    @module, keyless => version->parse($version) >= version->parse('2.4.17'));

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
    passes_ok $hasty, token($person), $person, 'a user gets through';
    double->clear_faults;
};

subtest 'an authority of its own' => sub {
    my $trusting = front(@module, config => '', $bundle->(double->ca_file));
    my $person = person();
    passes_ok $trusting, token($person), $person, 'the right one';
    my $wary = front(@module, config => '', $bundle->(ca_file));
    stopped_ok $wary, token($person), 'another one';
    my $usual = front(@module, config => '');
    stopped_ok $usual, token($person), 'the system\'s';
};

subtest 'another server claims to be Supabase' => sub {
    for my $who (qw(unknown_ca wrong_name expired)) {
        my $fooled = front(@module, url => double->https_url($who));
        stopped_ok $fooled, token(person()), $who;
    }
};

end_fronts;
done_testing;
