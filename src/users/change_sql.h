/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * users/change_sql.h: the statements that apply what Supabase tells of a user.
 * The rules of users/store_sql.h hold.
 *
 * Each statement changes only what yields to the state of this time: a later
 * state never yields to an earlier one, and being deleted wins a draw.
 */
#ifndef US_CHANGE_SQL_H
#define US_CHANGE_SQL_H

#include "store_sql.h"

/* A statement with its parameters. */
typedef struct us_change_sql {
    us_pg_statement statement; /* not prepared: events are few */
    const char *params[US_MAX_COLUMNS + 2];
} us_change_sql;

/* What is to be applied. */
typedef struct us_change {
    const us_store_table *table;
    unsigned shape;
    const char *values[US_MAX_COLUMNS]; /* in the order of the columns; the
                                         * id is never NULL */
    const char *as_of;                  /* a time stamp; not NULL */
    const char *deleted_at;             /* a time stamp, or NULL: as_of */
} us_change;

/* Which columns an update sets. */
typedef enum us_change_scope {
    US_CHANGE_ALL,
    US_CHANGE_NO_EMAIL,
    US_CHANGE_LIFE /* nothing that users choose: no e-mail, phone, metadata */
} us_change_scope;

/* Sets columns of the row.  One without a value gets its default, or NULL for
 * the end of a ban and a deletion. */
us_change_sql us_change_sql_update(apr_pool_t *pool, const us_change *change,
                                   us_change_scope scope);

/* Leaves of the values those of US_CHANGE_LIFE, and the id. */
void us_change_keep_life(us_change *change);

/* Marks the row as deleted; the table has a column for that. */
us_change_sql us_change_sql_mark(apr_pool_t *pool, const us_change *change);

/* Takes the e-mail from other rows that have it and an earlier state.  A row
 * without one may be of somebody who is not at Supabase. */
us_change_sql us_change_sql_vacate(apr_pool_t *pool, const us_change *change);

/* Finds such a row without a state. */
us_change_sql us_change_sql_find_owner(apr_pool_t *pool,
                                       const us_change *change);

/* Makes a tombstone and deletes the row, in one statement: nobody sees one
 * without the other. */
us_change_sql us_change_sql_delete(apr_pool_t *pool, const us_change *change);

/* Makes a tombstone beside a row that cannot be deleted. */
us_change_sql us_change_sql_tombstone(apr_pool_t *pool,
                                      const us_change *change);

#endif /* US_CHANGE_SQL_H */
