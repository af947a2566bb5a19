# 200 000 logins leave a child as large as 20 000 did (make soak).

use UserSync::Test;

my $logins = $ENV{USERSYNC_SOAK_LOGINS} || 200_000;
my ($email, $password) = ('ada@example.com', 'correct horse battery');

double->config(reuse_tokens => JSON::PP::true);
double->add_user(email => $email, password => $password);

# One child with all the threads, so that it is the same one at the end.
my $httpd = UserSync::Httpd->new(
    children => 1, threads => 16, config => module_config())->start;
my ($child) = grep { rss($_) } $httpd->children;
my $body = "$ENV{USERSYNC_RUN}/login.json";
UserSync::Util::spew($body, qq({"email":"$email","password":"$password"}));

sub rss {
    my ($pid) = @_;
    return (slurp("/proc/$pid/status") || '') =~ /^VmRSS:\s+(\d+) kB/m
        ? $1 : 0;
}

sub load {
    my ($n) = @_;
    my ($status, $said) = run_command('ab', '-q', '-n', $n, '-c', 12, '-p',
        $body, '-T', 'application/json', $httpd->url('/auth/login'));
    is $status, 0, "$n logins" or diag $said;
    unlike $said, qr/^Non-2xx/m, 'all answered 200';
    return;
}

load($logins / 10);
my $early = rss($child);
load($logins - $logins / 10);
my $late = rss($child);

is_deeply [grep { $_ == $child } $httpd->children], [$child],
    'it is still the same child';
cmp_ok $late, '<=', $early * 1.05, 'its memory has not grown';
diag sprintf 'RSS of a child: %d kB after %d logins, %d kB after %d (%+.1f %%)',
    $early, $logins / 10, $late, $logins, 100 * ($late - $early) / $early;

done_testing;
