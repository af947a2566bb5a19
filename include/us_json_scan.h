/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_json_scan.h: is a text JSON, and where in it are its values?  A list of
 * places instead of a tree: nothing is copied, so that no password or token
 * exists once more, and an answer costs a third of what json-c's tree does.
 *
 * RFC 8259 and RFC 3629 strictly, and no U+0000.  us_json.c is the only user.
 */
#ifndef US_JSON_SCAN_H
#define US_JSON_SCAN_H

#include <apr_pools.h>

/*
 * A value or a member's name.  They stand in the order of the text: behind an
 * object its first name, behind a name its value, behind an array its first
 * element.  The first character tells what it is.
 */
typedef struct us_json_item {
    apr_uint32_t start; /* in the text; strings with their quotes */
    apr_uint32_t len;
    apr_uint32_t next; /* the item behind this one and all that is in it */
} us_json_item;

typedef struct us_json_list {
    us_json_item *items; /* the first is the whole value */
    apr_uint32_t count;
} us_json_list;

/*
 * Scan text, which must be one value with nothing but white space around it.
 *
 * text, len  need not end in NUL; less than 2 GiB
 * depth      so many arrays and objects inside each other are taken
 * out        filled in, with memory of pool
 *
 * Returns NULL, or what is wrong in a few words (static text).
 */
const char *us_json_scan(apr_pool_t *pool, const char *text, apr_size_t len,
                         int depth, us_json_list *out);

#endif /* US_JSON_SCAN_H */
