package AuthDouble::Fault;
# Everything that can go wrong between a client and Supabase, on demand.
use strict;
use warnings;
use Compress::Zlib ();
use AuthDouble::Http qw(render);
use AuthDouble::Json qw(encode decode plain);
use AuthDouble::Later qw(when);

my %KIND = map { $_ => AuthDouble::Fault->can("_$_") } qw(delay hold
    hang_before hang_after_headers close close_after_commit reset cut wrong_length html
    empty huge status fixture redirect garbage drip truncate_json chunked
    close_idle transform endless_headers endless_interim surplus hold_body
    encoded sized headers interim);

# these act on connections, before any request is read
my %EARLY = map { $_ => 1 } qw(refuse hang_accept);
my %OP = map { $_ => 1 } qw(any signup token logout user jwks health settings
    otp verify factors resend reauthenticate authorize callback sso oauth
    invite generate_link provider admin_list admin_user other);

sub new {
    my ($class, %self) = @_;    # auth, fixtures
    return bless {%self, queue => []}, $class;
}

sub add {
    my ($self, $in) = @_;
    my %f = map { $_ => AuthDouble::Store::_value($in->{$_}, /\A(?:set|body)\z/) }
        keys %$in;
    $f{kind} //= '';
    $f{op} //= 'any';
    $f{times} //= 1;
    die "unknown fault kind: $f{kind}\n" if !$KIND{$f{kind}} && !$EARLY{$f{kind}};
    die "unknown op: $f{op}\n" if !$OP{$f{op}};
    $self->_load_fixture(\%f) if $f{kind} eq 'fixture';
    push @{$self->{queue}}, \%f;
    return \%f;
}

sub clear { $_[0]{queue} = []; return }
sub list { return @{$_[0]{queue}} }

# take($op, $req): the first fault that fits, or undef
sub take {
    my ($self, $op, $req) = @_;
    my $queue = $self->{queue};
    return undef if !@$queue;
    for my $i (0 .. $#$queue) {
        my $f = $queue->[$i];
        next if $EARLY{$f->{kind}} || $f->{op} ne 'any' && $f->{op} ne $op;
        next if defined $f->{email} && $req->{body} !~ /"\Q$f->{email}\E"/i;
        return $self->_used($i);
    }
    return undef;
}

sub take_accept {
    my ($self) = @_;
    my $queue = $self->{queue};
    for my $i (0 .. $#$queue) {
        return $self->_used($i) if $queue->[$i]{kind} eq 'hang_accept';
    }
    return undef;
}

sub _used {
    my ($self, $i) = @_;
    my $f = $self->{queue}[$i];
    splice @{$self->{queue}}, $i, 1 if $f->{times} > 0 && --$f->{times} == 0;
    return $f;
}

# those that are about the undisturbed answer are given it
my %ANSWERED = map { $_ => 1 } qw(hang_after_headers cut wrong_length drip
    chunked truncate_json close_idle surplus transform hold_body encoded sized
    headers interim);

# with "commit" the work is done first, so the answer is the one to a repeated
# request
sub apply {
    my ($self, $f, $conn, $req) = @_;
    my $kind = $KIND{$f->{kind}};
    my $work = $f->{commit} || $f->{kind} eq 'close_after_commit'
        ? $self->_normal($req) : undef;
    return when($work, sub {
        return when($ANSWERED{$f->{kind}} ? $self->_normal($req) : undef, sub {
            return $kind->($self, $f, $conn, $req, $_[0]) if $conn->{fh};
        });
    });
}

sub _normal { return $_[0]{auth}->answer($_[1]) }

sub _reply_normally {
    my ($self, $conn, $req) = @_;
    $conn->{held} = 0;
    return when($self->_normal($req), sub {
        return $conn->reply($req, $_[0]) if $conn->{fh};
    });
}

sub _delay {
    my ($self, $f, $conn, $req) = @_;
    $conn->hold;
    $conn->timer($f->{ms} // 1000,
        sub { $self->_reply_normally($conn, $req) });
    return;
}

# The answer waits for release().
sub _hold {
    my ($self, $f, $conn, $req) = @_;
    $conn->hold;
    push @{$self->{held}},
        [$conn, sub { $self->_reply_normally($conn, $req) }];
    return;
}

# The headers come, and so many bytes of the body; the rest waits for release().
# framing: length or chunked
sub _hold_body {
    my ($self, $f, $conn, $req, $res) = @_;
    my ($head, $body, $close) = render($req, $res,
        framing => $f->{framing} // 'auto');
    my $sent = substr $body, 0, $f->{bytes} // 0, '';
    $conn->hold;
    $conn->write($head . $sent);
    push @{$self->{held}}, [$conn, sub {
        $conn->{held} = 0;
        $conn->write($body);
        return $close ? $conn->finish : $conn->done;
    }];
    return;
}

sub release {
    my ($self) = @_;
    $_->[1]->() for grep { $_->[0]{fh} } @{delete $self->{held} || []};
    return;
}

sub _hang_before { return $_[2]->hold }

sub _hang_after_headers {
    my ($self, $f, $conn, $req, $res) = @_;
    my ($head) = render($req, $res, framing => 'length');
    $conn->write($head);
    return $conn->hold;
}

sub _close { return $_[2]->finish }

sub _close_after_commit { return $_[2]->finish }

sub _reset { return $_[2]->reset }

# framing: length, or chunked without the last chunk
sub _cut {
    my ($self, $f, $conn, $req, $res) = @_;
    my ($head, $body) = render($req, $res, framing => $f->{framing} // 'length',
        chunk => $f->{size});
    $conn->write($head . substr $body, 0, $f->{bytes} // length($body) / 2);
    return $conn->finish;
}

sub _wrong_length {
    my ($self, $f, $conn, $req, $res) = @_;
    return $conn->reply($req, $res, framing => 'length', close => $f->{close},
        length => length($res->{body}) + ($f->{delta} // 1));
}

sub _simple {
    my ($conn, $req, $status, $type, $body, @headers) = @_;
    return $conn->reply($req, {status => $status, body => $body,
        headers => [($type ? ['Content-Type', $type] : ()), @headers]},
        framing => 'length');
}

sub _html {
    my ($self, $f, $conn, $req) = @_;
    my $status = $f->{status} // 502;
    my $name = AuthDouble::Http::reason($status);
    return _simple($conn, $req, $status, 'text/html', <<"HTML");
<html>\r
<head><title>$status $name</title></head>\r
<body>\r
<center><h1>$status $name</h1></center>\r
<hr><center>cloudflare</center>\r
</body>\r
</html>\r
HTML
}

sub _empty {
    my ($self, $f, $conn, $req) = @_;
    return _simple($conn, $req, $f->{status} // 200, 'application/json', '');
}

sub _huge {
    my ($self, $f, $conn, $req) = @_;
    my $n = ($f->{bytes} // 8_388_608) - 2;
    return $conn->reply($req, {status => $f->{status} // 200,
        headers => [['Content-Type', 'application/json']],
        body => '"' . ('a' x $n) . '"'}, framing => $f->{framing} // 'length');
}

sub _status {
    my ($self, $f, $conn, $req) = @_;
    my $body = ref $f->{body} ? encode($f->{body}) : $f->{body} // '';
    my $h = $f->{headers} || {};
    my @headers = ref $h eq 'HASH' ? map { [$_, $h->{$_}] } sort keys %$h : @$h;
    my $type = exists $f->{content_type} ? $f->{content_type}
        : 'application/json';
    return _simple($conn, $req, $f->{status} // 500, $type, $body, @headers);
}

sub _redirect {
    my ($self, $f, $conn, $req) = @_;
    return _simple($conn, $req, $f->{status} // 302, '', '',
        ['Location', $f->{location} // '/elsewhere']);
}

sub _load_fixture {
    my ($self, $f) = @_;
    my ($dir, $file) = ($self->{fixtures}, $f->{file} // '');
    die "no fixtures\n" if !defined $dir;
    die "no such fixture: $file\n" if $file !~ /\A[\w.-]+\z/ || !-f "$dir/$file";
    $self->{index} //= {map { $_->{file} => $_ }
        @{plain(decode(_slurp("$dir/index.json")))}};
    $f->{body} = _slurp("$dir/$file");
    my $entry = $self->{index}{$file} || {};
    $f->{status} //= $entry->{status} ? ${$entry->{status}} : 200;
    my %h = (%{$entry->{headers} || {}}, %{$f->{headers} || {}});
    $f->{headers} = [map { [$_, $h{$_}] } grep { defined $h{$_} } sort keys %h];
    return;
}

sub _slurp {
    my ($path) = @_;
    open my $fh, '<:raw', $path or die "$path: $!\n";
    local $/;
    return scalar <$fh>;
}

sub _fixture {
    my ($self, $f, $conn, $req) = @_;
    return $conn->reply($req, {status => $f->{status}, body => $f->{body},
        headers => $f->{headers}});
}

sub _garbage {
    my ($self, $f, $conn, $req) = @_;
    $conn->write("\x15\x03\x00\xff this is not HTTP \x00\x01\r\n\r\n");
    return $conn->finish;
}

# _slowly($conn, $wire, $size, $ms, $close): a piece each $ms milliseconds
sub _slowly {
    my ($conn, $wire, $size, $ms, $close) = @_;
    $conn->write(substr $wire, 0, $size, '');
    return $close ? $conn->finish : $conn->done if !length $wire;
    return $conn->timer($ms,
        sub { _slowly($conn, $wire, $size, $ms, $close) });
}

sub _drip {
    my ($self, $f, $conn, $req, $res) = @_;
    my ($head, $body, $close) = render($req, $res);
    return _slowly($conn, $head . $body, $f->{bytes} // 1,
        $f->{interval_ms} // 50, $close);
}

# several chunks, of so many bytes each, and cut up differently once more on the
# wire
sub _chunked {
    my ($self, $f, $conn, $req, $res) = @_;
    my $n = length $res->{body};
    my ($head, $body, $close) = render($req, $res, framing => 'chunked',
        chunk => $f->{size} // 1 + int $n / 5);
    my $wire = $head . $body;
    return _slowly($conn, $wire, 1 + int(length($wire) / 7), 1, $close);
}

sub _truncate_json {
    my ($self, $f, $conn, $req, $res) = @_;
    my $keep = $f->{bytes} // length($res->{body}) / 2;
    return $conn->reply($req, {%$res, body => substr $res->{body}, 0, $keep});
}

sub _close_idle {
    my ($self, $f, $conn, $req, $res) = @_;
    my ($head, $body) = render($req, $res);
    $conn->write($head . $body);
    return $conn->finish;
}

# The right answer, and one more that nobody has asked for: the same again, or
# a bare one with this status. joined: in one piece with the body before it;
# close: what a server says that ends an idle connection.
sub _surplus {
    my ($self, $f, $conn, $req, $res) = @_;
    my ($head, $body) = render($req, $res, framing => 'length');
    my ($more_head, $more_body) = render($req, $f->{status}
        ? {status => $f->{status}, body => ''} : $res,
        framing => 'length', close => $f->{close});
    my $more = $more_head . $more_body;
    $conn->write($head);
    $conn->write($f->{joined} ? $body . $more : $body);
    $conn->write($more) if !$f->{joined};
    return $f->{close} ? $conn->finish : $conn->done;
}

# again and again, until the other side has had enough
sub _again {
    my ($conn, $piece) = @_;
    $conn->write($piece) if !length $conn->{wbuf};
    return $conn->timer(1, sub { _again($conn, $piece) });
}

sub _endless_headers {
    my ($self, $f, $conn, $req) = @_;
    $conn->hold;
    $conn->write("HTTP/1.1 200 OK\r\n");
    return _again($conn, ("X-More: " . 'a' x 4000 . "\r\n") x 16);
}

sub _endless_interim {
    my ($self, $f, $conn, $req) = @_;
    $conn->hold;
    return _again($conn, "HTTP/1.1 103 Early Hints\r\n"
        . ("X-More: " . 'a' x 4000 . "\r\n") x 15 . "\r\n");
}

sub _transform {
    my ($self, $f, $conn, $req, $res) = @_;
    my $v = decode($res->{body});
    my $set = $f->{set} || {};
    _set($v, $_, $set->{$_}) for sort keys %$set;
    return $conn->reply($req, {%$res, body => encode($v)});
}

# Compressed although nobody has asked for it: gzip and deflate are what they
# say, the bytes of any other coding mean nothing.
sub _encoded {
    my ($self, $f, $conn, $req, $res) = @_;
    my $coding = $f->{encoding} // 'gzip';
    my $body = $res->{body};
    $body = $coding eq 'gzip' ? Compress::Zlib::memGzip($body)
        : $coding eq 'deflate' ? Compress::Zlib::compress($body)
        : $body =~ tr/\x00-\xff/\x80-\xff\x00-\x7f/r;
    return $conn->reply($req, {%$res, body => $body, headers =>
        [@{$res->{headers}}, ['Content-Encoding', $coding]]},
        framing => $f->{framing} // 'auto');
}

# The right answer in exactly so many bytes, by a member "padding" of the user's
# metadata that repeats "fill"; '<' takes six bytes each time.
sub _sized {
    my ($self, $f, $conn, $req, $res) = @_;
    my $v = decode($res->{body});
    my $pad = sub {
        _set($v, $_, $_[0]) for qw(user.user_metadata.padding
            user_metadata.padding);
        return encode($v);
    };
    my $left = ($f->{bytes} // 1_048_576) - length $pad->('');
    die "the answer is larger: $left\n" if $left < 0;
    my $fill = $f->{fill} // 'a';
    my $each = length(encode($fill)) - 2;
    return $conn->reply($req, {%$res, body => $pad->(
        ($fill x int $left / $each) . 'a' x ($left % $each))},
        framing => $f->{framing} // 'auto');
}

# other headers: {name => value}, null takes one away
sub _headers {
    my ($self, $f, $conn, $req, $res) = @_;
    my $set = $f->{set} || {};
    my %gone = map { lc $_ => 1 } keys %$set;
    my @headers = ((grep { !$gone{lc $_->[0]} } @{$res->{headers}}),
        map { [$_, $set->{$_}] } grep { defined $set->{$_} } sort keys %$set);
    return $conn->reply($req, {%$res, headers => \@headers,
        status => $f->{status} // $res->{status}},
        framing => $f->{framing} // 'auto');
}

# so many answers 103 (or another 1xx) before the right one
sub _interim {
    my ($self, $f, $conn, $req, $res) = @_;
    my $status = $f->{status} // 103;
    $conn->write("HTTP/1.1 $status "
        . AuthDouble::Http::reason($status) . "\r\n"
        . ($status == 103 ? "Link: </style.css>; rel=preload\r\n" : '')
        . "\r\n") for 1 .. $f->{n} // 1;
    return $conn->reply($req, $res);
}

# _set($value, 'user.identities.0.id', $new): undef deletes,
# {"$null": true} stores a null
sub _set {
    my ($v, $path, $new) = @_;
    my ($key, $rest) = split /\./, $path, 2;
    my $null = ref $new eq 'HASH' && exists $new->{'$null'};
    if (ref $v eq 'ARRAY') {
        return if $key !~ /\A[0-9]+\z/;
        return _set($v->[$key], $rest, $new) if defined $rest;
        return defined $new ? ($v->[$key] = $null ? undef : $new)
            : splice @$v, $key, 1;
    }
    return if ref $v ne 'AuthDouble::Json::Obj';
    for (my $i = 0; $i < @$v; $i += 2) {
        next if $v->[$i] ne $key;
        return _set($v->[$i + 1], $rest, $new) if defined $rest;
        return splice @$v, $i, 2 if !defined $new;
        $v->[$i + 1] = $null ? undef : $new;
        return;
    }
    push @$v, $key, $null ? undef : $new if !defined $rest && defined $new;
    return;
}

1;
