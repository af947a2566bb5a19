package Bench::PythonHook;

# apps/hook.py behind uvicorn, two workers; cache => 1: with a cache of users
# in each worker.

use strict;
use warnings;

use parent -norequire, 'Bench::HookCalls', 'Bench::Python';

use Bench::Crowd ();
use Bench::HookCalls ();
use Bench::Python ();
use UserSync::Util qw(slurp);

sub application { return 'hook:app' }
sub url         { return $_[0]->own_url($_[1]) }

sub environment {
    my ($self) = @_;
    my $pg = $self->{world}->pg;
    my ($secret) = slurp(Bench::Crowd::secret($self->{world})) =~ /(\S+)/;
    return (
        BENCH_SECRET => $secret,
        BENCH_DSN    => sprintf('postgresql://www-data@127.0.0.1:%d/%s',
            $pg->port, $self->{db}),
        BENCH_CACHE  => $self->{cache} ? 300 : 0,
    );
}

1;
