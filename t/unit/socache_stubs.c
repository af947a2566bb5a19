/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "socache_stubs.h"

#include <ap_provider.h>
#include <http_config.h>
#include <util_mutex.h>

#include <apr_strings.h>

#include <string.h>

int stub_socache_has_shmcb = 1;
stub_socache_entry stub_socache[STUB_SOCACHE_MAX];
int stub_socache_count;
const char *stub_socache_args;
struct ap_socache_hints stub_socache_hints;
int stub_socache_alive;
apr_status_t stub_socache_rv = APR_SUCCESS;
apr_global_mutex_t *stub_global_mutex;
const char *stub_global_mutex_file;

struct ap_socache_instance_t {
    int unused;
};

/* --- the provider --- */

static const char *create(ap_socache_instance_t **instance, const char *arg,
                          apr_pool_t *tmp, apr_pool_t *p)
{
    (void)tmp;
    *instance = apr_pcalloc(p, sizeof(**instance));
    stub_socache_args = arg != NULL ? apr_pstrdup(p, arg) : "";
    return arg != NULL && strcmp(arg, "wrong") == 0 ? "that is wrong" : NULL;
}

static apr_status_t init(ap_socache_instance_t *instance, const char *cname,
                         const struct ap_socache_hints *hints, server_rec *s,
                         apr_pool_t *pool)
{
    (void)instance;
    (void)cname;
    (void)s;
    (void)pool;
    stub_socache_hints = *hints;
    stub_socache_alive = stub_socache_rv == APR_SUCCESS;
    return stub_socache_rv;
}

static void destroy(ap_socache_instance_t *instance, server_rec *s)
{
    (void)instance;
    (void)s;
    stub_socache_alive = 0;
}

static stub_socache_entry *find(const unsigned char *id, unsigned len)
{
    int i;

    for (i = 0; i < stub_socache_count; i++) {
        if (stub_socache[i].key_len == len
            && memcmp(stub_socache[i].key, id, len) == 0) {
            return &stub_socache[i];
        }
    }
    return NULL;
}

static apr_status_t store(ap_socache_instance_t *instance, server_rec *s,
                          const unsigned char *id, unsigned int idlen,
                          apr_time_t expiry, unsigned char *data,
                          unsigned int datalen, apr_pool_t *pool)
{
    stub_socache_entry *entry = find(id, idlen);

    (void)instance;
    (void)s;
    (void)pool;
    if (stub_socache_rv != APR_SUCCESS) {
        return stub_socache_rv;
    }
    if (entry == NULL) {
        if (stub_socache_count == STUB_SOCACHE_MAX || idlen > STUB_SOCACHE_KEY
            || datalen > sizeof(entry->value)) {
            return APR_ENOSPC;
        }
        entry = &stub_socache[stub_socache_count++];
    }
    memcpy(entry->key, id, idlen);
    entry->key_len = idlen;
    entry->expiry = expiry;
    memcpy(entry->value, data, datalen);
    entry->value_len = datalen;
    return APR_SUCCESS;
}

static apr_status_t retrieve(ap_socache_instance_t *instance, server_rec *s,
                             const unsigned char *id, unsigned int idlen,
                             unsigned char *data, unsigned int *datalen,
                             apr_pool_t *pool)
{
    const stub_socache_entry *entry = find(id, idlen);

    (void)instance;
    (void)s;
    (void)pool;
    if (entry == NULL) {
        return APR_NOTFOUND;
    }
    if (entry->value_len > *datalen) {
        return APR_ENOSPC;
    }
    /* a caller must not read it if nothing was found */
    memcpy(data, entry->value, entry->value_len);
    *datalen = entry->value_len;
    return entry->expiry <= apr_time_now() ? APR_NOTFOUND : stub_socache_rv;
}

static apr_status_t forget(ap_socache_instance_t *instance, server_rec *s,
                           const unsigned char *id, unsigned int idlen,
                           apr_pool_t *pool)
{
    stub_socache_entry *entry = find(id, idlen);

    (void)instance;
    (void)s;
    (void)pool;
    if (entry == NULL || stub_socache_rv != APR_SUCCESS) {
        return entry == NULL ? APR_NOTFOUND : stub_socache_rv;
    }
    *entry = stub_socache[--stub_socache_count];
    return APR_SUCCESS;
}

static ap_socache_provider_t list = {.name = "list",
                                     .create = create,
                                     .init = init,
                                     .destroy = destroy,
                                     .store = store,
                                     .retrieve = retrieve,
                                     .remove = forget};

void stub_socache_flags(unsigned flags)
{
    list.flags = flags;
}

/* --- httpd --- */

AP_DECLARE(void *)
ap_lookup_provider(const char *provider_group, const char *provider_name,
                   const char *provider_version)
{
    return strcmp(provider_group, AP_SOCACHE_PROVIDER_GROUP) == 0
                   && (strcmp(provider_name, "list") == 0
                       || (strcmp(provider_name, "shmcb") == 0
                           && stub_socache_has_shmcb))
                   && strcmp(provider_version, AP_SOCACHE_PROVIDER_VERSION)
                          == 0
               ? &list
               : NULL;
}

AP_DECLARE(char *) ap_runtime_dir_relative(apr_pool_t *p, const char *fname)
{
    return apr_pstrcat(p, "/run/", fname, NULL);
}

AP_DECLARE(apr_status_t)
ap_mutex_register(apr_pool_t *pconf, const char *type, const char *default_dir,
                  apr_lockmech_e default_mech, apr_int32_t options)
{
    (void)pconf;
    (void)type;
    (void)default_dir;
    (void)default_mech;
    (void)options;
    return APR_SUCCESS;
}

AP_DECLARE(apr_status_t)
ap_global_mutex_create(apr_global_mutex_t **mutex, const char **name,
                       const char *type, const char *instance_id,
                       server_rec *server, apr_pool_t *pool,
                       apr_int32_t options)
{
    apr_status_t rv = apr_global_mutex_create(
        mutex, stub_global_mutex_file,
        stub_global_mutex_file != NULL ? APR_LOCK_FLOCK : APR_LOCK_DEFAULT,
        pool);

    (void)name;
    (void)type;
    (void)instance_id;
    (void)server;
    (void)options;
    stub_global_mutex = *mutex;
    return rv;
}
