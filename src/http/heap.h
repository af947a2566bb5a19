/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * http/heap.h: blocks of the C heap that are wiped when they are freed.
 *
 * They are blocks of malloc and calloc.  Freeing one with free() is safe, but
 * does not wipe it; a block of malloc that is passed to these functions is
 * wiped, too.  Any thread may call them.
 */
#ifndef US_HEAP_H
#define US_HEAP_H

#include <stddef.h>

/* free(), after wiping the block. */
void us_heap_free(void *block);

/* realloc(), which wipes the old block if it moves. */
void *us_heap_realloc(void *block, size_t size);

#endif /* US_HEAP_H */
