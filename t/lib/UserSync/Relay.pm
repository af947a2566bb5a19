package UserSync::Relay;

# A TCP relay in front of a server, which plays all kinds of network:
#
#   my $relay = UserSync::Relay->start($pg->port);
#   $pg->dsn_tcp('app', port => $relay->port)
#
# freeze: it accepts and passes on nothing, only the kernel accepts connections
# (a black hole); thaw ends that. cut: it closes the connections that it has.
# While the server refuses, incoming connections are closed at once. listener =>
# a socket that listens already, on whatever network.

use strict;
use warnings;

use IO::Select ();
use IO::Socket::INET ();
use Socket qw(IPPROTO_TCP TCP_NODELAY);
use Time::HiRes qw(time);

use UserSync::Background ();
use UserSync::Util qw(new_dir slurp wait_until);

sub start {
    my ($class, $to, %arg) = @_;
    my $listener = $arg{listener} || IO::Socket::INET->new(
        LocalAddr => '127.0.0.1', LocalPort => 0, Listen => 128,
        Proto => 'tcp', ReuseAddr => 1) or die "no relay: $@\n";
    my $self = bless {
        port => $listener->sockport,
        account => new_dir('relay') . '/accepted',
    }, $class;
    $self->{job} = UserSync::Background->start(
        sub { _serve($_[0], $listener, $to, $self->{account}) });
    close $listener;
    return $self;
}

sub port { return $_[0]{port} }

# When connections were accepted, as times.
sub accepted { return split /\n/, slurp($_[0]{account}) || '' }

sub freeze { return $_[0]->_signal('STOP', qr/[Tt]/) }
sub thaw   { return $_[0]->_signal('CONT', qr/[^Tt]/) }

sub cut { kill 'USR1', $_[0]{job}->pid; return $_[0] }

sub _signal {
    my ($self, $signal, $state) = @_;
    my $pid = $self->{job}->pid;
    kill $signal, $pid;
    wait_until {
        (slurp("/proc/$pid/stat") || '') =~ /\) $state /
    } 5, "SIG$signal";
    return $self;
}

# ---- in the background

sub _serve {
    my ($job, $listener, $to, $account) = @_;
    local $SIG{PIPE} = 'IGNORE';
    open my $log, '>>', $account or die "$account: $!";
    $log->autoflush(1);
    my $select = IO::Select->new($listener);
    my (%peer, $cut);
    local $SIG{USR1} = sub { $cut = 1 };
    while (!$job->stopping) {
        if ($cut) {
            $cut = 0;
            $select = IO::Select->new($listener);
            close $_ for values %peer;
            %peer = ();
        }
        for my $socket ($select->can_read(0.05)) {
            if ($socket == $listener) {
                my $client = $listener->accept or next;
                printf {$log} "%.6f\n", time;
                # both are closed here if the server is not there
                my $server = _connect($to) or next;
                setsockopt $client, IPPROTO_TCP, TCP_NODELAY, 1;
                @peer{$client, $server} = ($server, $client);
                $select->add($client, $server);
            }
            elsif ($peer{$socket}) {
                my $peer = $peer{$socket};
                my $n = sysread $socket, my $bytes, 65536;
                next if $n && _write($peer, $bytes);
                delete @peer{$socket, $peer};
                $select->remove($socket, $peer);
                close $_ for $socket, $peer;
            }
        }
    }
    return;
}

sub _connect {
    my ($port) = @_;
    my $socket = IO::Socket::INET->new(
        PeerAddr => '127.0.0.1', PeerPort => $port, Proto => 'tcp') or return;
    setsockopt $socket, IPPROTO_TCP, TCP_NODELAY, 1;
    return $socket;
}

sub _write {
    my ($socket, $bytes) = @_;
    while (length $bytes) {
        my $n = syswrite $socket, $bytes;
        return 0 unless $n;
        substr $bytes, 0, $n, '';
    }
    return 1;
}

1;
