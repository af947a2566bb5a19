package UserSync::Proxy;

# A forward proxy that records its requests, for UserSyncProxy:
#
#   my $proxy = UserSync::Proxy->start;
#   ... $proxy->url, $proxy->url('socks5h') ...
#   is_deeply [$proxy->asked], ["CONNECT 127.0.0.1:443 HTTP/1.1\r\n..."];
#
# It serves CONNECT, requests for whole URLs and SOCKS5, without names. With
# answer => bytes it sends only those, to everybody; with '' it sends nothing.

use strict;
use warnings;

use IO::Select ();
use IO::Socket::INET ();

use UserSync::Background ();
use UserSync::Util qw(append_json new_dir slurp);

sub start {
    my ($class, %arg) = @_;
    my $listener = IO::Socket::INET->new(
        LocalAddr => '127.0.0.1', LocalPort => 0, Listen => 128,
        Proto => 'tcp', ReuseAddr => 1) or die "no proxy: $@\n";
    my $self = bless {
        port => $listener->sockport, account => new_dir('proxy') . '/asked',
    }, $class;
    my %server = (%arg, account => $self->{account}, listener => $listener,
        select => IO::Select->new($listener), client => {});
    $self->{job} = UserSync::Background->start(sub { _serve($_[0], \%server) });
    close $listener;
    return $self;
}

sub port { return $_[0]{port} }
sub url { return ($_[1] || 'http') . "://127.0.0.1:$_[0]{port}" }

# Its requests so far: the head of the first request of each connection, or
# "SOCKS5 host:port".
sub asked {
    my ($self) = @_;
    return map { JSON::PP::decode_json("[$_]")->[0] }
        split /\n/, slurp($self->{account}) || '';
}

sub forget { unlink $_[0]{account}; return }

# ---- in the background

sub _serve {
    my ($job, $server) = @_;
    local $SIG{PIPE} = 'IGNORE';
    my ($select, $client) = @$server{qw(select client)};
    while (!$job->stopping) {
        for my $socket ($select->can_read(0.05)) {
            if ($socket == $server->{listener}) {
                my $new = $socket->accept or next;
                $client->{$new} = { in => '' };
                $select->add($new);
            }
            elsif ($client->{$socket}) {
                _read($server, $socket);
            }
        }
    }
    return;
}

sub _read {
    my ($server, $socket) = @_;
    my $own = $server->{client}{$socket};
    return _close($server, $socket)
        unless sysread $socket, my $bytes, 65536;
    return _write($own->{peer}, $bytes) || _close($server, $socket)
        if $own->{peer};
    $own->{in} .= $bytes;
    return _socks($server, $socket, $own) if $own->{in} =~ /\A\x05/;
    return unless $own->{in} =~ /\A(.*?\r\n\r\n)/s;
    append_json($server->{account}, "$1");
    return _refuse($server, $socket) if exists $server->{answer};
    return _link($server, $socket, "$1", '',
        "HTTP/1.1 200 Connection established\r\n\r\n")
        if $own->{in} =~ /\ACONNECT (\S+) /;
    return _link($server, $socket, "$1", $own->{in}, '')
        if $own->{in} =~ m{\A\S+ http://([^/]+)/};
    return _close($server, $socket);
}

sub _refuse {
    my ($server, $socket) = @_;
    return 1 if $server->{answer} eq '';
    _write($socket, $server->{answer});
    return _close($server, $socket);
}

# Greeting, then the request: an IPv4 address or a name and a port (RFC 1928).
sub _socks {
    my ($server, $socket, $own) = @_;
    if (!$own->{greeted}) {
        my (undef, $count, $rest) = unpack 'C C a*', $own->{in};
        return if !defined $count || length $rest < $count;
        @$own{qw(greeted in)} = (1, "\x05");
        return _write($socket, "\x05\x00");
    }
    my $in = substr $own->{in}, 1;
    my ($host, $port)
        = $in =~ /\A\x05\x01\x00\x01(.{4})(..)\z/s
            ? (join('.', unpack 'C4', $1), unpack 'n', $2)
        : $in =~ /\A\x05\x01\x00\x03.(.*)(..)\z/s ? ($1, unpack 'n', $2)
        : return;
    append_json($server->{account}, "SOCKS5 $host:$port");
    return _link($server, $socket, "$host:$port", '',
        pack 'C4 a4 n', 5, 0, 0, 1, '', 0);
}

# Bytes for the server and for the client, then whatever they send.
sub _link {
    my ($server, $socket, $to, $up, $down) = @_;
    my $peer = IO::Socket::INET->new(PeerAddr => $to, Proto => 'tcp')
        or return _close($server, $socket);
    @{ $server->{client} }{$socket, $peer}
        = ({ peer => $peer }, { peer => $socket });
    $server->{select}->add($peer);
    return _write($socket, $down) && _write($peer, $up);
}

sub _close {
    my ($server, $socket) = @_;
    my $own = delete $server->{client}{$socket};
    for my $end ($socket, $own->{peer} || ()) {
        delete $server->{client}{$end};
        $server->{select}->remove($end);
        close $end;
    }
    return;
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
