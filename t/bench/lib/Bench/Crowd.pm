package Bench::Crowd;

# The users of the gate's scenarios: files with a request header for each, for
# load.lua.

use strict;
use warnings;

use MIME::Base64 qw(decode_base64 decode_base64url encode_base64);

use AuthDouble::Json ();
use AuthDouble::Jwt ();
use UserSync::HTTP ();
use UserSync::Util qw(new_dir read_json spew top_dir);

my $FIXTURES = top_dir() . '/t/fixtures/supabase';

# Of so many known users: a name that httpd believes, as mod_authn_anon does.
sub names {
    my ($world, $db, $count) = @_;
    return _file(map { _name($_->{id}) } _known($world, $db, $count));
}

# Of so many users whom nobody knows.
sub strangers {
    my ($count) = @_;
    return _file(map {
        _name(sprintf '%04x%04x-%04x-4%03x-8%03x-%04x%04x%04x',
            map { int rand $_ } (65536) x 3, (4096) x 2, (65536) x 3)
    } 1 .. $count);
}

# Supabase's access tokens, ES256, good for long.
sub tokens {
    my ($world, $db, $count) = @_;
    my $jwt = AuthDouble::Jwt->new(read_json("$FIXTURES/jwt_test_keys.json"));
    my $claims = _claims();
    return _file(map {
        my ($id, $email) = @$_{qw(id email)};
        my $text = $claims =~ s/"sub":"\K[^"]+/$id/gr
            =~ s/"email":"\K[^"]+/$email/gr;
        'Authorization: Bearer '
            . $jwt->sign(AuthDouble::Json::decode($text));
    } _known($world, $db, $count));
}

# The key to verify them with, as a JWK.
sub key {
    my $jwks = read_json("$FIXTURES/jwks_es256_rs256.json");
    my ($key) = grep { $_->{alg} eq 'ES256' } @{ $jwks->{keys} };
    return UserSync::HTTP::encode_json($key);
}

# Those of a token that was recorded.
sub _claims {
    my ($token) = grep { $_->{name} eq 'valid_es256' }
        @{ read_json("$FIXTURES/jwt_tokens.json") };
    return decode_base64url((split /\./, $token->{token})[1]);
}

# In the order of their numbers, which is none of their ids.
sub _known {
    my ($world, $db, $count) = @_;
    return $world->pg->sql($db =>
        'SELECT id, email FROM users ORDER BY email LIMIT ?', $count);
}

# Who it is in such a line.
sub id_of {
    my ($line) = @_;
    my ($how, $what) = $line =~ /^Authorization: (\w+) (\S+)/
        or die "nobody: $line\n";
    return (split /:/, decode_base64($what))[0] if $how eq 'Basic';
    return (decode_base64url((split /\./, $what)[1]) =~ /"sub":"(.*?)"/)[0];
}

sub _name {
    my ($id) = @_;
    return 'Authorization: Basic ' . encode_base64("$id:x", '');
}

sub _file {
    my (@lines) = @_;
    return spew(new_dir('crowd') . '/headers', join '', map {"$_\n"} @lines);
}

1;
