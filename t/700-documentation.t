# The documents and conf/ are true: every block of configuration passes
# configtest with the modules that its page enables, commands and SQL work,
# links lead somewhere, and directives, defaults, outcomes and codes are the
# code's.

use UserSync::Project qw(project_db project_file);
use UserSync::Tables qw(scratch_db drop_at_end);
use UserSync::Test;

my $top = UserSync::Util::top_dir();
my @pages = map {s{^\Q$top/\E}{}r} glob "$top/{,docs/,sql/,t/}*.md";
my %page = map { $_ => text_of($_) } @pages;
my $conf = text_of('conf/usersync.conf');
my @files = map {s{^\Q$top/\E}{}r}
    glob "$top/mod_usersync.c $top/{src,src/*,include}/*.[ch]";
my $code = join "\n", map { text_of($_) } @files;

# Enabled on Debian by its own package, and by "Install" in README.
my @ENABLED = qw(access_compat alias auth_basic authn_core authn_file authz_core
    authz_host authz_user autoindex deflate dir env filter mime negotiation
    reqtimeout setenvif status dbd socache_shmcb usersync);

sub text_of {
    my ($file) = @_;
    return slurp("$top/$file") || die "$file is missing\n";
}

# ---- pieces of a page

# The code blocks of a page in order, including those in lists: [language,
# text].
sub blocks {
    my ($name, $language) = @_;
    my @blocks;
    while ($page{$name} =~ /^```(\S*)\n(.*?)^```$/msg) {
        push @blocks, [$1, $2] if !$language || $1 eq $language;
    }
    return @blocks;
}

# A page without its code blocks.
sub prose {
    my ($name) = @_;
    return $page{$name} =~ s/^```.*?^```$//msgr;
}

# A section, from its heading to the next one of the same or a higher level.
sub section {
    my ($name, $title) = @_;
    my ($text) = $page{$name} =~ /^## \Q$title\E\n(.*?)(?=^##? |\z)/ms;
    return $text || die "$name has no section $title\n";
}

# The anchors that GitHub gives the headings of a page.
sub anchors {
    my ($name) = @_;
    return map { my $a = lc; $a =~ s/[^\w\- ]//g; $a =~ tr/ /-/; $a => 1 }
        prose($name) =~ /^#+ (.*)$/mg;
}

# ---- configuration

my $hook_secret = spew("$ENV{USERSYNC_RUN}/hook.secret",
    'v1,whsec_' . 'c2Vj' x 10 . "\n");
my $event_key = spew("$ENV{USERSYNC_RUN}/event.key", 'key' x 10 . "\n");
chmod 0600, $hook_secret, $event_key;

# Replaces the documents' names of files on a real machine.
sub local_paths {
    my ($text) = @_;
    my %file = ('/etc/apache2/usersync/publishable.key' =>
            "$ENV{USERSYNC_RUN}/publishable.key",
        '/etc/apache2/usersync/hook.secret' => $hook_secret,
        '/etc/apache2/usersync/event.key' => $event_key,
        '/etc/ssl/certs/ca-certificates.crt' => ca_file());
    $text =~ s/\Q$_\E/$file{$_}/g for keys %file;
    return $text;
}

# Status 0 and "Syntax OK", and nothing else. Without names: all modules.
sub configtest_of {
    my ($text, @enabled) = @_;
    my @usual = UserSync::Httpd::modules(mpm());
    my %enabled = map { $_ => 1 } @enabled;
    my %usual   = map { $_ => 1 } @usual;
    my $httpd = UserSync::Httpd->new(config => local_paths($text),
        modules => [@enabled ? grep { !$usual{$_} } @enabled
            : qw(remoteip oauth2 auth_openidc)],
        without => [@enabled ? grep { !$enabled{$_} && !/^mpm_/ } @usual : ()],
        env => { APACHE_LOG_DIR => $ENV{USERSYNC_RUN} });
    my ($status, $said) = $httpd->configtest;
    return "$status: $said";
}

sub passes {
    my ($text, $name, @enabled) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return is(configtest_of($text, @enabled), "0: Syntax OK\n", $name)
        || diag $text;
}

# The words after a command, in all lines of a text.
sub arguments {
    my ($command, $text) = @_;
    return map { grep {/^[\w.]/} split } $text =~ /^.*\b$command\b([^#&\n]*)/mg;
}

# usersync.conf with its directive lines enabled: text has a blank after #.
sub uncommented {
    my ($text) = @_;
    $text =~ s/^(\s*)#(?=(?:\ {4})?[A-Z<])/$1/mg;
    return $text;
}

# A block may only use the modules that its page enables before it.
subtest 'the configuration in the pages' => sub {
    my ($count, @alone) = (0);
    for my $name (@pages) {
        my @enabled = @ENABLED;
        for my $block (blocks($name)) {
            my ($language, $text) = @$block;
            push @enabled, arguments('a2enmod', $text) if $language eq 'sh';
            next if $language ne 'apache';
            my ($first) = $text =~ /^(.*)$/m;
            my $alone = $text =~ /SetHandler usersync-/;
            passes($alone ? $text : module_config() . $text,
                "$name: " . ($alone ? 'alone: ' : '') . $first, @enabled);
            push @alone, $name if $alone;
            $count++;
        }
    }
    cmp_ok $count, '>=', 10, 'there are pieces';
    is_deeply \@alone, [qw(README.md docs/hook.md docs/lifecycle.md
        docs/operations.md docs/quickstart.md)],
        'five of them are all that it takes';
    is_deeply [blocks('README.md', 'apache')],
        [blocks('docs/quickstart.md', 'apache')], 'and they are the same';
    like configtest_of(module_config() . "Header set X y\n", @ENABLED),
        qr/^1: .*Invalid command 'Header'/s, 'a missing module would be seen';
};

subtest 'the files in conf' => sub {
    passes($conf, 'usersync.conf as shipped');
    my $all = uncommented($conf);
    passes($all, 'usersync.conf with everything in it');
    unlike $all, qr/^\s*#\S/m, 'nothing was left out';
    my $key = "$ENV{USERSYNC_RUN}/publishable.key";
    passes("Define USERSYNC_SUPABASE_KEY_FILE $key\n"
        . text_of('conf/usersync-example.conf'), 'usersync-example.conf');
    passes(module_config() . text_of('conf/usersync-log.conf'),
        'usersync-log.conf');
    like text_of('conf/usersync.load'),
        qr/\A# Depends: dbd socache_shmcb\nLoadModule usersync_module \S+\n\z/,
        'usersync.load is what a2enmod wants';
    (my $wrong = $all) =~ s/UserSyncTimeout 5s/UserSyncTimeout 5x/;
    like configtest_of($wrong), qr/^1: .*UserSyncTimeout takes a duration/s,
        'a mistake would be seen';
};

# ---- what the code also says

subtest 'the directives' => sub {
    my ($table) = $code =~ /^const command_rec us_directives\[\](.*?)\{NULL\}/ms;
    my @code = $table =~ /^    \w+\(\s*"(UserSync\w+)",/mg;
    my $text = $page{'docs/directives.md'};
    my @here = $text =~ /^### (\w+)$/mg;
    cmp_ok @code, '>=', 12, 'the table in the source can be read';
    is_deeply \@here, \@code, 'docs/directives.md has them in that order';
    my %in_conf = map { $_ => 1 } uncommented($conf) =~ /^\s+(UserSync\w+)/mg;
    is_deeply [sort keys %in_conf], [sort @code], 'so has usersync.conf';
    my ($list) = $text =~ /^\| for \| directives \|\n(.*?)\n\n/ms;
    is_deeply [sort $list =~ /\[(UserSync\w+)\]/g], [sort @code],
        'so has the list at its top';
    for my $name (@here) {
        my ($block, $next) = $text =~ /^### $name\n((?: {4}.*\n)+)(.)/m;
        is join(' ', ($block || '') =~ /^ {4}(\w+): /mg),
            'Description Syntax Default Context Module', "form of $name";
        like $next || '', qr/\S/, "text of $name";
        my ($macro) = $table =~ /"$name",(.*?)"/s;
        is scalar($block =~ /^ {4}Context: .*directory/m),
            scalar($macro =~ /ACCESS_CONF/), "context of $name";
    }
};

# A line of options.h: its name, and its value as written for a directive.
sub defaults_in_code {
    my %value;
    while ($code =~ /\bOPTION\([\w *]+,\s*(\w+),[^,]+?,\s*\\?\s*
            (apr_time_from_sec\(\d+\)|\d+|".+?"),\s/gx) {
        my ($name, $value) = (uc $1, $2);
        $value{$name} = $value
            if $name =~ /TIMEOUT|TABLE|_PERCENT|SIZE|BREAKER/;
    }
    s/apr_time_from_sec\((\d+)\)/$1s/, s/\b300s/5mi/, tr/\\"//d
        for values %value;
    # some are written differently
    $value{$_} = delete($value{"${_}_PERCENT"}) . '%'
        for qw(MAX_CONCURRENT MAX_PER_CLIENT);
    $value{CIRCUIT_BREAKER}
        = join ' ', delete @value{qw(BREAKER_FAILURES BREAKER_DURATION)};
    return %value;
}

# OPTION(apr_interval_time_t, store_timeout, US_UNSET, apr_time_from_sec(3), ...)
# is UserSyncStoreTimeout 3s.
subtest 'the defaults' => sub {
    my %code = defaults_in_code();
    cmp_ok keys %code, '>=', 9, 'those in the source can be read';
    for my $macro (sort keys %code) {
        my $name = join '', 'UserSync', map { ucfirst lc } split /_/, $macro;
        my ($here) = $page{'docs/directives.md'}
            =~ /^ {4}Default: +$name (\S.*)$/m;
        my ($there) = uncommented($conf) =~ /^ +$name (\S.*)$/m;
        is $here, $code{$macro}, "docs/directives.md: $name";
        is $there, $code{$macro}, "usersync.conf: $name";
    }
};

subtest 'the outcomes' => sub {
    my %level = (WARNING => 'warn', ERR => 'error');
    my (@code, @here);
    my $row = qr/\{US_\w+,\s+(\d+),\s+APLOG_(\w+),\s+(\d+),\s+
        ([\w\ |]+),\s+"(\w+)"/x;
    while ($code =~ /$row/g) {
        my ($status, $level, $retry, $flags, $name) = ($1, $2, $3, $4, $5);
        push @code, join ' ', $status || '-', $level{$level} || lc $level,
            $name, $flags =~ /SUPABASE_CODE/ ? 'or Supabase\'s' : (),
            $retry ? 'Retry-After' : ();
    }
    for my $line (section('docs/routes.md', 'Outcomes')
            =~ /^(\| (?:\d+|-) .*)$/mg) {
        my (undef, $status, $name, $level, $when) = split /\s*\|\s*/, $line;
        my ($word) = $name =~ /`(\w+)`/;
        push @here, join ' ', $status, $level, $word,
            $name =~ /Supabase's/ ? 'or Supabase\'s' : (),
            $when =~ /Retry-After/ ? 'Retry-After' : ();
    }
    cmp_ok @code, '>=', 25, 'the table in the source can be read';
    is_deeply \@here, \@code, 'docs/routes.md has the same rows';
    my %known = map { (split)[2] => 1 } @code;
    my @named = map { /^\| \d+ \| `(\w+)`/mg }
        section('docs/gate.md', 'Refused requests'),
        section('docs/hook.md', 'Answers');
    cmp_ok scalar @named, '>=', 10, 'other pages have some';
    is_deeply [grep { !$known{$_} } @named], [], 'and they are the same';
};

# US012 is logged at a variable level: not compared.
subtest 'the codes' => sub {
    my %in_code = map { $_ => {} } $code =~ /\b(US0\d\d)\b/g;
    my %level = (WARNING => 'warn', ERR => 'error');
    while ($code =~ /APLOG_MARK,\s*APLOG_(\w+),[^;]*?"(US0\d\d)/g) {
        $in_code{$2}{ $level{$1} || lc $1 } = 1;
    }
    my %here = section('docs/operations.md', 'Codes')
        =~ /^\| (US\d+) \| ([\w, ]+?) \|/mg;
    cmp_ok keys %in_code, '>=', 12, 'those in the source can be read';
    is_deeply [sort keys %here], [sort keys %in_code],
        'docs/operations.md has them all, and no others';
    for my $name (grep { %{ $in_code{$_} } } sort keys %in_code) {
        is join(' ', sort split /, /, $here{$name} || ''),
            join(' ', sort keys %{ $in_code{$name} }), "level of $name";
    }
    for my $file (@pages, 'conf/usersync.conf') {
        my @unknown = grep { !$in_code{$_} }
            ($page{$file} || $conf) =~ /\b(US0\d\d)\b/g;
        is_deeply \@unknown, [], "$file knows no others";
    }
};

# What others say: httpd, mod_dbd, libcurl, libpq and PostgreSQL.
my @OTHERS = ('AH01631', 'authorization failure', 'AH00898', 'AH00957',
    'Error during SSL Handshake', 'AH01102', 'error reading status line',
    'AH01114', 'apikey', 'upgrade=websocket', 'DBDInitSQL failed',
    'Can\'t load driver file apr_dbd_pgsql.so',
    'Failed to acquire DBD connection from pool!', 'Failed to connect',
    'Could not resolve host', 'Operation timed out', 'Empty reply from server',
    'FATAL', 'terminating connection', 'no password supplied', 'password file',
    'has group or world access', 'permission denied for sequence',
    'violates row-level security policy');

# The strings of the sources, a line each, put together as the compiler does.
sub strings {
    my $strings = '';
    for my $source (map { text_of($_) } @files) {
        my $no_string = qr{/\*.*?\*/|'(?:[^'\\]|\\.)'}s;
        while ($source =~ m{$no_string|("(?:[^"\\]|\\.)*")|(\S)}gs) {
            $strings .= defined $1 ? $1 : defined $2 ? "\n" : '';
        }
    }
    return $strings =~ s/""//gr =~ s/\\(.)/$1/gr;
}

# The log lines that tables of the pages quote: each part between colons and
# "..." is the code's, whose %d may be a number there.
subtest 'the log lines' => sub {
    my @lines;
    for (['operations', 'Troubleshooting', 1],
        ['operations', 'When something is away', 4],
        ['supabase-clients', 'When it does not work', 1])
    {
        my ($page, $title, $column) = @$_;
        push @lines, map { ((split / ?\| /)[$column] || '') =~ /`([^`]+)`/g }
            section("docs/$page.md", $title) =~ /^(\|.*)/mg;
    }
    cmp_ok scalar @lines, '>', 50, 'they can be read';
    my $strings = strings();
    my %others = map { $_ => 1 } @OTHERS;
    for my $line (@lines) {
        for my $part (split /: |[ (]*\.\.\.[ )]*/, $line) {
            next if !length $part || $others{$part};
            my $like = join '(?:\d+|%\w+)', map {quotemeta} split /\d+/, $part,
                -1;
            ok $strings =~ /$like/, "\"$part\" is in the sources";
        }
    }
};

# The parts of the source: src/PART/FILE.c.
subtest 'the sources' => sub {
    my @there = map { m{^src/(\w+/\w+)\.c$} ? $1 : () } @files;
    cmp_ok scalar @there, '>', 40, 'the rooms can be read';
    my @named;
    my $text = section('docs/internals.md', 'The house');
    while ($text =~ m{^\| `src/(\w+)` \| ([^|]+) \|}mg) {
        my ($room, $files) = ($1, $2);
        push @named, map {"$room/$_"} $files =~ /`(\w+)`/g;
    }
    is_deeply [sort @named], [sort @there],
        'docs/internals.md names each file where it is';
};

subtest 'the version' => sub {
    my ($header) = $code =~ /^#define US_VERSION "(.*)"$/m;
    like $header, qr/^\d+\.\d+\.\d+$/, 'in the header';
    my ($newest) = text_of('CHANGES') =~ /\AChanges with mod_usersync (\S+)\n/;
    is $newest, $header, 'CHANGES begins with it';
    my %said = map { $_ => 1 }
        map {/\bmod_usersync (\d+\.\d+\.\d+)/g} values %page;
    is_deeply [keys %said], [$header], 'the pages name it, and no other';
};

# ---- links

subtest 'the links' => sub {
    my $count = 0;
    for my $name (@pages) {
        my ($dir) = $name =~ m{^(.*/)};
        for my $link (prose($name) =~ /\]\(([^)\s]+)\)/g) {
            next if $link =~ m{^https://};
            $count++;
            my ($file, $anchor) = $link =~ /^([^#]*)(?:#(.*))?$/;
            my $target = $file eq '' ? $name : ($dir || '') . $file;
            1 while $target =~ s{(^|/)[^/.]+/\.\./}{$1};
            ok -e "$top/$target", "$name: $link exists";
            next unless defined $anchor;
            my %known = $page{$target} ? anchors($target) : ();
            ok $known{$anchor}, "$name: $link leads to a heading";
        }
    }
    cmp_ok $count, '>=', 100, 'there are links';
    my %reached = map { $_ => 1 }
        map {m{(docs/\w[\w-]*\.md)}g} $page{'README.md'};
    is_deeply [grep { m{^docs/} && !$reached{$_} } @pages], [],
        'README leads to every page';
};

# ---- commands

subtest 'the languages' => sub {
    for my $name (@pages) {
        # t/900-hosts.t and t/901-patroni.t run what is not run here
        my @unknown = grep {
            !/^(?:apache|console|haproxy|ini|sh|sql|text|yaml)$/
        } map { $_->[0] } blocks($name);
        is_deeply \@unknown, [], "$name has blocks that are tried, or text";
        is scalar(() = $page{$name} =~ /^\s*```/mg),
            2 * blocks($name), "$name: each begins and ends a line";
    }
};

subtest 'haproxy' => sub {
    for my $name (@pages) {
        for my $block (blocks($name, 'haproxy')) {
            my $file = spew("$ENV{USERSYNC_RUN}/haproxy.cfg", $block->[1]);
            my ($status, $said)
                = run_command('haproxy', '-c', '-q', '-f', $file);
            is "$status: $said", '0: ', "$name: haproxy takes it" or diag $said;
        }
    }
};

# The files that they name exist; PostgreSQL's commands are run further down.
subtest 'the shell blocks' => sub {
    my %target = map { $_ => 1 } map {split}
        text_of('Makefile') =~ /^([a-z][a-z\- ]*):(?!=)/mg;
    my %package = map { $_ => 1 } 'make', map {split}
        text_of('t/install-deps') =~ /^\w+=\((.*?)\)/msg;
    for my $name (@pages) {
        my $text = join "\n", map { $_->[1] } blocks($name, 'sh');
        next unless $text;
        my ($status, $said)
            = run_command('sh', '-n', spew("$ENV{USERSYNC_RUN}/sh", $text));
        is $status, 0, "$name: sh takes it" or diag $said;
        my @made = grep { !/[=']/ } arguments('make', $text
            =~ s/apt-get .*?(?=&&|$)//mgr =~ s/\w+='[^']*'//gr);
        is_deeply [grep { !$target{$_} } @made], [], "$name: targets of make";
        is_deeply [grep { $_ ne 'install' && !$package{$_} }
                arguments('apt-get install', $text)], [], "$name: packages";
        is_deeply [grep { !-e "$top/$_" }
                $text =~ m{(?<![\w/.])((?:conf|sql|t)/[\w./-]*\w)}g], [],
            "$name: files";
        is_deeply [grep { !-e UserSync::Httpd::module_file($_) }
                arguments('a2(?:en|dis)mod', $text)], [], "$name: modules";
    }
};

# SQL for the database of a Supabase project.
my $IN_PROJECT = qr/\b(?:vault|net|usersync)\.\w/;

# Run in their own database, in the order of the page; the host is ours.
sub runs {
    my ($db, $what, $language, $text) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    $text =~ s/(?<!\w)(createdb|-d|DATABASE) app\b/$1 $db/g;
    my $pg = postgres();
    my @as = $text =~ $IN_PROJECT ? ('-U', 'project_owner') : ();
    my ($bin) = UserSync::Postgres::bin('psql') =~ m{(.*)/};
    my ($status, $said) = $language eq 'sql' ? $pg->psql($db, $text, @as)
        : run_command({ PATH => "$bin:$ENV{PATH}", PGHOST => $pg->host,
            PGPORT => $pg->port, PGUSER => 'postgres' },
            'sh', '-e', '-c', "cd '$top'\n$text");
    my ($first) = $text =~ /^(.*)$/m;
    return is($status, 0, "$what: $first") || diag $said;
}

subtest 'PostgreSQL' => sub {
    my $count = 0;
    my $project;
    for my $name (@pages) {
        my @blocks = grep { $_->[0] eq 'sql' || ($_->[0] eq 'sh'
            && $_->[1] !~ /^(?!createdb|psql|\s|#)./m) } blocks($name);
        next unless @blocks;
        my $db = 'usersync_docs';
        drop_at_end($db);
        # the page creates it, or it exists
        scratch_db($db) if "@{[map { $_->[1] } @blocks]}" !~ /createdb/;
        # "with other names"
        my $crm = sub { postgres->sql($db => $_) for 'CREATE SCHEMA crm',
            'CREATE TABLE crm.accounts (auth_id uuid UNIQUE, mail text)' };
        for my $block (@blocks) {
            $crm->() if $block->[1] =~ /schema=crm/;
            if ($block->[0] eq 'sql' && $block->[1] =~ $IN_PROJECT) {
                $project ||= project_db('usersync_docs_project');
                project_file($project, 'supabase-notify.sql');
                runs($project, $name, @$block);
            }
            else {
                runs($db, $name, @$block);
            }
            $count++;
        }
        postgres->dropdb($db);
    }
    postgres->sql(postgres => 'DROP ROLE IF EXISTS httpd');
    cmp_ok $count, '>=', 8, 'there are blocks';
};

subtest 'the requests' => sub {
    double->config(autoconfirm => JSON::PP::true);
    my $text = join '', map { $_->[1] } blocks('docs/routes.md', 'console');
    my @examples = split /^(?=\$ )/m, $text;
    is scalar(@examples), 4, 'a request for each route';
    my %token;
    for my $example (@examples) {
        my ($command, $head)
            = $example =~ /\A\$ ([^\n]*)\n(.*?)(?:\n\n|\n?\z)/s;
        my $url = httpd->url;
        $command =~ s{https://www\.example\.com}{$url};
        $command =~ s/\b([A-Z]+_TOKEN)\b/$token{lc $1}/;
        $command =~ s/^curl /curl -sS --noproxy '*' --max-time 60 /;
        my ($exit, $said) = run_command('sh', '-c', $command);
        $said =~ s/\r//g;
        is $exit, 0, $command;
        %token = (%token, $said =~ /"((?:access|refresh)_token)":"([^"]+)"/g);
        my ($status, @fields) = split /\n/, $head;
        is +(split /\n/, $said)[0], $status, 'the answer';
        like $said, qr/^\Q$_\E/m, $_
            for map { /^X-Request-Id: / ? $& : $_ } @fields;
    }
    is scalar(grep { blocks($_, 'console') } @pages), 1, 'no other page has any';
};

done_testing;
