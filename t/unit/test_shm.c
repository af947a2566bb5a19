/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * limits/limits.c and limits/breaker.c with shared memory that a child
 * overwrites, and with a parent that is late: it is root, and must survive.
 */
#include "crew.h"
#include "httpd_stubs.h"
#include "mpm_stubs.h"
#include "shm_double.h"
#include "tap.h"
#include "us_breaker.h"
#include "us_limits.h"

#include <ap_mpm.h>

#include <apr_general.h>
#include <apr_strings.h>

#include <stdatomic.h>
#include <unistd.h>

#define LEASE apr_time_from_sec(3)
#define URL "https://one.example/auth/v1"

/* What the processes share. */
static struct shared {
    pthread_barrier_t barrier;
    _Atomic int arrived;
    _Atomic int entered;
    _Atomic int wrong;
    _Atomic int ready;
    _Atomic int stop;
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
static request_rec plain = {.connection = &client, .server = &server.s};
static request_rec http2 = {.connection = &stream, .server = &server.s};
static us_log log_of_request = {.r = &plain, .request_id = "id"};

static void make_server(int limit)
{
    us_server_conf *conf;

    apr_pool_clear(pool);
    stub_mpm.hard_limit_daemons = 4;
    stub_mpm.max_daemons = 4;
    stub_mpm.max_threads = 8;
    stub_mpm.is_threaded = AP_MPMQ_DYNAMIC;
    server.s.module_config = (ap_conf_vector_t *)server.configs;
    conf = us_config_create_server(pool, &server.s);
    conf->max_concurrent = limit;
    conf->max_per_client_percent = 0;
    conf->url = URL;
    server.configs[0] = conf;
}

static void make_limits(int limit)
{
    make_server(limit);
    if (us_limits_create(pool, &server.s) != APR_SUCCESS) {
        ok(0, "shared memory");
    }
    shared->ready = 0;
    shared->stop = 0;
}

/* Holds a place until it is killed. */
static void hold(int child, int thread)
{
    (void)child;
    (void)thread;
    us_limits_child_init(&server.s);
    shared->ready = us_limits_enter(&plain, &cause);
    for (;;) {
        crew_pause();
    }
}

static void wait_ready(void)
{
    while (!shared->ready) {
        crew_pause();
    }
}

/* --- a child whose end is reported late --- */

#define LATE_NEWS 6000
#define LATE_DELAYS 150

/*
 * The parent learns of a child's end at the moment when a new child takes over
 * the slot: the counts of the new child must stay.  Threads 0 to 2 are
 * separate processes: the parent, the new child, and an observer.
 */
static pid_t late_pid;
static unsigned char *late_segment;

/* Both at about the same moment. */
static void meet(int round, int delay)
{
    shared->arrived++;
    while (shared->arrived < 2 * (round + 1)) {
    }
    while (delay-- > 0) {
        atomic_thread_fence(memory_order_seq_cst);
    }
}

static void new_child(int round)
{
    meet(round, 0);
    us_limits_child_init(&server.s);
    pthread_barrier_wait(&shared->barrier);
    shared->entered += us_limits_enter(&plain, &cause);
    pthread_barrier_wait(&shared->barrier);
    pthread_barrier_wait(&shared->barrier);
    us_limits_leave(&plain);
}

static void look_on(void)
{
    pthread_barrier_wait(&shared->barrier);
    pthread_barrier_wait(&shared->barrier);
    us_limits_child_init(&server.s);
    shared->wrong += us_limits_enter(&plain, &cause);
    pthread_barrier_wait(&shared->barrier);
}

static void late_news(int role, int thread)
{
    int i;

    (void)thread;
    for (i = 0; i < LATE_NEWS; i++) {
        if (role == 0) {
            memcpy(shm_double, late_segment, shm_double_size);
        }
        pthread_barrier_wait(&shared->barrier);
        if (role == 1) {
            new_child(i);
        }
        else if (role == 2) {
            look_on();
        }
        else {
            meet(i, i % LATE_DELAYS);
            us_limits_child_gone(late_pid);
            pthread_barrier_wait(&shared->barrier);
            pthread_barrier_wait(&shared->barrier);
            pthread_barrier_wait(&shared->barrier);
        }
        pthread_barrier_wait(&shared->barrier);
    }
}

static void test_late_news(void)
{
    pid_t pids[3];
    int good = 1;
    int i;

    make_limits(1);
    crew_barrier_init(&shared->barrier, 3);
    late_pid = crew_fork(0, 1, NULL, hold);
    wait_ready();
    late_segment = apr_pmemdup(pool, shm_double, shm_double_size);
    crew_kill(late_pid);
    shared->entered = 0;
    shared->arrived = 0;
    for (i = 0; i < 3; i++) {
        pids[i] = crew_fork(i, 1, NULL, late_news);
    }
    for (i = 0; i < 3; i++) {
        good &= crew_wait(pids[i]);
    }
    ok(good, "late news: all end well");
    is_int(shared->entered, LATE_NEWS, "late news: the place is to be had");
    is_int(shared->wrong, 0, "late news: once");
}

/* --- a child that overwrites everything --- */

#define SCRIBBLES 200000

/* Everything that the parent does with it. */
static void parent_works(void)
{
    us_limits_child_gone(getpid());
    us_limits_child_gone(1);
    us_limits_child_gone((pid_t)0xffffffffU);
    us_limits_child_gone(0x01010101);
    us_limits_child_gone(0);
}

static void child_works(const request_rec *r)
{
    us_limits_child_init(&server.s);
    us_limits_is_full(r, &cause);
    if (us_limits_enter(r, &cause)) {
        us_limits_leave(r);
    }
    us_limits_leave(r);
    us_limits_is_full(r, &cause);
}

static void work_on_garbage(int child, int thread)
{
    int kind;

    (void)child;
    (void)thread;
    for (kind = 0; kind < SHM_DOUBLE_KINDS; kind++) {
        shm_double_scribble(kind);
        child_works(&plain);
        child_works(&http2);
        shm_double_scribble(kind);
        if (us_limits_enter(&plain, &cause)) {
            shm_double_scribble(kind);
            us_limits_leave(&plain);
        }
    }
}

/* Writes while the others work. */
static void scribble_on(int child, int thread)
{
    (void)child;
    (void)thread;
    while (!shared->stop) {
        shm_double_scratch();
        shared->ready = 1;
    }
}

static void work_on_moving_garbage(int child, int thread)
{
    int i;

    (void)child;
    (void)thread;
    for (i = 0; i < SCRIBBLES / 1000; i++) {
        child_works(&plain);
    }
}

static void test_limits(void)
{
    pid_t child;
    pid_t writer;
    int i;

    make_limits(5);
    for (i = 0; i < SHM_DOUBLE_KINDS; i++) {
        shm_double_scribble(i);
        parent_works();
    }
    ok(1, "garbage: the parent lives");
    child = crew_fork(0, 1, NULL, work_on_garbage);
    ok(crew_wait(child), "garbage: children do");
    writer = crew_fork(0, 1, NULL, scribble_on);
    wait_ready();
    child = crew_fork(0, 1, NULL, work_on_moving_garbage);
    for (i = 0; i < SCRIBBLES / 100; i++) {
        parent_works();
    }
    ok(crew_wait(child), "garbage that moves: parent and children live");
    shared->stop = 1;
    ok(crew_wait(writer), "garbage that moves: its writer, too");
}

static void breaker_on_garbage(int child, int thread)
{
    us_breaker *breaker = us_breaker_find(URL, US_LOG_IN);
    int i;

    (void)child;
    (void)thread;
    for (i = 0; i < 8 * SHM_DOUBLE_KINDS; i++) {
        us_attempt attempt
            = {.client = (unsigned)i % 3, .account = (unsigned)i};
        int seconds;

        shm_double_scribble(i / 8);
        us_breaker_is_open(breaker, attempt.client, &seconds);
        us_breaker_permit(breaker, &attempt, LEASE, &seconds);
        shm_double_scribble(i / 8);
        us_breaker_report(breaker, &log_of_request, &attempt,
                          (us_health)(i % 3));
    }
}

static void test_breaker(void)
{
    make_server(5);
    if (us_breaker_create(pool, &server.s) != APR_SUCCESS) {
        ok(0, "shared memory");
    }
    ok(crew_wait(crew_fork(0, 1, NULL, breaker_on_garbage)),
       "garbage: a circuit breaker lives with it");
}

int main(void)
{
    apr_initialize();
    apr_pool_create(&pool, NULL);
    crew_start("test_shm");
    shared = crew_share(sizeof(*shared));
    test_late_news();
    test_limits();
    test_breaker();
    return done();
}
