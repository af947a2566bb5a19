-- user_life.sql: the columns for the life of a user, in a users table that
-- exists, and the right of the web server to write them. They are for events,
-- usersync-reconcile, and the gate, which refuses banned and deleted users
-- (docs/lifecycle.md).
--
--   psql -X -1 -v ON_ERROR_STOP=1 -d app -f user_life.sql
--   psql ... -v schema=crm -v table=accounts -v role=httpd -f user_life.sql
--
-- It goes with these lines of the configuration:
--   UserSyncColumn updated_at   supabase_updated_at
--   UserSyncColumn banned_until banned_until
--   UserSyncColumn deleted_at   deleted_at
--   UserSyncColumn is_anonymous is_anonymous
--
-- Variables: role, schema and table as in grants.sql, which comes before.
-- Safe to repeat. The columns have neither a default nor NOT NULL, so that no
-- row is rewritten.

\if :{?role}   \else \set role   www-data \endif
\if :{?schema} \else \set schema public   \endif
\if :{?table}  \else \set table  users    \endif

-- Requests would wait behind this statement while it waits for others.
SET lock_timeout = '5s';

ALTER TABLE :"schema".:"table"
    -- Not the application's updated_at: the time of the newest state of
    -- Supabase's that the row was given. A later state never yields to an
    -- earlier one. NULL: none yet.
    ADD COLUMN IF NOT EXISTS supabase_updated_at timestamptz,

    -- Until then the gate refuses the user; NULL or past: not banned.
    ADD COLUMN IF NOT EXISTS banned_until timestamptz,

    -- Set when the account was deleted (UserSyncOnDelete Mark). The row stays,
    -- because others may refer to it.
    ADD COLUMN IF NOT EXISTS deleted_at timestamptz,

    ADD COLUMN IF NOT EXISTS is_anonymous boolean;

COMMENT ON COLUMN :"schema".:"table".supabase_updated_at IS
    'Time of the newest state of Supabase''s that this row was given.';
COMMENT ON COLUMN :"schema".:"table".banned_until IS
    'Banned at Supabase until then, or NULL.';
COMMENT ON COLUMN :"schema".:"table".deleted_at IS
    'When the account was deleted at Supabase, or NULL.';
COMMENT ON COLUMN :"schema".:"table".is_anonymous IS
    'Signed in anonymously, according to Supabase.';

-- The look-up reads them, a new row has them, an event changes them.
GRANT SELECT (supabase_updated_at, banned_until, deleted_at, is_anonymous),
    INSERT (supabase_updated_at, banned_until, deleted_at, is_anonymous),
    UPDATE (supabase_updated_at, banned_until, deleted_at, is_anonymous)
    ON :"schema".:"table" TO :"role";

RESET lock_timeout;
