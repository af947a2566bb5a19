/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * supabase/timestamp.c: time stamps as PostgreSQL and Go write them, and what
 * PostgreSQL would read as a time although it is none.
 */
#include "tap.h"
#include "supabase/timestamp.h"

#include <apr_general.h>

static apr_pool_t *pool;

static const struct {
    const char *text;
    apr_int64_t usec;
} good[] = {
    {"1970-01-01T00:00:00Z", 0},
    {"1970-01-01T00:00:00+00:00", 0},
    {"1970-01-01 00:00:00+00", 0},
    {"1969-12-31T23:59:59.999999Z", -1},
    {"1970-01-01T05:30:00+05:30", 0},
    {"1969-12-31T18:30:00-05:30", 0},
    {"1970-01-01T00:19:32+00:19:32", 0},
    {"2026-08-21T10:00:00.5+00:00", 1787306400500000},
    {"2026-08-21T10:00:00.500000001Z", 1787306400500000},
    {"2026-08-21T10:00:00.123456789Z", 1787306400123456},
    {"2026-08-21T10:00:00.1Z", 1787306400100000},
    {"2024-02-29T12:00:00Z", 1709208000000000},
    {"2000-02-29T00:00:00Z", 951782400000000},
    {"2100-03-01T00:00:00Z", 4107542400000000},
    {"1000-01-01T00:00:00Z", -30610224000000000},
    {"0001-01-01T00:00:00Z", -62135596800000000},
    {"9999-12-31T23:59:59.999999Z", 253402300799999999},
    {"2026-12-31T23:59:59-15:59:59", 1798819198000000},
    {"infinity", US_TIMESTAMP_NEVER},
    {"-infinity", US_TIMESTAMP_ALWAYS},
};

static const char *const bad[] = {
    "",
    " ",
    "now",
    "today",
    "tomorrow",
    "yesterday",
    "epoch",
    "allballs",
    "Infinity",
    "+infinity",
    "infinity ",
    "nan",
    "null",
    "1795901295",
    "2026-08-21",
    "2026-08-21T10:00:00",
    "2026-08-21T10:00:00.5",
    "2026-08-21T10:00Z",
    "2026-08-21T10Z",
    "10:00:00Z",
    "20260821T100000Z",
    "2026-8-21T10:00:00Z",
    "26-08-21T10:00:00Z",
    "1000000-01-01T00:00:00Z",
    "294276-01-01T00:00:00Z",
    "0000-01-01T00:00:00Z",
    "-2026-08-21T10:00:00Z",
    "+2026-08-21T10:00:00Z",
    "2026-00-21T10:00:00Z",
    "2026-13-21T10:00:00Z",
    "2026-08-00T10:00:00Z",
    "2026-08-32T10:00:00Z",
    "2026-02-29T10:00:00Z",
    "2100-02-29T10:00:00Z",
    "2026-04-31T10:00:00Z",
    "2026-12-32T10:00:00Z",
    "2026-08-21T24:00:00Z",
    "2026-08-21T10:60:00Z",
    "2026-08-21T10:00:60Z",
    "2026-08-21T-1:00:00Z",
    "2026-08-21t10:00:00Z",
    "2026-08-21T10:00:00z",
    "2026-08-21T10:00:00 Z",
    "2026-08-21T10:00:00,5Z",
    "2026-08-21T10:00:00.Z",
    "2026-08-21T10:00:00.0123456789Z",
    "2026-08-21T10:00:00+",
    "2026-08-21T10:00:00+0",
    "2026-08-21T10:00:00+16:00",
    "2026-08-21T10:00:00+0530",
    "2026-08-21T10:00:00+05:",
    "2026-08-21T10:00:00+05:60",
    "2026-08-21T10:00:00+05:30:",
    "2026-08-21T10:00:00+05:30:60",
    "2026-08-21T10:00:00 UTC",
    "2026-08-21T10:00:00Europe/Berlin",
    "2026-08-21T10:00:00Z BC",
    "2026-08-21T10:00:00+00:00 BC",
    "2026-08-21T10:00:00Z ",
    " 2026-08-21T10:00:00Z",
    "2026-08-21T10:00:00Z\n",
    "2026-08-21T10:00:00ZZ",
    "2026-08-21T10:00:00Z'; DROP TABLE users; --",
    "2026-233T10:00:00Z",
    "J2461274T10:00:00Z",
    "\xD9\xA2\xD9\xA0\xD9\xA2\xD9\xA6-08-21T10:00:00Z",
};

static void test_good(void)
{
    apr_size_t i;

    for (i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        apr_time_t time = 42;

        ok(us_timestamp_read(good[i].text, &time), "%s", good[i].text);
        is_int(time, good[i].usec, "its time");
    }
}

static void test_bad(void)
{
    apr_size_t i;

    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        apr_time_t time;

        ok(!us_timestamp_read(bad[i], &time), "not '%s'", bad[i]);
    }
}

/* Every day of 800 years follows the one before. */
static void test_calendar(void)
{
    apr_time_t last = 0;
    int days = 0;
    int wrong = 0;
    int day;

    us_timestamp_read("1799-12-31T00:00:00Z", &last);
    for (day = 0; day < 800 * 12 * 31; day++) {
        char text[40];
        apr_time_t time;

        (void)snprintf(text, sizeof(text), "%04d-%02d-%02dT00:00:00Z",
                       1800 + day / 372, day / 31 % 12 + 1, day % 31 + 1);
        if (us_timestamp_read(text, &time)) {
            wrong += time - last != apr_time_from_sec(86400);
            last = time;
            days++;
        }
    }
    is_int(wrong, 0, "each day has 24 hours");
    is_int(days, 292194, "there are as many days as 800 years have");
}

static void test_text(void)
{
    apr_time_t times[] = {
        0, 1, 999999, 1787306400500000, 951782400000000, 253402300799999999};
    apr_size_t i;

    is_str(us_timestamp_text(pool, 1787306400500000),
           "2026-08-21T10:00:00.500000Z", "a text");
    for (i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
        apr_time_t again = 42;

        ok(us_timestamp_read(us_timestamp_text(pool, times[i]), &again)
               && again == times[i],
           "%s is read as it was", us_timestamp_text(pool, times[i]));
    }
}

int main(void)
{
    apr_initialize();
    apr_pool_create(&pool, NULL);
    test_good();
    test_bad();
    test_calendar();
    test_text();
    apr_pool_destroy(pool);
    apr_terminate();
    return done();
}
