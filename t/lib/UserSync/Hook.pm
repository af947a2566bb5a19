package UserSync::Hook;

# What the tests of the hook share: servers with a hook, bodies as Supabase
# sends them, and calls signed as Supabase signs them.
#
#   use UserSync::Test;
#   use UserSync::Hook;
#
#   my $httpd = hook_server('app')->start;
#   allowed_ok call_hook($httpd, token_body(sub => my $id = new_id())), $id;

use strict;
use warnings;

use Digest::SHA qw(hmac_sha256);
use Exporter qw(import);
use JSON::PP ();
use MIME::Base64 ();
use Test::More ();
use Time::HiRes qw(time);

use UserSync::Gate qw(database has_row new_id);
use UserSync::Httpd ();
use UserSync::Tables qw(person);
use UserSync::Test qw(post show);
use UserSync::Util qw(slurp spew top_dir);

our @EXPORT = qw(
    $SECRET allowed_ok call_hook captured claims_of created_body hook_lines
    hook_server new_id refused_hook_ok secret_of sign_hook token_body
);

# That of the captured requests.
our $SECRET = 'v1,whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=';

my $JSON = JSON::PP->new->utf8->canonical->allow_nonref;
my $calls = 0;

# ---- servers

# The lines of a hook.
sub hook_lines {
    my ($path, @lines) = @_;
    return join "\n", qq{<Location "$path">}, '    SetHandler usersync-hook',
        (map {"    $_"} @lines), "</Location>\n";
}

# A private httpd with that database and a hook at /hook; config => further
# lines, secret => a value instead of $SECRET in a file, lines => [in the
# section], else as for UserSync::Httpd->new.
sub hook_server {
    my ($db, %arg) = @_;
    my $config = delete $arg{config} || '';
    my $lines  = delete $arg{lines} || [];
    my $secret = delete $arg{secret} || $SECRET;
    my $file   = "$ENV{USERSYNC_RUN}/hook.$$." . ++$calls . '.secret';
    spew($file, "$secret\n");
    chmod 0600, $file;
    UserSync::Gate::has_rows_in($db);
    return UserSync::Httpd->new(%arg,
        config => database($db) . "UserSyncHookSecret file:$file\n"
            . hook_lines('/hook', @$lines) . $config);
}

# A secret of this many bytes.
sub secret_of {
    my ($bytes) = @_;
    return 'v1,whsec_' . MIME::Base64::encode('s' x $bytes, '');
}

# ---- bodies

# The body of customize-access-token; arguments replace claims. A value that is
# a reference to a scalar is JSON text as it stands.
sub token_body {
    my (%claim) = @_;
    my $method = delete $claim{method} || 'password';
    my $sub = $claim{sub} ||= new_id();
    my @all = (
        iss => 'http://127.0.0.1:9999/auth/v1', sub => $sub,
        aud => 'authenticated', exp => \1795904895, iat => \1795901295,
        email => "$sub\@example.com", phone => '',
        app_metadata => \'{"provider":"email"}', user_metadata => \'{}',
        role => 'authenticated', aal => 'aal1',
        amr => \'[{"method":"password","timestamp":1795901295}]',
        session_id => '591831b8-f3e0-42aa-8d88-a73803661dc4',
        is_anonymous => \'false',
    );
    for (my $i = 0; $i < @all; $i += 2) {
        $all[$i + 1] = delete $claim{$all[$i]} if exists $claim{$all[$i]};
    }
    my @more = map { $_ => $claim{$_} } sort keys %claim;
    return _body('customize-access-token', user_id => $sub,
        claims => \_object(@all, @more), authentication_method => $method);
}

# The body of before-user-created or after-user-created, or of another hook
# that has a user.
sub created_body {
    my ($name, %user) = @_;
    $user{id} ||= new_id();
    return _body($name, user => \_object(
        aud => 'authenticated', role => '', email => "$user{id}\@example.com",
        phone => '', app_metadata => \'{}', user_metadata => \'{}',
        identities => \'[]', is_anonymous => \'false', %user));
}

sub _body {
    my ($name, @members) = @_;
    return _object(metadata => \_object(
        uuid => new_id(), time => '2026-11-28T21:28:15.026956603Z',
        name => $name, ip_address => '127.0.0.1'), @members);
}

sub _object {
    my (@pairs) = @_;
    my @members;
    while (my ($name, $value) = splice @pairs, 0, 2) {
        push @members, $JSON->encode($name) . ':'
            . (ref $value ? $$value : $JSON->encode($value));
    }
    return '{' . join(',', @members) . '}';
}

# The bytes of the claims in a body.
sub claims_of {
    my ($body) = @_;
    return $1 if $body =~ /"claims":(\{.*\}),"authentication_method"/s;
    return;
}

# A captured request of the real server: {body, headers}
sub captured {
    my ($name) = @_;
    my $file = top_dir() . "/t/fixtures/supabase/hooks/$name.request";
    my %header = map { /^([^:]+): (.*?)\r?$/ } split /\n/,
        slurp("$file.headers");
    return { body => slurp("$file.body"), headers => \%header };
}

# ---- calls

# The headers of a signed request. secrets => several, joined by "|"; id, time
# => other values; signature => instead of the right one.
sub sign_hook {
    my ($body, %arg) = @_;
    my $id = $arg{id} || sprintf 'msg_%d_%d', $$, ++$calls;
    my $time = defined $arg{time} ? $arg{time} : int time;
    my @signatures = map {
        my ($base64) = /^v1,whsec_(.*)/ or die "not a secret: $_\n";
        'v1,' . MIME::Base64::encode(hmac_sha256("$id.$time.$body",
            MIME::Base64::decode($base64)), '');
    } split /\|/, $arg{secrets} || $SECRET;
    return ('Webhook-Id' => $id, 'Webhook-Timestamp' => $time,
        'Webhook-Signature' => defined $arg{signature} ? $arg{signature}
            : join ', ', @signatures);
}

# Sends a body to /hook (or path => another) of a server, signed; further
# arguments as for sign_hook, headers => {...} replaces some.
sub call_hook {
    my ($httpd, $body, %arg) = @_;
    return post($httpd->url($arg{path} || '/hook'), $body,
        sign_hook($body, %arg), %{ $arg{headers} || {} });
}

# ---- checks

# A token that is allowed: these claims, byte for byte, and a row.
sub allowed_ok {
    my ($response, $body, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my ($id) = $body =~ /"user_id":"([^"]+)"/;
    return Test::More::is_deeply(
        [$response->{status}, $response->{headers}{'content-type'},
            $response->{body}, has_row(lc $id)],
        [200, 'application/json', '{"claims":' . claims_of($body) . '}', 1],
        $name || 'allowed') || Test::More::diag(show($response));
}

# Refused in the way that Supabase passes on.
sub refused_hook_ok {
    my ($response, $status, $message, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $error = eval { $response->{json}{error} } || {};
    return Test::More::ok(
        $response->{status} == 200
            && ($error->{http_code} || 0) == $status
            && ($error->{message} || '') =~ $message,
        $name || "refused with $status") || Test::More::diag(show($response));
}

1;
