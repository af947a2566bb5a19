/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "us_json.h"
#include "us_secret.h"

#include <apr_lib.h>
#include <apr_strings.h>

#include <json-c/json.h>
#include <json-c/printbuf.h>

#include <limits.h>
#include <string.h>

struct us_json {
    apr_pool_t *pool;
    us_json_slice text;
    json_object *root;
};

struct us_json_out {
    apr_pool_t *pool;
    json_object *root;
};

/* --- the lexical rules of RFC 8259 that json-c does not enforce --- */

/*
 * Length of the UTF-8 sequence at p (RFC 3629: no overlong forms, no
 * surrogates, nothing above U+10FFFF), 0 when it is none.
 */
static apr_size_t utf8_length(const unsigned char *p, const unsigned char *end)
{
    unsigned char low = 0x80;
    unsigned char high = 0xBF;
    apr_size_t len;
    apr_size_t i;

    if (*p < 0x80) {
        return 1;
    }
    if (*p >= 0xC2 && *p <= 0xDF) {
        len = 2;
    }
    else if (*p >= 0xE0 && *p <= 0xEF) {
        len = 3;
        low = *p == 0xE0 ? 0xA0 : low;
        high = *p == 0xED ? 0x9F : high;
    }
    else if (*p >= 0xF0 && *p <= 0xF4) {
        len = 4;
        low = *p == 0xF0 ? 0x90 : low;
        high = *p == 0xF4 ? 0x8F : high;
    }
    else {
        return 0;
    }
    if ((apr_size_t)(end - p) < len || p[1] < low || p[1] > high) {
        return 0;
    }
    for (i = 2; i < len; i++) {
        if (p[i] < 0x80 || p[i] > 0xBF) {
            return 0;
        }
    }
    return len;
}

/* A string starts at *at; *at is moved behind its closing quote. */
static const char *lex_string(const char **at, const char *end)
{
    const char *p = *at + 1;

    while (p < end && *p != '"') {
        apr_size_t len = utf8_length((const unsigned char *)p,
                                     (const unsigned char *)end);

        if (len == 0) {
            return "invalid UTF-8";
        }
        if ((unsigned char)*p < 0x20) {
            return "control character in a string";
        }
        if (*p == '\\') {
            if (end - p >= 6 && memcmp(p, "\\u0000", 6) == 0) {
                return "U+0000 in a string";
            }
            len = 2; /* what follows the backslash is json-c's to see */
        }
        if (len > (apr_size_t)(end - p)) {
            return "a string has no end";
        }
        p += len;
    }
    if (p == end) {
        return "a string has no end";
    }
    *at = p + 1;
    return NULL;
}

static const char *skip_digits(const char *p, const char *end)
{
    while (p < end && apr_isdigit(*p)) {
        p++;
    }
    return p;
}

/* A number starts at *at: its fraction must have digits. */
static const char *lex_number(const char **at, const char *end)
{
    const char *p = *at + (**at == '-' ? 1 : 0);
    const char *digits = p;

    p = skip_digits(p, end);
    if (p == digits || (*digits == '0' && p - digits > 1)) {
        return "not a number";
    }
    if (p < end && *p == '.') {
        digits = ++p;
        p = skip_digits(p, end);
        if (p == digits) {
            return "not a number";
        }
    }
    if (p < end && (*p == 'e' || *p == 'E')) {
        p++;
        if (p < end && (*p == '+' || *p == '-')) {
            p++;
        }
        p = skip_digits(p, end);
    }
    *at = p;
    return NULL;
}

static int lex_word(const char **at, const char *end, const char *word)
{
    apr_size_t len = strlen(word);

    if ((apr_size_t)(end - *at) < len || memcmp(*at, word, len) != 0) {
        return 0;
    }
    *at += len;
    return 1;
}

/* Only tokens of RFC 8259?  Their order is json-c's to check. */
static const char *lex(const char *text, apr_size_t text_len)
{
    const char *p = text;
    const char *end = text + text_len;
    const char *wrong = NULL;

    while (p < end && wrong == NULL) {
        if (*p == '"') {
            wrong = lex_string(&p, end);
        }
        else if (*p == '-' || apr_isdigit(*p)) {
            wrong = lex_number(&p, end);
        }
        else if (*p != '\0' && strchr("{}[]:, \t\r\n", *p) != NULL) {
            p++;
        }
        else if (!lex_word(&p, end, "true") && !lex_word(&p, end, "false")
                 && !lex_word(&p, end, "null")) {
            wrong = "unexpected character";
        }
    }
    return wrong;
}

/* --- parsing --- */

/*
 * json-c hands out its own buffer as const; wiping it before it is freed is
 * the one place where that const must go.
 */
static void wipe_text(const char *text, apr_size_t len)
{
    union {
        const char *in;
        char *out;
    } pointer;

    pointer.in = text;
    us_secret_wipe(pointer.out, len);
}

static void wipe_strings(json_object *node)
{
    size_t i;

    switch (json_object_get_type(node)) {
    case json_type_string:
        wipe_text(json_object_get_string(node),
                  (apr_size_t)json_object_get_string_len(node));
        break;
    case json_type_array:
        for (i = 0; i < json_object_array_length(node); i++) {
            wipe_strings(json_object_array_get_idx(node, i));
        }
        break;
    case json_type_object: {
        json_object_object_foreach(node, key, value)
        {
            (void)key;
            wipe_strings(value);
        }
        break;
    }
    default:
        break;
    }
}

/* Frees the tree; the us_json itself belongs to the pool. */
static apr_status_t free_root(void *data)
{
    us_json *doc = data;

    if (doc->root != NULL) {
        wipe_strings(doc->root);
        json_object_put(doc->root);
        doc->root = NULL;
    }
    return APR_SUCCESS;
}

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
    int i;

    /* after an error the half-built tree hangs here, a level each; what was
     * parsed well has been handed out */
    for (i = 0; i <= tokener->depth; i++) {
        wipe_strings(tokener->stack[i].current);
    }
    us_secret_wipe(tokener->pb->buf, (apr_size_t)tokener->pb->size);
    json_tokener_free(tokener);
}

/* Parse exactly one value of any type; NULL with the reason in *wrong. */
static json_object *parse_value(const char *text, apr_size_t len, int depth,
                                const char **wrong)
{
    json_tokener *tokener = len < INT_MAX ? tokener_create(len, depth) : NULL;
    json_object *root;
    enum json_tokener_error error;

    if (tokener == NULL) {
        *wrong = "out of memory";
        return NULL;
    }
    root = json_tokener_parse_ex(tokener, text, (int)len);
    error = json_tokener_get_error(tokener);
    if (error == json_tokener_continue) {
        /* a value that ends with the text: the NUL tells so */
        root = json_tokener_parse_ex(tokener, "", 1);
        error = json_tokener_get_error(tokener);
    }
    *wrong = error == json_tokener_success ? NULL
                                           : json_tokener_error_desc(error);
    tokener_free(tokener);
    return root;
}

const char *us_json_parse(apr_pool_t *pool, const char *text, apr_size_t len,
                          int depth, us_json **out)
{
    const char *wrong = lex(text, len);
    us_json *doc;

    if (wrong != NULL) {
        return wrong;
    }
    doc = apr_pcalloc(pool, sizeof(*doc));
    doc->pool = pool;
    doc->text.text = text;
    doc->text.len = len;
    doc->root = parse_value(text, len, depth, &wrong);
    apr_pool_cleanup_register(pool, doc, free_root, apr_pool_cleanup_null);
    if (wrong == NULL && !json_object_is_type(doc->root, json_type_object)) {
        wrong = "not a JSON object";
    }
    if (wrong != NULL) {
        us_json_free(doc);
        return wrong;
    }
    *out = doc;
    return NULL;
}

void us_json_free(us_json *doc)
{
    apr_pool_cleanup_run(doc->pool, doc, free_root);
}

/* --- reading --- */

static json_object *find(const us_json *doc, const char *const *path)
{
    json_object *node = doc != NULL ? doc->root : NULL;

    for (; *path != NULL; path++) {
        if (!json_object_is_type(node, json_type_object)
            || !json_object_object_get_ex(node, *path, &node)) {
            return NULL;
        }
    }
    return node;
}

us_json_type us_json_type_of(const us_json *doc, const char *const *path)
{
    switch (json_object_get_type(find(doc, path))) {
    case json_type_null:
        return US_JSON_NONE;
    case json_type_string:
        return US_JSON_STRING;
    case json_type_object:
        return US_JSON_OBJECT;
    case json_type_array:
        return US_JSON_ARRAY;
    default:
        return US_JSON_OTHER;
    }
}

const char *us_json_string(const us_json *doc, const char *const *path,
                           apr_size_t *len)
{
    json_object *node = find(doc, path);

    if (!json_object_is_type(node, json_type_string)) {
        return NULL;
    }
    if (len != NULL) {
        *len = (apr_size_t)json_object_get_string_len(node);
    }
    return json_object_get_string(node);
}

int us_json_array_has(const us_json *doc, const char *const *path,
                      const char *name, const char *value)
{
    json_object *array = find(doc, path);
    size_t i;

    if (!json_object_is_type(array, json_type_array)) {
        return 0;
    }
    for (i = 0; i < json_object_array_length(array); i++) {
        json_object *member = NULL;

        if (json_object_object_get_ex(json_object_array_get_idx(array, i),
                                      name, &member)
            && json_object_is_type(member, json_type_string)
            && strcmp(json_object_get_string(member), value) == 0) {
            return 1;
        }
    }
    return 0;
}

/* --- slices; the text has been parsed, so its shape is known to be good --- */

static const char *skip_blanks(const char *p)
{
    while (*p == ' ' || *p == '\t' || *p == '\r' || *p == '\n') {
        p++;
    }
    return p;
}

static const char *skip_string(const char *p)
{
    for (p++; *p != '"'; p++) {
        if (*p == '\\') {
            p++;
        }
    }
    return p + 1;
}

/* Behind the value at p; it lies inside an object, so something follows. */
static const char *skip_value(const char *p)
{
    int depth = 0;

    do {
        if (*p == '"') {
            p = skip_string(p);
            continue;
        }
        if (*p == '{' || *p == '[') {
            depth++;
        }
        else if (*p == '}' || *p == ']') {
            depth--;
        }
        p++;
    } while (depth > 0
             || (*p != ',' && *p != '}' && *p != ']' && *p != ' ' && *p != '\t'
                 && *p != '\r' && *p != '\n'));
    return p;
}

/* Does the string literal of len bytes at key stand for name? */
static int key_is(const char *key, apr_size_t len, const char *name)
{
    const char *wrong;
    json_object *decoded;
    int same;

    if (memchr(key, '\\', len) == NULL) {
        return strlen(name) == len - 2 && memcmp(key + 1, name, len - 2) == 0;
    }
    decoded = parse_value(key, len, 1, &wrong);
    same = json_object_is_type(decoded, json_type_string)
           && strcmp(json_object_get_string(decoded), name) == 0;
    json_object_put(decoded);
    return same;
}

/* The last member of that name in an object's text. */
static us_json_slice member_slice(us_json_slice object, const char *name)
{
    us_json_slice found = {NULL, 0};
    const char *p = skip_blanks(object.text);

    if (*p != '{') {
        return found;
    }
    p = skip_blanks(p + 1);
    while (*p == '"') {
        const char *key = p;
        const char *key_end = skip_string(p);
        const char *value = skip_blanks(skip_blanks(key_end) + 1);

        p = skip_value(value);
        if (key_is(key, (apr_size_t)(key_end - key), name)) {
            found.text = value;
            found.len = (apr_size_t)(p - value);
        }
        p = skip_blanks(p);
        if (*p == ',') {
            p = skip_blanks(p + 1);
        }
    }
    return found;
}

us_json_slice us_json_raw(const us_json *doc, const char *const *path)
{
    us_json_slice slice = {NULL, 0};

    if (doc != NULL) {
        slice = doc->text;
    }
    for (; *path != NULL && slice.text != NULL; path++) {
        slice = member_slice(slice, *path);
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
    const char *wrong;

    json_object_object_add(
        out->root, name,
        parse_value(value, strlen(value), US_JSON_ANSWER_DEPTH, &wrong));
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
