/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * users/batch_sql.h: the statements for many rows of one users table at a
 * time, as text.  usersync-reconcile runs them.
 *
 * Each parameter is a PostgreSQL array of text, one element for a user, unless
 * it says otherwise.  Names are written with their schema for the reason in
 * users/store_sql.h.
 */
#ifndef US_BATCH_SQL_H
#define US_BATCH_SQL_H

#include "us_columns.h"
#include "usersync.h"

/* A users table as its catalog entry has it. */
typedef struct us_batch_table {
    const char *name;    /* for SQL, with its schema */
    const char *dead;    /* the table of tombstones, likewise; NULL: none */
    const char *dead_id; /* the type of its id, for SQL */
    int only;            /* an ordinary table: exclude its children */
    const apr_array_header_t *columns; /* of us_column, a complete list */
    const char *types[US_MAX_COLUMNS]; /* of the columns, for SQL */
    int takes_json[US_MAX_COLUMNS];    /* is it json or jsonb? */
    int takes_null[US_MAX_COLUMNS];    /* may it be NULL? */
} us_batch_table;

/* The fields that existing rows follow, in the order of a comparison. */
#define US_BATCH_FOLLOWED 4
extern const us_field_kind us_batch_followed[US_BATCH_FOLLOWED];

/* The columns of a comparison's result. */
enum {
    US_BATCH_PLACE,  /* of the user in the arrays, from 1 */
    US_BATCH_ROW,    /* t: there is a row */
    US_BATCH_EXACT,  /* t: its id is spelled as it should be */
    US_BATCH_NEWER,  /* t: it, or its tombstone, has a later state */
    US_BATCH_BURIED, /* t: a tombstone */
    US_BATCH_DIFFERS /* for each of us_batch_followed: t: it differs */
};

/*
 * In all statements $1 is the time stamp at which the users were asked for,
 * not an array.  A row with a state that is later than that, and than the
 * user's own time, is left alone.
 */

/*
 * Compares rows with users: $2 the ids, $3 the times of the users' states,
 * then the values of those followed fields that have a column.  One row for
 * each user.
 */
const char *us_batch_compare(apr_pool_t *pool, const us_batch_table *table);

/*
 * Inserts rows: from $2 on the values of the columns whose bit is
 * set in mask (bit 0, the id, always is); the others get the table's default.
 * A user with a tombstone later than $1 is left out.  Returns the ids of the
 * rows that came into being.
 */
const char *us_batch_insert(apr_pool_t *pool, const us_batch_table *table,
                            unsigned mask);

/*
 * Brings rows up to date: parameters as for us_batch_compare.  Rows are
 * locked in the order of their ids.  Returns the ids of
 * the rows that were written.
 */
const char *us_batch_update(apr_pool_t *pool, const us_batch_table *table);

/*
 * Takes the e-mail away from rows that are about to get another one, so that
 * two may swap theirs: $2 the ids, $3 the times.  A column that must not be
 * NULL holds a text made of the id until the transaction has an address for
 * it.
 */
const char *us_batch_free_emails(apr_pool_t *pool,
                                 const us_batch_table *table);

/* The ids of the rows that hold one of these e-mails: $1, an array. */
const char *us_batch_holders(apr_pool_t *pool, const us_batch_table *table);

/* Marks rows as deleted: $2 the ids, $3 the times of the new
 * states, $4 the times of the deletions.  Returns the ids as above. */
const char *us_batch_mark(apr_pool_t *pool, const us_batch_table *table);

/* Deletes rows and puts tombstones into the other table: parameters and result
 * as above.  Users without a row get a tombstone, too. */
const char *us_batch_delete(apr_pool_t *pool, const us_batch_table *table);

/* Removes the tombstones of users who live: $2 the ids. */
const char *us_batch_raise(apr_pool_t *pool, const us_batch_table *table);

/*
 * The ids of all rows that are not marked as deleted, in their order: $1 the
 * last one that was read, not an array; NULL: from the start.
 *
 * limit  how many rows at most
 */
const char *us_batch_walk(apr_pool_t *pool, const us_batch_table *table,
                          int first, int limit);

/* How many rows there are that are not marked as deleted. */
const char *us_batch_count(apr_pool_t *pool, const us_batch_table *table);

#endif /* US_BATCH_SQL_H */
