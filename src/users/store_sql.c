/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "store_sql.h"

#include <apr_strings.h>

#define EQUALS " OPERATOR(pg_catalog.=) "

static const us_column *column_at(const apr_array_header_t *columns, int i)
{
    return &APR_ARRAY_IDX(columns, i, us_column);
}

/*
 * The WHERE clause for the row with the id $1.  UUIDs are equal in any case,
 * texts are not: a row with its id in upper-case text is found, too, so that
 * it does not count as missing.
 */
static const char *where_id(apr_pool_t *pool, const char *id, unsigned shape)
{
    return (shape & US_SHAPE_TEXT_ID) == 0
               ? apr_pstrcat(pool, " WHERE ", id, EQUALS "$1", NULL)
               : apr_pstrcat(pool, " WHERE ", id,
                             EQUALS "ANY (ARRAY[CAST($1 AS pg_catalog.text),"
                                    " pg_catalog.upper(CAST($1 AS "
                                    "pg_catalog.text))])",
                             NULL);
}

/* Is the id spelled like the one that clients are given? */
static const char *is_exact(apr_pool_t *pool, const char *id, unsigned shape)
{
    return (shape & US_SHAPE_TEXT_ID) == 0
               ? "true"
               : apr_pstrcat(pool, id, EQUALS "CAST($1 AS pg_catalog.text)",
                             NULL);
}

/* JSON is compared by its meaning, not by its spelling. */
static const char *json_text(apr_pool_t *pool, const char *json)
{
    return apr_pstrcat(pool, "CAST(CAST(", json,
                       " AS pg_catalog.jsonb) AS pg_catalog.text)", NULL);
}

/*
 * IS NOT DISTINCT FROM would look its operator up in the search_path.  Arrays
 * are compared by the equality of their elements' type, also for citext, and
 * NULL equals NULL there.  The other element gives the parameter, or a domain,
 * the type to compare in.
 */
static const char *is_same_email(apr_pool_t *pool, const char *email,
                                 unsigned shape)
{
    const char *sent = "$2";

    if ((shape & US_SHAPE_JSON_EMAIL) != 0) {
        email = json_text(pool, email);
        sent = json_text(pool, sent);
    }
    return apr_pstrcat(pool, "(ARRAY[NULL, ", email, "])[2:2]", EQUALS,
                       "(ARRAY[", sent, ", ", email, "])[1:1]", NULL);
}

/*
 * INSERT of the first count columns.  A column without a value gets the
 * table's default.  params NULL: all have values, and nothing is inserted.
 *
 * Always ON CONFLICT (id): DO NOTHING without a target would silently lose a
 * user if another unique index collides.
 */
static const char *insert_text(apr_pool_t *pool, const char *table,
                               const us_column *columns, int count,
                               const char *const *params)
{
    const char *names = "";
    const char *values = "";
    int number = 0;
    int i;

    for (i = 0; i < count; i++) {
        const char *comma = i > 0 ? ", " : "";

        names = apr_pstrcat(pool, names, comma, columns[i].quoted, NULL);
        values = params != NULL && params[i] == NULL
                     ? apr_pstrcat(pool, values, comma, "DEFAULT", NULL)
                     : apr_psprintf(pool, "%s%s$%d", values, comma, ++number);
    }
    return apr_pstrcat(pool, "INSERT INTO ", table, " (", names,
                       params != NULL ? ") VALUES (" : ") SELECT ", values,
                       params != NULL ? ")" : " WHERE false", " ON CONFLICT (",
                       columns[0].quoted, ") DO NOTHING RETURNING true", NULL);
}

us_store_sql us_store_sql_create(apr_pool_t *pool, const char *table,
                                 const apr_array_header_t *columns,
                                 int has_email, unsigned shape)
{
    us_store_sql sql;
    const char *id = column_at(columns, 0)->quoted;
    const char *exact = is_exact(pool, id, shape);
    const char *from = apr_pstrcat(
        pool, (shape & US_SHAPE_ONLY) != 0 ? "ONLY " : "", table, NULL);
    const char *where = where_id(pool, id, shape);

    sql.find = us_pg_prepared(
        apr_pstrcat(pool, "SELECT ", exact, " FROM ", from, where, NULL), 1);
    sql.look_up = sql.find;
    sql.update = sql.find;
    if (has_email) {
        const char *email = column_at(columns, 1)->quoted;

        sql.look_up
            = us_pg_prepared(apr_pstrcat(pool, "SELECT ", exact, ", ",
                                         is_same_email(pool, email, shape),
                                         " FROM ", from, where, NULL),
                             2);
        sql.update = us_pg_prepared(
            apr_pstrcat(
                pool, "UPDATE ", from, " SET ", email, " = $2 WHERE ", id,
                EQUALS "(SELECT ", id, " FROM ", from, " WHERE ", id,
                EQUALS "$1 FOR NO KEY UPDATE SKIP LOCKED) RETURNING true",
                NULL),
            2);
    }
    sql.pretend = us_pg_prepared(
        insert_text(pool, table, column_at(columns, 0), columns->nelts, NULL),
        columns->nelts);
    return sql;
}

us_pg_statement us_store_sql_insert(apr_pool_t *pool, const char *table,
                                    const apr_array_header_t *columns,
                                    int count, const char **params)
{
    const char *text
        = insert_text(pool, table, column_at(columns, 0), count, params);
    us_pg_statement statement = {text, 0, 0};
    int i;

    for (i = 0; i < count; i++) {
        if (params[i] != NULL) {
            params[statement.count++] = params[i];
        }
    }
    /* users decide which values are missing: so it is not worth preparing */
    return statement.count == count ? us_pg_prepared(text, count) : statement;
}
