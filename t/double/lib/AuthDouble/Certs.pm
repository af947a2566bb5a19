package AuthDouble::Certs;
# Throw-away certificates: one CA that the tests trust, one that nobody knows.
use strict;
use warnings;

my $EC = '-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes';
my $HERE = 'DNS:localhost,IP:127.0.0.1';

# make($dir) -> {ca => path, good|wrong_name|unknown_ca|expired => [cert, key]}
# Files that exist already are kept, so that a restarted double stays trusted.
sub make {
    my ($dir) = @_;
    if (!-d $dir) { mkdir $dir, 0755 or die "$dir: $!\n" }
    _ca($dir, $_) for qw(ca other-ca);
    _leaf($dir, 'good', 'ca', 30, $HERE);
    _leaf($dir, 'wrong_name', 'ca', 30, 'DNS:elsewhere.invalid');
    _leaf($dir, 'unknown_ca', 'other-ca', 30, $HERE);
    _leaf($dir, 'expired', 'ca', -1, $HERE);
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

sub _leaf {
    my ($dir, $name, $ca, $days, $san) = @_;
    return if -e "$dir/$name.pem";
    my ($cn) = $san =~ /\ADNS:([^,]+)/;
    open my $ext, '>', "$dir/$name.ext" or die "$dir/$name.ext: $!\n";
    print {$ext} "subjectAltName=$san\nbasicConstraints=CA:FALSE\n"
        . "extendedKeyUsage=serverAuth\n";
    close $ext or die "$dir/$name.ext: $!\n";
    _run("openssl req $EC -subj '/CN=$cn' -keyout '$dir/$name.key'"
        . " -out '$dir/$name.csr'");
    return _run("openssl x509 -req -in '$dir/$name.csr' -CA '$dir/$ca.pem'"
        . " -CAkey '$dir/$ca.key' -CAcreateserial -days $days"
        . " -extfile '$dir/$name.ext' -out '$dir/$name.pem'");
}

sub _run {
    my ($cmd) = @_;
    my $out = `$cmd 2>&1`;
    die "$cmd\n$out" if $?;
    return;
}

1;
