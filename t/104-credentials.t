# The members of the body: which are required, their types and forms, and that
# Supabase gets what the client meant.

use UserSync::Test;
use UserSync::Contract;

my ($register, $login) = my @routes = ('/auth/register', '/auth/login');

sub utf8 { my ($text) = @_; utf8::encode($text); return $text }

# The body as Supabase got it last: bytes. Fails unless it was sent once.
sub sent {
    my @all = double->requests;
    double->clear_requests;
    return @all == 1 ? utf8($all[0]{body}) : 'sent ' . @all . ' times';
}

sub sent_json { return JSON::PP->new->utf8->decode(sent()) }

# Any answer is fine: only the request to Supabase matters.
sub send_to {
    my ($path, $body) = @_;
    double->fault(kind => 'fixture', file => 'err_bad_json.v2024.json');
    my $response = post($path, $body);
    double->clear_faults;
    return $response;
}

subtest 'missing, null, empty, of another type' => sub {
    my %good = (email => 'ada@example.com', password => 'correct horse');
    my @types = (
        ['missing'], ['null', undef], ['a number', 1], ['zero', 0],
        ['true', JSON::PP::true], ['a list', ['ada@example.com']],
        ['an object', { email => 'ada@example.com' }], ['empty', ''],
    );
    for my $path (@routes) {
        for my $field (sort keys %good) {
            for my $type (@types) {
                my ($name, @value) = @$type;
                my %body = %good;
                if (@value) { $body{$field} = $value[0] }
                else        { delete $body{$field} }
                problem_ok post($path, \%body), 400, 'invalid_request',
                    "$path: $field: $name", fields => [$field];
            }
        }
        problem_ok post($path, {}), 400, 'invalid_request',
            "$path: both missing", fields => [qw(email password)];
        problem_ok post($path, { Email => $good{email},
            PASSWORD => $good{password} }), 400, 'invalid_request',
            "$path: names in another case", fields => [qw(email password)];
        problem_ok post($path, { %good, captcha_token => $_ }), 400,
            'invalid_request', "$path: captcha_token of another type",
            fields => ['captcha_token']
            for 1, JSON::PP::false, [], {}, ['token'];
    }
    problem_ok post($register, { %good, data => $_ }), 400,
        'invalid_request', 'data that is no object', fields => ['data']
        for [], [{}], 'x', '', 1, 0, JSON::PP::true, JSON::PP::false;
    problem_ok post($register, { email => 'x', password => '', data => 1,
        captcha_token => 2 }), 400, 'invalid_request',
        'all problems are reported at once',
        fields => [qw(captcha_token data email password)];
    not_asked_ok;
};

subtest 'forms of an e-mail address' => sub {
    my @bad = (' ', "\t\n", 'ada', '@', 'ada@', '@example.com', ' @ ',
        'ada @example.com', 'ada@exam ple.com', "ada\@example.com\nx",
        "a\tda\@example.com", "ada\@example.com\x01", "\x7fada\@example.com",
        "ada\@example.com\r\nX: y", 'a' x 244 . '@example.com',
        'a' x 5000 . '@example.com');
    for my $path (@routes) {
        problem_ok post($path, { email => $_, password => 'correct horse' }),
            400, 'invalid_request', "$path: " . UserSync::HTTP::encode_json(
                substr $_, 0, 40), fields => ['email'] for @bad;
    }
    not_asked_ok;
};

subtest 'the address is trimmed and lower-cased' => sub {
    my %form = (
        'ada@example.com'                => 'ada@example.com',
        'Ada.Lovelace+tag@Example.COM'   => 'ada.lovelace+tag@example.com',
        "  ada\@example.com \t"          => 'ada@example.com',
        "\r\n ADA\@EXAMPLE.COM\n"        => 'ada@example.com',
        'a@b'                            => 'a@b',
        "o'hara!#\$%&*/=?^_`{|}~-\@x.io" => "o'hara!#\$%&*/=?^_`{|}~-\@x.io",
        'quote"back\\slash@example.com'  => 'quote"back\\slash@example.com',
        'a' x 243 . '@example.com'       => 'a' x 243 . '@example.com',
        "J\x{f6}rg\@example.com"         => "j\x{f6}rg\@example.com",
    );
    for my $path (@routes) {
        for my $email (sort keys %form) {
            send_to($path, { email => $email, password => 'correct horse' });
            is sent_json()->{email}, $form{$email}, "$path: "
                . UserSync::HTTP::encode_json(substr $email, 0, 40);
        }
    }
    my $user = double->add_user(email => 'grace@example.com',
        password => 'correct horse');
    my $response = post($login, { email => ' Grace@Example.Com ',
        password => 'correct horse' });
    success_ok $response, 'so that the user is found',
        user_id => $user->{id};
    user_row_ok $response, 'grace@example.com', 'and the row has it so';
    double->reset;
};

# The password's literal is sent on unchanged.
subtest 'passwords' => sub {
    my @literals = (
        'correct horse', ' blanks around ', '\" \\\\ \/', '\n\r\t\b\f',
        '\u0001', '\u00e9\ud83d\ude00', "\xc3\xa9\xf0\x9f\x98\x80", "\x7f",
        "caf\xc3\xa9 \\\"x\\\"", '<script>&amp;',
        '{"email":"x"}' =~ s/"/\\"/gr, '0', ' ',
    );
    for my $path (@routes) {
        for my $literal (@literals) {
            send_to($path,
                qq({"email":"ada\@example.com","password":"$literal"}));
            like sent(), qr/"password":"\Q$literal\E"/, "$path: $literal";
        }
    }
};

subtest 'the length of a password' => sub {
    # text of JSON, name; all of them 72 bytes
    my @fits = (
        ['a' x 72, '72 letters'],
        ["\xc3\xa9" x 36, '36 letters of two bytes'],
        ['\u00e9' x 36, 'the same, escaped'],
        ["\xc3\xa9\\u00e9" x 18, 'half of them escaped'],
        ["\xf0\x9f\x98\x80" x 18, '18 characters of four bytes'],
        ['\ud83d\ude00' x 18, 'the same, escaped'],
        ['\\\\' x 72, '72 backslashes'],
    );
    my $body = sub { qq({"email":"ada\@example.com","password":"$_[0]"}) };
    for my $case (@fits) {
        my ($literal, $name) = @$case;
        send_to($register, $body->($literal));
        like sent(), qr/"password":"\Q$literal\E"/, "register: $name";
        problem_ok post($register, $body->($literal . 'a')), 400,
            'invalid_request', "register: $name and one",
            fields => ['password'];
    }
    problem_ok post($register, $body->("\xc3\xa9" x 72)), 400,
        'invalid_request', 'register: 72 characters, 144 bytes',
        fields => ['password'];
    not_asked_ok;
    double->reset;

    # an imported hash may be of a longer one
    my $who = credentials(password => 'long' x 50);
    double->add_user(%$who);
    success_ok post($login, $who), 'login: 200 bytes', session => 1;
    is sent_json()->{password}, $who->{password}, 'all of which are sent';
    send_to($login, $body->('p' x 7000));
    is length sent_json()->{password}, 7000, 'login: 7000 bytes';
    my $exact = credentials(password => 'b' x 72);
    success_ok post($register, $exact), 'register: 72 bytes', session => 1;
    success_ok post($login, $exact), 'and then login', session => 1;
    double->reset;
};

subtest 'of duplicate members the last counts' => sub {
    my ($first, $last) = ('"eve@example.com"', '"ada@example.com"');
    my @bodies = (
        qq({"email":$first,"email":$last,"password":"two"}),
        qq({"password":"one","email":$last,"password":"two"}),
        qq({"email":$first,"\\u0065mail":$last,"password":"two"}),
        qq({"\\u0065mail":$first,"email":$last,"password":"two"}),
        qq({"email":$last,"password":"one","p\\u0061ssw\\u006Frd":"two"}),
        qq({"email":1,"email":$last,"password":null,"password":"two"}),
        qq({"email":$last,"password":"two","Email":$first,"PASSWORD":"one"}),
        qq({"x":{"email":$first,"password":"one"},"email":$last,)
            . qq("password":"two","y":["email",$first,"password","one"]}),
    );
    for my $path (@routes) {
        for my $body (@bodies) {
            send_to($path, $body);
            my $sent = sent();
            is $sent, qq({"email":$last,"password":"two"}), "$path: $body";
        }
        problem_ok post($path, qq({"email":$first,"email":1,"password":"x"})),
            400, 'invalid_request', 'also when it is wrong',
            fields => ['email'];
    }
    send_to($register, qq({"data":{"a":1},"email":$last,"password":"two",)
        . q("d\u0061ta":{"a":2}}));
    is_deeply sent_json()->{data}, { a => 2 }, 'data';
    not_asked_ok;
};

subtest 'unknown members go nowhere' => sub {
    my %evil = (phone => '15551234567', channel => 'sms', aud => 'x',
        code_challenge => 'x' x 43, code_challenge_method => 's256',
        gotrue_meta_security => { captcha_token => 'forged' },
        redirect_to => 'https://evil.example', Data => { a => 1 },
        user_metadata => { a => 1 }, app_metadata => { role => 'admin' },
        role => 'service_role', id => 'x', Captcha_Token => 'x');
    for my $path (@routes) {
        send_to($path, { %evil, email => 'ada@example.com',
            password => 'correct horse' });
        is_deeply sent_json(), { email => 'ada@example.com',
            password => 'correct horse' }, $path;
    }
};

subtest 'data is passed on byte for byte' => sub {
    my @data = (
        '{}', '{ }', '{"a":{"b":[{"c":[]}]}}',
        '{ "name" : "Ada",' . "\r\n\t" . '"list": [1, 2 ,3 ] }',
        '{"big":123456789012345678901234567890,"f":0.10000000000000000001,'
            . '"e":1E400,"z":-0,"one":1.0}',
        '{"esc":"\u00e9\ud83d\ude00\/\"\\\\","raw":"' . "\xc3\xa9\xf0\x9f"
            . "\x98\x80\xe2\x80\xa8" . '","del":"' . "\x7f" . '"}',
        '{"a":1,"a":2,"":null,"email":"eve@example.com","password":"x",'
            . '"data":{"data":{}}}',
        '{"brackets":"}]{[,:\"}","colon":":","comma":","}',
        '{"' . "\xc3\xbc" . '":true,"\u00fc":false}',
        '{"html":"<b>&amp;</b>"}',
        '{"m":"' . 'x' x 7000 . '"}',
    );
    for my $data (@data) {
        my $name = substr $data, 0, 40;
        for my $body (qq({"email":"ada\@example.com","data":$data,)
                . '"password":"correct horse"}',
            qq({"data" : $data , "email":"ada\@example.com",)
                . '"password":"correct horse"}',
            '{"email":"ada@example.com","password":"correct horse","data":'
                . $data . '}') {
            send_to($register, $body);
            my $sent = sent();
            ok index($sent, qq("data":$data)) > 0, $name or diag $sent;
        }
    }
    my $who = credentials(data => { full_name => "Ada \x{2603}", n => [1] });
    my $response = post($register, $who);
    success_ok $response, 'registered with data';
    my $metadata = $response->{json}{session}{user}{user_metadata};
    is_deeply [@$metadata{qw(full_name n)}], ["Ada \x{2603}", [1]],
        'which became the metadata of the user';
    double->clear_requests;
    send_to($register, qq({"email":"ada\@example.com","password":"x",)
        . '"data":null}');
    ok !(grep { $_->{body} =~ /"data"/ } double->requests),
        'null is not passed on as data';
    double->reset;
};

subtest 'captcha_token' => sub {
    double->config(captcha_token => "tok\"en \x{e9}");
    for my $path (@routes) {
        my $who = credentials(captcha_token => "tok\"en \x{e9}");
        double->add_user(email => $who->{email}, password =>
            $who->{password}) if $path eq $login;
        double->clear_requests;
        success_ok post($path, $who), "$path: the right one";
        is_deeply sent_json()->{gotrue_meta_security},
            { captcha_token => "tok\"en \x{e9}" }, 'where GoTrue looks';
        problem_ok post($path, { %$who, captcha_token => 'wrong' }), 400,
            'captcha_failed', "$path: a wrong one";
        delete $who->{captcha_token};
        problem_ok post($path, $who), 400, 'captcha_failed', "$path: none";
    }
};

done_testing;
