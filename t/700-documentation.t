# README.md and conf/ keep what they say: every piece of configuration passes
# configtest, every directive, default and outcome is the code's.

use UserSync::Test;

my $top = UserSync::Util::top_dir();
my ($readme, $conf, $directives, $response, $defaults) = map {
    slurp("$top/$_") || die "$_ is missing\n"
} qw(README.md conf/usersync.conf src/us_directives.c src/us_response.c
    src/us_config.c);

# What the documents call by the names of a real machine.
sub local_paths {
    my ($text) = @_;
    my %file = ('/etc/apache2/usersync/publishable.key' =>
            "$ENV{USERSYNC_RUN}/publishable.key",
        '/etc/ssl/certs/ca-certificates.crt' => ca_file());
    $text =~ s/\Q$_\E/$file{$_}/g for keys %file;
    return $text;
}

# Status 0 and "Syntax OK", and not a word more.
sub configtest_of {
    my ($text) = @_;
    my $httpd = UserSync::Httpd->new(config => local_paths($text),
        modules => [qw(remoteip oauth2 auth_openidc)],
        env => { APACHE_LOG_DIR => $ENV{USERSYNC_RUN} });
    my ($status, $said) = $httpd->configtest;
    return "$status: $said";
}

sub passes {
    my ($text, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return is(configtest_of($text), "0: Syntax OK\n", $name) || diag $text;
}

# A section of README, from its heading to the next one of that level.
sub section {
    my ($title) = @_;
    my ($text) = $readme =~ /^## \Q$title\E\n(.*?)(?=^## |\z)/ms;
    return $text || die "README has no section $title\n";
}

# usersync.conf with its directive lines in force: text has a blank behind #.
sub uncommented {
    my ($text) = @_;
    $text =~ s/^(\s*)#(?=(?:\ {4})?[A-Z<])/$1/mg;
    return $text;
}

subtest 'the configuration in README' => sub {
    my @snippets = $readme =~ /^```apache\n(.*?)^```$/msg;
    cmp_ok @snippets, '>=', 5, 'there are pieces';
    for my $text (@snippets) {
        my ($first) = $text =~ /^(.*)$/m;
        my $alone = $text =~ /SetHandler usersync-/;
        passes($alone ? $text : module_config() . $text,
            ($alone ? 'alone: ' : '') . $first);
    }
    is scalar(grep { /SetHandler usersync-/ } @snippets), 1,
        'one of them is all that it takes';
};

subtest 'the files in conf' => sub {
    passes($conf, 'usersync.conf as shipped');
    my $all = uncommented($conf);
    passes($all, 'usersync.conf with everything in it');
    unlike $all, qr/^\s*#\S/m, 'nothing was left out';
    my $key = "$ENV{USERSYNC_RUN}/publishable.key";
    passes("Define USERSYNC_SUPABASE_KEY_FILE $key\n"
        . slurp("$top/conf/usersync-example.conf"), 'usersync-example.conf');
    like slurp("$top/conf/usersync.load"),
        qr/\A# Depends: dbd socache_shmcb\nLoadModule usersync_module \S+\n\z/,
        'usersync.load is what a2enmod wants';
    (my $wrong = $all) =~ s/UserSyncTimeout 5s/UserSyncTimeout 5x/;
    like configtest_of($wrong), qr/^1: .*UserSyncTimeout takes a duration/s,
        'a mistake would be seen';
};

subtest 'the directives' => sub {
    my @code = $directives =~ /^    \w+\("(UserSync\w+)",/mg;
    my $text = section('Directives');
    my @here = $text =~ /^### (\w+)$/mg;
    cmp_ok @code, '>=', 12, 'the table in the source can be read';
    is_deeply \@here, \@code, 'README has them all, in that order';
    my %in_conf = map { $_ => 1 } uncommented($conf) =~ /^\s+(UserSync\w+)/mg;
    is_deeply [sort keys %in_conf], [sort @code], 'so has usersync.conf';
    for my $name (@here) {
        my ($block) = $text =~ /^### $name\n((?: {4}.*\n)+)/m;
        is join(' ', ($block || '') =~ /^ {4}(\w+): /mg),
            'Description Syntax Default Context Module', "form of $name";
        my ($macro) = $directives =~ /"$name",(.*?)"/s;
        is scalar($block =~ /^ {4}Context: .*directory/m),
            scalar($macro =~ /ACCESS_CONF/), "context of $name";
    }
};

# US_DEFAULT_STORE_TIMEOUT apr_time_from_sec(3) is UserSyncStoreTimeout 3s.
subtest 'the defaults' => sub {
    my %code = $defaults =~ /^#define US_DEFAULT_(\w+) (.*)$/mg;
    cmp_ok keys %code, '>=', 9, 'those in the source can be read';
    s/apr_time_from_sec\((\d+)\)/$1s/, s/\b300s/5mi/, tr/\\"//d
        for values %code;
    # two that are written otherwise
    $code{MAX_CONCURRENT} = delete($code{MAX_CONCURRENT_PERCENT}) . '%';
    $code{CIRCUIT_BREAKER}
        = join ' ', delete @code{qw(BREAKER_FAILURES BREAKER_DURATION)};
    for my $macro (sort keys %code) {
        my $name = join '', 'UserSync', map { ucfirst lc } split /_/, $macro;
        my $value = $code{$macro};
        my ($here) = $readme =~ /^ {4}Default: +$name (\S.*)$/m;
        my ($there) = uncommented($conf) =~ /^ +$name (\S.*)$/m;
        is $here, $value, "README: $name";
        is $there, $value, "usersync.conf: $name";
    }
};

subtest 'the outcomes' => sub {
    my %level = (WARNING => 'warn', ERR => 'error');
    my (@code, @here);
    my $row = qr/\{US_\w+,\s+(\d+),\s+APLOG_(\w+),\s+(\d+),\s+
        ([\w\ |]+),\s+"(\w+)"/x;
    while ($response =~ /$row/g) {
        my ($status, $level, $retry, $flags, $code) = ($1, $2, $3, $4, $5);
        push @code, join ' ', $status || '-', $level{$level} || lc $level,
            $code, $flags =~ /SUPABASE_CODE/ ? 'or Supabase\'s' : (),
            $retry ? 'Retry-After' : ();
    }
    for my $line (section('Outcomes') =~ /^(\| (?:\d+|-) .*)$/mg) {
        my (undef, $status, $code, $level, $when) = split /\s*\|\s*/, $line;
        my ($name) = $code =~ /`(\w+)`/;
        push @here, join ' ', $status, $level, $name,
            $code =~ /Supabase's/ ? 'or Supabase\'s' : (),
            $when =~ /Retry-After/ ? 'Retry-After' : ();
    }
    cmp_ok @code, '>=', 25, 'the table in the source can be read';
    is_deeply \@here, \@code, 'README has the same rows';
};

subtest 'the sources' => sub {
    my $text = section('Source and tests');
    my @named = map {/`(\w+)`/g} $text =~ /^(\|(?: `\w+`,?)+ )/mg;
    my @there = map {m{us_(\w+)\.c}} glob "$top/src/us_*.c";
    is_deeply [sort 'flows', @named], [sort @there],
        'README names each file in src';
};

subtest 'the requests' => sub {
    double->config(autoconfirm => JSON::PP::true);
    my ($text) = $readme =~ /^```console\n(.*?)^```$/ms;
    my @examples = split /^(?=\$ )/m, $text;
    is scalar(@examples), 2, 'two requests';
    for my $example (@examples) {
        my ($command, $head) = $example =~ /\A\$ ([^\n]*)\n(.*?)\n\n/s;
        my $url = httpd->url;
        $command =~ s{https://www\.example\.com}{$url};
        $command =~ s/^curl /curl -sS --noproxy '*' --max-time 60 /;
        my ($exit, $said) = run_command('sh', '-c', $command);
        $said =~ s/\r//g;
        is $exit, 0, $command;
        my ($status, @fields) = split /\n/, $head;
        is +(split /\n/, $said)[0], $status, 'the answer';
        like $said, qr/^\Q$_\E/m, $_
            for map { /^X-Request-Id: / ? $& : $_ } @fields;
    }
};

done_testing;
