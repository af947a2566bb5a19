/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_hook_forward.h: passes a hook's request on to the project's own hook
 * (UserSyncHookForward).
 *
 * Threads: any thread may call us_hook_forward_send.
 */
#ifndef US_HOOK_FORWARD_H
#define US_HOOK_FORWARD_H

#include "us_config.h"
#include "us_webhook.h"

/* The header of a forwarded request, so that none goes in circles. */
#define US_FORWARDED "Usersync-Forwarded"

typedef struct us_hook_forward us_hook_forward; /* of one server's URL */

/* child_init.  Returns NULL if libcurl is out of memory. */
us_hook_forward *us_hook_forward_create(apr_pool_t *pool,
                                        const us_server_conf *conf);

/*
 * Sends body and headers as they came, and waits for the answer.  How many may
 * wait at the same time: us_limits.h.
 *
 * deadline  on us_clock_now()
 * reply     filled in on US_OK, whatever its status
 *
 * Returns US_OK, US_BUSY, or US_FORWARD_FAILED if no whole answer came in time
 * or it is larger than Supabase accepts; then call->cause says why.
 */
us_outcome us_hook_forward_send(us_hook_forward *forward, us_call *call,
                                const us_webhook_headers *headers,
                                us_slice body, apr_time_t deadline,
                                us_hook_reply *reply);

#endif /* US_HOOK_FORWARD_H */
