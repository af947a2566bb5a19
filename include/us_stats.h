/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_stats.h: what this server has done since it was started.  All children
 * count in shared memory, which outlives graceful restarts; see us_shm.h for
 * what may be believed of it.
 *
 * Threads: any thread of a child may call the functions below
 * us_stats_child_init.  Counting takes no lock and allocates nothing.
 */
#ifndef US_STATS_H
#define US_STATS_H

#include "usersync.h"

#include <apr_errno.h>

/* What takes time: the operations of Supabase, and the users table. */
#define US_TIMING_STORE US_OPERATION_COUNT
#define US_TIMINGS (US_OPERATION_COUNT + 1)

/* The upper bounds of a histogram's buckets (usec), the last one without. */
#define US_STATS_BUCKETS 13
extern const apr_interval_time_t us_stats_bounds[US_STATS_BUCKETS];

typedef enum us_tally {
    US_TALLY_ROW_CREATED,
    US_TALLY_ROW_UPDATED,
    US_TALLY_ROW_DELETED,
    US_TALLY_CACHE_KNOWN, /* nothing had to be asked */
    US_TALLY_CACHE_UNKNOWN,
    US_TALLY_EMAIL_STALE,
    /* let through without a row that is sure, and with OnError Allow */
    US_TALLY_UNSYNCED_GATE,
    US_TALLY_UNSYNCED_HOOK,
    US_TALLY_UNSYNCED_REPORT, /* what On would have withheld for that */
    US_TALLIES
} us_tally;

/* --- set-up --- */

/*
 * post_config: the memory, which is kept if it is there from before.
 *
 * process  the pool of httpd's process
 */
apr_status_t us_stats_share(apr_pool_t *process);

/* child_init: chooses where this child counts. */
void us_stats_child_init(void);

/* --- counting --- */

void us_stats_outcome(us_door door, us_outcome outcome);
/* A hook or an event; US_OK of an event: nothing had to be changed. */
void us_stats_topic(us_topic topic, us_outcome outcome);

void us_stats_time(int which, apr_interval_time_t elapsed);
void us_stats_tally(us_tally tally);

/* The longest text of a trouble that is kept; the rest is cut off. */
#define US_TROUBLE_TEXT 400

/* Remembers what a log line says: the latest of each cause, see
 * us_stats_trouble. */
void us_stats_trouble_add(us_door door, us_outcome outcome, const char *cause);

/* --- reading --- */

typedef struct us_histogram {
    apr_uint64_t buckets[US_STATS_BUCKETS + 1]; /* of each alone */
    apr_uint64_t count;
    apr_uint64_t sum; /* usec */
} us_histogram;

typedef struct us_stats {
    apr_time_t since; /* when counting began */
    apr_uint64_t outcomes[US_DOOR_COUNT][US_OUTCOME_COUNT];
    apr_uint64_t topics[US_TOPIC_COUNT][US_OUTCOME_COUNT];
    apr_uint64_t tallies[US_TALLIES];
    us_histogram timings[US_TIMINGS];
} us_stats;

/* Sums up what all children have counted. */
void us_stats_read(us_stats *stats);

typedef struct us_trouble {
    apr_time_t when;
    us_door door;
    us_outcome outcome;
    char cause[US_TROUBLE_TEXT + 1]; /* any bytes, terminated */
} us_trouble;

/* The most causes that are remembered. */
#define US_TROUBLES 16

/*
 * The causes of the latest log lines, newest first.
 *
 * Returns how many there are.
 */
int us_stats_troubles(us_trouble troubles[US_TROUBLES]);

#endif /* US_STATS_H */
