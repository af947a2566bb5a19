/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fuzz.h: what every target has in common.  A target is fuzz_NAME.c; it
 * defines fuzz_one and is run by libFuzzer or by replay.c.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include "strict.h"

#include <apr_pools.h>

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

/*
 * Feed one input to the code under test and require what must hold.
 *
 * pool  for this input alone; nothing of it is kept for the next one
 */
void fuzz_one(apr_pool_t *pool, const char *data, apr_size_t size);

/* What must hold: end with a message when it does not. */
#define require(good, invariant)                        \
    do {                                                \
        if (!(good)) {                                  \
            fuzz_tell(__FILE__, __LINE__, (invariant)); \
            abort();                                    \
        }                                               \
    } while (0)

void fuzz_tell(const char *file, int line, const char *invariant);

/* What libFuzzer and replay.c call (fuzz.c). */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif /* FUZZ_H */
