package AuthDouble::External;
# Sign-ins that begin elsewhere: what a provider says of a user, and POST /token
# with the grants id_token (a token of a provider, made by the control port) and
# pkce (a code that a browser has brought back, or made there, too).
use strict;
use warnings;
use AuthDouble::Hook;
use AuthDouble::Json qw(obj);
use AuthDouble::Later qw(when);
use AuthDouble::Redirect qw(code_for fits);
use AuthDouble::Session qw(session);
use AuthDouble::Signup;
use AuthDouble::Store;
use AuthDouble::UserJson qw(user_json);

sub _oauth_error {
    my ($c, $text) = @_;
    return $c->json(400, obj(error => 'invalid request',
        error_description => $text));
}

sub id_token {
    my ($c) = @_;
    my $p = $c->params({id_token => 'string', provider => 'string'},
        'IdTokenGrantParams') or return $c->{failed};
    return _oauth_error($c, 'id_token required')
        if !length($p->{id_token} // '');
    return _oauth_error($c, 'provider or client_id and issuer required')
        if !length($p->{provider} // '');
    my $claims = eval { $c->{jwt}->verify($p->{id_token}) };
    return _oauth_error($c, 'Bad ID token')
        if !$claims || ($claims->{iss} // '') ne "https://$p->{provider}.test";
    return sign_in($c, $p->{provider}, $claims, method => 'oauth');
}

# sign_in($c, $provider, {sub, email, ...}, method => , ...): the answer with a
# session
#   challenge => [...]   {code => ...} instead, for the grant pkce
#   is_sso => 1          the address makes nobody known
sub sign_in {
    my ($c, $provider, $claims, %opt) = @_;
    my $store = $c->{store};
    my $email = lc($claims->{email} // '');
    my $known = $email ne '' && !$opt{is_sso}
        ? $store->find($c->aud, $email, '') : undef;
    my $user = _by_identity($provider, $claims->{sub}, $known // ())
        // _by_identity($provider, $claims->{sub}, $store->users)
        // $known;
    return $c->error(422, 'signup_disabled',
        'Signups not allowed for this instance')
        if !$user && $c->{config}{disable_signup};
    return _new($c, $provider, $claims, $email, \%opt) if !$user;
    return $c->error(403, 'user_banned', 'User is banned')
        if $store->banned($user);
    return _enter($c, $user, \%opt);
}

sub _enter {
    my ($c, $user, $opt, %more) = @_;
    return session($c, $user, method => $opt->{method}, %more)
        if !$opt->{challenge};
    $more{$_} && $more{$_}->($user) for qw(change commit);
    return {status => 200, code => code_for($c->{store}, $user,
        $opt->{method}, $opt->{challenge})};
}

sub _by_identity {
    my ($provider, $subject, @users) = @_;
    for my $user (@users) {
        return $user if grep { $_->{provider} eq $provider
            && $_->{id} eq $subject } @{$user->{identities}};
    }
    return undef;
}

# user and token are made together; the id that the first hook is told is
# nobody's
sub _new {
    my ($c, $provider, $claims, $email, $opt) = @_;
    my $store = $c->{store};
    my %data = map { $_ => $claims->{$_} } grep { exists $claims->{$_} }
        qw(email name iss sub);
    my @arg = (aud => $c->aud, email => $email, provider => $provider,
        subject => $claims->{sub}, data => \%data, identity => \%data,
        is_sso => $opt->{is_sso});
    my $failed = AuthDouble::Hook::run($c, 'before_user_created',
        sub { AuthDouble::Signup::before_input($store->make_user(@arg),
            \%data) });
    return when($failed, sub {
        return $_[0] if $_[0];
        my $user = $store->make_user(@arg);
        return when(_enter($c, $user, $opt,
            change => sub { $store->confirm($_[0]) },
            commit => sub { $store->add_user($user) }), sub {
            my ($res) = @_;
            return $res if $res->{status} != 200;
            return when(AuthDouble::Hook::run($c, 'after_user_created',
                sub { (user => user_json($user)) }), sub { $_[0] // $res });
        });
    });
}

sub pkce {
    my ($c) = @_;
    my $p = $c->params({auth_code => 'string', code_verifier => 'string'},
        'PKCEGrantParams') or return $c->{failed};
    my ($code, $verifier) = map { $_ // '' } @$p{qw(auth_code code_verifier)};
    return $c->error(400, 'validation_failed', 'invalid request: both auth code'
        . ' and code verifier should be non-empty')
        if $code eq '' || $verifier eq '';
    my $store = $c->{store};
    my ($id, $method, $wanted) = @{$store->{codes}{$code} || []};
    my $user = defined $id ? $store->user($id) : undef;
    return $c->error(404, 'flow_state_not_found',
        'invalid flow state, no valid flow state found') if !$user;
    return $c->error(400, 'bad_code_verifier',
        'code challenge does not match previously saved code verifier')
        if !fits($wanted, $verifier);
    return session($c, $user, method => $method,
        commit => sub { delete $store->{codes}{$code} });
}

1;
