package UserSync::Config;

# Apache::TestConfig that stays on the loopback interface and gets its ports
# from the system.

use strict;
use warnings;

use parent 'Apache::TestConfig';

sub new_test_server {
    my ($self, $args) = @_;
    return UserSync::Config::Server->new($args || $self);
}

# <VirtualHost name> in *.conf.in gets its own port and Listen line.
sub parse_vhost {
    my ($self, @arg) = @_;
    my $vhost = $self->SUPER::parse_vhost(@arg) or return;
    s/0\.0\.0\.0:/127.0.0.1:/ for $vhost->{out_string};
    return $vhost;
}

package UserSync::Config::Server;

use parent -norequire, 'Apache::TestServer';

use UserSync::Util qw(reserve_port);

sub select_next_port { return reserve_port() }

1;
