/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "change_sql.h"

#include <apr_strings.h>

/* Adds a parameter; returns its name, such as "$3". */
static const char *add(apr_pool_t *pool, us_change_sql *sql, const char *value)
{
    sql->params[sql->statement.count] = value;
    return apr_psprintf(pool, "$%d", ++sql->statement.count);
}

static const char *add_time(apr_pool_t *pool, us_change_sql *sql,
                            const char *value)
{
    return apr_psprintf(pool, US_TIME("%s"), add(pool, sql, value));
}

/* A statement whose first parameter is the id. */
static us_change_sql begin(const us_change *change)
{
    us_change_sql sql = {{NULL, 0, 0}, {NULL}};

    sql.params[sql.statement.count++] = change->values[0];
    return sql;
}

/* The new value of a column. */
static const char *value_of(apr_pool_t *pool, us_change_sql *sql,
                            const us_change *change, int i)
{
    if (change->values[i] != NULL) {
        return add(pool, sql, change->values[i]);
    }
    return i == change->table->banned || i == change->table->deleted
               ? "NULL"
               : "DEFAULT";
}

/* "UPDATE table SET sets WHERE id = $1 AND it yields". */
static void make_update(apr_pool_t *pool, us_change_sql *sql,
                        const us_change *change, const char *sets,
                        const char *time, int dead)
{
    const us_store_table *table = change->table;

    sql->statement.sql = apr_pstrcat(
        pool, "UPDATE ", us_store_sql_from(pool, table, change->shape),
        " SET ", sets, us_store_sql_where_id(pool, table, change->shape),
        " AND ", us_store_sql_yields(pool, table, time, dead),
        " RETURNING true", NULL);
}

/* Is column i one that users do not choose? */
static int is_of_life(const us_store_table *table, int i)
{
    return i == table->updated || i == table->banned || i == table->deleted
           || i == table->anonymous;
}

static int is_in_scope(const us_store_table *table, us_change_scope scope,
                       int i)
{
    switch (scope) {
    case US_CHANGE_NO_EMAIL:
        return i != 1 || !table->has_email;
    case US_CHANGE_LIFE:
        return is_of_life(table, i);
    default:
        return 1;
    }
}

void us_change_keep_life(us_change *change)
{
    int i;

    for (i = 1; i < change->table->columns->nelts; i++) {
        if (!is_of_life(change->table, i)) {
            change->values[i] = NULL;
        }
    }
}

us_change_sql us_change_sql_update(apr_pool_t *pool, const us_change *change,
                                   us_change_scope scope)
{
    const us_store_table *table = change->table;
    us_change_sql sql = begin(change);
    const char *time = add_time(pool, &sql, change->as_of);
    const char *sets = "";
    int i;

    for (i = 1; i < table->columns->nelts; i++) {
        if (is_in_scope(table, scope, i)) {
            sets = apr_pstrcat(
                pool, sets, *sets != '\0' ? ", " : "",
                us_store_sql_column(table, i), " = ",
                i == table->updated ? time : value_of(pool, &sql, change, i),
                NULL);
        }
    }
    if (*sets == '\0') { /* a table of ids */
        sets = apr_pstrcat(pool, us_store_sql_column(table, 0), " = ",
                           us_store_sql_column(table, 0), NULL);
    }
    make_update(pool, &sql, change, sets, time, 0);
    return sql;
}

us_change_sql us_change_sql_mark(apr_pool_t *pool, const us_change *change)
{
    const us_store_table *table = change->table;
    const char *deleted = us_store_sql_column(table, table->deleted);
    us_change_sql sql = begin(change);
    const char *time = add_time(pool, &sql, change->as_of);
    const char *when = change->deleted_at == NULL
                           ? time
                           : add_time(pool, &sql, change->deleted_at);
    const char *sets = apr_pstrcat(pool, deleted, " = COALESCE(", deleted,
                                   ", ", when, ")", NULL);

    if (table->updated >= 0) {
        sets = apr_pstrcat(pool, sets, ", ",
                           us_store_sql_column(table, table->updated), " = ",
                           time, NULL);
    }
    make_update(pool, &sql, change, sets, time, 1);
    return sql;
}

/* " WHERE" for other rows with the e-mail.  The plain comparison can use the
 * unique index that has complained. */
static const char *where_others(apr_pool_t *pool, us_change_sql *sql,
                                const us_change *change)
{
    const us_store_table *table = change->table;
    const char *email = add(pool, sql, change->values[1]);
    const char *same
        = (change->shape & US_SHAPE_JSON_EMAIL) != 0
              ? us_store_sql_same_email(pool, table, email, change->shape)
              : apr_pstrcat(pool, us_store_sql_column(table, 1), US_EQUALS,
                            email, NULL);

    return apr_pstrcat(pool, " WHERE ", same, " AND NOT ",
                       us_store_sql_column(table, 0), US_EQUALS "$1", NULL);
}

us_change_sql us_change_sql_vacate(apr_pool_t *pool, const us_change *change)
{
    const us_store_table *table = change->table;
    us_change_sql sql = begin(change);
    const char *where = where_others(pool, &sql, change);
    const char *time = add_time(pool, &sql, change->as_of);

    sql.statement.sql = apr_pstrcat(
        pool, "UPDATE ", us_store_sql_from(pool, table, change->shape),
        " SET ", us_store_sql_column(table, 1), " = NULL", where, " AND ",
        us_store_sql_column(table, table->updated), US_LESS, time,
        " RETURNING true", NULL);
    return sql;
}

us_change_sql us_change_sql_find_owner(apr_pool_t *pool,
                                       const us_change *change)
{
    const us_store_table *table = change->table;
    us_change_sql sql = begin(change);

    sql.statement.sql = apr_pstrcat(
        pool, "SELECT true FROM ",
        us_store_sql_from(pool, table, change->shape),
        where_others(pool, &sql, change), " AND ",
        us_store_sql_column(table, table->updated), " IS NULL LIMIT 1", NULL);
    return sql;
}

/* The insert of a tombstone, unless the row is later. */
static const char *insert_tombstone(apr_pool_t *pool, us_change_sql *sql,
                                    const us_change *change, const char **time)
{
    const us_store_table *table = change->table;
    const char *when;

    *time = add_time(pool, sql, change->as_of);
    when = change->deleted_at == NULL
               ? *time
               : add_time(pool, sql, change->deleted_at);
    return apr_pstrcat(
        pool, "INSERT INTO ", table->tombstones,
        " AS g (id, deleted_at, updated_at) SELECT ",
        (change->shape & US_SHAPE_TEXT_ID) != 0 ? "CAST($1 AS pg_catalog.text)"
                                                : "$1",
        ", ", when, ", ", *time, " WHERE NOT EXISTS (SELECT 1 FROM ",
        us_store_sql_from(pool, table, change->shape),
        us_store_sql_where_id(pool, table, change->shape), " AND NOT ",
        us_store_sql_yields(pool, table, *time, 1),
        ") ON CONFLICT (id) DO UPDATE SET deleted_at = excluded.deleted_at,"
        " updated_at = excluded.updated_at"
        " WHERE g.updated_at" US_LESS "excluded.updated_at RETURNING true",
        NULL);
}

us_change_sql us_change_sql_delete(apr_pool_t *pool, const us_change *change)
{
    const us_store_table *table = change->table;
    us_change_sql sql = begin(change);
    const char *time;
    const char *tombstone = insert_tombstone(pool, &sql, change, &time);

    sql.statement.sql = apr_pstrcat(
        pool, "WITH tombstone AS (", tombstone, ") DELETE FROM ",
        us_store_sql_from(pool, table, change->shape),
        us_store_sql_where_id(pool, table, change->shape), " AND ",
        us_store_sql_yields(pool, table, time, 1), " RETURNING true", NULL);
    return sql;
}

us_change_sql us_change_sql_tombstone(apr_pool_t *pool,
                                      const us_change *change)
{
    us_change_sql sql = begin(change);
    const char *time;

    sql.statement.sql = insert_tombstone(pool, &sql, change, &time);
    return sql;
}
