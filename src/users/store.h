/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * users/store.h: looks rows up and creates them, on PostgreSQL.  Routes and
 * gate use us_users.h instead.
 */
#ifndef US_STORE_H
#define US_STORE_H

#include "us_config.h"
#include "fence.h"
#include "slots.h"
#include "us_pg.h"

typedef struct us_store us_store; /* one users table, in this child */

/* What was seen in the table. */
typedef struct us_store_seen {
    apr_uint64_t history; /* the server's history at that time; 0: unknown */
    int email_is_same;    /* the row's e-mail is the identity's */
    us_standing stands;   /* of the user, according to the row */
    int revived;          /* the row said that they were banned or deleted,
                           * and Supabase's later word has changed that */
    us_sight sight;       /* us_store_apply: of its last look */
} us_store_seen;

/* child_init: composes the statements once.  pg: the pool to use; fence: told
 * if the table does not match. */
us_store *us_store_create(apr_pool_t *pool, const us_server_conf *conf,
                          us_pg_pool *pg, us_fence *fence);

/* Has this child not seen the table yet, and nothing speaks against it? */
int us_store_is_new(us_store *store);

/*
 * Is there a doubt whether a user could get a row now?  Costs nothing.
 *
 * creates  an account is about to be created: then the table must have
 *          accepted a write, or a pretended insert, a moment ago
 */
int us_store_is_in_doubt(us_store *store, int creates);

/*
 * Removes the doubt: checks whether PostgreSQL is there, whether the table
 * matches, and whether it answers.
 *
 * deadline  on us_clock_now()
 *
 * Returns US_OK, US_STORE_UNAVAILABLE, US_TABLE_MISFIT or, if the table has a
 * column that nothing fills, US_ROW_REFUSED; call->cause says why.
 */
us_outcome us_store_probe(us_store *store, us_call *call, apr_time_t deadline,
                          int creates);

/*
 * The same for a health check: looks at the catalog in any case, so that the
 * fence knows of a misfit, and at the table.
 *
 * Returns US_OK if look-ups work, else as us_store_probe.
 */
us_outcome us_store_inspect(us_store *store, us_call *call,
                            apr_time_t deadline);

/*
 * Makes sure that the user of a proven identity has a row, and that its e-mail
 * follows Supabase's.  If so, this takes one round trip and no write.  After a
 * write the row is looked up again: OK is what was read.  For an identity that
 * is not proven, the same steps are taken but nothing is written, so that a
 * failure of the store looks the same.
 *
 * A snapshot never changes an existing row.  Columns for which the identity
 * has no value get the table's defaults.
 *
 * deadline  limits everything together, on us_clock_now(); call->store_limit
 *           is the time that it was at the start
 * seen      filled in on US_OK, US_USER_BANNED and US_USER_DELETED
 *
 * Returns US_OK, US_USER_BANNED or US_USER_DELETED (the row says so),
 * US_STORE_UNAVAILABLE, US_TABLE_MISFIT, US_ROW_REFUSED or US_ROW_CONFLICT;
 * call->cause, call->email_stale and call->store_late say more.
 */
us_outcome us_store_ensure(us_store *store, us_call *call,
                           const us_identity *identity, apr_time_t deadline,
                           us_store_seen *seen);

/*
 * Brings the table to the state of a proven identity, see us_users_apply, and
 * then looks the row up.  In between it counts a change of the user's slot: it
 * does so on a failure, too, as a statement that was given up may have been
 * committed.
 *
 * deadline  as above
 * seen      filled in on US_OK: what the last look saw.  A user without a row
 *           may enter, unless they have a tombstone
 *
 * Returns US_OK, US_STORE_UNAVAILABLE, US_TABLE_MISFIT, US_ROW_REFUSED or
 * US_ROW_CONFLICT; call->cause, call->email_stale, call->has_warning and
 * call->store_late say more.
 */
us_outcome us_store_apply(us_store *store, us_call *call,
                          const us_identity *identity, apr_time_t deadline,
                          us_store_seen *seen);

#endif /* US_STORE_H */
