package UserSync::Clients;

# Supabase's own client libraries, each in a program that does what a test says
# (t/clients): the test sees when a promise resolves, and can look at the table
# before anything else happens.
#
#   use UserSync::Clients;
#
#   needs_library('js');
#   my $client = UserSync::Clients->start('js');
#   $client->create(url => $httpd->url);
#   my $got = $client->call('auth.signUp', { email => ..., password => ... });
#   is $got->{error}, undef;
#   ok has_row($got->{user}{id});
#   is_deeply $client->look->{events}, ['INITIAL_SESSION', 'SIGNED_IN'];
#
# Names are supabase-js's; supabase-py has the same with underscores.

use strict;
use warnings;

use Exporter qw(import);
use IO::Select ();
use IPC::Open3 qw(open3);
use JSON::PP ();
use Test::More ();
use Time::HiRes qw(time);

use UserSync::Test ();
use UserSync::Util qw(new_dir patience run_command slurp top_dir);

our @EXPORT = qw(needs_library);

my $JSON = JSON::PP->new->utf8->canonical;

# Where run-suite has put what t/clients/install fetched
sub _tools { return $ENV{USERSYNC_CLIENTS} || top_dir() . '/build/clients' }

my %PROGRAM = (
    js => {
        command  => ['node', top_dir() . '/t/clients/client.mjs'],
        part     => 'node',
        registry => 'npm',
        package  => 'node_modules/@supabase/supabase-js/package.json',
    },
    py => {
        command  => ['/usr/bin/python3', top_dir() . '/t/clients/client.py'],
        part     => 'python',
        registry => 'PyPI',
        package  => 'supabase',
    },
);

# ---- is it there?

# Skips the file where Node.js is not, or is older than supabase-js allows; on
# the build server it fails instead. It fails everywhere if the packages have
# not come.
sub needs_library {
    my ($which) = @_;
    my $program = $PROGRAM{$which};
    _needs_node() if $which eq 'js';
    return 1 if -e join '/', _tools(), @$program{qw(part package)};
    my $why = slurp(_tools() . "/$program->{part}.failed")
        || "They were not fetched.\n";
    die "the packages of $program->{registry} are not here: run "
        . "t/clients/install\n$why";
}

sub _needs_node {
    my ($status, $said) = run_command('sh', '-c', 'node --version && npm -v');
    my ($major) = $said =~ /^v(\d+)[.]/;
    return if $status == 0 && $major >= 18;
    my $why = 'supabase-js needs Node.js 18 and npm, which are not on this '
        . "machine: its test is left out\n$said";
    die $why if $ENV{CI};
    Test::More::diag($why);
    return Test::More::plan(skip_all => 'no Node.js 18 with npm');
}

# ---- the program

sub start {
    my ($class, $which) = @_;
    my $self = bless { which => $which, n => 0, got => {}, buffer => '',
        owner => $$, log => new_dir('client') . '/said' }, $class;
    open my $log, '>', $self->{log} or die "$self->{log}: $!";
    local %ENV = (%ENV, USERSYNC_CLIENTS => _tools(),
        PYTHONPATH => _tools() . '/python', PYTHONNOUSERSITE => 1,
        PYTHONPYCACHEPREFIX => "$ENV{USERSYNC_RUN}/pycache", NO_PROXY => '*');
    $self->{pid} = open3(my $in, my $out, '>&' . fileno $log,
        @{ $PROGRAM{$which}{command} });
    $in->autoflush(1);
    @$self{qw(in out)} = ($in, $out);
    return $self;
}

# A client with no session; url => of the server, auth => options of the
# library.
sub create {
    my ($self, %arg) = @_;
    my %auth = (autoRefreshToken => JSON::PP::false(), flowType => 'implicit',
        %{ $arg{auth} || {} });
    $self->result($self->_send({ n => $self->{n} + 1, client => {
        url => $arg{url}, key => UserSync::Test::double()->key,
        auth => $self->_named(\%auth) } }));
    return $self;
}

# signInWithOAuth as sign_in_with_oauth
sub _underscored {
    my ($name) = @_;
    $name =~ s/OAuth/Oauth/g;
    $name =~ s/([a-z0-9])([A-Z])/$1_\l$2/g;
    return $name;
}

# the names in a value, as the library has them
sub _named {
    my ($self, $value) = @_;
    return $value if $self->{which} ne 'py';
    return [map { $self->_named($_) } @$value] if ref $value eq 'ARRAY';
    return $value if ref $value ne 'HASH';
    return { map { _underscored($_) => $self->_named($value->{$_}) }
        keys %$value };
}

# Begins a call; its number is for finished() and result().
sub begin {
    my ($self, $name, @args) = @_;
    my $n = $self->{n} + 1;
    $name = _underscored($name) if $self->{which} eq 'py';
    return $self->_send({ n => $n, call => $name,
        args => $self->_named(\@args) });
}

sub _send {
    my ($self, $told) = @_;
    local $SIG{PIPE} = 'IGNORE';
    print { $self->{in} } $JSON->encode($told), "\n"
        or die "the program is gone: $!\n" . $self->said;
    return $self->{n} = $told->{n};
}

# Reads what is there, and waits so many seconds for more.
sub _read {
    my ($self, $seconds) = @_;
    return unless IO::Select->new($self->{out})->can_read($seconds);
    sysread $self->{out}, $self->{buffer}, 65536, length $self->{buffer}
        or die "the program has ended:\n" . $self->said;
    while ($self->{buffer} =~ s/\A(.*)\n//) {
        my $said = $JSON->decode($1);
        $self->{got}{ $said->{n} } = $said;
    }
    return 1;
}

# Has the call resolved?
sub finished {
    my ($self, $n) = @_;
    while ($self->_read(0)) { }
    return exists $self->{got}{$n};
}

# What it resolved to: data, error (name, status, code, message), and user, the
# user in the data.
sub result {
    my ($self, $n, $seconds) = @_;
    my $until = time + ($seconds || 30) * patience();
    while (!exists $self->{got}{$n}) {
        my $left = $until - time;
        die "no answer of the program:\n" . $self->said if $left <= 0;
        $self->_read($left);
    }
    my $got = delete $self->{got}{$n};
    my $data = ref $got->{data} eq 'HASH' ? $got->{data} : {};
    my $session = ref $data->{session} eq 'HASH' ? $data->{session} : {};
    $got->{user} = $data->{user} || $session->{user}
        || ($data->{id} && $data->{aud} ? $data : undef);
    return $got;
}

sub call {
    my ($self, @call) = @_;
    return $self->result($self->begin(@call));
}

# {events => [names], session => what the library keeps, or undef}
sub look {
    my ($self) = @_;
    return $self->result($self->_send({ n => $self->{n} + 1, look => 1 }))
        ->{data};
}

# What it has written for people to read.
sub said { return slurp($_[0]{log}) || '' }

sub stop {
    my ($self) = @_;
    my $pid = delete $self->{pid} or return;
    close $self->{in};
    kill 'TERM', $pid;
    local ($?, $!);
    waitpid $pid, 0;
    return;
}

sub DESTROY {
    my ($self) = @_;
    return unless ($self->{owner} || 0) == $$;
    return $self->stop;
}

1;
