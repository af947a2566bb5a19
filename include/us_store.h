/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_store.h: check and create.  After US_OK the user has a row.
 */
#ifndef US_STORE_H
#define US_STORE_H

#include "us_config.h"
#include "us_pg.h"

typedef struct us_store us_store; /* one users table, in this child */

/* child_init: the statements are composed once.  pg: the pool to use. */
us_store *us_store_create(apr_pool_t *pool, const us_server_conf *conf,
                          us_pg_pool *pg);

/*
 * Is PostgreSQL there, as far as is known?  To refuse before Supabase creates
 * an account that would have no row, or a session.  Costs nothing while all
 * is well; when PostgreSQL is away, one request at a time finds out whether
 * it is back.  US_OK or US_STORE_UNAVAILABLE.
 */
us_outcome us_store_ready(us_store *store, us_call *call);

/*
 * Make sure that the user of a proven identity has a row, and that its
 * e-mail follows Supabase's.  One round trip and no write when it has.  For
 * an identity that is not proven the same look is taken and nothing written,
 * so that a failure of the store looks the same.
 *
 * A snapshot never changes a row that is there, and a new one gets the
 * table's defaults but for id and e-mail.
 *
 * UserSyncStoreTimeout bounds everything together.
 *
 * Returns US_OK, US_STORE_UNAVAILABLE, US_ROW_REFUSED or US_ROW_CONFLICT;
 * call->cause and call->email_stale say more.
 */
us_outcome us_store_ensure_user(us_store *store, us_call *call,
                                const us_identity *identity);

/* How long us_store_ensure_user may take (usec). */
apr_interval_time_t us_store_timeout(const us_store *store);

#endif /* US_STORE_H */
