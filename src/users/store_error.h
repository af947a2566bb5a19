/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * users/store_error.h: the administrator's message for a failed statement.
 */
#ifndef US_STORE_ERROR_H
#define US_STORE_ERROR_H

#include "us_pg.h"

/*
 * What happened and what to do, static or allocated from pool.  Never a value
 * of the row: no DETAIL of PostgreSQL and no message that quotes values.
 *
 * snapshot  the row was to get id and e-mail only
 */
const char *us_store_error_text(apr_pool_t *pool, us_pg_status status,
                                const us_pg_result *error, int snapshot);

#define US_EMAIL_STALE "the e-mail in the user's row could not follow: "

/* Why an update of the e-mail changed nothing. */
const char *us_store_stale_text(apr_pool_t *pool, us_pg_status status,
                                const us_pg_result *error);

#endif /* US_STORE_ERROR_H */
