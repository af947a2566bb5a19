/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "store_check.h"
#include "store_sql.h"

#include <apr_strings.h>

#include <stdlib.h>
#include <string.h>

/* The id in its text form must fit. */
#define ID_LENGTH_MIN US_UUID_LEN

/* PostgreSQL stores varchar(n) as n + 4. */
#define TYPMOD_HEADER 4

/*
 * Operators, functions and types are named with their schema, as in
 * users/store_sql.c: these statements run with the search_path of the role.
 * Each clause is on its own line.
 */
/* clang-format off */

/* The table itself.  to_regclass gives NULL for a table that does not exist;
 * trigger bits: 1 row, 2 before, 4 insert; rule events: 2 update, 3 insert. */
static const char table_sql[] =
    "SELECT c.relkind, pg_catalog.row_security_active(c.oid),"
    " (SELECT pg_catalog.string_agg(CAST(tgname AS pg_catalog.text), ', ')"
    "   FROM pg_catalog.pg_trigger"
    "   WHERE tgrelid OPERATOR(pg_catalog.=) c.oid AND NOT tgisinternal"
    "   AND tgenabled OPERATOR(pg_catalog.<>) 'D'"
    "   AND (tgtype OPERATOR(pg_catalog.&) CAST(7 AS pg_catalog.int2))"
    "     OPERATOR(pg_catalog.=) CAST(7 AS pg_catalog.int2)),"
    " (SELECT pg_catalog.string_agg(CAST(rulename AS pg_catalog.text), ', ')"
    "   FROM pg_catalog.pg_rewrite"
    "   WHERE ev_class OPERATOR(pg_catalog.=) c.oid"
    "   AND (ev_type OPERATOR(pg_catalog.=) '2'"
    "     OR ev_type OPERATOR(pg_catalog.=) '3')"
    "   AND ev_enabled OPERATOR(pg_catalog.<>) 'D')"
    " FROM pg_catalog.pg_class c"
    " WHERE c.oid OPERATOR(pg_catalog.=)"
    "   CAST(pg_catalog.to_regclass($1) AS pg_catalog.oid)";

/* Its columns; a domain counts as its base type.  Sequences: those that a
 * default uses and that httpd's role may not use. */
static const char columns_sql[] =
    "SELECT a.attname, t.typname, t.typmod,"
    " (a.attnotnull OR t.typnotnull) AND NOT a.atthasdef"
    "   AND t.typdefault IS NULL"
    "   AND a.attidentity OPERATOR(pg_catalog.=) ''"
    "   AND a.attgenerated OPERATOR(pg_catalog.=) '',"
    " pg_catalog.has_column_privilege(a.attrelid, a.attnum, 'SELECT'),"
    " pg_catalog.has_column_privilege(a.attrelid, a.attnum, 'INSERT'),"
    " pg_catalog.has_column_privilege(a.attrelid, a.attnum, 'UPDATE'),"
    " EXISTS (SELECT 1 FROM pg_catalog.pg_index i"
    "   WHERE i.indrelid OPERATOR(pg_catalog.=) a.attrelid"
    "   AND i.indisunique AND i.indisvalid AND i.indimmediate"
    "   AND i.indpred IS NULL AND i.indexprs IS NULL"
    "   AND i.indnkeyatts OPERATOR(pg_catalog.=) CAST(1 AS pg_catalog.int2)"
    "   AND i.indkey[0] OPERATOR(pg_catalog.=) a.attnum),"
    " (SELECT pg_catalog.string_agg(CAST(CAST(s.oid AS pg_catalog.regclass)"
    "     AS pg_catalog.text), ', ')"
    "   FROM pg_catalog.pg_attrdef d"
    "   JOIN pg_catalog.pg_depend p ON p.objid OPERATOR(pg_catalog.=) d.oid"
    "     AND p.classid OPERATOR(pg_catalog.=)"
    "       CAST(CAST('pg_catalog.pg_attrdef' AS pg_catalog.regclass)"
    "       AS pg_catalog.oid)"
    "     AND p.refclassid OPERATOR(pg_catalog.=)"
    "       CAST(CAST('pg_catalog.pg_class' AS pg_catalog.regclass)"
    "       AS pg_catalog.oid)"
    "   JOIN pg_catalog.pg_class s"
    "     ON s.oid OPERATOR(pg_catalog.=) p.refobjid"
    "   WHERE d.adrelid OPERATOR(pg_catalog.=) a.attrelid"
    "   AND d.adnum OPERATOR(pg_catalog.=) a.attnum"
    "   AND CASE WHEN s.relkind OPERATOR(pg_catalog.=) 'S' THEN NOT"
    "     pg_catalog.has_sequence_privilege(s.oid, 'USAGE, UPDATE')"
    "     ELSE false END)"
    " FROM pg_catalog.pg_attribute a CROSS JOIN LATERAL ("
    "   WITH RECURSIVE d AS ("
    "     SELECT typname, typbasetype, typtypmod, typnotnull, typdefault,"
    "       a.atttypmod AS typmod"
    "     FROM pg_catalog.pg_type WHERE oid OPERATOR(pg_catalog.=) a.atttypid"
    "     UNION ALL SELECT b.typname, b.typbasetype, b.typtypmod,"
    "       d.typnotnull OR b.typnotnull,"
    "       COALESCE(d.typdefault, b.typdefault), d.typtypmod"
    "     FROM d JOIN pg_catalog.pg_type b"
    "       ON b.oid OPERATOR(pg_catalog.=) d.typbasetype)"
    "   SELECT * FROM d"
    "   WHERE typbasetype OPERATOR(pg_catalog.=) CAST(0 AS pg_catalog.oid)) t"
    " WHERE a.attrelid OPERATOR(pg_catalog.=)"
    "   CAST(pg_catalog.to_regclass($1) AS pg_catalog.oid)"
    " AND a.attnum OPERATOR(pg_catalog.>) CAST(0 AS pg_catalog.int2)"
    " AND NOT a.attisdropped";

/* Whether the table of tombstones is there and may be used as we do; no row
 * means that it is not there. */
static const char tombstones_sql[] =
    "SELECT pg_catalog.has_table_privilege(c.oid, 'SELECT')"
    "   AND pg_catalog.has_table_privilege(c.oid, 'INSERT')"
    "   AND pg_catalog.has_table_privilege(c.oid, 'UPDATE')"
    "   AND pg_catalog.has_table_privilege(c.oid, 'DELETE'),"
    " pg_catalog.has_table_privilege("
    "   CAST(pg_catalog.to_regclass($2) AS pg_catalog.oid), 'DELETE'),"
    " (SELECT pg_catalog.count(*) FROM pg_catalog.pg_attribute a"
    "   WHERE a.attrelid OPERATOR(pg_catalog.=) c.oid"
    "   AND a.attname OPERATOR(pg_catalog.=)"
    "     ANY (ARRAY[CAST('id' AS pg_catalog.name), 'deleted_at',"
    "     'updated_at'])),"
    " (SELECT g.atttypid OPERATOR(pg_catalog.=) u.atttypid"
    "   FROM pg_catalog.pg_attribute g, pg_catalog.pg_attribute u"
    "   WHERE g.attrelid OPERATOR(pg_catalog.=) c.oid"
    "   AND g.attname OPERATOR(pg_catalog.=) 'id'"
    "   AND u.attrelid OPERATOR(pg_catalog.=)"
    "     CAST(pg_catalog.to_regclass($2) AS pg_catalog.oid)"
    "   AND u.attname OPERATOR(pg_catalog.=) CAST($3 AS pg_catalog.name))"
    " FROM pg_catalog.pg_class c"
    " WHERE c.oid OPERATOR(pg_catalog.=)"
    "   CAST(pg_catalog.to_regclass($1) AS pg_catalog.oid)";

/* clang-format on */

/* The columns of columns_sql. */
enum {
    NAME,
    TYPE,
    TYPMOD,
    MUST_BE_FILLED,
    MAY_SELECT,
    MAY_INSERT,
    MAY_UPDATE,
    UNIQUE,
    SEQUENCES
};

static int is_true(const char *cell)
{
    return cell != NULL && *cell == 't';
}

static int find_row(const us_pg_result *rows, const char *name)
{
    int row;

    for (row = 0; row < rows->rows; row++) {
        if (strcmp(US_PG_CELL(rows, row, NAME), name) == 0) {
            return row;
        }
    }
    return -1;
}

static void read_problem(us_store_verdict *verdict, const char *text)
{
    if (verdict->read_problem == NULL) {
        verdict->read_problem = text;
    }
}

static void insert_problem(us_store_verdict *verdict, const char *text)
{
    if (verdict->insert_problem == NULL) {
        verdict->insert_problem = text;
    }
}

static void add_warning(apr_pool_t *pool, us_store_verdict *verdict,
                        const char *text)
{
    verdict->warning
        = verdict->warning == NULL
              ? text
              : apr_pstrcat(pool, verdict->warning, "; ", text, NULL);
}

/* uuid, text, or a varchar that can hold a UUID's text. */
static int suits_id(const char *type, const char *typmod)
{
    int length = (int)strtol(typmod, NULL, 10) - TYPMOD_HEADER;

    return strcmp(type, "uuid") == 0 || strcmp(type, "text") == 0
           || (strcmp(type, "varchar") == 0
               && (length < 0 || length >= ID_LENGTH_MIN));
}

/* The rules for the id column only. */
static void check_id(apr_pool_t *pool, const char *table,
                     const us_column *column, const us_pg_result *rows,
                     int row, us_store_verdict *verdict)
{
    const char *type = US_PG_CELL(rows, row, TYPE);

    if (!suits_id(type, US_PG_CELL(rows, row, TYPMOD))) {
        read_problem(verdict,
                     apr_psprintf(pool,
                                  "column %s of %s must be uuid, text or "
                                  "varchar(36) or longer, it is %s",
                                  column->quoted, table, type));
    }
    if (!is_true(US_PG_CELL(rows, row, UNIQUE))) {
        insert_problem(verdict,
                       apr_psprintf(pool,
                                    "column %s of %s needs a primary key or "
                                    "a unique index of its own: CREATE "
                                    "UNIQUE INDEX ON %s (%s)",
                                    column->quoted, table, table,
                                    column->quoted));
    }
}

/* Is the value of this field read in every look-up? */
static int is_looked_up(us_field_kind field)
{
    switch (field) {
    case US_FIELD_ID:
    case US_FIELD_EMAIL:
    case US_FIELD_BANNED_UNTIL:
    case US_FIELD_DELETED_AT:
    case US_FIELD_UPDATED_AT:
        return 1;
    default:
        return 0;
    }
}

/* The type that the column of a field must have; NULL: many types do. */
static const char *type_for(us_field_kind field)
{
    switch (field) {
    case US_FIELD_BANNED_UNTIL:
    case US_FIELD_DELETED_AT:
    case US_FIELD_UPDATED_AT:
        return "timestamptz";
    case US_FIELD_IS_ANONYMOUS:
        return "bool";
    default:
        return NULL;
    }
}

/* A time stamp without a time zone would depend on the connection's. */
static void check_type(apr_pool_t *pool, const char *table,
                       const us_column *column, const char *type,
                       us_store_verdict *verdict)
{
    const char *wanted = type_for(column->field);

    if (wanted != NULL && strcmp(type, wanted) != 0) {
        read_problem(verdict,
                     apr_psprintf(pool,
                                  "column %s of %s must be %s, it is %s: "
                                  "ALTER TABLE %s ALTER COLUMN %s TYPE %s",
                                  column->quoted, table, wanted, type, table,
                                  column->quoted, wanted));
    }
}

/* Does the module change the column of this field in existing rows? */
static int is_updated(us_field_kind field)
{
    return field == US_FIELD_EMAIL || type_for(field) != NULL;
}

/* Checks one configured column: does it exist, can it be read and written? */
static void check_column(apr_pool_t *pool, const char *table,
                         const us_column *column, const us_pg_result *rows,
                         us_store_verdict *verdict)
{
    int looked_up = is_looked_up(column->field);
    int row = find_row(rows, column->plain);

    if (row < 0) {
        const char *text
            = apr_psprintf(pool,
                           "table %s has no column %s: add it or correct "
                           "UserSyncColumn",
                           table, column->quoted);

        if (looked_up) {
            read_problem(verdict, text);
        }
        insert_problem(verdict, text);
        return;
    }
    if (looked_up && !is_true(US_PG_CELL(rows, row, MAY_SELECT))) {
        read_problem(verdict,
                     apr_psprintf(pool,
                                  "no permission to read column %s of %s: "
                                  "GRANT SELECT (%s) ON %s",
                                  column->quoted, table, column->quoted,
                                  table));
    }
    if (!is_true(US_PG_CELL(rows, row, MAY_INSERT))) {
        insert_problem(verdict,
                       apr_psprintf(pool,
                                    "no permission to fill column %s of %s: "
                                    "GRANT INSERT (%s) ON %s",
                                    column->quoted, table, column->quoted,
                                    table));
    }
    if (is_updated(column->field)
        && !is_true(US_PG_CELL(rows, row, MAY_UPDATE))) {
        add_warning(
            pool, verdict,
            apr_psprintf(pool,
                         "no permission to update column %s of %s, "
                         "so it cannot be kept up to date: GRANT UPDATE "
                         "(%s) ON %s",
                         column->quoted, table, column->quoted, table));
    }
    check_type(pool, table, column, US_PG_CELL(rows, row, TYPE), verdict);
    if (column->field == US_FIELD_ID) {
        check_id(pool, table, column, rows, row, verdict);
    }
}

static int is_filled(const apr_array_header_t *columns, const char *name)
{
    int i;

    for (i = 0; i < columns->nelts; i++) {
        if (strcmp(APR_ARRAY_IDX(columns, i, us_column).plain, name) == 0) {
            return 1;
        }
    }
    return 0;
}

/* Checks for a column that must have a value and that nothing fills.  A BEFORE
 * INSERT trigger may fill it, which only an insert can show. */
static void check_unfilled(apr_pool_t *pool, const char *table,
                           const apr_array_header_t *columns,
                           const us_pg_result *rows, us_store_verdict *verdict)
{
    int row;

    for (row = 0; row < rows->rows && !verdict->has_triggers; row++) {
        const char *name = US_PG_CELL(rows, row, NAME);

        if (is_true(US_PG_CELL(rows, row, MUST_BE_FILLED))
            && !is_filled(columns, name) && verdict->insert_problem == NULL) {
            verdict->unfillable = 1;
            verdict->insert_problem = apr_psprintf(
                pool,
                "column \"%s\" of %s is NOT NULL without a default and "
                "nothing fills it: give it a default or name it in "
                "UserSyncColumn",
                name, table);
        }
    }
}

/* A default may use a sequence, which needs its own privilege.  A column that
 * we fill does not use its default. */
static void check_sequences(apr_pool_t *pool, const char *table,
                            const apr_array_header_t *columns,
                            const us_pg_result *rows,
                            us_store_verdict *verdict)
{
    int row;

    for (row = 0; row < rows->rows; row++) {
        const char *sequences = US_PG_CELL(rows, row, SEQUENCES);

        if (sequences != NULL
            && !is_filled(columns, US_PG_CELL(rows, row, NAME))) {
            insert_problem(verdict,
                           apr_psprintf(pool,
                                        "no permission to use the sequence of "
                                        "column \"%s\" of %s: GRANT USAGE ON "
                                        "SEQUENCE %s",
                                        US_PG_CELL(rows, row, NAME), table,
                                        sequences));
        }
    }
}

/* Checks the kind, rules, and what may suppress a row. */
static void check_table(apr_pool_t *pool, const char *table,
                        const us_pg_result *found, us_store_verdict *verdict)
{
    const char *kind = US_PG_CELL(found, 0, 0);
    const char *triggers = US_PG_CELL(found, 0, 2);
    const char *rules = US_PG_CELL(found, 0, 3);

    if (*kind != 'r' && *kind != 'p') {
        read_problem(verdict, apr_psprintf(pool,
                                           "%s is not a table: UserSyncTable "
                                           "must name one",
                                           table));
    }
    if (rules != NULL) {
        insert_problem(verdict,
                       apr_psprintf(pool,
                                    "table %s has rules on INSERT or UPDATE "
                                    "(%s): PostgreSQL allows no ON CONFLICT "
                                    "there; use triggers",
                                    table, rules));
    }
    if (triggers != NULL || is_true(US_PG_CELL(found, 0, 1))) {
        add_warning(
            pool, verdict,
            apr_psprintf(
                pool,
                "table %s has %s%s%s%s: a user whose row is suppressed there "
                "is refused",
                table,
                is_true(US_PG_CELL(found, 0, 1)) ? "row-level security" : "",
                is_true(US_PG_CELL(found, 0, 1)) && triggers != NULL ? " and "
                                                                     : "",
                triggers != NULL ? "BEFORE INSERT triggers " : "",
                triggers != NULL ? triggers : ""));
    }
    verdict->has_triggers = triggers != NULL;
    /* a foreign key does not accept rows of tables that inherit from an
     * ordinary one; a partitioned table has no rows of its own */
    verdict->shape |= *kind == 'r' ? US_SHAPE_ONLY : 0;
}

/* The role may not even use the schema of "schema"."table". */
static const char *no_usage(apr_pool_t *pool, const char *table)
{
    const char *dot = strstr(table, "\".\"");

    return apr_psprintf(
        pool,
        "no permission to look up %s: GRANT USAGE ON SCHEMA "
        "%s",
        table,
        dot == NULL
            ? ""
            : apr_pstrmemdup(pool, table, (apr_size_t)(dot + 1 - table)));
}

/* Notes the types that change how statements are written. */
static void note_type(us_store_verdict *verdict, us_field_kind field, int i,
                      const char *type)
{
    verdict->json_column[i] = strncmp(type, "json", 4) == 0;
    if (field == US_FIELD_ID && strcmp(type, "uuid") != 0) {
        verdict->shape |= US_SHAPE_TEXT_ID;
    }
    if (field == US_FIELD_EMAIL && verdict->json_column[i]) {
        verdict->shape |= US_SHAPE_JSON_EMAIL;
    }
}

/* Checks the table of tombstones, without which nobody knows who was
 * deleted. */
static us_pg_status check_tombstones(us_pg_conn *conn, apr_pool_t *pool,
                                     apr_time_t deadline,
                                     const us_store_table *table,
                                     us_store_verdict *verdict)
{
    static const us_pg_statement query = {tombstones_sql, 3, 0};
    const char *params[] = {table->tombstones, table->name,
                            APR_ARRAY_IDX(table->columns, 0, us_column).plain};
    us_pg_result found;
    us_pg_status status
        = us_pg_exec(conn, pool, deadline, &query, params, &found);
    const char *wrong = NULL;

    if (status != US_PG_OK) {
        verdict->error = found;
        return status;
    }
    if (found.rows == 0 || strcmp(US_PG_CELL(&found, 0, 2), "3") != 0) {
        wrong = "does not exist, or not with the columns id, deleted_at and "
                "updated_at: see sql/users_deleted.sql";
    }
    else if (!is_true(US_PG_CELL(&found, 0, 0))) {
        wrong = "cannot be used: GRANT SELECT, INSERT, UPDATE, DELETE, see "
                "sql/users_deleted.sql";
    }
    else if (!is_true(US_PG_CELL(&found, 0, 3))) {
        wrong = "has an id of another type than the users table's";
    }
    if (wrong == NULL && !is_true(US_PG_CELL(&found, 0, 1))) {
        read_problem(verdict,
                     apr_psprintf(pool,
                                  "UserSyncOnDelete Delete: no permission to "
                                  "delete from %s: GRANT DELETE ON %s",
                                  table->name, table->name));
    }
    if (wrong != NULL) {
        read_problem(verdict,
                     apr_psprintf(pool,
                                  "UserSyncOnDelete Delete: the table %s %s",
                                  table->tombstones, wrong));
    }
    return US_PG_OK;
}

us_pg_status us_store_check(us_pg_conn *conn, apr_pool_t *pool,
                            apr_time_t deadline, const us_store_table *users,
                            us_store_verdict *verdict)
{
    const char *table = users->name;
    const apr_array_header_t *columns = users->columns;
    us_pg_result *found = &verdict->error;
    us_pg_result rows;
    us_pg_status status;
    /* once in a child's life: not worth preparing */
    static const us_pg_statement table_query = {table_sql, 1, 0};
    static const us_pg_statement columns_query = {columns_sql, 1, 0};
    int i;

    memset(verdict, 0, sizeof(*verdict));
    status = us_pg_exec(conn, pool, deadline, &table_query, &table, found);
    if (status == US_PG_ERROR && us_pg_is_class(found, "42501")) {
        verdict->read_problem = no_usage(pool, table);
        return US_PG_OK;
    }
    if (status != US_PG_OK) {
        return status;
    }
    if (found->rows == 0) {
        verdict->read_problem = apr_psprintf(
            pool,
            "table %s does not exist: apply the migrations or correct "
            "UserSyncTable",
            table);
        return US_PG_OK;
    }
    check_table(pool, table, found, verdict);
    status = us_pg_exec(conn, pool, deadline, &columns_query, &table, &rows);
    if (status != US_PG_OK) {
        verdict->error = rows;
        return status;
    }
    for (i = 0; i < columns->nelts; i++) {
        const us_column *column = &APR_ARRAY_IDX(columns, i, us_column);
        int row = find_row(&rows, column->plain);

        check_column(pool, table, column, &rows, verdict);
        if (row >= 0) {
            note_type(verdict, column->field, i, US_PG_CELL(&rows, row, TYPE));
        }
    }
    check_unfilled(pool, table, columns, &rows, verdict);
    check_sequences(pool, table, columns, &rows, verdict);
    return users->tombstones == NULL
               ? US_PG_OK
               : check_tombstones(conn, pool, deadline, users, verdict);
}
