/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_redact.h: values of directives without the secrets in them, for people
 * who look at a configuration.
 */
#ifndef US_REDACT_H
#define US_REDACT_H

#include <apr_pools.h>

/* What stands in place of a secret. */
#define US_REDACTED "***"

/* A URL without its user information, allocated from pool. */
const char *us_redact_url(apr_pool_t *pool, const char *url);

/*
 * The parameters of a PostgreSQL connection, as libpq reads them: a URI or
 * "keyword=value" pairs.  Only keywords that are known to hold no secret keep
 * their values, and what cannot be read is left out.
 *
 * Returns a text that is allocated from pool.
 */
const char *us_redact_params(apr_pool_t *pool, const char *params);

#endif /* US_REDACT_H */
