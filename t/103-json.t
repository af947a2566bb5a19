# What is JSON and what is not: RFC 8259 to the letter, on both routes. Nothing
# that is refused here reaches Supabase.

use UserSync::Test;
use UserSync::Contract;

my @routes = ('/auth/register', '/auth/login');

# An object that is valid except for an inserted member or trailing text.
my $members = '"email":"ada@example.com","password":"correct horse"';
sub with   { my ($value) = @_; return qq({$members,"x":$value}) }
sub string { my ($bytes) = @_; return with(qq("$bytes")) }

my @refused = (
    # numbers and words
    (map { ["number $_" => with($_)] } qw(
        NaN Infinity -Infinity 1. .5 +1 01 -01 00 1e 1e+ 1.e1 0x10 - --1 -a
        1_000 1.2.3), '1,5', '- 1'),
    (map { ["word $_" => with($_)] } qw(
        undefined True FALSE nul nulll NULL tru t None nan)),
    # strings
    ['single quotes' => with("'x'")],
    ['all in single quotes' => "{'email':'a\@b.c','password':'x'}"],
    ['no quotes' => '{email:"a@b.c",password:"x"}'],
    ['a key that is no string' => '{1:2}'],
    ['a raw newline' => string("a\nb")],
    ['a raw tab' => string("a\tb")],
    ['a raw control character' => string("a\x01b")],
    ['a raw escape character' => string("a\x1fb")],
    ['a raw NUL' => string("a\0b")],
    ['U+0000' => string('a\u0000b')],
    ['U+0000 in a name' => with('{"a\u0000b":1}')],
    ['U+0000 in the password' =>
        '{"email":"ada@example.com","password":"cut\u0000off"}'],
    ['U+0000 in the e-mail' =>
        '{"email":"ada@example.com\u0000","password":"x"}'],
    ['U+0000 in a data value' =>
        qq({$members,"data":{"a":["\\u0000"]}})],
    (map { ["escape $_" => string($_)] } '\x41', '\u12', '\u12G4', '\uD8',
        '\\\'', '\a', '\0', '\U0041', '\ '),
    ['no end' => qq({$members,"x":"abc)],
    ['a backslash at the end' => qq({$members,"x":"abc\\)],
    # UTF-8
    ['a stray byte' => string("a\xffb")],
    ['a continuation byte alone' => string("a\x80b")],
    ['a sequence without an end' => string("a\xc3")],
    ['a sequence cut by a character' => string("a\xe2\x82b")],
    ['Latin-1' => string("caf\xe9")],
    ['overlong, two bytes' => string("\xc0\xaf")],
    ['overlong, three bytes' => string("\xe0\x80\xaf")],
    ['overlong, four bytes' => string("\xf0\x80\x80\xaf")],
    ['overlong NUL' => string("\xc0\x80")],
    ['a surrogate in bytes' => string("\xed\xa0\x80")],
    ['a pair of surrogates in bytes' =>
        string("\xed\xa0\xbd\xed\xb8\x80")],
    ['above U+10FFFF' => string("\xf4\x90\x80\x80")],
    ['five bytes' => string("\xf8\x88\x80\x80\x80")],
    ['invalid UTF-8 in a name' => qq({$members,"\xff":1})],
    ['invalid UTF-8 in the password' =>
        qq({"email":"ada\@example.com","password":"\xff\xff\xff\xff"})],
    ['invalid UTF-8 in data' => qq({$members,"data":{"a":"\xff"}})],
    ['invalid UTF-8 between tokens' => qq({$members\xc2\xa0})],
    ['UTF-16' => join '', map {"$_\0"} split //, "{$members}"],
    ['a byte order mark' => "\xef\xbb\xbf{$members}"],
    # commas, colons, brackets
    ['a trailing comma' => "{$members,}"],
    ['a trailing comma in a list' => with('[1,]')],
    ['a trailing comma inside' => with('{"a":1,}')],
    ['a leading comma' => "{,$members}"],
    ['two commas' => qq({$members,,"x":1})],
    ['a comma alone' => '{,}'],
    ['no comma' => qq({$members "x":1})],
    ['no comma in a list' => with('[1 2]')],
    ['no colon' => qq({$members,"x" 1})],
    ['an equals sign' => qq({$members,"x"=1})],
    ['no value' => qq({$members,"x":})],
    ['a name alone' => qq({$members,"x"})],
    ['the wrong bracket' => with('[1}')],
    ['one bracket more' => "{$members}}"],
    ['one bracket less' => with('{"a":1')],
    ['cut off' => substr "{$members}", 0, 40],
    # what is not in JSON at all
    ['a line comment' => "{$members // x\n}"],
    ['a block comment' => "{$members /* x */}"],
    ['a comment in front' => "/* x */{$members}"],
    ['a shell comment' => "{$members # x\n}"],
    ['a vertical tab' => "{$members\x0b}"],
    ['a form feed' => "{$members\x0c}"],
    ['a NUL between tokens' => "{$members\0}"],
    ['a NUL at the end' => "{$members}\0"],
    ['a function' => with('alert(1)')],
    # more or less than one object
    ['garbage behind' => "{$members} x"],
    ['a comma behind' => "{$members},"],
    ['two objects' => "{$members}{$members}"],
    ['two objects on lines' => "{$members}\n{$members}\n"],
    ['garbage in front' => "x{$members}"],
    ['a prefix against XSSI' => ")]}',\n{$members}"],
    ['a list' => "[{$members}]"],
    ['an empty list' => '[]'],
    ['a string' => '"email"'],
    (map { ["$_ alone" => $_] } qw(null true false 0 1e5), '""'),
    ['blanks' => "  \r\n\t "],
    ['a form' => 'email=ada%40example.com&password=x'],
    ['XML' => '<email>ada@example.com</email>'],
    # depth
    ['deep lists' => with('[' x 4000 . ']' x 4000)],
    ['deep lists without an end' => with('[' x 8000)],
    ['deep objects' => with('{"a":' x 1000 . '1' . '}' x 1000)],
    ['deep objects without an end' => '{"a":' x 1600],
    ['deep in data' => qq({$members,"data":)
        . '{"a":' x 1000 . '1' . '}' x 1001],
);

subtest "refused at $_" => sub {
    my ($path) = @_;
    for my $case (@refused) {
        my ($name, $body) = @$case;
        problem_ok post($path, $body), 400, 'invalid_request', $name;
    }
    not_asked_ok;
}, $_ for @routes;

# The other side: all JSON is accepted. Unknown members are ignored, so their
# values do not affect what is sent.
my @accepted = (
    (map { ["number $_" => with($_)] } qw(
        0 -0 1 -1 10 1.5 0.5 -0.5e10 1e5 1E5 1e+5 1e-5 1.25E-2 1e400 -1e400
        123456789012345678901234567890 0.1234567890123456789012345
        -9223372036854775809 18446744073709551616)),
    (map { ["word $_" => with($_)] } qw(null true false)),
    ['a string' => string('a')],
    ['an empty string' => string('')],
    ['an empty name' => qq({$members,"":1})],
    ['an empty object and list' => with('{"a":{},"b":[]}')],
    ['all escapes' => string('\" \\\\ \/ \b \f \n \r \t \u00e9 \uD83D\uDE00')],
    ['a backslash in front of u0000' => string('\\\\u0000')],
    ['two and then U+0041' => string('\\\\\\\\\u0041')],
    ['U+007F' => string("\x7f")],
    ['U+0080' => string("\xc2\x80")],
    ['U+07FF, U+0800' => string("\xdf\xbf\xe0\xa0\x80")],
    ['U+D7FF, U+E000' => string("\xed\x9f\xbf\xee\x80\x80")],
    ['U+FEFF inside' => string("\xef\xbb\xbf")],
    ['U+FFFF' => string("\xef\xbf\xbf")],
    ['U+10000, U+10FFFF' => string("\xf0\x90\x80\x80\xf4\x8f\xbf\xbf")],
    ['U+2028' => string("\xe2\x80\xa8")],
    ['a name beyond ASCII' => qq({$members,"\xc3\xa9":1})],
    ['blanks everywhere' => join " \t\r\n", '', '{',
        (map { /\S/ ? $_ : () } split /([,:])/, $members), ',', '"x"', ':',
        '[', '1', ',', '2', ']', '}', ''],
    ['no blanks' => "{$members}"],
    ['another order' => '{"x":[{"email":1}],"password":"correct horse",'
        . '"y":{"password":2},"email":"ada@example.com"}'],
    ['depth that people use' => with('[' x 20 . ']' x 20)],
    ['a thousand members' => with('{'
        . join(',', map {qq("m$_":$_)} 1 .. 500) . '}')],
);

subtest 'accepted' => sub {
    double->add_user(email => 'ada@example.com', password => 'correct horse');
    for my $case (@accepted) {
        my ($name, $body) = @$case;
        success_ok post('/auth/login', $body), $name, session => 1;
    }
    my %sent = map { $_->{body} => 1 } double->requests;
    is_deeply [keys %sent], ["{$members}"], 'and the same was always sent';
};

done_testing;
