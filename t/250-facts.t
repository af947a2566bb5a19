# OK is a row that was seen: of exactly this id, in exactly this table. What a
# trigger, a default or a policy of the table raises is about the row, with any
# SQLSTATE.

use UserSync::Test;
use UserSync::Tables;

use utf8;

my $role = q("www-data");
my $db = scratch_db('usersync_facts',
    'CREATE SEQUENCE tries', "GRANT USAGE ON SEQUENCE tries TO $role",
    'CREATE FUNCTION raise(state text) RETURNS text LANGUAGE plpgsql AS $$
        BEGIN
            PERFORM nextval(\'tries\');
            RAISE \'on purpose\' USING ERRCODE = state;
        END $$');

# Tables: the text after the columns, and the statements after that; <t> is the
# table.
my %table = (
    plain    => ['id uuid PRIMARY KEY, email text'],
    history  => ['id uuid PRIMARY KEY, email text',
        'CREATE TABLE <t>_history () INHERITS (<t>)',
        "GRANT SELECT, INSERT, UPDATE ON <t>_history TO $role"],
    swapped  => ['id uuid PRIMARY KEY, email text'],
    parted   => ['id uuid PRIMARY KEY, email text) PARTITION BY HASH (id',
        'CREATE TABLE <t>_0 PARTITION OF <t> FOR VALUES WITH '
        . '(MODULUS 1, REMAINDER 0)'],
    renamed  => ['id uuid PRIMARY KEY, email text', trigger(BEFORE =>
        'NEW.id := gen_random_uuid(); RETURN NEW;')],
    removed  => ['id uuid PRIMARY KEY, email text', trigger(AFTER =>
        'DELETE FROM <t> WHERE id = NEW.id; RETURN NULL;'),
        "GRANT DELETE ON <t> TO $role"],
    defaults => [q{id uuid PRIMARY KEY, email text NOT NULL DEFAULT 'none',
        phone text NOT NULL DEFAULT 'no phone', nick text NOT NULL DEFAULT
        'nobody'}],
    required => ['id uuid PRIMARY KEY, email text, nick text NOT NULL'],
    json     => ['id uuid PRIMARY KEY, email json'],
    jsonb    => ['id uuid PRIMARY KEY, email jsonb'],
    upper    => ['id text PRIMARY KEY, email text'],
    serial   => ['id uuid PRIMARY KEY, email text, n serial'],
    policy   => ['id uuid PRIMARY KEY, email text',
        'ALTER TABLE <t> ENABLE ROW LEVEL SECURITY',
        "CREATE POLICY own ON <t> TO $role USING (true) WITH CHECK "
        . q{(current_setting('usersync.tenant') <> '')}],
    blind    => ['id uuid PRIMARY KEY, email text',
        'ALTER TABLE <t> ENABLE ROW LEVEL SECURITY',
        "CREATE POLICY own ON <t> TO $role USING "
        . q{(current_setting('usersync.tenant') <> '') WITH CHECK (true)}],
    default  => [q{id uuid PRIMARY KEY, email text,
        level text DEFAULT raise('42883')}],
);

# RAISE with these ends this login, and no other.
my @states = qw(42P01 42883 42704 08001 57P03 57P01 40001 40P01 25006 26000
    0A000 3D000 3F000 53300 55000 55P03 57014 58030 XX000 22P02 28000 P0001);
$table{ lc "raise$_" } = ['id uuid PRIMARY KEY, email text',
    trigger(BEFORE => "PERFORM raise('$_'); RETURN NEW;")] for @states;

# The statements for a trigger on each inserted row.
sub trigger {
    my ($when, $body) = @_;
    return ("CREATE FUNCTION <t>_does() RETURNS trigger LANGUAGE plpgsql AS "
        . "\$\$ BEGIN $body END \$\$",
        "CREATE TRIGGER does $when INSERT ON <t> FOR EACH ROW EXECUTE "
        . 'FUNCTION <t>_does()');
}

sub make {
    my ($name) = @_;
    my ($columns, @sql) = @{ $table{$name} };
    for my $sql ("CREATE TABLE <t> ($columns)",
        "GRANT SELECT, INSERT, UPDATE ON <t> TO $role", @sql)
    {
        postgres->sql($db => $sql =~ s/<t>/public.$name/gr
            =~ s/CREATE FUNCTION public\./CREATE FUNCTION /r);
    }
    return;
}

my %lines = (
    defaults => "UserSyncColumn phone phone\n"
        . "UserSyncColumn user_metadata.nick nick\n",
    required => "UserSyncColumn user_metadata.nick nick\n",
);
my $httpd = server($db, { map {
    $_ => "UserSyncTable public.$_\n" . ($lines{$_} || '') } keys %table })
    ->start;
make($_) for sort keys %table;
$httpd->allow_log(qr/a user whose row is suppressed there is refused/);

sub row {
    my ($table, $person) = @_;
    my ($row) = postgres->sql($db => "SELECT * FROM $table WHERE id::text = ?",
        $person->{id});
    return $row;
}

sub move {
    my ($person) = @_;
    $person->{email} = "moved.$person->{email}";
    double->change_user($person->{id}, email => $person->{email});
    return;
}

sub in_ok {
    my ($person, $vhost, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $in = log_in($httpd, $person, $vhost);
    return is($in->{status}, 200, $name || "$vhost: logged in")
        || diag show($in);
}

postgres->sql($db => q{SELECT nextval('tries')}); # last_value counts from here
sub tries { return postgres->value($db => 'SELECT last_value FROM tries') }

# A login that the table refuses, with one line.
sub row_refused_ok {
    my ($person, $vhost, $log, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $mark = $httpd->log->mark;
    refused_ok log_in($httpd, $person, $vhost), 500, 'user_row_refused', $name;
    my @lines = grep { !/whose row is suppressed there/ }
        our_lines($httpd, $mark);
    $httpd->allow_log(qr/\Q$_\E/) for @lines;
    return ok(@lines == 1 && $lines[0] =~ $log, "$name: one line")
        || diag join "\n", @lines;
}

subtest 'a table that inherits' => sub {
    my $person = person();
    postgres->sql($db => 'INSERT INTO history_history VALUES (?, ?)',
        $person->{id}, 'old@people.example');
    in_ok($person, 'history', 'whose row is in the child only');
    is rows_in($db, "ONLY history WHERE id = '$person->{id}'"), 1,
        'has one in the table itself';
    move($person);
    in_ok($person, 'history', 'with a new address');
    is_deeply [map { $_->{email} } postgres->sql($db =>
        'SELECT email FROM history ORDER BY email')],
        [$person->{email}, 'old@people.example'],
        'the table itself follows, history stays';
    in_ok(my $other = person(), 'parted', 'a partitioned table');
    move($other);
    in_ok($other, 'parted');
    is row(parted => $other)->{email}, $other->{email}, 'follows as well';
};

# An online migration: no statement fails, but ONLY no longer finds rows.
subtest 'a table that becomes a partitioned one' => sub {
    my ($known, $new) = (person(), person());
    in_ok($known, 'swapped', 'an ordinary one');
    postgres->sql($db => $_) for 'ALTER TABLE swapped RENAME TO swapped_old',
        'CREATE TABLE swapped (id uuid PRIMARY KEY, email text) '
        . 'PARTITION BY HASH (id)',
        'CREATE TABLE swapped_0 PARTITION OF swapped FOR VALUES WITH '
        . '(MODULUS 1, REMAINDER 0)',
        'INSERT INTO swapped SELECT * FROM swapped_old',
        "GRANT SELECT, INSERT, UPDATE ON swapped TO $role";
    in_ok($_, 'swapped') for $known, $new;
    is rows_in($db, 'swapped'), 2, 'the rows of both';
};

subtest 'triggers that take the row away' => sub {
    row_refused_ok(person(), 'renamed',
        qr/succeeded and left no row of this id: a trigger/, 'another id');
    is rows_in($db, 'renamed'), 1, 'one insert';
    row_refused_ok(person(), 'removed',
        qr/succeeded and left no row of this id: a trigger/, 'removed again');
};

subtest 'values that Supabase does not have' => sub {
    my $bare = person(user_metadata => {});
    in_ok($bare, 'defaults');
    is_deeply [@{ row(defaults => $bare) }{qw(phone nick)}],
        ['no phone', 'nobody'], 'defaults';
    my $null = person(user_metadata => { nick => undef });
    in_ok($null, 'defaults', 'null');
    is row(defaults => $null)->{nick}, 'nobody', 'is no value';
    my $named = person(user_metadata => { nick => 'Zoë' });
    in_ok($named, 'defaults');
    is row(defaults => $named)->{nick}, 'Zoë', 'a value is one';
    row_refused_ok($bare, 'required',
        qr/23502, column nick\); Supabase has no value for this user/,
        'nothing to put there');
    in_ok($named, 'required');
};

for my $type (qw(json jsonb)) {
    subtest "an e-mail column of type $type" => sub {
        my $person = person(email => "o'hara&co+$type\@people.example");
        in_ok($person, $type, $_) for 'first', 'again';
        my $version = postgres->value($db =>
            "SELECT xmin FROM $type WHERE id = ?", $person->{id});
        in_ok($person, $type);
        is postgres->value($db => "SELECT xmin FROM $type WHERE id = ?",
            $person->{id}), $version, 'nothing is written';
        move($person);
        in_ok($person, $type);
        is postgres->value($db => "SELECT email #>> '{}' FROM $type "
            . 'WHERE id = ?', $person->{id}), $person->{email}, 'it follows';
    };
}

subtest 'an id in upper case' => sub {
    my $person = person();
    postgres->sql($db => 'INSERT INTO upper VALUES (upper(?))',
        $person->{id});
    row_refused_ok($person, 'upper',
        qr/in upper case: .*UPDATE "public"."upper" SET "id" = lower\("id"\)/,
        'no foreign key to the user\'s id would hold');
    is rows_in($db, 'upper'), 1, 'no second row';
    postgres->sql($db => 'UPDATE upper SET id = lower(id)');
    in_ok($person, 'upper', 'repaired');
    is rows_in($db, 'upper'), 1, 'still one';
    in_ok(person(), 'upper', 'another user');
};

subtest 'a sequence without its privilege' => sub {
    my $person = person();
    my $mark = $httpd->log->mark;
    refused_ok log_in($httpd, $person, 'serial'), 503, 'store_unavailable',
        'refused';
    one_line($httpd, $mark, qr/column "n" of \S+ GRANT USAGE ON SEQUENCE \S*n_seq/,
        'with the grant');
    postgres->sql($db => "GRANT USAGE ON SEQUENCE serial_n_seq TO $role");
    ok wait_until { log_in($httpd, $person, 'serial')->{status} == 200 } 5,
        'granted';
};

subtest 'a sequence at its end' => sub {
    my $known = person();
    in_ok($known, 'serial', 'the last number');
    postgres->sql($db => q{SELECT setval('serial_n_seq', 2147483647)});
    my $person = person();
    my $mark = $httpd->log->mark;
    for (1 .. 2) {
        refused_ok log_in($httpd, $person, 'serial'), 503,
            'store_unavailable', 'no new user gets a row';
    }
    one_line($httpd, $mark,
        qr/sequence "serial_n_seq" .*no row can be added: .*ALTER SEQUENCE/,
        'with the cure');
    in_ok($known, 'serial', 'users with a row are not affected');
    postgres->sql($db => q{SELECT setval('serial_n_seq', 1000)});
    ok wait_until { log_in($httpd, $person, 'serial')->{status} == 200 } 10,
        'repaired';
};

for my $state (@states) {
    subtest "a trigger raises $state" => sub {
        my $before = tries();
        my $in = log_in($httpd, person(), lc "raise$state");
        refused_ok $in, 500, 'user_row_refused', 'it is the row';
        is tries() - $before, 1, 'tried once';
        $httpd->expect_log(qr/raise\(text\)|SQLSTATE \Q$state\E|does not fit/);
    };
}
in_ok(person(), 'plain', 'and nobody else\'s affair');

subtest 'policies and defaults' => sub {
    row_refused_ok(person(), 'policy',
        qr/usersync\.tenant.*SQLSTATE 42704/, 'a policy for new rows');
    row_refused_ok(person(), 'blind',
        qr/usersync\.tenant.*SQLSTATE 42704/, 'a policy for all rows');
    row_refused_ok(person(), 'default', qr/SQLSTATE 42883/, 'a default');
};

# ---- whose operators

subtest 'planted operators' => sub {
    postgres->sql($db => $_) for
        'CREATE TABLE stolen (who text)', 'GRANT INSERT ON stolen TO PUBLIC',
        (map { my ($left, $right) = @$_; (
            "CREATE FUNCTION planted(a $left, b $right) RETURNS boolean
                LANGUAGE plpgsql AS \$\$ BEGIN INSERT INTO stolen
                VALUES (current_user); RETURN true; END \$\$",
            "CREATE OPERATOR public.= (FUNCTION = planted, LEFTARG = $left,
                RIGHTARG = $right)") }
            [qw(oid regclass)], [qw(uuid uuid)], [qw(text text)],
            [qw(uuid text)], [qw(oid oid)], [qw("char" "char")],
            [qw(int2 int4)], [qw(int2 int2)]),
        qq{ALTER ROLE $role IN DATABASE $db SET search_path =
            public, pg_catalog};
    $httpd->restart;
    my $person = person();
    in_ok($person, 'plain', $_) for 'a new user', 'a known one';
    ok row(plain => $person), 'with a row';
    move($person);
    in_ok($person, 'plain', 'a new address');
    is row(plain => $person)->{email}, $person->{email}, 'follows';
    is rows_in($db, 'stolen'), 0, 'nobody else\'s code has run';
};

no_values_ok($httpd);

done_testing;
