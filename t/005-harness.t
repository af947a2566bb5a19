# The suite's own tools: a tool that cannot fail proves nothing.

use UserSync::Test;

subtest 'requests' => sub {
    my $index = get('/index.html');
    is $index->{status}, 200, 'main server' or diag show($index);
    is get('tls:/index.html')->{status}, 200, 'TLS, certificate checked';
    is get('other:/index.html')->{status}, 200, 'another vhost';
    my $refused = post('http://127.0.0.1:' . reserve_port() . '/', {});
    is $refused->{status}, 0, 'a reserved port refuses';
    like $refused->{error}, qr/refused/i, 'and the response says so';

    my $bytes = "GET /index.html HTTP/1.1\r\nHost: x\r\n\r\n";
    my @two = raw('/', $bytes . substr($bytes, 0, 9), \0.05,
        substr($bytes, 9), "GET / HTTP/1.1\r\nHost: x\r\n"
        . "Connection: close\r\n\r\n");
    is_deeply [map { $_->{status} } @two], [200, 200, 200],
        'pipelined, one of them in two pieces';
    is_deeply [map { $_->{error} } @two], [undef, undef, undef],
        'and complete';
};

subtest 'responses' => sub {
    my $chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        . "3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\nHTTP/1.1 204 No\r\n\r\n";
    my $in = substr $chunked, 0, 70;
    is UserSync::HTTP::parse(\$in, 'POST'), undef, 'incomplete';
    $in = $chunked;
    is UserSync::HTTP::parse(\$in, 'POST')->{body}, 'abcde', 'chunked';
    is UserSync::HTTP::parse(\$in, 'POST')->{status}, 204, 'the next one';
    is $in, '', 'nothing is left';
    $in = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc";
    is UserSync::HTTP::parse(\$in, 'POST', 1)->{error}, 'cut off', 'cut off';
};

subtest 'at once' => sub {
    my @all = parallel(100, sub { ('/index.html', 'x' x $_[0]) });
    is scalar(grep { !$_->{error} && $_->{status} } @all), 100,
        'a hundred answers';
    my @values = forked(3, sub { $_[0] * 2 });
    is_deeply \@values, [0, 2, 4], 'forked';
};

subtest 'the log' => sub {
    my $file = "$ENV{USERSYNC_RUN}/log.$$";
    my $line = '[2026-01-02 03:04:05.678901] [%s:%s] [pid 1] [tid 2] %s';
    spew($file, join "\n",
        sprintf($line, 'usersync', 'debug', 'US001: fine'),
        sprintf($line, 'usersync', 'warn', '[client ::1:2] US002: odd'),
        sprintf($line, 'core', 'notice',
            'AH00052: child pid 7 exit signal Segmentation fault (11)'),
        sprintf($line, 'mpm_event', 'error',
            'AH00484: server reached MaxRequestWorkers setting'),
        'raw text of a library', 'a line that is not yet compl');
    my $log = UserSync::Log->new($file);
    is_deeply [map {/(US\d+|AH\d+|raw)/} $log->settle],
        [qw(US002 AH00052 raw)], 'what nobody expects';
    is(UserSync::Log::parse(($log->since(0))[1])->{client}, '::1:2', 'parse');

    $log = UserSync::Log->new($file);
    $log->allow($_) for qr/US002/, qr/AH00052/, qr/never/;
    $log->expect(qr/raw text/);
    is_deeply [$log->settle], [], 'what was expected or allowed';

    local $ENV{USERSYNC_PATIENCE} = 0.01;
    $log = UserSync::Log->new($file);
    $log->allow(qr/./);
    $log->expect(qr/US003/);
    $log->expect(qr/US002/, 2);
    is scalar(grep {/^expected/} $log->settle), 2, 'what did not come';
};

subtest 'a test that fails' => sub {
    my $file = "$ENV{USERSYNC_RUN}/bad.$$.t";
    spew($file, <<'PERL');
use Test::More;
is 1, 2, 'one';
print STDERR "words of a library\n";
done_testing;
PERL
    my (undef, $said) = run_command(
        { USERSYNC_RESULTS => "$file.results" }, $^X, '-It/lib', '-e', <<'PERL',
use UserSync::Suite;
UserSync::Suite->run('some', $ARGV[0]);
UserSync::Suite->record('some', 'good', 1);
print "status ", UserSync::Suite->summary($ENV{USERSYNC_RESULTS}), "\n";
PERL
        $file);
    my ($summary) = $said =~ /^(FAILED: .*)/ms;
    is $summary, <<"TEXT", 'the last words tell why';
FAILED:  $file (some)
    not ok 1 - one
    exit status 1
    #   Failed test 'one'
    #   at $file line 2.
    #          got: '1'
    #     expected: '2'
    words of a library
    # Looks like you failed 1 test of 1.
1 passed, 1 failed
status 1
TEXT
};

subtest 'PostgreSQL' => sub {
    my $pg = postgres();
    my $id = '11111111-2222-4333-8444-555555555555';
    $pg->sql(app => 'INSERT INTO users (id, email) VALUES (?, ?)', $id, 'x@y');
    is row_of($id)->{email}, 'x@y', 'a row';
    is row_of($id, 'other'), undef, 'in that database only';
    my $lsn = $pg->wal_lsn;
    row_of($id);
    is $pg->wal_since($lsn), 0, 'reading writes no WAL';

    my $user = $pg->connect('app', 'www-data');
    # the suite's httpd may have some of its own there
    my ($backend) = $user->selectrow_array('SELECT pg_backend_pid()');
    ok +(grep { $_ == $backend } $pg->backends('app')), 'its backend is known';
    is eval { $user->do('DELETE FROM users'); 1 }, undef, 'grants are in force';
    $pg->stop_backend($backend);
    like slurp("/proc/$backend/stat"), qr/\) [Tt] /, 'stopped';
    $pg->cont($backend);
    cmp_ok $pg->terminate_backends('app'), '>=', 1, 'terminated';
    is_deeply [$pg->backends('app')], [], 'and gone';

    my $pid = $pg->pid;
    $pg->crash->start;
    isnt $pg->pid, $pid, 'crashed and started';
    is row_of($id)->{email}, 'x@y', 'the row is still there';
    $pg->restart;
    $pg->reset;
    is row_of($id), undef, 'reset';
};

subtest 'a private httpd' => sub {
    my $private = UserSync::Httpd->new(
        without => ['usersync', 'http2'],
        modules => ['info'],
        config  => "Define who private\n",
        vhosts  => { second => 'Redirect /x http://127.0.0.1:@PORT@/' },
    );
    spew($private->dir . '/htdocs/index.html', 'mine');
    my ($status, $said) = $private->configtest;
    is $status, 0, 'configtest' or diag $said;
    $private->start;
    is get($private->url('/'))->{body}, 'mine', 'answers';
    my $moved = get($private->url('/x', 'second'));
    is $moved->{headers}{location}, $private->url('/'), 'vhost';
    my @old = $private->children;
    ok @old, 'children';
    $private->graceful;
    my %old = map { $_ => 1 } @old;
    ok scalar(grep { !$old{$_} } $private->children), 'graceful';
    $private->write_config("Bad line\n");
    ($status, $said) = $private->configtest;
    isnt $status, 0, 'configtest finds a mistake';
    like $said, qr/Invalid command 'Bad'/, 'and names it';
    $private->allow_log(qr/AH00045|AH00046/);
    $private->stop;
    is $private->pid, undef, 'stopped';
};

done_testing;
