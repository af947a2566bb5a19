package AuthDouble::Redirect;
# Answers that send a browser on: to the site with a session or an error in the
# fragment, or with a code (PKCE); and to providers.
use strict;
use warnings;
use Crypt::Digest::SHA256 qw(sha256_b64u);
use Exporter 'import';
use AuthDouble::Http qw(query_param);

our @EXPORT_OK = qw(redirect target with_session with_error with_query
    form_encode challenge code_for fits);

my %OAUTH = (400 => 'invalid_request', 401 => 'unauthorized_client',
    403 => 'access_denied', 500 => 'server_error',
    503 => 'temporarily_unavailable');
my %TEXT = (302 => 'Found', 303 => 'See Other');

# redirect($c, $status, $url, [header]...): as Go's http.Redirect writes it; its
# body is for GET only
sub redirect {
    my ($c, $status, $url, @headers) = @_;
    my $res = {status => $status, body => '', url => $url,
        headers => [['Location', $url], @headers]};
    return $res if $c->{req}{method} ne 'GET';
    my %html = ('&' => '&amp;', '<' => '&lt;', '>' => '&gt;', '"' => '&#34;',
        q(') => '&#39;');
    (my $html = $url) =~ s/([&<>"'])/$html{$1}/g;
    $res->{body} = qq(<a href="$html">$TEXT{$status}</a>.\n\n);
    push @{$res->{headers}}, ['Content-Type', 'text/html; charset=utf-8'];
    return $res;
}

# where the query or the referrer wants, on the host of the site
sub target {
    my ($c, @wanted) = @_;
    my $site = $c->{config}{site_url};
    my ($host) = $site =~ m{^\w+://([^/:]+)};
    for (@wanted, query_param($c->{req}, 'redirect_to'),
        $c->{req}{h}{referer}) {
        return $_ if defined && m{\Ahttps?://\Q$host\E(?:[:/?]|\z)};
    }
    return $site;
}

# with_session($url, $answer, name => value...): the session of the answer in
# the fragment
sub with_session {
    my ($url, $res, %more) = @_;
    return "$url#" . form_encode(%{$res->{session}}, sb => '',
        token_type => 'bearer', %more);
}

# with_error($url, [status, code, message], ...): the error in place of the
# fragment
#   query => 1              and in the query
#   name => 'access_denied'  not what OAuth has for that status
#   else => 'server_error'   for a status that OAuth has nothing for
#   bare => 1               without a code
sub with_error {
    my ($url, $error, %opt) = @_;
    my ($status, $code, $message) = @$error;
    my $name = $opt{name} // $OAUTH{$status} // $opt{else};
    my %said = (($opt{bare} ? () : (error_code => $code)),
        error_description => $message, ($name ? (error => $name) : ()));
    (my $fragment = form_encode(%said, sb => ''))
        =~ s/%/%25/g;    # Go escapes it once more
    $url = with_query($url, %said) if $opt{query};
    return ($url =~ s/#.*//sr) . "#$fragment";
}

# the URL with these in its query, too; its fragment stays
sub with_query {
    my ($url, %value) = @_;
    my ($base, $query, $fragment) = $url =~ /\A([^?#]*)(?:\?([^#]*))?(.*)\z/s;
    my %q = map { my ($k, $v) = split /=/, $_, 2;
        AuthDouble::Http::unescape($k) => AuthDouble::Http::unescape($v // '') }
        split /&/, $query // '';
    return "$base?" . form_encode(%q, %value) . $fragment;
}

# names sorted, as url.Values does it
sub form_encode {
    my (%value) = @_;
    return join '&', map { _escape($_) . '=' . _escape($value{$_} // '') }
        sort keys %value;
}

sub _escape {
    my ($s) = @_;
    $s =~ s/([^A-Za-z0-9_.~ -])/sprintf '%%%02X', ord $1/ge;
    $s =~ tr/ /+/;
    return $s;
}

# ---- PKCE
# challenge($params): [challenge, method] that a request has brought, or nothing
sub challenge {
    my ($p) = @_;
    my $challenge = $p->{code_challenge} // '';
    return $challenge eq '' ? () : [$challenge,
        lc($p->{code_challenge_method} // '')];
}

# a code for the grant pkce; the hook is told of the method
sub code_for {
    my ($store, $user, $method, $challenge) = @_;
    my $code = AuthDouble::Store::uuid();
    $store->{codes}{$code} = [$user->{id}, $method, $challenge];
    return $code;
}

# does the verifier fit? The control port's codes have one instead.
sub fits {
    my ($wanted, $verifier) = @_;
    return $wanted eq $verifier if !ref $wanted;
    my ($challenge, $method) = @$wanted;
    return $challenge eq ($method eq 's256' ? sha256_b64u($verifier)
        : $verifier);
}

1;
