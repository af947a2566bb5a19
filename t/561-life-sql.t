# sql/user_life.sql and sql/users_deleted.sql: columns, tombstones and rights,
# for the table as shipped and for others, and once more without harm.

use UserSync::Tables qw(scratch_db);
use UserSync::Test;

my $top = UserSync::Util::top_dir();
my $DB  = scratch_db('usersync_life');
my $PG  = postgres();

# (exit status, output) of a file of sql/
sub apply {
    my ($file, @variables) = @_;
    return run_command(UserSync::Postgres::bin('psql'), '-X', '-q', '-1', '-v',
        'ON_ERROR_STOP=1', '-h', $PG->host, '-p', $PG->port, '-U', 'postgres',
        '-d', $DB, (map { ('-v', $_) } @variables), '-f', "$top/sql/$file");
}

# Runs statements as the web server; returns the error, or ''.
sub as_httpd {
    my (@sql) = @_;
    my $dbh = $PG->connect($DB, 'www-data');
    my $done = eval { $dbh->do($_) for @sql; 1 };
    my $error = $done ? '' : $dbh->errstr;
    $dbh->disconnect;
    return $error;
}

sub columns {
    my ($table) = @_;
    return { map { @$_{qw(name type)} } $PG->sql($DB => <<'SQL', $table) };
SELECT attname AS name, format_type(atttypid, atttypmod)
       || CASE WHEN attnotnull THEN ' NOT NULL' ELSE '' END AS type
  FROM pg_attribute
 WHERE attrelid = ?::regclass AND attnum > 0 AND NOT attisdropped
SQL
}

my $ID = '8b1d6d5c-2a4e-4f53-9b0c-3f6f0f8f7f10';

$PG->sql($DB => $_) for 'CREATE SCHEMA crm',
    'CREATE TABLE crm.accounts (auth_id uuid UNIQUE, mail text)';
my ($status, $said) = apply('grants.sql', 'schema=crm', 'table=accounts',
    'id=auth_id', 'email=mail');
is $status, 0, 'the grants of another table' or diag $said;

for my $case (['public', 'users', 'id'], ['crm', 'accounts', 'auth_id']) {
    my ($schema, $name, $id) = @$case;
    my $table = "$schema.$name";
    subtest $table => sub {
        my @names = ("schema=$schema", "table=$name");
        my $made = "INSERT INTO $table ($id, supabase_updated_at, "
            . "banned_until, deleted_at, is_anonymous) VALUES ('$ID', now(), "
            . "now(), NULL, false) ON CONFLICT ($id) DO NOTHING";
        my $gone = "DELETE FROM $table WHERE $id = '$ID'";
        isnt as_httpd($made), '', 'not before';
        for my $time ('once', 'twice') {
            my ($status, $said) = apply('user_life.sql', @names);
            is $status, 0, "user_life.sql $time" or diag $said;
        }
        is_deeply { %{ columns($table) }{qw(supabase_updated_at banned_until
            deleted_at is_anonymous)} },
            { is_anonymous => 'boolean', map { $_ =>
                'timestamp with time zone' } qw(supabase_updated_at
                banned_until deleted_at) }, 'the columns';
        is as_httpd($made, "UPDATE $table SET deleted_at = now(), banned_until "
            . "= NULL, supabase_updated_at = now(), is_anonymous = true WHERE "
            . "$id = '$ID' AND supabase_updated_at <= now()",
            "SELECT deleted_at, banned_until FROM $table"), '',
            'the web server can write them';
        like as_httpd($gone), qr/permission denied/, 'and delete nobody';
        for my $time ('once', 'twice') {
            my ($status, $said) = apply('users_deleted.sql', @names,
                "id=$id");
            is $status, 0, "users_deleted.sql $time" or diag $said;
        }
        is_deeply columns("${table}_deleted"), { id => 'uuid NOT NULL',
            deleted_at => 'timestamp with time zone NOT NULL',
            updated_at => 'timestamp with time zone' }, 'the tombstones';
        is as_httpd("WITH gone AS ($gone RETURNING $id) INSERT INTO "
            . "${table}_deleted AS t (id, deleted_at, updated_at) SELECT $id, "
            . 'now(), now() FROM gone ON CONFLICT (id) DO UPDATE SET '
            . 'deleted_at = excluded.deleted_at, updated_at = '
            . 'excluded.updated_at WHERE t.updated_at < excluded.updated_at'),
            '', 'it can delete now, and leave a tombstone';
        is $PG->value($DB => "SELECT count(*) FROM ${table}_deleted"), 1,
            'which is there';
        is as_httpd("DELETE FROM ${table}_deleted"), '', 'and can go again';
        my ($status, $said) = apply('grants.sql', @names, $schema eq 'crm'
            ? ('id=auth_id', 'email=mail') : ());
        is $status, 0, 'grants.sql, again' or diag $said;
        unlike $said, qr/WARNING/, 'takes DELETE for what it is';
        $PG->sql($DB => "DROP TABLE ${table}_deleted");
        ($status, $said) = apply('grants.sql', @names, $schema eq 'crm'
            ? ('id=auth_id', 'email=mail') : ());
        like $said, qr/may do more/, 'and warns of it without tombstones';
    };
}

done_testing;
