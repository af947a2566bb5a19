/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * supabase/timestamp.h: the time stamps in Supabase's JSON, as PostgreSQL
 * ("2026-08-21T10:00:00.5+00:00") and Go ("2026-08-21T10:00:00.5Z") write
 * them.
 */
#ifndef US_TIMESTAMP_H
#define US_TIMESTAMP_H

#include <apr_pools.h>
#include <apr_time.h>

/* PostgreSQL's "infinity" and "-infinity". */
#define US_TIMESTAMP_NEVER APR_INT64_MAX
#define US_TIMESTAMP_ALWAYS APR_INT64_MIN

/*
 * Reads a time stamp of the years 1 to 294275, or one of the above.  Only what
 * PostgreSQL reads as the very same time is one: neither "now" nor "today".
 *
 * time  set to microseconds since 1970; finer digits are cut off
 *
 * Returns 0 if text is not a time stamp.
 */
int us_timestamp_read(const char *text, apr_time_t *time);

/* A time after 1970 as a time stamp, allocated from pool. */
const char *us_timestamp_text(apr_pool_t *pool, apr_time_t time);

#endif /* US_TIMESTAMP_H */
