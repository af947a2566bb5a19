/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "us_store_check.h"

#include <apr_strings.h>

#include <stdlib.h>
#include <string.h>

/* An id in its text form must fit. */
#define ID_LENGTH_MIN US_UUID_LEN

/* PostgreSQL stores varchar(n) as n + 4. */
#define TYPMOD_HEADER 4

/* The table itself.  to_regclass gives NULL for a table that is not there;
 * trigger bits: 1 row, 2 before, 4 insert; rule events: 2 update, 3 insert. */
static const char table_sql[]
    = "SELECT c.relkind, pg_catalog.row_security_active(c.oid),"
      " (SELECT pg_catalog.string_agg(tgname::text, ', ')"
      "   FROM pg_catalog.pg_trigger WHERE tgrelid = c.oid"
      "   AND NOT tgisinternal AND tgenabled <> 'D' AND tgtype & 7 = 7),"
      " (SELECT pg_catalog.string_agg(rulename::text, ', ')"
      "   FROM pg_catalog.pg_rewrite WHERE ev_class = c.oid"
      "   AND ev_type IN ('2', '3') AND ev_enabled <> 'D')"
      " FROM pg_catalog.pg_class c"
      " WHERE c.oid = pg_catalog.to_regclass($1)";

/* Its columns; a domain counts as the type at its bottom. */
static const char columns_sql[]
    = "SELECT a.attname, t.typname, t.typmod,"
      " (a.attnotnull OR t.typnotnull) AND NOT a.atthasdef"
      "   AND t.typdefault IS NULL AND a.attidentity = ''"
      "   AND a.attgenerated = '',"
      " pg_catalog.has_column_privilege(a.attrelid, a.attnum, 'SELECT'),"
      " pg_catalog.has_column_privilege(a.attrelid, a.attnum, 'INSERT'),"
      " pg_catalog.has_column_privilege(a.attrelid, a.attnum, 'UPDATE'),"
      " EXISTS (SELECT 1 FROM pg_catalog.pg_index i"
      "   WHERE i.indrelid = a.attrelid AND i.indisunique AND i.indisvalid"
      "   AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL"
      "   AND i.indnkeyatts = 1 AND i.indkey[0] = a.attnum)"
      " FROM pg_catalog.pg_attribute a CROSS JOIN LATERAL ("
      "   WITH RECURSIVE d AS ("
      "     SELECT typname, typbasetype, typtypmod, typnotnull, typdefault,"
      "       a.atttypmod AS typmod"
      "     FROM pg_catalog.pg_type WHERE oid = a.atttypid"
      "     UNION ALL SELECT b.typname, b.typbasetype, b.typtypmod,"
      "       d.typnotnull OR b.typnotnull,"
      "       COALESCE(d.typdefault, b.typdefault), d.typtypmod"
      "     FROM d JOIN pg_catalog.pg_type b ON b.oid = d.typbasetype)"
      "   SELECT * FROM d WHERE typbasetype = 0) t"
      " WHERE a.attrelid = pg_catalog.to_regclass($1)"
      " AND a.attnum > 0 AND NOT a.attisdropped";

/* Columns of columns_sql. */
enum {
    NAME,
    TYPE,
    TYPMOD,
    MUST_BE_FILLED,
    MAY_SELECT,
    MAY_INSERT,
    MAY_UPDATE,
    UNIQUE
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

/* uuid, text, or varchar that holds a UUID's text. */
static int suits_id(const char *type, const char *typmod)
{
    int length = (int)strtol(typmod, NULL, 10) - TYPMOD_HEADER;

    return strcmp(type, "uuid") == 0 || strcmp(type, "text") == 0
           || (strcmp(type, "varchar") == 0
               && (length < 0 || length >= ID_LENGTH_MIN));
}

/* The rules for the id column alone. */
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

/* One configured column: is it there, may it be read and written? */
static void check_column(apr_pool_t *pool, const char *table,
                         const us_column *column, const us_pg_result *rows,
                         us_store_verdict *verdict)
{
    int looked_up
        = column->field == US_FIELD_ID || column->field == US_FIELD_EMAIL;
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
    if (column->field == US_FIELD_EMAIL
        && !is_true(US_PG_CELL(rows, row, MAY_UPDATE))) {
        add_warning(pool, verdict,
                    apr_psprintf(pool,
                                 "no permission to update column %s of %s, "
                                 "so it cannot follow Supabase: GRANT UPDATE "
                                 "(%s) ON %s",
                                 column->quoted, table, column->quoted,
                                 table));
    }
    if (column->field == US_FIELD_ID) {
        check_id(pool, table, column, rows, row, verdict);
    }
}

/* A column that must have a value and that nobody gives one; a BEFORE INSERT
 * trigger may, which only an insert can tell. */
static void check_unfilled(apr_pool_t *pool, const char *table,
                           const apr_array_header_t *columns,
                           const us_pg_result *rows, us_store_verdict *verdict)
{
    int row;
    int i;

    for (row = 0; row < rows->rows && !verdict->has_triggers; row++) {
        const char *name = US_PG_CELL(rows, row, NAME);
        int filled = 0;

        for (i = 0; i < columns->nelts; i++) {
            filled |= strcmp(APR_ARRAY_IDX(columns, i, us_column).plain, name)
                      == 0;
        }
        if (!filled && is_true(US_PG_CELL(rows, row, MUST_BE_FILLED))
            && verdict->insert_problem == NULL) {
            verdict->unfillable = 1;
            verdict->insert_problem = apr_psprintf(
                pool,
                "column \"%s\" of %s is NOT NULL without a default and "
                "nobody fills it: give it a default or name it in "
                "UserSyncColumn",
                name, table);
        }
    }
}

/* Kind, rules, and what may swallow a row. */
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
                "table %s has %s%s%s%s: a row that is suppressed there "
                "refuses its user",
                table,
                is_true(US_PG_CELL(found, 0, 1)) ? "row-level security" : "",
                is_true(US_PG_CELL(found, 0, 1)) && triggers != NULL ? " and "
                                                                     : "",
                triggers != NULL ? "BEFORE INSERT triggers " : "",
                triggers != NULL ? triggers : ""));
    }
    verdict->has_triggers = triggers != NULL;
}

/* The role may not even look into the schema of "schema"."table". */
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

us_pg_status us_store_check(us_pg_conn *conn, apr_pool_t *pool,
                            apr_time_t deadline, const char *table,
                            const apr_array_header_t *columns,
                            us_store_verdict *verdict, us_pg_result *error)
{
    us_pg_result rows;
    us_pg_status status;
    /* once in a child's life: not worth preparing */
    static const us_pg_statement table_query = {table_sql, 1, 0};
    static const us_pg_statement columns_query = {columns_sql, 1, 0};
    int i;

    memset(verdict, 0, sizeof(*verdict));
    status = us_pg_exec(conn, pool, deadline, &table_query, &table, error);
    if (status == US_PG_ERROR && us_pg_is_class(error, "42501")) {
        verdict->read_problem = no_usage(pool, table);
        return US_PG_OK;
    }
    if (status != US_PG_OK) {
        return status;
    }
    if (error->rows == 0) {
        verdict->read_problem = apr_psprintf(
            pool,
            "table %s does not exist: apply the migrations or correct "
            "UserSyncTable",
            table);
        return US_PG_OK;
    }
    check_table(pool, table, error, verdict);
    status = us_pg_exec(conn, pool, deadline, &columns_query, &table, &rows);
    if (status != US_PG_OK) {
        *error = rows;
        return status;
    }
    for (i = 0; i < columns->nelts; i++) {
        const us_column *column = &APR_ARRAY_IDX(columns, i, us_column);
        int row = find_row(&rows, column->plain);

        check_column(pool, table, column, &rows, verdict);
        verdict->json_column[i]
            = row >= 0
              && strncmp(US_PG_CELL(&rows, row, TYPE), "json", 4) == 0;
    }
    check_unfilled(pool, table, columns, &rows, verdict);
    return US_PG_OK;
}
