/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_json.h: JSON in and out.  us_json.c is the only user of json-c, which
 * decodes strings with escapes and writes.  It reads no whole documents: that
 * is us_json_scan.c's, which copies nothing and is stricter (json-c 0.16 in
 * its strict mode takes NaN, Infinity, "1.", single-quoted names, raw control
 * characters, surrogates and overlong forms in UTF-8, and U+0000).
 *
 * Threads: no shared state; a document belongs to the thread that parsed it.
 */
#ifndef US_JSON_H
#define US_JSON_H

#include <apr_pools.h>

/* Deepest nesting of a client's body, and of an answer: GoTrue gives back a
 * user's data some levels deeper than it came, and what other clients set. */
#define US_JSON_REQUEST_DEPTH 32
#define US_JSON_ANSWER_DEPTH 256

typedef struct us_json us_json; /* one parsed JSON object */
typedef struct us_json_slice {  /* a piece of JSON text, not a copy */
    const char *text;           /* NULL: there is no such piece */
    apr_size_t len;
} us_json_slice;

/* A path of member names from the top: US_JSON_PATH("user", "id"). */
#define US_JSON_PATH(...) ((const char *const[]){__VA_ARGS__, NULL})

typedef enum us_json_type {
    US_JSON_NONE, /* no such member, or null */
    US_JSON_STRING,
    US_JSON_OBJECT,
    US_JSON_ARRAY,
    US_JSON_OTHER /* number or boolean */
} us_json_type;

/*
 * Parse text, which must be one JSON object and nothing else but white space.
 *
 * text, len  need not end in NUL; must outlive the document (slices point
 *            into it)
 * depth      so many objects and arrays inside each other are taken
 * out        set to the document; in pool
 *
 * Returns NULL, or what is wrong in a few words (static text).
 */
const char *us_json_parse(apr_pool_t *pool, const char *text, apr_size_t len,
                          int depth, us_json **out);

/*
 * Wipe every string that us_json_string decoded.  Runs by itself when the
 * pool goes.  The document is not to be used afterwards.
 */
void us_json_free(us_json *doc);

/*
 * Look at a member.  path is a US_JSON_PATH.  Of duplicate members the last
 * counts.  Here and below doc may be NULL: then nothing is found.
 *
 * Returns its type; a missing member and null are US_JSON_NONE.
 */
us_json_type us_json_type_of(const us_json *doc, const char *const *path);

/*
 * A string member, decoded.  Returns NULL when there is no such string.  The
 * text belongs to the document; len (may be NULL) receives its length in
 * bytes.  It never holds a NUL byte.
 */
const char *us_json_string(const us_json *doc, const char *const *path,
                           apr_size_t *len);

/*
 * The member of array path[] whose string member name equals value: is there
 * one?  Used for identities[].user_id.
 */
int us_json_array_has(const us_json *doc, const char *const *path,
                      const char *name, const char *value);

/*
 * The raw text of a member, byte for byte as received: a slice of the text
 * that was parsed.  Numbers keep their digits, strings their escapes.
 */
us_json_slice us_json_raw(const us_json *doc, const char *const *path);

/* A JSON string literal with quotes for s (UTF-8), in pool. */
const char *us_json_quote(apr_pool_t *pool, const char *s);

/* The same for a text of unknown origin: NULL unless it is UTF-8. */
const char *us_json_quote_checked(apr_pool_t *pool, const char *s);

/* --- writing an object member by member; no secrets in here --- */

typedef struct us_json_out us_json_out;

us_json_out *us_json_out_create(apr_pool_t *pool);
void us_json_out_string(us_json_out *out, const char *name, const char *value);
void us_json_out_int(us_json_out *out, const char *name, int value);
/* value is JSON text, checked by us_json_parse as part of a document. */
void us_json_out_raw(us_json_out *out, const char *name, const char *value);
/* Append {"field": ..., "message": ...} to the array member name. */
void us_json_out_complaint(us_json_out *out, const char *name,
                           const char *field, const char *message);
/* The finished text, in the pool that out was created with. */
const char *us_json_out_text(us_json_out *out, apr_size_t *len);

#endif /* US_JSON_H */
