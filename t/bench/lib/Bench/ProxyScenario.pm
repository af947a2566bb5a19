package Bench::ProxyScenario;

# The scenarios of Supabase's own clients, see Bench::Scenario: what the output
# filter costs beside mod_proxy alone, and beside other ways to the same row.
# Each returns { part => { contenders, ratios => { name => spread } } }.

use strict;
use warnings;

use Bench::Measure qw(ratio rounds);
use Bench::Proxied ();

# As many as in the scenario "cached", all known to the cache.
my %FEW = (db => 'small', count => 1_000);

my $NO_CACHE = "UserSyncCache none\n";
my $CACHE    = "UserSyncCache shmcb\nUserSyncCacheTimeout 1h\n";

my @ALONE = ('plain', without => ['usersync']);

# Answers that carry nobody.
sub stream {
    my ($options, $start, $world) = @_;
    my %client = (client => Bench::Proxied::client($world));
    my @all = map { $start->(@$_, %client) } ['on'], ['off'], \@ALONE;
    return { map {
        $_ => _part(rounds($_, \@all, %$options),
            [qw(cpu on plain)], [qw(cpu off plain)]);
    } qw(settings otp) };
}

# Sessions of users whom the cache knows.
sub cached {
    my ($options, $start, $world) = @_;
    my %with = (%FEW, client => Bench::Proxied::client($world));
    my $on = $start->('on', %with, more => $CACHE)->meet_all;
    my $result = rounds('known', [$on, $start->(@ALONE, %with)], %$options);
    $result->{on}{asked} = $on->asked;
    return { session => _part($result, [qw(rate on plain)],
        [qw(cpu on plain)]) };
}

# Sessions of users who are looked up.
sub known {
    my ($options, $start, $world) = @_;
    my %with = (client => Bench::Proxied::client($world));
    my ($on, $stock, $module) = ($start->('on', %with, more => $NO_CACHE),
        $start->('stock', %with), $start->('module', %with,
            more => $NO_CACHE));
    $_->mark for $on, $module;
    my $result = rounds('known', [$on, $stock, $module], %$options);
    $result->{ $_->name }{asked} = $_->asked for $on, $module;
    return { session => _part($result, map {
        [rate => 'on', $_], [cpu => 'on', $_]
    } qw(stock module)) };
}

# With the ratios of two contenders each: [what, this, that].
sub _part {
    my ($result, @ratios) = @_;
    return { contenders => $result, ratios => { map {
        my ($what, $this, $that) = @$_;
        "$what, $this / $that" => ratio($result, @$_);
    } @ratios } };
}

1;
