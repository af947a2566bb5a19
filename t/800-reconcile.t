# usersync-reconcile: what it finds, in each class, and what it writes. A run
# without --apply writes nothing; after a run with it the next one finds
# nothing.

use UserSync::Test;
use UserSync::AuthUsers;
use UserSync::Reconcile;
use UserSync::Util qw(wait_until);

my $T = JSON::PP::true();
my $F = JSON::PP::false();
my @MUCH = ('--max-delete', '90%');

sub rows { return postgres->sql(@_) }
sub value { return postgres->value(@_) }

# Applied, and nothing is left to do.
sub settled_ok {
    my ($db, $name, @option) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $first = reconcile(@option, @MUCH, '--apply', '--json');
    is $first->{status}, 0, "$name: applied" or diag said($first);
    my $before = table_text($db, 'members');
    my $second = reconcile(@option, @MUCH, '--apply', '--json');
    is $second->{status}, 0, "$name: again" or diag said($second);
    is $second->{json}{applied}, 0, "$name: nothing is left to do"
        or diag said($second);
    is table_text($db, 'members'), $before, "$name: nothing is written";
    return $first;
}

# ---- an empty table, and users of all kinds
my $db = members_db('usersync_reconcile');
for my $cursor (0, 1) {
    my $mode = $cursor ? 'cursor' : 'offset';
    double->reset;
    double->config(cursor_pagination => $cursor);
    double->add_crowd(n => 200);
    rows($db => 'TRUNCATE members');
    my $dry = reconcile(from_double($db), '--json');
    is $dry->{status}, 1, "$mode: a dry run finds differences"
        or diag said($dry);
    counts_ok($dry, { missing => 196, deleted => 4 }, "$mode: counted");
    is value($db => 'SELECT count(*) FROM members'), 0,
        "$mode: but writes nothing";
    unlike $dry->{err}, qr/\r|\e/, "$mode: no progress bar without a terminal";
    settled_ok($db, $mode, from_double($db));
    same_users_ok($db, "$mode: all are there");
    my $clean = reconcile(from_double($db), '--json');
    is $clean->{status}, 0, "$mode: a dry run finds nothing";
    my ($first) = double->requests('admin_list');
    is double->header($first, 'authorization'), undef,
        "$mode: a secret key is no Bearer";
    ok !grep({ $_->{target} =~ /sb_secret/ } double->requests),
        "$mode: nor in a URL";
}
{
    double->reset;
    double->add_crowd(n => 120);
    rows($db => 'TRUNCATE members');
    my $legacy = reconcile('--url', double->url, '--key',
        key_file('service_role'), into($db), '--apply', '--json');
    is $legacy->{status}, 0, 'the legacy key' or diag said($legacy);
    same_users_ok($db, 'all are there');
}

# ---- each class, by name
double->reset;
rows($db => 'TRUNCATE members');
my %user = map { $_ => double->add_user(email => "$_\@example.com")->{id} }
    qw(ada bob cy dee eve fay gus hal);
double->change_user($user{dee}, banned => $T);
double->change_user($user{eve}, soft_deleted => $T);
my $anonymous = double->add_user(anonymous => $T)->{id};
my $phone = double->add_user(phone => '4915112345678')->{id};
my $ghost = '00000000-dead-4000-8000-000000000001';
my $fill = sub {
    my ($id, $email) = @_;
    return rows($db => 'INSERT INTO members (id, email, is_anonymous)
        VALUES (?, ?, false)', $id, $email);
};
$fill->($user{ada}, 'ada@example.com');
$fill->($user{bob}, 'bob@old.example.com');
$fill->($user{dee}, 'dee@example.com');
$fill->($user{eve}, 'eve@example.com');
$fill->($ghost, 'ghost@example.com');
my $before = table_text($db, 'members');

my $dry = reconcile(from_double($db), @MUCH, '--list', '--json');
is $dry->{status}, 1, 'differences' or diag said($dry);
counts_ok($dry, { ok => 1, stale => 1, missing => 6, banned => 1,
    deleted => 1, phantom => 1 }, 'one of each class, and the missing');
my $list = listed($dry);
is_deeply { map { $_ => $list->{$_}[0] } keys %$list },
    { $user{bob} => 'stale', $user{dee} => 'banned', $user{eve} => 'deleted',
        $ghost => 'phantom', map { $_ => 'missing' }
        @user{qw(cy fay gus hal)}, $anonymous, $phone },
    '--list names each difference' or diag said($dry);
unlike $dry->{out} . $dry->{err}, qr/example\.com|4915112345678/,
    'but no address and no number';
is table_text($db, 'members'), $before, 'a dry run writes nothing';

settled_ok($db, 'each class', from_double($db));
same_users_ok($db, 'each class is mended');
my %row = map { $_->{id} => $_ } rows($db => 'SELECT * FROM members');
is $row{ $user{bob} }{email}, 'bob@example.com', 'stale: the new address';
ok defined $row{ $user{dee} }{banned_until}, 'banned: until when';
is $row{ $user{eve} }{email}, 'eve@example.com',
    'deleted: the row keeps its address';
ok defined $row{ $user{eve} }{deleted_at}, 'deleted: marked';
ok defined $row{$ghost}{deleted_at}, 'phantom: marked';
is $row{$ghost}{email}, 'ghost@example.com', 'phantom: keeps its address';
is $row{$anonymous}{email}, undef, 'anonymous: no address';
is $row{$anonymous}{is_anonymous}, 1, 'anonymous: known as such';
is $row{$phone}{phone}, '4915112345678', 'phone only: the number';
is scalar(grep { $_->{target} =~ /\Q$ghost\E/ } double->requests('admin_user'))
    > 0, 1, 'whoever is not in the list is asked for';

# life goes on: unbanned, an address for the anonymous
double->change_user($user{dee}, banned => $F);
double->change_user($anonymous, email => 'named@example.com', anonymous => $F);
settled_ok($db, 'later', from_double($db));
same_users_ok($db, 'changes are followed');
is value($db => 'SELECT email FROM members WHERE id = ?', $anonymous),
    'named@example.com', 'no longer anonymous';

# ---- --on-delete
for my $action (qw(Keep Mark Delete)) {
    double->reset;
    rows($db => 'TRUNCATE members');
    rows($db => 'CREATE TABLE IF NOT EXISTS members_deleted (id uuid
        PRIMARY KEY, deleted_at timestamptz, updated_at timestamptz)');
    my ($lives, $soft, $gone) = map {
        my $id = double->add_user(email => "$_\@example.com")->{id};
        $fill->($id, "$_\@example.com");
        $id } qw(lives soft gone);
    double->change_user($soft, soft_deleted => $T);
    double->delete_user($gone);
    my $ran = settled_ok($db, $action, from_double($db), '--on-delete',
        $action);
    my %left = map { $_->{id} => defined $_->{deleted_at} ? 'marked' : 'alive' }
        rows($db => 'SELECT id, deleted_at FROM members');
    my %dead = map { $_->{id} => 'tomb' }
        rows($db => 'SELECT id FROM members_deleted');
    is_deeply [\%left, \%dead],
        $action eq 'Keep' ? [{ map { $_ => 'alive' } $lives, $soft, $gone }, {}]
        : $action eq 'Mark' ? [{ $lives => 'alive', map { $_ => 'marked' }
            $soft, $gone }, {}]
        : [{ $lives => 'alive' }, { map { $_ => 'tomb' } $soft, $gone }],
        "$action: what is left" or diag said($ran);
}

# a foreign key that forbids the deletion
double->reset;
rows($db => 'TRUNCATE members, members_deleted');
my $owner = double->add_user(email => 'owner@example.com')->{id};
$fill->($owner, 'owner@example.com');
double->delete_user($owner);
$fill->(double->add_user(email => 'other@example.com')->{id},
    'other@example.com');
rows($db => 'CREATE TABLE orders (member uuid REFERENCES members)');
rows($db => 'INSERT INTO orders VALUES (?)', $owner);
my $forbidden = reconcile(from_double($db), @MUCH, '--on-delete', 'Delete',
    '--apply', '--json', '--list');
is value($db => 'SELECT deleted_at IS NOT NULL FROM members WHERE id = ?',
    $owner), 1, 'Delete: a foreign key leaves the row marked'
    or diag said($forbidden);
like $forbidden->{out} . $forbidden->{err}, qr/foreign key|23503|orders/,
    'and the program says so';
rows($db => 'DROP TABLE orders');

# ---- a limit for disasters
double->reset;
rows($db => 'TRUNCATE members, members_deleted');
my @lost = map { sprintf '00000000-dead-4000-8000-%012d', $_ } 1 .. 30;
double->add_crowd(n => 100);
reconcile(from_double($db), '--apply');
$fill->($_, "$_\@example.com") for @lost;
double->add_user(email => 'new@example.com');
for my $max (undef, '5', '10%', '29') {
    my $many = reconcile(from_double($db), '--apply', '--json',
        defined $max ? ('--max-delete', $max) : ());
    my $name = '--max-delete ' . ($max // '(1%)');
    is $many->{status}, 2, "$name: stops" or diag said($many);
    like $many->{err}, qr/--max-delete/, "$name: says why";
    is value($db => 'SELECT count(*) FROM members WHERE deleted_at IS NULL
        AND id::text LIKE ?', '00000000-dead-%'), 30, "$name: marks nobody";
}
my $enough = reconcile(from_double($db), '--apply', '--max-delete', '30');
is $enough->{status}, 0, '--max-delete 30' or diag said($enough);
same_users_ok($db, 'as many as are allowed');

# ---- two users have swapped their addresses, under a unique index
rows($db => 'CREATE UNIQUE INDEX one_each ON members (lower(email))');
for my $not_null (0, 1) {
    double->reset;
    rows($db => 'TRUNCATE members, members_deleted');
    my @swap = map { double->add_user(email => "$_\@example.com")->{id} }
        qw(a b c);
    reconcile(from_double($db), '--apply');
    rows($db => 'ALTER TABLE members ALTER email SET NOT NULL') if $not_null;
    double->change_user($swap[0], email => 'x@example.com');
    double->change_user($swap[1], email => 'a@example.com');
    double->change_user($swap[2], email => 'b@example.com');
    double->change_user($swap[0], email => 'c@example.com');
    my $name = $not_null ? 'swapped, NOT NULL' : 'swapped';
    settled_ok($db, $name, from_double($db));
    same_users_ok($db, "$name: healed");
}
rows($db => 'ALTER TABLE members ALTER email DROP NOT NULL');

# ---- rows that the table refuses
double->reset;
rows($db => 'TRUNCATE members, members_deleted');
rows($db => q{ALTER TABLE members ADD CONSTRAINT no_guests
    CHECK (email NOT LIKE 'guest%')});
rows($db => 'ALTER TABLE members ADD team text NOT NULL DEFAULT 1');
double->add_crowd(n => 200);
my $guest = double->add_user(email => 'guest@example.com')->{id};
my $taken = double->add_user(email => 'taken@example.com')->{id};
my $holder = '00000000-dead-4000-8000-00000000000f';
rows($db => 'INSERT INTO members (id, email, updated_at)
    VALUES (?, ?, ?)', $holder, 'Taken@example.com', '2200-01-01');
for my $again (0, 1) {
    my $refused = reconcile(from_double($db), @MUCH, '--on-delete', 'Keep',
        '--apply', '--list', '--json');
    is $refused->{status}, 1, 'refused rows are a difference'
        or diag said($refused);
    is $refused->{json}{refused}, 2, 'two are refused' or diag said($refused);
    my $why = listed($refused);
    like "@{ $why->{$guest} || [] }", qr/\Arefused .*no_guests/,
        'by the CHECK of that name';
    like "@{ $why->{$taken} || [] }", qr/\Arefused .*one_each/,
        'by the unique index of that name';
    unlike $refused->{out} . $refused->{err}, qr/guest\@|taken\@/i,
        'without the address';
    is value($db => 'SELECT count(*) FROM members WHERE email IS NOT NULL'),
        value($db => 'SELECT count(*) FROM members WHERE email LIKE ?',
            'u%@crowd.example.com') + 1, 'the rest is there';
}
rows($db => 'ALTER TABLE members DROP CONSTRAINT no_guests');
rows($db => 'DELETE FROM members WHERE id = ?', $holder);
settled_ok($db, 'no more reason to refuse', from_double($db));
same_users_ok($db, 'all are there');

rows($db => 'DROP INDEX one_each');
rows($db => 'ALTER TABLE members ALTER team DROP DEFAULT');
double->add_user(email => 'later@example.com');
my $bare = reconcile(from_double($db), '--apply', '--list', '--json');
is $bare->{status}, 1, 'a NOT NULL column without a default'
    or diag said($bare);
like $bare->{out}, qr/^refused .*team/m, 'refuses by its name';
rows($db => 'ALTER TABLE members DROP team');

# ---- a row that has had a later state is left alone
double->reset;
rows($db => 'TRUNCATE members');
my $ahead = double->add_user(email => 'ahead@example.com')->{id};
rows($db => 'INSERT INTO members (id, email, is_anonymous, updated_at)
    VALUES (?, ?, false, ?)', $ahead, 'newer@example.com', '2200-01-01');
my $newer = reconcile(from_double($db), '--apply', '--json');
is value($db => 'SELECT email FROM members WHERE id = ?', $ahead),
    'newer@example.com', 'a later state does not yield' or diag said($newer);
my $buried = double->add_user(email => 'buried@example.com')->{id};
rows($db => 'INSERT INTO members_deleted VALUES (?, ?, ?)', $buried,
    '2200-01-01', '2200-01-01');
$newer = reconcile(from_double($db), '--on-delete', 'Delete', '--apply',
    '--json');
is $newer->{status}, 0, 'nor does a later deletion' or diag said($newer);
is $newer->{json}{newer}, 2, 'both are counted' or diag said($newer);
is value($db => 'SELECT count(*) FROM members WHERE id = ?', $buried), 0,
    'the dead are not woken';

# ---- users come, go and change while it walks
for my $cursor (0, 1) {
    my $mode = $cursor ? 'cursor' : 'offset';
    double->reset;
    double->config(cursor_pagination => $cursor);
    double->add_crowd(n => 3500);
    rows($db => 'TRUNCATE members');
    open my $dump, '<', double->dump or die "dump: $!";
    my @all = map { (split /\t/)[0] } <$dump>;
    double->at(admin_list => 3, DELETE => "/users/$all[$_]")
        for 0 .. 9, 3000 .. 3009;
    double->at(admin_list => 3, POST => "/users/$all[$_]", { banned => $T })
        for 20, 3020;
    double->at(admin_list => 3, POST => '/users',
        { email => "late$_\@example.com" }) for 1 .. 5;
    my $walk = reconcile(from_double($db), '--apply', '--json');
    is $walk->{status}, 0, "$mode: changes during the walk"
        or diag said($walk);
    my %there = map { $_->{id} => 1 } rows($db => 'SELECT id FROM members');
    my @missed = grep { !$there{$_} } @all[0 .. 2999, 3010 .. $#all];
    is scalar(@missed), 0, "$mode: nobody is missed who was there all along";
    settled_ok($db, "$mode: the next", from_double($db));
    same_users_ok($db, "$mode: then all are right");
}

# ---- the project's database
my $auth = UserSync::AuthUsers->create(postgres, $db);
rows($db => 'TRUNCATE members');
$auth->fill(1000);
my %known = map { $_ => $auth->add(email => "$_\@example.com") } qw(one two);
settled_ok($db, 'from auth.users', from_auth($db));
same_as_auth_ok($db, 'from auth.users: all are there');
$auth->change($known{one}, email => 'uno@example.com',
    banned_until => '2200-01-01');
$auth->soft_delete($known{two});
my $third = $auth->add(email => 'three@example.com');
$auth->delete($third);
$fill->($third, 'three@example.com');
my $sql = reconcile(from_auth($db), '--json', '--list', @MUCH);
is $sql->{status}, 1, 'from auth.users: a dry run';
counts_ok($sql, { ok => 1000, stale => 1, deleted => 1, phantom => 1 },
    'from auth.users: counted');
settled_ok($db, 'from auth.users, changed', from_auth($db));
same_as_auth_ok($db, 'from auth.users: changes are followed');

# ---- others write at the same time
# So long as the program has to wait for a row of this transaction.
sub held {
    my ($sql, @bind) = @_;
    my $dbh = postgres->connect($db);
    $dbh->begin_work;
    $dbh->do($sql, undef, @bind);
    return $dbh;
}

sub waits {
    return wait_until { value($db => q{SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'}) } 60,
        'it waits for the row';
}

$auth->change($known{one}, email => 'eins@example.com');
my $lock = held('SELECT FROM members WHERE id = ? FOR UPDATE', $known{one});
my $ran = start_reconcile(from_auth($db), '--apply', '--json');
waits();
$auth->add(email => "late$_\@example.com") for 1 .. 20;
$lock->commit;
my $late = finished($ran);
is $late->{status}, 0, 'users come during the walk' or diag said($late);
same_as_auth_ok($db, 'and are found at its end');

my $visitor = $auth->add(email => 'visitor@example.com');
$lock = held('INSERT INTO members (id) VALUES (?)', $visitor);
$ran = start_reconcile(from_auth($db), '--apply', '--json', '--list');
waits();
$lock->commit;
my $both = finished($ran);
is $both->{status}, 0, 'the gate makes the row first' or diag said($both);
is $both->{json}{refused}, 0, 'nothing is refused';
same_as_auth_ok($db, 'and the row has all that is known');

done_testing;
