package UserSync::Pretty;

# JSON as t/demo shows it: in its original order, without the parts that nobody
# reads.

use strict;
use warnings;

use Exporter qw(import);

our @EXPORT_OK = qw(pretty);

my $session_shown = 0;

# As lines.
sub pretty {
    my ($text) = @_;
    my @token = $text =~ /"(?:[^"\\]|\\.)*"|[\[\]{},:]|[^\s"\[\]{},:]+/g;
    return split /\n/, shown(parsed(\@token), 0);
}

# An atom as text, an array or object as [bracket, [key, value] ...].
sub parsed {
    my ($token) = @_;
    my $first = shift @$token;
    return $first unless $first =~ /^[\[{]$/;
    my @item;
    while ($token->[0] !~ /^[\]}]$/) {
        shift @$token if $token->[0] eq ',';
        my $key = $first eq '{' ? shift @$token : undef;
        shift @$token if defined $key;
        push @item, [$key, parsed($token)];
    }
    shift @$token;
    return [$first, @item];
}

sub shown {
    my ($value, $depth, $brief) = @_;
    return $value unless ref $value;
    my ($open, @item) = @$value;
    my $close = $open eq '{' ? '}' : ']';
    # shows only what identifies the user
    if ($brief) {
        my @telling = grep {
            ($_->[0] || '') =~ /^"(?:id|email|access_token)"$/
        } @item;
        @item = (@telling, [undef, '...']);
    }
    my @text = map { member($_, $depth) } @item;
    return "$open $close" unless @text;
    return "$open " . join(', ', @text) . " $close" if $brief;
    my $indent = '  ' x $depth;
    return "$open\n" . join(",\n", map {"$indent  $_"} @text)
        . "\n$indent$close";
}

# Supabase's user object is long, and sessions look alike.
sub member {
    my ($item, $depth) = @_;
    my ($key, $value) = @$item;
    return shown($value, $depth + 1) unless defined $key;
    return "$key: " . substr($value, 0, 9) . '..."'
        if $key =~ /_token"$/ && $value =~ /^".{12}/;
    my $brief = $key eq '"user"'
        || $key eq '"session"' && ref $value && $session_shown++;
    return "$key: " . shown($value, $depth + 1, $brief);
}

1;
