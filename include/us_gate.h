/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_gate.h: the row exists before any handler runs (UserSyncEnsure).  Who the
 * user is, others have found out: whichever modules authenticate here.
 */
#ifndef US_GATE_H
#define US_GATE_H

#include "us_cache.h"
#include "us_store.h"

#include <httpd.h>

typedef struct us_gate us_gate; /* of one server, in this child */

/* child_init.  store may be shared with the routes; cache may be NULL. */
us_gate *us_gate_create(apr_pool_t *pchild, server_rec *s, us_store *store,
                        us_cache *cache);

/*
 * post_read_request: where identity headers are used, what the client sends
 * under their names is taken away before anybody looks, gate or no gate.
 */
void us_gate_receive(request_rec *r);

/*
 * fixups of every request: takes back the headers that a subrequest has got
 * with its copy of the outer one's.  Returns whether a gate stands here.
 */
int us_gate_stands(request_rec *r);

/*
 * fixups where one stands: after authentication and authorization, before any
 * handler.
 *
 * gate  NULL: none could be made for this server
 *
 * Returns what the hook is to return: DECLINED to let the request through;
 * DONE when it was refused and has been answered; a status for a subrequest
 * that is refused.
 */
int us_gate_check(request_rec *r, us_gate *gate);

#endif /* US_GATE_H */
