/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "strict.h"

#include <string.h>

typedef struct reader {
    apr_pool_t *pool;
    const char *p;
    const char *end;
    int depth;
    int deepest;
} reader;

static strict_node *read_value(reader *in);

/* The byte at p + ahead, or -1 after the end. */
static int peek(const reader *in, int ahead)
{
    return in->end - in->p > ahead ? (unsigned char)in->p[ahead] : -1;
}

/* Skips that byte if it comes next. */
static int take(reader *in, int byte)
{
    if (peek(in, 0) != byte) {
        return 0;
    }
    in->p++;
    return 1;
}

static void skip_space(reader *in)
{
    while (take(in, ' ') || take(in, '\t') || take(in, '\n')
           || take(in, '\r')) {
    }
}

static int take_digits(reader *in)
{
    int count = 0;

    while (peek(in, 0) >= '0' && peek(in, 0) <= '9') {
        in->p++;
        count++;
    }
    return count;
}

/* number = [ minus ] int [ frac ] [ exp ] */
static int read_number(reader *in)
{
    (void)take(in, '-');
    if (!take(in, '0') && take_digits(in) == 0) {
        return 0;
    }
    if (take(in, '.') && take_digits(in) == 0) {
        return 0;
    }
    if (take(in, 'e') || take(in, 'E')) {
        if (!take(in, '+')) {
            (void)take(in, '-');
        }
        return take_digits(in) > 0;
    }
    return 1;
}

static int read_word(reader *in, const char *word)
{
    for (; *word != '\0'; word++) {
        if (!take(in, *word)) {
            return 0;
        }
    }
    return 1;
}

/* --- strings --- */

static char *put_code_point(char *out, long code)
{
    if (code < 0x80) {
        *out++ = (char)code;
    }
    else if (code < 0x800) {
        *out++ = (char)(0xC0 | (code >> 6));
        *out++ = (char)(0x80 | (code & 0x3F));
    }
    else if (code < 0x10000) {
        *out++ = (char)(0xE0 | (code >> 12));
        *out++ = (char)(0x80 | ((code >> 6) & 0x3F));
        *out++ = (char)(0x80 | (code & 0x3F));
    }
    else {
        *out++ = (char)(0xF0 | (code >> 18));
        *out++ = (char)(0x80 | ((code >> 12) & 0x3F));
        *out++ = (char)(0x80 | ((code >> 6) & 0x3F));
        *out++ = (char)(0x80 | (code & 0x3F));
    }
    return out;
}

/* The code point of the next UTF-8 sequence; -1: none. */
static long read_utf8(reader *in)
{
    static const long smallest[] = {0, 0, 0x80, 0x800, 0x10000};
    int first = peek(in, 0);
    long code = 0;
    int len;
    int i;

    if (first < 0x80) {
        in->p++;
        return first;
    }
    len = first >= 0xF0 ? 4 : (first >= 0xE0 ? 3 : 2);
    code = first & (0x7F >> len);
    if (first < 0xC0 || first >= 0xF8) {
        return -1;
    }
    for (i = 1; i < len; i++) {
        if ((peek(in, i) & 0xC0) != 0x80 || peek(in, i) < 0) {
            return -1;
        }
        code = code << 6 | (peek(in, i) & 0x3F);
    }
    if (code < smallest[len] || code > 0x10FFFF
        || (code >= 0xD800 && code <= 0xDFFF)) {
        return -1;
    }
    in->p += len;
    return code;
}

/* The next four hex digits; -1: none. */
static long read_hex(reader *in)
{
    static const char digits[] = "0123456789abcdef0123456789ABCDEF";
    long code = 0;
    int i;

    for (i = 0; i < 4; i++) {
        int byte = peek(in, 0);
        const char *digit = byte > 0 ? strchr(digits, byte) : NULL;

        if (digit == NULL) {
            return -1;
        }
        code = code << 4 | ((digit - digits) & 0xF);
        in->p++;
    }
    return code;
}

/* The escape after a backslash; half a surrogate pair is U+FFFD. */
static long read_escape(reader *in)
{
    static const char names[] = "\"\\/bfnrt";
    static const char values[] = "\"\\/\b\f\n\r\t";
    int byte = peek(in, 0);
    const char *name = byte > 0 ? strchr(names, byte) : NULL;
    long high;
    long low = -1;

    if (name != NULL) {
        in->p++;
        return values[name - names];
    }
    if (!take(in, 'u')) {
        return -1;
    }
    high = read_hex(in);
    if (high < 0xD800 || high > 0xDFFF) {
        return high;
    }
    if (high < 0xDC00 && peek(in, 0) == '\\' && peek(in, 1) == 'u') {
        const char *start = in->p;

        in->p += 2;
        low = read_hex(in);
        if (low < 0xDC00 || low > 0xDFFF) {
            in->p = start; /* it is read again, separately */
            low = -1;
        }
    }
    return low < 0 ? 0xFFFD : 0x10000 + ((high - 0xD800) << 10) + low - 0xDC00;
}

/* Room for the next string, decoded: no escape is shorter than its meaning. */
static char *string_room(const reader *in)
{
    int len = 1;

    while (peek(in, len) >= 0 && peek(in, len) != '"') {
        len += peek(in, len) == '\\' ? 2 : 1;
    }
    return apr_palloc(in->pool, (apr_size_t)len + 4);
}

/* The next string, decoded; NULL: none. */
static const char *read_string(reader *in)
{
    char *string = string_room(in);
    char *out = string;

    if (!take(in, '"')) {
        return NULL;
    }
    while (!take(in, '"')) {
        long code = -1;

        if (take(in, '\\')) {
            code = read_escape(in);
        }
        else if (peek(in, 0) >= 0x20) {
            code = read_utf8(in);
        }
        if (code <= 0) {
            return NULL;
        }
        out = put_code_point(out, code);
    }
    *out = '\0';
    return string;
}

/* --- arrays and objects --- */

static strict_node *read_member(reader *in)
{
    strict_node *node = NULL;
    const char *name = read_string(in);

    skip_space(in);
    if (name != NULL && take(in, ':')) {
        node = read_value(in);
    }
    if (node != NULL) {
        node->name = name;
    }
    return node;
}

static int read_items(reader *in, strict_node *node, int close)
{
    strict_node **end = &node->first;

    in->p++;
    skip_space(in);
    if (take(in, close)) {
        return 1;
    }
    do {
        skip_space(in);
        *end = close == '}' ? read_member(in) : read_value(in);
        if (*end == NULL) {
            return 0;
        }
        end = &(*end)->next;
    } while (take(in, ','));
    return take(in, close);
}

static int read_nested(reader *in, strict_node *node, int close)
{
    int good;

    in->depth++;
    if (in->depth > in->deepest) {
        in->deepest = in->depth;
    }
    good = in->depth <= STRICT_MAX_DEPTH && read_items(in, node, close);
    in->depth--;
    return good;
}

/* A value and the white space around it. */
static strict_node *read_value(reader *in)
{
    strict_node *node = apr_pcalloc(in->pool, sizeof(*node));
    int good = 0;

    skip_space(in);
    node->text = in->p;
    switch (peek(in, 0)) {
    case '{':
        node->kind = STRICT_OBJECT;
        good = read_nested(in, node, '}');
        break;
    case '[':
        node->kind = STRICT_ARRAY;
        good = read_nested(in, node, ']');
        break;
    case '"':
        node->kind = STRICT_STRING;
        node->string = read_string(in);
        good = node->string != NULL;
        break;
    case 't':
    case 'f':
        node->kind = STRICT_BOOLEAN;
        good = read_word(in, peek(in, 0) == 't' ? "true" : "false");
        break;
    case 'n':
        node->kind = STRICT_NULL;
        good = read_word(in, "null");
        break;
    default:
        node->kind = STRICT_NUMBER;
        good = read_number(in);
        break;
    }
    node->len = (apr_size_t)(in->p - node->text);
    skip_space(in);
    return good ? node : NULL;
}

strict_node *strict_parse(apr_pool_t *pool, const char *text, apr_size_t len,
                          int *depth)
{
    reader in = {pool, text, text + len, 0, 0};
    strict_node *node = read_value(&in);

    if (depth != NULL) {
        *depth = in.deepest;
    }
    return in.p == in.end ? node : NULL;
}

/* --- looking at it --- */

const strict_node *strict_member(const strict_node *node, const char *name)
{
    const strict_node *found = NULL;
    const strict_node *member;

    if (node == NULL || node->kind != STRICT_OBJECT) {
        return NULL;
    }
    for (member = node->first; member != NULL; member = member->next) {
        if (strcmp(member->name, name) == 0) {
            found = member;
        }
    }
    return found;
}

int strict_is(const strict_node *node, const char *string)
{
    return node != NULL && node->string != NULL && string != NULL
           && strcmp(node->string, string) == 0;
}

int strict_is_kind(apr_pool_t *pool, const char *text, apr_size_t len,
                   strict_kind kind)
{
    const strict_node *node = strict_parse(pool, text, len, NULL);

    return node != NULL && node->kind == kind;
}
