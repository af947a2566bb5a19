# supabase-js with this server as its base URL: when a promise resolves, the row
# is there. While PostgreSQL is away the library is told to try again, it signs
# nobody out, and goes on by itself when PostgreSQL is back.

use UserSync::Test;
use UserSync::Clients;
use UserSync::ClientOutage;
use UserSync::ClientScenes;
use UserSync::Proxied;

needs_library('js');
my $httpd = proxied_server('app',
    config => "UserSyncCache none\nUserSyncStoreTimeout 30s\n", vhosts => {
        report => proxied(lines => ['UserSyncEnsureResponse Report']),
        off    => proxied(lines => ['UserSyncEnsureResponse Off']),
    })->start;
my %url = (On => $httpd->url, Report => $httpd->url('', 'report'),
    Off => $httpd->url('', 'off'));

my %said = map { $_ => every_way('js', $url{$_}, $_) } qw(On Report Off);
is_deeply $said{$_}, $said{Off}, "$_: nothing differs for the library"
    for qw(On Report);
waits_for_the_row('js', $url{$_}, $_) for qw(On Report);

my $outage = UserSync::ClientOutage->new('js',
    retryable => 'AuthRetryableFetchError');
$outage->told_to_try_again;
$outage->nothing_is_used_up;
$outage->goes_on('a call that refreshes',
    begin => sub { $_[0]->begin('auth.getSession') });
$outage->goes_on('the refresh in the background',
    auth => { autoRefreshToken => JSON::PP::true() },
    begin => sub { $_[0]->call('auth.startAutoRefresh'); return });
$outage->goes_on('a row that the table refuses', refuses => 1,
    begin => sub { $_[0]->begin('auth.getSession') });
$outage->refusal_signs_out('auth.getSession');
$outage->nobody_notices;

done_testing;
