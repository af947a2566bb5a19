# usersync-reconcile and 100 000 users, by the admin list in offset mode.

use UserSync::Test;
use UserSync::ManyUsers;
use UserSync::Reconcile;

my $db = members_db('usersync_offset');
walk_ok($db, 'offset');
killed_ok($db, 'offset');

done_testing;
