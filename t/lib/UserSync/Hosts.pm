package UserSync::Hosts;

# Several hosts on one machine, each in a network namespace of its own behind
# one switch. The line stands before that of UserSync::Test:
#
#   use UserSync::Hosts;
#   use UserSync::Test -keep;
#
#   my $web = host('web1');
#   my $httpd = UserSync::Httpd->new(on => $web, ...)->start;
#   $web->kill;                  # all its processes, at once
#   $web->unplug; $web->plug;    # its cable: nobody answers, nobody refuses
#
# The test starts itself again in a user namespace, in which it may make
# networks; the suite's own servers on 127.0.0.1 are out of its reach, except
# PostgreSQL by its socket. Where the kernel or a container refuses that, the
# same test runs with hosts that are addresses of the loopback interface, and
# says so. All that such hosts cannot do is to be unplugged: see has_cables.

use strict;
use warnings;

use Exporter ();
use IO::Socket::INET ();
use POSIX ();

use UserSync::Background ();
use UserSync::Relay ();
use UserSync::Util qw(alive reserved_socket run_command slurp wait_until);

our @ISA    = qw(Exporter);
our @EXPORT = qw(has_cables host hub);

my @TO_NAMESPACE = qw(unshare --user --map-current-user --keep-caps --net --);
my $PROBE = 'ip link add hub type bridge'
    . ' && ip link add host1 type veth peer name eth0 && ip link set lo up';
my %SETNS = (x86_64 => 308, aarch64 => 268);
my $CLONE_NEWNET = 0x40000000;

my $is_net;
my (%hosts, @gates);

# ---- namespaces

sub import {
    my ($class, @more) = @_;
    $class->export_to_level(1, $class, @more);
    return if defined $is_net || !$ENV{USERSYNC_RUN};
    _enter() unless $ENV{USERSYNC_HOSTS};
    $is_net = $ENV{USERSYNC_HOSTS} eq 'namespaces';
    _say_why() unless $is_net;
    _switch() if $is_net;
    return;
}

# Runs this program again, in namespaces if that is allowed.
sub _enter {
    my ($status, $said) = $SETNS{ _machine() }
        ? run_command(@TO_NAMESPACE, 'sh', '-c', $PROBE)
        : (1, 'the number of setns is not known on ' . _machine());
    $ENV{USERSYNC_HOSTS} = $status ? 'loopback' : 'namespaces';
    $ENV{USERSYNC_HOSTS_WHY} = $said;
    return if $status;
    exec { $TO_NAMESPACE[0] } @TO_NAMESPACE, $^X, '-It/lib', $0, @ARGV
        or die "$TO_NAMESPACE[0]: $!\n";
}

sub _machine { return (POSIX::uname())[4] }

sub _say_why {
    my ($why) = split /\n/, $ENV{USERSYNC_HOSTS_WHY} || 'USERSYNC_HOSTS';
    print STDERR '# no network namespaces, so hosts are addresses of '
        . "127.0.0.0/8: $why\n";
    return;
}

sub _do {
    my (@command) = @_;
    my ($status, $said) = run_command(@command);
    die "@command: $said\n" if $status;
    return;
}

sub _switch {
    _do('ip', @$_) for [qw(link set lo up)], [qw(link add hub type bridge)],
        [qw(addr add 10.77.0.254/24 dev hub)], [qw(link set hub up)];
    return;
}

# Can a host be unplugged?
sub has_cables { return $is_net }

# ---- hosts

# The host of that name, made when it is first asked for.
sub host {
    my ($name) = @_;
    return $hosts{$name} ||= __PACKAGE__->_new($name, 1 + keys %hosts);
}

# The rest of the network, where the test itself is.
sub hub {
    return $hosts{hub} ||= bless { name => 'hub', is_hub => 1,
        address => $is_net ? '10.77.0.254' : '127.0.1.254' }, __PACKAGE__;
}

sub _new {
    my ($class, $name, $number) = @_;
    my $self = bless { name => $name, number => $number,
        address => ($is_net ? '10.77.0.' : '127.0.1.') . $number }, $class;
    $self->_wire if $is_net;
    return $self;
}

# The namespace lives as long as a process in it.
sub _wire {
    my ($self) = @_;
    local $ENV{USERSYNC_TEST} = ''; # it may outlive the test by a moment
    $self->{holder} = UserSync::Background->start(sub {
        exec qw(unshare --net -- sleep infinity) or die "unshare: $!\n";
    });
    my $pid = $self->{holder}->pid;
    $self->{net} = "/proc/$pid/ns/net";
    my $here = readlink '/proc/self/ns/net';
    wait_until { (readlink $self->{net} || $here) ne $here } 10,
        'a network namespace';
    $self->{port} = "host$self->{number}";
    _do('ip', 'link', 'add', $self->{port}, 'type', 'veth', 'peer', 'name',
        'eth0', 'netns', $pid);
    $self->plug;
    _do($self->_inside, 'ip', @$_) for [qw(link set lo up)],
        ['addr', 'add', "$self->{address}/24", 'dev', 'eth0'],
        [qw(link set eth0 up)];
    _do(qw(ip link set), $self->{port}, qw(master hub));
    return;
}

sub name    { return $_[0]{name} }
sub address { return $_[0]{address} }

sub plug   { return $_[0]->_cable('up') }
sub unplug { return $_[0]->_cable('down') }

sub _cable {
    my ($self, $state) = @_;
    _do(qw(ip link set), $self->{port}, $state) if $is_net;
    return $self;
}

sub _inside {
    my ($self) = @_;
    return ('nsenter', "--net=$self->{net}", '--');
}

# A command as this host runs it, without the rights that the test has.
sub command {
    my ($self, @command) = @_;
    return @command if $self->{is_hub};
    my @here = $is_net
        ? ($self->_inside,
            qw(setpriv --inh-caps=-all --ambient-caps=-all --)) : ();
    return (@here, 'env', "USERSYNC_HOST=$self->{name}", @command);
}

# Calls the block in this host's network, for the sockets that it makes.
sub within {
    my ($self, $code) = @_;
    return $code->() if !$is_net || $self->{is_hub};
    open my $here,  '<', '/proc/self/ns/net' or die "this network: $!\n";
    open my $there, '<', $self->{net}        or die "$self->{net}: $!\n";
    _setns($there);
    my @got = eval { $code->() };
    my $trouble = $@;
    _setns($here);
    die $trouble if $trouble;
    return wantarray ? @got : $got[0];
}

sub _setns {
    my ($fh) = @_;
    syscall($SETNS{ _machine() }, fileno $fh, $CLONE_NEWNET) == 0
        or die "setns: $!\n";
    return;
}

# A port of this host that is reserved for as long as the test lives.
sub reserve_port {
    my ($self) = @_;
    push @gates, $self->within(sub { reserved_socket($self->{address}) });
    return $gates[-1]->sockport;
}

# A port of 127.0.0.1 on this host that leads to a port of 127.0.0.1 here: the
# module talks http to loopback addresses only.
sub tunnel {
    my ($self, $port) = @_;
    return $port unless $is_net;
    my $listener = $self->within(sub {
        IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 0,
            Listen => 128, Proto => 'tcp', ReuseAddr => 1);
    }) or die "no tunnel: $@\n";
    local $ENV{USERSYNC_TEST} = '';
    my $relay = UserSync::Relay->start($port, listener => $listener);
    push @gates, $relay;
    return $relay->port;
}

# All processes of this host, without the one that holds its namespace.
sub processes {
    my ($self) = @_;
    opendir my $proc, '/proc' or die "/proc: $!\n";
    my @pids = grep { /^\d+$/ && $_ != $$ } readdir $proc;
    return $is_net ? $self->_in_namespace(@pids) : $self->_by_name(@pids);
}

sub _in_namespace {
    my ($self, @pids) = @_;
    my $net = readlink $self->{net};
    return grep {
        $_ != $self->{holder}->pid && (readlink "/proc/$_/ns/net" || '') eq $net
            && alive($_)
    } @pids;
}

# Backends of PostgreSQL overwrite their environment: they are known by their
# parents.
sub _by_name {
    my ($self, @pids) = @_;
    my (%mine, %parent);
    for my $pid (@pids) {
        ($parent{$pid}) = (slurp("/proc/$pid/stat") || '') =~ /\) \w (\d+)/;
        $mine{$pid} = 1 if (slurp("/proc/$pid/environ") || '')
            =~ /(?:^|\0)USERSYNC_HOST=\Q$self->{name}\E(?:\0|$)/;
    }
    my $n = 0;
    while ($n != keys %mine) {
        $n = keys %mine;
        $mine{$_} = 1 for grep { $parent{$_} && $mine{ $parent{$_} } } @pids;
    }
    return grep { alive($_) } keys %mine;
}

# As if the machine had lost power, but that its kernel refuses connections.
sub kill {
    my ($self) = @_;
    wait_until {
        my @pids = $self->processes or return 1;
        CORE::kill 'STOP', @pids;
        CORE::kill 'KILL', @pids;
        return 0;
    } 20, "the death of $self->{name}";
    return $self;
}

1;
