/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * limits/breaker.c: which clients' failures count.  No client can open the
 * circuit for others, or keep the probe to itself.
 */
#include "crew.h"
#include "httpd_stubs.h"
#include "tap.h"
#include "us_breaker.h"
#include "us_clock.h"
#include "us_log.h"

#include <apr_general.h>
#include <apr_strings.h>

#include <stdlib.h>

#define FAILURES 5
#define DURATION apr_time_from_sec(10)
#define LEASE apr_time_from_sec(3)
#define URL "https://one.example/auth/v1"

static apr_time_t now = 1000000000;

/* The clock of us_clock.h; the test sets it. */
int fake_clock(clockid_t id, struct timespec *ts) __asm__("clock_gettime");

int fake_clock(clockid_t id, struct timespec *ts)
{
    (void)id;
    ts->tv_sec = (time_t)apr_time_sec(now);
    ts->tv_nsec = (long)apr_time_usec(now) * 1000;
    return 0;
}

static apr_pool_t *pool;

static struct {
    server_rec s;
    void *configs[1];
} server;

static conn_rec connection;
static request_rec request = {.connection = &connection, .server = &server.s};
static us_log log_of_request = {.r = &request, .request_id = "id"};
static us_breaker *breaker;

/* The latest part of what was logged. */
static char lines[4096];

static void keep_line(int level, const char *text)
{
    static const char marker[] = " for logins ";
    const char *what = strstr(text, marker);
    size_t len = strlen(lines);

    if (what != NULL) {
        what += sizeof(marker) - 1;
        (void)snprintf(lines + len, sizeof(lines) - len, "%s %.*s; ",
                       level == APLOG_ERR       ? "error"
                       : level == APLOG_WARNING ? "warn"
                                                : "notice",
                       (int)strcspn(what, ":"), what);
    }
}

static void is_log(const char *expected, const char *name)
{
    is_str(lines, expected, "%s: the log", name);
    lines[0] = '\0';
}

static void make_breaker(int failures)
{
    us_server_conf *conf;

    apr_pool_clear(pool);
    server.s.module_config = (ap_conf_vector_t *)server.configs;
    server.s.log.level = APLOG_NOTICE;
    conf = us_config_create_server(pool, &server.s);
    conf->url = URL;
    conf->breaker_failures = failures;
    conf->breaker_duration = DURATION;
    server.configs[0] = conf;
    if (us_breaker_create(pool, &server.s) != APR_SUCCESS) {
        ok(0, "shared memory");
    }
    breaker = us_breaker_find(URL, US_LOG_IN);
    lines[0] = '\0';
}

/* --- what clients do --- */

static us_attempt attempt_of(apr_uint64_t client, apr_uint64_t account)
{
    us_attempt attempt = {.client = client, .account = account};

    return attempt;
}

/* Asks for permission.  1: yes, 2: as a probe, else 0. */
static int begin(us_attempt *attempt)
{
    int seconds = 0;

    if (!us_breaker_permit(breaker, attempt, LEASE, &seconds)) {
        if (seconds < 1 || seconds > 2 * apr_time_sec(DURATION) + 1) {
            ok(0, "Retry-After %d", seconds);
        }
        return 0;
    }
    return attempt->probe != 0 ? 2 : 1;
}

static void end(const us_attempt *attempt, us_health health)
{
    us_breaker_report(breaker, &log_of_request, attempt, health);
}

/* A whole request; returns what begin returned. */
static int asks(apr_uint64_t client, apr_uint64_t account, us_health health)
{
    us_attempt attempt = attempt_of(client, account);
    int may = begin(&attempt);

    if (may) {
        now += 1000;
        end(&attempt, health);
    }
    return may;
}

static int fails(apr_uint64_t client, apr_uint64_t account)
{
    return asks(client, account, US_HEALTH_BAD);
}

static int is_open_for(apr_uint64_t client)
{
    int seconds;

    return us_breaker_is_open(breaker, client, &seconds);
}

/* --- which failures count --- */

/* A row of failures; clients are numbers and accounts are letters.  Then: is
 * it open for client 1, and for a new client? */
static const struct {
    const char *row;
    int open_for_1;
    int open_for_all;
} rows[] = {
    {"1a 2b 3c 4d", 0, 0},
    {"1a 2b 3c 4d 5e", 1, 1},
    {"1a 1a 1a 1a 1a 1a 1a 1a 1a", 0, 0}, /* one account */
    {"1a 2a 3a 4a 5a 6a 7a", 0, 0},       /* from many addresses */
    {"1a 2a 3a 4a 5a 2b 3c 4d", 0, 0},    /* two failures short */
    {"1a 2a 3a 4a 5a 2b 3c 4d 5e", 1, 1},
    {"1a 1b 1c 1d", 0, 0},
    {"1a 1b 1c 1d 1e", 1, 0}, /* only for this client */
    {"1a 1b 1b 1b 1c 1c 1d 1d", 0, 0},
    {"1a 1b 1b 1b 1c 1c 1d 1d 1e", 1, 0},
    {"1a 1b 1c 1d 2e 1f 1g 1h 1i", 0, 0},          /* not the only client */
    {"1a 2b 1c 2d 1e 2f 1g 2h 1i 2j 1k 2l", 0, 0}, /* two clients */
    {"1a 1b 1c 1d 1e 2f 3g 4h 5i", 1, 1},          /* then the other clients */
    {"1a 2b 3c 4d 1e 2f 3g 4h", 0, 0},
    {"1a 2b 3c 4d 1e 2f 3g 4h 5i", 1, 1},
    {"1a 2b 3c + 4d 5e", 0, 0}, /* an answer in between */
    {"1a 1b 1c + 1d 1e", 0, 0},
    {"1a 2b 3c ? 4d 5e", 1, 1}, /* an unclear answer */
};

static void test_rows(void)
{
    apr_size_t i;

    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const char *p;

        make_breaker(FAILURES);
        for (p = rows[i].row; *p != '\0'; p += strspn(p, " ")) {
            if (*p == '+' || *p == '?') {
                asks(99, 'z', *p == '+' ? US_HEALTH_GOOD : US_HEALTH_UNKNOWN);
                p++;
            }
            else {
                fails((apr_uint64_t)(*p - '0'), (unsigned char)p[1]);
                p += 2;
            }
        }
        is_int(is_open_for(1), rows[i].open_for_1, "%s: for client 1",
               rows[i].row);
        is_int(is_open_for(98), rows[i].open_for_all, "%s: for others",
               rows[i].row);
    }
}

/* The largest possible threshold. */
static void test_many(void)
{
    apr_uint64_t i;

    make_breaker(1000);
    for (i = 1; i < 1000; i++) {
        fails(i, i);
        fails(i, i + 1);
    }
    ok(!is_open_for(5000), "999 clients");
    fails(1000, 1000);
    ok(is_open_for(5000), "and one more");

    make_breaker(1);
    fails(1, 1);
    ok(is_open_for(2), "a threshold of one");
}

/* --- for one client --- */

static void test_alone(void)
{
    us_attempt attempt = attempt_of(2, 'z');
    apr_uint64_t account;

    make_breaker(FAILURES);
    for (account = 'a'; account <= 'e'; account++) {
        fails(1, account);
    }
    is_log("warn opens for one client; ", "alone");
    is_int(fails(1, 'f'), 0, "it is refused");
    is_int(begin(&attempt), 1, "another one is not, and is no probe");
    now += DURATION;
    is_int(fails(1, 'f'), 2, "its probe");
    is_log("warn stays open for one client; ", "its probe");
    now += DURATION;
    is_int(fails(1, 'f'), 0, "the account whose probe failed");
    is_int(fails(1, 'g'), 2, "another account of the same client");
    lines[0] = '\0';
    now += 1000;
    is_int(asks(3, 'y', US_HEALTH_GOOD), 1, "a third one is answered");
    is_log("notice closes for one client; ", "an answer");
    is_int(fails(1, 'h'), 1, "and it may ask again");

    /* the circuit of all takes precedence */
    for (account = 'i'; account <= 'm'; account++) {
        fails(1, account);
    }
    is_log("warn opens for one client; ", "again");
    for (account = 2; account <= 5; account++) {
        fails(account, account);
    }
    is_log("error opens; ", "of all");
    now += DURATION;
    is_int(asks(1, 'n', US_HEALTH_GOOD), 2, "who was alone is all's probe");
    is_log("notice closes; notice closes for one client; ", "its success");
    is_int(fails(1, 'n'), 1, "closed");

    /* an unclear answer closes the circuit that was probed */
    for (account = 'a'; account <= 'e'; account++) {
        fails(1, account);
    }
    now += DURATION;
    is_int(asks(1, 'f', US_HEALTH_UNKNOWN), 2, "a probe is answered, somehow");
    is_log("warn opens for one client; notice closes for one client; ",
           "somehow");
}

/* --- an answer in the meantime --- */

static void test_meanwhile(void)
{
    us_attempt slow[2 * FAILURES];
    int i;

    make_breaker(FAILURES);
    for (i = 0; i < 2 * FAILURES; i++) {
        slow[i] = attempt_of((apr_uint64_t)i + 1, (apr_uint64_t)i + 1);
        begin(&slow[i]);
    }
    now += apr_time_from_sec(2);
    asks(99, 99, US_HEALTH_GOOD);
    now += apr_time_from_sec(3);
    for (i = 0; i < 2 * FAILURES; i++) {
        end(&slow[i], US_HEALTH_BAD);
    }
    ok(!is_open_for(98), "others were answered while they hung");
    is_log("", "meanwhile");
    for (i = 0; i < FAILURES; i++) {
        begin(&slow[i]);
    }
    now += apr_time_from_sec(5);
    for (i = 0; i < FAILURES; i++) {
        end(&slow[i], US_HEALTH_BAD);
    }
    ok(is_open_for(98), "it was open for none");
}

/* --- the probe --- */

static void open_it(void)
{
    apr_uint64_t i;

    make_breaker(FAILURES);
    for (i = 1; i <= FAILURES; i++) {
        fails(i, i);
    }
    lines[0] = '\0';
}

static void test_probe(void)
{
    us_attempt attempt = attempt_of(60, 60);
    apr_uint64_t i;

    open_it();
    now += DURATION;
    is_int(fails(50, 50), 2, "a probe");
    now += DURATION;
    is_int(fails(50, 51), 0, "the next one is not for the same client");
    is_int(fails(51, 50), 0, "nor for the same account");
    is_int(fails(52, 52), 2, "but for another client");
    now += DURATION;
    is_int(fails(50, 51), 0, "nor is the one after that");
    is_int(fails(52, 51), 0, "for either");
    now += DURATION - 1;
    is_int(fails(50, 51), 0, "to the last moment");
    now += 1;
    is_int(fails(50, 51), 2, "if no other client comes it may");
    for (i = 100; i < 108; i++) {
        now += DURATION;
        is_int(fails(i, i), 2, "probe %d of others", (int)i - 99);
    }
    now += DURATION;
    is_int(fails(50, 51), 2, "after eight others it may at once");

    now += DURATION;
    is_int(begin(&attempt), 2, "a probe");
    end(&attempt, US_HEALTH_GOOD);
    open_it();
    now += DURATION;
    is_int(fails(50, 50), 2, "what was before it closed is forgotten");
}

int main(void)
{
    apr_initialize();
    apr_pool_create(&pool, NULL);
    stub_log_hook = keep_line;
    test_rows();
    test_many();
    test_alone();
    test_meanwhile();
    test_probe();
    return done();
}
