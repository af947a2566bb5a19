/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * doors/headers.h: the request headers that tell a back end who the user is.
 * Whatever a client sends under their names must not get there.
 */
#ifndef US_HEADERS_H
#define US_HEADERS_H

#include <apr_pools.h>
#include <apr_tables.h>

/*
 * Could a back end read this name as one of our headers?  CGI, WSGI and the
 * like replace what is neither a letter nor a digit by "_" and ignore case, so
 * every such spelling counts: X_User_Id, x-user.id.
 */
int us_headers_is_ours(const char *name);

/*
 * Removes the client's headers that have our names, in every spelling.  Also
 * removes our names from its Connection header: a proxy drops the headers that
 * Connection names (RFC 9110, section 7.6.1), which would be ours.
 *
 * headers  of a request; pool: for what replaces Connection
 */
void us_headers_strip(apr_pool_t *pool, apr_table_t *headers);

/* Is value printable ASCII without blanks?  Every back end reads that as the
 * same text. */
int us_headers_can_carry(const char *value);

/* Removes what us_headers_set has set. */
void us_headers_clear(apr_table_t *headers);

/*
 * Says who the user is.  The strings are not copied.
 *
 * email    NULL, or a text that a header cannot carry: no such header
 * outcome  "ok" or "unsynced"
 */
void us_headers_set(apr_table_t *headers, const char *id, const char *email,
                    const char *outcome);

#endif /* US_HEADERS_H */
