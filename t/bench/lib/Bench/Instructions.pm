package Bench::Instructions;

# How many instructions httpd itself executes for one request, counted by
# valgrind's callgrind: that does not depend on what else the machine does. What
# the kernel does, and waiting, are not in it.
#
#   print Bench::Instructions::table($world);

use strict;
use warnings;

use UserSync::HTTP ();
use UserSync::Httpd ();
use UserSync::Util qw(slurp wait_until);

use Bench::Contender ();
use Bench::Proxied ();
use Bench::World ();

# The difference between two runs is without start and end.
my ($FEW, $MANY) = (100, 2100);

my $KNOWN = 42;
my $NO_CACHE = "UserSyncCache none\n";
my $CACHE    = "UserSyncCache shmcb\nUserSyncCacheTimeout 1h\n";

# what it is, the contender, its requests
my @ALL = (
    (map {
        my $kind = $_;
        ["$kind, the module not loaded", 'plain', $kind,
            without => ['usersync']],
        ["$kind, the filter Off", 'off', $kind, more => $NO_CACHE],
        $kind eq 'known' ? () : ["$kind, On", 'on', $kind, more => $NO_CACHE],
    } qw(settings otp known)),
    ['known, On, known to the cache', 'on', 'known', more => $CACHE],
    ['known, On, looked up', 'on', 'known', more => $NO_CACHE],
    ['known, stock httpd with SQL', 'stock', 'known'],
    ['known, login route, looked up', 'module', 'known', more => $NO_CACHE],
);

sub table {
    my ($world) = @_;
    return join '', map {
        my ($title, @case) = @$_;
        my ($many, $few) = map { _executed($world, $_, @case) } $MANY, $FEW;
        sprintf "  %-32s %8.0f\n", $title, ($many - $few) / ($MANY - $FEW);
    } @ALL;
}

# What httpd executes from its start to its end with so many requests.
sub _executed {
    my ($world, $requests, $name, $kind, %more) = @_;
    my $it = Bench::Contender->start($name, $world, db => 'small',
        count => 1_000, client => Bench::Proxied::client($world), %more);
    my $httpd = $it->{httpd};
    my $bytes = _request($it, $kind);
    $it->stop;
    my $report = $httpd->dir . "/callgrind.$requests";
    my $pid = fork;
    die "fork: $!\n" unless defined $pid;
    if (!$pid) {
        open STDERR, '>', "$report.log";
        # in one process, so that valgrind sees it end
        exec 'valgrind', '--tool=callgrind', "--callgrind-out-file=$report",
            UserSync::Httpd::program(), '-X', '-d', $httpd->dir, '-f',
            $httpd->conf_file
            or die "valgrind: $!\n";
    }
    my $connection = wait_until { eval { UserSync::HTTP->connect($it->url) } }
        60, 'httpd under valgrind';
    for (1 .. $requests) {
        $connection->send($bytes);
        my $status = $connection->response(30)->{status} || 'nothing';
        die "$name does not do $kind: $status\n" if $status ne '200';
    }
    $connection->close;
    kill 'TERM', $pid;
    waitpid $pid, 0;
    my ($sum) = slurp($report) =~ /^(?:totals|summary): (\d+)/m
        or die "callgrind has counted nothing\n";
    return $sum;
}

sub _request {
    my ($it, $kind) = @_;
    my $route = $it->route($kind);
    my $email = Bench::World::email($KNOWN);
    return UserSync::HTTP::build($kind eq 'settings' ? 'GET' : 'POST',
        $route->{url}, $kind eq 'settings' ? undef
            : { email => $email, password => 'correct horse battery' },
        Bench::Contender::headers_for($route, $email),
        Connection => 'keep-alive');
}

1;
