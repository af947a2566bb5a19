package UserSync::Double;
# Starts the Supabase Auth double and controls it.
use strict;
use warnings;
use Carp qw(croak);
use Cwd qw(abs_path);
use File::Basename qw(dirname);
use HTTP::Tiny;
use IO::Socket::INET;
use JSON::PP ();
use POSIX qw(WNOHANG);
use Time::HiRes qw(sleep time);

my $PROGRAM = abs_path(dirname(__FILE__) . '/../../double/supabase-auth');
my @PORTS = qw(http control https https_wrong_name https_unknown_ca
    https_expired);
my $JSON = JSON::PP->new->utf8->allow_nonref->canonical;

# start(dir => DIR, autoconfirm => 0|1, config => {...}, fixtures => DIR,
#       ports => {name => N}, restore => FILE, timeout => seconds)
sub start {
    my ($class, %arg) = @_;
    croak 'dir is missing' if !defined $arg{dir};
    my $self = bless {dir => $arg{dir}, owner => $$}, $class;
    if (!-d $self->{dir}) { mkdir $self->{dir} or croak "$self->{dir}: $!" }
    $self->_spawn(%arg);
    return $self;
}

# attach(ready_file => PATH): control a double that somebody else started
sub attach {
    my ($class, %arg) = @_;
    my $file = $arg{ready_file} or croak 'ready_file is missing';
    my $self = bless {dir => dirname($file)}, $class;
    $self->_read_ready or croak "no running double: $file";
    return $self;
}

sub _spawn {
    my ($self, %arg) = @_;
    my @cmd = ($^X, $PROGRAM, '--state', $self->{dir});
    push @cmd, '--autoconfirm', $arg{autoconfirm} ? 1 : 0
        if defined $arg{autoconfirm};
    push @cmd, '--config', $JSON->encode($arg{config}) if $arg{config};
    push @cmd, '--fixtures', $arg{fixtures} if defined $arg{fixtures};
    push @cmd, '--restore', $arg{restore} if defined $arg{restore};
    my %port = %{$arg{ports} || {}};
    push @cmd, map { ('--port', "$_=$port{$_}") } sort keys %port;
    my $log = $self->{log} = "$self->{dir}/stderr.log";
    unlink "$self->{dir}/ready.json";
    my $pid = fork // croak "fork: $!";
    if (!$pid) {
        open STDIN, '<', '/dev/null';
        open STDERR, '>>', $log;
        open STDOUT, '>&', \*STDERR;
        exec @cmd or POSIX::_exit(127);
    }
    $self->{pid} = $pid;
    return $self->_wait_ready(time + ($arg{timeout} // 20));
}

sub _wait_ready {
    my ($self, $until) = @_;
    while (!$self->_read_ready) {
        my $gone = waitpid($self->{pid}, WNOHANG) != 0;
        delete $self->{pid} if $gone;
        next if !$gone && time < $until && sleep 0.02;
        my $why = $gone ? 'ended' : 'is not ready in time';
        $self->stop;
        die "the Supabase Auth double $why:\n" . $self->stderr;
    }
    delete $self->{holders};
    return $self;
}

sub _read_ready {
    my ($self) = @_;
    open my $fh, '<', "$self->{dir}/ready.json" or return 0;
    local $/;
    my $ready = eval { $JSON->decode(<$fh>) } or return 0;
    return 0 if $self->{pid} && $ready->{pid} != $self->{pid};
    $self->{ready} = $ready;
    return 1;
}

sub stderr {
    my ($self) = @_;
    open my $fh, '<', $self->{log} // "$self->{dir}/stderr.log" or return '';
    local $/;
    return <$fh> // '';
}

sub ready { return $_[0]{ready} }
sub pid { return $_[0]{ready}{pid} }
sub port { return $_[0]{ready}{$_[1] // 'http'} }
sub url { return 'http://127.0.0.1:' . $_[0]{ready}{http} }
sub ca_file { return $_[0]{ready}{ca_file} }

# https_url(), https_url('wrong_name' | 'unknown_ca' | 'expired')
sub https_url {
    my ($self, $which, $host) = @_;
    my $name = $which && $which ne 'good' ? "https_$which" : 'https';
    my $port = $self->{ready}{$name} or croak "no listener $name";
    return 'https://' . ($host // '127.0.0.1') . ":$port";
}

# key('publishable' | 'secret' | 'anon' | 'service_role')
sub key { return $_[0]{ready}{keys}{$_[1] // 'publishable'} }

sub _call {
    my ($self, $method, $path, $data) = @_;
    my $http = $self->{client} //= HTTP::Tiny->new(timeout => 30,
        proxy => undef, http_proxy => undef, no_proxy => '127.0.0.1');
    my $res = $http->request($method,
        "http://127.0.0.1:$self->{ready}{control}$path",
        {headers => {'Content-Type' => 'application/json'},
            content => defined $data ? $JSON->encode($data) : ''});
    croak "double: $method $path: $res->{status} $res->{content}"
        if !$res->{success};
    return length $res->{content} ? $JSON->decode($res->{content}) : undef;
}

sub reset { return $_[0]->_call(POST => '/reset') }

sub config {
    my ($self, %h) = @_;
    return %h ? $self->_call(POST => '/config', \%h)
        : $self->_call(GET => '/config');
}

sub add_user {
    my ($self, %h) = @_;
    return $self->_call(POST => '/users', \%h);
}

sub change_user {
    my ($self, $id, %h) = @_;
    return $self->_call(POST => "/users/$id", \%h);
}

sub user { return $_[0]->_call(GET => "/users/$_[1]") }
sub delete_user { return $_[0]->_call(DELETE => "/users/$_[1]") }

sub users {
    my $list = $_[0]->_call(GET => '/users');
    return wantarray ? @$list : $list;
}

sub fault {
    my ($self, %h) = @_;
    return $self->_call(POST => '/faults', \%h);
}

sub faults {
    my $list = $_[0]->_call(GET => '/faults');
    return wantarray ? @$list : $list;
}

sub clear_faults { return $_[0]->_call(DELETE => '/faults') }

# requests(), requests('token'): what arrived, in order
sub requests {
    my ($self, $op) = @_;
    my $list = $self->_call(GET => '/requests');
    $list = [grep { $_->{op} eq $op } @$list] if defined $op;
    return wantarray ? @$list : $list;
}

sub clear_requests { return $_[0]->_call(DELETE => '/requests') }
sub stats { return $_[0]->_call(GET => '/stats') }

# mint($id, claims => {...}, expires_in => N, alg => ..., header => {...}): an
# access token; what is undef of claims and header is left out
sub mint {
    my ($self, $id, %h) = @_;
    return $self->_call(POST => '/mint', {%h, id => $id})->{access_token};
}

# rotate('ES256' | 'RS256'): a new key signs from now on, whose kid is returned;
# those before stay in the JWKS until revoke_keys
sub rotate {
    my ($self, $alg) = @_;
    return $self->_call(POST => '/keys', {alg => $alg})->{kid};
}

sub revoke_keys { return $_[0]->_call(DELETE => '/keys') }

# header($request, $name): value of the first header of that name
sub header {
    my ($self, $req, $name) = @_;
    my ($h) = grep { lc $_->[0] eq lc $name } @{$req->{headers}};
    return $h ? $h->[1] : undef;
}

# wait_requests($op, $n, $seconds): true as soon as that many have arrived
sub wait_requests {
    my ($self, $op, $n, $seconds) = @_;
    return $self->_wait_stats($seconds,
        sub { ($_[0]{requests}{$op} // 0) >= $n });
}

# wait_connections($n, $seconds): the same for accepted connections
sub wait_connections {
    my ($self, $n, $seconds) = @_;
    return $self->_wait_stats($seconds, sub { $_[0]{connections} >= $n });
}

# wait_open($n, $seconds): until exactly that many are open
sub wait_open {
    my ($self, $n, $seconds) = @_;
    return $self->_wait_stats($seconds, sub { $_[0]{open} == $n });
}

sub _wait_stats {
    my ($self, $seconds, $enough) = @_;
    my $until = time + ($seconds // 10);
    while (!$enough->($self->stats)) {
        return 0 if time > $until;
        sleep 0.01;
    }
    return 1;
}

# stop(keep_ports => 1): connections are refused and nobody else gets the ports
sub stop {
    my ($self, %arg) = @_;
    my $pid = delete $self->{pid} or return;
    kill TERM => $pid;
    my $until = time + 5;
    while (waitpid($pid, WNOHANG) == 0) {
        if (time > $until) { kill KILL => $pid; waitpid $pid, 0; last }
        sleep 0.01;
    }
    $self->_hold_ports if $arg{keep_ports};
    return;
}

# a bound socket that does not listen: the double can still bind beside it
sub _hold_ports {
    my ($self) = @_;
    $self->{holders} = [map {
        IO::Socket::INET->new(LocalAddr => '127.0.0.1',
            LocalPort => $self->{ready}{$_}, ReuseAddr => 1, Proto => 'tcp')
            // die "port $self->{ready}{$_}: $@\n"
    } @PORTS];
    return;
}

# down(): save everything and stop; up(): back on the same ports
sub down {
    my ($self) = @_;
    croak 'not started by this process' if !$self->{pid};
    # what is answered after the state was saved would be forgotten
    $self->{saved}
        = $self->_call(POST => '/save', { last => JSON::PP::true })->{file};
    return $self->stop(keep_ports => 1);
}

sub up {
    my ($self) = @_;
    return $self->_spawn(restore => $self->{saved},
        ports => {map { $_ => $self->{ready}{$_} } @PORTS});
}

# "Supabase restarts": same ports, same users, all connections lost
sub restart {
    my ($self) = @_;
    $self->down;
    return $self->up;
}

sub DESTROY {
    my ($self) = @_;
    return if !$self->{pid} || $self->{owner} != $$;
    local ($@, $!, $?);
    return $self->stop;
}

1;
