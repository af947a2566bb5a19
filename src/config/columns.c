/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "us_columns.h"
#include "us_values.h"
#include "usersync.h"

#include <apr_strings.h>

#include <string.h>

static const struct {
    const char *name;
    us_field_kind kind;
    int takes_key;
} fields[] = {{"id", US_FIELD_ID, 0},
              {"email", US_FIELD_EMAIL, 0},
              {"phone", US_FIELD_PHONE, 0},
              {"is_anonymous", US_FIELD_IS_ANONYMOUS, 0},
              {"banned_until", US_FIELD_BANNED_UNTIL, 0},
              {"deleted_at", US_FIELD_DELETED_AT, 0},
              {"updated_at", US_FIELD_UPDATED_AT, 0},
              {"user_metadata.", US_FIELD_USER_METADATA, 1},
              {"app_metadata.", US_FIELD_APP_METADATA, 1}};

#define FIELDS (sizeof(fields) / sizeof(fields[0]))

/* Sets the column's field and key; returns 0 if there is no such field. */
static int parse_field(const char *arg, us_column *column)
{
    apr_size_t i;

    for (i = 0; i < FIELDS; i++) {
        apr_size_t len = strlen(fields[i].name);

        if (strncmp(arg, fields[i].name, len) == 0
            && (arg[len] != '\0') == fields[i].takes_key) {
            column->field = fields[i].kind;
            column->key = fields[i].takes_key ? arg + len : NULL;
            return 1;
        }
    }
    return 0;
}

const char *us_column_field(apr_pool_t *pool, const us_column *column)
{
    apr_size_t i = 0;

    while (i < FIELDS - 1 && fields[i].kind != column->field) {
        i++;
    }
    return apr_pstrcat(pool, fields[i].name, column->key, NULL);
}

const char *us_column_parse(apr_pool_t *pool, const char *field,
                            const char *name, us_column *column)
{
    memset(column, 0, sizeof(*column));
    if (!parse_field(field, column)) {
        return apr_psprintf(
            pool,
            "takes a field (id, email, phone, is_anonymous, banned_until, "
            "deleted_at, updated_at, user_metadata.NAME or "
            "app_metadata.NAME) and a column; \"%s\" is no such field",
            field);
    }
    if (strcasecmp(name, "None") != 0) {
        return us_value_identifier(pool, name, &column->quoted,
                                   &column->plain);
    }
    return column->field == US_FIELD_ID
               ? "takes a column for id: it cannot be None, the row is "
                 "looked up by it"
               : NULL;
}

int us_column_same_field(const us_column *a, const us_column *b)
{
    return a->field == b->field
           && (a->key == NULL || strcmp(a->key, b->key) == 0);
}

void us_columns_set(apr_array_header_t *columns, const us_column *column)
{
    int i;

    for (i = 0; i < columns->nelts; i++) {
        if (us_column_same_field(&APR_ARRAY_IDX(columns, i, us_column),
                                 column)) {
            APR_ARRAY_IDX(columns, i, us_column) = *column;
            return;
        }
    }
    APR_ARRAY_PUSH(columns, us_column) = *column;
}

/* Appends a column to list, unless it is None. */
static void push_column(apr_array_header_t *list, const us_column *column)
{
    if (column->quoted != NULL && list->nelts < US_MAX_COLUMNS) {
        APR_ARRAY_PUSH(list, us_column) = *column;
    }
}

apr_array_header_t *us_columns_complete(apr_pool_t *pool,
                                        const apr_array_header_t *configured)
{
    apr_array_header_t *list = apr_array_make(pool, 4, sizeof(us_column));
    us_column id = {US_FIELD_ID, NULL, "\"id\"", "id"};
    us_column email = {US_FIELD_EMAIL, NULL, "\"email\"", "email"};
    const us_column *written
        = configured != NULL ? (const us_column *)configured->elts : NULL;
    int count = configured != NULL ? configured->nelts : 0;
    int i;

    for (i = 0; i < count; i++) {
        if (written[i].field == US_FIELD_ID) {
            id = written[i];
        }
        else if (written[i].field == US_FIELD_EMAIL) {
            email = written[i];
        }
    }
    push_column(list, &id);
    push_column(list, &email);
    for (i = 0; i < count; i++) {
        if (written[i].field != US_FIELD_ID
            && written[i].field != US_FIELD_EMAIL) {
            push_column(list, &written[i]);
        }
    }
    return list;
}

int us_columns_have_email(const apr_array_header_t *columns)
{
    return columns->nelts > 1
           && APR_ARRAY_IDX(columns, 1, us_column).field == US_FIELD_EMAIL;
}

int us_columns_find(const apr_array_header_t *columns, us_field_kind field)
{
    int i;

    for (i = 0; i < columns->nelts; i++) {
        if (APR_ARRAY_IDX(columns, i, us_column).field == field) {
            return i;
        }
    }
    return -1;
}
