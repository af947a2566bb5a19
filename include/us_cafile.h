/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_cafile.h: checks whether a file of CA certificates loads.  libcurl would
 * notice only at the first request; configtest reports it earlier.
 * config/cafile.c is the only user of OpenSSL, and reads the file as libcurl
 * does.
 */
#ifndef US_CAFILE_H
#define US_CAFILE_H

#include <apr_pools.h>

/* Returns NULL, or a short description of the problem, allocated from pool. */
const char *us_cafile_check(apr_pool_t *pool, const char *path);

#endif /* US_CAFILE_H */
