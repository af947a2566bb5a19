# UserSyncHookForward: the project's own hook has the last word about claims,
# once the row is sure; and whatever happens to it, Supabase is answered in time.

use UserSync::Gate;
use UserSync::Hook;
use UserSync::Tables;
use UserSync::Test;
use UserSync::Util;

use lib UserSync::Util::top_dir() . '/t/double/lib';
use AuthDouble::HookServer;

use constant PROMISE => 3;

my $DB = scratch_db('usersync_forward');
my $own = AuthDouble::HookServer->start("$ENV{USERSYNC_RUN}/own_hook.$$");
my %THREADS = mpm() eq 'prefork' ? (children => 8)
    : (children => 1, threads => 8);
# of eight threads one may wait
my $httpd = hook_server($DB, %THREADS,
    config => 'UserSyncHookForward ' . $own->uri . "\n")->start;

# Refused because of the project's own hook, in time.
sub failed_ok {
    my ($response, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    refused_hook_ok $response, 503, qr/^Signing in is not possible at the mom/,
        $name;
    cmp_ok $response->{elapsed}, '<', PROMISE + slack, "$name: in time";
    return;
}

subtest 'what it gets, and its answer' => sub {
    my $body = token_body(user_metadata => \'{"n":1e21,"s":"\ud800"}');
    my %header = sign_hook($body, secrets => "$SECRET|" . secret_of(32));
    my $response = post($httpd->url('/hook'), $body, %header);
    my ($request) = $own->requests;
    is $request->{body}, $body, 'the body, byte for byte';
    my %got = map { lc $_->[0] => $_->[1] } @{ $request->{headers} };
    is $got{lc $_}, $header{$_}, $_ for sort keys %header;
    is $got{'content-type'}, 'application/json', 'Content-Type';
    is $response->{status}, 200, 'allowed' or diag show($response);
    ok has_row($body =~ /"user_id":"([^"]+)"/), 'the row is there';
    is $response->{headers}{'cache-control'}, 'no-store', 'not stored';

    my @answers = (
        [200, qq({ "claims" : {"a":1e21, "\\u0061":2 }}\n), {}],
        [200, '{"error":{"http_code":403,"message":"not you"}}', {}],
        [503, '{}', { 'Retry-After' => '7' }],
        [429, '{}', { 'Retry-After' => '1' }],
        [401, 'who?', { 'Content-Type' => 'text/plain' }],
        [302, '', { 'Location' => 'https://x.example/' }],
        [500, '<html>', { 'Content-Type' => 'text/html' }],
        [202, '{}', {}],
    );
    for my $answer (@answers) {
        my ($status, $text, $more) = @$answer;
        my %type = ('Content-Type' => 'application/json', %$more);
        $own->answer({ status => $status, body => $text,
            headers => [map { [$_, $type{$_}] } sort keys %type] });
        my $back = call_hook($httpd, token_body());
        is_deeply [@$back{qw(status body)},
            @{ $back->{headers} }{qw(content-type retry-after location)}],
            [$status, $text, $type{'Content-Type'}, $type{'Retry-After'},
                undef], "its answer goes back: $status" or diag show($back);
    }
};

subtest 'what it does not get' => sub {
    $own->forget;
    my $id = new_id();
    is call_hook($httpd, created_body("$_-user-created", id => $id))->{body},
        '{}', "$_-user-created" for qw(before after);
    call_hook($httpd, token_body(), secrets => secret_of(32));
    call_hook($httpd, created_body('send-email'));
    call_hook($httpd, '{}');
    my $taken = token_body(email => 'one@example.com');
    postgres()->sql($DB => 'CREATE UNIQUE INDEX one ON users (email)');
    call_hook($httpd, $taken);
    $own->forget;
    refused_hook_ok call_hook($httpd, token_body(email => 'one@example.com')),
        409, qr/same address/, 'a refused user';
    is scalar($own->requests), 0, 'nothing of these';
    postgres()->sql($DB => 'DROP INDEX one');
    $httpd->expect_log(qr/usersync-hook: $_/)
        for qw(invalid_signature hook_not_served user_row_conflict);
};

subtest 'when it fails' => sub {
    my $big = '{"claims":{"a":"' . 'x' x (200 * 1024) . '"}}';
    my $json = [['Content-Type' => 'application/json']];
    my @cases = (
        ['more than 200 KiB', { status => 200, body => $big,
            headers => $json }, qr/larger than 200 KiB/],
        ['no answer but the end', { close => 1 }, qr/UserSyncHookForward: /],
        ['half an answer', { part => 1 }, qr/UserSyncHookForward: /],
    );
    for my $case (@cases) {
        my ($name, $answer, $what) = @$case;
        my $mark = $httpd->log->mark;
        $own->answer(($answer) x 4); # libcurl and the module ask again
        failed_ok call_hook($httpd, my $body = token_body()), $name;
        ok has_row($body =~ /"user_id":"([^"]+)"/), 'the row is there';
        $own->answer;
        my $lines = join "\n", our_lines($httpd, $mark);
        like $lines, $what, 'the log says why' if $lines;
    }
    $own->answer({ hold => 1 });
    my $response = call_hook($httpd, token_body());
    failed_ok $response, 'no answer in time';
    cmp_ok $response->{elapsed}, '>', 2, 'it has had its time';
    $own->release;
    $own->answer;
    is call_hook($httpd, token_body())->{status}, 200, 'and it goes on';
    $httpd->expect_log(qr/hook_forward_failed, user [\w-]+: UserSyncHookForward: /);
};

subtest 'one that hangs holds an eighth of the threads' => sub {
    $own->forget;
    # known users: nothing else than the own hook is waited for
    my @bodies = map { token_body() } 1 .. 7;
    call_hook($httpd, $_) for @bodies;
    $own->answer(map { { hold => 1 } } 1 .. 20);
    my @responses = parallel(scalar @bodies, sub {
        my $body = $bodies[$_[0]];
        return ($httpd->url('/hook'), $body, sign_hook($body));
    }, 20);
    my %n;
    $n{ $_->{json}{error}{message} // 'claims' }++ for @responses;
    is_deeply \%n, { 'Too many sign-ins are in progress: try again.' => 6,
        'Signing in is not possible at the moment: try again later.' => 1 },
        'one waits, the others are told so' or diag explain \%n;
    cmp_ok +(sort { $a <=> $b } map { $_->{elapsed} } @responses)[5], '<',
        1 + slack, 'at once';
    $own->release;
    $own->answer;
    is call_hook($httpd, token_body())->{status}, 200, 'and it goes on';
    $httpd->allow_log(qr/usersync-hook: busy/);
};

subtest 'nobody there, a circle, and None' => sub {
    my $nowhere = hook_server($DB, children => 1, config =>
        'UserSyncHookForward http://127.0.0.1:' . reserve_port() . "/\n",
        lines => ['UserSyncHookOnError Allow'])->start;
    failed_ok call_hook($nowhere, token_body()), 'refused, Allow or not';
    $nowhere->expect_log(qr/hook_forward_failed, user [\w-]+: UserSyncHookForward: /);
    my $untrusted = hook_server($DB, children => 1, config =>
        'UserSyncHookForward ' . $own->uri('https') . "\n")->start;
    failed_ok call_hook($untrusted, token_body()), 'an unknown CA';
    $untrusted->expect_log(qr/check the host in UserSyncHookForward and the system's CAs/);
    my $circle = hook_server($DB, children => 4, config =>
        "UserSyncHookForward http://127.0.0.1:\@PORT\@/hook\n")->start;
    failed_ok call_hook($circle, token_body()), 'its own URL';
    $circle->expect_log(qr/leads back to a hook that forwards/);
};

$own->stop;
done_testing;
