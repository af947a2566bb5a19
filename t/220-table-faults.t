# A fault of the table or the database is logged in one line that names the
# cure, does no more harm than it must, looks the same to a stranger who tries
# addresses, and ends as soon as it is repaired.

use UserSync::Test;
use UserSync::Tables;

use utf8;

my $db = scratch_db('usersync_faults', 'CREATE SCHEMA closed',
    'CREATE DOMAIN public.needed AS text NOT NULL',
    'CREATE DOMAIN public.still_needed AS public.needed');
my $columns = 'id uuid PRIMARY KEY, email text, phone text';

# Everything after <t> is created as it should be. break and cure: SQL; known:
# the login of a known user meanwhile; log: the line of a child that first sees
# it broken, warm: of one that knew the table before, if different.
my @faults = (
    { name => 'no table', known => 503,
        break => ['ALTER TABLE <t> RENAME TO <n>_gone'],
        log => qr/"public"\."\w+" does not exist: apply the migrations or/,
        cure => ['ALTER TABLE <t>_gone RENAME TO <n>'] },
    { name => 'no schema', schema => 'crm', known => 503,
        before => ['CREATE SCHEMA crm', 'GRANT USAGE ON SCHEMA crm TO <u>'],
        break => ['ALTER SCHEMA crm RENAME TO lost'],
        log => qr/table "crm"\."\w+" does not exist/,
        cure => ['ALTER SCHEMA lost RENAME TO crm'] },
    { name => 'no id column', known => 503,
        break => ['ALTER TABLE <t> RENAME id TO uid'],
        log => qr/has no column "id": add it or correct UserSyncColumn/,
        cure => ['ALTER TABLE <t> RENAME uid TO id'] },
    { name => 'no e-mail column', known => 503,
        break => ['ALTER TABLE <t> DROP email'],
        log => qr/has no column "email": add it or correct UserSyncColumn/,
        cure => ['ALTER TABLE <t> ADD email text'] },
    { name => 'no column of ours that is only inserted',
        break => ['ALTER TABLE <t> DROP phone'],
        log => qr/has no column "phone": add it or correct UserSyncColumn/,
        cure => ['ALTER TABLE <t> ADD phone text'] },
    { name => 'a view in place of the table', known => 503,
        break => ['ALTER TABLE <t> RENAME TO <n>_gone',
            'CREATE VIEW <t> AS SELECT 1 AS one'],
        log => qr/is not a table: UserSyncTable must name one/,
        warm => qr/permission denied|is not a table/,
        cure => ['DROP VIEW <t>', 'ALTER TABLE <t>_gone RENAME TO <n>'] },
    { name => 'no SELECT privilege', known => 503,
        break => ['REVOKE SELECT ON <t> FROM <u>'],
        log => qr/no permission to read column "id" .*GRANT SELECT \("id"\) ON/,
        cure => ['GRANT SELECT ON <t> TO <u>'] },
    { name => 'no SELECT privilege on the e-mail', known => 503,
        break => ['REVOKE SELECT ON <t> FROM <u>',
            'GRANT SELECT (id) ON <t> TO <u>'],
        log => qr/no permission to read .*GRANT SELECT \("email"\) ON/,
        cure => ['GRANT SELECT (email) ON <t> TO <u>'] },
    { name => 'no INSERT privilege', break => ['REVOKE INSERT ON <t> FROM <u>'],
        log => qr/no permission to fill column "id" .*GRANT INSERT \("id"\) ON/,
        cure => ['GRANT INSERT ON <t> TO <u>'] },
    { name => 'no INSERT privilege on a column of ours',
        break => ['REVOKE INSERT ON <t> FROM <u>',
            'GRANT INSERT (id, email) ON <t> TO <u>'],
        log => qr/no permission to fill .*GRANT INSERT \("phone"\) ON/,
        cure => ['GRANT INSERT (phone) ON <t> TO <u>'] },
    { name => 'no USAGE on the schema', schema => 'closed', known => 503,
        before => ['GRANT USAGE ON SCHEMA closed TO <u>'],
        break => ['REVOKE USAGE ON SCHEMA closed FROM <u>'],
        log => qr/"closed"\.\S+ .*GRANT USAGE ON SCHEMA/,
        cure => ['GRANT USAGE ON SCHEMA closed TO <u>'] },
    (map { { name => $_->[0], break => ['ALTER TABLE <t> DROP CONSTRAINT '
            . '<n>_pkey', @$_[1 .. $#$_]],
        log => qr/column "id" of \S+ needs a primary key or a unique index of /,
        cure => ['CREATE UNIQUE INDEX <n>_cure ON <t> (id)'] } }
        ['no unique index'],
        ['an index that is not unique', 'CREATE INDEX ON <t> (id)'],
        ['a partial unique index',
            'CREATE UNIQUE INDEX ON <t> (id) WHERE email IS NOT NULL'],
        ['a unique index over two columns',
            'CREATE UNIQUE INDEX ON <t> (id, email)'],
        ['a unique index on an expression',
            'CREATE UNIQUE INDEX ON <t> ((id::text))'],
        ['a unique index that could not be built',
            'CREATE UNIQUE INDEX <n>_bad ON <t> (id)', 'UPDATE pg_index '
            . q{SET indisvalid = false WHERE indexrelid = '<t>_bad'::regclass}],
    ),
    { name => 'a deferrable primary key',
        break => ['ALTER TABLE <t> DROP CONSTRAINT <n>_pkey',
            'ALTER TABLE <t> ADD CONSTRAINT <n>_pkey PRIMARY KEY (id) '
            . 'DEFERRABLE'],
        log => qr/column "id" of \S+ needs a primary key or a unique index of /,
        warm => qr/unique|deferrable/,
        cure => ['ALTER TABLE <t> DROP CONSTRAINT <n>_pkey',
            'ALTER TABLE <t> ADD PRIMARY KEY (id)'] },
    { name => 'a column that nobody fills', status => 500,
        break => ['ALTER TABLE <t> ADD company text',
            q{UPDATE <t> SET company = 'x'},
            'ALTER TABLE <t> ALTER company SET NOT NULL'],
        log => qr/"company" .*NOT NULL without a default .*UserSyncColumn/,
        warm => qr/company/,
        cure => [q{ALTER TABLE <t> ALTER company SET DEFAULT 'none'}] },
    (map { { name => "a column of the NOT NULL domain $_ that nothing fills",
        status => 500,
        break => ['ALTER TABLE <t> ADD company text',
            q{UPDATE <t> SET company = 'x'},
            "ALTER TABLE <t> ALTER company TYPE public.$_"],
        log => qr/"company" .*NOT NULL without a default .*UserSyncColumn/,
        warm => qr/company|domain/,
        cure => ['ALTER TABLE <t> ALTER company DROP NOT NULL, '
            . 'ALTER company TYPE text'] } } qw(needed still_needed)),
    (map { { name => "a rule: $_", before => ['CREATE TABLE <t>_log (id uuid)'],
        break => ["CREATE RULE odd AS $_"],
        log => qr/has rules on INSERT or UPDATE \(odd\).*use triggers/,
        warm => qr/rules/, cure => ['DROP RULE odd ON <t>'] } }
        'ON INSERT TO <t> DO INSTEAD NOTHING',
        'ON INSERT TO <t> DO ALSO INSERT INTO <t>_log VALUES (NEW.id)',
        'ON UPDATE TO <t> WHERE false DO INSTEAD NOTHING'),
);

my $n = 0;
for my $case (@faults) {
    $case->{vhost} = 'fault' . ++$n;
    $case->{table} = ($case->{schema} || 'public') . ".$case->{vhost}";
    $case->{known} ||= 200;
    $case->{status} ||= 503;
    $case->{code} = $case->{status} == 503 ? 'store_unavailable'
        : 'user_row_refused';
}

# Four that are broken from the start: what one child logs about several.
my @several = map { "several$_" } 1 .. 4;

my $httpd = server($db, {
    (map { $_->{vhost} => "UserSyncTable $_->{table}" } @faults),
    (map { $_ => "UserSyncTable public.$_" } @several, 'fake1', 'fake2',
        'fake3'),
    converted => "UserSyncTable public.converted\n"
        . "UserSyncColumn user_metadata.nick phone\nUserSyncColumn phone None",
}, UserSyncColumn => 'phone phone')->start;

sub run_sql {
    my ($case, @sql) = @_;
    my %word = (t => $case->{table}, n => $case->{vhost}, u => '"www-data"');
    for my $sql (@sql) {
        $sql =~ s/<(\w)>/$word{$1}/g;
        postgres->sql($db => $sql);
    }
    return;
}

sub make {
    my ($case) = @_;
    run_sql($case, @{ $case->{before} || [] }, "CREATE TABLE <t> ($columns)",
        'GRANT SELECT, INSERT, UPDATE ON <t> TO <u>');
    return;
}

double->config(autoconfirm => JSON::PP::false);

# What everybody gets while it is broken, from a child that has noticed (or not
# yet); the invented sign-up comes after a real one, see below.
sub is_broken {
    my ($case, $known, $log) = @_;
    my ($vhost, $status, $code) = @$case{qw(vhost status code)};
    my $mark = $httpd->log->mark;
    my $person = person();
    refused_ok log_in($httpd, $person, $vhost), $status, $code, 'a new user';
    refused_ok sign_up($httpd, $vhost), $status, $code, 'a registration';
    refused_ok sign_up($httpd, $vhost, email => $known->{email}), $status,
        $code, 'a registration of an address that is taken';
    refused_ok log_in($httpd, $person, $vhost), $status, $code, 'once more';
    my $in = log_in($httpd, $known, $vhost);
    is $in->{status}, $case->{known}, "a known user: $case->{known}"
        or diag show($in);
    one_line($httpd, $mark, $log, 'one line');
    return $person;
}

# A child checks a table that does not match four times a second.
sub is_mended {
    my ($case, $person) = @_;
    wait_until { log_in($httpd, $person, $case->{vhost})->{status} == 200 }
        5, 'a look at the table';
    return;
}

for my $case (@faults) {
    subtest $case->{name} => sub {
        make($case);
        my $known = person();
        $httpd->restart; # lines about a cause are held back in a child
        is log_in($httpd, $known, $case->{vhost})->{status}, 200, 'it works'
            or return;
        run_sql($case, @{ $case->{break} });
        subtest 'it breaks' => sub {
            is_broken($case, $known, $case->{warm} || $case->{log});
        };
        $httpd->restart;
        my $person;
        subtest 'after a restart' => sub {
            $person = is_broken($case, $known, $case->{log});
        };
        run_sql($case, @{ $case->{cure} });
        my $mark = $httpd->log->mark;
        is_mended($case, $person);
        for ($person, $known, $person) {
            my $in = log_in($httpd, $_, $case->{vhost});
            is $in->{status}, 200, 'mended' or diag show($in);
        }
        is rows_in($db, "$case->{table} WHERE id = '$person->{id}'"), 1,
            'and the row is there';
        is sign_up($httpd, $case->{vhost}, email => $known->{email})->{status},
            200, 'for everybody';
        is_deeply [our_lines($httpd, $mark)], [], 'nothing more is logged';
    };
}

subtest 'several causes in one child' => sub {
    run_sql({ table => "public.$_" }, "CREATE TABLE <t> ($columns)",
        'GRANT SELECT, INSERT, UPDATE ON <t> TO <u>') for @several[1 .. 3];
    run_sql({}, "REVOKE SELECT ON $several[1] FROM <u>",
        "REVOKE INSERT ON $several[2] FROM <u>",
        "ALTER TABLE $several[3] DROP phone");
    $httpd->restart;
    my $mark = $httpd->log->mark;
    for (1 .. 2) {
        refused_ok log_in($httpd, person(), $_), 503, 'store_unavailable', $_
            for @several;
    }
    my @lines = our_lines($httpd, $mark);
    $httpd->allow_log(qr/\Q$_\E/) for @lines;
    is scalar @lines, 4, 'a line for each: none hides another'
        or diag join "\n", @lines;
    is scalar(grep { $lines[$_] && $lines[$_] =~ /$several[$_]/ } 0 .. 3), 4,
        'that names its table';
};

# A child that knows the table as a good one, where a stranger who tries an
# address comes first after it is broken.
my %surprise = (
    fake1 => 'REVOKE INSERT ON <t> FROM <u>',
    fake2 => 'ALTER TABLE <t> DROP CONSTRAINT <n>_pkey',
    fake3 => 'CREATE RULE odd AS ON INSERT TO <t> DO INSTEAD NOTHING',
);
for my $vhost (sort keys %surprise) {
    subtest "an address that is taken, first: $surprise{$vhost}" => sub {
        my $case = { vhost => $vhost, table => "public.$vhost" };
        make($case);
        $httpd->restart;
        my $known = person();
        log_in($httpd, $known, $vhost);
        run_sql($case, $surprise{$vhost});
        my ($fake, $real) = (sign_up($httpd, $vhost, email => $known->{email}),
            sign_up($httpd, $vhost));
        is $fake->{status}, $real->{status}, 'looks as a new one does';
        refused_ok $real, 503, 'store_unavailable', 'which is refused';
        $httpd->allow_log(qr/usersync-register: store_unavailable/);
    };
}

subtest 'a column changes its type' => sub {
    my $case = { vhost => 'converted', table => 'public.converted' };
    make($case);
    $httpd->restart;
    my ($first, $second, $third)
        = map { person(user_metadata => { nick => "Nick $_" }) } 1 .. 3;
    is log_in($httpd, $first, 'converted')->{status}, 200, 'text';
    run_sql($case, 'ALTER TABLE <t> ALTER phone TYPE json '
        . 'USING to_json(phone)');
    log_in($httpd, $second, 'converted') for 1 .. 2;
    $httpd->allow_log(qr/usersync-login: user_row_refused/);
    is log_in($httpd, $third, 'converted')->{status}, 200,
        'json: after a refusal the table is looked at again';
};

no_values_ok($httpd);
$httpd->stop;

# ---- the database

# A rule for this database, before all others.
my $hba = postgres->data . '/pg_hba.conf';
my $hba_before = slurp($hba);
my $password_db = scratch_db('usersync_password');

sub use_hba {
    my ($text, $asks) = @_;
    spew($hba, $text);
    postgres->sql(postgres => 'SELECT pg_reload_conf()');
    wait_until {
        $asks xor eval { postgres->connect($password_db, 'www-data'); 1 }
    } 10, 'the new pg_hba.conf';
    return;
}

my $closed = scratch_db('usersync_closed');
my $missing = drop_at_end('usersync_missing');
my $patience = "UserSyncStoreTimeout 500ms\n";
my $away = server($db, {
    missing => "DBDParams ${\ dsn_of($missing) }\n$patience",
    role => "DBDParams ${\ dsn_of($closed, user => 'usersync_nobody') }\n"
        . $patience,
    password => "DBDParams ${\ dsn_of($password_db, password => 'guessed') }\n"
        . $patience,
    full => "DBDParams ${\ dsn_of($closed) }\n$patience",
    sqlite => qq{DBDriver sqlite3\nDBDParams "\@DIR\@/users.sqlite"\n},
})->start;
# mod_dbd's lines about it
$away->allow_log(qr/\[dbd:error\].*(?:AH00629|AH00632|AH00633|AH02655)/);

my @outages = (
    { name => 'no such database', vhost => 'missing', db => $missing,
        cure => sub { postgres->createdb($missing) } },
    { name => 'no such role', vhost => 'role', db => $closed, cure => sub {
        postgres->sql($closed => $_) for 'CREATE ROLE usersync_nobody LOGIN '
            . 'IN ROLE "www-data"' } },
    { name => 'a wrong password', vhost => 'password', db => $password_db,
        break => sub {
            postgres->sql(postgres =>
                q{ALTER ROLE "www-data" PASSWORD 'another'});
            use_hba("local $password_db \"www-data\" scram-sha-256\n"
                . $hba_before, 1);
        },
        cure => sub { postgres->sql(postgres =>
            q{ALTER ROLE "www-data" PASSWORD 'guessed'}) } },
    { name => 'too many connections', vhost => 'full', db => $closed,
        break => sub { postgres->sql(postgres =>
            "ALTER DATABASE $closed CONNECTION LIMIT 0") },
        cure => sub { postgres->sql(postgres =>
            "ALTER DATABASE $closed CONNECTION LIMIT -1") } },
);

for my $case (@outages) {
    subtest $case->{name} => sub {
        my $vhost = $case->{vhost};
        my ($person, $known) = (person(), person());
        $case->{break}->() if $case->{break};
        $away->restart;
        my $mark = $away->log->mark;
        my @refused = (log_in($away, $person, $vhost), sign_up($away, $vhost),
            sign_up($away, $vhost, email => $known->{email}),
            log_in($away, $person, $vhost));
        refused_ok $_, 503, 'store_unavailable', 'refused' for @refused;
        is scalar(grep { $_->{elapsed} > 2.5 } @refused), 0, 'in time';
        is scalar(grep { $_->{headers}{'retry-after'} !~ /^[1-9]\d*$/ }
            @refused), 0, 'and told when to retry';
        my @lines = our_lines($away, $mark);
        is scalar(grep {!/DBDParams and the PostgreSQL server/} @lines), 0,
            'our lines name what to check';
        # "for a while" is another cause than "in time"
        ok @lines >= 1 && @lines <= 2, 'they are few'
            or diag join "\n", @lines;
        $away->allow_log(qr/\Q$_\E/) for @lines;

        $case->{cure}->();
        wait_until { log_in($away, $person, $vhost)->{status} == 200 } 15,
            "the end of the outage: $case->{name}";
        is rows_in($case->{db}, "users WHERE id = '$person->{id}'"), 1,
            'repaired without a restart';
    };
}
use_hba($hba_before, 0);
postgres->sql(postgres => 'ALTER ROLE "www-data" PASSWORD NULL');

subtest 'DBDriver sqlite3 in a vhost that inherits the routes' => sub {
    $away->restart;
    my $mark = $away->log->mark;
    my $known = person();
    refused_ok $_, 503, 'store_unavailable', 'refused' for
        log_in($away, $known, 'sqlite'), sign_up($away, 'sqlite'),
        sign_up($away, 'sqlite', email => $known->{email});
    one_line($away, $mark, qr/DBDriver is sqlite3: mod_usersync needs pgsql/,
        'one line');
    is log_in($away, $known)->{status}, 200, 'the main server is fine';
};
ok !(grep {/guessed|another/} $away->log_since(0)), 'no password in the log';
no_values_ok($away);
$away->stop;

subtest 'DBDriver sqlite3 in the server of the routes' => sub {
    my @sqlite = (DBDriver => 'sqlite3', DBDParams => '"@DIR@/users.sqlite"');
    my $main = UserSync::Httpd->new(config => module_config(@sqlite));
    my ($status, $said) = $main->configtest;
    isnt $status, 0, 'configtest refuses the main server';
    like $said, qr/main server: DBDriver is sqlite3: mod_usersync needs pgsql/,
        'and says so';
    my $vhost = UserSync::Httpd->new(config => module_config(),
        vhosts => { own => <<'CONF' });
DBDriver sqlite3
DBDParams "@DIR@/users.sqlite"
<Location "/auth/login">
    SetHandler usersync-login
</Location>
CONF
    ($status, $said) = $vhost->configtest;
    isnt $status, 0, 'configtest refuses a vhost';
    like $said, qr/vhost \S+ \(\S+:\d+\): DBDriver is sqlite3: mod_usersync /,
        'and says which';
};

# ---- encodings

my $by_role = scratch_db('usersync_by_role', q{ALTER ROLE "www-data" IN
    DATABASE usersync_by_role SET client_encoding = 'LATIN1'});
my $by_db = scratch_db('usersync_by_db',
    q{ALTER DATABASE usersync_by_db SET client_encoding = 'SJIS'});
my $plain = scratch_db('usersync_plain');
my $latin = encoded_db(usersync_latin => 'LATIN1');
my $ascii = encoded_db(usersync_ascii => 'SQL_ASCII');
my %of_vhost = (role => dsn_of($by_role), database => dsn_of($by_db),
    params => dsn_of($plain, client_encoding => 'LATIN1'),
    latin => dsn_of($latin), ascii => dsn_of($ascii));
my $speaking = server($db, { map { $_ => "DBDParams $of_vhost{$_}" }
    keys %of_vhost })->start;

# A login of a user with this e-mail; returns the bytes that are stored then.
sub stored {
    my ($vhost, $name, $person, $email) = @_;
    double->change_user($person->{id}, email => $email);
    my $in = log_in($speaking, { %$person, email => $email }, $vhost);
    my $hex = postgres->value($name => q{SELECT
        encode(convert_to(email, 'UTF8'), 'hex') FROM users WHERE id = ?},
        $person->{id});
    return "$in->{status} " . (defined $hex ? pack 'H*', $hex : 'NULL');
}

for my $case (['client_encoding of the role', 'role', $by_role],
    ['client_encoding of the database', 'database', $by_db],
    ['client_encoding in DBDParams', 'params', $plain],
    ['a database in LATIN1', 'latin', $latin],
    ['a database without an encoding', 'ascii', $ascii]) {
    my ($name, $vhost, $base) = @$case;
    subtest $name => sub {
        # an ampersand comes escaped
        my @emails = ('jörg@straße.example', 'année@people.example',
            'andré&co@people.example');
        push @emails, '用户@例子.example' unless $vhost eq 'latin';
        my ($first, @more) = @emails;
        my $person = person();
        for my $email (@emails) {
            utf8::encode(my $bytes = $email);
            is stored($vhost, $base, $person, $email), "200 $bytes",
                'stored as it is';
            my @row = ($base => 'SELECT xmin::text FROM users WHERE id = ?',
                $person->{id});
            my $xmin = postgres->value(@row);
            stored($vhost, $base, $person, $email);
            is postgres->value(@row), $xmin, 'and found to be the same';
            postgres->terminate_backends($base);
        }
    };
}

subtest 'letters that the database cannot hold' => sub {
    my ($known, $new) = (person(), person());
    is stored('latin', $latin, $known, $known->{email}),
        "200 $known->{email}", 'a row';
    $speaking->restart;
    my $mark = $speaking->log->mark;
    is stored('latin', $latin, $new, '用户@例子.example'), '500 NULL',
        'a new user is refused';
    is stored('latin', $latin, $known, '用户@例子.example'),
        "500 $known->{email}", 'and so is a known one, the row as it was';
    is_deeply [outcomes($speaking, 2)], [('user_row_refused') x 2], 'outcomes';
    one_line($speaking, $mark, qr/user_row_refused.*SQLSTATE 22P05/,
        'one line');
    is stored('latin', $latin, $known, $known->{email}),
        "200 $known->{email}", 'with an address that fits it is fine';
};
no_values_ok($speaking);

END {
    my $status = $?;
    spew($hba, $hba_before) if $hba_before;
    eval {
        postgres->dropdb($closed) if $closed;
        postgres->sql(postgres => $_) for 'SELECT pg_reload_conf()',
            'ALTER ROLE "www-data" PASSWORD NULL',
            'DROP ROLE IF EXISTS usersync_nobody';
        1;
    } or warn $@;
    $? = $status;
}

done_testing;
