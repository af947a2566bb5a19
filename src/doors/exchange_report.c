/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "exchange.h"
#include "us_stats.h"
#include "us_wipe.h"

#include <http_protocol.h>

#include <string.h>

/* Adds data to the copy, which grows to what is announced or doubles. */
static void copy_data(us_exchange *exchange, const char *data, apr_size_t len)
{
    if (exchange->len + len > exchange->room) {
        char *old = exchange->copy;

        exchange->room = 2 * (exchange->len + len);
        exchange->copy = apr_palloc(exchange->r->pool, exchange->room);
        us_wipe_with(exchange->r->pool, exchange->copy, exchange->room);
        if (old != NULL) {
            memcpy(exchange->copy, old, exchange->len);
            us_wipe(old, exchange->len);
        }
    }
    memcpy(exchange->copy + exchange->len, data, len);
    exchange->len += len;
}

/* What On would answer is certain, apart from whether it would have forwarded
 * the request.  Without that question, nothing is left to do. */
static void decide(us_exchange *exchange, us_outcome outcome)
{
    exchange->verdict = outcome;
    exchange->is_decided = 1;
    if (outcome == US_OPTIONS) {
        us_exchange_leave(exchange, US_HEALTH_GOOD);
        if (!exchange->is.guarded || exchange->is_reported) {
            exchange->state = US_EXCHANGE_PASSED;
        }
    }
}

/* Copies a bucket of the body, unless nobody can be in there. */
static void copy_bucket(us_exchange *exchange, apr_bucket *bucket)
{
    const char *data;
    apr_size_t len;

    if (apr_bucket_read(bucket, &data, &len, APR_BLOCK_READ) != APR_SUCCESS) {
        decide(exchange, us_exchange_cut_off(exchange));
    }
    else if (us_exchange_is_no_object(exchange, data, len)) {
        decide(exchange, US_OPTIONS);
    }
    else if (exchange->len + len > US_EXCHANGE_MAX) {
        decide(exchange, exchange->is.body == US_PROXIED_USER
                             ? US_OPTIONS
                             : us_exchange_too_large(exchange));
    }
    else {
        copy_data(exchange, data, len);
    }
}

/* Copies what a brigade has.  Returns 1 at the end of the answer. */
static int copy_brigade(us_exchange *exchange, apr_bucket_brigade *bb)
{
    apr_bucket *bucket;

    for (bucket = APR_BRIGADE_FIRST(bb); bucket != APR_BRIGADE_SENTINEL(bb);
         bucket = APR_BUCKET_NEXT(bucket)) {
        if (APR_BUCKET_IS_EOS(bucket)) {
            return 1;
        }
        if (exchange->is_decided) {
            continue;
        }
        if (AP_BUCKET_IS_ERROR(bucket)) {
            decide(exchange, us_exchange_cut_off(exchange));
        }
        else if (!APR_BUCKET_IS_METADATA(bucket)
                 && exchange->location == NULL) {
            copy_bucket(exchange, bucket);
        }
    }
    return 0;
}

/* The client does not wait for what follows. */
static void send_now(request_rec *r)
{
    apr_bucket_alloc_t *alloc = r->connection->bucket_alloc;
    apr_bucket_brigade *bb = apr_brigade_create(r->pool, alloc);

    APR_BRIGADE_INSERT_TAIL(bb, apr_bucket_flush_create(alloc));
    ap_pass_brigade(r->connection->output_filters, bb);
}

/* Is the user's row what is missing, or at least not sure to be there? */
static int lacks_row(us_outcome outcome)
{
    return outcome == US_STORE_UNAVAILABLE || outcome == US_TABLE_MISFIT
           || outcome == US_ROW_REFUSED || outcome == US_ROW_CONFLICT;
}

/* What On would have answered.  It asks the table before it forwards some
 * requests, whatever comes of them. */
static us_outcome find_verdict(us_exchange *exchange)
{
    /* nothing is copied of an empty body */
    us_slice body
        = {exchange->copy != NULL ? exchange->copy : "", exchange->len};
    us_call *call = &exchange->call;
    us_outcome outcome = exchange->verdict;
    us_outcome ready = US_OK;
    const char *cause;
    int withheld;

    if (!exchange->is_decided) {
        outcome = us_exchange_settle(exchange, body, &withheld);
        if (withheld && lacks_row(outcome)) {
            us_stats_tally(US_TALLY_UNSYNCED_REPORT);
        }
    }
    cause = call->cause;
    if (exchange->is.guarded && !exchange->is_reported
        && outcome != US_STORE_UNAVAILABLE && outcome != US_TABLE_MISFIT) {
        ready = us_users_ready(exchange->response->users, call,
                               exchange->is.creates);
    }
    if (ready != US_OK) {
        return ready;
    }
    call->cause = cause;
    return outcome;
}

apr_status_t us_exchange_copy(us_exchange *exchange, ap_filter_t *f,
                              apr_bucket_brigade *bb)
{
    int is_end = copy_brigade(exchange, bb);
    us_outcome outcome;
    apr_status_t rv;

    if (is_end) {
        ap_remove_output_filter(f);
    }
    rv = ap_pass_brigade(f->next, bb);
    if (!is_end || exchange->state == US_EXCHANGE_PASSED) {
        return rv;
    }
    send_now(exchange->r);
    outcome = find_verdict(exchange);
    if (outcome != US_OPTIONS && !exchange->is_reported) {
        us_exchange_report(exchange, outcome);
    }
    return rv;
}
