/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_wipe.h: memory that held a secret.
 */
#ifndef US_WIPE_H
#define US_WIPE_H

#include <apr_pools.h>

/* Overwrites memory with zeros in a way that the compiler cannot remove. */
void us_wipe(void *memory, apr_size_t len);

/* Overwrites memory when pool is cleared or destroyed. */
void us_wipe_with(apr_pool_t *pool, void *memory, apr_size_t len);

#endif /* US_WIPE_H */
