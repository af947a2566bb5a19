-- 001: the application's own users table, the target of every foreign key
-- that means "this belongs to a user". Supabase keeps accounts in auth.users,
-- in a database and a schema that the application cannot refer to.
--
-- mod_usersync writes id and email and nothing else. Everything else in this
-- table belongs to the application.
--
--   psql -X -1 -v ON_ERROR_STOP=1 -d app -f 001_users.sql
--
-- Safe to repeat. If the table exists with another shape it is not changed: the
-- COMMENTs below fail and the transaction is rolled back
-- (docs/users-table.md says what to do with an existing table).

CREATE TABLE IF NOT EXISTS public.users (
    -- Supabase's own id. No default: an id that Supabase did not issue would
    -- be a user who can never log in. The primary key is also what makes two
    -- simultaneous first logins end in one row (ON CONFLICT (id)).
    id            uuid        PRIMARY KEY,

    -- A copy for the application's convenience, never an identity.
    -- Nullable: phone-only and anonymous users have no address.
    -- Not unique: users of different SSO providers may share an address, and
    -- an address given up by one user can be taken over by another before the
    -- first one's row is refreshed. A unique index would lock the second out.
    email         text,

    -- Worked example of profile data kept apart from the credentials. Nullable
    -- because the row exists before the user has chosen anything.
    -- Columns like this need NULL or a default: the module cannot fill them.
    coach_persona text,

    -- When the row was created here, not when the account was created: a
    -- user of another client of the same project appears at the first login.
    created_at    timestamptz NOT NULL DEFAULT now()
);

COMMENT ON TABLE public.users IS
    'One row per Supabase Auth user seen by this application. '
    'mod_usersync inserts (id, email) and refreshes email; it never deletes.';
COMMENT ON COLUMN public.users.id IS
    'auth.users.id of the Supabase project. Issued there, never here.';
COMMENT ON COLUMN public.users.email IS
    'Copy of the address that Supabase returned last, or NULL. '
    'Not unique and not an identity: use id.';
COMMENT ON COLUMN public.users.coach_persona IS
    'Application data, NULL until chosen. Not known to mod_usersync.';
COMMENT ON COLUMN public.users.created_at IS
    'When this row was made; the account itself may be older.';
