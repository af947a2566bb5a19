# PostgreSQL at its worst under load: an outage shorter than
# UserSyncStoreTimeout costs no login, a freeze costs the deadline and no more,
# and no queue forms behind it.

use UserSync::Test;
use UserSync::Chaos;
use UserSync::Outage;
use UserSync::Relay;

use List::Util qw(shuffle);

use constant CLIENTS  => 24;
use constant CHILDREN => 2;
# This many users at a time meet a freeze and notice its end: together no more
# than one child lets wait for Supabase.
use constant VICTIMS => 16;
use constant WITNESSES => 8;
use constant CONNECT_TIMEOUT => 2;

my $PREFORK = mpm() eq 'prefork';
my $pg = own_postgres();

sub served_by {
    my ($deadline, %arg) = @_;
    my $httpd = outage_lines(own_httpd($pg, workers => CLIENTS,
        children => CHILDREN, set => { UserSyncStoreTimeout => "${deadline}s",
        }, %arg))->start;
    no_rows($pg);
    return $httpd;
}

# All requests of this load were logins that succeeded.
sub none_failed {
    my ($seen) = @_;
    kinds_ok($seen, '200', 'no login fails');
    my %row = map { $_->{id} => 1 } $pg->sql(app => 'SELECT id FROM users');
    is_deeply [grep { !$row{$_} } @{ $seen->{ids} }], [],
        'every user who logged in has a row';
    return;
}

sub rows { return $pg->value(app => 'SELECT count(*) FROM users') }

subtest 'every backend killed each half second' => sub {
    my $seconds = scaled(6, 180);
    my $httpd = served_by(5);
    my $load = start_load($httpd, scaled(400, 4000), clients => CLIENTS,
        grow => $seconds);
    my $killed = 0;
    my $end = time + $seconds;
    while (time < $end) {
        sleep 0.5; # so often
        $killed += $pg->terminate_backends('app');
    }
    none_failed($load->stop);
    note "$killed backends killed";
    cmp_ok $killed, '>', 2 * $seconds, 'many were killed';
    $httpd->stop;
};

subtest 'two restarts in eight seconds' => sub {
    my $deadline = 5;
    my $httpd = served_by($deadline);
    my $rounds = scaled(1, 15);
    my $load = start_load($httpd, scaled(400, 4000), clients => CLIENTS,
        grow => 8 * $rounds);
    for my $restart (1 .. 2 * $rounds) {
        my $next = time + 4;
        my $before = rows();
        wait_until { rows() > $before } 20, 'new rows';
        my $down = time;
        if   ($restart % 2) { $pg->crash }
        else                { $pg->stop('immediate') }
        $pg->start;
        my $away = time - $down;
        cmp_ok $away, '<', $deadline - 1,
            sprintf 'away for %.3f s, less than the deadline', $away;
        sleep $next - time if time < $next; # so often
    }
    none_failed($load->stop);
    $httpd->stop;
};

# ---- freezes

# Each freezes something and returns how to thaw it.
my %FREEZE = (
    'a backend' => sub {
        my ($backend) = $pg->backends('app') or return sub { };
        $pg->stop_backend($backend);
        return sub { $pg->cont($backend) };
    },
    'all backends' => sub {
        my @backends = $pg->backends('app') or return sub { };
        $pg->stop_backend(@backends);
        return sub { $pg->cont(@backends) };
    },
    'the postmaster, no connections' => sub {
        $pg->terminate_backends('app');
        $pg->stop_postmaster;
        return sub { $pg->cont };
    },
    'the table' => sub {
        my $lock = $pg->connect('app');
        $lock->begin_work;
        $lock->do('LOCK TABLE users IN ACCESS EXCLUSIVE MODE');
        return sub { $lock->rollback; $lock->disconnect };
    },
);

# One thread of a child at a time can connect, and needs connect_timeout longer
# for that: this many may be late, but there is no queue of them.
sub freezes_ok {
    my ($httpd, $name, $freeze) = @_;
    my $deadline = 1;
    my $load = start_load($httpd, 200, clients => VICTIMS, keep => 1);
    wait_until { busy_backends($pg) || rows() >= 20 } 20, 'logins';
    my $thaw = $freeze->();
    sleep 2.5; # so long
    $thaw->();
    serves($httpd, WITNESSES, CONNECT_TIMEOUT + 4, "$name: healed");
    my $seen = $load->stop;
    kinds_ok($seen, '200|503 store_unavailable', "$name: logged in, or 503");
    my @late = sort { $b <=> $a } grep { $_ > $deadline + slack }
        map { $_->{ended} - $_->{opened} } @{ $seen->{replies} };
    # prefork: each child has a pool
    cmp_ok scalar @late, '<=', $PREFORK ? VICTIMS : CHILDREN,
        "$name: no convoy" or diag "@late";
    cmp_ok $seen->{slowest}, '<', $deadline + CONNECT_TIMEOUT + slack,
        "$name: within the bound";
    return;
}

subtest 'freezes' => sub {
    my $httpd = served_by(1);
    for my $round (1 .. scaled(1, 10)) {
        for my $name (shuffle(sort keys %FREEZE)) {
            freezes_ok($httpd, $name, $FREEZE{$name});
        }
    }
    $httpd->stop;
};

subtest 'a network that swallows everything' => sub {
    my $relay = UserSync::Relay->start($pg->port);
    my $httpd = served_by(1,
        params => $pg->dsn_tcp('app', port => $relay->port));
    serves($httpd, CLIENTS, 5, 'at first');
    for my $round (1 .. scaled(1, 10)) {
        freezes_ok($httpd, "the relay, round $round", sub {
            $relay->freeze;
            return sub { $relay->thaw };
        });
    }
    $httpd->stop;
};

done_testing;
