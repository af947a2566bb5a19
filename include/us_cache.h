/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_cache.h: users who are known to have a row, shared by all children and
 * kept by one of httpd's providers of a small object cache (ap_socache.h).
 *
 * A user is known for UserSyncCacheTimeout from when his row was seen; he is
 * not when in doubt: what the cache cannot tell costs one look at the table.
 */
#ifndef US_CACHE_H
#define US_CACHE_H

#include "us_config.h"

/* The users of one table in one database. */
typedef struct us_cache us_cache;

/* --- set-up --- */

/*
 * Read the value of UserSyncCache, provider[:args] or none.
 *
 * choice  set to what was chosen, in pool
 *
 * Returns NULL, or a sentence part that follows the directive's name.
 */
const char *us_cache_choose(apr_pool_t *pool, apr_pool_t *temp_pool,
                            const char *arg, us_cache_choice **choice);

/* pre_config: let Mutex set how children take turns at the cache. */
int us_cache_pre_config(apr_pool_t *pconf);

/* check_config: can the provider be had that is used without UserSyncCache?
 * NULL, or a sentence that says what to do. */
const char *us_cache_check_default(apr_pool_t *pool);

/*
 * post_config: the cache of the generation that is about to start.
 *
 * choice  UserSyncCache of the main server; NULL: the default
 */
apr_status_t us_cache_create(apr_pool_t *pconf, apr_pool_t *ptemp,
                             server_rec *s, const us_cache_choice *choice);

/* child_init, before us_cache_get. */
void us_cache_child_init(apr_pool_t *pchild, server_rec *s);

/*
 * child_init: the part of the cache for one table.  NULL, which the functions
 * below take: no cache.
 *
 * database  what says where the table of conf is; only hashed
 */
us_cache *us_cache_get(apr_pool_t *pchild, server_rec *s,
                       const us_server_conf *conf, const char *database);

/* --- any thread --- */

/* Is this user known?  id: a canonical UUID; pool: for the provider. */
int us_cache_has(const us_cache *cache, apr_pool_t *pool, const char *id);

/* His row was seen. */
void us_cache_add(const us_cache *cache, apr_pool_t *pool, const us_log *log,
                  const char *id);

#endif /* US_CACHE_H */
