package Bench::ReconcileScenario;

# The scenario of usersync-reconcile, see Bench::Scenario: BENCH_USERS users
# (100 000) go into an empty table, and are then compared once more: from the
# admin API or from auth.users, and in turn with the script that comes to mind
# first. The script gets fewer users; the rates are compared.

use strict;
use warnings;

use Time::HiRes qw(sleep time);

use UserSync::AuthUsers ();
use UserSync::Double ();
use UserSync::Util qw(make_dir new_dir slurp spew top_dir);

use Bench::Measure qw(spread);
use Bench::Process qw(cpu_of_machine cpu_seconds);

my $DB = 'walk';

# The script is slow, and neither its rate nor its memory depends on how many
# users there are.
my $MOST_OF_SCRIPT = 50_000;

# What the program and the script both know how to fill.
my @COLUMNS = qw(phone is_anonymous banned_until deleted_at updated_at);
my $TABLE = <<'SQL';
CREATE TABLE members (id uuid PRIMARY KEY, email text, phone text,
    is_anonymous boolean, banned_until timestamptz, deleted_at timestamptz,
    updated_at timestamptz)
SQL

# Between two looks at a process.
my $INTERVAL = 0.05;

sub api { return _run_all($_[0], qw(cursor offset script)) }

sub db { return _run_all($_[0], qw(from-db script)) }

sub _run_all {
    my ($run, @ways) = @_;
    my $n = $ENV{BENCH_USERS} || 100_000;
    die "BENCH_USERS is not a number above 0: $n\n" if $n !~ /^[1-9]\d*$/;
    my $few = $n < $MOST_OF_SCRIPT ? $n : $MOST_OF_SCRIPT;
    my %users = map { $_ => $_ eq 'script' ? $few : $n } @ways;
    my $self = _begin($run->{world});
    _fill($self, $n) if $users{'from-db'};
    my (%seen, @order);
    my $done = eval {
        for my $round (1 .. $run->{rounds}) {
            @order = @order ? (@order[1 .. $#order], $order[0]) : @ways;
            for my $way (@order) {
                _prepare($self, $way, $users{$way});
                for my $time (qw(first second)) {
                    my $it = _once($self, $way, $users{$way}, $time);
                    push @{ $seen{"$way $time"} }, $it;
                    $run->{progress}->("$way $time", $round, $it);
                }
            }
        }
        1;
    };
    my $error = $@;
    $self->{double}->stop;
    die $error unless $done;
    return { users => \%users, runs => { map {
        my $name = $_;
        $name => _summary(@{ $seen{$name} });
    } keys %seen } };
}

sub _summary {
    my (@runs) = @_;
    return { map {
        my $what = $_;
        $what => spread(map { $_->{$what} } @runs);
    } keys %{ $runs[0] } };
}

# ---- the project and the table

sub _begin {
    my ($world) = @_;
    my $pg = $world->pg;
    if (!$pg->value(postgres =>
            'SELECT count(*) FROM pg_database WHERE datname = ?', $DB)) {
        $pg->createdb($DB);
        $pg->sql($DB => $TABLE);
    }
    my $dir = make_dir($world->dir . '/reconcile');
    my $double = UserSync::Double->start(dir => "$dir/double");
    spew("$dir/key", $double->key('secret') . "\n");
    chmod 0600, "$dir/key" or die "$dir/key: $!\n";
    return { world => $world, pg => $pg, dir => $dir, double => $double };
}

sub _fill {
    my ($self, $n) = @_;
    UserSync::AuthUsers->create($self->{pg}, $DB)->fill($n);
    # or the first to read them would set their hint bits
    $self->{pg}->sql($DB => 'VACUUM (ANALYZE) auth.users');
    return;
}

sub _prepare {
    my ($self, $way, $n) = @_;
    $self->{double}->reset;
    if ($way ne 'from-db') {
        $self->{double}->config(cursor_pagination => $way eq 'cursor' ? 1 : 0,
            record_requests => 0);
        $self->{double}->add_crowd(n => $n);
    }
    $self->{pg}->sql($DB => 'TRUNCATE members');
    return;
}

# ---- one run

sub _command {
    my ($self, $way) = @_;
    my $dsn = $self->{pg}->dsn($DB, user => 'postgres');
    my $url = $self->{double}->url;
    return ('/usr/bin/python3', top_dir() . '/t/bench/apps/backfill.py', $url,
        $dsn) if $way eq 'script';
    return (top_dir() . '/support/usersync-reconcile',
        $way eq 'from-db' ? ('--from-db', $dsn)
        : ('--url', $url, '--key', "file:$self->{dir}/key"),
        '--db', $dsn, '--table', 'members',
        (map { ('--column', "$_=$_") } @COLUMNS), '--apply', '--json');
}

# A run and its cost: users a second; CPU of the program, of PostgreSQL and of
# the double in microseconds for each user; memory in KB. PostgreSQL has worked
# off before what the last one has written.
sub _once {
    my ($self, $way, $n, $time) = @_;
    $self->{pg}->sql($DB => 'CHECKPOINT');
    my @others = ($self->{pg}->pid, $self->{double}->pid);
    my @before = map { cpu_seconds($_) } @others, $$;
    my @machine = cpu_of_machine();
    my $ran = _run($self, $way);
    my @after = map { cpu_seconds($_) } @others, $$;
    my @now = cpu_of_machine();
    my @spent = map { $after[$_] - $before[$_] } 0 .. $#after;
    # this process has everything below it, except for PostgreSQL
    my $ours = $spent[2] + $spent[0];
    my $missed = _missed($self, $way, $n, $time, $ran->{said});
    return { seconds => $ran->{seconds}, rate => $n / $ran->{seconds},
        cpu => $ran->{cpu} * 1e6 / $n, cpu_seconds => $ran->{cpu},
        pg_cpu => $spent[0] * 1e6 / $n, source_cpu => $spent[1] * 1e6 / $n,
        peak_kb => $ran->{peak}, quarter_kb => $ran->{quarter},
        missed => $missed,
        others => ($now[0] - $machine[0] - $ours) / ($now[1] - $machine[1]),
        load => (split ' ', slurp('/proc/loadavg'))[0] };
}

# Runs it and looks at its memory until it ends.
sub _run {
    my ($self, $way) = @_;
    my $log = new_dir('walk') . '/log';
    my $start = time;
    my $cpu = -_cpu_of_children();
    my $process = Bench::Process->start(command => [_command($self, $way)],
        log => $log,
        # supabase-py sends the key as a token, too, which a secret key is not
        env => { BENCH_KEY => $self->{double}->key('service_role'),
            PYTHONPATH => top_dir() . '/build/bench/supabase-py',
            PYTHONDONTWRITEBYTECODE => 1 });
    my ($peak, @resident) = (0);
    while ($process->is_running) {
        my $text = slurp('/proc/' . $process->pid . '/status') || '';
        $peak = $1 if $text =~ /^VmHWM:\s+(\d+)/m;
        push @resident, $1 if $text =~ /^VmRSS:\s+(\d+)/m;
        sleep $INTERVAL;
    }
    my $seconds = time - $start;
    $cpu += _cpu_of_children();
    return { seconds => $seconds, cpu => $cpu, peak => $peak,
        quarter => $resident[@resident / 4] || 0, said => $process->said };
}

sub _cpu_of_children {
    my (undef, undef, $user, $system) = times;
    return $user + $system;
}

# How many users have no row. Those whom usersync-reconcile has seen have one,
# and it says what it has written: nothing the second time. The script misses
# some: users of one created_at may come in another order with each page.
sub _missed {
    my ($self, $way, $n, $time, $said) = @_;
    my $rows = $self->{pg}->value($DB => 'SELECT count(*) FROM members');
    my $wrong = $rows == $n || $way eq 'script' && $rows > 0.99 * $n ? ''
        : "$rows rows of $n users";
    if ($way ne 'script') {
        my ($line) = $said =~ /([^\n]*)\n?\z/;
        my $json = eval { JSON::PP::decode_json($line) } || {};
        my $want = $time eq 'first' ? $n : 0;
        $wrong ||= 'not as many were written as should be'
            if ($json->{applied} // -1) != $want;
    }
    die "$way, $time run: $wrong:\n$said\n" if $wrong;
    return $n - $rows;
}

1;
