package UserSync::Contract;

# Checks for every reply of the module, whatever the outcome: one test per
# reply, one line of diagnosis per problem.
#
#   use UserSync::Test;
#   use UserSync::Contract;
#
#   success_ok(post('/auth/login', {...}), 'logged in');
#   problem_ok(post('/auth/login', {...}), 401, 'invalid_credentials', 'why');

use strict;
use warnings;

use Exporter qw(import);
use JSON::PP ();
use Test::More import => ['!done_testing'];

use UserSync::Test ();

our @EXPORT = qw(
    credentials logged_out_ok not_asked_ok problem_ok reply_complaints session_text
    store_lines success_ok upstream_lines
);

# RFC 9110's names of the statuses that the module uses
my %TITLE = (
    400 => 'Bad Request', 401 => 'Unauthorized', 403 => 'Forbidden',
    404 => 'Not Found', 405 => 'Method Not Allowed', 408 => 'Request Timeout',
    409 => 'Conflict', 413 => 'Request Entity Too Large',
    415 => 'Unsupported Media Type', 422 => 'Unprocessable Entity',
    429 => 'Too Many Requests', 500 => 'Internal Server Error',
    502 => 'Bad Gateway', 503 => 'Service Unavailable',
    504 => 'Gateway Timeout',
);

# All headers that a reply may have: any other is Supabase's or a mistake.
my %HEADER = map { $_ => 1 } qw(
    date server connection keep-alive content-type content-length
    cache-control x-content-type-options x-request-id retry-after allow
    www-authenticate
);

my $UUID = qr/[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/;
my %seen_id;

# E-mail and password of a new user.
my $person = 0;
sub credentials {
    my (%more) = @_;
    return { email => sprintf('user%d@example.com', ++$person),
        password => 'correct horse battery', %more };
}

# Nothing has arrived at Supabase since the last call, or since
# double->clear_requests.
sub not_asked_ok {
    my ($name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my @arrived = map {"$_->{op} $_->{body}"} UserSync::Test::double->requests;
    UserSync::Test::double->clear_requests;
    return is_deeply(\@arrived, [], $name || 'Supabase is not asked');
}

# Lines that a failure on the way to Supabase, or to PostgreSQL, may write: the
# limiter of repeated lines decides how often.
sub upstream_lines {
    return qr/usersync:(?:warn|error)\].*usersync-\w+:\x20(?:
        upstream_\w+|outcome_unknown|over_\w+_limit)/x;
}

sub store_lines {
    return qr/usersync:error\].*usersync-\w+:\x20(?:
        store_unavailable|user_row_refused|user_row_conflict)/x;
}

# The session in the body of a success, byte for byte.
sub session_text {
    my ($response) = @_;
    return $response->{body} =~ /"session"\s*:\s*(.*\S)\s*\}\s*\z/s ? $1 : '';
}

sub _count {
    my ($response, $name) = @_;
    return scalar grep { lc $_->[0] eq $name } @{ $response->{header_list} };
}

# What is wrong with any reply. May: further header names that are allowed.
sub reply_complaints {
    my ($response, @may) = @_;
    return "no response: $response->{error}" if $response->{error};
    my $header = $response->{headers};
    my %want = ('cache-control' => qr/no-store/,
        'x-content-type-options' => qr/nosniff/,
        'x-request-id' => qr/[\w@-]{16,}/);
    my @wrong;
    for my $name (sort keys %want) {
        my $value = $header->{$name};
        push @wrong, "$name: " . (defined $value ? $value : 'missing')
            unless defined $value && $value =~ /\A$want{$name}\z/;
    }
    my %may = (%HEADER, map { lc $_ => 1 } @may);
    push @wrong, map {"header $_"} grep { !$may{$_} } sort keys %$header;
    push @wrong, map {"$_ twice"}
        grep { _count($response, $_) > 1 } sort keys %may;
    my $id = $header->{'x-request-id'};
    push @wrong, 'an X-Request-Id that was there before'
        if defined $id && $seen_id{$id}++;
    return (@wrong, _conditional_headers($response));
}

# Headers that belong to some statuses only.
sub _conditional_headers {
    my ($response) = @_;
    my ($status, $header) = @$response{qw(status headers)};
    my %want = (
        'retry-after' => $status =~ /^(?:429|503)$/ && qr/[1-9][0-9]*/,
        'allow' => $status =~ /^(?:204|405)$/ && qr/POST, OPTIONS/,
        'www-authenticate' => $status == 401 && qr/Bearer realm="[^"]*"/,
    );
    $want{'www-authenticate'} .= ', error="invalid_token"'
        if ($response->{body} || '') =~ /"code":"invalid_token"/;
    my @wrong;
    for my $name (sort keys %want) {
        my $value = $header->{$name};
        next if !$want{$name} && !defined $value;
        push @wrong, "$name: " . (defined $value ? $value : 'missing')
            unless $want{$name} && defined $value
            && $value =~ /\A$want{$name}\z/;
    }
    return @wrong;
}

# An error: status, public code, name of the test; then as they apply
#   detail => string or pattern, reasons => [...], fields => [names],
#   retry_after => seconds or [least, most], headers => [also allowed],
#   head => 1 (the answer to HEAD has no body)
sub problem_ok {
    my ($response, $status, $code, $name, %want) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my @wrong = reply_complaints($response, @{ $want{headers} || [] });
    push @wrong, "status $response->{status}, not $status"
        if $response->{status} != $status;
    my $type = $response->{headers}{'content-type'} || 'missing';
    push @wrong, "content type $type" if $type ne 'application/problem+json';
    push @wrong, $want{head}
        ? (length $response->{body} ? 'a body' : ())
        : _problem_complaints($response, $code, \%want);
    push @wrong, _retry_complaints($response, $want{retry_after})
        if defined $want{retry_after};
    return ok(!@wrong, $name)
        || diag(join("\n", @wrong, UserSync::Test::show($response)));
}

sub _retry_complaints {
    my ($response, $want) = @_;
    my ($least, $most) = ref $want ? @$want : ($want, $want);
    my $value = $response->{headers}{'retry-after'};
    return if defined $value && $value =~ /\A\d+\z/
        && $value >= $least && $value <= $most;
    return "retry-after not within $least and $most";
}

# RFC 9457, and the members that docs/routes.md adds.
sub _problem_complaints {
    my ($response, $code, $want) = @_;
    my ($json, $status) = @$response{qw(json status)};
    return 'the body is not a JSON object' unless ref $json eq 'HASH';
    my @wrong;
    my @members = qw(code detail request_id status title type);
    push @members, 'errors' if $json->{code} && $json->{code} eq
        'invalid_request';
    push @members, 'reasons' if $json->{code} && $json->{code} eq
        'weak_password';
    my $got = join ' ', sort keys %$json;
    push @wrong, "members $got" if $got ne join ' ', sort @members;
    my %exactly = (type => 'about:blank', code => $code,
        title => $TITLE{$status}, request_id =>
            $response->{headers}{'x-request-id'});
    push @wrong, map { "$_ is not " . ($exactly{$_} || 'as it should be') }
        grep { ($json->{$_} || '') ne ($exactly{$_} || '-') }
        sort keys %exactly;
    push @wrong, 'status is not the number of the status line'
        unless $response->{body} =~ /"status"\s*:\s*$status\s*[,}]/;
    push @wrong, 'no detail'
        if ref $json->{detail} || ($json->{detail} || '') !~ /\w/;
    push @wrong, 'content-length' unless length $response->{body}
        == ($response->{headers}{'content-length'} || -1);
    return (@wrong, _wanted_complaints($json, $want));
}

sub _wanted_complaints {
    my ($json, $want) = @_;
    my ($detail, $fields, $reasons) = @$want{qw(detail fields reasons)};
    my @wrong;
    push @wrong, "detail is not $detail" if defined $detail
        && (ref $detail ? $json->{detail} !~ $detail
            : $json->{detail} ne $detail);
    push @wrong, "reasons are not @$reasons" if $reasons
        && (ref $json->{reasons} ne 'ARRAY'
            || "@{ $json->{reasons} }" ne "@$reasons");
    return @wrong unless ($json->{code} || '') eq 'invalid_request';
    my @errors = ref $json->{errors} eq 'ARRAY' ? @{ $json->{errors} } : ();
    push @wrong, 'errors is no list of {field, message}'
        if !@errors || grep {
            ref $_ ne 'HASH' || join(' ', sort keys %$_) ne 'field message'
                || ref $_->{field} || ($_->{message} || '') !~ /\w/
        } @errors;
    push @wrong, "errors is not about @$fields" if $fields
        && join(' ', sort map { $_->{field} } @errors)
            ne join ' ', sort @$fields;
    return @wrong;
}

# The answer to a logout: 204, nothing in it, and no Allow as for OPTIONS
sub logged_out_ok {
    my ($response, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $header = $response->{headers};
    my @wrong = grep { $_ ne 'allow: missing' } reply_complaints($response);
    push @wrong, "status $response->{status}, not 204"
        if $response->{status} != 204;
    push @wrong, 'a body' if length($response->{body} || '');
    push @wrong, map {"header $_"} grep { defined $header->{$_} }
        qw(allow content-type content-length);
    return ok(!@wrong, $name)
        || diag(join("\n", @wrong, UserSync::Test::show($response)));
}

# A success: session => 0 or 1, user_id => ..., headers => [also allowed]
sub success_ok {
    my ($response, $name, %want) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my @wrong = reply_complaints($response, @{ $want{headers} || [] });
    my $json = $response->{json};
    push @wrong, "status $response->{status}, not 200"
        if $response->{status} != 200;
    push @wrong, 'content type'
        if ($response->{headers}{'content-type'} || '') ne 'application/json';
    if (ref $json ne 'HASH') { push @wrong, 'the body is not a JSON object' }
    else {
        push @wrong, 'members' if "@{[sort keys %$json]}" ne 'session user_id';
        push @wrong, 'user_id' unless ($json->{user_id} || '') =~ /\A$UUID\z/;
        push @wrong, 'another user_id' if defined $want{user_id}
            && ($json->{user_id} || '') ne $want{user_id};
        push @wrong, 'the session is no object or null'
            if defined $json->{session} && ref $json->{session} ne 'HASH';
        push @wrong, 'the session' if defined $want{session}
            && !$want{session} != !$json->{session};
    }
    return ok(!@wrong, $name)
        || diag(join("\n", @wrong, UserSync::Test::show($response)));
}

1;
