# A login compared with mod_proxy_http to the same upstream: rounds of both in
# turn, requests per second and httpd's CPU time per request as medians (make
# compare). It prints figures and judges none of them.

use UserSync::Test;

my $rounds   = $ENV{USERSYNC_COMPARE_ROUNDS}   || 7;
my $requests = $ENV{USERSYNC_COMPARE_REQUESTS} || 5000;
my ($email, $password) = ('ada@example.com', 'correct horse battery');

double->config(reuse_tokens => JSON::PP::true,
    record_requests => JSON::PP::false);
double->add_user(email => $email, password => $password);

# The query string is the client's: one in a ProxyPass URL would make mod_proxy
# open a connection for each request.
my $httpd = UserSync::Httpd->new(
    children => 1, threads => 32,
    config => module_config() . sprintf("ProxyPass /proxied/ %s/auth/v1/\n",
        double->url)
        . "LogLevel warn usersync:warn\n")->start;
my $body = "$ENV{USERSYNC_RUN}/login.json";
UserSync::Util::spew($body, qq({"email":"$email","password":"$password"}));

my %contender = (
    module      => [$httpd->url('/auth/login')],
    mod_proxy   => [$httpd->url('/proxied/token?grant_type=password'),
        '-H', 'apikey: ' . double->key('publishable')],
);

# Clock ticks that httpd's processes have used.
sub cpu {
    my $ticks = 0;
    for my $pid ($httpd->pid, $httpd->children) {
        my $stat = slurp("/proc/$pid/stat") or next;
        my @field = split ' ', ($stat =~ /\) (.*)/)[0];
        $ticks += $field[11] + $field[12];
    }
    return $ticks / POSIX::sysconf(POSIX::_SC_CLK_TCK());
}

sub round_of {
    my ($name) = @_;
    my ($url, @header) = @{ $contender{$name} };
    my $before = cpu();
    my $connections = double->stats->{connections};
    my ($status, $said) = run_command('ab', '-q', '-k', '-n', $requests, '-c',
        16, '-p', $body, '-T', 'application/json', @header, $url);
    my $used = cpu() - $before;
    die "ab: $said" if $status || $said =~ /Non-2xx/;
    my ($rate) = $said =~ /^Requests per second:\s+([\d.]+)/m;
    return { rate => $rate, cpu => 1e6 * $used / $requests,
        connections => double->stats->{connections} - $connections };
}

sub median {
    my @sorted = sort { $a <=> $b } @_;
    return $sorted[@sorted / 2];
}

round_of($_) for sort keys %contender;      # connections, caches
my %result;
for (1 .. $rounds) {
    for my $name (sort keys %contender) {
        push @{ $result{$name} }, round_of($name);
    }
}
my %median;
for my $name (sort keys %result) {
    for my $what (qw(rate cpu)) {
        my @values = map { $_->{$what} } @{ $result{$name} };
        $median{$name}{$what} = median(@values);
        my ($low, $high) = (sort { $a <=> $b } @values)[0, -1];
        diag sprintf '%-10s %-5s median %8.1f  (%.1f to %.1f)', $name,
            $what eq 'rate' ? 'req/s' : 'us', $median{$name}{$what}, $low,
            $high;
    }
}
diag sprintf 'module / mod_proxy: %.2f of the requests per second, %.2f times'
    . ' the CPU per request', $median{module}{rate} / $median{mod_proxy}{rate},
    $median{module}{cpu} / $median{mod_proxy}{cpu};
for my $name (sort keys %result) {
    my $opened = 0;
    $opened += $_->{connections} for @{ $result{$name} };
    diag "$name opened $opened connections for "
        . $rounds * $requests . ' requests';
}
pass 'measured';
done_testing;
