package UserSync::Proxied;

# What the tests of UserSyncEnsureResponse share: servers that forward
# /auth/v1/ to the double, and requests as Supabase's own clients make them.
#
#   use UserSync::Test;
#   use UserSync::Proxied;
#
#   my $httpd = proxied_server('app')->start;
#   my $response = ask($httpd, POST => '/token?grant_type=password', {...});
#   is_deeply [outcome($httpd)], ['ok', user_of($response)];

use strict;
use warnings;

use Digest::SHA qw(sha256);
use Exporter qw(import);
use JSON::PP ();
use MIME::Base64 qw(decode_base64url encode_base64url);
use Test::More ();

use UserSync::Gate qw(database has_row new_id);
use UserSync::HTTP ();
use UserSync::Httpd ();
use UserSync::Test qw(double request show);
use UserSync::Util qw(slurp);

our @EXPORT = qw(
    ask claims_in has_row new_id outcome proxied proxied_server session_json
    token_for user_of withheld_ok
);

my $JSON = JSON::PP->new->utf8->canonical;

# ---- servers

# A <Location> that forwards to the double, or to => a URL, with these lines
# (UserSyncEnsureResponse On, if there are none).
sub proxied {
    my (%arg) = @_;
    my $path  = $arg{path} || '/auth/v1/';
    my $to    = $arg{to} || double()->url . '/auth/v1/';
    my @lines = @{ $arg{lines} || ['UserSyncEnsureResponse On'] };
    return join "\n", qq{<Location "$path">},
        qq{    ProxyPass "$to"} . ($arg{worker} ? " $arg{worker}" : ''),
        (map {"    $_"} @lines), "</Location>\n";
}

# A private httpd with that database, whose main server has the filter On.
# config => further lines, lines => [of its section], to => another URL; else
# as for UserSync::Httpd->new. The access log has what outcome() reads.
sub proxied_server {
    my ($db, %arg) = @_;
    my $config = delete $arg{config} || '';
    my %section = map { $_ => delete $arg{$_} } grep { $arg{$_} }
        qw(path to lines worker);
    UserSync::Gate::has_rows_in($db);
    return UserSync::Httpd->new(%arg,
        config => database($db) . <<'CONF' . $config . proxied(%section));
UserSyncForwardClientIP X-Forwarded-For
CustomLog "@DIR@/outcomes" \
    "%{usersync-outcome}n %{usersync-user}n %{usersync-report}n %>s %m %U"
CONF
}

# ---- requests

# A request for a path below /auth/v1, with the key that browsers have; path may
# be a URL.
sub ask {
    my ($httpd, $method, $path, $body, %header) = @_;
    my $url = $path =~ /^http/ ? $path : $httpd->url("/auth/v1$path");
    return request($method, $url, $body, apikey => double()->key,
        'X-Supabase-Api-Version' => '2024-01-01', %header);
}

# The id of the user in a session or of a user alone.
sub user_of {
    my ($response) = @_;
    my $json = $response->{json} || {};
    return $json->{user} ? $json->{user}{id} : $json->{id};
}

# The payload of the token in a text.
sub claims_in {
    my ($text) = @_;
    my ($payload) = $text =~ /access_token"?[=:]\s*"?[\w-]+[.]([\w-]+)/
        or return {};
    return $JSON->decode(decode_base64url($payload));
}

# A token with these claims, which nobody has signed.
sub token_for {
    my (%claim) = @_;
    return join '.', map { encode_base64url($_) }
        '{"alg":"HS256","typ":"JWT"}', $JSON->encode(\%claim), 'signature';
}

# The challenge of PKCE for a verifier (RFC 7636).
sub challenge_of {
    my ($verifier) = @_;
    return encode_base64url(sha256($verifier));
}

# The text of a session of a user; arguments are members of the user.
sub session_json {
    my (%user) = @_;
    $user{id} ||= new_id();
    $user{email} = "$user{id}\@example.com" unless exists $user{email};
    return $JSON->encode({ access_token => token_for(sub => $user{id}),
        token_type => 'bearer', expires_in => 3600, refresh_token => 'abcdefghijkl',
        user => { aud => 'authenticated', %user } });
}

# ---- checks

# (outcome, user, whether it was only reported) of the last request, from the
# notes.
sub outcome {
    my ($httpd) = @_;
    my ($last) = (split /\n/, slurp($httpd->dir . '/outcomes'))[-1];
    my ($outcome, $user, $report) = map { $_ eq '-' ? undef : $_ }
        split / /, $last;
    return ($outcome, $user, $report ? 'report' : ());
}

# An error in place of the answer, as Supabase's own clients read it: no token
# and none of Supabase's headers.
sub withheld_ok {
    my ($response, $status, $code, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $json = ref $response->{json} eq 'HASH' ? $response->{json} : {};
    my $header = $response->{headers};
    my @left = grep { /^(?:sb-|set-cookie|location|content-encoding|etag)/ }
        sort keys %$header;
    return Test::More::is_deeply(
        [$response->{status}, @$json{qw(code error_code)},
            ($json->{msg} || '') eq ($json->{message} || '-') ? 'text' : 'none',
            @$header{qw(content-type x-supabase-api-version cache-control)},
            $header->{'retry-after'} ? 'wait' : 'final', "@left",
            $response->{body} =~ /_token/ ? 'a token' : 'no token'],
        [$status, $code, $code, 'text', 'application/json', '2024-01-01',
            'no-store', $status == 503 && $code !~ /row/ ? 'wait' : 'final', '', 'no token'],
        $name || "withheld: $status $code") || Test::More::diag(show($response));
}

1;
