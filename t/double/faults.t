#!/usr/bin/perl
# Every fault of the double, seen from a socket.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib", "$FindBin::RealBin/../lib";
use Compress::Zlib ();
use Errno qw(EADDRINUSE ECONNREFUSED);
use File::Temp qw(tempdir);
use IO::Socket::INET ();
use Test::More;
use Time::HiRes qw(sleep time);
use AuthDouble::SelfTest qw(raw_connect raw_send raw_read raw_eof http request
    read_answer slurp shape);
use UserSync::Double;

my $FIX = "$FindBin::RealBin/../fixtures/supabase";
my $dir = tempdir(CLEANUP => 1);
my $d = UserSync::Double->start(dir => "$dir/double", autoconfirm => 1);
my $T = JSON::PP::true();
my $n = 0;
my %ADA = (email => 'ada@example.com', password => 'Secret-pass-12');
my $LOGIN = _post('token?grant_type=password', \%ADA);

sub _post {
    my ($path, $data, %h) = @_;
    return http('POST', "/auth/v1/$path", JSON::PP->new->encode($data),
        apikey => $d->key, 'X-Supabase-Api-Version' => '2024-01-01', %h);
}

sub begin {
    my (%fault) = @_;
    $d->reset;
    $d->add_user(%ADA);
    $d->fault(%fault) if %fault;
    my $s = raw_connect($d->port) or die "connect: $!";
    return $s;
}

# a login over $s, its answer
sub login { raw_send($_[0], $LOGIN); return read_answer($_[0]) }
sub signup_bytes { return _post('signup', {%ADA, email => 'n' . ++$n . '@b.c'}) }
sub count { return scalar @{$d->users} }

# nothing arrives although the double has worked on something else since
sub silent {
    my ($s, $name) = @_;
    is request($d->port, http('GET', '/auth/v1/health', undef,
        apikey => $d->key))->{status}, 200, "$name: others are served";
    my $text = raw_read($s, undef, 0.2, \my $end);
    is "$end:$text", 'timeout:', "$name: nothing arrives";
    return;
}

# ---- which request a fault is for
my $s = begin(op => 'signup', kind => 'html');
is login($s)->{status}, 200, 'a fault for sign-up spares a login';
raw_send($s, signup_bytes());
is read_answer($s)->{status}, 502, 'but not a sign-up';
is login($s)->{status}, 200, 'once';
is_deeply [$d->faults], [], 'used up';
$d->fault(op => 'any', kind => 'status', status => 500 + $_) for 1, 2;
is login($s)->{status}, 500 + $_, "queued: $_" for 1, 2;
$d->fault(kind => 'html', times => 2);
is_deeply [map { login($s)->{status} } 1 .. 3], [502, 502, 200], 'times 2';
$d->fault(kind => 'html', times => -1);
is_deeply [map { login($s)->{status} } 1 .. 4], [(502) x 4], 'times -1';
$d->clear_faults;
is login($s)->{status}, 200, 'cleared';
$d->fault(kind => 'html', email => 'other@example.com');
is login($s)->{status}, 200, 'for another e-mail address';
ok !eval { $d->fault(kind => 'nonsense'); 1 }, 'unknown kind';
ok !eval { $d->fault(kind => 'html', op => 'x'); 1 }, 'unknown op';
ok !eval { $d->fault(kind => 'fixture', file => '../x'); 1 }, 'no such fixture';

# ---- time
$s = begin(op => 'token', kind => 'delay', ms => 150);
my $t = time;
is login($s)->{status}, 200, 'delay: answered';
cmp_ok time - $t, '>=', 0.15, 'delay: late';
$d->fault(op => 'signup', kind => 'delay', ms => 100);
raw_send($s, signup_bytes());
ok $d->wait_requests('signup', 1), 'delay: request is in';
close $s;
$s = raw_connect($d->port);
$d->fault(op => 'token', kind => 'delay', ms => 200);
is login($s)->{status}, 200, 'delay: a later one';
is count(), 1, 'delay: a client that left is not signed up';
$d->fault(op => 'signup', kind => 'delay', ms => 60_000, commit => $T);
raw_send($s, signup_bytes());
ok $d->wait_requests('signup', 2), 'delay: committed first';
is count(), 2, 'delay: the work is done';
$d->clear_faults;
is raw_eof($s), 'eof', 'delay: clearing the faults lets go';

$s = begin(op => 'signup', kind => 'hold');
raw_send($s, signup_bytes());
ok $d->wait_requests('signup', 1), 'hold: arrived';
silent($s, 'hold');
is count(), 1, 'hold: the work is not done';
$d->release;
is read_answer($s)->{status}, 200, 'hold: released';
is count(), 2, 'hold: the work is done';
close $s;

for my $kind (qw(hang_before hang_after_headers)) {
    $s = begin(op => 'signup', kind => $kind);
    raw_send($s, signup_bytes());
    my $head = $kind eq 'hang_before' ? ''
        : raw_read($s, sub { $_[0] =~ /\r\n\r\n/ });
    ok $d->wait_requests('signup', 1), "$kind: arrived";
    like $head, qr/\AHTTP\/1.1 200 OK\r\n.*Content-Length: [0-9]{4}\r\n\r\n\z/s,
        "$kind: headers" if $kind ne 'hang_before';
    silent($s, $kind);
    is count(), $kind eq 'hang_before' ? 1 : 2, "$kind: work done or not";
    close $s;
    ok $d->wait_open(0), "$kind: the client's leaving is noticed";
}

my $held = begin(kind => 'hang_accept');
raw_send($held, $LOGIN);
silent($held, 'hang_accept');
is scalar(@{$d->requests('token')}), 0, 'hang_accept: not even read';
$d->fault(kind => 'hang_accept');
my $mute = raw_connect($d->port('https'));
ok $d->wait_connections(3), 'hang_accept: accepted';
raw_send($mute, "\x16\x03\x01");
silent($mute, 'hang_accept before TLS');
$d->clear_faults;
is scalar(raw_eof($mute)), 'Connection reset by peer', 'hang_accept: let go';

# ---- no connection, no answer
$s = begin();
is login($s)->{status}, 200, 'before refuse';
$d->fault(kind => 'refuse');
is raw_eof($s), 'eof', 'refuse: open connections are gone';
for my $port (qw(http https https_expired)) {
    ok !raw_connect($d->port($port)), "refuse: $port";
    is $! + 0, ECONNREFUSED, "refuse: $port refuses";
}
$d->clear_faults;
is login(raw_connect($d->port))->{status}, 200, 'refuse: over';
$d->fault(kind => 'refuse', ms => 100);
ok !raw_connect($d->port), 'refuse for a while';
my $until = time + 10;
my $back;
sleep 0.01 while !($back = raw_connect($d->port)) && time < $until;
is login($back)->{status}, 200, 'refuse: back by itself';

for (['close', 'eof', 1], ['close_after_commit', 'eof', 2],
    ['reset', 'Connection reset by peer', 1]) {
    my ($kind, $how, $users) = @$_;
    $s = begin(op => 'signup', kind => $kind);
    is login($s)->{status}, 200, "$kind: on a used connection";
    raw_send($s, signup_bytes());
    my ($text, $end) = raw_eof($s);
    is "$end:$text", "$how:", "$kind: $how without a byte";
    is count(), $users, "$kind: users";
}
$s = begin(op => 'signup', kind => 'reset', commit => $T);
raw_send($s, signup_bytes());
raw_eof($s);
is count(), 2, 'reset with commit';

$s = begin(op => 'token', kind => 'close_idle');
my $r = login($s);
is $r->{status}, 200, 'close_idle: answered';
ok !exists $r->{h}{connection}, 'close_idle: no warning';
is raw_eof($s), 'eof', 'close_idle: closed';

# ---- bodies that are not what the headers say
sub raw_login {
    my (%fault) = @_;
    my $sock = begin(op => 'token', %fault);
    raw_send($sock, $LOGIN);
    return $sock;
}
for my $bytes (0, 100) {
    my ($text, $end) = raw_eof(raw_login(kind => 'cut', bytes => $bytes));
    my ($len) = $text =~ /Content-Length: ([0-9]+)/;
    my ($body) = $text =~ /\r\n\r\n(.*)/s;
    cmp_ok $len, '>', 2000, 'cut: the right length';
    is "$end " . length $body, "eof $bytes", "cut: after $bytes bytes";
}
for my $delta (-7, 9) {
    my $text = raw_read(raw_login(kind => 'wrong_length', delta => $delta),
        sub { $_[0] =~ /weak_password":null\}\z/ });
    my ($len, $body) = $text =~ /Content-Length: ([0-9]+).*?\r\n\r\n(.*)/s;
    is $len - length $body, $delta, "wrong_length: $delta";
}
is raw_eof(raw_login(kind => 'wrong_length', delta => 5, close => $T)), 'eof',
    'wrong_length: closed';
$r = login($s = begin(op => 'token', kind => 'truncate_json', bytes => 50));
is "$r->{framing} " . length $r->{body}, 'length 50', 'truncate_json';
is login($s)->{status}, 200, 'truncate_json: the connection lives';

# ---- answers that GoTrue does not give
sub faulty { return login($s = begin(op => 'token', @_)) }
$r = faulty(kind => 'html');
is "$r->{status} $r->{h}{'content-type'}", '502 text/html', 'html';
$r = faulty(kind => 'html', status => 522);
is $r->{status}, 522, 'html: another status';
$r = faulty(kind => 'empty');
is "$r->{status} $r->{h}{'content-length'}", '200 0', 'empty';
$r = faulty(kind => 'huge', bytes => 100_000);
is $r->{body}, '"' . ('a' x 99_998) . '"', 'huge';
$r = faulty(kind => 'huge');
is length $r->{body}, 8_388_608, 'huge: default';
$r = faulty(kind => 'status', status => 429, body => 'slow down',
    content_type => 'text/plain', headers => {'Retry-After' => 17});
is "$r->{status} $r->{h}{'retry-after'} $r->{h}{'content-type'} $r->{body}",
    '429 17 text/plain slow down', 'status';
$r = faulty(kind => 'status', status => 503, body => {b => 1, a => ['<']});
is "$r->{h}{'content-type'} $r->{body}",
    'application/json {"a":["\u003c"],"b":1}', 'status: JSON body';
$r = faulty(kind => 'status', status => 500, headers =>
    [['X-A', 1], ['X-B', 2]]);
is $r->{h}{'x-b'}, 2, 'status: list of headers';
$r = faulty(kind => 'redirect');
is "$r->{status} $r->{h}{location}", '302 /elsewhere', 'redirect';
raw_send($s, http('GET', '/elsewhere', undef));
is read_answer($s)->{status}, 404, 'redirect: nothing there';
is(($d->requests('other'))[0]{path}, '/elsewhere', 'redirect: recorded');
my ($garbage) = raw_eof(raw_login(kind => 'garbage'));
unlike $garbage, qr/\AHTTP/, 'garbage';
ok length $garbage, 'garbage: some bytes';
is login(begin(op => 'token', kind => 'status', status => 500, commit => $T))
    ->{status}, 500, 'status with commit';

for my $entry (@{JSON::PP->new->utf8->decode(slurp("$FIX/index.json"))}) {
    next if !$entry->{status} || $entry->{endpoint} =~ /OUTBOUND|compat/;
    $r = faulty(kind => 'fixture', file => $entry->{file});
    my %h = %{$entry->{headers}};
    my @wrong = grep { $r->{h}{lc $_} ne $h{$_} } keys %h;
    is "$r->{status} @wrong", "$entry->{status} ", "fixture $entry->{file}";
    is $r->{body}, slurp("$FIX/$entry->{file}"), "fixture $entry->{file}: body"
        if $entry->{status} != 204;
}
$r = faulty(kind => 'fixture', file => 'gw_envoy_upstream_timeout.txt',
    status => 503, headers => {'Retry-After' => 3});
is "$r->{status} $r->{h}{'retry-after'}", '503 3', 'fixture: changed';

# ---- answers that nobody has asked for
for my $case ([{}, qr/"access_token".*HTTP\/1\.1 200 OK.*"access_token"/s],
    [{joined => 1}, qr/"access_token".*HTTP\/1\.1 200 OK.*"access_token"/s],
    [{status => 408, close => 1},
        qr/"access_token".*HTTP\/1\.1 408 .*Connection: close\r\n/s]) {
    my ($how, $what) = @$case;
    $s = begin(op => 'token', kind => 'surplus', %$how);
    raw_send($s, $LOGIN);
    like raw_read($s, sub { $_[0] =~ $what }), $what, 'surplus: one more';
    if ($how->{close}) { is raw_eof($s), 'eof', 'surplus: the end' }
    else { is login($s)->{status}, 200, 'surplus: the connection lives' }
}

# ---- answers without end
for my $case ([endless_headers => qr/\AHTTP\/1\.1 200 OK\r\nX-More: a+\r\n/],
    [endless_interim => qr/\AHTTP\/1\.1 103 Early Hints\r\nX-More: /]) {
    my ($kind, $head) = @$case;
    $s = begin(op => 'token', kind => $kind);
    raw_send($s, $LOGIN);
    my $got = raw_read($s, sub { length $_[0] > 1_000_000 });
    like $got, $head, "$kind: the head";
    cmp_ok length $got, '>', 1_000_000, "$kind: and on";
    $d->clear_faults;
    is raw_eof($s), 'eof', "$kind: ends with the fault";
}

# ---- the right answer in odd ways
my $normal = shape(login(begin())->{body});
$r = faulty(kind => 'chunked');
cmp_ok $r->{chunks}, '>=', 4, 'chunked: several';
is shape($r->{body}), $normal, 'chunked: the answer';
is login($s)->{status}, 200, 'chunked: the connection lives';
$s = begin(op => 'token', kind => 'drip', interval_ms => 1);
raw_send($s, _post('token?grant_type=password', {%ADA, password => 'x'}));
my $reads = 0;
my $text = raw_read($s, sub { $reads++; $_[0] =~ /credentials"\}\z/ });
cmp_ok $reads, '>', length($text) / 4, 'drip: in small pieces';
is login($s)->{status}, 200, 'drip: the connection lives';
$r = faulty(kind => 'chunked', size => 1);
is $r->{chunks}, length $r->{body}, 'chunked: a byte each';
$r = faulty(kind => 'transform', set => {'user.id' => 'not-a-uuid',
    'user.identities.0.provider' => undef, token_type => {'$null' => $T},
    'user.email' => '', 'extra' => [1, {a => "\x{e9}"}]});
my $body = JSON::PP->new->utf8->decode($r->{body});
is $body->{user}{id}, 'not-a-uuid', 'transform: replaced';
is $body->{user}{email}, '', 'transform: emptied';
ok !exists $body->{user}{identities}[0]{provider}, 'transform: deleted';
ok exists $body->{token_type} && !defined $body->{token_type},
    'transform: null';
is_deeply $body->{extra}, [1, {a => "\x{e9}"}], 'transform: added';
like $r->{body}, qr/\A\{"access_token":.*"user":\{"id":"not-a-uuid","aud"/s,
    'transform: order kept';

# ---- what a filter between client and server must cope with
for my $case (['length', 0], ['length', 100], ['chunked', 0],
    ['chunked', 100]) {
    my ($framing, $bytes) = @$case;
    $s = raw_login(kind => 'hold_body', framing => $framing, bytes => $bytes);
    my $what = "hold_body: $framing, $bytes bytes";
    my $got = raw_read($s, sub { $_[0] =~ /\r\n\r\n.{$bytes}\z/s });
    like $got, qr/\AHTTP\/1\.1 200 OK\r\n.*\r\n\r\n.{$bytes}\z/s, $what;
    silent($s, $what);
    $d->release;
    $got .= raw_read($s, sub { $_[0] =~ /\}(?:\r\n0\r\n\r\n)?\z/ });
    like $got, qr/"access_token".*"weak_password":null\}/s, "$what: the rest";
    is login($s)->{status}, 200, "$what: the connection lives";
}
for my $size (undef, 7) {
    my ($got, $end) = raw_eof(raw_login(kind => 'cut', framing => 'chunked',
        bytes => 100, size => $size));
    like $got, qr/\r\nTransfer-Encoding: chunked\r\n\r\n[0-9a-f]+\r\n\{/,
        'cut: chunked';
    is "$end " . length(($got =~ /\r\n\r\n(.*)/s)[0]), 'eof 100',
        'cut: in the middle';
    unlike $got, qr/\r\n0\r\n\r\n\z/, 'cut: without the last chunk';
}
for my $coding (qw(gzip deflate br zstd)) {
    $r = faulty(kind => 'encoded', encoding => $coding);
    is $r->{h}{'content-encoding'}, $coding, "encoded: $coding";
    unlike $r->{body}, qr/access_token/, "encoded: $coding, not to be read";
    my $plain = $coding eq 'gzip' ? Compress::Zlib::memGunzip($r->{body})
        : $coding eq 'deflate' ? Compress::Zlib::uncompress($r->{body}) : next;
    is shape($plain), $normal, "encoded: $coding, the answer";
}
for my $case ([3000, 'a', 'length'], [1_048_576, 'a', 'chunked'],
    [1_048_577, '<', 'length']) {
    my ($bytes, $fill, $framing) = @$case;
    $r = faulty(kind => 'sized', bytes => $bytes, fill => $fill,
        framing => $framing);
    is "$r->{framing} " . length $r->{body}, "$framing $bytes",
        "sized: $bytes bytes";
    like $r->{body}, $fill eq 'a' ? qr/"padding":"a+"/
        : qr/"padding":"(?:\\u003c)+a{0,5}"/, "sized: of $fill";
    is login($s)->{status}, 200, "sized: the connection lives";
}
# too large to be parsed anew for each piece that comes
$s = raw_login(kind => 'sized', bytes => 14_000_000, fill => '<',
    framing => 'chunked');
my $large = raw_read($s, sub { substr($_[0], -7) eq "\r\n0\r\n\r\n" }, 60);
my ($chunk) = substr($large, 0, 2000) =~ /\r\n\r\n([0-9a-f]+)\r\n/;
is hex $chunk, 14_000_000, 'sized: 14 MB';
is index($large, '"access_token"') < index($large, '"user"'), 1,
    'sized: its token comes first';
is login($s)->{status}, 200, 'sized: the connection lives';
$r = faulty(kind => 'headers', set => {'content-type' => undef,
    'X-New' => 'yes', 'sb-auth-user-id' => 'other'});
is join(' ', map { $r->{h}{$_} // '-' } qw(content-type x-new
    sb-auth-user-id sb-auth-session-id)) =~ s/[0-9a-f-]{36}/ID/r,
    '- yes other ID', 'headers: taken away, added, replaced';
is shape($r->{body}), $normal, 'headers: the answer';
$r = faulty(kind => 'headers', status => 201);
is "$r->{status} " . shape($r->{body}), "201 $normal", 'headers: a status';
for my $case ([undef, 103], [102, 102]) {
    my ($status, $is) = @$case;
    $s = begin(op => 'token', kind => 'interim', status => $status, n => 2);
    raw_send($s, $LOGIN);
    my $got = raw_read($s, sub { $_[0] =~ /null\}\z/ });
    like $got, qr/\A(?:HTTP\/1\.1\ $is\ [^\r]+\r\n(?:Link:[^\r]+\r\n)?\r\n){2}
        HTTP\/1\.1\ 200\ OK\r\n.*"access_token"/sx, "interim: $is";
    is login($s)->{status}, 200, 'interim: the connection lives';
}
$r = faulty(kind => 'status', status => 304);
is "$r->{status} " . ($r->{h}{'content-length'} // '-'), '304 -',
    'status: without a body';

# ---- nothing is forgotten in a restart
$s = begin();
is login($s)->{status}, 200, 'a user';
$d->down;
is raw_eof($s), 'eof', 'down: connections are closed';
ok !raw_connect($d->port), 'down: refused';
$d->up;
$s = raw_connect($d->port);
is login($s)->{status}, 200, 'up: the user is still there';

# ---- nobody else gets a port that the double has left for a moment
sub taken {
    my ($port) = @_;
    my $socket = IO::Socket::INET->new(LocalAddr => '127.0.0.1',
        LocalPort => $port, Proto => 'tcp', Listen => 1);
    return !$socket && $! == EADDRINUSE;
}
# those that no client has used: no old connection keeps them either
my @unused = map { $d->port($_) } qw(https_wrong_name https_unknown_ca);
my @seen;
{
    # in the moment of its end, before this process does anything about it
    local $SIG{CHLD} = sub { push @seen, map { taken($_) } @unused };
    $d->down;
}
is "@seen", '1 1', 'down: its ports are taken as it ends';
is join(' ', map { taken($_) } @unused), '1 1', 'down: and stay so';
$d->up;
is join(' ', map { $d->port($_) } qw(https_wrong_name https_unknown_ca)),
    "@unused", 'up: the same ports';

is $d->stderr, '', 'nothing on stderr';
$d->stop;
is join('', map { taken($_) } @unused), '', 'stopped: they are free';
done_testing;
