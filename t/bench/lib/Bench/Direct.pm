package Bench::Direct;

# The upstream with nothing in between: shows whether the upstream is the
# limit.

use strict;
use warnings;

use parent -norequire, 'Bench::Contender';

sub launch { return $_[0]->check('known') }
sub pids   { return $_[0]{world}{upstream}->pid }
sub stop   { return }

sub route {
    my ($self, $kind) = @_;
    return { headers => '', url => $self->{world}->url . '/auth/v1/'
        . ($kind eq 'register' ? 'signup' : 'token?grant_type=password') };
}

1;
