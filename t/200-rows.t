# After every answer with status 200 the user has a row, and no other user
# does: what register and login write, what they leave alone, and what the
# table refuses.

use UserSync::Test;
use UserSync::Tables;

use utf8;

my ($true, $false) = (JSON::PP::true, JSON::PP::false);
my $UUID = qr/^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

sub autoconfirm { return double->config(autoconfirm => $_[0] ? $true : $false) }

# The answer to the next request, as if the user had this e-mail at Supabase.
sub answer_email {
    my ($op, $email) = @_;
    return double->fault(op => $op, kind => 'transform',
        set => { 'user.email' => $email });
}

sub row_version {
    my ($id) = @_;
    return postgres->value(app =>
        q{SELECT xmin || ' ' || ctid FROM users WHERE id = ?}, $id);
}

# ---- the shipped table, on the suite's httpd

subtest 'register with auto-confirm' => sub {
    autoconfirm(1);
    my $new = sign_up(httpd);
    is $new->{status}, 200, 'registered' or diag show($new);
    ok $new->{json}{session}{access_token}, 'with a session';
    my ($user) = double->users;
    is $new->{json}{user_id}, $user->{id}, 'the id is Supabase\'s';
    user_row_ok $new, $user->{email};
    my $row = row_of($user->{id});
    ok $row->{created_at}, 'a column with a default has it';
    is $row->{coach_persona}, undef, 'a column that is not ours is NULL';
    my $again = sign_up(httpd, undef, email => $user->{email});
    refused_ok $again, 409, 'user_already_exists', 'the same address again';
    is rows_in('app', 'users'), 1, 'still one row';
};

subtest 'register with a pending confirmation' => sub {
    autoconfirm(0);
    my %who = (email => 'pending@people.example',
        password => 'to be confirmed');
    my $before = rows_in('app', 'users');
    my $pending = post('/auth/register', {%who});
    is $pending->{status}, 200, 'registered' or diag show($pending);
    is_deeply [sort keys %{ $pending->{json} }], ['session', 'user_id'],
        'both members are there';
    is $pending->{json}{session}, undef, 'session is null';
    my $id = $pending->{json}{user_id};
    user_row_ok $pending, $who{email}, 'the row is there already';

    refused_ok post('/auth/login', {%who}), 403, 'email_not_confirmed',
        'no login before the confirmation';
    my $version = row_version($id);
    my $repeated = post('/auth/register', {%who});
    is $repeated->{json}{user_id}, $id, 'registering again: the same id';

    double->change_user($id, confirmed => $true);
    my $in = post('/auth/login', {%who});
    is $in->{status}, 200, 'logged in after the confirmation';
    is $in->{json}{user_id}, $id, 'as the same user';
    is row_version($id), $version, 'the row was written once';
    is rows_in('app', 'users'), $before + 1, 'one row in all';

    postgres->sql(app => 'DELETE FROM users WHERE id = ?', $id);
    double->change_user($id, confirmed => $false);
    my $lost = post('/auth/register', {%who});
    is $lost->{json}{user_id}, $id, 'a pending user whose row was lost';
    user_row_ok $lost, $who{email}, 'has one again';
};

subtest 'register an address that has an account' => sub {
    autoconfirm(0);
    my $known = person();
    my $before = rows_in('app', 'users');
    my $pending = sign_up(httpd);
    my $fake = sign_up(httpd, undef, email => $known->{email});
    is $fake->{status}, 200, 'answered' or diag show($fake);
    is $fake->{json}{session}, undef, 'no session';
    like $fake->{json}{user_id}, $UUID, 'some id';
    isnt $fake->{json}{user_id}, $known->{id}, 'not the account\'s';
    is row_of($fake->{json}{user_id}), undef, 'no row for the invented id';
    is row_of($known->{id}), undef, 'none for the account either';
    is rows_in('app', 'users'), $before + 1, 'nothing but the new user\'s row';
    is_deeply [sort keys %{ $fake->{headers} }],
        [sort keys %{ $pending->{headers} }], 'the headers tell nothing';
    is length $fake->{body}, length $pending->{body}, 'nor does the length';
};

subtest 'login of a user who never registered here' => sub {
    my $person = person();
    is row_of($person->{id}), undef, 'no row before';
    my $wrong = log_in(httpd, { %$person, password => 'guessed' });
    is $wrong->{status}, 401, 'a wrong password';
    is row_of($person->{id}), undef, 'makes no row';
    user_row_ok log_in(httpd, $person), $person->{email}, 'the right one does';
    is +(outcomes(httpd, 1))[0], 'ok', 'outcome';
};

subtest 'the e-mail follows Supabase' => sub {
    my $person = person();
    user_row_ok log_in(httpd, $person), $person->{email}, 'first login';
    postgres->sql(app => q{UPDATE users SET coach_persona = 'strict',
        created_at = '2020-02-02' WHERE id = ?}, $person->{id});
    $person->{email} = 'another@people.example';
    double->change_user($person->{id}, email => $person->{email});
    user_row_ok log_in(httpd, $person), $person->{email}, 'a new address';
    my $row = row_of($person->{id});
    is $row->{coach_persona}, 'strict', 'another column is left alone';
    like $row->{created_at}, qr/^2020-02-02/, 'and another';
    postgres->sql(app => 'UPDATE users SET email = NULL');
    user_row_ok log_in(httpd, $person), $person->{email}, 'NULL becomes it';
};

# Users who log in by an address have one: this answer is another user's.
subtest 'no e-mail, no row' => sub {
    my $person = person();
    answer_email(token => '');
    refused_ok log_in(httpd, $person), 502, 'upstream_bad_answer',
        'phone-only or anonymous';
    # logged once in ten seconds: perhaps during the previous file
    allow_log(qr/upstream_bad_answer: Supabase's answer is about another/);
    is row_of($person->{id}), undef, 'no row';
};

subtest 'e-mail addresses as they are' => sub {
    my @emails = (
        q{o'brien@people.example}, q{"a\"b\"c"@people.example},
        q{back\\slash@people.example}, q{');DELETE/**/FROM/**/users;--@x.y},
        q{%s%n$1$$@people.example}, 'jörg@straße.example', '用户@例子.example',
        '👩‍🚀@people.example', 'Upper@Case.Example',
        ('l' x 240) . '@people.example', q{\x41@people.example},
    );
    my $person = person();
    for my $email (@emails) {
        my $shown = JSON::PP->new->ascii->allow_nonref->encode($email);
        for my $who ([inserted => person()], [updated => $person]) {
            my ($done, $user) = @$who;
            # as if it were stored like this: GoTrue itself lower-cases
            double->change_user($user->{id}, email => $email);
            answer_email(token => $email);
            user_row_ok log_in(httpd, { %$user, email => $email }), $email,
                "$done: $shown";
            double->change_user($user->{id}, email => "$user->{id}\@x.y");
        }
    }
};

subtest 'ids as they are' => sub {
    my $person = person();
    my $id = uc $person->{id};
    double->fault(op => 'token', kind => 'transform',
        set => { 'user.id' => $id });
    my $in = log_in(httpd, $person);
    is $in->{json}{user_id}, lc $id, 'an upper-case id comes in lower case';
    user_row_ok $in, $person->{email}, 'and is the same row';
};

# ---- what a login costs

my $db = scratch_db('usersync_rows',
    q{ALTER DATABASE usersync_rows SET log_statement = 'all'});
my $private = server($db)->start;

subtest 'a known user: one statement, no write' => sub {
    my $pg = postgres();
    my $person = person();
    log_in($private, $person) for 1 .. 3;
    my @row = ($db => q{SELECT xmin || ' ' || ctid || ' ' || cmin FROM users});
    my $row = $pg->value(@row);
    my $lsn = $pg->wal_lsn;
    my @statuses;
    my @sent = statements($db, sub {
        push @statuses, log_in($private, $person)->{status} for 1 .. 20;
    });
    is $pg->wal_since($lsn), 0, 'no WAL';
    is $pg->value(@row), $row, 'the row is the same tuple';
    is join(' ', @statuses), join(' ', (200) x 20), 'all logged in';
    is scalar @sent, 20, 'one statement each' or diag join "\n", @sent;
    is scalar(grep {!/^SELECT /} @sent), 0, 'and that is a SELECT';
};

subtest 'a new user, a new address' => sub {
    my $person = person();
    my @sent = statements($db, sub { log_in($private, $person) });
    is_deeply [map {/^(\w+)/} @sent], [qw(SELECT INSERT SELECT)],
        'look, insert, look again'
        or diag join "\n", @sent;
    like $sent[1], qr/ON CONFLICT \("id"\) DO NOTHING/, 'with a target';
    double->change_user($person->{id}, email => 'moved@people.example');
    $person->{email} = 'moved@people.example';
    @sent = statements($db, sub { log_in($private, $person) });
    is_deeply [map {/^(\w+)/} @sent], [qw(SELECT UPDATE SELECT)],
        'look, update, look again'
        or diag join "\n", @sent;

    autoconfirm(0);
    my $lsn = postgres->wal_lsn;
    my $fake = sign_up($private, undef, email => $person->{email});
    is $fake->{status}, 200, 'an address that has an account';
    is postgres->wal_since($lsn), 0, 'writes nothing';
};
$private->stop;

# ---- what the table refuses

my $trigger = sub {
    my ($when, $body, $kind) = @_;
    return (<<"SQL", 'CREATE ' . ($kind || '') . " TRIGGER guard $when");
CREATE FUNCTION <f>() RETURNS trigger LANGUAGE plpgsql AS
'BEGIN $body RETURN NEW; END'
SQL
};

my $before = 'BEFORE INSERT ON <t> FOR EACH ROW EXECUTE FUNCTION <f>()';
my $deferred = 'DEFERRABLE INITIALLY DEFERRED FOR EACH ROW '
    . 'EXECUTE FUNCTION <f>()';
my $rls = 'ALTER TABLE <t> ENABLE ROW LEVEL SECURITY';
my $cure = 'DROP TRIGGER guard ON <t>';

# name, what is done to the table, status, code, the log line, what repairs it
my @refusals = (
    { name => 'a trigger that swallows the row',
        sql => [$trigger->($before, 'RETURN NULL;')],
        status => 500, log => qr/the insert left no row/,
        warning => qr/BEFORE INSERT triggers guard/, cure => [$cure] },
    { name => 'a trigger that raises',
        sql => [$trigger->($before, q{RAISE EXCEPTION ''no more users'';})],
        status => 500, log => qr/no more users \(SQLSTATE P0001/,
        warning => qr/BEFORE INSERT triggers guard/, cure => [$cure] },
    { name => 'a trigger that raises with an SQLSTATE of its own',
        sql => [$trigger->("AFTER INSERT ON <t> FOR EACH ROW "
            . 'EXECUTE FUNCTION <f>()',
            q{RAISE EXCEPTION ''no more users'' USING ERRCODE = ''45000'';})],
        status => 500, log => qr/no more users \(SQLSTATE 45000/,
        cure => [$cure] },
    { name => 'a trigger that raises at the commit',
        sql => [$trigger->("AFTER INSERT ON <t> $deferred",
            q{RAISE EXCEPTION ''too late'';}, 'CONSTRAINT')],
        status => 500, log => qr/too late \(SQLSTATE P0001/,
        cure => [$cure] },
    { name => 'a CHECK constraint',
        sql => [q{ALTER TABLE <t> ADD CONSTRAINT company_only
            CHECK (email LIKE '%@company.example')}],
        status => 500, log => qr/SQLSTATE 23514, constraint company_only/,
        cure => ['ALTER TABLE <t> DROP CONSTRAINT company_only'] },
    { name => 'an e-mail column that is too short',
        sql => ['ALTER TABLE <t> ALTER email TYPE varchar(5)'],
        status => 500, log => qr/does not fit its column \(SQLSTATE 22001/,
        cure => ['ALTER TABLE <t> ALTER email TYPE text'] },
    { name => 'a foreign key on the id',
        sql => ['CREATE TABLE <t>_parent (id uuid PRIMARY KEY)',
            'ALTER TABLE <t> ADD FOREIGN KEY (id) REFERENCES <t>_parent'],
        status => 500, log => qr/SQLSTATE 23503/,
        cure => ['DROP TABLE <t>_parent CASCADE'] },
    { name => 'an exclusion constraint',
        sql => ['ALTER TABLE <t> ADD EXCLUDE (email WITH =)',
            'INSERT INTO <t> VALUES (gen_random_uuid(), <e>)'],
        status => 500, log => qr/SQLSTATE 23P01/,
        cure => ['DELETE FROM <t>'] },
    { name => 'a unique e-mail',
        sql => ['ALTER TABLE <t> ADD UNIQUE (email)',
            'INSERT INTO <t> VALUES (gen_random_uuid(), <e>)'],
        status => 409, code => 'user_row_conflict',
        log => qr/SQLSTATE 23505, constraint \w+_email_key/,
        cure => ['DELETE FROM <t>'] },
    { name => 'a unique index on an expression',
        sql => ['CREATE UNIQUE INDEX <n>_lower ON <t> (lower(email))',
            'INSERT INTO <t> VALUES (gen_random_uuid(), upper(<e>))'],
        status => 409, code => 'user_row_conflict',
        log => qr/SQLSTATE 23505, constraint \w+_lower/,
        cure => ['DELETE FROM <t>'] },
    { name => 'a unique e-mail that is looked at when committing',
        sql => ['ALTER TABLE <t> ADD UNIQUE (email) DEFERRABLE INITIALLY '
            . 'DEFERRED', 'INSERT INTO <t> VALUES (gen_random_uuid(), <e>)'],
        status => 409, code => 'user_row_conflict',
        log => qr/SQLSTATE 23505, constraint \w+_email_key/,
        cure => ['DELETE FROM <t>'] },
    { name => 'row-level security without a policy', sql => [$rls],
        status => 500, log => qr/row-level security policy.*SQLSTATE 42501/,
        warning => qr/has row-level security/,
        cure => ['ALTER TABLE <t> DISABLE ROW LEVEL SECURITY'] },
    { name => 'a policy that lets in and does not show',
        sql => [$rls, 'CREATE POLICY p ON <t> FOR INSERT WITH CHECK (true)'],
        status => 500, log => qr/row-level security policy.*SQLSTATE 42501/,
        warning => qr/has row-level security/,
        cure => ['CREATE POLICY q ON <t> FOR SELECT USING (true)'] },
    { name => 'a policy that does not want this user',
        sql => [$rls, 'CREATE POLICY p ON <t> USING (true) '
            . q{WITH CHECK (email LIKE '%@company.example')}],
        status => 500, log => qr/row-level security policy.*SQLSTATE 42501/,
        warning => qr/has row-level security/,
        cure => ['DROP POLICY p ON <t>',
            'CREATE POLICY p ON <t> USING (true) WITH CHECK (true)'] },
);

# What is done to a table that has the user's row, so that the e-mail in it
# cannot be updated.
my @stale = (
    { name => 'a unique e-mail',
        sql => ['ALTER TABLE <t> ADD UNIQUE (email)',
            'INSERT INTO <t> VALUES (gen_random_uuid(), <e>)'],
        log => qr/SQLSTATE 23505, constraint \w+_email_key/,
        cure => ['DELETE FROM <t> WHERE email = <e>'] },
    { name => 'a unique e-mail that is looked at when committing',
        sql => ['ALTER TABLE <t> ADD UNIQUE (email) DEFERRABLE INITIALLY '
            . 'DEFERRED', 'INSERT INTO <t> VALUES (gen_random_uuid(), <e>)'],
        log => qr/SQLSTATE 23505, constraint \w+_email_key/,
        cure => ['DELETE FROM <t> WHERE email = <e>'] },
    { name => 'a CHECK constraint',
        sql => [q{ALTER TABLE <t> ADD CONSTRAINT old CHECK (email <> <e>)}],
        log => qr/SQLSTATE 23514, constraint old/,
        cure => ['ALTER TABLE <t> DROP CONSTRAINT old'] },
    { name => 'no UPDATE privilege', sql => ['REVOKE UPDATE ON <t> FROM <u>'],
        log => qr/permission denied|GRANT UPDATE/,
        cure => ['GRANT UPDATE ON <t> TO <u>'] },
    { name => 'a trigger that raises',
        sql => [$trigger->('BEFORE UPDATE ON <t> FOR EACH ROW EXECUTE '
            . 'FUNCTION <f>()', q{RAISE EXCEPTION ''never'';})],
        log => qr/never \(SQLSTATE P0001/, cure => [$cure] },
    { name => 'a trigger that swallows the update',
        sql => [$trigger->('BEFORE UPDATE ON <t> FOR EACH ROW EXECUTE '
            . 'FUNCTION <f>()', 'RETURN NULL;')],
        log => qr/trigger|policy/, cure => [$cure] },
    { name => 'row-level security without a policy for UPDATE',
        sql => [$rls, 'CREATE POLICY p ON <t> FOR SELECT USING (true)'],
        log => qr/trigger|policy/, cure => ['ALTER TABLE <t> DISABLE ROW LEVEL '
            . 'SECURITY'] },
);

my $n = 0;
my ($registration, $notices) = ({}, {});
my @cases = (@refusals, @stale, $registration, $notices);
$_->{table} = $_->{vhost} = 'case' . ++$n for @cases;
my $refusing = server($db, {
    map { $_->{vhost} => "UserSyncTable public.$_->{table}" } @cases
})->start;

sub make_table {
    my ($case) = @_;
    postgres->sql($db => $_) for
        "CREATE TABLE public.$case->{table} (id uuid PRIMARY KEY, email text)",
        "GRANT SELECT, INSERT, UPDATE ON public.$case->{table} TO \"www-data\"";
    return;
}

# Statements of a case: <t> is its table, <n> the table's bare name, <f> its
# function, <e> the e-mail address and <u> the module's role.
sub run_sql {
    my ($case, $email, @sql) = @_;
    my $name = $case->{table};
    my %word = (t => "public.$name", n => $name, f => "${name}_f",
        e => "'$email'", u => '"www-data"');
    for my $sql (@sql) {
        $sql =~ s/<(\w)>/$word{$1}/g;
        postgres->sql($db => $sql);
    }
    return;
}

sub refusal {
    my ($case) = @_;
    my ($table, $vhost) = @$case{qw(table vhost)};
    make_table($case);
    my $person = person();
    run_sql($case, $person->{email}, @{ $case->{sql} });
    my $rows = rows_in($db, $table);
    $refusing->restart; # lines about a cause are held back in a child
    my $mark = $refusing->log->mark;
    if ($case->{warning}) {
        # the first look at the table warns
        autoconfirm(0);
        is sign_up($refusing, $vhost, email => $person->{email})->{status},
            200, 'nothing to be written, nothing to be refused';
        one_line($refusing, $mark, $case->{warning}, 'a warning before');
        $mark = $refusing->log->mark;
    }
    my $code = $case->{code} || 'user_row_refused';
    for my $time (1 .. 2) {
        refused_ok log_in($refusing, $person, $vhost), $case->{status}, $code,
            "login $time";
    }
    is +(outcomes($refusing, 1))[0], $code, 'outcome';
    one_line($refusing, $mark, $case->{log}, 'one line');
    is rows_in($db, $table), $rows, 'no row';

    run_sql($case, $person->{email}, @{ $case->{cure} });
    my $in = log_in($refusing, $person, $vhost);
    is $in->{status}, 200, 'logged in as soon as the table accepts'
        or diag show($in);
    is postgres->value($db => "SELECT email FROM $table WHERE id = ?",
        $person->{id}), $person->{email}, 'with a row';
    return;
}

for my $case (@refusals) {
    subtest "$case->{status} $case->{name}" => sub { refusal($case) };
}

# The login succeeds, whatever happens to the e-mail.
sub stays_stale {
    my ($case) = @_;
    my ($table, $vhost) = @$case{qw(table vhost)};
    make_table($case);
    my $person = person();
    $refusing->restart;
    is log_in($refusing, $person, $vhost)->{status}, 200, 'first login';
    my $old = $person->{email};
    $person->{email} = "moved.$old";
    double->change_user($person->{id}, email => $person->{email});
    run_sql($case, $person->{email}, @{ $case->{sql} });

    my @row = ($db => "SELECT email FROM $table WHERE id = ?", $person->{id});
    my $mark = $refusing->log->mark;
    for my $time (1 .. 3) {
        my $in = log_in($refusing, $person, $vhost);
        is $in->{status}, 200, "login $time" or diag show($in);
        ok $in->{json}{session}{access_token}, 'with a session';
        is postgres->value(@row), $old, 'the row has the old address';
    }
    one_line($refusing, $mark, qr/\Q$person->{id}\E.*$case->{log}/,
        'one warning, which names the user by id');
    is_deeply [outcomes($refusing, 3)], [('email-stale') x 3], 'the note';

    run_sql($case, $person->{email}, @{ $case->{cure} });
    is log_in($refusing, $person, $vhost)->{status}, 200, 'login after that';
    is postgres->value(@row), $person->{email}, 'the row has followed';
    is +(outcomes($refusing, 1))[0], 'ok', 'nothing to note';
    return;
}

for my $case (@stale) {
    subtest "stale e-mail: $case->{name}" => sub { stays_stale($case) };
}

subtest 'a refused registration' => sub {
    my ($case, $email) = ($registration, 'refused@people.example');
    make_table($case);
    run_sql($case, $email, 'ALTER TABLE <t> ADD CHECK (email <> <e>)');
    autoconfirm(1);
    $refusing->restart;
    my $mark = $refusing->log->mark;
    refused_ok sign_up($refusing, $case->{vhost}, email => $email), 500,
        'user_row_refused', 'no session for a user without a row';
    one_line($refusing, $mark, qr/usersync-register.*23514/, 'one line');
    ok scalar(grep { $_->{email} eq $email } double->users),
        'the account exists';
    is rows_in($db, $case->{table}), 0, 'the row does not';
};

subtest 'the notices of a trigger' => sub {
    my $case = $notices;
    make_table($case);
    run_sql($case, '', $trigger->('AFTER INSERT ON <t> FOR EACH ROW EXECUTE '
        . 'FUNCTION <f>()', q{RAISE WARNING ''DETAIL %'', NEW.email;}));
    is log_in($refusing, person(), $case->{vhost})->{status}, 200, 'logged in';
};

no_values_ok($refusing, 'company.example');
$refusing->stop;

# ---- a read-only server

subtest 'a read-only server' => sub {
    my $ro = scratch_db('usersync_readonly');
    my $reading = server($ro)->start;
    my ($known, $moved) = (person(), person());
    log_in($reading, $_) for $known, $moved;
    postgres->sql($ro => qq{ALTER ROLE "www-data" IN DATABASE $ro
        SET default_transaction_read_only = on});
    $reading->restart;

    my $mark = $reading->log->mark;
    is log_in($reading, $known)->{status}, 200, 'a known user logs in';
    is_deeply [our_lines($reading, $mark)], [], 'and nothing is logged';

    my $old = $moved->{email};
    $moved->{email} = 'read.only@people.example';
    double->change_user($moved->{id}, email => $moved->{email});
    is log_in($reading, $moved)->{status}, 200, 'with another address too';
    is_deeply [outcomes($reading, 1)], ['email-stale'], 'which is noted';
    one_line($reading, $mark, qr/SQLSTATE 25006.*primary/, 'and warned of');

    $mark = $reading->log->mark;
    my $new = log_in($reading, person());
    refused_ok $new, 503, 'store_unavailable', 'a new user waits';
    like $new->{headers}{'retry-after'}, qr/^[1-9]\d*$/, 'and knows how long';
    one_line($reading, $mark, qr/SQLSTATE 25006.*primary/, 'one line');

    autoconfirm(0);
    my ($real, $fake) = (sign_up($reading),
        sign_up($reading, undef, email => $known->{email}));
    refused_ok $real, 503, 'store_unavailable', 'so does a registration';
    refused_ok $fake, 503, 'store_unavailable',
        'an address that has an account looks the same';

    postgres->sql($ro => qq{ALTER ROLE "www-data" IN DATABASE $ro
        RESET default_transaction_read_only});
    postgres->terminate_backends($ro);
    is log_in($reading, $moved)->{status}, 200, 'the primary is back';
    is postgres->value($ro => 'SELECT email FROM users WHERE id = ?',
        $moved->{id}), $moved->{email}, 'the address follows';
    no_values_ok($reading);
};

done_testing;
