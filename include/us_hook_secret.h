/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_hook_secret.h: the secrets of UserSyncHookSecret.
 */
#ifndef US_HOOK_SECRET_H
#define US_HOOK_SECRET_H

#include "us_secret.h"

#include <apr_tables.h>

/* Standard Webhooks: a secret has 24 to 64 bytes. */
#define US_HOOK_SECRET_MIN 24
#define US_HOOK_SECRET_MAX 64

/* The most secrets of a server: enough for any rotation, and a bound for what
 * a forged request costs. */
#define US_HOOK_SECRETS 8

typedef struct us_hook_secret {
    const unsigned char *key; /* decoded; wiped with its pool */
    apr_size_t len;
    const us_secret *source; /* where it came from */
} us_hook_secret;

/*
 * Decodes "v1,whsec_BASE64", or several of these separated by "|" as Supabase
 * keeps them, and appends them to list.
 *
 * pool  owns the decoded secrets
 * list  of us_hook_secret
 *
 * Returns NULL, or an error as a sentence part, which never quotes a secret;
 * then nothing has been appended.
 */
const char *us_hook_secret_add(apr_pool_t *pool, const us_secret *source,
                               apr_array_header_t *list);

#endif /* US_HOOK_SECRET_H */
