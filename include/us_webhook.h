/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_webhook.h: verifies that a request comes from someone who has the secret
 * (Standard Webhooks, https://www.standardwebhooks.com; Supabase's hooks use
 * it).  The signature is an HMAC-SHA256 of "ID.TIMESTAMP.BODY" in base64.
 *
 * Threads: any thread may verify.
 */
#ifndef US_WEBHOOK_H
#define US_WEBHOOK_H

#include <apr_pools.h>
#include <apr_tables.h>
#include <apr_time.h>

typedef struct us_webhook us_webhook; /* the secrets of a server */

/*
 * Prepares the secrets, which live as long as pool in OpenSSL's memory, too.
 *
 * secrets  of us_hook_secret; at least one
 *
 * Returns NULL if OpenSSL is out of memory or has no HMAC.
 */
us_webhook *us_webhook_create(apr_pool_t *pool,
                              const apr_array_header_t *secrets);

/* The headers of a signed request as they came; NULL: missing. */
typedef struct us_webhook_headers {
    const char *id;        /* Webhook-Id */
    const char *timestamp; /* Webhook-Timestamp, seconds since 1970 */
    const char *signature; /* Webhook-Signature */
} us_webhook_headers;

/*
 * Can a request with these headers be accepted at all?  Costs little, so that
 * a body need not be read for nothing.  The time stamp may be off by five
 * minutes.
 *
 * Returns NULL, or the cause for the log, allocated from pool.
 */
const char *us_webhook_check_headers(apr_pool_t *pool,
                                     const us_webhook_headers *headers,
                                     apr_time_t now);

/*
 * Is the body signed with one of the secrets?  All secrets and all signatures
 * are tried, in a time that does not depend on which of them match.
 *
 * headers  checked by us_webhook_check_headers
 *
 * Returns NULL, or the cause for the log (static text).
 */
const char *us_webhook_check_body(const us_webhook *webhook,
                                  const us_webhook_headers *headers,
                                  const char *body, apr_size_t len);

#endif /* US_WEBHOOK_H */
