package UserSync::Suite;

# Runs test programs of all kinds and records the results of the whole suite:
# one line of JSON for each in the file $USERSYNC_RESULTS.

use strict;
use warnings;

use File::Temp ();
use JSON::PP ();
use TAP::Harness ();
use Time::HiRes qw(time);

use UserSync::Util qw(append_json patience run_command slurp);

# The tests that need the servers: all below t/ except these directories. Those
# in long/ need them, too, but only run if they are named.
my $NOT_SERVED = qr{^t/(?:unit|double|guards|model|fuzz|bench|lib|demo|long)/};

# The time limit for a test that has none of its own.
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

# Runs the files one after the other; true if all passed. A file's stderr is
# shown when it has ended, and again in the summary if it has failed: if only
# the end of a log is kept, it must still give the reason.
sub run {
    my ($class, $label, @files) = @_;
    return 1 unless @files;
    # removed with the rest if this process is killed
    my $stderr = File::Temp->new(DIR => $ENV{USERSYNC_RUN} || '.');
    my $harness = TAP::Harness->new({
        verbosity => $ENV{USERSYNC_VERBOSE} ? 1 : 0,
        timer => 1,
        exec  => sub { _command($_[1], "$stderr") },
    });
    my $last = time;
    my $good = 1;
    my (%found, @failures);
    $harness->callback(made_parser => sub {
        my ($parser) = @_;
        @failures = ();
        $parser->callback(test => sub {
            push @failures, $_[0]->as_string unless $_[0]->is_ok;
        });
    });
    $harness->callback(after_test => sub {
        my ($job, $parser) = @_;
        my $file = $job->[0];
        $found{$file} = 1;
        my $ok = $parser->has_problems ? 0 : 1;
        $good &&= $ok;
        my $said = _take("$stderr");
        print STDERR $said;
        $class->record($label, $file, $ok,
            skip => $parser->skip_all, seconds => time - $last,
            $ok ? () : (said => _reason($parser, \@failures, $said)));
        $last = time;
    });
    eval { $harness->runtests(@files); 1 } or do {
        print STDERR _take("$stderr"), "$@\n";
        $good = 0;
        $class->record($label, $_, 0) for grep { !$found{$_} } @files;
    };
    return $good;
}

# Returns the text in a file, and empties the file.
sub _take {
    my ($file) = @_;
    my $text = slurp($file);
    truncate $file, 0 or die "$file: $!\n";
    return $text;
}

# The reason why a file has failed, in a few lines.
sub _reason {
    my ($parser, $failures, $said) = @_;
    my @lines = (@$failures, $parser->parse_errors,
        $parser->exit ? 'exit status ' . $parser->exit : (),
        grep {/\S/} split /\n/, $said);
    @lines = (@lines[0 .. 29], '...', @lines[-10 .. -1]) if @lines > 40;
    return [map { length > 300 ? substr($_, 0, 300) . '...' : $_ } @lines];
}

sub record {
    my ($class, $label, $file, $ok, %more) = @_;
    return unless $ENV{USERSYNC_RESULTS};
    append_json($ENV{USERSYNC_RESULTS},
        { label => $label, file => $file, ok => $ok, %more });
    return;
}

# The command for a file, with stderr appended to the other file.
sub _command {
    my ($file, $stderr) = @_;
    return _guard($file, $stderr) if $file =~ /\.sh$/;
    my @perl = $file =~ /\.t$/
        && (slurp($file) || '') =~ /\A#!.*perl|^use /m ? ($^X, '-It/lib') : ();
    return ['sh', '-c', 'exec "$@" 2>>"$0"', $stderr,
        'timeout', '--foreground', limit(), @perl,
        @perl ? $file : "./$file"];
}

# A guard passes if it exits with 0; its output does not matter then.
sub _guard {
    my ($file, $stderr) = @_;
    my ($status, $said)
        = run_command('timeout', '--foreground', limit(), 'bash', $file);
    $said = '' unless defined $said;
    my $ok = $status == 0 && $said !~ /^not ok/m;
    return "1..1\nok 1 - $file\n" if $ok;
    open my $out, '>>', $stderr or die "$stderr: $!\n";
    print {$out} map {"# $_\n"} split /\n/, $said;
    close $out or die "$stderr: $!\n";
    return "1..1\nnot ok 1 - $file ended with $status\n";
}

# Prints the suite's summary from the results. Returns the exit status.
sub summary {
    my ($class, $results, $planned) = @_;
    my @all = map { JSON::PP::decode_json($_) } split /\n/,
        slurp($results) || '';
    my %seen = map { +"$_->{label} $_->{file}" => 1 } @all;
    push @all, map {
        my ($label, $file) = split / /, $_, 2;
        { label => $label, file => $file, ok => 0, said => ['no result'] };
    } grep { !$seen{$_} } split /\n/, slurp($planned) || '';
    my @skipped = grep { $_->{ok} && defined $_->{skip} } @all;
    my @passed  = grep { $_->{ok} && !defined $_->{skip} } @all;
    my @failed  = grep { !$_->{ok} } @all;
    print "\n";
    print "skipped: $_->{file} ($_->{label}): $_->{skip}\n" for @skipped;
    for my $test (@failed) {
        print "FAILED:  $test->{file} ($test->{label})\n";
        print map {"    $_\n"} @{ $test->{said} || [] };
    }
    # a run without tests has not passed
    print "no test was run\n" unless @passed || @failed;
    printf "%d passed, %d failed\n", scalar @passed, scalar @failed;
    return @failed || !@passed ? 1 : 0;
}

1;
