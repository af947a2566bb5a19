package Bench::Report;

# The results: lines during the run, a table, the contents of the JSON file.

use strict;
use warnings;

use JSON::PP ();
use POSIX ();

use UserSync::Httpd ();
use UserSync::Postgres ();
use UserSync::Util qw(run_command slurp);

use Bench::Contender ();
use Bench::Picture ();
use Bench::Scenario ();
use Bench::Targets ();

my @ORDER = qw(hook event cached looked-up closing pyhook on off plain module
    proxy stock python node nginx direct gate banned login alone);

# $kept: an earlier result, for scenarios that are not measured again
sub new {
    my ($class, $kept) = @_;
    my $self = bless {
        scenarios  => $kept ? $kept->{scenarios} : {},
        contenders => {%Bench::Contender::TITLE},
        machine    => machine(),
        versions   => versions(),
    }, $class;
    die "BENCH_KEEP: the kept result is of other versions or another machine\n"
        if $kept && (_text($kept->{versions}) ne _text($self->{versions})
            || _text($kept->{machine}) ne _text($self->{machine}));
    return $self;
}

sub _text { return JSON::PP->new->canonical->encode($_[0]) }

sub add {
    my ($self, $name, $result, $rounds, $seconds) = @_;
    $self->{scenarios}{$name} = {
        title   => $Bench::Scenario::TITLE{$name},
        date    => POSIX::strftime('%Y-%m-%dT%H:%M:%SZ', gmtime),
        rounds  => $rounds,
        seconds => $seconds,
        load    => (split ' ', slurp('/proc/loadavg'))[0],
        result  => $result,
    };
    return;
}

sub result {
    my ($self) = @_;
    return { %$self, targets => [Bench::Targets::judge($self->{scenarios})] };
}

# result.svg and hook.svg in this directory
sub draw { return Bench::Picture::draw($_[0]{scenarios}, $_[1]) }

# ---- where and with what

sub machine {
    my ($cpu) = (slurp('/proc/cpuinfo') || '') =~ /^model name\s*: (.*)/m;
    my $cores = () = (slurp('/proc/cpuinfo') || '') =~ /^processor\s*:/mg;
    my ($kb) = (slurp('/proc/meminfo') || '') =~ /^MemTotal:\s+(\d+)/m;
    my ($os) = (slurp('/etc/os-release') || '') =~ /^PRETTY_NAME="?([^"\n]*)/m;
    return { cpu => $cpu, cores => $cores, kernel => (POSIX::uname())[2],
        memory_gb => sprintf('%.0f', $kb / 1024 / 1024), os => $os };
}

sub versions {
    my %version;
    for my $package (qw(apache2-bin libcurl4 libjson-c5 libpq5 nginx nodejs
        node-pg python3-fastapi python3-httpx python3-sqlalchemy
        python3-asyncpg python3-uvicorn python3-uvloop wrk libssl3
        libapache2-mod-oauth2 liboauth2-0)) {
        my ($status, $said) = run_command('dpkg-query', '-W', '-f',
            '${db:Status-Status} ${Version}', $package);
        $version{$package} = $1 if !$status && $said =~ /^installed (.*)/;
    }
    my ($status, $said) = run_command(UserSync::Postgres::bin('postgres'), '-V');
    ($version{postgresql}) = $said =~ /PostgreSQL\) (\S+)/ unless $status;
    ($status, $said) = run_command('node', '--version');
    ($version{node}) = $said =~ /v(\S+)/ unless $status;
    return \%version;
}

# ---- in words

sub progress {
    my ($name, $round, $run) = @_;
    if (defined $run->{kb}) {
        printf "  %d  %-9s %8.1f KB for each\n", $round, $name, $run->{kb};
    }
    elsif (defined $run->{peak_kb}) {
        printf "  %d  %-14s %8.1f s  %8.0f/s  %6.1f us  %5.1f MB  load %s"
            . "  others %2.0f %%\n", $round, $name,
            @$run{qw(seconds rate cpu)}, $run->{peak_kb} / 1024, $run->{load},
            100 * $run->{others};
    }
    elsif (defined $run->{client_cpu}) {
        printf "  %d  %-9s %8.0f/s  client %6.1f us  server %6.1f us\n", $round,
            $name, @$run{qw(rate client_cpu server_cpu)};
    }
    elsif ($run->{by}) {
        my $by = $run->{by};
        printf "  %d  %-9s %8.0f/s  offered %d: %s, %d at the same time\n",
            $round, $name, $run->{rate}, $run->{sent}, join(', ', map {
                "$by->{$_} x $_" } sort keys %$by), $run->{peak};
    }
    else {
        printf "  %d  %-9s %8.0f/s  %6.1f us  p99 %7.2f ms  others %2.0f %%%s\n",
            $round, $name, @$run{qw(rate cpu p99)}, 100 * $run->{others},
            $run->{failed} ? "  $run->{failed} failed" : '';
    }
    return;
}

sub table {
    my ($self) = @_;
    my $text = '';
    for my $name (@Bench::Scenario::ALL) {
        my $scenario = $self->{scenarios}{$name} or next;
        $text .= "$name: $scenario->{title}\n"
            . "  $scenario->{rounds} rounds of $scenario->{seconds} s,"
            . " $scenario->{date}\n";
        my $code = __PACKAGE__->can('_table_' . $name =~ s/(?:\d+|-\w+)$//r)
            || \&_table;
        $text .= $code->($scenario->{result}) . "\n";
    }
    return $text . Bench::Targets::table($self->{scenarios});
}

sub _range {
    my ($format, $spread) = @_;
    return sprintf "$format ($format-$format)",
        map { $spread->{$_} } qw(median low high);
}

# Medians, lowest and highest in brackets.
sub _table {
    my ($result, $more) = @_;
    my $text = sprintf "  %-9s %-22s %-22s %9s %8s %8s %8s\n", 'contender',
        'requests/s', 'CPU us/request', 'PG us', 'PSS MB', 'p50 ms', 'p99 ms';
    my %known = map { $_ => 1 } @ORDER;
    for my $name ((grep { $result->{$_} } @ORDER),
        grep { !$known{$_} } sort keys %$result) {
        my $seen = $result->{$name};
        $text .= sprintf "  %-9s %-22s %-22s %9.1f %8.1f %8.2f %8.2f%s\n",
            $name, _range('%.0f', $seen->{rate}), _range('%.1f', $seen->{cpu}),
            $seen->{pg_cpu}{median}, $seen->{pss}{median} / 1024,
            $seen->{p50}{median}, $seen->{p99}{median},
            join '', $seen->{failed} ? "  $seen->{failed} failed" : (),
            $more ? $more->($seen) : ();
    }
    return $text;
}

sub _table_tls {
    return _table($_[0], sub {
        sprintf '  %d connections, %.1f per 10 000', $_[0]{opened},
            $_[0]{per_10000};
    });
}

# With the statements that PostgreSQL has counted, and what was refused.
sub _table_hook {
    return _table($_[0], sub {
        my ($sql, $refused) = @{ $_[0] }{qw(statements refused)};
        join '', $sql ? '  ' . _range('%.4f', $sql) . ' SQL' : (),
            defined $refused ? "  $refused of $_[0]{answered} refused" : ();
    });
}

sub _table_slow {
    return _table($_[0], sub {
        sprintf '  %.3f of ideal', $_[0]{of_ideal}{median};
    });
}

sub _table_memory {
    my ($result) = @_;
    return sprintf "  %d logins wait: %s KB for each; idle: %s MB\n",
        $result->{clients}, _range('%.1f', $result->{kb}),
        sprintf '%.1f', $result->{idle}{median} / 1024;
}

sub _table_hung {
    my ($result) = @_;
    my $text = '';
    for my $side (qw(redirect login)) {
        my %by;
        for my $run (@{ $result->{$side}{offered} }) {
            $by{$_} += $run->{by}{$_} for keys %{ $run->{by} };
        }
        $text .= sprintf "  %-9s static %s requests/s, p99 %.2f ms,"
            . " max %.0f ms\n            logins: %s\n", $side,
            _range('%.0f', $result->{$side}{rate}),
            $result->{$side}{p99}{median}, $result->{$side}{max}{high},
            join ', ', map {"$by{$_} x $_"} sort keys %by;
    }
    return $text . '  ratio     ' . _range('%.3f', $result->{ratio}) . "\n";
}

sub _table_gate {
    my ($result) = @_;
    return join '', map {
        my $part = $result->{$_};
        "  $_\n" . _table($part->{contenders}, sub {
            defined $_[0]{statements} ? '  ' . _range('%.4f',
                $_[0]{statements}) . ' SQL' : defined $_[0]{asked} ? sprintf '  %.3f %% asked the table',
                100 * $_[0]{asked} : '';
        }) . "  ratio     $part->{what} " . _range('%.3f', $part->{ratio})
            . "\n";
    } sort keys %$result;
}

# With the share of requests that looked at the table, and all ratios.
sub _table_proxy {
    my ($result) = @_;
    return join '', map {
        my $part = $result->{$_};
        "  $_\n" . _table($part->{contenders}, sub {
            defined $_[0]{asked} ? sprintf '  %.3f %% asked the table',
                100 * $_[0]{asked} : '';
        }) . join '', map {
            "  ratio     $_ " . _range('%.3f', $part->{ratios}{$_}) . "\n"
        } sort keys %{ $part->{ratios} };
    } sort keys %$result;
}

sub _table_reconcile {
    my ($result) = @_;
    my $text = sprintf "  %-14s %9s %8s %-22s %8s %8s %8s %8s %10s\n", 'run',
        'users', 's', 'users/s', 'CPU us', 'CPU s', 'PG us', 'list us',
        'MB (1/4)';
    for my $name (sort keys %{ $result->{runs} }) {
        my ($way, $run) = ((split ' ', $name)[0], $result->{runs}{$name});
        $text .= sprintf "  %-14s %9d %8.1f %-22s %8.1f %8.1f %8.1f %8.1f"
            . " %4.1f (%.1f)%s\n", $name, $result->{users}{$way},
            $run->{seconds}{median}, _range('%.0f', $run->{rate}),
            (map { $run->{$_}{median} }
                qw(cpu cpu_seconds pg_cpu source_cpu)),
            (map { $run->{$_}{high} / 1024 } qw(peak_kb quarter_kb)),
            $run->{missed}{high} ? "  $run->{missed}{high} missed" : '';
    }
    return $text;
}

sub _table_prepared {
    my ($result) = @_;
    return join '', map {
        sprintf "  %-9s %s/s, client %s us, server %s us\n", $_,
            _range('%.0f', $result->{$_}{rate}),
            _range('%.1f', $result->{$_}{client_cpu}),
            _range('%.1f', $result->{$_}{server_cpu});
    } sort keys %$result;
}

1;
