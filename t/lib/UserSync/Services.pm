package UserSync::Services;

# Programs that stand between the servers of a test, or beside them: pgbouncer,
# redis, haproxy, etcd, and whatever else runs in the foreground.
#
#   my $redis = start_redis(on => hub());
#   "redis:$redis->{address}:$redis->{port}"
#
# on => a host of UserSync::Hosts; without it they listen on 127.0.0.1. They end
# with the test, or by stop, at once.

use strict;
use warnings;

use Exporter qw(import);
use IO::Socket::INET ();
use Scalar::Util qw(weaken);

use UserSync::Background ();
use UserSync::Util qw(new_dir reserve_port slurp spew top_dir wait_until);

our @EXPORT = qw(
    documented start_haproxy start_pgbouncer start_redis start_service
);

my @running;

# name, command => [...], and what else the object is to know; dir, where its
# log is; port => until it accepts connections there.
sub start_service {
    my ($name, %arg) = @_;
    my $self = bless { name => $name, dir => $arg{dir} || new_dir($name),
        address => _address($arg{on}), %arg }, __PACKAGE__;
    $self->{log} = "$self->{dir}/output";
    push @running, $self;
    weaken($running[-1]);
    return $self->again;
}

# Once more, after a stop or the death of its host.
sub again {
    my ($self) = @_;
    my @command = @{ $self->{command} };
    @command = $self->{on}->command(@command) if $self->{on};
    $self->{job} = UserSync::Background->start(sub {
        open STDERR, '>>', $self->{log};
        open STDOUT, '>&', \*STDERR;
        exec { $command[0] } @command or die "$command[0]: $!\n";
    });
    wait_until { $self->listens || $self->{job}->is_done } 30;
    die "$self->{name} does not start:\n" . (slurp($self->{log}) || '')
        unless $self->listens;
    return $self;
}

sub listens {
    my ($self) = @_;
    return !$self->{port} || IO::Socket::INET->new(
        PeerAddr => $self->{address}, PeerPort => $self->{port});
}

sub pid { return $_[0]{job}->pid }

sub stop {
    my ($self) = @_;
    delete $self->{job}; # kills it
    return;
}

# Before UserSync::Test looks for what was forgotten.
END {
    local $?;
    $_->stop for grep {$_} @running;
}

sub _address { return $_[0] ? $_[0]->address : '127.0.0.1' }

sub _port { return $_[0] ? $_[0]->reserve_port : reserve_port() }

sub _program {
    my ($name) = @_;
    my ($program) = grep {-x} map {"$_/$name"}
        qw(/usr/sbin /usr/bin /usr/local/sbin /usr/local/bin);
    return $program || die "$name is not installed\n";
}

sub start_redis {
    my (%arg) = @_;
    my $port = _port($arg{on});
    return start_service('redis', %arg, port => $port, command => [
        _program('redis-server'), '--port', $port, '--save', '', '--bind',
        _address($arg{on}), '--protected-mode', 'no']);
}

# With the lines of docs/operations.md, in front of a cluster that is on the same machine or, with
# to => "host=... port=...", elsewhere: see lead_to. size => connections to PostgreSQL.
sub start_pgbouncer {
    my ($pg, %arg) = @_;
    my ($dir, $port, $address)
        = (new_dir('bouncer'), _port($arg{on}), _address($arg{on}));
    spew("$dir/users", qq{"www-data" ""\n});
    my %here = (listen_addr => $address, listen_port => $port,
        auth_type => 'trust', auth_file => "$dir/users",
        default_pool_size => $arg{size});
    my ($rest) = documented(ini => qr/pool_mode/) =~ /^(\[pgbouncer\].*)/ms;
    for my $name (sort keys %here) {
        $rest =~ s/^$name = .*$/$name = $here{$name}/m
            or die "no $name in docs/operations.md\n";
    }
    spew("$dir/rest", "$rest\nunix_socket_dir =\nlogfile = $dir/log\n"
        . "pidfile = $dir/pid\n");
    _database($dir, $arg{to} || "host=$pg->{dir} port=$pg->{port}");
    return start_service('pgbouncer', %arg, dir => $dir, port => $port,
        pgbouncer_log => "$dir/log",
        command => [_program('pgbouncer'), '-q', "$dir/ini"]);
}

sub _database {
    my ($dir, $to) = @_;
    spew("$dir/ini", "[databases]\napp = $to dbname=app\n%include $dir/rest\n");
    return;
}

# For pgbouncer: the database is elsewhere from now on.
sub lead_to {
    my ($self, $to) = @_;
    _database($self->{dir}, $to);
    kill 'HUP', $self->pid;
    return $self;
}

# The block of docs/operations.md in this language that contains this.
sub documented {
    my ($language, $what) = @_;
    my ($text) = grep {/$what/} slurp(top_dir() . '/docs/operations.md')
        =~ /^```$language\n(.*?)^```/msg;
    return $text || die "no $language with $what in docs/operations.md\n";
}

# With this configuration, which has one line "bind".
sub start_haproxy {
    my ($config, %arg) = @_;
    my ($dir, $port, $address)
        = (new_dir('haproxy'), _port($arg{on}), _address($arg{on}));
    $config =~ s/^( *bind ).*$/$1$address:$port/m
        or die "nothing that haproxy listens on in $config\n";
    spew("$dir/cfg", $config);
    return start_service('haproxy', %arg, dir => $dir, port => $port,
        command => [_program('haproxy'), '-db', '-f', "$dir/cfg"]);
}

1;
