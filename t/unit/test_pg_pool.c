/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * pg/pool.c: many threads borrow mod_dbd's connections while PostgreSQL
 * refuses, hangs and comes back.  Only one thread at a time is inside mod_dbd,
 * never more than DBDMax connections are out, no waiting thread is forgotten,
 * and none is blocked by a connect that hangs.
 */
#include "borrowers.h"

/* --- in any order --- */

#define THREADS 12
#define VISITS 300

static int patient_only;

/* Every other thread may be impatient, and passes its turn on. */
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

/* pg/pg.c reports trouble while it has a connection, and the end of it. */
static void visits_with_trouble(int child, int thread)
{
    (void)child;
    if (thread > 1) {
        visits(child, thread);
        return;
    }
    while (found.done == 0) {
        if (us_pg_pool_trouble(pool, us_clock_now())) {
            found.forgotten++; /* although LONG has not passed */
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

/* Thread 0 holds the only one; 1 waits as long as needed, others do not. */
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
    is_int(found.away, THREADS - 2, "all taken: impatient threads get none");
    is_int(found.lent, 1, "all taken: the patient one gets it");
    held = borrow(pchild, LONG, &cause);
    ok(held != NULL, "all taken: the only one");
    ok(borrow(pchild, SHORT, &cause) == NULL, "all taken: and no other");
    ok(cause != NULL && strstr(cause, "all 1 connections of DBDMax") != NULL,
       "all taken: the cause says so");
    us_pg_return(held);
    end("all taken", 1);
}

/* --- whose turn it is --- */

/* Thread 1 waits.  Thread 0 gives the only connection back and wants it again
 * at once: it is faster, but thread 1 has waited for long. */
static void want_it_back(int child, int thread)
{
    static us_pg_conn *held;
    const char *cause = NULL;
    apr_pool_t *p;
    apr_time_t begin_time;
    int i;

    (void)child;
    if (thread == 1) {
        while (found.done == 0) {
            crew_pause();
        }
        found.forgotten += !work(LONG, 0);
        return;
    }
    apr_pool_create(&p, NULL);
    held = borrow(p, LONG, &cause);
    begin_time = set_time;
    found.done = 1;
    while (set_time < begin_time + 2) {
        crew_pause(); /* it looks at the clock twice before it waits */
    }
    for (i = 0; i < 20; i++) {
        crew_pause();
    }
    set_time += apr_time_from_msec(150);
    us_pg_return(held);
    held = borrow(p, LONG, &cause);
    found.away += found.lent == 0; /* thread 1 has not had it yet */
    found.forgotten += held == NULL;
    if (held != NULL) {
        us_pg_return(held);
    }
    apr_pool_destroy(p);
}

static void test_turns(void)
{
    set_time = us_clock_now();
    start(1, 1, LONG);
    crew_threads(0, 2, want_it_back);
    is_int(found.away, 0, "turns: who has waited for long goes first");
    is_int(found.lent, 1, "turns: and is served");
    end("turns", 1);
    set_time = 0;
}

/* --- all are taken, and most waits run out --- */

/*
 * A returned connection wakes a thread whose time has just run out.  It must
 * pass on to thread 1, which can wait, and would wait until the program ends.
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
 * Thread 0 directs; 1 is inside the connect that hangs.  Half of the others
 * have little time, and give up while it hangs; the rest wait and are served.
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
    is_int(found.away, (THREADS - 2) / 2, "hang: it blocks no other thread");
    is_int(found.lent, THREADS / 2, "hang: all others are served afterwards");
    end("hang", 4);
}

/* --- an outage that is short enough --- */

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

/* --- a long outage: away, and one probe --- */

/* Asks until a probe hangs.  One thread has it; all others get nothing. */
static void find_out(int child, int thread)
{
    int i;

    (void)child;
    if (thread == 0) {
        dbd_double_await_hanging();
        while (found.away < THREADS - 2) {
            crew_pause();
        }
        /* all but the probing thread have asked a hundred times */
        found.done = dbd_double_look().connects;
        dbd_double_set(DBD_CONNECTS);
        return;
    }
    while (dbd_double_look().hanging == 0) {
        if (work(LONG, 0)) {
            return; /* the probe, when the test lets it continue */
        }
    }
    for (i = 0; i < 100; i++) {
        found.forgotten += work(LONG, 0);
    }
    found.away++;
}

/* Looks at the clock: time is up before the wait begins. */
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

/* --- connections that are kept --- */

/* Borrows this many at a time, then none. */
static void have(int count)
{
    us_pg_conn *conns[THREADS];
    const char *cause = NULL;
    int i;

    for (i = 0; i < count; i++) {
        conns[i] = borrow(pchild, LONG, &cause);
        found.forgotten += conns[i] == NULL;
    }
    for (i = 0; i < count && found.forgotten == 0; i++) {
        us_pg_return(conns[i]);
    }
}

static void test_kept(void)
{
    int before;

    patient_only = 1;
    start(4, 1, LONG);
    dbd_double_keep(2, 0);
    crew_threads(0, THREADS, visits);
    is_int(found.lent, (long long)THREADS * VISITS, "DBDKeep 2: all served");
    have(4);
    before = dbd_double_look().opened;
    ok(work(SHORT, 0), "DBDKeep 2: lent");
    ok(work(SHORT, 0), "DBDKeep 2: lent again");
    is_int(dbd_double_look().opened, before, "DBDKeep 2: mod_dbd not asked");
    end_keeping("DBDKeep 2", 4, 2);
    start(4, 1, LONG);
    dbd_double_keep(4, 0);
    crew_threads(0, THREADS, visits);
    is_int(found.lent, (long long)THREADS * VISITS, "DBDKeep 4: all served");
    have(4);
    end_keeping("DBDKeep 4: one is left to others", 4, 3);
    start(1, 1, LONG);
    dbd_double_keep(1, 0);
    ok(work(SHORT, 0), "DBDKeep 1 of 1: lent");
    end_keeping("DBDKeep 1 of 1: it is left to others", 1, 0);
    patient_only = 0;
    start(3, 1, LONG);
    dbd_double_keep(2, 0);
    crew_threads(0, THREADS, visits);
    is_int(found.lent + found.away, (long long)THREADS * VISITS,
           "kept, and the impatient: all come back");
    end_keeping("kept, and the impatient", 3, dbd_double_look().out);
}

#define EXPTIME 300

/* An idle connection is known to be old; and now and then one is returned. */
static void test_exptime(void)
{
    const char *cause = NULL;
    us_pg_conn *conn;
    int most = -1;

    set_time = us_clock_now();
    start(4, 1, PATIENCE);
    dbd_double_keep(3, EXPTIME);
    is_int(us_pg_pool_lent(pool, &most), 0, "before the first: none lent");
    is_int(most, 0, "before the first: DBDMax is not known");
    have(4);
    is_int(us_pg_pool_lent(pool, &most), 0, "kept ones are not lent");
    is_int(most, 4, "DBDMax");
    conn = borrow(pchild, LONG, &cause);
    ok(conn != NULL && !conn->aged, "DBDExptime: used just now");
    is_int(us_pg_pool_lent(pool, &most), 1, "one is lent");
    us_pg_return(conn);
    is_int(us_pg_pool_lent(pool, &most), 0, "and returned");
    is_int(dbd_double_look().out, 3, "DBDExptime: three are kept");
    set_time += apr_time_from_sec(EXPTIME + 1);
    conn = borrow(pchild, LONG, &cause);
    ok(conn != NULL && conn->aged, "DBDExptime: idle for too long");
    us_pg_return(conn);
    is_int(dbd_double_look().out, 2, "DBDExptime: the oldest went back");
    conn = borrow(pchild, LONG, &cause);
    ok(conn != NULL && !conn->aged, "DBDExptime: a new one");
    us_pg_return(conn);
    end_keeping("DBDExptime", 4, 2);
    set_time = 0;
}

/* When one of them led nowhere, the others that are kept may, too. */
static void test_doubt(void)
{
    const char *cause = NULL;
    us_pg_conn *conn;

    start(4, 1, PATIENCE);
    dbd_double_keep(3, EXPTIME);
    have(4);
    us_pg_pool_doubt(pool);
    conn = borrow(pchild, LONG, &cause);
    ok(conn != NULL && conn->aged, "doubt: a kept one is made anew");
    us_pg_return(conn);
    conn = borrow(pchild, LONG, &cause);
    ok(conn != NULL && !conn->aged, "doubt: once");
    us_pg_return(conn);
    end_keeping("doubt", 4, 3);
}

/* A kept connection may lead to a server that hangs: while PostgreSQL counts
 * as away only one is tried at a time. */
static void test_kept_while_away(void)
{
    const char *cause = NULL;
    us_pg_conn *probe;
    int before;

    set_time = us_clock_now();
    start(4, 1, PATIENCE);
    dbd_double_keep(2, 0);
    ok(work(SHORT, 0), "kept, away: at first");
    ok(us_pg_pool_trouble(pool, us_clock_now() - PATIENCE),
       "kept, away: a statement says so");
    before = dbd_double_look().opened;
    ok(borrow(pchild, LONG, &cause) == NULL, "kept, away: not lent at once");
    set_time += apr_time_from_sec(1);
    probe = borrow(pchild, LONG, &cause);
    ok(probe != NULL, "kept, away: the probe has it");
    ok(borrow(pchild, LONG, &cause) == NULL, "kept, away: no other thread");
    is_int(dbd_double_look().opened, before, "kept, away: mod_dbd not asked");
    us_pg_pool_fine(pool);
    us_pg_return(probe);
    ok(work(SHORT, 0), "kept, away: all is well");
    end_keeping("kept, away", 4, 1);
    set_time = 0;
}

/* There were no requests for long: then old trouble is ignored. */
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

int main(void)
{
    begin("test_pg_pool");
    test_visits();
    test_impatient();
    test_all_taken();
    test_turns();
    test_out_of_time();
    test_hang();
    test_short_outage();
    test_away();
    test_kept();
    test_exptime();
    test_doubt();
    test_kept_while_away();
    test_long_ago();
    return done();
}
