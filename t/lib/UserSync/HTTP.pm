package UserSync::HTTP;

# An HTTP/1.1 client that sends whatever it is told, byte by byte. A response
# is a hash: status, reason, headers (lower case, repeated ones joined by ",
# "), header_list ([name, value] as received), body, json (undef if the body is
# not JSON), elapsed (seconds), and error if there was no complete response.

use strict;
use warnings;

use IO::Poll qw(POLLIN POLLOUT POLLERR POLLHUP);
use IO::Socket::INET ();
use JSON::PP ();
use Socket qw(IPPROTO_TCP TCP_NODELAY inet_aton pack_sockaddr_in);
use Time::HiRes qw(sleep time);

use UserSync::Util qw(patience);

my $json = JSON::PP->new->utf8->canonical->allow_nonref;

sub encode_json { return $json->encode($_[0]) }

# ($scheme, $host, $port, $path) of a URL
sub split_url {
    my ($url) = @_;
    my ($scheme, $host, $port, $path)
        = $url =~ m{^(https?)://([^/:]+)(?::(\d+))?(/.*)?$}s
        or die "not a URL: $url\n";
    $port ||= $scheme eq 'https' ? 443 : 80;
    return ($scheme, $host, $port, defined $path ? $path : '/');
}

# The bytes of a request. A hash or array as body becomes JSON; a header with
# the value undef is left out, one with a list of values is repeated.
sub build {
    my ($method, $url, $body, %header) = @_;
    my (undef, $host, $port, $path) = split_url($url);
    delete @header{ grep {/^-/} keys %header };
    my %given = map { lc($_) => 1 } keys %header;
    my @head = ("$method $path HTTP/1.1");
    push @head, "Host: $host:$port" unless $given{host};
    push @head, 'Connection: close' unless $given{connection};
    if (defined $body) {
        push @head, 'Content-Type: application/json'
            unless $given{'content-type'};
        $body = $json->encode($body) if ref $body;
    }
    push @head, 'Content-Length: ' . length $body
        if defined $body
        && !$given{'content-length'}
        && !$given{'transfer-encoding'};
    for my $name (sort keys %header) {
        my $value = $header{$name};
        push @head, "$name: $_"
            for ref $value ? @$value : defined $value ? $value : ();
    }
    return join("\r\n", @head, '', '') . (defined $body ? $body : '');
}

# Removes one response from the front of $$in. Returns nothing if more bytes
# are needed; $eof says that there will be none.
sub parse {
    my ($in, $method, $eof) = @_;
    return unless $$in =~ /\A(.*?)\r?\n\r?\n/s;
    my ($head, $start) = ($1, $+[0]);
    my ($line, @lines) = split /\r?\n/, $head;
    my ($status, $reason) = $line =~ m{^HTTP/1\.[01] (\d{3}) ?(.*)}
        or return _broken($in, "not a status line: $line");
    my @list = map { [/^([^:]*):\s*(.*?)\s*$/] } @lines;
    my %header;
    for my $pair (@list) {
        my ($name, $value) = (lc $pair->[0], $pair->[1]);
        $header{$name}
            = defined $header{$name} ? "$header{$name}, $value" : $value;
    }
    my %response = (
        status => $status + 0, reason => $reason, headers => \%header,
        header_list => \@list,
    );
    my $rest = substr $$in, $start;
    my $used;
    if ($method eq 'HEAD' || $status =~ /^(?:1..|204|304)$/) {
        @response{qw(body)} = ('');
        $used = 0;
    }
    elsif (($header{'transfer-encoding'} || '') =~ /chunked/i) {
        (my $body, $used) = _dechunk($rest);
        $response{body} = $body;
    }
    elsif (defined $header{'content-length'}) {
        $used = $header{'content-length'} if
            length $rest >= $header{'content-length'};
        $response{body} = substr $rest, 0, $header{'content-length'};
    }
    elsif ($eof) {
        ($response{body}, $used) = ($rest, length $rest);
    }
    if (!defined $used) {
        return unless $eof;
        return _broken($in, 'cut off', \%response);
    }
    substr $$in, 0, $start + $used, '';
    return _finish(\%response);
}

sub _finish {
    my ($response) = @_;
    my $body = $response->{body};
    $response->{json} = eval { $json->decode($body) }
        if defined $body && length $body;
    return $response;
}

sub _broken {
    my ($in, $error, $response) = @_;
    $$in = '';
    return { status => 0, headers => {}, header_list => [], body => '',
        %{ $response || {} }, error => $error };
}

# (body, bytes used), or an empty list if the last chunk has not arrived
sub _dechunk {
    my ($in) = @_;
    my ($body, $pos) = ('', 0);
    while (substr($in, $pos) =~ /\A([0-9a-fA-F]+)[^\r\n]*\r\n/) {
        my ($size, $head) = (hex $1, $+[0]);
        if ($size == 0) {
            return
                unless substr($in, $pos + $head)
                =~ /\A(?:[^\r\n]+\r\n)*\r\n/;
            return ($body, $pos + $head + $+[0]);
        }
        return if length $in < $pos + $head + $size + 2;
        $body .= substr $in, $pos + $head, $size;
        $pos += $head + $size + 2;
    }
    return;
}

# ---- a connection

# url => ..., ca => file (verify), tls => {IO::Socket::SSL options}, and from
# => the client's own address, any of 127.0.0.0/8
sub connect {
    my ($class, $url, %arg) = @_;
    my ($scheme, $host, $port) = split_url($url);
    my $socket = IO::Socket::INET->new(
        PeerAddr => $host, PeerPort => $port, Proto => 'tcp',
        Timeout => 10 * patience(),
        $arg{from} ? (LocalAddr => $arg{from}) : (),
    ) or die "cannot connect to $host:$port: $@\n";
    setsockopt $socket, IPPROTO_TCP, TCP_NODELAY, 1;
    if ($scheme eq 'https') {
        require IO::Socket::SSL;
        IO::Socket::SSL->start_SSL($socket,
            SSL_ca_file => $arg{ca}, SSL_verifycn_name => $host,
            SSL_verifycn_scheme => 'http', %{ $arg{tls} || {} })
            or die "TLS with $host:$port: " . IO::Socket::SSL::errstr() . "\n";
    }
    return bless { socket => $socket, in => '', eof => 0 }, $class;
}

sub socket { return $_[0]{socket} }

# Writes all of it; false when the server has closed the connection.
sub send {
    my ($self, $bytes) = @_;
    local $SIG{PIPE} = 'IGNORE';
    while (length $bytes) {
        my $n = syswrite $self->{socket}, $bytes;
        if (!defined $n) {
            next if $!{EINTR} || $!{EAGAIN};
            return 0;
        }
        substr $bytes, 0, $n, '';
    }
    return 1;
}

# Shuts down the sending side of the connection.
sub done_sending { shutdown $_[0]{socket}, 1; return }

# Reads what there is, waiting until $end at most. False after that time.
sub _fill {
    my ($self, $end) = @_;
    my $socket = $self->{socket};
    while (1) {
        my $pending = $socket->can('pending') ? $socket->pending : 0;
        if (!$pending) {
            my $left = $end - time;
            return 0 if $left <= 0;
            my $rin = '';
            vec($rin, fileno $socket, 1) = 1;
            my $n = select $rin, undef, undef, $left;
            next if $n <= 0;
        }
        my $n = sysread $socket, $self->{in}, 65536, length $self->{in};
        next if !defined $n && ($!{EINTR} || $!{EAGAIN});
        $self->{eof} = 1 unless $n;
        return 1;
    }
}

# The next response; 100 Continue counts as one.
sub response {
    my ($self, $timeout, $method) = @_;
    my $start = time;
    my $end = $start + ($timeout || 30) * patience();
    while (1) {
        my $got = parse(\$self->{in}, $method || 'POST', $self->{eof});
        if ($got) {
            $got->{elapsed} = time - $start;
            return $got;
        }
        my $error = $self->{eof} ? length $self->{in} ? 'cut off' : 'closed'
            : $self->_fill($end) ? next : 'time-out';
        my $unread = $self->{in};
        return { %{ _broken(\$self->{in}, $error) },
            elapsed => time - $start, unread => $unread };
    }
}

# True if the server closes the connection within the time, without sending
# more.
sub closed {
    my ($self, $timeout) = @_;
    my $end = time + ($timeout || 5) * patience();
    while (!$self->{eof}) {
        return 0 if length $self->{in} || !$self->_fill($end);
    }
    return length $self->{in} ? 0 : 1;
}

# What has come by now, without waiting; it stays for response().
sub arrived {
    my ($self) = @_;
    # with TLS, what has come may be something else than data
    $self->{socket}->blocking(0);
    1 while !$self->{eof} && $self->_fill(time + 0.001);
    $self->{socket}->blocking(1);
    return $self->{in};
}

sub unread { return $_[0]{in} }
sub close  { CORE::close $_[0]{socket}; return }

# ---- whole exchanges

sub exchange {
    my ($class, $method, $url, $body, %header) = @_;
    my %option = map { $_ => delete $header{$_} } grep {/^-/} keys %header;
    my $start = time;
    my $self = eval {
        $class->connect($url, ca => $option{-ca}, tls => $option{-tls},
            from => $option{-from});
    } or return { %{ _broken(\my $none, "$@") }, elapsed => time - $start };
    $self->send(build($method, $url, $body, %header));
    my $response;
    do { $response = $self->response($option{-timeout}, $method) }
        while $response->{status} =~ /^1..$/ && !$response->{error};
    $response->{elapsed} = time - $start;
    # httpd logs a request before it closes the connection: so the line is in
    # the log afterwards
    $self->closed(2)
        if !$response->{error}
        && ($response->{headers}{connection} || '') =~ /close/i;
    return $response;
}

# Sends all requests at the same moment: every connection is open and has its
# whole request except the last byte before the first last byte is sent.
# @requests: [method, url, body, headers...]; http only. Responses in order.
sub at_once {
    my ($class, $timeout, @requests) = @_;
    my $poll = IO::Poll->new;
    my @calls = map { _open($_) } @requests;
    my %call_of = map { fileno($_->{socket}) => $_ } @calls;
    my $end = time + ($timeout || 60) * patience();
    local $SIG{PIPE} = 'IGNORE';
    $poll->mask($_->{socket} => POLLOUT) for @calls;
    my $released;
    while (my @open = grep { !$_->{response} } @calls) {
        if (!$released && !grep { length $_->{out} > 1 } @open) {
            $released = time;
            $poll->mask($_->{socket} => POLLOUT) for @open;
        }
        last if time > $end;
        $poll->poll(0.2);
        for my $socket ($poll->handles(POLLIN | POLLOUT | POLLERR | POLLHUP)) {
            my $call = $call_of{ fileno $socket };
            _step($call, $released);
            $poll->mask($socket => _interest($call, $released));
            # only now: a closed handle could not be removed from the list
            CORE::close $socket if $call->{response};
        }
    }
    return map {
        my $response = $_->{response} || _broken(\my $none, 'time-out');
        $response->{elapsed} = ($_->{ended} || time) - ($released || time);
        $response;
    } @calls;
}

sub _open {
    my ($request) = @_;
    my ($method, $url, $body, @header) = @$request;
    my ($scheme, $host, $port) = split_url($url);
    die "at once over http only\n" unless $scheme eq 'http';
    my $socket = IO::Socket::INET->new(Proto => 'tcp') or die "socket: $!";
    $socket->blocking(0);
    setsockopt $socket, IPPROTO_TCP, TCP_NODELAY, 1;
    my %option = @header;
    bind $socket, pack_sockaddr_in(0, inet_aton($option{-from}))
        or die "bind: $!" if $option{-from};
    CORE::connect $socket, pack_sockaddr_in($port, inet_aton($host))
        or $!{EINPROGRESS}
        or die "connect: $!";
    return { socket => $socket, method => $method, in => '',
        out => build($method, $url, $body, @header) };
}

sub _interest {
    my ($call, $released) = @_;
    return 0 if $call->{response};
    return POLLIN | POLLOUT if length $call->{out} > ($released ? 0 : 1);
    return POLLIN;
}

sub _step {
    my ($call, $released) = @_;
    my $keep = $released ? 0 : 1;
    while (length $call->{out} > $keep) {
        my $n = syswrite $call->{socket}, $call->{out},
            length($call->{out}) - $keep;
        last unless defined $n;
        substr $call->{out}, 0, $n, '';
    }
    while (1) {
        my $n = sysread $call->{socket}, $call->{in}, 65536,
            length $call->{in};
        return if !defined $n && ($!{EAGAIN} || $!{EINTR});
        my $error = defined $n ? '' : "$!";
        my $got = parse(\$call->{in}, $call->{method}, !$n);
        $got ||= _broken(\$call->{in}, $error || 'closed') unless $n;
        next unless $got;
        next if $got->{status} =~ /^1..$/;
        @$call{qw(response ended)} = ($got, time);
        return;
    }
}

1;
