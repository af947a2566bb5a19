/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "us_cache.h"
#include "us_clock.h"
#include "flight.h"
#include "us_shm.h"
#include "us_stats.h"
#include "store.h"
#include "us_users.h"

#include <ap_mpm.h>

#include <apr_strings.h>

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

/* If most threads of the child wait for PostgreSQL, a further one waits no
 * longer than this. */
#define CROWD_TIME apr_time_from_msec(500)

/* What a probe may need after its deadline: to cancel, and to be scheduled. */
#define PROBE_GRACE apr_time_from_sec(1)

/* A health check does not look again within this time. */
#define CHECK_TIME apr_time_from_sec(1)

/* The user id of a probe. */
#define NOBODY ""

/* What all children share about a table. */
typedef struct shared_words {
    us_fence_words fence;
    us_pg_history history;
} shared_words;

static us_shm memory; /* one shared_words for each server, in their order */

struct us_users {
    us_store *store;
    us_pg_pool *pg;
    us_cache *cache;
    us_fence *fence;
    apr_interval_time_t timeout;
    int has_email;       /* the second column is the e-mail */
    int crowd;           /* how many may wait without a limit of their own */
    _Atomic int waiting; /* callers without a seat that are at the table */
    _Atomic apr_int64_t check_due; /* when us_users_check looks again */
    pthread_mutex_t check_lock;
    us_outcome checked; /* what it has found, under the lock */
    char check_cause[400];
    char doubt[2]; /* addresses that identify flights: [creates] */
};

/* --- set-up --- */

apr_status_t us_users_share(apr_pool_t *pconf, server_rec *s)
{
    const server_rec *each;
    apr_size_t count = 0;
    apr_status_t rv;

    for (each = s; each != NULL; each = each->next) {
        count++;
    }
    rv = us_slots_share(s);
    return rv == APR_SUCCESS
               ? us_shm_create(&memory, pconf, count * sizeof(shared_words))
               : rv;
}

us_users *us_users_create(apr_pool_t *pchild, server_rec *s, int index)
{
    const us_server_conf *conf = us_config_server(s);
    shared_words *words = (shared_words *)memory.counters + index;
    us_users *users = apr_pcalloc(pchild, sizeof(*users));
    int threads = 0;

    ap_mpm_query(AP_MPMQ_MAX_THREADS, &threads);
    users->crowd = threads > 1 ? threads * 3 / 4 : 1;
    users->timeout = us_config_store_timeout(conf);
    users->has_email = us_columns_have_email(us_config_columns(pchild, conf));
    users->pg = us_pg_pool_get(pchild, s, users->timeout, &words->history);
    users->cache = us_cache_get(pchild, s, conf, us_pg_pool_lines(users->pg));
    users->fence
        = us_fence_create(pchild, &words->fence, users->timeout + PROBE_GRACE);
    users->store = us_store_create(pchild, conf, users->pg, users->fence);
    pthread_mutex_init(&users->check_lock, NULL);
    return users;
}

/* How long a call may wait for the table; then call->store_limit says so. */
static apr_interval_time_t limit_time(const us_users *users, us_call *call)
{
    if (call->store_limit == 0 || call->store_limit > users->timeout) {
        call->store_limit = users->timeout;
    }
    return call->store_limit;
}

/* Until when a call may wait that came at this time.  It counts among those at
 * the table until leave. */
static apr_time_t enter(us_users *users, us_call *call, apr_time_t start)
{
    apr_time_t deadline = start + limit_time(users, call);

    if (!call->has_seat && atomic_fetch_add(&users->waiting, 1) >= users->crowd
        && start + CROWD_TIME < deadline) {
        deadline = start + CROWD_TIME;
    }
    return deadline;
}

static void leave(us_users *users, const us_call *call)
{
    if (!call->has_seat) {
        atomic_fetch_sub(&users->waiting, 1);
    }
}

/* --- the fence --- */

static us_outcome hung(us_call *call)
{
    return us_fail(call, US_STORE_UNAVAILABLE,
                   "PostgreSQL did not answer several times within "
                   "UserSyncStoreTimeout: one request at a time finds out "
                   "whether it does again");
}

/* Tells the fence how a look ended that began at start. */
static void report(us_users *users, us_call *call, us_outcome outcome,
                   const char *id, apr_time_t start, apr_int64_t ticket)
{
    apr_interval_time_t elapsed = us_clock_now() - start;
    us_fence_end end = US_FENCE_ANSWERED;

    call->store_time = elapsed + (call->store_time > 0 ? call->store_time : 0);
    if (outcome == US_STORE_UNAVAILABLE) {
        end = call->store_late ? US_FENCE_LATE : US_FENCE_NO_MATTER;
    }
    us_fence_report(users->fence, ticket, id, end);
}

/* If it is in doubt, checks whether a user could get a row. */
static us_outcome find_out(us_users *users, us_call *call, int creates)
{
    apr_time_t start = us_clock_now();
    apr_int64_t ticket;
    us_outcome outcome;

    switch (us_fence_enter(users->fence, &ticket)) {
    case US_FENCE_CLOSED:
        return hung(call);
    case US_FENCE_OPEN:
        if (!us_store_is_in_doubt(users->store, creates)) {
            return US_OK;
        }
        break;
    case US_FENCE_PROBE:
        break;
    }
    outcome = us_store_probe(users->store, call,
                             start + limit_time(users, call), creates);
    report(users, call, outcome, NOBODY, start, ticket);
    return outcome;
}

/* One thread of a child at a time checks; the others use its finding.  Nobody
 * waits long for a server that is known to be away; the first look of a child
 * may take as long as any other. */
us_outcome us_users_ready(us_users *users, us_call *call, int creates)
{
    int is_hung = us_fence_is_hung(users->fence);
    us_flight flight;
    us_outcome outcome;
    apr_time_t deadline;
    int is_first;

    if (!is_hung && !us_store_is_in_doubt(users->store, creates)) {
        return US_OK;
    }
    deadline = enter(users, call, us_clock_now());
    if (is_hung) {
        deadline = us_clock_now();
    }
    else if (!us_store_is_new(users->store)) {
        deadline = us_clock_now() + CROWD_TIME;
    }
    is_first = us_flight_begin(&flight, &users->doubt[creates != 0], NOBODY,
                               us_slots_sight(NOBODY), deadline, 0, &outcome);
    if (is_first) {
        outcome = find_out(users, call, creates);
        us_flight_end(&flight, outcome);
    }
    else if (outcome != US_OK) {
        call->cause = "another request that finds out whether PostgreSQL "
                      "answers has failed or takes too long: see its line";
    }
    leave(users, call);
    return outcome;
}

/* What the latest health check has found. */
static us_outcome checked_lately(us_users *users, us_call *call)
{
    us_outcome outcome;

    pthread_mutex_lock(&users->check_lock);
    outcome = users->checked;
    if (outcome != US_OK) {
        call->cause = apr_pstrdup(call->pool, users->check_cause);
    }
    pthread_mutex_unlock(&users->check_lock);
    return outcome;
}

static void remember_check(us_users *users, const us_call *call,
                           us_outcome outcome)
{
    const char *cause = call->cause != NULL ? call->cause : "";

    pthread_mutex_lock(&users->check_lock);
    users->checked = outcome;
    apr_cpystrn(users->check_cause, cause, sizeof(users->check_cause));
    pthread_mutex_unlock(&users->check_lock);
}

us_outcome us_users_check(us_users *users, us_call *call)
{
    apr_time_t start = us_clock_now();
    apr_int64_t due = atomic_load(&users->check_due);
    us_outcome outcome;
    apr_int64_t ticket;

    if (start < due
        || !atomic_compare_exchange_strong(&users->check_due, &due,
                                           start + CHECK_TIME)) {
        return checked_lately(users, call);
    }
    if (us_fence_enter(users->fence, &ticket) == US_FENCE_CLOSED) {
        outcome = hung(call);
    }
    else {
        outcome = us_store_inspect(users->store, call,
                                   start + limit_time(users, call));
        report(users, call, outcome, NOBODY, start, ticket);
    }
    remember_check(users, call, outcome);
    return outcome;
}

const char *us_users_misfit(us_users *users, apr_pool_t *pool)
{
    us_misfit misfit;

    return us_fence_misfit(users->fence, &misfit)
               ? apr_pstrdup(pool, misfit.text)
               : NULL;
}

us_users_connections us_users_look(us_users *users)
{
    us_users_connections now;

    now.in_use = us_pg_pool_lent(users->pg, &now.most);
    return now;
}

/* --- one user --- */

/* The user for the cache, which does not store a snapshot's e-mail. */
static us_cache_user user_of(const us_users *users,
                             const us_identity *identity, apr_uint64_t history)
{
    us_cache_user user = {.id = identity->id,
                          .history = history,
                          .has_email = !identity->snapshot};

    if (users->has_email && user.has_email) {
        user.email = identity->values[1].text;
    }
    return user;
}

/*
 * Is there nothing to do?  Then outcome is set.  Whoever has just signed in is
 * looked up although they are known to be banned or deleted: Supabase may have
 * the later word.
 */
static int is_known(const us_users *users, const us_call *call,
                    const us_identity *identity, us_outcome *outcome)
{
    us_cache_user user
        = user_of(users, identity, us_pg_pool_history(users->pg));

    if (identity->pending) {
        return 0;
    }
    *outcome = US_OK;
    switch (us_cache_look(users->cache, call->pool, &user)) {
    case US_KNOWN_EMAIL:
        return 1;
    case US_KNOWN_BANNED:
        *outcome = US_USER_BANNED;
        return identity->snapshot;
    case US_KNOWN_DELETED:
        *outcome = US_USER_DELETED;
        return identity->snapshot;
    case US_KNOWN:
        return identity->snapshot;
    case US_UNKNOWN:
        break;
    }
    return 0;
}

/*
 * Remembers what was seen.  If this very look has changed the user's standing,
 * what was seen before does not hold, and an event may have come since.
 */
static void remember(const us_users *users, us_call *call,
                     const us_identity *identity, us_sight sight,
                     const us_store_seen *seen)
{
    us_cache_user user = user_of(users, identity, seen->history);

    user.has_email = seen->email_is_same;
    user.sight = sight;
    user.stands = seen->stands;
    if (seen->revived) {
        us_slots_change(identity->id);
        us_cache_drop(users->cache, call->pool, &user);
    }
    else {
        us_cache_add(users->cache, call->pool, &call->log, &user);
    }
}

/* Has the row been read? */
static int is_seen(us_outcome outcome)
{
    return outcome == US_OK || outcome == US_USER_BANNED
           || outcome == US_USER_DELETED;
}

static us_outcome visit(us_users *users, us_call *call,
                        const us_identity *identity, us_sight sight,
                        apr_time_t deadline)
{
    apr_time_t start = us_clock_now();
    us_store_seen seen;
    apr_int64_t ticket;
    us_outcome outcome;

    if (us_fence_enter(users->fence, &ticket) == US_FENCE_CLOSED) {
        return hung(call);
    }
    outcome = us_store_ensure(users->store, call, identity, deadline, &seen);
    report(users, call, outcome, identity->id, start, ticket);
    if (identity->proven && (is_seen(outcome) || seen.revived)) {
        remember(users, call, identity, sight, &seen);
    }
    return outcome;
}

/*
 * Another thread's finding also holds for this request if it must be the same:
 * a row exists, apart from its e-mail, and a table does not match.  But a row
 * that refused the gate's id and e-mail may accept all values of a login.
 */
static us_outcome follow(us_users *users, us_call *call,
                         const us_identity *identity, us_outcome outcome,
                         us_sight sight, apr_time_t start, apr_time_t deadline)
{
    us_outcome known;

    if (!identity->snapshot && outcome != US_TABLE_MISFIT) {
        if (outcome == US_OK && is_known(users, call, identity, &known)) {
            return known;
        }
        if (us_clock_now() < deadline) {
            return visit(users, call, identity, sight, deadline);
        }
    }
    call->store_time = us_clock_now() - start;
    if (!is_seen(outcome)) {
        call->cause = "another request for this user's row has failed or "
                      "takes too long: see its line";
    }
    return outcome;
}

static us_outcome look_after(us_users *users, us_call *call,
                             const us_identity *identity, apr_time_t start,
                             apr_time_t deadline)
{
    int is_hung = us_fence_is_hung(users->fence);
    us_sight sight = us_slots_sight(identity->id);
    us_flight flight;
    us_outcome outcome;

    if (!identity->proven) {
        return visit(users, call, identity, sight, deadline);
    }
    if (!us_flight_begin(&flight, users, identity->id, sight,
                         is_hung ? start : deadline, call->has_seat,
                         &outcome)) {
        return follow(users, call, identity, outcome, sight, start, deadline);
    }
    outcome = visit(users, call, identity, sight, deadline);
    us_flight_end(&flight, outcome);
    return outcome;
}

us_outcome us_users_ensure(us_users *users, us_call *call,
                           const us_identity *identity)
{
    apr_time_t start;
    us_outcome outcome;

    if (identity->proven && is_known(users, call, identity, &outcome)) {
        us_stats_tally(US_TALLY_CACHE_KNOWN);
        return outcome;
    }
    if (identity->proven && users->cache != NULL) {
        us_stats_tally(US_TALLY_CACHE_UNKNOWN);
    }
    start = us_clock_now();
    outcome
        = look_after(users, call, identity, start, enter(users, call, start));
    leave(users, call);
    if (identity->pending && is_seen(outcome)) {
        /* a sign-up without a session lets nobody in, and does not tell who
         * is banned; those who wait for this look are told what it saw */
        call->cause = call->email_stale ? call->cause : NULL;
        outcome = US_OK;
    }
    return outcome;
}

/* --- events --- */

/* Remembers who is banned or deleted, and forgets what was known of others. */
static void remember_event(const us_users *users, us_call *call,
                           const us_identity *identity,
                           const us_store_seen *seen)
{
    us_cache_user user = {.id = identity->id,
                          .history = seen->history,
                          .sight = seen->sight,
                          .stands = seen->stands};

    if (seen->stands.kind == US_MAY_ENTER) {
        us_cache_drop(users->cache, call->pool, &user);
    }
    else {
        us_cache_add(users->cache, call->pool, &call->log, &user);
    }
}

/* The deny entry spares the table those who come although they are banned;
 * that no earlier sight holds is what keeps them out. */
us_outcome us_users_apply(us_users *users, us_call *call,
                          const us_identity *identity)
{
    apr_time_t start = us_clock_now();
    us_store_seen seen;
    us_outcome outcome;

    /* An event waits for whoever holds the row, which a sign-in does not: it
     * is not the one that finds out whether PostgreSQL answers again, and how
     * long it takes says nothing to others. */
    if (us_fence_is_hung(users->fence)) {
        return hung(call);
    }
    outcome = us_store_apply(users->store, call, identity,
                             enter(users, call, start), &seen);
    leave(users, call);
    call->store_time = us_clock_now() - start;
    if (outcome == US_OK) {
        remember_event(users, call, identity, &seen);
    }
    return outcome;
}
