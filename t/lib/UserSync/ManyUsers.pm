package UserSync::ManyUsers;

# usersync-reconcile and 100 000 users: pages whose borders fall between users
# of one time, changes, refusals and errors during the walk, and an end in the
# middle of it. The complete sets are compared.
#
#   use UserSync::Test;
#   use UserSync::ManyUsers;
#
#   my $db = members_db('usersync_many');
#   walk_ok($db, 'offset');

use strict;
use warnings;

use Exporter qw(import);
use JSON::PP ();
use Test::More ();

use UserSync::Reconcile;
use UserSync::Test qw(double postgres);
use UserSync::Util qw(new_dir wait_until);

our @EXPORT = qw($MANY clean_ok killed_ok run_many walk_ok);

our $MANY = 100_000;

my $LONG = 600; # seconds for a run
my $MEMORY = 100_000; # kB
my $T = JSON::PP::true();

# A project with so many users, and an empty table. Returns the ids.
sub _begin {
    my ($db, $mode) = @_;
    double()->reset;
    double()->config(cursor_pagination => $mode eq 'cursor' ? 1 : 0,
        record_requests => 0);
    double()->add_crowd(n => $MANY);
    postgres()->sql($db => 'TRUNCATE members');
    open my $dump, '<', double()->dump or die "dump: $!";
    return map { (split /\t/)[0] } <$dump>;
}

# The program, to its end.
sub run_many {
    my (@option) = @_;
    return finished(start_reconcile(@option, '--json', '--max-delete', '5%'),
        $LONG);
}

sub _applied_ok {
    my ($ran, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    Test::More::is($ran->{status}, 0, $name)
        or Test::More::diag(said($ran));
    return Test::More::cmp_ok($ran->{memory}, '<', $MEMORY,
        "$name: $ran->{memory} kB of memory");
}

# The next run writes nothing.
sub clean_ok {
    my ($name, @option) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $next = run_many(@option, '--apply');
    _applied_ok($next, "$name: the next run");
    return Test::More::is($next->{json}{applied}, 0, "$name: finds nothing");
}

# Users come, change and go during the walk, while Supabase is busy, broken and
# too slow for its own limit of ten seconds.
sub _disturb {
    my (@all) = @_;
    my $at = sub { double()->at(admin_list => @_) };
    $at->(20, DELETE => "/users/$all[$_]") for 10, 11, 50_000, 99_990;
    $at->(30, POST => "/users/$all[$_]", { banned => $T })
        for 14, 50_001, 99_991;
    $at->(40, POST => '/users', { email => "late$_\@example.com" }) for 1 .. 3;
    $at->($_, POST => '/faults', { op => 'admin_list', kind => 'status',
        status => 429, headers => { 'Retry-After' => 1 } }) for 7, 61;
    $at->($_, POST => '/faults', { op => 'admin_list', kind => 'html' })
        for 13, 66;
    $at->(25, POST => '/faults', { op => 'admin_list', kind => 'cut' });
    return $at->(45, POST => '/faults', { op => 'admin_list',
        kind => 'fixture', file => 'err_request_timeout.v2024.json' });
}

# All are there after two runs; the third finds nothing.
sub walk_ok {
    my ($db, $mode) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    _disturb(_begin($db, $mode));
    _applied_ok(run_many(from_double($db), '--apply'), "$mode: applied");
    my $second = run_many(from_double($db), '--apply');
    _applied_ok($second, "$mode: what changed meanwhile");
    Test::More::cmp_ok($second->{json}{applied}, '<', 20, "$mode: is little");
    same_users_ok($db, "$mode: the sets are equal");
    return clean_ok($mode, from_double($db));
}

# Killed twice, and continued.
sub killed_ok {
    my ($db, $mode) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $state = new_dir('many') . '/state';
    my @option = (from_double($db), '--state', $state, '--apply');
    my $count = sub {
        return postgres()->value($db => 'SELECT count(*) FROM members');
    };
    _begin($db, $mode);
    for my $enough (5_000, 40_000) {
        my $ran = start_reconcile(@option, '--json');
        wait_until { $count->() > $enough } $LONG, 'rows';
        kill 'KILL', $ran->{pid};
        Test::More::is(finished($ran)->{status}, 137, "$mode: killed");
    }
    Test::More::cmp_ok($count->(), '<', $MANY, "$mode: in the middle");
    Test::More::ok(-s $state, "$mode: with a state");
    my $rest = run_many(@option);
    _applied_ok($rest, "$mode: continued");
    Test::More::is($rest->{json}{users}, $MANY,
        "$mode: counted as if nothing had happened")
        or Test::More::diag(said($rest));
    Test::More::ok(!-e $state, "$mode: the state is gone");
    return same_users_ok($db, "$mode: the same in the end");
}

1;
