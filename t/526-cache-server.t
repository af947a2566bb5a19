# A cache server that accepts connections and never answers blocks at most two
# threads of a child; all others go without the cache. One line says so, and
# another one that it works again.

use UserSync::Background;
use UserSync::Gate;
use UserSync::Load;
use UserSync::Outage;
use UserSync::Tables;
use UserSync::Test;

use constant THREADS => 16;

my %program = (
    redis => ['/usr/bin/redis-server', '--bind', '127.0.0.1', '--save', '',
        '--port'],
    memcache => ['/usr/bin/memcached', '-l', '127.0.0.1', '-u', 'nobody',
        '-p'],
);
my $db = logged_db('usersync_server');

# In the foreground, so that it ends with the test: (job, port).
sub start_server {
    my ($provider, $port) = @_;
    my @command = (@{ $program{$provider} }, $port);
    my $job = UserSync::Background->start(sub {
        open STDOUT, '>', '/dev/null';
        open STDERR, '>&', \*STDOUT;
        exec { $command[0] } @command or die "$command[0]: $!";
    });
    wait_until { connects($port) } 10, "$provider to listen";
    return $job;
}

sub connects {
    my ($port) = @_;
    return IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port);
}

sub server_with {
    my ($provider, $port) = @_;
    my %size = mpm() eq 'prefork' ? (children => THREADS)
        : (children => 1, threads => THREADS);
    return gate_server($db, "UserSyncCache $provider:127.0.0.1:$port\n"
        . guarded('/app', 'UserSyncEnsure On'), %size,
        modules => ["socache_$provider"])->start;
}

# Sends more requests at the same time than there are threads, of known, new
# and unauthenticated users: how many were not answered at once, and what the
# answers were.
sub crowd {
    my ($httpd, $known) = @_;
    my @all = UserSync::HTTP->at_once(60, map {
        (['GET', $httpd->url('/app/file'), undef, as_user($known)],
            ['GET', $httpd->url('/app/file'), undef, as_user(new_id())],
            ['GET', $httpd->url('/open')])
    } 1 .. THREADS);
    return @all;
}

for my $provider (sort keys %program) {
    plan(skip_all => "$program{$provider}[0] is not installed")
        unless -x $program{$provider}[0];
}

for my $provider (sort keys %program) {
    subtest $provider => sub {
        my $port = reserve_port();
        my $job = start_server($provider, $port);
        my $httpd = server_with($provider, $port);
        my $known = new_id();
        visit_ok visit($httpd, '/app/file', $known), $known, 'a new user';
        is_deeply sql_of($db, sub { visit($httpd, '/app/file', $known) }), [],
            'is known';
        # under load the cache is used as before
        my $load = UserSync::Load->start(clients => THREADS - 1, keep => 1,
            request => sub { [GET => $httpd->url('/app/file'), undef,
                as_user($known)], $_[0] });
        my @sql = @{ sql_of($db, sub { wait_until {
            (() = slurp($httpd->access_log) =~ /"GET \/app/g) > 2000 } 30 }) };
        my $served = $load->stop->{count};
        cmp_ok scalar @sql, '<', $served / 10,
            scalar(@sql) . " of $served went without the cache";

        kill STOP => $job->pid;
        my $mark = $httpd->log->mark;
        my $frozen = UserSync::Load->start(clients => 2 * THREADS, rate => 200,
            request => sub { [GET => $httpd->url('/app/file'), undef,
                as_user(new_id())], $_[0] });
        wait_until { our_lines($httpd, $mark) } 20, 'a line';
        for my $round (1 .. 3) {
            my ($slowest) = sort { $b <=> $a } map { $_->{elapsed} }
                visit($httpd, '/open'), visit($httpd, '/open');
            cmp_ok $slowest, '<', slack(),
                sprintf 'a static file: %.3f s', $slowest;
        }
        # threads inside wait as long as the provider does
        my @all = sort { $b->{elapsed} <=> $a->{elapsed} }
            crowd($httpd, $known);
        my $lost = mpm() eq 'prefork' ? 4 : 2;
        cmp_ok $all[$lost]{elapsed}, '<', 1 + slack(), sprintf
            'all but %d are served: %.3f s', $lost, $all[$lost]{elapsed};
        my @lines = our_lines($httpd, $mark);
        is scalar(grep { !/US017: the cache of known users does not answer/ }
            @lines), 0, 'lines about the cache' or diag join "\n", @lines;
        cmp_ok scalar @lines, '<=', mpm() eq 'prefork' ? THREADS : 1,
            'one of a child';
        $httpd->expect_log(qr/US017: the cache of known users does not/);

        kill CONT => $job->pid;
        ok wait_until { visit($httpd, '/app/file', $known);
            my $id = new_id();
            visit($httpd, '/app/file', $id);
            !@{ sql_of($db, sub { visit($httpd, '/app/file', $id) }) } } 20,
            'the cache is used again';
        my $seen = $frozen->stop;
        is_deeply [grep { !/^200/ } keys %{ $seen->{by} }], [],
            'nobody was refused' or diag explain $seen->{by};
        ok wait_until { grep {/US017: .* answers again/}
            $httpd->log_since($mark) } 10, 'a line says so';

        kill KILL => $job->pid;
        wait_until { !connects($port) } 10, 'the death of the server';
        is scalar(grep { $_->{status} != 200 } crowd($httpd, $known)), 0,
            'a server that refuses';
        $job = start_server($provider, $port);
        ok wait_until { my $id = new_id();
            visit($httpd, '/app/file', $id);
            !@{ sql_of($db, sub { visit($httpd, '/app/file', $id) }) } } 30,
            'one that is back is used';
        $httpd->allow_log($_) for qr/US017/, qr/\[socache_$provider:/;
        $httpd->stop;
        kill KILL => $job->pid;
    };
}

done_testing;
