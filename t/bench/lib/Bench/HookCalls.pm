package Bench::HookCalls;

# What all contenders that are a hook share: calls as Supabase sends them, one
# signature each, for the users whose tokens are to be signed.
#
#   count => 1000   one of that many users at random, as for load.lua's "known";
#                   without it, each call is for another of all users
#   closing => 1    each call on a connection of its own
#
# The calls are signed right before each run (Bench::Crowd::calls), because
# their time stamps are good for five minutes only, and because load.lua would
# need more CPU time to sign than most contenders to verify.

use strict;
use warnings;

use JSON::PP ();

use Bench::Crowd ();
use Bench::Measure qw(run_wrk);
use UserSync::HTTP ();

# Per second; more than any of them answers. No run uses a user twice.
my $MOST = 20_000;

# No two numbers of less than a million meet: it divides by neither 2 nor 5.
my $STEP = 386_413;

my $JSON = JSON::PP->new->utf8->canonical;

sub route {
    my ($self) = @_;
    return { headers => '', url => $self->url('/hook') };
}

sub makes_rows { return 0 }

# What makes the call for the user of a number.
sub make_call { return Bench::Crowd->can('call') }

sub load {
    my ($self, $kind, %arg) = @_;
    my @numbers;
    if ($self->{count}) {
        @numbers = 0 .. $self->{count} - 1;
    }
    else {
        my $rows = $self->{world}->rows($self->{db});
        my $from = $arg{seed} * 7919;
        @numbers = map { ($from + $_) * $STEP % $rows }
            0 .. $MOST * $arg{seconds} - 1;
    }
    # one run's calls are of no use to the next one
    unlink delete $self->{calls} if $self->{calls};
    $self->{calls} = Bench::Crowd::calls($self->make_call, \@numbers,
        $self->{closing} ? 'Connection: close' : ());
    return (mode => $self->{count} ? 'any' : 'each', first => 0,
        count => scalar @numbers, headers => $self->{calls});
}

# The token may be signed with its claims and the row is there; a call that is
# not signed is refused.
sub check {
    my ($self, $kind) = @_;
    my $call = Bench::Crowd::call(42);
    my ($body, @headers) = ($call->{body}, @{ $call->{headers} });
    my $answer = $self->_exchange($body, @headers);
    my $claims = $JSON->decode($body)->{claims};
    my $got = ref $answer->{json} eq 'HASH' ? $answer->{json}{claims} : undef;
    die "$self->{name} is no hook: $answer->{status} "
        . ($answer->{error} || $answer->{body}) . "\n"
        if $answer->{status} != 200
        || $JSON->encode([$got]) ne $JSON->encode([$claims]);
    die "$self->{name}: the user has no row\n"
        unless $self->{world}->pg->value($self->{db} =>
            'SELECT count(*) FROM users WHERE id = ?', $claims->{sub});
    $answer = $self->_exchange($body =~ s/"aal1"/"aal2"/r, @headers);
    die "$self->{name} does not verify: $answer->{status}\n"
        if $answer->{status} != 401;
    return;
}

sub _exchange {
    my ($self, $body, @headers) = @_;
    return UserSync::HTTP->exchange(POST => $self->route->{url}, $body,
        @headers);
}

# Calls for all users this often, so that caches know them: each of several
# processes may have its own.
sub meet_all {
    my ($self, $times) = @_;
    for (1 .. $times || 1) {
        my %load = $self->load('known');
        for (my $met = 0; $met < $load{count};) {
            my $left = $load{count} - $met;
            my $seen = run_wrk(%{ $self->route }, %load, mode => 'each',
                first => $met, count => $left, connections => 16,
                seconds => 1);
            $met += $seen->{requests};
        }
    }
    return $self;
}

1;
