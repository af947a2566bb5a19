package Bench::Event;

# The module as the receiver of events: each changes the row of another user,
# as sql/supabase-notify.sql tells it. Bench::HookCalls signs them.

use strict;
use warnings;

use parent -norequire, 'Bench::Hook';

use Bench::Crowd ();
use Bench::Hook ();
use Bench::World ();

sub make_call { return Bench::Crowd->can('event') }

# The row has the state of the event; what is not signed is refused.
sub check {
    my ($self) = @_;
    my $event = Bench::Crowd::event(42);
    my ($body, @headers) = ($event->{body}, @{ $event->{headers} });
    my $answer = $self->_exchange($body, @headers);
    die "$self->{name} applies no event: $answer->{status} "
        . ($answer->{error} || $answer->{body}) . "\n"
        if $answer->{status} != 204;
    my ($time) = $body =~ /"updated_at":"([^"]+)"/;
    die "$self->{name}: the row has another state\n"
        unless $self->{world}->pg->value($self->{db} =>
            'SELECT updated_at = CAST(? AS timestamptz) FROM users'
            . ' WHERE email = ?', $time, Bench::World::email(42));
    $answer = $self->_exchange($body =~ s/"bench"/"hence"/r, @headers);
    die "$self->{name} does not verify: $answer->{status}\n"
        if $answer->{status} != 401;
    return;
}

sub _event {
    my ($self) = @_;
    return $self->_dbd . join "\n",
        'UserSyncHookSecret file:' . Bench::Crowd::secret($self->{world}),
        (map {"UserSyncColumn $_ $_"} qw(updated_at banned_until)),
        '<Location "/hook">', 'SetHandler usersync-event', '</Location>', '';
}

1;
