package AuthDouble::Certs;
# Throw-away certificates: one CA that the tests trust, one that nobody knows.
use strict;
use warnings;

my $EC = '-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes';
my $HERE = 'DNS:localhost,IP:127.0.0.1';
my $NOW = '-days 30';
my $LAST_YEAR = do {
    my $year = (gmtime)[5] + 1899;
    "-startdate ${year}0101000000Z -enddate ${year}0201000000Z";
};

# make($dir) -> {ca => path, good|wrong_name|unknown_ca|expired => [cert, key]}
# Files that exist already are kept, so that a restarted double stays trusted.
sub make {
    my ($dir) = @_;
    if (!-d $dir) { mkdir $dir, 0755 or die "$dir: $!\n" }
    _ca($dir, $_) for qw(ca other-ca);
    _leaf($dir, 'good', 'ca', $HERE);
    _leaf($dir, 'wrong_name', 'ca', 'DNS:elsewhere.invalid');
    _leaf($dir, 'unknown_ca', 'other-ca', $HERE);
    _leaf($dir, 'expired', 'ca', $HERE, $LAST_YEAR);
    return {ca => "$dir/ca.pem",
        map { $_ => ["$dir/$_.pem", "$dir/$_.key"] }
            qw(good wrong_name unknown_ca expired)};
}

sub _ca {
    my ($dir, $name) = @_;
    return if -e "$dir/$name.pem";
    return _run("openssl req -x509 $EC -days 30 -subj '/CN=double $name'"
        . ' -addext basicConstraints=critical,CA:TRUE'
        . ' -addext keyUsage=critical,keyCertSign'
        . " -keyout '$dir/$name.key' -out '$dir/$name.pem'");
}

# Signed by openssl ca, which alone knows dates in all its versions.
sub _leaf {
    my ($dir, $name, $ca, $san, $time) = @_;
    return if -e "$dir/$name.pem";
    my ($cn) = $san =~ /\ADNS:([^,]+)/;
    _write("$dir/$name.ext", "subjectAltName=$san\nbasicConstraints=CA:FALSE\n"
        . "extendedKeyUsage=serverAuth\n");
    _write("$dir/ca.index", '');
    _write("$dir/ca.cnf", "[ca]\ndefault_ca=double\n"
        . "[double]\ndatabase=$dir/ca.index\nnew_certs_dir=$dir\n"
        . "rand_serial=yes\ndefault_md=sha256\npolicy=names\n"
        . "[names]\ncommonName=supplied\n");
    _run("openssl req $EC -subj '/CN=$cn' -keyout '$dir/$name.key'"
        . " -out '$dir/$name.csr'");
    return _run("openssl ca -batch -notext -config '$dir/ca.cnf'"
        . " -in '$dir/$name.csr' -cert '$dir/$ca.pem'"
        . " -keyfile '$dir/$ca.key' " . ($time || $NOW)
        . " -extfile '$dir/$name.ext' -out '$dir/$name.pem'");
}

sub _write {
    my ($file, $text) = @_;
    open my $out, '>', $file or die "$file: $!\n";
    print {$out} $text;
    close $out or die "$file: $!\n";
    return;
}

sub _run {
    my ($cmd) = @_;
    my $out = `$cmd 2>&1`;
    die "$cmd\n$out" if $?;
    return;
}

1;
