# 200 000 logins leave a child as large as 20 000 did, and so do as many visits
# of the gate, one in two hundred of which asks the table (make soak).

use UserSync::Gate;
use UserSync::Test;

my $logins = $ENV{USERSYNC_SOAK_LOGINS} || 200_000;
my ($email, $password) = ('ada@example.com', 'correct horse battery');

double->config(reuse_tokens => JSON::PP::true);
double->add_user(email => $email, password => $password);

# One child with all the threads, so that it is the same one at the end.
my $httpd = UserSync::Httpd->new(
    children => 1, threads => 16, modules => ['authn_anon'],
    config => module_config() . guarded('/file', 'UserSyncEnsure On',
        'UserSyncEnsureHeaders On',
        'UserSyncEnsureEmail "%{REMOTE_USER}@people.example"'))->start;
spew($httpd->dir . '/htdocs/file', 'x');
wait_until { $httpd->children } 30, 'the child';
my ($child) = $httpd->children;
my $body = "$ENV{USERSYNC_RUN}/login.json";
spew($body, qq({"email":"$email","password":"$password"}));

# Without shared memory: the cache of users fills page by page.
sub rss {
    my ($pid) = @_;
    my %kb = (slurp("/proc/$pid/status") || '') =~ /^(Rss\w+):\s+(\d+) kB/mg;
    return ($kb{RssAnon} || 0) + ($kb{RssFile} || 0);
}

sub ab {
    my ($n, $path, @how) = @_;
    my ($status, $said) = run_command('ab', '-q', '-n', $n, '-c', 12, @how,
        $httpd->url($path));
    is $status, 0, "$n x $path" or diag $said;
    unlike $said, qr/^Non-2xx/m, 'all answered 200';
    return;
}

my %load = (
    logins => sub {
        ab($_[0], '/auth/login', '-p', $body, '-T', 'application/json');
    },
    visits => sub {
        my ($n) = @_;
        for (1 .. $n / 200) { # a new user each time
            ab(200, '/file', '-k', '-A', new_id() . ':guest@example.com');
        }
    },
);

for my $what (sort keys %load) {
    $load{$what}->($logins / 10);
    my $early = rss($child);
    $load{$what}->($logins - $logins / 10);
    my $late = rss($child);
    cmp_ok $late, '<=', $early * 1.05, 'its memory has not grown';
    diag sprintf 'RSS of a child: %d kB after %d %s, %d kB after %d (%+.1f %%)',
        $early, $logins / 10, $what, $late, $logins,
        100 * ($late - $early) / $early;
}

is_deeply [grep { $_ == $child } $httpd->children], [$child],
    'it is still the same child';

done_testing;
