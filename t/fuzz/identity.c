/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "identity.h"

#include <string.h>
#include <strings.h>

static const us_column columns[IDENTITY_COLUMNS] = {
    {US_FIELD_ID, NULL, NULL, NULL},
    {US_FIELD_EMAIL, NULL, NULL, NULL},
    {US_FIELD_PHONE, NULL, NULL, NULL},
    {US_FIELD_USER_METADATA, "name", NULL, NULL},
    {US_FIELD_USER_METADATA, "email", NULL, NULL},
    {US_FIELD_APP_METADATA, "providers", NULL, NULL},
};

const apr_array_header_t *identity_columns(apr_pool_t *pool)
{
    apr_array_header_t *list
        = apr_array_make(pool, IDENTITY_COLUMNS, sizeof(us_column));
    int i;

    for (i = 0; i < IDENTITY_COLUMNS; i++) {
        APR_ARRAY_PUSH(list, us_column) = columns[i];
    }
    return list;
}

int identity_is_canonical(const char *id)
{
    int i;

    for (i = 0; i < US_UUID_LEN; i++) {
        int dash = i == 8 || i == 13 || i == 18 || i == 23;

        if (id[i] == '\0'
            || strchr(dash ? "-" : "0123456789abcdef", id[i]) == NULL) {
            return 0;
        }
    }
    return id[US_UUID_LEN] == '\0';
}

/* What a column's value must be, according to the user object. */
static void check_value(const strict_node *user, const us_column *column,
                        const us_value *value)
{
    static const char *const names[]
        = {"id", "email", "phone", "user_metadata", "app_metadata"};
    const strict_node *node = strict_member(user, names[column->field]);
    int may_be_empty = column->key != NULL;

    if (column->key != NULL) {
        node = strict_member(node, column->key);
    }
    if (node == NULL || node->kind == STRICT_NULL
        || (!may_be_empty && strict_is(node, ""))) {
        require(value->text == NULL && value->json == NULL,
                "what is not there is NULL");
        return;
    }
    require(value->json != NULL && strlen(value->json) == node->len
                && memcmp(value->json, node->text, node->len) == 0,
            "a value's JSON is the member's");
    require(node->kind == STRICT_STRING
                ? strict_is(node, value->text)
                : value->text != NULL && strcmp(value->text, value->json) == 0,
            "a value's text is the string, or the JSON");
}

void identity_check(const us_identity *identity, const strict_node *user,
                    const char *name)
{
    const strict_node *id = strict_member(user, name);
    int i;

    require(id != NULL && id->string != NULL && identity->id != NULL
                && strcasecmp(id->string, identity->id) == 0
                && identity_is_canonical(identity->id),
            "the id is the user's, as a canonical UUID");
    require(identity->values[0].text == identity->id, "the id comes first");
    for (i = 1; i < IDENTITY_COLUMNS; i++) {
        check_value(user, &columns[i], &identity->values[i]);
    }
}
