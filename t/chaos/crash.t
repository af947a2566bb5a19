# PostgreSQL crashes between Supabase's yes and our row, in the middle of 1 000
# registrations: every user with an account gets a row at the next login, and
# nobody ever got a token without having one.

use UserSync::Test;
use UserSync::Chaos;
use UserSync::Outage;

use constant CLIENTS       => 24;
use constant REGISTRATIONS => 1000;

my $pg = own_postgres();
double->config(autoconfirm => JSON::PP::true, reuse_tokens => JSON::PP::true);

# The answers that a registration may get while PostgreSQL is away.
my $REFUSED = '503 store_unavailable';

# Logs in all accounts that Supabase knows, by UserSync::Load.
sub accounts_log_in {
    my ($httpd) = @_;
    my @users = double->users;
    # each child checks once in a second whether PostgreSQL is back
    wait_until {
        !grep { $_->{status} != 200 } parallel(CLIENTS, sub {
            ($httpd->url('/auth/login'), { email => $users[ $_[0] ]{email},
                password => password });
        });
    } 20, 'PostgreSQL to be known to be back';
    my $load = UserSync::Load->start(clients => CLIENTS,
        most => scalar @users, request => sub {
            my $user = $users[ $_[0] ];
            return ([POST => $httpd->url('/auth/login'),
                { email => $user->{email}, password => password }],
                $user->{email});
        });
    my $seen = $load->finish;
    is_deeply $seen->{by}, { 200 => scalar @users },
        'everybody who has an account can log in'
        or diag explain $seen->{bad};
    rows_ok($pg, [map { $_->{id} } @users], 'and has a row then');
    return;
}

# Crashes it once this many registrations wait for their row, for a longer or
# shorter time.
sub crash {
    my ($lock, $away, $down) = @_;
    wait_until { waiting_for_locks($pg) >= 8 } 20, 'registrations at their row';
    $pg->crash;
    # what held them up is gone, too
    eval { $lock->disconnect };
    $away->($down);
    $pg->start;
    return;
}

sub lock_table {
    my $lock = $pg->connect('app');
    $lock->begin_work;
    # reads continue, so that registrations get as far as their insert
    $lock->do('LOCK TABLE users IN SHARE MODE');
    return $lock;
}

sub round_ok {
    my ($deadline, $down, $name) = @_;
    my $httpd = outage_lines(own_httpd($pg, workers => CLIENTS,
        children => 2, set => { UserSyncStoreTimeout => 1000 * $deadline . 'ms' }));
    $httpd->allow_log(qr/usersync-register: store_unavailable/);
    $httpd->start;
    no_rows($pg);
    double->reset;
    double->config(autoconfirm => JSON::PP::true,
        reuse_tokens => JSON::PP::true);
    my $load = UserSync::Load->start(clients => CLIENTS, keep => 1,
        most => REGISTRATIONS, request => registrations(
            $httpd->url('/auth/register'), 'new'));
    wait_until {
        $pg->value(app => 'SELECT count(*) FROM users') > REGISTRATIONS / 4
    } 30, 'registrations';
    crash(lock_table(), sub { sleep $_[0] }, $down); # so long it is away
    my $seen = $load->finish;
    kinds_ok($seen, "200|$REFUSED", "$name: registered, or 503");
    is $seen->{count}, REGISTRATIONS, 'all were answered';

    my @users = double->users;
    my %row = map { $_->{id} => 1 } $pg->sql(app => 'SELECT id FROM users');
    my @without = grep { !$row{$_} } @{ $seen->{ids} };
    is_deeply \@without, [], 'every user with a token has a row';
    my $lost = grep { !$row{ $_->{id} } } @users;
    note sprintf '%d accounts, %d of them without a row; %d refused',
        scalar @users, $lost, count_of($seen, $REFUSED);
    if ($down > $deadline) {
        cmp_ok $lost, '>=', 8, 'accounts were left without a row';
        cmp_ok count_of($seen, $REFUSED), '>', $lost,
            'then no request went to Supabase any more';
    }
    else {
        is $lost, 0, 'all waiting users got their row';
        is count_of($seen, $REFUSED), 0, 'no request was refused';
    }
    accounts_log_in($httpd);
    $httpd->stop;
    return;
}

for my $round (1 .. scaled(1, 10)) {
    subtest "round $round, away for longer than the deadline" =>
        sub { round_ok(0.5, 1.5, 'longer') };
    subtest "round $round, away for less" =>
        sub { round_ok(5, 0.3, 'less') };
}

done_testing;
