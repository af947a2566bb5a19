-- grants.sql: what the web server may do with the users table, and no more.
--
--   psql -X -1 -v ON_ERROR_STOP=1 -d app -f grants.sql
--   psql ... -v role=httpd -f grants.sql
--
-- Variables and their defaults:
--   role    www-data   the user= of DBDParams. With peer authentication over
--                      the local socket it is the system user of httpd
--   schema  public     \
--   table   users       } as in UserSyncTable and UserSyncColumn
--   id      id          }
--   email   email      /  -v email= (empty) for "UserSyncColumn email None"
--
-- Run it as the owner of the table; creating the role also needs CREATEROLE.
-- Safe to repeat. It only adds: grants made by hand for further columns stay.

\if :{?role}   \else \set role   www-data \endif
\if :{?schema} \else \set schema public   \endif
\if :{?table}  \else \set table  users    \endif
\if :{?id}     \else \set id     id       \endif
\if :{?email}  \else \set email  email    \endif

SELECT :'email' <> '' AS with_email,
       NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'role') AS new_role
\gset

\if :new_role
    -- LOGIN is all it needs. No password: peer authentication has none, and
    -- for TCP \password keeps it out of the server log and of this file.
    CREATE ROLE :"role" LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE
        NOREPLICATION NOBYPASSRLS;

    -- A statement that the module gave up on must not continue to wait in the
    -- server: these are below UserSyncStoreTimeout (3s). Role settings also
    -- work behind pgbouncer, which refuses options= in DBDParams.
    ALTER ROLE :"role" IN DATABASE :"DBNAME" SET statement_timeout = '2500ms';
    ALTER ROLE :"role" IN DATABASE :"DBNAME" SET lock_timeout = '2s';
\else
    \echo 'role' :role 'exists: its settings are left as they are.'
    \echo 'See "Time limits" in docs/users-table.md.'
\endif

-- PUBLIC may connect and use schema public unless that was revoked. Because of
-- the WHERE, an owner of only the table does not fail on what is granted.
SELECT format('GRANT CONNECT ON DATABASE %I TO %I', :'DBNAME', :'role')
 WHERE NOT has_database_privilege(:'role', :'DBNAME', 'CONNECT')
\gexec
SELECT format('GRANT USAGE ON SCHEMA %I TO %I', :'schema', :'role')
 WHERE NOT has_schema_privilege(:'role', :'schema', 'USAGE')
\gexec

-- By default everybody may create in schema public up to PostgreSQL 14, and
-- in a database that was upgraded from there. Anybody who may create in a schema
-- of the search_path can plant a function or an operator there, which runs with
-- the rights of each role that then calls it unqualified: the module's,
-- the application's, the owner's (CVE-2018-1058). A role that has to create
-- gets the right by name: GRANT CREATE ON SCHEMA public TO migrations;
SELECT format('REVOKE CREATE ON SCHEMA %I FROM PUBLIC', nspname)
  FROM pg_namespace
 WHERE nspname IN ('public', :'schema')
   AND has_schema_privilege('public', oid, 'CREATE')
   AND pg_has_role(nspowner, 'USAGE')
\gexec
SELECT count(*) > 0 AS open, string_agg(quote_ident(nspname), ', ') AS schemas
  FROM pg_namespace
 WHERE nspname IN ('public', :'schema')
   AND has_schema_privilege('public', oid, 'CREATE')
\gset
\if :open
    \warn 'WARNING: everybody may create in schema' :schemas
    \warn 'Its owner should REVOKE CREATE ON SCHEMA' :schemas 'FROM PUBLIC.'
\endif

-- Columns, not the table: a column added later is out of reach by itself.
--   SELECT (id)     the check; WHERE of the UPDATE; and ON CONFLICT (id),
--                   which reads the column that it names
--   SELECT (email)  the check compares the stored address with the new one
--   INSERT          a new user
--   UPDATE (email)  an address that was changed in Supabase
GRANT SELECT (:"id"), INSERT (:"id") ON :"schema".:"table" TO :"role";
\if :with_email
    GRANT SELECT (:"email"), INSERT (:"email"), UPDATE (:"email")
        ON :"schema".:"table" TO :"role";
\endif

-- Each further UserSyncColumn is filled in new rows only and needs just that:
--   GRANT INSERT (phone) ON public.users TO "www-data";
-- Events (docs/lifecycle.md) set it in existing rows, too:
--   GRANT UPDATE (phone) ON public.users TO "www-data";

-- A serial column, such as a primary key beside the id, takes its value from a
-- sequence with the rights of the role that inserts ("permission denied for
-- sequence" without it). Identity columns need no right.
--   GRANT USAGE ON SEQUENCE public.users_number_seq TO "www-data";
SELECT DISTINCT format('GRANT USAGE ON SEQUENCE %s TO %I', s.oid::regclass,
                       :'role')
  FROM pg_attrdef a
  JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = a.oid
                  AND d.refclassid = 'pg_class'::regclass
  JOIN pg_class s ON s.oid = d.refobjid
 WHERE a.adrelid = format('%I.%I', :'schema', :'table')::regclass
   AND CASE WHEN s.relkind = 'S'
            THEN NOT has_sequence_privilege(:'role', s.oid, 'USAGE') END
\gexec

-- Never grant to this role:
--   DELETE, TRUNCATE    it does not delete, and a cascade would take the
--                       application's data along. UserSyncOnDelete Delete is
--                       the exception: users_deleted.sql grants DELETE
--   UPDATE (id)         would hand one user's data to another
--   SELECT, INSERT or UPDATE on the whole table
--                       profile data, and every column still to come
--   REFERENCES, TRIGGER, CREATE on the schema
--                       lets it hang its own code or locks on the table
--   ownership, membership in the owner's role, SUPERUSER, BYPASSRLS
--                       all of the above at once
--   anything on the application's other tables: a row that refers to users
--   needs no right on users, and the module needs none on them
-- What came in by another way (PUBLIC, a group, default privileges) counts.
SELECT r.rolsuper OR r.rolbypassrls
       OR pg_has_role(r.oid, c.relowner, 'MEMBER')
       OR has_table_privilege(r.oid, c.oid, 'SELECT, INSERT, UPDATE, '
                                            'TRUNCATE, REFERENCES, TRIGGER')
       OR has_table_privilege(r.oid, c.oid, 'DELETE')
          AND to_regclass(format('%I.%I', :'schema', :'table' || '_deleted'))
              IS NULL
       OR has_column_privilege(r.oid, c.oid, :'id', 'UPDATE, REFERENCES')
       OR has_schema_privilege(r.oid, c.relnamespace, 'CREATE') AS excess
  FROM pg_roles r, pg_class c
 WHERE r.rolname = :'role'
   AND c.oid = format('%I.%I', :'schema', :'table')::regclass
\gset
\if :excess
    \warn 'WARNING: role' :role 'may do more than mod_usersync needs.'
    \warn 'Compare \\du, \\dn+ and \\dp with the list at the end of grants.sql.'
\endif
