/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_hook.h: the handler usersync-hook.  Supabase Auth asks it before it signs
 * an access token, whoever the user is and wherever they sign in, and the
 * user's row is ensured before the answer.  docs/hook.md has the contract.
 */
#ifndef US_HOOK_H
#define US_HOOK_H

#include "us_users.h"

#include <httpd.h>

typedef struct us_hook us_hook; /* of one server, in this child */

/*
 * child_init: users may be shared with the other doors.  Returns NULL if
 * OpenSSL or libcurl is out of memory.
 */
us_hook *us_hook_create(apr_pool_t *pchild, server_rec *s, us_users *users);

/* Handles a hook's request; only its method has been checked.  Returns what
 * httpd's handler hook expects. */
int us_hook_answer(request_rec *r, us_call *call, us_hook *hook);

#endif /* US_HOOK_H */
