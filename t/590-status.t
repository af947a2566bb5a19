# The status page: what it counts is what clients have seen, in each of its
# formats, and what it says is true while a dependency is down.

use UserSync::Outage;
use UserSync::Test;

my $pg = own_postgres();
my $STATUS = <<'CONF';
<Location "/usersync-status">
    SetHandler usersync-status
    Require local
</Location>
<Location "/server-status">
    SetHandler server-status
</Location>
CONF
my $httpd = outage_lines(own_httpd($pg, children => 2, config => $STATUS,
    vhosts => { quiet => "UserSyncServerStatus Off\n" },
    set => { UserSyncStoreTimeout => '500ms',
        UserSyncCircuitBreaker => '2 60s' }))->start;
my @people = people(20);

sub status {
    my ($query, %header) = @_;
    return get($httpd->url('/usersync-status' . ($query || '')), %header);
}

sub json { return status('?format=json')->{json} }

# The samples of the text formats, {name{labels} => value}.
sub samples {
    my ($text) = @_;
    return { map { /^(usersync_\S+?(?:\{.*\})?) (\S+)$/ ? ($1 => $2) : () }
            split /\n/, $text };
}

# A child repeats for a second what its last look at the table has found. Once
# that second is over and $is holds without a break, all children know.
sub in_all_children {
    my ($is, $name) = @_;
    my $since;
    wait_until {
        my $now = time;
        $since = $is->() ? $since || $now : undef;
        return $since && $now - $since > 1.2;
    } 30, $name;
    return;
}

subtest 'nothing has happened yet' => sub {
    my $page = status();
    is $page->{status}, 200, 'a page';
    like $page->{headers}{'content-type'}, qr{^text/html}, 'for people';
    like $page->{body}, qr{class="well">all well<}, 'all is well';
    unlike $page->{body}, qr/<script/i, 'without scripts';
    is status('?check')->{status}, 200, 'for a load balancer';
    my $json = json();
    is_deeply [$json->{well}, $json->{requests}{login}, $json->{troubles}],
        [JSON::PP::true(), {}, []], 'and nothing is counted';
};

subtest 'what clients see is what is counted' => sub {
    my %seen;
    for my $person (@people, @people[0 .. 4]) {
        my $response = login($httpd, $person);
        $seen{ $response->{status} == 200 ? 'ok' : $response->{json}{code} }++;
    }
    for (1 .. 3) {
        my $response = login($httpd, { %{ $people[0] }, password => 'wrong' });
        $seen{ $response->{json}{code} }++;
    }
    my $sent = post($httpd->url('/auth/login'), '{');
    $seen{ $sent->{json}{code} }++;
    $seen{options}++;
    request(OPTIONS => $httpd->url('/auth/login'));
    my $json = json();
    is_deeply $json->{requests}{login}, \%seen, 'logins' or diag explain \%seen;
    is_deeply $json->{requests}{register}, {}, 'and nothing else';
    # of a child that has served nobody, DBDMax is not known
    my $some;
    wait_until { $some = json()->{tables}[0]{connections_of_child} } 10;
    is_deeply $some, { in_use => 0, most => 20 }, 'connections';
    is $json->{rows}{created}, 20, 'rows that were made';
    is $json->{seconds}{login}{count}, 28, 'answers of Supabase';
    # a child that has not seen the table yet looks before it asks Supabase
    cmp_ok $json->{seconds}{store}{count}, '>=', 25, 'looks at the table';
    my $metrics = samples(status('?format=openmetrics')->{body});
    is $metrics->{"usersync_requests_total{route=\"login\",code=\"$_\"}"},
        $seen{$_}, "the metric of $_" for sort keys %seen;
    is $metrics->{'usersync_upstream_duration_seconds_bucket{operation="login"'
            . ',le="+Inf"}'}, 28, 'a histogram';
    is $metrics->{'usersync_rows_total{result="created"}'}, 20, 'rows';
    my ($auto) = get($httpd->url('/server-status?auto'))->{body}
        =~ /^UserSyncRequests-login-ok: (\d+)$/m;
    is $auto, $seen{ok}, 'in ?auto of mod_status';
    like get($httpd->url('/server-status'))->{body}, qr{<h2>mod_usersync</h2>},
        'and a block in its page';
};

subtest 'UserSyncServerStatus' => sub {
    for my $query ('', '?auto') {
        my $page = get($httpd->url("/server-status$query", 'quiet'));
        is $page->{status}, 200, "Off: the page$query";
        unlike $page->{body}, qr/mod_usersync|UserSyncWell/, 'without us';
    }
    my ($status, $output) = UserSync::Httpd->new(
        config => "UserSyncServerStatus maybe\n")->configtest;
    isnt $status, 0, 'a bad value';
    like $output, qr/UserSyncServerStatus must be On or Off/, 'is named';
};

subtest 'servers that share a name' => sub {
    my $same = "ServerName same.example\nUserSyncSupabaseURL "
        . double->url . "\n";
    my $two = UserSync::Httpd->new(config => module_config() . $STATUS
        . join '', map {"<VirtualHost $_:\@PORT\@>\n$same</VirtualHost>\n"}
        '127.0.0.1', '127.0.0.2')->start;
    my $page = get($two->url('/usersync-status?format=openmetrics'));
    my @servers = $page->{body} =~ /^usersync_store_up\{server="([^"]*)"/mg;
    is_deeply [grep {/same/} @servers], [map { 'same.example:' . $two->port
        . $_ } '', '#2'], 'have two names' or diag explain \@servers;
    $two->stop;
};

subtest 'the formats' => sub {
    for my $case (
        ['text/html', qr{^text/html}, qr/^<!DOCTYPE html>/],
        ['application/json', qr{^application/json}, qr/^\{/],
        ['application/openmetrics-text;version=1.0.0,text/plain;q=0.5',
            qr{^application/openmetrics-text; version=1[.]0[.]0},
            qr/# EOF\n\z/],
        ['text/plain;version=0.0.4', qr{^text/plain; version=0[.]0[.]4},
            qr/^# TYPE usersync_requests_total counter$/m],
        ['*/*', qr{^text/html}, qr/^<!DOCTYPE html>/]) {
        my ($accept, $type, $body) = @$case;
        my $response = status('', Accept => $accept);
        like $response->{headers}{'content-type'}, $type, "$accept: its type";
        like $response->{body}, $body, "$accept: its body";
        is $response->{headers}{'cache-control'}, 'no-store', "$accept: fresh";
    }
    is request(POST => $httpd->url('/usersync-status'), '')->{status}, 405,
        'only to read';
    is status('/below')->{status}, 404, 'nothing is below';
};

subtest 'a graceful restart forgets nothing' => sub {
    my $before = json()->{requests}{login};
    $httpd->graceful;
    is_deeply json()->{requests}{login}, $before, 'the same counts';
};

subtest 'while PostgreSQL is away' => sub {
    $pg->stop('immediate');
    is login($httpd, $people[0])->{status}, 503, 'a login is refused';
    in_all_children(sub { status('?check')->{status} == 503 },
        'a check that fails');
    my $page = status();
    like $page->{body}, qr{class="ill">needs a look<}, 'the page says so';
    like $page->{body}, qr{class="ill">down<}, 'and what it is';
    my $json = json();
    ok !$json->{well} && !$json->{tables}[0]{up}, 'so does JSON';
    like json()->{tables}[0]{cause}, qr/PostgreSQL/,
        'with the cause, also when the look was that of a second ago';
    my ($trouble) = grep { $_->{code} eq 'store_unavailable' }
        @{ $json->{troubles} };
    is $trouble->{route}, 'login', 'the latest troubles';
    ok length $trouble->{cause}, 'with a cause';
    is samples(status('?format=prometheus')->{body})
        ->{'usersync_store_up{server="127.0.0.1"}'}, 0,
        'the metric';
    $pg->start;
    in_all_children(sub { status('?check')->{status} == 200 },
        'a check that passes');
    like status()->{body}, qr{class="well">all well<}, 'all is well again';
};

done_testing;
