# PostgreSQL is away for longer than UserSyncStoreTimeout: after the first
# deadline logins fail at once, each child checks once per second whether it is
# back, and the log stays small. Then: a network that swallows everything, and
# TLS.

use UserSync::Test;
use UserSync::Outage;
use UserSync::Relay;

use constant DEADLINE => 1;
use constant CONNECT_TIMEOUT => 2;
use constant WORKERS => 8;

my $pg = own_postgres(
    ssl           => 'on',
    ssl_cert_file => "$ENV{USERSYNC_RUN}/tls/server.pem",
    ssl_key_file  => "$ENV{USERSYNC_RUN}/tls/server.key",
);
my $relay = UserSync::Relay->start($pg->port);

sub httpd_with {
    my (%arg) = @_;
    return outage_lines(own_httpd($pg, workers => WORKERS,
        set => { UserSyncStoreTimeout => DEADLINE . 's' }, %arg))->start;
}

# Sends twice as many logins as workers, so that every child notices the
# outage, until all of them fail at once except the one that probes PostgreSQL.
sub until_known {
    my ($httpd) = @_;
    my @responses = logins($httpd, 2 * WORKERS);
    within(DEADLINE + CONNECT_TIMEOUT, 'first logins: in time', @responses);
    wait_until {
        @responses = logins($httpd, WORKERS);
        (sort { $b <=> $a } map { $_->{elapsed} } @responses)[1]
            < DEADLINE / 2
    } 20;
    is tally(@responses), WORKERS . ' x 503 store_unavailable', 'away';
    my (undef, $second) = sort { $b <=> $a } map { $_->{elapsed} } @responses;
    cmp_ok $second, '<', DEADLINE / 2, 'known to be away';
    return;
}

subtest 'PostgreSQL is stopped' => sub {
    my $window = 4;
    my $httpd = httpd_with(children => 2,
        params => $pg->dsn_tcp('app', port => $relay->port));
    my $children = mpm() eq 'prefork' ? WORKERS : 2;
    serves($httpd, WORKERS, 5, 'at first');
    $pg->stop;
    until_known($httpd);

    my $from = time;
    my $mark = $httpd->log->mark;
    my $load = start_load($httpd, WORKERS, clients => WORKERS);
    sleep $window; # as long as is counted
    my $seen = $load->stop;
    my $seconds = time - $from;
    my @tries = grep { $_ >= $from } $relay->accepted;
    my @lines = grep {/^\[[^\]]*\] \[[\w-]+:(?:error|crit|alert|emerg)\]/}
        $httpd->log_since($mark);
    note sprintf '%d logins in %.1f s, slowest %.3f s; %d connects, %d lines '
        . 'by %d children', $seen->{count}, $seconds, $seen->{slowest},
        scalar @tries, scalar @lines, $children;
    is_deeply $seen->{by},
        { '503 store_unavailable' => $seen->{count} }, 'all fail'
        or diag explain $seen->{bad};
    cmp_ok $seen->{slowest}, '<', DEADLINE / 2, 'at once';
    cmp_ok $seen->{count}, '>', 20 * WORKERS, 'many of them';
    cmp_ok scalar @tries, '<=', $children * ($seconds + 1),
        'at most one attempt per second and child';
    cmp_ok scalar @tries, '>=', 2, 'but not none';
    # two lines of mod_dbd's per attempt, and ours
    cmp_ok scalar @lines, '<=', 2 * $children * ($seconds + 1) + 2 * $children,
        'a bounded number of lines';

    my $now = time;
    $pg->start;
    note sprintf 'PostgreSQL took %.3f s to start', time - $now;
    serves($httpd, WORKERS, 2 + slack, 'back');
};

subtest 'a black hole between httpd and PostgreSQL' => sub {
    my $httpd = httpd_with(
        params => $pg->dsn_tcp('app', port => $relay->port));
    serves($httpd, WORKERS, 5, 'at first');
    fill_pool($pg, $httpd, WORKERS);
    $relay->freeze;
    my @responses = logins($httpd, WORKERS);
    is tally(@responses), WORKERS . ' x 503 store_unavailable', 'all fail';
    within(DEADLINE, 'connections that are open: in time', @responses);
    until_known($httpd);
    $relay->thaw;
    serves($httpd, WORKERS, CONNECT_TIMEOUT + 2, 'thawed');
};

subtest 'TLS to PostgreSQL' => sub {
    my $httpd = httpd_with(
        params => $pg->dsn_tcp('app', sslmode => 'require'));
    serves($httpd, WORKERS, 5, 'works');
    my $with_tls = sub {
        return map { $_->{ssl} } $pg->sql(postgres => <<'SQL');
SELECT DISTINCT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
 WHERE usename = 'www-data'
SQL
    };
    is_deeply [$with_tls->()], [1], 'and is used';

    fill_pool($pg, $httpd, WORKERS);
    $pg->restart('immediate');
    is tally(logins($httpd, WORKERS)), WORKERS . ' x 200',
        'restart: no login fails';
    fill_pool($pg, $httpd, WORKERS);
    $pg->terminate_backends('app');
    is tally(logins($httpd, WORKERS)), WORKERS . ' x 200',
        'backends terminated: no login fails';
    is_deeply [$with_tls->()], [1], 'new connections have it, too';

    my @frozen = fill_pool($pg, $httpd, WORKERS);
    $pg->stop_backend(@frozen);
    my @responses = logins($httpd, WORKERS);
    is tally(@responses), WORKERS . ' x 503 store_unavailable',
        'backends frozen: their logins fail';
    within(DEADLINE, 'backends frozen: in time', @responses);
    $pg->cont(@frozen);
    ok +(wait_until { !$pg->backends('app') } 10),
        'backends frozen: their connections are cut at once';
    serves($httpd, WORKERS, 2, 'all is well');
};

done_testing;
