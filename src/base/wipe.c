/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "us_wipe.h"

#include <string.h>

/* A block of memory to wipe with its pool. */
typedef struct wipe_job {
    void *memory;
    apr_size_t len;
} wipe_job;

void us_wipe(void *memory, apr_size_t len)
{
    /* glibc guarantees that this call is never optimised away */
    explicit_bzero(memory, len);
}

static apr_status_t run_wipe_job(void *data)
{
    wipe_job *job = data;

    us_wipe(job->memory, job->len);
    return APR_SUCCESS;
}

void us_wipe_with(apr_pool_t *pool, void *memory, apr_size_t len)
{
    wipe_job *job = apr_palloc(pool, sizeof(*job));

    job->memory = memory;
    job->len = len;
    apr_pool_cleanup_register(pool, job, run_wipe_job, apr_pool_cleanup_null);
}
