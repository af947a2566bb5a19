# The order does not matter: many first logins of one user, of many users, with
# a new address, on a table that another program changes meanwhile: every
# answer is 200 and every user has one row.

use UserSync::Test;
use UserSync::Tables;

my $db = scratch_db('usersync_races');
my $unique = scratch_db('usersync_unique',
    'ALTER TABLE users ADD UNIQUE (email)');
my $strict = scratch_db('usersync_strict', q{ALTER ROLE "www-data" IN DATABASE
    usersync_strict SET default_transaction_isolation = 'serializable'});
# a threaded child lets all but one of its threads wait for Supabase
my $httpd = UserSync::Httpd->new(threads => 201,
    config => module_config(DBDParams => dsn_of($db)),
    vhosts => { unique => 'DBDParams ' . dsn_of($unique),
        strict => 'DBDParams ' . dsn_of($strict) },
)->start;

# $n logins at the same moment; the block gives the person for each.
sub at_once {
    my ($n, $code, $vhost) = @_;
    my $url = $httpd->url('/auth/login', $vhost);
    return parallel($n, sub {
        my $person = $code->($_[0]);
        return ($url, { map { $_ => $person->{$_} } qw(email password) });
    });
}

sub all_ok {
    my ($name, @responses) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my %count;
    $count{ $_->{error} || $_->{status} }++ for @responses;
    return is_deeply(\%count, { 200 => scalar @responses }, $name)
        || diag show((grep { $_->{status} != 200 } @responses)[0]);
}

# Runs the block while another session has an open transaction with these
# statements. It ends, with COMMIT or ROLLBACK, as soon as this many of the
# module's backends wait for it.
sub meanwhile {
    my ($name, $statements, $end, $n, $code) = @_;
    pipe my $ready, my $tell or die "pipe: $!";
    my $pid = fork // die "fork: $!";
    if (!$pid) {
        my $ok = eval {
            my $other = postgres->connect($name);
            $other->do($_) for 'BEGIN', @$statements;
            syswrite $tell, '.';
            wait_until { waiting_in($name) >= $n } 20, 'waiting backends';
            $other->do($end);
            1;
        };
        print STDERR "# $@" unless $ok;
        POSIX::_exit($ok ? 0 : 1);
    }
    close $tell;
    sysread $ready, my $byte, 1;
    my @responses = $code->();
    waitpid $pid, 0;
    is $?, 0, "$n waited for another session's $end";
    return @responses;
}

sub email_in {
    my ($name, $person) = @_;
    return postgres->value($name => 'SELECT email FROM users WHERE id = ?',
        $person->{id});
}

# From now on the user has another address at Supabase.
sub move {
    my ($person) = @_;
    $person->{email} = "moved.$person->{email}";
    double->change_user($person->{id}, email => $person->{email});
    return;
}

subtest 'the first login of a user, 200 times at once' => sub {
    my $person = person();
    all_ok 'all logged in', at_once(200, sub {$person});
    is rows_in($db, 'users'), 1, 'one row';
    is email_in($db, $person), $person->{email}, 'which is right';
};

subtest '50 new users, 4 times each' => sub {
    postgres->sql($db => 'DELETE FROM users');
    my @people = map { person() } 1 .. 50;
    all_ok 'all logged in', at_once(200, sub { $people[$_[0] % 50] });
    is_deeply [map {"$_->{id} $_->{email}"} postgres->sql($db =>
        'SELECT id, email FROM users ORDER BY id')],
        [sort map {"$_->{id} $_->{email}"} @people], '50 rows';
};

subtest 'registrations of one address at once' => sub {
    for my $confirm (JSON::PP::false, JSON::PP::true) {
        postgres->sql($db => 'DELETE FROM users');
        double->config(autoconfirm => $confirm);
        my $email = 'race' . ($confirm ? 1 : 0) . '@people.example';
        my @all = parallel(40, sub { ($httpd->url('/auth/register'),
            { email => $email, password => 'the same for all' }) });
        my ($user) = grep { $_->{email} eq $email } double->users;
        my @ok = grep { $_->{status} == 200 } @all;
        is scalar @ok, $confirm ? 1 : 40, $confirm ? 'one has a session'
            : 'all pending';
        is scalar(grep { $_->{json}{user_id} ne $user->{id} } @ok), 0,
            'the same user';
        is rows_in($db, 'users'), 1, 'one row';
    }
};

# Several logins have looked, found nothing and wait with their INSERT: only
# one succeeds. If transactions are serializable, PostgreSQL refuses the others
# with 40001.
for my $vhost (undef, 'strict') {
    subtest 'the race is lost by all but one, '
        . ($vhost ? 'serializable' : 'read committed') => sub {
        my $name = $vhost ? $strict : $db;
        my $person = person();
        all_ok 'before', at_once(32, sub {$person}, $vhost);
        postgres->sql($name => 'DELETE FROM users');
        all_ok 'all logged in', meanwhile($name,
            ['LOCK TABLE users IN EXCLUSIVE MODE'], 'COMMIT',
            mpm() eq 'prefork' ? 3 : 1, # one of each child
            sub { at_once(16, sub {$person}, $vhost) });
        is rows_in($name, 'users'), 1, 'one row';
    };
}

# A case's statements about a user.
sub sql_for {
    my ($case, $person) = @_;
    my @sql = @{ $case->{sql} };
    s/<id>/'$person->{id}'/, s/<new>/'$person->{email}'/ for @sql;
    return @sql;
}

# What another program does to the row when the user logs in.
my @others = (
    { name => 'inserts it',
        sql => [q{INSERT INTO users VALUES (<id>, <new>)}] },
    { name => 'inserts it with another address',
        sql => [q{INSERT INTO users VALUES (<id>, 'other@people.example')}] },
    { name => 'inserts it and changes its mind', end => 'ROLLBACK',
        sql => [q{INSERT INTO users VALUES (<id>, 'other@people.example')}] },
);

for my $case (@others) {
    for my $vhost (undef, 'strict') {
        subtest "another program $case->{name}, "
            . ($vhost ? 'serializable' : 'read committed') => sub {
            my $name = $vhost ? $strict : $db;
            my $person = person();
            all_ok 'logged in', meanwhile($name, [sql_for($case, $person)],
                $case->{end} || 'COMMIT', 1,
                sub { log_in($httpd, $person, $vhost) });
            is email_in($name, $person), $person->{email},
                'the row is there, with the address';
            is +(outcomes($httpd, 1))[0], 'ok', 'as if nothing had been';
        };
    }
}

# What another program does to the row of a user whose address has changed. The
# address may be late: no login waits for it, however many come.
my @holders = (
    { name => 'changes the address, too',
        sql => [q{UPDATE users SET email = <new> WHERE id = <id>}] },
    { name => 'changes the address to yet another',
        sql => [q{UPDATE users SET email = 'x@x.example' WHERE id = <id>}] },
    { name => 'deletes it', sql => ['DELETE FROM users WHERE id = <id>'] },
    { name => 'deletes it and inserts it again',
        sql => ['DELETE FROM users WHERE id = <id>',
            q{INSERT INTO users VALUES (<id>, 'other@people.example')}] },
    { name => 'only locks it',
        sql => ['SELECT 1 FROM users WHERE id = <id> FOR UPDATE'] },
);

for my $case (@holders) {
    for my $vhost (undef, 'strict') {
        subtest "a new address while another program $case->{name}, "
            . ($vhost ? 'serializable' : 'read committed') => sub {
            my $name = $vhost ? $strict : $db;
            my $person = person();
            log_in($httpd, $person, $vhost);
            move($person);
            my $other = postgres->connect($name);
            $other->do($_) for 'BEGIN', sql_for($case, $person);
            all_ok '40 logins', at_once(40, sub {$person}, $vhost);
            is waiting_in($name), 0, 'no login waits for the row';
            # a line is written after its answer was sent
            ok wait_until { !grep { $_ ne 'email-stale' }
                outcomes($httpd, 40) } 10, 'and the address is late';
            $other->do('COMMIT');
            all_ok 'later', log_in($httpd, $person, $vhost);
            is email_in($name, $person), $person->{email}, 'it follows';
            is +(outcomes($httpd, 1))[0], 'ok', 'as if nothing had been';
            $httpd->allow_log(qr/could not follow: another transaction holds/);
        };
    }
}

subtest 'another program takes the unique address' => sub {
    my $row = sub { "INSERT INTO users VALUES (gen_random_uuid(), '$_[0]')" };
    my ($kept, $given_up) = (person(), person());
    my ($response) = meanwhile($unique, [$row->($given_up->{email})],
        'ROLLBACK', 1, sub { log_in($httpd, $given_up, 'unique') });
    all_ok 'and gives it up: logged in', $response;
    is email_in($unique, $given_up), $given_up->{email}, 'with a row';
    ($response) = meanwhile($unique, [$row->($kept->{email})], 'COMMIT', 1,
        sub { log_in($httpd, $kept, 'unique') });
    refused_ok $response, 409, 'user_row_conflict', 'and keeps it: refused';
    $httpd->expect_log(qr/user_row_conflict.*23505/);
};

subtest 'many logins with a new address' => sub {
    for my $vhost (undef, 'strict') {
        my $name = $vhost ? $strict : $db;
        my $person = person();
        log_in($httpd, $person, $vhost);
        move($person);
        all_ok 'all logged in', at_once(100, sub {$person}, $vhost);
        is email_in($name, $person), $person->{email}, 'the row follows';
        is_deeply [grep { $_ ne 'ok' } outcomes($httpd, 100)], [],
            'every outcome is ok';
    }
};

subtest 'answers from before and after a change of the address' => sub {
    my $person = person();
    my $before = { %$person };
    my $session = log_in($httpd, $person)->{json}{session};
    move($person);
    # only earlier logins know the old address
    double->fault(op => 'token', kind => 'status', status => 200,
        body => $session, email => $before->{email}, times => 50);
    all_ok 'all logged in',
        at_once(100, sub { $_[0] % 2 ? $person : $before });
    log_in($httpd, $person);
    is email_in($db, $person), $person->{email}, 'the next login has the word';
    is rows_in($db, "users WHERE id = '$person->{id}'"), 1, 'one row';
};

subtest 'two users change their unique addresses for each other\'s' => sub {
    my @two = (person(), person());
    log_in($httpd, $_, 'unique') for @two;
    my @emails = map { $_->{email} } @two;
    double->change_user($two[0]{id}, email => '');
    @two[0, 1] = ({ %{ $two[0] }, email => $emails[1] },
        { %{ $two[1] }, email => $emails[0] });
    double->change_user($two[$_]{id}, email => $two[$_]{email}) for 1, 0;
    all_ok 'all logged in', at_once(40, sub { $two[$_[0] % 2] }, 'unique');
    is_deeply [map { email_in($unique, $_) } @two], \@emails,
        'they have to wait with it';
    # 23505; or 40P01 and 55P03, when they wait for each other
    $httpd->allow_log(qr/the e-mail in the user's row could not follow/);
};

no_values_ok($httpd);

done_testing;
