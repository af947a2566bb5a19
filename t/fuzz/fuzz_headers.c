/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_headers_strip.  Input: header lines.  Nothing may be left that CGI reads
 * as a header of ours or that makes a proxy drop one, and nothing else may be
 * lost, changed or moved.
 */
#include "fuzz.h"
#include "doors/headers.h"

#include <apr_strings.h>
#include <apr_tables.h>

#include <string.h>

#define MAX_LINES 100

/* --- a separate judgement of names --- */

static int is_letter_or_digit(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z')
           || (c >= 'a' && c <= 'z');
}

/* The variable that CGI would make of it, without HTTP_. */
static const char *mangled(apr_pool_t *pool, const char *name)
{
    char *variable = apr_pstrdup(pool, name);
    char *p;

    for (p = variable; *p != '\0'; p++) {
        if (!is_letter_or_digit(*p)) {
            *p = '_';
        }
        else if (*p >= 'a') {
            *p = (char)(*p - 'a' + 'A');
        }
    }
    return variable;
}

static int is_ours(apr_pool_t *pool, const char *name)
{
    const char *variable = mangled(pool, name);

    return strcmp(variable, "X_USER_ID") == 0
           || strcmp(variable, "X_USER_EMAIL") == 0
           || strcmp(variable, "X_USERSYNC_OUTCOME") == 0;
}

static int is_blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* --- words of Connection --- */

/* All words of a list, at any separator that a proxy may use. */
static void add_words(apr_pool_t *pool, const char *list,
                      apr_array_header_t *words)
{
    const char *start = list;
    const char *p;

    for (p = list;; p++) {
        if (*p == '\0' || *p == ',' || *p == ';' || is_blank(*p)) {
            if (p > start) {
                APR_ARRAY_PUSH(words, const char *)
                    = apr_pstrmemdup(pool, start, (apr_size_t)(p - start));
            }
            start = p + 1;
        }
        if (*p == '\0') {
            break;
        }
    }
}

/* The next word, as read by a proxy for which quotes hold words together;
 * NULL: none. */
static const char *next_token(apr_pool_t *pool, const char **list)
{
    const char *p = *list;
    const char *start;

    while (*p == ',' || *p == ';' || is_blank(*p)) {
        p++;
    }
    start = p;
    while (*p != '\0' && *p != ',' && *p != ';' && !is_blank(*p)) {
        if (*p++ == '"') {
            const char *end = strchr(p, '"');

            p = end != NULL ? end + 1 : p + strlen(p);
        }
    }
    *list = p;
    return p > start ? apr_pstrmemdup(pool, start, (apr_size_t)(p - start))
                     : NULL;
}

/* --- requests --- */

typedef struct picture {
    apr_pool_t *pool;
    apr_array_header_t *others; /* name and value of each, in order */
    apr_array_header_t *lines;  /* of Connection */
    apr_array_header_t *words;  /* of these, without ours */
    int ours;                   /* our headers */
    int ours_dropped;           /* our names in Connection */
} picture;

static int add_to_picture(void *data, const char *name, const char *value)
{
    picture *seen = data;
    int i;

    if (is_ours(seen->pool, name)) {
        seen->ours++;
    }
    else if (strcasecmp(name, "Connection") != 0) {
        APR_ARRAY_PUSH(seen->others, const char *) = name;
        APR_ARRAY_PUSH(seen->others, const char *) = value;
    }
    else {
        apr_array_header_t *words
            = apr_array_make(seen->pool, 4, sizeof(char *));

        APR_ARRAY_PUSH(seen->lines, const char *) = value;
        add_words(seen->pool, value, words);
        for (i = 0; i < words->nelts; i++) {
            const char *word = APR_ARRAY_IDX(words, i, const char *);

            if (is_ours(seen->pool, word)) {
                seen->ours_dropped++;
            }
            else {
                APR_ARRAY_PUSH(seen->words, const char *) = word;
            }
        }
    }
    return 1;
}

static picture picture_of(apr_pool_t *pool, const apr_table_t *headers)
{
    picture seen = {pool,
                    apr_array_make(pool, 10, sizeof(char *)),
                    apr_array_make(pool, 2, sizeof(char *)),
                    apr_array_make(pool, 10, sizeof(char *)),
                    0,
                    0};

    apr_table_do(add_to_picture, &seen, headers, NULL);
    return seen;
}

static int same(const apr_array_header_t *a, const apr_array_header_t *b)
{
    int i;

    for (i = 0; i < a->nelts && i < b->nelts; i++) {
        if (strcmp(APR_ARRAY_IDX(a, i, const char *),
                   APR_ARRAY_IDX(b, i, const char *))
            != 0) {
            return 0;
        }
    }
    return a->nelts == b->nelts;
}

static void check_tokens(apr_pool_t *pool, const apr_array_header_t *lines)
{
    int i;

    for (i = 0; i < lines->nelts; i++) {
        const char *list = APR_ARRAY_IDX(lines, i, const char *);
        const char *token;

        while ((token = next_token(pool, &list)) != NULL) {
            require(!is_ours(pool, token), "no proxy drops a header of ours");
        }
    }
}

static void check_names(apr_pool_t *pool, const picture *before)
{
    int i;

    for (i = 0; i < before->others->nelts; i += 2) {
        require(!us_headers_is_ours(
                    APR_ARRAY_IDX(before->others, i, const char *)),
                "what is not ours is not");
    }
    for (i = 0; i < before->words->nelts; i++) {
        const char *word = APR_ARRAY_IDX(before->words, i, const char *);

        require(!us_headers_is_ours(mangled(pool, word))
                    == !is_ours(pool, word),
                "a mangled name is ours when the name is");
    }
}

static apr_table_t *read_headers(apr_pool_t *pool, const char *data,
                                 apr_size_t size)
{
    apr_table_t *headers = apr_table_make(pool, 10);
    char *rest = apr_pstrmemdup(pool, data, size);
    char *name;
    int i;

    for (i = 0; i < MAX_LINES && (name = strsep(&rest, "\n")) != NULL; i++) {
        char *value = strchr(name, ':');

        if (value != NULL) {
            *value++ = '\0';
        }
        apr_table_addn(headers, name, value != NULL ? value : "");
    }
    return headers;
}

void fuzz_one(apr_pool_t *pool, const char *data, apr_size_t size)
{
    apr_table_t *headers = read_headers(pool, data, size);
    picture before = picture_of(pool, headers);
    picture after;
    picture again;

    us_headers_strip(pool, headers);
    after = picture_of(pool, headers);
    require(after.ours == 0, "no header of ours is left");
    require(after.ours_dropped == 0, "Connection names none of ours");
    require(same(before.others, after.others), "other headers stay");
    require(same(before.words, after.words), "Connection keeps other words");
    require(before.ours_dropped > 0 || same(before.lines, after.lines),
            "Connection without us is not touched");
    check_tokens(pool, after.lines);
    check_names(pool, &before);
    us_headers_strip(pool, headers);
    again = picture_of(pool, headers);
    require(same(after.others, again.others) && same(after.lines, again.lines),
            "there is nothing left to do");
}
