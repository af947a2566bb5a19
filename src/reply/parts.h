/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * reply/parts.h: what the replies to clients, to hooks and to Supabase's own
 * clients have in common.
 */
#ifndef US_REPLY_PARTS_H
#define US_REPLY_PARTS_H

#include "usersync.h"

#include <httpd.h>
#include <util_filter.h>

#define US_JSON_TYPE "application/json"

/* Sets the headers of an outcome in r->headers_out. */
void us_reply_set_headers(request_rec *r, const us_call *call,
                          us_outcome outcome);

/* Appends text, which must live as long as the brigade's pool. */
void us_reply_append(apr_bucket_brigade *brigade, const char *text,
                     apr_size_t len);

/*
 * Passes a whole answer on.
 *
 * next  the filter that gets it
 * type  of the body; NULL: none, as where there is no body
 */
apr_status_t us_reply_pass(request_rec *r, ap_filter_t *next, int status,
                           const char *type, apr_bucket_brigade *brigade);

/* The same from a handler: returns what that must return. */
int us_reply_deliver(request_rec *r, int status, const char *type,
                     apr_bucket_brigade *brigade);

#endif /* US_REPLY_PARTS_H */
