/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * hook_captures.h: what a real Supabase Auth has sent to hooks, as it lies in
 * t/fixtures/supabase/hooks, and signed requests of a test's own.
 */
#ifndef HOOK_CAPTURES_H
#define HOOK_CAPTURES_H

#include "us_hook_secret.h"
#include "us_webhook.h"

/* The secret of all captures. */
#define HOOK_SECRET "v1,whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="

#define HOOK_CAPTURES 7

typedef struct hook_capture {
    const char *name;
    us_webhook_headers headers;
    apr_time_t time; /* of its time stamp */
    char *body;
    apr_size_t len;
} hook_capture;

/* Loads all; returns NULL, with a line on stderr, if one cannot be read. */
const hook_capture *hook_captures_load(apr_pool_t *pool,
                                       const char *directory);

/* The secrets of one directive, separated by "|"; NULL: not accepted. */
us_webhook *hook_secrets(apr_pool_t *pool, const char *secrets);

/*
 * Both checks of us_webhook.h: NULL, or the cause.  All is copied to memory of
 * exactly its length: there a sanitizer notices a byte too far.
 */
const char *hook_verify(apr_pool_t *pool, const us_webhook *webhook,
                        const us_webhook_headers *headers, const char *body,
                        apr_size_t len, apr_time_t now);

/* The same for a capture with another header of signatures.  In list, "@" is
 * the right signature and "#" a wrong one, without their version. */
const char *hook_verify_list(apr_pool_t *pool, const us_webhook *webhook,
                             const hook_capture *of, const char *list);

/* The text that many times. */
const char *hook_times(apr_pool_t *pool, int count, const char *text);

#endif /* HOOK_CAPTURES_H */
