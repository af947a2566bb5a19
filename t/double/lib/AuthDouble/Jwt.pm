package AuthDouble::Jwt;
# Access tokens: ES256 (or RS256, HS256) with the fixture test keys.
use strict;
use warnings;
use Crypt::Mac::HMAC qw(hmac);
use Crypt::PK::ECC;
use Crypt::PK::RSA;
use JSON::PP ();
use List::Util qw(shuffle);
use MIME::Base64 qw(encode_base64url decode_base64url);
use AuthDouble::Json qw(encode decode obj);

# new($keys): $keys as in jwt_test_keys.json, or undef to invent an EC key
sub new {
    my ($class, $keys) = @_;
    my $self = bless {secret => 'double-only-hs256-secret-00000000'}, $class;
    if ($keys) {
        $self->{start} = [map { {alg => uc $_, kid => $keys->{$_}{kid},
            key => _package(uc $_)->new(\_jwk($keys->{$_}))}
        } qw(es256 rs256)];
        $self->{secret} = $keys->{hs256_secret};
    }
    else {
        $self->{start} = [_invent('ES256',
            '3f7c1d9a-52e4-4b60-9a1e-0c8b7d6e5f41')];
    }
    $self->reset;
    return $self;
}

sub _jwk { return JSON::PP->new->encode($_[0]) }

sub _package { return $_[0] eq 'ES256' ? 'Crypt::PK::ECC' : 'Crypt::PK::RSA' }

sub _invent {
    my ($alg, $kid) = @_;
    my $key = _package($alg)->new;
    $key->generate_key($alg eq 'ES256' ? 'secp256r1' : 256);
    return {alg => $alg, kid => $kid, key => $key};
}

# the keys of the start; the first one of an algorithm signs
sub reset {
    my ($self) = @_;
    $self->{keys} = [@{$self->{start}}];
    $self->{has_signed} = 0;    # an access token of a session
    return;
}

# a new key signs from now on, the old ones are still in the JWKS
sub rotate {
    my ($self, $alg) = @_;
    my $kid = sprintf '%08x-0000-4000-8000-%012x', time, ++$self->{rotated};
    unshift @{$self->{keys}}, _invent($alg, $kid);
    return $kid;
}

# the keys that sign no more leave the JWKS
sub revoke {
    my ($self) = @_;
    my %seen;
    $self->{keys} = [grep { !$seen{$_->{alg}}++ } @{$self->{keys}}];
    return;
}

# the public keys in random order, as a Go map yields them
sub jwks {
    my ($self) = @_;
    my @out;
    for my $own (@{$self->{keys}}) {
        my $k = $own->{key}->export_key_jwk('public', 1);
        push @out, {(map { $_ => $k->{$_} } grep { defined $k->{$_} }
            qw(kty crv x y n e)), alg => $own->{alg}, kid => $own->{kid},
            use => 'sig', key_ops => ['verify']};
    }
    return {keys => [shuffle @out]};
}

# undef for HS256
sub _key {
    my ($self, $alg) = @_;
    my ($own) = grep { $_->{alg} eq $alg } @{$self->{keys}};
    return $own;
}

# $header: alg, kid, typ where they differ; what is undef is left out
sub sign {
    my ($self, $claims, $alg, $header) = @_;
    $alg ||= 'ES256';
    my $own = $self->_key($alg);
    my %head = (alg => $alg, ($own ? (kid => $own->{kid}) : ()), typ => 'JWT',
        %{$header || {}});
    my $head = obj(map { $_ => $head{$_} } grep { defined $head{$_} }
        qw(alg kid typ));
    my $input = join '.', map { encode_base64url(encode($_)) } $head, $claims;
    return "$input." . encode_base64url($self->_signature($alg, $input));
}

sub _signature {
    my ($self, $alg, $input) = @_;
    return hmac('SHA256', $self->{secret}, $input) if $alg eq 'HS256';
    my $own = $self->_key($alg) or die "no key for $alg\n";
    my $key = $own->{key};
    return $alg eq 'ES256' ? $key->sign_message_rfc7518($input, 'SHA256')
        : $key->sign_message($input, 'SHA256', 'v1.5');
}

sub _verifies {
    my ($own, $sig, $input) = @_;
    return $own->{alg} eq 'ES256'
        ? $own->{key}->verify_message_rfc7518($sig, $input, 'SHA256')
        : $own->{key}->verify_message($sig, $input, 'SHA256', 'v1.5');
}

# verify($token) -> claims (hash of plain values); dies with GoTrue's text
sub verify {
    my ($self, $token, $now) = @_;
    my $no = 'invalid JWT: unable to parse or verify signature, ';
    my @part = split /\./, $token, -1;
    die $no . "token is malformed: token contains an invalid number of segments\n"
        if @part != 3;
    my ($head, $claims) = map {
        my $v = eval { AuthDouble::Json::plain(decode(decode_base64url($_))) };
        ref $v eq 'HASH' ? $v : die $no . "token is malformed\n"
    } @part[0, 1];
    my $alg = $head->{alg} // '';
    my $sig = decode_base64url($part[2]);
    my $input = "$part[0].$part[1]";
    die $no . "token is unverifiable: signing method $alg is invalid\n"
        if $alg !~ /\A(?:HS256|ES256|RS256)\z/;
    my $ok = $alg eq 'HS256' ? $sig eq $self->_signature('HS256', $input)
        : grep { $_->{alg} eq $alg
            && (!defined $head->{kid} || $head->{kid} eq $_->{kid})
            && _verifies($_, $sig, $input) } @{$self->{keys}};
    die $no . "token signature is invalid: signature is invalid\n" if !$ok;
    die $no . "token has invalid claims: token is expired\n"
        if $claims->{exp} && ${$claims->{exp}} <= ($now // time);
    return $claims;
}

1;
