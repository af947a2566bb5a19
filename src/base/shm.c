/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "us_shm.h"

#include <apr_shm.h>

#include <string.h>

/* The segment is destroyed with the configuration. */
static apr_status_t forget(void *data)
{
    us_shm *shm = data;

    shm->counters = NULL;
    return APR_SUCCESS;
}

apr_status_t us_shm_create(us_shm *shm, apr_pool_t *pconf, apr_size_t size)
{
    apr_shm_t *segment;
    apr_status_t rv;

    shm->counters = NULL;
    if (size == 0) {
        return APR_SUCCESS;
    }
    rv = apr_shm_create(&segment, size, NULL, pconf);
    if (rv == APR_SUCCESS) {
        shm->counters = apr_shm_baseaddr_get(segment);
        memset(shm->counters, 0, size);
        apr_pool_cleanup_register(pconf, shm, forget, apr_pool_cleanup_null);
    }
    return rv;
}
