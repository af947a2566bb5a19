package AuthDouble::AdminWrite;
# What only an administrator may do: POST /admin/users, PUT and DELETE
# /admin/users/ID, POST /admin/generate_link and POST /invite. All but DELETE
# answer with a bare user.
use strict;
use warnings;
use AuthDouble::Admin;
use AuthDouble::Json qw(obj bool);
use AuthDouble::Redirect qw(target with_query);
use AuthDouble::Signup;
use AuthDouble::UserJson qw(user_json now);

my %FIELDS = (email => 'string', phone => 'string', password => 'string',
    email_confirm => 'bool', user_metadata => 'map', app_metadata => 'map',
    ban_duration => 'string', role => 'string');
my $DUPLICATE = 'A user with this email address has already been registered';
my %UNIT = (h => 3600, m => 60, s => 1);

# the fields of the request, or undef when $c->{failed} is the answer
sub _read {
    my ($c, $fields, $name) = @_;
    $c->{failed} = AuthDouble::Admin::refused($c);
    return $c->{failed} ? undef : $c->params($fields, $name);
}

sub _email {
    my ($c, $p, $user) = @_;
    my $failed = AuthDouble::Signup::check_email($c, $p,
        sub { $c->error(400, 'validation_failed', $_[0]) });
    return $failed if $failed;
    my $other = $c->{store}->find($c->aud, $p->{email}, '') or return undef;
    return $user && $other->{id} eq $user->{id} ? undef
        : $c->error(422, 'email_exists', $DUPLICATE);
}

sub create {
    my ($c) = @_;
    my $p = _read($c, \%FIELDS, 'AdminUserParams') or return $c->{failed};
    my $phone = ($p->{phone} // '') =~ s/[+ ]//gr;
    return $c->error(400, 'validation_failed',
        'Cannot create a user without either an email or phone')
        if $phone eq '' && ($p->{email} // '') eq '';
    my $failed = ($p->{email} // '') ne '' ? _email($c, $p) : undef;
    return $failed if $failed;
    my $data = $p->{user_metadata} || {};
    my $user = $c->{store}->create_user(aud => $c->aud, phone => $phone,
        email => $p->{email}, password => $p->{password},
        confirmed => $p->{email_confirm});
    $user->{user_metadata} = {($p->{email_confirm}
        ? (email_verified => bool(1)) : ()), %$data};
    return $c->json(200, user_json($user, no_confirmed_at => 1,
        fresh_identity => 1, fresh => {email_confirmed_at => 1}));
}

# (user) or (undef, answer)
sub _user {
    my ($c) = @_;
    my $user = $c->{id} =~ /\A[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\z/i
        ? $c->{store}->user(lc $c->{id})
        : return (undef, $c->error(404, 'validation_failed',
        'user_id must be an UUID'));
    return $user ? ($user)
        : (undef, $c->error(404, 'user_not_found', 'User not found'));
}

sub update {
    my ($c) = @_;
    my $p = _read($c, \%FIELDS, 'AdminUserParams') or return $c->{failed};
    my ($user, $failed) = _user($c);
    return $failed if $failed;
    my $store = $c->{store};
    if (($p->{email} // '') ne '') {
        $failed = _email($c, $p, $user);
        return $failed if $failed;
        $store->set_email($user, $p->{email});
    }
    $user->{$_} = {%{$user->{$_}}, %{$p->{$_}}}
        for grep { $p->{$_} } qw(user_metadata app_metadata);
    $user->{$_} = $p->{$_}
        for grep { ($p->{$_} // '') ne '' } qw(password role);
    $store->confirm($user) if $p->{email_confirm};
    my $ban = $p->{ban_duration} // '';
    if ($ban eq 'none') { delete $user->{banned_until} }
    elsif ($ban =~ /\A([0-9]+)([hms])\z/) {
        $user->{banned_until} = [time + $1 * $UNIT{$2}, 0];
    }
    $store->touch($user);
    return $c->json(200, user_json($user));
}

sub remove {
    my ($c) = @_;
    my $failed = AuthDouble::Admin::refused($c);
    return $failed if $failed;
    my $p = length $c->{req}{body} ? $c->params(
        {should_soft_delete => 'bool'}, 'adminUserDeleteParams') : {};
    return $c->{failed} if !$p;
    (my $user, $failed) = _user($c);
    return $failed if $failed;
    if ($p->{should_soft_delete}) { $c->{store}->soft_delete($user) }
    else { $c->{store}->delete_user($user) }
    return $c->json(200, {});
}

# (user) or (undef, answer): invited, with a mail
sub _invited {
    my ($c, $email, $data) = @_;
    my $store = $c->{store};
    my $user = $store->find($c->aud, $email, '');
    return (undef, $c->error(422, 'email_exists', $DUPLICATE))
        if $user && $store->confirmed($user);
    $user //= $store->create_user(aud => $c->aud, email => $email,
        data => $data);
    $user->{$_} = now() for qw(invited_at confirmation_sent_at);
    $store->new_otp($user, 'confirmation');
    $store->touch($user);
    return $user;
}

sub invite {
    my ($c) = @_;
    my $p = _read($c, {email => 'string', data => 'map'}, 'InviteParams')
        or return $c->{failed};
    my $failed = AuthDouble::Signup::check_email($c, $p,
        sub { $c->error(400, 'validation_failed', $_[0]) });
    return $failed if $failed;
    (my $user, $failed) = _invited($c, $p->{email}, $p->{data});
    return $failed // $c->json(200, user_json($user, fresh =>
        {invited_at => 1, confirmation_sent_at => 1}));
}

my %KIND = (magiclink => 'recovery', recovery => 'recovery',
    signup => 'confirmation', invite => 'confirmation');

sub generate_link {
    my ($c) = @_;
    my $p = _read($c, {type => 'string', email => 'string',
        password => 'string', redirect_to => 'string', data => 'map'},
        'GenerateLinkParams') or return $c->{failed};
    my $bad = sub { $c->error(400, 'validation_failed', $_[0]) };
    my $failed = AuthDouble::Signup::check_email($c, $p, $bad);
    return $failed if $failed;
    my $type = $p->{type} // '';
    my $kind = $KIND{$type} or return $bad->(
        "Invalid email action link type requested: $type");
    my $store = $c->{store};
    my $user = $store->find($c->aud, $p->{email}, '');
    return $c->error(404, 'user_not_found', 'User with this email not found')
        if !$user && $type eq 'recovery';
    if ($type eq 'invite') {
        ($user, $failed) = _invited($c, $p->{email}, $p->{data});
        return $failed if $failed;
    }
    $type = 'signup' if !$user;
    $user //= $store->create_user(aud => $c->aud, email => $p->{email},
        password => $p->{password}, data => $p->{data});
    $kind = $KIND{$type};
    $user->{$kind . '_sent_at'} = now();
    $store->new_otp($user, $kind);
    my $otp = $user->{otp}{$kind};
    my $to = target($c, $p->{redirect_to});
    my $base = $c->{config}{external_url}
        || 'http://' . ($c->{req}{h}{host} // '127.0.0.1') . '/auth/v1';
    return $c->json(200, obj(@{user_json($user)},
        action_link => with_query("$base/verify", token => $otp->{hash},
        type => $type, redirect_to => $to), email_otp => $otp->{code},
        hashed_token => $otp->{hash}, verification_type => $type,
        redirect_to => $to));
}

1;
