package UserSync::Configtest;

# Checks configurations with `httpd -t`, for the tests of its messages:
#
#   my $check = UserSync::Configtest->new;
#   $check->refused_ok($check->config(UserSyncTimeout => '1ms'), 'too short',
#       qr/UserSyncTimeout/);
#
# Every call fails the test if httpd crashes or if the key is shown.

use strict;
use warnings;

use Test::More ();

use UserSync::Httpd ();
use UserSync::Test ();
use UserSync::Util qw(slurp spew);

# Must not be anywhere in the output.
my $SECRET = 'NeverToBeShown';

sub secret { return "sb_publishable_${SECRET}_0123456789" }

# Arguments as for UserSync::Httpd->new.
sub new {
    my ($class, %arg) = @_;
    # these load slowly and are not needed
    my @without = qw(ssl http2 socache_shmcb status rewrite proxy_http proxy);
    my $httpd = UserSync::Httpd->new(without => \@without, %arg);
    my $self = bless { httpd => $httpd }, $class;
    $self->{key_file} = $self->file('good.key', $self->secret . "\n", 0600);
    return $self;
}

sub httpd    { return $_[0]{httpd} }
sub dir      { return $_[0]{httpd}->dir }
sub key_file { return $_[0]{key_file} }

# Writes a file in the directory of the server; returns its path.
sub file {
    my ($self, $name, $text, $mode) = @_;
    my $file = spew($self->dir . "/$name", $text);
    chmod $mode, $file if defined $mode;
    return $file;
}

# An argument in quotes for httpd.conf.
sub quoted {
    my ($self, $value) = @_;
    $value =~ s/(["\\])/\\$1/g;
    return qq{"$value"};
}

# Both routes in the main server; arguments as for module_config.
sub config {
    my ($self, @arg) = @_;
    return UserSync::Test::module_config(
        UserSyncSupabaseKey => "file:$self->{key_file}", @arg);
}

sub vhost {
    my ($self, $name, @lines) = @_;
    return join "\n", '<VirtualHost 127.0.0.1:7>', "ServerName $name", @lines,
        '</VirtualHost>', '';
}

# A route for a vhost.
sub route {
    my ($self, $handler) = @_;
    return '<Location "/in">', 'SetHandler ' . ($handler || 'usersync-login'),
        '</Location>';
}

# "vhost NAME (file:line)" of the section that has this ServerName.
sub prefix {
    my ($self, $name) = @_;
    my $file  = $self->{httpd}->conf_file;
    my @lines = split /\n/, slurp($file);
    my ($line)
        = grep { $lines[$_] eq "ServerName $name" } 0 .. $#lines;
    return qr/\Qvhost $name ($file:$line)\E: /;
}

# (exit status, output)
sub said {
    my ($self, $text, @option) = @_;
    $self->{httpd}->write_config($text);
    my ($status, $said) = $self->{httpd}->run(@option ? @option : '-t');
    Test::More::fail('httpd -t does not crash') if $status > 127;
    Test::More::fail('the key is not shown') if $said =~ /\Q$SECRET\E/;
    return ($status, $said);
}

# Accepted without any message of ours.
sub accepted_ok {
    my ($self, $text, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my ($status, $said) = $self->said($text);
    return Test::More::ok($status == 0 && $said !~ /usersync:/, $name)
        || Test::More::diag($said);
}

# Refused, and httpd's output has every pattern; returns the output.
sub refused_ok {
    my ($self, $text, $name, @like) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my ($status, $said) = $self->said($text);
    my @missing = grep { $said !~ $_ } @like;
    Test::More::ok($status != 0 && !@missing, $name)
        || Test::More::diag("status $status\n$said",
            map {"\nmissing: $_"} @missing);
    return $said;
}

# Accepted with one warning that has all the patterns.
sub warned_ok {
    my ($self, $text, $name, @like) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my ($status, $said) = $self->said($text);
    my @lines   = grep {/usersync:warn/} split /\n/, $said;
    my @missing = grep { ($lines[0] || '') !~ $_ } @like;
    return Test::More::ok($status == 0 && @lines == 1 && !@missing, $name)
        || Test::More::diag($said, map {"\nmissing: $_"} @missing);
}

1;
