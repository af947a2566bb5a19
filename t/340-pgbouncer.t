# Behind pgbouncer in transaction mode, where two statements of one login may
# reach two servers: the connections to PostgreSQL die under load, and no login
# fails.

use UserSync::Test;
use UserSync::Chaos;
use UserSync::Outage;
use UserSync::Util;

my ($program) = grep {-x} '/usr/sbin/pgbouncer', '/usr/bin/pgbouncer';
plan skip_all => 'pgbouncer is not installed' unless $program;

# In the foreground, so that it ends with the test.
sub start_pgbouncer {
    my ($pg, $size) = @_;
    my $dir  = UserSync::Util::new_dir('bouncer');
    my $port = reserve_port();
    spew("$dir/users", qq{"www-data" ""\n});
    spew("$dir/ini", <<"INI");
[databases]
app = host=$pg->{dir} port=$pg->{port} dbname=app
[pgbouncer]
pool_mode = transaction
default_pool_size = $size
max_client_conn = 200
listen_addr = 127.0.0.1
listen_port = $port
unix_socket_dir =
auth_type = trust
auth_file = $dir/users
logfile = $dir/log
pidfile = $dir/pid
server_login_retry = 1
INI
    my $job = UserSync::Background->start(sub {
        open STDERR, '>>', "$dir/stderr";
        open STDOUT, '>&', \*STDERR;
        exec $program, '-q', "$dir/ini" or die "$program: $!";
    });
    # a reserved port: no other program answers there
    wait_until {
        IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port)
    } 10 or diag slurp("$dir/log"), slurp("$dir/stderr");
    return ($job, $port, "$dir/log");
}

my $pg = own_postgres();
my ($bouncer, $port) = start_pgbouncer($pg, 6);
my $httpd = outage_lines(own_httpd($pg, workers => 24, children => 2,
    params => $pg->dsn_tcp('app', port => $port),
    set => { UserSyncStoreTimeout => '5s' }))->start;

serves($httpd, 24, 5, 'works');
cmp_ok scalar(() = $pg->backends('app')), '<=', 6,
    'connections are shared';

my $load = start_load($httpd, scaled(300, 6000), clients => 24,
    grow => scaled(4, 60));
for my $round (1 .. scaled(8, 200)) {
    my $rows = $pg->value(app => 'SELECT count(*) FROM users');
    wait_until {
        $pg->value(app => 'SELECT count(*) FROM users') > $rows + 10
    } 20, 'new rows';
    cmp_ok $pg->terminate_backends('app'), '>', 0, "killed, round $round";
}
my $seen = $load->stop;
note sprintf '%d logins, slowest %.3f s', @$seen{qw(count slowest)};
is_deeply $seen->{by}, { 200 => $seen->{count} }, 'no login fails'
    or diag explain $seen->{bad};
my %row = map { $_->{id} => 1 } $pg->sql(app => 'SELECT id FROM users');
is_deeply [grep { !$row{$_} } @{ $seen->{ids} }], [],
    'every user who logged in has a row';

$pg->restart;
serves($httpd, 24, 5, 'PostgreSQL restarted');

# The one server connection keeps its prepared statements, whoever is served by
# it: to connect anew does not help against those that a changed table spoils.
subtest 'a column that changes its type' => sub {
    my ($other, $where, $log) = start_pgbouncer($pg, 1);
    my $few = outage_lines(own_httpd($pg, workers => 4, children => 1,
        params => $pg->dsn_tcp('app', port => $where)))->start;
    my @people = people(1);
    my $in = sub { is login($few, $_)->{status}, 200, $_[0] for @people };
    $in->('logged in') for 1 .. 4;
    $pg->sql(app => 'DROP TABLE IF EXISTS activities CASCADE');
    $pg->sql(app => 'ALTER TABLE users ALTER id TYPE text USING id::text');
    $in->('with the new type') for 1 .. 4;
    my $from = -s $log;
    $in->('and again') for 1 .. 20;
    my $logins = () = slurp($log, $from) =~ /login attempt/g;
    cmp_ok $logins, '<=', 4, "connected $logins times meanwhile";
    $few->stop;
};

done_testing;
