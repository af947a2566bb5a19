/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * borrowers.h: threads that borrow from pg/pool.c, with stand-ins for its
 * neighbours, and the conditions that must always hold.  One program is one
 * test, so its state lives here.
 *
 * Nothing is measured.  A thread that must get a connection has a deadline so
 * far away that only a forgotten thread reaches it.
 */
#ifndef BORROWERS_H
#define BORROWERS_H

#include "crew.h"
#include "dbd_double.h"
#include "mpm_stubs.h"
#include "tap.h"
#include "us_clock.h"
#include "us_conftree.h"
#include "pg/conn.h"

#include <apr_general.h>
#include <apr_strings.h>

#include <sched.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define LONG apr_time_from_sec(60)
#define SHORT apr_time_from_msec(20)

/*
 * The clock of us_clock.h: the real one or, once the test has set the time,
 * one that advances by a microsecond at each look.
 */
static _Atomic apr_time_t set_time;

int fake_clock(clockid_t id, struct timespec *ts) __asm__("clock_gettime");

int fake_clock(clockid_t id, struct timespec *ts)
{
    apr_time_t now;

    if (set_time == 0) {
        return (int)syscall(SYS_clock_gettime, id, ts);
    }
    now = ++set_time;
    ts->tv_sec = (time_t)apr_time_sec(now);
    ts->tv_nsec = (long)apr_time_usec(now) * 1000;
    return 0;
}

static apr_pool_t *root;
static us_pg_pool *pool;
static us_pg_history history;
static server_rec server = {.defn_name = "DBDMax as the test says"};
static const us_log no_log;

/* What threads found. */
static struct findings {
    _Atomic int lent;
    _Atomic int away;      /* where that is allowed */
    _Atomic int forgotten; /* a thread that had to get one did not */
    _Atomic int shared;    /* connections that two threads have at a time */
    _Atomic int broken;    /* connections that were given back as unusable */
    _Atomic int done;
} found;

/* The database of the next server's lines. */
static const char *database = "one database";

/* A server's lines about mod_dbd. */
us_conftree us_conftree_read(apr_pool_t *p, const server_rec *s,
                             const server_rec *main_server)
{
    us_conftree tree = {.dbd = s->defn_name, .database = database};

    (void)p;
    (void)main_server;
    return tree;
}

/* --- in place of pg/pg.c --- */

void us_pg_conn_made(const ap_dbd_t *record)
{
    (void)record;
}

void us_pg_conn_adopt(us_pg_conn *conn)
{
    apr_dbd_t *connection = conn->native;

    found.shared
        += __atomic_fetch_add(&connection->holders, 1, __ATOMIC_RELAXED) != 0;
    found.broken += connection->broken;
    connection->used++;
}

void us_pg_conn_release(us_pg_conn *conn)
{
    apr_dbd_t *connection = conn->native;

    connection->broken = conn->spoiled;
    __atomic_fetch_sub(&connection->holders, 1, __ATOMIC_RELAXED);
}

/* --- borrowing --- */

static inline us_pg_conn *borrow(apr_pool_t *p, apr_interval_time_t wait,
                                 const char **cause)
{
    us_pg_conn *conn = NULL;

    return us_pg_borrow(pool, p, &no_log, us_clock_now() + wait, &conn, cause)
                   == US_PG_OK
               ? conn
               : NULL;
}

/* Borrows, works, gives back; 0: no connection was available. */
static inline int work(apr_interval_time_t wait, int spoil)
{
    const char *cause = NULL;
    apr_pool_t *p;
    us_pg_conn *conn;

    apr_pool_create(&p, NULL);
    conn = borrow(p, wait, &cause);
    if (conn != NULL) {
        found.lent++;
        sched_yield();
        us_pg_pool_fine(pool); /* as after each statement */
        conn->spoiled = spoil;
        us_pg_return(conn);
    }
    apr_pool_destroy(p);
    return conn != NULL;
}

/* --- a child's life --- */

static apr_pool_t *pchild;

static inline void start(int max, int persist, apr_interval_time_t patience)
{
    memset(&found, 0, sizeof(found));
    dbd_double_reset(max, persist);
    apr_pool_create(&pchild, root);
    pool = us_pg_pool_get(pchild, &server, patience, &history);
}

/* Everything that holds in any case.  Only the pool has connections now, and
 * keeps this many. */
static inline void end_keeping(const char *name, int max, int kept)
{
    dbd_counts counts = dbd_double_look();

    is_int(counts.out, kept, "%s: mod_dbd has its connections but %d", name,
           kept);
    apr_pool_destroy(pchild);
    counts = dbd_double_look();
    is_int(counts.out, 0, "%s: at the child's end it has all", name);
    is_int(counts.two_inside, 0, "%s: one at a time in mod_dbd", name);
    is_int(counts.beyond_max, 0, "%s: nobody asks beyond DBDMax", name);
    ok(counts.most_out <= max, "%s: at most %d out, but %d", name, max,
       counts.most_out);
    is_int(counts.strange, 0, "%s: each is given back once", name);
    is_int(found.shared, 0, "%s: each has one holder", name);
    is_int(found.broken, 0, "%s: no spoiled one is lent", name);
    is_int(found.forgotten, 0, "%s: nobody is forgotten", name);
}

static inline void end(const char *name, int max)
{
    end_keeping(name, max, 0);
}

/* main's first step. */
static inline void begin(const char *name)
{
    apr_initialize();
    apr_pool_create(&root, NULL);
    apr_hook_global_pool = root;
    crew_start(name);
    dbd_double_register();
    us_pg_register_hooks();
}

#endif /* BORROWERS_H */
