/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "batch_sql.h"

#include <apr_strings.h>

#include <string.h>

#define EQUALS " OPERATOR(pg_catalog.=) "
#define UNTIL " OPERATOR(pg_catalog.<=) "
#define AFTER " OPERATOR(pg_catalog.>) "
#define TEXTS "pg_catalog.text[]"
#define MOMENT "pg_catalog.timestamptz"

const us_field_kind us_batch_followed[US_BATCH_FOLLOWED]
    = {US_FIELD_EMAIL, US_FIELD_IS_ANONYMOUS, US_FIELD_BANNED_UNTIL,
       US_FIELD_DELETED_AT};

/* --- pieces --- */

static const char *quoted(const us_batch_table *table, int i)
{
    return APR_ARRAY_IDX(table->columns, i, us_column).quoted;
}

/* A column of the row, which is t in all statements. */
static const char *of_row(apr_pool_t *pool, const us_batch_table *table, int i)
{
    return apr_pstrcat(pool, "t.", quoted(table, i), NULL);
}

static const char *only(apr_pool_t *pool, const us_batch_table *table)
{
    return apr_pstrcat(pool, table->only ? "ONLY " : "", table->name, " AS t",
                       NULL);
}

static const char *as_type(apr_pool_t *pool, const char *value,
                           const char *type)
{
    return apr_pstrcat(pool, "CAST(", value, " AS ", type, ")", NULL);
}

/* JSON is compared by its meaning, not by its spelling. */
static const char *json_text(apr_pool_t *pool, const char *json)
{
    return apr_pstrcat(pool, "CAST(CAST(", json,
                       " AS pg_catalog.jsonb) AS pg_catalog.text)", NULL);
}

/*
 * Is the row's column what the user has in value?  NULL equals NULL.  IS
 * DISTINCT FROM would look its operator up in the search_path; arrays are
 * compared by the equality of their elements' type, also for citext.
 */
static const char *is_same(apr_pool_t *pool, const us_batch_table *table,
                           int i, const char *value)
{
    const char *column = of_row(pool, table, i);

    value = as_type(pool, value, table->types[i]);
    if (table->takes_json[i]) {
        column = json_text(pool, column);
        value = json_text(pool, value);
    }
    return apr_pstrcat(pool, "ARRAY[", value, "]" EQUALS "ARRAY[", column, "]",
                       NULL);
}

/*
 * The users: arrays from parameter first on, whose elements get the names c0,
 * c1 ... and n for their place.
 */
static const char *users(apr_pool_t *pool, int first, int count)
{
    const char *arrays = "";
    const char *names = "";
    int i;

    for (i = 0; i < count; i++) {
        arrays = apr_psprintf(pool,
                              "%s%spg_catalog.unnest(CAST($%d AS " TEXTS "))",
                              arrays, i > 0 ? ", " : "", first + i);
        names = apr_psprintf(pool, "%sc%d, ", names, i);
    }
    return apr_pstrcat(pool, "ROWS FROM (", arrays, ") WITH ORDINALITY AS u(",
                       names, "n)", NULL);
}

/* The row of a user.  UUIDs are equal in any case, texts are not: a row with
 * its id in upper-case text does not count as missing. */
static const char *is_row_of(apr_pool_t *pool, const us_batch_table *table)
{
    const char *id = of_row(pool, table, 0);

    return strcmp(table->types[0], "pg_catalog.uuid") == 0
               ? apr_pstrcat(pool, id, EQUALS "CAST(u.c0 AS pg_catalog.uuid)",
                             NULL)
               : apr_pstrcat(pool, id,
                             EQUALS "ANY (ARRAY[u.c0, "
                                    "pg_catalog.upper(u.c0)])",
                             NULL);
}

static const char *is_row_exactly(apr_pool_t *pool,
                                  const us_batch_table *table)
{
    return apr_pstrcat(pool, of_row(pool, table, 0), EQUALS,
                       as_type(pool, "u.c0", table->types[0]), NULL);
}

/*
 * The row of each user, or NULLs, as t.  OFFSET keeps the planner from joining
 * all rows of the table: it may know nothing of a table that was empty until a
 * minute ago.  Columns are named since the role may not read the others.
 */
static const char *join_rows(apr_pool_t *pool, const us_batch_table *table)
{
    const char *names = "";
    int i;

    for (i = 0; i < table->columns->nelts; i++) {
        names = apr_pstrcat(pool, names, i > 0 ? ", " : "",
                            of_row(pool, table, i), NULL);
    }
    return apr_pstrcat(pool, " LEFT JOIN LATERAL (SELECT ", names, " FROM ",
                       only(pool, table), " WHERE ", is_row_of(pool, table),
                       " OFFSET 0) AS t ON true", NULL);
}

/* The user's state is from c1 at the earliest: what is known of them at $1 may
 * have come into being after that, by a clock that is not as fine. */
#define KNOWN "GREATEST(CAST($1 AS " MOMENT "), CAST(u.c1 AS " MOMENT "))"

/* Has the row no later state than is known of the user?  Without the column
 * nobody can tell. */
static const char *is_due(apr_pool_t *pool, const us_batch_table *table)
{
    int at = us_columns_find(table->columns, US_FIELD_UPDATED_AT);
    const char *column;

    if (at < 0) {
        return KNOWN " IS NOT NULL";
    }
    column = of_row(pool, table, at);
    return apr_pstrcat(pool, "(", column, " IS NULL OR ", column,
                       UNTIL KNOWN ")", NULL);
}

/* ", updated_at = ..." from u.NAME; "" without that column. */
static const char *set_updated_at(apr_pool_t *pool,
                                  const us_batch_table *table,
                                  const char *name)
{
    int at = us_columns_find(table->columns, US_FIELD_UPDATED_AT);

    return at < 0 ? ""
                  : apr_pstrcat(pool, ", ", quoted(table, at), " = GREATEST(",
                                of_row(pool, table, at), ", CAST(u.", name,
                                " AS " MOMENT "))", NULL);
}

/* How many of the followed fields have a column. */
static int followed_count(const us_batch_table *table)
{
    int count = 0;
    int f;

    for (f = 0; f < US_BATCH_FOLLOWED; f++) {
        count += us_columns_find(table->columns, us_batch_followed[f]) >= 0;
    }
    return count;
}

/*
 * UPDATE of the rows of u that are due, with this SET clause.  They are locked
 * in the order of their ids first: two programs that do so cannot lock each
 * other out.
 */
static const char *update_of(apr_pool_t *pool, const us_batch_table *table,
                             int arrays, const char *set)
{
    const char *id = of_row(pool, table, 0);

    return apr_pstrcat(
        pool, "WITH u AS (SELECT * FROM ", users(pool, 2, arrays),
        "), held AS (SELECT ", id, " AS id FROM u JOIN ", only(pool, table),
        " ON ", is_row_exactly(pool, table), " WHERE ", is_due(pool, table),
        " ORDER BY 1 FOR NO KEY UPDATE OF t) UPDATE ", only(pool, table),
        " SET ", set, " FROM u, held WHERE ", id, EQUALS "held.id AND ",
        is_row_exactly(pool, table), " AND ", is_due(pool, table),
        " RETURNING CAST(", id, " AS pg_catalog.text)", NULL);
}

/* --- reading --- */

/* Is the row marked as deleted?  "" if nobody can tell, else a condition. */
static const char *is_unmarked(apr_pool_t *pool, const us_batch_table *table,
                               const char *word)
{
    int at = us_columns_find(table->columns, US_FIELD_DELETED_AT);

    return at < 0 ? ""
                  : apr_pstrcat(pool, word, of_row(pool, table, at),
                                " IS NULL", NULL);
}

const char *us_batch_compare(apr_pool_t *pool, const us_batch_table *table)
{
    int at = us_columns_find(table->columns, US_FIELD_UPDATED_AT);
    const char *newer = KNOWN " IS NULL";
    const char *id = of_row(pool, table, 0);
    const char *differences = "";
    int number = 2; /* c0: the id, c1: the time of the state */
    int f;

    if (at >= 0) {
        newer = apr_pstrcat(pool, "COALESCE(", of_row(pool, table, at),
                            AFTER KNOWN ", false)", NULL);
    }
    if (table->dead != NULL) {
        newer = apr_pstrcat(
            pool, newer, " OR ", id,
            " IS NULL AND COALESCE(d.updated_at" AFTER KNOWN ", false)", NULL);
    }
    for (f = 0; f < US_BATCH_FOLLOWED; f++) {
        int i = us_columns_find(table->columns, us_batch_followed[f]);

        differences
            = i < 0 ? apr_pstrcat(pool, differences, ", false", NULL)
                    : apr_pstrcat(pool, differences, ", NOT ",
                                  is_same(pool, table, i,
                                          apr_psprintf(pool, "u.c%d", number)),
                                  NULL);
        number += i >= 0;
    }
    return apr_pstrcat(
        pool, "SELECT u.n, ", id, " IS NOT NULL, COALESCE(",
        is_row_exactly(pool, table), ", false), ", newer, ", ",
        table->dead != NULL ? "d.id IS NOT NULL" : "false", differences,
        " FROM ", users(pool, 2, 2 + followed_count(table)),
        join_rows(pool, table),
        table->dead != NULL ? apr_pstrcat(
            pool, " LEFT JOIN ", table->dead, " AS d ON d.id" EQUALS,
            as_type(pool, "u.c0", table->dead_id), NULL)
                            : "",
        NULL);
}

/* The text forms are compared in lower case: whatever the unique index that
 * they collide in, too many are better than none. */
const char *us_batch_holders(apr_pool_t *pool, const us_batch_table *table)
{
    const char *email = of_row(pool, table, 1);

    email = table->takes_json[1] ? json_text(pool, email)
                                 : as_type(pool, email, "pg_catalog.text");
    return apr_pstrcat(
        pool, "SELECT CAST(", of_row(pool, table, 0),
        " AS pg_catalog.text) FROM ", only(pool, table),
        " WHERE pg_catalog.lower(", email,
        ")" EQUALS "ANY (CAST(pg_catalog.lower(CAST($1 AS pg_catalog.text)) "
        "AS " TEXTS "))",
        NULL);
}

const char *us_batch_walk(apr_pool_t *pool, const us_batch_table *table,
                          int first, int limit)
{
    const char *id = of_row(pool, table, 0);
    const char *after
        = first ? ""
                : apr_pstrcat(pool, " WHERE ", id, AFTER,
                              as_type(pool, "$1", table->types[0]), NULL);

    return apr_psprintf(
        pool,
        "SELECT CAST(%s AS pg_catalog.text) FROM %s%s%s ORDER BY %s "
        "LIMIT %d",
        id, only(pool, table), after,
        is_unmarked(pool, table, first ? " WHERE " : " AND "), id, limit);
}

const char *us_batch_count(apr_pool_t *pool, const us_batch_table *table)
{
    return apr_pstrcat(pool, "SELECT pg_catalog.count(*) FROM ",
                       only(pool, table), is_unmarked(pool, table, " WHERE "),
                       NULL);
}

/* --- writing --- */

const char *us_batch_insert(apr_pool_t *pool, const us_batch_table *table,
                            unsigned mask)
{
    const char *names = "";
    const char *values = "";
    const char *comma = "";
    int count = 0;
    int i;

    for (i = 0; i < table->columns->nelts; i++) {
        if ((mask & 1U << i) != 0) {
            const char *value = apr_psprintf(pool, "u.c%d", count++);

            names = apr_pstrcat(pool, names, comma, quoted(table, i), NULL);
            values = apr_pstrcat(pool, values, comma,
                                 as_type(pool, value, table->types[i]), NULL);
            comma = ", ";
        }
    }
    return apr_pstrcat(
        pool, "INSERT INTO ", table->name, " AS t (", names, ") SELECT ",
        values, " FROM ", users(pool, 2, count),
        " WHERE CAST($1 AS " MOMENT ") IS NOT NULL",
        table->dead != NULL ? apr_pstrcat(
            pool, " AND NOT EXISTS (SELECT FROM ", table->dead,
            " AS d WHERE d.id" EQUALS, as_type(pool, "u.c0", table->dead_id),
            " AND d.updated_at" AFTER "CAST($1 AS " MOMENT "))", NULL)
                            : "",
        " ORDER BY u.c0 ON CONFLICT (", quoted(table, 0),
        ") DO NOTHING RETURNING CAST(", of_row(pool, table, 0),
        " AS pg_catalog.text)", NULL);
}

const char *us_batch_update(apr_pool_t *pool, const us_batch_table *table)
{
    const char *set = "";
    const char *comma = "";
    int number = 2; /* c0: the id, c1: the time of the state */
    int f;

    for (f = 0; f < US_BATCH_FOLLOWED; f++) {
        int i = us_columns_find(table->columns, us_batch_followed[f]);

        if (i >= 0) {
            const char *value = apr_psprintf(pool, "u.c%d", number++);

            set = apr_pstrcat(pool, set, comma, quoted(table, i), " = ",
                              as_type(pool, value, table->types[i]), NULL);
            comma = ", ";
        }
    }
    set = apr_pstrcat(pool, set, set_updated_at(pool, table, "c1"), NULL);
    /* without a followed field it begins with a comma */
    return update_of(pool, table, number, *set == ',' ? set + 2 : set);
}

const char *us_batch_free_emails(apr_pool_t *pool, const us_batch_table *table)
{
    const char *id = of_row(pool, table, 0);
    const char *nothing = "NULL";

    if (!table->takes_null[1]) {
        nothing = apr_pstrcat(pool, "pg_catalog.concat('usersync:', ", id,
                              ", '@invalid')", NULL);
        if (table->takes_json[1]) {
            nothing
                = apr_pstrcat(pool, "pg_catalog.to_json(", nothing, ")", NULL);
        }
        nothing = as_type(pool, nothing, table->types[1]);
    }
    return apr_pstrcat(
        pool, "UPDATE ", only(pool, table), " SET ", quoted(table, 1), " = ",
        nothing, " FROM ", users(pool, 2, 2), " WHERE ",
        is_row_exactly(pool, table), " AND ", is_due(pool, table), NULL);
}

const char *us_batch_mark(apr_pool_t *pool, const us_batch_table *table)
{
    int at = us_columns_find(table->columns, US_FIELD_DELETED_AT);
    const char *set
        = apr_pstrcat(pool, quoted(table, at), " = CAST(u.c2 AS " MOMENT ")",
                      set_updated_at(pool, table, "c1"), NULL);

    return update_of(pool, table, 3, set);
}

const char *us_batch_delete(apr_pool_t *pool, const us_batch_table *table)
{
    const char *id = of_row(pool, table, 0);

    return apr_pstrcat(
        pool, "WITH u AS (SELECT * FROM ", users(pool, 2, 3),
        "), gone AS (DELETE FROM ", only(pool, table), " USING u WHERE ",
        is_row_exactly(pool, table), " AND ", is_due(pool, table),
        " RETURNING ", id, " AS id) INSERT INTO ", table->dead,
        " AS d (id, deleted_at, updated_at) SELECT ",
        as_type(pool, "u.c0", table->dead_id),
        ", CAST(u.c2 AS " MOMENT "), CAST(u.c1 AS " MOMENT
        ") FROM u WHERE EXISTS (SELECT FROM gone "
        "WHERE gone.id" EQUALS,
        as_type(pool, "u.c0", table->types[0]),
        ") OR NOT EXISTS (SELECT FROM ", only(pool, table), " WHERE ",
        is_row_exactly(pool, table),
        ") ORDER BY u.c0 ON CONFLICT (id) DO UPDATE SET deleted_at = "
        "excluded.deleted_at, updated_at = GREATEST(d.updated_at, "
        "excluded.updated_at) RETURNING CAST(d.id AS pg_catalog.text)",
        NULL);
}

const char *us_batch_raise(apr_pool_t *pool, const us_batch_table *table)
{
    return apr_pstrcat(pool, "DELETE FROM ", table->dead,
                       " AS d WHERE d.id" EQUALS "ANY (CAST($2 AS ",
                       table->dead_id,
                       "[])) AND (d.updated_at IS NULL OR d.updated_at" UNTIL
                       "CAST($1 AS " MOMENT "))",
                       NULL);
}
