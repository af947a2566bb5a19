/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "target.h"
#include "ids.h"

#include <apr_strings.h>

#include <string.h>

/* clang-format off */

/* The table: $1 its name as configured, $2 that of the tombstones. */
static const char table_sql[] =
    "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname), c.relkind,"
    " pg_catalog.concat(pg_catalog.current_database(), ' ',"
    "   (SELECT oid FROM pg_catalog.pg_database WHERE datname"
    "     OPERATOR(pg_catalog.=) pg_catalog.current_database()), ' ', c.oid),"
    " (SELECT pg_catalog.format('%I.%I', dn.nspname, d.relname)"
    "   FROM pg_catalog.pg_class d JOIN pg_catalog.pg_namespace dn"
    "   ON dn.oid OPERATOR(pg_catalog.=) d.relnamespace"
    "   WHERE d.oid OPERATOR(pg_catalog.=)"
    "     CAST(pg_catalog.to_regclass($2) AS pg_catalog.oid)),"
    " (SELECT pg_catalog.format_type(a.atttypid, NULL)"
    "   FROM pg_catalog.pg_attribute a WHERE a.attrelid"
    "     OPERATOR(pg_catalog.=) CAST(pg_catalog.to_regclass($2) AS"
    "     pg_catalog.oid) AND a.attname OPERATOR(pg_catalog.=) 'id')"
    " FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n"
    " ON n.oid OPERATOR(pg_catalog.=) c.relnamespace"
    " WHERE c.oid OPERATOR(pg_catalog.=)"
    "   CAST(pg_catalog.to_regclass($1) AS pg_catalog.oid)";

/* Its columns; a domain over json counts as json. */
static const char columns_sql[] =
    "SELECT a.attname, pg_catalog.format('%I.%I', n.nspname, t.typname),"
    " COALESCE(b.typname, t.typname),"
    " NOT (a.attnotnull OR t.typnotnull),"
    " a.attnotnull AND NOT a.atthasdef AND t.typdefault IS NULL"
    "   AND a.attidentity OPERATOR(pg_catalog.=) ''"
    "   AND a.attgenerated OPERATOR(pg_catalog.=) ''"
    " FROM pg_catalog.pg_attribute a"
    " JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=) a.atttypid"
    " JOIN pg_catalog.pg_namespace n"
    "   ON n.oid OPERATOR(pg_catalog.=) t.typnamespace"
    " LEFT JOIN pg_catalog.pg_type b"
    "   ON b.oid OPERATOR(pg_catalog.=) t.typbasetype"
    " WHERE a.attrelid OPERATOR(pg_catalog.=)"
    "   CAST(pg_catalog.to_regclass($1) AS pg_catalog.oid)"
    " AND a.attnum OPERATOR(pg_catalog.>) CAST(0 AS pg_catalog.int2)"
    " AND NOT a.attisdropped";

/* clang-format on */

enum { NAME, TYPE, BASE, TAKES_NULL, MUST_BE_FILLED };

static int is_true(const char *cell)
{
    return cell != NULL && *cell == 't';
}

/* [SCHEMA.]TABLE_deleted for the quoted name of a table. */
static const char *name_of_dead(apr_pool_t *pool, const char *table)
{
    return apr_pstrcat(pool, apr_pstrmemdup(pool, table, strlen(table) - 1),
                       "_deleted\"", NULL);
}

/* The type to compare ids in; NULL: it cannot hold them. */
static const char *id_type(const char *base)
{
    if (strcmp(base, "uuid") == 0) {
        return "pg_catalog.uuid";
    }
    return strcmp(base, "text") == 0 || strcmp(base, "varchar") == 0
               ? "pg_catalog.text"
               : NULL;
}

static us_rec_end take_column(us_rec_target *target, int i,
                              const us_pg_result *rows, int row)
{
    us_batch_table *table = &target->table;
    const us_column *column = &APR_ARRAY_IDX(table->columns, i, us_column);
    const char *base = US_PG_CELL(rows, row, BASE);

    table->types[i] = US_PG_CELL(rows, row, TYPE);
    table->takes_json[i]
        = strcmp(base, "json") == 0 || strcmp(base, "jsonb") == 0;
    table->takes_null[i] = is_true(US_PG_CELL(rows, row, TAKES_NULL));
    switch (column->field) {
    case US_FIELD_ID:
        table->types[i] = id_type(base);
        return table->types[i] != NULL
                   ? US_REC_OK
                   : us_rec_fail(target->run,
                                 "the column %s of %s is not uuid, text or "
                                 "varchar: check --column id=...",
                                 column->plain, table->name);
    case US_FIELD_BANNED_UNTIL:
    case US_FIELD_DELETED_AT:
    case US_FIELD_UPDATED_AT:
        return strcmp(base, "timestamptz") == 0
                   ? US_REC_OK
                   : us_rec_fail(target->run,
                                 "the column %s of %s is not timestamptz",
                                 column->plain, table->name);
    default:
        return US_REC_OK;
    }
}

/* Can a row be only an id and the time of its deletion? */
static int takes_marked(const us_rec_target *target, const us_pg_result *rows)
{
    int row;

    for (row = 0; row < rows->rows; row++) {
        const char *name = US_PG_CELL(rows, row, NAME);
        int i = 0;

        while (
            i < target->table.columns->nelts
            && strcmp(APR_ARRAY_IDX(target->table.columns, i, us_column).plain,
                      name)
                   != 0) {
            i++;
        }
        if (is_true(US_PG_CELL(rows, row, MUST_BE_FILLED))
            && (i == target->table.columns->nelts
                || APR_ARRAY_IDX(target->table.columns, i, us_column).field
                       == US_FIELD_EMAIL
                || APR_ARRAY_IDX(target->table.columns, i, us_column).field
                       == US_FIELD_PHONE)) {
            return 0;
        }
    }
    return 1;
}

static us_rec_end read_columns(us_rec_target *target)
{
    us_rec_run *run = target->run;
    const char *params[] = {target->table.name};
    us_pg_result rows;
    us_rec_end end
        = us_rec_db_ask(run->db, run->pool, columns_sql, 1, params, &rows);
    int i;

    for (i = 0; i < target->table.columns->nelts && end == US_REC_OK; i++) {
        const us_column *column
            = &APR_ARRAY_IDX(target->table.columns, i, us_column);
        int row = 0;

        while (row < rows.rows
               && strcmp(US_PG_CELL(&rows, row, NAME), column->plain) != 0) {
            row++;
        }
        if (row == rows.rows) {
            return us_rec_fail(run, "%s has no column %s: check --column",
                               target->table.name, column->plain);
        }
        end = take_column(target, i, &rows, row);
    }
    if (end == US_REC_OK) {
        target->takes_marked = takes_marked(target, &rows);
    }
    return end;
}

/* The table itself, and that of the tombstones if it is needed. */
static us_rec_end read_table(us_rec_target *target)
{
    us_rec_run *run = target->run;
    const char *params[]
        = {run->options->table, name_of_dead(run->pool, run->options->table)};
    const char *kind;
    us_pg_result rows;
    us_rec_end end
        = us_rec_db_ask(run->db, run->pool, table_sql, 2, params, &rows);

    if (end != US_REC_OK) {
        return end;
    }
    if (rows.rows == 0) {
        return us_rec_fail(run, "there is no table %s: check --table and --db",
                           run->options->table);
    }
    kind = US_PG_CELL(&rows, 0, 1);
    if (*kind != 'r' && *kind != 'p') {
        return us_rec_fail(run, "%s is not a table: check --table",
                           run->options->table);
    }
    target->table.name = US_PG_CELL(&rows, 0, 0);
    target->table.only = *kind == 'r';
    target->identity = US_PG_CELL(&rows, 0, 2);
    if (run->options->on_delete == US_REC_DELETE) {
        if (US_PG_CELL(&rows, 0, 3) == NULL) {
            return us_rec_fail(run,
                               "--on-delete Delete needs the table %s: see "
                               "sql/users_deleted.sql",
                               params[1]);
        }
        target->table.dead = US_PG_CELL(&rows, 0, 3);
        target->table.dead_id = US_PG_CELL(&rows, 0, 4);
        if (target->table.dead_id == NULL) {
            return us_rec_fail(run, "%s has no column id", params[1]);
        }
    }
    return US_REC_OK;
}

us_rec_end us_rec_target_create(us_rec_run *run, us_rec_source *source,
                                us_rec_target **out)
{
    us_rec_target *target = apr_pcalloc(run->pool, sizeof(*target));
    us_rec_end end;

    target->run = run;
    target->source = source;
    target->table.columns = run->options->columns;
    target->doubtful = us_rec_ids_create(run->pool);
    if (target->doubtful == NULL) {
        return us_rec_fail(run, "out of memory");
    }
    end = read_table(target);
    if (end == US_REC_OK) {
        end = read_columns(target);
    }
    if (end == US_REC_OK) {
        target->compare = us_batch_compare(run->pool, &target->table);
    }
    *out = target;
    return end;
}
