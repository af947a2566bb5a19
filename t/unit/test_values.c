/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_values.c: what each kind of directive value may look like, what it
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

/* Bounds: 100 ms to 60 s, as the time-outs have. */
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
       "the message tells the bounds: %s", shown(wrong));
    us_value_duration(pool, "1h", 0, 3600 * SEC, &value);
    is_int(value, 3600 * SEC, "an hour where it is allowed");
    us_value_duration(pool, "0", 0, SEC, &value);
    is_int(value, 0, "zero where it is allowed");
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
    is_int((long long)none, 0, "none where that is allowed");
}

/* --- URLs --- */

static const struct {
    const char *arg;
    const char *url; /* NULL: refused */
} urls[] = {
    {"https://abc.supabase.co", "https://abc.supabase.co/auth/v1"},
    {"https://abc.supabase.co/", "https://abc.supabase.co/auth/v1"},
    {"https://abc.supabase.co//", "https://abc.supabase.co/auth/v1"},
    {"https://abc.supabase.co/auth/v1", "https://abc.supabase.co/auth/v1"},
    {"https://abc.supabase.co/auth/v1/", "https://abc.supabase.co/auth/v1"},
    {"https://abc.supabase.co/auth", "https://abc.supabase.co/auth/auth/v1"},
    {"https://h.example/xauth/v1", "https://h.example/xauth/v1/auth/v1"},
    {"https://h.example/base", "https://h.example/base/auth/v1"},
    {"https://h.example/base/auth/v1", "https://h.example/base/auth/v1"},
    {"https://h.example:8443", "https://h.example:8443/auth/v1"},
    {"https://h.example:65535", "https://h.example:65535/auth/v1"},
    {"https://h-1_x.example", "https://h-1_x.example/auth/v1"},
    {"https://10.0.0.1", "https://10.0.0.1/auth/v1"},
    {"https://[2001:db8::1]:8443", "https://[2001:db8::1]:8443/auth/v1"},
    {"https://[::ffff:10.0.0.1]", "https://[::ffff:10.0.0.1]/auth/v1"},
    /* in the clear to this machine only */
    {"http://127.0.0.1:9999", "http://127.0.0.1:9999/auth/v1"},
    {"http://127.255.0.9", "http://127.255.0.9/auth/v1"},
    {"http://localhost:9999/", "http://localhost:9999/auth/v1"},
    {"http://LOCALHOST", "http://LOCALHOST/auth/v1"},
    {"http://[::1]:9999", "http://[::1]:9999/auth/v1"},
    {"http://abc.supabase.co", NULL},
    {"http://10.0.0.1", NULL},
    {"http://0.0.0.0", NULL},
    {"http://128.0.0.1", NULL},
    {"http://12.7.0.1", NULL},
    {"http://[::2]", NULL},
    {"http://[::]", NULL},
    {"http://localhost.example", NULL},
    {"http://localhost.", NULL},
    {"http://xlocalhost", NULL},
    {"http://127.evil.example", NULL},
    {"http://127.0.0.1.evil.example", NULL},
    /* names, not addresses: a resolver would be asked */
    {"http://127.", NULL},
    {"http://127..1", NULL},
    {"http://127.1", NULL},
    {"http://127.0.0.1.", NULL},
    {"http://127.0.0.0.1", NULL},
    {"http://127.0.0.256", NULL},
    {"http://127.0.0", NULL},
    {"http://2130706433", NULL},
    {"http://0x7f.0.0.1", NULL},
    /* other schemes and no scheme */
    {"", NULL},
    {"abc.supabase.co", NULL},
    {"//abc.supabase.co", NULL},
    {"/auth/v1", NULL},
    {"ftp://abc.supabase.co", NULL},
    {"file:///etc/passwd", NULL},
    {"httpss://abc.supabase.co", NULL},
    {"https:abc.supabase.co", NULL},
    {"https:/abc.supabase.co", NULL},
    {"://abc.supabase.co", NULL},
    /* hosts and ports */
    {"https://", NULL},
    {"https:///", NULL},
    {"https://:443", NULL},
    {"https:///auth/v1", NULL},
    {"https://h.example:", NULL},
    {"https://h.example:0", NULL},
    {"https://h.example:65536", NULL},
    {"https://h.example:70000", NULL},
    {"https://h.example:4294967739", NULL},
    {"https://h.example:-1", NULL},
    {"https://h.example:44x", NULL},
    {"https://h.example:443:443", NULL},
    {"https://a,b", NULL},
    {"https://a;b", NULL},
    {"https://a%20b", NULL},
    {"https://a*b", NULL},
    {"https://[::1", NULL},
    {"https://[::1]x", NULL},
    {"https://[::g]", NULL},
    {"https://[fe80::1%25eth0]", NULL},
    {"https://h\xC3\xA9.example", NULL},
    /* what a base URL must not hold */
    {"https://user@h.example", NULL},
    {"https://user:secret@h.example", NULL},
    {"https://:secret@h.example", NULL},
    {"https://@h.example", NULL},
    {"https://h.example?x=1", NULL},
    {"https://h.example/?", NULL},
    {"https://h.example/auth/v1?x", NULL},
    {"https://h.example/#top", NULL},
    {"https://h.example#", NULL},
    /* blanks, line ends, backslashes */
    {" https://h.example", NULL},
    {"https://h.example ", NULL},
    {"https://h.example/a b", NULL},
    {"https://h.example\r\nX: y", NULL},
    {"https://h.example\n", NULL},
    {"https://h.example/\x7F", NULL},
    {"https://h.example\\@evil.example", NULL},
    {"https:\\\\h.example", NULL},
};

static void test_urls(void)
{
    apr_size_t i;

    for (i = 0; i < sizeof(urls) / sizeof(urls[0]); i++) {
        const char *url = NULL;
        const char *wrong = us_value_supabase_url(pool, urls[i].arg, &url);

        is_str(url, urls[i].url, "URL %s",
               apr_pescape_echo(pool, urls[i].arg, 0));
        ok((wrong == NULL) == (url != NULL), "with a complaint or a value");
        if (urls[i].url == NULL) {
            ok(wrong != NULL && strncmp(wrong, "takes https://", 14) == 0,
               "and the message says what is allowed");
        }
    }
}

static const struct {
    const char *arg;
    const char *url; /* NULL: refused */
} proxies[] = {
    {"http://proxy.example", "http://proxy.example"},
    {"http://proxy.example/", "http://proxy.example"},
    {"http://proxy.example:3128", "http://proxy.example:3128"},
    {"https://proxy.example:3128/", "https://proxy.example:3128"},
    {"socks5://127.0.0.1:1080", "socks5://127.0.0.1:1080"},
    {"socks5h://[::1]:1080", "socks5h://[::1]:1080"},
    {"HTTP://proxy.example", "HTTP://proxy.example"},
    {"", NULL},
    {"none.example", NULL},
    {"proxy.example:3128", NULL},
    {"socks4://proxy.example", NULL},
    {"ftp://proxy.example", NULL},
    {"http://", NULL},
    {"http://proxy.example:0", NULL},
    {"http://proxy.example:70000", NULL},
    {"http://user:secret@proxy.example", NULL},
    {"http://proxy.example/path", NULL},
    {"http://proxy.example?x", NULL},
    {"http://proxy.example#x", NULL},
    {"http://proxy example", NULL},
};

static void test_proxies(void)
{
    apr_size_t i;

    for (i = 0; i < sizeof(proxies) / sizeof(proxies[0]); i++) {
        const char *url = NULL;
        const char *wrong = us_value_proxy_url(pool, proxies[i].arg, &url);

        is_str(url, proxies[i].url, "proxy \"%s\"", proxies[i].arg);
        if (proxies[i].url == NULL) {
            check_message(wrong, proxies[i].arg);
        }
    }
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
        /* so that a sanitizer sees any read behind the end */
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
    test_urls();
    test_proxies();
    test_identifiers();
    test_tables();
    test_uuids();
    apr_pool_destroy(pool);
    apr_terminate();
    return done();
}
