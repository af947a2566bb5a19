package Bench::Python;

# apps/service.py behind uvicorn, two workers.

use strict;
use warnings;

use parent -norequire, 'Bench::Contender';

use Bench::Process ();

sub launch {
    my ($self) = @_;
    $self->settle;
    my $world = $self->{world};
    my $pg = $world->pg;
    $self->{process} = Bench::Process->start(
        command => ['/usr/bin/uvicorn', 'service:app', '--app-dir',
            $self->app(''), '--workers', 2, '--host', '127.0.0.1', '--port',
            $self->{port}, '--no-access-log', '--log-level', 'warning',
            '--backlog', 2048],
        env => {
            BENCH_UPSTREAM => $self->upstream_url,
            BENCH_KEY      => $world->key,
            BENCH_DSN      => sprintf('postgresql+asyncpg://www-data@'
                . '127.0.0.1:%d/%s', $pg->port, $self->{db}),
            PYTHONDONTWRITEBYTECODE => 1,
            $self->{tls} ? (BENCH_CA => $world->ca_file) : (),
        },
        log => "$self->{dir}/log");
    $self->wait_ready;
    return;
}

sub route {
    my ($self, $kind) = @_;
    return { headers => '', url => $self->own_url($kind eq 'register'
        ? '/auth/register' : '/auth/login') };
}

1;
