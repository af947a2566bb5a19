package AuthDouble::OAuthServer;
# POST /oauth/token: Supabase as the identity provider of other applications.
# The control port makes the codes, as a user's consent would. Answers have no
# user in them, and a client that is public proves nothing but its verifier.
use strict;
use warnings;
use MIME::Base64 qw(decode_base64);
use AuthDouble::Http qw(query_param);
use AuthDouble::Json qw(obj num plain decode);
use AuthDouble::Later qw(when);
use AuthDouble::Session qw(session);
use AuthDouble::Token;

my @NAMES = qw(grant_type code refresh_token redirect_uri client_id
    client_secret code_verifier);

sub token {
    my ($c) = @_;
    my $no = sub { $c->json(400, obj(error => $_[0],
        error_description => $_[1])) };
    my $req = $c->{req};
    my $json = ($req->{h}{'content-type'} // '') =~ m{application/json};
    my $in = $json ? eval { plain(decode($req->{body})) } : {};
    return $no->('invalid_request', 'Invalid JSON body')
        if ref $in ne 'HASH';
    my %p = map { $_ => ($json ? $in->{$_}
        : query_param({query => $req->{body}}, $_)) // '' } @NAMES;
    ($p{client_id}) = decode_base64($1) =~ /\A([^:]*)/
        if ($req->{h}{authorization} // '') =~ /\ABasic (\S+)\z/i;
    return $no->('invalid_request', 'grant_type is required')
        if $p{grant_type} eq '';
    return $no->('invalid_client', 'Client authentication required')
        if $p{client_id} eq '';
    my $res = $p{grant_type} eq 'authorization_code' ? _code($c, \%p, $no)
        : $p{grant_type} eq 'refresh_token'
        ? AuthDouble::Token::refresh($c, $p{refresh_token}, $p{client_id})
        : $no->('unsupported_grant_type',
        "Unsupported grant type: $p{grant_type}");
    return when($res, sub { _without_user($c, $_[0]) });
}

sub _code {
    my ($c, $p, $no) = @_;
    my $store = $c->{store};
    my $grant = $store->{grants}{$p->{code}};
    return $no->('invalid_grant', 'Invalid authorization code')
        if !$grant || !$grant->{client_id};
    return $no->('invalid_grant',
        'Authorization code was not issued for this client')
        if $grant->{client_id} ne $p->{client_id};
    return $no->('invalid_grant', 'PKCE verification failed: invalid code'
        . ' verifier') if $p->{code_verifier} ne $grant->{verifier};
    my $user = $store->user($grant->{id})
        or return $no->('invalid_grant',
        'User not found for authorization code');
    return $no->('access_denied', 'User is banned') if $store->banned($user);
    my $method = 'oauth_provider/authorization_code';
    return session($c, $user, method => $method,
        client_id => $p->{client_id},
        commit => sub { delete $store->{grants}{$p->{code}} });
}

# a Go map: its names are sorted
sub _without_user {
    my ($c, $res) = @_;
    my $s = $res->{session} or return $res;
    my @headers = grep { $_->[0] ne 'Content-Type' } @{$res->{headers}};
    return $c->json(200, obj(access_token => $s->{access_token},
        expires_in => num($s->{expires_in}),
        refresh_token => $s->{refresh_token}, token_type => 'bearer'),
        @headers);
}

1;
