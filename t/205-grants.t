# What sql/grants.sql grants and revokes, on this PostgreSQL: nobody can plant
# code in the schema, a serial column can be filled, and the owner of a table
# can run it without other rights.

use UserSync::Tables;
use UserSync::Test;

my $top = UserSync::Util::top_dir();
my $db  = scratch_db('usersync_grants');

# (exit status, output) of grants.sql, run by that user.
sub grants {
    my ($user, @variables) = @_;
    return run_command(UserSync::Postgres::bin('psql'), '-X', '-q', '-1', '-v',
        'ON_ERROR_STOP=1', '-h', postgres->host, '-p', postgres->port, '-U',
        $user, '-d', $db, (map { ('-v', $_) } @variables), '-f',
        "$top/sql/grants.sql");
}

sub may_create {
    my ($who, $schema) = @_;
    return postgres->value($db => 'SELECT has_schema_privilege(?, ?, ?)',
        $who, $schema, 'CREATE');
}

subtest 'nobody can create in the schema' => sub {
    # as up to PostgreSQL 14
    postgres->sql($db => $_) for 'GRANT CREATE ON SCHEMA public TO PUBLIC',
        'CREATE SCHEMA crm', 'GRANT ALL ON SCHEMA crm TO PUBLIC',
        'CREATE SCHEMA other', 'GRANT ALL ON SCHEMA other TO PUBLIC',
        'CREATE TABLE crm.accounts (id uuid PRIMARY KEY, email text)',
        'DROP ROLE IF EXISTS usersync_stranger',
        'CREATE ROLE usersync_stranger LOGIN',
        'DROP ROLE IF EXISTS usersync_maker',
        'CREATE ROLE usersync_maker LOGIN',
        'GRANT CREATE ON SCHEMA public TO usersync_maker';
    ok may_create('www-data', 'public'), 'everybody can, at first';
    my ($status, $said) = grants('postgres', 'schema=crm', 'table=accounts');
    is $status, 0, 'grants.sql' or diag $said;
    unlike $said, qr/WARNING/, 'has nothing to complain of';
    is may_create($_->[0], $_->[1]), $_->[2], "$_->[0] in $_->[1]" for
        ['public', 'public', 0], ['public', 'crm', 0], ['public', 'other', 1],
        ['www-data', 'public', 0], ['www-data', 'crm', 0],
        ['usersync_maker', 'public', 1];
    my $dbh = postgres->connect($db, 'usersync_stranger');
    ok !eval { $dbh->do('CREATE FUNCTION public.planted() RETURNS int '
        . 'LANGUAGE sql AS $$SELECT 1$$'); 1 }, 'a stranger plants nothing';
    like $dbh->errstr, qr/permission denied for schema public/, 'it says why';
    $dbh->disconnect;
};

subtest 'by an owner of the table alone' => sub {
    postgres->sql($db => $_) for 'GRANT CREATE ON SCHEMA public TO PUBLIC',
        'ALTER TABLE public.users OWNER TO usersync_maker',
        'REVOKE ALL ON public.users FROM "www-data"';
    my ($status, $said) = grants('usersync_maker');
    is $status, 0, 'grants.sql' or diag $said;
    like $said, qr/everybody may create in schema public/, 'warns';
    like $said, qr/REVOKE CREATE ON SCHEMA public FROM PUBLIC/, 'with the cure';
    ok postgres->value($db => q{SELECT has_column_privilege('www-data',
        'public.users', 'id', 'INSERT')}), 'and gives what is its own';
    postgres->sql($db => 'REVOKE CREATE ON SCHEMA public FROM PUBLIC');
    ($status, $said) = grants('usersync_maker');
    is $status, 0, 'again';
    unlike $said, qr/everybody/, 'nothing to warn of';
};

subtest 'a serial primary key beside the id' => sub {
    postgres->sql($db => $_) for 'CREATE TABLE crm.members ("Number" serial '
        . 'PRIMARY KEY, auth_id uuid UNIQUE, mail text, other bigserial, '
        . 'made int GENERATED ALWAYS AS IDENTITY)',
        'CREATE SEQUENCE crm.foreign_seq';
    my @names = ('schema=crm', 'table=members', 'id=auth_id', 'email=mail');
    my %set = (UserSyncTable => 'crm.members',
        UserSyncColumn => "id auth_id\nUserSyncColumn email mail");
    my ($status, $said) = grants('postgres', @names);
    is $status, 0, 'grants.sql' or diag $said;
    my $may = sub {
        return postgres->value($db => q{SELECT string_agg(c.relname, ' '
            ORDER BY c.relname) FROM pg_class c
            WHERE c.relnamespace = 'crm'::regnamespace AND CASE WHEN relkind
            = 'S' THEN has_sequence_privilege('www-data', oid, 'USAGE') END});
    };
    is $may->(), 'members_Number_seq members_other_seq', 'these and no others';
    ($status) = grants('postgres', @names);
    is $status, 0, 'safe to repeat';

    my $httpd = server($db, undef, %set)->start;
    my $person = person();
    my $response = log_in($httpd, $person);
    is $response->{status}, 200, 'a new user' or diag show($response);
    is postgres->value($db => 'SELECT mail FROM crm.members WHERE auth_id = ?',
        $person->{id}), $person->{email}, 'has a row';
};

done_testing;
