# usersync-reconcile beside live traffic: logins, visits and events go on while
# it mends a table with many differences. Nobody waits for it, nothing that came
# meanwhile is undone, and nobody is lost.

use UserSync::Test;
use UserSync::Event;
use UserSync::Gate qw(as_user guarded);
use UserSync::Load;
use UserSync::Reconcile;
use UserSync::Util qw(slack slurp spew wait_until);

my $T    = JSON::PP::true();
my $MANY = 10_000;
my $LONG = 300;
my $DB   = event_db('usersync_live',
    'ALTER TABLE users ALTER email DROP NOT NULL',
    'CREATE VIEW members AS SELECT * FROM users');
my $httpd = event_server($DB, modules => ['authn_anon'],
    config => guarded('/app', 'UserSyncEnsure On') . module_config(
        map { $_ => undef } qw(DBDriver DBDParams DBDMin DBDKeep DBDMax)))
    ->start;
mkdir $httpd->dir . '/htdocs/app';
spew($httpd->dir . '/htdocs/app/file', "file\n");

my @into = ('--db', postgres->dsn($DB, user => 'postgres'), '--max-delete',
    '5%', map { ('--column', "$_=$_") }
    qw(phone is_anonymous banned_until deleted_at updated_at));
my @from = ('--url', double->url, '--key', key_file('secret'), @into);

sub rows { return postgres->sql($DB => @_) }
sub value { return postgres->value($DB => @_) }

# ---- users, and a table that has every third of them, most with an old address
double->config(record_requests => 0, reuse_tokens => $T);
double->add_crowd(n => $MANY);
my @people = map {
    { email => "p$_\@example.com", password => 'correct horse' }
} 1 .. 40;
double->add_user(%$_) for @people;
open my $dump, '<', double->dump or die "dump: $!";
my @user = map {
    my %user;
    @user{qw(id email phone anonymous banned)} = split /\t/;
    \%user } <$dump>;
my @crowd = grep { $_->{email} =~ /crowd/ && $_->{banned} eq '' } @user;
{
    my $dbh = postgres->dbh($DB);
    $dbh->do('COPY users (id, email, is_anonymous) FROM STDIN');
    for my $i (grep { $_ % 3 == 0 } 0 .. $#user) {
        $dbh->pg_putcopydata("$user[$i]{id}\told$i\@example.com\tf\n");
    }
    $dbh->pg_putcopydata(sprintf "00000000-dead-4000-8000-%012d\t\\N\tf\n", $_)
        for 1 .. 20;
    $dbh->pg_putcopyend;
}

# ---- the traffic
sub traffic {
    return { logins => UserSync::Load->start(clients => 3, rate => 30,
            url => $httpd->url('/auth/login'), people => \@people, keep => 1),
        visits => UserSync::Load->start(clients => 2, rate => 30,
            request => sub {
                my $id = $crowd[ ($_[0] * 37) % @crowd ]{id};
                return ([GET => $httpd->url('/app/file'), undef,
                    as_user($id)], $id);
            }) };
}

sub seconds {
    my ($seen) = @_;
    return sort { $a <=> $b } map { $_->{ended} - $_->{opened} }
        @{ $seen->{replies} };
}

# All answered well; returns how long the logins took.
sub traffic_ok {
    my ($traffic, $name) = @_;
    my %seen = map { $_ => $traffic->{$_}->stop } sort keys %$traffic;
    for (sort keys %seen) {
        is_deeply [grep { !/^200/ } keys %{ $seen{$_}{by} }], [],
            "$name: all $_"
            or diag explain $seen{$_}{bad};
        cmp_ok $seen{$_}{count}, '>=', 20, "$name: enough $_";
    }
    return seconds($seen{logins});
}

my $before = traffic();
{
    my $logins = sub { double->stats->{requests}{token} // 0 };
    my $base = $logins->();
    wait_until { $logins->() >= $base + 200 } $LONG, 'logins';
}
my @before = traffic_ok($before, 'without it');
my $median = $before[@before / 2];

# ---- the walk, and events
my $log = -s postgres->log_file;
my $allowed = slack();
my $during = traffic();
my %late; # states that come by events
my $ran = start_reconcile(@from, '--apply', '--json');
my $sent = 0;
my $done;
while (!$done) {
    my $user = $crowd[ ($sent * 101 + 7) % @crowd ];
    my $email = "late$sent\@example.com";
    my $now = double->change_user($user->{id}, email => $email);
    my $answer = send_event($httpd, { id => $user->{id}, email => $email,
        updated_at => $now->{updated_at}, deleted_at => $now->{deleted_at},
        banned_until => $now->{banned_until} });
    $late{ $user->{id} } = $email;
    applied_ok $answer, 'an event' if $answer->{status} != 204;
    $sent++;
    $done = waitpid($ran->{pid}, POSIX::WNOHANG()) == $ran->{pid};
}
my $status = $? >> 8;
my @during = traffic_ok($during, 'beside it');
my $said = slurp($ran->{out}) . slurp($ran->{err});
is $status, 0, 'applied' or diag $said;
cmp_ok $sent, '>=', 20, "events during the walk: $sent";
$allowed = slack() if slack() > $allowed;
cmp_ok $during[-1], '<=', 2 * $median + $allowed, 'no login waits for it';
diag sprintf 'logins: median %.1f ms without it, %.1f ms beside it, slowest '
    . '%.1f ms, allowed 2 x median + %.1f s', 1000 * $median,
    1000 * $during[@during / 2], 1000 * $during[-1], $allowed;
unlike slurp(postgres->log_file, $log), qr/deadlock/, 'no deadlock';

my %row = map { $_->{id} => $_ } rows('SELECT id, email FROM users');
is scalar(grep { !$row{ $_->{id} } } @user), 0, 'nobody is lost';
is scalar(grep { ($row{$_}{email} // '') ne $late{$_} } keys %late), 0,
    'no event is undone';
same_but_times_ok($DB, 'all rows are right');
is reconcile(@from, '--json')->{status}, 0, 'and nothing is left to do';

# ---- an event between the question and the write: the list of that page is
# old by then, and the row has a later state
my ($first, @others) = sort { $a->{id} cmp $b->{id} } @crowd[0 .. 99];
rows('UPDATE users SET email = NULL, updated_at = NULL WHERE id = ANY (?)',
    [map { $_->{id} } $first, @others]);
my $holder = postgres->connect($DB);
$holder->begin_work;
$holder->do('SELECT FROM users WHERE id = ? FOR UPDATE', undef, $first->{id});
$ran = start_reconcile(@from, '--apply', '--json', '--list', '--batch', 1000);
wait_until { value(q{SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock'}) } $LONG,
    'the write waits';
for my $user (@others[0 .. 9]) {
    applied_ok send_event($httpd, { id => $user->{id},
        email => "$user->{id}\@later.example.com" }), 'an event meanwhile';
}
$holder->commit;
my $end = finished($ran, $LONG);
is $end->{status}, 0, 'applied' or diag said($end);
is value(q{SELECT count(*) FROM users WHERE email = id
    || '@later.example.com'}), 10, 'the later states stay' or diag said($end);
is $end->{json}{newer}, 10, 'and are counted' or diag said($end);
is value('SELECT count(*) FROM users WHERE email IS NULL AND id = ANY (?)',
    [map { $_->{id} } $first, @others]), 0, 'the others are mended';

$httpd->stop;
done_testing;
