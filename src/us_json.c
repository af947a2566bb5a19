/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "us_json.h"
#include "us_json_scan.h"
#include "us_secret.h"

#include <apr_strings.h>

#include <json-c/json.h>
#include <json-c/printbuf.h>

#include <limits.h>
#include <string.h>

/* A string that was decoded for somebody: wiped with its document. */
typedef struct decoded {
    char *text;
    apr_size_t len;
    struct decoded *next;
} decoded;

struct us_json {
    apr_pool_t *pool;
    const char *text;
    us_json_list list; /* the first item is an object */
    decoded **strings; /* of its own, so that readers can have it const */
};

struct us_json_out {
    apr_pool_t *pool;
    json_object *root;
};

/* --- json-c; what it reads has been scanned before --- */

/*
 * A tokener whose collecting buffer is large enough from the start: growing
 * it would leave copies of passwords behind in freed memory.
 */
static json_tokener *tokener_create(apr_size_t len, int depth)
{
    json_tokener *tokener = json_tokener_new_ex(depth);

    if (tokener != NULL) {
        json_tokener_set_flags(tokener, JSON_TOKENER_STRICT);
        if (printbuf_memset(tokener->pb, 0, 0, (int)len) < 0) {
            json_tokener_free(tokener);
            return NULL;
        }
        printbuf_reset(tokener->pb);
    }
    return tokener;
}

static void tokener_free(json_tokener *tokener)
{
    us_secret_wipe(tokener->pb->buf, (apr_size_t)tokener->pb->size);
    json_tokener_free(tokener);
}

/* Parse exactly one value of any type; NULL when memory is short. */
static json_object *parse_value(const char *text, apr_size_t len, int depth)
{
    json_tokener *tokener = len < INT_MAX ? tokener_create(len, depth) : NULL;
    json_object *root;

    if (tokener == NULL) {
        return NULL;
    }
    root = json_tokener_parse_ex(tokener, text, (int)len);
    if (json_tokener_get_error(tokener) == json_tokener_continue) {
        /* a value that ends with the text: the NUL tells so */
        root = json_tokener_parse_ex(tokener, "", 1);
    }
    tokener_free(tokener);
    return root;
}

/* A string literal, decoded.  json_object_put by way of put_string. */
static json_object *decode(const char *literal, apr_size_t len)
{
    return parse_value(literal, len, 1);
}

/*
 * Wipe and free a decoded string, or NULL.  json-c hands out its own buffer
 * as const: here is the one place where that const must go.
 */
static void put_string(json_object *string)
{
    union {
        const char *in;
        char *out;
    } pointer;

    if (string != NULL) {
        pointer.in = json_object_get_string(string);
        us_secret_wipe(pointer.out,
                       (apr_size_t)json_object_get_string_len(string));
        json_object_put(string);
    }
}

/* --- parsing --- */

static apr_status_t wipe_decoded(void *data)
{
    us_json *doc = data;
    const decoded *string;

    for (string = *doc->strings; string != NULL; string = string->next) {
        us_secret_wipe(string->text, string->len);
    }
    *doc->strings = NULL;
    return APR_SUCCESS;
}

const char *us_json_parse(apr_pool_t *pool, const char *text, apr_size_t len,
                          int depth, us_json **out)
{
    us_json *doc = apr_palloc(pool, sizeof(*doc));
    const char *wrong = us_json_scan(pool, text, len, depth, &doc->list);

    if (wrong != NULL) {
        return wrong;
    }
    doc->pool = pool;
    doc->text = text;
    if (text[doc->list.items[0].start] != '{') {
        return "not a JSON object";
    }
    doc->strings = apr_pcalloc(pool, sizeof(*doc->strings));
    apr_pool_cleanup_register(pool, doc, wipe_decoded, apr_pool_cleanup_null);
    *out = doc;
    return NULL;
}

void us_json_free(us_json *doc)
{
    apr_pool_cleanup_run(doc->pool, doc, wipe_decoded);
}

/* --- reading --- */

static const char *text_of(const us_json *doc, const us_json_item *item)
{
    return doc->text + item->start;
}

static int has_escapes(const us_json *doc, const us_json_item *string)
{
    return memchr(text_of(doc, string), '\\', string->len) != NULL;
}

/* Is this item a string, or a name, and that text? */
static int is_string(const us_json *doc, const us_json_item *item,
                     const char *text, apr_size_t len)
{
    json_object *string;
    int same;

    /* decoding makes nothing longer, and at most six bytes one */
    if (*text_of(doc, item) != '"' || item->len - 2 < len
        || item->len - 2 > 6 * len) {
        return 0;
    }
    if (!has_escapes(doc, item)) {
        return item->len == len + 2
               && memcmp(text_of(doc, item) + 1, text, len) == 0;
    }
    string = decode(text_of(doc, item), item->len);
    same = json_object_is_type(string, json_type_string)
           && strcmp(json_object_get_string(string), text) == 0;
    put_string(string);
    return same;
}

/* The last member of that name; NULL: none, or item is no object. */
static const us_json_item *member(const us_json *doc, const us_json_item *item,
                                  const char *name)
{
    const us_json_item *items = doc->list.items;
    const us_json_item *found = NULL;
    const us_json_item *at;
    apr_size_t len = strlen(name);

    if (*text_of(doc, item) != '{') {
        return NULL;
    }
    /* a name, its value, the next name */
    for (at = item + 1; at < items + item->next; at = items + at[1].next) {
        if (is_string(doc, at, name, len)) {
            found = at + 1;
        }
    }
    return found;
}

static const us_json_item *find(const us_json *doc, const char *const *path)
{
    const us_json_item *item = doc != NULL ? doc->list.items : NULL;

    for (; *path != NULL && item != NULL; path++) {
        item = member(doc, item, *path);
    }
    return item;
}

us_json_type us_json_type_of(const us_json *doc, const char *const *path)
{
    const us_json_item *item = find(doc, path);

    switch (item != NULL ? *text_of(doc, item) : 'n') {
    case 'n':
        return US_JSON_NONE;
    case '"':
        return US_JSON_STRING;
    case '{':
        return US_JSON_OBJECT;
    case '[':
        return US_JSON_ARRAY;
    default:
        return US_JSON_OTHER;
    }
}

/* Keep a decoded string for as long as the document. */
static const char *keep(const us_json *doc, const char *text, apr_size_t len)
{
    decoded *string = apr_palloc(doc->pool, sizeof(*string));

    string->text = apr_pstrmemdup(doc->pool, text, len);
    string->len = len;
    string->next = *doc->strings;
    *doc->strings = string;
    return string->text;
}

const char *us_json_string(const us_json *doc, const char *const *path,
                           apr_size_t *len)
{
    const us_json_item *item = find(doc, path);
    json_object *string;
    const char *kept;

    if (item == NULL || *text_of(doc, item) != '"') {
        return NULL;
    }
    if (!has_escapes(doc, item)) {
        kept = keep(doc, text_of(doc, item) + 1, item->len - 2);
    }
    else {
        string = decode(text_of(doc, item), item->len);
        kept = string != NULL
                   ? keep(doc, json_object_get_string(string),
                          (apr_size_t)json_object_get_string_len(string))
                   : NULL;
        put_string(string);
    }
    if (len != NULL && kept != NULL) {
        *len = (*doc->strings)->len;
    }
    return kept;
}

int us_json_array_has(const us_json *doc, const char *const *path,
                      const char *name, const char *value)
{
    const us_json_item *array = find(doc, path);
    const us_json_item *items = doc != NULL ? doc->list.items : NULL;
    const us_json_item *at;

    if (array == NULL || *text_of(doc, array) != '[') {
        return 0;
    }
    for (at = array + 1; at < items + array->next; at = items + at->next) {
        const us_json_item *found = member(doc, at, name);

        if (found != NULL && is_string(doc, found, value, strlen(value))) {
            return 1;
        }
    }
    return 0;
}

us_json_slice us_json_raw(const us_json *doc, const char *const *path)
{
    const us_json_item *item = find(doc, path);
    us_json_slice slice = {NULL, 0};

    if (item != NULL) {
        slice.text = text_of(doc, item);
        slice.len = item->len;
    }
    return slice;
}

/* --- writing --- */

/* Without escaping '/': the text goes into bodies, never into HTML. */
#define WRITE_FLAGS (JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE)

const char *us_json_quote(apr_pool_t *pool, const char *s)
{
    json_object *node = json_object_new_string(s);
    const char *text
        = apr_pstrdup(pool, json_object_to_json_string_ext(node, WRITE_FLAGS));

    json_object_put(node);
    return text;
}

const char *us_json_quote_checked(apr_pool_t *pool, const char *s)
{
    const char *literal = us_json_quote(pool, s);
    us_json_list list;

    /* json-c has let all bytes through, the scanner does not */
    return us_json_scan(pool, literal, strlen(literal), 1, &list) == NULL
               ? literal
               : NULL;
}

static apr_status_t free_out(void *data)
{
    us_json_out *out = data;

    json_object_put(out->root);
    return APR_SUCCESS;
}

us_json_out *us_json_out_create(apr_pool_t *pool)
{
    us_json_out *out = apr_palloc(pool, sizeof(*out));

    out->pool = pool;
    out->root = json_object_new_object();
    apr_pool_cleanup_register(pool, out, free_out, apr_pool_cleanup_null);
    return out;
}

void us_json_out_string(us_json_out *out, const char *name, const char *value)
{
    json_object_object_add(out->root, name, json_object_new_string(value));
}

void us_json_out_int(us_json_out *out, const char *name, int value)
{
    json_object_object_add(out->root, name, json_object_new_int(value));
}

void us_json_out_raw(us_json_out *out, const char *name, const char *value)
{
    json_object_object_add(
        out->root, name,
        parse_value(value, strlen(value), US_JSON_ANSWER_DEPTH));
}

void us_json_out_complaint(us_json_out *out, const char *name,
                           const char *field, const char *message)
{
    json_object *array = NULL;
    json_object *item = json_object_new_object();

    if (!json_object_object_get_ex(out->root, name, &array)) {
        array = json_object_new_array();
        json_object_object_add(out->root, name, array);
    }
    json_object_object_add(item, "field", json_object_new_string(field));
    json_object_object_add(item, "message", json_object_new_string(message));
    json_object_array_add(array, item);
}

const char *us_json_out_text(us_json_out *out, apr_size_t *len)
{
    size_t text_len = 0;
    const char *text
        = json_object_to_json_string_length(out->root, WRITE_FLAGS, &text_len);

    *len = text_len;
    return apr_pstrmemdup(out->pool, text, text_len);
}
