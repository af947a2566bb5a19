package AuthDouble::Walk;
# All users in the order of created_at, for the admin list: by offset, where the
# order among equal times is another one each time, as it may be in PostgreSQL,
# and from a cursor, where the id decides.
use strict;
use warnings;
use Exporter 'import';
use Time::Local qw(timegm);

our @EXPORT_OK = qw(micros);

# a time of a user in microseconds
sub micros {
    my ($t) = @_;
    return $t->[0] * 1_000_000 + int($t->[1] / 1000) if ref $t;
    my ($y, $mon, $d, $h, $m, $s, $f) = $t =~ /\A([0-9]{4})-([0-9]{2})-
        ([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,9}))?Z\z/x
        or die "not a time: $t\n";
    return timegm($s, $m, $h, $d, $mon - 1, $y) * 1_000_000
        + substr(($f // '') . '000000', 0, 6);
}

# new($crowd or undef, users): kept by AuthDouble::Store until somebody changes
sub new {
    my ($class, $crowd, @users) = @_;
    my @own = sort { $a->[0] <=> $b->[0] }
        map { [micros($_->{created_at}), $_] } @users;
    my (@time, @who);
    for my $i ($crowd ? @{$crowd->members} : ()) {
        my $t = $crowd->created($i);
        while (@own && $own[0][0] < $t) {
            push @time, $own[0][0];
            push @who, shift(@own)->[1];
        }
        push @time, $t;
        push @who, $i;
    }
    push @time, map { $_->[0] } @own;
    push @who, map { $_->[1] } @own;
    return bless {crowd => $crowd, time => \@time, who => \@who}, $class;
}

sub count { return scalar @{$_[0]{who}} }

# users, or numbers of the crowd; all of them, the oldest first
sub all { return @{$_[0]{who}} }

# page(from, how many, newest first?, seed of the order among equal times; 0: as
# they were made)
sub page {
    my ($self, $from, $n, $desc, $seed) = @_;
    my $all = $self->count;
    my $to = $from + $n > $all ? $all : $from + $n;
    return if $from >= $to;
    ($from, $to) = ($all - $to, $all - $from) if $desc;
    my ($low, $high) = ($self->_first($from), $self->_end($to - 1));
    my @who = @{$self->{who}}[$low .. $high - 1];
    for (my $i = $low; $seed && $i < $high;) {
        my $end = $self->_end($i);
        my $random = ($seed * 2_654_435_761 + $i * 40_503) & 0x7fffffff;
        for (my $left = $end - $i; $left > 1; $left--) {
            $random = ($random * 1_103_515_245 + 12_345) & 0x7fffffff;
            my $k = ($random >> 8) % $left;
            my $at = $i - $low;
            @who[$at + $left - 1, $at + $k] = @who[$at + $k, $at + $left - 1];
        }
        $i = $end;
    }
    @who = @who[$from - $low .. $to - $low - 1];
    return $desc ? reverse @who : @who;
}

# after([time, id] or undef, how many, newest first?)
sub after {
    my ($self, $cursor, $n, $desc) = @_;
    my $all = $self->count;
    my $at = !$cursor ? $desc ? $all : 0 : $self->_place($cursor->[0], $desc);
    my @out;
    while (@out < $n && ($desc ? $at > 0 : $at < $all)) {
        my $i = $desc ? $at - 1 : $at;
        my ($low, $high) = ($self->_first($i), $self->_end($i));
        my @same = map { $_->[1] }
            grep { !$cursor || $self->{time}[$i] != $cursor->[0]
                || ($desc ? $_->[0] lt $cursor->[1] : $_->[0] gt $cursor->[1]) }
            sort { $a->[0] cmp $b->[0] }
            map { [$self->id($_), $_] } @{$self->{who}}[$low .. $high - 1];
        push @out, $desc ? reverse @same : @same;
        $at = $desc ? $low : $high;
    }
    splice @out, $n if @out > $n;
    return @out;
}

sub id { return ref $_[1] ? $_[1]{id} : $_[0]{crowd}->id($_[1]) }

sub created {
    my ($self, $who) = @_;
    return ref $who ? micros($who->{created_at})
        : $self->{crowd}->created($who);
}

# where those with this time begin, or end
sub _place {
    my ($self, $t, $behind) = @_;
    my $time = $self->{time};
    my ($low, $high) = (0, scalar @$time);
    while ($low < $high) {
        my $mid = ($low + $high) >> 1;
        if ($time->[$mid] < $t || $behind && $time->[$mid] == $t) {
            $low = $mid + 1;
        }
        else { $high = $mid }
    }
    return $low;
}

sub _first { return $_[0]->_place($_[0]{time}[$_[1]], 0) }
sub _end { return $_[0]->_place($_[0]{time}[$_[1]], 1) }

1;
