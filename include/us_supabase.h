/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_supabase.h: Supabase Auth as verbs.  The rules come from GoTrue's wire
 * behaviour (its /signup and /token endpoints, API version 2024-01-01).
 */
#ifndef US_SUPABASE_H
#define US_SUPABASE_H

#include "us_config.h"

typedef struct us_supabase us_supabase; /* one project, in this child */

/* child_init: NULL when out of memory. */
us_supabase *us_supabase_create(apr_pool_t *pool, const us_server_conf *conf);

/*
 * May Supabase be asked just now?  To refuse early, before any work: US_OK,
 * US_BUSY or US_CIRCUIT_OPEN.  The functions below ask again.
 */
us_outcome us_supabase_ready(us_supabase *supabase, us_call *call,
                             us_operation operation);

/*
 * Sign up.  Sent exactly once, on a fresh connection: a repeated sign-up
 * would be answered as if the address were taken.
 *
 * client_ip  forwarded as configured; without a port
 * identity   filled on US_OK (session) and US_PENDING (no session)
 */
us_outcome us_supabase_signup(us_supabase *supabase, us_call *call,
                              const us_credentials *credentials,
                              const char *client_ip, us_identity *identity);

/* Log in with the password.  US_OK means a session was issued. */
us_outcome us_supabase_login(us_supabase *supabase, us_call *call,
                             const us_credentials *credentials,
                             const char *client_ip, us_identity *identity);

#endif /* US_SUPABASE_H */
