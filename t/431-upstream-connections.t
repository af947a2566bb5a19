# What Supabase, or something in front of it, sends on an idle kept connection
# is not the answer to the next user's request: neither a session nor an error.

use UserSync::Proxy;
use UserSync::Test;

my @names = map {"$_\@example.com"} qw(ada bob carol);
my %id = map {
    $_ => double->add_user(email => $_, password => 'correct horse')->{id}
} @names;

my %proxy = map { $_ => UserSync::Proxy->start } qw(forward tunnel);
my $https = 'UserSyncCACertificateFile ' . double->ca_file
    . "\nUserSyncSupabaseURL " . double->https_url . "\n";
# one child: a kept connection is found again
my $httpd = UserSync::Httpd->new(children => 1, threads => 4,
    config => module_config, vhosts => {
        https   => $https,
        forward => 'UserSyncProxy ' . $proxy{forward}->url,
        tunnel  => $https . 'UserSyncProxy ' . $proxy{tunnel}->url,
    })->start;

my %surplus = (
    'a session'         => {},
    'a session at once' => { joined => 1 },
    (map { $_ => { status => $_ } } 200, 400, 429),
    (map { +"$_, closed" => { status => $_, close => 1 } } 400, 408, 429),
);

sub login {
    my ($vhost, $email) = @_;
    return post($httpd->url('/auth/login', $vhost),
        { email => $email, password => 'correct horse' });
}

sub own_ok {
    my ($vhost, $email, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $response = login($vhost, $email);
    my $owner = $response->{json}{session}{user}{id} || '';
    is $owner, $id{$email}, "$name: its user";
    is "$response->{status} " . ($response->{json}{user_id} || ''),
        "200 $id{$email}", $name or diag show($response);
    return;
}

# How many kept connections to a proxy are idle: established, and nothing to
# be read on them.
sub idle {
    my ($proxy) = @_;
    my $peer = sprintf '0100007F:%04X', $proxy->port;
    return scalar grep { /^\s*\d+: \S+ $peer 01 \w+:00000000 / }
        split /\n/, slurp('/proc/net/tcp');
}

for my $vhost (undef, qw(https forward tunnel)) {
    for my $what (sort keys %surplus) {
        subtest(($vhost || 'http') . ", surplus: $what" => sub {
            double->clear_requests;
            double->fault(kind => 'surplus', op => 'token',
                %{ $surplus{$what} });
            own_ok($vhost, 'ada@example.com', 'the own session');
            # the double handles one thing after the other: all is written now
            is_deeply [double->faults], [], 'and something else';
            # a proxy has to pass it on first; of one TLS record there is
            # nothing left to be read
            my $proxy = $proxy{ $vhost || '' };
            wait_until { !idle($proxy) } 10, 'it to arrive'
                if $proxy && !($vhost eq 'tunnel' && $surplus{$what}{joined});
            own_ok($vhost, $_, "$_ gets the own session") for reverse @names;
            my @on = map { $_->{connection} } double->requests('token');
            is scalar @on, 4, 'each login is sent once';
            isnt $on[1], $on[0], 'the next on another connection';
            is_deeply [@on[2, 3]], [@on[1, 1]], 'which is kept';
        });
    }
}

# A good connection is kept, over TLS too.
for my $vhost (undef, qw(https forward tunnel)) {
    own_ok($vhost, 'ada@example.com', 'a connection');
    my $before = double->stats->{connections};
    own_ok($vhost, $_, ($vhost || 'http') . ': kept') for (@names) x 4;
    is double->stats->{connections}, $before, 'twelve logins on it';
}
$httpd->stop;

done_testing;
