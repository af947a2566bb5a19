# "apachectl -t -D DUMP_USERSYNC": what each server has in the end, where it
# comes from, and no secret.

use UserSync::Configtest;
use UserSync::Hook qw($SECRET);
use UserSync::Test;
use UserSync::Util qw(top_dir);

my $check = UserSync::Configtest->new(without => []);
my $EVENT_KEY = 'NeverToBeShownOfEvents';
my $event_key = $check->file('event.key', "$EVENT_KEY\n", 0600);
my $hook = $check->file('hook.secret', "$SECRET\n", 0600);
my $command = $check->file('command', "#!/bin/sh\necho " . $check->secret
    . "\n", 0755);

# What is printed: {name of the server => {directive => [origin and value, ...]}}
# and {name => the lines of its sections}.
sub dump_of {
    my ($text, @option) = @_;
    my ($status, $said) = $check->said($text,
        @option ? @option : ('-t', '-D', 'DUMP_USERSYNC'));
    is $status, 0, 'passes' or diag $said;
    unlike $said, qr/NeverToBeShown|hunter2|\Q$SECRET\E/, 'shows no secret';
    my ($name, %server, %sections);
    for my $line (split /\n/, $said) {
        if ($line =~ /^(main server|vhost \S+)/) {
            $name = $1;
        }
        elsif ($name && $line =~ /^ {4}(\w+) +((?:UserSync|DBD)\w+) +(.*)$/) {
            push @{ $server{$name}{$2} }, "$1 $3";
        }
        elsif ($name && $line =~ /^ {4}\S|^ {8}/) {
            push @{ $sections{$name} }, $line =~ s/ \(.*:\d+\)$//r
                =~ s/(\S) +/$1 /gr;
        }
    }
    return (\%server, \%sections, $said);
}

# One value of a server.
sub is_shown {
    my ($server, $directive, @values) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return is_deeply $server->{$directive}, \@values, "$directive @values";
}

sub vhost { return $check->vhost(@_) }

subtest 'without a line of ours' => sub {
    my ($server) = dump_of('');
    my ($main) = $server->{'main server'};
    my $table = slurp(top_dir() . '/src/config/directives.c');
    my @all = $table =~ /^    \w+\(\s*"(UserSync\w+)",/mg;
    cmp_ok scalar @all, '>', 30, 'there are directives';
    is_deeply [grep { !$main->{$_} } @all], [], 'all of them are shown';
    is_deeply [grep { !/^default / } map { @$_ } values %$main], [],
        'all are defaults';
    is_shown $main, UserSyncSupabaseURL => 'default (none)';
    is_shown $main, UserSyncSupabaseKey => 'default (none)';
    is_shown $main, UserSyncTimeout => 'default 5s';
    is_shown $main, UserSyncColumn => 'default id id', 'default email email';
    is_shown $main, UserSyncOnDelete => 'default Keep';
    is_shown $main, UserSyncMaxConcurrent => 'default 50%';
    is_shown $main, UserSyncCircuitBreaker => 'default 5 10s';
    is_shown $main, UserSyncEnsureUser => 'default %{REMOTE_USER}';
    is_shown $main, DBDMax => 'default 10';
    is_deeply [keys %$server], ['main server'], 'of one server';
};

# What docs/directives.md has as the default of a directive.
subtest 'defaults are those of the documents' => sub {
    my ($server) = dump_of('');
    my $docs = slurp(top_dir() . '/docs/directives.md');
    my $compared = 0;
    while ($docs =~ /^ {4}Default: +(UserSync\w+) (\S.*)$/mg) {
        my ($name, $value) = ($1, $2);
        next if $name eq 'UserSyncColumn'; # has two
        my ($shown) = $server->{'main server'}{$name}[0] =~ /^default (.*)$/;
        $value =~ s/^"(.*)"$/$1/;
        $value =~ s/\b5mi\b/300s/;
        $shown =~ tr/"//d;
        is $shown, $value, $name;
        $compared++;
    }
    cmp_ok $compared, '>', 20, 'there are some';
};

subtest 'every directive' => sub {
    my ($server) = dump_of($check->config(
        DBDParams => '"host=db password=hunter2 dbname=app"',
        UserSyncSupabaseURL => 'https://abcdefgh.supabase.co/',
        UserSyncForwardClientIP => 'X-Forwarded-For',
        UserSyncTimeout => '1500ms', UserSyncConnectTimeout => '1s',
        UserSyncTable => 'crm.people', UserSyncOnDelete => 'Mark',
        UserSyncMaxConcurrent => 70, UserSyncMaxPerClient => 'Off',
        UserSyncCircuitBreaker => 'Off', UserSyncCache => 'none',
        UserSyncCacheTimeout => '2mi', UserSyncServerStatus => 'Off',
        UserSyncCACertificateFile => ca_file(),
        UserSyncProxy => 'https://proxy.example:3128') . <<"CONF");
UserSyncHookSecret file:$hook
UserSyncHookSecret "$SECRET"
UserSyncHookForward https://abcdefgh.supabase.co/functions/v1/claims
UserSyncEventHeader X-Event-Key file:$event_key
UserSyncColumn phone fon
UserSyncColumn deleted_at gone_at
UserSyncColumn user_metadata.full_name name
UserSyncColumn email None
UserSyncMaxBodySize 4096
UserSyncEnsure On
UserSyncEnsureUser "%{reqenv:SUB}"
UserSyncEnsureEmail "%{reqenv:EMAIL}"
UserSyncEnsureOnError Allow
UserSyncEnsureHeaders On
UserSyncHookOnError Allow
UserSyncEnsureResponse Report
UserSyncProxyAdmin Allow
UserSyncProxyHeaders Keep
CONF
    my $main = $server->{'main server'};
    my $ca = ca_file();
    is_shown $main, @$_ for (
        [UserSyncSupabaseURL => 'set https://abcdefgh.supabase.co/auth/v1'],
        [UserSyncSupabaseKey => 'set (set, from a file)'],
        [UserSyncCACertificateFile => "set $ca"],
        [UserSyncProxy => 'set https://proxy.example:3128'],
        [UserSyncForwardClientIP => 'set X-Forwarded-For'],
        [UserSyncTimeout => 'set 1500ms'],
        [UserSyncTable => 'set "crm"."people"'],
        [UserSyncColumn => 'default id id', 'set phone fon',
            'set deleted_at gone_at', 'set user_metadata.full_name name',
            'set email None'],
        [UserSyncOnDelete => 'set Mark'],
        [UserSyncMaxConcurrent => 'set 70'],
        [UserSyncMaxPerClient => 'set Off'],
        [UserSyncCircuitBreaker => 'set Off'],
        [UserSyncCache => 'set none'],
        [UserSyncCacheTimeout => 'set 120s'],
        [UserSyncHookSecret => 'set (set, from a file)',
            'set (set, in the configuration itself)'],
        [UserSyncHookForward =>
            'set https://abcdefgh.supabase.co/functions/v1/claims'],
        [UserSyncEventHeader => 'set X-Event-Key (set, from a file)'],
        [UserSyncServerStatus => 'set Off'],
        [UserSyncMaxBodySize => 'set 4096'],
        [UserSyncEnsure => 'set On'],
        [UserSyncEnsureUser => 'set %{reqenv:SUB}'],
        [UserSyncEnsureEmail => 'set %{reqenv:EMAIL}'],
        [UserSyncEnsureOnError => 'set Allow'],
        [UserSyncEnsureHeaders => 'set On'],
        [UserSyncHookOnError => 'set Allow'],
        [UserSyncEnsureResponse => 'set Report'],
        [UserSyncProxyAdmin => 'set Allow'],
        [UserSyncProxyHeaders => 'set Keep'],
        [DBDParams => 'set host=db password=*** dbname=app']);
    my @left = grep { !/^UserSync(?:RegisterTimeout|StoreTimeout)$/ }
        grep { !grep {/^set /} @{ $main->{$_} } } grep {/^UserSync/}
        keys %$main;
    is_deeply \@left, [], 'none was forgotten here';
};

subtest 'virtual hosts' => sub {
    my ($server, $sections) = dump_of($check->config(
        UserSyncTimeout => '4s', DBDParams => '"dbname=app"')
        . "UserSyncColumn phone fon\n"
        . "UserSyncEnsureOnError Allow\n"
        . vhost('inherits.example')
        . vhost('sets.example', 'UserSyncTimeout 3s',
            "UserSyncSupabaseKey exec:$command",
            'UserSyncColumn phone telephone', 'UserSyncColumn is_anonymous anon',
            'UserSyncEnsureOnError Deny', 'DBDParams postgresql://u:hunter2@db/x',
            'DBDMax 7')
        . vhost('says.example', 'UserSyncTimeout 4s',
            'UserSyncStoreTimeout 3s')
        . vhost('sections.example', '<Location "/auth">',
            'SetHandler usersync-login', '</Location>',
            '<Directory "/srv/app">', 'usersyncensure On',
            'Options None', '<Files "x">', 'UserSyncEnsureUser %{REMOTE_USER}',
            '</Files>', '<Files "y">', 'Require all denied', '</Files>',
            '</Directory>', '<LocationMatch "^/(?:a|b)$">',
            'SetHandler server-status', '</LocationMatch>'));
    my ($main, $inherits, $sets, $says, $in_sections) = map { $server->{$_} }
        'main server', map {"vhost $_.example:7"}
        qw(inherits sets says sections);
    is_shown $main, UserSyncTimeout => 'set 4s';
    is_shown $inherits, UserSyncTimeout => 'inherited 4s';
    is_shown $inherits, UserSyncSupabaseKey => 'inherited (set, from a file)';
    is_shown $inherits, UserSyncStoreTimeout => 'default 3s';
    is_shown $inherits, UserSyncEnsureOnError => 'inherited Allow';
    is_shown $inherits, DBDParams => 'inherited dbname=app';
    is_shown $inherits, UserSyncColumn => 'default id id', 'default email email',
        'inherited phone fon';
    is_shown $sets, UserSyncTimeout => 'set 3s';
    is_shown $sets, UserSyncSupabaseKey => 'set (set, from a command)';
    is_shown $sets, UserSyncSupabaseURL => $main->{UserSyncSupabaseURL}[0]
        =~ s/^set/inherited/r;
    is_shown $sets, UserSyncColumn => 'default id id', 'default email email',
        'set phone telephone', 'set is_anonymous anon';
    is_shown $sets, UserSyncEnsureOnError => 'set Deny';
    is_shown $sets, DBDParams => 'set postgresql://***@db/x';
    is_shown $sets, DBDMax => 'set 7';
    # the same value as the outer one, or as the default, is its own
    is_shown $says, UserSyncTimeout => 'set 4s';
    is_shown $says, UserSyncStoreTimeout => 'set 3s';
    is_shown $says, UserSyncEnsureOnError => 'inherited Allow';
    is_shown $in_sections, UserSyncEnsure => 'default Off';
    is_deeply $sections->{'vhost sections.example:7'}, [
        '    <Location "/auth">',
        '        SetHandler usersync-login',
        '    <Directory "/srv/app">',
        '        UserSyncEnsure On',
        '        <Files "x">',
        '            UserSyncEnsureUser %{REMOTE_USER}'],
        'sections, and what is in them of ours';
    is_deeply [grep {/^        S/} @{ $sections->{'main server'} }],
        [map {"        SetHandler usersync-$_"} qw(register login
            refresh logout)],
        'the routes of the main server';
};

subtest 'another database' => sub {
    my ($server) = dump_of("DBDriver sqlite3\nDBDParams hunter2\n");
    is_shown $server->{'main server'}, DBDriver => 'set sqlite3';
    # nobody knows what is secret in there
    is_shown $server->{'main server'}, DBDParams => 'set ***';
};

subtest 'places and order' => sub {
    my (undef, undef, $said) = dump_of($check->config
        . vhost('b.example') . vhost('a.example',
            '<Location "/x">', 'UserSyncEnsure On', '</Location>'));
    my $file = $check->httpd->conf_file;
    my @vhosts = $said =~ /^vhost (\S+):7 \(\Q$file\E:\d+\)$/mg;
    is_deeply \@vhosts, [qw(b.example a.example)], 'as in the files';
    my ($line) = $said =~ m{^    <Location "/x"> \(\Q$file\E:(\d+)\)$}m;
    is((split /\n/, slurp($file))[$line - 1], '<Location "/x">',
        'with file and line');
};

subtest 'when it is printed' => sub {
    my ($status, $said) = $check->said($check->config, '-t');
    unlike $said, qr/configuration:/, 'only if it is asked for';
    like $said, qr/Syntax OK/, 'else httpd says what it says';
    ($status, $said) = $check->said($check->config(UserSyncTimeout => '1ms'),
        '-t', '-D', 'DUMP_USERSYNC');
    isnt $status, 0, 'a configuration that is wrong';
    unlike $said, qr/configuration:/, 'is not shown';
    # -S loads no secrets, and does not claim that there are none
    my ($server) = dump_of($check->config . "UserSyncHookSecret file:$hook\n"
        . "UserSyncEventHeader X-Event-Key file:$event_key\n",
        '-S', '-D', 'DUMP_USERSYNC');
    is_shown $server->{'main server'}, $_ => 'unknown (not read)'
        for qw(UserSyncSupabaseKey UserSyncHookSecret UserSyncEventHeader);
    is_shown $server->{'main server'}, UserSyncTimeout => 'default 5s';
};

done_testing;
