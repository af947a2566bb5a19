# PostgreSQL restarts, or has not started yet: an outage shorter than
# UserSyncStoreTimeout costs no login, a longer one heals by itself.

use UserSync::Test;
use UserSync::Outage;

use constant WORKERS => 24;
use constant DEADLINE => 5;

my $pg    = own_postgres();
my $httpd = outage_lines(own_httpd($pg, workers => WORKERS, children => 2,
    set => { UserSyncStoreTimeout => DEADLINE . 's' }))->start;

# All pooled connections are dead when the next logins come.
sub survives {
    my ($name, $outage) = @_;
    my %old = map { $_ => 1 } fill_pool($pg, $httpd, WORKERS / 2);
    $outage->();
    my @responses = logins($httpd, WORKERS);
    is tally(@responses), WORKERS . ' x 200', "$name: no login fails";
    within(DEADLINE, "$name: in time", @responses);
    my @new = $pg->backends('app');
    ok @new && !(grep { $old{$_} } @new), "$name: the connections are new";
    return;
}

subtest 'between requests' => sub {
    survives('fast restart', sub { $pg->restart('fast') });
    survives('immediate restart', sub { $pg->restart('immediate') });
    survives('crash and start', sub { $pg->crash->start });
    survives('backends terminated', sub {
        cmp_ok $pg->terminate_backends('app'), '>=', WORKERS / 2, 'terminated';
    });
};

subtest 'under load' => sub {
    my $users = 300;
    $pg->sql(app => 'TRUNCATE users CASCADE');
    my $load = start_load($httpd, $users, clients => 24, grow => 5);
    my $rows = sub {
        my ($more) = @_;
        my $now = $pg->value(app => 'SELECT count(*) FROM users') + $more;
        wait_until {
            $pg->value(app => 'SELECT count(*) FROM users') >= $now
        } 20, 'new rows';
    };
    $rows->(50);
    for (['fast', 0], ['immediate', 2]) {
        my ($mode, $down) = @$_;
        my $start = time;
        $pg->stop($mode);
        sleep $down; # not waited for anything: so long is the outage
        $pg->start;
        my $outage = time - $start;
        note sprintf '%s restart: away for %.3f s', $mode, $outage;
        cmp_ok $outage, '<', DEADLINE, "$mode: away shorter than the deadline";
        $rows->(50);
    }
    # killed connections only: PostgreSQL is not away
    $pg->terminate_backends('app');
    $rows->(20);
    my $seen = $load->stop;
    note sprintf '%d logins, slowest %.3f s', @$seen{qw(count slowest)};
    is_deeply $seen->{by}, { 200 => $seen->{count} }, 'no login fails'
        or diag explain $seen->{bad};
    cmp_ok $seen->{slowest}, '<', DEADLINE + slack,
        'none takes longer than the deadline';
    my %row = map { $_->{id} => 1 } $pg->sql(app => 'SELECT id FROM users');
    is_deeply [grep { !$row{$_} } @{ $seen->{ids} }], [],
        'every user who logged in has a row';
};

subtest 'not there when httpd starts' => sub {
    $pg->sql(app => 'TRUNCATE users CASCADE');
    $pg->stop;
    my $late = outage_lines(own_httpd($pg, workers => 4,
        set => { UserSyncStoreTimeout => '500ms', DBDMin => 0 }));
    $late->expect_log(qr/\[usersync:error\].*store_unavailable: /);
    $late->start;
    my @responses = (login($late), logins($late, 4));
    is tally(@responses), '5 x 503 store_unavailable',
        'a failed login, no token';
    within(0.5, 'in time', @responses);
    $pg->start;
    serves($late, 4, 3, 'healed by itself');
    is $pg->value(app => 'SELECT count(*) FROM users'), 4, 'rows';
};

done_testing;
