/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "user.h"
#include "us_values.h"
#include "timestamp.h"

#include <apr_lib.h>
#include <apr_strings.h>

/* The longest path: object, field, key of the metadata, end. */
#define PATH_MAX_LEN 4

static void take_value(apr_pool_t *pool, const us_json *doc,
                       const char *const *path, us_value *value)
{
    us_slice raw = us_json_raw(doc, path);

    value->text = NULL;
    value->json = NULL;
    if (raw.text == NULL || us_json_type_of(doc, path) == US_JSON_NONE) {
        return;
    }
    value->json = apr_pstrmemdup(pool, raw.text, raw.len);
    value->text = apr_pstrdup(pool, us_json_string(doc, path, NULL));
    if (value->text == NULL) {
        value->text = value->json;
    }
}

/* Supabase sends "" if the user has no e-mail or phone: SQL NULL. */
static void empty_to_null(us_value *value)
{
    if (value->text != NULL && *value->text == '\0') {
        value->text = NULL;
        value->json = NULL;
    }
}

/* The path of a member of the user; key may be NULL. */
static void make_path(const us_user_place *place, const char *name,
                      const char *key, const char *path[PATH_MAX_LEN])
{
    int i = 0;

    if (place->object != NULL) {
        path[i++] = place->object;
    }
    path[i++] = name;
    if (key != NULL) {
        path[i++] = key;
    }
    path[i] = NULL;
}

/* The id in its canonical form, lower case; NULL: there is none. */
static const char *take_id(apr_pool_t *pool, const us_json *doc,
                           const us_user_place *place)
{
    const char *path[PATH_MAX_LEN];
    const char *id;
    char *canonical;
    int i;

    make_path(place, place->id, NULL, path);
    id = us_json_string(doc, path, NULL);
    if (id == NULL || !us_value_is_uuid(id)) {
        return NULL;
    }
    canonical = apr_pstrdup(pool, id);
    for (i = 0; canonical[i] != '\0'; i++) {
        canonical[i] = (char)apr_tolower(canonical[i]);
    }
    return canonical;
}

/* The name of a column's field where the user is. */
static const char *name_of(const us_user_place *place, us_field_kind field)
{
    static const char *const names[]
        = {"id",           "email",         "phone",
           "is_anonymous", "banned_until",  "deleted_at",
           "updated_at",   "user_metadata", "app_metadata"};

    if (place->is_row && field == US_FIELD_USER_METADATA) {
        return "raw_user_meta_data";
    }
    if (place->is_row && field == US_FIELD_APP_METADATA) {
        return "raw_app_meta_data";
    }
    return names[field];
}

/* Is text a time stamp, and a time if it must not be infinity? */
static int is_time(const char *text, int may_be_infinite)
{
    apr_time_t time;

    return text != NULL && us_timestamp_read(text, &time)
           && (may_be_infinite
               || (time != US_TIMESTAMP_NEVER && time != US_TIMESTAMP_ALWAYS));
}

/* Removes what PostgreSQL could read in another way than it was meant. */
static void time_or_null(us_value *value, int may_be_infinite)
{
    if (!is_time(value->text, may_be_infinite)) {
        value->text = NULL;
        value->json = NULL;
    }
}

/* When Supabase knew this of the user; NULL: it does not say. */
static const char *take_as_of(apr_pool_t *pool, const us_json *doc,
                              const us_user_place *place)
{
    const char *path[PATH_MAX_LEN];
    const char *text;

    make_path(place, name_of(place, US_FIELD_UPDATED_AT), NULL, path);
    text = us_json_string(doc, path, NULL);
    return is_time(text, 0) ? apr_pstrdup(pool, text) : NULL;
}

/* What some fields must be like, beside being there. */
static void clean(us_field_kind field, us_value *value)
{
    switch (field) {
    case US_FIELD_EMAIL:
    case US_FIELD_PHONE:
        empty_to_null(value);
        break;
    case US_FIELD_BANNED_UNTIL:
    case US_FIELD_DELETED_AT:
        time_or_null(value, 1);
        break;
    case US_FIELD_UPDATED_AT:
        /* no state would ever be later than infinity */
        time_or_null(value, 0);
        break;
    default:
        break;
    }
}

int us_user_take(apr_pool_t *pool, const us_json *doc,
                 const us_user_place *place, const apr_array_header_t *columns,
                 us_identity *identity)
{
    int i;

    identity->id = take_id(pool, doc, place);
    if (identity->id == NULL) {
        return 0;
    }
    identity->as_of = take_as_of(pool, doc, place);
    for (i = 0; i < columns->nelts; i++) {
        const us_column *column = &APR_ARRAY_IDX(columns, i, us_column);
        us_value *value = &identity->values[i];
        const char *path[PATH_MAX_LEN];

        if (column->field == US_FIELD_ID) {
            value->text = identity->id;
            value->json = NULL;
            continue;
        }
        make_path(place, name_of(place, column->field), column->key, path);
        take_value(pool, doc, path, value);
        clean(column->field, value);
    }
    return 1;
}

int us_user_may_enter(const us_json *doc, const us_user_place *place,
                      apr_time_t now)
{
    const char *path[PATH_MAX_LEN];
    const char *until;
    apr_time_t end;

    make_path(place, "deleted_at", NULL, path);
    if (us_json_type_of(doc, path) != US_JSON_NONE) {
        return 0;
    }
    make_path(place, "banned_until", NULL, path);
    if (us_json_type_of(doc, path) == US_JSON_NONE) {
        return 1;
    }
    until = us_json_string(doc, path, NULL);
    return until != NULL && us_timestamp_read(until, &end) && end <= now;
}
