package Bench::Measure;

# One run of wrk against one contender, and rounds of runs of several.

use strict;
use warnings;

use Exporter qw(import);

use Time::HiRes qw(sleep);

use UserSync::Util qw(run_command top_dir wait_until);

use Bench::Process qw(cpu_of_machine cpu_seconds pss_kb);

our @EXPORT_OK = qw(median rounds run_wrk spread);

# More failures than one in a hundred, and the figure says nothing.
my $TOLERATED = 0.01;

# With "quiet", a share of the machine's CPU, a run counts when nothing else
# has used more of it meanwhile; the last try counts in any case.
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

# What wrk says: url, connections, seconds, mode, first, count, seed, headers
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
    my $failed = 0;
    $failed += $seen->{$_} for qw(status connect read write timeout);
    my $good = $seen->{requests} - $seen->{status};
    die "$arg{url}: $failed of $seen->{requests} requests failed:\n$said"
        if $good <= 0 || $failed > $TOLERATED * $seen->{requests};
    return { %$seen, failed => $failed, good => $good,
        rate => $good / $seen->{seconds} };
}

# One run, with what it cost: CPU per request of the contender (all of its
# processes) and of PostgreSQL in microseconds, memory just after.
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

# Until the machine has a moment of little to do, or ten seconds are over.
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
    # ourselves with wrk and the upstream
    my @ours = ($it->pids, $world->pg->pid, $$);
    my $spent = -cpu_seconds(@ours);
    my @before = map { cpu_seconds($_) } $it->pids, $world->pg->pid;
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
        opened => $opened->{plain} + $opened->{tls}
            - $stats->{plain} - $stats->{tls} };
}

# Measures all in turn, again and again, so that whatever else the machine does
# hits all alike; the first run of each, which warms up, does not count. A
# seed is the round's: all see the same users in the same order.
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
    } qw(rate cpu pg_cpu others pss p50 p99 max);
    for my $what (qw(requests failed opened)) {
        $summary{$what} += $_->{$what} for @runs;
    }
    return \%summary;
}

1;
