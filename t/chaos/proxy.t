# Thousands of requests of Supabase's own clients through mod_proxy, by every
# way to a session, while Supabase, PostgreSQL and httpd fail at random. Whoever
# gets a token had a row before; answers that carry nobody are what mod_proxy
# alone gives, byte for byte; each request is answered in time.

use UserSync::Test;
use UserSync::Background;
use UserSync::Chaos;
use UserSync::Doors;
use UserSync::Outage;
use UserSync::Proxied;
use UserSync::Util qw(patience);
use UserSync::Ways;

use JSON::PP ();
use List::Util qw(shuffle sum0);

use constant REQUESTS => scaled(1500, 10_000);
use constant USERS    => scaled(120, 800);
use constant WORKERS  => 8;
use constant SEATS    => 20;
use constant PAUSE    => scaled(0.06, 0.03); # a client's, on average
use constant STORE    => 1; # UserSyncStoreTimeout
use constant CONNECT  => 2; # while mod_dbd connects
use constant BACKEND  => 2; # mod_proxy's timeout

my ($T, $F) = (JSON::PP::true(), JSON::PP::false());
my $SITE = 'http://127.0.0.1:3000';

# ---- the servers

my $pg = own_postgres();
my $supabase = UserSync::Double->start(
    dir => UserSync::Util::new_dir('double'), config => {
        anonymous => $T, autoconfirm => $T, record_requests => $F,
        providers => { map {
            ("p$_" => { sub => "s-$_", email => "provider$_\@example.com" })
        } 1 .. USERS } });
my %SIZE = mpm() eq 'prefork' ? (children => 24)
    : (children => 2, threads => 24);
my $forward = 'retry=0 timeout=' . BACKEND;
my $httpd = proxied_server($pg->dsn('app'), %SIZE,
    modules => ['deflate'], to => $supabase->url . '/auth/v1/',
    worker  => $forward,
    config  => module_config(
        (map { $_ => undef } qw(DBDriver DBDParams DBDMin DBDKeep DBDMax)),
        UserSyncSupabaseURL    => $supabase->url,
        UserSyncStoreTimeout   => STORE . 's',
        UserSyncTimeout        => BACKEND . 's',
        UserSyncRegisterTimeout => BACKEND . 's',
        UserSyncMaxConcurrent  => SEATS,
        UserSyncCircuitBreaker => '5 1s',
        UserSyncCacheTimeout   => '3s') # so that the table is asked, too
        . "ServerLimit 100\n",
    vhosts => { plain => proxied(to => $supabase->url . '/auth/v1/',
        worker => $forward, lines => ['UserSyncEnsureResponse Off']) });
$httpd->allow_log($_) for
    qr/usersync-(?:response|login|register|refresh): (?:store_una|upstream_)/,
    qr/usersync-\w+: (?:busy|outcome_unknown|ok, .*could not follow)\b/,
    qr/usersync-\w+: over_request_rate_limit/, qr/US012: /,
    qr/\[proxy(?:_http)?:(?:error|warn)\]/, qr/\[dbd:error\]/,
    qr/exit signal Killed/,
    qr/AH03490: scoreboard is full/, qr/\[deflate:(?:error|warn)\]/,
    qr/AH1039[23]: children are killed successively/;
$httpd->start;

# ---- the users: half of them are there before anybody signs in

my @old = map {
    my %user = (email => "old$_\@example.com", password => password);
    +{ %user, kind => 'password', is_known => 1,
        id => $supabase->add_user(%user)->{id} }
} 1 .. USERS / 2;

sub new_user {
    my ($number) = @_;
    my $kind = (qw(password mail oauth anonymous provider saml
        password))[$number % 7];
    my %user = (email => "$kind$number\@example.com", password => password);
    return { kind => $kind, $kind eq 'anonymous' ? () : %user,
        $kind eq 'provider' ? (provider => "p$number") : () };
}

my @new = map { new_user($_) } 1 .. USERS / 2;

# Those of a worker, whom nobody else signs in by a mail or a refresh token.
sub share {
    my ($worker, @all) = @_;
    return @all[grep { $_ % WORKERS == $worker } 0 .. $#all];
}

# ---- answers that carry nobody

# [name, whether the table is asked before, method, path, body, headers]
my @NOBODY = (
    ['settings', 0, GET => '/settings'],
    ['health', 0, GET => '/health'],
    ['no such path', 0, GET => '/nowhere'],
    ['no user', 0, GET => '/user'],
    ['a provider', 0, GET => '/authorize?provider=x'],
    ['a preflight', 0, OPTIONS => '/otp', undef, Origin => $SITE,
        'Access-Control-Request-Method' => 'POST'],
    ['a mail', 0, POST => '/resend', { type => 'x' }],
    ['a mail to nobody', 0, POST => '/recover', { email => 'x@example.com' },
        Origin => $SITE],
    ['a wrong method', 0, PATCH => '/settings', {}],
    ['a wrong password', 1, POST => '/token?grant_type=password',
        { email => 'x@example.com', password => 'a guess at best' }],
    ['a wrong token', 1, POST => '/token?grant_type=refresh_token',
        { refresh_token => 'abcdefghijkl' }],
    ['a wrong link', 1, GET => '/verify?type=signup&token=x'],
    ['a wrong code', 1, POST => '/verify',
        { type => 'email', email => 'x@example.com', token => '000000' }],
);

# All that a client sees of an answer, but the time.
sub seen {
    my ($response) = @_;
    return UserSync::HTTP::encode_json([$response->{status},
        $response->{reason}, $response->{body},
        map {"$_->[0]: $_->[1]"} grep { $_->[0] ne 'Date' }
            @{ $response->{header_list} }]);
}

sub ask_nobody {
    my ($vhost, $case) = @_;
    my (undef, undef, $method, $path, $body, @header) = @$case;
    return UserSync::HTTP->exchange($method,
        $httpd->url("/auth/v1$path", $vhost), $body, apikey => $supabase->key,
        'X-Supabase-Api-Version' => '2024-01-01', @header);
}

# What mod_proxy alone gives, with each configuration that the double will have.
my %PLAIN;
for my $autoconfirm ($F, $T) {
    $supabase->config(autoconfirm => $autoconfirm);
    $PLAIN{ $_->[0] }{ seen(ask_nobody('plain', $_)) } = 1 for @NOBODY;
}

# The answer is the very same, or it is clear why not: "same", "proxy" (httpd's
# own page), "refused" (our error before it is forwarded), "fault".
sub compare {
    my ($case, $response) = @_;
    my ($name, $is_guarded) = @$case;
    return 'same' if $PLAIN{$name}{ seen($response) };
    return $response->{error} if $response->{error};
    my $type = $response->{headers}{'content-type'} || '';
    return 'proxy' if $response->{status} =~ /^50[234]$/
        && $type eq 'text/html; charset=iso-8859-1';
    return 'other' if !$is_guarded;
    my $code = ref $response->{json} eq 'HASH' ? $response->{json}{code} : '';
    return 'refused' if $response->{status} == 503
        && $code =~ /^(?:store_unavailable|busy|upstream_unavailable)$/;
    return 'fault';
}

# ---- the proof: a row that was made before the answer

# Looks whom of these the table has, and keeps those who cannot be looked up
# now. A row's created_at is the beginning of its transaction.
sub look_up {
    my ($proof) = @_;
    my $db = $proof->{db} ||= eval {
        my $new = $pg->connect('app');
        $new->do(q{SET lock_timeout = '50ms'});
        $new;
    } or return;
    my @left;
    for my $holder (@{ $proof->{left} }) {
        my ($id, $time) = @$holder;
        my @row = eval {
            $db->selectrow_array('SELECT extract(epoch FROM created_at) FROM '
                . 'users WHERE id::text = ?', undef, $id);
        };
        if ($@) {
            push @left, $holder;
            delete $proof->{db} if !eval { $db->ping };
            next;
        }
        $proof->{proved}++;
        push @{ $proof->{wrong} }, join ' ', @$holder, 'row:', @row
            if !@row || $row[0] > $time;
    }
    $proof->{left} = \@left;
    return;
}

# A client has got this answer: whoever is in there must have a row by now.
sub hold_to_account {
    my ($proof, $door, $response) = @_;
    $proof->{answers}++;
    my $id = holder_of($response);
    if (!$id) {
        push @{ $proof->{wrong} }, "nobody's token at $door: " . show($response)
            if defined token_in($response);
        return;
    }
    $proof->{holders}{$id}++;
    push @{ $proof->{left} }, [$id, time, $door];
    look_up($proof);
    return;
}

# ---- one client, until the test has had enough

sub doors_for {
    my ($proof) = @_;
    return UserSync::Doors->new(double => $supabase,
        auth => $httpd->url('/auth/v1'), routes => $httpd->url('/auth'),
        lock => "$ENV{USERSYNC_RUN}/proxy.lock",
        check => sub { hold_to_account($proof, @_) });
}

sub work {
    my ($job, $worker, $seed) = @_;
    srand($seed + $worker);
    my %proof = (left => [], wrong => [], answers => 0, proved => 0,
        holders => {});
    my $doors = doors_for(\%proof);
    my @mine = share($worker, @old);
    my @new = share($worker, @new);
    my (%nobody, @other, $slowest);
    while (!$job->stopping(rand 2 * PAUSE)) {
        if (chance(0.35)) {
            my $case = pick(@NOBODY);
            my $response = ask_nobody(undef, $case);
            my $kind = compare($case, $response);
            hold_to_account(\%proof, $case->[0], $response);
            $nobody{ $case->[0] }{$kind}++;
            push @other, show($response) if $kind eq 'other' && @other < 3;
            $slowest = $response->{elapsed}
                if $response->{elapsed} > ($slowest || 0);
            next;
        }
        my $shared = chance(0.2);
        my $person = $shared ? pick(@old)
            : @new && chance(2 * USERS / REQUESTS) ? $new[0] : pick(@mine);
        my @choice = UserSync::Doors::doors_of($person, $shared);
        push @choice, 'app', $person->{access} ? 'own' : ()
            if !$shared && $person->{is_known};
        $doors->sign_in(pick(@choice), $person);
        push @mine, shift @new if @new && $new[0]{is_known};
    }
    wait_until { look_up(\%proof); !@{ $proof{left} } } 60;
    delete $proof{db};
    return { %proof, nobody => \%nobody, other => \@other,
        slowest => { %{ $doors->slowest }, 'answers with nobody' => $slowest },
        seen => $doors->seen, failed => $doors->failed,
        people => \@mine, left_over => \@new };
}

# ---- the failures: each returns how to repair it

sub frozen {
    my (@pids) = @_;
    $pg->stop_backend(@pids) if @pids;
    return sub { $pg->cont };
}

sub locked {
    my $lock = $pg->connect('app');
    $lock->begin_work;
    $lock->do('LOCK TABLE users IN ACCESS EXCLUSIVE MODE');
    return sub { $lock->rollback; $lock->disconnect };
}

sub read_only {
    my $is = 'default_transaction_read_only';
    $pg->sql(postgres => "ALTER DATABASE app SET $is = on");
    $pg->terminate_backends('app');
    return sub {
        $pg->sql(postgres => "ALTER DATABASE app RESET $is");
        $pg->terminate_backends('app');
    };
}

sub child_killed {
    my $child = pick($httpd->children) or return sub { };
    kill 'KILL', $child;
    wait_until { !-d "/proc/$child" } 20, 'httpd to see it';
    return sub { };
}

sub configured {
    my (%is) = @_;
    my %was = map { $_ => $supabase->config->{$_} } keys %is;
    $supabase->config(%is);
    return sub { $supabase->config(%was) };
}

my %STORE = (
    'an immediate restart' =>
        sub { $pg->stop('immediate'); return sub { $pg->start } },
    'a crash' => sub { $pg->crash; return sub { $pg->start } },
    'backends killed' =>
        sub { $pg->terminate_backends('app'); return sub { } },
    'all backends frozen' => sub { frozen($pg->backends('app')) },
    'the postmaster frozen' => sub { frozen($pg->pid) },
    'the table locked' => \&locked,
    'no writes' => \&read_only,
);

# What Supabase, or the way to it, may answer instead.
my @ODD = (
    (map { +{ kind => $_ } } qw(html reset cut garbage empty truncate_json
        chunked close close_after_commit wrong_length interim)),
    { kind => 'huge', bytes => 1_500_000 },
    { kind => 'cut', framing => 'chunked', size => 100 },
    { kind => 'delay', ms => 300 }, { kind => 'hang_before' },
    { kind => 'drip', bytes => 300, interval_ms => 1 },
    { kind => 'encoded' }, { kind => 'encoded', encoding => 'br' },
    { kind => 'sized', bytes => 1_100_000 },
    { kind => 'headers', set => { 'Content-Type' => 'text/plain' } },
    { kind => 'headers', set => { 'Sb-Auth-User-Id' => new_id() } },
    { kind => 'headers', set => { Location => "$SITE/#access_token=x" } },
    { kind => 'transform', set => { user => undef } },
    { kind => 'transform', set => { 'user.id' => 'x' } },
    { kind => 'status', status => 200, body => { access_token => 'x' } },
    (map { +{ kind => 'status', status => $_ } } 429, 500, 503),
);

# At the requests that may be answered with a session, which "factors" are only
# in part.
sub odd_answers {
    for (1 .. 3) {
        my $odd = pick(@ODD);
        $supabase->fault(%$odd, times => 1 + int rand 4,
            op => pick(qw(token token token signup verify callback sso oauth),
                $odd->{body} ? () : 'factors'));
    }
    return sub { $supabase->clear_faults };
}

my %OTHERS = (
    'odd answers' => \&odd_answers,
    'a graceful restart' => sub { $httpd->graceful; return sub { } },
    'a child killed' => \&child_killed,
    'Supabase restarted' =>
        sub { doors_for()->locked(sub { $_[0]->restart }); return sub { } },
    'Supabase away' => sub {
        $supabase->fault(kind => 'refuse');
        return sub { $supabase->clear_faults };
    },
    'addresses to be confirmed' => sub { configured(autoconfirm => $F) },
);

# Breaks these for so long.
sub go_wrong {
    my ($count, $seconds, @what) = @_;
    my @mend = map { ($STORE{$_} || $OTHERS{$_})->() } @what;
    $count->{$_}++ for @what;
    sleep $seconds;
    $_->() for reverse @mend;
    sleep rand(scaled(0.3, 0.6)); # all is well that long
    return;
}

sub answered {
    return scalar(() = (slurp($httpd->dir . '/outcomes') || '') =~ /\n/g);
}

# Each failure once, then pairs of them, until there were enough requests.
sub until_enough {
    my (@jobs) = @_;
    my %count;
    my @all = shuffle(sort(keys %STORE), sort(keys %OTHERS),
        ('odd answers') x 6);
    my $end = time + scaled(180, 1800) * patience();
    my $first = answered();
    until (!@all && answered() - $first >= REQUESTS) {
        die 'too few requests: ' . (answered() - $first) . "\n" if time > $end;
        die "a client has ended\n" if grep { $_->is_done } @jobs;
        my $next = shift @all || pick(sort keys %STORE);
        my $beside = !@all && chance(0.5) ? pick(sort keys %OTHERS) : undef;
        go_wrong(\%count, rand(chance(0.15) ? 2 * STORE : 0.6), $next,
            chance(0.5) && $next ne 'odd answers' ? 'odd answers' : (),
            $beside && $beside ne 'odd answers' ? $beside : ());
    }
    return \%count;
}

# ---- the run

my $start = time;
my $seed = int rand 100_000;
my @jobs = map {
    my $worker = $_;
    UserSync::Background->start(sub { work($_[0], $worker, $seed) });
} 0 .. WORKERS - 1;
my $count = until_enough(@jobs);
$supabase->clear_faults;
my @done = map { $_->result } @jobs;
my $took = time - $start;

sub merged {
    my ($what) = @_;
    my %sum;
    for my $part (map { $_->{$what} } @done) {
        for my $door (keys %$part) {
            $sum{$door}{$_} += $part->{$door}{$_} for keys %{ $part->{$door} };
        }
    }
    return \%sum;
}

sub told {
    my ($kinds) = @_;
    return join ', ', map {"$kinds->{$_} x $_"} sort keys %$kinds;
}

my %holder = map { $_ => 1 } map { keys %{ $_->{holders} } } @done;
my %slowest;
for my $part (map { $_->{slowest} } @done) {
    $slowest{$_} = $part->{$_}
        for grep { $part->{$_} > ($slowest{$_} || 0) } keys %$part;
}
my $answers = sum0(map { $_->{answers} } @done);
my $tokens = sum0(map { values %{ $_->{holders} } } @done);
note sprintf '%d answers in %.0f s; %d tokens of %d users reached clients',
    $answers, $took, $tokens, scalar keys %holder;
note 'faults: ', told($count);
my %seen = %{ merged('seen') };
note sprintf '%s, %.3f s at the most: %s', $_, $slowest{$_}, told($seen{$_})
    for sort keys %seen;
my %nobody = %{ merged('nobody') };
note "$_: ", told($nobody{$_}) for sort keys %nobody;

# ---- what the clients got

is_deeply [map { @{ $_->{left} } } @done], [], 'every token was looked at';
is_deeply [map { @{ $_->{wrong} } } @done], [],
    'whoever got a token had a row before';
is sum0(map { $_->{proved} } @done), $tokens, "$tokens of $tokens tokens";
cmp_ok $tokens, '>', REQUESTS / 5, 'which are many';
my %by;
$by{$_} += $seen{$_}{200} || 0 for keys %seen;
is_deeply [grep { !$by{$_} } qw(password refresh signup anonymous verify link
    id_token pkce callback saml app mfa own)], [], 'by every way';
cmp_ok scalar(grep {/^50[023] \w/} map { keys %$_ } values %seen), '>', 0,
    'some were withheld or refused';

is_deeply [map { @{ $_->{other} } } @done], [],
    'answers with nobody are those of mod_proxy';
my $same = sum0(map { $_->{same} || 0 } values %nobody);
my $all = sum0(map { values %$_ } values %nobody);
cmp_ok $same, '>', $all / 2, "$same of $all, byte for byte";

# before it is forwarded, Supabase, and the table again
my $bound = STORE + CONNECT + BACKEND + STORE + CONNECT + slack();
is_deeply [map {"$_: $slowest{$_}"} grep { $slowest{$_} > $bound }
    sort keys %slowest], [], sprintf 'no answer took longer than %.1f s',
    $bound;
my %LOST = map { $_ => 1 } 'closed', 'cut off', 'refused',
    'Connection reset by peer';
is_deeply [grep { !/^\d{3}\b/ && !$LOST{$_} && $_ ne 'pending' }
    map { keys %$_ } values %seen], [], 'every request was answered';

# ---- everybody signs in once more

my %before = map { $_ => 1 } $httpd->children;
$httpd->graceful;
wait_until { !grep { $before{$_} } $httpd->children } 30, 'the old children';
$supabase->config(autoconfirm => $T);

sub rows {
    return map { $_->{id} => $_->{email} // '' }
        $pg->sql(app => 'SELECT id, email FROM users');
}

my %row = rows();
my %user = map { $_->{id} => $_ } $supabase->users;
is_deeply [grep { !exists $row{$_} } sort keys %holder], [],
    'every user who has had a token still has a row';
is_deeply [grep { !$user{$_} } sort keys %row], [],
    'and every row is of a user whom Supabase has';

my %person = map { ($_->{email} || $_->{id} || '') => $_ }
    map { @{ $_->{people} }, @{ $_->{left_over} } } @done;
my %DOOR = (password => 'password', mail => 'otp', oauth => 'id_token',
    provider => 'callback', saml => 'saml', anonymous => 'refresh');
my %proof = (left => [], wrong => [], answers => 0, proved => 0,
    holders => {});
my $doors = doors_for(\%proof);
my ($probe) = @old;
ok +(wait_until { $doors->sign_in(password => $probe) } 20),
    'all is well again';
my (@silent, @failures);
for my $user (values %user) {
    my $person = $person{ $user->{email} || $user->{id} };
    if (!$person) { push @silent, $user->{id}; next }
    $supabase->change_user($user->{id}, confirmed => $T) if $user->{email};
    push @failures, [$person->{kind}, $user->{id}]
        if !$doors->sign_in($DOOR{ $person->{kind} }, $person)
        && $person->{kind} ne 'anonymous';
}
is_deeply \@failures, [], 'everybody can sign in' or diag explain $doors->seen;
is_deeply [@{ $proof{left} }, @{ $proof{wrong} }], [],
    'and each of them has a row before';
%row = rows();
%holder = (%holder, %{ $proof{holders} });
note scalar(@silent) . ' anonymous users whose answers were lost';
is_deeply [sort grep { $holder{$_} } keys %row], [sort keys %holder],
    'the users with a token are those with a row';
is_deeply [grep { !$holder{$_} && $user{$_}{email} } sort keys %row], [],
    'but for anonymous ones whose answer was lost';
is_deeply [grep { $row{$_} ne ($user{$_}{email} // '') } sort keys %holder],
    [], 'with the e-mail that they have';

# ---- all seats are free again

my $before = $supabase->stats->{requests}{token} || 0;
my $busy = () = (slurp($httpd->access_log) || '') =~ /outcome=busy/g;
$supabase->fault(kind => 'hold', op => 'token', times => -1);
my $job = UserSync::Background->start(sub {
    [map { $_->{status} } UserSync::HTTP->at_once(60, map {
        [POST => $httpd->url('/auth/v1/token?grant_type=password'),
            { email => $probe->{email}, password => password },
            apikey => $supabase->key]
    } 1 .. SEATS + 4)];
});
my $told_busy = sub {
    my $now = () = (slurp($httpd->access_log) || '') =~ /outcome=busy/g;
    return $now - $busy;
};
wait_until { $told_busy->() >= 4 } 30;
wait_until { $supabase->stats->{requests}{token} >= $before + SEATS } 30;
is $supabase->stats->{requests}{token} - $before, SEATS,
    'all seats are free again, and none too many';
$supabase->release;
is_deeply [sort @{ $job->finished }], [(200) x SEATS, (503) x 4],
    'all are answered';

$httpd->stop;
$supabase->stop;
$pg->stop;

done_testing;
