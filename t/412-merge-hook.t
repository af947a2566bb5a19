# Every directive of the hook is inherited by vhosts and sections, overridden in
# them and reset to its default; checked by what happens to requests.

use UserSync::Gate;
use UserSync::Hook;
use UserSync::Tables;
use UserSync::Test;

use lib UserSync::Util::top_dir() . '/t/double/lib';
use AuthDouble::HookServer;

my $DB = scratch_db('usersync_merge_hook');
my $AWAY = "\nDBDParams \"host=127.0.0.1 port=" . reserve_port()
    . " dbname=app connect_timeout=2\"\nUserSyncStoreTimeout 200ms";
my $own = AuthDouble::HookServer->start("$ENV{USERSYNC_RUN}/own_hook.$$");
my ($ONE, $TWO, $THREE) = map { secret_of($_) } 24, 32, 64;

sub file_of {
    my ($name, $secret) = @_;
    my $file = spew("$ENV{USERSYNC_RUN}/$name.$$.secret", "$secret\n");
    chmod 0600, $file;
    return "UserSyncHookSecret file:$file";
}

my ($one, $two, $three)
    = (file_of(one => $ONE), file_of(two => $TWO), file_of(three => $THREE));

my %vhost = (
    same     => '',
    own      => 'UserSyncTable public.users',
    secret   => $two,
    several  => "$two\n$three",
    none     => 'UserSyncHookForward None',
    away     => $AWAY,
    deny     => "UserSyncHookOnError Deny$AWAY",
    nest     => "UserSyncHookOnError Deny$AWAY" . <<'CONF',

<Location "/hook">
    UserSyncHookOnError Allow
    <If "%{QUERY_STRING} == 'deny'">
        UserSyncHookOnError Deny
    </If>
</Location>
CONF
);

my $httpd = hook_server($DB, children => 1, secret => $ONE, vhosts => \%vhost,
    config => "UserSyncHookOnError Allow\nUserSyncHookForward "
        . $own->uri . "\n")->start;
$httpd->allow_log(qr/dbd:error|usersync-hook: (?:store_una|unsynced|invalid_s)/);

sub call {
    my ($where, $secrets, $query) = @_;
    my $body = token_body();
    return post($httpd->url('/hook' . ($query || ''),
        $where eq 'main' ? undef : $where), $body,
        sign_hook($body, secrets => $secrets));
}

subtest 'UserSyncHookSecret' => sub {
    my @cases = (
        [main => $ONE, 200], [main => $TWO, 401],
        [same => $ONE, 200], [same => $TWO, 401],
        [own => $ONE, 200], [own => $TWO, 401],
        [secret => $ONE, 401], [secret => $TWO, 200], [secret => $THREE, 401],
        [several => $ONE, 401], [several => $TWO, 200],
        [several => $THREE, 200],
    );
    for my $case (@cases) {
        my ($where, $secret, $status) = @$case;
        my $response = call($where, $secret);
        is $response->{status}, $status, "$where: $status"
            or diag show($response);
    }
};

subtest 'UserSyncHookForward' => sub {
    for my $where (qw(main same own none)) {
        $own->forget;
        is call($where, $ONE)->{status}, 200, $where;
        is scalar($own->requests), $where eq 'none' ? 0 : 1,
            $where eq 'none' ? 'not forwarded' : 'forwarded';
    }
};

subtest 'UserSyncHookOnError' => sub {
    for my $case ([away => '', 'claims'], [deny => '', 503],
        [nest => '', 'claims'], [nest => '?deny', 503]) {
        my ($where, $query, $expected) = @$case;
        my $json = call($where, $ONE, $query)->{json};
        is $json->{claims} ? 'claims' : $json->{error}{http_code}, $expected,
            "$where$query: $expected";
    }
};

$own->stop;
done_testing;
