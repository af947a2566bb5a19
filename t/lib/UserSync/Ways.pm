package UserSync::Ways;

# Every way to a session through mod_proxy, for tests that try them all:
#
#   my $ways = UserSync::Ways->new(double());
#   for my $way ($ways->names) {
#       my $try = $ways->prepare($way);
#       my $response = $ways->take($httpd, $try);
#       holder_of($response);
#   }
#
# prepare makes at Supabase what a way needs: an account of its own, a code, the
# link of a mail. It goes past the server that is tested, which knows nothing of
# the user. A try can be taken again for as long as Supabase has not used it up.
#
# A try is a hash: way, method, path, body, header, status (of a success), id
# (undef: this way makes the account), email, and what the tests ask:
#
#   page     a browser goes there, and the session is in a redirect
#   creates  an account may come of it
#   once     what is used up at Supabase cannot be had again
#   bare     the answer names the user in the token alone

use strict;
use warnings;

use Exporter qw(import);

use UserSync::HTTP ();
use UserSync::Proxied qw(claims_in);

our @EXPORT = qw(holder_of token_in);

my $VERIFIER = 'v' x 50;
my $PASSWORD = 'correct horse';
my $SITE = 'http://127.0.0.1:3000/';
my %FORM = ('Content-Type' => 'application/x-www-form-urlencoded');
my $number = 0;

my %WAY = (
    signup        => { creates => 1 },
    anonymous     => { creates => 1 },
    password      => {},
    refresh       => {},
    pkce          => { creates => 1, once => 1 },
    id_token      => { creates => 1 },
    otp           => { creates => 1, once => 1 },
    link          => { creates => 1, once => 1, page => 1, status => 303 },
    callback      => { creates => 1, once => 1, page => 1, status => 302 },
    callback_form => { creates => 1, once => 1, page => 1, status => 302 },
    saml          => { creates => 1, page => 1, status => 302 },
    oauth         => { once => 1, bare => 1 },
    mfa           => { once => 1 },
);

sub new {
    my ($class, $double) = @_;
    my $self = bless { double => $double, providers => {} }, $class;
    $double->config(autoconfirm => JSON::PP::true(),
        anonymous => JSON::PP::true());
    return $self;
}

sub names {
    my @names = sort keys %WAY;
    return @names;
}

# A user of Supabase whom nobody else knows: email, password and id.
sub person {
    my ($self) = @_;
    my %user = (email => _new_email(), password => $PASSWORD);
    return { %user, id => $self->{double}->add_user(%user)->{id} };
}

sub _new_email { return sprintf 'way%d-%d@example.com', $$, ++$number }

# email => the address of the user; known => 1: Supabase has them already, by
# whatever way that is possible
sub prepare {
    my ($self, $way, %arg) = @_;
    die "no way $way\n" unless $WAY{$way};
    my $email = $arg{email} || _new_email();
    my $code = __PACKAGE__->can("_to_$way");
    my $try = { way => $way, method => 'POST', header => {}, status => 200,
        email => $email, %{ $WAY{$way} }, $code->($self, $email) };
    return $try if !$arg{known} || $try->{id};
    my $id = holder_of($self->take_directly($try));
    return { %$try, $code->($self, $email), id => $id };
}

# What a client sends; further headers replace those of the try. vhost =>
# another server.
sub take {
    my ($self, $httpd, $try, %header) = @_;
    my $vhost = delete $header{vhost};
    return $self->_send($httpd->url("/auth/v1$try->{path}", $vhost), $try,
        %header);
}

# The same, past the server.
sub take_directly {
    my ($self, $try, %header) = @_;
    return $self->_send($self->{double}->url . "/auth/v1$try->{path}", $try,
        %header);
}

sub _send {
    my ($self, $url, $try, %header) = @_;
    return UserSync::HTTP->exchange($try->{method}, $url, $try->{body},
        apikey => $self->{double}->key,
        'X-Supabase-Api-Version' => '2024-01-01', %{ $try->{header} },
        %header);
}

# ---- what an answer holds

# The access tokens in an answer, wherever they are.
sub _tokens {
    my ($response) = @_;
    my $text = join "\n", @$response{grep { defined $response->{$_} }
        qw(body unread)}, map { $_->[1] } @{ $response->{header_list} || [] };
    return $text =~ /access_token"?[=:]\s*"?([^"&\s]+)/g;
}

# The first of them, or undef.
sub token_in {
    my ($response) = @_;
    my ($token) = _tokens($response);
    return $token;
}

# The id of the user whose session an answer holds, or undef. A body that is cut
# off may have but a part of the token in Location.
sub holder_of {
    my ($response) = @_;
    my ($id) = grep {defined}
        map { eval { claims_in("access_token=$_")->{sub} } } _tokens($response);
    return $id;
}

# ---- what is made at Supabase

sub _account {
    my ($self, $email) = @_;
    my %user = (email => $email, password => $PASSWORD);
    return (email => $email, id => $self->{double}->add_user(%user)->{id});
}

sub _directly {
    my ($self, $method, $path, $body, %header) = @_;
    my $response = $self->_send($self->{double}->url . "/auth/v1$path",
        { method => $method, body => $body, header => {} }, %header);
    die "$method $path: $response->{status} $response->{body}\n"
        if $response->{status} >= 400 || !$response->{status};
    return $response;
}

sub _session {
    my ($self, $email) = @_;
    return $self->_directly(POST => '/token?grant_type=password',
        { email => $email, password => $PASSWORD })->{json};
}

sub _grant {
    my ($type, $body) = @_;
    return (path => "/token?grant_type=$type", body => $body);
}

sub _to_signup {
    my ($self, $email) = @_;
    return (path => '/signup', email => $email,
        body => { email => $email, password => $PASSWORD });
}

sub _to_anonymous { return (path => '/signup', body => {}, email => undef) }

sub _to_password {
    my ($self, $email) = @_;
    return ($self->_account($email), _grant(password =>
        { email => $email, password => $PASSWORD }));
}

sub _to_refresh {
    my ($self, $email) = @_;
    my @account = $self->_account($email);
    return (@account, _grant(refresh_token =>
        { refresh_token => $self->_session($email)->{refresh_token} }));
}

sub _to_pkce {
    my ($self, $email) = @_;
    my %account = $self->_account($email);
    return (%account, _grant(pkce => { code_verifier => $VERIFIER,
        auth_code => $self->{double}->auth_code($account{id}, 'magiclink',
            $VERIFIER) }));
}

sub _to_id_token {
    my ($self, $email) = @_;
    return (email => $email, _grant(id_token => { provider => 'google',
        id_token => $self->{double}->id_token(provider => 'google',
            email => $email, sub => "subject of $email") }));
}

sub _mail {
    my ($self, $email) = @_;
    $self->_directly(POST => '/magiclink', { email => $email });
    return $self->{double}->otp($email, 'recovery');
}

sub _to_otp {
    my ($self, $email) = @_;
    my @account = $self->_account($email);
    return (@account, path => '/verify', body => { type => 'email',
        email => $email, token => $self->_mail($email)->{code} });
}

sub _to_link {
    my ($self, $email) = @_;
    my @account = $self->_account($email);
    return (@account, method => 'GET', path => '/verify?type=magiclink&token='
        . $self->_mail($email)->{hash});
}

# The path and the query of the callback, as a browser comes back from a
# provider.
sub _back {
    my ($self, $email) = @_;
    my $name = 'p' . ++$number;
    $self->{providers}{$name} = { email => $email, sub => "s-$number" };
    $self->{double}->config(providers => $self->{providers});
    my $to = $self->_directly(GET => "/authorize?provider=$name");
    my $back = UserSync::HTTP->exchange(GET => $to->{headers}{location});
    my ($path) = $back->{headers}{location} =~ m{/auth/v1(/.*)};
    return $path;
}

sub _to_callback {
    my ($self, $email) = @_;
    return (email => $email, method => 'GET', path => $self->_back($email));
}

sub _to_callback_form {
    my ($self, $email) = @_;
    my ($path, $query) = split /[?]/, $self->_back($email);
    return (email => $email, path => $path, body => $query, header => {%FORM});
}

sub _to_saml {
    my ($self, $email) = @_;
    my %form = (RelayState => $SITE, SAMLResponse =>
        $self->{double}->saml_response(sub => "s-$email", email => $email));
    return (email => $email, path => '/sso/saml/acs', header => {%FORM},
        body => join '&', map {
            "$_=" . $form{$_} =~ s/(\W)/sprintf '%%%02X', ord $1/ger
        } sort keys %form);
}

sub _to_oauth {
    my ($self, $email) = @_;
    my %account = $self->_account($email);
    return (%account, path => '/oauth/token', body => { client_id => 'app',
        grant_type => 'authorization_code', code_verifier => $VERIFIER,
        code => $self->{double}->oauth_code($account{id}, 'app', $VERIFIER) });
}

sub _to_mfa {
    my ($self, $email) = @_;
    my @account = $self->_account($email);
    my $session = $self->_session($email);
    my %bearer = (Authorization => "Bearer $session->{access_token}");
    my $factor = $self->_directly(POST => '/factors',
        { factor_type => 'totp', friendly_name => 'app' }, %bearer)->{json};
    my $path = "/factors/$factor->{id}";
    my $challenge
        = $self->_directly(POST => "$path/challenge", {}, %bearer)->{json};
    return (@account, path => "$path/verify", header => {%bearer},
        body => { code => '123456', challenge_id => $challenge->{id} });
}

1;
