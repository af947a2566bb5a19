package Bench::Node;

# apps/service.js, a cluster of two. NODE_PATH leads to Debian's node-pg, or to
# what t/bench/node-pg unpacked where it cannot be installed.

use strict;
use warnings;

use parent -norequire, 'Bench::Contender';

use Bench::Process ();
use UserSync::Util qw(top_dir);

sub launch {
    my ($self) = @_;
    $self->settle;
    my $world = $self->{world};
    $self->{process} = Bench::Process->start(
        command => ['node', $self->app('service.js')],
        env => {
            NODE_ENV       => 'production',
            NODE_PATH      => join(':', '/usr/share/nodejs',
                top_dir() . '/build/bench/node-pg/usr/share/nodejs'),
            BENCH_UPSTREAM => $self->upstream_url,
            BENCH_KEY      => $world->key,
            BENCH_PORT     => $self->{port},
            BENCH_DB_HOST  => $world->pg->host,
            BENCH_DB_PORT  => $world->pg->port,
            BENCH_DB       => $self->{db},
            $self->{tls} ? (NODE_EXTRA_CA_CERTS => $world->ca_file) : (),
        },
        log => "$self->{dir}/log");
    $self->wait_ready;
    return;
}

sub route { return Bench::Python::route(@_) }

# V8's compiler needs some thousand requests to finish.
sub warm_up { return 10 }

require Bench::Python;

1;
