# What the status page counts is what clients were answered: of thousands of
# requests at every door, while Supabase and PostgreSQL fail at random, each
# counter is exactly what the clients have seen, in JSON and in OpenMetrics. A
# graceful restart loses none. Where answers are lost, as children are killed and
# clients leave, each counter is the sum of what was answered, of what the
# access log says of the others, and of no more than those that it does not know.

use UserSync::Test;
use UserSync::Background;
use UserSync::Chaos;
use UserSync::Counted;
use UserSync::Event qw($LIFE_LINES event_lines life_sql);
use UserSync::Gate qw(guarded);
use UserSync::Hook qw(hook_server);
use UserSync::Outage;
use UserSync::Proxied qw(proxied);
use UserSync::Util qw(patience);

use JSON::PP ();
use List::Util qw(shuffle sum0);

use constant REQUESTS => scaled(500, 10_000);
use constant LOSSES   => scaled(250, 3000); # while answers are lost
use constant WORKERS  => 8;
use constant SEATS    => 4;
use constant PAUSE    => scaled(0.04, 0.01); # a client's, on average
use constant STORE    => 0.5; # UserSyncStoreTimeout

my ($T, $F) = (JSON::PP::true(), JSON::PP::false());

# ---- the servers

my $pg = own_postgres();
$pg->sql(app => $_) for life_sql();
my $supabase = UserSync::Double->start(
    dir => UserSync::Util::new_dir('double'),
    config => { autoconfirm => $T, record_requests => $F });
my $httpd = hook_server($pg->dsn('app'),
    mpm() eq 'prefork' ? (children => 16) : (children => 2, threads => 16),
    modules => ['authn_anon'],
    config => module_config(
        (map { $_ => undef } qw(DBDriver DBDParams DBDMin DBDKeep DBDMax)),
        UserSyncSupabaseURL     => $supabase->url,
        UserSyncForwardClientIP => 'X-Forwarded-For',
        UserSyncStoreTimeout    => 1000 * STORE . 'ms',
        UserSyncConnectTimeout  => '1s',
        UserSyncTimeout         => '1s',
        UserSyncRegisterTimeout => '1s',
        UserSyncMaxConcurrent   => SEATS,
        UserSyncCircuitBreaker  => '5 1s',
        UserSyncCacheTimeout    => '2s') # so that the table is asked, too
        . "ServerLimit 100\n$LIFE_LINES" . event_lines('/event')
        . guarded('/app', 'UserSyncEnsure On')
        . guarded('/lenient', 'UserSyncEnsure On',
            'UserSyncEnsureOnError Allow')
        . proxied(to => $supabase->url . '/auth/v1/',
            worker => 'retry=0 timeout=1') . <<'CONF');
<Location "/usersync-status">
    SetHandler usersync-status
</Location>
CustomLog "@DIR@/tries" "%{X-Try}i %{usersync-outcome}n" \
    "expr=-n req('X-Try')"
CONF
for my $dir (qw(app lenient)) {
    mkdir $httpd->dir . "/htdocs/$dir";
    spew($httpd->dir . "/htdocs/$dir/file", "a file\n");
}
$httpd->allow_log($_) for
    qr/usersync-\w+: (?:store_unavailable|upstream_\w+|busy|unsynced)\b/,
    qr/usersync-\w+: (?:outcome_unknown|over_request_rate_limit)\b/,
    qr/usersync-(?:hook|event): (?:invalid_|hook_not_served|user_|body_)/,
    qr/usersync-gate: user_/, qr/: ok, .*could not follow/,
    qr/US012: /, qr/US014: /, qr/\[dbd:error\]/, qr/exit signal Killed/,
    qr/\[proxy(?:_http)?:(?:error|warn)\]/,
    qr/AH03490: scoreboard is full/,
    qr/AH1039[23]: children are killed successively/;
$httpd->start;

# ---- what the server has counted

# A member of the page.
sub in_json {
    return get($httpd->url('/usersync-status?format=json'))->{json}{ $_[0] };
}

sub in_metrics {
    my $text
        = get($httpd->url('/usersync-status?format=openmetrics'))->{body};
    my %count;
    for (split /\n/, $text) {
        my ($door, $code, $n) = /^usersync_requests_total
            [{]route="(\w+)",code="(\w+)"[}]\ (\d+)$/x or next;
        $count{$door}{$code} = $n if $n > 0;
    }
    return \%count;
}

# ---- the clients

sub work {
    my ($job, $name, $seed, $leaves) = @_;
    srand $seed;
    my $client = UserSync::Counted->new(httpd => $httpd, double => $supabase,
        name => $name, leaves => $leaves);
    $client->ask until $job->stopping(rand 2 * PAUSE);
    return { map { $_ => $client->$_ } qw(seen lost uncounted errors) };
}

my $seed = int rand 100_000;

sub clients {
    my ($phase, $leaves) = @_;
    return map {
        my $name = "$phase$_-";
        my $own = ++$seed;
        UserSync::Background->start(sub { work($_[0], $name, $own, $leaves) });
    } 1 .. WORKERS;
}

# {number of a request => outcome}, as httpd has logged them
sub logged {
    return map {split} split /\n/, slurp($httpd->dir . '/tries') || '';
}

# ---- the failures: each returns how to repair it

sub locked {
    my $lock = $pg->connect('app');
    $lock->begin_work;
    $lock->do('LOCK TABLE users IN ACCESS EXCLUSIVE MODE');
    return sub { $lock->rollback; $lock->disconnect };
}

sub frozen {
    my (@pids) = @_;
    $pg->stop_backend(@pids) if @pids;
    return sub { $pg->cont };
}

my @ODD = (
    (map { +{ kind => $_ } } qw(html reset cut garbage empty truncate_json
        close close_after_commit wrong_length hang_before)),
    (map { +{ kind => 'status', status => $_ } } 429, 500, 503),
);

sub odd_answers {
    $supabase->fault(%{ pick(@ODD) }, times => 1 + int rand 4,
        op => pick(qw(token token signup logout))) for 1 .. 3;
    return sub { $supabase->clear_faults };
}

sub away {
    $supabase->fault(kind => 'refuse');
    return sub { $supabase->clear_faults };
}

sub unconfirmed {
    $supabase->config(autoconfirm => $F);
    return sub { $supabase->config(autoconfirm => $T) };
}

sub slow {
    $supabase->fault(kind => 'delay', ms => 400, op => 'token', times => 20);
    return sub { $supabase->clear_faults };
}

# All of them, while somebody waits for Supabase.
sub children_killed {
    $supabase->fault(kind => 'hold', op => 'token', times => -1);
    wait_until { in_json('waiting')->{now} } 5;
    $httpd->kill_children;
    return sub { $supabase->clear_faults };
}

# Until somebody was told so.
sub locked_for_long {
    my $told = sub {
        sum0(map { $_->{store_unavailable} || 0 }
            values %{ in_json('requests') });
    };
    my $before = $told->();
    my $unlock = locked();
    wait_until { $told->() > $before } 10;
    return $unlock;
}

my %FAULT = (
    'PostgreSQL restarted' =>
        sub { $pg->stop('immediate'); return sub { $pg->start } },
    'backends killed' =>
        sub { $pg->terminate_backends('app'); return sub { } },
    'backends frozen' => sub { frozen($pg->backends('app')) },
    'the table locked' => \&locked,
    'the table locked for long' => \&locked_for_long,
    'odd answers' => \&odd_answers,
    'Supabase away' => \&away,
    'Supabase slow' => \&slow,
    'addresses to be confirmed' => \&unconfirmed,
    'a graceful restart' => sub { $httpd->graceful; return sub { } },
);

# Each of these once, and then any of them until there were enough requests.
sub until_enough {
    my ($requests, $jobs, @first) = @_;
    my %count;
    my %all = (%FAULT, 'all children killed' => \&children_killed);
    my $end = time + scaled(120, 1800) * patience();
    my $before = keys %{ { logged() } };
    until (!@first && keys(%{ { logged() } }) - $before >= $requests) {
        die "too few requests\n" if time > $end;
        die "a client has ended\n" if grep { $_->is_done } @$jobs;
        my $what = shift @first || pick(sort keys %FAULT);
        my $mend = $all{$what}->();
        $count{$what}++;
        sleep rand(chance(0.2) ? 2 * STORE : 0.4);
        $mend->();
        sleep rand 0.4; # all is well that long
    }
    return join ', ', map {"$count{$_} x $_"} sort keys %count;
}

# A run; returns what the clients got and what was counted meanwhile.
sub run {
    my ($phase, $requests, $leaves, @faults) = @_;
    my $before = add_up(in_json('requests')); # no zeros
    is_deeply in_metrics(), $before, 'both formats begin alike';
    my @jobs = clients($phase, $leaves);
    my $faults = until_enough($requests, \@jobs, shuffle @faults);
    $supabase->clear_faults;
    my @done = map { $_->result } @jobs;
    # what was begun has ended once no child of before is left
    my %old = map { $_ => 1 } $httpd->children;
    $httpd->graceful;
    wait_until { !grep { $old{$_} } $httpd->children } 30, 'the old children';
    my $after = add_up(in_json('requests'));
    is_deeply in_metrics(), $after, 'both formats end alike';
    my $got = { faults => $faults, lost => { map { %{ $_->{lost} } } @done },
        seen => add_up(map { $_->{seen} } @done),
        errors => add_up(map { { all => $_->{errors} } } @done)->{all} || {},
        uncounted => add_up(map { { all => $_->{uncounted} } } @done)->{all},
        counted => difference($after, $before) };
    note "faults: $faults";
    for my $door (sort keys %{ $got->{seen} }) {
        my $of = $got->{seen}{$door};
        note "$door: ", join ', ', map {"$of->{$_} x $_"} sort keys %$of;
    }
    return $got;
}

# What is in the first more than in the others, without zeros.
sub difference {
    my ($from, @others) = @_;
    my %left;
    my $less = add_up(@others);
    for my $door (keys %{ add_up($from, $less) }) {
        for my $code (keys %{ add_up($from, $less)->{$door} }) {
            my $n = ($from->{$door}{$code} || 0) - ($less->{$door}{$code} || 0);
            $left{$door}{$code} = $n if $n;
        }
    }
    return \%left;
}

sub total { return sum0(map { values %$_ } values %{ $_[0] }) }

# Which of the answers that did not arrive the log knows, and which nobody does:
# {door => {outcome => n}}, {door => [requests]}.
sub whereabouts {
    my ($lost) = @_;
    my %log = logged();
    my (%known, %unknown);
    for my $try (sort keys %$lost) {
        my $door = $lost->{$try};
        if (!$log{$try}) { push @{ $unknown{$door} }, $try }
        elsif ($log{$try} ne '-') { $known{$door}{ counted_as($log{$try}) }++ }
    }
    return (\%known, \%unknown);
}

# The log has the code that clients are shown.
sub counted_as {
    my ($note) = @_;
    return { 'email-stale' => 'ok', email_not_confirmed => 'not_allowed' }
        ->{$note} || $note;
}

# ---- every answer arrives

subtest 'every answer arrives' => sub {
    my $run = run('a', REQUESTS, 0, keys %FAULT);
    # Supabase cuts answers off: those that carry nobody are passed on as they
    # come, and are not counted
    my ($known, $unknown) = whereabouts($run->{lost});
    is_deeply [$known, $unknown,
        [grep { $_ ne 'response' } values %{ $run->{lost} }]], [{}, {}, []],
        'none is lost but what Supabase cuts off'
        or diag explain [@$run{qw(lost errors)}];
    is_deeply difference($run->{counted}, $run->{seen}), {},
        'each counter is what clients have seen'
        or diag explain [@$run{qw(counted seen)}];
    my $seen = total($run->{seen});
    note "$seen answers counted; of Supabase's own, with nobody in them: ",
        sum0(values %{ $run->{uncounted} }), ' and ',
        scalar(keys %{ $run->{lost} }), ' that were cut off';
    cmp_ok $seen, '>', REQUESTS / 2, "$seen answers";
    is_deeply [sort keys %{ $run->{seen} }], [sort qw(register login refresh
        logout hook event gate response)], 'at every door';
    my %code = map { $_ => 1 } map { keys %$_ } values %{ $run->{seen} };
    is_deeply [grep { !$code{$_} } qw(ok applied logged_out invalid_request
        invalid_credentials invalid_signature store_unavailable)], [],
        'in many ways';
    # a row may be there although its answer was lost with a connection
    my $created = in_json('rows')->{created};
    my $rows = $pg->value(app => 'SELECT count(*) FROM users');
    cmp_ok $created, '<=', $rows, "$created rows created, of $rows";
    cmp_ok $created, '>=', 0.9 * $rows, 'nearly all of them';
};

# ---- answers are lost

subtest 'children are killed, and clients leave' => sub {
    my $run = run('b', LOSSES, 0.1, keys %FAULT, ('all children killed') x 3);
    my ($known, $unknown) = whereabouts($run->{lost});
    my $rest = difference($run->{counted}, $run->{seen}, $known);
    is_deeply [grep { $_ < 0 } map { values %$_ } values %$rest], [],
        'no answer is missing in the counters' or diag explain $rest;
    my %bound = map { $_ => scalar @{ $unknown->{$_} } } keys %$unknown;
    my @beyond = grep {
        sum0(values %{ $rest->{$_} }) > ($bound{$_} || 0)
    } sort keys %$rest;
    is_deeply \@beyond, [], 'nor is more counted than was asked'
        or diag explain [$rest, \%bound];
    note scalar(keys %{ $run->{lost} }), ' answers did not arrive, ',
        total($known), ' of which the log has with an outcome, and ',
        sum0(values %bound), ' not at all: ',
        join ' ', map {"$_ (@{ $unknown->{$_} })"} sort keys %$unknown;
    note 'of these were counted: ', total($rest) ? explain $rest : 'none';
    cmp_ok sum0(values %bound), '>', 0, 'children were killed at work';
    cmp_ok total($known), '>', 0, 'clients left whose answers were counted';
    cmp_ok total($run->{seen}), '>', LOSSES / 2, 'among many others';
};

$httpd->stop;
$supabase->stop;
$pg->stop;

done_testing;
