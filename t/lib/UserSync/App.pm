package UserSync::App;

# The application behind httpd, for ProxyPass. It records its requests and
# answers 200 with JSON:
#
#   my $app = UserSync::App->start;
#   ... ProxyPass "/" "${\ $app->url }/" ...
#   my ($request) = $app->requests;
#
# A request is a hash: method, path (with the query), header_list ([name,
# value] as received), headers (lower case, repeated ones joined by ", "),
# body, time.
#
#   start(code => sub { my ($request) = @_; ... }, processes => 4)
#
# runs the block for each request, in the background. Its return value is the
# answer, as JSON; if it dies, the answer is 500 and {"error": the message}.
# Each process serves one request at a time.

use strict;
use warnings;

use Fcntl qw(O_APPEND O_CREAT O_WRONLY);
use IO::Select ();
use IO::Socket::INET ();
use Socket qw(IPPROTO_TCP SOMAXCONN TCP_NODELAY);
use Time::HiRes qw(time);

use UserSync::Background ();
use UserSync::HTTP ();
use UserSync::Util qw(new_dir slurp);

sub start {
    my ($class, %arg) = @_;
    my $listener = IO::Socket::INET->new(
        LocalAddr => '127.0.0.1', LocalPort => 0, Listen => SOMAXCONN,
        Proto => 'tcp', ReuseAddr => 1) or die "no application: $@\n";
    # several wait for each connection, and one gets it
    $listener->blocking(0);
    my $self = bless {
        port => $listener->sockport, account => new_dir('app') . '/requests',
    }, $class;
    my %server = (listener => $listener, code => $arg{code} || sub { {} },
        account => $self->{account}, in => {});
    $self->{jobs} = [map {
        UserSync::Background->start(sub { _serve($_[0], \%server) })
    } 1 .. $arg{processes} || 1];
    close $listener;
    return $self;
}

sub port { return $_[0]{port} }
sub url  { return "http://127.0.0.1:$_[0]{port}" }

# Its requests so far, in order.
sub requests {
    my ($self) = @_;
    # through a list: sort has no value in scalar context
    my @all = sort { $a->{time} <=> $b->{time} }
        map { JSON::PP::decode_json($_) }
        split /\n/, slurp($self->{account}) || '';
    return @all;
}

sub forget { unlink $_[0]{account}; return }

# ---- in the background

sub _serve {
    my ($job, $server) = @_;
    local $SIG{PIPE} = 'IGNORE';
    my ($listener, $in) = @$server{qw(listener in)};
    my $select = $server->{select} = IO::Select->new($listener);
    while (!$job->stopping) {
        for my $socket ($select->can_read(0.05)) {
            if ($socket == $listener) {
                my $client = $listener->accept or next;
                $client->blocking(1);
                setsockopt $client, IPPROTO_TCP, TCP_NODELAY, 1;
                $in->{$client} = '';
                $select->add($client);
            }
            elsif (!_read($server, $socket)) {
                delete $in->{$socket};
                $select->remove($socket);
                close $socket;
            }
        }
    }
    return;
}

# False if the connection is to be closed.
sub _read {
    my ($server, $socket) = @_;
    my $in = \$server->{in}{$socket};
    sysread $socket, $$in, 65536, length $$in or return 0;
    while (my $request = _parse($in)) {
        _write_down($server, $request);
        my ($status, $value) = _answer($server, $request);
        my $body = UserSync::HTTP::encode_json($value);
        my $bytes = "HTTP/1.1 $status\r\nContent-Type: application/json\r\n"
            . 'Content-Length: ' . length($body) . "\r\n\r\n"
            . ($request->{method} eq 'HEAD' ? '' : $body);
        my $sent = syswrite $socket, $bytes;
        return 0 unless $sent && $sent == length $bytes;
        return 0 if $request->{last};
    }
    return 1;
}

# Removes a request from the front, if all of it has arrived.
sub _parse {
    my ($in) = @_;
    $$in =~ /\A(.*?)\r\n\r\n/s or return;
    my ($head, $start) = ($1, $+[0]);
    my ($line, @lines) = split /\r\n/, $head;
    my ($method, $path, $version) = split / /, $line;
    my @list = map { [/\A([^:]*):\s*(.*?)\s*\z/s] } @lines;
    my %header;
    for (@list) {
        my ($name, $value) = (lc $_->[0], $_->[1]);
        $header{$name}
            = exists $header{$name} ? "$header{$name}, $value" : $value;
    }
    my $length = $header{'content-length'} || 0;
    return if length $$in < $start + $length;
    my $body = substr $$in, $start, $length;
    substr $$in, 0, $start + $length, '';
    return {
        method => $method, path => $path, header_list => \@list,
        headers => \%header, body => $body, time => time,
        # chunks are not supported, so nothing may follow
        last => $version ne 'HTTP/1.1' || $header{'transfer-encoding'}
            || ($header{connection} || '') =~ /close/i ? 1 : 0,
    };
}

# In one piece, as the processes share the file.
sub _write_down {
    my ($server, $request) = @_;
    sysopen my $fh, $server->{account}, O_WRONLY | O_APPEND | O_CREAT
        or die "$server->{account}: $!";
    my $line = UserSync::HTTP::encode_json($request) . "\n";
    syswrite($fh, $line) == length $line or die "$server->{account}: $!";
    return;
}

sub _answer {
    my ($server, $request) = @_;
    return ('411 Length Required', {})
        if $request->{headers}{'transfer-encoding'};
    my $value;
    return ('200 OK', $value) if eval {
        $value = $server->{code}->($request);
        1;
    };
    return ('500 Internal Server Error', { error => "$@" });
}

1;
