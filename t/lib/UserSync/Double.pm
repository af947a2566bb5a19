package UserSync::Double;
# Starts the Supabase Auth double and controls it.
use strict;
use warnings;
use Carp qw(croak);
use Cwd qw(abs_path);
use File::Basename qw(dirname);
use HTTP::Tiny;
use JSON::PP ();
use POSIX qw(WNOHANG);
use Time::HiRes qw(sleep time);
use UserSync::Util qw(reserved_socket);

my $PROGRAM = abs_path(dirname(__FILE__) . '/../../double/supabase-auth');
my @PORTS = qw(http control https https_wrong_name https_unknown_ca
    https_expired);
my $JSON = JSON::PP->new->utf8->allow_nonref->canonical;

# start(dir => DIR, autoconfirm => 0|1, config => {...}, fixtures => DIR,
#       ports => {name => N}, restore => FILE, timeout => seconds)
# Ports that are not given are reserved until stop(): the double can bind and
# listen beside the reservation, and while it is down nobody else can.
sub start {
    my ($class, %arg) = @_;
    croak 'dir is missing' if !defined $arg{dir};
    my $self = bless {dir => $arg{dir}, owner => $$}, $class;
    if (!-d $self->{dir}) { mkdir $self->{dir} or croak "$self->{dir}: $!" }
    my %port = %{$arg{ports} || {}};
    my @free = grep { !$port{$_} } @PORTS;
    $self->{reserved} = [map { reserved_socket() } @free];
    @port{@free} = map { $_->sockport } @{$self->{reserved}};
    $self->{ports} = \%port;
    $self->_spawn(%arg);
    return $self;
}

# attach(ready_file => PATH): control a double that was started elsewhere
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
    push @cmd, map { ('--port', "$_=$self->{ports}{$_}") } @PORTS;
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

# add_crowd(n => 100_000): many users who take no memory: AuthDouble::Crowd
sub add_crowd {
    my ($self, %h) = @_;
    return $self->_call(POST => '/crowd', \%h);
}

# dump(): the name of a file with all users: AuthDouble::Control
sub dump { return $_[0]->_call(POST => '/dump')->{file} }

# at(admin_list => 3, POST => "/users/$id", {banned => JSON::PP::true}): a call
# of the double's control port when the third request from now arrives
sub at {
    my ($self, $op, $nth, $method, $path, $body) = @_;
    return $self->_call(POST => '/at', {op => $op, nth => $nth,
        method => $method, path => $path, body => $body // {}});
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

sub release      { return $_[0]->_call(POST => '/release') }
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

# issued(): the access tokens of sessions since the last reset (restarts do not
# count), in order:
# {sub, session_id, method, time}; method is what a hook was told
sub issued { return @{$_[0]->_call(GET => '/issued')} }

# hook_stats(): {custom_access_token => {calls, tries, answers => {allowed,
# refused}}, ...} of the hooks that were called
sub hook_stats { return $_[0]->_call(GET => '/hooks') }

# mails(), mails($email): what users have got and not used: {id, email, phone,
# to, kind, code, hash}. kind is confirmation, recovery, reauthentication,
# email_change_current or email_change_new; code is what POST /verify takes with
# the address, hash the token of the link (GET /verify) and token_hash.
sub mails {
    my ($self, $email) = @_;
    my $query = defined $email ? "?email=$email" : '';
    return @{$self->_call(GET => "/mails$query")};
}

# otp($email), otp($email, 'confirmation'): one of them, or undef
sub otp {
    my ($self, $email, $kind) = @_;
    my ($mail) = grep { !$kind || $_->{kind} eq $kind } $self->mails($email);
    return $mail;
}

# auth_code($id, $method, $verifier): for the grant pkce; method: oauth,
# magiclink, email/signup ...
sub auth_code {
    my ($self, $id, $method, $verifier) = @_;
    return $self->_call(POST => '/code', {id => $id, method => $method,
        verifier => $verifier})->{code};
}

# oauth_code($id, $client_id, $verifier): for POST /oauth/token
sub oauth_code {
    my ($self, $id, $client, $verifier) = @_;
    return $self->_call(POST => '/grant', {id => $id, client_id => $client,
        verifier => $verifier})->{code};
}

# saml_response(sub => ..., email => ...): for POST /sso/saml/acs
sub saml_response {
    my ($self, %h) = @_;
    return $self->_call(POST => '/saml', \%h)->{response};
}

# id_token(provider => 'google', sub => ..., email => ..., name => ...): for the
# grant id_token
sub id_token {
    my ($self, %h) = @_;
    return $self->_call(POST => '/idtoken', \%h)->{id_token};
}

# mint($id, claims => {...}, expires_in => N, alg => ..., header => {...}): an
# access token; claims and headers that are undef are left out
sub mint {
    my ($self, $id, %h) = @_;
    return $self->_call(POST => '/mint', {%h, id => $id})->{access_token};
}

# rotate('ES256' | 'RS256'): signs with a new key from now on and returns its
# kid; older keys stay in the JWKS until revoke_keys
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

# for good: the ports are given back
sub stop {
    my ($self) = @_;
    $self->_end;
    delete $self->{reserved};
    return;
}

sub _end {
    my ($self) = @_;
    my $pid = delete $self->{pid} or return;
    kill TERM => $pid;
    my $until = time + 5;
    while (waitpid($pid, WNOHANG) == 0) {
        if (time > $until) { kill KILL => $pid; waitpid $pid, 0; last }
        sleep 0.01;
    }
    return;
}

# down(): save everything and stop, connections are refused; up(): back on the
# same ports
sub down {
    my ($self) = @_;
    croak 'not started by this process' if !$self->{pid};
    # an answer after the state was saved would be forgotten
    $self->{saved}
        = $self->_call(POST => '/save', { last => JSON::PP::true })->{file};
    return $self->_end;
}

sub up { return $_[0]->_spawn(restore => $_[0]{saved}) }

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
