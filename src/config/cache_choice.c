/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "us_cache_choice.h"

#include <ap_provider.h>
#include <http_config.h>

#include <apr_strings.h>

#include <string.h>

#define DEFAULT_PROVIDER "shmcb"

/* Without arguments shmcb takes 512 KB, enough for 7 000 users.  A page of
 * this memory costs nothing until it is used. */
#define SHMCB_DEFAULT "usersync-cache(8388608)"

static const char *choose(apr_pool_t *pool, apr_pool_t *temp_pool,
                          const char *name, const char *args,
                          us_cache_choice **choice)
{
    us_cache_choice chosen = {NULL, NULL, NULL};
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
    const char *wrong = NULL;

    if (strcasecmp(arg, "none") == 0) {
        *choice = apr_pcalloc(pool, sizeof(**choice));
    }
    else {
        wrong = choose(pool, temp_pool, name, args != NULL ? args + 1 : NULL,
                       choice);
    }
    if (wrong == NULL) {
        (*choice)->text = apr_pstrdup(pool, arg);
    }
    return wrong;
}

const char *us_cache_choose_default(apr_pool_t *pool, apr_pool_t *temp_pool,
                                    us_cache_choice **choice)
{
    return choose(pool, temp_pool, DEFAULT_PROVIDER, NULL, choice);
}

const char *us_cache_check_default(void)
{
    return ap_lookup_provider(AP_SOCACHE_PROVIDER_GROUP, DEFAULT_PROVIDER,
                              AP_SOCACHE_PROVIDER_VERSION)
                   != NULL
               ? NULL
               : "UserSyncEnsure keeps known users in shmcb, which is not "
                 "loaded: load mod_socache_shmcb (Debian: a2enmod "
                 "socache_shmcb), or say UserSyncCache none";
}
