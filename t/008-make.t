# What make does apart from building: it installs where it is told to, takes
# away what it has installed, and never calls apt unless it is asked to.

use UserSync::Test;
use UserSync::Util qw(new_dir run_command slurp spew top_dir);

my $top   = top_dir();
my $built = "$top/.libs/mod_usersync.so";
my $dir   = new_dir('make');

# What is here is not built again, whatever the times of the copied files say.
sub make {
    my (@arguments) = @_;
    return run_command('make', '-C', $top, '-o', '.libs/mod_usersync.so',
        '-o', 'support/usersync-reconcile', @arguments);
}

subtest 'install and uninstall' => sub {
    my $root = "$dir/a root";
    my ($status, $said) = make('install', "DESTDIR=$root");
    is $status, 0, 'installed' or diag $said;
    my @files = split /\n/, (run_command('find', $root, '!', '-type', 'd'))[1];
    is_deeply [sort map { m{([^/]+)$} } @files], [qw(mod_usersync.7
        mod_usersync.so usersync-reconcile usersync-reconcile.8
        usersync-reconcile.conf usersync-reconcile.service
        usersync-reconcile.timer)], 'the module, and the program with its own';
    my ($file) = grep { m{^\Q$root\E/.*/modules/mod_usersync\.so$} } @files;
    ok $file, 'below DESTDIR';
    is sprintf('%o', (stat $file)[2] & 07777), '644', 'for all to read';
    ok slurp($file) eq slurp($built), 'it is the module';
    ($status, $said) = make('uninstall', "DESTDIR=$root");
    is $status, 0, 'uninstalled' or diag $said;
    is_deeply [grep { -e } @files], [], 'and all are gone';
};

subtest 'help' => sub {
    my ($status, $said) = make('help');
    is $status, 0, 'there is help';
    my ($phony) = slurp("$top/Makefile") =~ /^\.PHONY: ((?:.*\\\n)*.*)/m;
    my @missing = grep { $said !~ /^ \Q$_\E /m }
        grep { !/^(?:\\|check-.*|deps-.*)$/ } split ' ', $phony;
    is_deeply \@missing, [], 'for every target';
};

subtest 'where packages are missing' => sub {
    my $none = "$dir/none";
    mkdir $none or die "$none: $!";
    for my $name (qw(dpkg-query pkg-config apt-get sudo)) {
        chmod 0755, spew("$none/$name", "#!/bin/sh\necho \$0 >>'$dir/called'\n"
            . "exit 1\n");
    }
    local $ENV{PATH} = "$none:$ENV{PATH}";
    for my $target (qw(all install)) {
        my ($status, $said) = run_command('make', '-C', $top, $target);
        is $status, 2, "$target: refused";
        like $said, qr/missing: libcurl\S+ libjson\S+ libpq\S+ libssl\S+$/m,
            'told which ones';
        like $said, qr/make deps/, 'and what helps';
    }
    unlike slurp("$dir/called"), qr/apt-get|sudo/, 'and nothing is installed';
};

done_testing;
