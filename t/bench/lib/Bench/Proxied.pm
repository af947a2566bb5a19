package Bench::Proxied;

# mod_proxy in front of Supabase Auth, for Supabase's own client libraries:
#
#   plain   without the module: start it with without => ['usersync']
#   off     with the module, as it is by default
#   on      no session reaches a client before its row is there
#
# Kinds of requests: "known" is a session of one of the known users, "settings"
# and "otp" have answers that carry nobody.

use strict;
use warnings;

use parent -norequire, 'Bench::Httpd';

use Bench::Httpd ();
use Bench::Measure qw(run_wrk);
use Bench::World ();
use UserSync::HTTP ();

my %PATH = (
    known    => '/auth/v1/token?grant_type=password',
    settings => '/auth/v1/settings',
    otp      => '/auth/v1/otp',
);

# Times that all users are met before those who are not known stay unknown.
my $MOST = 20;

# What supabase-js adds in a browser.
sub client {
    my ($world) = @_;
    my $key = $world->key;
    return join '', map {"$_\r\n"} "apikey: $key", "Authorization: Bearer $key",
        'X-Client-Info: supabase-js-web/2.109.0',
        'X-Supabase-Api-Version: 2024-01-01', 'Origin: http://bench.example',
        'Accept-Encoding: gzip, deflate, br, zstd';
}

sub route {
    my ($self, $kind) = @_;
    return { headers => $self->{client}, url => $self->url($PATH{$kind}) };
}

sub makes_rows { return 0 }

sub load {
    my ($self, $kind) = @_;
    return $kind eq 'settings' ? (mode => 'get')
        : $self->SUPER::load('known');
}

# All get the upstream's own answers. Only with the filter on is there a row
# for a user who had none.
sub check {
    my ($self, $kind) = @_;
    return $self->_check_sessions if $kind eq 'known';
    my @body = map {
        my $answer = UserSync::HTTP->exchange(
            ($kind eq 'settings' ? 'GET' : 'POST'), "$_$PATH{$kind}",
            $kind eq 'settings' ? undef : { email => Bench::World::email(42) });
        die "$self->{name} does not do $kind: $answer->{status} "
            . ($answer->{error} || $answer->{body}) . "\n"
            if $answer->{status} != 200;
        $answer->{body};
    } $self->url, $self->{world}->url;
    die "$self->{name} changes $kind: $body[0]\n" if $body[0] ne $body[1];
    return;
}

sub _check_sessions {
    my ($self) = @_;
    my $world = $self->{world};
    $self->SUPER::check('known');
    my $email = Bench::World::email($world->fresh_block);
    my $answer = UserSync::HTTP->exchange(POST => $self->url($PATH{known}),
        { email => $email, password => 'correct horse battery' });
    die "$self->{name} has no session for $email: $answer->{status}\n"
        unless ref $answer->{json} eq 'HASH' && $answer->{json}{access_token};
    my $rows = $world->pg->value($self->{db} =>
        'SELECT count(*) FROM users WHERE email = ?', $email);
    die "$self->{name}: $rows rows came out of a new user's session\n"
        if $rows != ($self->{name} eq 'on' ? 1 : 0);
    $world->pg->sql($self->{db} => 'DELETE FROM users WHERE email = ?', $email)
        if $rows;
    return;
}

# Sessions of all users, until the cache knows each of them.
sub meet_all {
    my ($self) = @_;
    my $times = 0;
    do {
        die "$self->{name}: the cache does not know all users\n"
            if $times++ == $MOST;
        $self->mark;
        run_wrk(%{ $self->route('known') }, $self->load('known'),
            connections => 16, seconds => 1, seed => 1000 + $times);
    } while $self->asked;
    $self->mark;
    return $self;
}

# ---- configurations

sub _location {
    my ($self, @lines) = @_;
    return join "\n", '<Location "/auth/v1/">',
        'ProxyPass "' . $self->upstream_url . '/auth/v1/"', @lines,
        '</Location>', '';
}

sub _plain { return $_[0]->_location }

# All of the load is one client.
sub _off {
    my ($self) = @_;
    return $self->_dbd . "UserSyncMaxPerClient Off\n"
        . $self->_location('UserSyncEnsureResponse Off');
}

sub _on {
    my ($self) = @_;
    return $self->_dbd . "UserSyncMaxPerClient Off\n"
        . $self->_location('UserSyncEnsureResponse On');
}

1;
