package AuthDouble::Jwt;
# Access tokens: ES256 (or RS256, HS256) with the fixture test keys.
use strict;
use warnings;
use Crypt::Mac::HMAC qw(hmac);
use Crypt::PK::ECC;
use Crypt::PK::RSA;
use JSON::PP ();
use MIME::Base64 qw(encode_base64url decode_base64url);
use AuthDouble::Json qw(encode decode obj);

# new($keys): $keys as in jwt_test_keys.json, or undef to invent an EC key
sub new {
    my ($class, $keys) = @_;
    my $self = bless {secret => 'double-only-hs256-secret-00000000'}, $class;
    if ($keys) {
        $self->{ES256} = Crypt::PK::ECC->new(\_jwk($keys->{es256}));
        $self->{RS256} = Crypt::PK::RSA->new(\_jwk($keys->{rs256}));
        $self->{kid} = {map { uc $_ => $keys->{$_}{kid} } qw(es256 rs256)};
        $self->{secret} = $keys->{hs256_secret};
    }
    else {
        $self->{ES256} = Crypt::PK::ECC->new;
        $self->{ES256}->generate_key('secp256r1');
        $self->{kid} = {ES256 => '3f7c1d9a-52e4-4b60-9a1e-0c8b7d6e5f41'};
    }
    return $self;
}

sub _jwk { return JSON::PP->new->encode($_[0]) }

# the public keys in random order, as a Go map yields them
sub jwks {
    my ($self) = @_;
    my @out;
    for my $alg (grep { $self->{$_} } qw(ES256 RS256)) {
        my $k = $self->{$alg}->export_key_jwk('public', 1);
        push @out, {(map { $_ => $k->{$_} } grep { defined $k->{$_} }
            qw(kty crv x y n e)), alg => $alg, kid => $self->{kid}{$alg},
            use => 'sig', key_ops => ['verify']};
    }
    @out = reverse @out if rand() < 0.5;
    return {keys => \@out};
}

sub sign {
    my ($self, $claims, $alg) = @_;
    $alg ||= 'ES256';
    my $kid = $self->{kid}{$alg};
    my $input = join '.', map { encode_base64url(encode($_)) }
        obj(alg => $alg, ($kid ? (kid => $kid) : ()), typ => 'JWT'), $claims;
    return "$input." . encode_base64url($self->_signature($alg, $input));
}

sub _signature {
    my ($self, $alg, $input) = @_;
    return hmac('SHA256', $self->{secret}, $input) if $alg eq 'HS256';
    my $key = $self->{$alg} or die "no key for $alg\n";
    return $alg eq 'ES256' ? $key->sign_message_rfc7518($input, 'SHA256')
        : $key->sign_message($input, 'SHA256', 'v1.5');
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
    my $ok = $alg eq 'HS256' ? $sig eq $self->_signature('HS256', $input)
        : $alg eq 'ES256' ? $self->{ES256}->verify_message_rfc7518($sig, $input,
            'SHA256')
        : $alg eq 'RS256' && $self->{RS256} ? $self->{RS256}->verify_message(
            $sig, $input, 'SHA256', 'v1.5')
        : die $no . "token is unverifiable: signing method $alg is invalid\n";
    die $no . "token signature is invalid: signature is invalid\n" if !$ok;
    die $no . "token has invalid claims: token is expired\n"
        if $claims->{exp} && ${$claims->{exp}} <= ($now // time);
    return $claims;
}

1;
