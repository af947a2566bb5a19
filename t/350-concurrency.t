# UserSyncMaxConcurrent: no more requests than this wait for Supabase, in all
# children together; further ones are answered at once, with their body unread;
# whatever a request held is free again, however it ended; a hung Supabase
# never blocks the rest of the site.

use UserSync::Background;
use UserSync::Chaos;
use UserSync::Load;
use UserSync::Test;

my $PREFORK = mpm() eq 'prefork';
my ($CHILDREN, $THREADS) = $PREFORK ? (24, 1) : (2, 16);
my $ALL = $CHILDREN * $THREADS;
my %ada = (email => 'ada@example.com', password => 'correct horse');
my $DEADLINE = 3;    # where it is about that; else nobody gets there

sub reset_double {
    double->reset;
    double->config(reuse_tokens => JSON::PP::true);
    double->add_user(%ada);
    return;
}

sub hang { double->fault(kind => 'hang_before', op => 'token', times => -1) }

# Room for an old generation beside a new one; it does not change the shares.
sub server {
    my ($limit, %arg) = @_;
    my $set = delete $arg{set} || {};
    my $more = delete $arg{more} || '';
    my $present = delete $arg{present} || $arg{children} || $CHILDREN;
    reset_double();
    my $httpd = UserSync::Httpd->new(children => $CHILDREN,
        threads => $THREADS, config => module_config(
            UserSyncMaxConcurrent => $limit,
            UserSyncTimeout       => '30s', %$set)
            . sprintf("ServerLimit %d\n", 3 * $CHILDREN) . $more, %arg);
    UserSync::Util::spew($httpd->dir . '/htdocs/index.html', 'fine');
    $httpd->allow_log(qr/: (?:busy|upstream_\w+|outcome_unknown)\b/);
    $httpd->start;
    # each child has logged how many it admits
    wait_until { $httpd->children >= $present } 20, 'all children';
    return $httpd;
}

sub logins {
    my ($httpd, $n, $vhost) = @_;
    return parallel($n, sub { ($httpd->url('/auth/login', $vhost), \%ada) });
}

sub tally {
    my %n;
    $n{ UserSync::Load::kind($_) }++ for @_;
    return join ', ', map {"$n{$_} x $_"} sort keys %n;
}

sub arrived { my @all = double->requests('token'); return scalar @all }

# How many have been answered "busy" so far.
sub busy {
    my ($httpd) = @_;
    return scalar(() = (slurp($httpd->access_log) || '') =~ /outcome=busy/g);
}

# Starts $n logins at a hung Supabase in the background; $limit of them wait
# there. The others have their answer when this returns.
sub waiting {
    my ($httpd, $n, $limit, $vhost) = @_;
    $limit = $n unless defined $limit;
    double->clear_requests;
    hang();
    my $before = busy($httpd);
    my $job = UserSync::Background->start(
        sub { [map { UserSync::Load::kind($_) } logins($httpd, $n, $vhost)] });
    wait_until { arrived() + busy($httpd) - $before >= $n } 20
        or diag 'not all logins are there';
    is busy($httpd) - $before, $n - $limit, 'surplus requests are told so';
    is arrived(), $limit, 'the others have reached Supabase';
    return $job;
}

# Supabase releases them: closed, or sent again by libcurl and answered.
sub released {
    my ($job) = @_;
    double->clear_faults;
    return $job->result;
}

sub limit_ok {
    my ($httpd, $limit, $name, $more, $vhost) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    $more = $ALL - $limit < 12 ? $ALL - $limit : 12 unless defined $more;
    return subtest $name => sub {
        my $job = waiting($httpd, $limit + $more, $limit, $vhost);
        my @all = @{ released($job) };
        is scalar(grep {/^503 busy$/} @all), $more, 'as their clients say';
        is scalar(grep {/^(?:200|502 upstream_bad_answer)$/} @all), $limit,
            'all are answered';
        is post($httpd->url('/auth/login', $vhost), \%ada)->{status}, 200,
            'then all is well';
    };
}

# ---- how many

# [value, how many]; more than one child could be counted separately.
for my $case ([5, 5], ['25%', int($ALL / 4)], ['1%', 1],
    [undef, int($ALL / 2)]) {
    my ($value, $limit) = @$case;
    my $httpd = server($value);
    # a child alone may let fewer wait than all children together
    ok +(wait_until {
        $CHILDREN <= grep {/at most $limit requests of all children/}
            $httpd->log_since(0)
    } 20), 'each child knows';
    limit_ok($httpd, $limit, 'UserSyncMaxConcurrent '
        . (defined $value ? $value : 'by default'));
    $httpd->stop;
}

subtest 'a child never has all of its threads there' => sub {
    my ($children, $all) = $PREFORK ? (8, 8) : (1, 7);
    for my $value ('100%', 1000) {
        my $httpd = server($value, children => $children, threads => 8);
        limit_ok($httpd, $all, "UserSyncMaxConcurrent $value",
            $PREFORK ? 0 : 1);
        $httpd->stop;
    }
};

# ---- the answer

subtest 'the answer' => sub {
    my $httpd = server(3);
    my $job = waiting($httpd, 3);
    my $before = arrived();
    my $mark = $httpd->log->mark;
    for my $route (qw(login register)) {
        my $response = post($httpd->url("/auth/$route"),
            { %ada, email => 'new@example.com' });
        is tally($response), '1 x 503 busy', $route or diag show($response);
        is $response->{headers}{'retry-after'}, 1, 'Retry-After';
        is $response->{headers}{'content-type'}, 'application/problem+json',
            'a problem';
    }
    for my $header ('Connection: close', 'Connection: keep-alive') {
        my $url = $httpd->url('/auth/login');
        my $connection = connection($url);
        my ($host) = $url =~ m{//([^/]+)};
        $connection->send("POST /auth/login HTTP/1.1\r\nHost: $host\r\n"
            . "Content-Type: application/json\r\nContent-Length: 100\r\n"
            . "$header\r\n\r\n");
        my $response = $connection->response(10);
        is tally($response), '1 x 503 busy', "before the body, $header";
        cmp_ok $response->{elapsed}, '<', slack, 'at once';
        $connection->close;
    }
    is +(grep {/busy/} $httpd->log_since($mark))[0] =~ /usersync:warn/, 1,
        'a warning';
    like join("\n", $httpd->log_since($mark)),
        qr/: busy: UserSyncMaxConcurrent is reached/, 'names the directive';
    my $log;
    ok wait_until {
        $log = slurp($httpd->access_log) || '';
        $log =~ /outcome=busy user=- upstream=- store=-/
    } 5, 'the notes' or diag $log;
    is arrived(), $before, 'Supabase has seen nothing of it';
    is get($httpd->url('/auth/login'))->{status}, 405, 'GET is another matter';
    released($job);
    $httpd->stop;
};

# ---- nothing is lost

subtest 'a place is free again, however its request ended' => sub {
    my $httpd = server(4, set => { UserSyncConnectTimeout => '1s' });
    my $new = 0;
    for my $fault ([kind => 'html'], [kind => 'reset'], [kind => 'garbage'],
        [kind => 'cut'], [kind => 'refuse'], [kind => 'empty'],
        [kind => 'status', status => 401, body => '']) {
        double->fault(@$fault, times => -1);
        parallel(6, sub { $_[0] % 2
            ? ($httpd->url('/auth/login'), \%ada)
            : ($httpd->url('/auth/register'), { %ada,
                email => 'new' . ++$new . '@example.com' }) });
        double->clear_faults;
    }
    post($httpd->url('/auth/login'), { %ada, password => 'guess' }) for 1 .. 6;
    # clients that do not wait for the answer
    double->fault(kind => 'delay', ms => 300, op => 'token', times => -1);
    my $before = double->stats->{requests}{token};
    for (1 .. 3) {
        my $connection = connection($httpd->url('/'));
        $connection->send(post_bytes($httpd->url('/auth/login'), \%ada));
        double->wait_requests(token => ++$before, 10);
        $connection->close;
    }
    double->clear_faults;
    ok wait_until { tally(logins($httpd, 4)) eq '4 x 200' } 5,
        'four logins at once';
    limit_ok($httpd, 4, 'and the limit is what it was');
    $httpd->stop;
};

subtest 'a child that is killed' => sub {
    my $httpd = server($PREFORK ? 4 : 8);
    $httpd->allow_log(qr/AH1039[23]: children are killed successively/);
    my $limit = $PREFORK ? 4 : 8;
    my $job = waiting($httpd, $limit);
    # half of them: a child of prefork has one request at most
    my @killed = ($httpd->children)[0 .. $CHILDREN / 2 - 1];
    kill 'KILL', @killed;
    # no longer a zombie: httpd has noticed it
    wait_until { !grep { -d "/proc/$_" } @killed } 20, 'httpd to see it';
    wait_until { get($httpd->url('/index.html'))->{status} == 200 } 20,
        'the site';
    my $busy = busy($httpd);
    my $second = UserSync::Background->start(sub {
        [map { UserSync::Load::kind($_) } logins($httpd, $limit + 4)] });
    wait_until { arrived() + busy($httpd) - $busy >= 2 * $limit + 4 } 20;
    my $entered = arrived() - $limit;
    double->clear_faults;
    my $lost = grep {/^(?:closed|Connection reset by peer)/} @{ $job->result };
    is $entered, $lost, "as many can enter as have died: $lost";
    is scalar(grep {/^503 busy$/} @{ $second->result }), $limit + 4 - $lost,
        'the others are told to retry';
    limit_ok($httpd, $limit, 'in the end all places are there');
    kill 'KILL', $httpd->children if $lost != $limit;
    wait_until { get($httpd->url('/'))->{status} } 20, 'new children';
    limit_ok($httpd, $limit, 'all children killed');
    $httpd->stop;
};

# Restarts gracefully; $held requests wait at Supabase. A child of prefork that
# has none of them may still take one before it sees that it is to end.
sub restart_ok {
    my ($httpd, $held) = @_;
    my @old = $httpd->children;
    $httpd->graceful;
    wait_until { (grep { UserSync::Util::alive($_) } @old) <= $held } 20,
        'idle children to end' if $PREFORK;
    return;
}

subtest 'graceful restarts' => sub {
    my $httpd = server($PREFORK ? 4 : 8);
    my $limit = $PREFORK ? 4 : 8;
    my $job = waiting($httpd, $limit);
    restart_ok($httpd, $limit);
    my $second = waiting($httpd, $limit + 4, $limit);
    restart_ok($httpd, 2 * $limit) for 1 .. 3;
    my $third = waiting($httpd, $limit + 4, $limit);
    double->clear_faults;
    my @all = map { @{ $_->result } } $job, $second, $third;
    is scalar(grep {/^(?:200|502 upstream_bad_answer|503 busy)$/} @all),
        3 * $limit + 8, 'each generation counts for itself and ends in peace'
        or diag "@all";
    limit_ok($httpd, $limit, 'the last one');
    $httpd->stop;
};

subtest 'children that end by themselves' => sub {
    my $httpd = server(4, more => sprintf "MaxConnectionsPerChild %d\n",
        $PREFORK ? 3 : 20);
    my %old = map { $_ => 1 } $httpd->children;
    wait_until {
        logins($httpd, 4);
        grep { !$old{$_} } $httpd->children;
    } 20, 'new children';
    limit_ok($httpd, 4, 'nothing is left behind');
    unlike join("\n", $httpd->log_since(0)), qr/US011/, 'nor was a slot short';
    $httpd->stop;
};

# worker puts a new child in the place of one that still waits for its last
# answer: there are more children than ServerLimit.
subtest 'children that linger' => sub {
    # the connection that finds httpd ready ends a child, maybe before the other
    # one is there, and httpd starts a child again only when threads are short
    my $httpd = server(8, present => 1,
        more => "ServerLimit 2\nMaxConnectionsPerChild 1\n");
    my %pids;
    my $look = sub { $pids{$_} = 1 for $httpd->children };
    hang();
    my @jobs;
    for my $n (1 .. 5) {
        double->clear_requests;
        push @jobs, UserSync::Background->start(
            sub { UserSync::Load::kind(logins($httpd, 1)) });
        wait_until { arrived() } 20, "login $n";
        # the child that serves this request accepts no more
        get($httpd->url('/index.html'));
        $look->();
    }
    wait_until { $look->(); keys %pids > 2 } 20;
    cmp_ok scalar(keys %pids), '>', 2, scalar(keys %pids) . ' children';
    double->clear_faults;
    is_deeply [grep { !/^(?:200|502 upstream_bad_answer)$/ }
        map { $_->result } @jobs], [], 'all are answered';
    unlike join("\n", $httpd->log_since(0)), qr/US011/, 'a slot for each';
    $httpd->stop;
} if mpm() eq 'worker';

# ---- HTTP/2

subtest 'HTTP/2' => sub {
    plan(skip_all => 'mod_http2 does not work with prefork') if $PREFORK;
    my $body = "$ENV{USERSYNC_RUN}/login.json";
    UserSync::Util::spew($body, UserSync::HTTP::encode_json(\%ada));
    # threads, mod_http2's own lines, how many wait
    for my $case ([8, '', 7], [8, "H2MinWorkers 2\nH2MaxWorkers 5\n", 4],
        [12, "H2MinWorkers 4\n", 5]) {
        my ($threads, $lines, $all) = @$case;
        my $httpd = server('100%', children => 1, threads => $threads,
            more => "Protocols h2c http/1.1\n$lines");
        my $h2load = sub {
            my ($n, $connections, $streams) = @_;
            my (undef, $said) = run_command('h2load', '-n', $n, '-c',
                $connections, '-m', $streams, '-d', $body, '-H',
                'content-type: application/json', $httpd->url('/auth/login'));
            my ($codes) = $said =~ /status codes: (.*)/;
            return $codes;
        };
        for my $round (1, 2) {
            double->clear_requests;
            hang();
            my $before = busy($httpd);
            # mod_http2 starts with six streams of a connection
            my $job = UserSync::Background->start(
                sub { $h2load->(30, 5, 6) });
            wait_until { arrived() >= $all && busy($httpd) > $before } 20;
            is get($httpd->url('/index.html'))->{status}, 200,
                'the site is there';
            sleep 0.5;    # for any that come too many
            is arrived(), $all, "round $round: $all wait";
            double->clear_faults;
            my ($ok, $failed) = $job->result =~ /^(\d+) 2xx.* (\d+) 5xx/;
            is $ok + $failed, 30, 'all are answered';
        }
        like $h2load->(20, 1, 1), qr/^20 2xx/, 'then all is well';
        limit_ok($httpd, $threads - 1, 'HTTP/1.1 has its own threads', 1);
        $httpd->stop;
    }
};

subtest 'one thread for HTTP/2' => sub {
    plan(skip_all => 'mod_http2 does not work with prefork') if $PREFORK;
    my $httpd = server(undef, children => 1,
        more => "Protocols h2c http/1.1\nH2MinWorkers 1\nH2MaxWorkers 1\n");
    for my $n (1 .. 3) {
        my (undef, $said) = curl('--http2-prior-knowledge', '-w',
            '%{http_code} %{http_version}', '-o', '/dev/null', '--json',
            UserSync::HTTP::encode_json(\%ada), $httpd->url('/auth/login'));
        is $said, '200 2', "login $n";
    }
    $httpd->stop;
};

# ---- the site

# Requests a static file again and again until stopped: returns the longest
# wait.
sub watch_site {
    my ($httpd) = @_;
    return UserSync::Background->start(sub {
        my ($job) = @_;
        my ($slowest, $count, @bad) = (0, 0);
        until ($job->stopping(0.02)) {
            my $response = get($httpd->url('/index.html'), -timeout => 20);
            $count++;
            push @bad, tally($response) if $response->{status} != 200;
            $slowest = $response->{elapsed} if $response->{elapsed} > $slowest;
        }
        return { slowest => $slowest, count => $count, bad => \@bad };
    });
}

subtest 'Supabase hangs and the site does not' => sub {
    # as shipped, except for the time that it takes
    my $httpd = server(undef, set => { UserSyncCircuitBreaker => undef,
        UserSyncTimeout => "${DEADLINE}s" });
    $httpd->expect_log(qr/US012: .*opens/);
    $httpd->allow_log(qr/US012: .*stays open|: upstream_unavailable/);
    my $site = watch_site($httpd);
    hang();
    my $start = time;
    # as many users as requests, from as many addresses
    my $load = UserSync::Load->start(clients => scaled(60, 300),
        request => sub {
            my ($n) = @_;
            return ([POST => $httpd->url('/auth/login'),
                { %ada, email => "person$n\@example.com" },
                -from => '127.0.1.' . (1 + $n % 200)], 'login');
        });
    double->wait_requests(token => 5, 20) or die "no logins\n";
    wait_until { grep {/US012: .*opens/} $httpd->log_since } 20,
        'the circuit to open';
    sleep 0.5; # for the last that were let in before
    my @all = logins($httpd, 20);
    is tally(@all), '20 x 503 upstream_unavailable', 'then none is admitted';
    my ($slowest) = sort { $b <=> $a } map { $_->{elapsed} } @all;
    cmp_ok $slowest, '<', $DEADLINE / 2, 'and none waits';
    my $seen = $load->stop;
    my $file = $site->result;
    note sprintf '%d logins (%s), slowest %.3f s; %d files, slowest %.3f s',
        $seen->{count}, join(', ', map {"$seen->{by}{$_} x $_"}
            sort keys %{ $seen->{by} }), $seen->{slowest}, @$file{qw(count slowest)};
    is_deeply $file->{bad}, [], 'all files were served';
    cmp_ok $file->{count}, '>', 10, 'many of them';
    cmp_ok $file->{slowest}, '<', slack, 'each within a second or so';
    is_deeply [grep { !/^(?:503 busy|503 upstream_unavailable|504 upstream_timeout)$/ }
        keys %{ $seen->{by} }], [], 'every login was answered, too'
        or diag explain $seen->{bad};
    # others have come in while the first few failures were counted
    cmp_ok $seen->{by}{'504 upstream_timeout'}, '<=', $ALL / 2 + 8,
        'half of the workers have waited, once';
    $httpd->stop;
};

subtest 'one process (-X)' => sub {
    reset_double();
    my $httpd = UserSync::Httpd->new(config => module_config(
        UserSyncMaxConcurrent => undef, UserSyncCircuitBreaker => undef));
    my $pid = fork // die "fork: $!";
    if (!$pid) {
        open STDOUT, '>', '/dev/null';
        open STDERR, '>&', \*STDOUT;
        exec UserSync::Httpd::program(), '-X', '-d', $httpd->dir, '-f',
            $httpd->conf_file or POSIX::_exit(127);
    }
    wait_until { $httpd->pid
        && get($httpd->url('/'))->{status} } 20, 'httpd -X';
    is tally(map { logins($httpd, 1) } 1 .. 3), '3 x 200', 'logins';
    kill 'TERM', $pid;
    waitpid $pid, 0;
    is $?, 0, 'ends well';
};

done_testing;
