package AuthDouble::HookCall;
# A hook of the project over HTTP: what GoTrue sends, how often it tries, and
# what it makes of the answer.
use strict;
use warnings;
use Digest::SHA qw(hmac_sha256);
use MIME::Base64 qw(decode_base64 encode_base64);
use Time::HiRes qw(time);
use AuthDouble::HookClient;
use AuthDouble::Json qw(encode decode obj plain slice);
use AuthDouble::Later qw(when pause);
use AuthDouble::Store;
use AuthDouble::UserJson qw(now rfc3339);

use constant TRIES => 3;
use constant LIMIT => 200 * 1024;

my %NAME = (custom_access_token => 'customize-access-token',
    before_user_created => 'before-user-created',
    after_user_created => 'after-user-created');

# call($c, $name, $hook, member => value...): see AuthDouble::Hook::run
sub call {
    my ($c, $name, $hook, @members) = @_;
    my $ip = $c->client_ip;
    my $body = encode(obj(metadata => obj(uuid => AuthDouble::Store::uuid(),
        time => rfc3339(now(), 1), name => $NAME{$name} // die("no $name\n"),
        ($ip eq '' ? () : (ip_address => $ip))), @members));
    my $stats = $c->{store}{hook_stats}{$name}
        //= {calls => 0, tries => 0, answers => {}};
    $stats->{calls}++;
    my $call = {c => $c, name => $name, hook => $hook, body => $body,
        stats => $stats, tries => 0, life => $c->{store}{life},
        until => time + $c->{config}{hook_timeout}};
    return when(_try($call), sub { _judged($call, @_) });
}

# what has begun before a reset concerns nobody any more
sub _judged {
    my ($call, $said) = @_;
    my $c = $call->{c};
    return $c->error(500, 'unexpected_failure', 'reset')
        if $call->{life} != $c->{store}{life};
    $call->{stats}{answers}{$said && $said->{status} ? 'refused'
        : 'allowed'}++;
    return $said;
}

sub _try {
    my ($call) = @_;
    my $c = $call->{c};
    return _cancelled($c) if $c->{req}{gone};
    my $headers = _headers($call) or return $c->error(500,
        'unexpected_failure',
        'Error generating signatures: invalid signature format');
    $call->{tries}++;
    $call->{stats}{tries}++;
    my ($answer, $give_up) = AuthDouble::HookClient::post(
        uri => $call->{hook}{uri}, ca_file => $call->{hook}{ca_file},
        headers => $headers, body => $call->{body}, until => $call->{until},
        limit => LIMIT, wanted => sub { $_[0] == 200 || $_[0] == 202 });
    $c->{req}{give_up} = $give_up;
    return $answer->then(sub {
        delete $c->{req}{give_up};
        return _answer($call, @_);
    });
}

# each try has an id, a time and signatures of its own
sub _headers {
    my ($call) = @_;
    my ($id, $time) = (AuthDouble::Store::uuid(), int time);
    my @signatures;
    for my $secret (split /\|/, $call->{hook}{secrets} // '') {
        my ($key) = $secret =~ /\Av1,(?:whsec_)?([A-Za-z0-9+\/=]+)\z/
            or return undef;
        push @signatures, 'v1,' . encode_base64(hmac_sha256(
            "$id.$time.$call->{body}", decode_base64($key)), '');
    }
    return [['Accept-Encoding', 'identity'],
        ['Content-Type', 'application/json'], ['Webhook-Id', $id],
        ['Webhook-Signature', join ', ', @signatures],
        ['Webhook-Timestamp', $time]];
}

# the client has hung up: GoTrue ends what it does for it
sub _cancelled {
    my ($c) = @_;
    return $c->error(500, 'unexpected_failure', 'context canceled');
}

sub _answer {
    my ($call, $got) = @_;
    my $c = $call->{c};
    return _cancelled($c) if $c->{req}{gone};
    my $status = $got->{status};
    if (!$status) {
        return _too_late($call) if $got->{timeout};
        return _unreachable($call);
    }
    return AuthDouble::Hook::bad_status($c, $status)
        if $status != 503 && $status != 429 && $status !~ /\A20[024]\z/;
    if ($status > 299) {
        return _try($call) if ($got->{h}{'retry-after'} // '') ne ''
            && $call->{tries} < TRIES;
        return AuthDouble::Hook::bad_status($c, $status);
    }
    return _said($call, undef) if $status == 204;
    return _bad_type($c, $got->{h}{'content-type'} // '')
        // ($got->{over} ? $c->error(422, 'hook_payload_over_size_limit',
        'Payload size exceeded size limit of ' . LIMIT . ' bytes')
        : !defined $got->{body} ? _broken($call)
        : _said($call, $got->{body}));
}

sub _too_late {
    my ($call) = @_;
    return $call->{c}->error(422, 'hook_timeout', sprintf
        'Failed to reach hook within maximum time of %f seconds',
        $call->{c}{config}{hook_timeout});
}

sub _unreachable {
    my ($call) = @_;
    my $c = $call->{c};
    return $c->error(422, 'hook_timeout_after_retry',
        'Failed to reach hook after maximum retries')
        if $call->{tries} >= TRIES;
    my ($wait, $left) = ($c->{config}{hook_backoff}, $call->{until} - time);
    return pause($wait)->then(sub { _try($call) }) if $wait < $left;
    return pause($left < 0 ? 0 : $left)->then(sub { _too_late($call) });
}

sub _bad_type {
    my ($c, $type) = @_;
    my $code = 'hook_payload_invalid_content_type';
    return $c->error(400, $code,
        'Invalid Content-Type: Missing Content-Type header') if $type eq '';
    return undef if $type =~ m{\A\s*application/json\s*(?:;.*)?\z}i;
    return $c->error(400, $code,
        "Invalid JSON response. Received content-type: $type");
}

# the end of the answer is missing
sub _broken {
    my ($call) = @_;
    return $call->{c}->error(500, 'unexpected_failure',
        $call->{name} eq 'custom_access_token' ? 'error generating jwt token'
        : 'Unexpected failure, please check server logs for more information');
}

# a body, or undef for none
sub _said {
    my ($call, $text) = @_;
    my $c = $call->{c};
    my $tokens = $call->{name} eq 'custom_access_token';
    if (!defined $text) {
        return $tokens ? bad_claims($c, schema_errors(undef)) : undef;
    }
    my $value = eval { decode($text) };
    return AuthDouble::Hook::bad_json($c) if $@;
    my $refused = AuthDouble::Hook::refusal($c, _error_of($value));
    return $refused if $refused;
    return AuthDouble::Hook::bad_json($c)
        if defined $value && ref $value ne 'AuthDouble::Json::Obj';
    return $tokens ? _claims($c, $text, plain($value)) : undef;
}

# {http_code, message} as Go reads it into its struct, or undef
sub _error_of {
    my ($value) = @_;
    my $error = _member($value, 'error');
    return undef if ref $error ne 'AuthDouble::Json::Obj';
    my ($code, $message)
        = map { _member($error, $_) } qw(http_code message);
    return undef if defined $code && (ref $code ne 'AuthDouble::Json::Num'
        || $$code !~ /\A-?[0-9]+\z/) || ref $message;
    return {http_code => $code ? $$code : 0, message => $message // ''};
}

# without case, the last one counts
sub _member {
    my ($value, $name) = @_;
    return undef if ref $value ne 'AuthDouble::Json::Obj';
    my $found;
    for (my $i = 0; $i < @$value; $i += 2) {
        $found = $value->[$i + 1] if lc $value->[$i] eq $name;
    }
    return $found;
}

# the claims are passed on as they are: {claims => text}
sub _claims {
    my ($c, $text, $value) = @_;
    return bad_claims($c, 'output claims field is missing')
        if !$value || !exists $value->{claims};
    my $claims = $value->{claims};
    return AuthDouble::Hook::bad_json($c)
        if defined $claims && ref $claims ne 'HASH';
    my $wrong = schema_errors($claims);
    return bad_claims($c, $wrong) if $wrong ne '';
    # Go has read them into a map
    return {claims => encode($claims)} if $c->{config}{hook_claims} eq 'sorted';
    return {claims => slice($text, 'claims')};
}

sub bad_claims {
    my ($c, $text) = @_;
    return $c->error(500, 'unexpected_failure', $text, quiet => 1);
}

my @REQUIRED = qw(aud exp iat sub email phone role aal session_id
    is_anonymous);
my %TYPE = ((map { $_ => 'string' } qw(jti iss sub email phone role aal
    session_id client_id)), (map { $_ => 'integer' } qw(exp iat nbf)),
    (map { $_ => 'object' } qw(app_metadata user_metadata)),
    aud => '[string,array]', amr => 'array');

# what is wrong with these claims, as GoTrue's JSON schema says it
sub schema_errors {
    my ($claims) = @_;
    my @wrong = !defined $claims
        ? '(root): Invalid type. Expected: object, given: null'
        : map {"(root): $_ is required"} grep { !exists $claims->{$_} }
        @REQUIRED;
    for my $name (sort keys %{$claims || {}}) {
        my $want = $TYPE{$name} or next;
        my $type = _type($claims->{$name});
        push @wrong, "$name: Invalid type. Expected: $want, given: $type"
            if $want !~ /\b$type\b/;
    }
    return @wrong ? join '',
        "output claims do not conform to the expected schema: \n",
        map {"- $_\n"} @wrong : '';
}

sub _type {
    my ($v) = @_;
    return 'null' if !defined $v;
    my $type = ref $v;
    return !$type ? 'string' : $type eq 'ARRAY' ? 'array'
        : $type eq 'HASH' ? 'object' : $type =~ /Bool\z/ ? 'boolean'
        : $$v == int $$v ? 'integer' : 'number';
}

1;
