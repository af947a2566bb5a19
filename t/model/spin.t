#!/usr/bin/perl
# The protocols of docs/internals.md "Cache, row and event" in every order:
# spin finds no fault in them, and one in each that lacks a safeguard.
use strict;
use warnings;
use File::Temp qw(tempdir);
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Test::More;
use UserSync::Util qw(run_command slurp);

my $home = $FindBin::RealBin;
my %MODELS = (
    'cache.pml' => {
        # two events and three requests take minutes, and find nothing either
        whole => [map { [split] } 'CREW=1 EVENTS=2', 'CREW=2 EVENTS=2',
            'CREW=3 EVENTS=1'],
        right  => [qw(GENERATIONS JUST_REMOVE STAMPED_DENIAL)],
        broken => [qw(NO_STAMP LATE_STAMP FOLLOW_BLINDLY NO_BUMP BUMP_FIRST
            ANSWER_FIRST SILENT_REFUSAL BLIND_DENIAL NO_ORDER OWN_SLOTS)],
        with   => [qw(CREW=1 EVENTS=2)],
    },
    'tombstone.pml' => {
        whole  => [[]],
        right  => [],
        broken => [qw(NO_TOMBSTONE ANY_TOMBSTONE TRUST_INSERT LEAVE_OWN
            LEAVE_ROW LEAVE_LATE)],
        with   => [],
    },
);

sub must {
    my ($status, $said) = run_command(@_);
    die "$_[-1]: $status\n$said" if $status;
    return $said;
}

# What spin's program says of a model that is compiled with these names.
sub search {
    my ($model, @names) = @_;
    my $dir = tempdir(CLEANUP => 1);
    my $said = must('sh', '-c', 'cd "$0" && exec spin -a "$@"', $dir,
        (map {"-D$_"} @names), "$home/$model");
    die $said if $said =~ /error/i;
    must(qw(gcc -O1 -w -DSAFETY -DMEMLIM=2048 -o), "$dir/pan", "$dir/pan.c");
    return must('sh', '-c', 'cd "$0" && exec ./pan -m100000', $dir);
}

# Was everything searched, and nothing found?
sub is_right {
    my ($said, $name) = @_;
    my $ok = $said =~ /errors: 0\b/ && $said =~ /^\s*\d+ states, stored/m
        && $said !~ /Search not completed|max search depth|reached -DMEMLIM/;
    return ok($ok, $name) || diag $said;
}

# The states of processes that no order led to.
sub unreached {
    my ($said) = @_;
    my (%found, $process);
    for (split /\n/, $said) {
        $process = $1 if /^unreached in (.+)/;
        $found{"$process: $1"} = 1 if $process && /(state \d+, .*)/;
    }
    die "no list of what was not reached\n" unless defined $process;
    return %found;
}

for my $model (sort keys %MODELS) {
    my %it = %{ $MODELS{$model} };
    my (%everywhere, $runs);
    for my $names (@{ $it{whole} }) {
        my $said = search($model, @$names);
        is_right($said, join ' ', $model, @$names);
        my %here = unreached($said);
        %everywhere = $runs++ ? map { $_ => 1 } grep { $here{$_} }
            keys %everywhere : %here;
    }
    is_deeply [sort keys %everywhere], [], "$model: every step is taken";
    is_right(search($model, @{ $it{with} }, $_), "$model with $_")
        for @{ $it{right} };
    for my $name (@{ $it{broken} }) {
        my $said = search($model, @{ $it{with} }, $name);
        like $said, qr/assertion violated.*errors: 1\b/s,
            "$model with $name fails";
        ok((slurp("$home/$model") || '') =~ /^ \* $name  /m,
            "$name is explained");
    }
}

# a name that a model does not know would make a right one
for my $model (sort keys %MODELS) {
    my $text = slurp("$home/$model") || '';
    my %known = map { $_ => 1 } $text =~ /^#ifn?def (\w+)/mg,
        $text =~ /defined\((\w+)\)/g;
    delete $known{IS_ALONE};    # made of others
    my @wanted = sort @{ $MODELS{$model}{right} }, @{ $MODELS{$model}{broken} };
    is_deeply [sort keys %known], \@wanted, "$model: each variant is tried";
}

done_testing;
