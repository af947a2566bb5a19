/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * users/fence.h: knows whether a users table can be asked.  The routes check
 * before anything happens at Supabase; a look for a row checks again.
 *
 *   hung    statements of several users in a row miss their deadline while
 *           connecting works: a lock on the table, a frozen server.  All
 *           children know it: a few words in shared memory.
 *   misfit  the table does not allow new rows, or not even look-ups.  Only this
 *           child knows it, along with a text that names the cure.
 *
 * us_pg's pools know when PostgreSQL is away, that is, when no connection can
 * be opened.
 *
 * Threads: any thread may call the functions below us_fence_create.
 */
#ifndef US_FENCE_H
#define US_FENCE_H

#include "usersync.h"

typedef struct us_fence us_fence; /* of one table, in this child */

/* What all children share of a fence; the words may have any value. */
typedef struct us_fence_words {
    _Atomic apr_uint32_t late; /* late looks in a row */
    _Atomic apr_uint32_t last; /* a hash of the user of the last one */
    _Atomic apr_int64_t probe; /* when the current probe ends; 0: none */
} us_fence_words;

/*
 * child_init.
 *
 * words  in shared memory; all zero at the start of a generation
 * lease  how long a probe may take at most (usec); after that its child has
 *        ended with it, and another probe may go
 */
us_fence *us_fence_create(apr_pool_t *pool, us_fence_words *words,
                          apr_interval_time_t lease);

/* --- hung --- */

typedef enum us_fence_pass {
    US_FENCE_OPEN,
    US_FENCE_PROBE, /* hung, and this look is the probe */
    US_FENCE_CLOSED /* hung, and another look is the probe */
} us_fence_pass;

/*
 * May the table be asked?
 *
 * ticket  set for us_fence_report, which must follow unless it is closed
 */
us_fence_pass us_fence_enter(us_fence *fence, apr_int64_t *ticket);

/* Is the table known to hang?  Nothing has to follow. */
int us_fence_is_hung(const us_fence *fence);

/* How a look ended. */
typedef enum us_fence_end {
    US_FENCE_ANSWERED, /* PostgreSQL has answered anything */
    US_FENCE_LATE,     /* PostgreSQL was there, but not in time */
    US_FENCE_NO_MATTER /* PostgreSQL was not asked */
} us_fence_end;

/*
 * Reports how a look ended.  If one user's row is locked, that says nothing
 * about the table, however often they come.  So a late look counts only if its
 * user is not the last one's.  Looks without a user, whose id is "", always
 * count.
 */
void us_fence_report(us_fence *fence, apr_int64_t ticket, const char *id,
                     us_fence_end end);

/* --- misfit --- */

/* The longest text that is kept of a misfit; the rest is cut off. */
#define US_MISFIT_TEXT 512

typedef struct us_misfit {
    us_outcome outcome; /* what a new user gets; US_OK: no misfit */
    int reads;          /* not even a look-up can work */
    char text[US_MISFIT_TEXT];
} us_misfit;

/* What is known; returns 1 if there is a misfit. */
int us_fence_misfit(us_fence *fence, us_misfit *misfit);

/* Stores a misfit; text is copied. */
void us_fence_set_misfit(us_fence *fence, us_outcome outcome, int reads,
                         const char *text);

/* The same for what the catalog does not show but a statement has found: it is
 * valid for some seconds. */
void us_fence_set_odd_misfit(us_fence *fence, int reads, const char *text);

/* The table matches. */
void us_fence_clear_misfit(us_fence *fence);

/*
 * Is it time to look at the catalog again?  Returns 1 to one caller in a
 * quarter of a second, so that a misfit ends soon, but not every request sends
 * a query.
 */
int us_fence_recheck_due(us_fence *fence);

#endif /* US_FENCE_H */
