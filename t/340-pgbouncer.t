# Behind pgbouncer in transaction mode, where two statements of one login may
# reach two servers: the connections to PostgreSQL die under load, and no login
# fails.

use UserSync::Test;
use UserSync::Chaos;
use UserSync::Outage;
use UserSync::Services;

my $pg = own_postgres();
my $bouncer = start_pgbouncer($pg, size => 6);
my $httpd = outage_lines(own_httpd($pg, workers => 24, children => 2,
    params => $pg->dsn_tcp('app', port => $bouncer->{port}),
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
    my $other = start_pgbouncer($pg, size => 1);
    my $log = $other->{pgbouncer_log};
    my $few = outage_lines(own_httpd($pg, workers => 4, children => 1,
        params => $pg->dsn_tcp('app', port => $other->{port})))->start;
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
