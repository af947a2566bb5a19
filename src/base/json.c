/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "us_json.h"
#include "us_json_scan.h"
#include "us_wipe.h"

#include <apr_lib.h>
#include <apr_strings.h>

#include <json-c/json.h>

#include <string.h>

/* A decoded string, which is wiped with its document. */
typedef struct decoded {
    char *text;
    apr_size_t len;
    struct decoded *next;
} decoded;

struct us_json {
    apr_pool_t *pool;
    const char *text;
    us_json_list list; /* the first item is an object */
    decoded **strings; /* not in the struct, so that readers can have it
                        * const */
};

struct us_json_out {
    apr_pool_t *pool;
    json_object *root;
};

/* --- strings; the scanner has seen each of them before --- */

/* The code unit that the four digits of \uXXXX at p say. */
static apr_uint32_t code_unit(const char *p)
{
    apr_uint32_t unit = 0;
    int i;

    for (i = 2; i < 6; i++) {
        int digit = apr_isdigit(p[i]) ? p[i] - '0' : (p[i] | 0x20) - 'a' + 10;

        unit = unit << 4 | (apr_uint32_t)digit;
    }
    return unit;
}

/*
 * The character of \uXXXX at *p, or of two of them that are a pair; *p moves
 * behind.  Half a pair is no character: U+FFFD stands for it.
 */
static apr_uint32_t code_point(const char **p)
{
    apr_uint32_t high = code_unit(*p);

    *p += 6;
    /* the literal's closing quote is where no escape follows */
    if (high >= 0xD800 && high <= 0xDBFF && (*p)[0] == '\\'
        && (*p)[1] == 'u') {
        apr_uint32_t low = code_unit(*p);

        if (low >= 0xDC00 && low <= 0xDFFF) {
            *p += 6;
            return 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
        }
    }
    return high >= 0xD800 && high <= 0xDFFF ? 0xFFFD : high;
}

#define MAX_UTF8 4 /* bytes of a character */

/* Write a character in UTF-8.  Returns its length. */
static apr_size_t write_utf8(char *out, apr_uint32_t code)
{
    static const struct {
        apr_uint32_t end; /* the first that needs more bytes */
        unsigned char head;
    } lengths[]
        = {{0x80, 0}, {0x800, 0xC0}, {0x10000, 0xE0}, {0x110000, 0xF0}};
    apr_size_t more = 0;
    apr_size_t i;

    while (code >= lengths[more].end) {
        more++;
    }
    for (i = more; i > 0; i--) {
        out[i] = (char)(0x80 | (code & 0x3F));
        code >>= 6;
    }
    *out = (char)(lengths[more].head | code);
    return more + 1;
}

/* Decode the escape at *p, which moves behind it.  Returns the length. */
static apr_size_t decode_escape(const char **p, char *out)
{
    static const char letters[] = "bfnrt";
    static const char meanings[] = "\b\f\n\r\t";
    const char *letter;

    if ((*p)[1] == 'u') {
        return write_utf8(out, code_point(p));
    }
    *out = (*p)[1];
    letter = strchr(letters, *out);
    if (letter != NULL) {
        *out = meanings[letter - letters];
    }
    *p += 2;
    return 1;
}

/* The same for what stands at *p: an escape, or a byte that is itself. */
static apr_size_t decode_next(const char **p, char *out)
{
    if (**p == '\\') {
        return decode_escape(p, out);
    }
    *out = *(*p)++;
    return 1;
}

/* --- parsing --- */

static apr_status_t wipe_decoded(void *data)
{
    us_json *doc = data;
    const decoded *string;

    for (string = *doc->strings; string != NULL; string = string->next) {
        us_wipe(string->text, string->len);
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

/* The bytes between the quotes of a string. */
static us_slice literal_of(const us_json *doc, const us_json_item *item)
{
    us_slice literal = {text_of(doc, item) + 1, item->len - 2};

    return literal;
}

static int has_escape(us_slice literal)
{
    return memchr(literal.text, '\\', literal.len) != NULL;
}

/* Does a literal with escapes mean that text?  It is decoded as far as the text
 * goes along with it, into nothing that would have to be wiped. */
static int means(us_slice literal, const char *text, apr_size_t len)
{
    const char *p = literal.text;
    const char *end = p + literal.len;
    apr_size_t same = 0;

    while (p < end) {
        char character[MAX_UTF8];
        apr_size_t size = decode_next(&p, character);

        if (size > len - same || memcmp(text + same, character, size) != 0) {
            return 0;
        }
        same += size;
    }
    return same == len;
}

/* Is this item a string, or a name, and that text? */
static int is_string(const us_json *doc, const us_json_item *item,
                     const char *text, apr_size_t len)
{
    us_slice literal;

    if (*text_of(doc, item) != '"') {
        return 0;
    }
    literal = literal_of(doc, item);
    if (has_escape(literal)) {
        return means(literal, text, len);
    }
    return literal.len == len && memcmp(literal.text, text, len) == 0;
}

/* The last member of that name; NULL: none, or item is not an object. */
static const us_json_item *member(const us_json *doc, const us_json_item *item,
                                  const char *name)
{
    const us_json_item *items = doc->list.items;
    const us_json_item *found = NULL;
    const us_json_item *at;
    apr_size_t len = strlen(name);
    char first = '"';

    if (*text_of(doc, item) != '{') {
        return NULL;
    }
    if (len > 0) {
        first = *name;
    }
    /* a name, its value, the next name; most differ in their first letter */
    for (at = item + 1; at < items + item->next; at = items + at[1].next) {
        char letter = text_of(doc, at)[1];

        if ((letter == first || letter == '\\')
            && is_string(doc, at, name, len)) {
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

/* Decode a string, and keep it for as long as the document. */
static const decoded *decode(const us_json *doc, const us_json_item *item)
{
    decoded *string = apr_palloc(doc->pool, sizeof(*string));
    us_slice literal = literal_of(doc, item);
    const char *p = literal.text;
    const char *end = p + literal.len;
    char *out = apr_palloc(doc->pool, item->len); /* it gets no longer */

    string->text = out;
    if (!has_escape(literal)) {
        memcpy(out, p, literal.len);
        out += literal.len;
        p = end;
    }
    while (p < end) {
        out += decode_next(&p, out);
    }
    *out = '\0';
    string->len = (apr_size_t)(out - string->text);
    string->next = *doc->strings;
    *doc->strings = string;
    return string;
}

const char *us_json_string(const us_json *doc, const char *const *path,
                           apr_size_t *len)
{
    const us_json_item *item = find(doc, path);
    const decoded *string;

    if (item == NULL || *text_of(doc, item) != '"') {
        return NULL;
    }
    string = decode(doc, item);
    if (len != NULL) {
        *len = string->len;
    }
    return string->text;
}

int us_json_array_has(const us_json *doc, const char *const *path,
                      const char *name, const char *value)
{
    const us_json_item *array = find(doc, path);
    const us_json_item *items;
    const us_json_item *at;

    if (array == NULL || *text_of(doc, array) != '[') {
        return 0;
    }
    items = doc->list.items;
    for (at = array + 1; at < items + array->next; at = items + at->next) {
        const us_json_item *found = member(doc, at, name);

        if (found != NULL && is_string(doc, found, value, strlen(value))) {
            return 1;
        }
    }
    return 0;
}

us_slice us_json_raw(const us_json *doc, const char *const *path)
{
    const us_json_item *item = find(doc, path);
    us_slice slice = {NULL, 0};

    if (item != NULL) {
        slice.text = text_of(doc, item);
        slice.len = item->len;
    }
    return slice;
}

apr_array_header_t *us_json_elements(const us_json *doc,
                                     const char *const *path)
{
    const us_json_item *array = find(doc, path);
    const us_json_item *items;
    const us_json_item *at;
    apr_array_header_t *list;

    if (array == NULL || *text_of(doc, array) != '[') {
        return NULL;
    }
    items = doc->list.items;
    list = apr_array_make(doc->pool, 16, sizeof(us_slice));
    for (at = array + 1; at < items + array->next; at = items + at->next) {
        us_slice slice = {text_of(doc, at), at->len};

        APR_ARRAY_PUSH(list, us_slice) = slice;
    }
    return list;
}

/* --- writing, which is json-c's --- */

/* '/' is not escaped: the text goes into bodies, never into HTML. */
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

    /* json-c has accepted any bytes, the scanner does not */
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
    json_object *node = json_object_new_object();

    /* this one is written as that text, and owns nothing of it */
    json_object_set_serializer(node, json_object_userdata_to_json_string,
                               apr_pstrdup(out->pool, value), NULL);
    json_object_object_add(out->root, name, node);
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
