/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "us_json_scan.h"

#include <apr_lib.h>

#include <string.h>

#define NO_ITEM APR_UINT32_MAX

static const char *const no_end = "unexpected end of data";
static const char *const no_token = "unexpected character";

/* What may come next. */
typedef enum expectation {
    VALUE,
    VALUE_OR_END, /* after [ */
    NAME,
    NAME_OR_END, /* after { */
    COMMA_OR_END,
    NOTHING
} expectation;

typedef struct scanner {
    apr_pool_t *pool;
    const char *text;
    const char *p;
    const char *end;
    us_json_list *list;
    apr_uint32_t room; /* of list->items */
    apr_uint32_t open; /* the innermost open array or object, or NO_ITEM; the
                        * next of an open item is the one around it */
    int depth;         /* how many more may be opened */
} scanner;

/* --- the list --- */

/* Adds an item that starts at p; end_item fills in the rest. */
static us_json_item *add_item(scanner *s)
{
    us_json_list *list = s->list;
    us_json_item *item;

    if (list->count == s->room) {
        us_json_item *more;

        s->room *= 2;
        more = apr_palloc(s->pool, s->room * sizeof(*more));
        memcpy(more, list->items, list->count * sizeof(*more));
        list->items = more;
    }
    item = &list->items[list->count++];
    item->start = (apr_uint32_t)(s->p - s->text);
    return item;
}

static void end_item(const scanner *s, us_json_item *item)
{
    item->len = (apr_uint32_t)(s->p - s->text) - item->start;
    item->next = s->list->count;
}

/* --- strings --- */

/*
 * The length of the UTF-8 sequence at p (RFC 3629: no overlong forms, no
 * surrogates, nothing above U+10FFFF), or 0 if it is not one.
 */
static apr_size_t utf8_length(const unsigned char *p, const unsigned char *end)
{
    unsigned char low = 0x80;
    unsigned char high = 0xBF;
    apr_size_t len;
    apr_size_t i;

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

/* p is at a backslash. */
static const char *scan_escape(scanner *s)
{
    int i;

    if (s->end - s->p < 2) {
        return no_end;
    }
    if (s->p[1] != 'u') {
        if (s->p[1] == '\0' || strchr("\"\\/bfnrt", s->p[1]) == NULL) {
            return "not an escape";
        }
        s->p += 2;
        return NULL;
    }
    if (s->end - s->p < 6) {
        return no_end;
    }
    for (i = 2; i < 6; i++) {
        if (!apr_isxdigit(s->p[i])) {
            return "not an escape";
        }
    }
    if (memcmp(s->p, "\\u0000", 6) == 0) {
        return "U+0000 in a string";
    }
    s->p += 6;
    return NULL;
}

/* The bytes that stand for themselves in a string: ASCII without control
 * characters, the quote and the backslash.  Others are negative here. */
static int is_plain(signed char c)
{
    return c >= 0x20 && c != '"' && c != '\\';
}

/* Sixteen bytes that are looked at as one (GCC's vectors), and what came of
 * it. */
typedef signed char sixteen __attribute__((vector_size(16)));
typedef apr_uint64_t halves __attribute__((vector_size(16)));

/* How many of the eight bytes that a half stands for come before the first one
 * that is marked; big-endian machines count byte by byte. */
static apr_size_t unmarked(apr_uint64_t half)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    return (apr_size_t)__builtin_ctzll(half) / 8;
#else
    (void)half;
    return 0;
#endif
}

static const char *skip_plain(const char *p, const char *end)
{
    while ((apr_size_t)(end - p) >= sizeof(sixteen)) {
        sixteen bytes;
        halves special;

        memcpy(&bytes, p, sizeof(bytes));
        special = (halves)((bytes < 0x20) | (bytes == '"') | (bytes == '\\'));
        if (special[0] != 0) {
            p += unmarked(special[0]);
            break;
        }
        if (special[1] != 0) {
            p += sizeof(special[0]) + unmarked(special[1]);
            break;
        }
        p += sizeof(bytes);
    }
    while (p < end && is_plain((signed char)*p)) {
        p++;
    }
    return p;
}

/* p is at a byte that is not plain. */
static const char *scan_special(scanner *s)
{
    apr_size_t len;

    if (*s->p == '\\') {
        return scan_escape(s);
    }
    if ((unsigned char)*s->p < 0x20) {
        return "control character in a string";
    }
    len = utf8_length((const unsigned char *)s->p,
                      (const unsigned char *)s->end);
    s->p += len;
    return len == 0 ? "invalid UTF-8" : NULL;
}

/* p is at a quote. */
static const char *scan_string(scanner *s)
{
    const char *wrong = NULL;

    s->p++;
    while (wrong == NULL) {
        s->p = skip_plain(s->p, s->end);
        if (s->p == s->end) {
            return no_end;
        }
        if (*s->p == '"') {
            s->p++;
            return NULL;
        }
        wrong = scan_special(s);
    }
    return wrong;
}

/* --- numbers and words --- */

/* Skips digits; returns 0 if there is none. */
static int skip_digits(scanner *s)
{
    const char *start = s->p;

    while (s->p < s->end && apr_isdigit(*s->p)) {
        s->p++;
    }
    return s->p > start;
}

static int skip_one(scanner *s, const char *of)
{
    if (s->p == s->end || *s->p == '\0' || strchr(of, *s->p) == NULL) {
        return 0;
    }
    s->p++;
    return 1;
}

/* p is at a minus or a digit. */
static const char *scan_number(scanner *s)
{
    int good;

    skip_one(s, "-");
    good = skip_one(s, "0") || skip_digits(s);
    if (good && skip_one(s, ".")) {
        good = skip_digits(s);
    }
    if (good && skip_one(s, "eE")) {
        skip_one(s, "+-");
        good = skip_digits(s);
    }
    return good ? NULL : "not a number";
}

static const char *scan_word(scanner *s)
{
    static const char *const words[] = {"true", "false", "null"};
    apr_size_t i;

    for (i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        apr_size_t len = strlen(words[i]);

        if ((apr_size_t)(s->end - s->p) >= len
            && memcmp(s->p, words[i], len) == 0) {
            s->p += len;
            return NULL;
        }
    }
    return no_token;
}

/* --- the grammar --- */

static int in_object(const scanner *s)
{
    return s->text[s->list->items[s->open].start] == '{';
}

static const char *open_nested(scanner *s, expectation *next)
{
    us_json_item *item;

    if (s->depth-- == 0) {
        return US_JSON_TOO_DEEP;
    }
    item = add_item(s);
    item->next = s->open;
    s->open = s->list->count - 1;
    *next = *s->p == '{' ? NAME_OR_END : VALUE_OR_END;
    s->p++;
    return NULL;
}

/* What may come after a value. */
static expectation behind_value(const scanner *s)
{
    return s->open == NO_ITEM ? NOTHING : COMMA_OR_END;
}

static const char *close_nested(scanner *s, expectation *next)
{
    us_json_item *item = &s->list->items[s->open];

    if (*s->p != (in_object(s) ? '}' : ']')) {
        return no_token;
    }
    s->p++;
    s->open = item->next;
    s->depth++;
    end_item(s, item);
    *next = behind_value(s);
    return NULL;
}

static const char *scan_value(scanner *s, expectation *next)
{
    us_json_item *item;
    const char *wrong;

    if (*s->p == '{' || *s->p == '[') {
        return open_nested(s, next);
    }
    item = add_item(s);
    if (*s->p == '"') {
        wrong = scan_string(s);
    }
    else if (*s->p == '-' || apr_isdigit(*s->p)) {
        wrong = scan_number(s);
    }
    else {
        wrong = scan_word(s);
    }
    end_item(s, item);
    *next = behind_value(s);
    return wrong;
}

static void skip_blanks(scanner *s)
{
    while (
        s->p < s->end
        && (*s->p == ' ' || *s->p == '\t' || *s->p == '\n' || *s->p == '\r')) {
        s->p++;
    }
}

/* A member's name and its colon. */
static const char *scan_name(scanner *s, expectation *next)
{
    us_json_item *item;
    const char *wrong;

    if (*s->p != '"') {
        return no_token;
    }
    item = add_item(s);
    wrong = scan_string(s);
    if (wrong != NULL) {
        return wrong;
    }
    end_item(s, item);
    skip_blanks(s);
    if (s->p == s->end) {
        return no_end;
    }
    if (*s->p != ':') {
        return no_token;
    }
    s->p++;
    *next = VALUE;
    return NULL;
}

/* Takes one step; p is at a byte that is not white space. */
static const char *step(scanner *s, expectation *next)
{
    switch (*next) {
    case VALUE:
        return scan_value(s, next);
    case VALUE_OR_END:
        return *s->p == ']' ? close_nested(s, next) : scan_value(s, next);
    case NAME:
        return scan_name(s, next);
    case NAME_OR_END:
        return *s->p == '}' ? close_nested(s, next) : scan_name(s, next);
    case COMMA_OR_END:
        if (*s->p != ',') {
            return close_nested(s, next);
        }
        s->p++;
        *next = in_object(s) ? NAME : VALUE;
        return NULL;
    case NOTHING:
        break;
    }
    return no_token;
}

const char *us_json_scan(apr_pool_t *pool, const char *text, apr_size_t len,
                         int depth, us_json_list *out)
{
    scanner s = {pool, text, text, text + len, out, 0, NO_ITEM, depth};
    expectation next = VALUE;
    const char *wrong = NULL;

    if (len > APR_INT32_MAX) {
        return "too long";
    }
    /* a session has about one item per 14 bytes */
    s.room = (apr_uint32_t)len / 12 + 16;
    out->items = apr_palloc(pool, s.room * sizeof(*out->items));
    out->count = 0;
    skip_blanks(&s);
    while (wrong == NULL && s.p < s.end) {
        wrong = step(&s, &next);
        skip_blanks(&s);
    }
    return wrong != NULL || next == NOTHING ? wrong : no_end;
}
