/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "fixtures.h"
#include "hook_captures.h"

#include <apr_strings.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const names[HOOK_CAPTURES]
    = {"created_signup-1", "created_signup-2", "token_anonymous",
       "token_magiclink",  "token_password",   "token_refresh",
       "token_signup"};

/* The value of a header in lines of "Name: value"; NULL: none. */
static const char *header_of(apr_pool_t *pool, const char *lines,
                             const char *name)
{
    const char *line = strstr(lines, apr_pstrcat(pool, name, ": ", NULL));

    if (line == NULL) {
        return NULL;
    }
    line += strlen(name) + 2;
    return apr_pstrmemdup(pool, line, strcspn(line, "\n"));
}

static int load_one(apr_pool_t *pool, const char *directory, const char *name,
                    hook_capture *out)
{
    const char *path
        = apr_pstrcat(pool, directory, "/hooks/", name, ".request", NULL);
    apr_size_t len;
    const char *lines
        = fixtures_read(pool, apr_pstrcat(pool, path, ".headers", NULL), &len);

    out->name = name;
    out->body = fixtures_read(pool, apr_pstrcat(pool, path, ".body", NULL),
                              &out->len);
    if (lines == NULL || out->body == NULL) {
        return 0;
    }
    out->headers.id = header_of(pool, lines, "Webhook-Id");
    out->headers.timestamp = header_of(pool, lines, "Webhook-Timestamp");
    out->headers.signature = header_of(pool, lines, "Webhook-Signature");
    out->time = out->headers.timestamp != NULL
                    ? apr_time_from_sec(apr_atoi64(out->headers.timestamp))
                    : 0;
    return out->headers.id != NULL && out->time > 0
           && out->headers.signature != NULL;
}

const hook_capture *hook_captures_load(apr_pool_t *pool, const char *directory)
{
    hook_capture *captures
        = apr_pcalloc(pool, HOOK_CAPTURES * sizeof(*captures));
    int i;

    for (i = 0; i < HOOK_CAPTURES; i++) {
        if (!load_one(pool, directory, names[i], &captures[i])) {
            (void)fprintf(stderr, "# cannot read the capture %s\n", names[i]);
            return NULL;
        }
    }
    return captures;
}

us_webhook *hook_secrets(apr_pool_t *pool, const char *secrets)
{
    us_secret *source = apr_pcalloc(pool, sizeof(*source));
    apr_array_header_t *list
        = apr_array_make(pool, US_HOOK_SECRETS, sizeof(us_hook_secret));

    source->value = secrets;
    source->len = strlen(secrets);
    return us_hook_secret_add(pool, source, list) == NULL
               ? us_webhook_create(pool, list)
               : NULL;
}

/* --- verifying --- */

static char *copy_of(const char *text)
{
    return text != NULL ? strdup(text) : NULL;
}

const char *hook_verify(apr_pool_t *pool, const us_webhook *webhook,
                        const us_webhook_headers *headers, const char *body,
                        apr_size_t len, apr_time_t now)
{
    char *id = copy_of(headers->id);
    char *timestamp = copy_of(headers->timestamp);
    char *signature = copy_of(headers->signature);
    char *copy = malloc(len > 0 ? len : 1);
    us_webhook_headers exact = {id, timestamp, signature};
    const char *wrong;

    memcpy(copy, body, len);
    wrong = us_webhook_check_headers(pool, &exact, now);
    if (wrong == NULL) {
        wrong = us_webhook_check_body(webhook, &exact, copy, len);
    }
    free(id);
    free(timestamp);
    free(signature);
    free(copy);
    return wrong;
}

#define SIGNATURE 44 /* characters */
#define WRONG "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="

const char *hook_verify_list(apr_pool_t *pool, const us_webhook *webhook,
                             const hook_capture *of, const char *list)
{
    const char *right = of->headers.signature + strlen("v1,");
    char *text = apr_palloc(pool, strlen(list) * SIGNATURE + 1);
    char *out = text;
    us_webhook_headers headers = of->headers;

    for (; *list != '\0'; list++) {
        if (*list == '@' || *list == '#') {
            memcpy(out, *list == '@' ? right : WRONG, SIGNATURE);
            out += SIGNATURE;
        }
        else {
            *out++ = *list;
        }
    }
    *out = '\0';
    headers.signature = text;
    return hook_verify(pool, webhook, &headers, of->body, of->len, of->time);
}

const char *hook_times(apr_pool_t *pool, int count, const char *text)
{
    apr_size_t len = strlen(text);
    char *all = apr_palloc(pool, (apr_size_t)count * len + 1);
    char *out = all;

    for (; count > 0; count--) {
        memcpy(out, text, len);
        out += len;
    }
    *out = '\0';
    return all;
}
