package UserSync::Patroni;

# A Patroni cluster, a member on each of these hosts of UserSync::Hosts, which
# elects its leader by an etcd beside them:
#
#   my $cluster = UserSync::Patroni->start(map { host($_) } qw(db1 db2 db3));
#   my $leader = $cluster->leader;           # a UserSync::Postgres, by its socket
#   $leader->{on}->kill;
#   my ($new, $since) = $cluster->next_leader($leader);
#   $cluster->revive($leader);
#
# Its settings are those of docs/operations.md.

use strict;
use warnings;

use HTTP::Tiny ();
use Time::HiRes qw(time);

use UserSync::Hosts qw(hub);
use UserSync::Postgres ();
use UserSync::Services qw(documented start_service);
use UserSync::Util qw(new_dir slurp spew wait_until);

my @clusters;

sub start {
    my ($class, @hosts) = @_;
    my $self = bless {}, $class;
    push @clusters, $self;
    my ($client, $peer) = map { hub()->reserve_port } 1 .. 2;
    my $address = hub()->address;
    my $dir = new_dir('etcd');
    $self->{etcd} = start_service('etcd', dir => $dir, on => hub(),
        port => $client, command => ['/usr/bin/etcd', '--data-dir',
            "$dir/data", '--unsafe-no-fsync', '--log-level', 'warn',
            '--name', 'one', '--initial-cluster', "one=http://$address:$peer",
            (map { ("--$_", "http://$address:$client") }
                qw(listen-client-urls advertise-client-urls)),
            (map { ("--$_", "http://$address:$peer") }
                qw(listen-peer-urls initial-advertise-peer-urls))]);
    $self->{dcs} = "$address:$client";
    # the first one makes the cluster, the others copy it
    for my $host (@hosts) {
        my $member = $self->{member}{ $host->name } = $self->_member($host);
        wait_until { $self->state($member) == 200 } 60,
            'Patroni on ' . $host->name;
    }
    return $self;
}

sub _member {
    my ($self, $host) = @_;
    my $pg = UserSync::Postgres->attach({ dir => new_dir('patroni'),
        port => $host->reserve_port, on => $host });
    $pg->{rest} = $host->reserve_port;
    spew("$pg->{dir}/patroni.yml", $self->_config($pg));
    $pg->{patroni} = start_service('patroni', dir => $pg->{dir}, on => $host,
        port => $pg->{rest},
        command => ['/usr/bin/patroni', "$pg->{dir}/patroni.yml"]);
    return $pg;
}

# What the page says, and where things are on this host.
sub _config {
    my ($self, $pg) = @_;
    my ($name, $address) = ($pg->{on}->name, $pg->{on}->address);
    my ($bin) = UserSync::Postgres::bin('x') =~ m{(.*)/};
    return <<"YAML" . documented(yaml => qr/synchronous_mode/);
scope: app
name: $name
restapi:
  listen: $address:$pg->{rest}
  connect_address: $address:$pg->{rest}
etcd3:
  hosts: $self->{dcs}
postgresql:
  listen: $address:$pg->{port}
  connect_address: $address:$pg->{port}
  data_dir: $pg->{dir}/data
  bin_dir: $bin
  pgpass: $pg->{dir}/pgpass
  use_unix_socket: true
  use_unix_socket_repl: true
  authentication:
    superuser: {username: postgres}
    replication: {username: replicator}
    rewind: {username: postgres}
  parameters:
    unix_socket_directories: $pg->{dir}
    dynamic_shared_memory_type: mmap
    fsync: 'off'
    shared_buffers: 32MB
    timezone: UTC
    lc_messages: C
  pg_hba:
    - local all all trust
    - local replication all trust
    - host all all 0.0.0.0/0 trust
    - host replication all 0.0.0.0/0 trust
YAML
}

sub members { return map { $_[0]{member}{$_} } sort keys %{ $_[0]{member} } }

# The status of Patroni's answer on a path: /health, /primary, /replica.
sub state {
    my ($self, $pg, $path) = @_;
    my $url = 'http://' . $pg->{on}->address . ":$pg->{rest}"
        . ($path || '/health');
    return HTTP::Tiny->new(timeout => 2, proxy => undef, http_proxy => undef)
        ->get($url)->{status};
}

# Is it the primary, as PostgreSQL itself says?
sub is_primary {
    my ($pg) = @_;
    return eval { $pg->value(postgres => 'SELECT NOT pg_is_in_recovery()') };
}

sub leader {
    my ($self) = @_;
    return wait_until { (grep { is_primary($_) } $self->members)[0] } 60,
        'a primary';
}

# After the death of the leader: the one that was elected, and when it was
# promoted.
sub next_leader {
    my ($self, $old) = @_;
    my @others = grep { $_ != $old } $self->members;
    my $new = wait_until { (grep { is_primary($_) } @others)[0] } 90;
    return ($new, time) if $new;
    die "no other leader in time\n", map { _last_lines($_) } @others;
}

sub _last_lines {
    my ($pg) = @_;
    my @lines = split /\n/, slurp($pg->{patroni}{log}) || '';
    @lines = @lines[-15 .. -1] if @lines > 15;
    return $pg->{on}->name . ":\n", map {"$_\n"} @lines;
}

# Starts Patroni again where it has died.
sub revive {
    my ($self, $pg) = @_;
    unlink "$pg->{dir}/data/postmaster.pid";
    $pg->{dbh} = {};
    $pg->{patroni}->again;
    return $self;
}

# Waits until all members are there, and one of them is what commits wait for:
# as PostgreSQL says, and as etcd does, where the others look for who may become
# the leader.
sub settle {
    my ($self) = @_;
    wait_until {
        my $leader = $self->leader;
        my @others = grep { $_ != $leader } $self->members;
        my ($streaming, $sync) = map { eval { $leader->value(postgres =>
            "SELECT count(*) FROM pg_stat_replication WHERE $_") } || 0 }
            q{state = 'streaming'}, q{sync_state = 'sync'};
        return $streaming == @others && $sync == 1
            && 1 == grep { $self->state($_, '/sync') == 200 } @others;
    } 90, 'a whole cluster';
    return $self;
}

# Patroni's PostgreSQL outlives it.
END {
    local $?;
    $_->{on}->kill for map { $_->members } @clusters;
}

1;
