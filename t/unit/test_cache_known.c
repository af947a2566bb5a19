/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * users/cache.c: what else is known about a user, and in which history.
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
    ok(memcmp(stub_socache[0].value + 1, "ada", 3) != 0
           && stub_socache[0].value_len == 13,
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
    ok(memcmp(value, stub_socache[1].value, 13) != 0,
       "one e-mail has another hash for each table");
}

int main(void)
{
    apr_initialize();
    apr_pool_create(&pool, NULL);
    apr_pool_create(&request_pool, NULL);
    test_email();
    test_foreign_email();
    return done();
}
