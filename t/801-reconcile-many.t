# usersync-reconcile and 100 000 users: pages whose borders fall between users
# of one time, changes, refusals and errors during the walk, and an end in the
# middle of it. The complete sets are compared.

use UserSync::Test;
use UserSync::AuthUsers;
use UserSync::Reconcile;
use UserSync::Util qw(new_dir);

my $T    = JSON::PP::true();
my $MANY = 100_000;
my $LONG = 600;
my $db   = members_db('usersync_many');
my $dir  = new_dir('many');
my @all;

# A project with so many users, and an empty table.
sub begin {
    my ($cursor) = @_;
    double->reset;
    double->config(cursor_pagination => $cursor, record_requests => 0);
    double->add_crowd(n => $MANY);
    postgres->sql($db => 'TRUNCATE members');
    return if @all;
    open my $dump, '<', double->dump or die "dump: $!";
    @all = map { (split /\t/)[0] } <$dump>;
    return;
}

sub rows_there {
    return postgres->value($db => 'SELECT count(*) FROM members');
}

sub run {
    my (@option) = @_;
    return finished(start_reconcile(@option, '--json', '--max-delete', '5%'),
        $LONG);
}

# The next run writes nothing.
sub clean_ok {
    my ($name, @option) = @_;
    my $next = run(@option, '--apply');
    is $next->{status}, 0, "$name: the next run" or diag said($next);
    is $next->{json}{applied}, 0, "$name: finds nothing";
    return;
}

for my $cursor (0, 1) {
    my $mode = $cursor ? 'cursor' : 'offset';
    begin($cursor);
    double->at(admin_list => 20, DELETE => "/users/$all[$_]")
        for 10, 11, 50_000, 99_990;
    double->at(admin_list => 30, POST => "/users/$all[$_]", { banned => $T })
        for 14, 50_001, 99_991;
    double->at(admin_list => 40, POST => '/users',
        { email => "late$_\@example.com" }) for 1 .. 3;
    double->at(admin_list => $_, POST => '/faults', { op => 'admin_list',
        kind => 'status', status => 429, headers => { 'Retry-After' => 1 } })
        for 7, 61;
    double->at(admin_list => $_, POST => '/faults',
        { op => 'admin_list', kind => 'html' }) for 13, 66;
    double->at(admin_list => 25, POST => '/faults',
        { op => 'admin_list', kind => 'cut' });
    my $first = run(from_double($db), '--apply');
    is $first->{status}, 0, "$mode: applied" or diag said($first);
    my $second = run(from_double($db), '--apply');
    is $second->{status}, 0, "$mode: what changed meanwhile"
        or diag said($second);
    cmp_ok $second->{json}{applied}, '<', 20, "$mode: is little";
    same_users_ok($db, "$mode: the sets are equal");
    clean_ok($mode, from_double($db));

    # killed twice, and continued
    begin($cursor);
    my @stated = (from_double($db), '--state', "$dir/$mode.state", '--apply');
    for my $enough (5_000, 40_000) {
        my $ran = start_reconcile(@stated, '--json');
        wait_until { rows_there() > $enough } $LONG, 'rows';
        kill 'KILL', $ran->{pid};
        is finished($ran)->{status}, 137, "$mode: killed";
    }
    my $there = rows_there();
    cmp_ok $there, '<', $MANY, "$mode: in the middle";
    my $rest = run(@stated);
    is $rest->{status}, 0, "$mode: continued" or diag said($rest);
    same_users_ok($db, "$mode: the same in the end");
    clean_ok("$mode, continued", from_double($db));
}

my $auth = UserSync::AuthUsers->create(postgres, $db)->fill($MANY);
postgres->sql($db => 'TRUNCATE members');
my $sql = run(from_auth($db), '--apply');
is $sql->{status}, 0, 'from auth.users' or diag said($sql);
same_as_auth_ok($db, 'from auth.users: the sets are equal');
clean_ok('from auth.users', from_auth($db));

done_testing;
