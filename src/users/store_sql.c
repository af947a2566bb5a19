/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "store_sql.h"

#include <apr_strings.h>

#include <string.h>

us_store_table us_store_table_make(apr_pool_t *pool, const char *name,
                                   const apr_array_header_t *columns,
                                   int deletes)
{
    us_store_table table = {.name = name, .columns = columns};

    if (deletes) { /* the name ends with a quote */
        table.tombstones
            = apr_pstrcat(pool, apr_pstrmemdup(pool, name, strlen(name) - 1),
                          US_TOMBSTONES "\"", NULL);
    }
    table.has_email = us_columns_have_email(columns);
    table.anonymous = us_columns_find(columns, US_FIELD_IS_ANONYMOUS);
    table.banned = us_columns_find(columns, US_FIELD_BANNED_UNTIL);
    table.deleted = us_columns_find(columns, US_FIELD_DELETED_AT);
    table.updated = us_columns_find(columns, US_FIELD_UPDATED_AT);
    return table;
}

/* --- pieces --- */

const char *us_store_sql_column(const us_store_table *table, int i)
{
    return APR_ARRAY_IDX(table->columns, i, us_column).quoted;
}

const char *us_store_sql_from(apr_pool_t *pool, const us_store_table *table,
                              unsigned shape)
{
    return apr_pstrcat(pool, (shape & US_SHAPE_ONLY) != 0 ? "ONLY " : "",
                       table->name, NULL);
}

/*
 * UUIDs are equal in any case, texts are not: a row with its id in upper-case
 * text is found, too, so that it does not count as missing.
 */
const char *us_store_sql_where_id(apr_pool_t *pool,
                                  const us_store_table *table, unsigned shape)
{
    const char *id = us_store_sql_column(table, 0);

    return (shape & US_SHAPE_TEXT_ID) == 0
               ? apr_pstrcat(pool, " WHERE ", id, US_EQUALS "$1", NULL)
               : apr_pstrcat(pool, " WHERE ", id,
                             US_EQUALS
                             "ANY (ARRAY[CAST($1 AS pg_catalog.text),"
                             " pg_catalog.upper(CAST($1 AS "
                             "pg_catalog.text))])",
                             NULL);
}

/* Is the id spelled like the one that clients are given? */
static const char *is_exact(apr_pool_t *pool, const us_store_table *table,
                            unsigned shape)
{
    return (shape & US_SHAPE_TEXT_ID) == 0
               ? "true"
               : apr_pstrcat(pool, us_store_sql_column(table, 0),
                             US_EQUALS "CAST($1 AS pg_catalog.text)", NULL);
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
const char *us_store_sql_same_email(apr_pool_t *pool,
                                    const us_store_table *table,
                                    const char *parameter, unsigned shape)
{
    const char *email = us_store_sql_column(table, 1);

    if ((shape & US_SHAPE_JSON_EMAIL) != 0) {
        email = json_text(pool, email);
        parameter = json_text(pool, parameter);
    }
    return apr_pstrcat(pool, "(ARRAY[NULL, ", email, "])[2:2]", US_EQUALS,
                       "(ARRAY[", parameter, ", ", email, "])[1:1]", NULL);
}

const char *us_store_sql_yields(apr_pool_t *pool, const us_store_table *table,
                                const char *time, int dead)
{
    const char *updated;
    const char *alive = "";

    if (table->updated < 0) {
        return "true";
    }
    updated = us_store_sql_column(table, table->updated);
    if (!dead && table->deleted >= 0) {
        alive = apr_pstrcat(pool, " AND ",
                            us_store_sql_column(table, table->deleted),
                            " IS NULL", NULL);
    }
    return apr_pstrcat(pool, "COALESCE(", updated, US_LESS, time, " OR (",
                       updated, US_EQUALS, time, alive, "), true)", NULL);
}

/*
 * Is there a tombstone for the id $1, as late as the row?  A later row is that
 * of a user whom Supabase has restored since.  The look-ups call the row "u".
 */
static const char *has_tombstone(apr_pool_t *pool, const us_store_table *table)
{
    const char *later
        = table->updated < 0
              ? ""
              : apr_pstrcat(
                  pool, " AND COALESCE(NOT g.updated_at" US_LESS "u.",
                  us_store_sql_column(table, table->updated), ", true)", NULL);

    return table->tombstones == NULL
               ? "false"
               : apr_pstrcat(pool, "EXISTS (SELECT 1 FROM ", table->tombstones,
                             " AS g WHERE g.id" US_EQUALS "$1", later, ")",
                             NULL);
}

/* May the user be let in?  See US_LOOK_LIFE.  The end of a ban can be
 * "infinity", from which nothing can be subtracted. */
static const char *life(apr_pool_t *pool, const us_store_table *table)
{
    static const char day[]
        = "(pg_catalog.now() OPERATOR(pg_catalog.+)"
          " CAST('" APR_STRINGIFY(US_BAN_MAX) "s' AS pg_catalog.interval))";
    const char *deleted = "false";
    const char *until;

    if (table->banned < 0 && table->deleted < 0 && table->tombstones == NULL) {
        return "NULL";
    }
    if (table->deleted >= 0) {
        deleted = apr_pstrcat(pool, us_store_sql_column(table, table->deleted),
                              " IS NOT NULL", NULL);
    }
    deleted = apr_pstrcat(pool, "CASE WHEN ", deleted, " OR ",
                          has_tombstone(pool, table), " THEN 'deleted'", NULL);
    if (table->banned < 0) {
        return apr_pstrcat(pool, deleted, " END", NULL);
    }
    until = us_store_sql_column(table, table->banned);
    return apr_pstrcat(
        pool, deleted, " WHEN ", until, US_GREATER, day,
        " THEN '" APR_STRINGIFY(US_BAN_MAX) "' WHEN ", until, US_GREATER,
        "pg_catalog.now() THEN CAST(pg_catalog.ceil("
        "pg_catalog.date_part('epoch', ",
        until,
        " OPERATOR(pg_catalog.-) pg_catalog.now())) AS pg_catalog.text) END",
        NULL);
}

/* --- the statements --- */

/*
 * INSERT of the first count columns.  A column without a value gets the
 * table's default.  params NULL: all have values, and nothing is inserted.
 *
 * Always ON CONFLICT (id): DO NOTHING without a target would silently lose a
 * user if another unique index collides.
 */
static const char *insert_text(apr_pool_t *pool, const us_store_table *table,
                               int count, const char *const *params)
{
    const char *names = "";
    const char *values = "";
    int number = 0;
    int i;

    for (i = 0; i < count; i++) {
        const char *comma = i > 0 ? ", " : "";

        names = apr_pstrcat(pool, names, comma, us_store_sql_column(table, i),
                            NULL);
        values = params != NULL && params[i] == NULL
                     ? apr_pstrcat(pool, values, comma, "DEFAULT", NULL)
                     : apr_psprintf(pool, "%s%s$%d", values, comma, ++number);
    }
    return apr_pstrcat(pool, "INSERT INTO ", table->name, " (", names,
                       params != NULL ? ") VALUES (" : ") SELECT ", values,
                       params != NULL ? ")" : " WHERE false", " ON CONFLICT (",
                       us_store_sql_column(table, 0),
                       ") DO NOTHING RETURNING true", NULL);
}

/*
 * The time of a state that a sign-in shows.  Supabase had read the user some
 * time before: whatever has been told of that time is later.
 */
#define AS_OF                                                           \
    "(" US_TIME("$%d") " OPERATOR(pg_catalog.-) CAST('" US_SIGN_IN_TIME \
                       "' AS pg_catalog.interval))"

/* Is the row's state, or that of a tombstone, later than this? */
static const char *is_later(apr_pool_t *pool, const us_store_table *table,
                            const char *as_of)
{
    const char *row = apr_pstrcat(
        pool, "NOT ", us_store_sql_yields(pool, table, as_of, 0), NULL);

    return table->tombstones == NULL
               ? row
               : apr_pstrcat(pool, row, " OR EXISTS (SELECT 1 FROM ",
                             table->tombstones,
                             " AS g WHERE g.id" US_EQUALS
                             "$1 AND NOT g.updated_at" US_LESS,
                             as_of, ")", NULL);
}

static us_pg_statement look_up(apr_pool_t *pool, const us_store_table *table,
                               unsigned shape, const char *select)
{
    const char *same = "true";
    const char *later = "false";
    int number = 1;

    if (table->has_email) {
        same = us_store_sql_same_email(pool, table, "$2", shape);
        number++;
    }
    if (table->updated >= 0 || table->tombstones != NULL) {
        later = is_later(pool, table, apr_psprintf(pool, AS_OF, ++number));
    }
    return us_pg_prepared(
        apr_pstrcat(pool, select, ", ", same, ", ", later, " FROM ",
                    us_store_sql_from(pool, table, shape), " AS u",
                    us_store_sql_where_id(pool, table, shape), NULL),
        number);
}

/* Adds an assignment to a list. */
static const char *assign(apr_pool_t *pool, const us_store_table *table,
                          const char *list, int column, const char *value)
{
    return apr_pstrcat(pool, list, *list != '\0' ? ", " : "",
                       us_store_sql_column(table, column), " = ", value, NULL);
}

/* "UPDATE ... SET sets" of the row, if it yields and nobody holds it. */
static us_pg_statement update_if(apr_pool_t *pool, const us_store_table *table,
                                 unsigned shape, const char *sets,
                                 const char *yields, int number)
{
    const char *from = us_store_sql_from(pool, table, shape);
    const char *id = us_store_sql_column(table, 0);

    return us_pg_prepared(
        apr_pstrcat(pool, "UPDATE ", from, " SET ", sets, " WHERE ", id,
                    US_EQUALS "(SELECT ", id, " FROM ", from, " WHERE ", id,
                    US_EQUALS "$1 AND ", yields,
                    " FOR NO KEY UPDATE SKIP LOCKED) RETURNING true", NULL),
        number);
}

/* What follows a sign-in: the e-mail, and whether the user is anonymous. */
static us_pg_statement update(apr_pool_t *pool, const us_store_table *table,
                              unsigned shape)
{
    us_pg_statement none = {NULL, 0, 0};
    const char *sets;
    const char *yields = "true";
    int number = 2;

    if (!table->has_email) {
        return none;
    }
    sets = assign(pool, table, "", 1, "$2");
    if (table->updated >= 0) {
        yields = us_store_sql_yields(pool, table,
                                     apr_psprintf(pool, AS_OF, ++number), 0);
    }
    if (table->anonymous >= 0) {
        sets = assign(
            pool, table, sets, table->anonymous,
            apr_psprintf(pool, "COALESCE($%d, %s)", ++number,
                         us_store_sql_column(table, table->anonymous)));
    }
    return update_if(pool, table, shape, sets, yields, number);
}

/*
 * Whom Supabase has let in is neither banned nor deleted.  The row's time
 * stays as it is: events are ordered among themselves, and an event of a ban
 * that Supabase had not seen yet when it let the user in must still count.
 */
static us_pg_statement revive(apr_pool_t *pool, const us_store_table *table,
                              unsigned shape)
{
    us_pg_statement none = {NULL, 0, 0};
    const char *sets = "";
    const char *yields = "true";
    int number = 1;

    if (table->banned >= 0) {
        sets = assign(pool, table, sets, table->banned, "NULL");
    }
    if (table->deleted >= 0) {
        sets = assign(pool, table, sets, table->deleted, "NULL");
    }
    if (*sets == '\0') {
        return none;
    }
    if (table->updated >= 0) {
        yields = us_store_sql_yields(pool, table,
                                     apr_psprintf(pool, AS_OF, ++number), 0);
    }
    return update_if(pool, table, shape, sets, yields, number);
}

/* What a table of tombstones needs. */
static void add_tombstones(apr_pool_t *pool, const us_store_table *table,
                           unsigned shape, us_store_sql *sql)
{
    const char *from = apr_pstrcat(pool, " FROM ", table->tombstones,
                                   " WHERE id" US_EQUALS "$1", NULL);

    sql->tombstone
        = us_pg_prepared(apr_pstrcat(pool, "SELECT true", from, NULL), 1);
    sql->drop_tombstone = us_pg_prepared(
        apr_pstrcat(pool, "DELETE", from, " AND updated_at" US_LESS "(",
                    US_TIME("$2"),
                    " OPERATOR(pg_catalog.-) CAST($3 AS pg_catalog.interval))"
                    " RETURNING true",
                    NULL),
        3);
    sql->sweep = us_pg_prepared(
        apr_pstrcat(pool, "DELETE FROM ",
                    us_store_sql_from(pool, table, shape), " AS u",
                    us_store_sql_where_id(pool, table, shape), " AND ",
                    has_tombstone(pool, table), " RETURNING true", NULL),
        1);
}

us_store_sql us_store_sql_create(apr_pool_t *pool, const us_store_table *table,
                                 unsigned shape)
{
    const char *select
        = apr_pstrcat(pool, "SELECT ", is_exact(pool, table, shape), ", ",
                      life(pool, table), NULL);
    us_store_sql sql;

    memset(&sql, 0, sizeof(sql));
    sql.find = us_pg_prepared(
        apr_pstrcat(pool, select, " FROM ",
                    us_store_sql_from(pool, table, shape), " AS u",
                    us_store_sql_where_id(pool, table, shape), NULL),
        1);
    sql.look_up = look_up(pool, table, shape, select);
    sql.update = update(pool, table, shape);
    sql.revive = revive(pool, table, shape);
    sql.pretend
        = us_pg_prepared(insert_text(pool, table, table->columns->nelts, NULL),
                         table->columns->nelts);
    if (table->tombstones != NULL) {
        add_tombstones(pool, table, shape, &sql);
    }
    return sql;
}

us_pg_statement us_store_sql_insert(apr_pool_t *pool,
                                    const us_store_table *table, int count,
                                    const char **params)
{
    const char *text = insert_text(pool, table, count, params);
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
