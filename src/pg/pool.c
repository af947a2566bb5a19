/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Lends mod_dbd's connections within a deadline.
 *
 * mod_dbd has two habits that make this hard.  It connects while it holds its
 * pool's lock, so that all threads queue behind one hung connect.  And at
 * DBDMax a thread waits in it without limit, and misses wake-ups when
 * connecting fails.  So this limiter comes first: never more than DBDMax of
 * our threads ask, and only one thread at a time is inside mod_dbd.  All
 * others wait here, with a timeout, in the order in which they came.
 *
 *   out       connections that mod_dbd lent us: in use, warm or spoiled
 *   inside    a thread is inside mod_dbd
 *   warm      returned to us, and passed directly to the next borrower, without
 *             a visit to mod_dbd, where threads would queue.  DBDKeep of them
 *             stay here (mod_dbd keeps as many of its own), but one of DBDMax
 *             is always left for other users of mod_dbd's pool
 *   spoiled   to be returned to mod_dbd as soon as no thread is inside
 *
 * The mutex is never held during a call to mod_dbd, libpq or the log.
 */
#include "us_clock.h"
#include "us_log.h"
#include "pool.h"

#include <apr_strings.h>

#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* The pause between two attempts to connect: it grows with the outage because
 * mod_dbd logs each failure, and is longest when PostgreSQL counts as away. */
#define RETRY_PAUSE_MIN apr_time_from_msec(50)
#define RETRY_PAUSE_MAX apr_time_from_msec(250)
#define PROBE_PAUSE apr_time_from_sec(1)

/* --- prefork's signals: its SIGTERM handler ends the child wherever it
 * interrupts it, so SIGTERM is blocked while mod_dbd holds its lock --- */

/* how: SIG_BLOCK or SIG_UNBLOCK */
static void signals(const us_pg_pool *pg, int how)
{
    sigset_t endings;

    if (pg->interruptible) {
        sigemptyset(&endings);
        sigaddset(&endings, SIGTERM);
        sigaddset(&endings, SIGHUP);
        pthread_sigmask(how, &endings, NULL);
    }
}

/* SIGTERM must not arrive between the two calls, either: a connection in
 * between could not be returned. */
static void lock(us_pg_pool *pg)
{
    signals(pg, SIG_BLOCK);
    pthread_mutex_lock(&pg->mutex);
}

static void unlock(us_pg_pool *pg)
{
    pthread_mutex_unlock(&pg->mutex);
    signals(pg, SIG_UNBLOCK);
}

/* --- the state; call with the mutex held --- */

/*
 * PostgreSQL is away if for the time of patience no connection succeeded, or
 * the current attempt has taken that long.  Shorter outages are waited out.
 */
static int is_away(const us_pg_pool *pg, apr_time_t now)
{
    return (pg->trouble_since != 0 && now - pg->trouble_since >= pg->patience)
           || (pg->inside && now - pg->inside_since >= pg->patience);
}

/* How long to wait after a failed attempt. */
static apr_interval_time_t retry_pause(const us_pg_pool *pg, apr_time_t now)
{
    apr_interval_time_t pause = (now - pg->trouble_since) / 4;

    if (is_away(pg, now)) {
        return PROBE_PAUSE;
    }
    if (pause > RETRY_PAUSE_MAX) {
        return RETRY_PAUSE_MAX;
    }
    return pause < RETRY_PAUSE_MIN ? RETRY_PAUSE_MIN : pause;
}

static void set_trouble(us_pg_pool *pg, apr_time_t since)
{
    pg->trouble_last = us_clock_now();
    if (pg->trouble_since == 0) {
        pg->trouble_since = since;
        apr_atomic_set32(&pg->troubled, 1);
    }
}

/*
 * Old trouble says nothing about now.  Under traffic there is a probe each
 * second, so this applies to a child that had no requests for a while.
 */
static int is_stale(const us_pg_pool *pg, apr_time_t now)
{
    return pg->trouble_since != 0 && !pg->inside
           && now - pg->trouble_last > pg->patience + PROBE_PAUSE;
}

static void clear_trouble(us_pg_pool *pg)
{
    if (pg->trouble_since != 0) {
        pg->trouble_since = 0;
        pg->next_try = 0;
        apr_atomic_set32(&pg->troubled, 0);
        us_pg_queue_wake_all(&pg->queue);
    }
}

int us_pg_pool_trouble(us_pg_pool *pg, apr_time_t since)
{
    apr_time_t now = us_clock_now();
    int away;

    lock(pg);
    set_trouble(pg, since);
    away = is_away(pg, now);
    if (away) {
        pg->next_try = now + PROBE_PAUSE;
    }
    unlock(pg);
    return away;
}

void us_pg_pool_late(us_pg_pool *pg)
{
    if (apr_atomic_read32(&pg->troubled)) {
        us_pg_pool_trouble(pg, us_clock_now());
    }
}

void us_pg_pool_doubt(us_pg_pool *pg)
{
    int i;

    lock(pg);
    for (i = 0; i < pg->warm_count; i++) {
        pg->warm[i].doubtful = 1;
    }
    unlock(pg);
}

void us_pg_pool_fine(us_pg_pool *pg)
{
    if (apr_atomic_read32(&pg->troubled)) {
        lock(pg);
        clear_trouble(pg);
        unlock(pg);
    }
}

apr_uint64_t us_pg_pool_history(const us_pg_pool *pg)
{
    return atomic_load(pg->history);
}

/*
 * Within one system the later timeline wins: a connection to a former primary,
 * or to a standby that lags, does not bring back the past.  Another system is
 * another database.
 */
void us_pg_pool_set_history(us_pg_pool *pg, apr_uint64_t history)
{
    apr_uint64_t known = atomic_load(pg->history);

    while (history != 0 && (known >> 32 != history >> 32 || known < history)
           && !atomic_compare_exchange_weak(pg->history, &known, history)) {
    }
}

const apr_array_header_t *us_pg_conn_init_sql(const us_pg_conn *conn)
{
    void *settings = NULL;

    apr_pool_userdata_get(&settings, US_PG_SETTINGS_KEY, conn->record->pool);
    return settings != NULL ? ((const dbd_cfg_t *)settings)->init_queries
                            : NULL;
}

int us_pg_pool_prepares(us_pg_pool *pg)
{
    return pg->persistent && !apr_atomic_read32(&pg->forgets);
}

void us_pg_pool_forgets_prepared(us_pg_pool *pg)
{
    apr_atomic_set32(&pg->forgets, 1);
}

int us_pg_pool_is_away(us_pg_pool *pg)
{
    int away = 0;

    if (apr_atomic_read32(&pg->troubled)) {
        lock(pg);
        away = is_away(pg, us_clock_now());
        unlock(pg);
    }
    return away;
}

int us_pg_pool_lent(us_pg_pool *pg, int *most)
{
    int out;

    lock(pg);
    out = pg->out - pg->warm_count - pg->spoiled_count;
    *most = pg->known ? pg->capacity : 0;
    unlock(pg);
    return out;
}

/* Are there more warm ones than needed, and nobody waits for them? */
static int has_too_many(const us_pg_pool *pg)
{
    return pg->warm_count > pg->keep && pg->queue.first == NULL;
}

/* Closes what is no longer useful; this thread is inside. */
static void drain(us_pg_pool *pg)
{
    while (pg->spoiled_count > 0 || has_too_many(pg)) {
        ap_dbd_t *record = pg->spoiled_count > 0
                               ? pg->spoiled[--pg->spoiled_count]
                               : pg->warm[--pg->warm_count].record;

        pthread_mutex_unlock(&pg->mutex);
        pg->close(pg->server, record);
        pthread_mutex_lock(&pg->mutex);
        pg->out--;
    }
}

static void enter(us_pg_pool *pg)
{
    pg->inside = 1;
    pg->inside_since = us_clock_now();
}

static void leave(us_pg_pool *pg)
{
    drain(pg);
    pg->inside = 0;
    pg->visited = us_clock_now();
    us_pg_queue_wake(&pg->queue);
}

/* Reads DBDMax and DBDPersist from the first connection. */
static void learn_settings(us_pg_pool *pg, const ap_dbd_t *record)
{
    void *data = NULL;
    const dbd_cfg_t *settings;

    pg->known = 1;
    if (apr_pool_userdata_get(&data, US_PG_SETTINGS_KEY, record->pool)
            != APR_SUCCESS
        || data == NULL) {
        return;
    }
    settings = data;
    pg->persistent = settings->persist;
    pg->expiry = apr_time_from_sec(settings->exptime);
    if (settings->nmax > 1) {
        apr_size_t room = (apr_size_t)settings->nmax;

        pg->blocks[0] = calloc(room, sizeof(*pg->warm));
        pg->blocks[1] = calloc(room, sizeof(*pg->spoiled));
        if (pg->blocks[0] == NULL || pg->blocks[1] == NULL) {
            return;
        }
        /* both lists are empty: the only record is this new one */
        pg->warm = pg->blocks[0];
        pg->spoiled = pg->blocks[1];
        pg->capacity = settings->nmax;
        pg->keep = settings->nkeep < settings->nmax ? settings->nkeep
                                                    : settings->nmax - 1;
        pg->keep = pg->shared ? 0 : pg->keep;
    }
}

/* Asks mod_dbd for a connection; releases the mutex meanwhile. */
static ap_dbd_t *open_inside(us_pg_pool *pg, apr_pool_t *pool)
{
    ap_dbd_t *record;

    enter(pg);
    pg->out++;
    pthread_mutex_unlock(&pg->mutex);
    record = pg->open(pool, pg->server);
    pthread_mutex_lock(&pg->mutex);
    if (record == NULL) {
        apr_time_t now = us_clock_now();

        pg->out--;
        set_trouble(pg, pg->inside_since);
        pg->next_try = now + retry_pause(pg, now);
        us_pg_queue_wake_all(&pg->queue);
    }
    else if (!pg->known) {
        learn_settings(pg, record);
    }
    leave(pg);
    return record;
}

/* Sleeps until something changes, or until next_try or the deadline. */
static void wait_for_change(us_pg_pool *pg, us_pg_waiter *self, apr_time_t now,
                            apr_time_t deadline)
{
    apr_time_t until = pg->next_try > now && pg->next_try < deadline
                           ? pg->next_try
                           : deadline;

    signals(pg, SIG_UNBLOCK); /* prefork: it holds no connection here */
    us_pg_queue_wait(&pg->queue, self, &pg->mutex, now, until);
    signals(pg, SIG_BLOCK);
}

/* This thread leaves without a connection, so it passes on a signal or a warm
 * connection that was meant for it. */
static void pass_on(us_pg_pool *pg)
{
    if (!pg->inside) {
        enter(pg);
        leave(pg);
    }
    else if (pg->warm_count > 0) {
        us_pg_queue_wake(&pg->queue);
    }
}

/* Known to be away, and the next probe is not due: a warm connection would be
 * tried in vain, until the deadline if the server hangs. */
static int is_forbidden(const us_pg_pool *pg, apr_time_t now)
{
    return pg->trouble_since != 0 && is_away(pg, now) && now < pg->next_try;
}

/* May this thread take a warm one now, or ask mod_dbd for another one? */
static int may_take(const us_pg_pool *pg, const us_pg_waiter *self,
                    apr_time_t now)
{
    return pg->warm_count > 0 && !is_forbidden(pg, now)
           && !us_pg_queue_is_others_turn(&pg->queue, self, now);
}

static int may_open(const us_pg_pool *pg, const us_pg_waiter *self,
                    apr_time_t now)
{
    return !pg->inside && pg->out < pg->capacity && now >= pg->next_try
           && !us_pg_queue_is_others_turn(&pg->queue, self, now);
}

/* Takes the one that was used last.  mod_dbd would not lend one that was idle
 * for longer than DBDExptime, as a firewall may have dropped it. */
static ap_dbd_t *take_warm(us_pg_pool *pg, us_pg_conn *conn, apr_time_t now)
{
    const us_pg_warm *warm = &pg->warm[--pg->warm_count];

    if (pg->trouble_since != 0 && is_away(pg, now)) {
        pg->next_try = now + pg->patience; /* this is the probe */
    }
    conn->aged
        = warm->doubtful || (pg->expiry > 0 && now - warm->since > pg->expiry);
    return warm->record;
}

/* Waits for a record until the deadline; NULL: there is none. */
static ap_dbd_t *wait_for_record(us_pg_pool *pg, apr_pool_t *pool,
                                 us_pg_conn *conn, apr_time_t deadline)
{
    us_pg_waiter self = {.since = 0};
    ap_dbd_t *record = NULL;

    for (;;) {
        apr_time_t now = us_clock_now();
        int away;

        if (is_stale(pg, now)) {
            clear_trouble(pg);
        }
        away = is_away(pg, now);
        if (now >= deadline) {
            if (pg->inside) {
                set_trouble(pg, pg->inside_since);
            }
            break; /* a connection without time for a statement is useless */
        }
        if (may_take(pg, &self, now)) {
            record = take_warm(pg, conn, now);
            break;
        }
        if (may_open(pg, &self, now)) {
            if (away) {
                /* one probe at a time: its statement may hang, too */
                pg->next_try = now + pg->patience;
            }
            record = open_inside(pg, pool);
            if (record != NULL || away) {
                break; /* away: one probe, without using up our time */
            }
            continue;
        }
        if (away) {
            break;
        }
        wait_for_change(pg, &self, now, deadline);
    }
    us_pg_queue_leave(&pg->queue, &self);
    if (pg->warm_count > 0 || (!pg->inside && pg->out < pg->capacity)) {
        us_pg_queue_wake(&pg->queue); /* it may have been woken in vain */
    }
    return record;
}

/* Fills in conn and links it into the lent ones; 0: there is no record. */
static int acquire(us_pg_pool *pg, apr_pool_t *pool, us_pg_conn *conn,
                   apr_time_t deadline)
{
    lock(pg);
    conn->record = wait_for_record(pg, pool, conn, deadline);
    if (conn->record != NULL) {
        conn->next = pg->lent;
        conn->link = &pg->lent;
        if (conn->next != NULL) {
            conn->next->link = &conn->next;
        }
        pg->lent = conn;
    }
    else {
        pass_on(pg);
    }
    unlock(pg);
    return conn->record != NULL;
}

/* --- lending --- */

/* Why no connection could be lent, for the log. */
static const char *why_not(us_pg_pool *pg, apr_pool_t *pool)
{
    apr_time_t now = us_clock_now();
    const char *text;

    lock(pg);
    if (is_away(pg, now)) {
        text = "PostgreSQL has not let us connect for a while: see mod_dbd's "
               "lines, DBDParams and the PostgreSQL server";
    }
    else if (pg->out >= pg->capacity) {
        text = apr_psprintf(pool,
                            "all %d connections of DBDMax are in use: raise "
                            "DBDMax or look for slow statements",
                            pg->capacity);
    }
    else {
        text = "no connection to PostgreSQL in time: see mod_dbd's lines, "
               "DBDParams and the PostgreSQL server";
    }
    unlock(pg);
    return text;
}

/*
 * mod_dbd closes its surplus connections when one is returned.  So once in
 * DBDExptime the oldest of ours is returned.
 */
static int let_one_go(us_pg_pool *pg, apr_time_t now)
{
    if (pg->expiry == 0 || now - pg->visited <= pg->expiry) {
        return 0;
    }
    pg->spoiled[pg->spoiled_count++] = pg->warm[0].record;
    pg->warm_count--;
    memmove(pg->warm, pg->warm + 1,
            (apr_size_t)pg->warm_count * sizeof(*pg->warm));
    return 1;
}

/* Keeps a record for the next borrower, or returns it to mod_dbd. */
static void give_back(us_pg_pool *pg, ap_dbd_t *record, int spoiled)
{
    if (!pg->persistent) {
        /* its pool is the borrower's: it ends at once, without a lock */
        pthread_mutex_unlock(&pg->mutex);
        pg->close(pg->server, record);
        pthread_mutex_lock(&pg->mutex);
        pg->out--;
        us_pg_queue_wake(&pg->queue);
        return;
    }
    if (spoiled) {
        pg->spoiled[pg->spoiled_count++] = record;
    }
    else {
        us_pg_warm *warm = &pg->warm[pg->warm_count++];

        warm->record = record;
        warm->since = us_clock_now();
        warm->doubtful = 0;
    }
    if (!pg->inside
        && (spoiled || has_too_many(pg) || let_one_go(pg, us_clock_now()))) {
        enter(pg);
        leave(pg);
    }
    else if (!spoiled) {
        us_pg_queue_wake(&pg->queue);
    }
}

us_pg_status us_pg_borrow(us_pg_pool *pg, apr_pool_t *pool, const us_log *log,
                          apr_time_t deadline, us_pg_conn **out,
                          const char **cause)
{
    us_pg_conn *conn = apr_pcalloc(pool, sizeof(*conn));
    const apr_dbd_driver_t *driver;

    conn->owner = pg;
    if (pg->open == NULL) {
        *cause = "mod_dbd is not loaded";
        return US_PG_AWAY;
    }
    if (!acquire(pg, pool, conn, deadline)) {
        *cause = why_not(pg, pool);
        return US_PG_AWAY;
    }
    driver = conn->record->driver;
    if (strcmp(apr_dbd_name(driver), "pgsql") != 0) {
        *cause = apr_psprintf(pool, "DBDriver is %s: mod_usersync needs pgsql",
                              apr_dbd_name(driver));
        us_pg_return(conn);
        return US_PG_WRONG_DRIVER;
    }
    conn->native = apr_dbd_native_handle(driver, conn->record->handle);
    us_pg_conn_adopt(conn);
    us_trace(log, APLOG_TRACE2, "[%s] borrowed a connection", log->request_id);
    *out = conn;
    return US_PG_OK;
}

void us_pg_return(us_pg_conn *conn)
{
    us_pg_pool *pg = conn->owner;

    if (conn->native != NULL) {
        us_pg_conn_release(conn);
    }
    lock(pg);
    *conn->link = conn->next;
    if (conn->next != NULL) {
        conn->next->link = conn->link;
    }
    give_back(pg, conn->record, conn->spoiled);
    unlock(pg);
}
