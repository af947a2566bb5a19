/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * doors/exchange.h: one request that mod_proxy forwards, from the check before
 * to the end of the answer.
 *
 * Threads: a request is one thread's at a time.
 */
#ifndef US_EXCHANGE_H
#define US_EXCHANGE_H

#include "us_breaker.h"
#include "us_proxied.h"
#include "us_response.h"

#include <util_filter.h>

struct us_response {
    us_users *users;
    const apr_array_header_t *columns;
    us_forward_ip forward_ip;
    us_breaker *breaker[US_OPERATION_COUNT + 1]; /* the last one is NULL */
    apr_interval_time_t lease[US_OPERATION_COUNT + 1]; /* of a probe */
};

/* How the filter treats what comes. */
typedef enum us_exchange_state {
    US_EXCHANGE_NEW,     /* nothing has come yet */
    US_EXCHANGE_PASSED,  /* it goes out as it is */
    US_EXCHANGE_HELD,    /* it is kept until its end */
    US_EXCHANGE_COPIED,  /* it goes out, and a copy is kept (Report) */
    US_EXCHANGE_REPLACED /* another answer went out in its place */
} us_exchange_state;

typedef struct us_exchange {
    us_response *response;
    request_rec *r;
    us_proxied is;
    int is_http2;    /* mod_proxy_http2 forwards it, and runs no fixups */
    int reports;     /* UserSyncEnsureResponse is Report */
    int is_reported; /* the request itself would have been refused */
    us_call call;
    us_identity identity;
    us_attempt attempt;
    int is_asked; /* attempt is to be reported to the circuit breaker */
    us_exchange_state state;
    const char *location; /* of a redirect with a session; NULL: it may be in
                           * the body */
    int locations;        /* headers of that name */
    const char *user_id;  /* whose session it is about to be; NULL: unknown */
    int began;            /* something but white space has come */
    apr_bucket_brigade *kept;
    us_outcome verdict; /* if is_decided: what On would make of the answer, or
                         * US_OPTIONS: nobody is in there (Report) */
    int is_decided;
    apr_size_t left; /* in its last bucket */
    char *copy;      /* of the body (Report); wiped with the request */
    apr_size_t room; /* in there */
    apr_size_t len;  /* of what has come */
} us_exchange;

/* The longest answer that is looked at: no longer session is of any use, as
 * its token fits in no header. */
#define US_EXCHANGE_MAX ((apr_size_t)1024 * 1024)

/* The output filter, see us_response_register. */
apr_status_t us_exchange_filter(ap_filter_t *f, apr_bucket_brigade *bb);

/* Report: passes the answer on first, and then does what On does before. */
apr_status_t us_exchange_copy(us_exchange *exchange, ap_filter_t *f,
                              apr_bucket_brigade *bb);

/*
 * Makes sure of the user's row.  A user without a session is no reason to
 * withhold an answer but where it was made with the account.
 *
 * withheld  set to whether the answer must not go out
 *
 * Returns the outcome; US_OPTIONS: there is nobody, and nothing to say.
 */
us_outcome us_exchange_settle(us_exchange *exchange, us_slice body,
                              int *withheld);

/* Is this the beginning of something other than a JSON object? */
int us_exchange_is_no_object(us_exchange *exchange, const char *data,
                             apr_size_t len);

/* Why an answer cannot be used: the request no longer waits for Supabase. */
us_outcome us_exchange_too_large(us_exchange *exchange);
us_outcome us_exchange_cut_off(us_exchange *exchange);

/* The request no longer waits for Supabase.  health is what its answer, or the
 * lack of one, says. */
void us_exchange_leave(us_exchange *exchange, us_health health);

/* Notes and logs an outcome in place of the answer that On would give. */
void us_exchange_report(us_exchange *exchange, us_outcome outcome);

#endif /* US_EXCHANGE_H */
