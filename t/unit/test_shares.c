/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * limits/limits.c: UserSyncMaxPerClient.  A client gets what others leave,
 * except the last fifth of the seats.
 */
#include "crew.h"
#include "mpm_stubs.h"
#include "tap.h"
#include "us_client.h"
#include "us_limits.h"

#include <ap_mpm.h>

#include <apr_general.h>
#include <apr_strings.h>

#include <arpa/inet.h>
#include <stdatomic.h>

#define ADA "192.0.2.1"
#define BEN "192.0.2.2"

static struct shared {
    pthread_barrier_t barrier;
    _Atomic int ready;
    _Atomic int stop;
    _Atomic int entered;
} * shared;

static apr_pool_t *pool;

/* --- clients --- */

static conn_rec client;
static conn_rec stream = {.master = &client};

static request_rec *request_from(const char *text)
{
    request_rec *r = apr_pcalloc(pool, sizeof(*r));
    apr_sockaddr_t *address = apr_pcalloc(pool, sizeof(*address));
    int ipv6 = strchr(text, ':') != NULL;

    r->connection = &client;
    r->useragent_addr = address;
    address->family = ipv6 ? APR_INET6 : APR_INET;
    if (inet_pton(address->family, text,
                  ipv6 ? (void *)&address->sa.sin6.sin6_addr
                       : (void *)&address->sa.sin.sin_addr)
        != 1) {
        ok(0, "%s is no address", text);
    }
    return r;
}

static apr_uint64_t client_of(const char *text)
{
    return us_client_of(request_from(text));
}

static void test_clients(void)
{
    static const struct {
        const char *one;
        const char *other;
        int same;
    } cases[] = {
        {ADA, ADA, 1},
        {ADA, BEN, 0},
        {ADA, "::ffff:" ADA, 1},
        {"::ffff:" ADA, "::ffff:" BEN, 0},
        {"2001:db8::1", "2001:db8::1", 1},
        {"2001:db8::1", "2001:db8:0:0:ffff:ffff:ffff:ffff", 1},
        {"2001:db8:0:1::1", "2001:db8:0:2::1", 0},
        {"::", "::1", 1},
        {"::1", "::ffff:0.0.0.1", 0},
        {"0.0.0.0", "::", 0},
    };
    request_rec nobody = {.connection = &client};
    apr_uint64_t before;
    apr_size_t i;

    is_int(us_client_create(), APR_SUCCESS, "a salt");
    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        is_int(client_of(cases[i].one) == client_of(cases[i].other),
               cases[i].same, "%s and %s", cases[i].one, cases[i].other);
    }
    ok(us_client_of(&nobody) != 0, "no address is one, too");
    ok(us_client_account("a@x.co", 6) != us_client_account("b@x.co", 6),
       "accounts");
    before = client_of(ADA);
    us_client_create();
    ok(before != client_of(ADA), "another generation, another name");
}

/* --- a generation --- */

static struct {
    server_rec s;
    void *configs[1];
} server;

#define DEFAULT (-1000)

/* UserSyncHookSecret, and UserSyncHookForward, of the next server. */
static apr_array_header_t secrets;
static int has_hook;
static const char *forward;

/* per_client: a number; below 0: a percentage; 0: Off. */
static void make(int limit, int threads, int per_client)
{
    us_server_conf *conf;

    apr_pool_clear(pool);
    stub_mpm.hard_limit_daemons = 4;
    stub_mpm.max_daemons = 4;
    stub_mpm.max_threads = threads;
    stub_mpm.is_threaded = AP_MPMQ_DYNAMIC;
    server.s.module_config = (ap_conf_vector_t *)server.configs;
    conf = us_config_create_server(pool, &server.s);
    conf->max_concurrent = limit;
    conf->hook_secrets = has_hook ? &secrets : NULL;
    conf->hook_forward = forward;
    if (per_client >= 0) {
        conf->max_per_client = per_client;
        conf->max_per_client_percent = 0;
    }
    else if (per_client != DEFAULT) {
        conf->max_per_client_percent = -per_client;
    }
    server.configs[0] = conf;
    if (us_limits_create(pool, &server.s) != APR_SUCCESS) {
        ok(0, "shared memory");
    }
}

static _Thread_local const char *cause;

/* How many of these requests get a seat. */
static int enter(const request_rec *r, int tries)
{
    int seats = 0;

    while (tries-- > 0) {
        int full = us_limits_is_full(r, &cause);
        int entered = us_limits_enter(r, &cause);

        if (full == entered) {
            return -1;
        }
        seats += entered;
    }
    return seats;
}

static void leave(const request_rec *r, int seats)
{
    while (seats-- > 0) {
        us_limits_leave(r);
    }
}

static void is_cause(const char *directive, const char *name)
{
    ok(cause != NULL && strncmp(cause, directive, strlen(directive)) == 0,
       "%s: %s", name, cause != NULL ? cause : "no cause");
}

/* --- in one child --- */

static void test_share(void)
{
    const request_rec *ada;
    const request_rec *ben;

    make(20, 100, DEFAULT);
    us_limits_child_init(&server.s);
    ada = request_from(ADA);
    ben = request_from(BEN);
    is_int(enter(ada, 100), 16, "a client alone gets four fifths");
    is_cause("UserSyncMaxPerClient is reached", "then it is told so");
    ok(strstr(cause, "mod_remoteip") != NULL, "and what a proxy needs");
    is_int(enter(ben, 3), 3, "another one gets a seat");
    leave(ada, 5);
    is_int(enter(ada, 2), 2, "not scarce any more: the first, too");
    is_int(enter(ben, 100), 2, "the other one has its share then");
    is_cause("UserSyncMaxPerClient is reached", "the other one");
    leave(ada, 8);
    is_int(enter(ben, 100), 6, "more, until four fifths are taken");
    is_int(enter(ada, 100), 0, "the first one has its five");
    is_int(enter(request_from("192.0.2.3"), 100), 4, "a third one");
    is_int(enter(request_from("192.0.2.4"), 1), 0, "the fourth finds none");
    is_cause("UserSyncMaxConcurrent is reached", "for all are taken");
}

static void test_values(void)
{
    static const struct {
        int limit;
        int per_client;
        int alone;
        int beside; /* seats after others took four fifths */
    } cases[] = {
        {20, DEFAULT, 16, 4}, {20, 3, 16, 3},     {20, -10, 16, 2},
        {20, 0, 20, 4},       {20, -1, 16, 1},    {20, 19, 19, 4},
        {20, -100, 20, 4},    {5, DEFAULT, 4, 1}, {4, DEFAULT, 3, 1},
        {1, DEFAULT, 1, 1},   {1, 0, 1, 1},       {2, DEFAULT, 1, 1},
    };
    apr_size_t i;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const request_rec *ada;
        int most = cases[i].limit * 4 / 5;
        int count;

        make(cases[i].limit, 100, cases[i].per_client);
        us_limits_child_init(&server.s);
        ada = request_from(ADA);
        is_int(enter(ada, 100), cases[i].alone, "%d seats, %d: alone",
               cases[i].limit, cases[i].per_client);
        leave(ada, cases[i].alone);
        for (count = 0; count < most; count++) {
            enter(request_from(apr_psprintf(pool, "198.51.100.%d", count)), 1);
        }
        is_int(enter(ada, 100), cases[i].beside, "%d seats, %d: in a crowd",
               cases[i].limit, cases[i].per_client);
    }
}

/* The seats of one child, or of its mod_http2, may be scarce, too. */
static void test_child(void)
{
    request_rec *ada;
    request_rec *ben;

    make(1000, 21, DEFAULT);
    us_limits_child_init(&server.s);
    ada = request_from(ADA);
    ben = request_from(BEN);
    is_int(enter(ada, 100), 16, "a child's seats: four fifths");
    is_cause("UserSyncMaxPerClient is reached", "a child's seats");
    is_int(enter(ben, 100), 4, "a child's seats: another one");
    is_cause("this child has no thread left", "a child is full");

    make(1000, 4, DEFAULT);
    us_limits_child_init(&server.s);
    ada = request_from(ADA);
    ada->connection = &stream;
    is_int(enter(ada, 100), 2, "HTTP/2 counts in the child");
    leave(ada, 2);

    make(1000, 100, DEFAULT);
    us_limits_child_init(&server.s);
    ada = request_from(ADA);
    ben = request_from(BEN);
    is_int(enter(ada, 20), 20, "over HTTP/1.1");
    ada->connection = &stream;
    ben->connection = &stream;
    is_int(enter(ada, 100), 59, "over HTTP/2, until the child's are scarce");
    is_int(enter(ben, 100), 20, "over HTTP/2, another one");
}

/* In a child of this many threads: whatever holds them, the own hook that is
 * forwarded to finds one, and so do hooks that are not forwarded. */
static void test_hooks(int threads, int forwards, int seats)
{
    int taken = 0;

    make(1000, threads, 0);
    us_limits_child_init(&server.s);
    is_int(enter(request_from(ADA), 100), seats, "seats of %d threads",
           threads);
    while (us_limits_forward_enter()) {
        taken++;
    }
    is_int(taken, forwards, "hooks that are forwarded, of %d threads",
           threads);
}

/* The same of mod_http2's threads, if all come over HTTP/2. */
static void test_hooks_http2(const char *h2_threads, int forwards, int seats)
{
    ap_directive_t line = {.directive = "H2MaxWorkers", .args = h2_threads};
    request_rec *ada;
    int taken = 0;

    ap_conftree = &line;
    make(1000, 64, 0);
    ap_conftree = NULL;
    us_limits_child_init(&server.s);
    ada = request_from(ADA);
    ada->connection = &stream;
    is_int(enter(ada, 100), seats, "seats of mod_http2's %s threads",
           h2_threads);
    while (us_limits_forward_enter()) {
        taken++;
    }
    is_int(taken, forwards, "hooks that are forwarded, of mod_http2's %s",
           h2_threads);
}

static void test_threads_for_hooks(void)
{
    has_hook = 1;
    test_hooks(8, 1, 7);
    forward = "http://127.0.0.1/hook";
    test_hooks(8, 1, 6);
    test_hooks(16, 2, 13);
    test_hooks(25, 3, 21);
    test_hooks(64, 8, 55);
    test_hooks(2, 1, 1);
    test_hooks_http2("96", 8, 55);
    test_hooks_http2("32", 4, 27);
    test_hooks_http2("8", 1, 6);
    has_hook = 0;
    forward = NULL;
}

static void test_http2(void)
{
    static ap_directive_t line = {.directive = "H2MaxWorkers", .args = "11"};
    request_rec *ada;
    request_rec *ben;

    ap_conftree = &line;
    make(1000, 100, DEFAULT);
    ap_conftree = NULL;
    us_limits_child_init(&server.s);
    ada = request_from(ADA);
    ben = request_from(BEN);
    is_int(enter(ada, 1), 1, "one over HTTP/1.1");
    ada->connection = &stream;
    ben->connection = &stream;
    is_int(enter(ada, 100), 8, "mod_http2's threads: four fifths");
    is_cause("UserSyncMaxPerClient is reached", "mod_http2's threads");
    is_int(enter(ben, 100), 2, "mod_http2's threads: another one");
    is_cause("no more of mod_http2's threads", "mod_http2's threads");
    ada->connection = &client;
    is_int(enter(ada, 1), 1, "HTTP/1.1 is not scarce");
}

/* --- in several children --- */

static void hold(int child, int thread)
{
    (void)child;
    (void)thread;
    us_limits_child_init(&server.s);
    enter(request_from(ADA), 9);
    shared->ready++;
    while (!shared->stop) {
        crew_pause();
    }
}

static void test_children(void)
{
    pid_t pids[2];
    const request_rec *ada;
    int i;

    make(20, 100, DEFAULT);
    shared->ready = 0;
    for (i = 0; i < 2; i++) {
        pids[i] = crew_fork(i, 1, NULL, hold);
        while (shared->ready <= i) {
            crew_pause();
        }
    }
    us_limits_child_init(&server.s);
    ada = request_from(ADA);
    is_int(enter(ada, 1), 0, "a client's seats in other children count");
    is_int(enter(request_from(BEN), 1), 1, "another one's do not");
    crew_kill(pids[0]);
    us_limits_child_gone(pids[0]);
    is_int(enter(ada, 100), 8, "those of a dead child do not");
    leave(ada, 8);
    shared->stop = 1;
    crew_wait(pids[1]);
    us_limits_child_gone(pids[1]);
    is_int(enter(ada, 100), 15, "nor do those of one that has ended");
}

/* All at the same time, again and again: always exactly the share. */
#define CHILDREN 3
#define THREADS 6
#define ROUNDS 400

static void rush(int child, int thread)
{
    request_rec r = *request_from(ADA);
    int i;

    (void)child;
    (void)thread;
    for (i = 0; i < ROUNDS; i++) {
        int in;

        pthread_barrier_wait(&shared->barrier);
        in = us_limits_enter(&r, &cause);
        shared->entered += in;
        pthread_barrier_wait(&shared->barrier);
        if (in) {
            us_limits_leave(&r);
        }
    }
}

static void rush_init(int child)
{
    (void)child;
    us_limits_child_init(&server.s);
}

static void test_rush(void)
{
    pid_t pids[CHILDREN];
    int wrong = 0;
    int good = 1;
    int i;

    make(20, 100, -10);
    us_limits_child_init(&server.s);
    for (i = 0; i < 16; i++) {
        enter(request_from(apr_psprintf(pool, "198.51.100.%d", i)), 1);
    }
    crew_barrier_init(&shared->barrier, CHILDREN * THREADS + 1);
    crew_shaken = 1;
    for (i = 0; i < CHILDREN; i++) {
        pids[i] = crew_fork(i, THREADS, rush_init, rush);
    }
    for (i = 0; i < ROUNDS; i++) {
        shared->entered = 0;
        pthread_barrier_wait(&shared->barrier);
        pthread_barrier_wait(&shared->barrier);
        wrong += shared->entered != 2;
    }
    for (i = 0; i < CHILDREN; i++) {
        good &= crew_wait(pids[i]);
    }
    ok(good, "a rush: the children end well");
    is_int(wrong, 0, "a rush: two of eighteen get in, each time");
}

int main(void)
{
    apr_initialize();
    apr_pool_create(&pool, NULL);
    crew_start("test_shares");
    shared = crew_share(sizeof(*shared));
    test_clients();
    test_share();
    test_values();
    test_child();
    test_threads_for_hooks();
    test_http2();
    test_children();
    test_rush();
    return done();
}
