/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "shm_double.h"
#include "crew.h"

#include <apr_shm.h>

unsigned char *shm_double;
size_t shm_double_size;

apr_status_t apr_shm_create(apr_shm_t **m, apr_size_t reqsize,
                            const char *filename, apr_pool_t *p)
{
    (void)filename;
    (void)p;
    shm_double = crew_share(reqsize);
    shm_double_size = reqsize;
    *m = (apr_shm_t *)(void *)shm_double;
    return APR_SUCCESS;
}

void *apr_shm_baseaddr_get(const apr_shm_t *m)
{
    (void)m;
    return shm_double;
}

static unsigned random_bits(void)
{
    static unsigned seed = 1;

    seed = seed * 1103515245U + 12345U;
    return seed >> 8;
}

void shm_double_scribble(int kind)
{
    static const unsigned char bytes[] = {0xff, 0x7f, 0x80, 0x01, 0x00};
    size_t i;

    for (i = 0; i < shm_double_size; i++) {
        shm_double[i] = kind < (int)sizeof(bytes) ? bytes[kind]
                        : kind % 2 == 0           ? random_bits() % 8 == 0
                                        : (unsigned char)random_bits();
    }
}

void shm_double_scratch(void)
{
    shm_double[random_bits() % shm_double_size] = (unsigned char)random_bits();
}
