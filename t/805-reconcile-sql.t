# usersync-reconcile and 100 000 users, read from the project's database.

use UserSync::Test;
use UserSync::AuthUsers;
use UserSync::ManyUsers;
use UserSync::Reconcile;

my $db = members_db('usersync_sql');
UserSync::AuthUsers->create(postgres, $db)->fill($MANY);
my $sql = run_many(from_auth($db), '--apply');
is $sql->{status}, 0, 'from auth.users' or diag said($sql);
same_as_auth_ok($db, 'from auth.users: the sets are equal');
clean_ok('from auth.users', from_auth($db));

done_testing;
