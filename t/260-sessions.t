# A connection that was reset has the same settings: those of DBDInitSQL, and a
# server that accepts writes. What is known is known for one history of the
# server.

use UserSync::Gate;
use UserSync::Outage;
use UserSync::Tables qw(our_lines);
use UserSync::Test;

use constant WORKERS => 6;

my $one = own_postgres(wal_level => 'replica');
my $two = own_postgres;

sub ids_in {
    my ($pg, $table) = @_;
    return map { $_->{id} }
        $pg->sql(app => "SELECT id FROM $table ORDER BY id");
}

subtest 'DBDInitSQL after a lost connection' => sub {
    $one->sql(app => $_) for 'CREATE SCHEMA tenant',
        'CREATE TABLE tenant.users (LIKE public.users INCLUDING ALL,
            maker text DEFAULT current_user)',
        'CREATE ROLE tenant', 'GRANT tenant TO "www-data"',
        'GRANT USAGE ON SCHEMA tenant TO tenant',
        'GRANT SELECT, INSERT, UPDATE ON tenant.users TO tenant';
    my $httpd = outage_lines(own_httpd($one, workers => WORKERS,
        set => { UserSyncTable => 'users' },
        config => "DBDInitSQL \"SET search_path TO tenant\"\n"
            . "DBDInitSQL \"SET ROLE tenant\"\n"))->start;
    my @people = people(2 * WORKERS);
    is tally(logins($httpd, WORKERS, @people[0 .. WORKERS - 1])),
        WORKERS . ' x 200', 'at first';
    $one->terminate_backends('app');
    is tally(logins($httpd, WORKERS, @people[WORKERS .. $#people])),
        WORKERS . ' x 200', 'with new connections';
    is_deeply [ids_in($one, 'public.users')], [], 'nothing in public';
    is $one->value(app => 'SELECT count(*) FROM tenant.users '
        . q{WHERE maker = 'tenant'}), 2 * WORKERS, 'all as the tenant';

    $one->sql(app => 'REVOKE tenant FROM "www-data"');
    $one->terminate_backends('app');
    my ($stranger) = (people(2 * WORKERS + 1))[-1];
    my $in = login($httpd, $stranger);
    is $in->{status}, 503, 'what DBDInitSQL wants is not to be had';
    $httpd->expect_log(qr/DBDInitSQL failed: permission denied to set role/);
    $one->sql(app => 'GRANT tenant TO "www-data"');
    ok wait_until { login($httpd, $stranger)->{status} == 200 } 10,
        'granted again';
    is_deeply [ids_in($one, 'public.users')], [], 'still nothing in public';
    $httpd->stop;
};

subtest 'a transaction that is open already' => sub {
    my $httpd = outage_lines(own_httpd($one, workers => WORKERS,
        config => "DBDInitSQL \"BEGIN\"\n"))->start;
    my ($person) = (people(2 * WORKERS + 2))[-1];
    is login($httpd, $person)->{status}, 503, 'nobody gets a session';
    $httpd->expect_log(qr/DBDInitSQL failed: it leaves a transaction open/);
    is scalar(grep { $_ eq $person->{id} } ids_in($one, 'users')), 0,
        'for a row that would be rolled back';
    $httpd->stop;
};

# Both hosts in one line, in libpq's form.
my $both = sprintf 'host=%s,%s port=%s,%s dbname=app user=www-data '
    . 'connect_timeout=2 target_session_attrs=read-write',
    map { my $of = $_; map { $_->$of } $one, $two } qw(host port);

sub read_only {
    my ($pg, $value) = @_;
    $pg->sql(postgres => "ALTER SYSTEM SET default_transaction_read_only = "
        . $value);
    $pg->sql(postgres => 'SELECT pg_reload_conf()');
    wait_until { $pg->connect('app')->selectrow_array(
        'SHOW transaction_read_only') eq $value } 10, 'the new setting';
    return;
}

subtest 'a primary that became read-only' => sub {
    my $httpd = outage_lines(own_httpd($one, workers => WORKERS,
        params => $both))->start;
    my @people = people(3 * WORKERS);
    is tally(logins($httpd, WORKERS, @people[0 .. WORKERS - 1])),
        WORKERS . ' x 200', 'at first';
    is scalar(ids_in($one, 'users')), WORKERS, 'on the first host';
    read_only($one, 'on');
    is tally(logins($httpd, WORKERS, @people[WORKERS .. 2 * WORKERS - 1])),
        WORKERS . ' x 200', 'then';
    is scalar(ids_in($two, 'users')), WORKERS, 'on the second one';

    my $alone = outage_lines(own_httpd($one, workers => WORKERS))->start;
    is login($alone, $people[0])->{status}, 200, 'one host: a known user';
    is login($alone, $people[-1])->{status}, 503, 'and a new one';
    $alone->expect_log(qr/25006\); DBDParams must lead to the primary/);
    read_only($one, 'off');
    is login($alone, $people[-1])->{status}, 200, 'repaired';
    $_->stop for $httpd, $alone;
};

# ---- the history

# A server with several children that keep users in a cache; all of them look
# up the ids of new users.
sub gate_on {
    my ($params) = @_;
    return outage_lines(gate_server($params, guarded('/app',
        'UserSyncEnsure On'), children => 2))->start;
}

# Many requests at the same time, so that every child has one.
sub visits {
    my ($httpd, @ids) = @_;
    my %n;
    $n{ $_->{status} }++ for UserSync::HTTP->at_once(60, map {
        ['GET', $httpd->url('/app/file'), undef, as_user($_)] } @ids);
    return join ', ', map {"$n{$_} x $_"} sort keys %n;
}

sub known_again_ok {
    my ($httpd, $pg, $known, $name) = @_;
    # unknown users come until a child has seen the new server
    ok wait_until { visit($httpd, '/app/file', new_id())->{status} == 200 }
        20, "$name: a new user";
    is visits($httpd, ($known) x 24), '24 x 200', 'the known one passes';
    is $pg->value(app => 'SELECT count(*) FROM users WHERE id = ?', $known),
        1, 'with a row in the new history';
    return;
}

subtest 'another system takes over' => sub {
    my $httpd = gate_on($both);
    my $known = new_id();
    is visits($httpd, ($known) x 24), '24 x 200', 'known to all children';
    is $one->value(app => 'SELECT count(*) FROM users WHERE id = ?', $known),
        1, 'with a row';
    $one->stop('immediate');
    known_again_ok($httpd, $two, $known, 'the other host');
    $httpd->stop;
    $one->start;
};

subtest 'a fail-over that has lost the last transaction' => sub {
    my $httpd = gate_on($one->dsn('app'));
    my $known = new_id();
    is visits($httpd, ($known) x 24), '24 x 200', 'known to all children';
    # a standby that was promoted: the next timeline, without the row
    $one->sql(app => 'DELETE FROM users WHERE id = ?', $known);
    is visits($httpd, ($known) x 24), '24 x 200', 'the cache believes so';
    $one->stop;
    $one->promote;
    known_again_ok($httpd, $one, $known, 'the new timeline');
    is visits($httpd, ($known) x 24), '24 x 200', 'known to all children';
    $httpd->stop;
};

done_testing;
