package UserSync::Util;

# Small helpers that every part of the suite needs.

use strict;
use warnings;

use Exporter qw(import);
use Fcntl qw(SEEK_SET);
use File::Path ();
use File::Temp ();
use IO::Socket::INET ();
use JSON::PP ();
use POSIX ();
use Time::HiRes qw(sleep time);

my $processors;

our @EXPORT_OK = qw(
    alive append_json make_dir new_dir patience read_json reserve_port
    reserved_socket run_command slack slurp spew top_dir wait_until write_json
);

# The checkout, or the copy of it that the suite runs in.
sub top_dir {
    require Cwd;
    require File::Basename;
    my $dir = File::Basename::dirname(__FILE__);
    return Cwd::abs_path("$dir/../../..");
}

# How much longer than usual to wait for things: USERSYNC_PATIENCE says so for
# valgrind, and the number of processes that compete for a processor counts,
# too.
sub patience { return ($ENV{USERSYNC_PATIENCE} || 1) * _business() }

sub _business {
    my ($load) = (slurp('/proc/loadavg') || '') =~ /^([\d.]+)/ or return 1;
    $processors ||= () = (slurp('/proc/cpuinfo') || '') =~ /^processor\b/mg;
    my $each = $load / ($processors || 1);
    return $each < 1 ? 1 : $each > 10 ? 10 : $each;
}

# By how many seconds a deadline may be missed because the machine is busy.
sub slack() { return 1.5 * patience() }

# Every directory of a run is below one short path: it is removed as a whole,
# and the path of a unix socket in it stays below the limit of 107 bytes.
sub new_dir {
    my ($name) = @_;
    return File::Temp::tempdir("$name.XXXX", DIR => $ENV{USERSYNC_RUN})
        if $ENV{USERSYNC_RUN};
    return File::Temp::tempdir("/tmp/usersync.XXXXXX");
}

sub make_dir {
    my ($dir) = @_;
    File::Path::make_path($dir);
    return $dir;
}

sub slurp {
    my ($file, $from) = @_;
    open my $fh, '<:raw', $file or return;
    seek $fh, $from, SEEK_SET if $from;
    local $/;
    my $text = <$fh>;
    return defined $text ? $text : '';
}

sub spew {
    my ($file, $text) = @_;
    open my $fh, '>:raw', "$file.new" or die "$file.new: $!";
    print {$fh} $text or die "$file.new: $!";
    close $fh or die "$file.new: $!";
    rename "$file.new", $file or die "$file: $!";
    return $file;
}

my $json = JSON::PP->new->utf8->canonical->allow_nonref;

sub read_json {
    my ($file) = @_;
    my $text = slurp($file);
    return unless defined $text && length $text;
    return eval { $json->decode($text) };
}

sub write_json { return spew($_[0], $json->encode($_[1]) . "\n") }

sub append_json {
    my ($file, $value) = @_;
    open my $fh, '>>', $file or die "$file: $!";
    print {$fh} $json->encode($value), "\n";
    close $fh or die "$file: $!";
    return;
}

# A port of 127.0.0.1 that is reserved while this process lives: bound but not
# listening. A server that sets SO_REUSEADDR, like httpd and PostgreSQL, can
# still listen on it; until then a connection to it is refused.
my @reserved;

sub reserve_port {
    push @reserved, reserved_socket();
    return $reserved[-1]->sockport;
}

# The same until the socket is closed, of that address or another.
sub reserved_socket {
    my ($address) = @_;
    return IO::Socket::INET->new(
        LocalAddr => $address || '127.0.0.1',
        LocalPort => 0,
        Proto     => 'tcp',
        ReuseAddr => 1,
    ) || die "no free port: $@";
}

# Calls the block until it returns something true, and returns that. After the
# time: dies if it was told what it waits for, else returns nothing.
sub wait_until(&;$$) {
    my ($cond, $timeout, $what) = @_;
    $timeout = ($timeout || 10) * patience();
    my $end  = time + $timeout;
    my $nap  = 0.005;
    while (1) {
        my $got = $cond->();
        return $got if $got;
        last if time > $end;
        sleep $nap;
        $nap *= 1.5 if $nap < 0.1;
    }
    die "waited $timeout s in vain for $what\n" if defined $what;
    return;
}

# True while the process exists and is not a zombie.
sub alive {
    my ($pid) = @_;
    return 0 unless $pid && kill 0, $pid;
    my $stat = slurp("/proc/$pid/stat");
    return 0 unless defined $stat;
    return $stat =~ /\) Z / ? 0 : 1;
}

# Runs a command, returns (exit status, output). The output goes to a file and
# not a pipe: a daemon that the command starts keeps a pipe open.
sub run_command {
    my (@command) = @_;
    my $env  = ref $command[0] eq 'HASH' ? shift @command : {};
    my $said = File::Temp->new;
    my $pid  = fork;
    die "fork: $!" unless defined $pid;
    if (!$pid) {
        local $SIG{__DIE__};
        $ENV{$_} = $env->{$_} for keys %$env;
        open STDIN,  '<',  '/dev/null';
        open STDOUT, '>&', $said;
        open STDERR, '>&', $said;
        $SIG{$_} = 'DEFAULT' for qw(INT TERM HUP CHLD ALRM PIPE);
        { no warnings 'exec'; exec { $command[0] } @command; }
        print STDERR "$command[0]: $!\n";
        POSIX::_exit(127);
    }
    local $SIG{CHLD} = 'DEFAULT';
    waitpid $pid, 0;
    my $status = $? & 127 ? 128 + ($? & 127) : $? >> 8;
    my $text   = slurp("$said");
    return ($status, $text);
}

1;
