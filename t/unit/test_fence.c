/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * users/fence.c: when a table counts as hung, and which request probes it;
 * what is stored about a table that does not match; and any bytes in the words
 * that children share.
 */
#include "tap.h"
#include "us_clock.h"
#include "users/fence.h"

#include <apr_general.h>

#include <stdatomic.h>
#include <string.h>

#define LEASE apr_time_from_sec(4)

#define ADA "0a1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d"
#define BOB "1a1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4e"
#define EVE "2a1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4e"

static apr_pool_t *pool;
static us_fence_words words;

/* The fences of two children. */
static us_fence *one;
static us_fence *other;

static void start(void)
{
    apr_pool_clear(pool);
    memset(&words, 0, sizeof(words));
    one = us_fence_create(pool, &words, LEASE);
    other = us_fence_create(pool, &words, LEASE);
}

static us_fence_pass look(us_fence *fence, const char *id, us_fence_end end)
{
    apr_int64_t ticket;
    us_fence_pass pass = us_fence_enter(fence, &ticket);

    if (pass != US_FENCE_CLOSED) {
        us_fence_report(fence, ticket, id, end);
    }
    return pass;
}

static void hang(void)
{
    start();
    look(one, ADA, US_FENCE_LATE);
    look(other, BOB, US_FENCE_LATE);
    look(one, EVE, US_FENCE_LATE);
}

static void test_hung(void)
{
    apr_int64_t ticket;
    apr_int64_t second;
    int i;

    start();
    for (i = 0; i < 10; i++) {
        look(one, ADA, US_FENCE_LATE);
    }
    ok(!us_fence_is_hung(one), "one user, however often");
    look(one, BOB, US_FENCE_LATE);
    look(one, ADA, US_FENCE_ANSWERED);
    look(one, EVE, US_FENCE_LATE);
    look(one, ADA, US_FENCE_LATE);
    ok(!us_fence_is_hung(one), "an answer between");
    look(one, ADA, US_FENCE_NO_MATTER);
    look(other, BOB, US_FENCE_LATE);
    ok(us_fence_is_hung(one) && us_fence_is_hung(other),
       "three users in a row, in all children");

    is_int(us_fence_enter(other, &ticket), US_FENCE_PROBE, "one finds out");
    is_int(us_fence_enter(one, &second), US_FENCE_CLOSED, "the others do not");
    us_fence_report(other, ticket, ADA, US_FENCE_LATE);
    is_int(us_fence_enter(one, &ticket), US_FENCE_PROBE, "in vain: another");
    us_fence_report(one, ticket, ADA, US_FENCE_ANSWERED);
    is_int(us_fence_enter(other, &ticket), US_FENCE_OPEN, "it is over");
}

/* A probe whose child was killed, and one that returns too late. */
static void test_lease(void)
{
    apr_int64_t lost;
    apr_int64_t ticket;
    apr_int64_t closed;

    hang();
    us_fence_enter(one, &lost);
    atomic_store(&words.probe, us_clock_now() - 1);
    is_int(us_fence_enter(other, &ticket), US_FENCE_PROBE,
           "a lease that is over");
    us_fence_report(one, ticket - 1, ADA, US_FENCE_LATE);
    is_int(us_fence_enter(one, &closed), US_FENCE_CLOSED,
           "an overtaken probe does not end the other");
}

static void test_garbage(void)
{
    static const unsigned char bytes[] = {0xff, 0x7f, 0x80, 0x01};
    apr_size_t i;

    for (i = 0; i < sizeof(bytes); i++) {
        start();
        memset(&words, bytes[i], sizeof(words));
        ok(look(one, ADA, US_FENCE_ANSWERED) != US_FENCE_CLOSED,
           "bytes of %02x lock nobody out", bytes[i]);
        is_int(look(one, BOB, US_FENCE_ANSWERED), US_FENCE_OPEN,
               "and one answer puts them right");
    }
}

static void test_misfit(void)
{
    char longer[2 * US_MISFIT_TEXT];
    us_misfit misfit;

    start();
    ok(!us_fence_misfit(one, &misfit) && misfit.outcome == US_OK, "none");
    ok(us_fence_recheck_due(one), "the catalog may be looked at");
    ok(!us_fence_recheck_due(one), "and not again at once");
    us_fence_set_misfit(one, US_TABLE_MISFIT, 1, "no such table");
    ok(us_fence_misfit(one, &misfit) && misfit.reads
           && strcmp(misfit.text, "no such table") == 0,
       "one is kept with its words");
    ok(!us_fence_misfit(other, &misfit), "by this child");
    us_fence_clear_misfit(one);
    ok(!us_fence_misfit(one, &misfit), "mended");
    memset(longer, 'x', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    us_fence_set_misfit(one, US_ROW_REFUSED, 0, longer);
    us_fence_misfit(one, &misfit);
    is_int((long long)strlen(misfit.text), US_MISFIT_TEXT - 1,
           "long words are cut");
    us_fence_set_odd_misfit(other, 0, "odd");
    ok(!us_fence_recheck_due(other), "an odd one is believed for a while");
}

int main(void)
{
    apr_initialize();
    apr_pool_create(&pool, NULL);
    test_hung();
    test_lease();
    test_garbage();
    test_misfit();
    return done();
}
