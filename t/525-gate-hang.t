# A hung database blocks no thread for long: after a few requests that waited
# for it, one at a time checks whether it still hangs. The site and known users
# are served meanwhile.

use UserSync::Background;
use UserSync::Gate;
use UserSync::Load;
use UserSync::Outage;
use UserSync::Tables;
use UserSync::Test;

plan(skip_all => 'counts the threads of one child; t/335 has prefork')
    if mpm eq 'prefork';

# UserSyncStoreTimeout, its default: PostgreSQL's own limits for the role
# (sql/grants.sql) end a statement earlier.
use constant TIMEOUT => 3;
use constant THREADS => 16;

my $db = scratch_db('usersync_hang');
# enough connections that no thread waits for one: only statements wait
my $httpd = gate_server($db, "DBDMax 20\n" . guarded('/app',
    'UserSyncEnsure On'), children => 1, threads => THREADS)->start;
my $known = new_id();
visit_ok visit($httpd, '/app/file', $known), $known, 'a user passes';

my $lock = postgres->connect($db);
$lock->begin_work;
$lock->do('LOCK TABLE users IN ACCESS EXCLUSIVE MODE');

sub refused {
    return scalar(() = slurp($httpd->access_log)
        =~ /outcome=store_unavailable/g);
}

# the first ones wait, in vain
my @first = UserSync::HTTP->at_once(60, map {
    ['GET', $httpd->url('/app/file'), undef, as_user(new_id())]
} 1 .. 4);
is tally(@first), '4 x 503 store_unavailable', 'a locked table';
within TIMEOUT, 'within the deadline', @first;

# then there are always more of them than threads
my $load = UserSync::Load->start(clients => 2 * THREADS, rate => 200,
    keep => 1, request => sub {
        my $id = sprintf '%08x-0000-4000-8000-%012x', 7, $_[0];
        return ([GET => $httpd->url('/app/file'), undef, as_user($id)], $id);
    });
wait_until { waiting_in($db) && refused() > 100 } 30, 'one that finds out';
for my $round (1 .. 5) {
    my @visits = (visit($httpd, '/app/file', $known), visit($httpd, '/open'));
    is_deeply [map { $_->{status} } @visits], [200, 200],
        'known users, and requests that need no row';
    my ($slowest) = sort { $b <=> $a } map { $_->{elapsed} } @visits;
    cmp_ok $slowest, '<', slack(), sprintf 'at once: %.3f s', $slowest;
}
# PostgreSQL ends abandoned statements a moment later
wait_until { waiting_in($db) <= 1 } 20, 'at most one connection to wait';
my $seen = $load->stop;
is_deeply [keys %{ $seen->{by} }], ['503 store_unavailable'],
    'new users are refused' or diag explain $seen->{by};
my @waited = grep { $_->{ended} - $_->{opened} > 1.5 }
    @{ $seen->{replies} };
cmp_ok scalar @waited, '<', @{ $seen->{replies} } / 4, sprintf
    '%d of %d have waited', scalar @waited, scalar @{ $seen->{replies} };

# nor does a user with very many connections occupy more than a thread
my $many = new_id();
my $crowd = UserSync::Load->start(clients => 2 * THREADS, rate => 200,
    keep => 1, request => sub {
        return ([GET => $httpd->url('/app/file'), undef, as_user($many)],
            $many);
    });
my $before = refused();
wait_until { waiting_in($db) && refused() > $before + 100 } 30,
    'one that finds out';
for my $round (1 .. 3) {
    my ($slowest) = sort { $b <=> $a } map { $_->{elapsed} }
        visit($httpd, '/app/file', $known), visit($httpd, '/open');
    cmp_ok $slowest, '<', slack(), sprintf 'at once: %.3f s', $slowest;
}
my ($first, @others) = sort { $a->{opened} <=> $b->{opened} }
    grep { $_->{ended} - $_->{opened} > 1.5 } @{ $crowd->stop->{replies} };
my @with = grep { $_->{opened} < $first->{ended} - 0.5 } @others;
cmp_ok scalar @with, '<=', 2, scalar(@with) . ' have waited with the first';
$httpd->expect_log(qr/usersync-gate: store_unavailable/);

$lock->rollback;
$lock->disconnect;
my $new = new_id();
wait_until { visit($httpd, '/app/file', $new)->{status} == 200 } 20,
    'the lock to be gone';
my @all = UserSync::HTTP->at_once(60, map {
    ['GET', $httpd->url('/app/file'), undef, as_user(new_id())]
} 1 .. 12);
is join(' ', map { $_->{status} } @all), join(' ', (200) x 12),
    'all pass again';

# ---- one locked row is not a hung database

sub locked_row {
    my ($id) = @_;
    my $other = postgres->connect($db);
    $other->begin_work;
    $other->do('INSERT INTO users (id) VALUES (?)', undef, $id);
    return $other;
}

my $alone = new_id();
my $other = locked_row($alone);
is visit($httpd, '/app/file', $alone)->{status}, 503, 'the user waits in vain'
    for 1 .. 4;
my $job = UserSync::Background->start(
    sub { visit($httpd, '/app/file', $alone)->{status} });
wait_until { waiting_in($db) } 20, 'the user to wait again';
is visit($httpd, '/app/file', new_id())->{status}, 200, 'others pass'
    for 1 .. 5;
is $job->result, 503, 'they do not';

# the same with very many connections: eight wait, the others half a second
my $start = time;
my @all_his = UserSync::HTTP->at_once(60, map {
    ['GET', $httpd->url('/app/file'), undef, as_user($alone)]
} 1 .. THREADS);
my @patient = grep { $_->{elapsed} > 1.5 } @all_his;
cmp_ok scalar @patient, '<=', 9, scalar(@patient) . ' wait for long';
is_deeply [grep { $_->{status} != 503 } @all_his], [], 'all in vain';
$other->rollback;
$other->disconnect;
visit_ok visit($httpd, '/app/file', $alone), $alone, 'then they pass';

done_testing;
