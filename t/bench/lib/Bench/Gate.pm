package Bench::Gate;

# The gate, and its alternatives, behind the same authentication:
#
#   auth => 'basic'    a name that is believed, as in mod_authn_anon
#   auth => 'oauth2'   a token that mod_oauth2 verifies, or finds in its cache
#   place => '/static.html' or '/proxied/small'
#   users => file of Bench::Crowd's, count => how many they are
#
# Requests of the kind "known" are by one of them at random, "unknown" by one
# after the other, "missing" by a user without a row. refused => 403: each is
# refused with this status, and that is what is measured.

use strict;
use warnings;

use parent -norequire, 'Bench::Httpd';

use Bench::Crowd ();
use Bench::Httpd ();
use Bench::Measure qw(run_wrk);
use UserSync::HTTP ();
use UserSync::Util qw(slurp);

# Per second; more than any of them answers. No run uses a user twice.
my $MOST = 30_000;

sub modules {
    my ($self) = @_;
    return ($self->SUPER::modules, $self->{auth} eq 'oauth2' ? 'oauth2' : ());
}

sub launch {
    my ($self) = @_;
    $self->{place} ||= '/static.html';
    return $self->SUPER::launch;
}

sub route {
    my ($self) = @_;
    return { headers => $self->{users}, url => $self->url($self->{place}) };
}

sub makes_rows {
    my ($self, $kind) = @_;
    return $kind eq 'missing' && $self->has_rows;
}

sub load {
    my ($self, $kind, %arg) = @_;
    return (mode => 'any', first => 0, count => $self->{count},
        refused => $self->{refused})
        if $kind eq 'known' || !$self->has_rows;
    my $count = $MOST * $arg{seconds};
    return (mode => 'each', first => 0, count => $count,
        headers => Bench::Crowd::strangers($count)) if $kind eq 'missing';
    $count = $self->{count} if $count > $self->{count};
    # start again: the cache has long forgotten those
    $self->{next} = 0
        if !defined $self->{next} || $self->{next} + $count > $self->{count};
    my $first = $self->{next};
    $self->{next} += $count;
    return (mode => 'each', first => $first, count => $count);
}

# Requests without a name are refused, and users who get in have a row.
sub check {
    my ($self, $kind) = @_;
    my $file = $kind eq 'missing' ? Bench::Crowd::strangers(1)
        : $self->{users};
    my ($line) = slurp($file) =~ /(.*)/;
    my @got = map { UserSync::HTTP->exchange(GET => $self->route->{url},
        undef, @$_) } [split /: /, $line], [];
    my ($status, $refused) = map { $_->{status} || $_->{error} } @got;
    my $want = $self->{refused} || 200;
    die "$self->{name} does not do $kind: $status, $refused "
        . ($got[0]{body} || '') . "\n" if "$status $refused" ne "$want 401";
    die "$self->{name}: no row came out of $kind\n"
        if $self->has_rows && !$self->{world}->pg->value($self->{db} =>
            'SELECT count(*) FROM users WHERE id = ?',
            Bench::Crowd::id_of($line));
    return;
}

# Lets all users in once, so that caches know them.
sub meet_all {
    my ($self) = @_;
    my $met = 0;
    while ($met < $self->{count}) {
        my $left = $self->{count} - $met;
        my $seen = run_wrk(%{ $self->route }, mode => 'each', first => $met,
            count => $left, connections => 16, seconds => 1,
            refused => $self->{refused});
        $met += $seen->{requests} < $left ? $seen->{requests} : $left;
    }
    $self->mark;
    return $self;
}

# ---- configurations

sub _authentication {
    my ($self) = @_;
    return Bench::Httpd::_believed() if $self->{auth} eq 'basic';
    my $key = Bench::Crowd::key() =~ s/"/\\"/gr;
    return <<"CONF";
    AuthType oauth2
    AuthName bench
    OAuth2TokenVerify jwk "$key" verify.exp=required
    OAuth2TargetPass prefix=OAUTH2_CLAIM_&envvars=true&headers=false&remote_user_claim=sub
CONF
}

# No .htaccess is looked for, as in Debian's apache2.conf.
sub _protect {
    my ($self, @lines) = @_;
    return join "\n", 'ProxyPass /proxied/ ' . $self->upstream_url . '/',
        '<Directory "/">', 'AllowOverride None', '</Directory>',
        '<Location "/">', $self->_authentication, @lines, '</Location>', '';
}

sub _alone { return $_[0]->_protect('Require valid-user') }

# Everything that conf/usersync-oauth2.conf enables.
sub _gate {
    my ($self) = @_;
    return $self->_dbd . $self->_protect('Require valid-user',
        'UserSyncEnsure On', 'UserSyncEnsureHeaders On',
        $self->{auth} eq 'oauth2'
            ? 'UserSyncEnsureEmail "%{reqenv:OAUTH2_CLAIM_email}"' : ());
}

# What stock httpd needs for the same guarantee: it cannot know that the row
# was inserted before. It would warn about each INSERT that has found a row.
sub _login {
    my ($self) = @_;
    return $self->_dbd . $self->_protect('LogLevel authz_dbd:error',
        'Require dbd-login',
        'AuthzDBDQuery "INSERT INTO users (id) VALUES (CAST(%s AS uuid))'
        . ' ON CONFLICT (id) DO NOTHING"');
}

1;
