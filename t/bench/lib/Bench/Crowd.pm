package Bench::Crowd;

# The users of the scenarios of the gate and the hook: files with a request
# header, or a signed call, for each, for load.lua.

use strict;
use warnings;

use Digest::MD5 qw(md5_hex);
use Digest::SHA qw(hmac_sha256);
use MIME::Base64 qw(decode_base64 decode_base64url encode_base64);
use POSIX ();
use Time::HiRes ();

use AuthDouble::Json ();
use AuthDouble::Jwt ();
use UserSync::HTTP ();
use UserSync::Util qw(new_dir read_json slurp spew top_dir);

use Bench::World ();

my $FIXTURES = top_dir() . '/t/fixtures/supabase';

# This many known users: a name that httpd believes, as in mod_authn_anon.
sub names {
    my ($world, $db, $count) = @_;
    return _file(map { _name($_->{id}) } _known($world, $db, $count));
}

# This many unknown users.
sub strangers {
    my ($count) = @_;
    return _file(map {
        _name(sprintf '%04x%04x-%04x-4%03x-8%03x-%04x%04x%04x',
            map { int rand $_ } (65536) x 3, (4096) x 2, (65536) x 3)
    } 1 .. $count);
}

# Supabase's access tokens, ES256, with a long lifetime.
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

# ---- the hook

my $KEY = 'the secret of the benchmark.....';

# A file with the hook's secret.
sub secret {
    my ($world) = @_;
    my $file = $world->dir . '/hook.secret';
    if (!-e $file) {
        spew($file, 'v1,whsec_' . encode_base64($KEY, '') . "\n");
        chmod 0600, $file;
    }
    return $file;
}

# A recorded call: texts, between which are the id and the e-mail of its user.
my ($ID, $EMAIL, @PIECES);

sub _record {
    my $body = slurp("$FIXTURES/hooks/token_password.request.body");
    ($ID)    = $body =~ /"user_id":"([^"]+)"/;
    ($EMAIL) = $body =~ /"claims":\{[^{]*"email":"([^"]+)"/;
    @PIECES  = split /(\Q$ID\E|\Q$EMAIL\E)/, $body;
    return;
}

# A call for the user of this number, signed now: { body, headers }
sub call {
    my ($number) = @_;
    _record() unless @PIECES;
    my $email = Bench::World::email($number);
    my $user = join '-', unpack 'a8a4a4a4a12', md5_hex($email);
    my $body = join '', map {
        $_ eq $ID ? $user : $_ eq $EMAIL ? $email : $_
    } @PIECES;
    return _signed($body);
}

# A body, signed now: { body, headers }
sub _signed {
    my ($body) = @_;
    my $name = sprintf '%08x-%04x-4%03x-8%03x-%012x', rand 2**32, rand 2**16,
        rand 2**12, rand 2**12, rand 2**48;
    my $time = time;
    return { body => $body, headers => ['Webhook-Id' => $name,
        'Webhook-Timestamp' => $time, 'Webhook-Signature' => 'v1,'
            . encode_base64(hmac_sha256("$name.$time.$body", $KEY), '')] };
}

# An event about the user of this number, later than all before, signed now.
sub event {
    my ($number) = @_;
    my $email = Bench::World::email($number);
    my $user = join '-', unpack 'a8a4a4a4a12', md5_hex($email);
    my $now = Time::HiRes::time();
    my $time = POSIX::strftime('%Y-%m-%dT%H:%M:%S', gmtime $now)
        . sprintf '.%06d+00:00', ($now - int $now) * 1e6;
    return _signed(qq({"type":"UPDATE","id":"$user","email":"$email",)
        . '"phone":null,"is_anonymous":false,"app_metadata":{"provider":"email"'
        . ',"providers":["email"]},"user_metadata":{"from":"bench"},'
        . qq("banned_until":null,"deleted_at":null,"updated_at":"$time"}));
}

# A file of calls that make($number) makes, a line for each, which may have more
# headers: tabs separate the headers and the body.
sub calls {
    my ($make, $numbers, @more) = @_;
    my $file = new_dir('crowd') . '/calls';
    open my $out, '>', $file or die "$file: $!\n";
    for my $number (@$numbers) {
        my $call = $make->($number);
        my @header = @{ $call->{headers} };
        my @lines;
        push @lines, join ': ', splice @header, 0, 2 while @header;
        print {$out} join("\t", @lines, @more, $call->{body}), "\n";
    }
    close $out or die "$file: $!\n";
    return $file;
}

# ---- the gate

# The key to verify them with, as a JWK.
sub key {
    my $jwks = read_json("$FIXTURES/jwks_es256_rs256.json");
    my ($key) = grep { $_->{alg} eq 'ES256' } @{ $jwks->{keys} };
    return UserSync::HTTP::encode_json($key);
}

# The claims of a recorded token.
sub _claims {
    my ($token) = grep { $_->{name} eq 'valid_es256' }
        @{ read_json("$FIXTURES/jwt_tokens.json") };
    return decode_base64url((split /\./, $token->{token})[1]);
}

# In the order of their numbers, which differs from that of their ids.
sub _known {
    my ($world, $db, $count) = @_;
    return $world->pg->sql($db =>
        'SELECT id, email FROM users ORDER BY email LIMIT ?', $count);
}

# The user in such a line.
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
