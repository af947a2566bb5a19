package Bench::GateScenario;

# The scenarios of the gate, see Bench::Scenario: its cost compared with the
# authentication before it, and with stock httpd with SQL.

use strict;
use warnings;

use Bench::Crowd ();
use Bench::Gate ();
use Bench::Measure qw(ratio rounds);

# Fewer than the 1000 that mod_oauth2's own cache holds.
my $TOKENS = 500;

# Known to the cache.
my $KNOWN = 10_000;

# As many as the smaller database has.
my $FEW = 1_000;

# Known by name; more than one run of "unknown" can use.
my $NAMES = 1_000_000;

my %PLACE = (static => '/static.html', proxied => '/proxied/small');

# Behind mod_oauth2, all known to the cache: a static file and a proxied
# request, with the token of one user and with those of many.
sub warm {
    my ($options, $start, $world) = @_;
    my $file = Bench::Crowd::tokens($world, 'app', $TOKENS);
    my @both = map {
        $start->($_, auth => 'oauth2', users => $file, count => $TOKENS)
    } qw(alone gate);
    my %result;
    for my $place (qw(static proxied)) {
        for my $count (1, $TOKENS) {
            @$_{qw(place count)} = ($PLACE{$place}, $count) for @both;
            $result{"$place, $count"} = _paired('cpu', 'gate', 'alone',
                _rounds('known', \@both, $options));
        }
    }
    return \%result;
}

# Each round has other users, with or without rows.
sub cold {
    my ($options, $start, $world) = @_;
    my $file = Bench::Crowd::names($world, 'app', $NAMES);
    my @all = map {
        $start->($_, auth => 'basic', users => $file, count => $NAMES)
    } qw(alone gate login);
    my %result = map {
        $_ => _paired('rate', 'gate', 'login', rounds($_, \@all, %$options))
    } qw(unknown missing);
    $world->refill('app');
    return \%result;
}

# Many users in the cache, and few: one client, because the difference is
# smaller than the variation between rounds when all cores are busy.
sub users {
    my ($options, $start, $world) = @_;
    my @both = map {
        my $it = $start->('gate', auth => 'basic', count => $_,
            users => Bench::Crowd::names($world, 'app', $_),
            more => "UserSyncCacheTimeout 1h\n");
        $it->{label} = $_;
        $it;
    } 100_000, 100;
    return { known => _paired('cpu', 100_000, 100,
        _rounds('known', \@both, { %$options, connections => 1 })) };
}

# The same guarantee with stock httpd: one client that waits for each answer,
# which shows the time of a request, and more load than the cores can serve,
# which shows the work per request.
sub dbd {
    my ($options, $start, $world) = @_;
    my $file = Bench::Crowd::names($world, 'app', $KNOWN);
    my @all = map {
        $start->($_, auth => 'basic', users => $file, count => $KNOWN)
    } qw(gate login alone);
    my %result;
    for my $count (1, $options->{connections}) {
        $result{"$count at a time"} = _paired('rate', 'gate', 'login',
            _rounds('known', \@all, { %$options, connections => $count }));
    }
    return \%result;
}

# Users who are banned, in their rows and thus in the cache, and others.
sub banned {
    my ($options, $start, $world) = @_;
    my %with = (auth => 'basic', db => 'small', count => $FEW,
        users => Bench::Crowd::names($world, 'small', $FEW),
        more => "UserSyncCacheTimeout 1h\n" . join '',
            map {"UserSyncColumn $_ $_\n"} qw(updated_at banned_until));
    $world->add_life('small');
    $world->count_statements(1);
    my $known = $start->('gate', %with);
    $known->meet_all;
    $world->ban('small');
    my $banned = $start->('gate', %with, label => 'banned', refused => 403);
    $banned->meet_all;
    my $result = _paired('cpu', 'banned', 'gate', rounds('known',
        [$known, $banned], %$options, statements => 1));
    $world->refill('small');
    return { known => $result };
}

# Rounds after all users have been met.
sub _rounds {
    my ($kind, $contenders, $options) = @_;
    $_->meet_all for @$contenders;
    my $result = rounds($kind, $contenders, %$options);
    for my $it (grep { $_->name eq 'gate' } @$contenders) {
        $result->{ $it->{label} || 'gate' }{asked} = $it->asked;
    }
    return $result;
}

# With the ratio of two contenders.
sub _paired {
    my ($what, $this, $that, $result) = @_;
    return { contenders => $result, what => $what,
        ratio => ratio($result, $what, $this, $that) };
}

1;
