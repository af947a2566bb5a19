/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * users/cache_guard.h: limits how many threads are inside a cache provider.  A
 * cache server may accept a connection and never answer, and httpd's providers
 * for memcache and redis wait for it without a limit.  So only a few threads
 * may be inside such a provider at a time.  The others go without the cache,
 * which costs them one look at the table.
 *
 * A server that hangs can hold up two threads of a child, or four children of
 * an MPM with one thread each.  While it hangs, at most one call a second
 * tries it.
 *
 * Threads: any thread may call the functions below us_cache_guard_share.
 */
#ifndef US_CACHE_GUARD_H
#define US_CACHE_GUARD_H

#include <httpd.h>

/* post_config, if the provider may have to wait for a server. */
apr_status_t us_cache_guard_share(apr_pool_t *pconf);

/* child_init. */
void us_cache_guard_child_init(void);

/* A place inside the provider, and its value while it is taken. */
typedef struct us_cache_place {
    int index;
    apr_uint64_t word;
} us_cache_place;

/*
 * Takes a place inside the provider.  Waits some milliseconds for one.
 *
 * place  set for us_cache_guard_leave, which must follow if this returns 1
 *
 * Returns 1, or 0: go without the cache.
 */
int us_cache_guard_enter(server_rec *s, us_cache_place *place);

/* Gives the place back.  works: the call succeeded. */
void us_cache_guard_leave(server_rec *s, us_cache_place place, int works);

#endif /* US_CACHE_GUARD_H */
