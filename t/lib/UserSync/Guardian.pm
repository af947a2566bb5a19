package UserSync::Guardian;

# Nothing is left behind: a small process in its own session waits until the
# run has ended, in any way (also by SIGKILL), ends what the run started and
# removes its directory.

use strict;
use warnings;

use File::Path ();
use POSIX ();
use Time::HiRes qw(sleep time);

use UserSync::Util qw(slurp);

sub start {
    my ($class, $dir, @also_remove) = @_;
    pipe my $end, my $life or die "pipe: $!";
    my $pid = fork;
    die "fork: $!" unless defined $pid;
    if (!$pid) {
        close $life;
        _guard($dir, $end, @also_remove);
        POSIX::_exit(0);
    }
    close $end;
    return bless { pid => $pid, life => $life, dir => $dir, owner => $$ },
        $class;
}

# Lets the guardian do its work and waits for it.
sub finish {
    my ($self) = @_;
    return unless $self->{owner} == $$ && delete $self->{life};
    local $SIG{CHLD} = 'DEFAULT';
    waitpid $self->{pid}, 0;
    return;
}

sub _guard {
    my ($dir, $end, @also_remove) = @_;
    POSIX::setsid();
    $SIG{$_} = 'IGNORE' for qw(INT TERM HUP QUIT PIPE);
    $SIG{CHLD} = $SIG{__DIE__} = $SIG{__WARN__} = 'DEFAULT';
    $0 = 'usersync-guardian';
    chdir '/';
    open STDIN,  '<', '/dev/null';
    open STDOUT, '>', '/dev/null';
    open STDERR, '>', '/dev/null';
    while (1) {
        my $n = sysread $end, my $byte, 1;
        last if defined $n || !$!{EINTR};
    }
    sweep($dir);
    File::Path::remove_tree($dir, @also_remove, { safe => 0 });
    return;
}

# Processes of this run: started with its name in their environment, or with
# its directory as their working directory (PostgreSQL's backends overwrite
# their environment).
sub processes {
    my ($dir) = @_;
    return _find("USERSYNC_RUN=$dir", $dir);
}

# Processes that a test file has started; it puts its pid into USERSYNC_TEST.
sub processes_of_test {
    my ($pid) = @_;
    return _find("USERSYNC_TEST=$pid");
}

sub _find {
    my ($setting, $dir) = @_;
    my %found;
    opendir my $proc, '/proc' or return;
    for my $pid (grep {/^\d+$/} readdir $proc) {
        next if $pid == $$;
        my $stat = slurp("/proc/$pid/stat") or next;
        next if $stat =~ /\) Z /;
        my $env = slurp("/proc/$pid/environ") || '';
        my $cwd = readlink "/proc/$pid/cwd"   || '';
        $found{$pid} = 1
            if $env =~ /(?:^|\0)\Q$setting\E(?:\0|$)/
            || defined $dir && $cwd =~ m{^\Q$dir\E(?:/|$)};
    }
    return sort { $a <=> $b } keys %found;
}

# What still runs after everything was stopped, for a message.
sub leftovers {
    my ($dir) = @_;
    return describe(processes($dir));
}

sub describe {
    return map {
        my $cmd = slurp("/proc/$_/cmdline") || '';
        $cmd =~ tr/\0/ /;
        "$_ $cmd";
    } @_;
}

sub sweep {
    my ($dir) = @_;
    for my $signal ('TERM', 'KILL') {
        my $end = time + 5;
        while (my @pids = processes($dir)) {
            # TERM makes a postmaster wait for its clients: QUIT does not
            my ($postmaster)
                = (slurp("$dir/pg/data/postmaster.pid") || '') =~ /^(\d+)/;
            kill 'CONT', @pids;
            kill $signal, grep { !$postmaster || $_ != $postmaster } @pids;
            kill $signal eq 'TERM' ? 'QUIT' : 'KILL', $postmaster
                if $postmaster && grep { $_ == $postmaster } @pids;
            last if time > $end;
            sleep 0.1;
        }
    }
    return;
}

1;
