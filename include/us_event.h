/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_event.h: the handler usersync-event.  The Supabase project tells it what
 * happens to its users, and the users table follows.  docs/lifecycle.md has
 * the contract.
 */
#ifndef US_EVENT_H
#define US_EVENT_H

#include "us_users.h"

#include <httpd.h>

typedef struct us_event us_event; /* of one server, in this child */

/*
 * child_init: users may be shared with the other doors.  Returns NULL if no
 * column has updated_at, or OpenSSL is out of memory.
 */
us_event *us_event_create(apr_pool_t *pchild, server_rec *s, us_users *users);

/*
 * Handles an event; only its method has been checked.
 *
 * call->authorization  the value of the header that UserSyncEventHeader
 *                      names; NULL: it is missing
 *
 * Returns what httpd's handler hook expects.
 */
int us_event_answer(request_rec *r, us_call *call, us_event *event);

#endif /* US_EVENT_H */
