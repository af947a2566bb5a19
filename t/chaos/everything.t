# 10 000 requests while everything fails in turn and at the same time:
# Supabase, PostgreSQL and httpd itself. Every single reply is a documented one
# and comes in time; in the end exactly the users have a row for whom Supabase
# has answered.

use UserSync::Test;
use UserSync::Chaos;
use UserSync::Outage;

use constant CLIENTS  => 24;
use constant FEW      => 8; # fewer than UserSyncMaxConcurrent lets
use constant RATE     => 120; # per second
use constant CONNECT_TIMEOUT => 2;

my %DEADLINE = (login => 1, register => 1.5, store => 1);

# ---- the three that fail

my $pg = own_postgres();
my $supabase = UserSync::Double->start(
    dir => UserSync::Util::new_dir('double'), config => {
        autoconfirm => JSON::PP::true, reuse_tokens => JSON::PP::true,
        record_requests => JSON::PP::false });
my $httpd = own_httpd($pg, workers => CLIENTS, children => 2, set => {
    UserSyncSupabaseURL     => $supabase->url,
    UserSyncTimeout         => 1000 * $DEADLINE{login} . 'ms',
    UserSyncRegisterTimeout => 1000 * $DEADLINE{register} . 'ms',
    UserSyncConnectTimeout  => '500ms',
    UserSyncStoreTimeout    => 1000 * $DEADLINE{store} . 'ms',
    UserSyncMaxConcurrent   => '50%',
    UserSyncCircuitBreaker  => '5 1s',
}, config => "ServerLimit 100\nTimeout 20\n");
$httpd->allow_log($_) for
    qr/usersync-(?:login|register): (?:upstream_\w+|outcome_unknown|busy)\b/,
    qr/usersync-(?:login|register): (?:store_unavailable|over_\w+)\b/,
    qr/\[dbd:error\]/, qr/US012: /, qr/exit signal Killed/,
    qr/AH03490: scoreboard is full/,
    qr/AH1039[23]: children are killed successively/;
$httpd->start;

# ---- the clients, and the answers they may get

sub user { return { email => "$_[0]\@example.com", password => password } }

my @members   = map { user("member$_") } 0 .. 199;
my @strangers = map { user("stranger$_") } 0 .. 19; # guess passwords only
my @silent    = map { user("silent$_") } 0 .. 19;   # never come
my %id_of = map {
    $_->{email} => $supabase->add_user(%$_)->{id}
} @members, @strangers, @silent;

# Before the body is read: no request is admitted.
my $NOT_NOW = '503 (?:busy|upstream_unavailable|store_unavailable)';
my $EITHER = "$NOT_NOW|502 upstream_rejected_key|429 over_request_rate_limit";
my %ALLOWED = (
    login    => "200|$EITHER|502 upstream_bad_answer|504 upstream_timeout",
    guess    => "401 invalid_credentials|$EITHER|502 upstream_bad_answer"
        . '|504 upstream_timeout',
    register => "200|$EITHER|50[24] outcome_unknown",
    wrong    => "400 invalid_request|$NOT_NOW",
    get      => '405 method_not_allowed',
);
my $LOST = 'closed|cut off|Connection reset by peer|Broken pipe';

my $login    = $httpd->url('/auth/login');
my $register = $httpd->url('/auth/register');

sub request_of {
    my ($number) = @_;
    my $dice = rand;
    if ($dice < 0.75) {
        my $member = pick(@members);
        return ([POST => $login, $member], "login $member->{email}");
    }
    if ($dice < 0.85) {
        my $user = user("new$number");
        return ([POST => $register, $user], "register $user->{email}");
    }
    if ($dice < 0.93) {
        my $stranger = pick(@strangers);
        return ([POST => $login, { %$stranger, password => 'guessed' }],
            "guess $stranger->{email}");
    }
    return ([POST => $login, { email => 'nobody' }], 'wrong')
        if $dice < 0.97;
    return ([GET => $login], 'get');
}

# ---- the failures: each returns how to repair it

sub supabase_does {
    my (%fault) = @_;
    return sub {
        $supabase->fault(%fault, times => -1);
        return sub { $supabase->clear_faults };
    };
}

sub frozen {
    my (@pids) = @_;
    $pg->stop_backend(@pids) if @pids;
    return sub { $pg->cont };
}

my %SUPABASE = (
    (map { $_ => supabase_does(kind => $_) } qw(refuse hang_before
        hang_after_headers hang_accept close close_after_commit reset cut
        garbage empty huge truncate_json html redirect chunked close_idle
        endless_headers)),
    'a byte now and then' => supabase_does(kind => 'drip', interval_ms => 20),
    'a page with 200' => supabase_does(kind => 'html', status => 200),
    'more announced than sent' =>
        supabase_does(kind => 'wrong_length', delta => 20),
    'a little late' => supabase_does(kind => 'delay', ms => 200),
    (map { my $status = $_;
        ("a bare $status" => supabase_does(kind => 'status',
            status => $status, body => '')) } 500, 503, 599),
    '500 with a code' => supabase_does(kind => 'status', status => 500,
        headers => { 'x-sb-error-code' => 'unexpected_failure' },
        body => { code => 'unexpected_failure', msg => 'x' }),
    'rate limited' => supabase_does(kind => 'status', status => 429,
        body => { code => 'over_request_rate_limit', msg => 'x' }),
    'the key is refused' => supabase_does(kind => 'fixture',
        file => 'gw_hosted_invalid_api_key.json'),
    'Supabase restarts' => sub { $supabase->restart; return sub { } },
);

my %POSTGRES = (
    'backends killed' =>
        sub { $pg->terminate_backends('app'); return sub { } },
    'a backend frozen' => sub { frozen(pick($pg->backends('app')) // ()) },
    'all backends frozen' => sub { frozen($pg->backends('app')) },
    'the postmaster frozen' => sub { frozen($pg->pid) },
    'the postmaster frozen, no connections' => sub {
        $pg->terminate_backends('app');
        return frozen($pg->pid);
    },
    'a crash' => sub { $pg->crash; return sub { $pg->start } },
    'a fast restart' => sub { $pg->restart('fast'); return sub { } },
    'an immediate stop' =>
        sub { $pg->stop('immediate'); return sub { $pg->start } },
    'the table locked' => sub {
        my $lock = $pg->connect('app');
        $lock->begin_work;
        $lock->do('LOCK TABLE users IN ACCESS EXCLUSIVE MODE');
        return sub { $lock->rollback; $lock->disconnect };
    },
);

my @kills; # [from, to]: what a killed child had is lost
my %HTTPD = (
    'a graceful restart' => sub { $httpd->graceful; return sub { } },
    'a child killed' => sub {
        my $child = pick($httpd->children) or return sub { };
        my $from = time;
        kill 'KILL', $child;
        wait_until { !-d "/proc/$child" } 20, 'httpd to see it';
        push @kills, [$from, time];
        return sub { };
    },
);

# PostgreSQL and Supabase sometimes fail at the same time.
sub go_wrong {
    my ($count) = @_;
    my @sides = chance(0.15) ? (\%HTTPD)
        : chance(0.25)       ? (\%SUPABASE, \%POSTGRES)
        : chance(0.6)        ? (\%SUPABASE) : (\%POSTGRES);
    my @mend;
    for my $side (@sides) {
        my $what = pick(sort keys %$side);
        my $start = time;
        push @mend, $side->{$what}->();
        push @{ $count->{$what} }, time - $start;
    }
    sleep rand(chance(0.2) ? 2.5 : 0.5); # so long
    $_->() for reverse @mend;
    return;
}

# ---- the run

my $requests = scaled(2000, 10_000);
my $load = UserSync::Load->start(clients => CLIENTS, keep => 1,
    rate => RATE, most => $requests, request => \&request_of);
my %count;
until ($load->is_done) {
    go_wrong(\%count);
    sleep rand(0.4); # all is well that long
}
my $seen = $load->finish;
note summary($seen);
note sprintf '%d x %s, %.3f s at the most', scalar @{ $count{$_} }, $_,
    (sort { $b <=> $a } @{ $count{$_} })[0] for sort keys %count;

is $seen->{count}, $requests, 'all requests were made';

sub is_documented {
    my ($reply) = @_;
    my ($what) = $reply->{who} =~ /^(\w+)/;
    return 1 if $reply->{kind} =~ /^(?:$ALLOWED{$what})$/;
    return $reply->{kind} =~ /^(?:$LOST)$/ && grep {
        $reply->{ended} >= $_->[0] && $reply->{opened} <= $_->[1]
    } @kills;
}

my @replies = @{ $seen->{replies} };
my @undocumented = grep { !is_documented($_) } @replies;
is_deeply \@undocumented, [], 'every reply is a documented one'
    or diag explain \@kills;

# httpd may be starting children when a request comes
my $bound = $DEADLINE{register} + $DEADLINE{store} + CONNECT_TIMEOUT + slack;
my @late = grep { $_->{ended} - $_->{opened} > $bound } @replies;
is_deeply \@late, [], sprintf 'every reply came within %.1f s', $bound;

# Everything works again, also for children that only know of trouble.
ok +(wait_until {
    !grep { $_->{status} != 200 } parallel(FEW,
        sub { ($login, $members[ $_[0] ]) });
} 20), 'all is well again';

# ---- the rows

my %account = map { $_->{email} => $_->{id} } $supabase->users;
my %row = map { $_->{id} => 1 } $pg->sql(app => 'SELECT id FROM users');
is_deeply [grep { !$row{$_} } map { $_->{user_id} || () } @replies], [],
    'every user with a token has a row';
my %came = map { /^(?:login|register) (.*)/ ? ($1 => 1) : () }
    map { $_->{who} } @replies;
$came{ $_->{email} } = 1 for @members[ 0 .. FEW - 1 ];
my %may = map { $account{$_} ? ($account{$_} => 1) : () } keys %came;
is_deeply [grep { !$may{$_} } keys %row], [],
    'only users for whom Supabase answered have a row';

my @all = grep { !/^(?:stranger|silent)/ } sort keys %account;
my $rest = UserSync::Load->start(clients => FEW, most => scalar @all,
    request => sub {
        my $email = $all[ $_[0] ];
        return ([POST => $login, { email => $email, password => password }],
            $email);
    })->finish;
is_deeply $rest->{by}, { 200 => scalar @all }, 'then everybody can log in'
    or diag explain $rest->{bad};
rows_ok($pg, [@account{@all}], 'and all of them, and no others, have a row');
is $id_of{ $_->{email} }, $account{ $_->{email} }, 'the id is what it was'
    for @members[0, -1];
$httpd->stop;
$supabase->stop;

done_testing;
