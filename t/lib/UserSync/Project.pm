package UserSync::Project;

# A stand-in for the database of a Supabase project, on the suite's PostgreSQL,
# and what the files for it in sql/ do there.
#
#   use UserSync::Test;
#   use UserSync::Project;
#
#   my $db = project_db('usersync_project');
#   project_file($db, 'supabase-notify.sql');
#   set_secret($db, usersync_event_url => 'https://www.example.com/events');
#   my $id = add_user($db, email => 'ada@example.com');
#   my ($message) = messages($db);           # {url, headers, body, json}
#
# What is stood in for:
#   * the project's role "postgres", which is no superuser and does not own
#     auth.users: project_owner, with the rights of the original
#   * supabase_auth_admin, the role of Supabase Auth, and auth.users with all
#     columns, which belongs to it
#   * pg_net: net.http_post() and its queue. It takes the same arguments, and
#     turns a body into bytes in the same way, but nothing sends what is queued
#   * the Vault: vault.secrets, decrypted_secrets, create_secret() and
#     update_secret(). "Encrypted" is hexadecimal
# pgcrypto, triggers, rights and transactions are PostgreSQL's own.

use strict;
use warnings;

use Digest::SHA qw(hmac_sha256);
use Exporter qw(import);
use JSON::PP ();
use MIME::Base64 ();

use UserSync::Gate qw(new_id);
use UserSync::Tables qw(drop_at_end);
use UserSync::Test qw(postgres request);
use UserSync::Util qw(run_command top_dir);

our @EXPORT = qw(
    $EVENT_SECRET $EVENT_URL add_user auth_admin change_user messages
    project_db project_file replay set_secret signature_of
);

our $EVENT_URL = 'https://www.example.com/events/supabase';
our $EVENT_SECRET = 'v1,whsec_ZXZlbnRzIG9mIHRoZSBzdGFuZC1pbiBwcm9qZWN0';

my $JSON = JSON::PP->new->utf8;

# ---- the database

my @ROLES = (
    [project_owner => 'LOGIN CREATEROLE'],
    [supabase_auth_admin => 'LOGIN NOINHERIT CREATEROLE'],
);

my $SQL = <<'SQL';
GRANT CREATE ON DATABASE :db TO project_owner;

CREATE SCHEMA extensions;
CREATE EXTENSION pgcrypto WITH SCHEMA extensions;
GRANT USAGE ON SCHEMA extensions TO project_owner;

CREATE SCHEMA auth AUTHORIZATION supabase_auth_admin;
ALTER ROLE supabase_auth_admin IN DATABASE :db SET search_path = auth;
CREATE TABLE auth.users (
    instance_id uuid, id uuid NOT NULL PRIMARY KEY, aud varchar(255),
    role varchar(255), email varchar(255), encrypted_password varchar(255),
    email_confirmed_at timestamptz, invited_at timestamptz,
    confirmation_token varchar(255), confirmation_sent_at timestamptz,
    recovery_token varchar(255), recovery_sent_at timestamptz,
    email_change_token_new varchar(255), email_change varchar(255),
    email_change_sent_at timestamptz, last_sign_in_at timestamptz,
    raw_app_meta_data jsonb, raw_user_meta_data jsonb, is_super_admin boolean,
    created_at timestamptz, updated_at timestamptz,
    phone text DEFAULT NULL UNIQUE, phone_confirmed_at timestamptz,
    phone_change text DEFAULT '', phone_change_token varchar(255) DEFAULT '',
    phone_change_sent_at timestamptz,
    confirmed_at timestamptz GENERATED ALWAYS AS
        (LEAST(email_confirmed_at, phone_confirmed_at)) STORED,
    email_change_token_current varchar(255) DEFAULT '',
    email_change_confirm_status smallint DEFAULT 0, banned_until timestamptz,
    reauthentication_token varchar(255) DEFAULT '',
    reauthentication_sent_at timestamptz,
    is_sso_user boolean NOT NULL DEFAULT false, deleted_at timestamptz,
    is_anonymous boolean NOT NULL DEFAULT false);
CREATE UNIQUE INDEX ON auth.users (email) WHERE NOT is_sso_user;
ALTER TABLE auth.users OWNER TO supabase_auth_admin;
GRANT USAGE ON SCHEMA auth TO project_owner;
GRANT ALL ON auth.users TO project_owner;

CREATE SCHEMA net;
CREATE TABLE net.http_request_queue (id bigserial, method text NOT NULL,
    url text NOT NULL, headers jsonb NOT NULL, body bytea,
    timeout_milliseconds integer NOT NULL);
CREATE TABLE net._http_response (id bigint, status_code integer,
    content_type text, headers jsonb, content text, timed_out boolean,
    error_msg text, created timestamptz NOT NULL DEFAULT now());
CREATE FUNCTION net.http_post(url text, body jsonb DEFAULT '{}',
    params jsonb DEFAULT '{}',
    headers jsonb DEFAULT '{"Content-Type": "application/json"}',
    timeout_milliseconds integer DEFAULT 5000)
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE queued bigint;
BEGIN
    IF headers ->> 'Content-Type' <> 'application/json' OR body IS NULL
            OR params <> '{}' THEN
        RAISE EXCEPTION 'not what the stand-in for pg_net takes';
    END IF;
    INSERT INTO net.http_request_queue
        (method, url, headers, body, timeout_milliseconds)
    VALUES ('POST', url, headers, convert_to(body::text, 'UTF8'),
        timeout_milliseconds) RETURNING id INTO queued;
    RETURN queued;
END $$;
GRANT USAGE ON SCHEMA net TO project_owner;
GRANT ALL ON ALL TABLES IN SCHEMA net TO project_owner;
GRANT ALL ON ALL SEQUENCES IN SCHEMA net TO project_owner;

CREATE SCHEMA vault;
CREATE TABLE vault.secrets (id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name text UNIQUE, description text NOT NULL DEFAULT '',
    secret text NOT NULL);
CREATE VIEW vault.decrypted_secrets AS
    SELECT id, name, description, secret,
        convert_from(decode(secret, 'hex'), 'UTF8') AS decrypted_secret
      FROM vault.secrets;
CREATE FUNCTION vault.create_secret(new_secret text,
    new_name text DEFAULT NULL, new_description text DEFAULT '')
RETURNS uuid LANGUAGE sql SECURITY DEFINER AS $$
    INSERT INTO vault.secrets (secret, name, description)
    VALUES (encode(convert_to(new_secret, 'UTF8'), 'hex'), new_name,
        new_description) RETURNING id
$$;
CREATE FUNCTION vault.update_secret(secret_id uuid, new_secret text)
RETURNS void LANGUAGE sql SECURITY DEFINER AS $$
    UPDATE vault.secrets
       SET secret = encode(convert_to(new_secret, 'UTF8'), 'hex')
     WHERE id = secret_id
$$;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA vault FROM PUBLIC;
GRANT USAGE ON SCHEMA vault TO project_owner;
GRANT SELECT, DELETE ON vault.secrets, vault.decrypted_secrets
    TO project_owner;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA vault TO project_owner;
SQL

# Creates the stand-in as a database of that name, dropped when the test ends.
# Returns the name.
sub project_db {
    my ($name) = @_;
    drop_at_end($name);
    my $pg = postgres();
    for my $role (@ROLES) {
        my ($role_name, $options) = @$role;
        $pg->sql(postgres => "CREATE ROLE $role_name $options")
            if !$pg->value(postgres =>
                'SELECT 1 FROM pg_roles WHERE rolname = ?', $role_name);
    }
    $pg->sql(postgres => "CREATE DATABASE $name TEMPLATE template0");
    my ($status, $said) = $pg->psql($name, $SQL, '-v', "db=$name");
    die "the stand-in for a project:\n$said" if $status;
    return $name;
}

# (exit status, output) of a file of sql/, run as the project's owner runs it.
sub project_file {
    my ($db, $file) = @_;
    my $pg = postgres();
    return run_command(UserSync::Postgres::bin('psql'), '-X', '-q', '-A', '-t',
        '-v', 'ON_ERROR_STOP=1', '-h', $pg->host, '-p', $pg->port, '-U',
        'project_owner', '-d', $db, '-f', top_dir() . "/sql/$file");
}

# Puts secrets into the Vault; undef takes one out.
sub set_secret {
    my ($db, %secret) = @_;
    for my $name (sort keys %secret) {
        postgres()->sql($db => 'DELETE FROM vault.secrets WHERE name = ?',
            $name);
        postgres()->sql($db => 'SELECT vault.create_secret(?, ?)',
            $secret{$name}, $name) if defined $secret{$name};
    }
    return;
}

# ---- Supabase Auth

my %auth_admin;

# The connection of Supabase Auth to a project; the same for the whole test.
sub auth_admin {
    my ($db) = @_;
    return $auth_admin{$db}
        ||= postgres()->connect($db, 'supabase_auth_admin');
}

# Makes a user as a sign-up does; arguments replace columns. Returns the id.
# dbh => another connection.
sub add_user {
    my ($db, %column) = @_;
    my $dbh = delete $column{dbh} || auth_admin($db);
    my $id = $column{id} ||= new_id();
    my %row = (aud => 'authenticated', role => '', email => "$id\@example.com",
        encrypted_password => '$2a$10$PasswordOfTheStandIn',
        confirmation_token => 'ConfirmationTokenOfTheStandIn',
        raw_app_meta_data => '{"provider": "email"}',
        raw_user_meta_data => '{}', %column);
    my ($created, $updated) = map { exists $row{$_} ? '?' : 'now()' }
        qw(created_at updated_at);
    my @names = sort grep { !/^(?:created|updated)_at$/ } keys %row;
    my @times = grep { exists $row{$_} } qw(created_at updated_at);
    $dbh->do('INSERT INTO auth.users (' . join(', ', @names,
        'created_at', 'updated_at') . ') VALUES ('
        . join(', ', ('?') x @names, $created, $updated) . ')', undef,
        @row{@names, @times});
    return $id;
}

# Changes a user's columns as Supabase Auth does, which sets updated_at with
# each; a column updated_at among them has the last word. dbh as above.
sub change_user {
    my ($db, $id, %column) = @_;
    my $dbh = delete $column{dbh} || auth_admin($db);
    my @names = sort keys %column;
    return $dbh->do('UPDATE auth.users SET '
        . join(', ', map({"$_ = ?"} @names), exists $column{updated_at}
            ? () : 'updated_at = clock_timestamp()')
        . ' WHERE id = ?', undef, @column{@names}, $id);
}

# ---- messages

# What pg_net would send, in order; the queue is empty then: {url, headers,
# body (bytes), json, timeout}
sub messages {
    my ($db) = @_;
    my $dbh = postgres()->dbh($db);
    my $rows = $dbh->selectall_arrayref('WITH sent AS (DELETE FROM '
        . 'net.http_request_queue RETURNING *) SELECT url, headers, '
        . "encode(body, 'base64') AS body, timeout_milliseconds AS timeout "
        . 'FROM sent ORDER BY id', { Slice => {} });
    for my $row (@$rows) {
        utf8::encode($row->{headers}) if utf8::is_utf8($row->{headers});
        $row->{headers} = $JSON->decode($row->{headers});
        $row->{body} = MIME::Base64::decode($row->{body});
        $row->{json} = $JSON->decode($row->{body});
    }
    return @$rows;
}

# The signature that a message must have, by another implementation.
sub signature_of {
    my ($message, $secret) = @_;
    my ($base64) = $secret =~ /^v1,whsec_(.*)$/ or die "no secret: $secret\n";
    my $header = $message->{headers};
    return 'v1,' . MIME::Base64::encode(hmac_sha256(join('.',
        @{$header}{qw(webhook-id webhook-timestamp)}, $message->{body}),
        MIME::Base64::decode($base64)), '');
}

# Sends a message to a URL of a test's httpd as pg_net does; returns the
# response.
sub replay {
    my ($message, $url) = @_;
    return request('POST', $url, $message->{body}, %{ $message->{headers} },
        'User-Agent' => 'pg_net/0.19.7');
}

END {
    my $status = $?;
    $_->disconnect for values %auth_admin;
    $? = $status;
}

1;
