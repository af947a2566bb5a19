-- 002: an example of a table whose rows belong to a user. Copy the shape, not
-- the table; nothing in mod_usersync knows it.
--
--   psql -X -1 -v ON_ERROR_STOP=1 -d app -f 002_activities_example.sql
--
-- Safe to repeat.

CREATE TABLE IF NOT EXISTS public.activities (
    id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,

    -- NOT NULL and a foreign key: no activity without a user, whichever
    -- program inserts it. No race with the module: its row is committed before
    -- the client gets the token that the application will see.
    --
    -- ON DELETE CASCADE: what a user recorded is the user's own data, and one
    -- DELETE in users then erases all of it, with no list of tables to forget.
    -- The web server's role cannot delete from users (grants.sql), so a
    -- cascade always starts with the owner. The other choices:
    --   NO ACTION (default)  records that must outlive the user, such as
    --                        invoices: the DELETE fails until they are settled
    --   SET NULL             records that stay useful without their author,
    --                        such as measurements; user_id must be nullable
    user_id    uuid        NOT NULL
                           REFERENCES public.users (id) ON DELETE CASCADE,

    title      text        NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- PostgreSQL does not index the referencing side by itself. Without this every
-- DELETE in users scans activities. created_at as the second column makes the
-- same index answer "this user's latest activities".
CREATE INDEX IF NOT EXISTS activities_user_id_created_at_idx
    ON public.activities (user_id, created_at);

COMMENT ON TABLE public.activities IS
    'Example child table: each row belongs to one row of users.';
COMMENT ON COLUMN public.activities.user_id IS
    'Owner. Deleting the user deletes the activity.';
