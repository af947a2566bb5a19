/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "heap.h"
#include "us_wipe.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>

void us_heap_free(void *block)
{
    if (block != NULL) {
        us_wipe(block, malloc_usable_size(block));
        free(block);
    }
}

void *us_heap_realloc(void *block, size_t size)
{
    size_t old_size = block != NULL ? malloc_usable_size(block) : 0;
    void *larger;

    if (block != NULL && size <= old_size) {
        return block;
    }
    larger = malloc(size);
    if (larger != NULL && block != NULL) {
        memcpy(larger, block, old_size);
        us_heap_free(block);
    }
    return larger;
}
