/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * doors/signed.h: what the doors have in common to which Supabase comes: the
 * hook and events.  Nothing of a body is parsed before its sender is known.
 */
#ifndef US_SIGNED_H
#define US_SIGNED_H

#include "usersync.h"
#include "us_webhook.h"

#include <httpd.h>

/*
 * The first thing that such a door does.
 *
 * closes  the connection is not kept (us_limits_connections_hold_threads)
 */
void us_signed_begin(request_rec *r, us_call *call, int closes);

/*
 * Reads the body of a request that is signed, and verifies the signature.
 *
 * max      the most bytes that are accepted
 * headers  set in any case
 * body     set on US_OK; lives in r->pool, and is wiped with it
 *
 * Returns US_OK; US_UNSIGNED, with a cause; or what us_request_body returns.
 */
us_outcome us_signed_receive(request_rec *r, us_call *call,
                             const us_webhook *webhook, apr_size_t max,
                             us_webhook_headers *headers, us_slice *body);

/* How long the table may take (usec) for a request that began at start on
 * us_clock_now(), so that it is answered within three seconds. */
apr_interval_time_t us_signed_table_time(apr_time_t start);

#endif /* US_SIGNED_H */
