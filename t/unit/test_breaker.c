/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_limits.c: the circuit breaker under many threads of several children.
 * One probe at a time, one line for each change, whatever comes late.
 */
#include "crew.h"
#include "httpd_stubs.h"
#include "tap.h"
#include "us_clock.h"
#include "us_limits.h"
#include "us_log.h"

#include <apr_general.h>

#include <sched.h>
#include <stdatomic.h>

#define CHILDREN 4
#define THREADS 8
#define ALL 32 /* threads of all children */

/* Of each thread, in test_one_probe. */
#define PROBES 400

#define FAILURES 5
#define DURATION apr_time_from_sec(10)
#define LEASE apr_time_from_sec(3)

#define ONE_URL "https://one.example/auth/v1"
#define OTHER_URL "https://other.example/auth/v1"

/* What all threads do at once. */
typedef enum action {
    ASK,     /* us_breaker_permit */
    ALL_BAD, /* us_breaker_report of a request that is no probe */
    ALL_GOOD,
    ALL_UNKNOWN,
    PROBE_BAD, /* who holds a ticket reports */
    PROBE_GOOD,
    PROBE_UNKNOWN,
    OVERTAKE, /* who holds a ticket takes its time */
    LATE_BAD, /* and reports when others have long had their turn */
    LATE_UNKNOWN,
    END
} action;

/* What is counted, each of it in one action. */
typedef struct counts {
    int permitted;
    int probes;
    int opens;
    int stays;
    int closes;
} counts;

/* Lines about one operation. */
typedef struct line_counts {
    _Atomic int opens;
    _Atomic int stays;
    _Atomic int closes;
} line_counts;

static struct shared {
    pthread_barrier_t barrier;
    _Atomic apr_time_t now;
    _Atomic int action;
    _Atomic int permitted;
    _Atomic int probes;
    _Atomic int wrong;    /* what us_breaker_is_open or a time said */
    _Atomic int probing;  /* at this moment */
    line_counts lines[2]; /* of us_operation, for ONE_URL */
    _Atomic int strange;  /* lines of another kind */
} * shared;

/* The clock of us_clock.h, the same for all children, in our hands. */
int fake_clock(clockid_t id, struct timespec *ts) __asm__("clock_gettime");

int fake_clock(clockid_t id, struct timespec *ts)
{
    apr_time_t now = shared != NULL && id == CLOCK_MONOTONIC ? shared->now : 0;

    ts->tv_sec = (time_t)apr_time_sec(now);
    ts->tv_nsec = (long)apr_time_usec(now) * 1000;
    return 0;
}

/* --- a generation with two projects --- */

static struct fake_server {
    server_rec s;
    void *configs[1];
} one, other;

static conn_rec client;
static request_rec request = {.connection = &client, .server = &one.s};
static us_log log_of_request = {.r = &request, .request_id = "id"};

static void make_server(apr_pool_t *pool, struct fake_server *server,
                        const char *url, server_rec *next)
{
    us_server_conf *conf = us_config_create_server(pool, &server->s);

    conf->url = url;
    conf->breaker_failures = FAILURES;
    conf->breaker_duration = DURATION;
    server->configs[0] = conf;
    server->s.module_config = (ap_conf_vector_t *)server->configs;
    server->s.log.level = APLOG_NOTICE;
    server->s.next = next;
}

static void make_breakers(apr_pool_t *pool)
{
    apr_pool_clear(pool);
    make_server(pool, &other, OTHER_URL, NULL);
    make_server(pool, &one, ONE_URL, &other.s);
    if (us_limits_create(pool, &one.s) != APR_SUCCESS) {
        ok(0, "shared memory");
    }
}

static us_breaker *breaker_of(us_operation operation)
{
    return us_breaker_find(ONE_URL, operation);
}

/* Level and words of each change, as README and t/ know them. */
static void count_line(int level, const char *text)
{
    const char *logins = "[id] US012: circuit to " ONE_URL " for logins ";
    const char *sign_ups = "[id] US012: circuit to " ONE_URL " for sign-ups ";
    us_operation operation
        = strncmp(text, logins, strlen(logins)) == 0 ? US_LOGIN : US_SIGNUP;
    const char *start = operation == US_LOGIN ? logins : sign_ups;
    line_counts *lines = &shared->lines[operation];

    if ((level & APLOG_LEVELMASK) == APLOG_DEBUG) {
        return; /* us_limits_child_init's */
    }
    if (strncmp(text, start, strlen(start)) != 0) {
        shared->strange++;
        return;
    }
    text += strlen(start);
    if (level == APLOG_ERR && strncmp(text, "opens:", 6) == 0) {
        lines->opens++;
    }
    else if (level == APLOG_WARNING && strncmp(text, "stays open:", 11) == 0) {
        lines->stays++;
    }
    else if (level == APLOG_NOTICE && strncmp(text, "closes:", 7) == 0) {
        lines->closes++;
    }
    else {
        shared->strange++;
    }
}

/* --- step by step: all threads do the same thing at once --- */

static void ask(us_breaker *breaker, apr_int64_t *ticket)
{
    apr_int64_t probe = -1;
    int seconds = 0;
    int said_open = us_breaker_is_open(breaker, &seconds);

    seconds = 0;
    if (!us_breaker_permit(breaker, LEASE, &seconds, &probe)) {
        int most = (int)apr_time_sec(DURATION) + 1;

        shared->wrong += seconds < 1 || seconds > most || probe != 0;
        return;
    }
    /* the clock stands, so whoever is let in found it closed or due */
    shared->wrong += said_open;
    shared->permitted++;
    if (probe != 0) {
        shared->probes++;
        *ticket = probe;
    }
}

static void report(us_breaker *breaker, us_health health, apr_int64_t probe)
{
    us_breaker_report(breaker, &log_of_request, health, probe);
}

/* A ticket is handed in once. */
static void report_ticket(us_breaker *breaker, us_health health,
                          apr_int64_t *ticket)
{
    if (*ticket != 0) {
        report(breaker, health, *ticket);
        *ticket = 0;
    }
}

static void act(action what, apr_int64_t *ticket, apr_int64_t *late)
{
    us_breaker *breaker = breaker_of(US_LOGIN);

    switch (what) {
    case ASK:
        ask(breaker, ticket);
        break;
    case ALL_BAD:
        report(breaker, US_HEALTH_BAD, 0);
        break;
    case ALL_GOOD:
        report(breaker, US_HEALTH_GOOD, 0);
        break;
    case ALL_UNKNOWN:
        report(breaker, US_HEALTH_UNKNOWN, 0);
        break;
    case PROBE_BAD:
        report_ticket(breaker, US_HEALTH_BAD, ticket);
        break;
    case PROBE_GOOD:
        report_ticket(breaker, US_HEALTH_GOOD, ticket);
        break;
    case PROBE_UNKNOWN:
        report_ticket(breaker, US_HEALTH_UNKNOWN, ticket);
        break;
    case OVERTAKE:
        *late = *ticket;
        *ticket = 0;
        break;
    case LATE_BAD:
        report_ticket(breaker, US_HEALTH_BAD, late);
        break;
    case LATE_UNKNOWN:
        report_ticket(breaker, US_HEALTH_UNKNOWN, late);
        break;
    case END:
        break;
    }
}

static void child_init(int child)
{
    (void)child;
    us_limits_child_init(&one.s);
}

static void obey(int child, int thread)
{
    apr_int64_t ticket = 0;
    apr_int64_t late = 0;
    action what;

    (void)child;
    (void)thread;
    do {
        pthread_barrier_wait(&shared->barrier);
        what = (action)shared->action;
        act(what, &ticket, &late);
        pthread_barrier_wait(&shared->barrier);
    } while (what != END);
}

/* --- the parent's part --- */

static int round_number;
static int complaints;

static void compare(const char *what, const char *name, int got, int wanted)
{
    if (got != wanted) {
        complaints++;
        (void)printf("# round %d, %s: %s: %d instead of %d\n", round_number,
                     what, name, got, wanted);
    }
}

/* All do it; afterwards that and nothing else must have happened. */
static void step(action what, const char *name, counts wanted)
{
    line_counts *lines = &shared->lines[US_LOGIN];

    shared->permitted = 0;
    shared->probes = 0;
    lines->opens = 0;
    lines->stays = 0;
    lines->closes = 0;
    shared->action = (int)what;
    pthread_barrier_wait(&shared->barrier);
    pthread_barrier_wait(&shared->barrier);
    compare(name, "let in", shared->permitted, wanted.permitted);
    compare(name, "probes", shared->probes, wanted.probes);
    compare(name, "opens", lines->opens, wanted.opens);
    compare(name, "stays open", lines->stays, wanted.stays);
    compare(name, "closes", lines->closes, wanted.closes);
}

static const counts nothing;
static const counts one_probe = {.permitted = 1, .probes = 1};
static const counts opens = {.opens = 1};
static const counts stays = {.stays = 1};
static const counts closes = {.closes = 1};
static const counts all_in = {.permitted = ALL};

static void opens_once(void)
{
    step(ASK, "closed", all_in);
    step(ALL_UNKNOWN, "an answer that says nothing", nothing);
    step(ALL_BAD, "failures of all", opens);
    step(ASK, "open", nothing);
    step(ALL_BAD, "failures that come late", nothing);
    step(ALL_UNKNOWN, "answers that say nothing, late", nothing);
    shared->now += DURATION - 1;
    step(ASK, "open to the last moment", nothing);
    shared->now += 1;
    step(ASK, "due for a probe", one_probe);
    step(ASK, "a probe is out", nothing);
    step(ALL_BAD, "failures that come late, a probe is out", nothing);
    step(ALL_UNKNOWN, "answers that say nothing, a probe is out", nothing);
}

/* The probe of opens_once comes back, in one of the ways there are. */
static void probe_returns(action how)
{
    if (how == PROBE_BAD) {
        step(how, "the probe fails", stays);
        step(ASK, "open again", nothing);
        shared->now += DURATION - 1;
        step(ASK, "open again, to the last moment", nothing);
        shared->now += 1;
        step(ASK, "due for another probe", one_probe);
        how = PROBE_GOOD;
    }
    step(how, "the probe succeeds", closes);
    step(ASK, "closed again", all_in);
}

/* It takes longer than its lease. */
static void probe_is_overtaken(action late)
{
    step(OVERTAKE, "the probe takes its time", nothing);
    shared->now += LEASE - 1;
    step(ASK, "its lease, to the last moment", nothing);
    shared->now += 1;
    step(ASK, "its lease is over", one_probe);
    step(late, "the first probe comes back", nothing);
    step(ASK, "the second one is still out", nothing);
    step(PROBE_GOOD, "the second one succeeds", closes);
    step(ASK, "closed again", all_in);
}

/* Anybody's success closes it, and what a probe finds later is no news. */
static void others_succeed(void)
{
    step(ALL_GOOD, "successes that come late", closes);
    step(PROBE_UNKNOWN, "the probe comes back later", nothing);
    step(ASK, "closed again", all_in);
}

#define ROUNDS 60

static void test_steps(apr_pool_t *pool)
{
    pid_t pids[CHILDREN];
    int good = 1;
    int i;

    make_breakers(pool);
    crew_barrier_init(&shared->barrier, ALL + 1);
    for (i = 0; i < CHILDREN; i++) {
        pids[i] = crew_fork(i, THREADS, child_init, obey);
    }
    for (round_number = 1; round_number <= ROUNDS; round_number++) {
        shared->now += apr_time_from_sec(1);
        opens_once();
        switch (round_number % 6) {
        case 0:
            others_succeed();
            break;
        case 1:
            probe_returns(PROBE_GOOD);
            break;
        case 2:
            probe_returns(PROBE_BAD);
            break;
        case 3:
            probe_returns(PROBE_UNKNOWN);
            break;
        case 4:
            probe_is_overtaken(LATE_BAD);
            break;
        default:
            probe_is_overtaken(LATE_UNKNOWN);
            break;
        }
    }
    step(END, "end", nothing);
    for (i = 0; i < CHILDREN; i++) {
        good &= crew_wait(pids[i]);
    }
    ok(good, "step by step: the children end well");
    is_int(complaints, 0, "step by step: each step has its effect, once");
    is_int(shared->wrong, 0, "step by step: open is what is open");
    is_int(shared->strange, 0, "step by step: no other lines");
}

/* --- all for themselves: only one is ever a probe --- */

static void probe_on(int child, int thread)
{
    us_breaker *breaker = breaker_of(US_LOGIN);
    int mine = 0;

    (void)child;
    (void)thread;
    while (mine < PROBES) {
        apr_int64_t probe;
        int seconds;

        if (!us_breaker_permit(breaker, apr_time_from_sec(86400), &seconds,
                               &probe)) {
            sched_yield();
            continue;
        }
        shared->wrong += probe == 0;
        shared->wrong += shared->probing++ != 0;
        sched_yield();
        shared->probing--;
        report(breaker, US_HEALTH_BAD, probe);
        shared->now += DURATION;
        mine++;
    }
}

static void test_one_probe(apr_pool_t *pool)
{
    line_counts *lines = &shared->lines[US_LOGIN];
    pid_t pids[CHILDREN];
    int good = 1;
    int i;

    make_breakers(pool);
    shared->wrong = 0;
    for (i = 0; i < FAILURES; i++) {
        report(breaker_of(US_LOGIN), US_HEALTH_BAD, 0);
    }
    shared->now += DURATION;
    lines->stays = 0;
    for (i = 0; i < CHILDREN; i++) {
        pids[i] = crew_fork(i, THREADS, child_init, probe_on);
    }
    for (i = 0; i < CHILDREN; i++) {
        good &= crew_wait(pids[i]);
    }
    ok(good, "one after the other: the children end well");
    is_int(shared->wrong, 0, "one after the other: one probe at a time");
    is_int(lines->stays, (long long)PROBES * ALL,
           "one after the other: a line for each that failed");
}

/* --- everything at once --- */

#define REQUESTS 1000

/* Any results, of two operations, while time goes on. */
static void mix(int child, int thread)
{
    static const us_health health[]
        = {US_HEALTH_BAD,  US_HEALTH_BAD, US_HEALTH_BAD,
           US_HEALTH_GOOD, US_HEALTH_BAD, US_HEALTH_UNKNOWN};
    unsigned seed = (unsigned)(child * THREADS + thread);
    int i;

    for (i = 0; i < REQUESTS; i++) {
        us_breaker *breaker;
        apr_int64_t probe;
        int seconds;

        seed = seed * 1103515245U + 12345U;
        breaker = breaker_of((us_operation)(seed >> 16 & 1));
        if (us_breaker_permit(breaker, LEASE, &seconds, &probe)) {
            if (seed >> 17 & 1) {
                sched_yield();
            }
            report(breaker, health[(seed >> 18) % 6], probe);
        }
        shared->now += apr_time_from_msec((seed >> 20) % 50);
    }
}

/* Is it open?  Asked long after anything that is open would be due. */
static int was_open(us_operation operation)
{
    apr_int64_t probe = 0;
    int seconds;

    us_breaker_permit(breaker_of(operation), LEASE, &seconds, &probe);
    return probe != 0;
}

static void test_mix(apr_pool_t *pool)
{
    pid_t pids[CHILDREN];
    int good = 1;
    int i;

    make_breakers(pool);
    memset(shared->lines, 0, sizeof(shared->lines));
    for (i = 0; i < CHILDREN; i++) {
        pids[i] = crew_fork(i, THREADS, child_init, mix);
    }
    for (i = 0; i < CHILDREN; i++) {
        good &= crew_wait(pids[i]);
    }
    ok(good, "everything at once: the children end well");
    shared->now += apr_time_from_sec(86400);
    for (i = US_SIGNUP; i <= US_LOGIN; i++) {
        line_counts *lines = &shared->lines[i];
        const char *name = i == US_LOGIN ? "logins" : "sign-ups";

        ok(lines->opens > 0 && lines->closes > 0, "%s: both have happened",
           name);
        is_int(lines->opens - lines->closes, was_open((us_operation)i),
               "%s: each opening has its end, but for the last", name);
    }
    is_int(shared->strange, 0, "everything at once: no other lines");
}

/* A project's operations, and projects, do not mix. */
static void test_apart(apr_pool_t *pool)
{
    us_breaker *breaker;
    int seconds;
    int i;

    make_breakers(pool);
    breaker = breaker_of(US_LOGIN);
    for (i = 0; i < FAILURES; i++) {
        ok(!us_breaker_is_open(breaker, &seconds), "%d failures", i);
        report(breaker, US_HEALTH_BAD, 0);
    }
    ok(us_breaker_is_open(breaker, &seconds), "and one too many");
    ok(!us_breaker_is_open(breaker_of(US_SIGNUP), &seconds), "not sign-ups");
    breaker = us_breaker_find(OTHER_URL, US_LOGIN);
    ok(breaker != NULL && !us_breaker_is_open(breaker, &seconds),
       "nor another project");
    ok(us_breaker_find("https://nobody.example", US_LOGIN) == NULL,
       "nor one that is not there");
}

int main(void)
{
    apr_pool_t *pool;

    apr_initialize();
    apr_pool_create(&pool, NULL);
    crew_start("test_breaker");
    shared = crew_share(sizeof(*shared));
    shared->now = apr_time_from_sec(1000);
    stub_log_hook = count_line;
    test_steps(pool);
    crew_shaken = 1;
    test_one_probe(pool);
    test_mix(pool);
    test_apart(pool);
    return done();
}
