package Bench::Python;

# apps/service.py, or another application, behind uvicorn, two workers.

use strict;
use warnings;

use parent -norequire, 'Bench::Contender';

use Bench::Process ();

sub launch {
    my ($self) = @_;
    $self->settle;
    $self->{process} = Bench::Process->start(
        command => ['/usr/bin/uvicorn', $self->application, '--app-dir',
            $self->app(''), '--workers', 2, '--host', '127.0.0.1', '--port',
            $self->{port}, '--no-access-log', '--log-level', 'warning',
            '--backlog', 2048],
        env => { PYTHONDONTWRITEBYTECODE => 1, $self->environment },
        log => "$self->{dir}/log");
    $self->wait_ready;
    return;
}

sub application { return 'service:app' }

sub environment {
    my ($self) = @_;
    my $world = $self->{world};
    return (
        BENCH_UPSTREAM => $self->upstream_url,
        BENCH_KEY      => $world->key,
        BENCH_DSN      => sprintf('postgresql+asyncpg://www-data@'
            . '127.0.0.1:%d/%s', $world->pg->port, $self->{db}),
        $self->{tls} ? (BENCH_CA => $world->ca_file) : (),
    );
}

sub route {
    my ($self, $kind) = @_;
    return { headers => '', url => $self->own_url($kind eq 'register'
        ? '/auth/register' : '/auth/login') };
}

1;
