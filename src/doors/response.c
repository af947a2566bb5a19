/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "exchange.h"
#include "us_client.h"
#include "us_config.h"
#include "us_limits.h"
#include "us_log.h"
#include "us_reply.h"

#include <http_config.h>
#include <http_request.h>

#include <apr_strings.h>

#include <string.h>

/* A probe that is not back this long after its timeout: another may go. */
#define PROBE_GRACE apr_time_from_sec(1)

static ap_filter_rec_t *filter_handle;

/* --- set-up --- */

/* Content filters such as mod_deflate's come after it: what they make of the
 * answer could not be read. */
void us_response_register(void)
{
    filter_handle = ap_register_output_filter(
        "USERSYNC_RESPONSE", us_exchange_filter, NULL, AP_FTYPE_RESOURCE);
}

us_response *us_response_create(apr_pool_t *pchild, server_rec *s,
                                us_users *users)
{
    const us_server_conf *conf = us_config_server(s);
    us_response *response = apr_pcalloc(pchild, sizeof(*response));
    int i;

    response->users = users;
    response->columns = us_config_columns(pchild, conf);
    response->forward_ip = us_config_forward_ip(conf);
    for (i = 0; i < US_OPERATION_COUNT; i++) {
        response->breaker[i]
            = us_breaker_find(us_config_project_name(s), (us_operation)i);
        response->lease[i]
            = PROBE_GRACE
              + (i == US_SIGN_UP ? us_config_register_timeout(conf)
                                 : us_config_timeout(conf));
    }
    return response;
}

/* --- one exchange --- */

/* The URL that a request is about to be forwarded to, or NULL: mod_proxy has
 * no part in it. */
static const char *target_of(const request_rec *r)
{
    static const char scheme[] = "proxy:";
    const apr_size_t len = sizeof(scheme) - 1;

    if (r->proxyreq == PROXYREQ_REVERSE && r->filename != NULL
        && strncmp(r->filename, scheme, len) == 0) {
        return r->filename + len;
    }
    /* SetHandler "proxy:..." */
    return r->handler != NULL && strncmp(r->handler, scheme, len) == 0
               ? apr_pstrcat(r->pool, r->handler + len, r->uri, NULL)
               : NULL;
}

static ap_filter_t *filter_of(const request_rec *r)
{
    ap_filter_t *f = r->output_filters;

    while (f != NULL && f->frec != filter_handle) {
        f = f->next;
    }
    return f;
}

void us_exchange_leave(us_exchange *exchange, us_health health)
{
    us_call *call = &exchange->call;

    if (call->has_seat) {
        us_limits_leave(exchange->r);
        call->has_seat = 0;
    }
    if (exchange->is_asked) {
        us_breaker_report(exchange->response->breaker[exchange->is.circuit],
                          &call->log, &exchange->attempt, health);
        exchange->is_asked = 0;
    }
}

/* The end of a request whose answer has not come: mod_proxy has answered in
 * its place, or the client is gone. */
static apr_status_t end_exchange(void *data)
{
    us_exchange *exchange = data;
    int status = exchange->r->status;

    us_exchange_leave(exchange, exchange->state == US_EXCHANGE_NEW
                                        && status >= HTTP_BAD_GATEWAY
                                        && status <= HTTP_GATEWAY_TIME_OUT
                                    ? US_HEALTH_BAD
                                    : US_HEALTH_UNKNOWN);
    return APR_SUCCESS;
}

/*
 * Subrequests have no filter: see check_part.  An answer that Supabase
 * compresses although it was not asked to is inflated by mod_deflate, if that
 * is there; it sees to it itself that it touches no other.
 */
void us_response_insert(request_rec *r, us_response *response)
{
    const us_dir_conf *conf = us_config_dir(r);
    int mode = us_config_response(conf);
    const char *target;
    us_exchange *exchange;

    if (mode == US_RESPONSE_OFF || r->main != NULL) {
        return;
    }
    target = target_of(r);
    if (target == NULL) {
        return;
    }
    exchange = apr_pcalloc(r->pool, sizeof(*exchange));
    exchange->response = response;
    exchange->r = r;
    exchange->is_http2 = strncmp(target, "h2", 2) == 0;
    exchange->reports = mode == US_RESPONSE_REPORT;
    exchange->is = us_proxied_of(r->pool, r->method, target, r->args);
    us_reply_begin(r, &exchange->call,
                   exchange->reports ? US_DOOR_REPORT : US_DOOR_RESPONSE);
    if (exchange->is.body != US_PROXIED_NOBODY && !exchange->reports
        && ap_get_output_filter_handle("inflate") != NULL) {
        ap_add_output_filter("inflate", NULL, r, r->connection);
    }
    ap_add_output_filter_handle(filter_handle, exchange, r, r->connection);
    apr_pool_cleanup_register(r->pool, exchange, end_exchange,
                              apr_pool_cleanup_null);
}

/* --- before it is forwarded --- */

static us_outcome circuit_open(us_call *call, int seconds)
{
    call->retry_after = seconds;
    return us_fail(call, US_CIRCUIT_OPEN,
                   "the circuit to Supabase is open: see the line that says "
                   "so, and UserSyncCircuitBreaker");
}

/* Asks Supabase's circuit breaker, and last: a probe has to be sent. */
static us_outcome ask_breaker(us_exchange *exchange)
{
    us_operation circuit = exchange->is.circuit;
    int seconds;

    /* whose account it is about is not known: any two are different */
    exchange->attempt.client = us_client_of(exchange->r);
    exchange->attempt.account
        = us_client_account((const char *)&exchange->r->request_time,
                            sizeof(exchange->r->request_time));
    if (!us_breaker_permit(exchange->response->breaker[circuit],
                           &exchange->attempt,
                           exchange->response->lease[circuit], &seconds)) {
        return circuit_open(&exchange->call, seconds);
    }
    exchange->is_asked = 1;
    return US_OK;
}

/* May the request be forwarded?  Report does not wait for the table: the
 * answer will show whether it is there. */
static us_outcome may_forward(us_exchange *exchange)
{
    us_response *response = exchange->response;
    us_call *call = &exchange->call;
    request_rec *r = exchange->r;
    us_outcome outcome = US_OK;
    int seconds;

    if (exchange->is.is_admin) {
        return us_config_proxy_admin(us_config_dir(r)) ? US_OK
                                                       : US_ADMIN_REFUSED;
    }
    if (!exchange->is.guarded) {
        return US_OK;
    }
    if (us_breaker_is_open(response->breaker[exchange->is.circuit],
                           us_client_of(r), &seconds)) {
        return circuit_open(call, seconds);
    }
    if (us_limits_is_full(r, &call->cause)) {
        return US_BUSY;
    }
    if (!exchange->reports) {
        outcome = us_users_ready(response->users, call, exchange->is.creates);
    }
    if (outcome != US_OK) {
        return outcome;
    }
    if (!us_limits_enter(r, &call->cause)) {
        return US_BUSY;
    }
    call->has_seat = 1;
    return ask_breaker(exchange);
}

void us_exchange_report(us_exchange *exchange, us_outcome outcome)
{
    us_call *call = &exchange->call;

    us_reply_name(exchange->r, call);
    us_reply_note(exchange->r, call, outcome, &exchange->identity);
    apr_table_setn(exchange->r->notes, "usersync-report", "1");
    if (outcome != US_OK && outcome != US_PENDING) {
        us_fail(call, outcome,
                "%s%sUserSyncEnsureResponse Report lets it pass",
                call->cause != NULL ? call->cause : "",
                call->cause != NULL ? "; " : "");
    }
    us_reply_log(exchange->r, call, outcome, &exchange->identity);
}

/* Lets scripts of other sites read a refusal, as Supabase would. */
static void allow_origin(request_rec *r)
{
    if (apr_table_get(r->headers_in, "Origin") == NULL) {
        return;
    }
    apr_table_setn(r->headers_out, "Access-Control-Allow-Origin", "*");
    apr_table_setn(r->headers_out, "Access-Control-Expose-Headers",
                   "X-Supabase-Api-Version, Retry-After");
    apr_table_mergen(r->headers_out, "Vary", "Origin");
}

static int refuse(us_exchange *exchange, ap_filter_t *f, us_outcome outcome)
{
    request_rec *r = exchange->r;
    us_call *call = &exchange->call;

    us_reply_name(r, call);
    us_exchange_leave(exchange, US_HEALTH_UNKNOWN);
    ap_remove_output_filter(f);
    if (exchange->is.is_page) {
        /* the site's own page for people */
        us_reply_note(r, call, outcome, NULL);
        us_reply_log(r, call, outcome, NULL);
        us_reply_retry_after(r, call, outcome);
        return us_reply_proxied_status(outcome);
    }
    allow_origin(r);
    return us_reply_proxied(r, r->output_filters, call, outcome, NULL, NULL)
                   == APR_SUCCESS
               ? OK
               : AP_FILTER_ERROR;
}

/* May a part of a page ask for this? */
static us_outcome may_include(const request_rec *r, us_call *call,
                              const char *target)
{
    us_proxied is = us_proxied_of(r->pool, r->method, target, r->args);

    if (is.is_admin && !us_config_proxy_admin(us_config_dir(r))) {
        return us_fail(call, US_ADMIN_REFUSED,
                       "a part of a page asks for an administrator's path");
    }
    if (!is.is_admin && is.body != US_PROXIED_NOBODY
        && is.body != US_PROXIED_USER) {
        return us_fail(call, US_NOT_ALLOWED,
                       "a part of a page asks for what may be a session: let "
                       "the page link there instead");
    }
    return US_OK;
}

/*
 * A subrequest, such as mod_include makes: what it brings becomes text of a
 * page.  A session is none, in a body or in a redirect's, which shows its
 * tokens.
 */
static int check_part(request_rec *r)
{
    int mode = us_config_response(us_config_dir(r));
    const char *target = target_of(r);
    us_outcome outcome;
    us_call call;

    if (mode == US_RESPONSE_OFF || target == NULL) {
        return DECLINED;
    }
    us_reply_begin(r, &call,
                   mode == US_RESPONSE_REPORT ? US_DOOR_REPORT
                                              : US_DOOR_RESPONSE);
    outcome = may_include(r, &call, target);
    if (outcome == US_OK) {
        return DECLINED;
    }
    us_reply_name(r, &call);
    us_reply_log(r, &call, outcome, NULL);
    return mode == US_RESPONSE_REPORT ? DECLINED : us_reply_status(outcome);
}

int us_response_check(request_rec *r)
{
    ap_filter_t *f = filter_of(r);
    us_exchange *exchange = f != NULL ? f->ctx : NULL;
    us_outcome outcome;

    if (r->main != NULL) {
        return check_part(r);
    }
    if (exchange == NULL) {
        return DECLINED;
    }
    if (exchange->response == NULL) {
        us_fail(&exchange->call, US_NOT_CONFIGURED,
                "UserSyncEnsureResponse: nothing was set up for this server");
        return refuse(exchange, f, US_NOT_CONFIGURED);
    }
    outcome = may_forward(exchange);
    if (outcome != US_OK && !exchange->reports) {
        return refuse(exchange, f, outcome);
    }
    if (outcome != US_OK) {
        us_exchange_report(exchange, outcome);
        exchange->is_reported = 1;
    }
    if (exchange->is_http2) {
        us_response_forward(r);
    }
    return DECLINED;
}

/* --- what is forwarded --- */

/*
 * The client's address, as httpd knows it.  mod_proxy adds it to what the
 * client has sent, and servers take the first one there: a client could choose
 * whom Supabase counts it as.
 */
static void forward_address(request_rec *r, us_forward_ip how)
{
    const char *zone = strchr(r->useragent_ip, '%'); /* fe80::1%eth0 */
    const char *address
        = zone == NULL ? r->useragent_ip
                       : apr_pstrmemdup(r->pool, r->useragent_ip,
                                        (apr_size_t)(zone - r->useragent_ip));

    apr_table_unset(r->headers_in, "Sb-Forwarded-For");
    if (how == US_FORWARD_OFF) {
        return;
    }
    apr_table_setn(r->headers_in, "X-Forwarded-For", address);
    if (how == US_FORWARD_SB) {
        apr_table_setn(r->headers_in, "Sb-Forwarded-For", address);
    }
}

/* The answer must come whole and readable: not a part of it, in another form,
 * or only if it has changed. */
static void remove_wishes(apr_table_t *headers)
{
    static const char *const names[]
        = {"Accept-Encoding",   "Range",
           "Request-Range",     "If-Range",
           "If-Match",          "If-None-Match",
           "If-Modified-Since", "If-Unmodified-Since"};
    apr_size_t i;

    for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        apr_table_unset(headers, names[i]);
    }
}

int us_response_forward(request_rec *r)
{
    const ap_filter_t *f = filter_of(r);
    const us_exchange *exchange = f != NULL ? f->ctx : NULL;

    if (exchange == NULL || exchange->response == NULL) {
        return DECLINED;
    }
    forward_address(r, exchange->response->forward_ip);
    if (exchange->is.body != US_PROXIED_NOBODY) {
        remove_wishes(r->headers_in);
    }
    return OK;
}
