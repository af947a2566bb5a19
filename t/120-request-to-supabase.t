# The request as Supabase receives it: the module builds it from what it has
# understood, with nothing else of the client's request in it.

use UserSync::Test;
use UserSync::Contract;

my ($register, $login) = my @routes = ('/auth/register', '/auth/login');

# What a client may send in the hope that it is passed on.
my %hostile = (
    'Authorization'          => 'Bearer eyJhbGciOiJub25lIn0.e30.',
    'Cookie'                 => 'sb-access-token=x; session=y',
    'Referer'                => 'https://evil.example/landing',
    'Origin'                 => 'https://evil.example',
    'User-Agent'             => 'Mozilla/5.0 (X11; Linux x86_64)',
    'Accept'                 => 'text/html',
    'Accept-Encoding'        => 'gzip, br',
    'Accept-Language'        => 'de',
    'apikey'                 => 'sb_secret_of_the_client',
    'X-JWT-AUD'              => 'another-audience',
    'X-Client-Info'          => 'evil/1.0',
    'X-Supabase-Api-Version' => '2020-01-01',
    'Sb-Forwarded-For'       => '192.0.2.1',
    'X-Forwarded-For'        => '192.0.2.2',
    'X-Real-IP'              => '192.0.2.3',
    'Forwarded'              => 'for=192.0.2.4',
    'Via'                    => '1.1 proxy',
    'redirect_to'            => 'https://evil.example/',
    'X-Request-Id'           => 'of-the-client',
    'X-Forwarded-Host'       => 'evil.example',
    'Content-Language'       => 'de',
    'If-None-Match'          => '*',
    'TE'                     => 'trailers',
    'Prefer'                 => 'return=minimal',
);
my $query = '?grant_type=refresh_token&redirect_to=https://evil.example/'
    . '&apikey=sb_secret_x&captcha_token=x';

# name (lower case) => value, of the only request that has arrived
sub received {
    my @all = double->requests;
    double->clear_requests;
    is scalar @all, 1, 'one request has arrived';
    my $request = $all[0] || { headers => [] };
    my %header;
    push @{ $header{ lc $_->[0] } }, $_->[1] for @{ $request->{headers} };
    is_deeply [grep { @{ $header{$_} } > 1 } sort keys %header], [],
        'no header twice';
    return ($request, map { $_ => $header{$_}[0] } keys %header);
}

my %common = (
    'content-type'           => 'application/json',
    'accept'                 => 'application/json',
    'x-supabase-api-version' => '2024-01-01',
);

# The whole list of header names, so that none is added unnoticed.
sub headers_ok {
    my ($request, $header, @more) = @_;
    is_deeply [sort keys %$header], [sort qw(host apikey content-length
        user-agent x-client-info), keys %common, @more], 'these headers only';
    is_deeply { map { $_ => $header->{$_} } keys %common }, \%common,
        'with the values that are agreed on';
    like $header->{'user-agent'}, qr/\Amod_usersync\b/, 'User-Agent is ours';
    unlike $header->{'user-agent'}, qr/Mozilla|Apache/,
        "neither a browser's nor httpd's";
    like $header->{'x-client-info'}, qr{\Amod_usersync/\d}, 'X-Client-Info';
    is $header->{'content-length'}, length do {
        my $body = $request->{body};
        utf8::encode($body);
        $body;
    }, 'Content-Length';
    return;
}

subtest 'with a publishable key' => sub {
    for my $path (@routes) {
        my $who = credentials();
        double->add_user(%$who) if $path eq $login;
        double->clear_requests;
        success_ok post("$path$query", $who, %hostile), $path, session => 1;
        my ($request, %header) = received();
        headers_ok $request, \%header;
        is $header{apikey}, double->key('publishable'), 'our key';
        is $header{authorization}, undef, 'and no Authorization';
        is $request->{method}, 'POST', 'POST';
        is $request->{path}, $path eq $login ? '/auth/v1/token'
            : '/auth/v1/signup', 'path';
        is $request->{query}, $path eq $login ? 'grant_type=password' : '',
            "the query is not the client's";
        is_deeply $request->{json}, $who, 'the body';
    }
};

subtest 'with a legacy key, a JWT' => sub {
    for my $path (@routes) {
        my $who = credentials();
        double->add_user(%$who) if $path eq $login;
        double->clear_requests;
        success_ok post("other:$path$query", $who, %hostile), $path,
            session => 1;
        my ($request, %header) = received();
        headers_ok $request, \%header, 'authorization';
        my $key = double->key('anon');
        is $header{apikey}, $key, 'our key';
        is $header{authorization}, "Bearer $key", 'as Bearer, too';
    }
};

subtest 'the body' => sub {
    my %who = (email => 'ada@example.com', password => 'correct horse');
    my $captcha = { captcha_token => 'tok' };
    my $data = { a => [1, { b => undef }] };
    my @cases = (
        [[$register, $login], {}, {}],
        [[$register], { data => $data }, { data => $data }],
        [[$register], { data => {} }, { data => {} }],
        [[$register, $login], $captcha, { gotrue_meta_security => $captcha }],
        [[$register], { data => $data, %$captcha },
            { data => $data, gotrue_meta_security => $captcha }],
        # GoTrue accepts no data at login
        [[$login], { data => $data }, {}],
    );
    for my $case (@cases) {
        my ($paths, $more, $expected) = @$case;
        for my $path (@$paths) {
            double->fault(kind => 'close', times => -1);
            allow_log(upstream_lines());
            post($path, { %who, %$more, extra => 'x' });
            my ($request) = grep { $_->{body} } double->requests;
            double->clear_faults;
            double->clear_requests;
            is_deeply $request->{json}, { %who, %$expected },
                join ' ', "$path with", sort keys %$more;
            is scalar(() = $request->{body} =~ /"(?:email|password)":/g), 2,
                'e-mail and password are in it once';
        }
    }
};

# Neither a header nor a request line can be injected.
subtest 'what looks like HTTP stays in the JSON' => sub {
    my $evil = "x\r\nX-Evil: 1\r\n\r\nGET /evil HTTP/1.1\r\n\r\n";
    for my $path (@routes) {
        double->fault(kind => 'fixture', file => 'err_bad_json.v2024.json',
            times => -1);
        post($path, { email => 'a@b.c', password => $evil,
            captcha_token => $evil, data => { $evil => $evil } });
        my ($request, %header) = received();
        headers_ok $request, \%header;
        is $request->{json}{password}, $evil, 'the password is as it was';
        double->clear_faults;
    }
};

# ---- which address is forwarded

my $server = UserSync::Httpd->new(
    modules => ['remoteip'],
    config  => module_config()
        . "RemoteIPHeader X-Client\nRemoteIPInternalProxy 127.0.0.1\n",
    vhosts  => {
        off => 'UserSyncForwardClientIP Off',
        sb  => "UserSyncForwardClientIP Sb-Forwarded-For\n"
            . "UserSyncSupabaseKey file:$ENV{USERSYNC_RUN}/secret.key",
        x   => 'UserSyncForwardClientIP X-Forwarded-For',
        path => 'UserSyncSupabaseURL ' . double->url . '/auth/v1/',
        name => 'UserSyncSupabaseURL http://localhost:' . double->port,
    },
)->start;
# a secret key disables captcha
$server->allow_log(qr/usersync:warn\].*UserSyncSupabaseKey/);

subtest 'the address of the client' => sub {
    my %name = (off => [], sb => ['sb-forwarded-for'],
        x => ['x-forwarded-for']);
    my $who = credentials();
    double->add_user(%$who);
    for my $vhost (sort keys %name) {
        for my $address (undef, '203.0.113.9', '2001:db8::1',
            '::ffff:203.0.113.9') {
            for my $path (@routes) {
                double->clear_requests;
                post($server->url($path, $vhost), $who, %hostile,
                    'X-Client' => $address);
                my ($request, %header) = received();
                headers_ok $request, \%header, @{ $name{$vhost} };
                my $expected = $address || '127.0.0.1';
                $expected =~ s/^::ffff://;
                like $header{ $name{$vhost}[0] }, qr/\A(?:::ffff:)?
                    \Q$expected\E\z/x, "$vhost: $expected"
                    if @{ $name{$vhost} };
            }
        }
    }
};

subtest 'the URL' => sub {
    my $who = credentials();
    double->add_user(%$who);
    for my $vhost (qw(path name)) {
        double->clear_requests;
        success_ok post($server->url($login, $vhost), $who), $vhost;
        my ($request, %header) = received();
        is $request->{path}, '/auth/v1/token', '/auth/v1 once';
        is $header{host}, ($vhost eq 'name' ? 'localhost' : '127.0.0.1')
            . ':' . double->port, 'Host';
    }
};

subtest 'connections' => sub {
    my $who = credentials();
    double->add_user(%$who);
    double->clear_requests;
    for (1 .. 40) {
        post($login, $who);
        post($register, $who) if $_ % 4 == 0;
    }
    my (%seen, @again, $reused);
    for my $request (double->requests) {
        my $before = $seen{ $request->{connection} }++;
        push @again, $request->{connection}
            if $before && $request->{op} eq 'signup';
        $reused++ if $before && $request->{op} eq 'token';
    }
    is_deeply \@again, [], 'each sign-up has a fresh one';
    ok $reused, 'logins share theirs';
};

done_testing;
