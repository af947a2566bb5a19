package AuthDouble::Conn;
# One accepted connection: reads requests (keep-alive, pipelined), hands them
# to the handler one at a time, writes what it is told, byte for byte.
use strict;
use warnings;
use Errno qw(EAGAIN EINTR EWOULDBLOCK);
use IO::Socket::SSL ();
use Mojo::IOLoop;
use Socket qw(IPPROTO_TCP TCP_NODELAY SOL_SOCKET SO_LINGER);
use AuthDouble::Http qw(parse_head take_body render);

my $QUICKACK = eval { Socket::TCP_QUICKACK() } // ($^O eq 'linux' ? 12 : undef);
my $REACTOR = Mojo::IOLoop->singleton->reactor;

# new(fh => , id => , tls => context or undef, handler => sub, on_close => sub)
sub new {
    my ($class, %self) = @_;
    my $self = bless {%self, rbuf => '', wbuf => ''}, $class;
    $self->{fh}->blocking(0);
    setsockopt $self->{fh}, IPPROTO_TCP, TCP_NODELAY, 1;
    return $self;
}

sub start {
    my ($self) = @_;
    return $self->_handshake if $self->{tls};
    $REACTOR->io($self->{fh} => sub { pop() ? $self->_flush : $self->_read });
    $REACTOR->watch($self->{fh}, 1, 0);
    return;
}

sub _handshake {
    my ($self) = @_;
    IO::Socket::SSL->start_SSL($self->{fh}, SSL_server => 1,
        SSL_startHandshake => 0, SSL_reuse_ctx => $self->{tls})
        or return $self->close;
    my $step = sub {
        if ($self->{fh}->accept_SSL) {
            $REACTOR->io($self->{fh} =>
                sub { pop() ? $self->_flush : $self->_read });
            $REACTOR->watch($self->{fh}, 1, 0);
            return $self->_read;
        }
        my $err = $IO::Socket::SSL::SSL_ERROR;
        return $REACTOR->watch($self->{fh}, 1, 0)
            if $err == IO::Socket::SSL::SSL_WANT_READ();
        return $REACTOR->watch($self->{fh}, 1, 1)
            if $err == IO::Socket::SSL::SSL_WANT_WRITE();
        $self->close;
    };
    $REACTOR->io($self->{fh} => $step);
    $REACTOR->watch($self->{fh}, 1, 0);
    return;
}

# TLS may hold decrypted bytes that no event announces: read until it blocks
sub _read {
    my ($self) = @_;
    while (my $fh = $self->{fh}) {
        my $buf;
        my $n = $self->{tls} ? $fh->sysread($buf, 65536)
            : sysread($fh, $buf, 65536);
        if (!defined $n) {
            last if $! == EAGAIN || $! == EINTR || $! == EWOULDBLOCK;
            return $self->close;
        }
        if (!$n) {
            $self->{eof} = 1;
            $self->_leaves;
            $REACTOR->watch($fh, 0, length $self->{wbuf} ? 1 : 0);
            last;
        }
        $self->{rbuf} .= $buf;
        last if !$self->{tls} && $n < 65536;
    }
    $self->_process;
    # a client that is gone does not wait for a held answer
    $self->close if $self->{eof} && ($self->{held} || !$self->{busy})
        && $self->{fh} && !length $self->{wbuf};
    return;
}

sub _process {
    my ($self) = @_;
    return if $self->{looping};
    local $self->{looping} = 1;
    while ($self->{fh} && !$self->{busy} && !$self->{ending}) {
        last if !$self->{req} && !length $self->{rbuf};
        my $ready = eval {
            $self->{req} //= parse_head(\$self->{rbuf});
            $self->_continue if $self->{req};
            $self->{req} && take_body($self->{req}, \$self->{rbuf});
        };
        if ($@) { return $self->_bad_request($@) }
        if (!$ready) {
            # a client that sends head and body apart waits for this ACK
            setsockopt $self->{fh}, IPPROTO_TCP, $QUICKACK, 1
                if defined $QUICKACK;
            last;
        }
        my $req = delete $self->{req};
        $self->{busy} = 1;
        $self->{handler}->($self, $req);
    }
    return;
}

sub _continue {
    my ($self) = @_;
    my $req = $self->{req};
    return if $req->{told} || lc($req->{h}{expect} // '') ne '100-continue';
    $req->{told} = 1;
    $self->write("HTTP/1.1 100 Continue\r\n\r\n") if !length $self->{rbuf};
    return;
}

sub _bad_request {
    my ($self, $why) = @_;
    die $why if $why !~ /\A([0-9]{3})\n\z/;
    my $text = "$1 " . AuthDouble::Http::reason($1);
    my ($head, $body) = render(undef, {status => $1, body => $text,
        headers => [['Content-Type', 'text/plain; charset=utf-8']]},
        close => 1);
    $self->write($head . $body);
    return $self->finish;
}

sub write {
    my ($self, $bytes) = @_;
    return if !$self->{fh};
    $self->{wbuf} .= $bytes;
    return $self->_flush;
}

sub _flush {
    my ($self) = @_;
    my $fh = $self->{fh} or return;
    while (length $self->{wbuf}) {
        my $n = $self->{tls} ? $fh->syswrite($self->{wbuf}, 65536)
            : syswrite($fh, $self->{wbuf});
        if (!defined $n) {
            return $REACTOR->watch($fh, !$self->{eof}, 1)
                if $! == EAGAIN || $! == EINTR || $! == EWOULDBLOCK;
            return $self->close;
        }
        substr $self->{wbuf}, 0, $n, '';
        $self->{blocked} = 1 if length $self->{wbuf};
    }
    if (delete $self->{blocked}) { $REACTOR->watch($fh, !$self->{eof}, 0) }
    return $self->close
        if $self->{ending} || $self->{eof} && !$self->{busy};
    return;
}

# the answer is complete: go on with the next request
sub done {
    my ($self) = @_;
    $self->{busy} = 0;
    $self->_process;
    $self->close if $self->{eof} && !$self->{busy} && !length $self->{wbuf};
    return;
}

# a whole answer: reply($req, {status,headers,body}, %render_options)
sub reply {
    my ($self, $req, $res, %opt) = @_;
    my ($head, $body, $close) = render($req, $res, %opt);
    $self->{ending} = 1 if $close;
    $self->write($head . $body);
    return $self->done;
}

# close in order, after everything is written
sub finish {
    my ($self) = @_;
    $self->{ending} = 1;
    return length $self->{wbuf} ? undef : $self->close;
}

sub reset {
    my ($self) = @_;
    setsockopt $self->{fh}, SOL_SOCKET, SO_LINGER, pack 'II', 1, 0
        if $self->{fh};
    $self->{abort} = 1;
    return $self->close;
}

# never answer, only notice when the client leaves
sub hold {
    my ($self) = @_;
    $self->{busy} = $self->{held} = 1;
    return;
}

sub timer {
    my ($self, $ms, $cb) = @_;
    my $id;
    $id = Mojo::IOLoop->timer($ms / 1000 => sub {
        delete $self->{timers}{$id};
        $cb->() if $self->{fh};
    });
    $self->{timers}{$id} = 1;
    return;
}

# somebody may be at work for the client
sub _leaves {
    my ($self) = @_;
    my $tell = delete $self->{on_leaving};
    return $tell ? $tell->() : undef;
}

sub close {
    my ($self) = @_;
    my $fh = delete $self->{fh} or return;
    $self->_leaves;
    Mojo::IOLoop->remove($_) for keys %{delete $self->{timers} || {}};
    $REACTOR->remove($fh);
    $self->{on_close}->($self);
    if ($self->{tls} && $fh->isa('IO::Socket::SSL')) {
        # SSL_no_shutdown: an aborted connection says no goodbye
        $fh->close(SSL_fast_shutdown => 1,
            SSL_no_shutdown => $self->{abort} ? 1 : 0);
    }
    else { CORE::close($fh) }
    delete @$self{qw(handler rbuf wbuf)};
    return;
}

1;
