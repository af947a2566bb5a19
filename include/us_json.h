/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_json.h: JSON in and out.  base/json.c is the only user of json-c, which
 * writes and does not read.  What its strict mode takes depends on the version
 * (0.16: NaN, Infinity, "1.", single-quoted names, raw control characters,
 * surrogates and overlong forms in UTF-8, U+0000; 0.18: nothing beyond ASCII),
 * and what it has read stays behind in freed memory.  base/json_scan.c reads
 * strictly and copies nothing, base/json.c decodes the strings.
 *
 * Threads: no shared state; a document belongs to the thread that parsed it.
 */
#ifndef US_JSON_H
#define US_JSON_H

#include "usersync.h"

/* The deepest nesting of a client's body, and of an answer.  GoTrue returns a
 * user's data some levels deeper than it was sent, along with what other
 * clients set. */
#define US_JSON_REQUEST_DEPTH 32
#define US_JSON_ANSWER_DEPTH 256

typedef struct us_json us_json; /* one parsed JSON object */
/* A path of member names from the top: US_JSON_PATH("user", "id"). */
#define US_JSON_PATH(...) ((const char *const[]){__VA_ARGS__, NULL})

typedef enum us_json_type {
    US_JSON_NONE, /* missing, or null */
    US_JSON_STRING,
    US_JSON_OBJECT,
    US_JSON_ARRAY,
    US_JSON_OTHER /* number or boolean */
} us_json_type;

/*
 * Parses text, which must be one JSON object with nothing but white space
 * around it.
 *
 * text, len  need not end in NUL; must outlive the document (slices point into
 *            it)
 * depth      how many nested objects and arrays are accepted
 * out        set to the document, allocated from pool
 *
 * Returns NULL, or a short description of the problem (static text).
 */
const char *us_json_parse(apr_pool_t *pool, const char *text, apr_size_t len,
                          int depth, us_json **out);

/*
 * Wipes every string that us_json_string decoded.  Also happens when the pool
 * is destroyed.  Do not use the document afterwards.
 */
void us_json_free(us_json *doc);

/*
 * The type of a member.  path is a US_JSON_PATH.  Of duplicate members the
 * last one counts.  Here and below doc may be NULL: then nothing is found.
 *
 * A missing member and null are US_JSON_NONE.
 */
us_json_type us_json_type_of(const us_json *doc, const char *const *path);

/*
 * A string member, decoded, or NULL if there is none.  The text belongs to the
 * document; len (may be NULL) is set to its length in bytes.  It never
 * contains a NUL byte.
 */
const char *us_json_string(const us_json *doc, const char *const *path,
                           apr_size_t *len);

/*
 * Does the array path[] have an element whose string member name equals value?
 * Used for identities[].user_id.
 */
int us_json_array_has(const us_json *doc, const char *const *path,
                      const char *name, const char *value);

/*
 * The raw text of a member, byte for byte as received: a slice of the parsed
 * text.  Numbers keep their digits, strings their escapes.
 */
us_slice us_json_raw(const us_json *doc, const char *const *path);

/*
 * The elements of the array path[]: raw text as us_json_raw gives it.
 *
 * Returns a list of us_slice, allocated from the document's pool; NULL: there
 * is no such array.
 */
apr_array_header_t *us_json_elements(const us_json *doc,
                                     const char *const *path);

/* s (UTF-8) as a JSON string literal with quotes, allocated from pool. */
const char *us_json_quote(apr_pool_t *pool, const char *s);

/* The same for a text of unknown origin; NULL unless it is UTF-8. */
const char *us_json_quote_checked(apr_pool_t *pool, const char *s);

/* --- writing an object member by member; not for secrets --- */

typedef struct us_json_out us_json_out;

us_json_out *us_json_out_create(apr_pool_t *pool);
void us_json_out_string(us_json_out *out, const char *name, const char *value);
void us_json_out_int(us_json_out *out, const char *name, int value);
/* value is JSON text, checked by us_json_parse as part of a document; it is
 * written as it stands. */
void us_json_out_raw(us_json_out *out, const char *name, const char *value);
/* Appends {"field": ..., "message": ...} to the array member name. */
void us_json_out_complaint(us_json_out *out, const char *name,
                           const char *field, const char *message);
/* The finished text, allocated from the pool that was given to create. */
const char *us_json_out_text(us_json_out *out, apr_size_t *len);

#endif /* US_JSON_H */
