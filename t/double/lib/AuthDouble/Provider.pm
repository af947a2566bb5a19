package AuthDouble::Provider;
# Sign-ins that lead through a browser: GET /authorize, a provider of our own,
# GET and POST /callback; POST /sso and POST /sso/saml/acs.
#
# config "providers": {name => {sub => ..., email => ..., name => ...}}, who
# consents at once, or {name => {error => 'access_denied', ...}}, who does not.
# The provider is at /provider/NAME/authorize of the double, outside /auth/v1.
use strict;
use warnings;
use MIME::Base64 qw(decode_base64);
use AuthDouble::External;
use AuthDouble::Http qw(query_param);
use AuthDouble::Json qw(obj num);
use AuthDouble::Later qw(when);
use AuthDouble::Redirect qw(redirect target with_session with_error with_query
    challenge);
use AuthDouble::Store;

use constant STATE_LASTS => 300;

sub _base {
    my ($c) = @_;
    return 'http://' . ($c->{req}{h}{host} // '127.0.0.1');
}

sub authorize {
    my ($c) = @_;
    my %q = map { $_ => query_param($c->{req}, $_) // '' } qw(provider scopes
        code_challenge code_challenge_method);
    my $bad = sub { $c->error(400, 'validation_failed', $_[0]) };
    return $bad->("Unsupported provider: Provider $q{provider} could not be"
        . ' found') if !$c->{config}{providers}{$q{provider}};
    my ($flow) = challenge(\%q);
    my $id = $flow ? AuthDouble::Store::uuid() : '';
    $c->{store}{relays}{$id} = {challenge => $flow} if $flow;
    my $state = $c->{jwt}->sign(obj(exp => num(time + STATE_LASTS),
        site_url => $c->{config}{site_url}, id => '0' x 8,
        provider => $q{provider}, referrer => target($c),
        flow_state_id => $id), 'HS256');
    my $back = ($c->{config}{external_url} || _base($c) . '/auth/v1')
        . '/callback';
    return redirect($c, 302, with_query(
        _base($c) . "/provider/$q{provider}/authorize",
        client_id => 'double', redirect_uri => $back,
        response_type => 'code', scope => $q{scopes}, state => $state));
}

# the provider's own page: whoever comes there has consented already, or not
sub page {
    my ($c) = @_;
    my ($name) = $c->{req}{path} =~ m{\A/provider/([\w-]+)/authorize\z};
    my $provider = defined $name ? $c->{config}{providers}{$name} : undef;
    my ($back, $state) = map { query_param($c->{req}, $_) // '' }
        qw(redirect_uri state);
    return {status => 404, body => "no such provider\n", headers =>
        [['Content-Type', 'text/plain']]} if !$provider || $back eq '';
    return redirect($c, 302, with_query($back, state => $state,
        map { $_ => $provider->{$_} // '' } qw(error error_description)))
        if $provider->{error};
    my $code = AuthDouble::Store::uuid();
    $c->{store}{grants}{$code} = {provider => $name};
    return redirect($c, 302,
        with_query($back, code => $code, state => $state));
}

# what a form or a query has brought
sub _form {
    my ($c, @names) = @_;
    my $post = $c->{req}{method} eq 'POST';
    my $from = {query => $post ? $c->{req}{body} : $c->{req}{query}};
    return map { $_ => query_param($from, $_) // '' } @names;
}

# what OAuth calls a refusal
my %DENIED = map { $_ => 1 } qw(signup_disabled user_banned
    provider_email_needs_verification);

sub _failed {
    my ($c, $to, $error, %opt) = @_;
    return redirect($c, 302, with_error($to, $error, query => 1,
        else => 'server_error',
        ($DENIED{$error->[1]} ? (name => 'access_denied') : ()), %opt));
}

sub callback {
    my ($c) = @_;
    my %in = _form($c, qw(code state error error_description));
    my $site = $c->{config}{site_url};
    return _failed($c, $site, [400, 'bad_oauth_callback',
        'OAuth state parameter missing']) if $in{state} eq '';
    my $state = eval { $c->{jwt}->verify($in{state}) };
    return _failed($c, $site, [400, 'bad_oauth_state',
        'OAuth callback with invalid state'])
        if !$state || !defined $state->{provider};
    my $to = $state->{referrer};
    return _failed($c, $to, [400, '', $in{error_description}], bare => 1,
        name => $in{error}) if $in{error} ne '';
    my $flow = $state->{flow_state_id} eq '' ? undef
        : delete $c->{store}{relays}{$state->{flow_state_id}};
    return _failed($c, $to, [422, 'flow_state_not_found',
        'Flow state not found'])
        if !$flow && $state->{flow_state_id} ne '';
    my $grant = delete $c->{store}{grants}{$in{code}};
    return _failed($c, $to, [500, 'unexpected_failure',
        "Unable to exchange external code: $in{code}"]) if !$grant;
    my $name = $grant->{provider};
    my $who = $c->{config}{providers}{$name};
    my $res = AuthDouble::External::sign_in($c, $name,
        {iss => "https://$name.test", sub => "$name-1", %$who},
        method => 'oauth', $flow ? (challenge => $flow->{challenge}) : ());
    return when($res, sub { _send_on($c, $to, $_[0],
        provider_token => "$name-token",
        provider_refresh_token => "$name-refresh") });
}

sub _send_on {
    my ($c, $to, $res, %more) = @_;
    return redirect($c, 302, with_query($to, code => $res->{code}))
        if $res->{code};
    my @headers = grep { $_->[0] =~ /\ASb-Auth-/ } @{$res->{headers}};
    return redirect($c, 302, with_session($to, $res, %more), @headers)
        if $res->{session};
    my $failed = _failed($c, $to, $res->{error});
    push @{$failed->{headers}}, @headers;
    return $failed;
}

# ---- SAML
# The double's one identity provider: the control port makes its answers.
my $ENTITY = 'https://idp.test/saml';

sub sso {
    my ($c) = @_;
    my $p = $c->params({provider_id => 'string', domain => 'string',
        redirect_to => 'string', skip_http_redirect => 'bool',
        code_challenge => 'string', code_challenge_method => 'string'},
        'SingleSignOnParams') or return $c->{failed};
    return $c->error(400, 'validation_failed',
        'A Provider ID or domain must be provided')
        if ($p->{provider_id} // '') eq '' && ($p->{domain} // '') eq '';
    my $relay = AuthDouble::Store::uuid();
    $c->{store}{relays}{$relay} = {to => target($c, $p->{redirect_to}),
        challenge => scalar challenge($p)};
    my $url = with_query("$ENTITY/sso", RelayState => $relay,
        SAMLRequest => 'double');
    return $p->{skip_http_redirect} ? $c->json(200, obj(url => $url))
        : redirect($c, 303, $url);
}

# An answer of the identity provider, as the control port makes it.
sub assertion {
    my ($who) = @_;
    return qq(<samlp:Response><Issuer>$ENTITY</Issuer><NameID>$who->{sub})
        . qq(</NameID><AttributeValue>$who->{email}</AttributeValue>)
        . '</samlp:Response>';
}

sub acs {
    my ($c) = @_;
    my %in = _form($c, qw(RelayState SAMLResponse));
    my $site = $c->{config}{site_url};
    # here errors are in the query alone
    my $no = sub {
        my $url = with_error($site, [@_], query => 1,
            else => 'server_error');
        $url =~ s/#.*//;
        return redirect($c, 303, $url);
    };
    my $relay = {to => $in{RelayState}};
    if ($in{RelayState} =~ /\A[0-9a-f-]{36}\z/) {
        $relay = delete $c->{store}{relays}{$in{RelayState}}
            or return $no->(404, 'saml_relay_state_not_found',
            'SAML RelayState does not exist, try logging in again?');
    }
    return $no->(400, 'validation_failed', 'SAMLResponse is missing')
        if $in{SAMLResponse} eq '';
    my ($sub, $email) = decode_base64($in{SAMLResponse})
        =~ m{<Issuer>\Q$ENTITY\E</Issuer><NameID>([^<]+)</NameID>
        <AttributeValue>([^<]+)<}x
        or return $no->(400, 'validation_failed',
        'SAML Assertion is not valid');
    my $res = AuthDouble::External::sign_in($c, 'sso:double',
        {sub => $sub, email => $email, iss => $ENTITY}, is_sso => 1,
        method => 'sso/saml', challenge => $relay->{challenge});
    return when($res, sub {
        my ($said) = @_;
        return $said->{error} ? $no->(@{$said->{error}})
            : _send_on($c, target($c, $relay->{to}), $said);
    });
}

1;
