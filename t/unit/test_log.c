/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * base/log.c: a persistent cause is logged once in ten seconds, with a count
 * of the suppressed lines; causes do not suppress each other.
 */
#include "crew.h"
#include "tap.h"
#include "us_clock.h"
#include "us_log.h"

#include <stdatomic.h>
#include <stdio.h>

static time_t now = 1000;

/* The clock of us_clock.h; the test sets it. */
int fake_clock(clockid_t id, struct timespec *ts) __asm__("clock_gettime");

int fake_clock(clockid_t id, struct timespec *ts)
{
    ts->tv_sec = id == CLOCK_MONOTONIC ? now : 0;
    ts->tv_nsec = 5000;
    return 0;
}

/* Fixed numbers: an address would change from run to run, and with it the
 * slots of the causes. */
#define ONE_SERVER ((const void *)(apr_uintptr_t)0x1000)
#define OTHER_SERVER ((const void *)(apr_uintptr_t)0x2000)

static void check(const void *scope, us_outcome outcome, const char *cause,
                  int permitted, unsigned suppressed, const char *name)
{
    unsigned count = 12345;

    is_int(us_log_permit(scope, outcome, cause, &count), permitted, "%s",
           name);
    is_int(count, suppressed, "and the number kept back");
}

static void test_permit(void)
{
    const void *s = ONE_SERVER;
    int i;

    check(s, US_STORE_UNAVAILABLE, "away", 1, 0, "the first line is written");
    for (i = 0; i < 5; i++) {
        check(s, US_STORE_UNAVAILABLE, "away", 0, 0, "more are kept back");
    }
    now += 9;
    check(s, US_STORE_UNAVAILABLE, "away", 0, 0, "within ten seconds");
    now += 1;
    check(s, US_STORE_UNAVAILABLE, "away", 1, 6, "after ten, with a count");
    check(s, US_STORE_UNAVAILABLE, "away", 0, 0, "and then no more");
    now += 3600;
    check(s, US_STORE_UNAVAILABLE, "away", 1, 1, "an hour later");
}

static void test_causes(void)
{
    const void *s = ONE_SERVER;

    check(s, US_KEY_REFUSED, "refused", 1, 0, "a cause");
    check(s, US_KEY_REFUSED, "other", 1, 0, "another cause");
    check(s, US_UPSTREAM_TIMEOUT, "refused", 1, 0, "another outcome");
    check(OTHER_SERVER, US_KEY_REFUSED, "refused", 1, 0, "another server");
    check(s, US_KEY_REFUSED, NULL, 1, 0, "no text");
    check(s, US_KEY_REFUSED, "", 0, 0, "which is the same as an empty one");
    check(s, US_UPSTREAM_TIMEOUT, "after 4998 ms", 1, 0, "a time in it");
    check(s, US_UPSTREAM_TIMEOUT, "after 5002 ms", 0, 0,
          "another time is the same cause");
}

/* More causes at a time than are remembered: no line is lost. */
static void test_many(void)
{
    char cause[] = "aa";
    unsigned count = 0;
    int first = 0;
    int again = 0;
    int i;

    now += 3600;
    for (i = 0; i < 200; i++) {
        cause[0] = (char)('a' + i / 20);
        cause[1] = (char)('a' + i % 20);
        first += us_log_permit(ONE_SERVER, US_ROW_REFUSED, cause, &count);
        again += us_log_permit(ONE_SERVER, US_ROW_REFUSED, cause, &count);
    }
    is_int(first, 200, "each of many causes has its line");
    ok(again < 200, "and most of them are kept back the second time");
    now += 3600;
    check(ONE_SERVER, US_ROW_REFUSED, "zz", 1, 0, "later there is room again");
    check(ONE_SERVER, US_ROW_REFUSED, "zz", 0, 0, "for another cause");
}

/* Many threads at the same time, with the same few causes. */
#define THREADS 8
#define LINES 500

static const char *const shared_causes[] = {"one", "two", "three"};
static _Atomic int written;
static _Atomic int told; /* suppressed ones that a later line counted */

static void write_lines(int child, int thread)
{
    unsigned count = 0;
    int i;

    (void)child;
    for (i = 0; i < LINES; i++) {
        written += us_log_permit(ONE_SERVER, US_BUSY,
                                 shared_causes[(i + thread) % 3], &count);
        told += (int)count;
    }
}

static void test_threads(void)
{
    int round;

    now += 3600;
    for (round = 1; round <= 20; round++) {
        written = 0;
        told = 0;
        crew_threads(0, THREADS, write_lines);
        now += 10;
        if (written != 3 || told != (round == 1 ? 0 : THREADS * LINES - 3)) {
            break;
        }
    }
    is_int(round, 21, "of all threads' lines, one for each cause");
    is_int(told, THREADS * LINES - 3, "and no line is lost count of");
}

static void test_clock(void)
{
    apr_time_t start = us_clock_now();

    is_int(start, apr_time_from_sec(now) + 5, "microseconds");
    is_int(us_clock_poll_ms(start), 0, "a deadline that is now");
    is_int(us_clock_poll_ms(start - 1), 0, "a deadline that has passed");
    is_int(us_clock_poll_ms(start + 1), 1, "the shortest wait is rounded up");
    is_int(us_clock_poll_ms(start + 1000), 1, "a millisecond is one");
    is_int(us_clock_poll_ms(start + 1001), 2, "a bit more is two");
}

int main(void)
{
    test_permit();
    test_causes();
    test_many();
    test_threads();
    test_clock();
    return done();
}
