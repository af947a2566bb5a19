/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_cache.h: the users who are known to have a row, and those who are known
 * to be banned or deleted.  All children share this cache; one of httpd's
 * small object cache providers (ap_socache.h) holds it.
 *
 * A user is known for UserSyncCacheTimeout after their row was seen, unless
 * their standing changes before (users/slots.h).  If in doubt, the cache does
 * not know them: that costs one look at the table.
 */
#ifndef US_CACHE_H
#define US_CACHE_H

#include "us_config.h"
#include "users/slots.h"

/* The users of one table in one database. */
typedef struct us_cache us_cache;

/* --- set-up --- */

/* pre_config: lets the Mutex directive choose the lock around the cache. */
int us_cache_pre_config(apr_pool_t *pconf);

/*
 * post_config: creates the cache of the generation that is about to start.
 *
 * choice  UserSyncCache of the main server; NULL: the default
 */
apr_status_t us_cache_create(apr_pool_t *pconf, apr_pool_t *ptemp,
                             server_rec *s, const us_cache_choice *choice);

/* child_init: call it before us_cache_get. */
void us_cache_child_init(apr_pool_t *pchild, server_rec *s);

/*
 * child_init: the part of the cache for one table.  NULL, which the functions
 * below accept, means that there is no cache.
 *
 * database  a text that identifies the database of conf's table; only its hash
 *           is used
 */
us_cache *us_cache_get(apr_pool_t *pchild, server_rec *s,
                       const us_server_conf *conf, const char *database);

/* --- any thread --- */

/* The user to look up, or whose row was seen. */
typedef struct us_cache_user {
    const char *id;       /* a canonical UUID */
    apr_uint64_t history; /* of the table's server, see us_pg_history: an entry
                           * from one history is not valid in another */
    int has_email;        /* look up: does the e-mail matter; add: is it
                           * known? */
    const char *email;    /* if has_email: the e-mail; NULL: none */
    /* to add only */
    us_sight sight;     /* taken before the look that saw the row */
    us_standing stands; /* what it saw */
} us_cache_user;

typedef enum us_known {
    US_UNKNOWN,
    US_KNOWN,       /* the row exists */
    US_KNOWN_EMAIL, /* the row exists and has this e-mail */
    US_KNOWN_BANNED,
    US_KNOWN_DELETED
} us_known;

/* Is this user known?  pool is for the provider. */
us_known us_cache_look(const us_cache *cache, apr_pool_t *pool,
                       const us_cache_user *user);

/* Remembers what was seen.  Only a hash of the e-mail is stored. */
void us_cache_add(const us_cache *cache, apr_pool_t *pool, const us_log *log,
                  const us_cache_user *user);

/* Forgets the user; what was seen of them does not hold any more. */
void us_cache_drop(const us_cache *cache, apr_pool_t *pool,
                   const us_cache_user *user);

#endif /* US_CACHE_H */
