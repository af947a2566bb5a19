package AuthDouble::SelfTest;
# Helpers of selftest.t: a raw HTTP client that sees every byte, and the shape
# of a JSON text (keys, order, types, constant values).
use strict;
use warnings;
use Exporter 'import';
use IO::Select;
use IO::Socket::INET;
use IO::Socket::SSL ();
use MIME::Base64 qw(decode_base64url);
use Time::HiRes qw(time);
use AuthDouble::Json qw(decode);

our @EXPORT_OK = qw(shape raw_connect raw_send raw_read raw_eof http request
    read_answer slurp);

sub slurp {
    my ($file) = @_;
    open my $fh, '<:raw', $file or die "$file: $!";
    local $/;
    return scalar <$fh>;
}

my $UUID = qr/[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/;

sub _class {
    my ($s) = @_;
    return 'UUID' if $s =~ /\A$UUID\z/;
    return length($1 // '') > 7 ? 'TIME-NS' : 'TIME'
        if $s =~ /\A[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}(\.[0-9]{1,9})?Z\z/
        && ($1 // '1') !~ /0\z/;
    return 'JWT ' . join ' ', map { shape(decode_base64url($_)) }
        (split /\./, $s)[0, 1] if $s =~ /\AeyJ[\w-]+\.[\w-]+\.[\w-]+\z/;
    $s =~ s/after [0-9]+ seconds/after N seconds/;
    return qq("$s");
}

sub shape { return _shape(decode($_[0])) }

sub _shape {
    my ($v) = @_;
    my $type = ref $v;
    return 'null' if !defined $v;
    return _class($v) if !$type;
    return $$v if $type =~ /Bool\z/;
    return $$v > 1_000_000_000 ? 'UNIXTIME' : $$v if $type =~ /Num\z/;
    return '[' . join(',', map { _shape($_) } @$v) . ']' if $type eq 'ARRAY';
    my @out;
    for (my $i = 0; $i < @$v; $i += 2) {
        my ($key, $value) = @$v[$i, $i + 1];
        push @out, "$key:" . ($key eq 'refresh_token'
            ? _refresh_class($value) : _shape($value));
    }
    return '{' . join(',', @out) . '}';
}

sub _refresh_class {
    my ($s) = @_;
    return $s =~ /\A[a-z0-9]{12}\z/ ? 'V1'
        : $s =~ /\A[\w-]{51}\z/ ? 'V2' : 'BAD';
}

# raw_connect($port, tls => {IO::Socket::SSL options})
sub raw_connect {
    my ($port, %arg) = @_;
    my @to = (PeerAddr => '127.0.0.1', PeerPort => $port, Timeout => 10);
    return $arg{tls} ? IO::Socket::SSL->new(@to, %{$arg{tls}})
        : IO::Socket::INET->new(@to);
}

sub raw_send {
    my ($s, $bytes) = @_;
    local $SIG{PIPE} = 'IGNORE';
    while (length $bytes) {
        my $n = $s->syswrite($bytes) or return 0;
        substr $bytes, 0, $n, '';
    }
    return 1;
}

# raw_read($s, $enough, $seconds): what arrived until $enough->($text) holds,
# the peer closed ($$end = 'eof' or the error) or the time was up ('timeout')
sub raw_read {
    my ($s, $enough, $seconds, $end) = @_;
    my $until = time + ($seconds // 10);
    my $text = '';
    my $why = '';
    $end //= \$why;
    $$end = 'enough';
    while (!$enough || !$enough->($text)) {
        my $left = $until - time;
        my $ready = $s->can('pending') && $s->pending
            || $left > 0 && IO::Select->new($s)->can_read($left);
        if (!$ready) { $$end = 'timeout'; last }
        my $n = $s->sysread(my $buf, 65536);
        if (!defined $n) { $$end = "$!"; last }
        if (!$n) { $$end = 'eof'; last }
        $text .= $buf;
    }
    return $text;
}

sub raw_eof {
    my ($s) = @_;
    my $text = raw_read($s, undef, 10, \my $end);
    return wantarray ? ($text, $end) : $end;
}

# http('POST', '/auth/v1/x', $body, name => value, ...): request bytes
sub http {
    my ($method, $target, $body, %h) = @_;
    $h{Host} //= 'localhost';
    $h{'Content-Length'} //= length $body
        if defined $body && !$h{'Transfer-Encoding'};
    delete $h{$_} for grep { !defined $h{$_} } keys %h;
    return "$method $target HTTP/1.1\r\n"
        . join('', map {"$_: $h{$_}\r\n"} sort keys %h) . "\r\n"
        . ($body // '');
}

# read_answer($s, $seconds) -> {status, h, headers, body, framing} or undef;
# bytes of the next answer stay in ${*$s}{rest}
sub read_answer {
    my ($s, $seconds) = @_;
    my $buf = delete ${*$s}{rest} // '';
    my $r;
    my $try = sub { $r = _parse($buf . $_[0]) };
    my $more = $try->('') ? '' : raw_read($s, $try, $seconds, \my $end);
    $r ||= _parse($buf . $more, 1) if ($end // '') eq 'eof';
    ${*$s}{rest} = $r->{rest} if $r && length $r->{rest};
    return $r;
}

sub _parse {
    my ($text, $eof) = @_;
    my ($head, $rest) = $text =~ /\A(.*?\r\n)\r\n(.*)\z/s or return undef;
    my ($line, @lines) = split /\r\n/, $head;
    my $r = {headers => [map { [split /: /, $_, 2] } @lines]};
    ($r->{status}) = $line =~ m{\AHTTP/1\.1 ([0-9]{3}) } or return undef;
    $r->{h}{lc $_->[0]} = $_->[1] for @{$r->{headers}};
    my $te = $r->{h}{'transfer-encoding'};
    my $len = $r->{h}{'content-length'};
    if ($te) {
        $r->{framing} = 'chunked';
        $r->{chunks} = 0;
        while ($rest =~ s/\A([0-9a-f]+)\r\n//) {
            my $n = hex $1;
            return undef if length $rest < $n + 2;
            $r->{body} .= substr $rest, 0, $n, '';
            $rest =~ s/\A\r\n// or return undef;
            $r->{rest} = $rest;
            return $r if !$n;
            $r->{chunks}++;
        }
        return undef;
    }
    $r->{framing} = defined $len ? 'length' : 'close';
    $len = $r->{status} =~ /\A(?:1..|204|304)\z/ ? 0
        : $eof ? length $rest : return undef if !defined $len;
    return undef if length $rest < $len;
    $r->{body} = substr $rest, 0, $len, '';
    $r->{rest} = $rest;
    return $r;
}

# request($port, $bytes): one answer on a connection of its own
sub request {
    my ($port, $bytes, %arg) = @_;
    my $s = raw_connect($port, %arg) or die "connect: $!";
    raw_send($s, $bytes);
    return read_answer($s);
}

1;
