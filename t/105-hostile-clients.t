# Hostile clients, and clients that leave: requests inside requests, JSON and
# headers that are made to be expensive, and no client left when the answer
# comes.

use UserSync::Test;
use UserSync::Contract;

my %ada = (email => 'ada@example.com', password => 'correct horse');
my $body = UserSync::HTTP::encode_json(\%ada);
my $httpd = UserSync::Httpd->new(
    mpm() eq 'prefork' ? (children => 8) : (children => 1, threads => 16),
    config => module_config(UserSyncMaxBodySize => 1_048_576))->start;
my $login = $httpd->url('/auth/login');

sub fresh_double {
    double->reset;
    double->config(autoconfirm => JSON::PP::true);
    double->add_user(%ada);
    return;
}

# ---- a request inside a request

my $SMUGGLED = 'smuggled@example.com';
my $inner = post_bytes($httpd->url('/auth/register'),
    { email => $SMUGGLED, password => 'correct horse' });
my $length = length $body;
my $chunks = sprintf "%x\r\n%s\r\n0\r\n\r\n", $length, $body;

# name, the framing headers, the bytes after them, the status of the first
# answer. There is never a second answer: after a framing that two servers
# could read differently, httpd reads nothing more from that connection.
my @shapes = (
    ['both lengths', "Content-Length: $length\r\n"
        . "Transfer-Encoding: chunked", $chunks, 200],
    ['both lengths, the other way round', "Transfer-Encoding: chunked\r\n"
        . 'Content-Length: 5', $chunks, 200],
    ['two lengths', "Content-Length: $length\r\nContent-Length: 1", $body, 400],
    ['a list of lengths', "Content-Length: $length, 1", $body, 400],
    ['a length with a sign', "Content-Length: +$length", $body, 400],
    ['a negative length', 'Content-Length: -1', $body, 400],
    ['a hexadecimal length', sprintf('Content-Length: 0x%x', $length), $body,
        400],
    ['a length with a blank in it', "Content-Length: $length 1", $body, 400],
    ['a length beyond 64 bits', 'Content-Length: 99999999999999999999', $body,
        400],
    ['a length of no digits', 'Content-Length: ', $body, 400],
    ['a blank before the colon', "Content-Length : $length", $body, 400],
    ['chunked that is not', 'Transfer-Encoding: xchunked', $chunks, 400],
    ['chunked and more', 'Transfer-Encoding: chunked, identity', $chunks, 400],
    ['identity', 'Transfer-Encoding: identity', $chunks, 400],
    ['chunked in HTTP/1.0', 'Transfer-Encoding: chunked', $chunks, 200,
        'HTTP/1.0'],
    ['a NUL in a header', "X-A: a\0b\r\nContent-Length: $length", $body, 400],
    ['a header without a name', ": x\r\nContent-Length: $length", $body, 400],
    ['a control character', "X-A: a\x01b\r\nContent-Length: $length", $body,
        400],
);

subtest 'requests inside of requests' => sub {
    fresh_double();
    my ($host) = $login =~ m{//([^/]+)};
    for my $shape (@shapes) {
        my ($name, $framing, $bytes, $status, $version) = @$shape;
        $version ||= 'HTTP/1.1';
        double->clear_requests;
        my @all = raw($login, "POST /auth/login $version\r\nHost: $host\r\n"
            . "Content-Type: application/json\r\n$framing\r\n\r\n$bytes$inner",
            { timeout => 5 });
        is_deeply [map { $_->{status} } @all], [$status], $name
            or diag map { show($_) } @all;
        my @arrived = double->requests;
        is scalar @arrived, $status == 200 ? 1 : 0,
            "$name: asked as often as answered";
    }
    is_deeply [grep { $_->{email} eq $SMUGGLED } double->users], [],
        'no user was smuggled in';
    # the same bytes with a correct framing are two requests
    double->clear_requests;
    my @both = raw($login, post_bytes($login, $body,
        Connection => 'keep-alive') . $inner, { timeout => 5 });
    is_deeply [map { $_->{status} } @both], [200, 200], 'framed well: two';
};

# ---- expensive requests

# The largest size of a child so far, in kB.
sub largest {
    my ($kb) = sort { $b <=> $a } map {
        (slurp("/proc/$_/status") || '') =~ /^VmHWM:\s+(\d+) kB/m ? $1 : 0
    } $httpd->children;
    return $kb;
}

my $members = substr $body, 1, -1;
sub with { return qq({$members,"x":$_[0]}) }

# name, body of up to 1 MiB, status
my @bombs = (
    ['90 000 members', "{$members," . join(',', map {qq("$_":1)} 1 .. 90_000)
        . '}', 200],
    ['10^5 members of one name', '{' . join(',', (qq("a":1)) x 100_000)
        . ",$members}", 200],
    ['40 000 addresses', '{' . join(',', (qq("email":"a\@b.c")) x 40_000)
        . ",$members}", 200],
    ['10^5 empty objects', with('[' . join(',', ('{}') x 100_000) . ']'), 200],
    ['a number of 10^6 digits', with('1' x 1_000_000), 200],
    ['a fraction of 10^6 digits', with('0.' . '1' x 1_000_000), 200],
    ['an exponent of 10^6 digits', with('1e' . '9' x 1_000_000), 200],
    ['10^5 escapes', with('"' . '\u00e9' x 100_000 . '"'), 200],
    ['10^5 lone surrogates', with('"' . '\ud800' x 100_000 . '"'), 200],
    ['10^6 bytes that are no UTF-8', with('"' . "\xff" x 1_000_000 . '"'), 400],
    ['10^6 lists deep', with('[' x 1_000_000), 400],
    ['150 000 objects deep', with('{"a":' x 150_000), 400],
    ['a NUL after 10^6 blanks', ' ' x 1_000_000 . "\0", 400],
    ['10^6 blanks', ' ' x 1_000_000, 400],
    ['a string without an end', '{"' . 'a' x 1_000_000, 400],
);

subtest 'JSON that is made to cost' => sub {
    fresh_double();
    my $before = largest();
    for my $bomb (@bombs) {
        my ($name, $bytes, $status) = @$bomb;
        my $response = post($login, $bytes);
        is $response->{status}, $status, $name or diag show($response);
        cmp_ok $response->{elapsed}, '<', 1 + slack,
            sprintf '%s: %.0f ms', $name, 1000 * $response->{elapsed};
    }
    my @all = parallel(6, sub { ($login, $bombs[$_[0]][1]) });
    is_deeply [map { $_->{status} } @all],
        [map { $_->[2] } @bombs[0 .. 5]], 'six at once';
    my $grown = largest() - $before;
    cmp_ok $grown, '<', 64 * 1024, "a child has grown by $grown kB";
    is post($login, $body)->{status}, 200, 'all is well';
};

subtest 'headers that are made to cost' => sub {
    fresh_double();
    for my $case (['10^4 headers', map { ("X-$_" => 'a') } 1 .. 10_000],
        ['a header of 10^6 bytes', 'X-A' => 'a' x 1_000_000],
        ['a cookie of 9 000 bytes', Cookie => 'a' x 9000]) {
        my ($name, @header) = @$case;
        is post($login, $body, @header)->{status}, 400, $name;
    }
    is request('POST', $httpd->url('/auth/login?' . 'a' x 10_000),
        $body)->{status}, 414, 'a long request line';
    not_asked_ok;
    is post($login, $body, map { ("X-$_" => 'a') } 1 .. 90)->{status}, 200,
        '90 headers are fine';
};

# ---- no client left when the answer comes

# Sends it and leaves once Supabase has the request, whose answer comes then.
# The caller may also pass what is to happen in between.
sub send_and_leave {
    my ($where, $op, $who, $meanwhile) = @_;
    double->clear_requests;
    double->fault(kind => 'hold', op => $op);
    my $connection = connection($where);
    $connection->send(post_bytes($where, $who));
    wait_until { my @all = double->requests($op); @all } 10, 'the request';
    $meanwhile->() if $meanwhile;
    $connection->close;
    double->release;
    return;
}

sub has_row {
    my ($email) = @_;
    return postgres->value(app => 'SELECT count(*) FROM users WHERE email = ?',
        $email);
}

subtest 'a client that does not wait for the answer' => sub {
    fresh_double();
    for my $case ([login => token => 'ada@example.com'],
        [register => signup => 'new@example.com']) {
        my ($route, $op, $email) = @$case;
        my $who = { %ada, email => $email };
        my $where = $httpd->url("/auth/$route");
        send_and_leave($where, $op, $who);
        ok +(wait_until { has_row($email) } 10),
            "$route: the row is written all the same";
        # and while PostgreSQL is being asked: the lock comes after the check
        # that a child may make before it asks Supabase
        my $lock = postgres->connect('app');
        $lock->begin_work;
        $who->{email} = "second-$email";
        double->add_user(%$who) if $route eq 'login';
        send_and_leave($where, $op, $who, sub {
            $lock->do('LOCK TABLE users IN ACCESS EXCLUSIVE MODE');
        });
        wait_until { postgres->value(postgres => <<'SQL') } 10, 'the statement';
SELECT count(*) FROM pg_stat_activity
 WHERE usename = 'www-data' AND wait_event_type = 'Lock'
SQL
        $lock->rollback;
        ok +(wait_until { has_row($who->{email}) } 10),
            "$route: also by a client that leaves during the statement";
        $lock->disconnect;
    }
    is post($login, $body)->{status}, 200, 'all is well';
};

done_testing;
