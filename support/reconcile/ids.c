/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "ids.h"

#include <apr_lib.h>

#include <stdlib.h>
#include <string.h>

#define FIRST_SIZE ((apr_size_t)1024) /* a power of two */

typedef struct slot {
    unsigned char bytes[US_REC_ID_SIZE]; /* all 0: free */
} slot;

struct us_rec_ids {
    slot *slots; /* on the C heap: a pool would keep all former ones */
    apr_size_t size;
    apr_size_t count;
};

static const slot nobody;

static apr_status_t ids_free(void *data)
{
    us_rec_ids *ids = data;

    free(ids->slots);
    return APR_SUCCESS;
}

us_rec_ids *us_rec_ids_create(apr_pool_t *pool)
{
    us_rec_ids *ids = apr_pcalloc(pool, sizeof(*ids));

    ids->slots = calloc(FIRST_SIZE, sizeof(slot));
    if (ids->slots == NULL) {
        return NULL;
    }
    ids->size = FIRST_SIZE;
    apr_pool_cleanup_register(pool, ids, ids_free, apr_pool_cleanup_null);
    return ids;
}

void us_rec_id_bytes(const char *id, unsigned char bytes[US_REC_ID_SIZE])
{
    int i = 0;

    memset(bytes, 0, US_REC_ID_SIZE);
    for (; *id != '\0' && i < 2 * US_REC_ID_SIZE; id++) {
        if (apr_isxdigit(*id)) {
            int digit = apr_isdigit(*id) ? *id - '0' : (*id | 0x20) - 'a' + 10;

            bytes[i / 2] = (unsigned char)(bytes[i / 2] << 4 | digit);
            i++;
        }
    }
}

/* The slot of this id, or the free one where it belongs. */
static slot *find(const us_rec_ids *ids,
                  const unsigned char bytes[US_REC_ID_SIZE])
{
    apr_uint64_t hash = 14695981039346656037ULL; /* FNV-1a */
    apr_size_t at;
    int i;

    for (i = 0; i < US_REC_ID_SIZE; i++) {
        hash = (hash ^ bytes[i]) * 1099511628211ULL;
    }
    at = (apr_size_t)(hash ^ hash >> 32) & (ids->size - 1);
    while (memcmp(ids->slots[at].bytes, bytes, US_REC_ID_SIZE) != 0
           && memcmp(&ids->slots[at], &nobody, sizeof(nobody)) != 0) {
        at = (at + 1) & (ids->size - 1);
    }
    return &ids->slots[at];
}

static int grow(us_rec_ids *ids)
{
    us_rec_ids larger
        = {calloc(2 * ids->size, sizeof(slot)), 2 * ids->size, ids->count};
    apr_size_t i;

    if (larger.slots == NULL) {
        return 0;
    }
    for (i = 0; i < ids->size; i++) {
        if (memcmp(&ids->slots[i], &nobody, sizeof(nobody)) != 0) {
            *find(&larger, ids->slots[i].bytes) = ids->slots[i];
        }
    }
    free(ids->slots);
    *ids = larger;
    return 1;
}

int us_rec_ids_add(us_rec_ids *ids, const unsigned char bytes[US_REC_ID_SIZE])
{
    slot *place;

    if (ids->count >= ids->size / 4 * 3 && !grow(ids)) {
        return -1;
    }
    place = find(ids, bytes);
    if (memcmp(place->bytes, bytes, US_REC_ID_SIZE) == 0) {
        return 0;
    }
    memcpy(place->bytes, bytes, US_REC_ID_SIZE);
    ids->count++;
    return 1;
}

int us_rec_ids_has(const us_rec_ids *ids,
                   const unsigned char bytes[US_REC_ID_SIZE])
{
    const slot *place = find(ids, bytes);

    return memcmp(place, &nobody, sizeof(nobody)) != 0
           && memcmp(place->bytes, bytes, US_REC_ID_SIZE) == 0;
}

apr_size_t us_rec_ids_count(const us_rec_ids *ids)
{
    return ids->count;
}
