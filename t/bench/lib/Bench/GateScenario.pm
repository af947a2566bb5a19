package Bench::GateScenario;

# The scenarios of the gate, see Bench::Scenario: what it costs beside the
# authentication that it stands behind, and beside stock httpd with SQL.

use strict;
use warnings;

use Bench::Crowd ();
use Bench::Gate ();
use Bench::Measure qw(rounds spread);

# Fewer than mod_oauth2's own cache holds, which are 1000.
my $TOKENS = 500;

# Known to the cache.
my $KNOWN = 10_000;

# Known by name; more than one run of "unknown" can ask for.
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

# All rounds meet others, whose rows are there or not.
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

# Many users in the cache, and few: one client, for the difference is less than
# what full cores make of the same load from round to round.
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

# The same guarantee as stock httpd can give it: one client that waits for each
# answer, which tells how long a request takes, and more than the cores can
# serve, which tells how much work it is.
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

# Rounds of those who have met all users.
sub _rounds {
    my ($kind, $contenders, $options) = @_;
    $_->meet_all for @$contenders;
    my $result = rounds($kind, $contenders, %$options);
    for my $it (grep { $_->name eq 'gate' } @$contenders) {
        $result->{ $it->{label} || 'gate' }{asked} = $it->asked;
    }
    return $result;
}

# With the ratio of two contenders, round by round: what else the machine does
# has hit both.
sub _paired {
    my ($what, $this, $that, $result) = @_;
    my ($above, $below) = map { $_->{$what}{all} } @$result{$this, $that};
    return { contenders => $result, what => $what,
        ratio => spread(map { $above->[$_] / $below->[$_] } 0 .. $#$above) };
}

1;
