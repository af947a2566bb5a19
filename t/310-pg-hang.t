# PostgreSQL hangs: frozen backends, locked rows, a frozen postmaster. Nobody
# waits longer than UserSyncStoreTimeout, except the one thread in which
# mod_dbd connects: connect_timeout (2 s) more. Hung connections are replaced.

use UserSync::Test;
use UserSync::Outage;

use constant DEADLINE => 1.5;
use constant CONNECT_TIMEOUT => 2;
use constant WORKERS => 16;

my $pg = own_postgres();

sub httpd_with {
    my ($workers) = @_;
    return outage_lines(own_httpd($pg, workers => $workers,
        set => { UserSyncStoreTimeout => DEADLINE * 1000 . 'ms' }))->start;
}

# The responses without the one that may have been connecting.
sub but_for_probes {
    my @fastest_first = sort { $a->{elapsed} <=> $b->{elapsed} } @_;
    return @fastest_first[0 .. $#fastest_first - 1];
}

# The e-mail in the rows as if the users had changed it elsewhere.
sub stale_row {
    my ($person) = @_;
    $pg->sql(app => 'INSERT INTO users (id, email) VALUES (?, ?) '
        . 'ON CONFLICT (id) DO UPDATE SET email = excluded.email',
        $person->{id}, 'old@example.com');
    return;
}

sub email_of {
    my ($person) = @_;
    return $pg->value(app => 'SELECT email FROM users WHERE id = ?',
        $person->{id});
}

# The note usersync-outcome of a login, from the access log, which is written
# after the response.
sub outcome_of {
    my ($httpd, $code) = @_;
    my $from = -s $httpd->access_log || 0;
    my $response = $code->();
    my $line = wait_until {
        my $text = slurp($httpd->access_log, $from) || '';
        $text =~ /\n\z/ ? $text : undef
    } 10, 'the line in the access log';
    return ($response, $line =~ /outcome=(\S+)/);
}

subtest 'one frozen backend' => sub {
    my $httpd = httpd_with(1);
    is login($httpd)->{status}, 200, 'a warm connection';
    my ($frozen, @more) = $pg->backends('app');
    is_deeply \@more, [], 'the only one';
    $pg->stop_backend($frozen);
    my $failed = login($httpd);
    is tally($failed), '1 x 503 store_unavailable', 'its request fails';
    within(DEADLINE, 'in time', $failed);
    my $next = login($httpd);
    is $next->{status}, 200, 'the next one does not' or diag show($next);
    cmp_ok $next->{elapsed}, '<', DEADLINE, 'nor does it wait';
    my ($replaced) = grep { $_ != $frozen } $pg->backends('app');
    ok $replaced, 'on a new connection';
    $pg->cont($frozen);
    ok +(wait_until { "@{[$pg->backends('app')]}" eq ($replaced || '') } 10),
        'the old one is gone once it thaws';
    is tally(map { login($httpd) } 1 .. 3), '3 x 200', 'all is well';
    is_deeply [$pg->backends('app')], [$replaced], 'on that connection';

    # a late answer must not reach anybody: the connection is closed at once
    $pg->stop_backend($replaced);
    is login($httpd)->{status}, 503, 'frozen again';
    $pg->cont($replaced);
    ok +(wait_until { !$pg->backends('app') } 10),
        'thawed before any request: gone nevertheless';
    is login($httpd)->{status}, 200, 'the next one has a new connection';
};

my $httpd = httpd_with(WORKERS);

subtest 'all backends frozen' => sub {
    my @frozen = fill_pool($pg, $httpd, WORKERS);
    cmp_ok scalar @frozen, '>=', WORKERS, 'a full pool';
    $pg->stop_backend(@frozen);
    my @responses = logins($httpd, WORKERS);
    within(DEADLINE, 'first round: in time', @responses);
    is tally(@responses), WORKERS . ' x 503 store_unavailable', 'they fail';
    # a connection that was not used in the first round is used now
    wait_until {
        tally(@responses = logins($httpd, WORKERS)) eq WORKERS . ' x 200'
    } 5;
    is tally(@responses), WORKERS . ' x 200', 'then none: all are replaced';
    cmp_ok slowest(@responses), '<', DEADLINE, 'and none waits';
    $pg->cont(@frozen);
    my %old = map { $_ => 1 } @frozen;
    ok +(wait_until { !grep { $old{$_} } $pg->backends('app') } 10),
        'the old ones are gone once they thaw';
    serves($httpd, WORKERS, 2, 'all is well');
};

subtest 'another session is inserting the same id' => sub {
    my ($person) = people(1);
    my $other = $pg->connect('app');
    my $begin = sub {
        $pg->sql(app => 'DELETE FROM users WHERE id = ?', $person->{id});
        $other->begin_work;
        $other->do('INSERT INTO users (id, email) VALUES (?, ?)', undef,
            $person->{id}, 'other@example.com');
    };
    my $login = sub {
        my $job = UserSync::Background->start(
            sub { tally(login($httpd, $person)) });
        wait_until { waiting_for_locks($pg) } 10, 'the login to meet the lock';
        return $job;
    };

    $begin->();
    my $job = $login->();
    $other->commit;
    is $job->result, '1 x 200', 'committed meanwhile: logged in';
    is email_of($person), $person->{email}, 'and the e-mail is the right one';

    $begin->();
    $job = $login->();
    $other->rollback;
    is $job->result, '1 x 200', 'rolled back meanwhile: logged in';
    is email_of($person), $person->{email}, 'and the row is made';

    $begin->();
    my $response = login($httpd, $person);
    is tally($response), '1 x 503 store_unavailable', 'undecided: no login';
    within(DEADLINE, 'in time', $response);
    $other->commit;
    $response = login($httpd, $person);
    is tally($response), '1 x 200', 'decided: the next login heals';
    is email_of($person), $person->{email}, 'one row, as it should be';
};

subtest 'the row is locked while its e-mail changes' => sub {
    my ($person) = people(1);
    stale_row($person);
    my $other = $pg->connect('app');
    $other->begin_work;
    $other->do('SELECT 1 FROM users WHERE id = ? FOR UPDATE', undef,
        $person->{id});
    $httpd->expect_log(qr/\[usersync:warn\].*the e-mail .*could not follow/);
    my ($response, $outcome)
        = outcome_of($httpd, sub { login($httpd, $person) });
    is $response->{status}, 200, 'logged in' or diag show($response);
    ok $response->{json}{session}{access_token}, 'with a session';
    is $outcome, 'email-stale', 'note';
    within(DEADLINE, 'in time', $response);
    $other->rollback;
    ($response, $outcome)
        = outcome_of($httpd, sub { login($httpd, $person) });
    is $response->{status}, 200, 'the lock is gone';
    is email_of($person), $person->{email}, 'the e-mail follows';
    is $outcome, 'ok', 'note';
};

subtest 'postmaster frozen, connections in the pool' => sub {
    fill_pool($pg, $httpd, WORKERS);
    $pg->stop_postmaster;
    for my $round (1 .. 3) {
        my @responses = logins($httpd, WORKERS);
        is tally(@responses), WORKERS . ' x 200', "round $round: served";
    }
    $pg->cont;
    serves($httpd, WORKERS, 2, 'thawed');
};

subtest 'postmaster frozen, an empty pool' => sub {
    my $cold = httpd_with(WORKERS);
    $pg->stop_postmaster;
    my @responses = logins($cold, WORKERS);
    is tally(@responses), WORKERS . ' x 503 store_unavailable', 'all fail';
    within(DEADLINE + CONNECT_TIMEOUT, 'in time', @responses);
    # each child of prefork has one thread and connects separately
    within(DEADLINE, 'but for one within the deadline: no convoy',
        but_for_probes(@responses)) if mpm() ne 'prefork';
    # from here on it is known to be away: rounds that fail at once, until one
    # includes the next attempt
    my (@away, $quick);
    wait_until {
        @responses = logins($cold, WORKERS);
        $quick++ if slowest(@responses) < DEADLINE / 2;
        push @away, but_for_probes(@responses);
        slowest(@responses) > 1
    } 20, 'an attempt to connect';
    within(CONNECT_TIMEOUT, 'away: in time', @responses);
    ok $quick, 'away: they fail at once';
    # in prefork each child may make the attempt
    cmp_ok slowest(@away), '<', DEADLINE / 2, 'away: but for the one that tries'
        if mpm() ne 'prefork';
    $pg->cont;
    serves($cold, WORKERS, 2, 'thawed: heals at once');
};

done_testing;
