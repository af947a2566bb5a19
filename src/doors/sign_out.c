/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "us_limits.h"
#include "us_reply.h"
#include "us_sign_out.h"
#include "request.h"

/* Supabase is asked by as many requests as UserSyncMaxConcurrent admits. */
static us_outcome ask(request_rec *r, us_call *call, us_supabase *supabase,
                      const us_farewell *farewell)
{
    us_outcome outcome;

    if (!us_limits_enter(r, &call->cause)) {
        return US_BUSY;
    }
    outcome = us_supabase_log_out(supabase, call, farewell, r->useragent_ip);
    us_limits_leave(r);
    return outcome;
}

int us_sign_out(request_rec *r, us_call *call, us_supabase *supabase)
{
    us_farewell farewell;
    us_outcome outcome = us_supabase_ready(supabase, call, US_LOG_OUT);

    if (outcome == US_OK) {
        outcome = us_request_read_farewell(r, call, &farewell);
    }
    if (outcome == US_OK) {
        outcome = ask(r, call, supabase, &farewell);
    }
    return us_reply_send(r, call, outcome, NULL);
}
