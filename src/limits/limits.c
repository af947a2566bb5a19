/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "us_client.h"
#include "us_limits.h"
#include "us_log.h"
#include "seats.h"

#include <ap_mpm.h>
#include <http_core.h>
#include <util_cfgtree.h>

#include <stdlib.h>
#include <strings.h>

/* How often a request tries to take a contended seat before it gives up. */
#define ENTER_TRIES 100

/* Of this generation; set before the children are created. */
static us_seat_counts limit; /* how many may be taken */
static us_seat_counts share; /* how many of them one client may take when seats
                              * are scarce */
static us_seat_counts forwards; /* how many hooks may wait to be forwarded */

/* --- set-up --- */

/* The number in the last line of this directive, or 0. */
static int number_of(const char *directive)
{
    const ap_directive_t *node;
    int number = 0;

    for (node = ap_conftree; node != NULL; node = node->next) {
        if (strcasecmp(node->directive, directive) == 0) {
            number = (int)strtol(node->args, NULL, 10);
        }
    }
    return number;
}

/* mod_http2's threads in a child: from its directives, or its defaults. */
static int http2_threads(int mpm_threads)
{
    int most = number_of("H2MaxWorkers");
    int least = number_of("H2MinWorkers");

    if (most > 0) {
        return most;
    }
    most = 3 * (least > 0 ? least : mpm_threads) / 2;
    return most > 4 ? most : 4;
}

static apr_int64_t at_least_one(apr_int64_t number)
{
    return number > 1 ? number : 1;
}

/* Keeps some threads of each kind free for other requests, if there are
 * more. */
static apr_int64_t all_but(apr_int64_t kept, apr_int64_t threads)
{
    return at_least_one(threads - kept);
}

/* What the doors of all servers need besides a sign-in's own thread, each for
 * one request: its hook, and what the hook is forwarded to. */
static int hook_threads(const server_rec *s)
{
    int threads = 0;

    for (; s != NULL && threads < 2; s = s->next) {
        const us_server_conf *conf = us_config_server(s);

        if (conf->hook_secrets != NULL) {
            threads = *us_config_hook_forward(conf) != '\0' ? 2 : 1;
        }
    }
    return threads;
}

/*
 * Percentages refer to the MPM's threads: a request over HTTP/2 runs on one of
 * mod_http2's threads, and at worst also holds the MPM's thread of its
 * connection.
 *
 * A sign-in may make Supabase call a hook on this server: if all threads
 * waited for Supabase, each would wait for the others.  So an eighth is kept
 * for hooks.  The project's own hook may be behind this server, too: then
 * another eighth is kept for it, and no more hooks than that wait for it.
 *
 * That holds for each child as well: mpm_event keeps connections open, and the
 * request that all others wait for may come on one that leads to this child.
 * So sign-ins and hooks that are forwarded leave one of its threads free, and
 * one of mod_http2's, on which all of them may come.
 */
static void compute_limits(const server_rec *s)
{
    const us_server_conf *conf = us_config_server(s);
    int daemons = 0;
    int threads = 0;
    int threaded = AP_MPMQ_NOT_SUPPORTED;
    int number = us_config_max_concurrent(conf);
    int kept = hook_threads(s);
    int http2;
    apr_int64_t most;
    apr_int64_t left;

    ap_mpm_query(AP_MPMQ_MAX_DAEMONS, &daemons);
    ap_mpm_query(AP_MPMQ_MAX_THREADS, &threads);
    ap_mpm_query(AP_MPMQ_IS_THREADED, &threaded);
    daemons = daemons > 0 ? daemons : 1;
    threads = threads > 0 ? threads : 1;
    http2 = threaded != AP_MPMQ_NOT_SUPPORTED ? http2_threads(threads) : 1;
    most = (apr_int64_t)daemons * threads;
    limit.all = number > 0
                    ? number
                    : most * us_config_max_concurrent_percent(conf) / 100;
    forwards.all = at_least_one(most / 8);
    forwards.child = at_least_one((http2 < threads ? http2 : threads) / 8);
    most -= kept * at_least_one(most / 8);
    limit.all = at_least_one(limit.all < most ? limit.all : most);
    left = kept > 1 ? forwards.child + 1 : 1;
    limit.child = all_but(left, threads);
    limit.http2 = all_but(left, http2);
    share.all = us_config_client_share(conf, limit.all);
    share.child = us_config_client_share(conf, limit.child);
    share.http2 = us_config_client_share(conf, limit.http2);
}

apr_status_t us_limits_create(apr_pool_t *pconf, server_rec *s)
{
    apr_status_t rv = us_client_create();

    compute_limits(s);
    return rv == APR_SUCCESS ? us_seats_create(pconf, (int)limit.child) : rv;
}

void us_limits_child_init(server_rec *s)
{
    if (!us_seats_child_init()) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, s,
                     "US011: no slot is free to count this child's requests "
                     "among the others'");
    }
    ap_log_error(APLOG_MARK, APLOG_DEBUG, 0, s,
                 "at most %" APR_INT64_T_FMT
                 " requests of all children may wait for Supabase, "
                 "%" APR_INT64_T_FMT " of this one",
                 limit.all, limit.child < limit.all ? limit.child : limit.all);
}

void us_limits_child_gone(pid_t pid)
{
    us_seats_child_gone(pid);
}

int us_limits_connections_hold_threads(void)
{
    int async = AP_MPMQ_NOT_SUPPORTED;

    ap_mpm_query(AP_MPMQ_IS_ASYNC, &async);
    return async == AP_MPMQ_NOT_SUPPORTED;
}

/* --- seats --- */

/* A request over HTTP/2 runs on a thread of mod_http2. */
static us_seat seat_of(const request_rec *r)
{
    return us_seats_of(us_client_of(r), r->connection->master != NULL);
}

/* Is less than a fifth of the seats left? */
static int scarce(apr_int64_t taken, apr_int64_t seats)
{
    return taken * 5 > seats * 4;
}

/* Does a client hold more than its share of a scarce resource? */
static int exceeds_share(us_seat seat, const us_seat_counts *taken, int more)
{
    int all = scarce(taken->all + more, limit.all);
    int child = scarce(taken->child + more, limit.child);
    int http2 = seat.http2 && scarce(taken->http2 + more, limit.http2);
    us_seat_counts held;

    if (!all && !child && !http2) {
        return 0;
    }
    held = us_seats_held(seat);
    return (all && held.all + more > share.all)
           || (child && held.child + more > share.child)
           || (http2 && held.http2 + more > share.http2);
}

/*
 * Why this request may not have a seat, or NULL.
 *
 * more  1: before it is counted, 0: after that
 */
static const char *refuse(us_seat seat, int more)
{
    us_seat_counts taken = us_seats_taken();

    if (taken.all + more > limit.all) {
        return "UserSyncMaxConcurrent is reached: Supabase is slow, or there "
               "are more sign-ins than this server has threads for";
    }
    if (taken.child + more > limit.child) {
        return "this child has no thread left that may wait for Supabase: "
               "more children from the start (StartServers) or more threads "
               "in each (ThreadsPerChild) would serve more";
    }
    if (seat.http2 && taken.http2 + more > limit.http2) {
        return "no more of mod_http2's threads in this child may wait for "
               "Supabase: see H2MaxWorkers";
    }
    if (exceeds_share(seat, &taken, more)) {
        return "UserSyncMaxPerClient is reached: most of "
               "UserSyncMaxConcurrent is in use, and this client has its "
               "share; behind a proxy all clients are one unless mod_remoteip "
               "tells them apart";
    }
    return NULL;
}

int us_limits_is_full(const request_rec *r, const char **cause)
{
    *cause = refuse(seat_of(r), 1);
    return *cause != NULL;
}

/*
 * Counts first and checks afterwards: if two requests want the last seat, both
 * may step back, but never do both get it.  The one that steps back last sees
 * the seat free and tries again.
 */
int us_limits_enter(const request_rec *r, const char **cause)
{
    us_seat seat = seat_of(r);
    int tries;

    for (tries = 0; tries < ENTER_TRIES; tries++) {
        *cause = refuse(seat, 1);
        if (*cause != NULL) {
            return 0;
        }
        us_seats_take(seat);
        *cause = refuse(seat, 0);
        if (*cause == NULL) {
            return 1;
        }
        us_seats_leave(seat);
    }
    return 0;
}

void us_limits_leave(const request_rec *r)
{
    us_seats_leave(seat_of(r));
}

us_limits_now us_limits_look(void)
{
    us_limits_now now = {us_seats_taken().all, limit.all};

    return now;
}

/* --- forwarded hooks --- */

/* As above: counts first and checks afterwards. */
int us_limits_forward_enter(void)
{
    int tries;

    for (tries = 0; tries < ENTER_TRIES; tries++) {
        us_seat_counts waiting = us_seats_forwarded();

        if (waiting.all >= forwards.all || waiting.child >= forwards.child) {
            return 0;
        }
        us_seats_forward(1);
        waiting = us_seats_forwarded();
        if (waiting.all <= forwards.all && waiting.child <= forwards.child) {
            return 1;
        }
        us_seats_forward(-1);
    }
    return 0;
}

void us_limits_forward_leave(void)
{
    us_seats_forward(-1);
}
