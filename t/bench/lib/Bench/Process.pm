package Bench::Process;

# Programs of the benchmark that run in the foreground, and the cost of
# processes, from /proc: CPU time and memory of a process and its descendants.

use strict;
use warnings;

use Exporter qw(import);
use POSIX ();
use Time::HiRes qw(sleep);

use UserSync::Util qw(alive slurp wait_until);

our @EXPORT_OK = qw(cpu_of_machine cpu_seconds family pss_kb);

my $ticks = POSIX::sysconf(POSIX::_SC_CLK_TCK());

# command => [...], log => file, env => {...}, dir => where to run it
sub start {
    my ($class, %arg) = @_;
    my $pid = fork;
    die "fork: $!\n" unless defined $pid;
    if (!$pid) {
        $SIG{$_} = 'DEFAULT' for qw(INT TERM HUP CHLD __DIE__);
        chdir $arg{dir} if $arg{dir};
        $ENV{$_} = $arg{env}{$_} for keys %{ $arg{env} || {} };
        open STDIN,  '<',  '/dev/null';
        open STDOUT, '>>', $arg{log};
        open STDERR, '>&', \*STDOUT;
        { no warnings 'exec'; exec { $arg{command}[0] } @{ $arg{command} }; }
        print STDERR "$arg{command}[0]: $!\n";
        POSIX::_exit(127);
    }
    return bless { pid => $pid, log => $arg{log}, owner => $$ }, $class;
}

sub pid { return $_[0]{pid} }
sub said { return slurp($_[0]{log}) || '' }

sub is_running {
    my ($self) = @_;
    waitpid $self->{pid}, POSIX::WNOHANG();
    return alive($self->{pid});
}

# TERM, and KILL if that does not help; also waits for the children.
sub stop {
    my ($self) = @_;
    return if $self->{stopped}++ || $self->{owner} != $$;
    my @all = family($self->{pid});
    kill 'TERM', $self->{pid};
    my $gone = sub { $self->is_running; !grep { alive($_) } @all };
    if (!wait_until { $gone->() } 10) {
        kill 'KILL', @all;
        wait_until { $gone->() } 10, "the end of $self->{pid}";
    }
    return;
}

sub DESTROY {
    my ($self) = @_;
    local ($@, $?, $!);
    eval { $self->stop };
    return;
}

# ---- the cost of processes

# { pid => [parent, seconds of CPU, reaped children included] } of all.
sub _all {
    my %process;
    opendir my $proc, '/proc' or die "/proc: $!\n";
    for my $pid (grep {/^\d+$/} readdir $proc) {
        my $stat = slurp("/proc/$pid/stat") or next;
        my @field = split ' ', ($stat =~ /.*\) (.*)/s)[0];
        my $used = 0;
        $used += $_ for @field[11 .. 14];
        $process{$pid} = [$field[1], $used / $ticks];
    }
    return \%process;
}

sub _below {
    my ($process, @pids) = @_;
    my %children;
    push @{ $children{ $process->{$_}[0] } }, $_ for keys %$process;
    my (@found, %seen);
    while (@pids) {
        my $pid = shift @pids;
        next if !$process->{$pid} || $seen{$pid}++;
        push @found, $pid;
        push @pids, @{ $children{$pid} || [] };
    }
    return @found;
}

# These processes and their descendants.
sub family { return _below(_all(), @_) }

sub cpu_seconds {
    my (@pids) = @_;
    my $process = _all();
    my $sum = 0;
    $sum += $process->{$_}[1] for _below($process, @pids);
    return $sum;
}

# (seconds of CPU that were used, seconds of CPU that were available)
sub cpu_of_machine {
    my @field = (split ' ', slurp('/proc/stat'))[1 .. 8];
    my $all = 0;
    $all += $_ for @field;
    return map { $_ / $ticks } $all - $field[3] - $field[4], $all;
}

# Proportional set size: shared pages are divided among their processes.
sub pss_kb {
    my (@pids) = @_;
    my $sum = 0;
    for my $pid (family(@pids)) {
        my $text = slurp("/proc/$pid/smaps_rollup");
        my ($kb) = ($text || '') =~ /^Pss:\s+(\d+) kB/m;
        die "no PSS of process $pid\n" if !defined $kb && alive($pid);
        $sum += $kb || 0;
    }
    return $sum;
}

1;
