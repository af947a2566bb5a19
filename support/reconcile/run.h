/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * run.h: what all parts of usersync-reconcile share.  The program has one
 * thread.
 */
#ifndef US_REC_RUN_H
#define US_REC_RUN_H

#include "options.h"
#include "us_columns.h"
#include "usersync.h"

/* How a step ended. */
typedef enum us_rec_end {
    US_REC_OK,
    US_REC_STOPPED, /* a signal asked for it */
    US_REC_FAILED   /* run->problem says why, and what to do */
} us_rec_end;

/* A user of the project, as the source has them. */
typedef struct us_rec_user {
    us_identity identity; /* id, life, as_of, and a value for each column; the
                           * hashes of a deleted user are left out */
    const char *deleted_at; /* NULL: not deleted */
    apr_time_t created;     /* usec since 1970; offset mode sorts by it */
} us_rec_user;

/* What a user and their row have come to. */
typedef enum us_rec_class {
    US_REC_SAME,    /* as it should be */
    US_REC_MISSING, /* no row */
    US_REC_STALE,   /* the row differs */
    US_REC_BANNED,  /* the row differs in banned_until only */
    US_REC_DELETED, /* softly deleted at Supabase, and not here */
    US_REC_PHANTOM, /* a row whose user is gone */
    US_REC_REFUSED, /* the table does not take what it should */
    US_REC_NEWER,   /* the row has a later state: left alone */
    US_REC_KEPT,    /* deleted or gone, and --on-delete Keep */
    US_REC_CLASSES
} us_rec_class;

struct us_rec_db;
struct us_rec_ids;

typedef struct us_rec_run {
    apr_pool_t *pool; /* lives as long as the program */
    const us_rec_options *options;
    const char *problem; /* why a step failed: one line, in pool */
    apr_int64_t counts[US_REC_CLASSES];
    apr_int64_t users;       /* that the source has shown */
    apr_int64_t applied;     /* differences that were written */
    struct us_rec_db *db;    /* the target's */
    struct us_rec_ids *seen; /* users who are settled */
} us_rec_run;

/* Set by a signal: end as soon as the state is in order. */
extern volatile int us_rec_stop;

/*
 * Records why a step failed: the text becomes run->problem.
 *
 * Returns US_REC_FAILED.
 */
us_rec_end us_rec_fail(us_rec_run *run, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Waits for usec, or until a signal asks to stop: US_REC_OK or
 * US_REC_STOPPED. */
us_rec_end us_rec_sleep(apr_interval_time_t usec);

/*
 * The wait before try number tries (from 1): twice as long each time, up to
 * half a minute, and at random up to a half less, so that several programs
 * that were refused together do not come back together.
 */
apr_interval_time_t us_rec_backoff(int tries);

/* A time as PostgreSQL reads it, in UTC. */
const char *us_rec_time_text(apr_pool_t *pool, apr_time_t when);

#endif /* US_REC_RUN_H */
