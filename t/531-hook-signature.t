# Who may call the hook: whoever has the secret, and nobody else; and nothing
# of a request is parsed before that is known.

use Digest::SHA qw(hmac_sha256);
use MIME::Base64 qw(decode_base64 encode_base64);

use UserSync::Gate;
use UserSync::Hook;
use UserSync::Tables;
use UserSync::Test;

my $DB = logged_db('usersync_signature');
my $OTHER = secret_of(24);
my $httpd = hook_server($DB, children => 1)->start;

# Refused with 401 and without SQL, whatever the body is.
sub unsigned_ok {
    my ($name, $body, %arg) = @_;
    my $response;
    my $sql = sql_of($DB, sub { $response = call_hook($httpd, $body, %arg) });
    problem_ok $response, 401, 'invalid_signature', $name;
    is_deeply [$sql, $response->{headers}{'www-authenticate'}],
        [[], 'Standard-Webhooks'], 'no SQL, and a challenge';
    return;
}

# What the log says about it; each cause is logged once in a while.
sub line_ok {
    my ($what) = @_;
    my @lines = our_lines($httpd, 0);
    my ($found) = grep { $_ =~ $what } @lines;
    ok $found, "the log says: $what" or diag join "\n", @lines;
    return;
}

my $body = token_body();
my ($SIGNATURE) = {sign_hook($body, id => 'x')}->{'Webhook-Signature'}
    =~ /,(.*)/;

subtest 'signatures' => sub {
    my $good = token_body();
    unsigned_ok 'another secret', $body, secrets => $OTHER;
    unsigned_ok 'a body that was changed', $body,
        headers => {sign_hook("$body ")};
    unsigned_ok "a signature of version $_", $body, id => 'x',
        signature => "$_,$SIGNATURE" for qw(v1a v2 V1 v), '';
    unsigned_ok 'a signature without a version', $body, id => 'x',
        signature => $SIGNATURE;
    unsigned_ok 'a signature that is cut off', $body, id => 'x',
        signature => 'v1,' . substr $SIGNATURE, 0, -1;
    unsigned_ok 'a signature that is too long', $body, id => 'x',
        signature => "v1,$SIGNATURE=";
    unsigned_ok 'the bits behind the end', $body, id => 'x', time => 0,
        signature => "v1,$SIGNATURE";
    unsigned_ok 'another letter', $body, id => 'x',
        signature => 'v1,' . ($SIGNATURE =~ tr/A-Za-z/B-ZAb-za/r);
    unsigned_ok "$_", $body, signature => $_
        for '', 'v1', 'v1,', 'v1,,', ',', ' ', 'v1, ' x 1000,
        'v1,' . '=' x 44, 'v1,' . 'A' x 7000, "v1,\x80\xff";
    line_ok qr/invalid_signature: the signature does not match: is User/;
    line_ok qr/invalid_signature: the signature is empty: the hook has no sec/;
    line_ok qr/has no signature of version 1/;

    my $key = decode_base64($SECRET =~ s/^v1,whsec_//r);
    my $other = 'v1,' . encode_base64('x' x 32, '');
    for my $case (['blanks', "%s $other"], ['blanks', "$other %s"],
        ['a comma and a blank', "$other, %s"], ['commas', "$other,%s"],
        ['an asymmetric one before', "v1a,$SIGNATURE %s"],
        ['fourteen before', "$other, " x 14 . '%s']) {
        my %header = sign_hook($good);
        $header{'Webhook-Signature'}
            = sprintf $case->[1], $header{'Webhook-Signature'};
        allowed_ok call_hook($httpd, $good, headers => \%header), $good,
            "several: $case->[0]";
    }
    my %header = sign_hook($good);
    $header{'Webhook-Signature'} = [$other, $header{'Webhook-Signature'}];
    allowed_ok call_hook($httpd, $good, headers => \%header), $good,
        'in two headers';
    unsigned_ok 'the right one, after too many', $body,
        headers => {%header, 'Webhook-Signature' =>
            "$other, " x 100 . {sign_hook($body)}->{'Webhook-Signature'}};
};

subtest 'headers and time' => sub {
    for my $name (qw(Webhook-Id Webhook-Timestamp Webhook-Signature)) {
        unsigned_ok "no $name", $body, headers => {$name => undef};
    }
    my %header = sign_hook($body);
    unsigned_ok 'another id', $body, headers => {%header,
        'Webhook-Id' => 'other'};
    unsigned_ok 'another time', $body, headers => {%header,
        'Webhook-Timestamp' => $header{'Webhook-Timestamp'} - 1};
    unsigned_ok 'two ids', $body, headers => {%header,
        'Webhook-Id' => [$header{'Webhook-Id'}, 'x']};
    my $now = int time;
    unsigned_ok 'old', $body, time => $now - 301;
    unsigned_ok 'ahead', $body, time => $now + 303 + slack;
    unsigned_ok "a time of '$_'", $body, time => $_
        for '', '-1', '0', "$now.0", " $now$now", "0x$now", '99999999999',
        '999999999999999999999999', "$now ago";
    line_ok qr/Webhook-Timestamp is more than 5 minutes old: check this serv/;
    line_ok qr/Webhook-Timestamp is more than 5 minutes ahead/;
    line_ok qr/is not signed: Webhook-Id, Webhook-Timestamp or Webhook-Si/;
    line_ok qr/Webhook-Timestamp is not a number/;
    for my $offset (-295, 295) {
        my $good = token_body();
        allowed_ok call_hook($httpd, $good, time => int(time) + $offset), $good,
            "$offset s are good";
    }
};

subtest 'bodies' => sub {
    my $size = 256 * 1024;
    my $fill = length token_body(app_metadata => \'""');
    my $at_most = token_body(app_metadata => \('"' . 'x' x ($size - $fill)
        . '"'));
    is length $at_most, $size, '256 KiB';
    allowed_ok call_hook($httpd, $at_most), $at_most, 'are allowed';
    problem_ok call_hook($httpd, "$at_most "), 413, 'body_too_large',
        'one byte more is not';
    my $chunked = join '', map { sprintf "%x\r\n%s\r\n", length, $_ }
        unpack '(a5000)*', $at_most;
    my %as_chunks = ('Transfer-Encoding' => 'chunked');
    my $send = sub {
        my ($signed, $bytes) = @_;
        return post($httpd->url('/hook'), $bytes, %as_chunks,
            sign_hook($signed));
    };
    allowed_ok $send->($at_most, "${chunked}0\r\n\r\n"), $at_most,
        'in chunks as well';
    problem_ok $send->("$at_most ", "${chunked}1\r\n \r\n0\r\n\r\n"), 413,
        'body_too_large', 'and one byte more is not';
    unsigned_ok 'a large one without a good signature', $at_most,
        secrets => $OTHER;
    problem_ok call_hook($httpd, $body, headers => {'Content-Type' => $_}),
        415, 'unsupported_media_type', "type '$_'"
        for 'text/plain', 'application/x-www-form-urlencoded', '';
    problem_ok call_hook($httpd, $body,
        headers => {'Content-Encoding' => 'gzip'}), 415,
        'unsupported_media_type', 'an encoding';
    unsigned_ok 'nothing', '', secrets => $OTHER;
    my ($cut) = raw($httpd->url('/hook'), post_bytes($httpd->url('/hook'),
        substr($body, 0, 100), sign_hook($body),
        'Content-Length' => length $body), { timeout => 1 });
    $httpd->expect_log(qr/usersync:warn.*$_/) for
        qr/body_too_large: the request is larger than 256 KiB: if it is/,
        'unsupported_media_type';
    $httpd->allow_log(qr/invalid_request|body_timeout/);
    ok $cut->{error} || $cut->{status} == 400 || $cut->{status} == 408,
        'a body that ends early is not waited for without end';
};

# As Go's client speaks: over TLS, and by HTTP/2 where that is offered.
subtest 'over TLS and HTTP/2' => sub {
    my $tls = hook_server($DB, children => 1, vhosts => { tls => <<"CONF" })
SSLEngine On
SSLCertificateFile "$ENV{USERSYNC_RUN}/tls/server.pem"
SSLCertificateKeyFile "$ENV{USERSYNC_RUN}/tls/server.key"
<IfModule http2_module>
    Protocols h2 http/1.1
</IfModule>
CONF
        ->start;
    my $url = $tls->url('/hook', 'tls') =~ s/^http:/https:/r;
    for my $version (mpm() eq 'prefork' ? '1.1' : ('1.1', '2')) {
        for my $size (10, 60_000) {
            my $good = token_body(app_metadata => \('"' . 'x' x $size . '"'));
            my %header = sign_hook($good);
            my $file = spew("$ENV{USERSYNC_RUN}/h2.body", $good);
            my ($status, $said) = curl("--http$version", '-w',
                ' %{http_version} %{http_code}', '--data-binary', "\@$file",
                '-H', 'Content-Type: application/json',
                (map { ('-H', "$_: $header{$_}") } sort keys %header), $url);
            is $said, '{"claims":' . claims_of($good) . "} $version 200",
                "HTTP/$version, $size bytes" or diag $status;
        }
    }
    # nobody reads the body: mod_http2 resets the stream after the answer, which
    # this curl now and then takes for an error of the answer, its number 92
    my $said = '';
    wait_until {
        (undef, $said) = curl('-w', ' %{http_code}', '-d', '{}', '-H',
            'Content-Type: application/json', $url);
        $said !~ /^curl: \(92\)/;
    } 10, 'an answer that is not reset';
    like $said, qr/invalid_signature.* 401\z/s, 'unsigned';
    $tls->expect_log(qr/invalid_signature/);
};

subtest 'rotation' => sub {
    my $both = hook_server($DB, secret => "$OTHER|$SECRET", config =>
        "UserSyncHookSecret " . secret_of(64) . "\n")->start;
    for my $secrets ($SECRET, $OTHER, secret_of(64), "$OTHER|$SECRET",
        secret_of(30) . "|$SECRET", "$OTHER|" . secret_of(30)) {
        my $good = token_body();
        allowed_ok call_hook($both, $good, secrets => $secrets), $good,
            'one of the secrets is known';
    }
    problem_ok call_hook($both, $body, secrets => secret_of($_)), 401,
        'invalid_signature', "one of $_ bytes is not" for 30, 63;
    $both->allow_log(qr/invalid_signature/);
};

# the secret, and what is signed with it, are in no log
my @secrets = map { s/^v1,whsec_//r } $SECRET, $OTHER;
is scalar(grep { my $line = $_; grep { index($line, $_) >= 0 } @secrets }
    $httpd->log_since(0)), 0, 'no secret in the log';
$httpd->expect_log(qr/invalid_signature/);

done_testing;
