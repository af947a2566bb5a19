package UserSync::Reconcile;

# Runs usersync-reconcile, and compares what it leaves with what there should
# be.
#
#   use UserSync::Test;
#   use UserSync::Reconcile;
#
#   my $db = members_db('usersync_members');
#   my $ran = reconcile(from_double($db), '--apply', '--json');
#   is $ran->{status}, 0, 'applied' or diag said($ran);
#   same_users_ok($db, 'all of them');

use strict;
use warnings;

use Exporter qw(import);
use JSON::PP ();
use POSIX qw(WNOHANG);
use Test::More ();
use Time::HiRes qw(time);

use UserSync::Tables qw(scratch_db);
use UserSync::Test qw(double postgres);
use UserSync::Util qw(new_dir slurp spew top_dir wait_until);

our @EXPORT = qw(
    counts_ok finished from_auth from_double into key_file
    listed members_db reconcile said same_as_auth_ok same_but_times_ok
    same_users_ok start_reconcile table_text
);

my $runs = 0;
my $dir;
my %pids;

# Every column that usersync-reconcile knows.
my @COLUMNS = qw(phone is_anonymous banned_until deleted_at updated_at);

sub _dir { return $dir ||= new_dir('reconcile') }

# ---- the program

# A file with a key of the double, as the value of --key.
sub key_file {
    my ($kind) = @_;
    my $file = _dir() . "/$kind.key";
    if (!-e $file) {
        spew($file, double()->key($kind) . "\n");
        chmod 0600, $file or die "$file: $!";
    }
    return "file:$file";
}

# The options for a table in that database with all columns.
sub into {
    my ($db) = @_;
    return ('--db', postgres()->dsn($db, user => 'postgres'),
        '--table', 'members', map { ('--column', "$_=$_") } @COLUMNS);
}

# From the double's admin API, or from auth.users in the same database.
sub from_double {
    my ($db) = @_;
    return ('--url', double()->url, '--key', key_file('secret'), into($db));
}

sub from_auth {
    my ($db) = @_;
    return ('--from-db', postgres()->dsn($db, user => 'postgres'), into($db));
}

# Starts it: {pid, out, err}; the last two are files. Environment variables
# stand in a hash in front of the options.
sub start_reconcile {
    my (@arg) = @_;
    my $env = ref $arg[0] ? shift @arg : {};
    my $base = _dir() . '/run' . $runs++;
    my $ran = { out => "$base.out", err => "$base.err" };
    my $pid = fork // die "fork: $!";
    if (!$pid) {
        local $SIG{__DIE__};
        $ENV{$_} = $env->{$_} for keys %$env;
        $SIG{$_} = 'DEFAULT' for qw(INT TERM HUP CHLD ALRM PIPE);
        open STDIN,  '<', '/dev/null';
        open STDOUT, '>', $ran->{out};
        open STDERR, '>', $ran->{err};
        { no warnings 'exec'; exec top_dir() . '/support/usersync-reconcile',
            @arg; }
        print STDERR "support/usersync-reconcile: $!\n";
        POSIX::_exit(127);
    }
    $pids{$pid} = 1;
    $ran->{pid} = $pid;
    return $ran;
}

# Waits for its end: {status, out, err, json, seconds, memory}; out and err are
# texts now, json is the last line of out if that is an object. 128 and more:
# the signal that ended it. memory: the most that it has had, in kB.
sub finished {
    my ($ran, $seconds) = @_;
    my $memory = 0;
    wait_until {
        my ($most) = (slurp("/proc/$ran->{pid}/status") // '')
            =~ /^VmHWM:\s+(\d+)/m;
        $memory = $most if $most;
        waitpid($ran->{pid}, WNOHANG) == $ran->{pid};
    } $seconds || 60, 'the end of usersync-reconcile';
    my $status = $?;
    delete $pids{ $ran->{pid} };
    my %end = (memory => $memory,
        status => $status & 127 ? 128 + ($status & 127) : $status >> 8,
        map { $_ => slurp($ran->{$_}) } qw(out err));
    my ($last) = $end{out} =~ /([^\n]*)\n?\z/;
    $end{json} = eval { JSON::PP->new->utf8->decode($last) }
        if $last =~ /\A\{/;
    return \%end;
}

sub reconcile {
    my (@arg) = @_;
    my $start = time;
    my $end = finished(start_reconcile(@arg));
    $end->{seconds} = time - $start;
    return $end;
}

# For diag.
sub said {
    my ($ran) = @_;
    return "status $ran->{status}\n-- out\n$ran->{out}-- err\n$ran->{err}";
}

# The lines of --list by id: [class, reason]
sub listed {
    my ($ran) = @_;
    my $id = qr/[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/;
    return { map { /\A(\w+)\s+($id)\s*(.*)\z/ ? ($2 => [$1, $3]) : () }
        split /\n/, $ran->{out} };
}

# What --json counts, without the classes that nobody is in.
sub counts_ok {
    my ($ran, $want, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $json = $ran->{json} || {};
    my %got = map { $_ => $json->{$_} } grep { $json->{$_} }
        qw(ok missing stale phantom deleted banned refused newer kept);
    return Test::More::is_deeply(\%got, $want, $name)
        || Test::More::diag(said($ran));
}

# ---- tables

# A new database with a table "members" that has all the columns.
sub members_db {
    my ($name, @sql) = @_;
    return scratch_db($name, <<'SQL', @sql);
CREATE TABLE members (id uuid PRIMARY KEY, email text, phone text,
    is_anonymous boolean, banned_until timestamptz, deleted_at timestamptz,
    updated_at timestamptz)
SQL
}

# All rows as one text, to see whether anything was written.
sub table_text {
    my ($db, $table) = @_;
    return postgres()->value($db =>
        "SELECT string_agg(t::text || xmin, E'\\n' ORDER BY id) FROM $table t");
}

# The double's users as a table "truth".
sub _truth {
    my ($db) = @_;
    my $dbh = postgres()->dbh($db);
    $dbh->do('DROP TABLE IF EXISTS truth, truth_text');
    $dbh->do(<<'SQL');
CREATE TABLE truth_text (id uuid, email text, phone text, is_anonymous boolean,
    banned_until bigint, deleted_at bigint, created_at bigint,
    updated_at bigint)
SQL
    $dbh->do(q{COPY truth_text FROM STDIN WITH (NULL '')});
    open my $fh, '<', double()->dump or die "dump: $!";
    while (<$fh>) { $dbh->pg_putcopydata($_) }
    $dbh->pg_putcopyend;
    my $time = sub { "timestamptz 'epoch' + $_[0] * interval '1 us' AS $_[0]" };
    $dbh->do('CREATE TABLE truth AS SELECT id, email, phone, is_anonymous, '
        . join(', ', map { $time->($_) } qw(banned_until deleted_at
            created_at updated_at)) . ' FROM truth_text');
    return;
}

# Every user has a row as it should be, and no row without a user is alive.
# The hashes of the deleted are nowhere. A row that was right before needs no
# time of its state, but it has no other one.
sub _same_ok {
    my ($db, $truth, $name, @time) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 2;
    my $columns = 'id, is_anonymous, banned_until, deleted_at';
    my $differs = @time ? 't.updated_at <> m.updated_at' : 'false';
    my @wrong = postgres()->sql($db => <<"SQL");
WITH should AS (SELECT $columns,
        CASE WHEN deleted_at IS NULL THEN nullif(email, '') END AS email
    FROM $truth),
  found AS (SELECT $columns, CASE WHEN deleted_at IS NULL THEN email
            WHEN email ~ '^[A-Za-z0-9_-]{43}\$' THEN email END AS email
    FROM members LEFT JOIN (SELECT id, 1 AS lives FROM $truth) AS u USING (id)
    WHERE deleted_at IS NULL OR lives = 1),
  times AS (SELECT t.id, t.updated_at FROM $truth t JOIN members m USING (id)
    WHERE $differs)
(SELECT 'should' AS what, * FROM (TABLE should EXCEPT TABLE found) AS a LIMIT 5)
UNION ALL
(SELECT 'found', * FROM (TABLE found EXCEPT TABLE should) AS b LIMIT 5)
UNION ALL
(SELECT 'time', id, NULL, NULL, updated_at, NULL FROM times LIMIT 5)
SQL
    return Test::More::ok(!@wrong, $name)
        || Test::More::diag(Test::More::explain(\@wrong));
}

sub same_users_ok {
    my ($db, $name) = @_;
    _truth($db);
    return _same_ok($db, 'truth', $name, 'updated_at');
}

# The same without updated_at: a login is a change at Supabase, and none here.
sub same_but_times_ok {
    my ($db, $name) = @_;
    _truth($db);
    return _same_ok($db, 'truth', $name);
}

sub same_as_auth_ok {
    my ($db, $name) = @_;
    return _same_ok($db, 'auth.users', $name, 'updated_at');
}

END {
    my $status = $?;
    for my $pid (keys %pids) { kill 'KILL', $pid; waitpid $pid, 0 }
    $? = $status;
}

1;
