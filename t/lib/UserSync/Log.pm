package UserSync::Log;

# An httpd error log that is read during the test: lines at warn or above that
# a test does not expect are errors of that test.

use strict;
use warnings;

use UserSync::Util qw(slurp wait_until);

my %BAD = map { $_ => 1 } qw(emerg alert crit error warn);

# Noise that says nothing about the module.
my @TOLERATED = (
    # the suite's numbers are small on purpose, and are reached on purpose
    qr/AH00161: server reached MaxRequestWorkers/,
    qr/AH0048[45]: (?:server reached MaxRequestWorkers|scoreboard is full)/,
    qr/AH0028[678]: (?:server reached MaxRequestWorkers|scoreboard is full)/,
    # libpq's own, if PostgreSQL is killed while libpq connects to it: mod_dbd
    # can silence notices only on an open connection
    qr/^(?:WARNING|FATAL):  terminating connection (?:due to|because of) /,
    qr/^DETAIL:  The postmaster has commanded this server process to roll back/,
    qr/^HINT:  In a moment you should be able to reconnect to the database/,
    # a matter of the distribution
    qr/AH01882: Init: this version of mod_ssl was compiled against a newer/,
    # at every start: the double counts no clients, and t/425-start.t checks it
    qr/ US010: [^:]+(?: \([^)]*\))?: UserSyncForwardClientIP is Off: /,
);

sub new {
    my ($class, $file, $from) = @_;
    return bless {
        file => $file, from => $from || 0, start => $from || 0, expected => [],
    }, $class;
}

sub file { return $_[0]{file} }

# A position in the log, for since().
sub mark { return -s $_[0]{file} || 0 }

# The complete lines since a mark; without one, since the start of the test.
sub since {
    my ($self, $mark) = @_;
    $mark = $self->{start} unless defined $mark;
    my $text = slurp($self->{file}, $mark);
    return unless defined $text;
    $text =~ s/[^\n]*\z//;
    return split /\n/, $text;
}

# {time, module, level, pid, client, text}, or undef for a line that httpd did
# not write: a library's or a sanitizer's output to stderr.
sub parse {
    my ($line) = @_;
    my %field;
    @field{qw(time module level pid rest)}
        = $line =~ /^\[([^\]]+)\] \[([\w-]+):(\w+)\] \[pid (\d+)\] (.*)/
        or return;
    $field{rest} =~ s/^\[tid \d+\] //;
    $field{client} = $field{rest} =~ s/^\[client ([^\]]*)\] // ? $1 : undef;
    $field{text} = delete $field{rest};
    return \%field;
}

# A line that is wrong in itself: warn and worse, a crash (which httpd logs as
# a notice), or not written by httpd.
sub is_bad {
    my ($line) = @_;
    return 0 unless $line =~ /\S/;
    for my $fine (@TOLERATED) {
        return 0 if $line =~ $fine;
    }
    my $entry = parse($line) or return 1;
    return 1 if $BAD{ $entry->{level} };
    return $entry->{text} =~ /AH0005[12]: child pid \d+ exit signal/ ? 1 : 0;
}

# The line must come, at least once or exactly $times times.
sub expect {
    my ($self, $what, $times) = @_;
    push @{ $self->{expected} },
        { what => $what, times => $times, must => 1, seen => 0 };
    return;
}

# The line may come.
sub allow {
    my ($self, $what) = @_;
    push @{ $self->{expected} }, { what => $what, seen => 0 };
    return;
}

# Reads on and returns the bad lines that are not expected.
sub unexpected {
    my ($self) = @_;
    my @bad;
    my $text = slurp($self->{file}, $self->{from});
    return unless defined $text;
    $text =~ s/[^\n]*\z//;
    $self->{from} += length $text;
    for my $line (split /\n/, $text) {
        my @match = grep { $line =~ $_->{what} } @{ $self->{expected} };
        $_->{seen}++ for @match;
        push @bad, $line if !@match && is_bad($line);
    }
    return @bad;
}

# Checks the test's lines: returns a list of complaints, empty if all is well.
sub settle {
    my ($self) = @_;
    my @bad = $self->unexpected;
    my $missing = sub {
        return grep {
            $_->{must}
                && $_->{seen} < (defined $_->{times} ? $_->{times} : 1)
        } @{ $self->{expected} };
    };
    wait_until { push @bad, $self->unexpected; !$missing->() } 5
        if $missing->();
    my @complaints = _grouped(@bad);
    for my $entry (grep { $_->{must} } @{ $self->{expected} }) {
        my ($seen, $times) = @$entry{qw(seen times)};
        next if defined $times ? $seen == $times : $seen;
        push @complaints, "expected, seen $seen times"
            . (defined $times ? " instead of $times" : '') . ": $entry->{what}";
    }
    $self->{expected} = [];
    return @complaints;
}

# Repetitions of a line are one complaint.
sub _grouped {
    my (@lines) = @_;
    my (%count, @first);
    for my $line (@lines) {
        my $same = $line =~ s/^\[[^\]]*\]|\[(?:pid|tid|client) [^\]]*\]//gr;
        push @first, [$same, $line] unless $count{$same}++;
    }
    return map {
        my ($same, $line) = @$_;
        'unexpected' . ($count{$same} > 1 ? " ($count{$same} times)" : '')
            . ": $line";
    } @first;
}

# Where the next reader continues.
sub position { return $_[0]{from} }

1;
