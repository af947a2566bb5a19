package Bench::Httpd;

# The contenders that are httpd: all with the event MPM, Debian's limits, the
# same modules and the same access log.

use strict;
use warnings;

use parent -norequire, 'Bench::Contender';

use UserSync::Httpd ();
use UserSync::Util qw(spew top_dir);

# Debian's mpm_event.conf, and its default ServerLimit.
our $LIMITS = <<'CONF';
StartServers            2
ServerLimit             16
ThreadLimit             64
ThreadsPerChild         25
MinSpareThreads         25
MaxSpareThreads         75
MaxRequestWorkers       150
MaxConnectionsPerChild  0
CONF
our $WORKERS = 150;

# without => [names]: modules not to load
sub launch {
    my ($self) = @_;
    my @without = @{ $self->{without} || [] };
    my $config = join '', 'LogLevel warn',
        (grep {/^usersync$/} @without) ? "\n" : " usersync:warn\n",
        $self->{tuned}
            ? 'Include "' . top_dir() . qq{/conf/usersync-tuned.conf"\n}
            : $LIMITS, $self->can("_$self->{name}")->($self),
        $self->{more} || '';
    $self->{httpd} = UserSync::Httpd->new(
        mpm => 'event', modules => [$self->modules], without => \@without,
        config => $config);
    spew($self->{httpd}->dir . '/htdocs/static.html', 'x' x 1024);
    $self->{httpd}->start;
    $self->wait_ready;
    return;
}

sub modules     { return qw(authz_dbd authn_anon) }
sub still_there { return }
sub said { return join "\n", '', $_[0]{httpd}->log_since(0) }
sub pids { return $_[0]{httpd}->pid }
sub stop { return $_[0]{httpd}->stop }
sub url  { return $_[0]{httpd}->url($_[1]) }

# httpd's complaints, which would make the figures worthless.
sub trouble { return $_[0]{httpd}->log->unexpected }

# From now on, for asked.
sub mark {
    my ($self) = @_;
    $self->{marked} = (stat $self->{httpd}->access_log)[7];
    return;
}

# The share of the requests since then that looked at the table.
sub asked {
    my ($self) = @_;
    my ($all, $asked) = (0, 0);
    open my $log, '<', $self->{httpd}->access_log or die "access log: $!\n";
    seek $log, $self->{marked}, 0;
    while (my $line = <$log>) {
        $all++;
        $asked++ if $line =~ /store=\d/;
    }
    close $log or die "access log: $!\n";
    return $asked / $all;
}

# client => lines: headers that the clients send as well
sub route {
    my ($self, $kind) = @_;
    my $lines = $self->{client} || '';
    return { headers => $lines, url => $self->url($kind eq 'register'
        ? '/auth/register' : '/auth/login') } if $self->{name} eq 'module';
    my $place = $self->{name} eq 'proxy' ? '/proxied'
        : $kind eq 'known' ? '/known' : '/new';
    return {
        headers => $self->{name} eq 'stock'
            ? 'basic' . $lines =~ s/^Authorization: .*\n//mr : $lines,
        url => $self->url($place . ($kind eq 'register' ? '/signup'
            : '/token?grant_type=password')),
    };
}

# mod_dbd's lines, as in conf/usersync.conf or usersync-tuned.conf.
# mod_authz_dbd holds a connection for the whole request, including the
# upstream's time: with the tuned limits it gets 170 of them, more than
# PostgreSQL's default max_connections.
sub _dbd {
    my ($self) = @_;
    my $dsn = $self->{world}->pg->dsn($self->{db});
    my $keep = !$self->{tuned} ? "DBDKeep 4\nDBDMax 10\n"
        : $self->{name} eq 'stock' ? "DBDKeep 85\nDBDMax 85\n" : '';
    return qq(DBDriver pgsql\nDBDParams "$dsn"\nDBDMin 0\n$keep);
}

sub _module {
    my ($self) = @_;
    my $world = $self->{world};
    return $self->_dbd . join "\n",
        'UserSyncMaxPerClient Off', # all of the load is one client
        'UserSyncSupabaseURL ' . $self->upstream_url,
        "UserSyncSupabaseKey file:" . $world->dir . '/publishable.key',
        ($self->{tls} ? 'UserSyncCACertificateFile ' . $world->ca_file : ()),
        '<Location "/auth/register">', 'SetHandler usersync-register',
        '</Location>', '<Location "/auth/login">',
        'SetHandler usersync-login', '</Location>', '';
}

# The query string is the client's: one in a ProxyPass URL would make mod_proxy
# open a connection for each request.
sub _proxy_pass {
    my ($self, @places) = @_;
    my $url = $self->upstream_url;
    my $tls = $self->{tls} ? "SSLProxyEngine On\nSSLProxyCACertificateFile "
        . $self->{world}->ca_file . "\n" : '';
    return $tls . join '', map {"ProxyPass $_/ $url/auth/v1/\n"} @places;
}

sub _proxy { return $_[0]->_proxy_pass('/proxied') }

# Basic authentication that admits anybody under the name that they give.
sub _believed {
    return <<'CONF';
    AuthType Basic
    AuthName bench
    AuthBasicProvider anon
    Anonymous *
    Anonymous_LogEmail Off
    Anonymous_MustGiveEmail Off
CONF
}

# The users also name themselves in Basic authentication, because mod_authz_dbd
# cannot read bodies. No password is checked. The statement runs before the
# upstream is asked, and nothing proves that the users are who they say.
sub _stock {
    my ($self) = @_;
    my $believed = _believed();
    return $self->_dbd . $self->_proxy_pass('/known', '/new') . <<"CONF";
<LocationMatch "^/(known|new)/">
$believed</LocationMatch>
<Location "/known/">
    AuthzDBDQuery "SELECT 'member' FROM users WHERE id = md5(%s)::uuid"
    Require dbd-group member
</Location>
<Location "/new/">
    AuthzDBDQuery "INSERT INTO users (id, email) SELECT md5(e)::uuid, e FROM (SELECT %s::text) AS given (e) ON CONFLICT (id) DO NOTHING"
    Require dbd-login
</Location>
CONF
}

1;
