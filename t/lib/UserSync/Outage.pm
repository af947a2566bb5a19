package UserSync::Outage;

# What the tests of PostgreSQL's failures share: private servers, users, and
# many logins at the same time.

use strict;
use warnings;

use Exporter qw(import);
use JSON::PP ();
use Test::More ();
use Time::HiRes ();

use UserSync::Background ();
use UserSync::Httpd ();
use UserSync::Load ();
use UserSync::Postgres ();
use UserSync::Test ();
use UserSync::Util qw(slack wait_until);

our @EXPORT = qw(
    busy_backends fill_pool login logins no_rows outage_lines own_httpd
    own_postgres people serves slow_inserts slowest start_load tally
    waiting_for_locks within
);

my $PASSWORD = 'correct horse battery';
my @people;

# ---- servers

# A cluster with the database app. The role's own time limits are off, to prove
# that the module alone keeps its deadline.
sub own_postgres {
    my (%settings) = @_;
    my $pg = UserSync::Postgres->new(settings => \%settings)->start;
    $pg->createdb('app');
    $pg->sql(postgres =>
        qq{ALTER ROLE "www-data" IN DATABASE app SET $_ = 0})
        for qw(statement_timeout lock_timeout);
    return $pg;
}

# workers  how many logins it serves at the same time (20), or more: each of
#          its "children" (1) has a thread for all of them, for a test's 24
#          clients, and the one that never waits for Supabase; prefork has this
#          many processes
# params   instead of $pg->dsn; set directives that differ; also all arguments
#          of UserSync::Httpd->new
sub own_httpd {
    my ($pg, %arg) = @_;
    my $set      = delete $arg{set} || {};
    my $params   = delete $arg{params} || $pg->dsn('app');
    my $workers  = delete $arg{workers} || 20;
    my $children = delete $arg{children} || 1;
    my $max      = $set->{DBDMax} || $workers;
    my $config   = UserSync::Test::module_config(
        DBDParams => qq{"$params"},
        DBDMax    => $max,
        # with more than DBDMax mod_dbd creates no pool
        DBDKeep   => $max < 4 ? $max : 4,
        %$set
    );
    my %size = UserSync::Test::mpm() eq 'prefork'
        ? (children => $workers)
        : (children => $children,
            threads => 1 + ($workers > 24 ? $workers : 24));
    $arg{config} = $config . ($arg{config} || '');
    return UserSync::Httpd->new(%size, %arg);
}

# What an outage leaves in the log: our lines, and mod_dbd's.
sub outage_lines {
    my ($httpd) = @_;
    $httpd->allow_log($_) for qr/usersync-login: store_unavailable/,
        qr/\[dbd:error\]/;
    return $httpd;
}

# ---- users and logins

# The first $n users, created at the double if they do not exist.
sub people {
    my ($n) = @_;
    if (!@people) {
        # a new token for each of thousands of logins proves nothing here
        UserSync::Test::double()->config(reuse_tokens => JSON::PP::true());
    }
    while (@people < $n) {
        my $email = sprintf 'user%d@example.com', scalar @people;
        my $user = UserSync::Test::double()->add_user(
            email => $email, password => $PASSWORD);
        push @people,
            { id => $user->{id}, email => $email, password => $PASSWORD };
    }
    return @people[0 .. $n - 1];
}

# One login, by default of the first user.
sub login {
    my ($httpd, $person) = @_;
    ($person) = people(1) unless $person;
    return UserSync::Test::post($httpd->url('/auth/login'),
        { email => $person->{email}, password => $person->{password} });
}

# $n logins at the same moment, each of another user.
sub logins {
    my ($httpd, $n, @who) = @_;
    @who = people($n) unless @who;
    return UserSync::Test::parallel($n, sub {
        my $person = $who[$_[0]];
        ($httpd->url('/auth/login'), {
            email => $person->{email}, password => $person->{password} });
    }, 60);
}

# In the background; see UserSync::Load.
sub start_load {
    my ($httpd, $users, %arg) = @_;
    return UserSync::Load->start(url => $httpd->url('/auth/login'),
        people => [people($users)], %arg);
}

# "14 x 200, 2 x 503 store_unavailable"
sub tally {
    my (@responses) = @_;
    my %n;
    $n{ UserSync::Load::kind($_) }++ for @responses;
    return join ', ', map {"$n{$_} x $_"} sort keys %n;
}

sub slowest {
    my ($slowest) = sort { $b <=> $a } map { $_->{elapsed} } @_;
    return $slowest;
}

# No response took longer than $limit seconds, plus what the machine may need.
sub within {
    my ($limit, $name, @responses) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $slowest = slowest(@responses);
    my $slack = slack();
    Test::More::note(sprintf '%s: %s, slowest %.3f s (limit %.1f s + %.1f s)',
        $name, tally(@responses), $slowest, $limit, $slack);
    return Test::More::cmp_ok($slowest, '<', $limit + $slack, $name);
}

# It works again: within $seconds $n logins at the same time succeed. Each
# child notices separately; if there is only one, all is well after its first
# success.
sub serves {
    my ($httpd, $n, $seconds, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $alone = ($httpd->{children} || 0) == 1;
    my $start = Time::HiRes::time;
    my $tally = '';
    my $served = wait_until {
        return if $alone && login($httpd)->{status} != 200;
        $tally = tally(logins($httpd, $n));
        return $alone || $tally eq "$n x 200";
    } $seconds;
    Test::More::note(sprintf '%s: served after %.3f s', $name,
        Time::HiRes::time - $start);
    return Test::More::is($tally, "$n x 200", $name);
}

# ---- the database

# From now on creating a row takes this long. AFTER, because a BEFORE trigger
# causes a warning.
sub slow_inserts {
    my ($pg, $seconds) = @_;
    $pg->sql(app => <<"SQL");
CREATE OR REPLACE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
'BEGIN PERFORM pg_sleep($seconds); RETURN NULL; END'
SQL
    $pg->sql(app => 'CREATE OR REPLACE TRIGGER slow AFTER INSERT ON users '
        . 'FOR EACH ROW EXECUTE FUNCTION slow()');
    return;
}

sub no_rows { $_[0]->sql(app => 'TRUNCATE users CASCADE'); return }

# How many of the module's statements are running now.
sub busy_backends {
    my ($pg) = @_;
    return $pg->value(postgres => <<'SQL');
SELECT count(*) FROM pg_stat_activity
 WHERE usename = 'www-data' AND state = 'active'
SQL
}

# How many of them wait for a lock.
sub waiting_for_locks {
    my ($pg) = @_;
    return $pg->value(postgres => <<'SQL');
SELECT count(*) FROM pg_stat_activity
 WHERE usename = 'www-data' AND wait_event_type = 'Lock'
SQL
}

# Makes httpd hold $n connections: as many logins meet a locked table. A child
# that has not seen the table sends one to look, and knows it the next time.
sub fill_pool {
    my ($pg, $httpd, $n) = @_;
    people($n);
    my $tally;
    for (1 .. 5) {
        logins($httpd, $n);
        my $lock = $pg->connect('app');
        $lock->begin_work;
        $lock->do('LOCK TABLE users IN ACCESS EXCLUSIVE MODE');
        my $job = UserSync::Background->start(
            sub { tally(logins($httpd, $n)) });
        wait_until { $job->is_done || waiting_for_locks($pg) >= $n } 10;
        my $full = waiting_for_locks($pg) >= $n;
        $lock->rollback;
        $lock->disconnect;
        $tally = $job->result;
        return $pg->backends('app') if $full;
    }
    die "the pool cannot be filled: $tally\n";
}

1;
