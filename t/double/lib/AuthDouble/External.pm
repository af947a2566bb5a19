package AuthDouble::External;
# Sign-ins that begin elsewhere: POST /token with the grants id_token (a token
# of a provider, made by the control port) and pkce (a code that a browser has
# brought back, made there, too).
use strict;
use warnings;
use AuthDouble::Hook;
use AuthDouble::Json qw(obj);
use AuthDouble::Later qw(when);
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
    my $store = $c->{store};
    my $email = lc($claims->{email} // '');
    my $known = $email ne '' ? $store->find($c->aud, $email, '') : undef;
    my $user = _by_identity($p->{provider}, $claims->{sub}, $known // ())
        // _by_identity($p->{provider}, $claims->{sub}, $store->users)
        // $known;
    return session($c, $user, method => 'oauth') if $user;
    return $c->error(422, 'signup_disabled',
        'Signups not allowed for this instance')
        if $c->{config}{disable_signup};
    return _new($c, $p->{provider}, $claims, $email);
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
    my ($c, $provider, $claims, $email) = @_;
    my $store = $c->{store};
    my %data = map { $_ => $claims->{$_} } grep { exists $claims->{$_} }
        qw(email name iss sub);
    my @arg = (aud => $c->aud, email => $email, provider => $provider,
        subject => $claims->{sub}, data => \%data, identity => \%data);
    my $failed = AuthDouble::Hook::run($c, 'before_user_created',
        sub { AuthDouble::Signup::before_input($store->make_user(@arg),
            \%data) });
    return when($failed, sub {
        return $_[0] if $_[0];
        my $user = $store->make_user(@arg);
        return when(session($c, $user, method => 'oauth',
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
        if $verifier ne $wanted;
    return session($c, $user, method => $method,
        commit => sub { delete $store->{codes}{$code} });
}

1;
