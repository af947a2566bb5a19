# Who is banned or deleted is refused by every child as soon as the event is
# answered, whatever looks are under way and whatever the cache has room for.

use UserSync::Background;
use UserSync::Event;
use UserSync::Gate;
use UserSync::Tables;
use UserSync::Test;

my $GUARDED = guarded('/app', 'UserSyncEnsure On');
my $DB = event_db('usersync_denial');
my $PREFORK = mpm() eq 'prefork';

sub three_children {
    my ($lines, %arg) = @_;
    my $httpd = event_server($DB, modules => ['authn_anon'],
        children => $PREFORK ? 8 : 3, config => "$lines$GUARDED", %arg);
    mkdir $httpd->dir . '/htdocs/app';
    UserSync::Util::spew($httpd->dir . '/htdocs/app/file', "file\n");
    return $httpd->start;
}

# So many requests of a user at the same moment, for all children: "24 x 200".
sub visits {
    my ($httpd, $id, $n) = @_;
    my %n;
    $n{ $_->{status} }++ for UserSync::HTTP->at_once(60, map {
        ['GET', $httpd->url('/app/file'), undef, as_user($id)]
    } 1 .. $n || 24);
    return join ', ', map {"$n{$_} x $_"} sort keys %n;
}

my %state = (banned => 403, deleted => 401);

sub event_for {
    my ($word, $id) = @_;
    return { id => $id,
        $word eq 'banned' ? (banned_until => time_stamp(3600))
        : $word eq 'deleted' ? (type => 'DELETE') : () };
}

for my $cache ('shmcb', 'none') {
    subtest "all children, UserSyncCache $cache" => sub {
        my $httpd = three_children("UserSyncCache $cache\n");
        for my $word (sort keys %state) {
            my @late;
            for my $round (1 .. 10) {
                my $id = new_id();
                is visits($httpd, $id, 12), '12 x 200', 'all let in';
                applied_ok send_event($httpd, event_for($word, $id));
                my $start = Time::HiRes::time();
                my $seen = visits($httpd, $id);
                push @late, Time::HiRes::time() - $start;
                is $seen, "24 x $state{$word}", "$word: refused by all";
                next if $word eq 'deleted';
                applied_ok send_event($httpd, { id => $id });
                is visits($httpd, $id), '24 x 200', 'and let in by all';
            }
            # 24 requests at once; the 100 ms are for one
            cmp_ok((sort { $a <=> $b } @late)[0], '<', 0.1 * 24,
                "$word: at once");
        }
        $httpd->stop;
    };
}

# A statement sees the rows as they were when it began. A policy holds one up
# that has read a row before the ban, and lets it end long after.
subtest 'a look that began before' => sub {
    postgres->sql($DB => $_) for
        'CREATE TABLE held (id uuid, pid integer)',
        'GRANT SELECT ON held TO PUBLIC', <<'SQL',
CREATE FUNCTION waits(who uuid) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1 .. 6000 LOOP
        EXIT WHEN NOT EXISTS (SELECT 1 FROM held WHERE id = who
            AND (pid IS NULL OR pid = pg_backend_pid()));
        PERFORM pg_sleep(0.01);
    END LOOP;
    RETURN true;
END $$
SQL
        'CREATE POLICY held ON users USING (waits(id)) WITH CHECK (true)',
        'ALTER TABLE users ENABLE ROW LEVEL SECURITY';
    for my $cache ('shmcb', 'none') {
        my $httpd = three_children("UserSyncStoreTimeout 60s\nUserSyncCache $cache\n");
        $httpd->allow_log(qr/has row-level security/);
        for my $word (sort keys %state) {
            my $id = new_id();
            postgres->sql($DB => 'INSERT INTO users (id) VALUES (?)', $id);
            postgres->sql($DB => 'INSERT INTO held VALUES (?)', $id);
            my $early = UserSync::Background->start(
                sub { visit($httpd, '/app/file', $id)->{status} });
            my $pid;
            wait_until { $pid = held() } 20, 'a look that lasts';
            postgres->sql($DB => 'UPDATE held SET pid = ?', $pid);
            applied_ok send_event($httpd, event_for($word, $id));
            is visits($httpd, $id), "24 x $state{$word}",
                "$cache, $word: refused by all, whom nobody waits for";
            ok wait_until { (held() || 0) == $pid } 20,
                'while that look lasts';
            postgres->sql($DB => 'DELETE FROM held');
            is $early->result, 200, 'who came before is let in';
            is visits($httpd, $id), "24 x $state{$word}",
                'and that look has left nothing behind';
        }
        $httpd->stop;
    }
    postgres->sql($DB => 'ALTER TABLE users DISABLE ROW LEVEL SECURITY');
};

# The backend that the policy holds up; it sleeps nearly all the time.
sub held {
    return postgres->value($DB => q{SELECT pid FROM pg_stat_activity
        WHERE usename = 'www-data' AND state = 'active'
        AND wait_event = 'PgSleep' AND datname = current_database()});
}

subtest 'a cache without room' => sub {
    my $httpd = three_children("UserSyncCache shmcb:tiny(65536)\n");
    my @kept_out = map { new_id() } 1 .. 20;
    for my $id (@kept_out) {
        is visit($httpd, '/app/file', $id)->{status}, 200, 'let in';
        applied_ok send_event($httpd, event_for('banned', $id));
    }
    my %status;
    for (1 .. 50) {
        $status{ $_->{status} }++ for UserSync::HTTP->at_once(60,
            map { ['GET', $httpd->url('/app/file'), undef, as_user(new_id())] }
                1 .. 30);
    }
    is_deeply \%status, { 200 => 1500 }, 'more users than it holds';
    is visits($httpd, $_, 6), '6 x 403', 'the row decides' for @kept_out;
    $httpd->stop;
};

subtest 'graceful restarts' => sub {
    my $httpd = three_children('');
    my $id = new_id();
    is visits($httpd, $id), '24 x 200', 'let in';
    applied_ok send_event($httpd, event_for('banned', $id));
    for (1, 2) {
        $httpd->graceful;
        is visits($httpd, $id), '24 x 403', 'refused by the next generation';
    }
    applied_ok send_event($httpd, { id => $id });
    is visits($httpd, $id), '24 x 200', 'let in by it';
    $httpd->stop;
};

subtest 'vhosts with a cache in common' => sub {
    my $httpd = three_children('', vhosts => { own => database($DB)
        . "UserSyncTable public.users\n" });
    my $id = new_id();
    my $at = sub {
        visit($httpd, $httpd->url('/app/file', $_[0]), $id)->{status}
    };
    is $at->($_), 200, 'let in' for undef, 'own';
    applied_ok send_event($httpd, event_for('banned', $id));
    is $at->($_), 403, 'refused' for undef, 'own';
    $httpd->stop;
};

subtest 'while PostgreSQL is away' => sub {
    my $httpd = three_children("UserSyncStoreTimeout 500ms\n", vhosts => { allow =>
        "<Location /app>\nUserSyncEnsureOnError Allow\n</Location>" });
    my ($banned, $unknown) = (new_id(), new_id());
    is visit($httpd, '/app/file', $banned)->{status}, 200, 'let in';
    applied_ok send_event($httpd, event_for('banned', $banned));
    $httpd->allow_log(qr/store_unavailable|unsynced|let through/);
    $httpd->allow_log(qr/AH00629|AH02655/);    # mod_dbd's own
    postgres->sql(postgres => "ALTER DATABASE $DB ALLOW_CONNECTIONS false");
    postgres->sql(postgres => 'SELECT pg_terminate_backend(pid) FROM
        pg_stat_activity WHERE datname = ?', $DB);
    my $at = sub {
        my ($vhost, $id) = @_;
        return visit($httpd, $httpd->url('/app/file', $vhost), $id)->{status};
    };
    is $at->(undef, $banned), 403, 'the cache refuses';
    is $at->('allow', $banned), 403, 'where others are let in, too';
    is $at->('allow', $unknown), 200, 'which they are';
    my $response = send_event($httpd, event_for('banned', $unknown));
    is $response->{status}, 503, 'an event is answered 503'
        or diag show($response);
    postgres->sql(postgres => "ALTER DATABASE $DB ALLOW_CONNECTIONS true");
    wait_until {
        send_event($httpd, event_for('banned', $unknown))->{status} == 204
    } 20, 'PostgreSQL';
    is $at->('allow', $unknown), 403, 'and refused';
    $httpd->stop;
};

done_testing;
