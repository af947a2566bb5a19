/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * config/proxy_check.h: what must not stand beside UserSyncEnsureResponse.
 * Most of it is mod_proxy's and mod_headers', which do not publish it, so
 * httpd's configuration tree is read.
 */
#ifndef US_PROXY_CHECK_H
#define US_PROXY_CHECK_H

#include "us_config.h"

/*
 * Checks a server where UserSyncEnsureResponse is On or Report.  A line counts
 * where httpd applies it: in its section and those within, in other sections
 * for the same or for paths below, and if it is the main server's in virtual
 * hosts, too.
 *
 * unverified  set to the "FILE:LINE" of a target whose certificate mod_ssl does
 *             not verify, as no line of the server says so; NULL: there is none
 *
 * Returns NULL, or what is wrong.  Both are allocated from pool.
 */
const char *us_proxy_check(apr_pool_t *pool, const server_rec *s,
                           const server_rec *main_server,
                           const char **unverified);

#endif /* US_PROXY_CHECK_H */
