/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "fuzz.h"

#include <apr_allocator.h>
#include <apr_general.h>
#include <apr_lib.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Freed blocks go back to malloc at once: only there can a sanitizer notice a
 * use after free. */
#define KEEP_NO_BLOCKS 1

/* One per process. */
static apr_pool_t *root_pool(void)
{
    static apr_pool_t *root;

    if (root == NULL) {
        require(apr_initialize() == APR_SUCCESS
                    && apr_pool_create(&root, NULL) == APR_SUCCESS,
                "APR starts");
        apr_allocator_max_free_set(apr_pool_allocator_get(root),
                                   KEEP_NO_BLOCKS);
    }
    return root;
}

void fuzz_tell(const char *file, int line, const char *invariant)
{
    (void)fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, invariant);
}

void require_plain(const char *text, apr_size_t max, const char *invariant)
{
    const char *p;

    require(text == NULL || strlen(text) <= max, invariant);
    for (p = text; p != NULL && *p != '\0'; p++) {
        require(!apr_iscntrl(*p), invariant);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    apr_pool_t *pool = NULL;
    /* of exactly this length: one byte too far is out of bounds */
    char *copy = malloc(size > 0 ? size : 1);

    require(apr_pool_create(&pool, root_pool()) == APR_SUCCESS && copy != NULL,
            "there is memory");
    if (size > 0) {
        memcpy(copy, data, size);
    }
    fuzz_one(pool, copy, size);
    apr_pool_destroy(pool);
    free(copy);
    return 0;
}
