/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "us_sign_in.h"
#include "us_limits.h"
#include "request.h"
#include "us_reply.h"

/* Refuses a request that cannot be served before any work is done for it, and
 * before Supabase creates an account or a session that would have no row. */
static us_outcome ready(const us_services *services, us_call *call,
                        us_operation operation)
{
    us_outcome outcome
        = us_supabase_ready(services->supabase, call, operation);

    return outcome == US_OK
               ? us_users_ready(services->users, call, operation == US_SIGN_UP)
               : outcome;
}

/* From here until the row is sure, the request counts towards
 * UserSyncMaxConcurrent.  Reading the body may have taken long, so the table
 * is checked again. */
static us_outcome take_seat(request_rec *r, const us_services *services,
                            us_call *call, us_operation operation)
{
    if (!us_limits_enter(r, &call->cause)) {
        return US_BUSY;
    }
    call->has_seat = 1;
    return us_users_ready(services->users, call, operation == US_SIGN_UP);
}

static void leave_seat(request_rec *r, us_call *call)
{
    if (call->has_seat) {
        us_limits_leave(r);
        call->has_seat = 0;
    }
}

/*
 * Every sign-in, whatever Supabase is asked for: reads the credentials, makes
 * an identity from Supabase's answer, ensures the row and writes the reply.
 */
int us_sign_in(request_rec *r, us_call *call, const us_services *services,
               us_operation operation)
{
    us_credentials credentials;
    us_identity identity = {0};
    us_outcome outcome;
    us_outcome stored;

    outcome = ready(services, call, operation);
    if (outcome == US_OK) {
        outcome = us_request_read(r, call, operation, &credentials);
    }
    if (outcome == US_OK) {
        outcome = take_seat(r, services, call, operation);
    }
    if (outcome == US_OK) {
        outcome = us_supabase_ask(services->supabase, call, operation,
                                  &credentials, r->useragent_ip, &identity);
    }
    if (outcome == US_OK || outcome == US_PENDING) {
        stored = us_users_ensure(services->users, call, &identity);
        outcome = stored == US_OK ? outcome : stored;
    }
    leave_seat(r, call);
    return us_reply_send(r, call, outcome, &identity);
}
