# supabase-py with this server as its base URL: when a call returns, the row is
# there. While PostgreSQL is away the library is told to try again, it signs
# nobody out, and goes on by itself when PostgreSQL is back.

use UserSync::Test;
use UserSync::Clients;
use UserSync::ClientOutage;
use UserSync::ClientScenes;
use UserSync::Proxied;

needs_library('py');
my $httpd = proxied_server('app',
    config => "UserSyncCache none\nUserSyncStoreTimeout 30s\n", vhosts => {
        report => proxied(lines => ['UserSyncEnsureResponse Report']),
        off    => proxied(lines => ['UserSyncEnsureResponse Off']),
    })->start;
my %url = (On => $httpd->url, Report => $httpd->url('', 'report'),
    Off => $httpd->url('', 'off'));

my %said = map { $_ => every_way('py', $url{$_}, $_) } qw(On Report Off);
is_deeply $said{$_}, $said{Off}, "$_: nothing differs for the library"
    for qw(On Report);
waits_for_the_row('py', $url{$_}, $_) for qw(On Report);

my $outage = UserSync::ClientOutage->new('py',
    retryable => 'AuthRetryableError');
$outage->told_to_try_again;
$outage->nothing_is_used_up;
# it does not repeat the call itself
sub refresh {
    return (begin => sub {
        my ($client) = @_;
        $outage->try_again_ok($client->call('auth.getSession'), 'refresh')
            for 1, 2;
        return;
    }, after => sub {
        my ($client) = @_;
        wait_until { !$client->call('auth.getSession')->{error} } 30;
    });
}
$outage->goes_on('a call that refreshes', refresh());
$outage->goes_on('a row that the table refuses', refuses => 1, refresh());
$outage->goes_on('the refresh in the background',
    auth => { autoRefreshToken => JSON::PP::true() }, begin => sub { });
# here the library ends the session at a 4xx, and at a 500
for my $refuses (0, 1) {
    $outage->goes_on('a program that starts'
            . ($refuses ? ', and a row that the table refuses' : ''),
        auth => { autoRefreshToken => JSON::PP::true() },
        begin => sub { $_[0]->call('auth.initialize'); return },
        refuses => $refuses);
}
$outage->refusal_signs_out('auth.initialize', lives => 5,
    auth => { autoRefreshToken => JSON::PP::true() });
$outage->nobody_notices;

done_testing;
