package Bench::Contender;

# A contender: a server with the same upstream and the same database as all
# others.
#
#   my $it = Bench::Contender->start('module', $world, db => 'app');
#   $it->route('known')   # { url, headers } for load.lua
#   $it->pids             # whose CPU time and memory count, with their children
#   $it->stop
#
# tls => 1 uses TLS to the upstream; tuned => 1 sets the limits of
# conf/usersync-tuned.conf, and for the others what serves as many clients.

use strict;
use warnings;

use Time::HiRes qw(time);

use UserSync::HTTP ();
use UserSync::Util qw(new_dir reserve_port top_dir wait_until);

my %CLASS = (
    module    => 'Bench::Httpd',
    proxy     => 'Bench::Httpd',
    stock     => 'Bench::Httpd',
    python    => 'Bench::Python',
    node      => 'Bench::Node',
    nginx     => 'Bench::Nginx',
    direct    => 'Bench::Direct',
    alone     => 'Bench::Gate',
    gate      => 'Bench::Gate',
    login     => 'Bench::Gate',
    hook      => 'Bench::Hook',
    event     => 'Bench::Event',
    pyhook    => 'Bench::PythonHook',
    plain     => 'Bench::Proxied',
    off       => 'Bench::Proxied',
    on        => 'Bench::Proxied',
);

our %TITLE = (
    direct => 'the upstream itself, nothing in between',
    module => 'mod_usersync: check the row, insert it if missing',
    proxy  => 'mod_proxy_http, no database',
    stock  => 'mod_proxy_http, mod_auth_basic (anon), mod_authz_dbd: one'
        . ' prepared SQL statement per request',
    python => 'FastAPI, httpx.AsyncClient, SQLAlchemy asyncio, asyncpg;'
        . ' uvicorn, 2 workers, uvloop, no access log',
    node   => 'Node.js, node:http, fetch, pg; cluster of 2, no access log',
    nginx  => 'nginx as plain proxy, 2 workers, keep-alive to the upstream,'
        . ' no database',
    alone  => 'authentication, no database',
    gate   => 'authentication and UserSyncEnsure',
    login  => 'authentication and Require dbd-login: one prepared SQL'
        . ' statement per request',
    hook   => 'mod_usersync as token hook',
    event  => 'mod_usersync as receiver of events: each changes a row',
    pyhook => 'a token hook in FastAPI, asyncpg; uvicorn, 2 workers, uvloop,'
        . ' no access log',
    plain  => 'mod_proxy_http, mod_usersync not loaded',
    off    => 'mod_proxy_http, UserSyncEnsureResponse Off',
    on     => 'mod_proxy_http, UserSyncEnsureResponse On',
);

sub start {
    my ($class, $name, $world, %arg) = @_;
    my $of = $CLASS{$name} or die "no contender named $name\n";
    my $file = $of =~ s{::}{/}gr . '.pm';
    require $file;
    my $self = bless { db => 'app', %arg, name => $name, world => $world },
        $of;
    $self->launch;
    return $self;
}

sub name     { return $_[0]{name} }
sub trouble  { return () }

# The requests that it has answered so far, if it knows.
sub handled  { return }

sub has_rows {
    return $_[0]{name} =~ /^(?:module|stock|python|node|gate|login)$/;
}

# Must each request of this kind leave a row behind?
sub makes_rows {
    my ($self, $kind) = @_;
    return $kind ne 'known' && $self->has_rows;
}

# The users of one run's requests: mode, first and count of load.lua.
sub load {
    my ($self, $kind) = @_;
    return (mode => 'known', first => 0,
        count => $self->{count} || $self->{world}->rows($self->{db}))
        if $kind eq 'known';
    return (mode => 'fresh', first => $self->{world}->fresh_block);
}

# Seconds of load before the first round.
sub warm_up { return 2 }

sub upstream_url {
    my ($self) = @_;
    return $self->{tls} ? $self->{world}->tls_url : $self->{world}->url;
}

# What a client sends to a route, as load.lua does.
sub headers_for {
    my ($route, $email) = @_;
    my ($basic, $lines) = $route->{headers} =~ /^(basic)?(.*)/s;
    my %header = map { /^(.*?): (.*)\r\n$/ } split /(?<=\n)/, $lines;
    if ($basic) {
        require MIME::Base64;
        $header{Authorization}
            = 'Basic ' . MIME::Base64::encode("$email:x", '');
    }
    return %header;
}

# Sends one request for a known user and checks the answer: a benchmark of
# error pages is worthless.
sub check {
    my ($self, $kind) = @_;
    my $email = Bench::World::email(
        $kind eq 'known' ? 42 : $self->{world}->fresh_block);
    my $route = $self->route($kind);
    my %header = headers_for($route, $email);
    my $answer = UserSync::HTTP->exchange(POST => $route->{url},
        { email => $email, password => 'correct horse battery' }, %header);
    my $json = ref $answer->{json} eq 'HASH' ? $answer->{json} : {};
    my $id = $self->{world}->id_of($email);
    my $session = $json->{session} || $json;
    die "$self->{name} does not do $kind: $answer->{status} "
        . ($answer->{error} || $answer->{body}) . "\n"
        if $answer->{status} != 200
        || ($session->{user}{id} || '') ne $id
        || $json->{session} && $json->{user_id} ne $id;
    die "$self->{name}: no row came out of $kind\n"
        if $self->has_rows && !$self->{world}->pg->value($self->{db} =>
            'SELECT count(*) FROM users WHERE id = ?', $id);
    return;
}

# Waits for the right answer to a first request.
sub wait_ready {
    my ($self) = @_;
    my $why;
    wait_until {
        $self->still_there;
        eval { $self->check('known'); 1 } or do { $why = $@; 0 };
    } 30 or die "$self->{name} does not start: $why" . $self->said;
    return;
}

sub still_there {
    my ($self) = @_;
    die "$self->{name} has ended:\n" . $self->said
        unless $self->{process}->is_running;
    return;
}

sub said {
    my ($self) = @_;
    return join "\n", (split /\n/, $self->{process}->said)[-20 .. -1]
        if $self->{process}->said =~ tr/\n// > 20;
    return $self->{process}->said;
}

sub pids { return $_[0]{process}->pid }
sub stop { return $_[0]{process}->stop }

# A directory and a port for this contender.
sub settle {
    my ($self) = @_;
    $self->{dir}  = new_dir($self->{name});
    $self->{port} = reserve_port();
    return;
}

sub own_url { return "http://127.0.0.1:$_[0]{port}" . ($_[1] || '') }

# The path of a program of the benchmark.
sub app { return top_dir() . "/t/bench/apps/$_[1]" }

1;
