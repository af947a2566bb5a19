/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_cache_choice.h: the value of UserSyncCache, which is a provider of
 * httpd's small object cache (ap_socache.h) and its arguments.
 */
#ifndef US_CACHE_CHOICE_H
#define US_CACHE_CHOICE_H

#include <httpd.h>
#include <ap_socache.h>

typedef struct us_cache_choice {
    const ap_socache_provider_t *provider; /* NULL: none */
    ap_socache_instance_t *instance;
    const char *text; /* what the directive says; NULL: the default */
} us_cache_choice;

/*
 * Reads provider[:args] or none, and lets the provider check its arguments.
 *
 * choice  set to the result, allocated from pool
 *
 * Returns NULL, or an error as a sentence part that follows the directive's
 * name.
 */
const char *us_cache_choose(apr_pool_t *pool, apr_pool_t *temp_pool,
                            const char *arg, us_cache_choice **choice);

/* The same for the default, which is used without the directive. */
const char *us_cache_choose_default(apr_pool_t *pool, apr_pool_t *temp_pool,
                                    us_cache_choice **choice);

/* Is the default available?  Returns NULL, or a sentence with the remedy. */
const char *us_cache_check_default(void);

#endif /* US_CACHE_CHOICE_H */
