/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "us_clock.h"
#include "request.h"
#include "signed.h"

/* To cancel a statement takes a quarter of a second at most after this. */
#define TABLE_TIME apr_time_from_msec(2500)

void us_signed_begin(request_rec *r, us_call *call, int closes)
{
    call->is_hook = 1;
    if (closes) {
        r->connection->keepalive = AP_CONN_CLOSE;
    }
}

us_outcome us_signed_receive(request_rec *r, us_call *call,
                             const us_webhook *webhook, apr_size_t max,
                             us_webhook_headers *headers, us_slice *body)
{
    us_outcome outcome = US_UNSIGNED;

    headers->id = apr_table_get(r->headers_in, "Webhook-Id");
    headers->timestamp = apr_table_get(r->headers_in, "Webhook-Timestamp");
    headers->signature = apr_table_get(r->headers_in, "Webhook-Signature");
    call->cause = us_webhook_check_headers(r->pool, headers, apr_time_now());
    if (call->cause == NULL) {
        outcome = us_request_body(r, call, max, body);
    }
    if (outcome == US_OK) {
        call->cause
            = us_webhook_check_body(webhook, headers, body->text, body->len);
        outcome = call->cause == NULL ? US_OK : US_UNSIGNED;
    }
    return outcome;
}

apr_interval_time_t us_signed_table_time(apr_time_t start)
{
    apr_interval_time_t left = start + TABLE_TIME - us_clock_now();

    /* not nothing, which would be no limit */
    return left > 1 ? left : 1;
}
