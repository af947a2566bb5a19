# Each connection prepares the statements once; a changed table, a DEALLOCATE
# or a new connection costs no login.

use UserSync::Test;
use UserSync::Outage;

use constant WORKERS => 4;

# Logs the statements: "execute usersync_...: SELECT ..."
my $pg = own_postgres(log_statement => 'all',
    log_min_duration_statement => 0);
my $httpd = outage_lines(own_httpd($pg, workers => WORKERS,
    children => 1))->start;

# What the module sent while the block ran, as [what, name, SQL].
sub sent {
    my ($code) = @_;
    my $from = -s $pg->log_file;
    $code->();
    return map {
        /www-data\@app LOG: .*?(parse|execute) ([^:]+): (.*)/
            ? [$1, $2, $3] : ()
    } split /\n/, slurp($pg->log_file, $from);
}

sub names { return map { $_->[1] } grep { $_->[0] eq 'execute' } @_ }

sub log_in_ok {
    my ($name, @who) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my @all = map { login($httpd, $_) } @who ? @who : people(1);
    is tally(@all), scalar(@all) . ' x 200', $name;
    return;
}

subtest 'prepared once' => sub {
    log_in_ok('a first login');
    my @all = logins($httpd, WORKERS);
    # now every existing connection has prepared its look-up
    log_in_ok('once more') for 1 .. 2 * WORKERS;
    my @sent = sent(sub { log_in_ok('and again') for 1 .. 10 });
    is scalar(grep { $_->[0] eq 'parse' } @sent), 0, 'nothing is parsed'
        or diag explain \@sent;
    my @names = names(@sent);
    is scalar @names, 10, 'one statement each';
    like $_, qr/^usersync_[0-9a-f]{16}$/, 'a prepared one'
        for do { my %seen; grep { !$seen{$_}++ } @names };
    my @new = people(WORKERS + 6);
    my %text;
    push @{ $text{ $_->[1] } }, $_->[2] =~ s/\$\d/?/gr
        for grep { $_->[0] eq 'execute' }
        sent(sub { log_in_ok('new users', @new[WORKERS .. $#new]) });
    is_deeply [grep { keys %{ { map { $_ => 1 } @{ $text{$_} } } } != 1 }
        keys %text], [], 'each name has one text';
};

subtest 'new connections' => sub {
    $pg->terminate_backends('app');
    log_in_ok('backends terminated') for 1 .. 3;
    $pg->restart('immediate');
    log_in_ok('restarted') for 1 .. 3;
    # a new connection is asked once for its server's history
    is scalar(grep {/unnamed/} names(grep { $_->[2] !~ /pg_control_system/ }
        sent(sub { log_in_ok('then') }))), 0, 'prepared again';
};

# The types of the parameters were determined when it was prepared.
subtest 'columns that change their type' => sub {
    my $new = WORKERS + 6;
    for my $sql (
        'ALTER TABLE users ALTER email TYPE varchar(200)',
        'ALTER TABLE users ALTER id TYPE text USING id::text',
        'ALTER TABLE users ALTER id TYPE uuid USING id::uuid',
        'ALTER TABLE users ALTER email TYPE text',
        'ALTER TABLE users ADD more int',
        'ALTER TABLE users DROP more') {
        log_in_ok("before $sql") for 1 .. WORKERS;
        $pg->sql(app => 'DROP TABLE IF EXISTS activities CASCADE');
        $pg->sql(app => $sql);
        log_in_ok($sql) for 1 .. WORKERS;
        my @people = people(++$new);
        log_in_ok("$sql: a new user", $people[-1]);
    }
    like +(names(sent(sub { log_in_ok('again') })))[-1], qr/^usersync_/,
        'prepared again, with the new types';
};

# The unprepared statement fails, too, so nothing is prepared again.
subtest 'an error that has another cause' => sub {
    $pg->sql(app => $_) for
        'REVOKE UPDATE ON users FROM "www-data"',
        'REVOKE UPDATE (email) ON users FROM "www-data"';
    $httpd->allow_log(qr/could not follow/);
    my ($person) = people(1);
    my $old = $person->{email};
    my @sent = sent(sub {
        for my $n (1 .. 3 * WORKERS) {
            $person->{email} = "moved$n\@example.com";
            double->change_user($person->{id}, email => $person->{email});
            log_in_ok("address $n");
        }
    });
    # at most once by each connection, whatever it has given up before
    my %parsed;
    $parsed{ $_->[2] }++ for grep { $_->[0] eq 'parse' } @sent;
    is_deeply [grep { $parsed{$_} > WORKERS } keys %parsed], [],
        'prepared as before' or diag explain \%parsed;
    $pg->sql(app => 'GRANT UPDATE (email) ON users TO "www-data"');
    double->change_user($person->{id}, email => $old);
    $person->{email} = $old;
    log_in_ok('with the right to write');
};

subtest 'a number that grew' => sub {
    $pg->sql(app => $_) for 'ALTER TABLE users ADD n int',
        'GRANT INSERT (n) ON users TO "www-data"';
    my $with = outage_lines(own_httpd($pg, workers => WORKERS, children => 1,
        config => "UserSyncColumn user_metadata.n n\n"))->start;
    my $new = sub {
        my ($n) = @_;
        my %who = (email => "n$n\@example.com", password => 'correct horse');
        my $user = double->add_user(%who, user_metadata => { n => $n });
        is post($with->url('/auth/login'), \%who)->{status}, 200,
            "a login with $n";
        is $pg->value(app => 'SELECT n FROM users WHERE id = ?', $user->{id}),
            $n, 'as it is';
    };
    $new->($_) for 1 .. WORKERS;
    $pg->sql(app => 'ALTER TABLE users ALTER n TYPE bigint');
    $new->(3_000_000_000 + $_) for 1 .. WORKERS;
    $with->stop;
    $pg->sql(app => 'ALTER TABLE users DROP n');
};

subtest 'a table of the same name' => sub {
    $pg->sql(app => $_) for 'ALTER TABLE users RENAME TO old',
        'CREATE TABLE users (LIKE old INCLUDING ALL)',
        'GRANT SELECT, INSERT, UPDATE ON users TO "www-data"';
    log_in_ok('the user is looked for in the new one');
    is $pg->value(app => 'SELECT count(*) FROM users'), 1, 'and written there';
    $pg->sql(app => 'DROP TABLE old');
    log_in_ok('the old one is gone');
};

subtest 'statements that are taken away' => sub {
    $pg->sql(app => $_) for
        q{CREATE FUNCTION take() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN EXECUTE 'DEALLOCATE ALL'; RETURN NULL; END $$},
        'CREATE TRIGGER take AFTER INSERT ON users FOR EACH ROW
            EXECUTE FUNCTION take()';
    my @people = people(WORKERS + 24);
    log_in_ok('the statement itself', $people[-1]);
    log_in_ok('the next one', $people[-1]) for 1 .. WORKERS;
    log_in_ok('another new user', $people[-2]);
    my @names = names(sent(sub { log_in_ok('then') for 1 .. 3 }));
    # each process of prefork finds out for itself
    is scalar(grep {/^usersync_/} @names), 0,
        'this child prepares nothing any more' if mpm() ne 'prefork';
};

done_testing;
