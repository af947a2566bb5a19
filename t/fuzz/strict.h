/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * strict.h: a second implementation of JSON.  Reads RFC 8259 as plainly as
 * possible and shares nothing with the module or json-c; like the module it
 * rejects U+0000, and of duplicate members uses the last.
 */
#ifndef STRICT_H
#define STRICT_H

#include <apr_pools.h>

/* The deepest nesting that is read: deeper than any that the module takes. */
#define STRICT_MAX_DEPTH 1100

typedef enum strict_kind {
    STRICT_NULL,
    STRICT_BOOLEAN,
    STRICT_NUMBER,
    STRICT_STRING,
    STRICT_ARRAY,
    STRICT_OBJECT
} strict_kind;

typedef struct strict_node {
    strict_kind kind;
    const char *text; /* as in the text that was read */
    apr_size_t len;
    const char *name;   /* of a member, decoded; else NULL */
    const char *string; /* decoded; NULL unless it is one */
    struct strict_node *first;
    struct strict_node *next;
} strict_node;

/*
 * Reads one value with nothing but white space around it.
 *
 * depth  set to the deepest nesting of arrays and objects, 1 for {}; may be
 *        NULL
 *
 * Returns NULL if this is not JSON or is nested too deeply.
 */
strict_node *strict_parse(apr_pool_t *pool, const char *text, apr_size_t len,
                          int *depth);

/* The last member of that name; NULL: none, or node is no object. */
const strict_node *strict_member(const strict_node *node, const char *name);

/* Is node a string with this value? */
int strict_is(const strict_node *node, const char *string);

/* Is text, len one JSON value of that kind? */
int strict_is_kind(apr_pool_t *pool, const char *text, apr_size_t len,
                   strict_kind kind);

#endif /* STRICT_H */
