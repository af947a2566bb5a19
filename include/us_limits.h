/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_limits.h: limits how many requests wait for Supabase at a time, of all
 * clients and of each client.  It counts across the children of a generation.
 *
 * Threads: any thread may call the functions below child_init.
 */
#ifndef US_LIMITS_H
#define US_LIMITS_H

#include "us_config.h"

struct request_rec;

/* --- set-up --- */

/* post_config: creates the shared memory of the generation about to start. */
apr_status_t us_limits_create(apr_pool_t *pconf, server_rec *s);

/* child_init: takes a slot for this child. */
void us_limits_child_init(server_rec *s);

/* child_status hook, in the parent: frees what the ended child held. */
void us_limits_child_gone(pid_t pid);

/*
 * Does a kept connection hold a thread, with any MPM but event?  Then those of
 * Supabase to the hook, and of the hook to where it is forwarded, are not kept:
 * sign-ins would wait for the threads that they hold.
 */
int us_limits_connections_hold_threads(void);

/* --- seats --- */

/*
 * Would us_limits_enter refuse now?
 *
 * cause  set to the words for the log if so, else to NULL
 */
int us_limits_is_full(const struct request_rec *r, const char **cause);

/*
 * Gives this request a seat, which counts it among those that wait for
 * Supabase.  Returns 0, with a cause as above, if all seats are taken, or if
 * most are and this client has its share.  Otherwise the caller must call
 * us_limits_leave with the same request.
 */
int us_limits_enter(const struct request_rec *r, const char **cause);
void us_limits_leave(const struct request_rec *r);

/* For the status page: how many requests wait for Supabase now, in all
 * children, and how many may. */
typedef struct us_limits_now {
    apr_int64_t waiting;
    apr_int64_t most;
} us_limits_now;

us_limits_now us_limits_look(void);

/* --- forwarded hooks --- */

/*
 * Counts a hook's request that is about to wait for UserSyncHookForward: an
 * eighth of all threads may, and an eighth of a child's, or of mod_http2's in
 * it if those are fewer; at least one.
 *
 * Returns 0 if as many do already.  Otherwise the caller must call
 * us_limits_forward_leave.
 */
int us_limits_forward_enter(void);
void us_limits_forward_leave(void);

#endif /* US_LIMITS_H */
