/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "us_cache.h"
#include "us_log.h"

#include <ap_provider.h>
#include <ap_socache.h>
#include <util_mutex.h>

#include <apr_sha1.h>
#include <apr_strings.h>

#include <string.h>

#define MUTEX_NAME "usersync-cache"
#define NAME_SPACE "usersync"
#define DEFAULT_PROVIDER "shmcb"

/* Without arguments shmcb would take 512 KB: room for 7 000 users.  A page of
 * this memory costs nothing until it is used. */
#define SHMCB_DEFAULT "usersync-cache(8388608)"

/* What stands in the cache for a user: that he is there. */
#define VALUE 'u'

/*
 * The key of a user: a byte that spreads (shmcb chooses one of its parts by
 * the first byte and searches that from end to end), what table it is, and
 * the UUID.  Both vhosts and databases may share the cache.
 */
#define KEY_SPREAD 0
#define KEY_SCOPE 1
#define KEY_ID (KEY_SCOPE + APR_SHA1_DIGESTSIZE)
#define KEY_LEN (KEY_ID + 16)

/* shmcb needs about as much for its index as for this: so it divides its
 * memory well. */
#define SHMCB_INDEX 32

/* How long to wait for another thread that is at the cache.  It needs about a
 * microsecond: to sleep at once would cost a hundred.  One that was stopped
 * just there must not stop everybody. */
#define LOCK_TRIES 300
#define LOCK_BUSY 100 /* of them without a pause */
#define LOCK_PAUSE 50 /* usec */

struct us_cache_choice {
    const ap_socache_provider_t *provider; /* NULL: none */
    ap_socache_instance_t *instance;
};

struct us_cache {
    server_rec *server;
    unsigned char scope[APR_SHA1_DIGESTSIZE];
    apr_interval_time_t timeout;
};

/* Of this generation; made before the children are. */
static us_cache_choice current;
static apr_global_mutex_t *mutex; /* NULL: the provider needs none */

/* --- set-up --- */

static const char *choose(apr_pool_t *pool, apr_pool_t *temp_pool,
                          const char *name, const char *args,
                          us_cache_choice **choice)
{
    us_cache_choice chosen = {NULL, NULL};
    const char *wrong;

    chosen.provider = ap_lookup_provider(AP_SOCACHE_PROVIDER_GROUP, name,
                                         AP_SOCACHE_PROVIDER_VERSION);
    if (chosen.provider == NULL) {
        return apr_psprintf(pool,
                            "takes none or a provider of httpd's small object "
                            "cache, such as shmcb; \"%s\" is not known here: "
                            "load mod_socache_%s",
                            name, name);
    }
    if (args == NULL && strcmp(name, "shmcb") == 0) {
        args = ap_runtime_dir_relative(temp_pool, SHMCB_DEFAULT);
    }
    wrong = chosen.provider->create(&chosen.instance, args, temp_pool, pool);
    if (wrong != NULL) {
        return apr_psprintf(pool, "%s: %s: %s", name,
                            args != NULL ? args : "without arguments", wrong);
    }
    *choice = apr_pmemdup(pool, &chosen, sizeof(chosen));
    return NULL;
}

const char *us_cache_choose(apr_pool_t *pool, apr_pool_t *temp_pool,
                            const char *arg, us_cache_choice **choice)
{
    const char *args = strchr(arg, ':');
    const char *name
        = args != NULL ? apr_pstrmemdup(pool, arg, (apr_size_t)(args - arg))
                       : arg;

    if (strcasecmp(arg, "none") == 0) {
        *choice = apr_pcalloc(pool, sizeof(**choice));
        return NULL;
    }
    return choose(pool, temp_pool, name, args != NULL ? args + 1 : NULL,
                  choice);
}

int us_cache_pre_config(apr_pool_t *pconf)
{
    memset(&current, 0, sizeof(current));
    mutex = NULL;
    return ap_mutex_register(pconf, MUTEX_NAME, NULL, APR_LOCK_DEFAULT, 0)
                   == APR_SUCCESS
               ? OK
               : HTTP_INTERNAL_SERVER_ERROR;
}

const char *us_cache_check_default(apr_pool_t *pool)
{
    (void)pool;
    return ap_lookup_provider(AP_SOCACHE_PROVIDER_GROUP, DEFAULT_PROVIDER,
                              AP_SOCACHE_PROVIDER_VERSION)
                   != NULL
               ? NULL
               : "UserSyncEnsure keeps known users in shmcb, which is not "
                 "loaded: load mod_socache_shmcb (Debian: a2enmod "
                 "socache_shmcb), or say UserSyncCache none";
}

static apr_status_t destroy(void *data)
{
    current.provider->destroy(current.instance, data);
    memset(&current, 0, sizeof(current));
    return APR_SUCCESS;
}

apr_status_t us_cache_create(apr_pool_t *pconf, apr_pool_t *ptemp,
                             server_rec *s, const us_cache_choice *choice)
{
    struct ap_socache_hints hints
        = {KEY_LEN, SHMCB_INDEX + 1, apr_time_from_sec(300)};
    us_cache_choice *by_default = NULL;
    apr_status_t rv = APR_SUCCESS;

    if (choice == NULL) {
        if (choose(pconf, ptemp, DEFAULT_PROVIDER, NULL, &by_default) != NULL
            || by_default == NULL) {
            return APR_EGENERAL;
        }
        choice = by_default;
    }
    if (choice->provider == NULL) {
        return APR_SUCCESS;
    }
    if ((choice->provider->flags & AP_SOCACHE_FLAG_NOTMPSAFE) != 0) {
        rv = ap_global_mutex_create(&mutex, NULL, MUTEX_NAME, NULL, s, pconf,
                                    0);
    }
    if (rv == APR_SUCCESS) {
        rv = choice->provider->init(choice->instance, NAME_SPACE, &hints, s,
                                    pconf);
    }
    if (rv == APR_SUCCESS) {
        current = *choice;
        apr_pool_cleanup_register(pconf, s, destroy, apr_pool_cleanup_null);
    }
    return rv;
}

void us_cache_child_init(apr_pool_t *pchild, server_rec *s)
{
    apr_status_t rv;

    if (mutex == NULL) {
        return;
    }
    rv = apr_global_mutex_child_init(&mutex, apr_global_mutex_lockfile(mutex),
                                     pchild);
    if (rv != APR_SUCCESS) {
        ap_log_error(APLOG_MARK, APLOG_ERR, rv, s,
                     "US015: the mutex %s cannot be used: this child looks "
                     "every user up in the table; see the directive Mutex",
                     MUTEX_NAME);
        memset(&current, 0, sizeof(current));
    }
}

us_cache *us_cache_get(apr_pool_t *pchild, server_rec *s,
                       const us_server_conf *conf, const char *database)
{
    us_cache *cache;
    us_column id;
    apr_sha1_ctx_t hash;

    if (current.provider == NULL) {
        return NULL;
    }
    cache = apr_pcalloc(pchild, sizeof(*cache));
    cache->server = s;
    cache->timeout = us_config_cache_timeout(conf);
    id = APR_ARRAY_IDX(us_config_columns(pchild, conf), 0, us_column);
    apr_sha1_init(&hash);
    /* a zero byte ends each part */
    apr_sha1_update(&hash, database, (unsigned)strlen(database) + 1);
    apr_sha1_update(&hash, us_config_table(conf),
                    (unsigned)strlen(us_config_table(conf)) + 1);
    apr_sha1_update(&hash, id.plain, (unsigned)strlen(id.plain) + 1);
    apr_sha1_final(cache->scope, &hash);
    return cache;
}

/* --- any thread --- */

static unsigned hex_value(char c)
{
    return (unsigned)(c <= '9' ? c - '0' : c - 'a' + 10);
}

/* The key of a canonical UUID: lower case, dashes in their places. */
static void make_key(const us_cache *cache, const char *id,
                     unsigned char key[KEY_LEN])
{
    unsigned char *byte = key + KEY_ID;
    /* FNV-1a, for APR's own hash does not carry the last bytes of a UUID into
     * its first one, nor two halves that are alike into its last */
    apr_uint32_t hash = 2166136261U;

    memcpy(key + KEY_SCOPE, cache->scope, sizeof(cache->scope));
    for (; *id != '\0' && byte < key + KEY_LEN; id += 2) {
        if (*id == '-') {
            id++;
        }
        *byte = (unsigned char)(hex_value(id[0]) << 4 | hex_value(id[1]));
        hash = (hash ^ *byte++) * 16777619U;
    }
    key[KEY_SPREAD] = (unsigned char)(hash >> 24);
}

static int lock(void)
{
    apr_status_t rv;
    int i;

    if (mutex == NULL) {
        return 1;
    }
    for (i = 0; i < LOCK_TRIES; i++) {
        rv = apr_global_mutex_trylock(mutex);
        if (!APR_STATUS_IS_EBUSY(rv)) {
            return rv == APR_SUCCESS;
        }
        if (i >= LOCK_BUSY) {
            apr_sleep(LOCK_PAUSE);
        }
    }
    return 0;
}

static void unlock(void)
{
    if (mutex != NULL) {
        apr_global_mutex_unlock(mutex);
    }
}

int us_cache_has(const us_cache *cache, apr_pool_t *pool, const char *id)
{
    unsigned char key[KEY_LEN];
    unsigned char value[8];
    unsigned len = sizeof(value);
    apr_status_t rv;

    if (cache == NULL) {
        return 0;
    }
    make_key(cache, id, key);
    if (!lock()) {
        return 0;
    }
    rv = current.provider->retrieve(current.instance, cache->server, key,
                                    KEY_LEN, value, &len, pool);
    unlock();
    return rv == APR_SUCCESS && len == 1 && value[0] == VALUE;
}

void us_cache_add(const us_cache *cache, apr_pool_t *pool, const us_log *log,
                  const char *id)
{
    unsigned char key[KEY_LEN];
    unsigned char value[1] = {VALUE};
    apr_status_t rv = APR_EBUSY;

    if (cache == NULL) {
        return;
    }
    make_key(cache, id, key);
    if (lock()) {
        rv = current.provider->store(current.instance, cache->server, key,
                                     KEY_LEN, apr_time_now() + cache->timeout,
                                     value, sizeof(value), pool);
        unlock();
    }
    if (rv != APR_SUCCESS) {
        us_trace(log, APLOG_DEBUG, "[%s] the cache did not take user %s: %d",
                 log->request_id, id, rv);
    }
}
