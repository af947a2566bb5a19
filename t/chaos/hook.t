# Thousands of tokens, by every method and at all doors, while everything fails:
# PostgreSQL, httpd, Supabase and the way between. Whoever has a token has a
# row, and nobody else has: not the ids that Supabase invents, nor those that
# it tells a hook and then changes.

use UserSync::Test;
use UserSync::Background;
use UserSync::Chaos;
use UserSync::Doors;
use UserSync::Hook;
use UserSync::Outage;
use UserSync::Relay;
use UserSync::Util qw(patience);

use JSON::PP ();
use List::Util qw(shuffle);

use constant TOKENS  => scaled(400, 10_000);
use constant USERS   => scaled(100, 1000);
use constant WORKERS => 8;
use constant PAUSE   => scaled(0.1, 0.02); # a client's, on average
use constant PROMISE => 3; # a hook answers within this
use constant TIMEOUT => 10;

my ($T, $F) = (JSON::PP::true(), JSON::PP::false());
my $TEXT = 'The user database is not available: try again later.';

# ---- the servers

my $pg = own_postgres();
my $supabase = UserSync::Double->start(
    dir => UserSync::Util::new_dir('double'), config => {
        anonymous => $T, record_requests => $F,
        # so that a busy machine changes no outcome: the module's own three
        # seconds are what is tested
        hook_timeout => 60, hook_backoff => 0.2, refresh_wait => 60 });
my $httpd = hook_server($pg->dsn('app'),
    mpm() eq 'prefork' ? (children => 24) : (children => 2, threads => 24),
    config => module_config((map { $_ => undef } qw(DBDriver DBDParams DBDMin
        DBDKeep DBDMax)), UserSyncSupabaseURL => $supabase->url,
        UserSyncTimeout => TIMEOUT . 's',
        UserSyncRegisterTimeout => TIMEOUT . 's',
        UserSyncCacheTimeout => '3s', # so that the table is asked, too
        UserSyncHookOnError => 'Deny') . "ServerLimit 100\n");
$httpd->allow_log($_) for
    qr/usersync-hook: store_unavailable\b/,
    qr/: ok, .*: the e-mail in the user's row could not follow: .*read-only/,
    qr/usersync-(?:login|register|refresh): (?:upstream_\w+|busy)\b/,
    qr/usersync-(?:login|register|refresh): store_unavailable\b/,
    qr/usersync-register: outcome_unknown\b/,
    qr/\[dbd:error\]/, qr/exit signal Killed/, qr/AH03490: scoreboard is full/,
    qr/AH1039[23]: children are killed successively/;
$httpd->start;
my $relay = UserSync::Relay->start($httpd->port);
$supabase->config(hooks => { map { $_ => { secrets => $SECRET,
    uri => 'http://127.0.0.1:' . $relay->port . '/hook' } }
    qw(custom_access_token before_user_created after_user_created) });

sub doors {
    return UserSync::Doors->new(double => $supabase,
        routes => $httpd->url('/auth'), lock => "$ENV{USERSYNC_RUN}/hook.lock");
}

# ---- the users: half of them are there before anybody signs in

sub old_user {
    my ($number) = @_;
    my %user = (email => "old$number\@example.com", password => password);
    return { %user, kind => 'password', is_known => 1,
        # their e-mail changes, to another one and back again
        moves => $number % 5 == 0,
        id => $supabase->add_user(%user)->{id} };
}

sub new_user {
    my ($number) = @_;
    my $kind = (qw(password mail oauth anonymous password))[$number % 5];
    my %user = (email => "$kind$number\@example.com", password => password);
    return { kind => $kind, $kind eq 'anonymous' ? () : %user };
}

my @old = map { old_user($_) } 1 .. USERS / 2;
my @new = map { new_user($_) } 1 .. USERS / 2;

# Those of a worker, whom nobody else signs in by a mail or a refresh token.
sub share {
    my ($worker, @all) = @_;
    return @all[grep { $_ % WORKERS == $worker } 0 .. $#all];
}

sub move {
    my ($doors, $person) = @_;
    my ($number) = $person->{email} =~ /(\d+)/;
    my $name = $person->{email} =~ /^old/ ? 'moved' : 'old';
    $doors->locked(sub {
        $_[0]->change_user($person->{id},
            email => $person->{email} = "$name$number\@example.com");
    });
    return;
}

# One client, until the test has had enough.
sub work {
    my ($job, $worker, $seed) = @_;
    srand($seed + $worker);
    my $doors = doors();
    my @mine = share($worker, @old);
    my @new = share($worker, @new);
    while (!$job->stopping(rand 2 * PAUSE)) {
        my $shared = chance(0.2);
        my $person = $shared ? pick(grep { !$_->{moves} } @old)
            : @new && chance(1.2 * USERS / TOKENS) ? $new[0] : pick(@mine);
        move($doors, $person) if !$shared && $person->{moves} && chance(0.3);
        my $door = pick(UserSync::Doors::doors_of($person, $shared));
        $doors->sign_in($door, $person);
        push @mine, shift @new if @new && $new[0]{is_known};
    }
    return { (map { $_ => $doors->$_ } qw(seen slowest failed)),
        people => \@mine, left => [@new] };
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

sub unconfirmed {
    $supabase->config(autoconfirm => $F);
    return sub { $supabase->config(autoconfirm => $T) };
}

my %POSTGRES = (
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
my %OTHERS = (
    'a graceful restart' => sub { $httpd->graceful; return sub { } },
    'a child killed' => \&child_killed,
    'hook connections cut' => sub { $relay->cut; return sub { $relay->cut } },
    'the network frozen' =>
        sub { $relay->freeze; return sub { $relay->thaw } },
    'Supabase restarted' =>
        sub { doors()->locked(sub { $_[0]->restart }); return sub { } },
    'addresses to be confirmed' => \&unconfirmed,
);

# Breaks these for so long.
sub go_wrong {
    my ($count, $seconds, @what) = @_;
    my @mend = map { ($POSTGRES{$_} || $OTHERS{$_})->() } @what;
    $count->{$_}++ for @what;
    sleep $seconds;
    $_->() for reverse @mend;
    sleep rand(scaled(0.3, 0.6)); # all is well that long
    return;
}

# A locked table for longer than the module waits, all of them once, then pairs
# of them, until there are enough tokens.
sub until_enough {
    my %count;
    my @all = shuffle(sort(keys %POSTGRES), sort keys %OTHERS);
    my $end = time + scaled(120, 1800) * patience();
    my $allowed = sub {
        ($supabase->hook_stats->{custom_access_token} || {})
            ->{answers}{allowed} || 0;
    };
    go_wrong(\%count, PROMISE, 'the table locked');
    until (!@all && $allowed->() >= TOKENS
        && scalar(my @tokens = $supabase->issued) >= TOKENS) {
        die "too few tokens\n" if time > $end;
        go_wrong(\%count, rand(chance(0.15) ? PROMISE : 0.5),
            shift @all || pick(sort keys %POSTGRES),
            @all || chance(0.5) ? () : pick(sort keys %OTHERS));
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
my $count = until_enough();
my @done = map { $_->result } @jobs;
my $took = time - $start;

sub sum_of {
    my ($what) = @_;
    my %sum;
    for my $part (map { $_->{$what} } @done) {
        for my $door (keys %$part) {
            $sum{$door}{$_} += $part->{$door}{$_} for keys %{ $part->{$door} };
        }
    }
    return %sum;
}

my %seen = sum_of('seen');
my %slowest;
for my $part (map { $_->{slowest} } @done) {
    $slowest{$_} = $part->{$_}
        for grep { $part->{$_} > ($slowest{$_} || 0) } keys %$part;
}
my %failed = map { %{ $_->{failed} } } @done;
$failed{''} = 0;
$failed{''} += $_->{failed}{''} || 0 for @done;

my @issued = $supabase->issued;
my %by;
$by{ $_->{method} }++ for @issued;
note sprintf '%d tokens of %d users in %.0f s: %s', scalar @issued,
    scalar(keys %{ { map { $_->{sub} => 1 } @issued } }), $took,
    join ', ', map {"$by{$_} x $_"} sort keys %by;
note 'faults: ', join ', ', map {"$count->{$_} x $_"} sort keys %$count;
for my $door (sort keys %seen) {
    note sprintf '%s, %.3f s at the most: %s', $door, $slowest{$door},
        join ', ', map {"$seen{$door}{$_} x $_"} sort keys %{ $seen{$door} };
}

# ---- the answers

my $LOST = 'closed|cut off|Connection reset by peer';
my $REFUSED = "503 unknown: \Q$TEXT\E";
my $UNREACHED = '422 hook_timeout_after_retry: Failed to reach hook after '
    . 'maximum retries|500 unexpected_failure: (?:error generating jwt token|'
    . 'Unexpected failure, please check server logs for more information)';
my $ANY = "200|refused|$LOST|$REFUSED|$UNREACHED";
my $AFTER = '500 unexpected_failure: Error invoking hook';
my $ROUTE = "200|$LOST|503 (?:busy|upstream_unavailable|store_unavailable)"
    . '|502 upstream_bad_answer|504 upstream_timeout';
my $LINK = join '|', "303 \Q$TEXT\E",
    map { /^\d+ \w+: (.*)/s ? "303 $1" : () } $UNREACHED;
my %ALLOWED = (
    signup => "$AFTER|422 user_already_exists: User already registered",
    otp => $AFTER, magiclink => $AFTER, id_token => $AFTER,
    anonymous => "$AFTER|500 unexpected_failure: "
        . 'Database error creating anonymous user',
    link => $LINK, 'signup link' => $LINK,
    '/register' => 'pending|50[24] outcome_unknown|409 user_already_exists',
);
my @undocumented;
for my $door (sort keys %seen) {
    my $allowed = ($door =~ m{^/} ? $ROUTE : $ANY)
        . ($ALLOWED{$door} ? "|$ALLOWED{$door}" : '');
    push @undocumented, map {"$door: $_"}
        grep { !/^(?:$allowed)$/s } sort keys %{ $seen{$door} };
}
is_deeply \@undocumented, [], 'every answer is a documented one';
cmp_ok scalar(grep { /^\d+ unknown/ } map { keys %$_ } values %seen), '>', 0,
    'tokens were refused';
is_deeply [grep { !$by{$_} } qw(password token_refresh otp anonymous totp oauth
    magiclink email/signup)], [], 'there were tokens by every method';

# two hooks in turn, each called three times at the most
my $bound = 2 * 3 * PROMISE + slack();
is_deeply [grep { $slowest{$_} > $bound } grep { !m{^/} } sort keys %slowest],
    [], sprintf 'no door of Supabase took longer than %.1f s', $bound;
$bound = TIMEOUT + PROMISE + slack();
is_deeply [grep { $slowest{$_} > $bound } grep { m{^/} } sort keys %slowest],
    [], sprintf 'and no route longer than %.1f s', $bound;

# ---- the rows

# What was begun has ended once no child of before is left.
my %before = map { $_ => 1 } $httpd->children;
$relay->cut; # the connections that the double keeps
$httpd->graceful;
wait_until { !grep { $before{$_} } $httpd->children } 30, 'the old children';

sub rows {
    return map { $_->{id} => $_->{email} // '' }
        $pg->sql(app => 'SELECT id, email FROM users');
}

my %row = rows();
my %user = map { $_->{id} => $_ } $supabase->users;
is_deeply [grep { !exists $row{$_} } map { $_->{sub} } @issued], [],
    'every user with a token has a row';
my %moves = map { $_->{id} => 1 } grep { $_->{moves} } @old;
is_deeply [grep { !$moves{$_} && $user{$_} && $row{$_} ne $user{$_}{email} }
    sort keys %row], [], 'with their e-mail';

# An account that is made together with its token is undone when Supabase does
# not get as far as to commit both: such a row was allowed. Each is of a
# sign-in that failed.
my %orphans;
$orphans{ $row{$_} }++ for grep { !$user{$_} } keys %row;
my $orphans = 0;
$orphans += $_ for values %orphans;
note "$orphans rows of accounts that Supabase has undone";
is_deeply { map { $_ => $orphans{$_} }
    grep { !/^(?:oauth|$)/ || $orphans{$_} > ($failed{$_} || 0) }
    sort keys %orphans }, {}, 'every row is of a user that there is, or was '
    . 'for the length of a failed sign-in' or diag explain \%failed;

# ---- all is well again: everybody signs in

my %person = map { ($_->{email} || $_->{id} || '') => $_ }
    map { @{ $_->{people} }, @{ $_->{left} } } @done;

sub last_door {
    my ($user) = @_;
    my $person = $person{ $user->{email} || $user->{id} } or return;
    $person->{is_known} = 1;
    my %door = (password => 'password', mail => 'otp', oauth => 'id_token',
        anonymous => 'refresh');
    return [$door{ $person->{kind} }, $person];
}

sub all_sign_in {
    my (@last) = @_;
    my @failures = map { @{ $_->result } } map {
        my $worker = $_;
        UserSync::Background->start(sub {
            my $doors = doors();
            return [map { $doors->sign_in(@$_) ? () : [@$_, $doors->seen] }
                share($worker, @last)];
        });
    } 0 .. WORKERS - 1;
    return @failures;
}

my $probe = $old[0];
ok +(wait_until {
    !grep { $_->{status} != 200 } parallel(WORKERS, sub {
        ($httpd->url('/auth/login'), { email => $probe->{email},
            password => password });
    });
} 20), 'all is well again';
my @last = map { last_door($_) } values %user;
my $silent = keys(%user) - @last;
cmp_ok $silent, '<=', $failed{''},
    "all but $silent anonymous users have what it takes to sign in";
my @failures = all_sign_in(@last);
is_deeply \@failures, [], 'everybody can sign in' or diag explain \@failures;

%row = rows();
%user = map { $_->{id} => $_ } $supabase->users;
my %token = map { $_->{sub} => 1 } $supabase->issued;
is_deeply [sort grep { $user{$_} } keys %row], [sort keys %token],
    'the users with a token are those with a row';
is_deeply [sort keys %user], [sort keys %token], 'and they are all users';
is_deeply [grep { ($row{$_} // 'none') ne $user{$_}{email} } sort keys %user],
    [], 'with the e-mail that they have now';
cmp_ok scalar(keys %token), '>=', 0.9 * USERS, 'as many as there should be';
cmp_ok scalar(@issued), '>=', TOKENS, scalar(@issued) . ' tokens';

$httpd->stop;
$supabase->stop;
$pg->stop;

done_testing;
