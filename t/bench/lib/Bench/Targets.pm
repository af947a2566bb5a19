package Bench::Targets;

# The targets, compared with the results: ratios of medians of one run.

use strict;
use warnings;

use Bench::Httpd ();
use Bench::Measure qw(median);

# The ratio of the medians of two contenders of a scenario.
sub _ratio {
    my ($scenario, $what, $this, $that) = @_;
    return sub {
        my $result = $_[0]{$scenario}{result};
        return $result->{$this}{$what}{median}
            / $result->{$that}{$what}{median};
    };
}

# The median of the rounds' ratios, for a part of a scenario of the gate.
sub _paired {
    my ($scenario, $part) = @_;
    return sub { $_[0]{$scenario}{result}{$part}{ratio}{median} };
}

# The same for a ratio of a part of a scenario of Supabase's own clients.
sub _proxied {
    my ($scenario, $part, $ratio) = @_;
    return sub { $_[0]{$scenario}{result}{$part}{ratios}{$ratio}{median} };
}

# The gate compared with dbd-login: httpd's and PostgreSQL's CPU, likewise.
sub _all_cpu {
    my ($part) = @_;
    return sub {
        my ($login, $gate) = map {
            my ($cpu, $pg) = map { $_->{all} } @$_{qw(cpu pg_cpu)};
            [map { $cpu->[$_] + $pg->[$_] } 0 .. $#$cpu];
        } @{ $_[0]{'gate-dbd'}{result}{$part}{contenders} }{qw(login gate)};
        return median(map { $login->[$_] / $gate->[$_] } 0 .. $#$gate);
    };
}

# The ratio of usersync-reconcile to the script, of the medians.
sub _walk {
    my ($scenario, $what, $this, $that) = @_;
    return sub {
        my $runs = $_[0]{$scenario}{result}{runs};
        return $runs->{$this}{$what}{median} / $runs->{$that}{$what}{median};
    };
}

# The most memory that any of its runs has taken, in MB.
sub _walk_memory {
    my ($scenario) = @_;
    return sub {
        my $runs = $_[0]{$scenario}{result}{runs};
        my ($most) = sort { $b <=> $a } map { $runs->{$_}{peak_kb}{high} }
            grep { !/^script/ } keys %$runs;
        return $most / 1024;
    };
}

# scenario, description, least or most, the bound, how to get it, format
my @TARGETS = (
    ['known', 'the upstream is never the bottleneck: its rate / the module\'s',
        least => 5, _ratio('known', 'rate', 'direct', 'module')],
    ['known', 'logins/s of known users / requests/s of mod_proxy',
        least => 0.40, _ratio('known', 'rate', 'module', 'proxy')],
    ['known', 'httpd CPU per login / mod_proxy\'s per request',
        most => 2.3, _ratio('known', 'cpu', 'module', 'proxy')],
    ['known', 'logins/s of known users / stock httpd with SQL',
        least => 0.95, _ratio('known', 'rate', 'module', 'stock')],
    ['cached', 'logins/s of users known to the cache / stock httpd with SQL',
        least => 0.95, _ratio('cached', 'rate', 'cached', 'stock')],
    ['cached', 'logins/s of users known to the cache / of users looked up',
        least => 1, _ratio('cached', 'rate', 'cached', 'module')],
    ['slow500', '200 ms upstream, 500 clients: achieved / ideal', least => 0.9,
        sub { $_[0]{slow500}{result}{module}{of_ideal}{median} }],
    ['slow500', '200 ms upstream, 500 clients: p99 in ms', most => 400,
        sub { $_[0]{slow500}{result}{module}{p99}{median} }],
    ['memory', 'memory per waiting login in KB', most => 150,
        sub { $_[0]{memory}{result}{kb}{median} }],
    ['rows', 'logins/s with 1 000 000 rows / with 1 000', least => 0.95,
        _ratio('rows', 'rate', '1000000', '1000')],
    ['tls', 'new TLS connections per 10 000 logins (workers: '
        . $Bench::Httpd::WORKERS . ')', most => $Bench::Httpd::WORKERS,
        sub { $_[0]{tls}{result}{module}{per_10000} }],
    (map {
        my ($part, $what) = @$_;
        ['gate-warm', "httpd CPU per request with the gate / without: $what",
            most => 1.05, _paired('gate-warm', $part)];
    } ['static, 1', 'a file, one user'], ['static, 500', 'a file, 500 users'],
        ['proxied, 1', 'proxied, one user'],
        ['proxied, 500', 'proxied, 500 users']),
    (map {
        ['gate-dbd', "requests/s with the gate / with dbd-login, $_",
            least => 2, _paired('gate-dbd', $_)],
        ['gate-dbd', "all CPU per request: dbd-login / the gate, $_",
            least => 2, _all_cpu($_)];
    } '1 at a time', '16 at a time'),
    ['gate-banned', 'httpd CPU per request of a banned user / of a known one',
        most => 1.5, _paired('gate-banned', 'known')],
    ['gate-banned', 'SQL statements per request of a banned user', most => 0,
        sub { $_[0]{'gate-banned'}{result}{known}{contenders}{banned}
            {statements}{high} }],
    (map {
        my ($name, $what, $most) = @$_;
        [$name, "hooks/s / logins/s of the login route, $what", least => 1,
            _ratio($name, 'rate', 'hook', 'module')],
        [$name, "httpd CPU per hook / per login, $what", most => 1,
            _ratio($name, 'cpu', 'hook', 'module')],
        [$name, "hooks/s / of a hook in FastAPI, $what", least => 2,
            _ratio($name, 'rate', 'hook', 'pyhook')],
        [$name, "CPU per hook in FastAPI / httpd's, $what", least => 2,
            _ratio($name, 'cpu', 'pyhook', 'hook')],
        [$name, "SQL statements per hook, $what", most => $most,
            sub { $_[0]{$name}{result}{hook}{statements}{high} }];
    } ['hook-cached', 'known to the cache', 0], ['hook-known', 'no cache', 1]),
    ['hook-event', 'SQL statements per event', most => 2,
        sub { $_[0]{'hook-event'}{result}{event}{statements}{high} }],
    (map {
        my ($label, $what) = @$_;
        # a tenth of the time that Supabase gives its hooks
        ['hook-crowd', "p99 in ms of 500 hooks at a time, $what", most => 500,
            sub { $_[0]{'hook-crowd'}{result}{$label}{p99}{median} }],
        ['hook-crowd', "hooks refused, 500 at a time, $what", most => 0,
            sub { $_[0]{'hook-crowd'}{result}{$label}{refused} }];
    } ['cached', 'known to the cache'], ['looked-up', 'no cache']),
    (map {
        my ($part, $what) = @$_;
        ['proxy-stream', "httpd CPU per request with the filter / without:"
            . " $what", most => 1.03, _proxied('proxy-stream', $part,
                'cpu, on / plain')];
    } ['settings', 'GET /settings'], ['otp', 'POST /otp']),
    ['proxy-cached', 'sessions/s with the filter / without, known to the cache',
        least => 0.85, _proxied('proxy-cached', 'session',
            'rate, on / plain')],
    ['proxy-known', 'sessions/s with the filter / stock httpd with SQL',
        least => 1, _proxied('proxy-known', 'session', 'rate, on / stock')],
    ['proxy-known', 'sessions/s with the filter / logins/s of the login route',
        least => 1.1, _proxied('proxy-known', 'session',
            'rate, on / module')],
    (map {
        my ($name, $way) = @$_;
        map {
            ["reconcile-$name", "users/s of usersync-reconcile / of a script,"
                . " $way, $_ run", least => 2,
                _walk("reconcile-$name", 'rate', "$way $_", "script $_")],
            ["reconcile-$name", "CPU of a script / of usersync-reconcile, $way,"
                . " $_ run", least => 5,
                _walk("reconcile-$name", 'cpu', "script $_", "$way $_")];
        } qw(first second);
    } [qw(api cursor)], [qw(api offset)], [qw(db from-db)]),
    (map {
        ["reconcile-$_", "the most memory of usersync-reconcile in MB, $_",
            most => 100, _walk_memory("reconcile-$_")];
    } qw(api db)),
    ['hung', 'static file beside a hung upstream / beside a Redirect 503',
        least => 0.90, sub { $_[0]{hung}{result}{ratio}{median} }],
);

# [{ what, at_least or at_most, reached, met }] of the scenarios that were run
sub judge {
    my ($scenarios) = @_;
    my @judged;
    for my $target (@TARGETS) {
        my ($name, $what, $kind, $bound, $code) = @$target;
        next unless $scenarios->{$name};
        my $reached = $code->($scenarios);
        push @judged, { scenario => $name, what => $what,
            "at_$kind" => $bound, reached => $reached,
            met => ($kind eq 'least' ? $reached >= $bound
                : $reached <= $bound) ? JSON::PP::true : JSON::PP::false };
    }
    return @judged;
}

sub table {
    my ($scenarios) = @_;
    my $text = sprintf "%-66s %10s %9s\n", 'target', 'wanted', 'reached';
    for my $row (judge($scenarios)) {
        my $wanted = defined $row->{at_least} ? ">= $row->{at_least}"
            : "<= $row->{at_most}";
        $text .= sprintf "%-66s %10s %9.4g  %s\n", $row->{what}, $wanted,
            $row->{reached}, $row->{met} ? 'met' : 'MISSED';
    }
    return $text;
}

1;
