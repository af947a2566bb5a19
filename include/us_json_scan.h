/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_json_scan.h: checks whether a text is JSON, and lists where its values
 * are.  The list replaces a tree: nothing is copied, so there are no further
 * copies of passwords and tokens, and an answer costs a third of json-c's
 * tree.
 *
 * Follows RFC 8259 and RFC 3629 strictly, and rejects U+0000.  Only
 * base/json.c calls it.
 */
#ifndef US_JSON_SCAN_H
#define US_JSON_SCAN_H

#include <apr_pools.h>

/* What us_json_scan, and so us_json_parse, returns for text nested too
 * deep. */
#define US_JSON_TOO_DEEP "nesting too deep"

/*
 * A value or a member's name.  Items are in the order of the text: an object
 * is followed by its first name, a name by its value, an array by its first
 * element.  The first character tells the type.
 */
typedef struct us_json_item {
    apr_uint32_t start; /* offset in the text; strings include their quotes */
    apr_uint32_t len;
    apr_uint32_t next; /* the item after this one and everything inside it */
} us_json_item;

typedef struct us_json_list {
    us_json_item *items; /* the first is the whole value */
    apr_uint32_t count;
} us_json_list;

/*
 * Scans text, which must be one value with nothing but white space around it.
 *
 * text, len  need not end in NUL; less than 2 GiB
 * depth      how many nested arrays and objects are accepted
 * out        filled in, with memory of pool
 *
 * Returns NULL, or a short description of the problem (static text).
 */
const char *us_json_scan(apr_pool_t *pool, const char *text, apr_size_t len,
                         int depth, us_json_list *out);

#endif /* US_JSON_SCAN_H */
