# On the way to Supabase: certificates are checked, a proxy is used only if
# configured, the client's address is forwarded as configured, and a name that
# does not resolve takes no longer than the deadline. A request that cannot be
# sent safely is not sent.

use UserSync::Proxy;
use UserSync::Test;

my $CONNECT = 0.5;
my @timeouts = (UserSyncConnectTimeout => '500ms', UserSyncTimeout => '4s',
    UserSyncRegisterTimeout => '4s');
my $ca = double->ca_file;
my $number = 0;

double->add_user(email => 'ada@example.com', password => 'correct horse');

# A login or a sign-up at a vhost: (response, request that the double saw)
sub ask {
    my ($httpd, $op, $vhost, %header) = @_;
    double->clear_requests;
    my $email = $op eq 'login' ? 'ada@example.com'
        : 'new' . ++$number . '@example.com';
    my $response = post($httpd->url("/auth/$op", $vhost),
        { email => $email, password => 'correct horse' }, %header);
    my ($request) = double->requests($op eq 'login' ? 'token' : 'signup');
    return ($response, $request);
}

sub works_ok {
    my ($httpd, $vhost, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my @requests;
    for my $op ('login', 'register') {
        my ($response, $request) = ask($httpd, $op, $vhost);
        is $response->{status}, 200, "$op: $name" or diag show($response);
        push @requests, $request;
    }
    return @requests;
}

# Not sent, and the log says what to do.
sub unsent_ok {
    my ($httpd, $vhost, $name, $log, $deadline) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $mark = $httpd->log->mark;
    $httpd->expect_log(qr/upstream_unavailable/);
    for my $op ('login', 'register') {
        my ($response) = ask($httpd, $op, $vhost);
        is "$response->{status} " . ($response->{json}{code} || ''),
            '503 upstream_unavailable', "$op: $name" or diag show($response);
        my @arrived = double->requests;
        is scalar @arrived, 0, "$op: nothing is sent";
        my $most = ($deadline || $CONNECT) + slack;
        cmp_ok $response->{elapsed}, '<', $most, "$op: in time";
    }
    my @lines = grep {/upstream_unavailable/} $httpd->log_since($mark);
    ok @lines && !(grep { $_ !~ $log } @lines), 'the log tells what to do'
        or diag @lines;
    return;
}

sub url { return 'UserSyncSupabaseURL ' . double->https_url(@_) }

subtest 'certificates' => sub {
    my $trust = "UserSyncCACertificateFile $ca\n";
    my ($plain) = double->url =~ /(:\d+)$/;
    my ($tls)   = double->https_url =~ /(:\d+)$/;
    my $httpd = UserSync::Httpd->new(children => 1,
        config => module_config(@timeouts), vhosts => {
            good       => $trust . url(),
            by_name    => $trust . url(good => 'localhost'),
            system     => url(),
            other_ca =>
                'UserSyncCACertificateFile ' . ca_file() . "\n" . url(),
            map({ $_ => $trust . url($_) } qw(wrong_name unknown_ca expired)),
            other_name => $trust . url(wrong_name => 'localhost'),
            plain => $trust
                . "UserSyncSupabaseURL https://127.0.0.1$plain",
            tls        => "UserSyncSupabaseURL http://127.0.0.1$tls",
        })->start;

    for my $vhost ('good', 'by_name') {
        my @requests = works_ok($httpd, $vhost, $vhost);
        is scalar(grep { $_->{tls} } @requests), 2, 'over TLS';
    }
    double->clear_requests;
    ask($httpd, 'login', 'good') for 1 .. 3;
    my $before = double->stats->{connections};
    ask($httpd, 'login', 'good') for 1 .. 10;
    is double->stats->{connections}, $before, 'TLS connections are kept';

    my $cure = qr/UserSyncCACertificateFile/;
    unsent_ok($httpd, $_, $_, $cure)
        for qw(wrong_name other_name unknown_ca expired other_ca system);
    unsent_ok($httpd, 'plain', 'no TLS there', qr/UserSyncSupabaseURL/);
    my ($response) = ask($httpd, 'login', 'tls');
    is $response->{status}, 502, 'plain HTTP to a TLS port'
        or diag show($response);
    $httpd->expect_log(qr/upstream_bad_answer/);
    $httpd->stop;
};

subtest 'UserSyncProxy' => sub {
    my $proxy = UserSync::Proxy->start;
    my $full  = UserSync::Proxy->start(
        answer => "HTTP/1.1 503 Full\r\nContent-Length: 0\r\n\r\n");
    my $login = UserSync::Proxy->start(answer =>
        "HTTP/1.1 407 Who?\r\nProxy-Authenticate: Basic realm=\"x\"\r\n"
        . "Content-Length: 0\r\n\r\n");
    my $silent = UserSync::Proxy->start(answer => '');
    my $tls = "UserSyncCACertificateFile $ca\n"
        . "UserSyncForwardClientIP X-Forwarded-For\n" . url() . "\n";
    my $httpd = UserSync::Httpd->new(children => 1,
        config => module_config(@timeouts), vhosts => {
            forward => 'UserSyncProxy ' . $proxy->url,
            connect => $tls . 'UserSyncProxy ' . $proxy->url,
            socks   => $tls . 'UserSyncProxy ' . $proxy->url('socks5'),
            socks_h => $tls . 'UserSyncProxy ' . $proxy->url('socks5h'),
            expired => $tls . url('expired') . "\nUserSyncProxy " . $proxy->url,
            full    => $tls . 'UserSyncProxy ' . $full->url,
            login   => $tls . 'UserSyncProxy ' . $login->url,
            silent  => $tls . 'UserSyncProxy ' . $silent->url,
            none => $tls
                . 'UserSyncProxy http://127.0.0.1:' . reserve_port(),
        })->start;

    my @requests = works_ok($httpd, 'forward', 'a request for a URL');
    my $auth = double->url;
    my @asked = $proxy->asked;
    like $asked[0], qr{\APOST \Q$auth\E/auth/v1/token\?}, 'asked for login';
    like $asked[1], qr{\APOST \Q$auth\E/auth/v1/signup }, 'asked for sign-up';
    $proxy->forget;

    @requests = works_ok($httpd, 'connect', 'a tunnel');
    is scalar(grep { $_->{tls} } @requests), 2, 'with TLS in it';
    my ($to) = double->https_url =~ m{//(.*)};
    @asked = $proxy->asked;
    is scalar(grep {/\ACONNECT \Q$to\E HTTP/} @asked), 2, 'CONNECT';
    my $key = double->key;
    my @told
        = grep {/\Q$key\E|apikey|Forwarded|example\.com|password/i} @asked;
    is_deeply \@told, [], 'the proxy gets nothing else';
    $proxy->forget;

    for my $vhost ('socks', 'socks_h') {
        works_ok($httpd, $vhost, $vhost);
        is_deeply [$proxy->asked], ["SOCKS5 $to", "SOCKS5 $to"], 'asked';
        $proxy->forget;
    }

    unsent_ok($httpd, 'expired', 'an expired certificate in a tunnel',
        qr/UserSyncCACertificateFile/);
    my $cure = qr/UserSyncProxy/;
    unsent_ok($httpd, 'full',   'the proxy cannot', $cure);
    unsent_ok($httpd, 'login',  'the proxy wants a password', $cure);
    unsent_ok($httpd, 'none',   'no proxy there', $cure);
    unsent_ok($httpd, 'silent', 'the proxy says nothing',
        qr/UserSync(?:Proxy|ConnectTimeout)/);
    $httpd->stop;
};

subtest 'proxies of the environment' => sub {
    my $proxy = UserSync::Proxy->start;
    my @names = map { ($_, uc) } qw(http_proxy https_proxy all_proxy);
    my %vhosts = (
        tls   => "UserSyncCACertificateFile $ca\n" . url(),
        proxy => 'UserSyncProxy ' . $proxy->url,
    );
    my $httpd = UserSync::Httpd->new(config => module_config(@timeouts),
        vhosts => \%vhosts, env => { map { $_ => $proxy->url } @names })->start;
    works_ok($httpd, $_, 'http_proxy and its like') for undef, 'tls';
    is_deeply [$proxy->asked], [], 'are ignored';
    $httpd->stop;

    $httpd = UserSync::Httpd->new(config => module_config(@timeouts),
        vhosts => \%vhosts,
        env => { map { $_ => '*' } qw(no_proxy NO_PROXY) })->start;
    works_ok($httpd, 'proxy', 'no_proxy');
    is scalar(() = $proxy->asked), 2, 'is ignored';
    $httpd->stop;
};

subtest 'UserSyncForwardClientIP' => sub {
    my $remote = "RemoteIPHeader X-Client\nRemoteIPInternalProxy 127.0.0.1\n";
    my ($sb, $xff) = ('Sb-Forwarded-For', 'X-Forwarded-For');
    my $httpd = UserSync::Httpd->new(modules => ['remoteip'],
        config => module_config(@timeouts) . $remote, vhosts => {
            sb   => "UserSyncForwardClientIP $sb",
            xff  => "UserSyncForwardClientIP $xff",
            list => "UserSyncForwardClientIP $xff\nRemoteIPHeader $xff",
        })->start;
    # headers with which a client may claim another address
    my %lies = map { $_ => '192.0.2.66' } $sb, $xff, 'Forwarded', 'X-Real-IP',
        'CF-Connecting-IP', 'True-Client-IP';
    my @cases = (
        [undef, { 'X-Client' => '203.0.113.7' }, ''],
        ['sb',  { 'X-Client' => '203.0.113.7' }, "$sb: 203.0.113.7"],
        ['xff', { 'X-Client' => '203.0.113.7' }, "$xff: 203.0.113.7"],
        ['sb',  { 'X-Client' => '2001:db8::7' }, "$sb: 2001:db8::7"],
        ['sb',  { 'X-Client' => 'fe80::7%lo' },  "$sb: fe80::7"],
        ['xff', {}, "$xff: 127.0.0.1"],
        ['list', { $xff => '192.0.2.66, 198.51.100.9' }, "$xff: 198.51.100.9"],
    );
    for my $case (@cases) {
        my ($vhost, $header, $expected) = @$case;
        for my $op ('login', 'register') {
            my ($response, $request) = ask($httpd, $op, $vhost, %lies,
                Cookie => 'a=b', Authorization => 'Bearer x', %$header);
            my $sent = join ', ', map {"$_->[0]: $_->[1]"}
                grep { $_->[0] =~ m{forwarded|-ip\z|\Ax-client\z}i }
                @{ $request->{headers} };
            my @values = grep { $_->[1] =~ /192\.0\.2\.66/ }
                @{ $request->{headers} };
            my $name = join ' ', $op, $vhost || 'Off', %$header;
            is $sent, $expected, $name
                or diag show($response);
            is scalar @values, 0, "$op: not what the client says";
        }
    }
    my @notice = grep {/UserSyncForwardClientIP is Off/} $httpd->log_since(0);
    is scalar @notice, 1, 'one notice at the start while it is Off';
    $httpd->stop;

    $httpd = UserSync::Httpd->new(
        config => module_config(UserSyncForwardClientIP => $xff))->start;
    @notice = grep {/UserSyncForwardClientIP is Off/} $httpd->log_since(0);
    is scalar @notice, 0, 'and none when it is not';
    $httpd->stop;
};

subtest 'names' => sub {
    my $dir = UserSync::Util::new_dir('names');
    spew("$dir/names.c", <<'C');
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <string.h>
#include <unistd.h>
int getaddrinfo(const char *node, const char *service,
                const struct addrinfo *hints, struct addrinfo **result)
{
    int (*real)(const char *, const char *, const struct addrinfo *,
                struct addrinfo **) = dlsym(RTLD_NEXT, "getaddrinfo");

    if (node != NULL && strcmp(node, "fails.invalid") == 0) {
        return EAI_NONAME;
    }
    if (node != NULL && strcmp(node, "hangs.invalid") == 0) {
        sleep(6);
        return EAI_AGAIN;
    }
    return real(node, service, hints, result);
}
C
    my ($status, $said) = run_command($ENV{CC} || 'cc', '-shared', '-fPIC',
        '-o', "$dir/names.so", "$dir/names.c", '-ldl');
    plan(skip_all => "no compiler for a resolver that hangs: $said") if $status;
    my $httpd = UserSync::Httpd->new(config => module_config(@timeouts),
        vhosts => {
            fails => 'UserSyncSupabaseURL https://fails.invalid',
            hangs => 'UserSyncSupabaseURL https://hangs.invalid',
        },
        env => { LD_PRELOAD => join ' ', grep {$_} $ENV{LD_PRELOAD},
            "$dir/names.so" })->start;
    unsent_ok($httpd, 'fails', 'no such name',
        qr/UserSyncSupabaseURL.*resolver/);
    unsent_ok($httpd, 'hangs', 'the resolver hangs', qr/UserSync\w+/);
    works_ok($httpd, undef, 'other names while it hangs');
    cmp_ok $httpd->stop, '<', 5, 'httpd stops without waiting for it';
};

done_testing;
