package Bench::Targets;

# What is to be reached, beside what was: ratios of medians of one run.

use strict;
use warnings;

use Bench::Httpd ();
use Bench::Measure qw(median);

# Of two contenders of a scenario: the ratio of their medians.
sub _ratio {
    my ($scenario, $what, $this, $that) = @_;
    return sub {
        my $result = $_[0]{$scenario}{result};
        return $result->{$this}{$what}{median}
            / $result->{$that}{$what}{median};
    };
}

# Of a part of a scenario of the gate: the median of the rounds' ratios.
sub _paired {
    my ($scenario, $part) = @_;
    return sub { $_[0]{$scenario}{result}{$part}{ratio}{median} };
}

# The gate beside dbd-login: httpd's and PostgreSQL's CPU, in the same way.
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

# scenario, what it is, least or most, the bound, how to get it, format
my @TARGETS = (
    ['known', 'the upstream is never the bottleneck: its rate / the module\'s',
        least => 5, _ratio('known', 'rate', 'direct', 'module')],
    ['known', 'logins/s of known users / requests/s of mod_proxy',
        least => 0.40, _ratio('known', 'rate', 'module', 'proxy')],
    ['known', 'httpd CPU per login / mod_proxy\'s per request',
        most => 2.3, _ratio('known', 'cpu', 'module', 'proxy')],
    ['known', 'logins/s of known users / stock httpd with SQL',
        least => 0.9, _ratio('known', 'rate', 'module', 'stock')],
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
