# conf/fail2ban-usersync.conf finds only the clients with wrong passwords in
# httpd's error log, by the address in the log.

use UserSync::Tables;
use UserSync::Test;

my $filter = UserSync::Util::top_dir() . '/conf/fail2ban-usersync.conf';
my $dir    = UserSync::Util::new_dir('ban');

# The addresses that fail2ban finds in these lines, in order.
sub banned {
    my ($file) = @_;
    my ($status, $said) = run_command({ HOME => $dir }, 'fail2ban-regex', '-o',
        'ip', $file, $filter);
    is $status, 0, 'fail2ban-regex' or diag $said;
    return [split /\n/, $said];
}

subtest 'what httpd writes' => sub {
    # httpd's default, which common.conf replaces
    my $pid = mpm eq 'prefork' ? '[pid\ %P]' : '[pid\ %P:tid\ %T]';
    my $log = "$dir/error_log";
    my $httpd = UserSync::Httpd->new(modules => ['remoteip'],
        config => module_config(), vhosts => { site => <<"CONF" })->start;
ErrorLog "$log"
ErrorLogFormat "[%{u}t] [%-m:%l] $pid [client\\ %a] %M% ,\\ referer\\ %{Referer}i"
RemoteIPHeader X-Client
RemoteIPInternalProxy 127.0.0.1
CONF
    my $person = person();
    my $try = sub {
        my ($address, $path, %arg) = @_;
        my %body = (email => $person->{email}, password => 'guessed',
            %{ $arg{body} || {} });
        return post($httpd->url($path, 'site'), \%body,
            'X-Client' => $address, %{ $arg{header} || {} })->{status};
    };
    my $spoofed = '[client 203.0.113.9:1] [x] usersync-login: '
        . 'invalid_credentials';
    my %right = (body => { password => $person->{password} });
    is $try->('192.0.2.1', '/auth/login'), 401, 'a wrong password';
    is $try->('2001:db8::7:1234', '/auth/login'), 401, 'by IPv6';
    is $try->('192.0.2.2', '/auth/login',
        body => { email => 'nobody@people.example' }), 401,
        'an unknown address';
    is $try->('192.0.2.3', '/auth/login', %right), 200, 'the right one';
    is $try->('192.0.2.4', '/auth/login', body => { password => '' }), 400,
        'none';
    is $try->('192.0.2.5', '/auth/login/below'), 404, 'no route';
    is $try->('192.0.2.6', '/auth/register', body => { password => 'x' }), 422,
        'a sign-up that is refused';
    is $try->('192.0.2.8', '/auth/login', %right,
        header => { Referer => $spoofed }), 200, 'words of the client';
    is $try->('192.0.2.9', '/auth/login', header => { Referer => $spoofed }),
        401, 'the same with a wrong password';
    is $try->('192.0.2.1', '/auth/login'), 401, 'again';
    is_deeply banned($log), [qw(192.0.2.1 2001:db8::7:1234 192.0.2.2
        192.0.2.9 192.0.2.1)], 'found' or diag slurp($log);
};

subtest 'lines of other servers' => sub {
    my $date = '[Sun Nov 29 06:15:37.485580 2026]';
    my $file = spew("$dir/lines", join "\n",
        # mod_unique_id, IPv6 with a port of four digits
        "$date [usersync:info] [pid 7:tid 140390019983232] "
        . '[client 2001:db8::1:4321] [aXs@AbZ-_xAAAH8AAQEAAAAA] '
        . 'usersync-login: invalid_credentials',
        # neither of these
        "$date [usersync:warn] [pid 7] [client 192.0.2.1:51234] [x] "
        . 'usersync-login: over_request_rate_limit: Supabase answered 429',
        "$date [usersync:debug] [pid 7] [client 192.0.2.2:51234] [x] "
        . 'usersync-login: ok', "$date [usersync:error] [pid 7] "
        . '[client 192.0.2.3:51234] [x] usersync-login: upstream_timeout', '');
    is_deeply banned($file), ['2001:db8::1'], 'found';
};

done_testing;
