/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * ids.h: a set of user ids.  An id takes 16 bytes, and the set is at most
 * three quarters full.
 */
#ifndef US_REC_IDS_H
#define US_REC_IDS_H

#include <apr_pools.h>

#define US_REC_ID_SIZE 16 /* bytes of a UUID */

typedef struct us_rec_ids us_rec_ids;

/* An empty set, which is freed with pool.  NULL: out of memory. */
us_rec_ids *us_rec_ids_create(apr_pool_t *pool);

/* The bytes of a UUID in its text form. */
void us_rec_id_bytes(const char *id, unsigned char bytes[US_REC_ID_SIZE]);

/* Adds an id.  Returns 1 if it is new, 0 if it was there, -1 without memory.
 * The nil UUID cannot be kept and is never new. */
int us_rec_ids_add(us_rec_ids *ids, const unsigned char bytes[US_REC_ID_SIZE]);

int us_rec_ids_has(const us_rec_ids *ids,
                   const unsigned char bytes[US_REC_ID_SIZE]);

/* How many there are. */
apr_size_t us_rec_ids_count(const us_rec_ids *ids);

#endif /* US_REC_IDS_H */
