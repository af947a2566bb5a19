-- supabase-notify.sql: tells the web server of each user who is made, changed,
-- banned or deleted in a Supabase project (SetHandler usersync-event).
--
-- Run it in the SQL editor of the project, as the role postgres. It is plain
-- SQL, so psql takes it as well:
--
--   psql -X -v ON_ERROR_STOP=1 "service=project" -f supabase-notify.sql
--
-- It needs the extensions pg_net, pgcrypto (schema extensions) and
-- supabase_vault, and two secrets in the Vault:
--   usersync_event_url     the URL of the event handler, https://...
--   usersync_event_secret  as in UserSyncHookSecret: v1,whsec_BASE64; of several
--                          that are separated by | the first signs
-- docs/lifecycle.md has the steps. Its last statement lists what is missing: no
-- rows, and it works. Ask again with SELECT * FROM usersync.problems();
--
-- Safe to repeat. supabase-notify-remove.sql takes all of it out again. It
-- takes PostgreSQL 14 or newer, as each Supabase project has.

BEGIN;

-- The trigger waits for writers of auth.users, and others would wait behind it.
SET LOCAL lock_timeout = '5s';

-- IS DISTINCT FROM below takes the operators that this path finds, for ever.
SET LOCAL search_path = pg_catalog, pg_temp;
SET LOCAL client_min_messages = warning;

-- No schema that the Data API exposes.
CREATE SCHEMA IF NOT EXISTS usersync;
REVOKE ALL ON SCHEMA usersync FROM PUBLIC;

-- What the functions below name without a schema are operators, which are found
-- in pg_catalog alone. The path names pg_temp because it would come first
-- otherwise, for the names of types in pg_net's functions, too.

-- The header webhook-signature of Standard Webhooks.
--
-- signed   ID.TIMESTAMP.BODY
-- secrets  v1,whsec_BASE64, or several that are separated by |
--
-- An error never quotes the secret.
CREATE OR REPLACE FUNCTION usersync.signature(
    signed  pg_catalog.text,
    secrets pg_catalog.text)
RETURNS pg_catalog.text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    -- from the Vault's editor it may come with the end of its line
    first pg_catalog.text := pg_catalog.btrim(
        pg_catalog.split_part(secrets, '|', 1), E' \t\r\n');
    key   pg_catalog.bytea;
BEGIN
    IF first !~ '^v1,whsec_[A-Za-z0-9+/]+={0,2}$' THEN
        RAISE EXCEPTION 'the secret is not of the form v1,whsec_BASE64'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    key := pg_catalog.decode(
        pg_catalog.substr(first, pg_catalog.length('v1,whsec_') + 1),
        'base64');
    -- what UserSyncHookSecret takes
    IF pg_catalog.octet_length(key) NOT BETWEEN 24 AND 64 THEN
        RAISE EXCEPTION 'the secret has not 24 to 64 bytes'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN 'v1,' || pg_catalog.encode(
        extensions.hmac(pg_catalog.convert_to(signed, 'UTF8'), key, 'sha256'),
        'base64');
END
$$;

-- The body of a message: the state of a user, and since when it holds.
--
-- kind      INSERT, UPDATE or DELETE
-- was, now  the row before and after; NULL where there is none
CREATE OR REPLACE FUNCTION usersync.message(
    kind pg_catalog.text,
    was  auth.users,
    now  auth.users)
RETURNS pg_catalog.jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
AS $$
DECLARE
    -- what usersync-event takes
    max_bytes CONSTANT pg_catalog.int4 := 262144;
    max_value CONSTANT pg_catalog.int4 := 4096;
    since     pg_catalog.timestamptz;
    dead      pg_catalog.bool := kind = 'DELETE' OR now.deleted_at IS NOT NULL;
    body      pg_catalog.jsonb;
    part      pg_catalog.text;
BEGIN
    -- The order of a user's states is that of their row's lock, in which this
    -- runs, and by the clock of this server: those of Supabase Auth, which sets
    -- updated_at, differ from it, and SQL by hand seldom sets updated_at.
    since := GREATEST(pg_catalog.clock_timestamp(), now.updated_at,
        was.updated_at);
    IF kind = 'DELETE' THEN
        now := was;
        now.deleted_at := since;
    END IF;
    -- Supabase Auth replaces the addresses of a user who is deleted softly by
    -- hashes. Of the dead nothing travels that is not needed.
    body := pg_catalog.jsonb_build_object(
        'type', kind,
        'id', now.id,
        'email', CASE WHEN NOT dead THEN now.email END,
        'phone', CASE WHEN NOT dead THEN now.phone END,
        'is_anonymous', now.is_anonymous,
        'app_metadata', CASE WHEN NOT dead
            AND pg_catalog.jsonb_typeof(now.raw_app_meta_data) = 'object'
            THEN now.raw_app_meta_data ELSE '{}' END,
        'user_metadata', CASE WHEN NOT dead
            AND pg_catalog.jsonb_typeof(now.raw_user_meta_data) = 'object'
            THEN now.raw_user_meta_data ELSE '{}' END,
        'banned_until', now.banned_until,
        'deleted_at', now.deleted_at,
        'updated_at', since);
    -- A ban must arrive whatever users put into their metadata: values that are
    -- too large for a column stay away first, then all.
    FOREACH part IN ARRAY ARRAY['user_metadata', 'app_metadata'] LOOP
        EXIT WHEN pg_catalog.octet_length(body::pg_catalog.text) <= max_bytes;
        body := body || pg_catalog.jsonb_build_object(part, (
            SELECT COALESCE(pg_catalog.jsonb_object_agg(m.key, m.value), '{}')
              FROM pg_catalog.jsonb_each(body -> part) AS m
             WHERE pg_catalog.octet_length(m.value::pg_catalog.text)
                   <= max_value));
    END LOOP;
    IF pg_catalog.octet_length(body::pg_catalog.text) > max_bytes THEN
        body := body || '{"user_metadata": {}, "app_metadata": {}}';
    END IF;
    RETURN body;
END
$$;

-- Hands a message to pg_net, which sends it once the transaction has been
-- committed, and never if it is rolled back.
--
-- It runs within the statements of Supabase Auth, with the rights of the role
-- that ran this file: Supabase Auth may not read the Vault. No error leaves it,
-- because a sign-up is worth more than a message, and usersync-reconcile finds
-- what was missed. Nor does it wait for long. The warning has not the text of
-- the error, which may quote values.
CREATE OR REPLACE FUNCTION usersync.notify()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '500ms'
AS $$
DECLARE
    step    pg_catalog.text := 'making the message';
    body    pg_catalog.jsonb;
    url     pg_catalog.text;
    secrets pg_catalog.text;
    id      pg_catalog.text;
    sent_at pg_catalog.text;
BEGIN
    CASE TG_OP
        WHEN 'INSERT' THEN body := usersync.message(TG_OP, NULL, NEW);
        WHEN 'UPDATE' THEN body := usersync.message(TG_OP, OLD, NEW);
        WHEN 'DELETE' THEN body := usersync.message(TG_OP, OLD, NULL);
    END CASE;
    step := 'reading usersync_event_url from the Vault';
    SELECT pg_catalog.btrim(s.decrypted_secret, E' \t\r\n') INTO STRICT url
      FROM vault.decrypted_secrets AS s
     WHERE s.name = 'usersync_event_url';
    step := 'reading usersync_event_secret from the Vault';
    SELECT s.decrypted_secret INTO STRICT secrets
      FROM vault.decrypted_secrets AS s
     WHERE s.name = 'usersync_event_secret';
    step := 'signing with usersync_event_secret';
    id := 'msg_' || pg_catalog.gen_random_uuid()::pg_catalog.text;
    sent_at := pg_catalog.floor(pg_catalog.date_part('epoch',
        pg_catalog.clock_timestamp()))::pg_catalog.int8::pg_catalog.text;
    -- pg_net sends convert_to(body::text, 'UTF8'): so these bytes are signed.
    secrets := usersync.signature(
        id || '.' || sent_at || '.' || body::pg_catalog.text, secrets);
    step := 'handing it to pg_net';
    PERFORM net.http_post(
        url := url,
        body := body,
        params := '{}'::pg_catalog.jsonb,
        headers := pg_catalog.jsonb_build_object(
            'Content-Type', 'application/json',
            'webhook-id', id,
            'webhook-timestamp', sent_at,
            'webhook-signature', secrets),
        timeout_milliseconds := 5000);
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'usersync: no message was sent: % failed (%)', step, SQLSTATE
        USING HINT = 'SELECT * FROM usersync.problems() says what is missing.';
    RETURN NULL;
END
$$;

-- What keeps messages from being sent; no rows: nothing that can be seen here.
-- net._http_response has the answers of the last hours.
CREATE OR REPLACE FUNCTION usersync.problems()
RETURNS TABLE (problem pg_catalog.text, cure pg_catalog.text)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found_url    pg_catalog.text;
    found_secret pg_catalog.text;
BEGIN
    IF pg_catalog.to_regprocedure('net.http_post('
            'text, jsonb, jsonb, jsonb, integer)') IS NULL THEN
        RETURN QUERY SELECT 'pg_net is missing',
            'Run: CREATE EXTENSION pg_net;';
    END IF;
    IF pg_catalog.to_regprocedure('extensions.hmac(bytea, bytea, text)')
            IS NULL THEN
        RETURN QUERY SELECT 'pgcrypto is missing in the schema extensions',
            'Run: CREATE EXTENSION pgcrypto WITH SCHEMA extensions;';
    END IF;
    IF pg_catalog.to_regclass('vault.decrypted_secrets') IS NULL THEN
        RETURN QUERY SELECT 'the Vault is missing',
            'Run: CREATE EXTENSION supabase_vault;';
        RETURN;
    END IF;
    SELECT s.decrypted_secret INTO found_url
      FROM vault.decrypted_secrets AS s
     WHERE s.name = 'usersync_event_url';
    IF found_url IS NULL OR found_url !~ '^\s*https://\S+\s*$' THEN
        RETURN QUERY SELECT 'usersync_event_url in the Vault is '
            || CASE WHEN found_url IS NULL THEN 'missing'
               ELSE 'no https URL' END,
            'Make it the URL of the location with SetHandler usersync-event.';
    END IF;
    SELECT s.decrypted_secret INTO found_secret
      FROM vault.decrypted_secrets AS s
     WHERE s.name = 'usersync_event_secret';
    IF found_secret IS NULL THEN
        RETURN QUERY SELECT 'usersync_event_secret in the Vault is missing',
            'Make it the secret of UserSyncHookSecret.';
        RETURN;
    END IF;
    PERFORM usersync.signature('', found_secret);
EXCEPTION
    WHEN invalid_parameter_value THEN
        RETURN QUERY SELECT 'usersync_event_secret in the Vault is malformed',
            'It is v1,whsec_ and the base64 of 24 to 64 bytes.';
    -- of a part that is named above
    WHEN undefined_function OR invalid_schema_name THEN
        RETURN;
END
$$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA usersync FROM PUBLIC;

CREATE OR REPLACE TRIGGER usersync_insert
AFTER INSERT ON auth.users
FOR EACH ROW EXECUTE FUNCTION usersync.notify();

CREATE OR REPLACE TRIGGER usersync_delete
AFTER DELETE ON auth.users
FOR EACH ROW EXECUTE FUNCTION usersync.notify();

-- A login writes other columns, last_sign_in_at and updated_at: it costs
-- nothing here.
CREATE OR REPLACE TRIGGER usersync_update
AFTER UPDATE OF email, phone, is_anonymous, banned_until, deleted_at,
    raw_user_meta_data, raw_app_meta_data ON auth.users
FOR EACH ROW
WHEN (OLD.email IS DISTINCT FROM NEW.email
    OR OLD.phone IS DISTINCT FROM NEW.phone
    OR OLD.is_anonymous IS DISTINCT FROM NEW.is_anonymous
    OR OLD.banned_until IS DISTINCT FROM NEW.banned_until
    OR OLD.deleted_at IS DISTINCT FROM NEW.deleted_at
    OR OLD.raw_user_meta_data IS DISTINCT FROM NEW.raw_user_meta_data
    OR OLD.raw_app_meta_data IS DISTINCT FROM NEW.raw_app_meta_data)
EXECUTE FUNCTION usersync.notify();

COMMIT;

SELECT * FROM usersync.problems();
