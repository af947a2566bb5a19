/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * limits/breaker.c: the circuit breaker with many threads of several children,
 * each of them a client with its own account.  There is one probe at a time
 * and one line for each change, also if results come late.
 */
#include "crew.h"
#include "httpd_stubs.h"
#include "tap.h"
#include "us_breaker.h"
#include "us_clock.h"
#include "us_log.h"

#include <apr_general.h>

#include <sched.h>
#include <stdatomic.h>

#define CHILDREN 4
#define THREADS 8
#define ALL 32 /* threads of all children */

/* Per thread, in test_one_probe. */
#define PROBES 400

#define FAILURES 5
#define DURATION apr_time_from_sec(10)
#define LEASE apr_time_from_sec(3)

#define ONE_URL "https://one.example/auth/v1"
#define OTHER_URL "https://other.example/auth/v1"

/* What all threads do at the same time. */
typedef enum action {
    ASK,     /* us_breaker_permit */
    ALL_BAD, /* us_breaker_report of a request that is not a probe */
    ALL_GOOD,
    ALL_UNKNOWN,
    PROBE_BAD, /* the holder of the ticket reports */
    PROBE_GOOD,
    PROBE_UNKNOWN,
    OVERTAKE, /* the holder of the ticket takes too long */
    LATE_BAD, /* ...  and reports long after others had their turn */
    LATE_UNKNOWN,
    END
} action;

/* What is counted, in one action. */
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
    _Atomic int wrong;   /* wrong answers of us_breaker_is_open, wrong
                           * times */
    _Atomic int probing; /* at this moment */
    line_counts lines[US_OPERATION_COUNT]; /* for ONE_URL */
    _Atomic int strange;                   /* lines of another kind */
} * shared;

/* The clock of us_clock.h, the same for all children; the test sets it. */
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

static conn_rec connection;
static request_rec request = {.connection = &connection, .server = &one.s};
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
    if (us_breaker_create(pool, &one.s) != APR_SUCCESS) {
        ok(0, "shared memory");
    }
}

static us_breaker *breaker_of(us_operation operation)
{
    return us_breaker_find(ONE_URL, operation);
}

/* By us_operation. */
static const char *const names[US_OPERATION_COUNT]
    = {"sign-ups ", "logins ", "refreshes ", "logouts "};

/* Level and text of each change, as docs/operations.md and t/ have them. */
static void count_line(int level, const char *text)
{
    static const char start[] = "[id] US012: circuit to " ONE_URL " for ";
    line_counts *lines = NULL;
    int i;

    for (i = 0; i < US_OPERATION_COUNT && lines == NULL; i++) {
        if (strncmp(text, start, sizeof(start) - 1) == 0
            && strncmp(text + sizeof(start) - 1, names[i], strlen(names[i]))
                   == 0) {
            text += sizeof(start) - 1 + strlen(names[i]);
            lines = &shared->lines[i];
        }
    }
    if (lines == NULL) {
        shared->strange++;
        return;
    }
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

/* --- step by step: all threads do the same at the same time --- */

/* A thread's client, and its last request. */
typedef struct client {
    us_attempt asks;
    us_attempt ticket; /* if its probe is 0, there is none */
    us_attempt late;
} client;

static client make_client(int child, int thread)
{
    apr_uint64_t number
        = (apr_uint64_t)child * THREADS + (apr_uint64_t)thread + 1;
    us_attempt attempt = {.client = number, .account = number};
    client self = {attempt, attempt, attempt};

    return self;
}

static void ask(us_breaker *breaker, client *self)
{
    us_attempt attempt = self->asks;
    int seconds = 0;
    int said_open = us_breaker_is_open(breaker, attempt.client, &seconds);

    seconds = 0;
    attempt.probe = -1;
    if (!us_breaker_permit(breaker, &attempt, LEASE, &seconds)) {
        int most = (int)apr_time_sec(2 * DURATION) + 1;

        shared->wrong += seconds < 1 || seconds > most || attempt.probe != 0;
        return;
    }
    /* time stands still, so a request that is let in found it closed or due */
    shared->wrong += said_open;
    shared->permitted++;
    if (attempt.probe != 0) {
        shared->probes++;
        self->ticket = attempt;
    }
}

/* Reports for a request that is not a probe and was just made. */
static void report(us_breaker *breaker, const client *self, us_health health)
{
    us_attempt attempt = self->asks;

    attempt.asked = shared->now;
    us_breaker_report(breaker, &log_of_request, &attempt, health);
}

/* Reports a ticket, once. */
static void report_ticket(us_breaker *breaker, us_health health,
                          us_attempt *ticket)
{
    if (ticket->probe != 0) {
        us_breaker_report(breaker, &log_of_request, ticket, health);
        ticket->probe = 0;
    }
}

static void act(action what, client *self)
{
    us_breaker *breaker = breaker_of(US_LOG_IN);

    switch (what) {
    case ASK:
        ask(breaker, self);
        break;
    case ALL_BAD:
        report(breaker, self, US_HEALTH_BAD);
        break;
    case ALL_GOOD:
        report(breaker, self, US_HEALTH_GOOD);
        break;
    case ALL_UNKNOWN:
        report(breaker, self, US_HEALTH_UNKNOWN);
        break;
    case PROBE_BAD:
        report_ticket(breaker, US_HEALTH_BAD, &self->ticket);
        break;
    case PROBE_GOOD:
        report_ticket(breaker, US_HEALTH_GOOD, &self->ticket);
        break;
    case PROBE_UNKNOWN:
        report_ticket(breaker, US_HEALTH_UNKNOWN, &self->ticket);
        break;
    case OVERTAKE:
        self->late = self->ticket;
        self->ticket.probe = 0;
        break;
    case LATE_BAD:
        report_ticket(breaker, US_HEALTH_BAD, &self->late);
        break;
    case LATE_UNKNOWN:
        report_ticket(breaker, US_HEALTH_UNKNOWN, &self->late);
        break;
    case END:
        break;
    }
}

static void obey(int child, int thread)
{
    client self = make_client(child, thread);
    action what;

    do {
        pthread_barrier_wait(&shared->barrier);
        what = (action)shared->action;
        act(what, &self);
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

/* All threads do it; afterwards exactly this must have happened. */
static void step(action what, const char *name, counts wanted)
{
    line_counts *lines = &shared->lines[US_LOG_IN];

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
    step(ALL_UNKNOWN, "an unclear answer", nothing);
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

/* The probe of opens_once returns, in one of the possible ways. */
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

/* The probe takes longer than its lease. */
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

/* Any success closes it, and what a probe finds later changes nothing. */
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
        pids[i] = crew_fork(i, THREADS, NULL, obey);
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

/* --- each thread on its own: only one at a time is a probe --- */

static void probe_on(int child, int thread)
{
    us_breaker *breaker = breaker_of(US_LOG_IN);
    us_attempt attempt = make_client(child, thread).asks;
    int mine = 0;

    while (mine < PROBES) {
        int seconds;

        if (!us_breaker_permit(breaker, &attempt, apr_time_from_sec(86400),
                               &seconds)) {
            /* the last eight probe again if no others have for a while */
            shared->now += apr_time_from_msec(1);
            sched_yield();
            continue;
        }
        shared->wrong += attempt.probe == 0;
        shared->wrong += shared->probing++ != 0;
        sched_yield();
        shared->probing--;
        us_breaker_report(breaker, &log_of_request, &attempt, US_HEALTH_BAD);
        shared->now += DURATION;
        mine++;
    }
}

static void test_one_probe(apr_pool_t *pool)
{
    line_counts *lines = &shared->lines[US_LOG_IN];
    pid_t pids[CHILDREN];
    int good = 1;
    int i;

    make_breakers(pool);
    shared->wrong = 0;
    for (i = 0; i < FAILURES; i++) {
        client self = make_client(0, i);

        report(breaker_of(US_LOG_IN), &self, US_HEALTH_BAD);
    }
    shared->now += DURATION;
    lines->stays = 0;
    for (i = 0; i < CHILDREN; i++) {
        pids[i] = crew_fork(i, THREADS, NULL, probe_on);
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

/* Any results, for two operations, while time passes. */
static void mix(int child, int thread)
{
    static const us_health health[]
        = {US_HEALTH_BAD,  US_HEALTH_BAD, US_HEALTH_BAD,
           US_HEALTH_GOOD, US_HEALTH_BAD, US_HEALTH_UNKNOWN};
    us_attempt attempt = make_client(child, thread).asks;
    unsigned seed = (unsigned)attempt.client;
    int i;

    for (i = 0; i < REQUESTS; i++) {
        us_breaker *breaker;
        int seconds;

        seed = seed * 1103515245U + 12345U;
        breaker = breaker_of((us_operation)((seed >> 8) % US_OPERATION_COUNT));
        if (us_breaker_permit(breaker, &attempt, LEASE, &seconds)) {
            if (seed >> 17 & 1) {
                sched_yield();
            }
            us_breaker_report(breaker, &log_of_request, &attempt,
                              health[(seed >> 18) % 6]);
        }
        shared->now += apr_time_from_msec((seed >> 20) % 50);
    }
}

/* Is it open?  Asks long after any open circuit is due. */
static int was_open(us_operation operation)
{
    us_attempt attempt = make_client(CHILDREN, 0).asks;
    int seconds;

    us_breaker_permit(breaker_of(operation), &attempt, LEASE, &seconds);
    return attempt.probe != 0;
}

static void test_mix(apr_pool_t *pool)
{
    pid_t pids[CHILDREN];
    int good = 1;
    int i;

    make_breakers(pool);
    memset(shared->lines, 0, sizeof(shared->lines));
    for (i = 0; i < CHILDREN; i++) {
        pids[i] = crew_fork(i, THREADS, NULL, mix);
    }
    for (i = 0; i < CHILDREN; i++) {
        good &= crew_wait(pids[i]);
    }
    ok(good, "everything at once: the children end well");
    shared->now += apr_time_from_sec(86400);
    for (i = 0; i < US_OPERATION_COUNT; i++) {
        line_counts *lines = &shared->lines[i];

        ok(lines->opens > 0 && lines->closes > 0, "%sboth have happened",
           names[i]);
        is_int(lines->opens - lines->closes, was_open((us_operation)i),
               "%seach opening has its end, except the last", names[i]);
    }
    is_int(shared->strange, 0, "everything at once: no other lines");
}

/* The operations of a project, and projects, are independent. */
static void test_apart(apr_pool_t *pool)
{
    us_breaker *breaker;
    int seconds;
    int i;

    make_breakers(pool);
    breaker = breaker_of(US_LOG_IN);
    for (i = 0; i < FAILURES; i++) {
        client self = make_client(0, i);

        ok(!us_breaker_is_open(breaker, 99, &seconds), "%d failures", i);
        report(breaker, &self, US_HEALTH_BAD);
    }
    ok(us_breaker_is_open(breaker, 99, &seconds), "and one too many");
    for (i = 0; i < US_OPERATION_COUNT; i++) {
        ok(breaker_of((us_operation)i) != NULL
               && us_breaker_is_open(breaker_of((us_operation)i), 99, &seconds)
                      == (i == US_LOG_IN),
           "only logins: %s", names[i]);
    }
    breaker = us_breaker_find(OTHER_URL, US_LOG_IN);
    ok(breaker != NULL && !us_breaker_is_open(breaker, 99, &seconds),
       "nor another project");
    ok(us_breaker_find("https://nobody.example", US_LOG_IN) == NULL,
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
