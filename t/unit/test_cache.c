/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * users/cache.c: users are known if their row was seen, for that table of that
 * database and for UserSyncCacheTimeout, and not otherwise.  A failure makes
 * users unknown, and blocks nobody.
 */
#include "crew.h"
#include "directive_stubs.h"
#include "httpd_stubs.h"
#include "socache_stubs.h"
#include "tap.h"
#include "us_cache.h"
#include "us_clock.h"
#include "us_log.h"

#include <apr_general.h>
#include <apr_strings.h>

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#define ADA "0a1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d"
#define BOB "0a1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4e"

#define KEY_LEN (1 + 20 + 16)

#define THREADS 8
#define ROUNDS 2000

static apr_pool_t *pool;
static apr_pool_t *request_pool;
static const us_log nowhere = {NULL, "-"};

/* What children, threads and the parent share. */
static struct {
    _Atomic int locked;
    _Atomic int stop;
    _Atomic int hits;
    _Atomic int wrong;
} * shared;

/* --- a generation --- */

static us_cache_choice *choose(const char *arg)
{
    us_cache_choice *choice = NULL;

    is_str(us_cache_choose(pool, pool, arg, &choice), NULL, "%s is taken",
           arg);
    return choice;
}

/* Starts with an empty cache of that UserSyncCache; NULL: without the line. */
static apr_status_t start(const char *arg, unsigned flags)
{
    us_cache_choice *choice;

    apr_pool_clear(pool);
    us_cache_pre_config(pool);
    stub_socache_count = 0;
    stub_socache_flags(flags);
    stub_global_mutex = NULL;
    choice = arg != NULL ? choose(arg) : NULL;
    return us_cache_create(pool, pool, NULL, choice);
}

/* The cache of a server with the lines "NAME VALUE, NAME VALUE". */
static us_cache *cache_of(const char *dbd, const char *lines)
{
    stub_server *server = stub_server_make(pool);
    char *copy = apr_pstrdup(pool, lines);
    char *rest = NULL;
    char *item;

    for (item = apr_strtok(copy, ",", &rest); item != NULL;
         item = apr_strtok(NULL, ",", &rest)) {
        char *inside = NULL;
        const char *name = apr_strtok(item, " ", &inside);
        const char *first = apr_strtok(NULL, " ", &inside);
        const char *wrong = stub_line(pool, server, NULL, name, first,
                                      apr_strtok(NULL, " ", &inside));

        if (wrong != NULL) {
            ok(0, "%s", wrong);
        }
    }
    return us_cache_get(pool, &server->s, us_config_server(&server->s), dbd);
}

static void add(const us_cache *cache, const char *id)
{
    us_cache_user user = {.id = id};

    us_cache_add(cache, request_pool, &nowhere, &user);
}

static int has(const us_cache *cache, const char *id)
{
    us_cache_user user = {.id = id};

    return us_cache_look(cache, request_pool, &user) != US_UNKNOWN;
}

/* --- UserSyncCache --- */

static const struct {
    const char *arg;
    const char *args; /* that the provider gets */
} taken[] = {
    {"list", ""},
    {"list:", ""},
    {"list:a", "a"},
    {"list:/run/x(512000):b c", "/run/x(512000):b c"},
    {"shmcb", "/run/usersync-cache(8388608)"},
    {"shmcb:/run/y(1000000)", "/run/y(1000000)"},
};

static const struct {
    const char *arg;
    const char *part; /* of the message */
} refused[] = {
    {"nothing", "\"nothing\" is not known here: load mod_socache_nothing"},
    {"nothing:x", "\"nothing\" is not known here"},
    {"", "\"\" is not known here"},
    {":x", "\"\" is not known here"},
    {"list x", "\"list x\" is not known here"},
    {"none:x", "\"none\" is not known here"},
    {"list:wrong", "list: wrong: that is wrong"},
};

static void test_choose(void)
{
    apr_size_t i;

    for (i = 0; i < sizeof(taken) / sizeof(taken[0]); i++) {
        stub_socache_args = NULL;
        ok(choose(taken[i].arg) != NULL, "and chosen");
        is_str(stub_socache_args, taken[i].args, "with its arguments");
    }
    for (i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        us_cache_choice *choice = NULL;
        const char *wrong
            = us_cache_choose(pool, pool, refused[i].arg, &choice);

        ok(wrong != NULL && strstr(wrong, refused[i].part) != NULL,
           "\"%s\": %s", refused[i].arg, shown(wrong));
        ok(choice == NULL, "and nothing is chosen");
    }
}

static void test_default(void)
{
    stub_socache_args = NULL;
    is_int(start(NULL, 0), APR_SUCCESS, "there is a cache without the line");
    is_str(stub_socache_args, "/run/usersync-cache(8388608)",
           "of shmcb, and of 8 MB");
    ok(cache_of("db", "") != NULL, "it can be had");
    is_str(us_cache_check_default(), NULL, "shmcb is there");
    stub_socache_has_shmcb = 0;
    ok(strstr(us_cache_check_default(), "a2enmod socache_shmcb") != NULL
           && strstr(us_cache_check_default(), "UserSyncCache none") != NULL,
       "it is not: what to do");
    ok(start(NULL, 0) != APR_SUCCESS, "it is not: no start");
    ok(cache_of("db", "") == NULL, "and no cache");
    stub_socache_has_shmcb = 1;
}

static void test_none(void)
{
    static const char *const words[] = {"none", "None", "NONE"};
    us_cache *cache;
    apr_size_t i;

    for (i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        is_int(start(words[i], AP_SOCACHE_FLAG_NOTMPSAFE), APR_SUCCESS,
               "%s is no failure", words[i]);
        ok(!stub_socache_alive && stub_global_mutex == NULL,
           "and creates nothing");
        us_cache_child_init(pool, NULL);
        cache = cache_of("db", "");
        ok(cache == NULL, "there is no cache");
        add(cache, ADA);
        ok(!has(cache, ADA) && stub_socache_count == 0, "and it keeps none");
    }
}

static void test_life(void)
{
    is_int(start("list", 0), APR_SUCCESS, "a cache is created");
    ok(stub_socache_alive && stub_global_mutex == NULL,
       "without a mutex for a provider that needs none");
    is_int((long long)stub_socache_hints.avg_id_len, KEY_LEN,
           "hints: length of a key");
    ok(stub_socache_hints.avg_obj_size >= 1
           && stub_socache_hints.avg_obj_size <= 64,
       "hints: of a value, with what shmcb needs beside: %d",
       (int)stub_socache_hints.avg_obj_size);
    is_int(stub_socache_hints.expiry_interval, apr_time_from_sec(300),
           "hints: how long");
    apr_pool_clear(pool);
    ok(!stub_socache_alive, "it ends with its generation");
    ok(cache_of("db", "") == NULL, "and cannot be had any more");
    is_int(start("list", AP_SOCACHE_FLAG_NOTMPSAFE), APR_SUCCESS,
           "the next one");
    ok(stub_socache_alive && stub_global_mutex != NULL,
       "with a mutex for one that needs it");
    stub_socache_rv = APR_EGENERAL;
    is_int(start("list", 0), APR_EGENERAL, "the provider cannot start");
    stub_socache_rv = APR_SUCCESS;
    ok(cache_of("db", "") == NULL, "then there is no cache");
}

/* With httpd -X the process that cannot join also ends the generation. */
static void test_mutex_that_cannot_be_joined(void)
{
    char file[] = "/tmp/usersync-mutex-XXXXXX";

    close(mkstemp(file));
    unlink(file); /* the mutex creates it again */
    stub_global_mutex_file = file;
    is_int(start("list", AP_SOCACHE_FLAG_NOTMPSAFE), APR_SUCCESS,
           "a cache with a mutex in a file");
    unlink(file);
    us_cache_child_init(pool, NULL);
    ok(strncmp(stub_log_line, "US015: ", 7) == 0
           && stub_log_level == APLOG_ERR,
       "the child cannot join it: %s", stub_log_line);
    ok(cache_of("db", "") == NULL, "and goes without the cache");
    apr_pool_clear(pool);
    ok(!stub_socache_alive, "which still ends with its generation");
    stub_global_mutex_file = NULL;
    start("list", AP_SOCACHE_FLAG_NOTMPSAFE);
    us_cache_child_init(pool, NULL);
    ok(cache_of("db", "") != NULL, "the next generation has one again");
}

/* --- who is known --- */

static void test_users(void)
{
    const us_cache *cache;

    start("list", AP_SOCACHE_FLAG_NOTMPSAFE);
    us_cache_child_init(pool, NULL);
    cache = cache_of("db", "");
    ok(!has(cache, ADA), "no user is known at first");
    add(cache, ADA);
    ok(has(cache, ADA), "an added user is");
    ok(!has(cache, BOB), "another one is not");
    add(cache, ADA);
    is_int(stub_socache_count, 1, "twice is once");
    is_int(stub_socache[0].key_len, KEY_LEN, "the length of a key");
    ok(memcmp(stub_socache[0].key + 21,
              "\x0a\x1b\x2c\x3d\x4e\x5f\x4a\x6b\x8c\x7d\x9e\x0f\x1a\x2b\x3c"
              "\x4d",
              16)
           == 0,
       "its end is the UUID");
    ok(has(cache_of("db", ""), ADA), "the routes of a server know it, too");
}

#define TABLE "UserSyncTable crm.users"

/* What tells users of the same id apart, and what does not. */
static const struct {
    const char *dbd;
    const char *lines;
    int same;
} stores[] = {
    {"db", "", 1},
    {"db", "UserSyncTable public.users", 1},
    {"db", "UserSyncTable \"public\".\"users\"", 1},
    {"db", "UserSyncColumn id id, UserSyncColumn email mail", 1},
    {"db", "UserSyncColumn id \"id\"", 1},
    {"db", "UserSyncCacheTimeout 1s, UserSyncStoreTimeout 1s", 1},
    {"db", "UserSyncSupabaseURL https://x.example", 1},
    {"db2", "", 0},
    {"", "", 0},
    {"db; SET search_path TO crm", "", 0},
    {"db", "UserSyncTable Users", 0},
    {"db", "UserSyncTable users", 0},
    {"db", TABLE, 0},
    {"db", "UserSyncColumn id user_id", 0},
    {"db", "UserSyncColumn id ID", 0},
};

#define STORES (sizeof(stores) / sizeof(stores[0]))

static void test_stores(void)
{
    const us_cache *caches[STORES];
    const us_cache *base;
    apr_size_t i;
    apr_size_t j;

    start("list", 0);
    base = cache_of("db", "");
    add(base, ADA);
    for (i = 0; i < STORES; i++) {
        caches[i] = cache_of(stores[i].dbd, stores[i].lines);
        is_int(has(caches[i], ADA), stores[i].same, "%s; %s: known or not",
               apr_pstrdup(pool, stores[i].dbd), stores[i].lines);
    }
    /* those that differ also differ from each other */
    for (i = 0; i < STORES; i++) {
        int count = 0;

        stub_socache_count = 0;
        add(caches[i], ADA);
        for (j = 0; j < STORES; j++) {
            count += !stores[j].same && has(caches[j], ADA);
        }
        is_int(count, !stores[i].same, "store %d is known to itself alone",
               (int)i);
    }
}

/* --- how long --- */

static void check_expiry(const char *lines, long seconds)
{
    const us_cache *cache = cache_of("db", lines);
    apr_time_t before = apr_time_now();

    stub_socache_count = 0;
    add(cache, ADA);
    ok(stub_socache[0].expiry >= before + apr_time_from_sec(seconds)
           && stub_socache[0].expiry
                  <= apr_time_now() + apr_time_from_sec(seconds),
       "known for %ld s", seconds);
    stub_socache[0].expiry = apr_time_now() - 1;
    ok(!has(cache, ADA), "and no longer");
    add(cache, ADA);
    ok(has(cache, ADA), "until they are seen again");
}

static void test_expiry(void)
{
    start("list", 0);
    check_expiry("", 300);
    check_expiry("UserSyncCacheTimeout 1s", 1);
    check_expiry("UserSyncCacheTimeout 24h", 86400);
}

/* --- providers that fail --- */

static void test_failures(void)
{
    static const struct {
        const char *value;
        unsigned len;
    } foreign[]
        = {{"", 0}, {"x", 1}, {"U", 1}, {"uu", 2}, {"u\0\0\0\0\0\0\0", 8}};
    struct request_rec r = {.log = NULL};
    struct ap_logconf debug = {.level = APLOG_DEBUG};
    const us_log log = {&r, "the-request"};
    const us_cache *cache;
    apr_size_t i;

    start("list", 0);
    cache = cache_of("db", "");
    add(cache, ADA);
    for (i = 0; i < sizeof(foreign) / sizeof(foreign[0]); i++) {
        memcpy(stub_socache[0].value, foreign[i].value, foreign[i].len);
        stub_socache[0].value_len = foreign[i].len;
        ok(!has(cache, ADA), "what others have stored: %d", (int)i);
    }
    add(cache, ADA);
    stub_socache_rv = APR_EGENERAL;
    ok(!has(cache, ADA), "a user who cannot be looked up is unknown");
    r.log = &debug;
    *stub_log_line = '\0';
    us_cache_add(cache, request_pool, &log, &(us_cache_user){.id = BOB});
    ok(strstr(stub_log_line, "[the-request]") != NULL
           && strstr(stub_log_line, BOB) != NULL
           && stub_log_level == APLOG_DEBUG,
       "a user who cannot be stored: %s", stub_log_line);
    stub_socache_rv = APR_SUCCESS;
    ok(has(cache, ADA), "the failure is over");
    ok(!has(cache, BOB), "a user who was not stored is unknown");
}

/* --- keys that spread --- */

#define PARTS 256 /* of shmcb: chosen by the first byte of the key */
#define EACH 100

static uint64_t random_bits(void)
{
    static uint64_t state = 42;
    uint64_t z = state += UINT64_C(0x9E3779B97F4A7C15);

    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

static const char *uuid_of(uint64_t high, uint64_t low)
{
    return apr_psprintf(
        request_pool, "%08x-%04x-%04x-%04x-%012" APR_UINT64_T_HEX_FMT,
        (unsigned)(high >> 32), (unsigned)(high >> 16 & 0xffff),
        (unsigned)(high & 0xffff), (unsigned)(low >> 48),
        low & UINT64_C(0xffffffffffff));
}

static const char *random_id(int number)
{
    (void)number;
    return uuid_of((random_bits() & ~UINT64_C(0xf000)) | 0x4000,
                   random_bits() >> 2 | UINT64_C(1) << 63);
}

/* Version 7: starts with milliseconds; three users sign up in each. */
static const char *ordered_id(int number)
{
    uint64_t msec = UINT64_C(0x019a5f000000) + (uint64_t)number / 3;

    return uuid_of(msec << 16 | 0x7000 | (random_bits() & 0xfff),
                   random_bits() >> 2 | UINT64_C(1) << 63);
}

static const char *counted_id(int number)
{
    return uuid_of(0x4000, UINT64_C(1) << 63 | (uint64_t)number);
}

/* Both halves are the same. */
static const char *doubled_id(int number)
{
    uint64_t half = UINT64_C(0x4000) | (uint64_t)number << 16;

    return uuid_of(half, half);
}

static void check_spread(const char *(*id_of)(int number), const char *name)
{
    int parts[PARTS] = {0};
    const us_cache *cache;
    int least = INT32_MAX;
    int most = 0;
    int i;

    start("list", 0);
    cache = cache_of("db", "");
    for (i = 0; i < PARTS * EACH; i++) {
        stub_socache_count = 0;
        add(cache, id_of(i));
        parts[stub_socache[0].key[0]]++;
        apr_pool_clear(request_pool);
    }
    for (i = 0; i < PARTS; i++) {
        least = parts[i] < least ? parts[i] : least;
        most = parts[i] > most ? parts[i] : most;
    }
    ok(least > EACH / 2 && most < 3 * EACH / 2,
       "%s: %d users in each part, from %d to %d", name, EACH, least, most);
}

static void test_spread(void)
{
    check_spread(random_id, "random");
    check_spread(ordered_id, "in order of time");
    check_spread(counted_id, "counted");
    check_spread(doubled_id, "two halves alike");
}

/* --- other threads inside --- */

static void child_init(int child)
{
    (void)child;
    us_cache_child_init(pool, NULL);
}

/* A child that was stopped while it holds the mutex. */
static void hold(int child, int thread)
{
    (void)child;
    (void)thread;
    apr_global_mutex_lock(stub_global_mutex);
    shared->locked = 1;
    while (!shared->stop) {
        crew_pause();
    }
    apr_global_mutex_unlock(stub_global_mutex);
}

static pid_t start_holder(void)
{
    pid_t pid;

    shared->locked = 0;
    shared->stop = 0;
    pid = crew_fork(0, 1, child_init, hold);
    while (!shared->locked) {
        crew_pause();
    }
    return pid;
}

static void test_held(void)
{
    const us_cache *cache;
    pid_t pid;

    start("list", AP_SOCACHE_FLAG_NOTMPSAFE);
    us_cache_child_init(pool, NULL);
    cache = cache_of("db", "");
    add(cache, ADA);
    pid = start_holder();
    /* it never lets go: a thread that waited for it would never get here */
    ok(!has(cache, ADA), "held: a known user is unknown");
    add(cache, BOB);
    is_int(stub_socache_count, 1, "held: no user is stored");
    ok(!has(cache, ADA) && shared->locked, "held: nor later");
    shared->stop = 1;
    ok(crew_wait(pid), "the holder ends well");
    ok(has(cache, ADA), "free: they are known again");
    add(cache, BOB);
    ok(has(cache, BOB), "free: and another one can be");
    pid = start_holder();
    ok(!has(cache, ADA), "held again");
    crew_kill(pid);
    ok(has(cache, ADA), "the mutex of a child that was killed is free");
    add(cache, BOB);
    is_int(stub_socache_count, 2, "and stays usable");
}

/* --- threads --- */

static const us_cache *common;

/* All add and look; the test's provider allows one at a time. */
static void use(int child, int thread)
{
    apr_pool_t *own = NULL;
    int i;

    (void)child;
    apr_pool_create(&own, NULL);
    for (i = 0; i < ROUNDS; i++) {
        char id[] = ADA;
        char never[] = ADA;
        us_cache_user user = {.id = id};
        us_cache_user nobody = {.id = never};

        id[0] = "0123456789abcdef"[(i + thread) % 16];
        never[1] = '0';
        us_cache_add(common, own, &nowhere, &user);
        shared->hits += us_cache_look(common, own, &user) != US_UNKNOWN;
        shared->wrong += us_cache_look(common, own, &nobody) != US_UNKNOWN;
    }
    apr_pool_destroy(own);
}

static void test_threads(void)
{
    start("list", AP_SOCACHE_FLAG_NOTMPSAFE);
    us_cache_child_init(pool, NULL);
    common = cache_of("db", "");
    shared->hits = 0;
    shared->wrong = 0;
    crew_threads(0, THREADS, use);
    is_int(stub_socache_count, 16, "threads: each user once");
    is_int(shared->wrong, 0, "threads: and no other user");
    /* a thread that had to wait too long has gone on without */
    ok(shared->hits > THREADS * ROUNDS / 2, "threads: %d of %d were known",
       shared->hits, THREADS * ROUNDS);
}

int main(void)
{
    apr_initialize();
    apr_pool_create(&pool, NULL);
    apr_pool_create(&request_pool, NULL);
    crew_start("test_cache");
    shared = crew_share(sizeof(*shared));
    test_choose();
    test_default();
    test_none();
    test_life();
    test_mutex_that_cannot_be_joined();
    test_users();
    test_stores();
    test_expiry();
    test_failures();
    test_spread();
    test_held();
    test_threads();
    return done();
}
