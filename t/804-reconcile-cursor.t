# usersync-reconcile and 100 000 users, by the admin list in cursor mode.

use UserSync::Test;
use UserSync::ManyUsers;
use UserSync::Reconcile;

my $db = members_db('usersync_cursor');
walk_ok($db, 'cursor');
killed_ok($db, 'cursor');

done_testing;
