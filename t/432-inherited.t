# Programs that httpd starts inherit nothing of ours: no connection to Supabase
# or PostgreSQL, and nothing else that was opened for them.

use UserSync::Background;
use UserSync::Test;

double->add_user(email => 'ada@example.com', password => 'correct horse');

my $dir = UserSync::Util::new_dir('cgi');

# A program that lists its descriptors, one per line.
spew("$dir/descriptors", <<"CGI");
#!$^X
opendir my \$dir, '/proc/self/fd' or die;
my %is = map { \$_ => readlink "/proc/self/fd/\$_" } grep {/\\d/} readdir \$dir;
print "Content-Type: text/plain\\r\\n\\r\\n";
print map {"\$_ \$is{\$_}\\n"} grep { \$_ > 2 && defined \$is{\$_} } sort keys %is;
CGI
chmod 0755, "$dir/descriptors";

# What httpd itself was started with, like this test.
my %given = map { $_ => 1 } grep {defined}
    map { readlink "/proc/self/fd/$_" } 3 .. 1023;

# A name for Supabase's host makes libcurl look it up.
(my $by_name = double->url) =~ s/127\.0\.0\.1/localhost/;
my $cgi = <<"CONF";
ScriptAlias "/cgi/" "$dir/"
<Directory "$dir">
    Require all granted
</Directory>
CONF

sub login {
    my ($httpd, $vhost) = @_;
    return post($httpd->url('/auth/login', $vhost),
        { email => 'ada@example.com', password => 'correct horse' });
}

sub inherited {
    my ($httpd) = @_;
    my $response = get($httpd->url('/cgi/descriptors'));
    is $response->{status}, 200, 'the program runs' or diag show($response);
    # files that anybody can read, such as certificates, are no secret
    return grep { /(?:socket|pipe|anon_inode):/ && !$given{ (split)[1] } }
        split /\n/, $response->{body};
}

# mod_cgi forks the child that serves requests, mod_cgid a separate process
for my $module (mpm() eq 'prefork' ? 'cgi' : ('cgi', 'cgid')) {
    subtest "mod_$module" => sub {
        my $httpd = UserSync::Httpd->new(children => 1, threads => 8,
            modules => [$module], vhosts => {
                name => "UserSyncSupabaseURL $by_name",
                tls  => 'UserSyncCACertificateFile ' . double->ca_file
                    . "\nUserSyncSupabaseURL " . double->https_url,
            },
            config => module_config(DBDMin => 1) . $cgi
                . ($module eq 'cgid' ? "ScriptSock \@DIR\@/cgid\n" : ''))
            ->start;
        for my $vhost (undef, 'name', 'tls') {
            is login($httpd, $vhost)->{status}, 200, 'a login';
        }
        is_deeply [inherited($httpd)], [], 'idle connections';

        # prefork's child has one request at a time
        if (mpm() ne 'prefork') {
            my $open = double->stats->{requests}{token};
            double->fault(kind => 'delay', ms => 3000, times => 3,
                op => 'token');
            my @logins = map {
                my $vhost = $_;
                UserSync::Background->start(sub {
                    return login($httpd, $vhost)->{status};
                });
            } undef, 'name', 'tls';
            double->wait_requests(token => $open + 3);
            is_deeply [inherited($httpd)], [], 'logins under way';
            is $_->result, 200, 'which goes on' for @logins;
        }
        $httpd->stop;
    };
}

done_testing;
