/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "us_clock.h"
#include "us_stats.h"

#include <apr_general.h>
#include <apr_shm.h>
#include <apr_strings.h>

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* Children share lanes if there are more of them; they count right all the
 * same. */
#define LANES 32

/* A module that is loaded again may be another version: the name changes with
 * the layout. */
#define RETAINED "mod_usersync-stats-2-"

/* How long a trouble may be written; after that its child has ended with it. */
#define LEASE apr_time_from_sec(2)

const apr_interval_time_t us_stats_bounds[US_STATS_BUCKETS]
    = {1000,   2500,   5000,    10000,   25000,   50000,   100000,
       250000, 500000, 1000000, 2500000, 5000000, 10000000};

typedef _Atomic apr_uint64_t counter;

typedef struct timing {
    counter buckets[US_STATS_BUCKETS + 1];
    counter sum;
} timing;

/* What some of the children count. */
typedef struct lane {
    counter outcomes[US_DOOR_COUNT][US_OUTCOME_COUNT];
    counter topics[US_TOPIC_COUNT][US_OUTCOME_COUNT];
    counter tallies[US_TALLIES];
    timing timings[US_TIMINGS];
    char apart[64]; /* no two lanes share a line of the processor's cache */
} lane;

/* The latest line about a cause.  busy is when a writer began, or 0; version
 * changes with each of them, so that readers see that they were disturbed. */
typedef struct slot {
    _Atomic apr_int64_t busy;
    _Atomic apr_uint32_t version;
    _Atomic apr_int64_t when;
    _Atomic apr_uint64_t hash;
    _Atomic apr_uint32_t door;
    _Atomic apr_uint32_t outcome;
    char cause[US_TROUBLE_TEXT + 1];
} slot;

typedef struct shared_stats {
    _Atomic apr_uint32_t children;
    _Atomic apr_int64_t since;
    slot troubles[US_TROUBLES];
    lane lanes[LANES];
} shared_stats;

static shared_stats *shared; /* NULL: nobody counts */
static lane *mine;

/* --- set-up --- */

apr_status_t us_stats_share(apr_pool_t *process)
{
    char key[64];
    apr_shm_t *segment;
    apr_status_t rv;
    void *kept = NULL;

    apr_snprintf(key, sizeof(key), RETAINED "%" APR_SIZE_T_FMT,
                 sizeof(shared_stats));
    apr_pool_userdata_get(&kept, key, process);
    shared = kept;
    if (shared != NULL) {
        return APR_SUCCESS;
    }
    rv = apr_shm_create(&segment, sizeof(shared_stats), NULL, process);
    if (rv != APR_SUCCESS) {
        return rv;
    }
    shared = apr_shm_baseaddr_get(segment);
    memset(shared, 0, sizeof(*shared));
    atomic_init(&shared->since, apr_time_now());
    return apr_pool_userdata_set(shared, key, NULL, process);
}

void us_stats_child_init(void)
{
    if (shared != NULL) {
        mine = &shared->lanes[atomic_fetch_add(&shared->children, 1) % LANES];
    }
}

/* --- counting --- */

static void add(counter *to, apr_uint64_t n)
{
    atomic_fetch_add_explicit(to, n, memory_order_relaxed);
}

void us_stats_outcome(us_door door, us_outcome outcome)
{
    if (mine != NULL) {
        add(&mine->outcomes[door][outcome], 1);
    }
}

void us_stats_topic(us_topic topic, us_outcome outcome)
{
    if (mine != NULL) {
        add(&mine->topics[topic][outcome], 1);
    }
}

void us_stats_time(int which, apr_interval_time_t elapsed)
{
    int bucket = 0;

    if (mine == NULL || elapsed < 0) {
        return;
    }
    while (bucket < US_STATS_BUCKETS && elapsed > us_stats_bounds[bucket]) {
        bucket++;
    }
    add(&mine->timings[which].buckets[bucket], 1);
    add(&mine->timings[which].sum, (apr_uint64_t)elapsed);
}

void us_stats_tally(us_tally tally)
{
    if (mine != NULL) {
        add(&mine->tallies[tally], 1);
    }
}

/* FNV-1a over what distinguishes causes. */
static apr_uint64_t hash_of(us_door door, us_outcome outcome,
                            const char *cause)
{
    apr_uint64_t hash = 14695981039346656037ULL;

    hash = (hash ^ (apr_uint64_t)door) * 1099511628211ULL;
    hash = (hash ^ (apr_uint64_t)outcome) * 1099511628211ULL;
    for (; *cause != '\0'; cause++) {
        if (*cause < '0' || *cause > '9') {
            hash = (hash ^ (unsigned char)*cause) * 1099511628211ULL;
        }
    }
    return hash;
}

/* The slot of this cause, or the one whose line is the oldest. */
static slot *find_slot(apr_uint64_t hash)
{
    slot *found = &shared->troubles[0];
    int i;

    for (i = 0; i < US_TROUBLES; i++) {
        slot *each = &shared->troubles[i];

        if (atomic_load(&each->hash) == hash) {
            return each;
        }
        if (atomic_load(&each->when) < atomic_load(&found->when)) {
            found = each;
        }
    }
    return found;
}

void us_stats_trouble_add(us_door door, us_outcome outcome, const char *cause)
{
    apr_int64_t now = us_clock_now();
    apr_uint64_t hash;
    apr_int64_t busy;
    slot *to;

    if (shared == NULL) {
        return;
    }
    cause = cause != NULL ? cause : "";
    hash = hash_of(door, outcome, cause);
    to = find_slot(hash);
    busy = atomic_load(&to->busy);
    if ((busy != 0 && now - busy < LEASE)
        || !atomic_compare_exchange_strong(&to->busy, &busy, now)) {
        return; /* another child writes there: the next line may have luck */
    }
    atomic_fetch_add(&to->version, 1);
    atomic_store(&to->hash, hash);
    atomic_store(&to->door, (apr_uint32_t)door);
    atomic_store(&to->outcome, (apr_uint32_t)outcome);
    apr_cpystrn(to->cause, cause, sizeof(to->cause));
    atomic_store(&to->when, apr_time_now());
    atomic_fetch_add(&to->version, 1);
    atomic_store(&to->busy, 0);
}

/* --- reading --- */

/* Adds n counters that stand one after the other. */
static void add_counters(apr_uint64_t *to, counter *from, apr_size_t n)
{
    apr_size_t i;

    for (i = 0; i < n; i++) {
        to[i] += atomic_load(&from[i]);
    }
}

static void add_timing(us_histogram *to, timing *from)
{
    int i;

    for (i = 0; i <= US_STATS_BUCKETS; i++) {
        apr_uint64_t n = atomic_load(&from->buckets[i]);

        to->buckets[i] += n;
        to->count += n;
    }
    to->sum += atomic_load(&from->sum);
}

void us_stats_read(us_stats *stats)
{
    int l;
    int i;

    memset(stats, 0, sizeof(*stats));
    if (shared == NULL) {
        return;
    }
    stats->since = atomic_load(&shared->since);
    for (l = 0; l < LANES; l++) {
        lane *from = &shared->lanes[l];

        for (i = 0; i < US_DOOR_COUNT; i++) {
            add_counters(stats->outcomes[i], from->outcomes[i],
                         US_OUTCOME_COUNT);
        }
        for (i = 0; i < US_TOPIC_COUNT; i++) {
            add_counters(stats->topics[i], from->topics[i], US_OUTCOME_COUNT);
        }
        add_counters(stats->tallies, from->tallies, US_TALLIES);
        for (i = 0; i < US_TIMINGS; i++) {
            add_timing(&stats->timings[i], &from->timings[i]);
        }
    }
}

/* Copies a slot; returns 0 if there is nothing in it, or a writer was there. */
static int read_slot(slot *from, us_trouble *to)
{
    apr_uint32_t version = atomic_load(&from->version);
    apr_uint32_t door = atomic_load(&from->door);
    apr_uint32_t outcome = atomic_load(&from->outcome);

    to->when = atomic_load(&from->when);
    memcpy(to->cause, from->cause, US_TROUBLE_TEXT);
    to->cause[US_TROUBLE_TEXT] = '\0';
    if (to->when == 0 || version % 2 != 0 || door >= US_DOOR_COUNT
        || outcome >= US_OUTCOME_COUNT
        || atomic_load(&from->version) != version) {
        return 0;
    }
    to->door = (us_door)door;
    to->outcome = (us_outcome)outcome;
    return 1;
}

static int compare_times(const void *a, const void *b)
{
    apr_time_t one = ((const us_trouble *)a)->when;
    apr_time_t two = ((const us_trouble *)b)->when;

    return one < two ? 1 : one > two ? -1 : 0;
}

int us_stats_troubles(us_trouble troubles[US_TROUBLES])
{
    int count = 0;
    int i;

    for (i = 0; shared != NULL && i < US_TROUBLES; i++) {
        count += read_slot(&shared->troubles[i], &troubles[count]);
    }
    qsort(troubles, (size_t)count, sizeof(*troubles), compare_times);
    return count;
}
