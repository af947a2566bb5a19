/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * users/flight.h: makes sure that one thread of a child at a time handles a
 * user's row.  A browser opens six connections at once: the first request of a
 * new user creates their row, and the other five wait for it instead of asking
 * PostgreSQL the same.
 */
#ifndef US_FLIGHT_H
#define US_FLIGHT_H

#include "slots.h"
#include "usersync.h"

#include <pthread.h>

/* Lives on the stack of a thread that looks, or that waits for one. */
typedef struct us_flight {
    const void *table;
    const char *id;
    us_outcome outcome;
    us_sight sight;            /* taken before the leader's look */
    apr_time_t since;          /* leader: its start */
    int followers;             /* leader: their number */
    int done;                  /* follower: outcome is set */
    pthread_cond_t changed;    /* follower */
    struct us_flight *next;    /* leaders, or followers of one leader */
    struct us_flight *waiting; /* leader: its followers */
} us_flight;

/* If this many followers wait already, a further one waits only until this
 * long after the leader's start: a client that opens very many connections
 * must not occupy all threads while PostgreSQL hangs. */
#define US_FLIGHT_FOLLOWERS 8
#define US_FLIGHT_CROWD_TIME apr_time_from_msec(500)

/*
 * Lets the caller handle the user of this id in this table, or waits for a
 * thread that already does.
 *
 * flight    any contents; must stay valid, with id, until us_flight_end if
 *           that has to follow
 * table     only compared
 * sight     taken before.  A thread whose look began before a change of the
 *           user's standing is not waited for: its finding is older
 * deadline  until when to wait, on us_clock_now()
 * patient   the caller is one of a limited number: a crowd does not shorten
 *           its wait
 * outcome   set if 0 is returned: the other thread's outcome, or
 *           US_STORE_UNAVAILABLE if it has none by the deadline or by that of
 *           a crowd
 *
 * Returns 1 if the caller is to look: us_flight_end must follow.
 */
int us_flight_begin(us_flight *flight, const void *table, const char *id,
                    us_sight sight, apr_time_t deadline, int patient,
                    us_outcome *outcome);

/* Tells the followers how it ended. */
void us_flight_end(us_flight *flight, us_outcome outcome);

#endif /* US_FLIGHT_H */
