/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "us_event_header.h"

#include <apr_lib.h>
#include <apr_strings.h>

#include <openssl/crypto.h>

#include <string.h>

/* Is this a name of a header (RFC 9110, section 5.6.2)? */
static int is_token(const char *name)
{
    const char *p = name;

    while (apr_isalnum(*p) || (*p != '\0' && strchr("!#$%&'*+-.^_`|~", *p))) {
        p++;
    }
    return p != name && *p == '\0';
}

/* Is it a header with a meaning of its own?  Clients and proxies set those,
 * and logs and other modules read them. */
static int is_taken(const char *name)
{
    static const char *const names[] = {
        "Accept",
        "Apikey",
        "Authorization",
        "Cache-Control",
        "Connection",
        "Cookie",
        "Date",
        "Expect",
        "Forwarded",
        "From",
        "Host",
        "Keep-Alive",
        "Max-Forwards",
        "Origin",
        "Pragma",
        "Prefer",
        "Priority",
        "Proxy-Authorization",
        "Proxy-Connection",
        "Range",
        "Referer",
        "TE",
        "Trailer",
        "Transfer-Encoding",
        "Upgrade",
        "User-Agent",
        "Via",
        "Warning",
        "X-Real-Ip",
        "X-Request-Id",
        "X-User-Email",
        "X-User-Id",
    };
    static const char *const beginnings[]
        = {"Accept-", "Access-Control-", "Content-", "If-", "Sec-",
           "Sb-",     "X-Forwarded-",    "Webhook-"};
    apr_size_t i;

    for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcasecmp(name, names[i]) == 0) {
            return 1;
        }
    }
    for (i = 0; i < sizeof(beginnings) / sizeof(beginnings[0]); i++) {
        if (strncasecmp(name, beginnings[i], strlen(beginnings[i])) == 0) {
            return 1;
        }
    }
    return 0;
}

const char *us_event_header_make(apr_pool_t *pool, apr_pool_t *temp,
                                 const char *name, const char *spec,
                                 us_event_header **out)
{
    us_secret *value = NULL;
    const char *wrong;

    if (!is_token(name) || is_taken(name)) {
        return apr_psprintf(
            temp,
            "takes a header's name, such as X-Event-Key, and its value: "
            "\"%s\" is %s",
            name,
            is_token(name) ? "a header with another meaning" : "no such name");
    }
    wrong = us_secret_load(pool, temp, spec, &value);
    if (wrong != NULL) {
        return apr_psprintf(temp,
                            "takes file:PATH, exec:COMMAND or the value "
                            "itself after the header's name: %s",
                            wrong);
    }
    if (value->len < US_EVENT_HEADER_MIN) {
        return "takes a value of 16 characters or more, which nobody can "
               "guess: openssl rand -hex 32 makes one";
    }
    *out = apr_pcalloc(pool, sizeof(**out));
    (*out)->name = apr_pstrdup(pool, name);
    (*out)->value = value;
    return NULL;
}

int us_event_header_is(const us_event_header *header, const char *text)
{
    const us_secret *value = header->value;

    return strlen(text) == value->len
           && CRYPTO_memcmp(text, value->value, value->len) == 0;
}
