/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_supabase.h: asks Supabase Auth.  The rules come from GoTrue's wire
 * behaviour (its /signup, /token and /logout endpoints, API version
 * 2024-01-01).
 */
#ifndef US_SUPABASE_H
#define US_SUPABASE_H

#include "us_config.h"

typedef struct us_supabase us_supabase; /* one project, in this child */

/* child_init: returns NULL when out of memory. */
us_supabase *us_supabase_create(apr_pool_t *pool, const us_server_conf *conf);

/*
 * May Supabase be asked now?  Used to refuse early, before any work: US_OK,
 * US_BUSY or US_CIRCUIT_OPEN.  us_supabase_ask checks again.
 */
us_outcome us_supabase_ready(us_supabase *supabase, us_call *call,
                             us_operation operation);

/*
 * Asks Supabase for a session.
 *
 * US_SIGN_UP  is sent exactly once, on a fresh connection: a repeated sign-up
 *             would be answered as if the address were taken
 * US_LOG_IN   asks with the password
 * US_REFRESH  asks with the refresh token.  It is sent again if a kept
 *             connection is dead, as a login is: Supabase tolerates the token
 *             that was used last.  Nothing in the answer says whose it is:
 *             no e-mail was sent that it could be compared with.  That it
 *             belongs to this request is known from the connection alone,
 *             see us_http_post.
 *
 * client_ip  forwarded as configured; without a port
 * identity   filled in on US_OK (session) and US_PENDING (no session)
 */
us_outcome us_supabase_ask(us_supabase *supabase, us_call *call,
                           us_operation operation,
                           const us_credentials *credentials,
                           const char *client_ip, us_identity *identity);

/*
 * Ends sessions of the user whose access token is sent.  It may be sent again,
 * as a session can only end once.
 *
 * Returns US_LOGGED_OUT, also if the session was gone already, or why not.
 */
us_outcome us_supabase_log_out(us_supabase *supabase, us_call *call,
                               const us_farewell *farewell,
                               const char *client_ip);

#endif /* US_SUPABASE_H */
