/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * config/values.c: what each kind of directive value may look like, what it
 * becomes, and that a refusal stores nothing and names the value.
 */
#include "tap.h"
#include "us_values.h"

#include <apr_escape.h>
#include <apr_general.h>
#include <apr_strings.h>

#include <stdlib.h>

static apr_pool_t *pool;

/* A refusal must name the value, and what is allowed. */
static void check_message(const char *wrong, const char *arg)
{
    const char *quoted = apr_pstrcat(pool, "\"", arg, "\"", NULL);

    ok(wrong != NULL && strstr(wrong, quoted) != NULL
           && strncmp(wrong, "takes ", 6) == 0,
       "and the message names it: %s",
       apr_pescape_echo(pool, shown(wrong), 0));
}

/* --- durations --- */

#define MSEC ((apr_interval_time_t)1000)
#define SEC APR_USEC_PER_SEC
#define REFUSED (-1)

/* Bounds: 100 ms to 60 s, like the timeouts. */
static const struct {
    const char *arg;
    apr_interval_time_t usec;
} durations[] = {
    {"5", 5 * SEC},
    {"5s", 5 * SEC},
    {"005s", 5 * SEC},
    {"500ms", 500 * MSEC},
    {"1mi", 60 * SEC},
    {"60s", 60 * SEC},
    {"60000ms", 60 * SEC},
    {"100ms", 100 * MSEC},
    {"1500ms", 1500 * MSEC},
    /* bounds */
    {"99ms", REFUSED},
    {"60001ms", REFUSED},
    {"61s", REFUSED},
    {"2mi", REFUSED},
    {"1h", REFUSED},
    {"0", REFUSED},
    {"0s", REFUSED},
    {"0ms", REFUSED},
    /* overflow of the number and of the product */
    {"9223372036854775807s", REFUSED},
    {"9223372036854775808s", REFUSED},
    {"18446744073709551621s", REFUSED},
    {"99999999999999999999999999s", REFUSED},
    {"18446744073714551s", REFUSED},
    {"2562047788h", REFUSED},
    {"5124095576h", REFUSED},
    /* form */
    {"", REFUSED},
    {"s", REFUSED},
    {"ms", REFUSED},
    {"-5s", REFUSED},
    {"+5s", REFUSED},
    {" 5s", REFUSED},
    {"5s ", REFUSED},
    {"5 s", REFUSED},
    {"5S", REFUSED},
    {"5MS", REFUSED},
    {"5sec", REFUSED},
    {"5m", REFUSED},
    {"5min", REFUSED},
    {"5us", REFUSED},
    {"5d", REFUSED},
    {"10sfoo", REFUSED},
    {"5s500ms", REFUSED},
    {"1.5s", REFUSED},
    {"1,5s", REFUSED},
    {"1e1s", REFUSED},
    {"0x10s", REFUSED},
    {"\xD9\xA5s", REFUSED},
};

static void test_durations(void)
{
    apr_size_t i;

    for (i = 0; i < sizeof(durations) / sizeof(durations[0]); i++) {
        apr_interval_time_t value = REFUSED;
        const char *wrong = us_value_duration(pool, durations[i].arg,
                                              100 * MSEC, 60 * SEC, &value);

        is_int(value, durations[i].usec, "duration \"%s\"", durations[i].arg);
        if (durations[i].usec == REFUSED) {
            check_message(wrong, durations[i].arg);
        }
        else {
            is_str(wrong, NULL, "and no complaint");
        }
    }
}

static void test_duration_bounds(void)
{
    apr_interval_time_t value = REFUSED;
    const char *wrong
        = us_value_duration(pool, "1h", 1500 * MSEC, 60 * SEC, &value);

    ok(wrong != NULL && strstr(wrong, "from 1500ms to 60s") != NULL,
       "the message names the bounds: %s", shown(wrong));
    us_value_duration(pool, "1h", 0, 3600 * SEC, &value);
    is_int(value, 3600 * SEC, "an hour if it is allowed");
    us_value_duration(pool, "0", 0, SEC, &value);
    is_int(value, 0, "zero if it is allowed");
    us_value_duration(pool, "9223372036854s", 0, APR_INT64_MAX, &value);
    is_int(value, 9223372036854 * SEC, "the longest there is");
}

/* --- bytes --- */

static const struct {
    const char *arg;
    long long value;
} sizes[] = {
    {"256", 256},
    {"8192", 8192},
    {"1048576", 1048576},
    {"00256", 256},
    {"255", REFUSED},
    {"1048577", REFUSED},
    {"0", REFUSED},
    {"", REFUSED},
    {"-256", REFUSED},
    {"+256", REFUSED},
    {" 256", REFUSED},
    {"256 ", REFUSED},
    {"8k", REFUSED},
    {"8K", REFUSED},
    {"8192b", REFUSED},
    {"1e3", REFUSED},
    {"0x200", REFUSED},
    {"256.0", REFUSED},
    {"4294967552", REFUSED},
    {"18446744073709551872", REFUSED},
    {"99999999999999999999999", REFUSED},
};

static void test_bytes(void)
{
    apr_size_t none = 1;
    apr_size_t i;

    for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        apr_size_t value = (apr_size_t)REFUSED;
        const char *wrong
            = us_value_bytes(pool, sizes[i].arg, 256, 1048576, &value);

        is_int((long long)value, sizes[i].value, "bytes \"%s\"", sizes[i].arg);
        if (sizes[i].value == REFUSED) {
            check_message(wrong, sizes[i].arg);
        }
    }
    us_value_bytes(pool, "0", 0, 1, &none);
    is_int((long long)none, 0, "none if that is allowed");
}

/* --- identifiers --- */

#define TEN "abcdefghij"
#define LONGEST TEN TEN TEN TEN TEN TEN "abc"
#define QUOTES10 "\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\""
#define QUOTES63 \
    QUOTES10 QUOTES10 QUOTES10 QUOTES10 QUOTES10 QUOTES10 "\"\"\"\"\"\""

static const struct {
    const char *arg;
    const char *quoted; /* NULL: refused */
    const char *plain;
} identifiers[] = {
    {"id", "\"id\"", "id"},
    {"_x", "\"_x\"", "_x"},
    {"UserId", "\"UserId\"", "UserId"},
    {"a1$_Z", "\"a1$_Z\"", "a1$_Z"},
    {"caf\xC3\xA9", "\"caf\xC3\xA9\"", "caf\xC3\xA9"},
    {"select", "\"select\"", "select"},
    {LONGEST, "\"" LONGEST "\"", LONGEST},
    {"\"" LONGEST "\"", "\"" LONGEST "\"", LONGEST},
    {"\"two words\"", "\"two words\"", "two words"},
    {"\"a\"\"b\"", "\"a\"\"b\"", "a\"b"},
    {"\"\"\"\"", "\"\"\"\"", "\""},
    {"\"" QUOTES63 "\"", "\"" QUOTES63 "\"", NULL},
    {"\"1st\"", "\"1st\"", "1st"},
    {"\"a.b\"", "\"a.b\"", "a.b"},
    {"\"x; DROP TABLE users\"", "\"x; DROP TABLE users\"",
     "x; DROP TABLE users"},
    {"", NULL, NULL},
    {"\"\"", NULL, NULL},
    {"\"", NULL, NULL},
    {"\"a", NULL, NULL},
    {"\"a\"\"", NULL, NULL},
    {"\"a\"b", NULL, NULL},
    {"\"a\" ", NULL, NULL},
    {"a\"b\"", NULL, NULL},
    {"a b", NULL, NULL},
    {" a", NULL, NULL},
    {"a ", NULL, NULL},
    {"1st", NULL, NULL},
    {"$a", NULL, NULL},
    {"a-b", NULL, NULL},
    {"a.b", NULL, NULL},
    {"a;", NULL, NULL},
    {"a'", NULL, NULL},
    {"a--", NULL, NULL},
    {"a/**/", NULL, NULL},
    {"a)", NULL, NULL},
    {"\"a\nb\"", NULL, NULL},
    {"\"\t\"", NULL, NULL},
    {"a\n", NULL, NULL},
    {LONGEST "d", NULL, NULL},
    {"\"" LONGEST "d\"", NULL, NULL},
};

static void test_identifiers(void)
{
    apr_size_t i;

    for (i = 0; i < sizeof(identifiers) / sizeof(identifiers[0]); i++) {
        const char *quoted = NULL;
        const char *plain = NULL;
        const char *wrong
            = us_value_identifier(pool, identifiers[i].arg, &quoted, &plain);

        if (identifiers[i].quoted == NULL) {
            check_message(wrong, identifiers[i].arg);
            continue;
        }
        is_str(wrong, NULL, "column %s", identifiers[i].arg);
        is_str(quoted, identifiers[i].quoted, "quoted for SQL");
        if (identifiers[i].plain != NULL) {
            is_str(plain, identifiers[i].plain, "and as it is");
        }
    }
}

static const struct {
    const char *arg;
    const char *quoted; /* NULL: refused */
} tables[] = {
    {"users", "\"users\""},
    {"Users", "\"Users\""},
    {"public.users", "\"public\".\"users\""},
    {"app.\"User Table\"", "\"app\".\"User Table\""},
    {"\"my.schema\".\"my.table\"", "\"my.schema\".\"my.table\""},
    {"\"a\"\"b\".\"c\"\"d\"", "\"a\"\"b\".\"c\"\"d\""},
    {LONGEST "." LONGEST, "\"" LONGEST "\".\"" LONGEST "\""},
    {"", NULL},
    {".", NULL},
    {"users.", NULL},
    {".users", NULL},
    {"a..b", NULL},
    {"db.public.users", NULL},
    {"public .users", NULL},
    {"public. users", NULL},
    {"users u", NULL},
    {"users;", NULL},
    {"public.1", NULL},
    {"\"\".users", NULL},
    {"public.\"\"", NULL},
    {"\"public.users", NULL},
    {"\"public\"users", NULL},
    {"users WHERE true", NULL},
    {LONGEST "d.users", NULL},
    {"public." LONGEST "d", NULL},
};

static void test_tables(void)
{
    apr_size_t i;

    for (i = 0; i < sizeof(tables) / sizeof(tables[0]); i++) {
        const char *quoted = NULL;
        const char *wrong = us_value_table(pool, tables[i].arg, &quoted);

        if (tables[i].quoted == NULL) {
            is_str(quoted, NULL, "table \"%s\" is refused", tables[i].arg);
            check_message(wrong, tables[i].arg);
        }
        else {
            is_str(quoted, tables[i].quoted, "table %s", tables[i].arg);
        }
    }
}

/* --- UUIDs --- */

static const struct {
    const char *text;
    int is_uuid;
} uuids[] = {
    {"7f1a2c9e-3b54-4d0e-9c61-52a8d0b4e117", 1},
    {"7F1A2C9E-3B54-4D0E-9C61-52A8D0B4E117", 1},
    {"00000000-0000-0000-0000-000000000000", 1},
    {"ffffffff-ffff-ffff-ffff-ffffffffffff", 1},
    {"", 0},
    {"7", 0},
    {"7f1a2c9e", 0},
    {"7f1a2c9e-3b54-4d0e-9c61-52a8d0b4e11", 0},
    {"7f1a2c9e-3b54-4d0e-9c61-52a8d0b4e1177", 0},
    {"7f1a2c9e-3b54-4d0e-9c61-52a8d0b4e117 ", 0},
    {" 7f1a2c9e-3b54-4d0e-9c61-52a8d0b4e117", 0},
    {"{7f1a2c9e-3b54-4d0e-9c61-52a8d0b4e117}", 0},
    {"urn:uuid:7f1a2c9e-3b54-4d0e-9c61-52a8d0b4e117", 0},
    {"7f1a2c9e3b544d0e9c6152a8d0b4e117", 0},
    {"7f1a2c9e_3b54_4d0e_9c61_52a8d0b4e117", 0},
    {"7f1a2c9-e3b54-4d0e-9c61-52a8d0b4e117", 0},
    {"gf1a2c9e-3b54-4d0e-9c61-52a8d0b4e117", 0},
    {"7f1a2c9g-3b54-4d0e-9c61-52a8d0b4e117", 0},
    {"7f1a2c9e-3b54-4d0e-9c61-52a8d0b4e11\n", 0},
    {"------------------------------------", 0},
    {"7f1a2c9e-3b54-4d0e-9c61-52a8d0b4e1\xC3\xA9", 0},
};

static void test_uuids(void)
{
    apr_size_t i;

    for (i = 0; i < sizeof(uuids) / sizeof(uuids[0]); i++) {
        /* so that a sanitizer notices any read after the end */
        char *copy = strdup(uuids[i].text);

        is_int(us_value_is_uuid(copy), uuids[i].is_uuid, "UUID \"%s\"",
               apr_pescape_echo(pool, uuids[i].text, 0));
        free(copy);
    }
}

int main(void)
{
    apr_initialize();
    apr_pool_create(&pool, NULL);
    test_durations();
    test_duration_bounds();
    test_bytes();
    test_identifiers();
    test_tables();
    test_uuids();
    apr_pool_destroy(pool);
    apr_terminate();
    return done();
}
