package AuthDouble::Cors;
# Requests of pages from elsewhere, as GoTrue answers them: everybody is allowed
# to ask, and "Vary: Origin" is on every answer.
use strict;
use warnings;

my $VARY = ['Vary', 'Origin'];
my @ALLOW = (['Access-Control-Allow-Origin', '*'],
    ['Access-Control-Allow-Credentials', 'true']);
my %METHOD = map { $_ => 1 } qw(GET POST PUT PATCH DELETE);

sub _is_set { return defined $_[0] && $_[0] ne '' }

# what a browser asks first; undef for other requests
sub preflight {
    my ($c) = @_;
    my $req = $c->{req};
    my ($origin, $method, $headers) = @{$req->{h}}{qw(origin
        access-control-request-method access-control-request-headers)};
    return undef if $req->{method} ne 'OPTIONS' || !_is_set($method)
        || $req->{path} !~ m{\A/auth/v1/};
    my $res = {status => 204, body => '', headers => [['Vary', 'Origin,'
        . ' Access-Control-Request-Method, Access-Control-Request-Headers']]};
    push @{$res->{headers}}, @ALLOW,
        ['Access-Control-Allow-Methods', $method],
        _is_set($headers) ? ['Access-Control-Allow-Headers', $headers] : ()
        if _is_set($origin) && $METHOD{$method};
    return $res;
}

sub add {
    my ($c, $res) = @_;
    my @headers = ($VARY, _is_set($c->{req}{h}{origin}) ? (@ALLOW,
        ['Access-Control-Expose-Headers',
        'X-Total-Count, Link, X-Supabase-Api-Version']) : ());
    # answers may be kept and given again
    return {%$res, headers => [@{$res->{headers}}, @headers]};
}

1;
