package Bench::OpenLoop;

# Clients that do not wait for each other: requests are sent at a fixed rate,
# whatever happens to earlier ones. A number of clients, each with a kept
# connection if possible, take turns; a client that waits for its answer is
# skipped. If none is free, another one is added. "most" limits the number of
# requests.
#
#   my $load = Bench::OpenLoop->start(url => $url, rate => 300, clients => 300);
#   my $seen = $load->stop;
#
# stop returns { sent, by => { "503" => n }, waiting (at the end), peak
# (waiting at the same time), late (seconds behind the schedule, at most) }.

use strict;
use warnings;

use IO::Poll qw(POLLERR POLLHUP POLLIN POLLOUT);
use Time::HiRes qw(sleep time);

use UserSync::Background ();
use UserSync::HTTP ();

use Bench::World ();

sub start {
    my ($class, %arg) = @_;
    my $job = UserSync::Background->start(sub { _run($_[0], \%arg) });
    return bless { job => $job }, $class;
}

sub stop { return $_[0]{job}->result }

sub _run {
    my ($job, $self) = @_;
    local $SIG{PIPE} = 'IGNORE';
    $self->{poll} = IO::Poll->new;
    $self->{free} = [map { { } } 1 .. $self->{clients}];
    $self->{seen} = { sent => 0, by => {}, peak => 0, late => 0 };
    $self->{busy} = {};
    my $start = time;
    my $next  = 0;
    while (!$job->stopping) {
        my $wait = $self->{most} && $next >= $self->{most} ? 0.1
            : $start + $next / $self->{rate} - time;
        if ($wait <= 0) {
            $self->{seen}{late} = -$wait if -$wait > $self->{seen}{late};
            _send($self, $next++);
            next;
        }
        # IO::Poll without a handle does not wait
        if (keys %{ $self->{busy} }) { _poll($self, $wait) }
        else                         { sleep $wait }
    }
    my $seen = $self->{seen};
    $seen->{waiting} = keys %{ $self->{busy} };
    return $seen;
}

sub _send {
    my ($self, $number) = @_;
    my $client = shift @{ $self->{free} } || {};
    my @request = (POST => $self->{url}, {
        email => Bench::World::email($number % 1000),
        password => 'correct horse battery',
    }, Connection => 'keep-alive');
    my $call = $client->{socket} && _still_open($client->{socket})
        ? { socket => $client->{socket}, method => 'POST', in => '',
            out => UserSync::HTTP::build(@request) }
        : UserSync::HTTP::_open(\@request);
    $self->{busy}{ fileno $call->{socket} } = $call;
    $self->{poll}->mask($call->{socket} => POLLOUT);
    my $seen = $self->{seen};
    $seen->{sent}++;
    my $waiting = keys %{ $self->{busy} };
    $seen->{peak} = $waiting if $waiting > $seen->{peak};
    return;
}

# The server may have closed it unnoticed.
sub _still_open {
    my ($socket) = @_;
    my $n = sysread $socket, my $nothing, 1;
    return !defined $n && $!{EAGAIN};
}

sub _poll {
    my ($self, $wait) = @_;
    my $poll = $self->{poll};
    return if $poll->poll($wait) <= 0;
    for my $socket ($poll->handles(POLLIN | POLLOUT | POLLERR | POLLHUP)) {
        my $call = $self->{busy}{ fileno $socket } or next;
        UserSync::HTTP::_step($call, 1);
        if (!$call->{response}) {
            $poll->mask($socket => UserSync::HTTP::_interest($call, 1));
            next;
        }
        $poll->remove($socket);
        delete $self->{busy}{ fileno $socket };
        my $response = $call->{response};
        $self->{seen}{by}{ $response->{error} || $response->{status} }++;
        my $kept = !$response->{error}
            && ($response->{headers}{connection} || '') !~ /close/i;
        push @{ $self->{free} }, { $kept ? (socket => $socket) : () };
    }
    return;
}

1;
