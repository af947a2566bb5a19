# configtest refuses every bad value, naming directive, value and what is
# allowed, and accepts good ones; directives are only allowed in their
# contexts.

use UserSync::Test -keep;
use UserSync::Configtest;

my $check = UserSync::Configtest->new;
my $dir   = $check->dir;

# The value in quotes, as httpd writes it to a log: with doubled backslashes. A
# value that may contain a password or a key is not written.
sub shown {
    my ($value) = @_;
    return qr/\bthe value\b/ if $value =~ /\@|sb_|eyJ/;
    $value =~ s{\\}{\\\\}g;
    return qr{\Q"$value"\E};
}

sub name { return join ' ', map { substr $_, 0, 60 } @_ }

$check->file('empty.pem',  '');
$check->file('text.pem',   "no certificate at all\n");
$check->file('broken.pem', "-----BEGIN CERTIFICATE-----\nAAAA\n"
    . "-----END CERTIFICATE-----\n");
run_command(qw(openssl genpkey -algorithm ed25519 -out), "$dir/key.pem");

# ---- values

my $DURATION = qr/from 100ms to 60s/;
my $IDENTIFIER_TOO_LONG = 'x' x 64;
my $STRING = qr/string expression such as %\{REMOTE_USER\}/;
my @BAD_STRINGS = ('%{', '%{REMOTE_USER', '%{NO_SUCH_VARIABLE}',
    '%{nothing:x}', '%{env:x', '%{REMOTE_USER}%{', '%{:x}');

# directive => [what is allowed, the bad values]
my %BAD = (
    UserSyncSupabaseURL => [qr{https://.*loopback}, (
        'abcdefgh.supabase.co', 'ftp://abcdefgh.supabase.co',
        'file:///etc/passwd', 'https://', 'https:///auth/v1', 'https:x.co',
        'https://ada:hunter2@x.co', 'https://ada@x.co', 'https://x.co?a=1',
        'https://x.co/auth/v1?', 'https://x.co#f', 'https://x.co:0',
        'https://x.co:70000', 'https://x.co:http', 'https://x y.co',
        'https://x.co/a b', 'https://x.co\\evil', 'https://[::1',
        ' https://x.co', 'http://x.co', 'http://127.evil.example',
        'http://localhost.example', 'http://0.0.0.0', 'http://10.0.0.1',
        'http://[2001:db8::1]', 'https://supabase.com/dashboard/project/abc',
        'https://app.supabase.com/project/abc', 'https://supabase.co',
        'https://db.abcdefgh.supabase.co', 'https://abc.supabase.co/rest/v1',
        'https://x.co/auth/v1/token', 'sb_publishable_hunter2',
        'eyJhbGciOiJIUzI1NiJ9.hunter2.x',
        'postgresql://postgres:hunter2@db.abcdefgh.supabase.co:5432/postgres',
    )],
    UserSyncTimeout => [$DURATION, (
        'abc', 's', 'ms', '5x', '-1', '+5s', '0', '0s', '99ms', '60001ms',
        '61s', '2mi', '1h', '10sfoo', '1.5s', '5 s', ' 5s', '0x10', '5s ',
        '9223372036854775807s', '18446744073709551621s',
    )],
    UserSyncRegisterTimeout   => [$DURATION, '99ms', '61s', '1sec'],
    UserSyncConnectTimeout    => [$DURATION, '99ms', '61s', '1sec'],
    UserSyncStoreTimeout      => [$DURATION, '99ms', '61s', '1sec'],
    UserSyncCACertificateFile => [qr/PEM/, '/nowhere/ca.pem', $dir,
        'empty.pem', 'text.pem', 'key.pem', 'broken.pem'],
    UserSyncProxy => [qr/None.*http:/, (
        'Off', '127.0.0.1:3128', 'proxy', 'ftp://proxy', 'socks4://proxy',
        'http://', 'http://:3128', 'http://proxy:0', 'http://proxy:70000',
        'http://a:hunter2@proxy', 'http://proxy/path', 'http://proxy?a',
        'http://proxy#f', 'http://pro xy',
    )],
    UserSyncForwardClientIP => [qr/Off, Sb-Forwarded-For or X-Forwarded-For/,
        'On', 'X-Real-IP', 'Forwarded', 'X-Forwarded-For ', 'None'],
    UserSyncTable => [qr/SCHEMA.*TABLE/, (
        '.', 'public.', '.users', 'a.b.c', 'my users', '1users', 'us-ers',
        'users;drop table users', 'users--', '"users', '"users"x', '""',
        'public.""', $IDENTIFIER_TOO_LONG, "public.$IDENTIFIER_TOO_LONG",
        qq{"$IDENTIFIER_TOO_LONG"},
    )],
    UserSyncMaxBodySize => [qr/bytes from 256 to 1048576/,
        '255', '1048577', '-1', '8k', 'many', '1e3', '4096 ', '0x1000',
        '99999999999999999999999999'],
    UserSyncMaxConcurrent => [qr/number from 1 to 100000 or .*1% to 100%/, (
        '0', '0%', '101%', '100001', '-1', '1.5', '50 %', '%', '50%%',
        'half', 'Off', '1e3', '99999999999999999999%',
    )],
    UserSyncMaxPerClient => [qr/Off, a number from 1 to 100000 or .*1% to 100%/,
        '0', '0%', '101%', '100001', '-1', '1.5', '50 %', '%', 'On', 'None',
        'Off ', '1e3', '99999999999999999999%'],
    UserSyncOnDelete => [qr/Keep, Mark or Delete/,
        'On', 'Off', 'None', 'Marked', 'Mark ', 'Keep,Mark', '1'],
    UserSyncEnsureUser    => [$STRING, @BAD_STRINGS],
    UserSyncEnsureEmail   => [$STRING, @BAD_STRINGS],
    UserSyncEnsureOnError => [qr/Deny or Allow/,
        'On', 'Off', 'None', 'Allowed', 'Deny ', '503', 'Deny,Allow'],
    UserSyncHookOnError => [qr/Deny or Allow/,
        'On', 'Off', 'None', 'Allowed', 'Deny ', '503'],
    UserSyncHookForward => [qr/None or https:.*loopback/, (
        'Off', 'On', 'x.co', 'ftp://x.co', 'http://x.co', 'http://10.0.0.1/',
        'https://', 'https://a:hunter2@x.co/', 'https://x.co/?a=1',
        'https://x.co/#f', 'https://x.co:0/', 'https://x y.co/',
    )],
    # shmcb is not loaded here
    UserSyncCache => [qr/none or a provider .*load mod_socache_/,
        'Off', 'shmcb', 'nothing', 'none ', 'SHMCB', '/run/cache'],
    UserSyncCacheTimeout => [qr/from 1s to 86400s/, (
        '0', '999ms', '86401', '25h', '1441mi', '5m', '-1s', '5 mi', 'none',
        '9223372036854775807s',
    )],
);

for my $directive (sort keys %BAD) {
    my ($allowed, @values) = @{ $BAD{$directive} };
    subtest "$directive refuses" => sub {
        my $place = $check->httpd->conf_file;
        for my $value (@values) {
            my $said = $check->refused_ok(
                $check->config($directive => $check->quoted($value)),
                name(qq{"$value"}), qr/Syntax error on line \d+ of \Q$place\E/,
                qr/^\Q$directive\E /m, shown($value), $allowed,
            );
            unlike $said, qr/hunter2/, 'no secret is shown'
                if $value =~ /hunter2/;
        }
    };
}

sub column {
    my (@arg) = @_;
    return $check->config
        . join(' ', 'UserSyncColumn', map { $check->quoted($_) } @arg) . "\n";
}

subtest 'UserSyncColumn refuses' => sub {
    my $fields = qr/\(id, email, phone, .*, updated_at, user_metadata\.NAME/;
    for my $field ('name', 'EMAIL', 'user_metadata', 'user_metadata.',
        'app_metadata', 'raw_user_meta_data.x', 'id.x', 'identities', 'role') {
        $check->refused_ok(column($field, 'name'), "the field $field",
            qr/^UserSyncColumn /m, shown($field), $fields);
    }
    for my $column ('my phone', '1phone', 'public.phone', 'phone;', '"phone',
        '""', $IDENTIFIER_TOO_LONG) {
        $check->refused_ok(column('phone', $column), name('column', $column),
            qr/^UserSyncColumn /m, shown($column), qr/column name/);
    }
    $check->refused_ok(column('id', 'None'), 'no column for id',
        qr/^UserSyncColumn /m, qr/None/);
};

# What is wrong with a secret, and never the secret itself.
my %BAD_SECRET = (
    'no prefix'         => ['NeverToBeShown' x 3, qr/not begin with v1,whsec_/],
    'half a prefix'     => ['whsec_' . 'c2Vj' x 10, qr/not begin with v1,whsec_/],
    'an asymmetric one' => ['v1a,whsk_' . 'c2Vj' x 10, qr/asymmetric/],
    'nothing in it'     => ['v1,whsec_', qr/not base64/],
    'a part of it'      => ['v1,whsec_' . 'c2Vj' x 10 . 'c2', qr/not base64/],
    'another alphabet'  => ['v1,whsec_' . 'c2-_' x 10, qr/not base64/],
    '23 bytes'          => ['v1,whsec_' . 'c2Vj' x 7 . 'c2U=', qr/24 to 64/],
    '65 bytes'          => ['v1,whsec_' . 'c2Vj' x 21 . 'c2U=', qr/24 to 64/],
    'an empty second'   => ['v1,whsec_' . 'c2Vj' x 10 . '|', qr/v1,whsec_/],
    'nine'              => [join('|', ('v1,whsec_' . 'c2Vj' x 10) x 9),
        qr/8 are allowed/],
    'quotes'            => ["'v1,whsec_" . 'c2Vj' x 10 . "'", qr/in quotes/],
);

subtest 'UserSyncHookSecret refuses' => sub {
    for my $name (sort keys %BAD_SECRET) {
        my ($value, $what) = @{ $BAD_SECRET{$name} };
        for my $arg ($check->quoted($value),
            'file:' . $check->file('bad.secret', "$value\n", 0600)) {
            my $said = $check->refused_ok(
                $check->config(UserSyncHookSecret => $arg), $name,
                qr/^UserSyncHookSecret/m, $what);
            unlike $said, qr/(?:c2Vj){3}|c2-_c2/, 'it is not shown';
        }
    }
    my $eight = "UserSyncHookSecret v1,whsec_" . 'c2Vj' x 10 . "\n";
    $check->refused_ok($check->config . $eight x 9, 'nine lines',
        qr/^UserSyncHookSecret.*8 are allowed/m);
    $check->refused_ok($check->config(UserSyncHookSecret => $_),
        "file $_", qr/^UserSyncHookSecret takes file:PATH/m)
        for 'file:/nowhere', 'file:', 'exec:/bin/false';
};

subtest 'UserSyncEventHeader refuses' => sub {
    my $value = 'NeverToBeShown.16';
    my $no_name = qr/a header's name, such as X-Event-Key, .*is no such name/;
    my $taken = qr/a header's name, .*is a header with another meaning/;
    my $refused = sub {
        my ($name, $spec, @like) = @_;
        my $said = $check->refused_ok($check->config . join(' ',
            'UserSyncEventHeader', map { $check->quoted($_) } $name, $spec)
            . "\n", name($name, $spec), qr/^UserSyncEventHeader takes /m,
            @like);
        unlike $said, qr/NeverToBe/, 'it is not shown';
    };
    $refused->($_, $value, shown($_), $no_name)
        for 'X Key', 'X-Key:', 'X(Key)', 'a/b', 'a,b';
    $refused->("X-K\xc3\xa9y", $value, $no_name);
    $refused->($_, $value, shown($_), $taken)
        for qw(Authorization authorization Cookie Host User-Agent Content-Type
            Content-Length Transfer-Encoding Accept Accept-Language Connection
            If-Match Range Forwarded X-Forwarded-For Webhook-Signature
            webhook-id Sb-Webhook-Id apikey X-User-Id X-Request-Id);
    $refused->('X-Key', @$_) for ['NeverToBe.Shown', qr/16 characters or more/],
        ["$value x", qr/blank/], ["$value\xc3\xa4", qr/ASCII/],
        ["'$value'", qr/in quotes/], ['x' x 4097, qr/4096/],
        ['file:/nowhere', qr{cannot read the file /nowhere}],
        ['file:', qr/names no file/], ['exec:/bin/false', qr/false/],
        ['file:' . $check->file('short.key', "NeverToBeShown\n", 0600),
            qr/16 characters/];
    for my $arg ('', 'X-Key', "X-Key $value x", '"" ""') {
        $check->refused_ok($check->config(UserSyncEventHeader => $arg),
            "UserSyncEventHeader $arg",
            qr/^UserSyncEventHeader takes (?:two arguments|a header's name)/m);
    }
    $check->accepted_ok(
        $check->config(UserSyncCache => 'none', UserSyncEventHeader => $_),
        "UserSyncEventHeader $_") for map {
            "$_ file:" . $check->file('fine.key', 'x' x 16 . "\n", 0600)
        } 'X-Event-Key', 'x', "X!#\$%&*+.^_|~1";
};

# first argument, second, which of them is shown, what is allowed
my @BAD_BREAKER = (
    ['On', undef, 'On', qr/Off or FAILURES DURATION/],
    ['5', undef, '5', qr/Off or FAILURES DURATION/],
    ['10s', undef, '10s', qr/Off or FAILURES DURATION/],
    (map { [$_, '10s', $_, qr/number from 1 to 1000/] }
        '0', '-1', '1001', '5x', 'Off', '1.5', '10s',
        '99999999999999999999'),
    (map { ['5', $_, $_, qr/from 1s to 3600s/] }
        '0', '999ms', '3601s', '2h', '10x', '-1s', '10 s', 'Off',
        '9223372036854775807s'),
);

subtest 'UserSyncCircuitBreaker refuses' => sub {
    for my $case (@BAD_BREAKER) {
        my ($failures, $duration, $bad, $allowed) = @$case;
        my @arg = map { $check->quoted($_) }
            grep {defined} $failures, $duration;
        $check->refused_ok(
            $check->config(UserSyncCircuitBreaker => "@arg"),
            name('UserSyncCircuitBreaker', @arg),
            qr/^UserSyncCircuitBreaker takes /m, shown($bad), $allowed);
    }
    for my $value ('', '5 10s x') {
        $check->refused_ok(
            $check->config(UserSyncCircuitBreaker => $value),
            "UserSyncCircuitBreaker $value",
            qr/^UserSyncCircuitBreaker takes 1-2 arguments/m);
    }
};

subtest 'flags' => sub {
    for my $directive ('UserSyncEnsure', 'UserSyncEnsureHeaders') {
        for my $value ('', '""', 'yes', '1', 'None', 'X-User-Id') {
            $check->refused_ok($check->config($directive => $value),
                "$directive $value",
                qr/^\Q$directive\E must be On or Off/m);
        }
    }
};

subtest 'the number of arguments' => sub {
    for my $directive (sort(keys %BAD), 'UserSyncSupabaseKey',
        'UserSyncHookSecret') {
        for my $value ('', '""', 'a b') {
            $check->refused_ok($check->config($directive => $value),
                "$directive $value",
                qr/^\Q$directive\E takes one argument/m);
        }
    }
    for my $value ('', 'email', 'email ""', 'email a b') {
        $check->refused_ok($check->config . "UserSyncColumn $value\n",
            "UserSyncColumn $value", qr/^UserSyncColumn takes two arguments/m);
    }
};

subtest 'good values' => sub {
    my $ca = double->ca_file;
    symlink $ca, "$dir/relative.pem";
    my %good = (
        UserSyncSupabaseURL => [
            'https://abcdefgh.supabase.co', 'https://abcdefgh.supabase.co/',
            'https://ABC.supabase.co/auth/v1', 'https://x.co:8443/auth/v1/',
            'HTTPS://x.co', 'https://x.co/prefix', 'https://[2001:db8::1]',
            'http://127.0.0.1:54321', 'http://127.99.0.1', 'http://localhost',
            'http://LOCALHOST:1', 'http://[::1]:65535/auth/v1',
        ],
        UserSyncRegisterTimeout   => ['60s', '60000ms', '1mi', '60', '2s'],
        UserSyncStoreTimeout      => ['100ms', '60s', '1mi', '3'],
        UserSyncCACertificateFile => [$ca, 'relative.pem'],
        UserSyncProxy => ['None', 'none', 'http://127.0.0.1:3128',
            'http://proxy', 'https://proxy:443/', 'socks5://[::1]:1080',
            'socks5h://proxy'],
        UserSyncForwardClientIP => ['Off', 'off', 'Sb-Forwarded-For',
            'sb-forwarded-for', 'X-Forwarded-For', 'x-forwarded-for'],
        UserSyncTable => ['users', 'public.users', '_u$1',
            "\xc3\xa4pp.us\xc3\xa9rs", 'x' x 63, 'x' x 63 . '.' . 'y' x 63,
            '"My Users"', '"My.Schema"."us""ers"', 'app."Users"',
            '"' . 'x' x 63 . '"'],
        UserSyncMaxBodySize => ['256', '1048576', '8192'],
        UserSyncMaxConcurrent => ['1', '100000', '1%', '50%', '100%'],
        UserSyncMaxPerClient  => ['1', '100000', '1%', '100%', 'Off', 'off'],
        UserSyncOnDelete => ['Keep', 'keep', 'Delete', 'DELETE'],
        UserSyncEnsureUser => ['%{REMOTE_USER}', '%{reqenv:OIDC_CLAIM_sub}',
            'a%{HTTP:X-Sub}b', '%{tolower:%{REMOTE_USER}}', 'nobody'],
        UserSyncEnsureEmail   => ['%{env:MAIL}', 'None', 'none'],
        UserSyncEnsureOnError => ['Deny', 'allow'],
        UserSyncEnsureHeaders => ['On', 'off'],
        UserSyncHookOnError => ['Deny', 'allow'],
        UserSyncHookForward => ['None', 'none', 'https://x.co/hook',
            'https://x.co', 'http://127.0.0.1:8000/a/b', 'http://[::1]:1/'],
        UserSyncCache         => ['none', 'None'],
        UserSyncCacheTimeout  => ['1s', '86400', '24h', '1500ms', '5mi'],
    );
    for my $directive (sort keys %good) {
        for my $value (@{ $good{$directive} }) {
            # a remote proxy is for https only
            $check->accepted_ok(
                $check->config(UserSyncSupabaseURL => 'https://x.co',
                    $directive => $check->quoted($value)),
                name($directive, $value));
        }
    }
    $check->accepted_ok($check->config(UserSyncCircuitBreaker => $_),
        "UserSyncCircuitBreaker $_")
        for 'Off', 'off', '1 1s', '5 10s', '5 10', '1000 1h', '3 1500ms';
    for my $time ('100ms', '60s', '1mi') {
        $check->accepted_ok($check->config(
            map { $_ => $time } grep {/Timeout/ && !/Cache/} keys %BAD), "each for $time");
    }
    $check->accepted_ok($check->config . <<'CONF', 'columns');
UserSyncColumn id '"User Id"'
UserSyncColumn email None
UserSyncColumn phone phone
UserSyncColumn user_metadata.full_name '"Full ""Name"""'
UserSyncColumn user_metadata.email email
UserSyncColumn app_metadata.provider provider
UserSyncColumn is_anonymous guest
UserSyncColumn banned_until banned_until
UserSyncColumn deleted_at '"Gone At"'
UserSyncColumn updated_at supabase_updated_at
UserSyncOnDelete Mark
CONF
};

# ---- contexts

# One good line of each directive.
my %LINE = (
    UserSyncSupabaseURL       => 'https://x.co',
    UserSyncSupabaseKey       => 'file:' . $check->key_file,
    UserSyncTimeout           => '5s',
    UserSyncRegisterTimeout   => '5s',
    UserSyncConnectTimeout    => '1s',
    UserSyncStoreTimeout      => '1s',
    UserSyncCACertificateFile => double->ca_file,
    UserSyncProxy             => 'None',
    UserSyncForwardClientIP   => 'Off',
    UserSyncTable             => 'users',
    UserSyncColumn            => 'email email',
    UserSyncOnDelete          => 'Keep',
    UserSyncMaxBodySize       => '8192',
    UserSyncMaxConcurrent     => '50%',
    UserSyncMaxPerClient      => '25%',
    UserSyncCircuitBreaker    => '5 10s',
    UserSyncEnsure            => 'On',
    UserSyncEnsureUser        => '%{REMOTE_USER}',
    UserSyncEnsureEmail       => 'None',
    UserSyncEnsureOnError     => 'Deny',
    UserSyncEnsureHeaders     => 'On',
    UserSyncCache             => 'none',
    UserSyncCacheTimeout      => '5mi',
    UserSyncHookSecret        => 'file:' . $check->file('hook.secret',
        'v1,whsec_' . 'c2Vj' x 10 . "\n", 0600),
    UserSyncHookOnError       => 'Allow',
    UserSyncHookForward       => 'https://x.co/hook',
    UserSyncEventHeader       => 'X-Event-Key file:' . $check->file(
        'event.key', 'x' x 16 . "\n", 0600),
    UserSyncEnsureResponse    => 'Off', # mod_proxy is not loaded here
    UserSyncProxyAdmin        => 'Allow',
    UserSyncProxyHeaders      => 'Keep',
    UserSyncServerStatus      => 'On',
);

# One value for all children and vhosts.
my %SERVER_ONLY = map { $_ => 1 }
    qw(UserSyncMaxConcurrent UserSyncMaxPerClient UserSyncCircuitBreaker
        UserSyncCache);

# The lines of the command table: name, and the rest.
my %COMMAND = slurp(UserSync::Util::top_dir() . '/src/config/directives.c')
    =~ /^ {4}(?:AP_INIT_\w+|DURATION)\(\s*"(UserSync\w+)",(.*?)(?=^ {4}\S)/gms;

# Not read from the table: a value of a whole server must not get there.
sub in_sections {
    return $_[0] =~ /^UserSync(?:MaxBodySize|Ensure\w*|HookOnError
        |ProxyAdmin|ProxyHeaders)$/x;
}

is_deeply [sort keys %LINE], [sort keys %COMMAND], 'a line of each directive';
is_deeply [grep { in_sections($_) != ($COMMAND{$_} =~ /ACCESS_CONF/) }
    sort keys %COMMAND], [], 'each where it belongs';

subtest 'contexts' => sub {
    my @all = map {"$_ $LINE{$_}"} grep { !$SERVER_ONLY{$_} } sort keys %LINE;
    my $config = $check->config(UserSyncCache => 'none');
    $check->accepted_ok($config . $check->vhost('a.example', @all),
        'all but these in a vhost');
    for my $directive (sort keys %SERVER_ONLY) {
        my $line = "$directive $LINE{$directive}";
        $check->refused_ok(
            $check->config . $check->vhost('a.example', $line),
            "$directive in a vhost",
            qr/^\Q$directive\E cannot occur within <VirtualHost> section/m);
        # it needs no project in the main server
        $check->accepted_ok($check->config =~ s/^(?!DBD|Load).*\n//mgr
            . "$line\n", "$directive where no route is");
    }
    for my $directive (sort keys %LINE) {
        next if in_sections($directive);
        $check->refused_ok($check->config . "<Location \"/x\">\n"
            . "$directive $LINE{$directive}\n</Location>\n",
            "$directive in a Location", qr/^\Q$directive\E not allowed/m);
    }
    for my $section ('Location "/x"', 'LocationMatch "x"', 'Directory "/x"',
        'Files "x"', 'If "true"') {
        my ($end) = $section =~ /^(\w+)/;
        my @inside = map {"$_ $LINE{$_}"} grep { in_sections($_) } sort
            keys %LINE;
        cmp_ok scalar @inside, '>=', 10, 'these are allowed in a section';
        $check->accepted_ok(
            join("\n", $config . "<$section>", @inside, "</$end>\n"),
            "all of them in <$section>");
    }
};

subtest 'none in .htaccess' => sub {
    my $httpd = $check->httpd;
    $httpd->write_config($check->config . <<"CONF")->start;
<Directory "$dir/htdocs">
    AllowOverride All
</Directory>
CONF
    for my $directive (sort keys %LINE) {
        mkdir "$dir/htdocs/$directive";
        spew("$dir/htdocs/$directive/index.html", 'fine');
        is get($httpd->url("/$directive/index.html"))->{status}, 200,
            "without $directive";
        spew("$dir/htdocs/$directive/.htaccess",
            "$directive $LINE{$directive}\n");
        is get($httpd->url("/$directive/index.html"))->{status}, 500,
            "with $directive";
        $httpd->expect_log(
            qr{\Q$directive/.htaccess: $directive not allowed here\E});
    }
    $httpd->stop;
};

done_testing;
