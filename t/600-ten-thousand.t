# 10 000 logins of known users: connections to Supabase are kept, each login is
# one statement to PostgreSQL, and nothing is written there.

use UserSync::Test;

my $logins = 10_000;
my $workers = mpm() eq 'prefork' ? 12 : 32;
# a threaded child lets all but one of its threads wait for Supabase
my $httpd = UserSync::Httpd->new(config => module_config,
    mpm() eq 'prefork' ? () : (children => 1, threads => $workers + 1))
    ->start;
my ($email, $password) = ('ada@example.com', 'correct horse battery');

double->config(reuse_tokens => JSON::PP::true);
double->add_user(email => $email, password => $password);
is post($httpd->url('/auth/login'), { email => $email, password => $password })->{status},
    200, 'the user has a row';

# PostgreSQL's count so far. A backend reports its work when it ends, else up
# to ten seconds later.
sub transactions {
    postgres->terminate_backends('app');
    return postgres->value(app => <<'SQL');
        SELECT xact_commit + xact_rollback FROM pg_stat_database
        WHERE datname = 'app'
SQL
}

# ab sends exactly this many requests. Not on kept connections: a full httpd
# closes those between two requests, which ab counts as a failure.
sub load {
    my ($n) = @_;
    my $body = "$ENV{USERSYNC_RUN}/login.json";
    UserSync::Util::spew($body,
        qq({"email":"$email","password":"$password"}));
    return run_command('ab', '-q', '-n', $n, '-c', $workers, '-p',
        $body, '-T', 'application/json', $httpd->url('/auth/login'));
}

load(500);      # every worker has made its first connection, or will later
my $stats  = double->stats;
my $before = transactions();
my $lsn    = postgres->wal_lsn('app');

my ($status, $said) = load($logins);
is $status, 0, 'ab' or diag $said;
like $said, qr/^Complete requests:\s+$logins$/m, "$logins requests";
like $said, qr/^Failed requests:\s+0$/m, 'none failed';
unlike $said, qr/^Non-2xx/m, 'all answered 200';

my $now = double->stats;
is $now->{requests}{token} - $stats->{requests}{token}, $logins,
    'each login asked Supabase once';
cmp_ok $now->{connections}, '<=', $workers + 1,
    'no more connections to Supabase than workers';
diag sprintf '%d connections for %d logins, %d workers', $now->{connections},
    $now->{requests}{token}, $workers;

is postgres->wal_lsn('app'), $lsn, 'no WAL was written';

# Each statement is its own transaction. A statement that finds its connection
# closed is sent again; our own queries are counted, too.
my $counted = transactions() - $before;
cmp_ok $counted, '>=', $logins, 'each login is one statement';
cmp_ok $counted, '<=', $logins + 200, 'and not more'
    or diag "$counted transactions";

done_testing;
