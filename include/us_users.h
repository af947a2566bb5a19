/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_users.h: makes sure that users have a row.  All doors call it.
 *
 * Threads: any thread may call the functions below us_users_create.
 */
#ifndef US_USERS_H
#define US_USERS_H

#include "us_config.h"

typedef struct us_users us_users; /* one users table, in this child */

/* post_config: creates what all children share about the tables of the servers
 * in the list that begins with s. */
apr_status_t us_users_share(apr_pool_t *pconf, server_rec *s);

/*
 * child_init, after us_cache_child_init and mod_dbd's own: the table of server
 * s with its connections and its part of the cache.
 *
 * index  the server's position in the list, from 0
 */
us_users *us_users_create(apr_pool_t *pchild, server_rec *s, int index);

/*
 * Can a user get a row now?  The routes ask before Supabase does something
 * that would be left without a row.  Costs nothing while all is well.
 *
 * creates  an account is about to be created: more is checked then
 *
 * Returns US_OK, or what us_users_ensure would most likely return.
 */
us_outcome us_users_ready(us_users *users, us_call *call, int creates);

/*
 * Asks PostgreSQL whether users can be looked up now, as a request would.  For
 * health checks: in each child one look a second at most, whose finding the
 * others share, its cause included.
 *
 * Returns as us_users_ready.
 */
us_outcome us_users_check(us_users *users, us_call *call);

/* What is known to be wrong with the table, so that new users get no row, or
 * nobody is found; allocated from pool.  NULL: nothing. */
const char *us_users_misfit(us_users *users, apr_pool_t *pool);

/* For the status page: the connections of this child.  most is 0 as long as
 * nobody has needed one. */
typedef struct us_users_connections {
    int in_use;
    int most; /* DBDMax */
} us_users_connections;

us_users_connections us_users_look(us_users *users);

/*
 * Makes sure that a user has a row: the cache knows it, or the table has it,
 * or it is created and then seen.  One thread of a child at a time does this
 * for a user; the others wait for it.  The limit is UserSyncStoreTimeout, and
 * a quarter of a second to cancel a statement that was given up.
 *
 * call->has_seat  0: the caller does not count among the requests that
 *                 UserSyncMaxConcurrent admits; then a quarter of a child's
 *                 threads never waits for long
 * call->store_limit  less time than UserSyncStoreTimeout, or 0; set to what
 *                    holds
 *
 * Returns US_OK: a foreign key to the row holds, and the row says neither that
 * the user is banned nor that they are deleted.  Else US_USER_BANNED or
 * US_USER_DELETED (it does, or an event said so), US_STORE_UNAVAILABLE
 * (PostgreSQL is away or hangs), US_TABLE_MISFIT, US_ROW_REFUSED or
 * US_ROW_CONFLICT; call->cause, store_time and email_stale say more.
 */
us_outcome us_users_ensure(us_users *users, us_call *call,
                           const us_identity *identity);

/*
 * Brings the table to the state that Supabase tells of: creates or changes the
 * row with all its mapped columns, or does what UserSyncOnDelete says.  A
 * later state never yields to an earlier one; the same one may come again.
 *
 * identity  proven, with life and as_of; of a deleted user no e-mail and phone
 *
 * Returns US_OK, also if there was nothing to do: what was known of the user
 * before is forgotten in all children, and if they are banned or deleted, no
 * child lets them in any more.  Else as us_users_ensure.
 */
us_outcome us_users_apply(us_users *users, us_call *call,
                          const us_identity *identity);

#endif /* US_USERS_H */
