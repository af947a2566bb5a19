/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "us_cache.h"
#include "cache_guard.h"
#include "us_log.h"

#include <util_mutex.h>

#include <apr_sha1.h>
#include <apr_strings.h>

#include <string.h>

#define MUTEX_NAME "usersync-cache"
#define NAME_SPACE "usersync"

/*
 * The value in the cache for a user: what is known, and when that was seen.
 * If the row's e-mail is known, a hash of that follows.
 */
#define KNOWN 'u'
#define BANNED 'b'
#define DELETED 'd'
#define VALUE_SIGHT 1
#define VALUE_EMAIL (VALUE_SIGHT + sizeof(us_sight))
#define EMAIL_HASH 12
#define VALUE_LEN (VALUE_EMAIL + EMAIL_HASH)

/*
 * The key of a user: a byte that spreads (shmcb chooses one of its parts by
 * the first byte and searches that part from end to end), the table in a
 * history of its server, and the UUID.  Several vhosts and databases may share
 * the cache.
 */
#define KEY_SPREAD 0
#define KEY_SCOPE 1
#define KEY_ID (KEY_SCOPE + APR_SHA1_DIGESTSIZE)
#define KEY_LEN (KEY_ID + 16)

/* shmcb needs about as much for its index as for the value: this makes it
 * divide its memory well. */
#define SHMCB_INDEX 32

/* How long to wait for another thread that is inside.  It needs about a
 * microsecond, while sleeping takes a hundred.  If a thread is stopped there,
 * the others must not wait for it. */
#define LOCK_TRIES 300
#define LOCK_BUSY 100 /* of them without a pause */
#define LOCK_PAUSE 50 /* usec */

struct us_cache {
    server_rec *server;
    unsigned char scope[APR_SHA1_DIGESTSIZE];
    const char *email; /* the e-mail's column; "": none */
    apr_interval_time_t timeout;
    apr_interval_time_t lately; /* how long anything seen can last */
};

/* Of this generation; created before the children. */
static us_cache_choice current;
static apr_global_mutex_t *mutex; /* NULL: the provider needs none, but may
                                   * have to wait for a server */
static int unusable;              /* this child cannot use the mutex */

/* --- set-up --- */

int us_cache_pre_config(apr_pool_t *pconf)
{
    memset(&current, 0, sizeof(current));
    mutex = NULL;
    unusable = 0;
    return ap_mutex_register(pconf, MUTEX_NAME, NULL, APR_LOCK_DEFAULT, 0)
                   == APR_SUCCESS
               ? OK
               : HTTP_INTERNAL_SERVER_ERROR;
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
        = {KEY_LEN, SHMCB_INDEX + VALUE_LEN, apr_time_from_sec(300)};
    us_cache_choice *by_default = NULL;
    apr_status_t rv = APR_SUCCESS;

    if (choice == NULL) {
        if (us_cache_choose_default(pconf, ptemp, &by_default) != NULL) {
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
    else {
        rv = us_cache_guard_share(pconf);
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

    us_cache_guard_child_init();
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
        /* with httpd -X this process also destroys current, so keep it */
        unusable = 1;
    }
}

/* Servers that let in by other columns of one table know other things about
 * its users. */
static void add_rules(apr_sha1_ctx_t *hash, const us_server_conf *conf,
                      const apr_array_header_t *columns)
{
    static const us_field_kind fields[]
        = {US_FIELD_BANNED_UNTIL, US_FIELD_DELETED_AT, US_FIELD_UPDATED_AT};
    us_on_delete rule = us_config_delete_rule(conf, columns);
    apr_size_t i;

    for (i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        int at = us_columns_find(columns, fields[i]);
        const char *name
            = at < 0 ? "" : APR_ARRAY_IDX(columns, at, us_column).plain;

        apr_sha1_update(hash, name, (unsigned)strlen(name) + 1);
    }
    apr_sha1_update(hash, rule == US_ON_DELETE_DELETE ? "d" : "", 1);
}

us_cache *us_cache_get(apr_pool_t *pchild, server_rec *s,
                       const us_server_conf *conf, const char *database)
{
    const apr_array_header_t *columns = us_config_columns(pchild, conf);
    const us_column *column = (const us_column *)columns->elts;
    us_cache *cache;
    apr_sha1_ctx_t hash;

    if (current.provider == NULL || unusable) {
        return NULL;
    }
    cache = apr_pcalloc(pchild, sizeof(*cache));
    cache->server = s;
    cache->timeout = us_config_cache_timeout(conf);
    cache->lately = cache->timeout + us_config_store_timeout(conf);
    cache->email = us_columns_have_email(columns) ? column[1].plain : "";
    apr_sha1_init(&hash);
    /* each part ends with a zero byte */
    apr_sha1_update(&hash, database, (unsigned)strlen(database) + 1);
    apr_sha1_update(&hash, us_config_table(conf),
                    (unsigned)strlen(us_config_table(conf)) + 1);
    apr_sha1_update(&hash, column[0].plain,
                    (unsigned)strlen(column[0].plain) + 1);
    add_rules(&hash, conf, columns);
    apr_sha1_final(cache->scope, &hash);
    return cache;
}

/* --- any thread --- */

static unsigned hex_value(char c)
{
    return (unsigned)(c <= '9' ? c - '0' : c - 'a' + 10);
}

/* The key of a canonical UUID: lower case, with its dashes. */
static void make_key(const us_cache *cache, const us_cache_user *user,
                     unsigned char key[KEY_LEN])
{
    const char *id = user->id;
    unsigned char *byte = key + KEY_ID;
    /* FNV-1a, because APR's hash does not carry the last bytes of a UUID into
     * its first byte, nor two equal halves into its last */
    apr_uint32_t hash = 2166136261U;
    apr_size_t i;

    memcpy(key + KEY_SCOPE, cache->scope, sizeof(cache->scope));
    /* the scope is a hash: mixing something in gives another one */
    for (i = 0; i < sizeof(user->history); i++) {
        key[KEY_SCOPE + i] ^= (unsigned char)(user->history >> (8 * i));
    }
    for (; *id != '\0' && byte < key + KEY_LEN; id += 2) {
        if (*id == '-') {
            id++;
        }
        *byte = (unsigned char)(hex_value(id[0]) << 4 | hex_value(id[1]));
        hash = (hash ^ *byte++) * 16777619U;
    }
    key[KEY_SPREAD] = (unsigned char)(hash >> 24);
}

/* A hash of the user and their e-mail; having none gives a hash, too. */
static void hash_email(const us_cache *cache, const us_cache_user *user,
                       unsigned char hash[EMAIL_HASH])
{
    unsigned char digest[APR_SHA1_DIGESTSIZE];
    apr_sha1_ctx_t sha1;

    apr_sha1_init(&sha1);
    apr_sha1_update_binary(&sha1, cache->scope, sizeof(cache->scope));
    apr_sha1_update(&sha1, cache->email, (unsigned)strlen(cache->email) + 1);
    apr_sha1_update(&sha1, user->id, (unsigned)strlen(user->id) + 1);
    if (user->email != NULL) {
        apr_sha1_update(&sha1, user->email, (unsigned)strlen(user->email) + 1);
    }
    apr_sha1_final(digest, &sha1);
    memcpy(hash, digest, EMAIL_HASH);
}

/* --- inside the provider --- */

static int lock(void)
{
    apr_status_t rv;
    int i;

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

/* Returns 0 to go without the cache. */
static int enter(const us_cache *cache, us_cache_place *place)
{
    if (mutex != NULL) {
        return lock();
    }
    return us_cache_guard_enter(cache->server, place);
}

static void leave(const us_cache *cache, us_cache_place place, apr_status_t rv)
{
    if (mutex != NULL) {
        apr_global_mutex_unlock(mutex);
    }
    else {
        us_cache_guard_leave(cache->server, place,
                             rv == APR_SUCCESS || APR_STATUS_IS_NOTFOUND(rv));
    }
}

/* What a value of the cache says; it may be anybody's. */
static us_known read_value(const us_cache *cache, const us_cache_user *user,
                           const unsigned char *value, unsigned len)
{
    unsigned char hash[EMAIL_HASH];
    us_sight sight;

    if (len != VALUE_EMAIL && len != VALUE_LEN) {
        return US_UNKNOWN;
    }
    memcpy(&sight, value + VALUE_SIGHT, sizeof(sight));
    if (!us_slots_hold(user->id, sight, cache->lately)) {
        return US_UNKNOWN;
    }
    switch (value[0]) {
    case BANNED:
        return US_KNOWN_BANNED;
    case DELETED:
        return US_KNOWN_DELETED;
    case KNOWN:
        break;
    default:
        return US_UNKNOWN;
    }
    if (len == VALUE_EMAIL || !user->has_email) {
        return US_KNOWN;
    }
    hash_email(cache, user, hash);
    return memcmp(hash, value + VALUE_EMAIL, EMAIL_HASH) == 0 ? US_KNOWN_EMAIL
                                                              : US_KNOWN;
}

us_known us_cache_look(const us_cache *cache, apr_pool_t *pool,
                       const us_cache_user *user)
{
    unsigned char key[KEY_LEN];
    unsigned char value[VALUE_LEN + 8];
    unsigned len = sizeof(value);
    apr_status_t rv;
    us_cache_place place = {0};

    if (cache == NULL) {
        return US_UNKNOWN;
    }
    make_key(cache, user, key);
    if (!enter(cache, &place)) {
        return US_UNKNOWN;
    }
    rv = current.provider->retrieve(current.instance, cache->server, key,
                                    KEY_LEN, value, &len, pool);
    leave(cache, place, rv);
    return rv == APR_SUCCESS ? read_value(cache, user, value, len)
                             : US_UNKNOWN;
}

/* Composes a value; returns its length. */
static unsigned make_value(const us_cache *cache, const us_cache_user *user,
                           unsigned char value[VALUE_LEN])
{
    static const unsigned char kinds[] = {KNOWN, BANNED, DELETED};

    value[0] = kinds[user->stands.kind];
    memcpy(value + VALUE_SIGHT, &user->sight, sizeof(user->sight));
    if (user->stands.kind != US_MAY_ENTER || !user->has_email) {
        return VALUE_EMAIL;
    }
    hash_email(cache, user, value + VALUE_EMAIL);
    return VALUE_LEN;
}

/* How long a value is valid: no longer than a ban. */
static apr_interval_time_t lifetime(const us_cache *cache,
                                    const us_cache_user *user)
{
    apr_interval_time_t ban = apr_time_from_sec(user->stands.seconds);

    return user->stands.kind == US_IS_BANNED && ban < cache->timeout
               ? ban
               : cache->timeout;
}

void us_cache_add(const us_cache *cache, apr_pool_t *pool, const us_log *log,
                  const us_cache_user *user)
{
    unsigned char key[KEY_LEN];
    unsigned char value[VALUE_LEN];
    apr_status_t rv = APR_EBUSY;
    us_cache_place place = {0};

    if (cache == NULL) {
        return;
    }
    make_key(cache, user, key);
    if (enter(cache, &place)) {
        unsigned len = make_value(cache, user, value);

        rv = current.provider->store(
            current.instance, cache->server, key, KEY_LEN,
            apr_time_now() + lifetime(cache, user), value, len, pool);
        leave(cache, place, rv);
    }
    if (rv != APR_SUCCESS) {
        us_trace(log, APLOG_DEBUG, "[%s] the cache did not take user %s: %d",
                 log->request_id, user->id, rv);
    }
}

void us_cache_drop(const us_cache *cache, apr_pool_t *pool,
                   const us_cache_user *user)
{
    unsigned char key[KEY_LEN];
    us_cache_place place = {0};

    if (cache == NULL) {
        return;
    }
    make_key(cache, user, key);
    if (enter(cache, &place)) {
        leave(cache, place,
              current.provider->remove(current.instance, cache->server, key,
                                       KEY_LEN, pool));
    }
}
