/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "status.h"
#include "us_config.h"
#include "us_reply.h"

#include <http_config.h>
#include <http_protocol.h>
#include <http_request.h>
#include <mod_status.h>

#include <apr_strings.h>

#include <string.h>

/* The tables of this child; read-only once it serves. */
typedef struct watched {
    const char *name; /* of its server */
    us_users *users;
} watched;

static apr_array_header_t *watched_tables;

void us_status_child_init(apr_pool_t *pchild)
{
    watched_tables = apr_array_make(pchild, 2, sizeof(watched));
}

/* "NAME", with ":PORT" if the server has one of its own. */
static const char *name_of(apr_pool_t *pool, const server_rec *s)
{
    const char *name = s->server_hostname != NULL ? s->server_hostname : "-";
    int port
        = s->is_virtual && s->addrs != NULL ? s->addrs->host_port : s->port;

    return port != 0 ? apr_psprintf(pool, "%s:%d", name, port) : name;
}

/* Servers on several addresses may share a name, and metrics must not: the
 * second one is "NAME#2". */
static const char *unique_name(apr_pool_t *pool, const server_rec *s)
{
    const char *name = name_of(pool, s);
    const char *unique = name;
    int count = 1;
    int i = 0;

    while (i < watched_tables->nelts) {
        if (strcmp(APR_ARRAY_IDX(watched_tables, i, watched).name, unique)
            == 0) {
            unique = apr_psprintf(pool, "%s#%d", name, ++count);
            i = 0;
        }
        else {
            i++;
        }
    }
    return unique;
}

void us_status_add(server_rec *s, us_users *users)
{
    const char *name = unique_name(watched_tables->pool, s);
    watched *added = apr_array_push(watched_tables);

    added->name = name;
    added->users = users;
}

/* --- gathering --- */

const char *us_status_door(us_door door)
{
    static const char prefix[] = US_ROUTE_PREFIX;

    return door == US_DOOR_REPORT ? "report"
                                  : us_reply_door(door) + sizeof(prefix) - 1;
}

const char *us_status_timing(int timing)
{
    static const char *const names[US_TIMINGS] = {[US_SIGN_UP] = "sign_up",
                                                  [US_LOG_IN] = "login",
                                                  [US_REFRESH] = "refresh",
                                                  [US_LOG_OUT] = "logout",
                                                  [US_TIMING_STORE] = "store"};

    return names[timing];
}

apr_int64_t us_status_sum(const apr_uint64_t *counts, int i)
{
    const char *code = us_reply_code((us_outcome)i);
    apr_int64_t sum = 0;
    int k;

    for (k = 0; k < US_OUTCOME_COUNT; k++) {
        if (strcmp(us_reply_code((us_outcome)k), code) == 0) {
            if (k < i) {
                return -1;
            }
            sum += (apr_int64_t)counts[k];
        }
    }
    return sum;
}

apr_int64_t us_status_count(const us_status_view *view, us_door door, int i)
{
    return us_status_sum(view->stats.outcomes[door], i);
}

int us_status_is_well(const us_status_view *view)
{
    int i;

    for (i = 0; i < view->tables->nelts; i++) {
        if (APR_ARRAY_IDX(view->tables, i, us_status_table).outcome != US_OK) {
            return 0;
        }
    }
    for (i = 0; i < view->circuits->nelts; i++) {
        if (APR_ARRAY_IDX(view->circuits, i, us_circuit).is_open) {
            return 0;
        }
    }
    return 1;
}

static void look_at_tables(request_rec *r, us_status_view *view)
{
    int i;

    view->tables = apr_array_make(r->pool, 4, sizeof(us_status_table));
    for (i = 0; watched_tables != NULL && i < watched_tables->nelts; i++) {
        const watched *each = &APR_ARRAY_IDX(watched_tables, i, watched);
        us_status_table *table = apr_array_push(view->tables);
        us_call call;

        us_reply_begin(r, &call, US_DOOR_GATE);
        table->server = each->name;
        table->outcome = us_users_check(each->users, &call);
        table->connections = us_users_look(each->users);
        table->cause
            = table->outcome == US_OK ? NULL : us_reply_code(table->outcome);
        if (table->outcome != US_OK && call.cause != NULL) {
            table->cause = call.cause;
        }
        if (table->outcome == US_OK || table->outcome == US_TABLE_MISFIT) {
            const char *misfit = us_users_misfit(each->users, r->pool);

            table->is_misfit = misfit != NULL;
            table->cause = misfit != NULL ? misfit : table->cause;
        }
    }
}

static void gather(request_rec *r, us_status_view *view)
{
    us_circuit circuit;
    int i;

    memset(view, 0, sizeof(*view));
    view->now = apr_time_now();
    us_stats_read(&view->stats);
    view->limits = us_limits_look();
    view->trouble_count = us_stats_troubles(view->troubles);
    view->circuits = apr_array_make(r->pool, 4, sizeof(us_circuit));
    for (i = 0; us_breaker_look(i, &circuit); i++) {
        APR_ARRAY_PUSH(view->circuits, us_circuit) = circuit;
    }
    look_at_tables(r, view);
}

/* --- the answer --- */

typedef enum format { HTML, JSON, OPENMETRICS, PROMETHEUS } format;

/* What a query of this name says; "" without a value, NULL: it is not there. */
static const char *query_value(request_rec *r, const char *name)
{
    const char *rest = r->args != NULL ? r->args : "";
    apr_size_t len = strlen(name);

    while (*rest != '\0') {
        const char *pair = ap_getword(r->pool, &rest, '&');

        if (strncmp(pair, name, len) == 0
            && (pair[len] == '=' || pair[len] == '\0')) {
            return pair + len + (pair[len] == '=');
        }
    }
    return NULL;
}

static format format_of(request_rec *r)
{
    const char *asked = query_value(r, "format");
    const char *accept = apr_table_get(r->headers_in, "Accept");

    if (asked == NULL) {
        asked = accept == NULL ? "" : accept;
    }
    if (strstr(asked, "openmetrics") != NULL) {
        return OPENMETRICS;
    }
    if (strstr(asked, "html") != NULL) {
        return HTML;
    }
    if (strstr(asked, "json") != NULL) {
        return JSON;
    }
    return strstr(asked, "prometheus") != NULL
                   || strstr(asked, "version=0.0.4") != NULL
               ? PROMETHEUS
               : HTML;
}

static int send_text(request_rec *r, const char *type, apr_bucket_brigade *out)
{
    apr_off_t length = 0;

    apr_table_setn(r->headers_out, "Cache-Control", "no-store");
    apr_table_setn(r->headers_out, "X-Content-Type-Options", "nosniff");
    ap_set_content_type(r, type);
    apr_brigade_length(out, 1, &length);
    ap_set_content_length(r, length);
    APR_BRIGADE_INSERT_TAIL(
        out, apr_bucket_eos_create(r->connection->bucket_alloc));
    return ap_pass_brigade(r->output_filters, out) == APR_SUCCESS
               ? OK
               : AP_FILTER_ERROR;
}

/* For load balancers: 200 or 503, and a word on what is wrong. */
static int send_check(request_rec *r, apr_bucket_brigade *out,
                      const us_status_view *view)
{
    int well = us_status_is_well(view);

    r->status = well ? HTTP_OK : HTTP_SERVICE_UNAVAILABLE;
    apr_brigade_puts(out, NULL, NULL, well ? "ok\n" : "not well\n");
    return send_text(r, "text/plain", out);
}

int us_status_answer(request_rec *r)
{
    apr_bucket_brigade *out
        = apr_brigade_create(r->pool, r->connection->bucket_alloc);
    us_status_view *view = apr_palloc(r->pool, sizeof(*view));

    if (r->method_number != M_GET) {
        ap_allow_standard_methods(r, REPLACE_ALLOW, M_GET, -1);
        return HTTP_METHOD_NOT_ALLOWED;
    }
    gather(r, view);
    if (query_value(r, "check") != NULL) {
        return send_check(r, out, view);
    }
    apr_table_setn(r->headers_out, "Vary", "Accept");
    switch (format_of(r)) {
    case JSON:
        us_status_json(out, view);
        return send_text(r, "application/json", out);
    case OPENMETRICS:
        us_status_metrics(out, view, 1);
        return send_text(r,
                         "application/openmetrics-text; version=1.0.0; "
                         "charset=utf-8",
                         out);
    case PROMETHEUS:
        us_status_metrics(out, view, 0);
        return send_text(r, "text/plain; version=0.0.4; charset=utf-8", out);
    case HTML:
        break;
    }
    us_status_html(out, view);
    apr_table_setn(r->headers_out, "Content-Security-Policy",
                   "default-src 'none'; style-src 'unsafe-inline'; "
                   "frame-ancestors 'none'");
    return send_text(r, "text/html; charset=utf-8", out);
}

int us_status_extend(request_rec *r, int flags)
{
    apr_bucket_brigade *out;
    us_status_view *view;
    apr_size_t len;
    char *text;

    if (!us_config_server_status(us_config_server(r->server))
        || (flags & AP_STATUS_NOTABLE) != 0) {
        return OK;
    }
    out = apr_brigade_create(r->pool, r->connection->bucket_alloc);
    view = apr_palloc(r->pool, sizeof(*view));
    gather(r, view);
    if ((flags & AP_STATUS_SHORT) != 0) {
        us_status_lines(out, view);
    }
    else {
        us_status_html_block(out, view);
    }
    if (apr_brigade_pflatten(out, &text, &len, r->pool) == APR_SUCCESS) {
        ap_rwrite(text, (int)len, r);
    }
    return OK;
}
