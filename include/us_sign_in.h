/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_sign_in.h: the flow of a route's request, from top to bottom.
 */
#ifndef US_SIGN_IN_H
#define US_SIGN_IN_H

#include "us_supabase.h"
#include "us_users.h"

#include <httpd.h>

/* What the flow uses, created once per server in child_init. */
typedef struct us_services {
    us_supabase *supabase;
    us_users *users;
} us_services;

/* Handles a route's request; only its method has been checked.  Returns what
 * httpd's handler hook expects. */
int us_sign_in(request_rec *r, us_call *call, const us_services *services,
               us_operation operation);

#endif /* US_SIGN_IN_H */
