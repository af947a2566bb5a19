/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * users/store_check.h: does the table match the configuration?  Each child
 * asks once, and again while the answer is no.
 */
#ifndef US_STORE_CHECK_H
#define US_STORE_CHECK_H

#include "store_sql.h"

typedef struct us_store_verdict {
    const char *read_problem;   /* why no look-up can work; NULL: it can */
    const char *insert_problem; /* why no insert can work; NULL: it can */
    int unfillable;             /* ...  because of a NOT NULL column */
    int has_triggers;           /* BEFORE INSERT, for each row */
    const char *warning;        /* works, but may surprise; NULL: nothing */
    int json_column[US_MAX_COLUMNS]; /* takes JSON text, not plain text */
    unsigned shape;     /* see users/store_sql.h: how to write statements */
    us_pg_result error; /* why there is no verdict */
} us_store_verdict;

/*
 * Looks at the table's catalog entry.
 *
 * pool     receives the verdict's texts, which name the cure
 *
 * Returns US_PG_OK with a verdict, or the status of us_pg_exec, with error.
 */
us_pg_status us_store_check(us_pg_conn *conn, apr_pool_t *pool,
                            apr_time_t deadline, const us_store_table *users,
                            us_store_verdict *verdict);

#endif /* US_STORE_CHECK_H */
