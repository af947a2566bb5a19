/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * strict.h: a second opinion on JSON.  Reads RFC 8259 as plainly as can be
 * and shares nothing with the module or json-c; like the module it takes no
 * U+0000, and of duplicate members the last.
 */
#ifndef STRICT_H
#define STRICT_H

#include <apr_pools.h>

/* Deepest nesting that is read. */
#define STRICT_MAX_DEPTH 300

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
    const char *text; /* as it stands in what was read */
    apr_size_t len;
    const char *name;   /* of a member, decoded; else NULL */
    const char *string; /* decoded; NULL unless it is one */
    struct strict_node *first;
    struct strict_node *next;
} strict_node;

/*
 * Read one value with nothing but white space around it.
 *
 * depth  set to the deepest nesting of arrays and objects, 1 for {}; may be
 *        NULL
 *
 * Returns NULL when this is not JSON or is nested too deeply.
 */
strict_node *strict_parse(apr_pool_t *pool, const char *text, apr_size_t len,
                          int *depth);

/* The last member of that name; NULL: none, or node is no object or NULL. */
const strict_node *strict_member(const strict_node *node, const char *name);

/* Is node a string, and this one? */
int strict_is(const strict_node *node, const char *string);

/* Is text, len one JSON value of that kind? */
int strict_is_kind(apr_pool_t *pool, const char *text, apr_size_t len,
                   strict_kind kind);

#endif /* STRICT_H */
