package UserSync::Counted;

# A client that asks by every door, and knows by the answers alone what the
# server must have counted:
#
#   my $client = UserSync::Counted->new(httpd => $httpd, double => $double,
#       name => 'a');
#   $client->ask;          one request of any kind
#   $client->seen;         {door => {code => n}}
#   $client->lost;         {number of the request => door}: no whole answer
#   $client->uncounted;    {kind => n}: answers that no door has a part in
#
# The server has the routes at /auth/, the filter at /auth/v1/, a hook at /hook,
# an event door at /event, and gates at /app/ and, with OnError Allow, at
# /lenient/. Each request has a number of its own in the header X-Try.
#
# Left out is what an answer cannot tell: Report, requests for a user alone and
# pages for browsers, all of mod_proxy.

use strict;
use warnings;

use Exporter qw(import);
use Time::HiRes qw(sleep);

use UserSync::Event qw(event_body time_stamp);
use UserSync::Gate qw(as_user new_id);
use UserSync::HTTP ();
use UserSync::Hook qw(created_body secret_of sign_hook token_body);
use UserSync::Ways qw(holder_of);

our @EXPORT = qw(add_up);

my $PASSWORD = 'correct horse battery';

# leaves => 0.1: one of ten clients does not wait for the answer
sub new {
    my ($class, %arg) = @_;
    return bless { leaves => 0, %arg, tries => 0, people => [], ids => [],
        seen => {}, lost => {}, uncounted => {} }, $class;
}

sub seen      { return $_[0]{seen} }
sub lost      { return $_[0]{lost} }
sub uncounted { return $_[0]{uncounted} }

# The sum of several {name => {name => n}}.
sub add_up {
    my %sum;
    for my $part (@_) {
        for my $door (keys %$part) {
            $sum{$door}{$_} += $part->{$door}{$_} for keys %{ $part->{$door} };
        }
    }
    return \%sum;
}

sub _pick { return $_[rand @_] }

# ---- what a whole answer was counted as

my %HOOK = ( # the words for Supabase's client
    '503 The user database is not available: try again later.'
        => 'store_unavailable',
    '403 This account is banned.'         => 'user_banned',
    '401 This account has been deleted.'  => 'user_deleted',
    '500 This server does not serve this hook.' => 'hook_not_served',
);

# Supabase's own codes are shown to clients, and counted together.
my %SHARED = (400 => 'refused', 403 => 'not_allowed',
    429 => 'over_request_rate_limit');
my %OWN = map { $_ => 1 } qw(invalid_request user_banned user_not_identified
    over_request_rate_limit);

sub _problem {
    my ($response) = @_;
    my $code = ref $response->{json} eq 'HASH' ? $response->{json}{code} : '';
    return "status $response->{status} without a code" if !$code;
    return $OWN{$code} ? $code : $SHARED{ $response->{status} } || $code;
}

sub _of_route {
    my ($response) = @_;
    my $status = $response->{status};
    return $response->{headers}{allow} ? 'options' : 'logged_out'
        if $status == 204;
    return $status != 200 ? _problem($response)
        : $response->{json}{session} ? 'ok' : 'pending';
}

sub _of_hook {
    my ($response) = @_;
    return _problem($response) if $response->{status} != 200;
    my $error = $response->{json}{error} or return 'ok';
    my $words = "$error->{http_code} $error->{message}";
    return $HOOK{$words} || $words;
}

sub _of_gate {
    my ($response) = @_;
    return $response->{status} == 200 ? $response->{headers}{'env-outcome'}
        : _problem($response);
}

# undef: an answer of Supabase's or of mod_proxy's that carries nobody
sub _of_response {
    my ($response) = @_;
    return 'ok' if defined holder_of($response);
    return _problem($response) if $response->{headers}{'x-request-id'};
    my $json = ref $response->{json} eq 'HASH' ? $response->{json} : {};
    return $response->{status} == 200 && $json->{id} && $json->{aud}
        ? 'pending' : undef;
}

sub _of_event {
    my ($response) = @_;
    return $response->{status} == 204 ? 'applied' : _problem($response);
}

my %CODE_OF = (hook => \&_of_hook, event => \&_of_event, gate => \&_of_gate,
    response => \&_of_response);

# ---- requests

sub _send {
    my ($self, $door, $method, $path, $body, %header) = @_;
    my $try = $self->{name} . ++$self->{tries};
    my $url = $self->{httpd}->url($path);
    %header = (%header, 'X-Try' => $try);
    if (rand() < $self->{leaves}) {
        $self->_leave($method, $url, $body, %header);
        $self->{lost}{$try} = $door;
        return { status => 0, headers => {} };
    }
    my $response = UserSync::HTTP->exchange($method, $url, $body, %header);
    if ($response->{error}) {
        $self->{lost}{$try} = $door;
        $self->{errors}{ $response->{error} }++;
        return $response;
    }
    my $code = ($CODE_OF{$door} || \&_of_route)->($response);
    $self->{seen}{$door}{$code}++ if defined $code;
    $self->{uncounted}{"$door $response->{status}"}++ if !defined $code;
    return $response;
}

# Sends a request, and is gone at some time before its answer or after it.
sub _leave {
    my ($self, $method, $url, $body, %header) = @_;
    my $connection = eval { UserSync::HTTP->connect($url) } or return;
    $connection->send(UserSync::HTTP::build($method, $url, $body, %header));
    sleep rand 0.05;
    $connection->close;
    return;
}

sub errors { return $_[0]{errors} || {} }

# ---- the doors

my @WAYS = (
    (qw(register login refresh hook gate gate lenient event proxied)) x 3,
    qw(wrong_login bad_login wrong_refresh logout no_logout options known_email
        unsigned_hook before_hook bad_hook nobody_at_gate unsigned_event ban
        proxied_signup proxied_refresh proxied_wrong proxied_settings),
);

sub ask {
    my ($self) = @_;
    my $way = _pick(@WAYS);
    my $person = _pick(@{ $self->{people} });
    $way = 'register' if !$person;
    __PACKAGE__->can("_ask_$way")->($self, $person);
    return;
}

sub _email { return "$_[0]{name}-" . ++$_[0]{emails} . '@example.com' }

sub _keep {
    my ($person, $response) = @_;
    my $json = ref $response->{json} eq 'HASH' ? $response->{json} : {};
    my $session = $json->{session} || $json;
    @$person{qw(access refresh)} = @$session{qw(access_token refresh_token)}
        if $session->{refresh_token};
    return;
}

sub _route {
    my ($self, $door, $body, %header) = @_;
    return $self->_send($door, POST => "/auth/$door", $body, %header);
}

sub _ask_register {
    my ($self) = @_;
    my $person = { email => $self->_email };
    _keep($person, $self->_route(register =>
        { email => $person->{email}, password => $PASSWORD }));
    push @{ $self->{people} }, $person;
    return;
}

sub _ask_known_email {
    my ($self, $person) = @_;
    $self->_route(register =>
        { email => $person->{email}, password => $PASSWORD });
    return;
}

sub _ask_login {
    my ($self, $person) = @_;
    _keep($person, $self->_route(login =>
        { email => $person->{email}, password => $PASSWORD }));
    return;
}

sub _ask_wrong_login {
    my ($self, $person) = @_;
    $self->_route(login => { email => $person->{email}, password => 'guess' });
    return;
}

sub _ask_bad_login { $_[0]->_route(login => '{"email"'); return }

sub _ask_refresh {
    my ($self, $person) = @_;
    _keep($person, $self->_route(refresh =>
        { refresh_token => $person->{refresh} || 'none' }));
    return;
}

sub _ask_wrong_refresh {
    $_[0]->_route(refresh => { refresh_token => 'abcdefghijkl' });
    return;
}

sub _ask_logout {
    my ($self, $person) = @_;
    my $token = delete $person->{access} || 'none';
    $self->_route(logout => undef, Authorization => "Bearer $token");
    return;
}

sub _ask_no_logout { $_[0]->_route('logout'); return }

sub _ask_options {
    my $route = _pick(qw(register login refresh logout));
    $_[0]->_send($route, OPTIONS => "/auth/$route");
    return;
}

# Somebody whom the table may know, or somebody new.
sub _id {
    my ($self) = @_;
    my $ids = $self->{ids};
    return _pick(@$ids) if @$ids && rand() < 0.6;
    push @$ids, my $id = new_id();
    return $id;
}

sub _call {
    my ($self, $body, %arg) = @_;
    $self->_send(hook => POST => '/hook', $body, sign_hook($body, %arg));
    return;
}

sub _ask_hook { $_[0]->_call(token_body(sub => $_[0]->_id)); return }

sub _ask_before_hook {
    $_[0]->_call(created_body(_pick(qw(before-user-created after-user-created
        send-sms))));
    return;
}

sub _ask_bad_hook { $_[0]->_call('{"metadata":'); return }

sub _ask_unsigned_hook {
    $_[0]->_call(token_body(), secrets => secret_of(24));
    return;
}

sub _tell {
    my ($self, $body, %arg) = @_;
    $self->_send(event => POST => '/event', $body, sign_hook($body, %arg));
    return;
}

sub _ask_event {
    my ($self) = @_;
    my $type = _pick(qw(INSERT UPDATE UPDATE DELETE));
    $self->_tell(event_body(type => $type, id => $self->_id));
    return;
}

sub _ask_ban {
    my ($self) = @_;
    $self->_tell(event_body(id => $self->_id,
        banned_until => time_stamp(3600)));
    return;
}

sub _ask_unsigned_event {
    $_[0]->_tell(event_body(), secrets => secret_of(24));
    return;
}

sub _visit {
    my ($self, $path, $user) = @_;
    $self->_send(gate => GET => $path, undef, as_user($user));
    return;
}

sub _ask_gate           { $_[0]->_visit('/app/file', $_[0]->_id);     return }
sub _ask_lenient        { $_[0]->_visit('/lenient/file', $_[0]->_id); return }
sub _ask_nobody_at_gate { $_[0]->_visit('/app/file', 'nobody');       return }

sub _proxied {
    my ($self, $path, $body) = @_;
    return $self->_send(response => $body ? 'POST' : 'GET', "/auth/v1$path",
        $body, apikey => $self->{double}->key,
        'X-Supabase-Api-Version' => '2024-01-01');
}

sub _ask_proxied {
    my ($self, $person) = @_;
    _keep($person, $self->_proxied('/token?grant_type=password',
        { email => $person->{email}, password => $PASSWORD }));
    return;
}

sub _ask_proxied_signup {
    my ($self) = @_;
    my $person = { email => $self->_email };
    _keep($person, $self->_proxied('/signup',
        { email => $person->{email}, password => $PASSWORD }));
    push @{ $self->{people} }, $person;
    return;
}

sub _ask_proxied_refresh {
    my ($self, $person) = @_;
    _keep($person, $self->_proxied('/token?grant_type=refresh_token',
        { refresh_token => $person->{refresh} || 'none' }));
    return;
}

sub _ask_proxied_wrong {
    my ($self, $person) = @_;
    $self->_proxied('/token?grant_type=password',
        { email => $person->{email}, password => 'guess' });
    return;
}

sub _ask_proxied_settings { $_[0]->_proxied('/settings'); return }

1;
