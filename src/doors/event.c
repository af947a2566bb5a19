/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "us_clock.h"
#include "us_event.h"
#include "us_event_payload.h"
#include "us_limits.h"
#include "us_reply.h"
#include "request.h"
#include "signed.h"

#include <string.h>

/* The largest body: a Database Webhook has the user twice, as they were and as
 * they are, so it is twice what a hook may be. */
#define MAX_BODY ((apr_size_t)512 * 1024)

struct us_event {
    us_users *users;
    us_webhook *webhook;           /* NULL: nobody can sign */
    const us_event_header *header; /* NULL: who does not sign is nobody */
    int closes;                    /* keeps no connection */
    const apr_array_header_t *columns;
};

us_event *us_event_create(apr_pool_t *pchild, server_rec *s, us_users *users)
{
    const us_server_conf *conf = us_config_server(s);
    us_event *event = apr_pcalloc(pchild, sizeof(*event));

    event->closes = us_limits_connections_hold_threads();
    event->users = users;
    event->header = us_config_event_header(conf);
    event->columns = us_config_columns(pchild, conf);
    if (us_columns_find(event->columns, US_FIELD_UPDATED_AT) < 0) {
        return NULL;
    }
    if (conf->hook_secrets != NULL) {
        event->webhook = us_webhook_create(pchild, conf->hook_secrets);
        if (event->webhook == NULL) {
            return NULL;
        }
    }
    return event;
}

/* Reads the body of a Database Webhook, which cannot sign. */
static us_outcome receive_stock(request_rec *r, us_call *call,
                                const us_event *event, us_slice *body)
{
    if (call->authorization == NULL) {
        return us_fail(call, US_UNSIGNED,
                       "the request has neither a signature nor the header "
                       "that UserSyncEventHeader names");
    }
    if (!us_event_header_is(event->header, call->authorization)) {
        return us_fail(call, US_UNSIGNED,
                       "the header that UserSyncEventHeader names has another "
                       "value: is it that of the Database Webhook at "
                       "Supabase?");
    }
    return us_request_body(r, call, MAX_BODY, body);
}

/* Reads the body of an event whose sender proves themselves, and says in which
 * of the two ways. */
static us_outcome receive(request_rec *r, us_call *call, const us_event *event,
                          us_event_format *format, us_slice *body)
{
    int is_signed = apr_table_get(r->headers_in, "Webhook-Signature") != NULL;
    us_webhook_headers headers;
    us_outcome outcome;

    *format = US_EVENT_MESSAGE;
    if (!is_signed && event->header != NULL) {
        *format = US_EVENT_STOCK;
        outcome = receive_stock(r, call, event, body);
    }
    else if (event->webhook == NULL) {
        return us_fail(call, US_UNSIGNED,
                       "the request is signed, but UserSyncHookSecret is "
                       "missing here");
    }
    else {
        outcome = us_signed_receive(r, call, event->webhook, MAX_BODY,
                                    &headers, body);
    }
    if (outcome == US_BODY_TOO_LARGE) {
        us_fail(call, outcome,
                "the event is larger than 512 KiB: if it is the project's, "
                "this user's metadata is too large; usersync-reconcile "
                "finds them");
    }
    return outcome;
}

/*
 * Every event: verifies its sender, reads the body, brings the table to the
 * state that it tells of, and answers.  Nobody's sign-in waits for it.
 */
int us_event_answer(request_rec *r, us_call *call, us_event *event)
{
    apr_time_t start = us_clock_now();
    us_event_format format;
    us_identity identity;
    us_slice body = {NULL, 0};
    us_outcome outcome;

    memset(&identity, 0, sizeof(identity));
    us_signed_begin(r, call, event->closes);
    outcome = receive(r, call, event, &format, &body);
    if (outcome == US_OK) {
        outcome = us_event_payload_read(call, body, format, event->columns,
                                        apr_time_now(), &identity);
    }
    if (outcome == US_OK) {
        call->store_limit = us_signed_table_time(start);
        outcome = us_users_apply(event->users, call, &identity);
    }
    return us_reply_send(r, call, outcome == US_OK ? US_APPLIED : outcome,
                         &identity);
}
