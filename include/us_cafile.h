/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_cafile.h: does a file of CA certificates load?  libcurl would find out
 * at the first request; configtest wants to know before.  us_cafile.c is the
 * only user of OpenSSL, and reads the file as libcurl does.
 */
#ifndef US_CAFILE_H
#define US_CAFILE_H

#include <apr_pools.h>

/* Returns NULL, or what is wrong in a few words, in pool. */
const char *us_cafile_check(apr_pool_t *pool, const char *path);

#endif /* US_CAFILE_H */
