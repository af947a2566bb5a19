# A statement that costs its connection is not repeated for ever, and old
# trouble does not refuse anybody.

use UserSync::Test;
use UserSync::Outage;

use IO::Select;

use constant WORKERS => 12;

my $pg = own_postgres();

subtest 'a trigger that ends its backend' => sub {
    my $httpd = outage_lines(own_httpd($pg, workers => WORKERS,
        set => { UserSyncStoreTimeout => '3s' }))->start;
    # a child that first looks at the table now sees the trigger at once
    $httpd->allow_log(qr/has BEFORE INSERT triggers end_it/);
    my ($known, $doomed) = people(2);
    is login($httpd, $known)->{status}, 200, 'a user has a row';
    $pg->sql(app => $_) for
        # a sequence keeps its count, whatever happens to the statement
        'CREATE SEQUENCE attempts',
        'GRANT USAGE ON attempts TO PUBLIC',
        q{CREATE FUNCTION end_it() RETURNS trigger SECURITY DEFINER
            LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('public.attempts');
            PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NEW; END $$},
        'CREATE TRIGGER end_it BEFORE INSERT ON users FOR EACH ROW
            EXECUTE FUNCTION end_it()';
    my $refused = login($httpd, $doomed);
    is $refused->{status}, 503, 'refused' or diag show($refused);
    is $refused->{json}{code}, 'store_unavailable', 'as the store';
    my $attempts = $pg->value(app => 'SELECT last_value FROM attempts');
    cmp_ok $attempts, '<=', 4, "the insert was sent $attempts times";
    like join('', $httpd->log_since(0)), qr/each new connection is lost/,
        'the log says so';
    is login($httpd, $known)->{status}, 200, 'others are served';
    $pg->sql(app => 'DROP TRIGGER end_it ON users');
    is login($httpd, $doomed)->{status}, 200, 'healed';
    $httpd->stop;
};

# A firewall may have dropped it: as in mod_dbd, it is not lent unchanged.
subtest 'a connection that was idle for longer than DBDExptime' => sub {
    my $httpd = outage_lines(own_httpd($pg, workers => 1,
        set => { DBDMax => 4, DBDKeep => 2, DBDExptime => 1 }))->start;
    is login($httpd)->{status}, 200, 'a login';
    my ($kept) = $pg->backends('app');
    is login($httpd)->{status}, 200, 'at once';
    is_deeply [$pg->backends('app')], [$kept], 'on the same connection';
    sleep 2.5; # not waited for anything: the silence is what is tested
    is login($httpd)->{status}, 200, 'after a silence';
    my @now = $pg->backends('app');
    ok @now && !(grep { $_ == $kept } @now), 'on a new connection';
    $httpd->stop;
};

# A port that neither accepts nor refuses, like a host that has lost its power:
# the queue of its listener is full. Returns what keeps it like that.
sub black_hole {
    my ($port) = @_;
    my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1',
        LocalPort => $port, Listen => 1, ReuseAddr => 1) or die "listen: $@\n";
    my @queued;
    wait_until {
        push @queued, my $socket = IO::Socket::INET->new(Blocking => 0,
            PeerAddr => '127.0.0.1', PeerPort => $port);
        !IO::Select->new($socket)->can_write(0.2);
    } 10, 'a full queue';
    return [$listener, @queued];
}

# The first of several hosts vanishes after the second one was found: repairs
# get past it within their deadline.
subtest 'a host in front that does not answer' => sub {
    my $port = reserve_port();
    my $params = $pg->dsn_tcp('app', host => '127.0.0.1,127.0.0.1',
        port => "$port," . $pg->port);
    my $httpd = outage_lines(own_httpd($pg, workers => WORKERS,
        params => $params))->start;
    is login($httpd)->{status}, 200, 'a login';
    my $hole = black_hole($port);
    $pg->terminate_backends('app');
    my $after = login($httpd, (people(2))[1]);
    is $after->{status}, 200, 'a login on a connection that was lost'
        or diag show($after);
    note sprintf 'after %.3f s', $after->{elapsed};
    $httpd->stop;
};

subtest 'trouble of long ago' => sub {
    my $deadline = 0.5 * UserSync::Util::patience();
    my $httpd = outage_lines(own_httpd($pg, workers => WORKERS, set => {
        UserSyncStoreTimeout => int(1000 * $deadline) . 'ms' }))->start;
    my @people = people(WORKERS);
    $pg->stop('fast');
    is login($httpd, $people[0])->{status}, 503, 'PostgreSQL is away';
    $pg->start;
    # A real pause: the silence is what is tested. After UserSyncStoreTimeout
    # and another second, no child knows any more whether PostgreSQL is there.
    sleep $deadline + 1.5;
    my @responses = logins($httpd, WORKERS);
    is tally(@responses), WORKERS . ' x 200', 'the next burst is served';
    $httpd->stop;
};

done_testing;
