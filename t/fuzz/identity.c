/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "identity.h"

#include <regex.h>
#include <string.h>
#include <strings.h>
#include <time.h>

static const us_column columns[IDENTITY_COLUMNS] = {
    {US_FIELD_ID, NULL, NULL, NULL},
    {US_FIELD_EMAIL, NULL, NULL, NULL},
    {US_FIELD_PHONE, NULL, NULL, NULL},
    {US_FIELD_USER_METADATA, "name", NULL, NULL},
    {US_FIELD_USER_METADATA, "email", NULL, NULL},
    {US_FIELD_APP_METADATA, "providers", NULL, NULL},
    {US_FIELD_IS_ANONYMOUS, NULL, NULL, NULL},
    {US_FIELD_BANNED_UNTIL, NULL, NULL, NULL},
    {US_FIELD_DELETED_AT, NULL, NULL, NULL},
    {US_FIELD_UPDATED_AT, NULL, NULL, NULL},
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

/* Has the month this day? */
static int is_day(const char *text)
{
    struct tm exp = {0};
    struct tm day;
    time_t seconds;
    char *rest;
    long year = strtol(text, &rest, 10);

    exp.tm_year = (int)year - 1900;
    exp.tm_mon = (int)strtol(rest + 1, &rest, 10) - 1;
    exp.tm_mday = (int)strtol(rest + 1, NULL, 10);
    seconds = timegm(&exp);
    return year >= 1 && year <= 294275 && gmtime_r(&seconds, &day) != NULL
           && day.tm_mday == (int)strtol(rest + 1, NULL, 10);
}

int identity_is_time(const char *text, int may_be_infinite)
{
    static regex_t form;
    static int compiled;

    if (text == NULL) {
        return 0;
    }
    if (strcmp(text, "infinity") == 0 || strcmp(text, "-infinity") == 0) {
        return may_be_infinite;
    }
    if (!compiled) {
        compiled = regcomp(&form,
                           "^([0-9]{4}|[1-9][0-9]{4,5})-(0[1-9]|1[0-2])-(0[1-"
                           "9]|[12][0-9]|"
                           "3[01])[T ]([01][0-9]|2[0-3])(:[0-5][0-9]){2}"
                           "(\\.[0-9]{1,9})?(Z|[+-](0[0-9]|1[0-5])"
                           "(:[0-5][0-9]){0,2})$",
                           REG_EXTENDED | REG_NOSUB)
                   == 0;
        require(compiled, "the form of time stamps is a good expression");
    }
    return regexec(&form, text, 0, NULL, 0) == 0 && is_day(text);
}

static const char *name_of(const us_column *column, int is_row)
{
    switch (column->field) {
    case US_FIELD_ID:
        return "id";
    case US_FIELD_EMAIL:
        return "email";
    case US_FIELD_PHONE:
        return "phone";
    case US_FIELD_IS_ANONYMOUS:
        return "is_anonymous";
    case US_FIELD_BANNED_UNTIL:
        return "banned_until";
    case US_FIELD_DELETED_AT:
        return "deleted_at";
    case US_FIELD_UPDATED_AT:
        return "updated_at";
    case US_FIELD_USER_METADATA:
        return is_row ? "raw_user_meta_data" : "user_metadata";
    case US_FIELD_APP_METADATA:
        break;
    }
    return is_row ? "raw_app_meta_data" : "app_metadata";
}

/* Is there nothing that the column can have? */
static int is_null(const us_column *column, const strict_node *node)
{
    if (node == NULL || node->kind == STRICT_NULL) {
        return 1;
    }
    switch (column->field) {
    case US_FIELD_EMAIL:
    case US_FIELD_PHONE:
        return strict_is(node, "");
    case US_FIELD_BANNED_UNTIL:
    case US_FIELD_DELETED_AT:
        return !identity_is_time(node->string, 1);
    case US_FIELD_UPDATED_AT:
        return !identity_is_time(node->string, 0);
    default:
        return 0;
    }
}

void identity_check_value(const strict_node *user, int is_row, int i,
                          const us_value *value)
{
    const us_column *column = &columns[i];
    const strict_node *node = strict_member(user, name_of(column, is_row));

    if (column->key != NULL) {
        node = strict_member(node, column->key);
    }
    if (is_null(column, node)) {
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

/* The time of claims, in whole seconds. */
static void check_issue_time(const us_identity *identity,
                             const strict_node *claims)
{
    const strict_node *iat = strict_member(claims, "iat");

    require(identity->as_of == NULL || identity_is_time(identity->as_of, 0),
            "a token's time is a time");
    require(identity->as_of == NULL || iat != NULL,
            "and is there only if the token has one");
}

void identity_check(const us_identity *identity, const strict_node *user,
                    const char *name)
{
    const strict_node *id = strict_member(user, name);
    const strict_node *time = strict_member(user, "updated_at");
    int i;

    require(id != NULL && id->string != NULL && identity->id != NULL
                && strcasecmp(id->string, identity->id) == 0
                && identity_is_canonical(identity->id),
            "the id is the user's, as a canonical UUID");
    require(identity->values[0].text == identity->id, "the id comes first");
    for (i = 1; i < IDENTITY_COLUMNS; i++) {
        identity_check_value(user, 0, i, &identity->values[i]);
    }
    if (strcmp(name, "sub") == 0) {
        check_issue_time(identity, user);
    }
    else if (time != NULL && identity_is_time(time->string, 0)) {
        require(strict_is(time, identity->as_of), "it is of the user's time");
    }
    else {
        require(identity->as_of == NULL, "or nobody knows of which");
    }
}
