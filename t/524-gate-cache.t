# The cache of known users: which users it has, for how long, and for which
# table.

use UserSync::Gate;
use UserSync::Tables;
use UserSync::Test;

my $ENSURE = 'UserSyncEnsure On';
my $GUARDED = guarded('/app', $ENSURE);
my $DB = logged_db('usersync_cache');
my $OTHER = logged_db('usersync_cache_two');

# The statements of one visit, which must pass.
sub asks {
    my ($httpd, $id, $vhost, $db) = @_;
    my $response;
    my $sql = sql_of($db || $DB, sub {
        $response = visit($httpd, $httpd->url('/app/file', $vhost), $id);
    });
    is $response->{status}, 200, ($vhost || 'main') . ': passes'
        or diag show($response);
    return join ' ', @$sql;
}

subtest 'one table, one cache' => sub {
    postgres->sql($DB => $_) for
        'CREATE TABLE staff (id uuid PRIMARY KEY, email text)',
        'CREATE TABLE twice (id uuid PRIMARY KEY, auth_id uuid UNIQUE,'
        . ' email text)',
        'ALTER TABLE twice ALTER COLUMN id SET DEFAULT gen_random_uuid()',
        'ALTER TABLE twice ALTER auth_id SET DEFAULT gen_random_uuid()',
        'GRANT SELECT, INSERT, UPDATE ON staff, twice TO "www-data"';
    my $httpd = gate_server($DB, $GUARDED, vhosts => {
        same => '', lines => database($DB),
        db => database($OTHER),
        staff => 'UserSyncTable staff',
        by_id => 'UserSyncTable twice',
        by_auth => "UserSyncTable twice\nUserSyncColumn id auth_id",
        path => "UserSyncTable users\nDBDInitSQL \"SET search_path = public\"",
    })->start;
    my $id = new_id();
    is asks($httpd, $id), 'SELECT INSERT SELECT', 'a new user';
    is asks($httpd, $id, $_), '', 'known' for undef, qw(same lines);
    is asks($httpd, $id, 'db', $OTHER), 'SELECT INSERT SELECT',
        'not in another database, though its table has the same name';
    is has_row($id, $OTHER), 1, 'where they have a row now';
    is asks($httpd, $id, 'db', $OTHER), '', 'and is known';
    for my $vhost (qw(staff by_id by_auth)) {
        is asks($httpd, $id, $vhost), 'SELECT INSERT SELECT',
            'not in another table or column';
        is asks($httpd, $id, $vhost), '', 'but then';
    }
    like asks($httpd, $id, 'path'), qr/SELECT/,
        'nor with additional lines for mod_dbd';
    # each child asks the same cache
    is asks($httpd, $id), '', 'known to every child' for 1 .. 20;
};

subtest 'for how long' => sub {
    my $httpd = gate_server($DB, "UserSyncCacheTimeout 1s\n$GUARDED",
        vhosts => { long => 'UserSyncCacheTimeout 1h' })->start;
    my $id = new_id();
    is asks($httpd, $id, 'long'), 'SELECT INSERT SELECT', 'a new user';
    postgres->sql($DB => 'DELETE FROM users WHERE id = ?', $id);
    is asks($httpd, $id, 'long'), '', 'a row that is deleted is not missed';
    my $start = time;
    is asks($httpd, $id = new_id()), 'SELECT INSERT SELECT', 'another one';
    postgres->sql($DB => 'DELETE FROM users WHERE id = ?', $id);
    wait_until { asks($httpd, $id) } 20, 'the look that renews it';
    cmp_ok time - $start, '>=', 0.9, 'not before the time is over';
    is has_row($id), 1, 'there it is again';
    $httpd->graceful;
    is asks($httpd, $id, 'long'), 'SELECT', 'a graceful restart forgets all';
    is asks($httpd, $id, 'long'), '', 'and starts again';
};

subtest 'none' => sub {
    my $httpd = gate_server($DB, "UserSyncCache none\n$GUARDED")->start;
    my $id = new_id();
    is asks($httpd, $id), 'SELECT INSERT SELECT', 'a new user';
    is asks($httpd, $id), 'SELECT', 'a look each time' for 1 .. 3;
    postgres->sql($DB => 'DELETE FROM users WHERE id = ?', $id);
    is asks($httpd, $id), 'SELECT INSERT SELECT', 'a deleted row is recreated';
};

subtest 'other providers' => sub {
    for my $value ('shmcb:usersync(65536)', 'dbm:@DIR@/known') {
        my $httpd = gate_server($DB, "UserSyncCache $value\n$GUARDED",
            modules => ['socache_dbm'])->start;
        my @ids = map { new_id() } 1 .. 3;
        is asks($httpd, $_), 'SELECT INSERT SELECT', "$value: new" for @ids;
        is asks($httpd, $_), '', 'known' for @ids, @ids;
        $httpd->stop;
    }
};

subtest 'a full cache' => sub {
    # 64 KB have room for about 900
    my $httpd = gate_server($DB, "UserSyncCache shmcb:small(65536)\n$GUARDED")
        ->start;
    my @ids = map { new_id() } 1 .. 1500;
    my %status;
    for (my $i = 0; $i < @ids; $i += 30) {
        $status{ $_->{status} }++ for UserSync::HTTP->at_once(60,
            map { ['GET', $httpd->url('/app/file'), undef, as_user($_)] }
                @ids[$i .. $i + 29]);
    }
    is_deeply \%status, { 200 => 1500 }, 'all pass';
    my $known = grep { asks($httpd, $_) eq '' } @ids[-20 .. -1];
    cmp_ok $known, '>=', 15, 'the last ones are known';
    is rows_in($DB, "users WHERE id IN ('$ids[0]', '$ids[-1]')"), 2, 'rows';
};

subtest 'refused users are not in it' => sub {
    my $httpd = gate_server($DB, $GUARDED, children => 1)->start;
    my $id = new_id();
    postgres->sql($DB => $_) for 'CREATE FUNCTION no() RETURNS trigger'
        . " LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        'CREATE TRIGGER no BEFORE INSERT ON users FOR EACH ROW'
        . ' EXECUTE FUNCTION no()';
    for (1, 2) {
        problem_ok visit($httpd, '/app/file', $id), 500, 'user_row_refused',
            'a trigger swallows the row';
    }
    $httpd->expect_log(qr/usersync-gate: user_row_refused/);
    $httpd->allow_log(qr/BEFORE/);
    postgres->sql($DB => 'DROP TRIGGER no ON users');
    is asks($httpd, $id), 'SELECT INSERT SELECT', 'not remembered';
};

done_testing;
