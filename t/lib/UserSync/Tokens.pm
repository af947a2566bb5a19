package UserSync::Tokens;

# What the tests of conf/usersync-oauth2.conf and conf/usersync-openidc.conf
# share: a front, which is an httpd with such a file, as shipped, before an
# application that looks for the user's row; and tokens, good and bad.
#
#   my $front = front(module => 'oauth2', url => double->url);
#   passes_ok $front, token($person), $person, 'a user';
#   stopped_ok $front, double->key('anon'), 'a key';

use strict;
use warnings;

use Crypt::PK::ECC ();
use Crypt::PK::RSA ();
use Digest::SHA qw(hmac_sha256);
use Exporter qw(import);
use JSON::PP ();
use MIME::Base64 qw(decode_base64url encode_base64url);
use Test::More import => [qw(cmp_ok diag is is_deeply subtest)];

use UserSync::App ();
use UserSync::Httpd ();
use UserSync::HTTP ();
use UserSync::Tables qw(person rows_in);
use UserSync::Test qw(
    double get module_config postgres request row_of show);
use UserSync::Util qw(alive new_dir read_json slurp spew top_dir wait_until);

our @EXPORT = qw(
    ask bad_tokens end_fronts front gate_tests hs256_secret key_file passes_ok
    public_keys same_claims secret_tests stopped_ok token
);

my $ISSUER = 'https://fixtureref.supabase.co/auth/v1';

my @fronts;

# ---- a front

# module   the part of the name: conf/usersync-MODULE.conf, mod_MODULE
# type     its AuthType, for docs/gate.md
# load     the module's own name, if that differs
# url      of the project
# define   { NAME => value } besides URL and issuer
# edit     [pattern => replacement, ...] of the shipped file
# short    the short form of docs/gate.md instead of it
# config   lines before the file; more: after it
# app      other arguments for UserSync::App->start, in an array
sub front {
    my (%arg) = @_;
    my $app = UserSync::App->start(code => sub {
        my $id = $_[0]{headers}{'x-user-id'};
        return { row => defined $id ? row_of($id) : undef };
    }, @{ $arg{app} || [] });
    my %define = (USERSYNC_SUPABASE_URL => $arg{url},
        USERSYNC_SUPABASE_ISSUER => $ISSUER, %{ $arg{define} || {} });
    my $config = join '', map { "Define $_ $define{$_}\n" }
        grep { defined $define{$_} } sort keys %define;
    my $load = $arg{load} || $arg{module};
    my $httpd = UserSync::Httpd->new(
        modules => [$load], config => module_config() . <<"CONF");
$config
LimitRequestFieldSize 32760
@{[ $arg{config} || '' ]}
Include "${\ _conf_file(%arg) }"
@{[ $arg{more} || '' ]}
ProxyPass "/api" "${\ $app->url }/api"
CONF
    # what a module logs about a token that it refuses
    $httpd->allow_log(qr/\[(?:$load|authz_core):(?:warn|error)\]/);
    # a good token whose sub is not a UUID
    $httpd->allow_log(qr/user_not_identified: UserSyncEnsureUser is not a UUID/);
    push @fronts, { httpd => $httpd->start, app => $app };
    return $fronts[-1];
}

# The last step: all end at the same time, gracefully. In a hard stop, httpd
# closes sockets that its threads are just closing.
sub end_fronts {
    my @pids = map { $_->{httpd}->pid } @fronts;
    kill 'WINCH', @pids;
    wait_until { !grep { alive($_) } @pids } 30, 'the end of the fronts';
    return;
}

sub _conf_file {
    my (%arg) = @_;
    return _short_form(%arg) if $arg{short};
    my $file = top_dir() . "/conf/usersync-$arg{module}.conf";
    my @edit = @{ $arg{edit} || [] } or return $file;
    my $text = slurp($file);
    while (my ($pattern, $new) = splice @edit, 0, 2) {
        $text =~ s/$pattern/$new/ or die "$file has no $pattern\n";
    }
    return spew(new_dir('conf') . '/edited.conf', $text);
}

# What docs/gate.md shows for this module, with our project in it.
sub _short_form {
    my (%arg) = @_;
    my ($of) = grep {/^\s*AuthType $arg{type}$/m}
        slurp(top_dir() . '/docs/gate.md') =~ /^```apache\n(.*?)^```$/msg;
    die "docs/gate.md has nothing for $arg{type}\n" unless $of;
    my $project = 'https://abcdefgh.supabase.co/auth/v1';
    $of =~ s{\Q$project\E/\.well-known}{$arg{url}/auth/v1/.well-known};
    $of =~ s{iss:\Q$project\E}{iss:$ISSUER};
    $of =~ s/^ProxyPass .*\n//m;
    return spew(new_dir('conf') . '/short.conf', $of);
}

# A file for USERSYNC_TOKEN_KEYS.
sub key_file {
    my (@lines) = @_;
    my $umask = umask 077;
    my $file = spew(new_dir('keys') . '/keys.conf', join "\n", @lines, '');
    umask $umask;
    return $file;
}

# (response, requests that the application has seen)
sub ask {
    my ($front, $token, $path, @header) = @_;
    $front->{app}->forget;
    unshift @header, Authorization => "Bearer $token" if defined $token;
    my $response = get($front->{httpd}->url($path || '/api/x'), @header);
    return ($response, $front->{app}->requests);
}

# The application is asked once, and finds the row.
sub passes_ok {
    my ($front, $token, $person, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my ($response, @seen) = ask($front, $token);
    my $header = @seen ? $seen[0]{headers} : {};
    my $row = $response->{json}{row} || {};
    my ($id, $email) = @$person{qw(id email)};
    my $printable = defined $email && $email =~ /\A[ -~]+\z/;
    return Test::More::is_deeply({
        status => $response->{status}, requests => scalar @seen,
        row => [@$row{qw(id email)}],
        told => [@$header{qw(x-user-id x-user-email)}],
        else => [grep {/claim|access_token|^x-extra/} keys %$header],
    }, { status => 200, requests => 1, row => [$id, $email],
        told => [$id, $printable ? $email : undef], else => [] }, $name)
        || Test::More::diag(show($response));
}

# The application is not asked, and no row is created.
sub stopped_ok {
    my ($front, $token, $name, @how) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $before = rows_in('app', 'users');
    my ($response, @seen) = ask($front, $token, @how);
    my $rows = rows_in('app', 'users') - $before;
    return Test::More::ok(
        $response->{status} =~ /^40[13]$/ && !@seen && !$rows, $name)
        || Test::More::diag(scalar(@seen) . " requests, $rows rows\n"
            . show($response));
}

# No token, nor a part of one, in any log.
sub logs_ok {
    my ($front) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $httpd = $front->{httpd};
    my @all = map { slurp($_) } $httpd->error_log, $httpd->access_log,
        postgres()->log_file;
    my @telling = map { /(.*\beyJ[\w-]{16}.*)/g } @all;
    return Test::More::ok($all[0] =~ /usersync:trace/ && !@telling,
        'no token in the logs') || Test::More::diag(@telling[0 .. 4]);
}

# ---- what every module has to do

sub gate_tests {
    my ($front, @module) = @_;
    subtest($_->[0] => $_->[1], $front, @module) for
        ['users' => \&_let_users_in], ['no noise' => \&_no_noise],
        ['all others' => \&_stop_the_others],
        ['the lines in docs/gate.md' => \&_follow_page],
        ['no token in the logs' => \&logs_ok],
        ['tokens in other places' => \&_look_nowhere_else],
        ['a token that expires' => \&_expire],
        ['new keys' => \&_change_keys], ['choices' => \&_choose];
    return;
}

sub _follow_page {
    my (undef, @module) = @_;
    my $front = front(@module, short => 1);
    _let_users_in($front);
    _stop_the_others($front);
    return;
}

sub _let_users_in {
    my ($front) = @_;
    for my $alg (qw(ES256 RS256)) {
        my $person = person();
        passes_ok $front, token($person, alg => $alg), $person, $_
            for $alg, "$alg again";
    }
    my $person = person();
    passes_ok $front, token($person, header => { kid => undef }), $person,
        'a key without a name';
    $person = person();
    passes_ok $front, token($person, claims => { aud =>
        ['other', 'authenticated'] }), $person, 'one audience of several';
    $person = person(user_metadata => { text => 'x' x 20_000 });
    my $token = token($person);
    cmp_ok length $token, '>', 24_000, 'a large token';
    passes_ok $front, $token, $person, 'passes';
    my $number = @fronts;
    $person = person(email => "\x{e4}da$number\@people.example");
    passes_ok $front, token($person), $person, 'an address beyond ASCII';
    $person = person();
    passes_ok $front, token($person, claims => { email =>
        "x\@people.example\r\nX-Extra: 1" }), { id => $person->{id} },
        'an address that would be one header more';
    $person = person(anonymous => JSON::PP::true(), email => undef);
    passes_ok $front, token($person), { id => $person->{id} },
        'an anonymous user';
    return;
}

# Users have been let in, and the module has logged nothing about it.
sub _no_noise {
    my ($front) = @_;
    my @noise = grep {/\[(?:oauth2|auth_openidc):(?:warn|error)\].*\[client/}
        $front->{httpd}->log_since(0);
    is scalar @noise, 0, 'nothing to complain of' or diag @noise;
    return;
}

sub _stop_the_others {
    my ($front) = @_;
    my $person = person();
    stopped_ok $front, token($person, alg => 'HS256'), 'HS256';
    _stop_all($front, $person);
    passes_ok $front, token($person), $person, 'while the user gets in';
    return;
}

# Call this before a token gets into the access log.
sub _look_nowhere_else {
    my ($front) = @_;
    my $token = token(person());
    stopped_ok $front, undef, 'query', "/api/x?access_token=$token";
    stopped_ok $front, undef, 'cookie', undef, Cookie =>
        "access_token=$token; PA.global=$token";
    stopped_ok $front, undef, 'Basic', undef, Authorization => 'Basic '
        . MIME::Base64::encode_base64("x:$token", '');
    stopped_ok $front, undef, 'twice', undef, Authorization =>
        ["Bearer $token", "Bearer $token"];
    return;
}

sub _expire {
    my ($front) = @_;
    my $person = person();
    my ($token, $end, $response);
    # a busy machine may need longer than the shortest lifetime
    for my $seconds (2, 4, 8, 16) {
        $token = token($person, expires_in => $seconds);
        $end = time + $seconds;
        ($response) = ask($front, $token);
        last if $response->{status} == 200 || time < $end - 1;
    }
    is_deeply [$response->{status}, ($response->{json} || {})->{row}{id}],
        [200, $person->{id}], 'good at first' or diag show($response);
    wait_until { time > $end + 1 } 30, 'the end of the token';
    stopped_ok $front, $token, 'then expired';
    return;
}

sub _change_keys {
    my ($front) = @_;
    my $httpd = $front->{httpd};
    my $person = person();
    my @old = map { token($person, alg => $_) } qw(ES256 RS256);
    passes_ok $front, $_, $person, 'the old key' for @old;
    double()->rotate($_) for qw(ES256 RS256);
    my @new = map { token($person, alg => $_) } qw(ES256 RS256);
    passes_ok $front, $_, $person, 'the new key, at once' for @new;
    passes_ok $front, $_, $person, 'the old one goes on' for @old;
    double()->revoke_keys;
    passes_ok $front, $_, $person, 'for a while even when revoked' for @old;
    my @children = $httpd->children;
    $httpd->graceful;
    wait_until { !grep { alive($_) } @children } 30, 'the children to end';
    stopped_ok $front, $_, 'revoked' for @old;
    passes_ok $front, $_, $person, 'the new one goes on' for @new;
    return;
}

# The lines that an administrator may add or remove.
sub _choose {
    my (undef, @module) = @_;
    my $chosen = front(@module, edit => [
        qr/#(?=Require \w+ is_anonymous)/ => '',
        qr/^ *Require .*client_id.*\n/m => '']);
    my $person = person();
    passes_ok $chosen, token($person), $person, 'a user';
    my $client = token($person, claims => { client_id => 'x' });
    passes_ok $chosen, $client, $person, 'an OAuth client, where welcome';
    for my $yes (JSON::PP::true(), undef) {
        stopped_ok $chosen, token(person(), claims => {
            is_anonymous => $yes }), 'an anonymous user, where not';
    }
    # AH01631 alone is no help, but what the files refer to is
    my $nobody = token($person, claims => { iss => undef });
    my $silent = front(@module, more => 'LogLevel authz_core:debug');
    stopped_ok $silent, $nobody, 'a project without an issuer';
    my @why = grep {/AH01626: .*Require \w*claim "?iss:\S+: denied\s*$/}
        $silent->{httpd}->log_since(0);
    is scalar @why, 1, 'the line is named' or diag
        grep {/authz_core/} $silent->{httpd}->log_since(0);
    my $without = front(@module,
        edit => [qr/^ *Require \w+ "iss:.*\n/m => '']);
    passes_ok $without, $nobody, $person, 'where no issuer is wanted';
    my $strict = front(@module, edit => [
        qr/#(?=Require \w+ aal)/ => '',
        qr/(?=<RequireAll>)/ => "<RequireAny>\nRequire method OPTIONS\n",
        qr/(?<=<.RequireAll>)/ => "\n</RequireAny>"]);
    stopped_ok $strict, token(person()), 'one factor, where two are wanted';
    stopped_ok $strict, undef, 'nothing';
    my $preflight = request('OPTIONS', $strict->{httpd}->url('/api/x'));
    is $preflight->{status}, 200, 'a preflight is answered';
    passes_ok $strict, token($person, claims => { aal => 'aal2' }), $person,
        'two factors';
    return;
}

# $line: what a file for USERSYNC_TOKEN_KEYS says of the legacy secret
# keyless  the module makes nothing of it: who comes with HS256 is stopped
sub secret_tests {
    my ($line, %module) = @_;
    my $keyless = delete $module{keyless};
    my @module = %module;
    my %key = (USERSYNC_TOKEN_KEYS => key_file($line));
    subtest('the legacy secret' => sub {
        my $legacy = front(@module, define => { %key, USERSYNC_NO_JWKS => '' });
        my $person = person();
        my $token = token($person, alg => 'HS256');
        for my $name ('HS256', 'HS256 again') {
            if ($keyless) { stopped_ok $legacy, $token, $name }
            else          { passes_ok $legacy, $token, $person, $name }
        }
        stopped_ok $legacy, token($person, alg => $_), $_ for qw(ES256 RS256);
        _stop_all($legacy);
    });
    subtest('on the way to signing keys' => sub {
        my $both = front(@module, define => \%key);
        my $person = person();
        stopped_ok $both, token($person, alg => 'HS256'), 'HS256' if $keyless;
        for my $alg ($keyless ? () : 'HS256', qw(ES256 RS256)) {
            $person = person();
            passes_ok $both, token($person, alg => $alg), $person, $alg;
        }
        _stop_all($both);
        logs_ok $both;
    });
    return;
}

sub _stop_all {
    my ($front, $person) = @_;
    my @bad = bad_tokens($person || person());
    while (my ($name, $token) = splice @bad, 0, 2) {
        stopped_ok $front, $token, $name;
    }
    return;
}

# ---- tokens

sub token {
    my ($person, @more) = @_;
    return double()->mint($person->{id}, @more);
}

sub public_keys {
    return @{ get(double()->url . '/auth/v1/.well-known/jwks.json')
        ->{json}{keys} };
}

sub hs256_secret {
    my $keys = top_dir() . '/t/fixtures/supabase/jwt_test_keys.json';
    return read_json($keys)->{hs256_secret};
}

# The claims of a token with another header, signed by the block.
sub same_claims {
    my ($token, $header, $sign) = @_;
    my $input = encode_base64url(UserSync::HTTP::encode_json(
        { typ => 'JWT', %$header })) . '.' . (split /\./, $token)[1];
    return "$input." . encode_base64url($sign->($input));
}

# What no front may let in, whatever keys it knows: (name, token) pairs.
sub bad_tokens {
    my ($person) = @_;
    return (
        'nothing' => undef, 'an empty token' => '', 'no token' => 'x.y.z',
        map({ ("the $_ key" => double()->key($_)) }
            qw(publishable secret anon service_role)),
        _bad_claims($person), _bad_signatures($person));
}

sub _bad_claims {
    my ($person) = @_;
    my $later = int(time) + 3600;
    my %bad = (
        sub => [undef, '', 'admin', 7],
        aud => [undef, 'other', ['other'], 'authenticated2'],
        iss => [undef, 'supabase', "$ISSUER/", 'https://other.supabase.co'],
        role => [undef, '', 'anon', 'service_role'],
        session_id => [undef],
        client_id => ['9a4d7c7e-6f0e-4b60-9a1e-0c8b7d6e5f41', 7],
        # if exp is not a number, the token never expires
        exp => [undef, 'tomorrow', 1_700_000_000, '1700000000', "$later",
            [$later], ["$later"], JSON::PP::true(), ''],
    );
    my @bad = ('expired' => token($person, expires_in => -1));
    for my $claim (sort keys %bad) {
        push @bad, map {
            my $value = defined $_ ? UserSync::HTTP::encode_json([$_])
                : 'none';
            ("$claim: $value" => token($person, claims => { $claim => $_ }));
        } @{ $bad{$claim} };
    }
    return @bad;
}

sub _bad_signatures {
    my ($person) = @_;
    my $good = token($person);
    my @part = split /\./, $good;
    my ($es, $rs) = sort { $a->{alg} cmp $b->{alg} } public_keys();
    my $pem = Crypt::PK::RSA->new($rs)->export_key_pem('public');
    my $own = Crypt::PK::ECC->new->generate_key('secp256r1');
    my $forged = sub {
        my ($kid, $key) = @_;
        return same_claims($good, { alg => 'HS256', kid => $kid },
            sub { hmac_sha256($_[0], $key) });
    };
    my $signed = sub {
        my ($alg, $kid) = @_;
        return same_claims($good, { alg => $alg, kid => $kid },
            sub { $own->sign_message_rfc7518($_[0], 'SHA256') });
    };
    my $unsigned = same_claims($good, { alg => 'none' }, sub {''});
    (my $claims = decode_base64url($part[1])) =~ s/"aal1"/"aal2"/;
    return (
        'unsigned' => $unsigned, 'unsigned, with a signature'
            => $unsigned . $part[2],
        'no signature' => "$part[0].$part[1].",
        'two parts' => "$part[0].$part[1]",
        'another signature' => join('.', @part[0, 1], scalar reverse $part[2]),
        'other claims' => join('.', $part[0], encode_base64url($claims),
            $part[2]),
        'HS256 with the public key' => $forged->($rs->{kid}, $pem),
        'HS256 with its modulus' => $forged->($rs->{kid}, $rs->{n}),
        'HS256 with the point' => $forged->($es->{kid}, $es->{x}),
        'HS256 with nothing' => $forged->(undef, ''),
        'a key of one\'s own' => $signed->('ES256', $es->{kid}),
        'a key that nobody knows' => $signed->('ES256', 'unknown'),
        'one algorithm for another' => $signed->('RS256', $es->{kid}),
        'the name of the other key' => token($person,
            header => { kid => $rs->{kid} }),
    );
}

1;
