package UserSync::Test;

# The first line of every test file:
#
#   use UserSync::Test;
#
# It turns on strict and warnings, imports Test::More and the functions below,
# and starts the file with a fresh double and empty tables, so that the order
# of the files does not matter. Every file ends with done_testing, which checks
# the error log.

use strict;
use warnings;

use Exporter ();
use POSIX ();
use Test::More import => ['!done_testing'];
use Time::HiRes qw(sleep time);

use UserSync::Double ();
use UserSync::Guardian ();
use UserSync::HTTP ();
use UserSync::Httpd ();
use UserSync::Log ();
use UserSync::Postgres ();
use UserSync::Suite ();
use UserSync::Util qw(
    patience read_json reserve_port run_command slack slurp spew wait_until
    write_json
);

our @ISA    = qw(Exporter);
our @EXPORT = (
    (grep { /^\w/ && $_ ne 'done_testing' } @Test::More::EXPORT),
    qw(
        allow_log ca_file connection curl done_testing double expect_log
        forked get httpd log_mark log_since module_config mpm parallel post
        post_bytes postgres raw request reserve_port row_of run_command show
        slack sleep slurp spew time user_row_ok vhost_url wait_until
    ),
);

my $test_pid = $$;
my $info;
my ($httpd, $postgres, $double);
my $judged;

# use UserSync::Test; or, for a file that starts all its servers itself,
# use UserSync::Test -keep; (tables and double are left as they are)
sub import {
    my ($class, @option) = @_;
    strict->import;
    warnings->import;
    $class->export_to_level(1, $class);
    return if $info;
    my $run = $ENV{USERSYNC_RUN}
        or plan(skip_all => 'run by t/TEST or t/run-suite only');
    $info = read_json("$run/suite.json")
        or die "$run/suite.json: no such run\n";
    $ENV{USERSYNC_TEST} = $$;
    $SIG{INT} = $SIG{TERM} = $SIG{HUP} = sub { exit 143 };
    $SIG{ALRM} = sub { die "the test file takes too long\n" };
    alarm UserSync::Suite::limit() - 20;
    my $checked = read_json("$run/checked.json") || {};
    $httpd = UserSync::Httpd->attach(
        { %{ $info->{httpd} }, log_from => $checked->{position} });
    return if grep { $_ eq '-keep' } @option;
    postgres()->reset;
    double()->reset;
    return;
}

# ---- the servers

# The suite's httpd (UserSync::Httpd): url, pid, children, graceful, log ...
sub httpd { return $httpd }

# The suite's PostgreSQL (UserSync::Postgres), with the databases app and other
sub postgres {
    return $postgres ||= UserSync::Postgres->attach($info->{pg});
}

# The suite's double of Supabase Auth (UserSync::Double)
sub double {
    return $double ||= UserSync::Double->attach(ready_file => $info->{double});
}

sub mpm     { return $info->{mpm} }
sub ca_file { return $info->{ca} }

# http://127.0.0.1:port of a vhost of t/conf/extra.conf.in; https if its name
# starts with tls. Without a name: the main server.
sub vhost_url {
    my ($name, $path) = @_;
    my $url = $httpd->url($path, $name);
    $url =~ s/^http:/https:/ if defined $name && $name =~ /^tls/;
    return $url;
}

# The lines that a private httpd needs to serve the routes, for its config.
# Arguments replace or add directives; undef removes one:
#   module_config(UserSyncTimeout => '500ms', DBDMin => undef)
sub module_config {
    my (%set) = @_;
    my %line = (
        DBDriver            => 'pgsql',
        DBDParams           => '"' . postgres()->dsn('app') . '"',
        DBDMin              => 0,
        DBDKeep             => 4,
        DBDMax              => 10,
        UserSyncSupabaseURL => double()->url,
        UserSyncSupabaseKey => "file:$ENV{USERSYNC_RUN}/publishable.key",
        # as in t/conf/extra.conf.in
        UserSyncMaxConcurrent  => '100%',
        UserSyncMaxPerClient   => 'Off',
        UserSyncCircuitBreaker => 'Off',
        %set,
    );
    my $text = join '', map {"$_ $line{$_}\n"}
        grep { defined $line{$_} } sort keys %line;
    return $text . <<'CONF';
<Location "/auth/register">
    SetHandler usersync-register
</Location>
<Location "/auth/login">
    SetHandler usersync-login
</Location>
<Location "/auth/refresh">
    SetHandler usersync-refresh
</Location>
<Location "/auth/logout">
    SetHandler usersync-logout
</Location>
CONF
}

# ---- requests

# A path on the main server, "vhost:/path", or a URL
sub _url {
    my ($where) = @_;
    return $where if $where =~ m{^https?://};
    return vhost_url($1, $2) if $where =~ m{^(\w+):(/.*)$}s;
    return vhost_url(undef, $where);
}

# method, where, body (hash: JSON; string: as it is; undef: none), headers.
# -timeout => seconds, -ca => file, -tls => {...} and -from => the client's own
# address are given among the headers. Every request uses its own connection.
sub request {
    my ($method, $where, $body, %header) = @_;
    $header{-ca} = ca_file() unless exists $header{-ca};
    return UserSync::HTTP->exchange($method, _url($where), $body, %header);
}

sub get {
    my ($where, @header) = @_;
    return request('GET', $where, undef, @header);
}

sub post { return request('POST', @_) }

# A connection to send bytes on: send, response, closed, done_sending, close.
sub connection {
    my ($where, %arg) = @_;
    return UserSync::HTTP->connect(_url($where || '/'), ca => ca_file(), %arg);
}

# Sends the pieces (bytes; a number reference is a pause in seconds, like
# \0.1), then returns the responses up to the end of the connection or until
# none has come for $timeout seconds; then the last one is an incomplete one.
sub raw {
    my ($where, @pieces) = @_;
    my $timeout = ref $pieces[-1] eq 'HASH' ? pop(@pieces)->{timeout} : undef;
    my $connection = connection($where);
    for my $piece (@pieces) {
        if (ref $piece) { sleep $$piece }
        else            { $connection->send($piece) or last }
    }
    my @responses;
    while (1) {
        my $response = $connection->response($timeout || 10);
        last if @responses && ($response->{error} || '') eq 'closed';
        push @responses, $response;
        last if $response->{error};
    }
    return @responses;
}

# The bytes of a POST, for raw() and connections.
sub post_bytes {
    my ($where, $body, %header) = @_;
    return UserSync::HTTP::build('POST', _url($where), $body, %header);
}

# $n requests at the same moment: the block gets the number (0 ...) and returns
# the arguments of post(). Responses in order; elapsed counts from that moment.
sub parallel {
    my ($n, $code, $timeout) = @_;
    return UserSync::HTTP->at_once($timeout, map {
        my ($where, @rest) = $code->($_);
        ['POST', _url($where), @rest];
    } 0 .. $n - 1);
}

# Runs the block in $n processes at the same time; returns their results
# (anything that JSON can hold), in order. undef for one that died.
sub forked {
    my ($n, $code) = @_;
    pipe my $go, my $start or die "pipe: $!";
    my @files = map {"$ENV{USERSYNC_RUN}/forked.$$.$_"} 0 .. $n - 1;
    my @pids;
    for my $i (0 .. $n - 1) {
        my $pid = fork;
        die "fork: $!" unless defined $pid;
        if (!$pid) {
            close $start;
            sysread $go, my $byte, 1;
            my $ok = eval { write_json($files[$i], [$code->($i)]); 1 };
            print STDERR "# process $i: $@" unless $ok;
            POSIX::_exit($ok ? 0 : 1);
        }
        push @pids, $pid;
    }
    close $start;
    waitpid $_, 0 for @pids;
    my @values = map { (read_json($_) || [])->[0] } @files;
    unlink @files;
    return @values;
}

# (exit status, output) of curl, if a real client is needed, as for HTTP/2.
sub curl {
    my (@arg) = @_;
    return run_command('curl', '-sS', '--noproxy', '*', '--max-time',
        30 * patience(), '--cacert', ca_file(), @arg);
}

# ---- rows

# The row of a user in the database app (or another), or undef
sub row_of {
    my ($id, $db) = @_;
    my ($row) = postgres()->sql($db || 'app',
        'SELECT * FROM users WHERE id::text = ?', $id);
    return $row;
}

# The promise: the user of this successful response has a row.
sub user_row_ok {
    my ($response, $email, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    $name ||= "row of $email";
    my $id = eval { $response->{json}{user_id} };
    my $row = defined $id && row_of($id);
    return is($row && $row->{email}, $email, $name) || diag show($response);
}

# A response on a few lines, for diag.
sub show {
    my ($response) = @_;
    my $header = join '', map {"    $_->[0]: $_->[1]\n"}
        @{ $response->{header_list} };
    return sprintf "%s %s (%.3f s)%s\n%s\n%s", $response->{status},
        $response->{reason} || '', $response->{elapsed} || 0,
        $response->{error} ? " $response->{error}" : '', $header,
        $response->{body} || $response->{unread} || '';
}

# ---- the log

# A line that must come in the error log of the suite's httpd (at least once,
# or exactly this many times), and one that may come. Every other new line at
# warn or worse fails the file, and so does a crash of a child. Private servers
# have methods of the same names.
sub expect_log { $httpd->expect_log(@_); return }
sub allow_log  { $httpd->allow_log(@_);  return }

# Lines of the error log since a mark, or since the start of the file.
sub log_mark  { return $httpd->log->mark }
sub log_since { return $httpd->log_since(@_) }

sub done_testing {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    _judge_logs();
    return Test::More::done_testing(@_);
}

sub _judge_logs {
    $judged = 1;
    my @complaints = map { _complaints($_) }
        $httpd->log, UserSync::Httpd->stop_all;
    _keep_position();
    ok(!@complaints, 'error log') or diag join "\n", @complaints;
    return;
}

sub _complaints {
    my ($log) = @_;
    my ($name) = $log->file =~ m{([^/]+)$};
    return map {"$name: $_"} $log->settle;
}

# The next file reads the log from here on: late lines fail that one, but none
# is lost.
sub _keep_position {
    write_json("$ENV{USERSYNC_RUN}/checked.json",
        { position => $httpd->log->position });
    return;
}

END {
    if ($info && $httpd && $$ == $test_pid) {
        my $status = $?;
        alarm 0;
        eval { $postgres->cont if $postgres };
        eval { UserSync::Httpd->stop_all };
        if (!$judged) {
            # the file has failed or skips itself: its lines belong to no other
            # file
            diag $_ for $status ? $httpd->log->unexpected : ();
            $httpd->log->unexpected;
            eval { _keep_position() };
        }
        $status ||= 1 if _end_leftovers();
        # after a failure they are needed, otherwise they are in the way
        UserSync::Httpd->remove_logs
            if !$status && Test::More->builder->is_passing;
        $? = $status;
    }
}

# A process that the test has forgotten would keep its output open, and the
# suite waiting for its end.
sub _end_leftovers {
    my @pids = UserSync::Guardian::processes_of_test($$) or return 0;
    diag "left running: $_" for UserSync::Guardian::describe(@pids);
    kill $_, @pids for qw(CONT TERM);
    wait_until { !UserSync::Guardian::processes_of_test($$) } 2
        or kill 'KILL', UserSync::Guardian::processes_of_test($$);
    return 1;
}

1;
