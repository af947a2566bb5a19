/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "us_clock.h"
#include "us_hook_forward.h"
#include "us_http.h"
#include "us_limits.h"

#include <apr_strings.h>

/* The largest answer that Supabase reads from a hook. */
#define MAX_ANSWER ((apr_size_t)200 * 1024)

/* Less time than this is not worth a try. */
#define MIN_TIME apr_time_from_msec(50)

#define CONNECT_TIME apr_time_from_sec(1)

struct us_hook_forward {
    us_http_client *http;
    us_http_url *url;
    int fresh; /* on a new connection each time */
};

us_hook_forward *us_hook_forward_create(apr_pool_t *pool,
                                        const us_server_conf *conf)
{
    static const char *const headers[]
        = {"Content-Type: application/json", "Accept: application/json",
           "Expect:", NULL};
    us_http_options options = {
        .headers = headers,
        .user_agent = "mod_usersync/" US_VERSION " (httpd)",
        .connect_timeout = CONNECT_TIME,
        .advice = {"UserSyncHookForward", "the system's CAs", NULL},
    };
    us_hook_forward *forward = apr_pcalloc(pool, sizeof(*forward));

    forward->fresh = us_limits_connections_hold_threads();
    /* before the client: its handles refer to it */
    forward->url = us_http_url_create(pool, us_config_hook_forward(conf));
    forward->http = us_http_client_create(pool, &options);
    return forward->url != NULL && forward->http != NULL ? forward : NULL;
}

/* Why no answer came, or none that Supabase would read; NULL: it came. */
static const char *problem_of(const us_http_answer *answer)
{
    if (answer->result == US_HTTP_TOO_BIG
        || (answer->result == US_HTTP_ANSWERED
            && answer->body_len > MAX_ANSWER)) {
        return "its answer is larger than 200 KiB, the most that Supabase "
               "reads";
    }
    return answer->result == US_HTTP_ANSWERED ? NULL : answer->problem;
}

/* What is the same in each try. */
static us_http_request request_of(const us_hook_forward *forward,
                                  apr_pool_t *pool,
                                  const us_webhook_headers *headers,
                                  us_slice body)
{
    static const char *const wanted[] = {"Retry-After", NULL};
    us_http_request request = {
        .url = forward->url,
        .body = body.text,
        .body_len = body.len,
        .headers
        = {apr_pstrcat(pool, "Webhook-Id: ", headers->id, NULL),
           apr_pstrcat(pool, "Webhook-Timestamp: ", headers->timestamp, NULL),
           apr_pstrcat(pool, "Webhook-Signature: ", headers->signature, NULL),
           US_FORWARDED ": 1"},
        .wanted = wanted,
    };

    return request;
}

/* Sends the request, once; returns what is wrong with the answer, or NULL. */
static const char *try_once(us_hook_forward *forward, us_call *call,
                            const us_http_request *request,
                            us_http_answer *answer)
{
    const char *problem;

    us_http_post(forward->http, call->pool, &call->log, request, answer);
    problem = problem_of(answer);
    us_http_done(forward->http, answer, problem == NULL);
    return problem;
}

/*
 * A busy server closes the connections that it keeps, and may do so just when
 * the request is sent.  Asking twice does no harm, as Supabase does it itself:
 * so there is one more try, on a new connection.
 */
static us_outcome exchange(us_hook_forward *forward, us_call *call,
                           const us_webhook_headers *headers, us_slice body,
                           apr_time_t deadline, us_hook_reply *reply)
{
    us_http_request request = request_of(forward, call->pool, headers, body);
    apr_time_t start = us_clock_now();
    us_http_answer answer;
    const char *problem;

    request.fresh_connection = forward->fresh;
    request.timeout = deadline - start;
    problem = try_once(forward, call, &request, &answer);
    if (answer.result == US_HTTP_BROKEN) {
        request.fresh_connection = 1;
        request.timeout = deadline - us_clock_now();
        if (request.timeout > MIN_TIME) {
            problem = try_once(forward, call, &request, &answer);
        }
    }
    call->upstream_time = us_clock_now() - start;
    if (problem != NULL) {
        return us_fail(call, US_FORWARD_FAILED, "UserSyncHookForward: %s",
                       problem);
    }
    reply->status = (int)answer.status;
    reply->type = answer.content_type;
    reply->retry_after = answer.wanted[0];
    reply->body.text = answer.body;
    reply->body.len = answer.body_len;
    return US_OK;
}

us_outcome us_hook_forward_send(us_hook_forward *forward, us_call *call,
                                const us_webhook_headers *headers,
                                us_slice body, apr_time_t deadline,
                                us_hook_reply *reply)
{
    us_outcome outcome;

    if (deadline - us_clock_now() < MIN_TIME) {
        return us_fail(call, US_FORWARD_FAILED,
                       "UserSyncHookForward: the user's row took so long that "
                       "no time was left for it");
    }
    if (!us_limits_forward_enter()) {
        return us_fail(call, US_BUSY,
                       "an eighth of all threads, or of this child's, wait "
                       "for UserSyncHookForward: it is slow, or there are "
                       "more sign-ins than this server has threads for");
    }
    outcome = exchange(forward, call, headers, body, deadline, reply);
    us_limits_forward_leave();
    return outcome;
}
