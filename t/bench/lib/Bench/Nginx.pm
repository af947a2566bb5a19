package Bench::Nginx;

# nginx in front of the same upstream, as an alternative.

use strict;
use warnings;

use parent -norequire, 'Bench::Contender';

use Bench::Process ();
use UserSync::Util qw(spew);

sub launch {
    my ($self) = @_;
    $self->settle;
    my $file = spew("$self->{dir}/nginx.conf", $self->_config);
    $self->{process} = Bench::Process->start(
        command => ['/usr/sbin/nginx', '-e', "$self->{dir}/error_log", '-p',
            $self->{dir}, '-c', $file],
        log => "$self->{dir}/log");
    $self->wait_ready;
    return;
}

# Like httpd with MaxKeepAliveRequests 0, nginx does not close connections.
sub _config {
    my ($self) = @_;
    my $dir = $self->{dir};
    my ($upstream) = $self->{world}->url =~ m{//(.*)};
    my $temp = join "\n", map {"    ${_}_temp_path $dir/$_;"}
        qw(client_body proxy fastcgi uwsgi scgi);
    return <<"CONF";
daemon off;
worker_processes 2;
pid $dir/nginx.pid;
error_log $dir/error_log;
events { worker_connections 4096; }
http {
    access_log $dir/access_log;
$temp
    keepalive_requests 1000000000;
    upstream supabase {
        server $upstream;
        keepalive 512;
        keepalive_requests 1000000000;
    }
    server {
        listen 127.0.0.1:$self->{port};
        location /proxied/ {
            proxy_pass http://supabase/auth/v1/;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }
    }
}
CONF
}

sub route {
    my ($self, $kind) = @_;
    return { headers => '', url => $self->own_url('/proxied/'
        . ($kind eq 'register' ? 'signup' : 'token?grant_type=password')) };
}

1;
