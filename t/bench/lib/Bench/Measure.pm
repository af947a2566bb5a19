package Bench::Measure;

# One run of wrk against one contender, and rounds of runs of several.

use strict;
use warnings;

use Exporter qw(import);

use Time::HiRes qw(sleep);

use UserSync::Util qw(run_command top_dir wait_until);

use Bench::Process qw(cpu_of_machine cpu_seconds pss_kb);

our @EXPORT_OK = qw(median ratio rounds run_wrk spread);

# With more than one failure in a hundred, the figure is meaningless.
my $TOLERATED = 0.01;

# With "quiet", a share of the machine's CPU, a run counts if nothing else has
# used more of it meanwhile; the last try always counts.
my $TRIES = 4;

sub median {
    my @sorted = sort { $a <=> $b } @_;
    my $middle = @sorted / 2;
    return @sorted % 2 ? $sorted[$middle]
        : ($sorted[$middle] + $sorted[$middle - 1]) / 2;
}

# { median, low, high, all } of the values in the order of the rounds
sub spread {
    my @sorted = sort { $a <=> $b } @_;
    return { median => median(@_), low => $sorted[0], high => $sorted[-1],
        all => [@_] };
}

# The ratio of two contenders, round by round: other load on the machine affects
# both.
sub ratio {
    my ($result, $what, $this, $that) = @_;
    my ($above, $below) = map { $_->{$what}{all} } @$result{$this, $that};
    return spread(map { $above->[$_] / $below->[$_] } 0 .. $#$above);
}

# wrk's result: url, connections, seconds, mode, first, count, seed, headers;
# refused: it is a failure if an answer is none of status 400 or more
sub run_wrk {
    my (%arg) = @_;
    my ($status, $said) = run_command('wrk', '-t', 1, '-c',
        $arg{connections}, '-d', "$arg{seconds}s", '--timeout', '10s',
        '-s', top_dir() . '/t/bench/load.lua', $arg{url}, '--', $arg{mode},
        $arg{first} || 0, $arg{count} || 0, $arg{seed} || 1,
        $arg{headers} || '');
    my ($line) = $said =~ /^(\{.*\})$/m;
    die "wrk $arg{url}:\n$said" if $status || !defined $line;
    my $seen = JSON::PP::decode_json($line);
    my $bad = $arg{refused} ? $seen->{requests} - $seen->{status}
        : $seen->{status};
    my $failed = $bad;
    $failed += $seen->{$_} for qw(connect read write timeout);
    my $good = $seen->{requests} - $bad;
    die "$arg{url}: $failed of $seen->{requests} requests failed:\n$said"
        if $good <= 0 || $failed > $TOLERATED * $seen->{requests};
    return { %$seen, failed => $failed, good => $good,
        rate => $good / $seen->{seconds} };
}

# One run and its cost: CPU per request of the contender (all of its processes)
# and of PostgreSQL in microseconds, memory just after.
sub _measure {
    my ($it, $kind, %arg) = @_;
    my $quiet = $arg{quiet} or return _measure_once($it, $kind, %arg);
    my $run;
    for (1 .. $TRIES) {
        _wait_for_quiet($quiet);
        $run = _measure_once($it, $kind, %arg);
        last if $run->{others} <= $quiet;
    }
    return $run;
}

# Waits until the machine is idle for a moment, for ten seconds at most.
sub _wait_for_quiet {
    my ($most) = @_;
    wait_until {
        my @before = cpu_of_machine();
        sleep 0.3;
        my @after = cpu_of_machine();
        $after[0] - $before[0] <= $most * ($after[1] - $before[1]);
    } 10;
    return;
}

sub _measure_once {
    my ($it, $kind, %arg) = @_;
    my $world = $it->{world};
    my %load = (%arg, %{ $it->route($kind) }, $it->load($kind, %arg));
    my $fresh = $it->makes_rows($kind);
    my $rows = $fresh ? $world->count_rows($it->{db}) : 0;
    # this process with wrk and the upstream
    my @ours = ($it->pids, $world->pg->pid, $$);
    my $spent = -cpu_seconds(@ours);
    my @before = map { cpu_seconds($_) } $it->pids, $world->pg->pid;
    my $told = $arg{statements} && _told($it);
    my ($busy, $all) = cpu_of_machine();
    my $stats = $world->stats;
    my $seen = run_wrk(%load);
    my @after = map { cpu_seconds($_) } $it->pids, $world->pg->pid;
    my @machine = cpu_of_machine();
    $spent += cpu_seconds(@ours);
    my $opened = $world->stats;
    my $per = 1e6 / $seen->{good};
    die "$it->{name}: the same users more than once\n"
        if $load{mode} eq 'each' && $seen->{requests} > $load{count};
    if ($fresh) {
        my $made = $world->count_rows($it->{db}) - $rows;
        die "$it->{name}: $made rows from $seen->{good} first requests\n"
            if $made < $seen->{good};
    }
    return { %$seen, cpu => $per * ($after[0] - $before[0]),
        pg_cpu => $per * ($after[1] - $before[1]),
        others => ($machine[0] - $busy - $spent) / ($machine[1] - $all),
        pss => pss_kb($it->pids),
        $told ? _statements($it, $told, $seen->{requests}) : (),
        opened => $opened->{plain} + $opened->{tls}
            - $stats->{plain} - $stats->{tls} };
}

# What PostgreSQL has executed so far for a contender that rests.
sub _told {
    my ($it) = @_;
    my ($last, $told) = ('');
    wait_until {
        sleep 0.1 if $told;
        $told = { sql => $it->{world}->statements($it->{db}),
            handled => scalar $it->handled };
        my $text = JSON::PP->new->canonical->encode($told);
        ($last, $text) = ($text, $last);
        $last eq $text;
    } 10, "the rest of $it->{name}";
    return $told;
}

# The statements since then: all, and those per request that has been answered.
# The module asks each new connection once which server it leads to.
sub _statements {
    my ($it, $before, $requests) = @_;
    my $now = _told($it);
    my (%sql, $all);
    for my $text (keys %{ $now->{sql} }) {
        my $times = $now->{sql}{$text} - ($before->{sql}{$text} || 0);
        $sql{$text} = $times if $times;
        $all += $times if $text !~ /pg_control_system/;
    }
    $requests = $now->{handled} - $before->{handled}
        if defined $now->{handled};
    return (sql => \%sql, statements => ($all || 0) / $requests);
}

# Measures all in turn, again and again, so that other load on the machine
# affects all alike; the first run of each is a warm-up and does not count. A
# round has one seed: all get the same users in the same order.
sub rounds {
    my ($kind, $contenders, %arg) = @_;
    my (%seen, @order, %warm);
    $_->check($kind) for @$contenders;
    $warm{ $_->{label} || $_->name }
        = _measure_once($_, $kind, %arg, seconds => $_->warm_up, seed => 99)
        for @$contenders;
    for my $round (1 .. $arg{rounds}) {
        @order = @order ? (@order[1 .. $#order], $order[0]) : @$contenders;
        for my $it (@order) {
            my $run = _measure($it, $kind, %arg, seed => $round);
            push @{ $seen{ $it->{label} || $it->name } }, $run;
            $arg{progress}->($it->{label} || $it->name, $round, $run)
                if $arg{progress};
        }
    }
    for my $it (@$contenders) {
        my @bad = $it->trouble;
        die join "\n", "$it->{name} complained:", @bad, '' if @bad;
    }
    return { map { $_ => { %{ _summary(@{ $seen{$_} }) },
        warm_up => { requests => $warm{$_}{requests},
            opened => $warm{$_}{opened} } } } keys %seen };
}

sub _summary {
    my (@runs) = @_;
    my %summary = map {
        my $what = $_;
        $what => spread(map { $_->{$what} } @runs);
    } qw(rate cpu pg_cpu others pss p50 p99 max),
        defined $runs[0]{statements} ? 'statements' : ();
    for my $sql (grep {$_} map { $_->{sql} } @runs) {
        $summary{sql}{$_} += $sql->{$_} for keys %$sql;
    }
    for my $what (qw(requests failed opened)) {
        $summary{$what} += $_->{$what} for @runs;
    }
    return \%summary;
}

1;
