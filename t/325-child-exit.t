# Children end in all ways while connections are lent to their threads: none
# crashes, none stays, and a graceful stop fails no login. The log shows
# crashes: "exit signal", or an assertion of apr-util.

use UserSync::Test;
use UserSync::Outage;

use constant WORKERS => 16;

my $pg = own_postgres();
my $httpd = own_httpd($pg, workers => WORKERS, children => 2,
    config => "MaxConnectionsPerChild 40\n",
    set => { UserSyncStoreTimeout => '5s' });
# while old children still serve, there are few slots for new ones
$httpd->allow_log(qr/AH03490: scoreboard is full/);
$httpd->start;

my %pids;
sub look { $pids{$_} = 1 for $httpd->children; return scalar keys %pids }

subtest 'graceful restart and MaxConnectionsPerChild' => sub {
    slow_inserts($pg, 0.02);
    my $load = start_load($httpd, 500, clients => 12, grow => 8);
    wait_until { busy_backends($pg) } 10, 'statements';
    my $first = look();
    wait_until { look() >= $first + 4 } 30,
        'children that reach MaxConnectionsPerChild';
    for (1 .. 2) {
        wait_until { busy_backends($pg) } 10, 'statements';
        $httpd->graceful;
        look();
    }
    my $seen = $load->stop;
    note sprintf '%d logins, slowest %.3f s, %d children', $seen->{count},
        $seen->{slowest}, scalar keys %pids;
    is_deeply $seen->{by}, { 200 => $seen->{count} }, 'no login fails'
        or diag explain $seen->{bad};
};

subtest 'stop' => sub {
    slow_inserts($pg, 0.2);
    for my $round (1 .. 4) {
        no_rows($pg);
        my $load = start_load($httpd, 500, clients => 12);
        wait_until { busy_backends($pg) >= 4 } 10, 'lent connections';
        look();
        cmp_ok $httpd->stop, '<', 20, "stopped, round $round";
        $load->stop;
        ok +(wait_until { !$pg->backends('app') } 10), 'no connection is left';
        $httpd->start if $round < 4;
    }
    is_deeply [grep { kill 0, $_ } keys %pids], [], 'all children are gone';
};

# mod_dbd connects while it holds its pool's lock, for two seconds at most.
subtest 'stop while threads are connecting' => sub {
    my $socket = $pg->host . '/.s.PGSQL.' . $pg->port;
    my $connected = sub {
        return scalar(() = slurp('/proc/net/unix') =~ /\Q$socket\E$/mg);
    };
    my $hanging = outage_lines(own_httpd($pg, workers => WORKERS,
        set => { UserSyncStoreTimeout => '1s' }));
    $hanging->allow_log(qr/AH00045: .*sending a SIGTERM/);
    $hanging->start;
    $pg->stop_postmaster;
    my $before = $connected->();
    my $load = start_load($hanging, 500, clients => 12);
    my $pools = mpm() eq 'prefork' ? 12 : 1;
    wait_until { $connected->() >= $before + $pools } 10, 'connects';
    my $took = $hanging->stop;
    note sprintf 'stopped after %.3f s', $took;
    # 1 s + connect_timeout; httpd kills what is left after 10 s
    cmp_ok $took, '<', 6, 'stopped as soon as they have given up';
    $load->stop;
};

done_testing;
