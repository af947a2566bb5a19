package UserSync::Gateway;

# The gateway of a whole Supabase project, for conf/usersync-proxy.conf: what is
# for Auth goes to the double, realtime is a WebSocket that sends everything
# back, and all other services write down what they are asked.
#
#   my $project = UserSync::Gateway->start(double->port);
#   ... Define USERSYNC_SUPABASE_URL ${\ $project->url } ...
#   my ($request) = $project->requests;      method, path, headers, length
#   wait_until { $project->received > 65536 } 10, 'a part of the upload';
#
# Their answer is a file with the name of the path, as told by
#
#   $project->answers('/storage/v1/x' => "HTTP/1.1 201 Created\r\n...");
#
# or 200 and {}. An answer that ends in HOLD stops there until $project->go.

use strict;
use warnings;

use Digest::SHA qw(sha1_base64);
use IO::Select ();
use IO::Socket::INET ();

use UserSync::Background ();
use UserSync::Util qw(append_json new_dir read_json slurp spew write_json);

sub start {
    my ($class, $auth) = @_;
    my $listener = IO::Socket::INET->new(
        LocalAddr => '127.0.0.1', LocalPort => 0, Listen => 128,
        Proto => 'tcp', ReuseAddr => 1) or die "no gateway: $@\n";
    my $dir  = new_dir('gateway');
    my $self = bless { port => $listener->sockport, dir => $dir }, $class;
    my %server = (auth => $auth, dir => $dir, listener => $listener,
        select => IO::Select->new($listener), client => {});
    $self->{job} = UserSync::Background->start(sub { _serve($_[0], \%server) });
    close $listener;
    return $self;
}

sub url { return 'http://127.0.0.1:' . $_[0]{port} }

# For these paths, from now on.
sub answers {
    my ($self, %answer) = @_;
    return write_json("$self->{dir}/answers", \%answer);
}

sub go { return spew($_[0]{dir} . '/go', 'go') }

# What the services but Auth were asked, in order, without bodies that have not
# arrived.
sub requests {
    my ($self) = @_;
    return map { JSON::PP::decode_json($_) }
        split /\n/, slurp("$self->{dir}/requests") || '';
}

# How many bytes of bodies have arrived there.
sub received { return slurp($_[0]{dir} . '/received') || 0 }

# ---- in the background

sub _serve {
    my ($job, $server) = @_;
    local $SIG{PIPE} = 'IGNORE';
    my ($select, $client, $held) = (@$server{qw(select client)}, 0);
    $server->{bytes} = 0;
    while (!$job->stopping) {
        for my $socket ($select->can_read(0.02)) {
            if ($socket == $server->{listener}) {
                my $new = $socket->accept or next;
                $client->{$new} = { socket => $new, in => '' };
                $select->add($new);
            }
            elsif ($client->{$socket}) {
                _read($server, $client->{$socket});
            }
        }
        next unless -e "$server->{dir}/go";
        _send($server, $_, delete $_->{held})
            for grep { defined $_->{held} } values %$client;
    }
    return;
}

sub _read {
    my ($server, $own) = @_;
    my $n = sysread $own->{socket}, my $bytes, 65536;
    return _close($server, $own) unless $n;
    return _write($own->{peer}{socket}, $bytes) || _close($server, $own)
        if $own->{peer};
    return _write($own->{socket}, $bytes) if $own->{echo};
    return _body($server, $own, $bytes) if $own->{request};
    $own->{in} .= $bytes;
    $own->{in} =~ /\A(.*?\r\n\r\n)/s or return;
    my ($head, $rest) = ($1, substr $own->{in}, $+[0]);
    my ($method, $path) = $head =~ /\A(\S+) (\S+)/;
    return _link($server, $own) if $path =~ m{^/auth/v1/};
    my %header = map { lc($_->[0]) => $_->[1] }
        map { [/\A([^:]+):\s*(.*)\z/] } grep {/:/} split /\r\n/, $head;
    return _upgrade($own, \%header) if $header{upgrade};
    $own->{request} = { method => $method, path => $path, length => 0,
        headers => \%header };
    return _body($server, $own, $rest);
}

# Counts what has arrived, and answers when all of it has.
sub _body {
    my ($server, $own, $bytes) = @_;
    my $request = $own->{request};
    $request->{length} += length $bytes;
    $server->{bytes}   += length $bytes;
    spew("$server->{dir}/received", $server->{bytes});
    return if $request->{length} < ($request->{headers}{'content-length'} || 0);
    append_json("$server->{dir}/requests", $request);
    my $answers = read_json("$server->{dir}/answers") || {};
    my ($path) = $request->{path} =~ /\A([^?]*)/;
    my ($now, $later) = split /HOLD/, $answers->{$path}
        || "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
        . "Content-Length: 2\r\n\r\n{}";
    return _send($server, $own, $now) unless defined $later;
    $own->{held} = $later;
    return _write($own->{socket}, $now);
}

sub _send {
    my ($server, $own, $bytes) = @_;
    _write($own->{socket}, $bytes);
    return _close($server, $own);
}

# RFC 6455; what follows is sent back as it comes.
sub _upgrade {
    my ($own, $header) = @_;
    my $accept = sha1_base64("$header->{'sec-websocket-key'}"
        . '258EAFA5-E914-47DA-95CA-C5AB0DC85B11') . '=';
    $own->{echo} = 1;
    return _write($own->{socket}, "HTTP/1.1 101 Switching Protocols\r\n"
        . "Upgrade: websocket\r\nConnection: Upgrade\r\n"
        . "Sec-WebSocket-Accept: $accept\r\n\r\n");
}

sub _link {
    my ($server, $own) = @_;
    my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
        PeerPort => $server->{auth}, Proto => 'tcp')
        or return _close($server, $own);
    my $peer = $server->{client}{$socket} = { socket => $socket, peer => $own };
    $own->{peer} = $peer;
    $server->{select}->add($socket);
    return _write($socket, $own->{in});
}

sub _close {
    my ($server, $own) = @_;
    my @ends = ($own, $own->{peer} || ());
    for my $end (@ends) {
        delete $server->{client}{ $end->{socket} };
        $server->{select}->remove($end->{socket});
        close $end->{socket};
        delete $end->{peer};
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
