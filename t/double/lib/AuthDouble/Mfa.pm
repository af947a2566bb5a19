package AuthDouble::Mfa;
# POST /factors, /factors/ID/challenge and /factors/ID/verify, and DELETE
# /factors/ID for TOTP. The code of every factor is config "mfa_code".
use strict;
use warnings;
use AuthDouble::Json qw(obj num);
use AuthDouble::Later qw(pause);
use AuthDouble::Session qw(session);
use AuthDouble::Store;
use AuthDouble::Token;
use AuthDouble::UserJson qw(now rfc3339);

use constant LASTS => 300;    # seconds, of a challenge

sub enroll {
    my ($c) = @_;
    my ($user, $s, $failed) = AuthDouble::Token::who($c);
    return $failed if $failed;
    my $p = $c->params({friendly_name => 'string', factor_type => 'string'},
        'EnrollFactorParams') or return $c->{failed};
    return $c->error(400, 'validation_failed',
        'factor_type needs to be totp, phone, or webauthn')
        if ($p->{factor_type} // '') ne 'totp';
    my $name = $p->{friendly_name} // '';
    my @known = @{$user->{factors} || []};
    return $c->error(422, 'mfa_factor_name_conflict', 'A factor with the'
        . qq( friendly name "$name" for this user already exists))
        if grep { $_->{friendly_name} eq $name } @known;
    return $c->error(403, 'insufficient_aal', 'AAL2 required to enroll a new'
        . ' factor') if $s->{aal} ne 'aal2'
        && grep { $_->{status} eq 'verified' } @known;
    my $time = rfc3339(now());
    my $factor = {id => AuthDouble::Store::uuid(), created_at => $time,
        updated_at => $time, status => 'unverified', friendly_name => $name,
        factor_type => 'totp', phone => ''};
    push @{$user->{factors}}, $factor;
    $c->{store}->touch($user);
    my $secret = 'JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP';
    return $c->json(200, obj(id => $factor->{id}, type => 'totp',
        friendly_name => $name, totp => obj(qr_code => '<svg></svg>', secret => $secret,
        uri => "otpauth://totp/double?secret=$secret")));
}

# (user, session, factor) or (undef, undef, undef, answer)
sub _factor {
    my ($c) = @_;
    my ($user, $s, $failed) = AuthDouble::Token::who($c);
    return (undef, undef, undef, $failed) if $failed;
    my ($factor) = grep { $_->{id} eq $c->{id} } @{$user->{factors} || []};
    return ($user, $s, $factor) if $factor;
    return (undef, undef, undef, $c->error(404, 'mfa_factor_not_found',
        'Factor not found'));
}

sub challenge {
    my ($c) = @_;
    my ($user, undef, $factor, $failed) = _factor($c);
    return $failed if $failed;
    my $id = AuthDouble::Store::uuid();
    $c->{store}{challenges}{$id} = {factor => $factor->{id}, at => time};
    $factor->{last_challenged_at} = rfc3339(now());
    $c->{store}->touch($user);
    return $c->json(200, obj(id => $id, type => 'totp',
        expires_at => num(time + LASTS)));
}

# The session goes on with two factors: a new refresh token, and no other
# session with one factor only. Refused, all is as before, the challenge too.
sub verify {
    my ($c) = @_;
    my ($user, $s, $factor, $failed) = _factor($c);
    return $failed if $failed;
    my $p = $c->params({challenge_id => 'string', code => 'string'},
        'VerifyFactorParams') or return $c->{failed};
    my $store = $c->{store};
    return pause(0.02)->then(sub { verify($c) }) if $store->{busy}{$s->{id}};
    my $id = $p->{challenge_id} // '';
    my $challenge = $store->{challenges}{$id};
    return $c->error(422, 'mfa_factor_not_found',
        'MFA factor with the provided challenge ID not found')
        if !$challenge || $challenge->{factor} ne $factor->{id};
    return $c->error(422, 'mfa_challenge_expired', "MFA challenge $id has"
        . ' expired, verify against another challenge or create a new'
        . ' challenge.') if $challenge->{at} + LASTS < time;
    return $c->error(422, 'mfa_verification_failed',
        'Invalid TOTP code entered')
        if ($p->{code} // '') ne $c->{config}{mfa_code};
    my $old = $store->active_token($s);
    my $new = $store->make_token;
    my @amr = (['totp', time], grep { $_->[0] ne 'totp' } @{$s->{amr}});
    return session($c, $user, method => 'totp', session => $s, token => $new,
        counter => $s->{counter} + 1, aal => 'aal2', amr => \@amr, bare => 1,
        change => sub { _verified($_[0], $factor->{id}) },
        commit => sub {
            delete $store->{challenges}{$id};
            @$s{qw(aal amr)} = ('aal2', \@amr);
            $store->add_token($s, $new, $old // '');
            $store->end_session($_) for grep { $_->{user_id} eq $user->{id}
                && $_->{aal} ne 'aal2' } values %{$store->{sessions}};
        });
}

sub unenroll {
    my ($c) = @_;
    my ($user, $s, $factor, $failed) = _factor($c);
    return $failed if $failed;
    return $c->error(422, 'insufficient_aal',
        'AAL2 required to unenroll verified factor')
        if $factor->{status} eq 'verified' && $s->{aal} ne 'aal2';
    @{$user->{factors}} = grep { $_ != $factor } @{$user->{factors}};
    for (grep { $_->{user_id} eq $user->{id} }
        values %{$c->{store}{sessions}}) {
        $_->{aal} = 'aal1';
        $_->{amr} = [grep { $_->[0] ne 'totp' } @{$_->{amr}}];
    }
    $c->{store}->touch($user);
    return $c->json(200, obj(id => $factor->{id}));
}

sub _verified {
    my ($user, $id) = @_;
    for (grep { $_->{id} eq $id && $_->{status} ne 'verified' }
        @{$user->{factors}}) {
        @$_{qw(status updated_at)} = ('verified', rfc3339(now()));
    }
    return;
}

1;
