/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "user.h"
#include "us_values.h"

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

int us_user_take(apr_pool_t *pool, const us_json *doc,
                 const us_user_place *place, const apr_array_header_t *columns,
                 us_identity *identity)
{
    static const char *const names[]
        = {"id",           "email",       "phone",      "is_anonymous",
           "banned_until", "deleted_at",  "updated_at", "user_metadata",
           "app_metadata"};
    int i;

    identity->id = take_id(pool, doc, place);
    if (identity->id == NULL) {
        return 0;
    }
    for (i = 0; i < columns->nelts; i++) {
        const us_column *column = &APR_ARRAY_IDX(columns, i, us_column);
        us_value *value = &identity->values[i];
        const char *path[PATH_MAX_LEN];

        if (column->field == US_FIELD_ID) {
            value->text = identity->id;
            value->json = NULL;
            continue;
        }
        make_path(place, names[column->field], column->key, path);
        take_value(pool, doc, path, value);
        if (column->field == US_FIELD_EMAIL
            || column->field == US_FIELD_PHONE) {
            empty_to_null(value);
        }
    }
    return 1;
}
