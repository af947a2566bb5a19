# How many instructions httpd itself executes for a login, with the counters of
# the status page and without them (make counter-cost). It prints figures, and
# judges that counting takes at most 1 %.
#
# USERSYNC_UNCOUNTED is a module whose functions that count are empty. Each
# figure is the difference between two runs under callgrind, so that start and
# end are not in it.

use UserSync::Test;

my $uncounted = $ENV{USERSYNC_UNCOUNTED}
    or plan skip_all => 'no module without counters: make counter-cost';
my $FEW  = $ENV{USERSYNC_FEW} || 200;
my $MANY = $ENV{USERSYNC_MANY} || 2200;
my ($email, $password) = ('ada@example.com', 'correct horse battery');

double->config(reuse_tokens => JSON::PP::true,
    record_requests => JSON::PP::false);
double->add_user(email => $email, password => $password);

sub start {
    my ($httpd, $report) = @_;
    my $pid = fork;
    die "fork: $!" unless defined $pid;
    return $pid if $pid;
    # in one process (-X), so that valgrind sees it end
    exec 'valgrind', '--tool=callgrind', "--callgrind-out-file=$report",
        UserSync::Httpd::program(), '-X', '-d', $httpd->dir, '-f',
        $httpd->conf_file;
    die "valgrind: $!";
}

# What httpd executes for so many logins, one after the other.
sub executed {
    my ($module, $logins) = @_;
    local $ENV{USERSYNC_MODULE} = $module;
    my $report = "$ENV{USERSYNC_RUN}/callgrind.$logins";
    unlink $report;
    my $httpd = UserSync::Httpd->new(children => 1, threads => 4,
        config => module_config() . "LogLevel warn usersync:warn\n");
    $httpd->allow_log(qr/AH00\d+/);
    my $pid = start($httpd, $report);
    wait_until { IO::Socket::INET->new(PeerAddr => '127.0.0.1',
        PeerPort => $httpd->port) } 60, 'httpd under callgrind';
    my $connection = connection($httpd->url('/'));
    my $bytes = post_bytes($httpd->url('/auth/login'),
        { email => $email, password => $password }, Connection => 'keep-alive');
    my $failed = 0;
    for (1 .. $logins) {
        $connection->send($bytes);
        $failed++ if $connection->response(30)->{status} != 200;
    }
    is $failed, 0, "$logins logins";
    $connection->close;
    kill 'TERM', $pid;
    waitpid $pid, 0;
    my ($sum) = slurp($report) =~ /^(?:totals|summary): (\d+)/m
        or die "callgrind has counted nothing\n";
    return ($sum, own_of($report));
}

# What the functions that count have executed themselves.
sub own_of {
    my ($report) = @_;
    my ($status, $said) = run_command('callgrind_annotate', '--threshold=100',
        '--auto=no', $report);
    my $own = 0;
    while ($said =~ /^\s*([\d,]+) .*:us_stats_(?:outcome|time|tally|topic)\b/mg) {
        $own += $1 =~ s/,//gr;
    }
    return $own;
}

sub per_login {
    my ($module) = @_;
    my @many = executed($module, $MANY);
    my @few  = executed($module, $FEW);
    return map { ($many[$_] - $few[$_]) / ($MANY - $FEW) } 0, 1;
}

my ($with, $own) = per_login(UserSync::Httpd::module_file('usersync'));
my ($without) = per_login($uncounted);
my $share = 100 * ($with - $without) / $with;
diag sprintf '%.0f instructions per login, %.0f without the counters: %.2f %%; '
    . 'the functions that count: %.0f, %.2f %%', $with, $without, $share, $own,
    100 * $own / $with;
cmp_ok $own, '>', 0, 'a login is counted';
cmp_ok $share, '<=', 1, 'counting takes at most 1 %';

done_testing;
