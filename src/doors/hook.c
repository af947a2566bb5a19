/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "us_clock.h"
#include "us_hook.h"
#include "us_hook_forward.h"
#include "us_hook_payload.h"
#include "us_limits.h"
#include "us_reply.h"
#include "us_webhook.h"
#include "signed.h"
#include "unsynced.h"

/* The largest body: metadata and claims that are any larger make tokens that
 * no server accepts in a header. */
#define MAX_BODY ((apr_size_t)256 * 1024)

/* Supabase holds a transaction open meanwhile, and has five seconds for all
 * its tries: an answer comes within three. */
#define ANSWER_TIME apr_time_from_msec(2900)

struct us_hook {
    us_users *users;
    us_webhook *webhook;
    us_unsynced *unsynced;
    us_hook_forward *forward; /* NULL: none */
    int closes;               /* keeps no connection */
    const apr_array_header_t *columns;
};

us_hook *us_hook_create(apr_pool_t *pchild, server_rec *s, us_users *users)
{
    const us_server_conf *conf = us_config_server(s);
    us_hook *hook = apr_pcalloc(pchild, sizeof(*hook));

    hook->closes = us_limits_connections_hold_threads();
    hook->users = users;
    hook->webhook = us_webhook_create(pchild, conf->hook_secrets);
    hook->columns = us_config_columns(pchild, conf);
    hook->unsynced
        = us_unsynced_create(pchild, s, "tokens went out without a row",
                             "UserSyncHookOnError", US_TALLY_UNSYNCED_HOOK);
    if (*us_config_hook_forward(conf) != '\0') {
        hook->forward = us_hook_forward_create(pchild, conf);
        if (hook->forward == NULL) {
            return NULL;
        }
    }
    return hook->webhook != NULL ? hook : NULL;
}

/* Reads the body of a request that is signed. */
static us_outcome receive(request_rec *r, us_call *call, const us_hook *hook,
                          us_webhook_headers *headers, us_slice *body)
{
    us_outcome outcome
        = us_signed_receive(r, call, hook->webhook, MAX_BODY, headers, body);

    if (outcome == US_BODY_TOO_LARGE) {
        us_fail(call, outcome,
                "the request is larger than 256 KiB: if it is Supabase's, "
                "this user's metadata is too large for a token");
    }
    return outcome;
}

/* Makes sure of the user's row; OnError may let them go without. */
static us_outcome ensure_row(request_rec *r, us_call *call, us_hook *hook,
                             const us_identity *identity)
{
    us_outcome outcome = us_users_ensure(hook->users, call, identity);

    if (outcome == US_OK && call->store_time >= 0) {
        us_unsynced_is_over(hook->unsynced);
    }
    if (outcome == US_STORE_UNAVAILABLE
        && us_config_hook_on_error(us_config_dir(r)) == US_ON_ERROR_ALLOW) {
        us_unsynced_count(hook->unsynced);
        outcome = US_UNSYNCED;
    }
    return outcome;
}

/* Does what the hook is for. */
static us_outcome serve(request_rec *r, us_call *call, us_hook *hook,
                        const us_hook_payload *payload)
{
    us_outcome outcome = US_WRONG_HOOK;

    switch (payload->kind) {
    case US_HOOK_TOKEN:
    case US_HOOK_AFTER_CREATED:
        outcome = ensure_row(r, call, hook, &payload->identity);
        break;
    case US_HOOK_BEFORE_CREATED:
        /* the id is provisional: nothing is written */
        outcome = us_users_ready(hook->users, call, 1);
        break;
    case US_HOOK_OTHER:
        us_fail(call, outcome,
                "Supabase sends a hook here that is not served: point it "
                "elsewhere; usersync-hook serves customize-access-token, "
                "before-user-created and after-user-created");
        break;
    }
    return outcome;
}

/* Does the project's own hook have a say in this? */
static int is_forwarded(const us_hook *hook, const us_hook_payload *payload,
                        us_outcome outcome)
{
    return hook->forward != NULL && payload->kind == US_HOOK_TOKEN
           && (outcome == US_OK || outcome == US_UNSYNCED);
}

/* Asks the project's own hook, which must not be this one. */
static us_outcome forward(request_rec *r, us_call *call, us_hook *hook,
                          const us_webhook_headers *headers, us_slice body,
                          apr_time_t deadline, us_hook_reply *reply)
{
    if (apr_table_get(r->headers_in, US_FORWARDED) != NULL) {
        return us_fail(call, US_FORWARD_FAILED,
                       "UserSyncHookForward leads back to a hook that "
                       "forwards: it must name the project's own hook");
    }
    return us_hook_forward_send(hook->forward, call, headers, body, deadline,
                                reply);
}

/*
 * Every call of a hook: verifies the signature, reads the body, ensures the
 * user's row, asks the project's own hook if there is one, and answers.
 */
int us_hook_answer(request_rec *r, us_call *call, us_hook *hook)
{
    apr_time_t start = us_clock_now();
    us_webhook_headers headers;
    us_hook_payload payload;
    us_hook_reply reply;
    us_slice body;
    us_outcome outcome;
    us_outcome answered;

    us_signed_begin(r, call, hook->closes);
    outcome = receive(r, call, hook, &headers, &body);
    if (outcome == US_OK) {
        outcome = us_hook_payload_read(call, body, hook->columns, &payload);
    }
    if (outcome != US_OK) {
        return us_reply_send(r, call, outcome, NULL);
    }
    call->store_limit = us_signed_table_time(start);
    outcome = serve(r, call, hook, &payload);
    if (!is_forwarded(hook, &payload, outcome)) {
        return us_reply_hook(r, call, outcome, &payload.identity,
                             payload.claims);
    }
    answered
        = forward(r, call, hook, &headers, body, start + ANSWER_TIME, &reply);
    return answered == US_OK
               ? us_reply_forward(r, call, outcome, &payload.identity, &reply)
               : us_reply_hook(r, call, answered, &payload.identity,
                               payload.claims);
}
