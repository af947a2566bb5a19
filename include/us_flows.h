/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_flows.h: what the routes do, top to bottom.
 */
#ifndef US_FLOWS_H
#define US_FLOWS_H

#include "us_cache.h"
#include "us_store.h"
#include "us_supabase.h"

#include <httpd.h>

/* What a flow works with, made once per server in child_init. */
typedef struct us_services {
    us_supabase *supabase;
    us_store *store;
    us_cache *cache; /* told of every row that was seen; may be NULL */
} us_services;

/* Handlers of the routes.  Return what httpd's handler hook expects. */
int us_register(request_rec *r, us_call *call, const us_services *services);
int us_login(request_rec *r, us_call *call, const us_services *services);

#endif /* US_FLOWS_H */
