package AuthDouble::Http;
# Strict HTTP/1.1 request parsing and the framing of answers as Go's net/http
# does it. Pure functions over byte strings.
use strict;
use warnings;
use Exporter 'import';

our @EXPORT_OK = qw(parse_head take_body render reason http_date unescape
    query_param header);

use constant MAX_HEAD => 1_048_576;
use constant MAX_BODY => 16_777_216;
use constant GO_BUFFER => 2048;    # larger bodies leave Go chunked

my %REASON = (100 => 'Continue', 102 => 'Processing',
    103 => 'Early Hints', 200 => 'OK', 201 => 'Created',
    204 => 'No Content', 302 => 'Found', 303 => 'See Other',
    304 => 'Not Modified', 307 => 'Temporary Redirect',
    400 => 'Bad Request', 401 => 'Unauthorized', 402 => 'Payment Required',
    403 => 'Forbidden', 404 => 'Not Found', 405 => 'Method Not Allowed',
    409 => 'Conflict', 413 => 'Request Entity Too Large',
    422 => 'Unprocessable Entity', 429 => 'Too Many Requests',
    431 => 'Request Header Fields Too Large',
    500 => 'Internal Server Error', 501 => 'Not Implemented',
    502 => 'Bad Gateway', 503 => 'Service Unavailable',
    504 => 'Gateway Timeout');

sub reason { return $REASON{$_[0]} // 'status code ' . $_[0] }

my ($date_at, $date) = (0, '');
my @DAY = qw(Sun Mon Tue Wed Thu Fri Sat);
my @MON = qw(Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec);

sub http_date {
    my $now = time;
    return $date if $now == $date_at;
    my ($s, $m, $h, $d, $mon, $y, $w) = gmtime $now;
    $date_at = $now;
    return $date = sprintf '%s, %02d %s %04d %02d:%02d:%02d GMT',
        $DAY[$w], $d, $MON[$mon], $y + 1900, $h, $m, $s;
}

# Takes a complete head off the buffer. Returns the request, undef when more
# bytes are needed, or dies with the status that Go would answer.
sub parse_head {
    my ($buf) = @_;
    my $end = index $$buf, "\r\n\r\n";
    if ($end < 0) {
        die "431\n" if length $$buf > MAX_HEAD;
        die "400\n" if $$buf =~ /\A[^\r\n]*[\x00-\x08\x0b\x0c\x0e-\x1f]/
            || $$buf =~ /(?<!\r)\n/;
        return undef;
    }
    my $head = substr $$buf, 0, $end + 4, '';
    substr $head, -4, 4, '';
    my ($line, @lines) = split /\r\n/, $head, -1;
    $line =~ m{\A([!#$%&'*+.^_`|~0-9A-Za-z-]+) (\S+) HTTP/1\.([01])\z}
        or die "400\n";
    my $req = {method => $1, target => $2, minor => $3, headers => [], h => {}};
    for (@lines) {
        /\A([!#\$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*\z/s or die "400\n";
        my ($name, $value) = ($1, $2);
        die "400\n" if $value =~ /[\x00-\x08\x0a-\x1f\x7f]/;
        push @{$req->{headers}}, [$name, $value];
        my $key = lc $name;
        die "400\n" if exists $req->{h}{$key}
            && ($key eq 'host' || $key eq 'content-length'
                || $key eq 'transfer-encoding');
        $req->{h}{$key} //= $value;
    }
    _framing($req);
    # a proxy is sent the whole URL
    @$req{qw(path query)} = $req->{target}
        =~ m{\A(?:https?://[^/?]*)?([^?]*)(?:\?(.*))?\z}s;
    $req->{query} //= '';
    return $req;
}

sub _framing {
    my ($req) = @_;
    my $h = $req->{h};
    die "400\n" if $req->{minor} && !defined $h->{host};
    my $te = $h->{'transfer-encoding'};
    my $cl = $h->{'content-length'};
    if (defined $te) {
        die "501\n" if lc $te ne 'chunked';
        die "400\n" if defined $cl || !$req->{minor};
        $req->{chunked} = 1;
    }
    elsif (defined $cl) {
        die "400\n" if $cl !~ /\A[0-9]{1,18}\z/;
        $req->{length} = $cl + 0;
    }
    my $conn = lc($h->{connection} // '');
    $req->{keep} = $req->{minor} ? $conn !~ /\bclose\b/
        : $conn =~ /\bkeep-alive\b/;
    return;
}

# Takes the body off the buffer; true when it is complete.
sub take_body {
    my ($req, $buf) = @_;
    if ($req->{chunked}) { return _take_chunks($req, $buf) }
    my $want = $req->{length} // 0;
    die "413\n" if $want > MAX_BODY;
    return 0 if length $$buf < $want;
    $req->{body} = $want ? substr $$buf, 0, $want, '' : '';
    return 1;
}

sub _take_chunks {
    my ($req, $buf) = @_;
    $req->{body} //= '';
    while (1) {
        if (!defined $req->{chunk}) {
            $$buf =~ /\A([^\r\n]*)\r\n/ or do {
                die "400\n" if length $$buf > 4096;
                return 0;
            };
            my ($line, $used) = ($1, $+[0]);
            $line =~ /\A([0-9a-fA-F]{1,8})[ \t]*(?:;.*)?\z/ or die "400\n";
            $req->{chunk} = hex $1;
            substr $$buf, 0, $used, '' if $req->{chunk};
            die "413\n" if length($req->{body}) + $req->{chunk} > MAX_BODY;
        }
        if (!$req->{chunk}) {    # the last one, perhaps with trailers
            $$buf =~ s/\A[^\r\n]*\r\n((?:[^\r\n]+\r\n)*)\r\n// or return 0;
            return 1;
        }
        return 0 if length $$buf < $req->{chunk} + 2;
        $req->{body} .= substr $$buf, 0, $req->{chunk}, '';
        substr($$buf, 0, 2, '') eq "\r\n" or die "400\n";
        undef $req->{chunk};
    }
}

sub header { return $_[0]{h}{$_[1]} }

sub unescape {
    my ($s) = @_;
    $s =~ tr/+/ /;
    $s =~ s/%([0-9a-fA-F]{2})/chr hex $1/ge;
    return $s;
}

sub query_param {
    my ($req, $name) = @_;
    for (split /&/, $req->{query}) {
        my ($k, $v) = split /=/, $_, 2;
        return unescape($v // '') if unescape($k // '') eq $name;
    }
    return undef;
}

# render($req, $res, %opt) -> (head, body) ready for the wire.
# opt: framing auto|length|chunked|close, length (claimed), close, chunk sizes
sub render {
    my ($req, $res, %opt) = @_;
    my $body = $res->{body} // '';
    my $status = $res->{status};
    my $http10 = $req && !$req->{minor};
    my $framing = $opt{framing} // 'auto';
    my $close = $opt{close} || ($req && !$req->{keep});
    if ($framing eq 'auto') {
        $framing = length $body <= GO_BUFFER ? 'length'
            : $http10 ? 'close' : 'chunked';
    }
    my @h = @{$res->{headers} || []};
    @h = sort { $a->[0] cmp $b->[0] } @h if !$res->{as_is};
    push @h, ['Date', http_date()];
    my $bare = $status == 204 || $status == 304;
    if ($bare) { $body = '' }
    elsif ($framing eq 'length') {
        push @h, ['Content-Length', $opt{length} // length $body];
    }
    push @h, ['Connection', 'close'] if $close || $framing eq 'close';
    push @h, ['Connection', 'keep-alive'] if $http10 && !$close;
    if (!$bare && $framing eq 'chunked') {
        push @h, ['Transfer-Encoding', 'chunked'];
        $body = _chunk($body, $opt{chunk});
    }
    my $head = "HTTP/1.1 $status " . reason($status) . "\r\n"
        . join('', map {"$_->[0]: $_->[1]\r\n"} @h) . "\r\n";
    return ($head, $body, $close || $framing eq 'close');
}

sub _chunk {
    my ($body, $size) = @_;
    $size ||= length $body || 1;
    my $out = '';
    while (length $body) {
        my $part = substr $body, 0, $size, '';
        $out .= sprintf("%x\r\n", length $part) . $part . "\r\n";
    }
    return $out . "0\r\n\r\n";
}

1;
