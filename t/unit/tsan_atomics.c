/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * APR's atomic operations again, for an httpd that runs under ThreadSanitizer.
 * APR's own are in a library that is not built with it, so it does not see
 * them; these are built with it and preloaded.  httpd passes its connections'
 * pools from thread to thread with nothing else.  Without this, whatever the
 * module keeps in a request's memory looks like a race with the request that
 * had the memory before.
 *
 * Sequentially consistent, like APR's on every machine that has TSan.
 */
#include <apr_atomic.h>

#define ORDER __ATOMIC_SEQ_CST

apr_uint32_t apr_atomic_read32(volatile apr_uint32_t *mem)
{
    return __atomic_load_n(mem, ORDER);
}

void apr_atomic_set32(volatile apr_uint32_t *mem, apr_uint32_t val)
{
    __atomic_store_n(mem, val, ORDER);
}

apr_uint32_t apr_atomic_add32(volatile apr_uint32_t *mem, apr_uint32_t val)
{
    return __atomic_fetch_add(mem, val, ORDER);
}

void apr_atomic_sub32(volatile apr_uint32_t *mem, apr_uint32_t val)
{
    __atomic_fetch_sub(mem, val, ORDER);
}

apr_uint32_t apr_atomic_inc32(volatile apr_uint32_t *mem)
{
    return __atomic_fetch_add(mem, 1, ORDER);
}

int apr_atomic_dec32(volatile apr_uint32_t *mem)
{
    return __atomic_sub_fetch(mem, 1, ORDER) != 0;
}

apr_uint32_t apr_atomic_cas32(volatile apr_uint32_t *mem, apr_uint32_t with,
                              apr_uint32_t cmp)
{
    __atomic_compare_exchange_n(mem, &cmp, with, 0, ORDER, ORDER);
    return cmp;
}

apr_uint32_t apr_atomic_xchg32(volatile apr_uint32_t *mem, apr_uint32_t val)
{
    return __atomic_exchange_n(mem, val, ORDER);
}

void *apr_atomic_casptr(volatile void **mem, void *with, const void *cmp)
{
    apr_uintptr_t found = (apr_uintptr_t)cmp;

    __atomic_compare_exchange_n((volatile apr_uintptr_t *)mem, &found,
                                (apr_uintptr_t)with, 0, ORDER, ORDER);
    return (void *)found;
}

void *apr_atomic_xchgptr(volatile void **mem, void *with)
{
    return (void *)__atomic_exchange_n((volatile apr_uintptr_t *)mem,
                                       (apr_uintptr_t)with, ORDER);
}
