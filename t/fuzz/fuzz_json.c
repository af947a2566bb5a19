/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * base/json.c.  Input: JSON text.  The module's result must be that of
 * strict.c.  The same input is also quoted as a text.
 */
#include "fuzz.h"
#include "us_json.h"

#include <apr_strings.h>

#include <string.h>

/* How many members are looked at, and how deep: this limits the time. */
#define MAX_MEMBERS 40
#define MAX_LEVELS 4

typedef struct walk {
    apr_pool_t *pool;
    const us_json *doc;
    const char *path[MAX_LEVELS + 1];
    int members;
} walk;

static us_json_type type_of(const strict_node *node)
{
    switch (node->kind) {
    case STRICT_NULL:
        return US_JSON_NONE;
    case STRICT_STRING:
        return US_JSON_STRING;
    case STRICT_ARRAY:
        return US_JSON_ARRAY;
    case STRICT_OBJECT:
        return US_JSON_OBJECT;
    default:
        return US_JSON_OTHER;
    }
}

/* {"v": text} as a document of the module. */
static us_json *wrapped(apr_pool_t *pool, const char *text)
{
    const char *object = apr_pstrcat(pool, "{\"v\":", text, "}", NULL);
    us_json *doc = NULL;

    require(
        us_json_parse(pool, object, strlen(object), US_JSON_ANSWER_DEPTH, &doc)
            == NULL,
        "a slice or a quoted string is JSON by itself");
    return doc;
}

static void check_string(walk *w, const strict_node *node, const char *string,
                         apr_size_t len)
{
    const char *again = us_json_string(
        wrapped(w->pool, apr_pstrmemdup(w->pool, node->text, node->len)),
        US_JSON_PATH("v"), NULL);
    const char *quoted = us_json_quote(w->pool, string);
    const char *back
        = us_json_string(wrapped(w->pool, quoted), US_JSON_PATH("v"), NULL);

    require(len == strlen(string), "no string holds a NUL");
    require(strict_is(node, string), "a string is what it says");
    require(again != NULL && strcmp(again, string) == 0,
            "a slice of a string is that string");
    require(back != NULL && strcmp(back, string) == 0,
            "a quoted string is that string");
    require(
        strict_is(strict_parse(w->pool, quoted, strlen(quoted), NULL), string),
        "a quoted string is JSON");
}

/* Every string that the array's objects have must be found. */
static void check_array(walk *w, const strict_node *array)
{
    const strict_node *item;
    int left = MAX_MEMBERS;

    for (item = array->first; item != NULL && left > 0; item = item->next) {
        const strict_node *member
            = item->kind == STRICT_OBJECT ? item->first : NULL;

        for (; member != NULL && left > 0; member = member->next, left--) {
            const strict_node *last = strict_member(item, member->name);

            if (last->kind == STRICT_STRING) {
                require(us_json_array_has(w->doc, w->path, member->name,
                                          last->string),
                        "array_has finds what is there");
            }
            require(!us_json_array_has(w->doc, w->path, member->name,
                                       "\x01nowhere"),
                    "array_has finds nothing else");
        }
    }
}

static void check_member(walk *w, const strict_node *node)
{
    us_slice raw = us_json_raw(w->doc, w->path);
    apr_size_t len = 0;
    const char *string = us_json_string(w->doc, w->path, &len);

    require(raw.text == node->text && raw.len == node->len,
            "a slice is exactly the member's text");
    require(us_json_type_of(w->doc, w->path) == type_of(node),
            "the type is that of the text");
    require((string != NULL) == (node->kind == STRICT_STRING),
            "strings are strings, and nothing else is");
    (void)wrapped(w->pool, apr_pstrmemdup(w->pool, raw.text, raw.len));
    if (string != NULL) {
        check_string(w, node, string, len);
    }
    if (node->kind == STRICT_ARRAY) {
        check_array(w, node);
    }
}

static void check_object(walk *w, const strict_node *object, int level)
{
    const strict_node *member;

    for (member = object->first; member != NULL && w->members < MAX_MEMBERS;
         member = member->next) {
        const strict_node *last = strict_member(object, member->name);

        w->members++;
        w->path[level] = member->name;
        check_member(w, last);
        if (last->kind == STRICT_OBJECT && level + 1 < MAX_LEVELS) {
            check_object(w, last, level + 1);
        }
        w->path[level] = NULL;
    }
}

/* Is the text accepted when it should be? */
static void check_taken(const strict_node *root, int depth, int limit,
                        const char *wrong, const us_json *doc)
{
    int good = root != NULL && root->kind == STRICT_OBJECT;

    require((wrong == NULL) == (doc != NULL), "a document or what is wrong");
    require(wrong != NULL || good, "what is taken is a JSON object");
    require(!good || wrong == NULL || depth >= limit,
            "a JSON object is taken");
    require(wrong != NULL || depth <= limit, "nothing too deep is taken");
}

/* A literal for this text, whatever bytes it has. */
static const char *literal_of(apr_pool_t *pool, const char *text)
{
    char *literal = apr_palloc(pool, 6 * strlen(text) + 3);
    char *end = literal;

    *end++ = '"';
    for (; *text != '\0'; text++) {
        unsigned char byte = (unsigned char)*text;

        if (byte < ' ' || byte == '"' || byte == '\\') {
            end += apr_snprintf(end, 7, "\\u%04X", byte);
        }
        else {
            *end++ = *text;
        }
    }
    *end++ = '"';
    *end = '\0';
    return literal;
}

/* Only UTF-8 is quoted, and the literal has the same meaning. */
static void check_quote(apr_pool_t *pool, const char *text)
{
    const char *literal = literal_of(pool, text);
    const char *quoted = us_json_quote_checked(pool, text);
    int good = strict_parse(pool, literal, strlen(literal), NULL) != NULL;

    require((quoted != NULL) == good, "what is quoted is UTF-8");
    require(quoted == NULL
                || strict_is(strict_parse(pool, quoted, strlen(quoted), NULL),
                             text),
            "a text that was quoted is that text");
}

void fuzz_one(apr_pool_t *pool, const char *data, apr_size_t size)
{
    us_json *doc = NULL;
    us_json *shallow = NULL;
    int depth = 0;
    const strict_node *root = strict_parse(pool, data, size, &depth);
    const char *wrong
        = us_json_parse(pool, data, size, US_JSON_ANSWER_DEPTH, &doc);

    check_quote(pool, apr_pstrmemdup(pool, data, size));
    check_taken(root, depth, US_JSON_ANSWER_DEPTH, wrong, doc);
    wrong = us_json_parse(pool, data, size, US_JSON_REQUEST_DEPTH, &shallow);
    check_taken(root, depth, US_JSON_REQUEST_DEPTH, wrong, shallow);
    if (doc != NULL && root != NULL) {
        walk w = {pool, doc, {NULL}, 0};

        require(us_json_type_of(doc, US_JSON_PATH("\x01nowhere"))
                    == US_JSON_NONE,
                "a member that is not there is none");
        check_object(&w, root, 0);
        us_json_free(doc);
    }
}
