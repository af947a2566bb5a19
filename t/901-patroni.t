# A Patroni cluster of three whose leader is killed under load. One host finds
# the new one through all hosts in DBDParams, the other through haproxy: both
# serve new users within two seconds of the promotion, and nobody reloads
# anything. In the long form every other leader is unplugged instead: its
# connections lead nowhere, and nobody refuses new ones.

use UserSync::Hosts;
use UserSync::Test -keep;
use UserSync::Chaos;
use UserSync::Fleet;
use UserSync::Patroni;
use UserSync::Services;

my $cluster = UserSync::Patroni->start(map { host($_) } qw(db1 db2 db3));
my $leader = $cluster->leader;
$leader->createdb('app');
$cluster->settle;

# The lines of docs/operations.md, for the members of the cluster.
sub proxy_lines {
    my $text = documented(haproxy => qr{/primary});
    for my $pg ($cluster->members) {
        my ($name, $address) = ($pg->{on}->name, $pg->{on}->address);
        my $where = "$address:$pg->{port} check port $pg->{rest}";
        $text =~ s/(server $name )\S+ check port \d+/$1$where/
            or die "no $name in $text\n";
    }
    return $text;
}

my $proxy = start_haproxy(proxy_lines(), on => host('web2'));
my $rest = 'dbname=app user=www-data connect_timeout=2';
my @members = $cluster->members;
my $fleet = UserSync::Fleet->start(params => {
    web1 => join(' ', 'host=' . join(',', map { $_->{on}->address } @members),
        'port=' . join(',', map { $_->port } @members),
        "target_session_attrs=read-write $rest"),
    web2 => "host=$proxy->{address} port=$proxy->{port} $rest",
});

sub more_rows {
    my $rows = sub { $leader->value(app => 'SELECT count(*) FROM users') };
    my $before = $rows->();
    wait_until { $rows->() >= $before + 20 } 30, 'new rows';
    return;
}

for my $round (1 .. scaled(1, 15)) {
    subtest "a leader dies, round $round" => sub {
        my $load = $fleet->load;
        more_rows();
        my $old = $leader;
        my $died = time;
        my $unplugged = $round % 2 == 0 && has_cables();
        $unplugged ? $old->{on}->unplug : $old->{on}->kill;
        my $promoted;
        ($leader, $promoted) = $cluster->next_leader($old);
        note sprintf '%s was elected after %.1f s', $leader->{on}->name,
            $promoted - $died;
        my $seen = $fleet->recovers_ok($promoted, $unplugged ? 15 : 2, $load,
            $unplugged ? 'unplugged' : 'killed', \&more_rows);
        UserSync::Fleet::kinds_ok($seen,
            '503 store_unavailable|503 busy', 'served or told to come again');
        $fleet->promise_ok($seen, $leader);
        $old->{on}->kill->plug;
        $cluster->revive($old)->settle if $round < scaled(1, 15);
    };
}

done_testing;
