package UserSync::Doors;

# Clients that sign in at the double's own doors, by every method that it has,
# and on the routes of an httpd:
#
#   my $doors = UserSync::Doors->new(double => $double, lock => $file,
#       routes => $httpd->url('/auth'));
#   my $person = { kind => 'password', email => ..., password => ... };
#   $doors->sign_in(password => $person);
#   $doors->seen;    {door => {kind of answer => n}}
#
# kind is "password", "mail" (nobody knows the password), "oauth", "provider"
# (whose name at the double is in "provider"), "saml" or "anonymous". What a
# session needs to go on is kept in the person. The file "lock" keeps whoever
# restarts the double (locked) from those who talk to its control port.
#
# auth => another URL of Supabase Auth: that of a server that forwards there;
# check => sub { my ($door, $response) = @_; ... } is shown each answer.

use strict;
use warnings;

use Fcntl qw(LOCK_EX LOCK_SH);
use MIME::Base64 qw(decode_base64url);

use UserSync::HTTP ();
use UserSync::Load ();

my $VERIFIER = 'the verifier of a browser that comes back';
my $factors = 0;

# By the kind of a user. The doors of %NEW make the account.
my %NEW = (
    password => [qw(signup signup register)],
    mail => ['otp'], oauth => ['id_token'], anonymous => ['anonymous'],
    provider => ['callback'], saml => ['saml'],
);
my @SESSION = qw(refresh refresh refresh_route);
my @MAILS = qw(otp magiclink recover link);
my %KNOWN = (
    password => [qw(password password login login taken mfa pkce), @MAILS,
        @SESSION],
    mail => [qw(pkce), @MAILS, @SESSION],
    oauth => [qw(id_token id_token pkce mfa), @MAILS, @SESSION],
    provider => [qw(callback callback pkce mfa), @SESSION],
    saml => [qw(saml saml pkce), @SESSION],
    anonymous => [@SESSION, 'mfa'],
);
# those that two clients can use for one user at the same time
my %SHARED = (password => [qw(password login pkce)]);

sub new {
    my ($class, %arg) = @_;
    return bless { %arg, seen => {}, slowest => {}, failed => {} }, $class;
}

sub seen    { return $_[0]{seen} }
sub slowest { return $_[0]{slowest} }

# How often somebody failed whose account is made together with the token, by
# e-mail, "" for the anonymous.
sub failed { return $_[0]{failed} }

# The doors that a person can take now, as often as they should.
sub doors_of {
    my ($person, $shared) = @_;
    my $doors = $shared ? $SHARED{ $person->{kind} }
        : !$person->{is_known} ? $NEW{ $person->{kind} }
        : $KNOWN{ $person->{kind} };
    my $not_now = !$person->{refresh} ? qr/^(?:refresh|mfa)/
        : $person->{unsure} ? qr/^mfa/ : qr/^-/;
    return grep { !/$not_now/ } @$doors;
}

# Runs the block while nobody talks to the double's control port.
sub locked {
    my ($self, $code, $how) = @_;
    open my $lock, '>>', $self->{lock} or die "$self->{lock}: $!\n";
    flock $lock, $how || LOCK_EX or die "$self->{lock}: $!\n";
    return $code->($self->{double});
}

sub _control { return $_[0]->locked($_[1], LOCK_SH) }

# True if they have a session now.
sub sign_in {
    my ($self, $door, $person) = @_;
    my $code = __PACKAGE__->can("_at_$door") or die "no door $door\n";
    my $response = $code->($self, $person);
    return 1 if $response && _keep($person, $response);
    $self->{failed}{ $person->{email} || '' }++
        if $door =~ /^(?:id_token|anonymous)$/;
    # a refresh token is good for one answer that is lost, not for two
    $person->{unsure} = 1 if $door =~ /^(?:refresh|mfa)/;
    return 0;
}

# ---- requests and answers

sub _ask {
    my ($self, $door, $path, $data, %header) = @_;
    my $method = defined $data ? 'POST' : 'GET';
    my $base = $self->{auth} || $self->{double}->url . '/auth/v1';
    my $response = UserSync::HTTP->exchange($method, "$base/$path", $data,
        apikey => $self->{double}->key,
        'X-Supabase-Api-Version' => '2024-01-01', %header);
    return $self->_count($door, $response, _kind($response));
}

sub _route {
    my ($self, $route, $data) = @_;
    my $response = UserSync::HTTP->exchange(POST => "$self->{routes}/$route",
        $data);
    my $kind = UserSync::Load::kind($response);
    # a new user whose address has to be confirmed
    $kind = 'pending' if $kind eq '200 without all'
        && $response->{json}{user_id} && exists $response->{json}{session};
    return $self->_count("/$route", $response,
        $kind =~ /Connection refused/ ? 'refused' : $kind);
}

sub _count {
    my ($self, $door, $response, $kind) = @_;
    $self->{check}->($door, $response) if $self->{check};
    $self->{seen}{$door}{$kind}++;
    my $slowest = \$self->{slowest}{$door};
    $$slowest = $response->{elapsed}
        if ($$slowest || 0) < $response->{elapsed};
    return $response;
}

# "200", "503 unknown: text", "closed", "refused"
sub _kind {
    my ($response) = @_;
    if (my $error = $response->{error}) {
        return $error =~ /Connection refused/ ? 'refused' : $error;
    }
    my $status = $response->{status};
    my $told = _fragment($response);
    return $told->{access_token} ? 200
        : "$status " . ($told->{error_description} // 'without a text')
        if $status =~ /^30[23]$/;
    my $json = _object($response);
    return $status if $status == 200;
    return "$status " . join ': ', grep {defined} $json->{code},
        $json->{message};
}

# What the link of a mail hands to the browser. Texts are escaped twice.
sub _fragment {
    my ($response) = @_;
    my ($text) = ($response->{headers}{location} || '') =~ /#(.*)/;
    my %told = map { /^(\w+)=(.*)/ ? ($1 => $2) : () } split /&/, $text || '';
    for (1, 2) {
        s/%([0-9A-F]{2})/chr hex $1/ge for values %told;
    }
    tr/+/ / for values %told;
    return \%told;
}

# Keeps the session, if there is one.
sub _keep {
    my ($person, $response) = @_;
    my $json = _object($response);
    my $session = $json->{access_token} ? $json
        : $json->{session} || _fragment($response);
    return 0 unless $session->{access_token};
    @$person{qw(access refresh is_known unsure)}
        = (@$session{qw(access_token refresh_token)}, 1, 0);
    my (undef, $claims) = split /[.]/, $person->{access};
    ($person->{id}) = decode_base64url($claims) =~ /"sub":"([^"]+)"/;
    return 1;
}

# What an answer says, if it is an object.
sub _object {
    my ($response) = @_;
    return ref $response->{json} eq 'HASH' ? $response->{json} : {};
}

sub _code_of { return _object($_[0])->{code} || '' }

# ---- passwords

sub _credentials {
    my ($person) = @_;
    return { email => $person->{email}, password => $person->{password} };
}

sub _at_password {
    my ($self, $person) = @_;
    return $self->_ask('password', 'token?grant_type=password',
        _credentials($person));
}

sub _at_login { return $_[0]->_route(login => _credentials($_[1])) }

sub _at_signup {
    my ($self, $person) = @_;
    return $self->_signed_up($person,
        $self->_ask('signup', 'signup', _credentials($person)));
}

sub _at_register {
    my ($self, $person) = @_;
    return $self->_signed_up($person,
        $self->_route(register => _credentials($person)));
}

# Follows the link of the mail, if there is one. Where a user is named without a
# mail or a session, the account was there before.
sub _signed_up {
    my ($self, $person, $response) = @_;
    $person->{is_known} = 1 if _code_of($response) eq 'user_already_exists';
    return $response if $response->{status} != 200 || _keep($person, $response);
    my $mail = $self->_mail($person, 'confirmation');
    my $json = _object($response);
    $person->{is_known} = 1 if !$mail && ($json->{id} || $json->{user_id});
    return $mail && $self->_follow('signup link', $mail, 'signup');
}

# Somebody signs up with an address that is taken: Supabase refuses that, or
# invents an id.
sub _at_taken {
    my ($self, $person) = @_;
    my %guess = (email => $person->{email}, password => 'a guess at best');
    if (rand() < 0.5) { $self->_route(register => \%guess) }
    else              { $self->_ask('signup', 'signup', \%guess) }
    return;
}

sub _at_anonymous { return $_[0]->_ask('anonymous', 'signup', {}) }

# ---- mails

sub _mail {
    my ($self, $person, $kind) = @_;
    return $self->_control(sub { $_[0]->otp($person->{email}, $kind) });
}

sub _follow {
    my ($self, $door, $mail, $type) = @_;
    return $self->_ask($door, "verify?token=$mail->{hash}&type=$type"
        . '&redirect_to=http%3A%2F%2F127.0.0.1%3A3000');
}

# Asks for a mail, and returns it.
sub _ask_mail {
    my ($self, $person, $path, $kind) = @_;
    my $response = $self->_ask($path, $path, { email => $person->{email} });
    return $response->{status} == 200 ? $self->_mail($person, $kind) : undef;
}

sub _at_otp {
    my ($self, $person) = @_;
    my $mail = $self->_ask_mail($person, 'otp') or return;
    return $self->_ask('verify', 'verify', { type => 'email',
        email => $person->{email}, token => $mail->{code} });
}

sub _at_magiclink {
    my ($self, $person) = @_;
    my $mail = $self->_ask_mail($person, 'magiclink', 'recovery') or return;
    return $self->_ask('verify', 'verify',
        { type => 'magiclink', token_hash => $mail->{hash} });
}

sub _at_recover {
    my ($self, $person) = @_;
    my $mail = $self->_ask_mail($person, 'recover', 'recovery') or return;
    return $self->_ask('verify', 'verify',
        { type => 'recovery', token_hash => $mail->{hash} });
}

sub _at_link {
    my ($self, $person) = @_;
    my $mail = $self->_ask_mail($person, 'magiclink', 'recovery') or return;
    return $self->_follow('link', $mail, 'magiclink');
}

# ---- sign-ins that begin elsewhere

sub _at_id_token {
    my ($self, $person) = @_;
    my $token = $self->_control(sub {
        $_[0]->id_token(provider => 'google', email => $person->{email},
            sub => "subject of $person->{email}");
    });
    return $self->_ask('id_token', 'token?grant_type=id_token',
        { provider => 'google', id_token => $token });
}

sub _at_pkce {
    my ($self, $person) = @_;
    my $method = (qw(oauth magiclink email/signup))[rand 3];
    return unless $person->{id};
    my $code = $self->_control(sub {
        $_[0]->auth_code($person->{id}, $method, $VERIFIER);
    });
    return $self->_ask('pkce', 'token?grant_type=pkce',
        { auth_code => $code, code_verifier => $VERIFIER });
}

# The browser's way to a provider and back.
sub _at_callback {
    my ($self, $person) = @_;
    my $base = $self->{double}->url;
    my $next = "$base/auth/v1/authorize?provider=$person->{provider}";
    for (1, 2) {
        my $response = UserSync::HTTP->exchange(GET => $next);
        $next = $response->{headers}{location} or return;
    }
    return $self->_ask('callback', $next =~ s{.*/auth/v1/}{}r);
}

sub _at_saml {
    my ($self, $person) = @_;
    my %form = (RelayState => 'http://127.0.0.1:3000/', SAMLResponse =>
        $self->_control(sub {
            $_[0]->saml_response(sub => "subject of $person->{email}",
                email => $person->{email});
        }));
    return $self->_ask('saml', 'sso/saml/acs', join('&', map {
            "$_=" . $form{$_} =~ s/(\W)/sprintf '%%%02X', ord $1/ger
        } sort keys %form),
        'Content-Type' => 'application/x-www-form-urlencoded');
}

# Another application gets a token of theirs, which they do not keep.
sub _at_app {
    my ($self, $person) = @_;
    return unless $person->{id};
    my $code = $self->_control(sub {
        $_[0]->oauth_code($person->{id}, 'app', $VERIFIER);
    });
    $self->_ask('app', 'oauth/token', { grant_type => 'authorization_code',
        client_id => 'app', code => $code, code_verifier => $VERIFIER });
    return;
}

# ---- sessions that go on

# The user of the token, who may have changed.
sub _at_own {
    my ($self, $person) = @_;
    $self->_ask('own', 'user', undef,
        Authorization => "Bearer $person->{access}");
    return;
}


sub _at_refresh {
    my ($self, $person) = @_;
    return $self->_ask('refresh', 'token?grant_type=refresh_token',
        { refresh_token => $person->{refresh} });
}

sub _at_refresh_route {
    my ($self, $person) = @_;
    return $self->_route(refresh => { refresh_token => $person->{refresh} });
}

# Their factor is enrolled once: with it, a session must have two factors to
# enroll another.
sub _at_mfa {
    my ($self, $person) = @_;
    my @bearer = (Authorization => "Bearer $person->{access}");
    my $name = join '-', 'app', $$, ++$factors;
    my $factor = $person->{factor} ||= _object($self->_ask('factors', 'factors',
        { factor_type => 'totp', friendly_name => $name }, @bearer))->{id}
        or return;
    my $challenge = _object($self->_ask('challenge',
        "factors/$factor/challenge", {}, @bearer))->{id} or return;
    return $self->_ask('mfa', "factors/$factor/verify",
        { code => '123456', challenge_id => $challenge }, @bearer);
}

1;
