# What the module logs when httpd starts: each unwise setting, once, for
# virtual hosts as for the main server.

use UserSync::Test -keep;

# "LEVEL TEXT" of the module's lines since the start or restart.
sub said {
    my ($httpd, $mark) = @_;
    return map {
        my $line = UserSync::Log::parse($_);
        $line && $line->{module} eq 'usersync'
            && $line->{text} =~ /^US0/ ? "$line->{level} $line->{text}" : ()
    } $httpd->log_since($mark);
}

my %forward = (UserSyncForwardClientIP => 'X-Forwarded-For');

sub server {
    my ($vhosts, @set) = @_;
    return UserSync::Httpd->new(children => 1, vhosts => $vhosts,
        config => module_config(@set));
}

subtest 'the client\'s address is not forwarded' => sub {
    my $own = "UserSyncSupabaseURL ${\ double->url }\n";
    for my $case (
        ['the main server', {}, [], qr/main server/],
        ['and what it shares with vhosts', { a => '' }, [], qr/main server/],
        ['a vhost of its own', { a => "${own}UserSyncForwardClientIP Off" },
            [%forward], qr/vhost 127\.0\.0\.1 \(\S+:\d+\)/],
        ['two', { a => $own }, [], qr/main server and 1 more/],
        ['none', { a => $own }, [%forward]]) {
        my ($name, $vhosts, $set, $who) = @$case;
        my $httpd = server($vhosts, @$set)->start;
        my @said = said($httpd, 0);
        is scalar @said, $who ? 1 : 0, "$name: a line" or diag @said;
        like $said[0], qr/^warn US010: $who: .*32 wrong passwords from one client/,
            'a warning of what comes of it' if $who;
        $httpd->stop;
    }
};

subtest 'keys of vhosts' => sub {
    my $dir = UserSync::Util::new_dir('keys');
    my $open = spew("$dir/open.key", double->key('publishable') . "\n");
    chmod 0644, $open;
    my $httpd = server({ a => "UserSyncSupabaseKey file:$open",
        b => 'UserSyncSupabaseKey ' . double->key('publishable') }, %forward);
    $httpd->expect_log(qr/US001: vhost \S+ \(/)->start;
    $httpd->expect_log(qr/US002: vhost \S+ \(/);
    my $mark = $httpd->log->mark;
    $httpd->graceful;
    is_deeply [map { /^(\w+ US\d+): vhost/ } sort(said($httpd, $mark))],
        ['warn US001', 'warn US002'], 'said at each restart, too'
        or diag said($httpd, $mark);
    like $httpd->said, qr/US00$_: vhost/, "US00$_ on the terminal" for 1, 2;
};

done_testing;
