# debian/, rpm/ and "make install" agree: about the version, about every file,
# and about what building needs. What a machine makes of the packages, t/package
# tries by hand.

use UserSync::Test;
use UserSync::Util qw(new_dir run_command slurp top_dir);

my $top  = top_dir();
my $spec = text_of('rpm/mod_usersync.spec');

sub text_of {
    my ($file) = @_;
    return slurp("$top/$file") || die "$file is missing\n";
}

# The lines of one of debhelper's files.
sub lines_of { return grep {/^[^#\s]/} split /\n/, text_of($_[0]) }

sub all_of {
    my ($pattern) = @_;
    return sort map {s{^\Q$top/\E}{}r} grep { -e } glob "$top/$pattern";
}

# A pattern of a shell as a regular expression.
sub pattern {
    my ($text) = @_;
    my $regex = join '[^/]*', map {quotemeta} split /\*/, $text, -1;
    return qr{\A/?$regex\z};
}

# A field of debian/control or debian/tests/control: the packages in it.
sub packages_in {
    my ($text, $field, $stanza) = @_;
    ($text) = grep {/^\Q$stanza\E$/m} split /\n\n+/, $text if $stanza;
    my ($list) = $text =~ /^$field:(.*\n(?:[ ].*(?:\n|\z))*)/m
        or die "no $field\n";
    return map { /^\s*([\w.+-]+)/ ? $1 : () } split /,/, $list;
}

# A list of t/install-deps.
sub needed {
    my ($purpose) = @_;
    my ($list) = text_of('t/install-deps') =~ /^$purpose=\((.*?)\)/ms;
    return grep {/^\w/} split ' ', $list;
}

subtest 'the version' => sub {
    my ($version) = text_of('include/usersync.h') =~ /US_VERSION "(.*)"/;
    like $version, qr/^\d+\.\d+\.\d+$/, 'of the header';
    my ($status, $said) = run_command('dpkg-parsechangelog', '-l',
        "$top/debian/changelog", '--all');
    is $status, 0, 'debian/changelog can be read';
    unlike $said, qr/warning/, 'without a complaint' or diag $said;
    like $said, qr/^Version: \Q$version\E$/m, 'and begins with it';
    like $spec, qr/^Version: +\Q$version\E$/m, 'so does the spec';
    like $spec, qr/^%changelog\n\*.* - \Q$version\E-\d+$/m, 'and its changelog';
};

# What "make install" brings with the directories of debian/rules.
sub installed {
    my $root = new_dir('package') . '/root';
    my ($options) = text_of('debian/rules') =~ /^\tdh_auto_install -- (.*)$/m;
    my ($status, $said) = run_command('make', '-C', $top, '-o',
        '.libs/mod_usersync.so', '-o', 'support/usersync-reconcile', 'install',
        "DESTDIR=$root", split ' ', $options || '');
    is $status, 0, 'installed' or diag $said;
    return sort map {s/^\Q$root\E//r}
        split /\n/, (run_command('find', $root, '!', '-type', 'd'))[1];
}

my @installed = installed();
cmp_ok scalar @installed, '>=', 7, 'there are files';

# What a package takes is there: files of "make install" or of the tree.
sub is_there {
    my ($pattern) = @_;
    my $regex = pattern($pattern);
    return scalar(my @files = (grep({ $_ =~ $regex } @installed),
        all_of($pattern)));
}

subtest 'the files of debian/' => sub {
    my %of;
    for my $file (all_of('debian/*.install'), all_of('debian/*.manpages'),
            all_of('debian/*.docs'), 'debian/not-installed') {
        my ($package) = $file =~ m{/([\w-]+)};
        push @{ $of{ (split)[0] } }, $package for lines_of($file);
    }
    my @taken = map { [$_, pattern($_)] } keys %of;
    for my $file (@installed) {
        my @by = map { @{ $of{ $_->[0] } } } grep { $file =~ $_->[1] } @taken;
        is scalar(@by), 1, "$file is in one package" or diag "@by";
    }
    ok is_there($_), "$_ is there" for sort keys %of;
    ok is_there((split)[1]), "$_" for lines_of(all_of('debian/*.apache2'));
    for my $unit (qw(service timer)) {
        my $name = "usersync-reconcile.$unit";
        is readlink "$top/debian/$name", "../support/$name", $name;
    }
    my %package = map { $_ => 1 }
        text_of('debian/control') =~ /^Package: (.+)$/mg;
    my @unknown = grep { !$package{$_} }
        map { m{^debian/((?:lib|usersync)[\w-]+)\.} ? $1 : () }
        all_of('debian/*');
    is_deeply \@unknown, [], 'each file belongs to a package';
};

subtest 'the files of the spec' => sub {
    my ($libexec) = (run_command('apxs', '-q', 'LIBEXECDIR'))[1] =~ /(\S+)/;
    my %macro = (_httpd_moddir => $libexec, _sbindir => '/usr/sbin',
        _mandir => '/usr/share/man', _unitdir => '/usr/lib/systemd/system',
        _sysusersdir => '/usr/lib/sysusers.d');
    my @lists = $spec =~ /^%files.*?\n(.*?)(?=\n%(?:files|changelog))/msg;
    my @files = grep {m{^/}} map {s/%\{(\w+)\}/$macro{$1} || $&/ger}
        map { split /\n/ } @lists;
    for my $file (@installed) {
        my @by = grep { $file =~ pattern($_) } @files;
        is scalar(@by), 1, "$file is in it" or diag "@by";
    }
    my ($docs) = $spec =~ /^%doc (.*)$/m;
    ok is_there($_), "$_ is there" for split ' ', $docs;
};

subtest 'what building needs' => sub {
    my $control = text_of('debian/control');
    my %has = map { $_ => 1 } packages_in($control, 'Build-Depends');
    # these are build-essential
    my @missing = grep { !$has{$_} && !/^(?:gcc|libc6-dev|make)$/ }
        needed('build');
    is_deeply \@missing, [], 'debian/control has all of t/install-deps';
    my ($libraries) = text_of('Makefile') =~ /^PACKAGES = (.*)$/m;
    my @here = $spec =~ /^BuildRequires: +pkgconfig\(([\w-]+)\)/mg;
    is_deeply [sort @here], [sort split ' ', $libraries],
        'the spec has the libraries of the Makefile';
};

subtest 'what the tests of the package need' => sub {
    my $control = text_of('debian/tests/control');
    my %known = map { $_ => 1 } needed('test'), needed('package'), qw(apache2
        util-linux);
    for my $name ($control =~ /^Tests: (\S+)$/mg) {
        ok -x "$top/debian/tests/$name", "$name can run";
        my @unknown = grep { !$known{$_} }
            packages_in($control, 'Depends', "Tests: $name");
        is_deeply \@unknown, [], 'with packages that t/install-deps knows';
    }
};

subtest 'the user of the unit' => sub {
    my $unit = text_of('support/usersync-reconcile.service');
    my ($user) = $unit =~ /^User=(.*)$/m;
    like text_of('support/usersync-reconcile.sysusers'), qr/^u \Q$user\E /m,
        'systemd-sysusers makes it';
    my ($dir) = $unit =~ m{^EnvironmentFile=/(.*)/usersync-reconcile\.conf$}m;
    my %to = map { (split)[0, 1] }
        lines_of('debian/usersync-reconcile.install');
    is $to{'support/usersync-reconcile.conf'}, $dir,
        'its options are where it reads them';
};

done_testing;
