package AuthDouble::App;
# Puts the parts together: listeners, recording, faults, control, life cycle.
use strict;
use warnings;
use JSON::PP ();
use Mojo::IOLoop;
use Time::HiRes ();
use AuthDouble::Auth;
use AuthDouble::Certs;
use AuthDouble::Control;
use AuthDouble::Fault;
use AuthDouble::Jwt;
use AuthDouble::Later qw(when is_later);
use AuthDouble::Server;
use AuthDouble::Store;

use constant AUTH => qw(http https https_wrong_name https_unknown_ca
    https_expired);
my %CERT = (https => 'good', https_wrong_name => 'wrong_name',
    https_unknown_ca => 'unknown_ca', https_expired => 'expired');

# new(state => DIR, fixtures => DIR, config => {...}, ports => {name => N},
#     restore => FILE)
sub new {
    my ($class, %arg) = @_;
    my $self = bless {%arg, requests => [], stats => {}, plans => []},
        $class;
    my $keys = "$arg{fixtures}/jwt_test_keys.json";
    $self->{jwt} = AuthDouble::Jwt->new(-f $keys
        ? JSON::PP->new->utf8->decode(AuthDouble::Fault::_slurp($keys)) : undef);
    $self->{keys} = $self->_api_keys;
    $self->{store} = AuthDouble::Store->new(config => {
        keys => [map { $self->{keys}{$_} }
            qw(publishable secret anon service_role)],
        %{$arg{config} || {}}});
    $self->{store}->restore($arg{restore}) if defined $arg{restore};
    $self->{auth} = AuthDouble::Auth->new(store => $self->{store},
        jwt => $self->{jwt});
    $self->{faults} = AuthDouble::Fault->new(auth => $self->{auth},
        fixtures => $arg{fixtures});
    return $self;
}

sub _api_keys {
    my ($self) = @_;
    my %jwt = map { $_ => $self->{jwt}->sign(AuthDouble::Json::obj(
        iss => 'supabase', ref => 'fixtureref', role => $_,
        iat => AuthDouble::Json::num(1_700_000_000),
        exp => AuthDouble::Json::num(4_102_444_800)), 'HS256') }
        qw(anon service_role);
    return {%jwt, publishable => 'sb_publishable_double0123456789_test',
        secret => 'sb_secret_double0123456789_test'};
}

sub run {
    my ($self) = @_;
    unlink "$self->{state}/ready.json";
    local $SIG{PIPE} = 'IGNORE';
    local @SIG{qw(TERM INT HUP)} = (sub { Mojo::IOLoop->stop }) x 3;
    my $parent = getppid;
    Mojo::IOLoop->recurring(0.25 => sub {
        Mojo::IOLoop->stop if getppid != $parent;
    });
    $self->_listen;
    $self->_ready;
    Mojo::IOLoop->start;
    unlink "$self->{state}/ready.json";
    return;
}

sub _listen {
    my ($self) = @_;
    my $certs = AuthDouble::Certs::make("$self->{state}/tls");
    $self->{ca_file} = $certs->{ca};
    my $ports = $self->{ports} || {};
    for my $name (AUTH) {
        my $tls = $CERT{$name};
        $self->{servers}{$name} = AuthDouble::Server->new(
            port => $ports->{$name}, ($tls ? (cert => $certs->{$tls}) : ()),
            handler => sub { $self->_handle(@_) },
            on_accept => sub { $self->{faults}->take_accept });
    }
    my $control = $self->{controller}
        = AuthDouble::Control->new(app => $self);
    $self->{control} = AuthDouble::Server->new(port => $ports->{control},
        handler => sub { $control->handle(@_) });
    return;
}

sub _ready {
    my ($self) = @_;
    my %out = (pid => $$, ca_file => $self->{ca_file}, keys => $self->{keys},
        control => $self->{control}->port + 0,
        map { $_ => $self->{servers}{$_}->port + 0 } AUTH);
    my $file = "$self->{state}/ready.json";
    open my $fh, '>', "$file.new" or die "$file.new: $!\n";
    print {$fh} JSON::PP->new->canonical->encode(\%out), "\n";
    close $fh or die "$file.new: $!\n";
    rename "$file.new", $file or die "$file: $!\n";
    return;
}

# one request on an auth port
sub _handle {
    my ($self, $conn, $req) = @_;
    my $op = $self->{auth}->op($req);
    $self->{stats}{$op}++;
    $self->_record($op, $conn, $req) if $self->{store}{config}{record_requests};
    my $failed = sub {
        warn "$req->{method} $req->{target}: $_[0]";
        return $conn->reset;
    };
    my $done = eval {
        $self->_planned($op);
        my $fault = $self->{faults}->take($op, $req);
        $fault ? $self->{faults}->apply($fault, $conn, $req)
            : $op eq 'signup' && $self->{store}{config}{signup_together}
            ? $self->_signup_together($conn, $req)
            : $self->_answer($conn, $req);
    };
    return $failed->($@) if $@;
    $done->catch($failed) if is_later($done);
    return;
}

# plan({op, nth, method, path, body}): a call of the control port when the nth
# request for this comes
sub plan {
    my ($self, $in) = @_;
    my %plan = (%$in, nth => ${$in->{nth}});
    push @{$self->{plans}}, \%plan;
    return;
}

sub _planned {
    my ($self, $op) = @_;
    my @due = grep { $_->{op} eq $op && --$_->{nth} == 0 } @{$self->{plans}};
    $self->{plans} = [grep { $_->{nth} > 0 } @{$self->{plans}}] if @due;
    $self->{controller}->call(@$_{qw(method path)}, $_->{body} // {})
        for @due;
    return;
}

# at once, or when the project's hooks have answered
sub _answer {
    my ($self, $conn, $req) = @_;
    my $answer = $self->{auth}->answer($req);
    # GoTrue gives up when its client does, and rolls back
    $conn->{on_leaving} = sub {
        $req->{gone} = 1;
        $req->{give_up}->() if $req->{give_up};
    } if is_later($answer);
    return when($answer, sub {
        my ($res) = @_;
        delete $conn->{on_leaving};
        return $conn->reply($req, $res) if $conn->{fh};
    });
}

# sign-ups that race: all have looked before the first of them inserts
sub _signup_together {
    my ($self, $conn, $req) = @_;
    AuthDouble::Signup::look_up($self->{store}, $req);
    my $waiting = $self->{together} //= [];
    push @$waiting, [$conn, $req];
    $conn->hold;
    return if @$waiting < $self->{store}{config}{signup_together};
    $self->{together} = [];
    my @later;
    for (grep { $_->[0]{fh} } @$waiting) {
        my ($each, $its) = @$_;
        $each->{held} = 0;
        push @later, grep { is_later($_) } $self->_answer($each, $its);
    }
    return @later ? Mojo::Promise->all(@later) : undef;
}

sub _record {
    my ($self, $op, $conn, $req) = @_;
    my $list = $self->{requests};
    push @$list, {op => $op, req => $req, connection => $conn->{id},
        tls => $conn->{tls} ? 1 : 0, time => Time::HiRes::time()};
    my $max = $self->{store}{config}{max_requests};
    splice @$list, 0, @$list - $max if @$list > 2 * $max;
    return;
}

sub clear_requests { $_[0]{requests} = []; return }

sub auth_servers { return @{$_[0]{servers}}{(AUTH)} }

# connection refused on all auth ports, for $f->{ms} or until the faults go
sub refuse {
    my ($self, $f) = @_;
    $_->shut for $self->auth_servers;
    Mojo::IOLoop->remove(delete $self->{refusing}) if $self->{refusing};
    $self->{refusing} = Mojo::IOLoop->timer($f->{ms} / 1000 => sub {
        delete $self->{refusing};
        $self->{faults}{queue} = [grep { $_->{kind} ne 'refuse' }
            @{$self->{faults}{queue}}];
        $_->open for $self->auth_servers;
    }) if $f->{ms};
    return;
}

sub accept_again {
    my ($self) = @_;
    Mojo::IOLoop->remove(delete $self->{refusing}) if $self->{refusing};
    $_->open for $self->auth_servers;
    return;
}

# let go of clients that a fault keeps waiting
sub drop_held {
    my ($self) = @_;
    $_->close for grep { $_->{held} } map { $_->conns } $self->auth_servers;
    return;
}

# nobody is connected any more, nor can be
sub hang_up {
    my ($self) = @_;
    for my $server ($self->auth_servers) {
        $server->shut;
        $_->close for $server->conns;
    }
    return;
}

sub connections {
    my ($self) = @_;
    my ($accepted, $open) = (0, 0);
    for ($self->auth_servers) {
        $accepted += $_->accepted;
        $open += () = $_->conns;
    }
    return ($accepted, $open);
}

1;
