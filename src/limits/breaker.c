/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "us_breaker.h"
#include "us_clock.h"
#include "us_log.h"
#include "us_shm.h"

#include <apr_strings.h>

#include <stdatomic.h>
#include <string.h>

/* How many clients with a failed probe are remembered, the latest ones. */
#define PROBERS 8

/* An update that other threads keep changing is given up after these tries. */
#define TRIES 100

/*
 * open_until is the whole state of a circuit.  0: closed; in the future: open;
 * in the past: due for a probe, which claims the circuit by moving the time
 * into the future.  That value is the probe's ticket: if it later finds
 * another value there, another request has changed the circuit.
 */
typedef struct circuit {
    _Atomic apr_int64_t open_until;
    _Atomic apr_uint64_t probers[PROBERS]; /* who_is; 0: unused */
    _Atomic apr_uint32_t probes;           /* failed probes so far */
} circuit;

/* The counters of one breaker; only counters, see us_shm.h. */
typedef struct counters {
    circuit all;
    circuit alone;                     /* of one client */
    _Atomic apr_uint64_t alone_client; /* which client */
    /* Who failed last, and how often in a row with changing accounts: who_is,
     * and the count in the 16 bits above. */
    _Atomic apr_uint64_t last;
    /* When Supabase last answered. */
    _Atomic apr_int64_t answered;
    /* The row's number; every answer starts a new row. */
    _Atomic apr_uint64_t row;
    /* The failures of the row, from the first cell on: who_is, and the row's
     * number in the 16 bits above.  There are as many cells as failures that
     * open the circuit. */
    _Atomic apr_uint64_t cells[];
} counters;

struct us_breaker {
    const char *url;
    us_operation operation;
    counters *shared;
};

/* Of this generation; created before the children. */
static us_shm memory;
static apr_array_header_t *breakers; /* of us_breaker */
static int threshold;
static apr_interval_time_t duration;

/* --- set-up --- */

/* Adds the breakers of a project, unless they exist already. */
static void add_project(const char *url)
{
    us_breaker breaker = {.url = url};
    int i;

    if (us_breaker_find(url, US_SIGN_UP) != NULL) {
        return;
    }
    for (i = 0; i < US_OPERATION_COUNT; i++) {
        breaker.operation = (us_operation)i;
        APR_ARRAY_PUSH(breakers, us_breaker) = breaker;
    }
}

apr_status_t us_breaker_create(apr_pool_t *pconf, server_rec *s)
{
    const us_server_conf *conf = us_config_server(s);
    apr_size_t size;
    apr_status_t rv;
    int i;

    breakers = apr_array_make(pconf, US_OPERATION_COUNT, sizeof(us_breaker));
    threshold = us_config_breaker_failures(conf);
    duration = us_config_breaker_duration(conf);
    size = sizeof(counters) + (apr_size_t)threshold * sizeof(apr_uint64_t);
    for (; threshold > 0 && s != NULL; s = s->next) {
        conf = us_config_server(s);
        if (conf->url != NULL || us_config_has_response(conf)) {
            add_project(us_config_project_name(s));
        }
    }
    rv = us_shm_create(&memory, pconf, (apr_size_t)breakers->nelts * size);
    for (i = 0; rv == APR_SUCCESS && i < breakers->nelts; i++) {
        APR_ARRAY_IDX(breakers, i, us_breaker).shared
            = (void *)((char *)memory.counters + (apr_size_t)i * size);
    }
    return rv;
}

us_breaker *us_breaker_find(const char *url, us_operation operation)
{
    int i;

    for (i = 0; i < breakers->nelts; i++) {
        us_breaker *breaker = &APR_ARRAY_IDX(breakers, i, us_breaker);

        if (breaker->operation == operation
            && strcmp(breaker->url, url) == 0) {
            return breaker;
        }
    }
    return NULL;
}

/* --- clients and accounts --- */

/* The client in 24 bits and the account in 24 bits; neither is 0. */
#define WHO_BITS 24
#define WHO_MASK ((apr_uint64_t)0xffffff)

static apr_uint64_t part_of(apr_uint64_t hash)
{
    return (hash & WHO_MASK) != 0 ? hash & WHO_MASK : 1;
}

static apr_uint64_t who_is(const us_attempt *attempt)
{
    return part_of(attempt->client) << WHO_BITS | part_of(attempt->account);
}

static int same_client(apr_uint64_t a, apr_uint64_t b)
{
    return (a >> WHO_BITS & WHO_MASK) == (b >> WHO_BITS & WHO_MASK);
}

static int same_account(apr_uint64_t a, apr_uint64_t b)
{
    return (a & WHO_MASK) == (b & WHO_MASK);
}

/* The number in the upper 16 bits. */
#define ABOVE (2 * WHO_BITS)

static apr_uint64_t with_above(apr_uint64_t who, apr_uint64_t number)
{
    return (who & ~(~(apr_uint64_t)0 << ABOVE)) | number << ABOVE;
}

/* --- asking --- */

static int seconds_left(apr_int64_t until, apr_time_t now)
{
    apr_int64_t most = 2 * apr_time_sec(duration) + 60;
    apr_int64_t left = apr_time_sec(until - now) + 1;

    return (int)(left < most ? left : most);
}

/* Has a probe of this account, or (by_client) this client, failed lately? */
static int has_failed(const circuit *c, apr_uint64_t who, int by_client)
{
    int i;

    for (i = 0; i < PROBERS; i++) {
        apr_uint64_t prober = atomic_load(&c->probers[i]);

        if (prober != 0
            && (same_account(prober, who)
                || (by_client && same_client(prober, who)))) {
            return 1;
        }
    }
    return 0;
}

/* Lets an attempt through a circuit that is closed, or as its probe. */
static int pass(circuit *c, us_attempt *attempt, apr_interval_time_t lease,
                int *seconds)
{
    apr_time_t now = attempt->asked;
    apr_int64_t until = atomic_load(&c->open_until);

    if (until != 0 && until <= now
        && has_failed(c, who_is(attempt), !attempt->alone)
        && until > now - duration) {
        until += duration; /* others first */
    }
    else if (until != 0 && until <= now
             && atomic_compare_exchange_strong(&c->open_until, &until,
                                               now + lease)) {
        attempt->probe = now + lease;
        return 1;
    }
    if (until != 0) {
        *seconds = seconds_left(until, now);
    }
    return until == 0;
}

/* Does the client's own circuit apply?  It does if it exists and the circuit
 * of all is closed. */
static int is_alone(const counters *shared, apr_uint64_t client)
{
    return atomic_load(&shared->all.open_until) == 0
           && atomic_load(&shared->alone_client) == part_of(client);
}

int us_breaker_permit(us_breaker *breaker, us_attempt *attempt,
                      apr_interval_time_t lease, int *seconds)
{
    attempt->asked = us_clock_now();
    attempt->probe = 0;
    attempt->alone = 0;
    if (breaker == NULL) {
        return 1;
    }
    attempt->alone = is_alone(breaker->shared, attempt->client);
    return pass(attempt->alone ? &breaker->shared->alone
                               : &breaker->shared->all,
                attempt, lease, seconds);
}

int us_breaker_is_open(const us_breaker *breaker, apr_uint64_t client,
                       int *seconds)
{
    apr_time_t now = us_clock_now();
    apr_int64_t until;

    if (breaker == NULL) {
        return 0;
    }
    until = atomic_load(is_alone(breaker->shared, client)
                            ? &breaker->shared->alone.open_until
                            : &breaker->shared->all.open_until);
    if (until <= now) {
        return 0; /* closed, or due for a probe */
    }
    *seconds = seconds_left(until, now);
    return 1;
}

/* --- reporting --- */

static void log_state(const us_breaker *breaker, const us_log *log, int level,
                      const char *what)
{
    static const char *const names[US_OPERATION_COUNT]
        = {"sign-ups", "logins", "refreshes", "logouts"};

    us_trace(log, level, "[%s] US012: circuit to %s for %s %s",
             log->request_id, breaker->url, names[breaker->operation], what);
}

static void probe_failed(us_breaker *breaker, const us_log *log,
                         const us_attempt *attempt)
{
    circuit *c
        = attempt->alone ? &breaker->shared->alone : &breaker->shared->all;
    apr_int64_t before = attempt->probe;

    if (!atomic_compare_exchange_strong(&c->open_until, &before,
                                        us_clock_now() + duration)) {
        return;
    }
    atomic_store(&c->probers[atomic_fetch_add(&c->probes, 1) % PROBERS],
                 who_is(attempt));
    log_state(breaker, log, APLOG_WARNING,
              attempt->alone ? "stays open for one client: its probe failed"
                             : "stays open: the probe failed");
}

/*
 * Adds a failure to the row, unless its client or account is in it already.
 * Cells are filled in order and do not change while the row lasts.  So if two
 * threads come at once, at least one sees the other.
 *
 * Returns 1 if this failure has filled the last cell.
 */
static int join_row(counters *shared, apr_uint64_t who)
{
    apr_uint64_t row = atomic_load(&shared->row) & 0xffff;
    int tries = 0;
    int i = 0;

    while (i < threshold && tries++ < threshold + TRIES) {
        apr_uint64_t cell = atomic_load(&shared->cells[i]);

        if (cell >> ABOVE != row || cell == 0) {
            if (atomic_compare_exchange_strong(&shared->cells[i], &cell,
                                               with_above(who, row))) {
                return i == threshold - 1;
            }
        }
        else if (same_client(cell, who) || same_account(cell, who)) {
            return 0;
        }
        else {
            i++;
        }
    }
    return 0;
}

/* Counts a failure of the only client that has failed since the last answer;
 * one of another client restarts the count.  Returns 1 at the threshold. */
static int count_alone(counters *shared, apr_uint64_t who)
{
    apr_uint64_t last = atomic_load(&shared->last);
    int tries;

    for (tries = 0; tries < TRIES; tries++) {
        apr_uint64_t count = last >> ABOVE;

        if (last == 0 || !same_client(last, who)) {
            count = 0;
        }
        else if (same_account(last, who) || count >= (apr_uint64_t)threshold) {
            return 0;
        }
        if (atomic_compare_exchange_strong(&shared->last, &last,
                                           with_above(who, count + 1))) {
            return count + 1 == (apr_uint64_t)threshold;
        }
    }
    return 0;
}

static void open_alone(us_breaker *breaker, const us_log *log,
                       const us_attempt *attempt, apr_int64_t until)
{
    counters *shared = breaker->shared;

    if (atomic_load(&shared->all.open_until) != 0) {
        return;
    }
    atomic_store(&shared->alone_client, part_of(attempt->client));
    atomic_store(&shared->alone.open_until, until);
    log_state(breaker, log, APLOG_WARNING,
              "opens for one client: it alone failed too often in a row, with "
              "different accounts");
}

static void report_bad(us_breaker *breaker, const us_log *log,
                       const us_attempt *attempt)
{
    counters *shared = breaker->shared;
    apr_int64_t until = us_clock_now() + duration;
    apr_int64_t closed = 0;
    apr_uint64_t who = who_is(attempt);

    if (attempt->probe != 0) {
        probe_failed(breaker, log, attempt);
        return;
    }
    if (atomic_load(&shared->answered) > attempt->asked) {
        return; /* it answered others in the meantime */
    }
    if (!join_row(shared, who)) {
        if (count_alone(shared, who)) {
            open_alone(breaker, log, attempt, until);
        }
    }
    else if (atomic_compare_exchange_strong(&shared->all.open_until, &closed,
                                            until)) {
        log_state(
            breaker, log, APLOG_ERR,
            "opens: Supabase failed too often in a row; they are refused "
            "at once until a probe succeeds");
    }
}

/* Forgets all failures. */
static void forget_failures(counters *shared)
{
    apr_uint64_t row = atomic_load(&shared->row);

    if (atomic_load(&shared->cells[0]) >> ABOVE == (row & 0xffff)
        && atomic_load(&shared->cells[0]) != 0) {
        atomic_compare_exchange_strong(&shared->row, &row, row + 1);
    }
    if (atomic_load(&shared->last) != 0) {
        atomic_store(&shared->last, 0);
    }
}

/* Closes a circuit that has not changed since it was seen.  Returns 1 if this
 * call has closed it. */
static int close_circuit(circuit *c, apr_int64_t seen)
{
    int i;

    if (seen == 0
        || !atomic_compare_exchange_strong(&c->open_until, &seen, 0)) {
        return 0;
    }
    for (i = 0; i < PROBERS; i++) {
        atomic_store(&c->probers[i], 0);
    }
    return 1;
}

/* Any success closes both circuits.  A probe also does if it got an unclear
 * answer, but not if it got none. */
static void report_alive(us_breaker *breaker, const us_log *log,
                         const us_attempt *attempt, us_health health)
{
    counters *shared = breaker->shared;
    apr_int64_t all = atomic_load(&shared->all.open_until);
    apr_int64_t alone = atomic_load(&shared->alone.open_until);

    if (health == US_HEALTH_UNKNOWN) {
        apr_int64_t found = attempt->alone ? alone : all;

        if (attempt->probe == 0 || found != attempt->probe) {
            return;
        }
    }
    else {
        atomic_store(&shared->answered, us_clock_now());
    }
    forget_failures(shared);
    if (close_circuit(&shared->all, all)) {
        log_state(breaker, log, APLOG_NOTICE,
                  "closes: Supabase answers again");
    }
    if (close_circuit(&shared->alone, alone)) {
        log_state(breaker, log, APLOG_NOTICE,
                  "closes for one client: Supabase answers again");
    }
}

void us_breaker_report(us_breaker *breaker, const us_log *log,
                       const us_attempt *attempt, us_health health)
{
    if (breaker == NULL) {
        return;
    }
    if (health == US_HEALTH_BAD) {
        report_bad(breaker, log, attempt);
    }
    else {
        report_alive(breaker, log, attempt, health);
    }
}

/* --- the status page --- */

int us_breaker_look(int i, us_circuit *seen)
{
    const us_breaker *breaker;
    apr_time_t now = us_clock_now();
    apr_int64_t until;

    if (breakers == NULL || i >= breakers->nelts) {
        return 0;
    }
    breaker = &APR_ARRAY_IDX(breakers, i, us_breaker);
    until = atomic_load(&breaker->shared->all.open_until);
    seen->project = breaker->url;
    seen->operation = breaker->operation;
    seen->is_open = until != 0;
    seen->seconds = until > now ? seconds_left(until, now) : 0;
    seen->is_open_alone = atomic_load(&breaker->shared->alone.open_until) != 0;
    return 1;
}
