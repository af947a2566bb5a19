/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fuzz.h: what all targets have in common.  A target is fuzz_NAME.c; it
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
 * Feeds one input to the code under test and requires what must hold.
 *
 * pool  for this input only; nothing of it is kept for the next one
 */
void fuzz_one(apr_pool_t *pool, const char *data, apr_size_t size);

/* What must hold; ends with a message if it does not. */
#define require(good, invariant)                        \
    do {                                                \
        if (!(good)) {                                  \
            fuzz_tell(__FILE__, __LINE__, (invariant)); \
            abort();                                    \
        }                                               \
    } while (0)

void fuzz_tell(const char *file, int line, const char *invariant);

/* The same for a text, which may be NULL: it is short and one plain line. */
void require_plain(const char *text, apr_size_t max, const char *invariant);

/* What libFuzzer and replay.c call (fuzz.c). */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif /* FUZZ_H */
