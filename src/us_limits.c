/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "us_clock.h"
#include "us_limits.h"
#include "us_log.h"

#include <ap_mpm.h>
#include <http_core.h>
#include <util_cfgtree.h>

#include <apr_shm.h>
#include <apr_strings.h>

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/*
 * One child's count.  The parent clears it when the child is gone, however it
 * ended; the child itself never does, for a thread of mod_http2's may outlive
 * the child's pools.
 */
typedef struct slot {
    _Atomic int pid; /* 0: free */
    _Atomic int waiting;
} slot;

/*
 * open_until is the whole state: 0 closed, in the future open, in the past
 * due for a probe, which claims it by moving it into the future.  The value
 * that it put there is its ticket: whoever finds another one there later has
 * been overtaken.
 */
struct us_breaker {
    _Atomic int failures; /* in a row */
    _Atomic apr_int64_t open_until;
    int threshold;
    apr_interval_time_t duration;
};

typedef struct shared {
    int slots;
    _Atomic int used; /* slots that were ever taken are the first of them */
    int breakers;
    slot *slot;          /* both arrays stand behind this struct; every */
    us_breaker *breaker; /* child maps them at the same address */
} shared;

/* Of this generation; made before the children are. */
static shared *memory;
static const apr_array_header_t *breaker_urls;

/* Of this child. */
static slot *own_slot;
static slot lone_slot; /* when there was none to be had */
static _Atomic int
    http2_waiting; /* those of own_slot on mod_http2's threads */
static int limit_total;
static int limit_child;
static int limit_http2;

/* --- set-up --- */

#define OPERATIONS 2 /* us_operation */

/*
 * Children that go stay for as long as their last requests take, and worker
 * puts new ones into their places of the scoreboard meanwhile: there can be
 * far more of them than ServerLimit says.
 */
#define SLOTS_FOR(daemons) (4 * (daemons) + 64)

/* Steps back from a place that others want, too, before it is given up. */
#define ENTER_TRIES 100

/* The distinct URLs of all servers. */
static apr_array_header_t *urls_of(apr_pool_t *pool, server_rec *s)
{
    apr_array_header_t *urls = apr_array_make(pool, 2, sizeof(char *));
    int i;

    for (; s != NULL; s = s->next) {
        const char *url = us_config_server(s)->url;

        for (i = 0; url != NULL && i < urls->nelts; i++) {
            if (strcmp(url, APR_ARRAY_IDX(urls, i, const char *)) == 0) {
                url = NULL;
            }
        }
        if (url != NULL) {
            APR_ARRAY_PUSH(urls, const char *) = url;
        }
    }
    return urls;
}

static void set_up_breakers(const us_server_conf *conf)
{
    int i;

    for (i = 0; i < memory->breakers; i++) {
        memory->breaker[i].threshold = us_config_breaker_failures(conf);
        memory->breaker[i].duration = us_config_breaker_duration(conf);
    }
}

/* The shared memory goes with the configuration. */
static apr_status_t forget(void *data)
{
    (void)data;
    memory = NULL;
    return APR_SUCCESS;
}

apr_status_t us_limits_create(apr_pool_t *pconf, server_rec *s)
{
    const us_server_conf *conf = us_config_server(s);
    apr_size_t slots_size;
    apr_shm_t *shm;
    apr_status_t rv;
    int daemons = 0;
    int slots;
    int breakers;

    breaker_urls = urls_of(pconf, s);
    breakers = us_config_breaker_failures(conf) > 0
                   ? breaker_urls->nelts * OPERATIONS
                   : 0;
    ap_mpm_query(AP_MPMQ_HARD_LIMIT_DAEMONS, &daemons);
    slots = SLOTS_FOR(daemons);
    slots_size = (apr_size_t)slots * sizeof(slot);
    rv = apr_shm_create(&shm,
                        sizeof(shared) + slots_size
                            + (apr_size_t)breakers * sizeof(us_breaker),
                        NULL, pconf);
    if (rv != APR_SUCCESS) {
        return rv;
    }
    memory = apr_shm_baseaddr_get(shm);
    memset(memory, 0, apr_shm_size_get(shm));
    memory->slots = slots;
    memory->breakers = breakers;
    memory->breaker = (us_breaker *)(void *)(memory + 1);
    memory->slot = (slot *)(void *)(memory->breaker + breakers);
    set_up_breakers(conf);
    apr_pool_cleanup_register(pconf, NULL, forget, apr_pool_cleanup_null);
    return APR_SUCCESS;
}

/* The number that the last line of this directive gives, or 0. */
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

/* mod_http2's threads in a child: its directives, or its defaults. */
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

/*
 * Shares are of the MPM's threads: a request over HTTP/2 runs on one of
 * mod_http2's, and at worst holds the MPM's thread of its connection as well.
 * A threaded child always keeps a thread of each kind for other requests.
 */
static void compute_limits(const us_server_conf *conf)
{
    int daemons = 0;
    int threads = 0;
    int threaded = AP_MPMQ_NOT_SUPPORTED;
    int percent = us_config_max_concurrent_percent(conf);

    ap_mpm_query(AP_MPMQ_MAX_DAEMONS, &daemons);
    ap_mpm_query(AP_MPMQ_MAX_THREADS, &threads);
    ap_mpm_query(AP_MPMQ_IS_THREADED, &threaded);
    daemons = daemons > 0 ? daemons : 1;
    threads = threads > 0 ? threads : 1;
    limit_total = percent > 0
                      ? (int)((apr_int64_t)daemons * threads * percent / 100)
                      : us_config_max_concurrent(conf);
    limit_total = limit_total > 0 ? limit_total : 1;
    limit_child = limit_total;
    limit_http2 = limit_total;
    if (threaded != AP_MPMQ_NOT_SUPPORTED && threads > 1) {
        limit_child = threads - 1;
        limit_http2 = http2_threads(threads) - 1;
    }
}

/* Nobody is left with this pid: parent and kernel agree. */
static int is_gone(int pid)
{
    return pid != 0 && kill(pid, 0) != 0 && errno == ESRCH;
}

/* Slots up to this one are looked at from now on. */
static void use_slots(int count)
{
    int used = atomic_load(&memory->used);

    while (used < count
           && !atomic_compare_exchange_weak(&memory->used, &used, count)) {
    }
}

/* Take a slot whose pid is 0, or that of a child that is gone. */
static slot *claim_slot(int pid)
{
    int i;

    for (i = 0; i < memory->slots; i++) {
        slot *candidate = &memory->slot[i];
        int holder = atomic_load(&candidate->pid);

        if ((holder == 0 || is_gone(holder))
            && atomic_compare_exchange_strong(&candidate->pid, &holder, pid)) {
            atomic_store(&candidate->waiting, 0);
            use_slots(i + 1);
            return candidate;
        }
    }
    return NULL;
}

void us_limits_child_init(server_rec *s)
{
    compute_limits(us_config_server(s));
    own_slot = claim_slot((int)getpid());
    if (own_slot == NULL) {
        own_slot = &lone_slot; /* its own limit still holds */
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, s,
                     "US011: no slot is free to count this child's requests "
                     "among the others'");
    }
    ap_log_error(APLOG_MARK, APLOG_DEBUG, 0, s,
                 "at most %d requests of all children may wait for Supabase, "
                 "%d of this one",
                 limit_total,
                 limit_child < limit_total ? limit_child : limit_total);
}

void us_limits_child_gone(pid_t pid)
{
    int i;

    for (i = 0; memory != NULL && i < atomic_load(&memory->used); i++) {
        slot *held = &memory->slot[i];

        if (atomic_load(&held->pid) == (int)pid) {
            atomic_store(&held->waiting, 0);
            atomic_store(&held->pid, 0);
        }
    }
}

/* --- concurrency --- */

/* Does it run on a thread of mod_http2's? */
static int is_http2(const request_rec *r)
{
    return r->connection->master != NULL;
}

/* Sequentially consistent, like the counting: of two that count themselves
 * and then look, one at least sees the other. */
static int waiting_in_all(void)
{
    int used = atomic_load(&memory->used);
    int total = 0;
    int i;

    for (i = 0; i < used; i++) {
        total += atomic_load(&memory->slot[i].waiting);
    }
    return total;
}

/* Are there more than that many, one more for each of the three limits? */
static int exceeds(int http2, int allowance)
{
    return atomic_load(&own_slot->waiting) > limit_child - allowance
           || (http2 && atomic_load(&http2_waiting) > limit_http2 - allowance)
           || waiting_in_all() > limit_total - allowance;
}

int us_limits_is_full(const request_rec *r)
{
    return exceeds(is_http2(r), 1);
}

/*
 * Count first, look afterwards: two that come for the last place may both
 * step back, but never both get in.  Who steps back last sees the place free
 * and tries again.
 */
int us_limits_enter(const request_rec *r)
{
    int tries;

    for (tries = 0; tries < ENTER_TRIES && !us_limits_is_full(r); tries++) {
        atomic_fetch_add(&own_slot->waiting, 1);
        atomic_fetch_add(&http2_waiting, is_http2(r));
        if (!exceeds(is_http2(r), 0)) {
            return 1;
        }
        us_limits_leave(r);
    }
    return 0;
}

void us_limits_leave(const request_rec *r)
{
    atomic_fetch_sub(&http2_waiting, is_http2(r));
    atomic_fetch_sub(&own_slot->waiting, 1);
}

/* --- circuit breaker --- */

us_breaker *us_breaker_find(const char *url, us_operation operation)
{
    int i;

    for (i = 0; i < memory->breakers / OPERATIONS; i++) {
        if (strcmp(APR_ARRAY_IDX(breaker_urls, i, const char *), url) == 0) {
            return &memory->breaker[i * OPERATIONS + (int)operation];
        }
    }
    return NULL;
}

static int seconds_left(apr_int64_t until, apr_time_t now)
{
    return (int)apr_time_sec(until - now) + 1;
}

int us_breaker_is_open(const us_breaker *breaker, int *seconds)
{
    apr_time_t now = us_clock_now();
    apr_int64_t until
        = breaker != NULL ? atomic_load(&breaker->open_until) : 0;

    if (until <= now) {
        return 0; /* closed, or due for a probe */
    }
    *seconds = seconds_left(until, now);
    return 1;
}

int us_breaker_permit(us_breaker *breaker, apr_interval_time_t lease,
                      int *seconds, apr_int64_t *probe)
{
    apr_time_t now = us_clock_now();
    apr_int64_t until
        = breaker != NULL ? atomic_load(&breaker->open_until) : 0;

    *probe = 0;
    while (until != 0 && until <= now) {
        if (atomic_compare_exchange_strong(&breaker->open_until, &until,
                                           now + lease)) {
            *probe = now + lease;
            return 1;
        }
    }
    if (until == 0) {
        return 1;
    }
    *seconds = seconds_left(until, now);
    return 0;
}

static void log_state(const us_breaker *breaker, const us_log *log, int level,
                      const char *what)
{
    long index = (long)(breaker - memory->breaker);

    us_trace(log, level, "[%s] US012: circuit to %s for %s %s",
             log->request_id,
             APR_ARRAY_IDX(breaker_urls, index / OPERATIONS, const char *),
             index % OPERATIONS == US_SIGNUP ? "sign-ups" : "logins", what);
}

static void report_bad(us_breaker *breaker, const us_log *log,
                       apr_int64_t probe)
{
    int failures = atomic_fetch_add(&breaker->failures, 1) + 1;
    apr_int64_t until = us_clock_now() + breaker->duration;
    apr_int64_t before = probe; /* the probe's ticket, or 0: closed */

    if ((probe == 0 && failures < breaker->threshold)
        || !atomic_compare_exchange_strong(&breaker->open_until, &before,
                                           until)) {
        return;
    }
    if (probe != 0) {
        log_state(breaker, log, APLOG_WARNING, "stays open: the probe failed");
    }
    else {
        log_state(breaker, log, APLOG_ERR,
                  "opens: Supabase failed too often in a row; sign-ins are "
                  "refused at once until a probe succeeds");
    }
}

/* Closed on anybody's success, and on whatever a probe found but silence. */
static void report_alive(us_breaker *breaker, const us_log *log,
                         us_health health, apr_int64_t probe)
{
    apr_int64_t before = atomic_load(&breaker->open_until);

    if (health == US_HEALTH_UNKNOWN && (probe == 0 || before != probe)) {
        return;
    }
    if (atomic_load(&breaker->failures) != 0) {
        atomic_store(&breaker->failures, 0);
    }
    if (before != 0
        && atomic_compare_exchange_strong(&breaker->open_until, &before, 0)) {
        log_state(breaker, log, APLOG_NOTICE,
                  "closes: Supabase answers again");
    }
}

void us_breaker_report(us_breaker *breaker, const us_log *log,
                       us_health health, apr_int64_t probe)
{
    if (breaker == NULL) {
        return;
    }
    if (health == US_HEALTH_BAD) {
        report_bad(breaker, log, probe);
    }
    else {
        report_alive(breaker, log, health, probe);
    }
}
