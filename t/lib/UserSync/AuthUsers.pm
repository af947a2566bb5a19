package UserSync::AuthUsers;

# A table auth.users as a Supabase project's database has it, for programs that
# read it instead of asking the admin API.
#
#   my $auth = UserSync::AuthUsers->create(postgres, $db);
#   $auth->fill(1000);                  generated users of all kinds
#   $auth->add(email => 'ada@example.com');
#   $auth->change($id, banned_until => 'infinity');
#   $auth->soft_delete($id);

use strict;
use warnings;
use utf8;

# What matters of the real one: names, types, defaults and unique indexes.
my @TABLE = ('CREATE SCHEMA auth', <<'SQL', <<'SQL', <<'SQL');
CREATE TABLE auth.users (
    instance_id        uuid,
    id                 uuid NOT NULL PRIMARY KEY,
    aud                varchar(255),
    role               varchar(255),
    email              varchar(255),
    encrypted_password varchar(255),
    email_confirmed_at timestamptz,
    last_sign_in_at    timestamptz,
    raw_app_meta_data  jsonb,
    raw_user_meta_data jsonb,
    is_super_admin     boolean,
    created_at         timestamptz,
    updated_at         timestamptz,
    phone              text UNIQUE DEFAULT NULL,
    phone_confirmed_at timestamptz,
    banned_until       timestamptz,
    is_sso_user        boolean NOT NULL DEFAULT false,
    deleted_at         timestamptz,
    is_anonymous       boolean NOT NULL DEFAULT false
)
SQL
CREATE UNIQUE INDEX users_email_partial_key ON auth.users (email)
 WHERE is_sso_user = false
SQL
-- Supabase's own functions of that name hash likewise
CREATE FUNCTION auth.hash_of(id uuid, what text, size int) RETURNS text
RETURN left(translate(encode(sha256(convert_to(id::text || what, 'UTF8')),
    'base64'), '+/=', '-_'), size)
SQL

# Neighbours share a created_at, seven at a time; the whole table spans 900
# days. The ids are made from the numbers, and are the same each time.
my $FILL = <<'SQL';
INSERT INTO auth.users (id, aud, role, email, phone, raw_app_meta_data,
    raw_user_meta_data, created_at, updated_at, banned_until, deleted_at,
    is_anonymous)
SELECT id, 'authenticated', 'authenticated',
    CASE kind WHEN 'email' THEN 'u' || i || '@crowd.example.com'
        WHEN 'deleted' THEN auth.hash_of(id, 'u' || i, 43) END,
    CASE kind WHEN 'phone' THEN '4915' || lpad(i::text, 8, '0')
        WHEN 'deleted' THEN auth.hash_of(id, '', 15) END,
    CASE WHEN kind IN ('email', 'phone')
        THEN jsonb_build_object('provider', kind, 'providers',
            jsonb_build_array(kind)) ELSE '{}' END,
    CASE WHEN kind IN ('email', 'phone')
        THEN jsonb_build_object('sub', id, 'full_name',
            (ARRAY['Ada Byron', 'Zoë "Z" O''Neil', '小林', 'Tom & <Jerry>',
            E'back\\slash\ttab'])[1 + i % 5]) ELSE '{}' END,
    t, CASE WHEN kind = 'deleted' THEN t + '1 day' ELSE t END + '84.235 ms',
    CASE WHEN i % 40 = 7 THEN timestamptz '2125-12-23 UTC'
        WHEN i % 200 = 9 THEN t + '1 day' END,
    CASE kind WHEN 'deleted' THEN t + '1 day' END, kind = 'anonymous'
  FROM (SELECT i, t, kind, (left(h, 8) || '-' || substr(h, 9, 4) || '-4'
            || substr(h, 14, 3) || '-a' || substr(h, 18, 3) || '-'
            || lpad(to_hex(i), 12, '0'))::uuid AS id
      FROM (SELECT i, md5('1:' || i) AS h, timestamptz '2024-01-01 UTC'
                + '900 days'::interval * ((i + 3) / 7) / (1 + $1 / 7) AS t,
            CASE WHEN i % 50 = 3 THEN 'deleted'
                WHEN i % 25 = 11 THEN 'anonymous'
                WHEN i % 20 = 13 THEN 'phone' ELSE 'email' END AS kind
          FROM generate_series(0, $1::int - 1) AS i) AS who) AS users
SQL

# create($postgres, $db): an empty table in that database
sub create {
    my ($class, $postgres, $db) = @_;
    my $self = bless { postgres => $postgres, db => $db }, $class;
    $self->sql($_) for @TABLE;
    return $self;
}

sub sql {
    my ($self, @sql) = @_;
    return $self->{postgres}->sql($self->{db} => @sql);
}

# So many users of all kinds: with an address, with a phone only, anonymous,
# banned for now or once, softly deleted.
sub fill {
    my ($self, $n) = @_;
    my $sth = $self->{postgres}->dbh($self->{db})->prepare($FILL);
    $sth->execute($n);
    # nobody else does it: the suite's clusters have no autovacuum
    $self->sql('ANALYZE auth.users');
    return $self;
}

# One more, by columns; returns the id.
sub add {
    my ($self, %column) = @_;
    my %row = (aud => 'authenticated', role => 'authenticated',
        raw_app_meta_data => '{}', raw_user_meta_data => '{}', %column);
    my @names = sort keys %row;
    my ($user) = $self->sql('INSERT INTO auth.users (created_at, updated_at'
        . ($row{id} ? '' : ', id') . join('', map {", $_"} @names)
        . ') VALUES (now(), now()' . ($row{id} ? '' : ', gen_random_uuid()')
        . ', ?' x @names . ') RETURNING id', @row{@names});
    return $user->{id};
}

# Columns of one; updated_at follows, as Supabase Auth sees to it.
sub change {
    my ($self, $id, %column) = @_;
    my @names = sort keys %column;
    return $self->sql('UPDATE auth.users SET '
        . join('', map {"$_ = ?, "} @names)
        . 'updated_at = clock_timestamp() WHERE id = ?', @column{@names}, $id);
}

sub soft_delete {
    my ($self, $id) = @_;
    return $self->sql(<<'SQL', $id);
UPDATE auth.users SET email = auth.hash_of(id, coalesce(email, ''), 43),
    phone = auth.hash_of(id, coalesce(phone, ''), 15),
    raw_app_meta_data = '{}', raw_user_meta_data = '{}',
    deleted_at = clock_timestamp(), updated_at = clock_timestamp()
 WHERE id = ?
SQL
}

sub delete {
    my ($self, $id) = @_;
    return $self->sql('DELETE FROM auth.users WHERE id = ?', $id);
}

1;
