# The status page in a real browser: it can be read on a phone and on a desk,
# says what is wrong while a dependency is down, and loads itself again.

use UserSync::Test;
use UserSync::Browser;
use UserSync::Event qw($LIFE_LINES event_body event_lines life_sql);
use UserSync::Gate qw(as_user guarded new_id);
use UserSync::Hook qw(call_hook hook_server secret_of sign_hook token_body);
use UserSync::Outage;
use UserSync::Proxied qw(proxied);

plan skip_all => 'no chromium: t/install-deps browser installs it'
    if !UserSync::Browser::program() && !$ENV{CI};

# Where make screenshots wants them.
my $SHOTS = $ENV{USERSYNC_SCREENSHOTS};

my $pg = own_postgres();
$pg->sql(app => $_) for life_sql();
my $httpd = outage_lines(hook_server($pg->dsn('app'),
    mpm() eq 'prefork' ? (children => 16) : (children => 1, threads => 24),
    modules => ['authn_anon'],
    config => module_config(
        (map { $_ => undef } qw(DBDriver DBDParams DBDMin DBDKeep DBDMax)),
        UserSyncForwardClientIP => 'X-Forwarded-For',
        UserSyncStoreTimeout    => '500ms',
        UserSyncMaxConcurrent   => 12,
        UserSyncCircuitBreaker  => '2 60s') . $LIFE_LINES
        . event_lines('/event') . guarded('/app', 'UserSyncEnsure On')
        . proxied() . <<'CONF'));
ServerName app.example.com
<Location "/usersync-status">
    SetHandler usersync-status
</Location>
CONF
mkdir $httpd->dir . '/htdocs/app';
spew($httpd->dir . '/htdocs/app/file', "a file\n");
$httpd->allow_log($_) for qr/usersync-\w+: (?:store_una|upstream_|invalid_)/,
    qr/usersync-gate: user_not_identified/, qr/US012: /;
$httpd->start;
my @people = people(12);

# Everything that a site in use has.
sub use_all {
    login($httpd, $_) for @people, @people[0 .. 5];
    login($httpd, { %{ $people[0] }, password => 'wrong' }) for 1 .. 3;
    post($httpd->url('/auth/register'), { email => 'new@example.com',
        password => 'correct horse' });
    my $ids = [map { new_id() } 1 .. 4];
    call_hook($httpd, token_body(sub => $_)) for @$ids;
    post($httpd->url('/event'), $_, sign_hook($_))
        for map { event_body(id => $_) } @$ids;
    get($httpd->url('/app/file'), as_user($_)) for @$ids, @$ids, 'nobody';
    post($httpd->url('/auth/v1/token?grant_type=password'),
        { email => $_->{email}, password => $_->{password} },
        apikey => double->key) for @people[0 .. 7];
    call_hook($httpd, token_body(), secrets => secret_of(24));
    return;
}

my %browser = map { $_ => UserSync::Browser->start(scheme => $_) }
    qw(light dark);

# Looks at the page on a phone and on a desk; true things are shown on both.
sub look {
    my ($name, @shown) = @_;
    for my $screen ([phone => 390, 844, 'light'], [desk => 1280, 800, 'light'],
        [night => 390, 844, 'dark'], [small => 320, 568, 'light']) {
        my ($what, $width, $height, $scheme) = @$screen;
        my $page = $browser{$scheme};
        $page->size($width, $height);
        $page->open($httpd->url('/usersync-status'));
        is $page->value('document.documentElement.scrollWidth'), $width,
            "$name, $what: nothing is wider than the screen";
        is $page->value(<<'JS'), '', "$name, $what: nor than what it is in";
[...document.querySelectorAll('body *')].filter(e =>
    e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).display != 'inline')
    .map(e => e.tagName + ' ' + e.textContent.slice(0, 40)).join('; ')
JS
        my $text = $page->value('document.body.innerText');
        like $text, $_, "$name, $what: says $_" for @shown;
        next if !$SHOTS;
        $page->screenshot("$SHOTS/$name-$what.png");
        # what is seen first
        $page->screenshot("$SHOTS/$name-$what-top.png", $height);
    }
    return;
}

sub is_checked {
    my ($status) = @_;
    my $last;
    return ok +(wait_until {
        $last = get($httpd->url('/usersync-status?check'), -timeout => 5);
        note show($last), " $last->{elapsed} s" if $last->{elapsed} > 1;
        $last->{status} == $status;
    } 20), "a check answers $status" or diag show($last);
}

use_all();
look('healthy', qr/^mod_usersync.*all well/s, qr/up/);

subtest 'it loads itself again' => sub {
    my $page = $browser{light};
    $page->open($httpd->url('/usersync-status'));
    login($httpd, $people[0]) for 1 .. 2;
    my $login = sub {
        my ($n) = $page->value(q{document.querySelector('#login').innerText})
            =~ /\bok\s+(\d+)/;
        return $n;
    };
    my $before = $login->();
    $page->wait_reload;
    is $login->(), $before + 2, 'and shows what has come since';
};

subtest 'PostgreSQL is down' => sub {
    $pg->stop('immediate');
    login($httpd, $people[0]) for 1 .. 2;
    get($httpd->url('/app/file'), as_user(new_id()));
    is_checked(503);
    look('postgresql-down', qr/^mod_usersync.*needs a look/s, qr/down/,
        qr/store_unavailable/);
    $pg->start;
    is_checked(200);
};

subtest 'Supabase is down' => sub {
    double->fault(kind => 'refuse');
    wait_until {
        post($httpd->url('/auth/login'), { email => $_->{email},
            password => $_->{password} }, -from => '127.0.0.' . (2 + int rand 200))
            for @people;
        get($httpd->url('/usersync-status?format=json'))->{body}
            =~ /"open":true/;
    } 20, 'the circuit to open';
    look('supabase-down', qr/^mod_usersync.*needs a look/s,
        qr/login.*circuit open/s, qr/next try in \d+ s/,
        qr/upstream_unavailable/);
    double->clear_faults;
};

$_->stop for values %browser;
$httpd->stop;
$pg->stop;

done_testing;
