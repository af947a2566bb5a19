/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_limits.h: how many requests may wait for Supabase at a time, and when
 * not to ask it at all.  Both are counted across the children of a
 * generation, in shared memory.
 *
 * Threads: everything below child_init may be called by any of them.
 */
#ifndef US_LIMITS_H
#define US_LIMITS_H

#include "us_config.h"

struct request_rec;

/* --- set-up --- */

/*
 * post_config: the shared memory of the generation that is about to start,
 * with a circuit breaker for each operation of each project's URL.
 */
apr_status_t us_limits_create(apr_pool_t *pconf, server_rec *s);

/* child_init: take a slot of our own. */
void us_limits_child_init(server_rec *s);

/* child_status hook, in the parent: what a child held that has ended, in
 * whatever way, is free again. */
void us_limits_child_gone(pid_t pid);

/* --- concurrency --- */

/* Would us_limits_enter refuse just now? */
int us_limits_is_full(const struct request_rec *r);

/*
 * Count this request among those that wait for Supabase.  Returns 0 when
 * there are too many; else us_limits_leave must follow in the same thread.
 */
int us_limits_enter(const struct request_rec *r);
void us_limits_leave(const struct request_rec *r);

/* --- circuit breaker --- */

typedef struct us_breaker us_breaker;

/* The breaker of an operation of a project; child_init.  NULL, which the
 * functions below take, when UserSyncCircuitBreaker is Off. */
us_breaker *us_breaker_find(const char *url, us_operation operation);

/*
 * May Supabase be asked?  While the circuit is open only one request, the
 * probe, may when its time has come.
 *
 * lease    how long a probe may take at the most (usec): then another may
 * seconds  set to the time left when the answer is no
 * probe    set to this probe's ticket, for us_breaker_report; 0: no probe
 */
int us_breaker_permit(us_breaker *breaker, apr_interval_time_t lease,
                      int *seconds, apr_int64_t *probe);

/* Would us_breaker_permit say no just now?  seconds as there. */
int us_breaker_is_open(const us_breaker *breaker, int *seconds);

/* Tell how it went.  A change of state is one log line. */
void us_breaker_report(us_breaker *breaker, const us_log *log,
                       us_health health, apr_int64_t probe);

#endif /* US_LIMITS_H */
