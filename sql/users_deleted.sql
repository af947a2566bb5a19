-- users_deleted.sql: what "UserSyncOnDelete Delete" needs: the right to delete
-- rows of users, and a table of tombstones. A tombstone keeps late events and
-- tokens that are still good from bringing a deleted user back; it has an id
-- and two times, and nothing else of the user.
--
--   psql -X -1 -v ON_ERROR_STOP=1 -d app -f users_deleted.sql
--   psql ... -v schema=crm -v table=accounts -v id=auth_id -f users_deleted.sql
--
-- Variables: role, schema, table and id as in grants.sql, which comes before. The
-- table of tombstones is named like the users table, with _deleted after it.
-- Mark, the default, needs none of this. Safe to repeat.

\if :{?role}   \else \set role   www-data \endif
\if :{?schema} \else \set schema public   \endif
\if :{?table}  \else \set table  users    \endif
\if :{?id}     \else \set id     id       \endif
\set deleted :table _deleted

-- uuid, as a rule
SELECT format_type(atttypid, atttypmod) AS id_type
  FROM pg_attribute
 WHERE attrelid = format('%I.%I', :'schema', :'table')::regclass
   AND attname = :'id'
\gset

CREATE TABLE IF NOT EXISTS :"schema".:"deleted" (
    -- No foreign key: the row that had this id is gone.
    id         :id_type    PRIMARY KEY,

    -- When the account was deleted. What is older than the longest life of a
    -- token of the project, and than the last usersync-reconcile, may go.
    deleted_at timestamptz NOT NULL DEFAULT now(),

    -- The time of the state that said so, as supabase_updated_at of users.
    updated_at timestamptz
);

COMMENT ON TABLE :"schema".:"deleted" IS
    'Tombstones of users who were deleted at Supabase: id and times only.';

-- DELETE: Supabase may tell later that the user is there after all.
GRANT SELECT, INSERT, UPDATE, DELETE ON :"schema".:"deleted" TO :"role";
GRANT DELETE ON :"schema".:"table" TO :"role";
