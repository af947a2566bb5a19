/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "answer.h"
#include "us_json.h"
#include "supabase/user.h"

#include <apr_lib.h>
#include <apr_strings.h>

#include <string.h>

/* --- times --- */

/* A number of digits at *p, which moves behind it.  -1: they are not there. */
static int digits(const char **p, int count)
{
    int number = 0;

    for (; count > 0; count--, (*p)++) {
        if (!apr_isdigit(**p)) {
            return -1;
        }
        number = number * 10 + (**p - '0');
    }
    return number;
}

/* The fraction of a second at *p, in usec; further digits are cut off. */
static int fraction(const char **p)
{
    int usec = 0;
    int weight = 100000;

    for (; apr_isdigit(**p); (*p)++) {
        usec += (**p - '0') * weight;
        weight /= 10;
    }
    return usec;
}

/* The offset from UTC at *p, in seconds; -1 in *good: it is none. */
static int offset(const char **p, int *good)
{
    int sign = **p == '-' ? -1 : 1;
    int hours;
    int minutes;

    if (**p == 'Z') {
        (*p)++;
        return 0;
    }
    if (**p != '+' && **p != '-') {
        *good = 0;
        return 0;
    }
    (*p)++;
    hours = digits(p, 2);
    if (**p == ':') {
        (*p)++;
    }
    minutes = **p != '\0' ? digits(p, 2) : 0;
    *good = hours >= 0 && hours < 24 && minutes >= 0 && minutes < 60;
    return sign * (hours * 3600 + minutes * 60);
}

int us_rec_answer_time(const char *text, apr_time_t *when)
{
    static const char marks[] = "--T::";
    apr_time_exp_t t = {0};
    int fields[6];
    int good = 1;
    int i;

    for (i = 0; i < 6; i++) {
        fields[i] = digits(&text, i == 0 ? 4 : 2);
        if (fields[i] < 0
            || (i < 5 && *text != marks[i]
                && !(marks[i] == 'T' && *text == ' '))) {
            return 0;
        }
        text += i < 5;
    }
    if (fields[0] < 1900 || fields[1] < 1 || fields[1] > 12) {
        return 0;
    }
    if (*text == '.') {
        text++;
        t.tm_usec = fraction(&text);
    }
    t.tm_year = fields[0] - 1900;
    t.tm_mon = fields[1] - 1;
    t.tm_mday = fields[2];
    t.tm_hour = fields[3];
    t.tm_min = fields[4];
    t.tm_sec = fields[5];
    t.tm_gmtoff = offset(&text, &good);
    return good && *text == '\0'
           && apr_time_exp_gmt_get(when, &t) == APR_SUCCESS;
}

/* --- users --- */

void us_rec_user_forget(us_rec_user *user, const apr_array_header_t *columns)
{
    int i;

    for (i = 0; i < columns->nelts; i++) {
        us_field_kind field = APR_ARRAY_IDX(columns, i, us_column).field;

        if (field == US_FIELD_EMAIL || field == US_FIELD_PHONE) {
            memset(&user->identity.values[i], 0, sizeof(us_value));
        }
    }
}

/* A member of the user, copied. */
static const char *member(apr_pool_t *pool, const us_json *doc,
                          const char *name)
{
    return apr_pstrdup(pool, us_json_string(doc, US_JSON_PATH(name), NULL));
}

const char *us_rec_answer_user(apr_pool_t *pool, const char *text,
                               apr_size_t len,
                               const apr_array_header_t *columns,
                               us_rec_user **out)
{
    static const us_user_place whole = {.id = "id"};
    us_rec_user *user = apr_pcalloc(pool, sizeof(*user));
    const char *created;
    us_json *doc;

    if (us_json_parse(pool, text, len, US_JSON_ANSWER_DEPTH, &doc) != NULL) {
        return "a user is no JSON object";
    }
    if (!us_user_take(pool, doc, &whole, columns, &user->identity)) {
        return "a user has no id";
    }
    created = us_json_string(doc, US_JSON_PATH("created_at"), NULL);
    if (created == NULL || !us_rec_answer_time(created, &user->created)) {
        return "a user has no created_at";
    }
    user->identity.proven = 1;
    user->identity.as_of = member(pool, doc, "updated_at");
    user->deleted_at = member(pool, doc, "deleted_at");
    if (user->deleted_at != NULL) {
        user->identity.life = US_DELETED;
        us_rec_user_forget(user, columns);
    }
    us_json_free(doc);
    *out = user;
    return NULL;
}

const char *us_rec_answer_list(apr_pool_t *pool, const char *text,
                               apr_size_t len,
                               const apr_array_header_t *columns,
                               us_rec_list *list)
{
    const char *wrong = NULL;
    apr_array_header_t *users;
    us_json *doc;
    int i;

    memset(list, 0, sizeof(*list));
    if (us_json_parse(pool, text, len, US_JSON_ANSWER_DEPTH, &doc) != NULL) {
        return "it is no JSON object";
    }
    users = us_json_elements(doc, US_JSON_PATH("users"));
    if (users == NULL) {
        return "it has no array of users";
    }
    list->has_cursor
        = us_json_type_of(doc, US_JSON_PATH("pagination")) == US_JSON_OBJECT;
    if (list->has_cursor) {
        us_slice more
            = us_json_raw(doc, US_JSON_PATH("pagination", "has_more"));

        if (more.text != NULL && *more.text == 't') {
            list->cursor = apr_pstrdup(
                pool,
                us_json_string(doc, US_JSON_PATH("pagination", "next_cursor"),
                               NULL));
            wrong = list->cursor == NULL ? "it has more, and no cursor" : NULL;
        }
    }
    list->users
        = apr_pcalloc(pool, sizeof(us_rec_user *) * (apr_size_t)users->nelts);
    for (i = 0; i < users->nelts && wrong == NULL; i++) {
        us_slice slice = APR_ARRAY_IDX(users, i, us_slice);
        us_rec_user *user = NULL;

        wrong
            = us_rec_answer_user(pool, slice.text, slice.len, columns, &user);
        list->users[i] = user;
    }
    list->count = users->nelts;
    us_json_free(doc);
    return wrong;
}

const char *us_rec_answer_code(apr_pool_t *pool, const char *text,
                               apr_size_t len)
{
    us_json *doc;
    const char *code;

    if (us_json_parse(pool, text, len, US_JSON_ANSWER_DEPTH, &doc) != NULL) {
        return NULL;
    }
    code = us_json_string(doc, US_JSON_PATH("error_code"), NULL);
    return code != NULL ? code
                        : us_json_string(doc, US_JSON_PATH("code"), NULL);
}
