# valgrind finds no error and no definite leak in some hundred mixed requests
# (make memcheck).

use UserSync::Gate;
use UserSync::Hook;
use UserSync::Test;

use lib UserSync::Util::top_dir() . '/t/double/lib';
use AuthDouble::HookServer;

my $rounds = $ENV{USERSYNC_MEMCHECK_ROUNDS} || 40;
my $report = "$ENV{USERSYNC_RUN}/valgrind.log";
my $password = 'correct horse battery';

double->config(autoconfirm => JSON::PP::true);

my $own = AuthDouble::HookServer->start("$ENV{USERSYNC_RUN}/own_hook.$$");
my $secret = spew("$ENV{USERSYNC_RUN}/hook.secret", "$SECRET\n");
chmod 0600, $secret;

# In the foreground and in one process (-X), so that valgrind sees it end.
my $httpd = UserSync::Httpd->new(
    children => 1, threads => 16, modules => ['authn_anon'],
    config => module_config(UserSyncTimeout => '5s') . guarded('/file',
        'UserSyncEnsure On', 'UserSyncEnsureHeaders On',
        'UserSyncEnsureEmail "%{HTTP:X-Mail}"')
        . "UserSyncHookSecret file:$secret\nUserSyncHookForward "
        . $own->uri . "\n" . hook_lines('/hook'));
spew($httpd->dir . '/htdocs/file', 'x');
my $pid = fork;
die "fork: $!" unless defined $pid;
if (!$pid) {
    exec 'valgrind', '--leak-check=full', '--show-leak-kinds=definite',
        '--errors-for-leak-kinds=definite', "--log-file=$report",
        '--num-callers=30', UserSync::Httpd::program(), '-X', '-d',
        $httpd->dir, '-f', $httpd->conf_file;
    die "valgrind: $!";
}
wait_until { IO::Socket::INET->new(PeerAddr => '127.0.0.1',
    PeerPort => $httpd->port) } 60, 'httpd under valgrind';

my %seen;

sub send_to {
    my ($route, $body, %header) = @_;
    my $got = post($httpd->url("/auth/$route"), $body, -timeout => 60,
        %header);
    $seen{ $got->{status} || 'none' }++;
    return $got;
}

sub visit_gate {
    my ($user, $i) = @_;
    my $got = visit($httpd, '/file', $user, -timeout => 60,
        'X-Mail' => "gate$i\@example.com", 'X_User_Id' => 'spoofed',
        Connection => 'close;X-User-Id');
    $seen{"gate $got->{status}"}++;
    return;
}

sub hook {
    my ($body, %arg) = @_;
    my $got = post($httpd->url('/hook'), $body, -timeout => 60,
        sign_hook($body, %arg));
    my $what = $got->{json}{claims} ? 'claims'
        : $got->{json}{error} ? 'refusal' : $got->{status};
    $seen{"hook $what"}++;
    return;
}

sub call_hooks {
    my ($i) = @_;
    my $body = token_body(sub => my $id = new_id(),
        user_metadata => \"{\"n\":\"N $i\"}");
    hook($body) for 1, 2;
    hook(token_body(sub => $id, email => "other$i\@example.com"));
    hook(created_body($_)) for qw(before-user-created after-user-created
        send-email);
    hook($body, secrets => secret_of(24));
    hook('{"metadata":');
    $own->answer({ close => 1 }, { close => 1 }); # it is sent again once
    hook(token_body());
    $own->answer;
    return;
}

my @faults = qw(html empty close cut wrong_length redirect garbage
    truncate_json chunked close_idle reset);
for my $i (1 .. $rounds) {
    my %user = (email => "user$i\@example.com", password => $password);
    send_to(register => { %user, data => { name => "N\x{e9} $i" } });
    my $session = send_to(login => \%user)->{json}{session} || {};
    send_to(refresh => { refresh_token => $session->{refresh_token} });
    send_to(refresh => { refresh_token => 'nothing' });
    send_to(logout => undef, Authorization => "Bearer $_")
        for $session->{access_token}, 'nothing';
    call_hooks($i);
    send_to(login => { %user, password => 'wrong' });
    send_to(register => \%user);
    send_to(login => '{"email": 1, "password": [}');
    send_to(login => { email => 'nobody', password => '' });
    send_to(login => 'x' x 9000);
    visit_gate(new_id(), $i) for 1, 2;
    visit_gate('nobody', $i);
    double->fault(op => 'any', kind => $faults[$i % @faults], times => 1);
    send_to($i % 2 ? 'login' : 'register', \%user);
    double->clear_faults;
    if ($i % 10 == 0) {
        postgres->terminate_backends('app');
        send_to(login => \%user);
    }
}
cmp_ok $seen{200}, '>=', 2 * $rounds, 'users registered and logged in';
cmp_ok $seen{400} + $seen{401} + $seen{413}, '>=', 3 * $rounds,
    'bad requests were refused';
cmp_ok $seen{204}, '>=', $rounds, 'sessions ended';
cmp_ok $seen{'hook claims'}, '>=', 3 * $rounds, 'hooks allowed tokens';
cmp_ok $seen{'hook refusal'}, '>=', 2 * $rounds, 'and refused some';
cmp_ok $seen{'gate 200'}, '>=', $rounds, 'users passed the gate';
cmp_ok $seen{'gate 403'}, '==', $rounds, 'names did not';
diag join ', ', map {"$_: $seen{$_}"} sort keys %seen;

kill 'TERM', $pid;
waitpid $pid, 0;
my $said = slurp($report);
like $said, qr/ERROR SUMMARY: 0 errors/, 'no error' or diag $said;
unlike $said, qr/definitely lost: [1-9]/, 'no definite leak';
diag grep {/lost:|ERROR SUMMARY/} split /^/, $said;

$httpd->allow_log(qr/usersync-(?:login|register|refresh|logout|gate|hook): /, qr/AH00\d+/);
$own->stop;
done_testing;
