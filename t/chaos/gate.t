# The gate while PostgreSQL is away: known users notice nothing, new users are
# refused or let through as configured, the counts in the log are right, and
# afterwards everything recovers.

use UserSync::Test;
use UserSync::Chaos;
use UserSync::Gate;
use UserSync::Load;
use UserSync::Outage;

use constant SECONDS => scaled(5, 60);
use constant TIMEOUT => 1; # UserSyncStoreTimeout
use constant CONNECT_TIMEOUT => 2;

my $pg = own_postgres();
my $httpd = gate_server($pg->dsn('app'), 'UserSyncStoreTimeout ' . TIMEOUT
    . "s\n" . guarded('/app/file', 'UserSyncEnsure On')
    . guarded('/open', 'UserSyncEnsure On', 'UserSyncEnsureOnError Allow'))
    ->start;
$httpd->allow_log($_) for qr/\[dbd:error\]/,
    qr/usersync-gate: (?:store_unavailable|unsynced)\b/;

# Requests of these users in turn, or each of a new user, for UserSync::Load.
sub load {
    my ($path, $clients, @known) = @_;
    return UserSync::Load->start(clients => $clients, keep => 1, rate => 150,
        request => sub {
            my ($number) = @_;
            my $id = @known ? $known[$number % @known]
                : sprintf '%08x-0000-4000-8000-%012x', $path eq '/open',
                    $number;
            return ([GET => $httpd->url($path), undef, as_user($id)], $id);
        });
}

# The users in the access log with this path and outcome, each as often as
# logged.
sub logged {
    my ($path, $outcome) = @_;
    # by way of a list: its length in scalar context
    return my @who = (slurp($httpd->access_log) || '') =~
        m{"GET \Q$path\E HTTP/1\.1" \d+ .* outcome=$outcome user=(\S+)}g;
}

# The children's counts of requests that they have let through.
sub counted {
    my $sum = 0;
    $sum += $_ for (slurp($httpd->error_log) || '')
        =~ /US014: .*? (\d+) requests were let through/g;
    return $sum;
}

sub rows { return map { $_->{id} } $pg->sql(app => 'SELECT id FROM users') }

my @known = map { new_id() } 1 .. 50;
is visit($httpd, '/app/file', $_)->{status}, 200, 'a user passes' for @known;

my ($old, $new, $let) = (load('/app/file', 4, @known), load('/app/file', 8),
    load('/open', 8));
wait_until { logged('/app/file', 'ok') > 150 && logged('/open', 'ok') > 50 }
    30, 'users of all kinds';
my $down = time;
$pg->stop('immediate');
wait_until {
    logged('/app/file', 'store_unavailable') && logged('/open', 'unsynced')
} 30, 'the outage to be seen';
sleep $down + SECONDS - time if time < $down + SECONDS; # so long
$pg->start;
my ($passed, $open) = map { scalar logged($_, 'ok') } '/app/file', '/open';
wait_until {
    logged('/app/file', 'ok') > $passed + 500 && logged('/open', 'ok') > $open
        + 100
} 60, 'new users to pass again';
my %seen = (old => $old->stop, new => $new->stop, let => $let->stop);

# Load expects a session in each 200: here there is none
kinds_ok($seen{old}, '200 without all', 'known users see no error');
kinds_ok($seen{new}, '200 without all|503 store_unavailable',
    'new users pass or are told to retry');
kinds_ok($seen{let}, '200 without all', 'or is let through');
cmp_ok $seen{$_}{slowest}, '<', TIMEOUT + CONNECT_TIMEOUT + slack(),
    "$_: nobody waits longer than allowed" for sort keys %seen;

my %row = map { $_ => 1 } rows();
for (['/app/file', 'new'], ['/open', 'let']) {
    my ($path, $who) = @$_;
    my @ok = logged($path, 'ok');
    cmp_ok scalar @ok, '>', 100, "$path: many passed";
    is_deeply [grep { !$row{$_} } @ok], [], "$path: each of them has a row";
}
my @refused = map { $_->{who} }
    grep { $_->{kind} =~ /^503/ } @{ $seen{new}{replies} };
is_deeply [sort @refused], [sort(logged('/app/file', 'store_unavailable'))],
    'the access log tells of each refusal';

# ---- everything recovers

my @unsynced = logged('/open', 'unsynced');
cmp_ok scalar @unsynced, '>', 0, scalar(@unsynced) . ' were let through';
# each child logs it when it first reaches the database again
wait_until { visit($httpd, '/app/file', new_id()); counted() >= @unsynced } 30;
is counted(), scalar @unsynced, 'the children count the same';
my @again = (@refused, @unsynced);
visit($httpd, '/open', $_) for @again;
%row = map { $_ => 1 } rows();
is_deeply [grep { !$row{$_} } @again], [], 'all have a row from then on';
is_deeply [logged('/open', 'unsynced')], \@unsynced, 'and none is unsynced';

# ---- a child that ends meanwhile

$pg->stop('immediate');
my $before = () = logged('/open', 'unsynced');
wait_until {
    visit($httpd, '/open', new_id());
    logged('/open', 'unsynced') >= $before + 20;
} 60, 'some more to be let through';
$httpd->stop;
@unsynced = logged('/open', 'unsynced');
is counted(), scalar @unsynced,
    'it tells how many it has let through';

done_testing;
