/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Strings are read eight bytes at a time, and compared by their first byte
 * first (base/json_scan.c, base/json.c): where a byte stands makes no
 * difference.
 */
#include "tap.h"
#include "us_json.h"

#include <apr_general.h>
#include <apr_strings.h>

#include <string.h>

#define TEXT_LEN ((apr_size_t)17) /* twice eight, and one */
#define START ((apr_size_t)6)

static apr_pool_t *pool;

static us_json *parse(const char *text)
{
    us_json *doc = NULL;

    return us_json_parse(pool, text, strlen(text), US_JSON_ANSWER_DEPTH, &doc)
                   == NULL
               ? doc
               : NULL;
}

/* Digits: no backslash before them is an escape. */
static void test_every_byte(void)
{
    int c;

    for (c = 1; c < 256; c++) {
        int is_plain = c >= 0x20 && c < 0x80 && c != '"' && c != '\\';
        int taken = 0;
        apr_size_t i;

        for (i = 0; i < TEXT_LEN; i++) {
            char text[] = "{\"a\":\"01234567012345670\"}";

            text[START + i] = (char)c;
            taken += parse(text) != NULL;
        }
        is_int(taken, is_plain ? (int)TEXT_LEN : 0, "%s %02X in each place",
               is_plain ? "takes" : "refuses", c);
    }
}

/* What needs a closer look is found behind any number of plain bytes. */
static void test_every_place(void)
{
    apr_size_t i;

    for (i = 0; i <= TEXT_LEN; i++) {
        const char *before
            = apr_psprintf(pool, "%.*s", (int)i, "01234567012345670");
        us_json *doc = parse(apr_pstrcat(pool, "{\"a\":\"", before,
                                         "\\n\xC3\xA9", before, "\"}", NULL));

        is_str(us_json_string(doc, US_JSON_PATH("a"), NULL),
               apr_pstrcat(pool, before, "\n\xC3\xA9", before, NULL),
               "an escape and a letter behind %d bytes", (int)i);
    }
}

/* Names that begin alike, that are longer, and that have escapes. */
static void test_names(void)
{
    us_json *doc = parse("{\"\":\"none\",\"i\":\"short\",\"ids\":\"long\","
                         "\"\\u0069d\":\"id\",\"x\\u0069\":\"last\"}");

    is_str(us_json_string(doc, US_JSON_PATH("id"), NULL), "id",
           "a name that begins with an escape");
    is_str(us_json_string(doc, US_JSON_PATH("xi"), NULL), "last",
           "a name that ends with one");
    is_str(us_json_string(doc, US_JSON_PATH("i"), NULL), "short",
           "the beginning of another name");
    is_str(us_json_string(doc, US_JSON_PATH("ids"), NULL), "long",
           "and what begins with it");
    is_str(us_json_string(doc, US_JSON_PATH(""), NULL), "none",
           "the empty name");
    ok(us_json_string(doc, US_JSON_PATH("xid"), NULL) == NULL,
       "no name that only begins so");
}

int main(void)
{
    apr_initialize();
    apr_pool_create(&pool, NULL);
    test_every_byte();
    test_every_place();
    test_names();
    apr_pool_destroy(pool);
    apr_terminate();
    return done();
}
