/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "claims.h"
#include "timestamp.h"
#include "us_wipe.h"
#include "user.h"

#include <apr_base64.h>
#include <apr_strings.h>

#include <limits.h>
#include <string.h>

/* The latest time that a time stamp can tell (seconds): the year 9999. */
#define LATEST APR_INT64_C(253402300799)

/* When the token was made: Supabase had read the user shortly before. */
static const char *take_issue_time(apr_pool_t *pool, const us_json *doc,
                                   const char *object)
{
    const char *const *path
        = object == NULL ? US_JSON_PATH("iat") : US_JSON_PATH(object, "iat");
    us_slice raw = us_json_raw(doc, path);
    apr_int64_t seconds
        = raw.text == NULL
              ? 0
              : apr_atoi64(apr_pstrmemdup(pool, raw.text, raw.len));

    return seconds <= 0 || seconds > LATEST
               ? NULL
               : us_timestamp_text(pool, apr_time_from_sec(seconds));
}

int us_claims_take(apr_pool_t *pool, const us_json *doc, const char *object,
                   const apr_array_header_t *columns, us_identity *identity)
{
    us_user_place place = {.object = object, .id = "sub"};

    if (!us_user_take(pool, doc, &place, columns, identity)) {
        return 0;
    }
    identity->as_of = take_issue_time(pool, doc, object);
    return 1;
}

/* The payload between the two dots of a JWT: text is NULL if it has none. */
static us_slice payload_of(us_slice token)
{
    us_slice payload = {NULL, 0};
    const char *first = memchr(token.text, '.', token.len);
    const char *second;

    if (first == NULL) {
        return payload;
    }
    first++;
    second = memchr(first, '.', token.len - (apr_size_t)(first - token.text));
    if (second != NULL && second - first < INT_MAX) {
        payload.text = first;
        payload.len = (apr_size_t)(second - first);
    }
    return payload;
}

/* base64url (RFC 4648, section 5) as base64, which APR decodes. */
static char *as_base64(apr_pool_t *pool, us_slice text)
{
    char *copy = apr_pstrmemdup(pool, text.text, text.len);
    char *p;

    us_wipe_with(pool, copy, text.len);
    for (p = copy; *p != '\0'; p++) {
        *p = *p == '-' ? '+' : *p == '_' ? '/' : *p;
    }
    return copy;
}

int us_claims_take_token(apr_pool_t *pool, us_slice token,
                         const apr_array_header_t *columns,
                         us_identity *identity)
{
    us_slice payload = payload_of(token);
    us_json *doc = NULL;
    char *base64;
    char *json;
    int len;
    int found;

    if (payload.text == NULL) {
        return 0;
    }
    base64 = as_base64(pool, payload);
    json = apr_palloc(pool, (apr_size_t)apr_base64_decode_len(base64) + 1);
    len = apr_base64_decode(json, base64);
    us_wipe_with(pool, json, (apr_size_t)len);
    if (us_json_parse(pool, json, (apr_size_t)len, US_JSON_ANSWER_DEPTH, &doc)
        != NULL) {
        return 0;
    }
    found = us_claims_take(pool, doc, NULL, columns, identity);
    us_json_free(doc);
    identity->proven = found;
    return found;
}
