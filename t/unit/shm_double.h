/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * shm_double.h: replaces libapr's shared memory by memory that a test may
 * overwrite like a hostile child.
 */
#ifndef SHM_DOUBLE_H
#define SHM_DOUBLE_H

#include <stddef.h>

/* What was created last; children inherit it.  Never freed. */
extern unsigned char *shm_double;
extern size_t shm_double_size;

/* Kinds of garbage: one byte everywhere, small numbers, any bytes. */
#define SHM_DOUBLE_KINDS 40

/* Fills all of it with garbage of this kind, from 0. */
void shm_double_scribble(int kind);

/* Overwrites any one byte of it with any other value. */
void shm_double_scratch(void);

#endif /* SHM_DOUBLE_H */
