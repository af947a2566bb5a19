/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * limits/seats.h: the requests that wait for Supabase, in all children of a
 * generation.  Each child has a slot in the shared memory, with a seat for
 * every request that it may let wait.  A taken seat names the client.  So a
 * client's seats can be counted exactly at any time, and what a child held
 * disappears with its slot.
 *
 * limits/limits.c decides who may take a seat.
 *
 * Threads: any thread may call the functions below us_seats_child_init.
 */
#ifndef US_SEATS_H
#define US_SEATS_H

#include <apr_errno.h>
#include <apr_pools.h>

#include <sys/types.h>

/* Of all children, of this one, and of this one on mod_http2's threads. */
typedef struct us_seat_counts {
    apr_int64_t all;
    apr_int64_t child;
    apr_int64_t http2;
} us_seat_counts;

/* Whose seat it is and of which kind; us_seats_of creates one. */
typedef struct us_seat {
    apr_uint64_t client; /* the value in the shared memory; never 0 */
    int http2;
} us_seat;

/*
 * post_config: creates slots with this many seats for each child.
 *
 * per_child  seats, at least 1
 */
apr_status_t us_seats_create(apr_pool_t *pconf, int per_child);

/* child_init: takes a slot.  Returns 0 if there is none: then this child's
 * seats are counted only in this child. */
int us_seats_child_init(void);

/* child_status hook, in the parent: frees what the ended child held. */
void us_seats_child_gone(pid_t pid);

/* The seat of a client (us_client_of) for one request. */
us_seat us_seats_of(apr_uint64_t client, int http2);

/* Counts a request, and stops counting it. */
void us_seats_take(us_seat seat);
void us_seats_leave(us_seat seat);

/* How many seats are taken. */
us_seat_counts us_seats_taken(void);

/* How many of them this client has. */
us_seat_counts us_seats_held(us_seat seat);

/* --- hooks' requests that wait for UserSyncHookForward --- */

/* Counts one more (1), or one less (-1). */
void us_seats_forward(int more);

/* How many there are; http2 is not counted apart. */
us_seat_counts us_seats_forwarded(void);

#endif /* US_SEATS_H */
