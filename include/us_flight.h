/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_flight.h: one thread of a child at a time looks after a user's row.  A
 * browser opens six connections at once: the first request of a new user
 * makes his row, the other five wait for it instead of asking PostgreSQL the
 * same.
 */
#ifndef US_FLIGHT_H
#define US_FLIGHT_H

#include "usersync.h"

#include <pthread.h>

/* Lives on the stack of a thread that looks, or waits for one that does. */
typedef struct us_flight {
    const void *table;
    const char *id;
    us_outcome outcome;
    apr_time_t since;          /* leader */
    int followers;             /* leader: how many */
    int done;                  /* follower: outcome is set */
    pthread_cond_t changed;    /* follower */
    struct us_flight *next;    /* leaders, or followers of one leader */
    struct us_flight *waiting; /* leader: who waits */
} us_flight;

/* Who comes when this many wait already does so for no longer than this from
 * when the leader began: somebody who opens very many connections must not
 * take all threads while PostgreSQL hangs. */
#define US_FLIGHT_FOLLOWERS 8
#define US_FLIGHT_CROWD_TIME apr_time_from_msec(500)

/*
 * Look after the user of this id in this table, or wait for a thread that
 * does so already.
 *
 * flight    any contents; valid, with id, until us_flight_end where that is
 *           due
 * table     compared only
 * deadline  until when to wait, on us_clock_now()
 * outcome   set when 0 is returned: what the other thread ended with, or
 *           US_STORE_UNAVAILABLE when it has not by the deadline, or by
 *           that of a crowd
 *
 * Returns 1 when the caller is to look: us_flight_end must follow.
 */
int us_flight_begin(us_flight *flight, const void *table, const char *id,
                    apr_time_t deadline, us_outcome *outcome);

/* Tell those who wait how it ended. */
void us_flight_end(us_flight *flight, us_outcome outcome);

#endif /* US_FLIGHT_H */
