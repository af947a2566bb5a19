/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * users/visit.h: one visit to the users table on a borrowed connection: what
 * its steps share, what is known about the table, and what a failure means.
 * users/store.c makes sure of rows, users/change.c applies events.
 */
#ifndef US_VISIT_H
#define US_VISIT_H

#include "store.h"
#include "store_sql.h"
#include "us_clock.h"

#include <stdatomic.h>

struct us_store {
    us_pg_pool *pg;
    us_fence *fence;
    us_store_table table;
    us_on_delete on_delete;
    us_store_sql sql[US_SHAPES];
    volatile apr_uint32_t shape;  /* 0: the table has not been seen */
    volatile apr_uint32_t warned; /* about what may surprise, once per child */
    _Atomic apr_int64_t wrote;    /* when the table last accepted a write, or a
                                   * pretended one */
};

typedef struct us_visit {
    us_store *store;
    us_call *call;
    const us_identity *identity;
    us_pg_conn *conn;
    apr_time_t deadline;
    apr_interval_time_t time; /* what was left when the connection came */
    us_misfit misfit;         /* as far as this visit knows */
    int checked;              /* this visit has looked at the catalog */
    apr_uint64_t history;     /* of the server of the last look-up */
} us_visit;

/* What a look-up has found. */
typedef struct us_row {
    int exists;
    int other_case;     /* only its id in upper case exists */
    int same_email;     /* it has the identity's e-mail; not for a snapshot */
    int is_later;       /* it has been given a later state than the identity's;
                        * not for a snapshot */
    us_standing stands; /* of its user */
} us_row;

/*
 * Borrows a connection.  Returns 0 if there is none; call->cause says why.
 */
int us_visit_begin(us_visit *v);

/* Gives the connection back. */
void us_visit_end(us_visit *v);

/* The statements for the table as it is known. */
const us_store_sql *us_visit_sql(const us_visit *v);

/* The table's shape; see users/store_sql.h. */
unsigned us_visit_shape(const us_visit *v);

/* The identity's values in the order of the columns. */
void us_visit_params(const us_visit *v, const char *params[US_MAX_COLUMNS]);

/* The time of the identity's state; without one it is earlier than any. */
const char *us_visit_as_of(const us_visit *v);

/* Looks at the catalog.  US_OK: look-ups work, but there may be a misfit. */
us_outcome us_visit_inspect(us_visit *v);

/*
 * Looks at the catalog unless the table is known.  A table that does not match
 * is checked again from time to time, by requests that it keeps from their
 * work.
 *
 * writes  the caller is going to write
 */
us_outcome us_visit_know_table(us_visit *v, int writes);

/* A misfit that v->misfit tells of. */
us_outcome us_visit_misfit(us_visit *v);

/*
 * A statement failed: what that means.  call->cause and call->store_late are
 * set.
 *
 * writes  the statement was to write
 */
us_outcome us_visit_failed(us_visit *v, us_pg_status status,
                           const us_pg_result *error, int writes);

/* Looks the identity's row up. */
us_outcome us_visit_look(us_visit *v, us_row *row);

/* Has this user a tombstone?  Sets *has. */
us_outcome us_visit_look_for_tombstone(us_visit *v, int *has);

/*
 * Removes a tombstone that is older than the identity's state.
 *
 * by  how much older, as PostgreSQL reads an interval
 */
us_outcome us_visit_drop_tombstone(us_visit *v, const char *by, int *removed);

/* Was a row not deleted because rows of other tables refer to it? */
int us_visit_is_referred_to(const us_pg_result *error);

/* Deletes a row whose user has a tombstone, unless other rows refer to it: it
 * was inserted while the tombstone was made. */
us_outcome us_visit_sweep(us_visit *v, int *removed);

#endif /* US_VISIT_H */
