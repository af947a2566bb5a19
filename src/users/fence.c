/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "us_clock.h"
#include "fence.h"

#include <apr_hash.h>
#include <apr_strings.h>

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

/* After this many late looks in a row the table counts as hung. */
#define LATE_MAX 3

/* The pause between looks at the catalog while the table does not match. */
#define RECHECK_PAUSE apr_time_from_msec(250)
#define ODD_PAUSE apr_time_from_sec(5)

struct us_fence {
    us_fence_words *words;
    apr_interval_time_t lease;
    pthread_mutex_t mutex; /* guards misfit */
    us_misfit misfit;
    _Atomic int is_misfit;       /* misfit.outcome != US_OK, without the
                                  * mutex */
    _Atomic apr_int64_t recheck; /* not before this time */
};

static apr_status_t destroy(void *data)
{
    us_fence *fence = data;

    pthread_mutex_destroy(&fence->mutex);
    return APR_SUCCESS;
}

us_fence *us_fence_create(apr_pool_t *pool, us_fence_words *words,
                          apr_interval_time_t lease)
{
    us_fence *fence = apr_pcalloc(pool, sizeof(*fence));

    fence->words = words;
    fence->lease = lease;
    pthread_mutex_init(&fence->mutex, NULL);
    apr_pool_cleanup_register(pool, fence, destroy, apr_pool_cleanup_null);
    return fence;
}

/* --- hung --- */

int us_fence_is_hung(const us_fence *fence)
{
    return atomic_load(&fence->words->late) >= LATE_MAX;
}

us_fence_pass us_fence_enter(us_fence *fence, apr_int64_t *ticket)
{
    apr_int64_t now = us_clock_now();
    apr_int64_t until;

    *ticket = 0;
    if (!us_fence_is_hung(fence)) {
        return US_FENCE_OPEN;
    }
    until = atomic_load(&fence->words->probe);
    /* further away than any lease: not a value of ours */
    if (until > now && until <= now + fence->lease) {
        return US_FENCE_CLOSED;
    }
    if (!atomic_compare_exchange_strong(&fence->words->probe, &until,
                                        now + fence->lease)) {
        return US_FENCE_CLOSED;
    }
    *ticket = now + fence->lease;
    return US_FENCE_PROBE;
}

void us_fence_report(us_fence *fence, apr_int64_t ticket, const char *id,
                     us_fence_end end)
{
    apr_ssize_t len = APR_HASH_KEY_STRING;
    apr_uint32_t hash;

    if (end == US_FENCE_ANSWERED) {
        if (atomic_load(&fence->words->late) != 0) {
            atomic_store(&fence->words->late, 0);
        }
    }
    else if (end == US_FENCE_LATE && !us_fence_is_hung(fence)) {
        hash = apr_hashfunc_default(id, &len);
        if (*id == '\0'
            || atomic_exchange(&fence->words->last, hash) != hash) {
            atomic_fetch_add(&fence->words->late, 1);
        }
    }
    if (ticket != 0) {
        atomic_compare_exchange_strong(&fence->words->probe, &ticket, 0);
    }
}

/* --- misfit --- */

int us_fence_misfit(us_fence *fence, us_misfit *misfit)
{
    if (!atomic_load(&fence->is_misfit)) {
        memset(misfit, 0, sizeof(*misfit));
        return 0;
    }
    pthread_mutex_lock(&fence->mutex);
    *misfit = fence->misfit;
    pthread_mutex_unlock(&fence->mutex);
    return misfit->outcome != US_OK;
}

void us_fence_set_misfit(us_fence *fence, us_outcome outcome, int reads,
                         const char *text)
{
    pthread_mutex_lock(&fence->mutex);
    fence->misfit.outcome = outcome;
    fence->misfit.reads = reads;
    apr_cpystrn(fence->misfit.text, text, sizeof(fence->misfit.text));
    atomic_store(&fence->is_misfit, 1);
    pthread_mutex_unlock(&fence->mutex);
}

void us_fence_set_odd_misfit(us_fence *fence, int reads, const char *text)
{
    us_fence_set_misfit(fence, US_TABLE_MISFIT, reads, text);
    atomic_store(&fence->recheck, us_clock_now() + ODD_PAUSE);
}

void us_fence_clear_misfit(us_fence *fence)
{
    if (atomic_load(&fence->is_misfit)) {
        pthread_mutex_lock(&fence->mutex);
        fence->misfit.outcome = US_OK;
        atomic_store(&fence->is_misfit, 0);
        pthread_mutex_unlock(&fence->mutex);
    }
}

int us_fence_recheck_due(us_fence *fence)
{
    apr_int64_t now = us_clock_now();
    apr_int64_t due = atomic_load(&fence->recheck);

    return due <= now
           && atomic_compare_exchange_strong(&fence->recheck, &due,
                                             now + RECHECK_PAUSE);
}
