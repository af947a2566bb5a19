package Bench::HookScenario;

# The scenarios of the token hook, see Bench::Scenario: beside the module's own
# login route, and beside a hook in FastAPI that does the same.

use strict;
use warnings;

use Bench::Measure qw(rounds);

# As many as in the scenario "cached", all known to the cache.
my %FEW = (db => 'small', count => 1_000);

my $NO_CACHE = "UserSyncCache none\n";
my $CACHE    = "UserSyncCache shmcb\nUserSyncCacheTimeout 1h\n";

my $CALLS = 500;

# Two workers of FastAPI have a cache each, and meet a user at random.
my %TIMES = (hook => 1, pyhook => 8);

# Users known to the cache, with the same e-mail.
sub cached {
    my ($options, $start, $world) = @_;
    $world->count_statements(1);
    my @hooks = ($start->('hook', %FEW, more => $CACHE),
        $start->('pyhook', %FEW, cache => 1));
    my $login = $start->('module', %FEW, more => $CACHE);
    $_->meet_all($TIMES{ $_->name }) for @hooks;
    return rounds('known', [@hooks, $login], %$options, statements => 1);
}

# Users who are looked up.
sub known {
    my ($options, $start, $world) = @_;
    $world->count_statements(1);
    my @all = ($start->('hook', more => $NO_CACHE), $start->('pyhook'),
        $start->('module', more => $NO_CACHE));
    return rounds('known', \@all, %$options, statements => 1);
}

# Events about users who have a row, each about another one.
sub event {
    my ($options, $start, $world) = @_;
    $world->add_life('app');
    $world->count_statements(1);
    my $result = rounds('known', [$start->('event')], %$options,
        statements => 1);
    $world->refill('app');
    return $result;
}

# As many calls as a busy project has at a time: on connections that are kept,
# with the cache and without, and without on one connection for each call. Some
# may wait in vain for a connection to the database, and are counted.
sub crowd {
    my ($options, $start, $world) = @_;
    my %with = (tuned => 1, may_refuse => 1);
    my %hook = (
        cached  => $start->('hook', %with, %FEW, more => $CACHE),
        'looked-up' => $start->('hook', %with, more => $NO_CACHE),
        closing => $start->('hook', %with, more => $NO_CACHE, closing => 1),
    );
    $hook{$_}{label} = $_ for keys %hook;
    $hook{cached}->meet_all;
    my @all = (@hook{qw(cached looked-up closing)}, $start->('pyhook'));
    my $result = rounds('known', \@all, %$options, connections => $CALLS);
    @{ $result->{$_} }{qw(refused answered)}
        = ($hook{$_}->refused, $hook{$_}->handled) for keys %hook;
    return $result;
}

1;
