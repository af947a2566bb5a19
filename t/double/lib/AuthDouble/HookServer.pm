package AuthDouble::HookServer;
# A server of the project, for the tests of the double: it writes down how it is
# called as a hook and answers as it is told. It is a process of its own.
#
#   my $server = AuthDouble::HookServer->start($dir);
#   $double->config(hooks => {custom_access_token => {uri => $server->uri}});
#   $server->answer({status => 503}, {error => {message => 'no'}});
#   ... $server->requests
#   $server->hang_up;         all its connections end, idle ones too
#
# answer(...): what the next requests get, each one of
#   {status, headers => [[name, value]...], body}   as it stands there
#   {error => {...}}, {claims => text}              with 200
#   {hold => 1}       waits for release, and then goes on as it says besides
#   {close => 1}      no answer, the end of the connection
#   {part => 1}       half of the body, and the end of the connection
# Without one: {"claims": what was sent}, or {} for other hooks.
use strict;
use warnings;
use HTTP::Tiny;
use JSON::PP ();
use POSIX ();
use Time::HiRes qw(sleep time);
use AuthDouble::Certs;
use AuthDouble::Http qw(render);
use AuthDouble::Json qw(encode decode obj plain slice raw);
use AuthDouble::Server;

my $JSON = JSON::PP->new->utf8->canonical;

sub start {
    my ($class, $dir) = @_;
    mkdir $dir or die "$dir: $!" if !-d $dir;
    unlink "$dir/ready.json";
    my $pid = fork // die "fork: $!";
    if (!$pid) {
        open STDIN, '<', '/dev/null';
        exec $^X, (map {"-I$_"} @INC), "-M$class", '-e',
            "${class}::serve(shift)", $dir or POSIX::_exit(127);
    }
    my $self = bless {pid => $pid, owner => $$,
        http => HTTP::Tiny->new(timeout => 30, proxy => undef)}, $class;
    my $until = time + 20;
    until (-e "$dir/ready.json") {
        die "the hook server does not start\n" if time > $until;
        sleep 0.01;
    }
    open my $fh, '<', "$dir/ready.json" or die "ready.json: $!";
    local $/;
    $self->{ready} = $JSON->decode(<$fh>);
    return $self;
}

# uri(), uri('https')
sub uri {
    my ($self, $scheme) = @_;
    $scheme //= 'http';
    return "$scheme://127.0.0.1:$self->{ready}{$scheme}/hooks/supabase";
}

sub port { return $_[0]{ready}{$_[1] // 'http'} }
sub ca_file { return $_[0]{ready}{ca} }

sub _call {
    my ($self, $method, $path, $data) = @_;
    my $res = $self->{http}->request($method,
        "http://127.0.0.1:$self->{ready}{control}$path",
        {content => defined $data ? $JSON->encode($data) : ''});
    die "hook server: $method $path: $res->{content}\n" if !$res->{success};
    return $JSON->decode($res->{content});
}

sub answer { my $self = shift; return $self->_call(POST => '/answers', \@_) }
sub release { return $_[0]->_call(POST => '/release') }
sub hang_up { return $_[0]->_call(POST => '/hangup') }
sub forget { return $_[0]->_call(DELETE => '/requests') }

# [{headers => [[name, value]...], body, json, connection, time}...]
sub requests { return @{$_[0]->_call(GET => '/requests')} }

# until that many requests have come (and are not answered if they are held);
# or, for "gone", until that many connections were ended by the other side
sub wait_for {
    my ($self, $n, $what) = @_;
    my $until = time + 20;
    while (time < $until) {
        my $is = $self->_call(GET => '/stats');
        return 1 if $is->{$what // 'requests'} >= $n;
        sleep 0.01;
    }
    return 0;
}

sub stop {
    my ($self) = @_;
    my $pid = delete $self->{pid} or return;
    kill TERM => $pid;
    local $?;
    waitpid $pid, 0;
    return;
}

sub DESTROY { my $self = shift; return $self->{owner} == $$ && $self->stop }

# ---- in its process

my (@script, @requests, @held);
my (%stats, %server);

sub serve {
    my ($dir) = @_;
    local $SIG{PIPE} = 'IGNORE';
    local $SIG{TERM} = sub { Mojo::IOLoop->stop };
    my $parent = getppid;
    Mojo::IOLoop->recurring(0.25 => sub {
        Mojo::IOLoop->stop if getppid != $parent;
    });
    my $certs = AuthDouble::Certs::make("$dir/tls");
    %stats = (requests => 0, gone => 0);
    %server = (
        http => AuthDouble::Server->new(handler => \&_hook),
        https => AuthDouble::Server->new(handler => \&_hook,
            cert => $certs->{good}),
        control => AuthDouble::Server->new(handler => \&_control));
    open my $fh, '>', "$dir/ready.new" or die "ready.new: $!";
    print {$fh} $JSON->encode({ca => $certs->{ca},
        map { $_ => $server{$_}->port + 0 } keys %server});
    close $fh or die "ready.new: $!";
    rename "$dir/ready.new", "$dir/ready.json" or die "ready.json: $!";
    Mojo::IOLoop->start;
    return;
}

sub _control {
    my ($conn, $req) = @_;
    my $call = "$req->{method} $req->{path}";
    my $in = length $req->{body} ? $JSON->decode($req->{body}) : undef;
    my $out = {};
    if ($call eq 'POST /answers') { @script = @$in }
    elsif ($call eq 'GET /requests') { $out = \@requests }
    elsif ($call eq 'GET /stats') { $out = \%stats }
    elsif ($call eq 'DELETE /requests') {
        @requests = @script = ();
        %stats = (requests => 0, gone => 0);
    }
    elsif ($call eq 'POST /hangup') {
        $_->close for map { $server{$_}->conns } qw(http https);
    }
    elsif ($call eq 'POST /release') {
        _answer(@$_) for splice @held;
    }
    return $conn->reply($req, {status => 200, headers => [],
        body => $JSON->encode($out)});
}

sub _hook {
    my ($conn, $req) = @_;
    push @requests, {headers => $req->{headers}, body => $req->{body},
        line => "$req->{method} $req->{target}", connection => $conn->{id},
        time => time, tls => $conn->{tls} ? 1 : 0};
    $stats{requests}++;
    $conn->{on_leaving} = sub { $stats{gone}++ };
    my $answer = shift @script // {};
    if ($answer->{hold}) {
        push @held, [$conn, $req, $answer];
        return $conn->hold;
    }
    return _answer($conn, $req, $answer);
}

sub _answer {
    my ($conn, $req, $answer) = @_;
    return if !$conn->{fh};
    delete @$conn{qw(held on_leaving)};
    return $conn->finish if $answer->{close};
    my $claims = $answer->{claims}
        // eval { slice($req->{body}, 'claims') };
    my $body = $answer->{body} // encode($answer->{error}
        ? obj(error => raw($JSON->encode($answer->{error})))
        : obj(defined $claims ? (claims => raw($claims)) : ()));
    my $status = $answer->{status} // 200;
    my $res = {status => $status, body => $body, headers =>
        $answer->{headers} // [['Content-Type', 'application/json']]};
    return $conn->reply($req, $res) if !$answer->{part};
    my ($head) = render($req, $res, framing => 'length');
    $conn->write($head . substr $body, 0, length($body) / 2);
    return $conn->finish;
}

1;
