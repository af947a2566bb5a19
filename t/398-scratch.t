# scratch
use UserSync::Test;
use UserSync::Outage;
use UserSync::Util;
my $pg = own_postgres();
my $httpd = own_httpd($pg, workers => 16, children => 2,
    config => "MaxConnectionsPerChild 40\n",
    set => { UserSyncStoreTimeout => '5s' });
alarm 280;
    slow_inserts($pg, 0.2);
my $hung=0;
    for my $round (1 .. 40) {
        $httpd->start;
        no_rows($pg);
        my $load = start_load($httpd, 500, clients => 12);
        UserSync::Util::wait_until(sub { busy_backends($pg) >= 4 }, 10);
	my @c = $httpd->children;
	my $w = UserSync::Background->start(sub {
	  return if $_[0]->stopping(2.5);
	  system "echo ROUND $round >> /tmp/us/cores/bt; gdb -batch -p $_ -ex 'thread apply all bt' >>/tmp/us/cores/bt 2>&1" for grep { UserSync::Util::alive($_) } @c;
	  1 });
        my $t = $httpd->stop;
	$hung++ if $t > 2.5;
	diag "$round $t";
	$w->result;
        $load->stop;
    }
diag "hung $hung";
done_testing;
