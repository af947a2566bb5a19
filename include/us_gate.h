/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_gate.h: makes sure that the user's row exists before any handler runs
 * (UserSyncEnsure).  Other modules authenticate the user.
 */
#ifndef US_GATE_H
#define US_GATE_H

#include "us_users.h"

#include <httpd.h>

typedef struct us_gate us_gate; /* of one server, in this child */

/* child_init: users may be shared with the routes. */
us_gate *us_gate_create(apr_pool_t *pchild, server_rec *s, us_users *users);

/*
 * post_read_request: where identity headers are used, removes what the client
 * sends under their names before any module reads it, with or without a gate.
 */
void us_gate_receive(request_rec *r);

/*
 * fixups of every request: removes the headers that a subrequest has copied
 * from the outer request.  Returns whether this request has a gate.
 */
int us_gate_stands(request_rec *r);

/*
 * fixups of a request with a gate: runs after authentication and
 * authorization, and before any handler.
 *
 * gate  NULL: it could not be created for this server
 *
 * Returns the value for the hook: DECLINED lets the request through; DONE
 * means that it was refused and answered; a status refuses a subrequest.
 */
int us_gate_check(request_rec *r, us_gate *gate);

#endif /* US_GATE_H */
