/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_store_check.h: does the table suit the configuration?  Asked once per
 * child, and again for as long as the answer is no.
 */
#ifndef US_STORE_CHECK_H
#define US_STORE_CHECK_H

#include "us_config.h"
#include "us_pg.h"

typedef struct us_store_verdict {
    const char *read_problem;   /* no lookup can work; NULL: fine */
    const char *insert_problem; /* no insert can work; NULL: fine */
    int unfillable;             /* ... for a NOT NULL column */
    int has_triggers;           /* BEFORE INSERT, for each row */
    const char *warning;        /* works, but may surprise; NULL: nothing */
    int json_column[US_MAX_COLUMNS]; /* takes JSON text, not plain text */
} us_store_verdict;

/*
 * Look at the table's catalog entry.
 *
 * pool     receives the verdict's texts, which name the cure
 *
 * Returns US_PG_OK with a verdict, or what us_pg_exec said.
 */
us_pg_status us_store_check(us_pg_conn *conn, apr_pool_t *pool,
                            apr_time_t deadline, const char *table,
                            const apr_array_header_t *columns,
                            us_store_verdict *verdict, us_pg_result *error);

#endif /* US_STORE_CHECK_H */
