/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The table auth.users of the project's own database as a source.  It has an
 * index on the id and none on created_at, so it is read in the order of ids;
 * whoever was created during the walk is looked for at its end.
 */
#include "answer.h"
#include "db.h"
#include "source.h"

#include <apr_strings.h>

#include <string.h>

#define ROWS 2000 /* that are read at a time */

#define MOMENT "pg_catalog.timestamptz"

typedef struct auth_users {
    us_rec_run *run;
    us_rec_db *db;
    const char *select; /* up to WHERE */
    const char *id;     /* of the last one who was read; NULL: none yet */
    const char *begun;  /* when the walk began, by the server's clock */
    int is_late;        /* those who were created since then are read */
} auth_users;

/* The columns of a row, before those that users are configured to have. */
enum { ID, UPDATED, DEATH, ASKED, FIRST_VALUE };

/* --- the statement --- */

/* A text in quotes, for SQL. */
static const char *literal(apr_pool_t *pool, const char *text)
{
    char *quoted = apr_palloc(pool, 2 * strlen(text) + 5);
    char *out = quoted;

    *out++ = ' ';
    *out++ = 'E';
    *out++ = '\'';
    for (; *text != '\0'; text++) {
        if (*text == '\'' || *text == '\\') {
            *out++ = *text;
        }
        *out++ = *text;
    }
    *out++ = '\'';
    *out = '\0';
    return quoted;
}

/* Two columns for a field: as text, and as JSON. */
static const char *field_of(apr_pool_t *pool, const us_column *column)
{
    static const char *const names[]
        = {"id",           "email",      "phone",     "is_anonymous",
           "banned_until", "deleted_at", "updated_at"};
    const char *name;

    switch (column->field) {
    case US_FIELD_USER_METADATA:
    case US_FIELD_APP_METADATA:
        name = column->field == US_FIELD_USER_METADATA ? "raw_user_meta_data"
                                                       : "raw_app_meta_data";
        return apr_pstrcat(pool, ", ", name, " OPERATOR(pg_catalog.->>)",
                           literal(pool, column->key), ", NULLIF(CAST(", name,
                           " OPERATOR(pg_catalog.->)",
                           literal(pool, column->key),
                           " AS pg_catalog.text), 'null')", NULL);
    default:
        name = apr_pstrcat(pool, "u.", names[column->field], NULL);
        if (column->field == US_FIELD_EMAIL
            || column->field == US_FIELD_PHONE) {
            name = apr_pstrcat(pool, "NULLIF(CAST(", name,
                               " AS pg_catalog.text), '')", NULL);
        }
        return apr_pstrcat(pool, ", CAST(", name,
                           " AS pg_catalog.text), CAST(pg_catalog.to_json(",
                           name, ") AS pg_catalog.text)", NULL);
    }
}

static const char *select_of(apr_pool_t *pool,
                             const apr_array_header_t *columns)
{
    const char *text
        = "SELECT CAST(u.id AS pg_catalog.text), CAST(COALESCE(u.updated_at, "
          "u.created_at) AS "
          "pg_catalog.text), CAST(u.deleted_at AS pg_catalog.text), "
          "CAST(pg_catalog.transaction_timestamp() AS pg_catalog.text)";
    int i;

    for (i = 0; i < columns->nelts; i++) {
        text = apr_pstrcat(
            pool, text, field_of(pool, &APR_ARRAY_IDX(columns, i, us_column)),
            NULL);
    }
    return apr_pstrcat(pool, text, " FROM auth.users AS u", NULL);
}

/* --- rows --- */

static const us_rec_user *user_of(const auth_users *a, apr_pool_t *pool,
                                  const us_pg_result *rows, int row)
{
    const apr_array_header_t *columns = a->run->options->columns;
    us_rec_user *user = apr_pcalloc(pool, sizeof(*user));
    int i;

    user->identity.id = US_PG_CELL(rows, row, ID);
    user->identity.proven = 1;
    user->identity.as_of = US_PG_CELL(rows, row, UPDATED);
    user->deleted_at = US_PG_CELL(rows, row, DEATH);
    for (i = 0; i < columns->nelts; i++) {
        us_value *value = &user->identity.values[i];

        value->text = US_PG_CELL(rows, row, FIRST_VALUE + 2 * i);
        value->json = US_PG_CELL(rows, row, FIRST_VALUE + 2 * i + 1);
    }
    if (user->deleted_at != NULL) {
        user->identity.life = US_DELETED;
        us_rec_user_forget(user, columns);
    }
    return user;
}

static void fill_page(const auth_users *a, apr_pool_t *pool,
                      const us_pg_result *rows, us_rec_page *page)
{
    int row;

    memset(page, 0, sizeof(*page));
    page->count = rows->rows;
    page->users = apr_pcalloc(pool, sizeof(us_rec_user *)
                                        * (apr_size_t)(rows->rows + 1));
    for (row = 0; row < rows->rows; row++) {
        page->users[row] = user_of(a, pool, rows, row);
    }
    page->asked = rows->rows > 0 ? US_PG_CELL(rows, 0, ASKED)
                                 : us_rec_time_text(pool, apr_time_now());
}

/* created_at is set by another machine's clock: an hour before is early
 * enough.  Who was read already is not taken again. */
static us_rec_end auth_users_next(us_rec_source *source, apr_pool_t *pool,
                                  us_rec_page *page)
{
    static const char first[] = "00000000-0000-0000-0000-000000000000";
    auth_users *a = source->data;
    const char *params[2] = {a->id != NULL ? a->id : first, a->begun};
    const char *late = a->is_late
                           ? " AND u.created_at OPERATOR(pg_catalog.>=) "
                             "(CAST($2 AS " MOMENT ") OPERATOR(pg_catalog.-) "
                             "CAST('1 hour' AS pg_catalog.interval))"
                           : "";
    us_pg_result rows;
    us_rec_end end = us_rec_db_ask(
        a->db, pool,
        apr_psprintf(pool,
                     "%s WHERE u.id OPERATOR(pg_catalog.>) CAST($1 AS "
                     "pg_catalog.uuid)%s ORDER BY u.id LIMIT %d",
                     a->select, late, ROWS),
        a->is_late ? 2 : 1, params, &rows);

    if (end != US_REC_OK) {
        return end;
    }
    fill_page(a, pool, &rows, page);
    if (rows.rows > 0) {
        a->id
            = apr_pstrdup(a->run->pool, US_PG_CELL(&rows, rows.rows - 1, ID));
    }
    if (rows.rows < ROWS) {
        page->is_last = a->is_late;
        a->id = a->is_late ? a->id : NULL;
        a->is_late = 1;
    }
    return US_REC_OK;
}

static us_rec_end auth_users_find(us_rec_source *source, apr_pool_t *pool,
                                  const char *const *ids, int count,
                                  us_rec_page *page)
{
    auth_users *a = source->data;
    const char *params[] = {us_rec_db_array(pool, ids, count)};
    us_pg_result rows;
    us_rec_end end = us_rec_db_ask(
        a->db, pool,
        apr_pstrcat(pool, a->select,
                    " WHERE u.id OPERATOR(pg_catalog.=) ANY (CAST($1 AS "
                    "pg_catalog.uuid[]))",
                    NULL),
        1, params, &rows);

    if (end == US_REC_OK) {
        fill_page(a, pool, &rows, page);
    }
    return end;
}

static const char *auth_users_place(const us_rec_source *source,
                                    apr_pool_t *pool)
{
    const auth_users *a = source->data;

    return apr_pstrcat(pool, a->is_late ? "late " : "walk ",
                       a->id != NULL ? a->id : "-", " ", a->begun, NULL);
}

static int auth_users_resume(us_rec_source *source, const char *place)
{
    auth_users *a = source->data;
    char *copy = apr_pstrdup(a->run->pool, place);
    char *begun;

    a->is_late = strncmp(copy, "late ", 5) == 0;
    if (!a->is_late && strncmp(copy, "walk ", 5) != 0) {
        return 0;
    }
    copy += 5;
    begun = strchr(copy, ' ');
    if (begun == NULL) {
        return 0;
    }
    *begun = '\0';
    a->begun = begun + 1;
    a->id = strcmp(copy, "-") == 0 ? NULL : copy;
    return a->id == NULL || us_value_is_uuid(a->id);
}

us_rec_end us_rec_auth_users_create(us_rec_run *run, us_rec_source **out)
{
    static const char identity[]
        = "SELECT pg_catalog.concat('auth.users ', "
          "pg_catalog.current_database(), ' ', CAST('auth.users' AS "
          "pg_catalog.regclass)::pg_catalog.oid), (SELECT "
          "pg_catalog.count(*) FROM auth.users), "
          "CAST(pg_catalog.transaction_timestamp() AS pg_catalog.text)";
    us_rec_source *source = apr_pcalloc(run->pool, sizeof(*source));
    auth_users *a = apr_pcalloc(run->pool, sizeof(*a));
    us_pg_result result;
    us_rec_end end;

    a->run = run;
    a->db = us_rec_db_create(run, run->options->from_db, "--from-db");
    a->select = select_of(run->pool, run->options->columns);
    end = us_rec_db_ask(a->db, run->pool, identity, 0, NULL, &result);
    if (end != US_REC_OK) {
        return end;
    }
    a->begun = US_PG_CELL(&result, 0, 2);
    *source = (us_rec_source){.data = a,
                              .name = US_PG_CELL(&result, 0, 0),
                              .total = apr_atoi64(US_PG_CELL(&result, 0, 1)),
                              .next = auth_users_next,
                              .find = auth_users_find,
                              .place = auth_users_place,
                              .resume = auth_users_resume};
    *out = source;
    return US_REC_OK;
}
