package AuthDouble::Server;
# Listening sockets on loopback. Each port is held by a second socket that is
# bound but never listens: while the listener is closed (fault "refuse") nobody
# else can get the port, and a client is refused.
use strict;
use warnings;
use IO::Socket::INET;
use IO::Socket::SSL ();
use Mojo::IOLoop;
use Socket qw(SOCK_STREAM SOMAXCONN);
use AuthDouble::Conn;

my $REACTOR = Mojo::IOLoop->singleton->reactor;
my $next_id = 0;

# new(handler => sub, on_accept => sub, port => N, cert => [cert, key])
# on_accept($conn) true: the connection is to be left alone
sub new {
    my ($class, %self) = @_;
    my $self = bless {%self, conns => {}, accepted => 0}, $class;
    $self->{holder} = _bind($self->{port} || 0);
    $self->{port} = $self->{holder}->sockport;
    if (my $c = $self->{cert}) {
        $self->{tls} = IO::Socket::SSL::SSL_Context->new(SSL_server => 1,
            SSL_cert_file => $c->[0], SSL_key_file => $c->[1],
            SSL_alpn_protocols => ['http/1.1'])
            or die "TLS: $IO::Socket::SSL::SSL_ERROR\n";
    }
    $self->open;
    return $self;
}

sub _bind {
    my ($port) = @_;
    socket my $fh, Socket::PF_INET(), SOCK_STREAM, 0 or die "socket: $!\n";
    setsockopt $fh, Socket::SOL_SOCKET(), Socket::SO_REUSEADDR(), 1;
    bind $fh, Socket::pack_sockaddr_in($port, Socket::INADDR_LOOPBACK())
        or die "bind 127.0.0.1:$port: $!\n";
    $fh->blocking(0);
    return bless $fh, 'IO::Socket::INET';
}

sub open {
    my ($self) = @_;
    return if $self->{listen};
    my $fh = $self->{listen} = _bind($self->{port});
    listen $fh, SOMAXCONN or die "listen: $!\n";
    $REACTOR->io($fh => sub { $self->_accept });
    $REACTOR->watch($fh, 1, 0);
    return;
}

# refuse connections until open() is called again
sub shut {
    my ($self) = @_;
    my $fh = delete $self->{listen} or return;
    $REACTOR->remove($fh);
    close $fh;
    $_->close for values %{$self->{conns}};
    return;
}

sub _accept {
    my ($self) = @_;
    for (1 .. 64) {
        my $listen = $self->{listen} or return;
        accept my $fh, $listen or return;
        bless $fh, 'IO::Socket::INET';
        my $id = ++$next_id;
        $self->{accepted}++;
        my $conn = AuthDouble::Conn->new(fh => $fh, id => $id,
            tls => $self->{tls}, handler => $self->{handler},
            on_close => sub { delete $self->{conns}{$id} });
        $self->{conns}{$id} = $conn;
        if ($self->{on_accept} && $self->{on_accept}->($conn)) {
            $conn->{held} = 1;
            next;
        }
        $conn->start;
    }
    return;
}

sub port { return $_[0]{port} }
sub accepted { return $_[0]{accepted} }
sub conns { return values %{$_[0]{conns}} }

1;
