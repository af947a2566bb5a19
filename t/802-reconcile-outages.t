# usersync-reconcile when something is in its way: wrong options, wrong keys,
# and a Supabase that is slow, busy, broken or away. It ends with status 2 and
# one line that says what to do, and shows no secret.

use UserSync::Test;
use UserSync::Reconcile;
use UserSync::Util qw(new_dir top_dir);

my $db     = members_db('usersync_outages');
my $secret = double->key('secret');
my $dir    = new_dir('outages');

# Status 2, nothing on stdout, one line that matches.
sub fails_ok {
    my ($ran, $why, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $ok = is($ran->{status}, 2, "$name: status 2");
    $ok &= like($ran->{err}, qr/\A[^\n]*$why[^\n]*\n\z/, "$name: one line");
    $ok &= unlike("$ran->{out}$ran->{err}", qr/sb_secret_|eyJ|open sesame/,
        "$name: no secret");
    return $ok || diag said($ran);
}

# ---- options
my @to = into($db);
my @url = ('--url', double->url);
my @from = (@url, '--key', key_file('secret'));
for (['no source', qr/--url or --from-db/, @to],
    ['two sources', qr/--url and --from-db/, @from, '--from-db', 'dbname=x', @to],
    ['no key', qr/--key/, @url, @to],
    ['a key in argv', qr/file:/, @url, '--key', $secret, @to],
    ['a key that is not there', qr/nowhere/, @url, '--key',
        "file:$dir/nowhere", @to],
    ['a public key', qr/secret key/, @url, '--key', key_file('publishable'),
        @to],
    ['no target', qr/--db/, @from],
    ['a password in argv', qr/password/, @from, '--db',
        'host=localhost password=sesame-open'],
    ['a field that is not one', qr/--column/, @from, @to, '--column', 'x=y'],
    ['no column', qr/--column/, @from, @to, '--column', 'email'],
    ['an action that is not one', qr/--on-delete/, @from, @to, '--on-delete',
        'Burn'],
    ['Mark without a column', qr/deleted_at/, @from, '--db',
        postgres->dsn($db), '--on-delete', 'Mark'],
    ['a share that is not one', qr/--max-delete/, @from, @to, '--max-delete',
        'all'],
    ['a table that is not there', qr/nobody/, @from, @to, '--table', 'nobody'],
    ['an unknown option', qr/option/, @from, @to, '--nonsense'],
    ['an argument', qr/options only/, @from, @to, 'members']) {
    my ($name, $why, @option) = @$_;
    my $ran = reconcile(@option);
    is $ran->{status}, 2, "$name: status 2" or diag said($ran);
    like $ran->{err}, $why, "$name: says why" or diag said($ran);
    unlike "$ran->{out}$ran->{err}", qr/\Q$secret\E|sesame-open/,
        "$name: shows no secret";
}
for my $option ('--help', '--version') {
    my $ran = reconcile($option);
    is $ran->{status}, 0, $option or diag said($ran);
    ok length $ran->{out}, "$option: to stdout";
}
{
    my %in = (help => reconcile('--help')->{out},
        page => slurp(top_dir() . '/docs/man/usersync-reconcile.8'));
    my ($help, $page) = map { my %seen = map { $_ => 1 } @$_;
        [sort keys %seen] } [$in{help} =~ /--([a-z-]+)/g],
        [$in{page} =~ /Fl -([a-z-]+)/g];
    is_deeply $page, $help, 'the manual page has the options of --help';
}

# ---- keys that Supabase refuses, and databases that are away
double->config(keys => ['sb_secret_of_another']);
fails_ok(reconcile(@from, @to), qr/secret key/, 'a key of another project');
double->reset;
fails_ok(reconcile(@from, '--db', 'host=127.0.0.1 port=' . reserve_port()),
    qr/connect/i, 'a database that is away');

# ---- Supabase is busy, broken, slow
my @short = (@from, @to, '--retries', 1, '--timeout', '1s');
double->add_crowd(n => 50);
double->fault(op => 'admin_list', kind => 'status', status => 429,
    headers => { 'Retry-After' => 2 });
my $busy = reconcile(@short, '--json');
is $busy->{status}, 1, '429: asked again' or diag said($busy);
my @asked = map { $_->{time} } double->requests('admin_list');
cmp_ok $asked[1] - $asked[0], '>=', 2, 'as late as Retry-After says';

for (['429', kind => 'status', status => 429],
    ['500', kind => 'status', status => 500], ['502', kind => 'html'],
    ['504', kind => 'fixture', file => 'err_request_timeout.v2024.json'],
    ['cut off', kind => 'cut'], ['no answer', kind => 'hang_before'],
    ['closed', kind => 'close'], ['reset', kind => 'reset']) {
    my ($name, %fault) = @$_;
    double->clear_faults;
    double->fault(op => 'admin_list', %fault);
    my $once = reconcile(@short, '--json');
    is $once->{status}, 1, "$name once: asked again" or diag said($once);
    double->fault(op => 'admin_list', times => -1, %fault);
    fails_ok(reconcile(@short), qr/try again|later|check/, "$name for ever");
}
double->clear_faults;
double->fault(op => 'admin_list', kind => 'truncate_json', times => -1);
fails_ok(reconcile(@short), qr/Supabase/, 'not JSON');
double->clear_faults;

# ---- nobody sees the key while it runs
double->fault(op => 'admin_list', kind => 'hold');
double->clear_requests;
my $ran = start_reconcile(@from, @to, '--state', "$dir/state", '--apply',
    '--json');
ok double->wait_requests('admin_list', 1), 'it has asked';
unlike slurp("/proc/$ran->{pid}/cmdline"), qr/\Q$secret\E/, 'not in argv';
unlike slurp("/proc/$ran->{pid}/environ"), qr/\Q$secret\E/, 'not in environ';
double->release;
my $end = finished($ran);
is $end->{status}, 0, 'goes on' or diag said($end);
unlike join('', map { slurp($_) // '' } glob "$dir/*"), qr/\Q$secret\E/,
    'not in the state';
same_users_ok($db, 'all are there');

# ---- a signal ends it in order
double->add_user(email => 'one@example.com');
for my $signal (qw(TERM INT)) {
    double->clear_faults;
    double->fault(op => 'admin_list', kind => 'delay', ms => 200, times => -1);
    my $before = double->stats->{requests}{admin_list} // 0;
    my $stopped = start_reconcile(@from, @to, '--state', "$dir/state");
    ok double->wait_requests('admin_list', $before + 1), "$signal: it runs";
    kill $signal, $stopped->{pid};
    my $how = finished($stopped);
    is $how->{status}, 2, "$signal: status 2" or diag said($how);
    like $how->{err}, qr/signal/, "$signal: says so";
}

done_testing;
