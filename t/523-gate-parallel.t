# A browser opens six connections at the same time: all six requests of a new
# user find their row, and it is inserted only once.

use UserSync::Gate;
use UserSync::Outage;
use UserSync::Tables;
use UserSync::Test;
use UserSync::Tokens;

my $ENSURE = 'UserSyncEnsure On';

# $n requests of one user at the same moment.
sub visits {
    my ($httpd, $n, $id, $path) = @_;
    return UserSync::HTTP->at_once(60, map {
        ['GET', $httpd->url($path || '/app/file'), undef, as_user($id)]
    } 1 .. $n);
}

sub statuses {
    my %n;
    $n{ $_->{status} }++ for @_;
    return join ', ', map {"$n{$_} x $_"} sort keys %n;
}

subtest 'one look per child and user' => sub {
    plan(skip_all => 'a child of prefork serves one request at a time')
        if mpm eq 'prefork';
    my $db = logged_db('usersync_parallel');
    # not a BEFORE trigger, which causes a warning
    postgres->sql($db => $_) for <<'SQL',
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
'BEGIN PERFORM pg_sleep(0.5); RETURN NULL; END'
SQL
        'CREATE TRIGGER slow AFTER INSERT ON users FOR EACH ROW'
        . ' EXECUTE FUNCTION slow()';
    for my $cache ('shmcb', 'none') {
        my $httpd = gate_server($db, "UserSyncCache $cache\n"
            . guarded('/app', $ENSURE), children => 1)->start;
        my ($id, $other) = (new_id(), new_id());
        my @all;
        my $sql = sql_of($db, sub { @all = visits($httpd, 6, $id) });
        is statuses(@all), '6 x 200', "$cache: all pass";
        is has_row($id), 1, 'one row';
        is_deeply $sql, [qw(SELECT INSERT SELECT)], 'one of them has asked';
        my @mixed = UserSync::HTTP->at_once(60, map {
            ['GET', $httpd->url('/app/file'), undef, as_user($_)]
        } $other, new_id(), $other, new_id());
        is statuses(@mixed), '4 x 200', 'users do not wait for one another';
        my ($slowest) = sort { $b <=> $a } map { $_->{elapsed} } @mixed;
        cmp_ok $slowest, '<', 1 + slack(), 'three rows in the time of one';
    }
};

subtest 'the others wait no longer than they may' => sub {
    my $db = scratch_db('usersync_parallel');
    my $httpd = gate_server($db, "UserSyncStoreTimeout 1s\n"
        . guarded('/app', $ENSURE))->start;
    my $id = new_id();
    my $lock = postgres->connect($db);
    $lock->begin_work;
    $lock->do('LOCK TABLE users IN ACCESS EXCLUSIVE MODE');
    my @all = visits($httpd, 6, $id);
    is statuses(@all), '6 x 503', 'a locked table: no request passes';
    within(1, 'within the deadline', @all);
    problem_ok $all[0], 503, 'store_unavailable';
    $lock->rollback;
    $lock->disconnect;
    $httpd->expect_log(qr/usersync-gate: store_unavailable/);
    visit_ok visit($httpd, '/app/file', $id), $id, 'afterwards they pass';
};

# PostgreSQL checks the older index first, and not the one that "ON CONFLICT"
# names: that is not a conflict with another user.
subtest 'an older unique index than that of the id' => sub {
    my $db = scratch_db('usersync_unique', 'DROP TABLE users CASCADE',
        'CREATE TABLE users (email text UNIQUE)',
        'ALTER TABLE users ADD COLUMN id uuid UNIQUE NOT NULL',
        'GRANT SELECT, INSERT, UPDATE ON users TO "www-data"');
    my $httpd = gate_server($db, guarded('/app', $ENSURE,
        'UserSyncEnsureEmail "%{HTTP:X-Mail}"'), children => 6)->start;
    my %kind;
    for (1 .. 60) {
        my $id = new_id();
        $kind{ $_->{status} . ($_->{json}{code} || '') }++
            for UserSync::HTTP->at_once(60, map {
                ['GET', $httpd->url('/app/file'), undef, as_user($id),
                    'X-Mail' => "$id\@example.com"] } 1 .. 6);
    }
    is_deeply \%kind, { 200 => 360 }, 'all pass';
    is rows_in($db, 'users'), 60, 'sixty users';
    my $id = new_id();
    my ($email) = postgres->value($db => 'SELECT min(email) FROM users');
    problem_ok visit($httpd, '/app/file', $id, 'X-Mail' => $email), 409,
        'user_row_conflict', 'while a real one is reported';
    $httpd->expect_log(qr/user_row_conflict/);
};

# With tokens as Supabase signs them, verified by mod_oauth2. The application
# inserts a child row for each request: its foreign key holds.
subtest 'five hundred new users with six requests each' => sub {
    my $dbh;
    my $front = front(module => 'oauth2', url => double->url, app => [
        processes => 4, code => sub {
            my ($request) = @_;
            $dbh ||= postgres->connect('app');
            $dbh->do('INSERT INTO activities (user_id, title) VALUES (?, ?)',
                undef, $request->{headers}{'x-user-id'}, $request->{path});
            return { ok => 1 };
        }]);
    my $url = $front->{httpd}->url('/api/');
    my %kind;
    for (1 .. 125) { # a few browsers at a time, each with six connections
        my @tokens = map { token(person()) } 1 .. 4;
        $kind{ $_->{status} . ($_->{json}{error} || '') }++
            for UserSync::HTTP->at_once(60, map { my $token = $_;
                map { ['GET', "$url$_", undef,
                    Authorization => "Bearer $token"] } 1 .. 6 } @tokens);
    }
    is_deeply \%kind, { 200 => 3000 }, 'every insert of the application holds';
    is rows_in('app', 'users'), 500, 'five hundred users';
    is rows_in('app', 'activities'), 3000, 'three thousand activities';
    end_fronts;
};

done_testing;
