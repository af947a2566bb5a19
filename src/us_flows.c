/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "us_flows.h"
#include "us_request.h"
#include "us_response.h"

/* Refuse what cannot be served before any work is spent on it, and before
 * Supabase makes an account or a session that would have no row. */
static us_outcome ready(const us_services *services, us_call *call,
                        us_operation operation)
{
    us_outcome outcome
        = us_supabase_ready(services->supabase, call, operation);

    return outcome == US_OK ? us_store_ready(services->store, call) : outcome;
}

/* The user exists at Supabase: he must have a row before he gets a token. */
static us_outcome ensure_row(const us_services *services, us_call *call,
                             us_outcome answered, const us_identity *identity)
{
    us_outcome stored = us_store_ensure_user(services->store, call, identity);

    if (stored != US_OK) {
        return stored;
    }
    if (identity->proven) {
        us_cache_add(services->cache, call->pool, &call->log, identity->id);
    }
    return answered;
}

int us_register(request_rec *r, us_call *call, const us_services *services)
{
    us_credentials credentials;
    us_identity identity = {0};
    us_outcome outcome;

    outcome = ready(services, call, US_SIGNUP);
    if (outcome == US_OK) {
        outcome = us_request_read(r, call, US_REQUEST_REGISTER, &credentials);
    }
    if (outcome == US_OK) {
        outcome = us_supabase_signup(services->supabase, call, &credentials,
                                     r->useragent_ip, &identity);
    }
    if (outcome == US_OK || outcome == US_PENDING) {
        outcome = ensure_row(services, call, outcome, &identity);
    }
    return us_response_send(r, call, outcome, &identity);
}

int us_login(request_rec *r, us_call *call, const us_services *services)
{
    us_credentials credentials;
    us_identity identity = {0};
    us_outcome outcome;

    outcome = ready(services, call, US_LOGIN);
    if (outcome == US_OK) {
        outcome = us_request_read(r, call, US_REQUEST_LOGIN, &credentials);
    }
    if (outcome == US_OK) {
        outcome = us_supabase_login(services->supabase, call, &credentials,
                                    r->useragent_ip, &identity);
    }
    if (outcome == US_OK) {
        outcome = ensure_row(services, call, outcome, &identity);
    }
    return us_response_send(r, call, outcome, &identity);
}
