/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Any child can overwrite every byte of this memory, and the parent, which is
 * root, works with what it finds there.  Hence the rule: a segment holds plain
 * atomic counters and nothing that is followed.  No pointer, size, index or
 * loop bound is ever read from it.  Those are static variables, which
 * post_config sets and every child inherits.  Whatever bytes a segment holds,
 * counts may be wrong, but nothing crashes and no loop runs longer.
 */
#ifndef US_SHM_H
#define US_SHM_H

#include <apr_errno.h>
#include <apr_pools.h>

/* A segment; a static variable of the part that owns it. */
typedef struct us_shm {
    void *counters; /* aligned for 64 bits; NULL: no segment now */
} us_shm;

/*
 * post_config, in the parent: creates a segment of this many zeroed bytes for
 * the generation that is about to start; 0 bytes: none.  Each part creates its
 * own, in any order.  Children find it at the same address.
 *
 * shm   must outlive pconf; its counters are NULL again once pconf is cleared
 * size  bytes
 */
apr_status_t us_shm_create(us_shm *shm, apr_pool_t *pconf, apr_size_t size);

#endif /* US_SHM_H */
