# Whatever a user or a table has done, a ban and a deletion arrive: users choose
# their metadata, and tables have rules and rights of their own.

use UserSync::Background;
use UserSync::Event;
use UserSync::Gate;
use UserSync::Tables;
use UserSync::Test;

my $GUARDED = guarded('/app', 'UserSyncEnsure On');
my $dbs = 0;
my $httpd;

# A database of its own with these statements, and a server for it.
sub start {
    my ($lines, @sql) = @_;
    my $db = event_db('usersync_refused_' . ++$dbs, @sql);
    $httpd = event_server($db, modules => ['authn_anon'],
        config => "$lines$GUARDED");
    mkdir $httpd->dir . '/htdocs/app';
    UserSync::Util::spew($httpd->dir . '/htdocs/app/file', "file\n");
    $httpd->start;
    return $db;
}

sub gate_says {
    my ($id, $vhost) = @_;
    return visit($httpd, $httpd->url('/app/file', $vhost), $id)->{status};
}

sub banned { return { id => $_[0], banned_until => time_stamp(3600), @_[1 .. $#_] } }

subtest 'values that a column does not take' => sub {
    my $lines = "UserSyncColumn user_metadata.age age\n"
        . "UserSyncColumn user_metadata.nick nick\n";
    my $db = start($lines,
        'ALTER TABLE users ADD COLUMN age integer CHECK (age > 0),
            ADD COLUMN nick varchar(5) UNIQUE',
        'GRANT INSERT (age, nick), UPDATE (age, nick) ON users TO "www-data"');
    my $taken = new_id();
    applied_ok send_event($httpd, { type => 'INSERT', id => $taken,
        user_metadata => { nick => 'ada' } });
    # a child tells of a cause once in ten seconds
    $httpd->allow_log(
        qr/applied, user \S+: (?:only whether|the new row has neither)/);
    for my $case (['no number', { age => 'abc' }], ['too large', { age => 1e12 }],
        ['a CHECK', { age => -1 }], ['too long', { nick => 'abcdef' }],
        ['taken', { nick => 'ada' }]) {
        my ($name, $metadata) = @$case;
        for my $known (1, 0) {
            my $id = new_id();
            is gate_says($id), 200, "$name: let in" if $known;
            applied_ok send_event($httpd,
                banned($id, user_metadata => $metadata)), "$name: a ban";
            is gate_says($id), 403, "$name: refused";
        }
    }
    $httpd->stop;
};

subtest 'an e-mail that must be there' => sub {
    my $db = start('', 'ALTER TABLE users ALTER email SET NOT NULL');
    my $id = new_id();
    applied_ok send_event($httpd, { type => 'INSERT', id => $id });
    $httpd->expect_log(qr/applied, user $id: only whether .*23502/);
    applied_ok send_event($httpd, banned($id, email => undef)), 'a ban';
    is gate_says($id), 403, 'refused';
    is row_of($id, $db)->{email}, "$id\@example.com", 'the e-mail stays';
    $httpd->stop;
};

subtest 'a table that takes no new rows' => sub {
    my $id = new_id();
    my $db = start('', "INSERT INTO users (id) VALUES ('$id')",
        'ALTER TABLE users ADD COLUMN team text NOT NULL DEFAULT 1',
        'ALTER TABLE users ALTER team DROP DEFAULT');
    applied_ok send_event($httpd, banned($id)), 'a ban';
    is gate_says($id), 403, 'refused';
    $httpd->expect_log(qr/user_row_refused.*"team" of/);
    is send_event($httpd, { type => 'INSERT' })->{status}, 500, 'a new user';
    $httpd->stop;
};

subtest 'a right that is missing' => sub {
    my $db = start("UserSyncColumn user_metadata.nick nick\n",
        'ALTER TABLE users ADD COLUMN nick text',
        'GRANT INSERT (nick) ON users TO "www-data"');
    my $id = new_id();
    applied_ok send_event($httpd, { type => 'INSERT', id => $id });
    $httpd->expect_log(qr/applied, user $id: only .*events need the right to/);
    applied_ok send_event($httpd, banned($id)), 'a ban';
    is gate_says($id), 403, 'refused';
    $httpd->stop;
};

subtest 'metadata that is deep' => sub {
    start('');
    my $id = new_id();
    is gate_says($id), 200, 'let in';
    my $deep = '{"a":' . '[' x 20_000 . ']' x 20_000 . '}';
    applied_ok send_event($httpd, banned($id, user_metadata => \$deep)), 'a ban';
    is gate_says($id), 403, 'refused';
    $httpd->stop;
};

subtest 'for more than ten thousand years' => sub {
    start('');
    my $id = new_id();
    applied_ok send_event($httpd, { id => $id,
        banned_until => '12026-01-01T00:00:00+00:00' });
    is gate_says($id), 403, 'refused';
    $httpd->stop;
};

for my $type ('uuid', 'text', 'character varying(36)') {
    subtest "ids of type $type" => sub {
        my $db = start("UserSyncOnDelete Delete\n",
            'DROP TABLE IF EXISTS activities',
            "ALTER TABLE users ALTER id TYPE $type",
            "CREATE TABLE users_deleted (id $type PRIMARY KEY,
                deleted_at timestamptz NOT NULL, updated_at timestamptz)",
            'GRANT SELECT, INSERT, UPDATE, DELETE ON users_deleted
                TO "www-data"',
            'GRANT DELETE ON users TO "www-data"');
        my ($id, $never) = (new_id(), new_id());
        is gate_says($id), 200, 'let in';
        applied_ok send_event($httpd, { type => 'DELETE', id => $_ })
            for $id, $never;
        is gate_says($_), 401, 'refused' for $id, $never;
        is has_row($_, $db), 0, 'no row' for $id, $never;
        applied_ok send_event($httpd, { type => 'INSERT', id => $id }),
            'made again';
        is gate_says($id), 200, 'let in';
        $httpd->stop;
    };
}

subtest 'a trigger that forbids to delete' => sub {
    my $db = start("UserSyncOnDelete Delete\n", <<'SQL',
CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS
'BEGIN RAISE EXCEPTION ''kept''; END'
SQL
        'CREATE TRIGGER keep BEFORE DELETE ON users FOR EACH ROW
            EXECUTE FUNCTION keep()',
        'CREATE TABLE users_deleted (id uuid PRIMARY KEY,
            deleted_at timestamptz NOT NULL, updated_at timestamptz)',
        'GRANT SELECT, INSERT, UPDATE, DELETE ON users_deleted TO "www-data"',
        'GRANT DELETE ON users TO "www-data"');
    my $id = new_id();
    is gate_says($id), 200, 'let in';
    $httpd->expect_log(qr/row stays and counts as deleted: PostgreSQL: kept/);
    applied_ok send_event($httpd, { type => 'DELETE', id => $id });
    is gate_says($id), 401, 'refused';
    ok row_of($id, $db)->{deleted_at}, 'marked';
    $httpd->stop;
};

subtest 'vhosts that let in by other columns' => sub {
    my $db = event_db('usersync_refused_vhosts');
    $httpd = event_server($db, modules => ['authn_anon'],
        config => $GUARDED, vhosts => { lax => "UserSyncColumn banned_until None" });
    mkdir $httpd->dir . '/htdocs/app';
    UserSync::Util::spew($httpd->dir . '/htdocs/app/file', "file\n");
    $httpd->start;
    my $id = new_id();
    applied_ok send_event($httpd, banned($id));
    is gate_says($id, 'lax'), 200, 'one that knows of no bans' for 1, 2;
    is gate_says($id), 403, 'and one that does' for 1, 2;
    is gate_says($id, 'lax'), 200, 'and again';
    $httpd->stop;
};

# An event waits for the row; whoever signs in does not wait for events.
subtest 'rows that somebody holds' => sub {
    my $db = start("UserSyncStoreTimeout 1s\nUserSyncCache none\n");
    my @ids = map { new_id() } 1 .. 4;
    is gate_says($_), 200, 'let in' for @ids;
    my $batch = postgres->connect($db);
    $batch->begin_work;
    $batch->do('UPDATE users SET email = email');
    $httpd->allow_log(qr/usersync-event: store_unavailable/);
    my @jobs = map {
        my $id = $_;
        UserSync::Background->start(
            sub { send_event($httpd, banned($id))->{status} })
    } @ids;
    is_deeply [map { $_->result } @jobs], [(503) x 4], 'events give up';
    is gate_says($_), 200, 'nobody else is kept out' for @ids, new_id();
    is send_event($httpd, { type => 'INSERT' })->{status}, 204,
        'nor another event';
    $batch->rollback;
    applied_ok send_event($httpd, banned($ids[0])), 'then it arrives';
    is gate_says($ids[0]), 403, 'refused';
    $httpd->stop;
};

# Somebody who is not at Supabase keeps their address.
subtest 'a row of somebody else' => sub {
    my ($stranger, $id) = (new_id(), new_id());
    my $db = start('', 'CREATE UNIQUE INDEX ON users (email)',
        "INSERT INTO users (id, email) VALUES ('$stranger', 'x\@example.com')");
    $httpd->allow_log(qr/another row has this e-mail and keeps it/);
    applied_ok send_event($httpd, { type => 'INSERT', id => $id,
        email => 'x@example.com' });
    applied_ok send_event($httpd, { id => $id, email => 'x@example.com' });
    is_deeply [map { row_of($_, $db)->{email} } $stranger, $id],
        ['x@example.com', undef], 'keep their own';
    $httpd->stop;
};

done_testing;
