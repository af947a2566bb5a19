package UserSync::Httpd;

# A private httpd, for tests that need another configuration than the suite's
# server, or that restart it:
#
#   my $httpd = UserSync::Httpd->new(config => <<"CONF")->start;
#   ...
#   CONF
#   post($httpd->url('/auth/login'), {...});
#
# Its error log is checked like that of the suite's server, see expect_log.

use strict;
use warnings;

use File::Basename qw(basename);
use IO::Socket::INET ();
use Scalar::Util qw(weaken);
use Time::HiRes qw(time);

use UserSync::Log ();
use UserSync::Util qw(
    alive new_dir reserve_port run_command slurp spew top_dir wait_until
);

my @MODULES = qw(
    authn_core authz_core authz_host authz_user auth_basic authn_file alias dbd
    dir env headers mime proxy proxy_http reqtimeout rewrite setenvif
    socache_shmcb ssl status http2 usersync
);

# USERSYNC_HTTPD may name a wrapper, in the tree (t/sanitized-httpd) or not.
sub program {
    my $program = $ENV{USERSYNC_HTTPD} || '/usr/sbin/apache2';
    return $program =~ m{^/} ? $program : top_dir() . "/$program";
}

sub module_file {
    my ($name) = @_;
    return $ENV{USERSYNC_MODULE} || top_dir() . '/.libs/mod_usersync.so'
        if $name eq 'usersync';
    my $dir = $ENV{USERSYNC_MODULE_DIR} || '/usr/lib/apache2/modules';
    return "$dir/mod_$name.so";
}

# The names of the modules that the suite's server loads with this MPM.
sub modules {
    my ($mpm) = @_;
    # prefork serves one request per process: mod_http2 warns and stays off
    return ("mpm_$mpm", grep { $mpm ne 'prefork' || $_ ne 'http2' } @MODULES);
}

sub load_modules {
    return join '', map {
        sprintf qq{LoadModule %s_module "%s"\n}, $_, module_file($_)
    } @_;
}

my @servers;
my @finished;
my @logs;

# mpm      event, worker or prefork; the suite's own when not given
# config   lines for the main server; may use @PORT@, @DIR@ and, for the vhosts
#          below, @PORT:name@
# vhosts   { name => lines }: each on a port of its own
# modules  [names] to load as well ("unique_id"), without => [names] not to load
# children, threads   other than those of t/conf/common.conf
# early    lines before everything else, LoadModule included
# env      { NAME => value } to start httpd with
# on       a host of UserSync::Hosts
sub new {
    my ($class, %arg) = @_;
    my $self = bless {
        mpm => $ENV{USERSYNC_MPM} || 'event', config => '', vhosts => {},
        modules => [], without => [], early => '', env => {}, %arg,
        dir => new_dir('httpd'), owner => $$,
    }, $class;
    my $on = $self->{on};
    $self->{address} = $on ? $on->address : '127.0.0.1';
    ($self->{port}, @{ $self->{vhost_port} }{ keys %{ $self->{vhosts} } })
        = map { $on ? $on->reserve_port : reserve_port() }
        0 .. keys %{ $self->{vhosts} };
    my $name = sprintf '%s/%s.%d.', $ENV{USERSYNC_LOGS} || $self->{dir},
        basename($0), @logs / 2 + 1;
    $self->{error_log}  = $name . 'error_log';
    $self->{access_log} = $name . 'access_log';
    push @logs, @$self{qw(error_log access_log)};
    unlink @logs[-2, -1];
    $self->{conf_file} = "$self->{dir}/httpd.conf";
    $self->{pid_file}  = "$self->{dir}/httpd.pid";
    $self->{log} = UserSync::Log->new($self->{error_log});
    mkdir "$self->{dir}/htdocs";
    $self->write_config;
    push @servers, $self;
    weaken($servers[-1]);
    return $self;
}

# The suite's server, or any other that is stopped elsewhere.
sub attach {
    my ($class, $info) = @_;
    my $self = bless { address => '127.0.0.1', %$info }, $class;
    $self->{log} = UserSync::Log->new($self->{error_log}, $info->{log_from});
    return $self;
}

# Writes the configuration again, with other lines for the main server if
# given.
sub write_config {
    my ($self, $config) = @_;
    $self->{config} = $config if defined $config;
    my %without = map { $_ => 1 } @{ $self->{without} };
    my $text = join '', $self->{early},
        load_modules(grep { !$without{$_} } modules($self->{mpm}),
            @{ $self->{modules} }),
        $self->_basics, $self->_size, $self->{config}, "\n",
        map { $self->_vhost($_) } sort keys %{ $self->{vhosts} };
    $text =~ s/\@PORT:(\w+)\@/$self->{vhost_port}{$1}/g;
    $text =~ s/\@PORT\@/$self->{port}/g;
    $text =~ s/\@DIR\@/$self->{dir}/g;
    spew($self->{conf_file}, $text);
    return $self;
}

sub _basics {
    my ($self) = @_;
    my $common = top_dir() . '/t/conf/common.conf';
    return <<"CONF";
ServerRoot "$self->{dir}"
DefaultRuntimeDir "$self->{dir}"
PidFile "$self->{pid_file}"
ServerName $self->{address}
Listen $self->{address}:$self->{port}
DocumentRoot "$self->{dir}/htdocs"
ErrorLog "$self->{error_log}"
Include "$common"
CustomLog "$self->{access_log}" usersync
<IfModule mod_mime.c>
    TypesConfig /dev/null
</IfModule>
CONF
}

sub _size {
    my ($self) = @_;
    my ($children, $threads) = @$self{qw(children threads)};
    return '' unless $children || $threads;
    if ($self->{mpm} eq 'prefork') {
        $children ||= 12;
        return join '', map {"$_ $children\n"} qw(StartServers ServerLimit
            MaxRequestWorkers MaxSpareServers);
    }
    $children ||= 2;
    $threads  ||= 16;
    my $all = $children * $threads;
    return <<"CONF";
StartServers $children
ServerLimit $children
ThreadLimit $threads
ThreadsPerChild $threads
MaxRequestWorkers $all
MaxSpareThreads $all
CONF
}

sub _vhost {
    my ($self, $name) = @_;
    my $port = $self->{vhost_port}{$name};
    return <<"CONF";
Listen $self->{address}:$port
<VirtualHost $self->{address}:$port>
ServerName $self->{address}:$port
$self->{vhosts}{$name}
</VirtualHost>
CONF
}

sub url {
    my ($self, $path, $vhost) = @_;
    my $port = defined $vhost ? $self->{vhost_port}{$vhost} : $self->{port};
    die "no vhost named $vhost\n" unless $port;
    return "http://$self->{address}:$port" . (defined $path ? $path : '');
}

sub port       { return $_[0]{port} }
sub address    { return $_[0]{address} }
sub dir        { return $_[0]{dir} }
sub mpm        { return $_[0]{mpm} }
sub error_log  { return $_[0]{error_log} }
sub access_log { return $_[0]{access_log} }
sub log        { return $_[0]{log} }
sub conf_file  { return $_[0]{conf_file} }

sub run {
    my ($self, @arg) = @_;
    my @command = (program(), '-d', $self->{dir}, '-f', $self->{conf_file},
        @arg);
    @command = $self->{on}->command(@command) if $self->{on};
    return run_command($self->{env}, @command);
}

# (exit status, httpd's output). It includes what check_config and the setters
# log before the error log is open.
sub configtest { return $_[0]->run('-t') }

sub start {
    my ($self) = @_;
    my $mark = $self->{log}->mark;
    # after a kill: if nothing reaps orphans, a dead httpd seems to be alive
    unlink $self->{pid_file} unless $self->pid;
    my ($status, $said) = $self->run('-k', 'start');
    $self->{said} = $said;
    die "httpd does not start:\n$said" . (slurp($self->{error_log}) || '')
        if $status;
    wait_until { $self->pid } 30, 'the pid file of httpd';
    wait_until {
        IO::Socket::INET->new(PeerAddr => $self->{address},
            PeerPort => $self->{port})
    } 30, 'httpd to accept connections';
    # it listens before that: a signal could come too early, and who restarts it
    # would take this line for the new generation's
    wait_until { $self->_is_running($mark) } 30, 'httpd to run';
    return $self;
}

# What httpd wrote to the terminal when it was started.
sub said { return $_[0]{said} }

sub pid {
    my ($self) = @_;
    my ($pid) = (slurp($self->{pid_file}) || '') =~ /^(\d+)/;
    return $pid && alive($pid) ? $pid : undef;
}

sub children {
    my ($self) = @_;
    my $pid = $self->pid or return;
    opendir my $proc, '/proc' or return;
    # through a list: sort has no value in scalar context
    my @pids = sort { $a <=> $b } grep {
        (slurp("/proc/$_/stat") || '') =~ /\) [^Z] (\d+)/ && $1 == $pid
    } grep {/^\d+$/} readdir $proc;
    return @pids;
}

# Like `apachectl graceful`; returns when the new generation is running.
sub graceful { return $_[0]->_restart('USR1') }

# Like `apachectl restart`.
sub restart { return $_[0]->_restart('HUP') }

# Has a generation started since the mark?
sub _is_running {
    my ($self, $mark) = @_;
    return scalar grep {/resuming normal operations/}
        $self->{log}->since($mark);
}

sub _restart {
    my ($self, $signal) = @_;
    my $mark = $self->{log}->mark;
    my %old = map { $_ => 1 } $self->children;
    $self->_let_go if $signal eq 'HUP';
    kill $signal, $self->pid or die "no httpd to send $signal to\n";
    wait_until {
        $self->_is_running($mark) && grep { !$old{$_} } $self->children
    } 30, 'httpd to restart';
    return $self;
}

# Before all children are ended at once: mpm_event and mpm_worker shut down
# sockets that their threads are just closing, and sometimes crash. First let
# those go that are about to.
sub _let_go {
    my ($self) = @_;
    wait_until { !$self->_connections } 0.5;
    return;
}

# Kills the children (KILL, or the signal given): httpd replaces them.
sub kill_children {
    my ($self, $signal) = @_;
    my @old = $self->children;
    kill $signal || 'KILL', @old;
    wait_until {
        !(grep { alive($_) } @old) && $self->children
    } 30, 'httpd to replace its children';
    return @old;
}

# Sockets of clients that its workers still have, with or without TLS.
sub _connections {
    my ($self) = @_;
    my %mine = map { sprintf('%04X', $_) => 1 }
        $self->{port}, values %{ $self->{vhost_port} || {} };
    my $pid = $self->pid || 'self';
    # sl local_address rem_address st ...: 0A listens, inode 0 is the kernel's
    return grep {
        my (undef, $local, undef, $state, @more) = split;
        $mine{ (split /:/, $local)[1] || '' } && $state ne '0A' && $more[5];
    } split /\n/, slurp("/proc/$pid/net/tcp") || '';
}

# TERM, or WINCH for a graceful stop; returns the seconds that it took.
sub stop {
    my ($self, $signal) = @_;
    my $pid = $self->pid or return 0;
    my @all = ($pid, $self->children);
    kill 'CONT', @all;
    $self->_let_go if !$signal;
    my $start = time;
    kill $signal || 'TERM', $pid;
    my $gone = wait_until { !grep { alive($_) } @all } 30;
    if (!$gone) {
        kill 'KILL', grep { alive($_) } @all;
        warn "httpd $pid had to be killed\n";
    }
    unlink $self->{pid_file};
    return time - $start;
}

# Like in UserSync::Test, for the log of this server.
sub expect_log { my $self = shift; $self->{log}->expect(@_); return $self }
sub allow_log  { my $self = shift; $self->{log}->allow(@_);  return $self }
sub log_since  { my $self = shift; return $self->{log}->since(@_) }

sub remove_logs { unlink @logs; return }

# Stops what this test has started and returns the logs.
sub stop_all {
    my @alive = grep {$_} @servers;
    $_->stop for @alive;
    return ((map { $_->{log} } @alive), splice @finished);
}

sub DESTROY {
    my ($self) = @_;
    return unless ($self->{owner} || 0) == $$;
    local ($@, $?, $!);
    eval { $self->stop };
    # its log is still to be checked at the end of the test
    push @finished, $self->{log};
    return;
}

END {
    $_->DESTROY for grep {$_} @servers;
}

1;
