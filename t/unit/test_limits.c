/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * limits/limits.c: UserSyncMaxConcurrent with many threads of several
 * children.  There are never too many requests at a time; no place is lost,
 * not even those of a child that was killed.
 */
#include "crew.h"
#include "httpd_stubs.h"
#include "mpm_stubs.h"
#include "tap.h"
#include "us_limits.h"
#include "us_log.h"

#include <ap_mpm.h>
#include <util_cfgtree.h>

#include <apr_general.h>

#include <limits.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <unistd.h>

#define RACES 3000

/* What parent and children share. */
static struct shared {
    pthread_barrier_t barrier; /* all threads, and the parent */
    /* Requests that are in, a byte for each child: one value is one moment. */
    _Atomic uint64_t inside;
    _Atomic uint64_t inside_http2;
    _Atomic int in_all; /* the most that were ever in */
    _Atomic int in_child;
    _Atomic int in_http2;
    _Atomic int entered; /* in this round */
    _Atomic int wrong;   /* us_limits_is_full was wrong */
    _Atomic int ready;
    _Atomic int stop;
    _Atomic int asked;   /* the witness */
    _Atomic int no_slot; /* US011 */
    _Atomic int arrived; /* threads that race for the last place */
    _Atomic int tried;
    _Atomic int winners[RACES];
} * shared;

static apr_pool_t *pool;
static _Thread_local const char *cause;

/* --- a server, and requests of both kinds --- */

static struct {
    server_rec s;
    void *configs[1];
} server;

static conn_rec client;
static conn_rec stream = {.master = &client};
static request_rec plain = {.connection = &client};
static request_rec http2 = {.connection = &stream};

/* Which threads use HTTP/2: each of this many, 0: none. */
static int http2_share;

static const request_rec *request_of(int thread)
{
    return http2_share > 0 && thread % http2_share == 0 ? &http2 : &plain;
}

/* Sets H2MaxWorkers, in a configuration of one line. */
static void set_http2_workers(const char *number)
{
    static ap_directive_t line = {.directive = "H2MaxWorkers"};

    line.args = number;
    ap_conftree = number != NULL ? &line : NULL;
}

static void count_lines(int level, const char *line)
{
    if (level == APLOG_WARNING && strncmp(line, "US011", 5) == 0) {
        shared->no_slot++;
    }
}

/* Starts a generation. */
static void make_limits(int daemons, int threads, int limit)
{
    us_server_conf *conf;

    apr_pool_clear(pool);
    stub_mpm.hard_limit_daemons = daemons;
    stub_mpm.max_daemons = daemons;
    stub_mpm.max_threads = threads;
    stub_mpm.is_threaded
        = threads > 1 ? AP_MPMQ_DYNAMIC : AP_MPMQ_NOT_SUPPORTED;
    server.s.module_config = (ap_conf_vector_t *)server.configs;
    conf = us_config_create_server(pool, &server.s);
    conf->max_concurrent = limit;
    conf->max_per_client_percent = 0;
    server.configs[0] = conf;
    if (us_limits_create(pool, &server.s) != APR_SUCCESS) {
        ok(0, "shared memory");
    }
    shared->no_slot = 0;
}

static void child_init(int child)
{
    (void)child;
    us_limits_child_init(&server.s);
}

/* --- counting requests --- */

static void keep_most(_Atomic int *most, int count)
{
    int before = *most;

    while (count > before
           && !atomic_compare_exchange_weak(most, &before, count)) {
    }
}

static int sum_of(uint64_t bytes)
{
    int sum = 0;

    for (; bytes != 0; bytes >>= 8) {
        sum += (int)(bytes & 0xff);
    }
    return sum;
}

static uint64_t one_of(int child)
{
    return UINT64_C(1) << (8 * child);
}

static int share_of(uint64_t bytes, int child)
{
    return (int)(bytes >> (8 * child) & 0xff);
}

static void came_in(int child, const request_rec *r)
{
    uint64_t now
        = atomic_fetch_add(&shared->inside, one_of(child)) + one_of(child);

    keep_most(&shared->in_all, sum_of(now));
    keep_most(&shared->in_child, share_of(now, child));
    if (r == &http2) {
        now = atomic_fetch_add(&shared->inside_http2, one_of(child))
              + one_of(child);
        keep_most(&shared->in_http2, share_of(now, child));
    }
}

static void goes_out(int child, const request_rec *r)
{
    if (r == &http2) {
        atomic_fetch_sub(&shared->inside_http2, one_of(child));
    }
    atomic_fetch_sub(&shared->inside, one_of(child));
}

static void nobody_is_in(void)
{
    shared->inside = 0;
    shared->inside_http2 = 0;
    shared->in_all = 0;
    shared->in_child = 0;
    shared->in_http2 = 0;
    shared->wrong = 0;
    shared->stop = 0;
    shared->ready = 0;
    shared->asked = 0;
}

/* --- in any order, then all at the same time --- */

#define BURST 5000
#define VISITS 500
#define ROUNDS 30

static void visit(int child, const request_rec *r, int length)
{
    if (us_limits_enter(r, &cause)) {
        came_in(child, r);
        for (; length > 0; length--) {
            sched_yield();
        }
        goes_out(child, r);
        us_limits_leave(r);
    }
}

/* All try at the same time; those that get in stay until all have tried. */
static void fill(int child, const request_rec *r)
{
    int in;

    shared->wrong += us_limits_is_full(r, &cause);
    pthread_barrier_wait(&shared->barrier);
    in = us_limits_enter(r, &cause);
    if (in) {
        came_in(child, r);
        shared->entered++;
    }
    pthread_barrier_wait(&shared->barrier);
    shared->wrong += !us_limits_is_full(r, &cause);
    pthread_barrier_wait(&shared->barrier);
    if (in) {
        goes_out(child, r);
        us_limits_leave(r);
    }
    pthread_barrier_wait(&shared->barrier);
}

static void work(int child, int thread)
{
    const request_rec *r = request_of(thread);
    int i;

    for (i = 0; i < BURST; i++) {
        visit(child, r, 0); /* in and out: counts could get lost here */
    }
    for (i = 0; i < VISITS; i++) {
        visit(child, r, i % 3);
    }
    pthread_barrier_wait(&shared->barrier);
    for (i = 0; i < ROUNDS; i++) {
        fill(child, r);
    }
}

/* The parent's part of the rounds: the least and the most that got in. */
static void watch_rounds(int *least, int *most)
{
    int i;

    *least = INT_MAX;
    *most = 0;
    for (i = 0; i < ROUNDS; i++) {
        int entered;

        shared->entered = 0;
        pthread_barrier_wait(&shared->barrier);
        pthread_barrier_wait(&shared->barrier);
        entered = shared->entered;
        *least = entered < *least ? entered : *least;
        *most = entered > *most ? entered : *most;
        pthread_barrier_wait(&shared->barrier);
        pthread_barrier_wait(&shared->barrier);
    }
}

/* Rounds with new children, of which this many must get in each time. */
static void check_rounds(int children, int threads, int expected,
                         const char *name)
{
    pid_t pids[CREW_CHILDREN];
    int least;
    int most;
    int good = 1;
    int i;

    nobody_is_in();
    crew_barrier_init(&shared->barrier, children * threads + 1);
    for (i = 0; i < children; i++) {
        pids[i] = crew_fork(i, threads, child_init, work);
    }
    pthread_barrier_wait(&shared->barrier);
    watch_rounds(&least, &most);
    for (i = 0; i < children; i++) {
        good &= crew_wait(pids[i]);
        us_limits_child_gone(pids[i]);
    }
    ok(good, "%s: the children end well", name);
    is_int(most, expected, "%s: no more than that", name);
    is_int(least, expected, "%s: and each place is to be had", name);
    is_int(shared->wrong, 0, "%s: full is what is full", name);
    is_int(shared->no_slot, 0, "%s: a slot for each child", name);
}

static void check(int children, int threads, int limit, int limit_child,
                  const char *name)
{
    int all = limit < children * limit_child ? limit : children * limit_child;

    make_limits(children, threads, limit);
    check_rounds(children, threads, all, name);
    is_int(shared->in_all, all, "%s: the most that ever were in", name);
    ok(shared->in_child <= limit_child, "%s: %d of a child, at most %d", name,
       shared->in_child, limit_child);
}

static void test_limits(void)
{
    check(4, 8, 5, 7, "5 of all");
    check(4, 8, 1, 7, "1 of all");
    crew_shaken = 1;
    check(4, 8, 1000, 7, "a thread of each child stays free");
    crew_shaken = 0;
    check(8, 1, 3, 1, "prefork");
    check(8, 1, 8, 1, "prefork has no limit of a child");
    http2_share = 2;
    check(4, 8, 5, 7, "5 of all, every other one over HTTP/2");
    http2_share = 1;
    set_http2_workers("4");
    check(4, 8, 1000, 3, "a thread of mod_http2's stays free");
    is_int(shared->in_http2, 3, "the most of mod_http2's that ever were in");
    set_http2_workers("1");
    check(4, 8, 1000, 1, "the only thread of mod_http2's");
    set_http2_workers(NULL);
    http2_share = 0;
}

/* --- two requests for the last place --- */

static void wait_for(_Atomic int *counter, int count)
{
    while (*counter < count) {
        sched_yield();
    }
}

static void race(int child, int thread)
{
    int i;

    (void)child;
    (void)thread;
    for (i = 0; i < RACES; i++) {
        int in;

        shared->arrived++;
        wait_for(&shared->arrived, 2 * (i + 1));
        in = us_limits_enter(&plain, &cause);
        shared->winners[i] += in;
        shared->tried++;
        wait_for(&shared->tried, 2 * (i + 1));
        if (in) {
            us_limits_leave(&plain);
        }
    }
}

/* The thread that steps back last finds the place free, and takes it. */
static void test_last_place(void)
{
    pid_t pids[2];
    int i;

    make_limits(2, 1, 1);
    crew_shaken = 1;
    for (i = 0; i < 2; i++) {
        pids[i] = crew_fork(i, 1, child_init, race);
    }
    ok(crew_wait(pids[0]) && crew_wait(pids[1]),
       "last place: the children end well");
    crew_shaken = 0;
    for (i = 0; i < RACES && shared->winners[i] == 1; i++) {
    }
    is_int(i, RACES, "last place: of two at once it is one's");
}

/* --- children that are killed --- */

#define LIMIT 5

static void visit_for_ever(int child, int thread)
{
    int i;

    shared->ready++;
    for (i = thread; !shared->stop; i++) {
        visit(child, &plain, i % 3);
    }
}

/* As in httpd: the place is free once the child is known to have ended. */
static void bury(int child, pid_t pid)
{
    uint64_t mask = ~(UINT64_C(0xff) << (8 * child));

    crew_kill(pid);
    atomic_fetch_and(&shared->inside, mask);
    us_limits_child_gone(pid);
}

static void test_killed_at_work(void)
{
    pid_t pids[4];
    int good = 1;
    int kills;
    int i;

    make_limits(4, 8, LIMIT);
    nobody_is_in();
    for (i = 0; i < 4; i++) {
        pids[i] = crew_fork(i, 8, child_init, visit_for_ever);
    }
    for (kills = 0; kills < 40; kills++) {
        i = kills % 4;
        while (shared->ready < 8) {
            crew_pause();
        }
        bury(i, pids[i]);
        shared->ready = 0;
        pids[i] = crew_fork(i, 8, child_init, visit_for_ever);
    }
    shared->stop = 1;
    for (i = 0; i < 4; i++) {
        good &= crew_wait(pids[i]);
        us_limits_child_gone(pids[i]);
    }
    ok(good, "killed at work: the others end well");
    ok(shared->in_all > 0 && shared->in_all <= LIMIT,
       "killed at work: never more than %d, but %d", LIMIT, shared->in_all);
    is_int(shared->no_slot, 0, "killed at work: the next one finds the slot");
    check_rounds(4, 8, LIMIT, "after 40 that were killed");
}

/* Holds a place in each thread until it is killed. */
static void hold(int child, int thread)
{
    (void)child;
    (void)thread;
    if (us_limits_enter(&plain, &cause)) {
        shared->ready++;
    }
    for (;;) {
        crew_pause();
    }
}

static pid_t start_holder(int threads)
{
    pid_t pid;

    shared->ready = 0;
    pid = crew_fork(0, threads, child_init, hold);
    while (shared->ready < threads) {
        crew_pause();
    }
    return pid;
}

static int count_places(void)
{
    int count = 0;
    int i;

    while (us_limits_enter(&plain, &cause)) {
        count++;
    }
    for (i = 0; i < count; i++) {
        us_limits_leave(&plain);
    }
    return count;
}

/* How many places a child finds that was there all the time. */
static void bear_witness(int child, int thread)
{
    (void)child;
    (void)thread;
    while (!shared->stop) {
        if (shared->asked) {
            shared->entered = count_places();
            shared->asked = 0;
        }
        crew_pause();
    }
}

static int places(void)
{
    shared->asked = 1;
    while (shared->asked) {
        crew_pause();
    }
    return shared->entered;
}

/* How many places a new child finds. */
static void tell_places(int child, int thread)
{
    (void)child;
    (void)thread;
    shared->entered = count_places();
}

static int places_for_new_child(void)
{
    pid_t pid;

    shared->entered = -1;
    pid = crew_fork(0, 1, child_init, tell_places);
    crew_wait(pid);
    us_limits_child_gone(pid);
    return shared->entered;
}

static void test_places_of_the_dead(void)
{
    pid_t witness;
    pid_t pid;

    make_limits(2, 8, LIMIT);
    nobody_is_in();
    witness = crew_fork(0, 1, child_init, bear_witness);
    is_int(places(), LIMIT, "places at first");
    pid = start_holder(3);
    is_int(places(), LIMIT - 3, "places while a child holds three");
    us_limits_child_gone(1);
    is_int(places(), LIMIT - 3, "another child's end changes nothing");
    crew_kill(pid);
    is_int(places(), LIMIT - 3, "killed, and the parent not told");
    us_limits_child_gone(pid);
    is_int(places(), LIMIT, "killed, and the parent told");
    us_limits_child_gone(pid);
    is_int(places(), LIMIT, "told twice");
    shared->stop = 1;
    ok(crew_wait(witness), "the witness ends well");
}

static void be_there(int child, int thread)
{
    (void)child;
    (void)thread;
    shared->ready++;
}

/* More than the slots of a server with one child. */
#define CROWD 200

/* Children start before the parent has been told which have ended.  These are
 * not waited for, so that their pids still exist. */
static void test_slots(void)
{
    static pid_t crowd[CROWD];
    int count = 0;
    pid_t pid;
    int i;

    make_limits(1, 8, LIMIT);
    nobody_is_in();
    pid = start_holder(3);
    while (shared->no_slot == 0 && count < CROWD) {
        shared->ready = 0;
        crowd[count++] = crew_fork(0, 1, child_init, be_there);
        while (shared->ready == 0) {
            crew_pause();
        }
    }
    ok(count > 4 && count < CROWD, "slots for many more than ServerLimit: %d",
       count);
    is_int(places_for_new_child(), 7, "no slot: the child's limit holds");
    is_int(shared->no_slot, 2, "and it says so");
    crew_kill(pid);
    is_int(places_for_new_child(), LIMIT, "a dead child's slot is taken over");
    is_int(shared->no_slot, 2, "without a word");
    for (i = 0; i < count; i++) {
        crew_wait(crowd[i]);
    }
}

int main(void)
{
    apr_initialize();
    apr_pool_create(&pool, NULL);
    crew_start("test_limits");
    shared = crew_share(sizeof(*shared));
    stub_log_hook = count_lines;
    test_limits();
    test_last_place();
    test_killed_at_work();
    test_places_of_the_dead();
    test_slots();
    return done();
}
