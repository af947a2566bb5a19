package UserSync::Upstream;

# A server behind mod_proxy that is the test itself: it takes requests, and
# answers them byte by byte, in the steps that the test chooses.
#
#   my $upstream = UserSync::Upstream->new;
#   my $httpd = proxied_server($db, to => $upstream->url)->start;
#   my ($client, $visit) = $upstream->visit($httpd->url, POST => '/token');
#   $visit->send(head(200, 'Content-Length: 2'));
#   $visit->until_read;               # httpd waits for more
#   is $client->arrived, '';          # so it has sent what it would send
#   $visit->send('{}');
#   $client->response;
#
# Its httpd has a vhost "plain" that forwards without the filter:
#
#   my $httpd = $upstream->server($db, "lines of configuration")->start;
#   $upstream->untouched_ok(POST => '/otp', sender(whole(200, '{}')), 'same');

use strict;
use warnings;

use Exporter qw(import);
use IO::Select ();
use IO::Socket::INET ();
use IO::Socket::UNIX ();
use Scalar::Util qw(weaken);
use Socket qw(IPPROTO_TCP TCP_NODELAY);
use Test::More ();

use UserSync::Gate qw(has_row);
use UserSync::HTTP ();
use UserSync::Proxied qw(proxied proxied_server user_of);
use UserSync::Test qw(show);
use UserSync::Util qw(wait_until);

our @EXPORT = qw(
    $CHUNKED $GRANT $JSON all_bytes at_once chunks goes_out_ok head sender whole
);

our $JSON    = 'Content-Type: application/json';
our $CHUNKED = 'Transfer-Encoding: chunked';
our $GRANT   = '/token?grant_type=password';

# ---- what answers are made of

# Status line and headers; "Date" is always the same, so that answers through
# two servers can be compared.
sub head {
    my ($status, @lines) = @_;
    return join "\r\n", "HTTP/1.1 $status Upstream",
        'Date: Tue, 01 Jan 2030 00:00:00 GMT', 'Server: upstream', @lines,
        '', '';
}

# A text in chunks of this many bytes, without the last chunk.
sub chunks {
    my ($text, $size) = @_;
    $size ||= length $text || 1;
    return map { sprintf "%x\r\n%s\r\n", length, $_ } unpack "(a$size)*", $text;
}

# An answer of known length.
sub whole {
    my ($status, $body, @lines) = @_;
    return head($status, 'Content-Length: ' . length $body, @lines) . $body;
}

# Sends pieces; undef ends the connection.
sub sender {
    my (@pieces) = @_;
    return sub {
        my ($visit) = @_;
        for my $piece (@pieces) {
            if (defined $piece) { $visit->send($piece) }
            else                { $visit->close }
        }
    };
}

# ---- the server

# path => of a Unix socket; else it listens on a port of 127.0.0.1.
sub new {
    my ($class, %arg) = @_;
    my $listener = $arg{path}
        ? IO::Socket::UNIX->new(Local => $arg{path}, Listen => 128)
        : IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 128,
            Proto => 'tcp');
    die "no upstream: $@ $!\n" unless $listener;
    chmod 0777, $arg{path} if $arg{path};
    return bless { listener => $listener, accepted => 0, open => {} }, $class;
}

sub port { return $_[0]{listener}->sockport }

sub url {
    my ($self, $path) = @_;
    return 'http://127.0.0.1:' . $self->port
        . (defined $path ? $path : '/auth/v1/');
}

# How many connections httpd has made so far, and how many it has now.
sub accepted { $_[0]->_look; return $_[0]{accepted} }

sub open_connections {
    my ($self) = @_;
    $self->_look;
    return scalar keys %{ $self->{open} };
}

# Takes what there is: connections, bytes, ends.
sub _look {
    my ($self) = @_;
    my $select = IO::Select->new($self->{listener},
        map { $_->{socket} } values %{ $self->{open} });
    for my $socket ($select->can_read(0)) {
        if ($socket == $self->{listener}) {
            my $new = $socket->accept or next;
            setsockopt $new, IPPROTO_TCP, TCP_NODELAY, 1
                if $new->sockdomain == Socket::AF_INET();
            $self->{open}{ fileno $new } = { socket => $new, in => '',
                number => ++$self->{accepted} };
            next;
        }
        my $peer = $self->{open}{ fileno $socket } or next;
        my $n = sysread $socket, $peer->{in}, 65536, length $peer->{in};
        next if $n || (!defined $n && $!{EINTR});
        delete $self->{open}{ fileno $socket };
        close $socket;
    }
    return;
}

# A request that has come by now, an object with head, method, path, headers and
# body, or nothing.
sub waiting {
    my ($self) = @_;
    $self->_look;
    for my $peer (values %{ $self->{open} }) {
        my $request = _take($peer) or next;
        return bless { %$request, upstream => $self, peer => $peer },
            'UserSync::Upstream::Visit';
    }
    return;
}

# The next request.
sub next_request {
    my ($self) = @_;
    return wait_until { $self->waiting } 20, 'a request to come';
}

# One request from the front of what has come, or nothing.
sub _take {
    my ($peer) = @_;
    my ($head) = $peer->{in} =~ /\A(.*?\r\n)\r\n/s or return;
    my ($line, @lines) = split /\r\n/, $head;
    my ($method, $path) = split / /, $line;
    my %header = map { /^([^:]+):\s*(.*)/ ? (lc $1, $2) : () } @lines;
    my $length = $header{'content-length'} || 0;
    my $start = length($head) + 2;
    return if length $peer->{in} < $start + $length;
    my $body = substr $peer->{in}, $start, $length;
    substr $peer->{in}, 0, $start + $length, '';
    return { head => $head, method => $method, path => $path,
        headers => \%header, body => $body };
}

# A client that asks httpd for a path below /auth/v1, and its request as it
# arrives. where: a URL of httpd's; options besides headers: -body,
# -on => a connection that the client has, -from => its own address.
sub visit {
    my ($self, $where, $method, $path, %header) = @_;
    my %option = map { $_ => delete $header{$_} } grep {/^-/} keys %header;
    my $client = $option{-on}
        || UserSync::HTTP->connect($where, from => $option{-from},
            ca => $option{-ca});
    my $body = exists $option{-body} ? $option{-body}
        : $method =~ /^P/ ? '{}' : undef;
    $client->send(UserSync::HTTP::build($method, "$where/auth/v1$path", $body,
        Connection => undef, %header));
    return ($client, $self->next_request);
}

# The request of a client that has sent it, or nothing if httpd answers itself.
sub forwarded {
    my ($self, $client) = @_;
    my $visit;
    wait_until { length $client->arrived or $visit = $self->waiting } 20,
        'an answer or a request';
    return $visit;
}

# Asks, and has a block answer, such as a sender; returns the client.
sub through {
    my ($self, $where, $method, $path, $answer, @more) = @_;
    my ($client, $visit) = $self->visit($where, $method, $path, @more);
    $answer->($visit);
    return $client;
}

# An httpd that forwards to this server, with the filter, and without it in the
# vhost "plain"; arguments as for proxied_server. untouched_ok is about the last
# one.
sub server {
    my ($self, $db, $config, %arg) = @_;
    my $limits = "UserSyncMaxPerClient Off\n";
    $limits .= "UserSyncCircuitBreaker Off\n"
        if $config !~ /UserSyncCircuitBreaker/;
    my $httpd = proxied_server($db, to => $self->url, %arg,
        config => $limits . $config, vhosts => { %{ $arg{vhosts} || {} },
            plain => proxied(to => $self->url, worker => $arg{worker},
                lines => ['UserSyncEnsureResponse Off']) });
    weaken($self->{httpd} = $httpd);
    return $httpd;
}

# The same with the filter and without, to the last byte; but httpd's own answers
# have the time of day.
sub untouched_ok {
    my ($self, $method, $path, $answer, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my ($with, $without) = map {
        my $client = $self->through($self->{httpd}->url('', $_), $method,
            $path, $answer);
        $client->done_sending;
        all_bytes($client) =~ s/^Date: (?!Tue, 01 Jan 2030).*\n//mr;
    } undef, 'plain';
    return Test::More::is($with, $without, $name);
}

# ---- what clients get

# All bytes until the server closes the connection.
sub all_bytes {
    my ($client) = @_;
    wait_until { $client->arrived; $client->{eof} } 20, 'the end';
    return $client->unread;
}

# Each piece reaches the client while the upstream waits.
sub at_once {
    my ($client, $visit, @pieces) = @_;
    my $seen = length $client->arrived;
    for my $piece (@pieces) {
        $visit->send($piece);
        wait_until { length $client->arrived > $seen } 20, 'the piece';
        # what httpd sends of one piece it sends in one go
        $seen = length $client->arrived;
    }
    return;
}

# A session that goes out: all of it, with a row.
sub goes_out_ok {
    my ($client, $text, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $response = $client->response(60);
    my $id = user_of($response);
    return Test::More::is_deeply(
        [$response->{status}, $response->{body}, $id && has_row($id)],
        [200, $text, 1], $name) || Test::More::diag(show($response));
}

# ---- one request

package UserSync::Upstream::Visit;

use UserSync::Util qw(slurp wait_until);

sub number { return $_[0]{peer}{number} }

# Writes all of it; false when httpd has closed the connection.
sub send {
    my ($self, $bytes) = @_;
    local $SIG{PIPE} = 'IGNORE';
    my $at = 0;
    while ($at < length $bytes) {
        my $n = syswrite $self->{peer}{socket}, $bytes, 65536, $at;
        if (!defined $n) {
            next if $!{EINTR};
            return 0;
        }
        $at += $n;
    }
    return 1;
}

# Waits until httpd has read all that was sent, or has closed the connection.
# What it does with the last piece may still go on; what it does with those
# before is done.
sub until_read {
    my ($self) = @_;
    my $socket = $self->{peer}{socket};
    my ($mine, $its) = map { sprintf ':%04X', $_ } $socket->sockport,
        $socket->peerport;
    my $queues = sub {
        my ($from, $to) = @_;
        my ($line) = grep {/^\s*\d+: \S+$from \S+$to 01 /}
            split /\n/, slurp('/proc/net/tcp');
        return $line && $line =~ / 01 (\w+):(\w+) / ? ($1, $2) : (0, 0);
    };
    # first that it has arrived, then that it was taken
    wait_until { ($queues->($mine, $its))[0] =~ /^0+$/ } 20, 'httpd to get it';
    wait_until { ($queues->($its, $mine))[1] =~ /^0+$/ } 20, 'httpd to read it';
    return $self;
}

# Sends pieces, each after httpd has read the one before.
sub send_slowly {
    my ($self, @pieces) = @_;
    for my $piece (@pieces) {
        $self->send($piece) or return 0;
        $self->until_read;
    }
    return 1;
}

# Closes the connection, in order or not.
sub close {
    my ($self) = @_;
    delete $self->{upstream}{open}{ fileno $self->{peer}{socket} };
    CORE::close $self->{peer}{socket};
    return;
}

sub reset {
    my ($self) = @_;
    setsockopt $self->{peer}{socket}, Socket::SOL_SOCKET(),
        Socket::SO_LINGER(), pack 'ii', 1, 0;
    return $self->close;
}

# Has httpd closed it?
sub is_closed {
    my ($self) = @_;
    my $peer = $self->{peer};
    $self->{upstream}->_look;
    return !$peer->{socket}->opened;
}

1;
