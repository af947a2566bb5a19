# What the metrics say of hooks, of events, and of whom the module lets through
# without a row: the numbers are those of what this test has sent.

use UserSync::Event;
use UserSync::Gate;
use UserSync::Hook;
use UserSync::Outage qw(own_postgres);
use UserSync::Proxied;
use UserSync::Test;

my $pg = own_postgres();
$pg->sql(app => $_) for life_sql();
my $httpd = event_server($pg->dsn('app'), children => 1,
    modules => ['authn_anon'], config => <<'CONF'
UserSyncStoreTimeout 1s
<Location "/usersync-status">
    SetHandler usersync-status
    Require local
</Location>
CONF
    . hook_lines('/hook', 'UserSyncHookOnError Allow')
    . hook_lines('/strict')
    . guarded('/app', 'UserSyncEnsure On', 'UserSyncEnsureOnError Allow')
    . proxied(lines => ['UserSyncEnsureResponse Report'], worker => 'retry=0'));
$httpd->allow_log($_) for qr/\[dbd:error\]/,
    qr/usersync-\w+: (?:unsynced|store_una|invalid_|hook_not|user_row_)/;
$httpd->start;

sub samples {
    my $page = get($httpd->url('/usersync-status?format=openmetrics'));
    return { map { /^(usersync_\S+?(?:\{.*\})?) (\S+)$/ ? ($1 => $2) : () }
            split /\n/, $page->{body} };
}

# The samples of one metric that are not 0: {labels => value}.
sub counted {
    my ($name) = @_;
    my $all = samples();
    return { map { /^\Q$name\E\{(.*)\}\z/ && $all->{$_} ? ($1 => $all->{$_})
            : () } keys %$all };
}

subtest 'what nobody has done is there, as 0' => sub {
    my $all = samples();
    my @names = ('usersync_hook_total{name="customize-access-token",result="ok"}',
        'usersync_hook_total{name="unknown",result="ok"}',
        (map {qq{usersync_events_total{type="$_",result="applied"}}}
            qw(insert update delete unknown)),
        map {qq{usersync_unsynced_total{route="$_"}}} qw(gate hook report));
    is_deeply [grep { ($all->{$_} // '') ne '0' } @names], [],
        'rates begin with the first one';
};

subtest 'hooks' => sub {
    call_hook($httpd, token_body()) for 1 .. 3;
    call_hook($httpd, created_body('before-user-created')) for 1 .. 2;
    call_hook($httpd, created_body('after-user-created'));
    call_hook($httpd, created_body('send-email'));
    call_hook($httpd, token_body(), signature => 'v1,AAAA') for 1 .. 2;
    get($httpd->url('/hook'));
    is_deeply counted('usersync_hook_total'), {
        'name="customize-access-token",result="ok"' => 3,
        'name="before-user-created",result="ok"' => 2,
        'name="after-user-created",result="ok"' => 1,
        'name="unknown",result="hook_not_served"' => 1,
        # what is not signed may say what it likes
        'name="unknown",result="invalid_signature"' => 2,
        'name="unknown",result="method_not_allowed"' => 1,
    }, 'by name and result';
};

subtest 'events' => sub {
    my $id = new_id();
    my $body = event_body(type => 'INSERT', id => $id);
    send_event($httpd, $body);
    send_event($httpd, { type => 'UPDATE', id => $id,
        banned_until => time_stamp(3600) });
    # it comes late: the row has a newer state
    send_event($httpd, $body) for 1 .. 2;
    send_event($httpd, { type => 'DELETE', id => $id });
    send_event($httpd, { type => 'TRUNCATE', id => $id });
    send_event($httpd, { id => $id }, unsigned => 1);
    is_deeply counted('usersync_events_total'), {
        'type="insert",result="applied"' => 1,
        'type="insert",result="unchanged"' => 2,
        'type="update",result="applied"' => 1,
        'type="delete",result="applied"' => 1,
        'type="unknown",result="invalid_request"' => 1,
        'type="unknown",result="invalid_signature"' => 1,
    }, 'by type and result';
};

subtest 'unsynced' => sub {
    is_deeply counted('usersync_unsynced_total'), {}, 'nobody yet';
    my %ada = (email => 'ada@example.com', password => 'correct horse');
    double->add_user(%ada);
    my $log_in = sub {
        return ask($httpd, POST => '/token?grant_type=password', \%ada);
    };
    $pg->stop('immediate');
    is visit($httpd, '/app/file', new_id())->{status}, 404,
        'the gate lets somebody through' for 1 .. 2;
    ok call_hook($httpd, token_body())->{json}{claims}, 'a token goes out';
    is call_hook($httpd, token_body(), path => '/strict')
        ->{json}{error}{http_code}, 503, 'another one does not';
    my $session = $log_in->();
    is $session->{status}, 200, 'Report lets a session pass';
    ask($httpd, GET => '/user', undef, Authorization =>
        "Bearer $session->{json}{access_token}");
    ask($httpd, POST => '/token?grant_type=password',
        { %ada, password => 'wrong' });
    my %expected = ('route="gate"' => 2, 'route="hook"' => 1,
        'route="report"' => 1);
    # the client does not wait for what Report finds out
    wait_until { (counted('usersync_unsynced_total')->{'route="report"'} || 0)
        >= 1 } 10, 'what Report has found';
    is_deeply counted('usersync_unsynced_total'), \%expected,
        'each of them, and nobody whom nothing was given';
    my $json = get($httpd->url('/usersync-status?format=json'))->{json};
    is_deeply $json->{unsynced}, { gate => 2, hook => 1, report => 1 },
        'so says JSON';
    $pg->start;
    wait_until { call_hook($httpd, token_body(), path => '/strict')
        ->{json}{claims} } 20, 'PostgreSQL to be there again';
    is $log_in->()->{status}, 200, 'who has a row';
    is_deeply counted('usersync_unsynced_total'), \%expected,
        'is not counted';
    # the table takes everybody but this one
    $pg->sql(app => q{ALTER TABLE users ADD CHECK (email <> 'eve@example.com')});
    my %eve = (email => 'eve@example.com', password => 'correct horse');
    double->add_user(%eve);
    is ask($httpd, POST => '/token?grant_type=password', \%eve)->{status}, 200,
        'a row that is refused';
    $expected{'route="report"'} = 2;
    wait_until { (counted('usersync_unsynced_total')->{'route="report"'} || 0)
        >= 2 } 10, 'what Report has found';
    is_deeply counted('usersync_unsynced_total'), \%expected, 'is counted';
};

subtest 'a table that does not match' => sub {
    my ($up, $misfit) = map {qq{usersync_store_${_}{server="127.0.0.1"}}}
        qw(up misfit);
    is_deeply [@{ samples() }{$up, $misfit}], [1, 0], 'it matches';
    # what a look has found is repeated for a second
    my $becomes = sub {
        my ($sql, $is_up, $is_misfit, $name) = @_;
        $pg->sql(app => $sql) if $sql;
        wait_until {
            my $all = samples();
            "@$all{$up, $misfit}" eq "$is_up $is_misfit";
        } 20, $name;
        return;
    };
    $becomes->('ALTER TABLE users RENAME COLUMN phone TO fon', 1, 1,
        'a column that no new user could have');
    my ($table) = @{ get($httpd->url('/usersync-status?format=json'))
        ->{json}{tables} };
    ok $table->{misfit}, 'JSON knows it';
    like $table->{cause}, qr/phone/, 'and what is wrong';
    like get($httpd->url('/usersync-status'))->{body},
        qr{class="ill">does not match<}, 'so does the page';
    is get($httpd->url('/usersync-status?check'))->{status}, 200,
        'who has a row can still be served';
    $becomes->('ALTER TABLE users RENAME COLUMN fon TO phone', 1, 0, 'mended');
    $becomes->('ALTER TABLE users RENAME COLUMN id TO key', 0, 1,
        'a column that nobody is found without');
    $becomes->('ALTER TABLE users RENAME COLUMN key TO id', 1, 0, 'mended');
    $pg->stop('immediate');
    $becomes->('', 0, 0, 'a table that is away, and nobody knows of');
};

done_testing;
