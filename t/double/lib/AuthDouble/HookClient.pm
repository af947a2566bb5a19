package AuthDouble::HookClient;
# One POST to a hook, with the bytes that Go's http.Client sends and the
# connections that it keeps. Redirects are not followed.
use strict;
use warnings;
use Mojo::IOLoop;
use Mojo::Promise;
use Time::HiRes qw(time);
use AuthDouble::Http qw(take_body);

use constant KEPT => 2;    # idle connections for each host
use constant IDLE => 90;   # seconds

my %idle;                  # "url of the host, CA" => [connections]

# post(uri =>, ca_file =>, headers => [[name, value]...], body =>,
#     until => time, wanted => sub, limit => bytes): a promise of one of
#   {status, h, body}        body only if wanted($status, $h)
#   {status, h, over => 1}   more than the limit
#   {failed => text}         before there was a whole head of an answer
#   {status, h, failed => text}  after that
#   {timeout => 1}           the same at the time "until"; with a status later
# The second value is a function that gives up: {failed => 'cancelled'}.
sub post {
    my (%self) = @_;
    my $self = bless {%self, in => '', promise => Mojo::Promise->new},
        __PACKAGE__;
    @$self{qw(scheme host port path)} = $self->{uri}
        =~ m{\A(https?)://(\[[^\]]+\]|[^/:]+)(?::([0-9]+))?(/.*)?\z}
        or die "not the URI of a hook: $self->{uri}\n";
    $self->{port} //= $self->{scheme} eq 'https' ? 443 : 80;
    $self->{place} = join ' ', @$self{qw(scheme host port)},
        $self->{ca_file} // '';
    my $left = $self->{until} - time;
    $self->{timer} = Mojo::IOLoop->timer(($left > 0 ? $left : 0)
        => sub { $self->_end(timeout => 1) });
    my $kept = pop @{$idle{$self->{place}} || []};
    $kept ? $self->_send($kept) : $self->_connect;
    return ($self->{promise}, sub { $self->_end(failed => 'cancelled') });
}

sub _connect {
    my ($self) = @_;
    my %tls = $self->{scheme} ne 'https' ? () : (tls => 1,
        ($self->{ca_file} ? (tls_ca => $self->{ca_file}) : ()),
        tls_options => {SSL_alpn_protocols => ['http/1.1']});
    $self->{connecting} = Mojo::IOLoop->client(
        {address => $self->{host}, port => $self->{port}, timeout => 30, %tls},
        sub {
            my (undef, $error, $stream) = @_;
            return $self->_end(failed => $error) if defined $error;
            return $stream->close if !delete $self->{connecting};
            $self->_send(_connection($stream, $self->{place}));
        });
    return;
}

# What is read is for the request that has the connection; without one it is
# of no use any more.
sub _connection {
    my ($stream, $place) = @_;
    my $c = {stream => $stream, place => $place};
    $stream->timeout(IDLE);
    $stream->on(read => sub {
        return $_[0]->close if !$c->{for};
        $c->{for}{in} .= $_[1];
        $c->{for}->_read;
    });
    $stream->on(error => sub { $c->{error} = $_[1] });
    $stream->on(close => sub {
        $idle{$place} = [grep { $_ != $c } @{$idle{$place} || []}];
        $c->{closed} = 1;
        delete $c->{stream};
        $c->{for}->_closed($c->{error}) if $c->{for};
    });
    return $c;
}

sub _send {
    my ($self, $c) = @_;
    $self->{connection} = $c;
    $c->{for} = $self;
    my $port = $self->{port} == ($self->{scheme} eq 'https' ? 443 : 80)
        ? '' : ":$self->{port}";
    my @headers = (['Host', $self->{host} . $port],
        ['User-Agent', 'Go-http-client/1.1'],
        ['Content-Length', length $self->{body}],
        sort { $a->[0] cmp $b->[0] } @{$self->{headers}});
    $c->{stream}->write('POST ' . ($self->{path} // '/') . " HTTP/1.1\r\n"
        . join('', map {"$_->[0]: $_->[1]\r\n"} @headers) . "\r\n"
        . $self->{body});
    return;
}

sub _read {
    my ($self) = @_;
    while (!$self->{h}) {
        $self->{in} =~ s/\A(.*?)\r?\n\r?\n//s or return;
        my ($line, @lines) = split /\r?\n/, $1;
        my ($version, $status) = ($line // '')
            =~ m{\AHTTP/1\.([01]) ([0-9]{3})(?: |\z)}
            or return $self->_end(failed => 'malformed HTTP response');
        my %h;
        for (@lines) {
            /\A([^:\s]+):[ \t]*(.*?)[ \t]*\z/
                or return $self->_end(failed => 'malformed MIME header line');
            $h{lc $1} //= $2;
        }
        next if $status < 200;
        @$self{qw(status h)} = ($status, \%h);
        $self->{keep} = $version && lc($h{connection} // '') ne 'close';
        $self->_framing or return;
    }
    return $self->_body;
}

# false if this is all already
sub _framing {
    my ($self) = @_;
    my $h = $self->{h};
    my $length = $h->{'content-length'};
    my $chunked = lc($h->{'transfer-encoding'} // '') eq 'chunked';
    my $none = $self->{status} == 204 || $self->{status} == 304
        || !$chunked && defined $length && $length eq '0';
    my $wanted = $self->{wanted}->($self->{status}, $h);
    # Go throws a connection away whose answer nobody has read
    $self->{keep} = 0 if !$none && !$wanted;
    return $self->_end(body => '') if $none || !$wanted;
    $self->{to} = $chunked ? {chunked => 1} : {length => $length};
    return 1;
}

sub _body {
    my ($self) = @_;
    my ($to, $in) = ($self->{to}, \$self->{in});
    my $end = $to->{chunked}
        || defined $to->{length} && $to->{length} <= $self->{limit}
        ? eval { take_body($to, $in) ? 1 : 0 } : 0;
    return $self->_end(failed => 'malformed chunked encoding')
        if !defined $end;
    my $got = $end || $to->{chunked} ? length($to->{body} // '') : length $$in;
    return $self->_end(over => 1) if $got > $self->{limit};
    return $self->_end(body => $to->{body}) if $end;
    return;
}

sub _closed {
    my ($self, $error) = @_;
    return $self->_end(body => $self->{in})
        if $self->{to} && !$self->{to}{chunked} && !defined $self->{to}{length};
    return $self->_end(failed => $error // 'EOF');
}

# Always returns false. What comes after the end is not looked at.
sub _end {
    my ($self, %how) = @_;
    my $promise = delete $self->{promise} or return 0;
    Mojo::IOLoop->remove(delete $self->{timer});
    Mojo::IOLoop->remove(delete $self->{connecting}) if $self->{connecting};
    if (my $c = delete $self->{connection}) {
        delete $c->{for};
        my $kept = $idle{$c->{place}} //= [];
        if (exists $how{body} && $self->{keep} && $self->{in} eq ''
            && !$c->{closed} && @$kept < KEPT) { push @$kept, $c }
        elsif ($c->{stream}) { $c->{stream}->close }
    }
    $promise->resolve({%how,
        ($self->{h} ? (status => $self->{status}, h => $self->{h}) : ())});
    return 0;
}

1;
