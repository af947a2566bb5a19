/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_pg_pool.c: many threads borrow mod_dbd's connections while PostgreSQL
 * refuses, hangs and comes back.  Only one thread is ever inside mod_dbd,
 * never are more than DBDMax out, nobody who may wait is forgotten, and
 * nobody else stands behind a connect that hangs.
 *
 * Nothing is measured.  Who must get a connection has a deadline so far away
 * that only somebody who was forgotten meets it.
 */
#include "crew.h"
#include "dbd_double.h"
#include "mpm_stubs.h"
#include "tap.h"
#include "us_clock.h"
#include "us_conftree.h"
#include "us_pg_conn.h"

#include <ap_mpm.h>

#include <apr_general.h>
#include <apr_strings.h>

#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define LONG apr_time_from_sec(60)
#define SHORT apr_time_from_msec(20)

/*
 * The clock of us_clock.h: the real one, or, when the test has set the time,
 * one on which a look takes a microsecond and nothing else any time.
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
static server_rec server = {.defn_name = "DBDMax as the test says"};
static const us_log no_log;

/* What threads found. */
static struct findings {
    _Atomic int lent;
    _Atomic int away;      /* where that may be */
    _Atomic int forgotten; /* where it must not */
    _Atomic int shared;    /* a connection that another one holds, too */
    _Atomic int broken;    /* one that was given back as unusable */
    _Atomic int done;
} found;

/* A server's lines about mod_dbd. */
us_conftree us_conftree_read(apr_pool_t *p, const server_rec *s,
                             const server_rec *main_server)
{
    us_conftree tree = {.dbd = s->defn_name};

    (void)p;
    (void)main_server;
    return tree;
}

/* --- us_pg.c's part --- */

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

static us_pg_conn *borrow(apr_pool_t *p, apr_interval_time_t wait,
                          const char **cause)
{
    us_pg_conn *conn = NULL;

    return us_pg_borrow(pool, p, &no_log, us_clock_now() + wait, &conn, cause)
                   == US_PG_OK
               ? conn
               : NULL;
}

/* Borrow, work, give back; 0 when there was nothing to be had. */
static int work(apr_interval_time_t wait, int spoil)
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

static void start(int max, int persist, apr_interval_time_t patience)
{
    memset(&found, 0, sizeof(found));
    dbd_double_reset(max, persist);
    apr_pool_create(&pchild, root);
    pool = us_pg_pool_get(pchild, &server, patience);
}

/* All that holds whatever happened; nobody has a connection any more. */
static void end(const char *name, int max)
{
    dbd_counts counts = dbd_double_look();

    is_int(counts.out, 0, "%s: mod_dbd has all of its connections", name);
    apr_pool_destroy(pchild);
    counts = dbd_double_look();
    is_int(counts.two_inside, 0, "%s: one at a time in mod_dbd", name);
    is_int(counts.beyond_max, 0, "%s: nobody asks beyond DBDMax", name);
    ok(counts.most_out <= max, "%s: at most %d out, but %d", name, max,
       counts.most_out);
    is_int(counts.strange, 0, "%s: each is given back once", name);
    is_int(found.shared, 0, "%s: each has one holder", name);
    is_int(found.broken, 0, "%s: no spoiled one is lent", name);
    is_int(found.forgotten, 0, "%s: nobody is forgotten", name);
}

/* --- as they come --- */

#define THREADS 12
#define VISITS 300

static int patient_only;

/* Every other one may be impatient: it leaves its turn to somebody. */
static void visits(int child, int thread)
{
    unsigned seed = (unsigned)thread;
    int i;

    (void)child;
    for (i = 0; i < VISITS; i++) {
        int patient = patient_only || thread % 2 == 0;

        seed = seed * 1103515245U + 12345U;
        if (work(patient ? LONG : (seed >> 16) % 500, (seed >> 17) % 7 == 0)) {
            continue;
        }
        if (patient) {
            found.forgotten++;
            return;
        }
        found.away++;
    }
}

/* us_pg.c tells of trouble with a connection in hand, and of its end. */
static void visits_with_trouble(int child, int thread)
{
    (void)child;
    if (thread > 1) {
        visits(child, thread);
        return;
    }
    while (found.done == 0) {
        if (us_pg_pool_trouble(pool, us_clock_now())) {
            found.forgotten++; /* LONG has not passed */
        }
        found.forgotten += us_pg_pool_is_away(pool);
        us_pg_pool_fine(pool);
        crew_pause();
        found.done
            = found.lent >= (THREADS - 2) * VISITS || found.forgotten != 0;
    }
}

static void test_visits(void)
{
    patient_only = 1;
    start(4, 1, LONG);
    crew_threads(0, THREADS, visits);
    is_int(found.lent, (long long)THREADS * VISITS, "DBDMax 4: all served");
    end("DBDMax 4", 4);
    start(1, 1, LONG);
    crew_threads(0, THREADS, visits);
    is_int(found.lent, (long long)THREADS * VISITS, "DBDMax 1: all served");
    end("DBDMax 1", 1);
    start(THREADS, 1, LONG);
    crew_threads(0, THREADS, visits);
    is_int(found.lent, (long long)THREADS * VISITS, "one each: all served");
    end("one each", THREADS);
    start(3, 0, LONG);
    crew_threads(0, THREADS, visits);
    is_int(found.lent, (long long)THREADS * VISITS,
           "DBDPersist Off: all served");
    end("DBDPersist Off", 3);
    start(3, 1, LONG);
    crew_threads(0, THREADS, visits_with_trouble);
    is_int(found.lent, (long long)(THREADS - 2) * VISITS,
           "with trouble: all served");
    end("with trouble", 3);
}

static void test_impatient(void)
{
    int max;

    patient_only = 0;
    for (max = 1; max <= 3; max++) {
        const char *name = apr_psprintf(root, "impatient, DBDMax %d", max);

        start(max, 1, LONG);
        crew_threads(0, THREADS, visits);
        is_int(found.lent + found.away, (long long)THREADS * VISITS,
               "%s: all come back", name);
        end(name, max);
    }
}

/* --- all are taken --- */

/* 0 holds the only one; 1 waits as long as it takes; the rest goes without. */
static void want_one(int child, int thread)
{
    static us_pg_conn *held;
    static apr_pool_t *p;
    const char *cause = NULL;

    (void)child;
    if (thread == 0) {
        apr_pool_create(&p, NULL);
        held = borrow(p, LONG, &cause);
        found.forgotten += held == NULL;
        found.done = 1;
        while (found.away < THREADS - 2) {
            crew_pause();
        }
        us_pg_return(held);
        apr_pool_destroy(p);
        return;
    }
    while (found.done == 0) {
        crew_pause();
    }
    if (thread == 1) {
        found.forgotten += !work(LONG, 0);
        return;
    }
    if (!work(SHORT, 0)) {
        found.away++;
    }
}

static void test_all_taken(void)
{
    const char *cause = NULL;
    us_pg_conn *held;

    start(1, 1, LONG);
    crew_threads(0, THREADS, want_one);
    is_int(found.away, THREADS - 2, "all taken: who cannot wait goes without");
    is_int(found.lent, 1, "all taken: who can wait gets it");
    held = borrow(pchild, LONG, &cause);
    ok(held != NULL, "all taken: the only one");
    ok(borrow(pchild, SHORT, &cause) == NULL, "all taken: and no other");
    ok(cause != NULL && strstr(cause, "all 1 connections of DBDMax") != NULL,
       "all taken: the cause says so");
    us_pg_return(held);
    end("all taken", 1);
}

/* --- all are taken, and time is up for most who wait --- */

/*
 * What is given back wakes somebody whose time has just run out: it goes on to
 * the one who can wait, 1, and who would wait till the program is ended.
 */
static void run_out_of_time(int child, int thread)
{
    static us_pg_conn *held;
    static apr_time_t begin;
    const char *cause = NULL;
    apr_pool_t *p;
    int i;

    (void)child;
    if (thread == 0) {
        apr_pool_create(&p, NULL);
        held = borrow(p, LONG, &cause);
        begin = set_time;
        found.done = 1;
        while (set_time < begin + 2L * (THREADS - 1)) {
            crew_pause(); /* each looks at the clock twice before it waits */
        }
        for (i = 0; i < 20; i++) {
            crew_pause();
        }
        set_time += 2 * LONG;
        us_pg_return(held);
        apr_pool_destroy(p);
        return;
    }
    while (found.done == 0) {
        crew_pause();
    }
    if (!work(thread == 1 ? 10 * LONG : LONG, 0)) {
        found.away++;
    }
}

static void test_out_of_time(void)
{
    int i;

    set_time = us_clock_now();
    start(1, 1, 10 * LONG);
    for (i = 1; i <= 10; i++) {
        found.done = 0;
        crew_threads(0, THREADS, run_out_of_time);
        if (found.lent < i) {
            found.forgotten++;
        }
    }
    is_int(found.away + found.lent, 10LL * (THREADS - 1),
           "out of time: all come back");
    end("out of time", 1);
    set_time = 0;
}

/* --- a connect that hangs --- */

/*
 * 0 directs; 1 is inside the connect that hangs.  Half of the others have
 * little time, and end while it hangs; the rest waits and is served.
 */
static void beside_a_hang(int child, int thread)
{
    (void)child;
    if (thread == 0) {
        dbd_double_await_hanging();
        found.done = 1;
        while (found.away < (THREADS - 2) / 2) {
            crew_pause();
        }
        found.forgotten += dbd_double_look().hanging != 1;
        dbd_double_set(DBD_CONNECTS);
        return;
    }
    if (thread > 1) {
        while (found.done == 0) {
            crew_pause();
        }
    }
    if (thread % 2 != 0 || thread == 1) {
        found.forgotten += !work(LONG, 0);
    }
    else if (!work(SHORT, 0)) {
        found.away++;
    }
}

static void test_hang(void)
{
    start(4, 1, LONG);
    dbd_double_set(DBD_HANGS);
    crew_threads(0, THREADS, beside_a_hang);
    is_int(found.away, (THREADS - 2) / 2, "hang: nobody stands behind it");
    is_int(found.lent, THREADS / 2, "hang: all others are served afterwards");
    end("hang", 4);
}

/* --- an outage that is waited out --- */

static void through_an_outage(int child, int thread)
{
    (void)child;
    if (thread == 0) {
        dbd_double_await_refused(3);
        dbd_double_set(DBD_CONNECTS);
        return;
    }
    found.forgotten += !work(LONG, 0);
}

static void test_short_outage(void)
{
    start(4, 1, LONG);
    dbd_double_set(DBD_REFUSED);
    crew_threads(0, THREADS, through_an_outage);
    is_int(found.lent, THREADS - 1, "short outage: all are served");
    end("short outage", 4);
}

/* --- one that is not: away, and one probe --- */

/* Ask on until a probe hangs.  It is somebody's own; all others go without. */
static void find_out(int child, int thread)
{
    int i;

    (void)child;
    if (thread == 0) {
        dbd_double_await_hanging();
        while (found.away < THREADS - 2) {
            crew_pause();
        }
        /* all but the prober have asked a hundred times */
        found.done = dbd_double_look().connects;
        dbd_double_set(DBD_CONNECTS);
        return;
    }
    while (dbd_double_look().hanging == 0) {
        if (work(LONG, 0)) {
            return; /* the probe, when the test lets it go */
        }
    }
    for (i = 0; i < 100; i++) {
        found.forgotten += work(LONG, 0);
    }
    found.away++;
}

/* Looks at the clock: time is up before there is anything to wait for. */
#define FEW 3

#define PATIENCE apr_time_from_sec(10)

static void test_away(void)
{
    const char *cause = NULL;
    int before;

    set_time = us_clock_now();
    start(4, 1, PATIENCE);
    dbd_double_set(DBD_REFUSED);
    ok(borrow(pchild, FEW, &cause) == NULL, "away: refused");
    ok(!us_pg_pool_is_away(pool), "away: not yet");
    set_time += PATIENCE;
    ok(us_pg_pool_is_away(pool), "away: the patience is at its end");
    before = dbd_double_look().connects;
    ok(borrow(pchild, LONG, &cause) == NULL, "away: a probe");
    ok(borrow(pchild, LONG, &cause) == NULL, "away: no other for a second");
    is_int(dbd_double_look().connects, before + 1, "away: one connect");
    ok(cause != NULL && strstr(cause, "has not let us connect") != NULL,
       "away: the cause says so");
    dbd_double_set(DBD_HANGS);
    set_time += apr_time_from_sec(1);
    crew_threads(0, THREADS, find_out);
    is_int(found.done, before + 2, "away: one of many is the probe");
    is_int(found.lent, 1, "away: which gets its connection");
    ok(!us_pg_pool_is_away(pool), "away: no longer");
    found.lent = 0;
    patient_only = 1;
    crew_threads(0, THREADS, visits);
    is_int(found.lent, (long long)THREADS * VISITS, "away: all are served");
    end("away", 4);
    set_time = 0;
}

/* Nobody has asked for long: then the trouble of that time is no news. */
static void test_long_ago(void)
{
    const char *cause = NULL;

    set_time = us_clock_now();
    start(4, 1, PATIENCE);
    dbd_double_set(DBD_REFUSED);
    ok(borrow(pchild, FEW, &cause) == NULL, "long ago: refused");
    set_time += apr_time_from_sec(3600);
    ok(borrow(pchild, FEW, &cause) == NULL, "long ago: refused again");
    ok(!us_pg_pool_is_away(pool), "long ago: a new trouble");
    set_time += apr_time_from_sec(1);
    dbd_double_set(DBD_CONNECTS);
    ok(work(SHORT, 0), "long ago: all is well");
    ok(!us_pg_pool_is_away(pool), "long ago: not away");
    end("long ago", 4);
    set_time = 0;
}

/* --- the child goes --- */

static void test_end_with_lent_ones(void)
{
    const char *cause = NULL;
    us_pg_conn *spoiled;

    start(4, 1, LONG);
    ok(borrow(pchild, LONG, &cause) != NULL, "the child goes: one is lent");
    spoiled = borrow(pchild, LONG, &cause);
    ok(spoiled != NULL, "the child goes: another one, too");
    if (spoiled != NULL) {
        spoiled->spoiled = 1;
    }
    is_int(dbd_double_look().out, 2, "the child goes: mod_dbd misses two");
    apr_pool_destroy(pchild);
    is_int(dbd_double_look().out, 0, "the child goes: they are back");
    is_int(dbd_double_look().strange, 0, "the child goes: each once");
    start(4, 1, LONG);
    ok(work(LONG, 0), "the next life begins");
    end("the next life", 4);
}

/*
 * The child goes while a thread is inside mod_dbd and a connection, given
 * back meanwhile, lies warm: neither may be touched, nor waited for.  In a
 * process of its own, for nobody can go on after that.
 */
static void go_while_inside(int child, int thread)
{
    const char *cause = NULL;
    us_pg_conn *conn;

    (void)child;
    if (thread == 1) {
        while (found.done == 0) {
            crew_pause();
        }
        work(LONG, 0); /* for ever */
        return;
    }
    conn = borrow(root, LONG, &cause);
    if (conn == NULL) {
        _exit(3);
    }
    dbd_double_set(DBD_HANGS);
    found.done = 1;
    dbd_double_await_hanging();
    us_pg_return(conn);
    apr_pool_destroy(pchild);
    _exit(dbd_double_look().out == 1 && dbd_double_look().strange == 0 ? 0
                                                                       : 4);
}

static void start_four(int child)
{
    (void)child;
    start(4, 1, LONG);
}

static void test_end_while_inside(void)
{
    ok(crew_wait(crew_fork(0, 2, start_four, go_while_inside)),
       "the child goes while mod_dbd is busy: it is left alone");
}

/* --- prefork: SIGTERM would end the child inside mod_dbd --- */

static int term_is_held(void)
{
    sigset_t mask;

    pthread_sigmask(SIG_BLOCK, NULL, &mask);
    return sigismember(&mask, SIGTERM);
}

static void test_signals(void)
{
    const char *cause = NULL;
    us_pg_conn *conn;

    stub_mpm.is_threaded = AP_MPMQ_NOT_SUPPORTED;
    start(1, 1, LONG);
    conn = borrow(pchild, LONG, &cause);
    ok(conn != NULL && !term_is_held(), "prefork: SIGTERM may come again");
    if (conn != NULL) {
        us_pg_return(conn);
    }
    ok(!term_is_held(), "prefork: and after giving back");
    dbd_double_set(DBD_REFUSED);
    conn = borrow(pchild, SHORT, &cause);
    if (conn != NULL) {
        conn->spoiled = 1; /* mod_dbd makes it anew, and cannot */
        us_pg_return(conn);
    }
    ok(!work(SHORT, 0), "prefork: refused");
    ok(!term_is_held(), "prefork: SIGTERM may come after a failure");
    is_int(dbd_double_look().unguarded, 0, "prefork: never inside mod_dbd");
    end("prefork", 1);
    stub_mpm.is_threaded = AP_MPMQ_DYNAMIC;
}

/* A server as mod_dbd sees it: a pointer of its own, and lines. */
static us_pg_pool *pool_with(const char *lines, void *pointer)
{
    server_rec *s = apr_pcalloc(pchild, sizeof(*s));
    void **configs = apr_palloc(pchild, sizeof(*configs));

    configs[0] = pointer;
    s->module_config = (ap_conf_vector_t *)configs;
    s->defn_name = lines;
    return us_pg_pool_get(pchild, s, LONG);
}

static void test_same_lines(void)
{
    static module dbd = {.name = "mod_dbd.c"};
    static char pointers[3];

    stub_linked_module = &dbd;
    apr_pool_create(&pchild, root);
    pool = pool_with("lines", &pointers[0]);
    ok(pool_with("lines", &pointers[0]) == pool, "inherited: one pool");
    ok(pool_with("lines", &pointers[1]) == pool, "equal lines: one pool");
    ok(pool_with("others", &pointers[2]) != pool, "other lines: another");
    ok(pool_with("lines", &pointers[1]) == pool, "and still the same");
    apr_pool_destroy(pchild);
    stub_linked_module = NULL;
}

int main(void)
{
    apr_initialize();
    apr_pool_create(&root, NULL);
    apr_hook_global_pool = root;
    crew_start("test_pg_pool");
    dbd_double_register();
    us_pg_register_hooks();
    test_visits();
    test_impatient();
    test_all_taken();
    test_out_of_time();
    test_hang();
    test_short_outage();
    test_away();
    test_long_ago();
    test_end_with_lent_ones();
    test_end_while_inside();
    test_signals();
    test_same_lines();
    return done();
}
