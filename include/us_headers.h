/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_headers.h: the request headers that tell a back end who the user is.
 * What a client sends under their names must never get there.
 */
#ifndef US_HEADERS_H
#define US_HEADERS_H

#include <apr_pools.h>
#include <apr_tables.h>

/*
 * Is this one of our headers to some back end?  CGI, WSGI and their like turn
 * what is no letter or digit into "_" and ignore case, so every such spelling
 * counts: X_User_Id, x-user.id.
 */
int us_headers_is_ours(const char *name);

/*
 * Take the client's headers of our names away, in every spelling, and our
 * names out of its Connection header: a proxy drops what that names (RFC
 * 9110, section 7.6.1), which would be ours.
 *
 * headers  of a request; pool: for what replaces Connection
 */
void us_headers_strip(apr_pool_t *pool, apr_table_t *headers);

/* Is value printable ASCII without blanks, which every back end reads as the
 * same text? */
int us_headers_can_carry(const char *value);

/* Take away what us_headers_set has set. */
void us_headers_clear(apr_table_t *headers);

/*
 * Say who the user is.  The strings are not copied.
 *
 * email    NULL, or what a header cannot carry: no such header
 * outcome  "ok" or "unsynced"
 */
void us_headers_set(apr_table_t *headers, const char *id, const char *email,
                    const char *outcome);

#endif /* US_HEADERS_H */
