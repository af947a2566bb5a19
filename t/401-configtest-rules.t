# configtest checks what involves more than one directive, names the vhost by
# file and line, and ignores vhosts that do not use the module.

use UserSync::Test -keep;
use UserSync::Configtest;

my $check = UserSync::Configtest->new(modules => ['macro']);
my $dir   = $check->dir;

# Everything that a vhost needs, without using the module.
sub database { return 'DBDriver pgsql', 'DBDParams "dbname=app"' }

sub project {
    return 'UserSyncSupabaseURL https://x.co',
        'UserSyncSupabaseKey file:' . $check->key_file;
}

sub lines { return join '', map {"$_\n"} @_ }

subtest 'missing and contradicting lines' => sub {
    my @cases = (
        ['no URL', [UserSyncSupabaseURL => undef], [],
            qr/UserSyncSupabaseURL is missing/],
        ['no key', [UserSyncSupabaseKey => undef], [],
            qr/UserSyncSupabaseKey is missing/],
        ['connecting takes longer than a login may',
            [UserSyncConnectTimeout => '3s', UserSyncTimeout => '2s'], [],
            qr/UserSyncConnectTimeout/, qr/UserSyncTimeout/],
        ['a login takes less than connecting by default',
            [UserSyncTimeout => '1s'], [],
            qr/UserSyncConnectTimeout/, qr/UserSyncTimeout/],
        ['connecting takes longer than a sign-up may',
            [UserSyncConnectTimeout => '3s', UserSyncRegisterTimeout => '2s'],
            [], qr/UserSyncConnectTimeout/, qr/UserSyncRegisterTimeout/],
        ['a route that does not exist', [], [$check->route('usersync-xyz')],
            qr/usersync-xyz/, qr/usersync-register/, qr/usersync-login/,
            qr/usersync-refresh/, qr/usersync-logout/, qr/usersync-hook/,
            qr/usersync-event/],
        ['a path for a route', [], [$check->route('usersync-logout/x')],
            qr{usersync-logout/x}],
        ['a hook without a secret', [], [$check->route('usersync-hook')],
            qr/UserSyncHookSecret is missing/],
        ['no DBDriver', [DBDriver => undef], [], qr/DBDriver/, qr/pgsql/],
        ['another DBDriver', [DBDriver => 'sqlite3'], [],
            qr/DBDriver/, qr/sqlite3/, qr/pgsql/],
        ['two fields in one column', [],
            ['UserSyncColumn phone contact',
                'UserSyncColumn user_metadata.tel contact'],
            qr/UserSyncColumn/, qr/contact/],
        ['a field in the column of the e-mail', [],
            ['UserSyncColumn phone email'], qr/UserSyncColumn/, qr/email/],
        ['a field in the quoted column of the id', [],
            [q{UserSyncColumn phone '"id"'}], qr/UserSyncColumn/, qr/\bid\b/],
        ['e-mail and id in one column', [], ['UserSyncColumn email id'],
            qr/UserSyncColumn/, qr/\bid\b/],
        ['too many columns', [],
            [map {"UserSyncColumn user_metadata.f$_ f$_"} 1 .. 15],
            qr/UserSyncColumn/, qr/14/],
    );
    for my $case (@cases) {
        my ($name, $set, $more, @like) = @$case;
        $check->refused_ok($check->config(@$set) . lines(@$more), $name,
            qr/main server: /, @like);
    }
    $check->accepted_ok($check->config(UserSyncConnectTimeout => '2s',
        UserSyncTimeout => '2s', UserSyncRegisterTimeout => '2s'),
        'all timeouts the same');
    $check->accepted_ok($check->config . lines(
        map {"UserSyncColumn user_metadata.f$_ f$_"} 1 .. 14),
        'fourteen columns');
    $check->accepted_ok($check->config . lines('UserSyncColumn email None',
        'UserSyncColumn phone email', q{UserSyncColumn user_metadata.x '"ID"'}),
        'a column that was given up, and one whose name differs in case');
};

subtest 'a proxy to a loopback project' => sub {
    my @local = map { [UserSyncSupabaseURL => $_] } 'http://127.0.0.1:54321',
        'HTTP://localhost:8000', 'http://[::1]:8000';
    my @elsewhere = ('http://proxy.example:3128', 'https://proxy.example',
        'socks5://10.0.0.1:1080', 'socks5h://proxy.example');
    my @like = (qr/UserSyncProxy/, qr/UserSyncSupabaseURL/, qr/in the clear/);
    for my $url (@local) {
        for my $proxy (@elsewhere) {
            $check->refused_ok($check->config(@$url, UserSyncProxy => $proxy),
                "$url->[1] by $proxy", qr/main server: /, @like,
                qr/\Q$proxy\E/);
        }
        $check->accepted_ok($check->config(@$url, UserSyncProxy => $_),
            "$url->[1] by $_") for 'None', 'http://127.0.0.1:3128',
            'socks5h://localhost:1080', 'https://[::1]:443';
    }
    $check->accepted_ok($check->config(UserSyncSupabaseURL => 'https://x.co',
        UserSyncProxy => $_), "https by $_") for @elsewhere;

    my ($local, $proxy) = ($local[0][1], $elsewhere[0]);
    for my $case (
        ['both in a vhost', [], ["UserSyncSupabaseURL $local",
            "UserSyncProxy $proxy"]],
        ['the proxy inherited', [UserSyncProxy => $proxy,
            UserSyncSupabaseURL => 'https://x.co'],
            ["UserSyncSupabaseURL $local"]],
        ['the project inherited', [UserSyncSupabaseURL => $local],
            ["UserSyncProxy $proxy"]]) {
        my ($name, $set, $lines) = @$case;
        my $said = $check->refused_ok($check->config(@$set)
            . $check->vhost('shop.example', @$lines), $name,
            qr/vhost shop\.example \(/, @like);
        unlike $said, qr/main server: /, 'and no other server';
    }
    $check->accepted_ok($check->config(UserSyncSupabaseURL => 'https://x.co',
        UserSyncProxy => $proxy) . $check->vhost('shop.example',
        "UserSyncSupabaseURL $local", 'UserSyncProxy None'),
        'a vhost without the proxy');
};

subtest 'without mod_dbd' => sub {
    my $other = UserSync::Configtest->new(without =>
        [qw(dbd ssl http2 socache_shmcb status rewrite proxy_http proxy)]);
    my @undef = map { ($_ => undef) }
        qw(DBDriver DBDParams DBDMin DBDKeep DBDMax);
    $other->refused_ok($other->config(@undef), 'it is asked for',
        qr/mod_dbd is not loaded/, qr/LoadModule dbd_module/);
    $other->accepted_ok("UserSyncTable members\n", 'it is not needed');
};

subtest 'the vhost is named' => sub {
    my @broken = (
        ['no URL', lines(database), [$check->route], qr/SupabaseURL/],
        ['no key', lines(database, 'UserSyncSupabaseURL https://x.co'),
            [$check->route], qr/SupabaseKey/],
        ['no DBDriver', '', [project, $check->route], qr/DBDriver/],
        ['another DBDriver than the main server',
            $check->config, ['DBDriver sqlite3', $check->route], qr/sqlite3/],
        ['a timeout against one of the main server',
            $check->config(UserSyncConnectTimeout => '2s'),
            ['UserSyncTimeout 1s'], qr/UserSyncConnectTimeout/],
        ['a column against one of the main server',
            $check->config . "UserSyncColumn phone contact\n",
            ['UserSyncColumn user_metadata.tel contact'], qr/contact/],
        ['a default column against one of the main server',
            $check->config . lines('UserSyncColumn email None',
                'UserSyncColumn phone email'),
            ['UserSyncColumn email email'], qr/column email/],
        ['more columns together with the main server',
            $check->config . lines(
                map {"UserSyncColumn user_metadata.f$_ f$_"} 1 .. 10),
            [map {"UserSyncColumn app_metadata.g$_ g$_"} 1 .. 5], qr/14/],
        ['a route that does not exist', $check->config,
            [$check->route('usersync-logn')], qr/usersync-logn/],
        ['... inside of other sections', $check->config,
            ['<IfModule usersync_module>', '<Location "/x">', '<If "true">',
                'SetHandler "usersync-logn"', '</If>', '</Location>',
                '</IfModule>'], qr/usersync-logn/],
    );
    for my $case (@broken) {
        my ($name, $main, $vhost, $like) = @$case;
        my $text = $main . $check->vhost('fine.example')
            . $check->vhost('shop.example', @$vhost);
        $check->said($text);
        my $prefix = $check->prefix('shop.example');
        my $said = $check->refused_ok($text, $name, qr/$prefix.*$like/);
        unlike $said, qr/fine\.example|main server/, 'and no other server';
    }
    my $said = $check->refused_ok(lines(database)
        . $check->vhost('a.example', $check->route)
        . $check->vhost('b.example', $check->route), 'two broken vhosts',
        qr/vhost a\.example/, qr/vhost b\.example/);
};

subtest 'a vhost that does not ask' => sub {
    my $plain = $check->vhost('plain.example', 'DocumentRoot "/"');
    $check->accepted_ok($plain, 'the module is loaded and not used');
    $check->accepted_ok("UserSyncTable members\nUserSyncProxy None\n" . $plain,
        'the main server lends lines only');
    $check->accepted_ok(
        $check->vhost('shop.example', project, database, $check->route)
        . $plain, 'another vhost has all of it');
    $check->accepted_ok($check->config
        . $check->vhost('plain.example', 'DBDriver sqlite3'),
        'a database of its own for something else');
    $check->accepted_ok(lines('DBDriver sqlite3')
        . $check->vhost('shop.example', project, database, $check->route),
        'the main server has another database');
    $check->accepted_ok(lines('<IfModule nothing.c>', $check->route,
        '</IfModule>', '<IfDefine NOTHING>', $check->route('usersync-x'),
        '</IfDefine>'), 'sections that do not count');

    my $said = $check->refused_ok($check->config(UserSyncTimeout => '1s')
        . $plain . $check->vhost('lines.example', 'DBDParams "dbname=x"'),
        'a fault of the main server', qr/main server: /);
    unlike $said, qr/\.example/, 'is not laid at the door of its vhosts';
};

subtest 'vhosts from one and the same lines' => sub {
    my $macro = lines('<Macro Shop $name $handler>',
        '<VirtualHost 127.0.0.1:7>', 'ServerName $name',
        $check->route('$handler'), '</VirtualHost>', '</Macro>',
        'Use Shop a.example usersync-login',
        'Use Shop b.example default-handler');
    my $said = $check->refused_ok(lines(database) . $macro, 'a macro',
        qr/vhost a\.example \(.*\): UserSyncSupabaseURL is missing/);
    unlike $said, qr/b\.example/, 'only the vhost that asks';

    for my $handler (qw(usersync-refresh usersync-logout)) {
        (my $one = $macro) =~ s/usersync-login/$handler/;
        $check->refused_ok(lines(database) . $one, $handler,
            qr/vhost a\.example \(.*\): UserSyncSupabaseURL is missing/);
    }

    $check->file('shop.inc', $check->vhost('${NAME}', $check->route('${H}')));
    my $include = lines(map {
        ("Define NAME $_->[0]", "Define H $_->[1]", "Include shop.inc")
    } ['a.example', 'usersync-login'], ['b.example', 'default-handler']);
    $said = $check->refused_ok(lines(database) . $include, 'an Include',
        qr/vhost a\.example \(.*\): UserSyncSupabaseURL is missing/);
    unlike $said, qr/b\.example/, 'only the vhost that asks';
};

# ---- the hook

subtest 'what a hook needs' => sub {
    my $none = "UserSyncCache none\n";
    my $secret = 'v1,whsec_' . 'c2Vj' x 10;
    my $file = $check->file('hook.secret', "$secret\n", 0600);
    my $line = "UserSyncHookSecret file:$file";
    my @hook = $check->route('usersync-hook');
    my $dbd  = lines(database) . $none;
    $check->accepted_ok($dbd . lines($line, @hook), 'no project');
    $check->accepted_ok($dbd . $check->vhost('a.example', $line, @hook),
        'none in a vhost');
    $check->accepted_ok($dbd . lines($line)
        . $check->vhost('a.example', @hook), 'an inherited secret');
    $check->accepted_ok($none . lines($line), 'no hook, no database');
    $check->refused_ok($none . lines($line, @hook), 'no DBDriver',
        qr/main server: DBDriver is missing/);
    $check->refused_ok($dbd . lines($check->route)
        . $check->vhost('a.example', @hook), 'a vhost without a secret',
        qr/vhost a\.example \(.*\): UserSyncHookSecret is missing/);
    my $open = $check->file('open.secret', "$secret\n", 0644);
    $check->warned_ok($dbd . lines("UserSyncHookSecret file:$open"),
        'a file for everybody', qr/US001: main server: /,
        qr/UserSyncHookSecret/, qr/chmod 0600/);
    $check->warned_ok($dbd . lines("UserSyncHookSecret $secret|$secret")
        . $check->vhost('a.example', 'UserSyncTable users'),
        'a line with two secrets, inherited', qr/US002: main server: /,
        qr/UserSyncHookSecret is in the configuration/);
    $check->warned_ok($dbd . $check->vhost('a.example',
        "UserSyncHookSecret $secret"), 'in a vhost',
        qr/US002: vhost a\.example \(/);
};

# ---- events

subtest 'what events need' => sub {
    my $none = "UserSyncCache none\nUserSyncColumn updated_at updated_at\n";
    my $secret = 'v1,whsec_' . 'c2Vj' x 10;
    my $line = 'UserSyncHookSecret file:'
        . $check->file('event.secret', "$secret\n", 0600);
    my $value = 'x' x 16;
    my $key = 'UserSyncEventHeader X-Key file:'
        . $check->file('event.key', "$value\n", 0600);
    my @event = $check->route('usersync-event');
    my $dbd = lines(database) . $none;
    $check->accepted_ok($dbd . lines($line, @event), 'a secret, no project');
    $check->accepted_ok($dbd . lines($key, @event), 'a header alone');
    $check->accepted_ok($dbd . $check->vhost('a.example', $key, @event),
        'none in a vhost');
    $check->accepted_ok($dbd . lines($key)
        . $check->vhost('a.example', @event), 'an inherited header');
    $check->accepted_ok($none . lines($key), 'no events, no database');
    $check->refused_ok($dbd . lines(@event), 'neither',
        qr/main server: UserSyncHookSecret is missing: .*usersync-event/,
        qr/UserSyncEventHeader/);
    $check->refused_ok($dbd . $check->vhost('a.example', @event),
        'neither in a vhost', qr/vhost a\.example \(.*\): UserSyncHookSecret /);
    $check->refused_ok($none . lines($key, @event), 'no DBDriver',
        qr/main server: DBDriver is missing/);
    my $column = qr/usersync-event needs UserSyncColumn updated_at COLUMN, a/;
    $check->refused_ok(lines(database, 'UserSyncCache none', $key, @event),
        'no column for the time', qr/main server: $column/);
    $check->refused_ok($dbd . $check->vhost('a.example', $key,
        'UserSyncColumn updated_at None', @event), 'None in a vhost',
        qr/vhost a\.example \(.*\): $column/);
    $check->refused_ok($dbd =~ s/UserSyncCache none\n//r
        . lines($key, @event), 'a cache that is not loaded',
        qr/a2enmod socache_shmcb/);
    my $open = $check->file('open.key', "$value\n", 0644);
    $check->warned_ok($dbd . lines("UserSyncEventHeader X-Key file:$open")
        . $check->vhost('a.example', 'UserSyncTable users'),
        'a file for everybody, inherited', qr/US001: main server: /,
        qr/UserSyncEventHeader/, qr/chmod 0600/);
    $check->warned_ok($dbd . $check->vhost('a.example',
        "UserSyncEventHeader X-Key $value"), 'in a vhost',
        qr/US002: vhost a\.example \(.*UserSyncEventHeader is in the conf/);
};

# ---- the gate

my $GATE = "<Location \"/app\">\nUserSyncEnsure On\n</Location>\n";

subtest 'what a gate needs' => sub {
    my $none = "UserSyncCache none\n";
    my $dbd  = lines(database);
    $check->accepted_ok($dbd . $none . $GATE, 'no project');
    $check->accepted_ok($dbd . $none . $check->vhost('a.example', $GATE),
        'none in a vhost');
    $check->accepted_ok($none . "UserSyncEnsure Off\n", 'no gate, no database');
    $check->refused_ok($none . $GATE, 'no DBDriver',
        qr/main server: DBDriver is missing/);
    $check->refused_ok("DBDriver sqlite3\n$none$GATE", 'another DBDriver',
        qr/main server: DBDriver is sqlite3: mod_usersync needs pgsql/);
    my $other = UserSync::Configtest->new(without =>
        [qw(dbd ssl http2 socache_shmcb status rewrite proxy_http proxy)]);
    $other->refused_ok($none . $GATE, 'no mod_dbd',
        qr/mod_dbd is not loaded/, qr/a2enmod dbd/);
    $other->accepted_ok("UserSyncEnsureOnError Allow\n", 'not needed');

    my $on = "${dbd}${none}UserSyncEnsure On\n";
    $check->accepted_ok($on . $check->vhost('shop.example',
        'DBDriver sqlite3', 'UserSyncEnsure Off'),
        'a vhost that says Off, with another database');
    $check->refused_ok($dbd . $none . $GATE . $check->vhost('shop.example',
        'DBDriver sqlite3', 'UserSyncEnsure Off'),
        'the section of the main server holds there, too',
        qr/vhost shop\.example \(.*sqlite3/);
    $check->accepted_ok("${none}UserSyncEnsure On\nUserSyncEnsure Off\n",
        'On and then Off');
    my $vhost = $check->vhost('shop.example', 'UserSyncEnsure On');
    my $said = $check->refused_ok($none . $vhost
        . $check->vhost('fine.example', 'DocumentRoot "/"'),
        'no DBDriver for a vhost', qr/vhost shop\.example \(.*DBDriver/);
    unlike $said, qr/main server|fine\.example/, 'and no other server';
    $check->refused_ok($dbd . $none . $GATE . $check->vhost('shop.example',
        'DBDriver sqlite3', 'UserSyncTable members'),
        'a vhost that inherits it, with another database',
        qr/vhost shop\.example \(.*sqlite3/);
    $said = $check->refused_ok($none . $GATE . $check->vhost('shop.example',
        database, 'UserSyncTable members'),
        'a vhost that inherits it, with the only database',
        qr/main server: DBDriver is missing/);
    unlike $said, qr/shop\.example/, 'that has what it needs';
};

subtest 'where known users are kept' => sub {
    my $dbd  = lines(database);
    my @cure = (qr/a2enmod socache_shmcb/, qr/UserSyncCache none/);
    $check->refused_ok($dbd . $GATE, 'shmcb is not loaded',
        qr/main server: /, @cure);
    $check->refused_ok($dbd . $check->vhost('shop.example', $GATE),
        '... for a vhost', qr/vhost shop\.example \(/, @cure);
    $check->accepted_ok($dbd . "UserSyncEnsure Off\n", 'no gate, no cache');
    $check->refused_ok("UserSyncCache dbm\n", 'a provider that is not loaded',
        qr/^UserSyncCache takes none or .*load mod_socache_dbm/m);

    my $with = UserSync::Configtest->new(
        modules => [qw(socache_dbm socache_memcache)],
        without => [qw(ssl http2 status rewrite proxy_http proxy)]);
    $with->accepted_ok($dbd . $GATE, 'shmcb is loaded');
    $with->accepted_ok("UserSyncCache $_\n$dbd$GATE", $_)
        for 'shmcb', 'shmcb:known(512000)', 'dbm', 'dbm:known',
        'memcache:127.0.0.1:11211', 'none';
    my %bad = (
        'shmcb:known(10)'   => qr/: known\(10\): .*8192 bytes/,
        'shmcb:known(1'     => qr/: known\(1: .*parenthesis/,
        'memcache'          => qr/memcache: without arguments: /,
    );
    $with->refused_ok("UserSyncCache $_\n", $_,
        qr/^UserSyncCache \w+: /m, $bad{$_}) for sort keys %bad;
};

# ---- keys

my $KEY = $check->secret;

sub with_key { return $check->config(UserSyncSupabaseKey => $_[0]) }

# A command that runs this line of shell; $0 is "exec".
sub command {
    my ($name, $shell) = @_;
    return 'exec:' . $check->file($name, "#!/bin/sh\n$shell\n", 0755);
}

subtest 'key files' => sub {
    my $bad = sub {
        my ($name, $text, @like) = @_;
        my $file = $check->file('bad.key', $text, 0600);
        $check->refused_ok(with_key("file:$file"), $name,
            qr/^UserSyncSupabaseKey takes file:PATH/m, @like);
    };
    $bad->('empty', '', qr/empty/);
    $bad->('only a line end', "\n", qr/empty/);
    $bad->('two lines', "$KEY\n$KEY\n", qr/one line/);
    $bad->('an empty second line', "$KEY\n\n", qr/one line/);
    $bad->('CR within', "$KEY\r$KEY\n", qr/one line/);
    $bad->('two words', "$KEY again\n", qr/blank/);
    $bad->('a blank in front', " $KEY\n", qr/blank/);
    $bad->('a NUL', "$KEY\0$KEY\n", qr/one line/);
    $bad->('bytes above ASCII', "$KEY\xc3\xa4\n", qr/ASCII/);
    $bad->('too long', $KEY . 'x' x 4096 . "\n", qr/4096/);
    $bad->('a CR LF key and more after 4098 bytes',
        'x' x 4096 . "\r\nNeverToBeShown\n", qr/4096|one line/);

    my $locked = $check->file('locked.key', "$KEY\n", 0000);
    for my $path ($locked, "$dir/nowhere.key", $dir) {
        $check->refused_ok(with_key("file:$path"), "cannot be read: $path",
            qr/^UserSyncSupabaseKey /m, qr/cannot read the file \Q$path\E/);
    }
    $check->refused_ok(with_key('file:'), 'no file', qr/names no file/);

    my %good = (
        'no line end' => $KEY, 'LF' => "$KEY\n", 'CR LF' => "$KEY\r\n",
        'as long as may be' => 'x' x 4096 . "\n",
    );
    for my $name (sort keys %good) {
        $check->file('fine.key', $good{$name}, 0600);
        $check->accepted_ok(with_key('file:fine.key'), $name);
    }
    for my $mode (0400, 0600, 0640) {
        $check->file('fine.key', "$KEY\n", $mode);
        $check->accepted_ok(with_key('file:fine.key'),
            sprintf 'mode %o', $mode);
    }
    for my $mode (0644, 0604, 0602, 0620) {
        $check->file('fine.key', "$KEY\n", $mode);
        $check->warned_ok(with_key('file:fine.key'), sprintf('mode %o', $mode),
            qr/US001: main server: /, qr/UserSyncSupabaseKey/, qr/chmod 0600/);
    }
    $bad->('in quotes', qq{"$KEY"\n}, qr/quotes/, qr/nothing but the key/);
    $bad->('an assignment', "SUPABASE_KEY=$KEY\n", qr/NAME=VALUE/,
        qr/nothing but the key/);
    $bad->('an assignment for a shell', "export KEY=$KEY\n", qr/blank/);
    $bad->('a variable', '${SUPABASE_KEY}', qr/variable that is not set/);
    $bad->('the URL', 'https://abcdefgh.supabase.co', qr/UserSyncSupabaseURL/);
};

subtest 'warnings of a vhost' => sub {
    my $open  = $check->file('open.key', "$KEY\n", 0644);
    my $other = $check->file('open2.key', "$KEY\n", 0644);
    my $vhost = sub {
        my ($name, @lines) = @_;
        return $check->vhost($name, @lines, $check->route);
    };
    my $in = sub { return "UserSyncSupabaseKey $_[0]" };
    $check->warned_ok($check->config . $vhost->('shop.example',
        $in->("file:$open")), 'an open file', qr/US001: vhost shop\.example \(/,
        qr/chmod 0600/);
    $check->warned_ok($check->config . $vhost->('shop.example', $in->($KEY)),
        'an inline key', qr/US002: vhost shop\.example \(/);
    my (undef, $said) = $check->said($check->config
        . $vhost->('a.example', $in->("file:$open"))
        . $vhost->('b.example', $in->("file:$other"))
        . $vhost->('c.example', $in->('file:' . $check->key_file)));
    is_deeply [sort $said =~ /US001: vhost (\S+)/g], [qw(a.example b.example)],
        'each vhost is told' or diag $said;
    # by the server with the line, not by those that inherit the key
    $check->warned_ok(with_key($_->[0]) . $vhost->('shop.example',
        'UserSyncTimeout 4s'), "inherited: $_->[1]", qr/US00[123]: main server/)
        for ["file:$open", 'an open file'], [$KEY, 'an inline key'],
        ['file:' . $check->file('strong.key', double->key('service_role')
            . "\n", 0600), 'a service_role key'];
    $check->warned_ok($check->config(UserSyncSupabaseKey => 'file:'
        . $check->file('secret.key', double->key('secret') . "\n", 0600),
        UserSyncForwardClientIP => 'Sb-Forwarded-For') . $vhost->(
        'shop.example', 'UserSyncForwardClientIP Off'),
        'a secret key without its use', qr/US003: vhost shop\.example \(/);
};

subtest 'commands' => sub {
    $check->accepted_ok(with_key(command(good => "echo $KEY")), 'a line');
    $check->accepted_ok(with_key($check->quoted(
        command(cat => 'cat "$1"') . ' ' . $check->key_file)), 'an argument');
    $check->accepted_ok(with_key(command(more => "echo $KEY; echo more")),
        'the first line counts');
    $check->accepted_ok(with_key(command(noise => "echo why >&2; echo $KEY")),
        'words on the error output');
    my %bad = (
        'silent'       => [command(silent => 'exit 0'), qr/wrote nothing/],
        'failed'       => [command(fails  => 'exit 1'), qr/failed/],
        'two words'    => [command(words => 'echo two words'), qr/blank/],
        'too long' => [command(long => q{head -c 9000 /dev/zero | tr '\0' x}),
            qr/4096/],
        'not there'    => ["exec:$dir/nowhere", qr/nowhere/],
        'not a program' => ['exec:' . $check->key_file, qr/good\.key/],
        'no name'      => ['exec:', qr/no command/],
    );
    for my $name (sort keys %bad) {
        my ($spec, $like) = @{ $bad{$name} };
        $check->refused_ok(with_key($spec), $name,
            qr/^UserSyncSupabaseKey takes file:PATH/m, $like);
    }
};

subtest 'inline keys' => sub {
    $check->warned_ok(with_key($KEY), 'an inline key', qr/UserSyncSupabaseKey/,
        qr/main server/, qr/file:PATH/);
    my %bad = (
        'two words' => [qq{"$KEY again"}, qr/blank/],
        'bytes above ASCII' => ["$KEY\xc3\xa4", qr/ASCII/],
        map({ ("$_ bytes" => ['x' x $_, qr/4096/]) } 4097, 4098, 4099, 100_000,
            9_000_000),
    );
    for my $name (sort keys %bad) {
        my ($spec, $like) = @{ $bad{$name} };
        $check->refused_ok(with_key($spec), $name,
            qr/^UserSyncSupabaseKey takes file:PATH/m, $like);
    }
};

subtest 'kinds of keys' => sub {
    my ($anon) = grep { $_->{name} eq 'legacy_anon_key_like' } @{
        JSON::PP::decode_json(slurp(UserSync::Util::top_dir()
            . '/t/fixtures/supabase/jwt_tokens.json')) };
    my %kind = (anon => $anon->{token},
        map { $_ => double->key($_) } qw(publishable secret service_role));
    for my $kind (sort keys %kind) {
        my $file = 'file:' . $check->file('kind.key', "$kind{$kind}\n", 0600);
        if ($kind =~ /anon|publishable/) {
            $check->accepted_ok(with_key($file), "$kind key");
            next;
        }
        $check->warned_ok(with_key($file), "$kind key",
            qr/UserSyncSupabaseKey/, qr/captcha/, qr/publishable/);
        $check->warned_ok($check->config . $check->vhost('shop.example',
            "UserSyncSupabaseKey $file", $check->route), "$kind key in a vhost",
            qr/vhost shop\.example \(/);
    }
};

subtest 'dumps run no command' => sub {
    my $dump = UserSync::Configtest->new(modules => ['info', 'macro']);
    my $marks = "$dir/marks";
    my $spec = command(mark => "echo x >>$marks; echo $KEY");
    my $config = with_key($spec) . $dump->vhost('shop.example',
        "UserSyncSupabaseKey $spec", $dump->route);
    for my $option (['-S'], ['-M'], ['-L'], ['-t', '-D', 'DUMP_VHOSTS'],
        ['-t', '-D', 'DUMP_MODULES'], ['-t', '-D', 'DUMP_RUN_CFG'],
        ['-t', '-D', 'DUMP_INCLUDES'], ['-t', '-D', 'DUMP_CONFIG']) {
        unlink $marks;
        my ($status, $said) = $dump->said($config, @$option);
        ok $status == 0 && !-e $marks, "@$option" or diag $said;
    }
    unlink $marks;
    $dump->accepted_ok($config, 'configtest');
    is slurp($marks), "x\nx\n", 'configtest runs them';
};

done_testing;
