/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "us_jwt.h"
#include "us_wipe.h"

#include <apr_base64.h>
#include <apr_strings.h>

#include <limits.h>
#include <string.h>

/* What is between the two dots: text is NULL if it is not there. */
static us_slice find_payload(us_slice token)
{
    us_slice payload = {NULL, 0};
    const char *first = memchr(token.text, '.', token.len);
    const char *second;

    if (first == NULL) {
        return payload;
    }
    first++;
    second = memchr(first, '.', token.len - (apr_size_t)(first - token.text));
    if (second != NULL && second - first < INT_MAX / 2) {
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
        if (*p == '-') {
            *p = '+';
        }
        else if (*p == '_') {
            *p = '/';
        }
    }
    return copy;
}

us_slice us_jwt_payload(apr_pool_t *pool, us_slice token)
{
    us_slice payload = find_payload(token);
    apr_size_t room;
    char *base64;
    char *text;

    if (payload.text == NULL) {
        return payload;
    }
    base64 = as_base64(pool, payload);
    room = (apr_size_t)apr_base64_decode_len(base64) + 1;
    text = apr_palloc(pool, room);
    us_wipe_with(pool, text, room);
    payload.len = (apr_size_t)apr_base64_decode(text, base64);
    text[payload.len] = '\0';
    payload.text = text;
    return payload;
}
