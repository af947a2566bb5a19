/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * mod_usersync: every user whom Supabase Auth created or authenticated through
 * this server has a row in the application's own users table before the
 * application sees the request.
 *
 * This file has the module record, the hooks in their order with the reason
 * for each, the route table, and what a child sets up.
 */
#include "us_breaker.h"
#include "us_cache.h"
#include "us_config.h"
#include "us_dump.h"
#include "us_event.h"
#include "us_sign_in.h"
#include "us_sign_out.h"
#include "us_gate.h"
#include "us_hook.h"
#include "us_http.h"
#include "us_limits.h"
#include "us_log.h"
#include "us_pg.h"
#include "us_reply.h"
#include "us_response.h"
#include "us_stats.h"
#include "us_status.h"

#include <ap_mpm.h>
#include <http_core.h>
#include <http_protocol.h>
#include <http_request.h>
#include <mod_proxy.h>
#include <mod_status.h>
#include <ap_expr.h>

#include <apr_hash.h>
#include <apr_strings.h>

#include <string.h>

/* core_dir_config.expr_handler, of httpd 2.4.20, is the newest feature used */
#if !AP_MODULE_MAGIC_AT_LEAST(20120211, 53)
#error "httpd 2.4.20 or newer is needed"
#endif

/* --- the routes --- */

/* Who comes to a route: a client of this site, for whom Supabase is asked,
 * Supabase itself, or who looks after this server. */
typedef enum visitor { CLIENT, HOOK, EVENT, WATCHER } visitor;

/* SetHandler name -> who comes, and what Supabase is asked for. */
static const struct route {
    const char *handler;
    visitor visitor;
    us_operation operation; /* for a client */
} routes[] = {
#define ROUTE(handler, operation) {handler, CLIENT, operation},
    US_ROUTES(ROUTE)
#undef ROUTE
        {.handler = US_HOOK_HANDLER, .visitor = HOOK},
    {.handler = US_EVENT_HANDLER, .visitor = EVENT},
    {.handler = US_STATUS_HANDLER, .visitor = WATCHER},
};

#define ROUTE_COUNT (sizeof(routes) / sizeof(routes[0]))
static const struct route *find_route(const char *handler)
{
    apr_size_t i;

    if (handler == NULL
        || strncmp(handler, US_ROUTE_PREFIX, sizeof(US_ROUTE_PREFIX) - 1)
               != 0) {
        return NULL;
    }
    for (i = 0; i < ROUTE_COUNT; i++) {
        if (strcmp(handler, routes[i].handler) == 0) {
            return &routes[i];
        }
    }
    return NULL;
}

/* --- claiming the URI --- */

/*
 * The handler that a section of the configuration sets, or NULL; r->handler is
 * set only long after the URI has been mapped.  SetHandler always stores an
 * expression, even for a plain name.
 */
static const char *handler_of(request_rec *r, const core_dir_config *section)
{
    const char *wrong = NULL;
    const char *name;

    if (section->expr_handler == NULL) {
        return section->handler;
    }
    name = ap_expr_str_exec(r, section->expr_handler, &wrong);
    return wrong == NULL ? name : NULL;
}

/*
 * translate_name: our routes have no file.  Without this hook, httpd walks the
 * file system for one, mod_rewrite and mod_alias map the path, and mod_proxy
 * claims it under ProxyPass /.  Only <Location> sections are known at this
 * time; a route in another section takes the normal path.
 */
static int translate_name(request_rec *r)
{
    const struct route *route = find_route(
        handler_of(r, ap_get_core_module_config(r->per_dir_config)));

    if (route == NULL) {
        return DECLINED;
    }
    /* map_to_storage cannot see the section: httpd has reset it there */
    ap_set_module_config(r->request_config, &usersync_module,
                         apr_pmemdup(r->pool, route, sizeof(*route)));
    r->filename = apr_pstrdup(r->pool, route->handler);
    return OK;
}

static int map_to_storage(request_rec *r)
{
    return ap_get_module_config(r->request_config, &usersync_module) != NULL
               ? OK
               : DECLINED;
}

/* --- the handler --- */

/* Is this below a <Location> with a literal path, so not the route itself? */
static int is_below_route(request_rec *r)
{
    const core_server_config *core
        = ap_get_core_module_config(r->server->module_config);
    ap_conf_vector_t **sections = (ap_conf_vector_t **)core->sec_url->elts;
    int below = 0;
    int i;

    for (i = 0; i < core->sec_url->nelts; i++) {
        const core_dir_config *section
            = ap_get_core_module_config(sections[i]);
        apr_size_t len = strlen(section->d);
        const char *handler;

        if (section->r != NULL || section->d_is_fnmatch
            || strncmp(section->d, r->uri, len) != 0) {
            continue;
        }
        handler = handler_of(r, section);
        if (handler == NULL || strcmp(handler, r->handler) != 0) {
            continue;
        }
        if (r->uri[len] == '\0') {
            return 0;
        }
        below |= r->uri[len] == '/' || (len > 0 && section->d[len - 1] == '/');
    }
    return below;
}

/* What child_init made for each server; read-only after that. */
static apr_hash_t *services_of; /* server_rec * -> us_services */
static apr_hash_t *gate_of;     /* server_rec * -> us_gate */
static apr_hash_t *hook_of;     /* server_rec * -> us_hook */
static apr_hash_t *event_of;    /* server_rec * -> us_event */
static apr_hash_t *response_of; /* server_rec * -> us_response */

/* The checks before the body is read. */
static us_outcome check_request(request_rec *r)
{
    if (is_below_route(r)) {
        return US_NOT_FOUND;
    }
    if (r->method_number == M_OPTIONS) {
        return US_OPTIONS;
    }
    return r->method_number == M_POST ? US_OK : US_METHOD_NOT_ALLOWED;
}

static int answer_route(request_rec *r, us_call *call, us_operation operation)
{
    const us_services *services
        = apr_hash_get(services_of, &r->server, sizeof(r->server));

    if (services == NULL) {
        us_fail(call, US_NOT_CONFIGURED,
                "this server has no project: UserSyncSupabaseURL or "
                "UserSyncSupabaseKey is missing, or libcurl does not accept "
                "them");
        return us_reply_send(r, call, US_NOT_CONFIGURED, NULL);
    }
    return operation == US_LOG_OUT ? us_sign_out(r, call, services->supabase)
                                   : us_sign_in(r, call, services, operation);
}

static int answer_hook(request_rec *r, us_call *call)
{
    us_hook *hook = apr_hash_get(hook_of, &r->server, sizeof(r->server));

    if (hook == NULL) {
        us_fail(call, US_NOT_CONFIGURED,
                "this server has no hook: UserSyncHookSecret is missing, or "
                "OpenSSL or libcurl could not be set up for it");
        return us_reply_send(r, call, US_NOT_CONFIGURED, NULL);
    }
    return us_hook_answer(r, call, hook);
}

static int answer_event(request_rec *r, us_call *call)
{
    us_event *event = apr_hash_get(event_of, &r->server, sizeof(r->server));

    if (event == NULL) {
        us_fail(call, US_NOT_CONFIGURED,
                "this server takes no events: UserSyncHookSecret and "
                "UserSyncEventHeader, or UserSyncColumn updated_at, are "
                "missing, or OpenSSL could not be set up for it");
        return us_reply_send(r, call, US_NOT_CONFIGURED, NULL);
    }
    return us_event_answer(r, call, event);
}

static int answer(request_rec *r, us_call *call, const struct route *route)
{
    switch (route->visitor) {
    case HOOK:
        return answer_hook(r, call);
    case EVENT:
        return answer_event(r, call);
    case CLIENT:
    case WATCHER:
        break;
    }
    return answer_route(r, call, route->operation);
}

/* The header with a client's secret; NULL: the route has none. */
static const char *secret_header(const request_rec *r,
                                 const struct route *route)
{
    const us_event_header *header
        = us_config_event_header(us_config_server(r->server));

    if (route->visitor == EVENT && header != NULL) {
        return header->name;
    }
    return route->visitor == CLIENT && route->operation == US_LOG_OUT
               ? "Authorization"
               : NULL;
}

static us_door door_of(const struct route *route)
{
    switch (route->visitor) {
    case HOOK:
        return US_DOOR_HOOK;
    case EVENT:
        return US_DOOR_EVENT;
    case CLIENT:
    case WATCHER:
        break;
    }
    return (us_door)route->operation; /* in the same order */
}

static int handle(request_rec *r)
{
    /* A route in a <Location> stays a route whatever comes later: a
     * RewriteRule in <Location "/"> would otherwise pass the password to its
     * back end. */
    const struct route *route
        = ap_get_module_config(r->request_config, &usersync_module);
    const char *secret;
    us_outcome outcome;
    us_call call;

    if (route == NULL) {
        route = find_route(r->handler);
    }
    if (route == NULL) {
        return us_response_check(r);
    }
    r->handler = route->handler;
    if (route->visitor == WATCHER) {
        return is_below_route(r) ? HTTP_NOT_FOUND : us_status_answer(r);
    }
    memset(&call, 0, sizeof(call));
    call.pool = r->pool;
    call.door = door_of(route);
    call.log.r = r;
    call.log.request_id = us_reply_request_id(r);
    call.upstream_time = -1;
    call.store_time = -1;
    secret = secret_header(r, route);
    if (secret != NULL) {
        /* it is for this route alone: no log format or filter finds it
         * later, however the request ends */
        call.authorization = apr_table_get(r->headers_in, secret);
        apr_table_unset(r->headers_in, secret);
    }
    outcome = check_request(r);
    if (outcome != US_OK) {
        return us_reply_send(r, &call, outcome, NULL);
    }
    return answer(r, &call, route);
}

/* --- the gate --- */

static int post_read_request(request_rec *r)
{
    us_gate_receive(r);
    return DECLINED;
}

/* Our own routes create the row themselves. */
static int fixups(request_rec *r)
{
    if (ap_get_module_config(r->request_config, &usersync_module) != NULL
        || !us_gate_stands(r)) {
        return DECLINED;
    }
    return us_gate_check(r,
                         apr_hash_get(gate_of, &r->server, sizeof(r->server)));
}

/* --- what mod_proxy forwards --- */

static void insert_filter(request_rec *r)
{
    us_response_insert(
        r, apr_hash_get(response_of, &r->server, sizeof(r->server)));
}

/* --- start --- */

static int pre_config(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp)
{
    (void)plog;
    (void)ptemp;
    return us_cache_pre_config(pconf);
}

/* Is there a door that is worth a cache, so beside the routes? */
static int uses_cache(const server_rec *s)
{
    int uses = us_config_server(s)->cache != NULL;

    for (; s != NULL && !uses; s = s->next) {
        const us_server_conf *conf = us_config_server(s);

        uses = us_config_has_door(conf);
    }
    return uses;
}

/* configtest does not get here; the first of two configuration passes returns
 * at once. */
static int post_config(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp,
                       server_rec *s)
{
    apr_status_t rv;

    (void)plog;
    if (ap_state_query(AP_SQ_MAIN_STATE) == AP_SQ_MS_CREATE_PRE_CONFIG) {
        return OK;
    }
    rv = us_stats_share(s->process->pool);
    if (rv == APR_SUCCESS) {
        rv = us_limits_create(pconf, s);
    }
    if (rv == APR_SUCCESS) {
        rv = us_breaker_create(pconf, s);
    }
    if (rv == APR_SUCCESS) {
        rv = us_users_share(pconf, s);
    }
    if (rv != APR_SUCCESS) {
        ap_log_error(APLOG_MARK, APLOG_CRIT, rv, s,
                     "US013: no shared memory for UserSyncMaxConcurrent, "
                     "UserSyncCircuitBreaker and the users tables");
        return HTTP_INTERNAL_SERVER_ERROR;
    }
    if (uses_cache(s)) {
        rv = us_cache_create(pconf, ptemp, s, us_config_server(s)->cache);
        if (rv != APR_SUCCESS) {
            ap_log_error(
                APLOG_MARK, APLOG_CRIT, rv, s,
                "US016: the cache of known users cannot be created: see "
                "UserSyncCache");
            return HTTP_INTERNAL_SERVER_ERROR;
        }
    }
    us_config_notices(ptemp, s);
    return OK;
}

/* In the parent: a child that was killed could not free its seats itself. */
static void child_status(server_rec *s, pid_t pid, ap_generation_t generation,
                         int slot, mpm_child_status state)
{
    (void)s;
    (void)generation;
    (void)slot;
    if (state == MPM_CHILD_EXITED) {
        us_limits_child_gone(pid);
    }
}

static void child_environment(apr_pool_t *pchild, server_rec *s)
{
    (void)pchild;
    (void)s;
    us_pg_child_environment();
}

/* The Supabase client of a configuration: created once, and shared by the
 * vhosts that inherit it. */
static us_supabase *supabase_of(apr_pool_t *pchild, apr_hash_t *known,
                                us_server_conf *conf)
{
    us_supabase *supabase = apr_hash_get(known, &conf, sizeof(conf));

    if (supabase == NULL) {
        us_server_conf **key = apr_pmemdup(pchild, &conf, sizeof(conf));

        supabase = us_supabase_create(pchild, conf);
        apr_hash_set(known, key, sizeof(*key), supabase);
    }
    return supabase;
}

/* The services of a server's routes; NULL: the client cannot be created. */
static us_services *services_for(apr_pool_t *pchild, apr_hash_t *known,
                                 us_server_conf *conf, us_users *users)
{
    us_services *services = apr_pcalloc(pchild, sizeof(*services));

    services->supabase = supabase_of(pchild, known, conf);
    services->users = users;
    return services->supabase != NULL ? services : NULL;
}

/*
 * Everything with a socket is created here, after the fork: processes must not
 * share libcurl's and libpq's handles.  There is one store per server: two
 * vhosts may have the same lines of ours and different databases.
 */
static void child_init(apr_pool_t *pchild, server_rec *s)
{
    apr_hash_t *known = apr_hash_make(pchild);
    int has_http = us_http_start(pchild);
    int index = 0;

    services_of = apr_hash_make(pchild);
    gate_of = apr_hash_make(pchild);
    hook_of = apr_hash_make(pchild);
    event_of = apr_hash_make(pchild);
    response_of = apr_hash_make(pchild);
    us_stats_child_init();
    us_status_child_init(pchild);
    us_limits_child_init(s);
    us_cache_child_init(pchild, s);
    if (!has_http) {
        ap_log_error(APLOG_MARK, APLOG_CRIT, 0, s,
                     "libcurl cannot be started: every sign-in will be "
                     "refused");
    }
    for (; s != NULL; s = s->next, index++) {
        us_server_conf *conf = us_config_server(s);
        int has_routes = has_http && us_config_is_complete(conf);
        server_rec **key;
        us_users *users;

        if (!has_routes && !us_config_has_door(conf)) {
            continue;
        }
        key = apr_pmemdup(pchild, &s, sizeof(s));
        users = us_users_create(pchild, s, index);
        us_status_add(s, users);
        if (has_routes) {
            apr_hash_set(services_of, key, sizeof(*key),
                         services_for(pchild, known, conf, users));
        }
        if (us_config_has_gate(conf)) {
            apr_hash_set(gate_of, key, sizeof(*key),
                         us_gate_create(pchild, s, users));
        }
        if (us_config_has_response(conf)) {
            apr_hash_set(response_of, key, sizeof(*key),
                         us_response_create(pchild, s, users));
        }
        if (conf->hook_secrets != NULL) {
            apr_hash_set(hook_of, key, sizeof(*key),
                         has_http ? us_hook_create(pchild, s, users) : NULL);
        }
        if (us_config_has_secrets(conf)) {
            apr_hash_set(event_of, key, sizeof(*key),
                         us_event_create(pchild, s, users));
        }
    }
}

static void register_hooks(apr_pool_t *pool)
{
    /* modules that would take our paths if they came first */
    static const char *const mappers[]
        = {"mod_rewrite.c", "mod_alias.c", "mod_proxy.c", NULL};
    static const char *const handlers[] = {"mod_proxy.c", NULL};
    /* these may set the user only there: SSLUserName, SetEnv, Session */
    static const char *const tellers[]
        = {"mod_ssl.c", "mod_env.c", "mod_session.c", NULL};
    /* modules that redirect the request */
    static const char *const movers[] = {"mod_dir.c", NULL};

    (void)pool;
    us_pg_register_hooks();
    ap_hook_pre_config(pre_config, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_check_config(us_config_check, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_test_config(us_dump_config, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_post_config(post_config, NULL, NULL, APR_HOOK_MIDDLE);
    /* before mod_dbd, which connects in its own child_init */
    ap_hook_child_init(child_environment, NULL, NULL, APR_HOOK_REALLY_FIRST);
    /* after mod_dbd: its pools must exist, and be destroyed after ours */
    ap_hook_child_init(child_init, NULL, NULL, APR_HOOK_LAST);
    ap_hook_child_status(child_status, NULL, NULL, APR_HOOK_MIDDLE);
    /* before mod_headers' "early": the administrator's headers stay */
    ap_hook_post_read_request(post_read_request, NULL, NULL,
                              APR_HOOK_REALLY_FIRST);
    ap_hook_translate_name(translate_name, NULL, mappers, APR_HOOK_FIRST);
    ap_hook_map_to_storage(map_to_storage, NULL, NULL, APR_HOOK_FIRST);
    ap_hook_fixups(fixups, tellers, movers, APR_HOOK_MIDDLE);
    ap_hook_insert_filter(insert_filter, NULL, NULL, APR_HOOK_MIDDLE);
    /* before mod_proxy: under ProxyPass / it would pass the password on */
    ap_hook_handler(handle, NULL, handlers, APR_HOOK_FIRST);
    /* mod_proxy's own, after all others: what they add is there already */
    APR_OPTIONAL_HOOK(proxy, fixups, us_response_forward, NULL, NULL,
                      APR_HOOK_LAST);
    us_response_register();
    APR_OPTIONAL_HOOK(ap, status_hook, us_status_extend, NULL, NULL,
                      APR_HOOK_MIDDLE);
}

module AP_MODULE_DECLARE_DATA usersync_module = {
    STANDARD20_MODULE_STUFF, us_config_create_dir,   us_config_merge_dir,
    us_config_create_server, us_config_merge_server, us_directives,
    register_hooks,          AP_MODULE_FLAG_NONE,
};
