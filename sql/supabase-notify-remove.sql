-- supabase-notify-remove.sql: takes out of a Supabase project what
-- supabase-notify.sql has put in, and the two secrets in the Vault.
--
-- Run it in the SQL editor of the project, as the role postgres, or with psql:
--
--   psql -X -v ON_ERROR_STOP=1 "service=project" -f supabase-notify-remove.sql
--
-- Safe to repeat.

BEGIN;

-- Writers of auth.users are waited for, and others would wait behind.
SET LOCAL lock_timeout = '5s';
SET LOCAL client_min_messages = warning;

-- The triggers go with their function. DROP TRIGGER takes the rights of the
-- owner of auth.users, which the project's postgres is not.
DROP SCHEMA IF EXISTS usersync CASCADE;

DO $$
BEGIN
    IF pg_catalog.to_regclass('vault.secrets') IS NOT NULL THEN
        DELETE FROM vault.secrets
         WHERE name IN ('usersync_event_url', 'usersync_event_secret');
    END IF;
END
$$;

COMMIT;
