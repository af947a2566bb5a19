# While no row can be created, nothing happens at Supabase that would be left
# without one: a locked table, a table that does not match. Few threads wait,
# and few of PostgreSQL's backends.

use UserSync::Gate;
use UserSync::Load;
use UserSync::Outage;
use UserSync::Tables;
use UserSync::Test;

use constant THREADS => 16;

my $db = scratch_db('usersync_fence');
my $typo = 'UserSyncTable public.user';

sub registered { return scalar(() = double->users) }

sub sign_ups {
    my ($httpd, $n, $vhost) = @_;
    return map { sign_up($httpd, $vhost) } 1 .. $n;
}

# Many at the same time, each from another address.
my $people = 0;
sub crowd {
    my ($httpd, $n) = @_;
    return parallel($n, sub {
        ($httpd->url('/auth/register'), { email => 'crowd' . ++$people
            . '@people.example', password => 'of the crowd' });
    }, 60);
}

subtest 'a typo in UserSyncTable' => sub {
    my $httpd = server($db, {}, UserSyncTable => 'public.user',
        UserSyncCache => 'shmcb')->start;
    my $before = registered();
    refused_ok $_, 503, 'store_unavailable', 'a registration'
        for sign_ups($httpd, 10);
    is registered(), $before, 'no account';
    refused_ok log_in($httpd, person()), 503, 'store_unavailable', 'a login';
    $httpd->expect_log(qr/"public"\."user" does not exist/);
    postgres->sql($db => 'ALTER TABLE users RENAME TO "user"');
    ok wait_until { sign_up($httpd)->{status} == 200 } 5, 'corrected';
    postgres->sql($db => 'ALTER TABLE "user" RENAME TO users');
    $httpd->stop;
};

subtest 'the same at the gate, with Allow' => sub {
    my $httpd = gate_server($db, "UserSyncTable public.user\n"
        . guarded('/app', 'UserSyncEnsure On',
        'UserSyncEnsureOnError Allow'), children => 1)->start;
    problem_ok visit($httpd, '/app/file', new_id()), 503, 'store_unavailable'
        for 1 .. 3;
    $httpd->expect_log(qr/"public"\."user" does not exist/);
    $httpd->stop;
};

subtest 'a table that takes no new rows' => sub {
    my $other = logged_db('usersync_norows',
        'REVOKE INSERT ON users FROM "www-data"');
    my ($known, $stranger) = (person(), person());
    postgres->sql($other => 'INSERT INTO users VALUES (?, ?)',
        @$known{qw(id email)});
    my $httpd = server($other)->start;
    my $before = registered();
    refused_ok $_, 503, 'store_unavailable', 'a registration'
        for sign_ups($httpd, 5);
    is registered(), $before, 'no account';
    is log_in($httpd, $known)->{status}, 200, 'users with a row can log in';
    my @sent = statements($other, sub { log_in($httpd, $known) for 1 .. 5 });
    is scalar(grep {/pg_attribute|pg_class/} @sent), 0,
        'without a look at the catalog' or diag join "\n", @sent;
    my $from = time;
    @sent = statements($other,
        sub { log_in($httpd, $stranger) for 1 .. 20 });
    cmp_ok scalar(grep {/pg_attribute/} @sent), '<=',
        1 + 4 * (1 + time - $from), 'others cause a few looks a second';
    $httpd->expect_log(qr/no permission to fill column "id"/);
    postgres->sql($other => 'GRANT INSERT ON users TO "www-data"');
    ok wait_until { log_in($httpd, $stranger)->{status} == 200 } 5,
        'granted: found without a restart';
    is sign_up($httpd)->{status}, 200, 'registrations go on';
    $httpd->stop;
};

# ---- a table that is locked

sub locked {
    my ($of) = @_;
    my $lock = postgres->connect($of);
    $lock->begin_work;
    $lock->do('LOCK TABLE users IN ACCESS EXCLUSIVE MODE');
    return $lock;
}

# With the default share of the workers.
sub locked_server {
    my %size = mpm() eq 'prefork' ? (children => THREADS)
        : (children => 1, threads => THREADS);
    return UserSync::Httpd->new(%size, config => module_config(
        DBDParams => dsn_of($db), DBDMax => 8, UserSyncStoreTimeout => '1s',
        UserSyncMaxConcurrent => undef))->start;
}

subtest 'registrations beside a locked table' => sub {
    my $httpd = locked_server();
    my $lock = locked($db);
    my $before = registered();
    is tally(crowd($httpd, 8)), '8 x 503 store_unavailable', 'refused';
    is registered(), $before, 'no account';
    # all the time, and more of them than threads
    my $load = UserSync::Load->start(clients => 2 * THREADS, rate => 100,
        request => sub {
            my $body = JSON::PP::encode_json({ email =>
                "load$_[0]\@people.example", password => 'of the load' });
            return ([POST => $httpd->url('/auth/register'), $body,
                'Content-Type' => 'application/json'], $_[0]);
        });
    wait_until { waiting_in($db) } 20, 'one that finds out';
    my $worst = 0;
    for (1 .. 10) {
        my $seen = get($httpd->url('/'));
        $worst = $seen->{elapsed} if $seen->{elapsed} > $worst;
    }
    cmp_ok $worst, '<', 0.6 + slack(),
        sprintf 'a static file: %.3f s', $worst;
    my $seen = $load->stop;
    is_deeply [grep { $_ !~ /store_unavailable|busy/ } keys %{ $seen->{by} }],
        [], 'all are refused' or diag explain $seen->{by};
    is registered(), $before, 'still no account';
    $lock->rollback;
    $lock->disconnect;
    ok wait_until { sign_up($httpd)->{status} == 200 } 10, 'and it is over';
    $httpd->allow_log(qr/usersync-register: (?:store_unavailable|busy)/);
    $httpd->stop;
};

# CREATE INDEX takes such a lock: look-ups pass, inserts wait.
subtest 'registrations beside a lock on writes' => sub {
    my $httpd = locked_server();
    my $lock = postgres->connect($db);
    $lock->begin_work;
    $lock->do('LOCK TABLE users IN SHARE MODE');
    my $before = registered();
    is tally(crowd($httpd, 8)), '8 x 503 store_unavailable', 'refused';
    is registered(), $before, 'no account';
    $lock->rollback;
    $lock->disconnect;
    ok wait_until { sign_up($httpd)->{status} == 200 } 10, 'and it is over';
    $httpd->allow_log(qr/usersync-register: store_unavailable/);
    $httpd->stop;
};

subtest 'all children know of it' => sub {
    my %size = mpm() eq 'prefork' ? (children => 6)
        : (children => 3, threads => THREADS);
    my $httpd = gate_server($db, guarded('/app', 'UserSyncEnsure On')
        . "UserSyncStoreTimeout 1s\n", %size)->start;
    visit($httpd, '/app/file', new_id());
    my $lock = locked($db);
    # by three users, one after the other, on any child
    visit($httpd, '/app/file', new_id()) for 1 .. 3;
    my @all = UserSync::HTTP->at_once(60, map {
        ['GET', $httpd->url('/app/file'), undef, as_user(new_id())]
    } 1 .. 24);
    is scalar(grep { $_->{elapsed} > 0.9 } @all), 1, 'one finds out';
    is tally(@all), '24 x 503 store_unavailable', 'all are refused';
    $lock->rollback;
    $lock->disconnect;
    ok wait_until { visit($httpd, '/app/file', new_id())->{status} == 200 }
        10, 'and it is over';
    $httpd->expect_log(qr/did not answer/);
    $httpd->stop;
};

# ---- abandoned statements are cancelled

subtest 'a synchronous standby that is gone' => sub {
    my $pg = own_postgres(synchronous_commit => 'on',
        wal_level => 'replica', max_wal_senders => 2);
    my $httpd = own_httpd($pg, workers => 8, children => 2,
        set => { DBDMax => 4, UserSyncStoreTimeout => '500ms',
            UserSyncCircuitBreaker => 'Off' })->start;
    people(400);
    login($httpd);
    $pg->sql(postgres =>
        q{ALTER SYSTEM SET synchronous_standby_names = 'gone'});
    $pg->sql(postgres => 'SELECT pg_reload_conf()');
    my $limit = mpm() eq 'prefork' ? 8 : 2 * 4;
    # an abandoned statement would continue; once the fence is closed there is
    # only one at a time
    my ($most, $late, $next) = (0, 0, 1);
    wait_until {
        my @all = logins($httpd, 4, (people(400))[map { $next++ } 1 .. 4]);
        $late += grep { $_->{elapsed} > 0.4 } @all;
        my $backends = $pg->backends('app');
        $most = $backends if $backends > $most;
        return $late >= 2 * $limit || $next > 390;
    } 60, 'statements that are given up';
    cmp_ok $late, '>=', 2 * $limit, "$late were late";
    cmp_ok $most, '<=', $limit, "$most backends";
    ok wait_until { busy_backends($pg) == 0 } 10, 'none is left at work';
    $pg->sql(postgres => 'ALTER SYSTEM RESET synchronous_standby_names');
    $pg->sql(postgres => 'SELECT pg_reload_conf()');
    ok wait_until { login($httpd, (people(400))[-1])->{status} == 200 } 10,
        'and it is over';
    $httpd->allow_log(qr/usersync-login: store_unavailable/);
    $httpd->stop;
};

done_testing;
