package AuthDouble::Hook;
# The project's hooks, as GoTrue v2.196 was seen to treat what they answer.
# config "hooks": {name => what it does}, by the names of its configuration:
# before_user_created, send_email, password_verification_attempt,
# custom_access_token, after_user_created.
#
#   {error => {http_code, message}}     it refuses
#   {http => 503, type => '...', body => '...'}  it answers with this
#   {away => 'timeout' or 'refused'}    nobody answers in time, or listens
#   {decision => 'reject', message}     password_verification_attempt only
#   {claims => 'missing' or 'empty'}    custom_access_token only
#
# before_user_created, after_user_created and custom_access_token can be called,
# too:
#
#   {uri => 'https://127.0.0.1:PORT/hooks/supabase',
#    secrets => 'v1,whsec_...|v1,whsec_...', ca_file => PATH}
use strict;
use warnings;
use AuthDouble::HookCall;
use AuthDouble::Later qw(when);

# run($c, $name, sub { (member => value, ...) }): undef when the request may go
# on, else the error answer; {claims => JSON text} for custom_access_token. The
# block says what is sent beside the metadata. Known later if a hook is called.
sub run {
    my ($c, $name, $input) = @_;
    my $hook = $c->{config}{hooks}{$name} or return undef;
    my $said = defined $hook->{uri}
        ? AuthDouble::HookCall::call($c, $name, $hook, $input->())
        : _away($c, $hook) // _http($c, $hook) // refusal($c, $hook->{error})
        // _decision($c, $hook) // _claims($c, $hook);
    return $said if $name ne 'after_user_created';
    return when($said, sub {
        return $_[0] && $c->error(500, 'unexpected_failure',
            'Error invoking hook');
    });
}

# true if the project's server is called
sub is_called { return defined(($_[0]{config}{hooks}{$_[1]} || {})->{uri}) }

sub _away {
    my ($c, $hook) = @_;
    my $how = $hook->{away} // return undef;
    return $how eq 'timeout'
        ? $c->error(422, 'hook_timeout', 'Failed to reach hook within maximum'
        . ' time of 5.000000 seconds')
        : $c->error(422, 'hook_timeout_after_retry',
        'Failed to reach hook after maximum retries');
}

my %HTTP = (400 => 'Invalid payload sent to hook',
    401 => 'Hook requires authorization token',
    429 => 'Service currently unavailable due to hook',
    503 => 'Service currently unavailable due to hook');

sub _http {
    my ($c, $hook) = @_;
    my $status = $hook->{http} // return undef;
    my $type = $hook->{type} // 'application/json';
    return bad_status($c, $status) if $status !~ /\A20[024]\z/;
    return undef if $status == 204;
    return $c->error(400, 'hook_payload_invalid_content_type',
        "Invalid JSON response. Received content-type: $type")
        if $type ne 'application/json';
    return bad_json($c)
        if !eval { AuthDouble::Json::decode($hook->{body} // ''); 1 };
    return undef;
}

sub bad_status {
    my ($c, $status) = @_;
    return $c->error(500, 'unexpected_failure', $HTTP{$status}
        // "Unexpected status code returned from hook: $status");
}

sub bad_json {
    my ($c) = @_;
    return $c->error(500, 'unexpected_failure',
        'Error unmarshaling JSON output.');
}

# an error without a text is none; a status that is none makes GoTrue panic
sub refusal {
    my ($c, $error) = @_;
    return undef if !$error || ($error->{message} // '') eq '';
    my $status = $error->{http_code} || 500;
    return $c->error(500, 'unexpected_failure', 'Internal Server Error',
        quiet => 1) if $status < 100 || $status > 999;
    return $c->error($status,
        $status == 500 ? 'unexpected_failure' : 'unknown', $error->{message},
        quiet => 1);
}

sub _decision {
    my ($c, $hook) = @_;
    return undef if ($hook->{decision} // '') ne 'reject';
    return $c->error(400, 'invalid_credentials', $hook->{message}
        // 'Further password verification attempts will be rejected.');
}

sub _claims {
    my ($c, $hook) = @_;
    my $claims = $hook->{claims} // return undef;
    return AuthDouble::HookCall::bad_claims($c, $claims eq 'missing'
        ? 'output claims field is missing'
        : AuthDouble::HookCall::schema_errors({}));
}

1;
