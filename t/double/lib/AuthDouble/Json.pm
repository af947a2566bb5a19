package AuthDouble::Json;
# JSON as Go's encoding/json reads and writes it. Strings are UTF-8 bytes on
# both sides, objects keep their order and their duplicates when decoded.
use strict;
use warnings;
use Exporter 'import';

our @EXPORT_OK = qw(decode encode obj num bool raw bind_struct truthy plain
    slice);

our $TRUE  = bless \(my $t = 'true'),  'AuthDouble::Json::Bool';
our $FALSE = bless \(my $f = 'false'), 'AuthDouble::Json::Bool';

# obj(k => v, ...): a Go struct, written in this order
sub obj { return bless [@_], 'AuthDouble::Json::Obj' }
sub num { my $n = shift; return bless \$n, 'AuthDouble::Json::Num' }
sub raw { my $r = shift; return bless \$r, 'AuthDouble::Json::Raw' }
sub bool { return $_[0] ? $TRUE : $FALSE }

my %ESC = ('"' => '"', '\\' => '\\', '/' => '/', b => "\b", f => "\f",
    n => "\n", r => "\r", t => "\t");

# dies with Go's message, without a line number
sub decode {
    my ($text) = @_;
    for ($text) {
        pos = 0;
        my $v = _value(0);
        /\G[ \t\r\n]*/gc;
        _bad('after top-level value') if pos() < length;
        return $v;
    }
}

# slice($text, $name): the text of a member of the object that $text is, as it
# stands there; undef without one. The last of several counts.
sub slice {
    my ($text, $name) = @_;
    my $found;
    decode($text);
    for ($text) {
        pos = 0;
        /\G[ \t\r\n]*\{/gc or return undef;
        while (/\G[ \t\r\n,]*"/gc) {
            my $key = _string();
            /\G[ \t\r\n]*:[ \t\r\n]*/gc;
            my $from = pos;
            _value(1);
            $found = substr $_, $from, pos() - $from if $key eq $name;
        }
    }
    return $found;
}

sub _bad {
    my ($where) = @_;
    die "unexpected end of JSON input\n" if pos() >= length;
    my $c = substr $_, pos(), 1;
    $c = $c eq "'" ? "'\\''" : $c eq '"' ? q('"') : "'$c'";
    die "invalid character $c $where\n";
}

sub _value {
    my ($depth) = @_;
    /\G[ \t\r\n]*/gc;
    return _string()         if /\G"/gc;
    return _object($depth)   if /\G\{/gc;
    return _array($depth)    if /\G\[/gc;
    return num($1)
        if /\G(-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?)/gc;
    return $TRUE             if /\Gtrue/gc;
    return $FALSE            if /\Gfalse/gc;
    return undef             if /\Gnull/gc;
    _bad('looking for beginning of value');
}

sub _object {
    my ($depth) = @_;
    die "exceeded max depth\n" if $depth > 1000;
    my @pairs;
    /\G[ \t\r\n]*/gc;
    return obj() if /\G\}/gc;
    while (1) {
        /\G[ \t\r\n]*/gc;
        /\G"/gc or _bad('looking for beginning of object key string');
        my $key = _string();
        /\G[ \t\r\n]*:/gc or _bad('after object key');
        push @pairs, $key, _value($depth + 1);
        /\G[ \t\r\n]*/gc;
        next if /\G,/gc;
        last if /\G\}/gc;
        _bad('after object key:value pair');
    }
    return bless \@pairs, 'AuthDouble::Json::Obj';
}

sub _array {
    my ($depth) = @_;
    die "exceeded max depth\n" if $depth > 1000;
    my @items;
    /\G[ \t\r\n]*/gc;
    return [] if /\G\]/gc;
    while (1) {
        push @items, _value($depth + 1);
        /\G[ \t\r\n]*/gc;
        next if /\G,/gc;
        last if /\G\]/gc;
        _bad('after array element');
    }
    return \@items;
}

sub _string {
    my $out = '';
    while (1) {
        $out .= $1 if /\G([^"\\\x00-\x1f]+)/gc;
        last if /\G"/gc;
        if (/\G\\(["\\\/bfnrt])/gc) { $out .= $ESC{$1} }
        elsif (/\G\\u([0-9a-fA-F]{4})/gc) { $out .= _unicode(hex $1) }
        elsif (/\G\\/gc) { _bad('in string escape code') }
        else { _bad('in string literal') }
    }
    $out = _fix_utf8($out) if $out =~ /[\x80-\xff]/;
    return $out;
}

sub _unicode {
    my ($u) = @_;
    if ($u >= 0xd800 && $u < 0xdc00 && /\G\\u([dD][c-fC-F][0-9a-fA-F]{2})/gc) {
        $u = 0x10000 + (($u - 0xd800) << 10) + (hex($1) - 0xdc00);
    }
    $u = 0xfffd if $u >= 0xd800 && $u < 0xe000;
    my $s = chr $u;
    utf8::encode($s);
    return $s;
}

my $UTF8 = qr/(?:[\x00-\x7f]|[\xc2-\xdf][\x80-\xbf]
    |\xe0[\xa0-\xbf][\x80-\xbf]|[\xe1-\xec\xee\xef][\x80-\xbf]{2}
    |\xed[\x80-\x9f][\x80-\xbf]|\xf0[\x90-\xbf][\x80-\xbf]{2}
    |[\xf1-\xf3][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2})/x;

# every invalid byte becomes U+FFFD, as in Go
sub _fix_utf8 {
    my ($s) = @_;
    return $s if utf8::decode(my $copy = $s) && $s !~ /\xed[\xa0-\xbf]/;
    $s =~ s/\G($UTF8)|\G./defined $1 ? $1 : "\xef\xbf\xbd"/ges;
    return $s;
}

my %OUT = ('"' => '\\"', '\\' => '\\\\', "\n" => '\\n', "\r" => '\\r',
    "\t" => '\\t', "\b" => '\\b', "\f" => '\\f');
$OUT{chr $_} //= sprintf '\\u%04x', $_ for 0 .. 0x1f, map { ord } qw(< > &);

sub encode {
    my ($v) = @_;
    my $type = ref $v;
    if (!$type) {
        return 'null' if !defined $v;
        $v = _fix_utf8($v) if $v =~ /[\x80-\xff]/;
        $v =~ s/(["\\<>&\x00-\x1f])/$OUT{$1}/g;
        $v =~ s/\xe2\x80([\xa8\xa9])/$1 eq "\xa8" ? '\\u2028' : '\\u2029'/ge;
        return qq("$v");
    }
    if ($type eq 'AuthDouble::Json::Obj') {
        my @out;
        for (my $i = 0; $i < @$v; $i += 2) {
            push @out, encode($v->[$i]) . ':' . encode($v->[$i + 1]);
        }
        return '{' . join(',', @out) . '}';
    }
    return $$v if $type eq 'AuthDouble::Json::Bool';
    return $$v if $type eq 'AuthDouble::Json::Raw';
    return _number($$v) if $type eq 'AuthDouble::Json::Num';
    return '[' . join(',', map { encode($_) } @$v) . ']' if $type eq 'ARRAY';
    return '{' . join(',', map { encode($_) . ':' . encode($v->{$_}) }
        sort keys %$v) . '}' if $type eq 'HASH';
    die "cannot encode a $type";
}

# a float64 as Go writes it: shortest digits, exponent only when far out
sub _number {
    my ($n) = @_;
    return $n if $n =~ /^-?[0-9]{1,15}\z/ && $n ne '-0';
    my $digits;
    for my $p (0 .. 16) {
        $digits = sprintf "%.${p}e", $n;
        last if $digits == $n;
    }
    my ($sign, $m, $e) = $digits =~ /^(-?)([0-9.]+)e([-+][0-9]+)\z/ or return 0;
    $e += 0;
    (my $d = $m) =~ s/\.//;
    return $sign . '0' if $d =~ /^0+\z/;
    if ($e < -6 || $e >= 21) {
        return $sign . $m . 'e' . ($e < 0 ? '-' : '+')
            . (abs $e < 10 && $e > 0 ? '0' : '') . abs $e;
    }
    return $sign . '0.' . ('0' x (-$e - 1)) . $d if $e < 0;
    return $sign . $d . ('0' x ($e + 1 - length $d)) if $e + 1 >= length $d;
    return $sign . substr($d, 0, $e + 1) . '.' . substr($d, $e + 1);
}

# ordered objects become maps (Go's JSONMap: sorted when written, last wins)
sub plain {
    my ($v) = @_;
    if (ref $v eq 'AuthDouble::Json::Obj') {
        my %h;
        for (my $i = 0; $i < @$v; $i += 2) {
            $h{$v->[$i]} = plain($v->[$i + 1]);
        }
        return \%h;
    }
    return [map { plain($_) } @$v] if ref $v eq 'ARRAY';
    return $v;
}

sub truthy {
    my ($v) = @_;
    return 0 if !defined $v;
    $v = $$v if ref($v) =~ /\AAuthDouble::Json::(?:Bool|Num)\z/;
    return ref $v || ($v ne '' && $v ne '0' && $v ne 'false') ? 1 : 0;
}

sub _kind {
    my ($v) = @_;
    my $type = ref $v;
    return 'string' if !$type;
    return 'number' if $type eq 'AuthDouble::Json::Num';
    return 'bool'   if $type eq 'AuthDouble::Json::Bool';
    return $type eq 'ARRAY' ? 'array' : 'object';
}

# bind_struct($value, $fields, $name): what json.Unmarshal does to a struct.
# $fields: {member => 'string' | 'bool' | 'map' | {nested struct}}. Names match without
# case, the last one counts, null leaves a string alone and empties a map.
sub bind_struct {
    my ($v, $fields, $name, $out) = @_;
    $out //= {};
    return $out if !defined $v;
    die 'json: cannot unmarshal ' . _kind($v) . " into Go value of type $name\n"
        if ref $v ne 'AuthDouble::Json::Obj';
    my $wrong;
    for (my $i = 0; $i < @$v; $i += 2) {
        my $key = exists $fields->{$v->[$i]} ? $v->[$i] : lc $v->[$i];
        my $want = $fields->{$key} or next;
        my $x = $v->[$i + 1];
        if (ref $want) {
            next if !defined $x;
            $out->{$key} = bind_struct($x, $want, $key, $out->{$key});
        }
        elsif ($want eq 'bool' && ref $x eq 'AuthDouble::Json::Bool') {
            $out->{$key} = $$x eq 'true' ? 1 : 0;
        }
        elsif (!defined $x) { delete $out->{$key} if $want eq 'map' }
        elsif ($want eq 'string' && !ref $x) { $out->{$key} = $x }
        elsif ($want eq 'map' && ref $x eq 'AuthDouble::Json::Obj') {
            $out->{$key} = {%{$out->{$key} || {}}, %{plain($x)}};
        }
        else {
            $wrong //= 'json: cannot unmarshal ' . _kind($x)
                . " into Go struct field $name.$key of type "
                . ($want eq 'map' ? 'map[string]interface {}' : $want) . "\n";
        }
    }
    die $wrong if $wrong;
    return $out;
}

1;
