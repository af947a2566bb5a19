/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_response.h: Supabase's own clients, which mod_proxy connects to Supabase
 * Auth (UserSyncEnsureResponse).  No session reaches them before the user's
 * row is there.
 */
#ifndef US_RESPONSE_H
#define US_RESPONSE_H

#include "us_users.h"

#include <httpd.h>

typedef struct us_response us_response; /* of one server, in this child */

/* Registers the output filter. */
void us_response_register(void);

/* child_init: users may be shared with the routes. */
us_response *us_response_create(apr_pool_t *pchild, server_rec *s,
                                us_users *users);

/*
 * insert_filter: adds the filter to a request that is about to be forwarded.
 *
 * response  NULL: it could not be created for this server
 */
void us_response_insert(request_rec *r, us_response *response);

/*
 * handler, before mod_proxy's: refuses what could not be answered anyway,
 * before anything is used up at Supabase.
 *
 * Returns DECLINED to forward the request, or what the handler must return.
 */
int us_response_check(request_rec *r);

/* mod_proxy's fixups: r->headers_in is what is about to be forwarded, a
 * copy. */
int us_response_forward(request_rec *r);

#endif /* US_RESPONSE_H */
