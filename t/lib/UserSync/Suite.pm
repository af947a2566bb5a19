package UserSync::Suite;

# Runs test programs of all kinds and keeps the account of the whole suite: a
# line of JSON for each in the file $USERSYNC_RESULTS.

use strict;
use warnings;

use JSON::PP ();
use TAP::Harness ();
use Time::HiRes qw(time);

use UserSync::Util qw(append_json patience run_command slurp);

# The tests that need the servers: all below t/ but what stands in these. Those
# in long/ need them, too, and run when they are named.
my $NOT_SERVED = qr{^t/(?:unit|double|guards|fuzz|bench|lib|demo|long)/};

# The longest time for a test that does not keep its own.
sub limit { return ($ENV{USERSYNC_LIMIT} || 300) * patience() }

sub served_tests {
    require File::Find;
    my @tests;
    File::Find::find({
        no_chdir => 1,
        wanted => sub { push @tests, $_ if /\.t$/ && !/$NOT_SERVED/ },
    }, 't');
    return sort @tests;
}

# Runs the files one after the other; true when all were good.
sub run {
    my ($class, $label, @files) = @_;
    return 1 unless @files;
    my $harness = TAP::Harness->new({
        verbosity => $ENV{USERSYNC_VERBOSE} ? 1 : 0,
        timer => 1,
        exec  => \&_command,
    });
    my $last = time;
    my $good = 1;
    my %found;
    $harness->callback(after_test => sub {
        my ($job, $parser) = @_;
        my $file = $job->[0];
        $found{$file} = 1;
        my $ok = $parser->has_problems ? 0 : 1;
        $good &&= $ok;
        $class->record($label, $file, $ok,
            skip => $parser->skip_all, seconds => time - $last);
        $last = time;
    });
    eval { $harness->runtests(@files); 1 } or do {
        print STDERR "$@\n";
        $good = 0;
        $class->record($label, $_, 0) for grep { !$found{$_} } @files;
    };
    return $good;
}

sub record {
    my ($class, $label, $file, $ok, %more) = @_;
    return unless $ENV{USERSYNC_RESULTS};
    append_json($ENV{USERSYNC_RESULTS},
        { label => $label, file => $file, ok => $ok, %more });
    return;
}

# How to run a file: an own command, or undef for what Perl runs by itself.
sub _command {
    my ($harness, $file) = @_;
    return _guard($file) if $file =~ /\.sh$/;
    return ['timeout', '--foreground', limit(), $^X, '-It/lib', $file]
        if $file =~ /\.t$/ && (slurp($file) || '') =~ /\A#!.*perl|^use /m;
    return ['timeout', '--foreground', limit(), "./$file"];
}

# A guard is right when it ends with 0; what it says then is of no interest.
sub _guard {
    my ($file) = @_;
    my ($status, $said)
        = run_command('timeout', '--foreground', limit(), 'bash', $file);
    $said = '' unless defined $said;
    my $ok = $status == 0 && $said !~ /^not ok/m;
    return "1..1\nok 1 - $file\n" if $ok;
    print STDERR map {"# $_\n"} split /\n/, $said;
    return "1..1\nnot ok 1 - $file ended with $status\n";
}

# The last words of the suite, from the account. Returns the exit status.
sub summary {
    my ($class, $results) = @_;
    my @all = map { JSON::PP::decode_json($_) } split /\n/,
        slurp($results) || '';
    my @skipped = grep { $_->{ok} && defined $_->{skip} } @all;
    my @passed  = grep { $_->{ok} && !defined $_->{skip} } @all;
    my @failed  = grep { !$_->{ok} } @all;
    print "\n";
    print "skipped: $_->{file} ($_->{label}): $_->{skip}\n" for @skipped;
    print "FAILED:  $_->{file} ($_->{label})\n" for @failed;
    # a run that ran nothing has not passed
    print "no test was run\n" unless @passed || @failed;
    printf "%d passed, %d failed\n", scalar @passed, scalar @failed;
    return @failed || !@passed ? 1 : 0;
}

1;
