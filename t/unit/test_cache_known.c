/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * users/cache.c: what else is known about a user, and in which history; and
 * who is known to be banned or deleted, until an event says otherwise.
 */
#include "directive_stubs.h"
#include "httpd_stubs.h"
#include "socache_stubs.h"
#include "tap.h"
#include "us_cache.h"
#include "us_log.h"

#include <apr_general.h>
#include <apr_strings.h>

#define ADA "0a1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d"
#define BOB "0a1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4e"

static apr_pool_t *pool;
static apr_pool_t *request_pool;
static const us_log nowhere = {NULL, "-"};

/* An empty cache of the provider "list". */
static void start(void)
{
    us_cache_choice *choice = NULL;

    apr_pool_clear(pool);
    us_cache_pre_config(pool);
    stub_socache_count = 0;
    stub_socache_flags(0);
    is_str(us_cache_choose(pool, pool, "list", &choice), NULL, "a cache");
    us_cache_create(pool, pool, NULL, choice);
}

static us_cache *cache_of(const char *dbd)
{
    stub_server *server = stub_server_make(pool);

    return us_cache_get(pool, &server->s, us_config_server(&server->s), dbd);
}

/* --- the history and the e-mail --- */

static us_known look(const us_cache *cache, apr_uint64_t history,
                     const char *id, const char *email)
{
    us_cache_user user
        = {.id = id, .history = history, .has_email = 1, .email = email};

    return us_cache_look(cache, request_pool, &user);
}

static void see(const us_cache *cache, apr_uint64_t history, const char *email)
{
    us_cache_user user
        = {.id = ADA, .history = history, .has_email = 1, .email = email};

    us_cache_add(cache, request_pool, &nowhere, &user);
}

static void test_email(void)
{
    const us_cache *cache;

    start();
    cache = cache_of("db");
    see(cache, 7, "ada@example.com");
    is_int(look(cache, 7, ADA, "ada@example.com"), US_KNOWN_EMAIL,
           "the row and its e-mail are known");
    is_int(look(cache, 7, ADA, "ada@example.org"), US_KNOWN,
           "another e-mail: the row is");
    is_int(look(cache, 7, ADA, NULL), US_KNOWN, "none is another one");
    is_int(look(cache, 7, BOB, "ada@example.com"), US_UNKNOWN,
           "another user with that e-mail");
    is_int(look(cache, 0, ADA, "ada@example.com"), US_UNKNOWN,
           "a history that is not known");
    is_int(look(cache, 8, ADA, "ada@example.com"), US_UNKNOWN,
           "another history");
    is_int(look(cache, 7ULL << 56, ADA, "ada@example.com"), US_UNKNOWN,
           "one that differs at the other end");
    ok(memcmp(stub_socache[0].value + 9, "ada", 3) != 0
           && stub_socache[0].value_len == 21,
       "the e-mail itself is not kept");
    see(cache, 7, NULL);
    is_int(look(cache, 7, ADA, NULL), US_KNOWN_EMAIL, "no e-mail");
    is_int(look(cache, 7, ADA, ""), US_KNOWN, "is not an empty one");
    us_cache_add(cache, request_pool, &nowhere, &(us_cache_user){.id = ADA});
    is_int(look(cache, 0, ADA, "ada@example.com"), US_KNOWN,
           "a row whose e-mail is unknown");
}

static void test_foreign_email(void)
{
    const us_cache *one;
    const us_cache *other;
    unsigned char value[32];

    start();
    one = cache_of("db");
    other = cache_of("other");
    see(one, 1, "ada@example.com");
    memcpy(value, stub_socache[0].value, sizeof(value));
    see(other, 1, "ada@example.com");
    ok(memcmp(value, stub_socache[1].value, 21) != 0,
       "one e-mail has another hash for each table");
}

/* --- who is kept out, and how long a sight holds --- */

/* Stores what was seen of Ada at that sight. */
static void see_standing(const us_cache *cache, us_sight sight,
                         us_standing_kind kind, int seconds)
{
    us_cache_user user
        = {.id = ADA, .sight = sight, .stands = {kind, seconds}};

    us_cache_add(cache, request_pool, &nowhere, &user);
}

static void test_standing(void)
{
    us_sight now;
    const us_cache *cache;

    start();
    cache = cache_of("db");
    now = us_slots_sight(ADA);
    see_standing(cache, now, US_IS_BANNED, 100000);
    is_int(look(cache, 0, ADA, NULL), US_KNOWN_BANNED, "banned");
    see_standing(cache, now, US_IS_BANNED, 0);
    is_int(look(cache, 0, ADA, NULL), US_UNKNOWN,
           "no longer than the ban lasts");
    see_standing(cache, now, US_IS_DELETED, 0);
    is_int(look(cache, 0, ADA, NULL), US_KNOWN_DELETED, "deleted");
    is_int(look(cache, 0, BOB, NULL), US_UNKNOWN, "nobody else");
    see_standing(cache, now, US_MAY_ENTER, 0);
    is_int(look(cache, 0, ADA, NULL), US_KNOWN, "let in again");
    us_cache_drop(cache, request_pool, &(us_cache_user){.id = ADA});
    is_int(look(cache, 0, ADA, NULL), US_UNKNOWN, "forgotten");
    us_cache_drop(NULL, request_pool, &(us_cache_user){.id = ADA});
}

/* An entry of a look that began before a change does not count, whoever stores
 * it afterwards; nor does one of an httpd that has just ended. */
static void test_sights(void)
{
    us_sight before;
    us_sight other;
    const us_cache *cache;

    start();
    cache = cache_of("db");
    before = us_slots_sight(ADA);
    other = us_slots_sight(BOB);
    us_slots_change(ADA);
    see_standing(cache, before, US_MAY_ENTER, 0);
    is_int(look(cache, 0, ADA, NULL), US_UNKNOWN, "seen before a change");
    see_standing(cache, before, US_IS_DELETED, 0);
    is_int(look(cache, 0, ADA, NULL), US_UNKNOWN, "nor does a denial count");
    see_standing(cache, us_slots_sight(ADA), US_IS_DELETED, 0);
    is_int(look(cache, 0, ADA, NULL), US_KNOWN_DELETED, "seen afterwards");
    ok(us_slots_hold(BOB, other, 0), "the sight of another user holds");
    before = us_slots_sight(ADA);
    before.instance++;
    ok(!us_slots_hold(ADA, before, apr_time_from_sec(3600)),
       "another httpd's sight does not hold after a change here");
    ok(us_slots_hold(ADA, before, -1), "but when that was long ago");
}

int main(void)
{
    static process_rec process;
    static server_rec main_server = {.process = &process};
    us_sight before;

    apr_initialize();
    apr_pool_create(&pool, NULL);
    apr_pool_create(&request_pool, NULL);
    test_email();
    test_foreign_email();
    apr_pool_create(&process.pool, NULL);
    ok(us_slots_hold(ADA, us_slots_sight(ADA), 0), "without slots all holds");
    is_int(us_slots_share(&main_server), APR_SUCCESS, "slots");
    before = us_slots_sight(ADA);
    us_slots_change(ADA);
    is_int(us_slots_share(&main_server), APR_SUCCESS, "the next generation");
    ok(us_slots_sight(ADA).instance == before.instance
           && us_slots_sight(ADA).count == before.count + 1,
       "has the same ones");
    test_standing();
    test_sights();
    return done();
}
