/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * base/json.c reads: it accepts RFC 8259 and nothing else, members and slices
 * are what was sent, and no copy of a secret survives the parsing.
 */
#include "json_cases.h"
#include "json_spy.h"
#include "tap.h"
#include "us_json.h"

#include <apr_general.h>
#include <apr_strings.h>

#include <stdlib.h>

static apr_pool_t *pool;

/* --- accept and refuse --- */

/* Bytes as a TAP line may show them: '#' would start a directive. */
static const char *readable(const char *text, apr_size_t len)
{
    const char *shown = "";
    apr_size_t i;

    for (i = 0; i < len && i < 40; i++) {
        unsigned char c = (unsigned char)text[i];
        int plain = c >= ' ' && c < 0x7F && c != '#';

        shown = apr_psprintf(pool, plain ? "%s%c" : "%s<%02X>", shown, c);
    }
    return len > 40 ? apr_pstrcat(pool, shown, "...", NULL) : shown;
}

/* Parses a copy that ends where the text ends, so that a sanitizer notices any
 * read after it. */
static int is_taken(const char *text, apr_size_t len)
{
    apr_pool_t *own;
    us_json *doc = NULL;
    const char *wrong;
    char *copy = malloc(len > 0 ? len : 1);
    int contract;

    memcpy(copy, text, len);
    apr_pool_create(&own, pool);
    wrong = us_json_parse(own, copy, len, US_JSON_ANSWER_DEPTH, &doc);
    contract = (wrong == NULL) == (doc != NULL);
    apr_pool_destroy(own);
    free(copy);
    if (!contract) {
        ok(0, "a document exactly when nothing is wrong");
    }
    return wrong == NULL;
}

static void test_tables(void)
{
    int i;

    for (i = 0; json_accepted[i].text != NULL; i++) {
        ok(is_taken(json_accepted[i].text, json_accepted[i].len), "takes %s",
           readable(json_accepted[i].text, json_accepted[i].len));
    }
    for (i = 0; json_refused[i].text != NULL; i++) {
        ok(!is_taken(json_refused[i].text, json_refused[i].len), "refuses %s",
           readable(json_refused[i].text, json_refused[i].len));
    }
}

/* Each byte that is not allowed raw in a string, raw and after a backslash. */
static void test_control_characters(void)
{
    char raw[] = "{\"a\":\"x?y\"}";
    char escaped[] = "{\"a\":\"x\\?y\"}";
    char key[] = "{\"x?y\":1}";
    int c;

    for (c = 0; c < 0x20; c++) {
        raw[7] = (char)c;
        escaped[8] = (char)c;
        key[3] = (char)c;
        ok(!is_taken(raw, sizeof(raw) - 1)
               && !is_taken(escaped, sizeof(escaped) - 1)
               && !is_taken(key, sizeof(key) - 1),
           "refuses the raw character %02X in strings and names", c);
    }
}

/* Every byte after a backslash: eight are escapes, u needs digits. */
static void test_escapes(void)
{
    char text[] = "{\"a\":\"\\?\"}";
    char taken[16] = "";
    apr_size_t count = 0;
    int c;

    for (c = 1; c < 256; c++) {
        text[7] = (char)c;
        if (is_taken(text, sizeof(text) - 1) && count < sizeof(taken) - 1) {
            taken[count++] = (char)c;
        }
    }
    is_str(taken, "\"/\\bfnrt", "the escapes of one character");
}

/* Every truncation of a document with one of everything. */
static void test_truncation(void)
{
    static const char text[]
        = "{\"s\":\"a\\u00e9\xC3\xA9\\\"\",\"n\":-1.5e+3,\"o\":{\"t\":true},"
          "\"l\":[false,null,{}]}";
    apr_size_t len;
    int taken = 0;

    for (len = 0; len < sizeof(text) - 1; len++) {
        taken += is_taken(text, len);
    }
    is_int(taken, 0, "refuses a document cut off anywhere");
    ok(is_taken(text, sizeof(text) - 1), "takes it whole");
}

/* An object with nested arrays, depth levels in all. */
static char *nested(apr_size_t depth, char inner)
{
    static const char head[] = "{\"a\":";
    char *text = apr_pcalloc(pool, sizeof(head) + 2 * depth + 2);
    char *p = text + sizeof(head) - 1;

    memcpy(text, head, sizeof(head) - 1);
    memset(p, '[', depth - 1);
    p += depth - 1;
    *p++ = inner;
    memset(p, ']', depth - 1);
    p[depth - 1] = '}';
    return text;
}

static int is_taken_at(int depth, const char *text)
{
    us_json *doc = NULL;

    return us_json_parse(pool, text, strlen(text), depth, &doc) == NULL;
}

static void test_depth(void)
{
    static const int depths[] = {US_JSON_REQUEST_DEPTH, US_JSON_ANSWER_DEPTH};
    apr_size_t i;

    for (i = 0; i < sizeof(depths) / sizeof(depths[0]); i++) {
        apr_size_t depth = (apr_size_t)depths[i];

        ok(is_taken_at(depths[i], nested(depth - 1, '1')),
           "takes nesting below %d", depths[i]);
        ok(!is_taken_at(depths[i], nested(depth + 1, '1')),
           "refuses nesting beyond it");
        ok(!is_taken_at(depths[i], nested(100000, '1')),
           "refuses an abyss, without falling");
    }
}

/* --- members --- */

static us_json *parse(const char *text)
{
    us_json *doc = NULL;
    const char *wrong
        = us_json_parse(pool, text, strlen(text), US_JSON_ANSWER_DEPTH, &doc);

    if (wrong != NULL) {
        ok(0, "%s: %s", text, wrong);
    }
    return doc;
}

static const char *slice_text(us_slice slice)
{
    return slice.text != NULL ? apr_pstrmemdup(pool, slice.text, slice.len)
                              : NULL;
}

static void test_types(void)
{
    us_json *doc = parse("{\"s\":\"\",\"o\":{},\"a\":[],\"n\":1,\"d\":1.5,"
                         "\"t\":true,\"f\":false,\"z\":null}");

    is_int(us_json_type_of(doc, US_JSON_PATH("s")), US_JSON_STRING, "string");
    is_int(us_json_type_of(doc, US_JSON_PATH("o")), US_JSON_OBJECT, "object");
    is_int(us_json_type_of(doc, US_JSON_PATH("a")), US_JSON_ARRAY, "array");
    is_int(us_json_type_of(doc, US_JSON_PATH("n")), US_JSON_OTHER, "integer");
    is_int(us_json_type_of(doc, US_JSON_PATH("d")), US_JSON_OTHER, "double");
    is_int(us_json_type_of(doc, US_JSON_PATH("t")), US_JSON_OTHER, "true");
    is_int(us_json_type_of(doc, US_JSON_PATH("f")), US_JSON_OTHER, "false");
    is_int(us_json_type_of(doc, US_JSON_PATH("z")), US_JSON_NONE, "null");
    is_int(us_json_type_of(doc, US_JSON_PATH("x")), US_JSON_NONE, "missing");
    is_int(us_json_type_of(doc, US_JSON_PATH("s", "x")), US_JSON_NONE,
           "a member of a string");
    is_int(us_json_type_of(doc, US_JSON_PATH("a", "x")), US_JSON_NONE,
           "a member of an array");
}

/* The meaning of a string literal. */
static const struct {
    const char *literal;
    const char *decoded;
} strings[] = {
    {"\"\"", ""},
    {"\"plain\"", "plain"},
    {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t"},
    {"\"\\u0041\\u00e9\\u20AC\"", "A\xC3\xA9\xE2\x82\xAC"},
    {"\"\\uD83D\\uDE00\"", "\xF0\x9F\x98\x80"},
    {"\"\\\\u0000\"", "\\u0000"},
    {"\"\xC3\xA9\xF0\x9F\x98\x80\"", "\xC3\xA9\xF0\x9F\x98\x80"},
    {"\"\x7F\"", "\x7F"},
    /* bytes beyond ASCII beside escapes, and on either side of each length */
    {"\"caf\xC3\xA9 \\\"x\\\"\"", "caf\xC3\xA9 \"x\""},
    {"\"\xE2\x82\xAC\\u20ac\xF0\x9F\x98\x80\\uD83D\\uDE00\"",
     "\xE2\x82\xAC\xE2\x82\xAC\xF0\x9F\x98\x80\xF0\x9F\x98\x80"},
    {"\"\\u0001\\u007f\\u0080\\u07ff\\u0800\"",
     "\x01\x7F\xC2\x80\xDF\xBF\xE0\xA0\x80"},
    {"\"\\ud7ff\\ue000\\uFFFF\\ud800\\udc00\\udbff\\udfff\"",
     "\xED\x9F\xBF\xEE\x80\x80\xEF\xBF\xBF\xF0\x90\x80\x80"
     "\xF4\x8F\xBF\xBF"},
    /* half a pair is no character, and never invalid UTF-8 */
    {"\"\\uD83D\"", "\xEF\xBF\xBD"},
    {"\"\\uDE00x\"", "\xEF\xBF\xBDx"},
    {"\"\\uD83D\\n\"", "\xEF\xBF\xBD\n"},
    {"\"\\uD83D\\u0041\"", "\xEF\xBF\xBD"
                           "A"},
    {"\"\\uD83D\\uD83D\\uDE00\"", "\xEF\xBF\xBD\xF0\x9F\x98\x80"},
    {"\"\\uD83D\xC3\xA9\"", "\xEF\xBF\xBD\xC3\xA9"},
    {"\"\\uD83D\\\\uDE00\"", "\xEF\xBF\xBD\\uDE00"},
};

static void test_strings(void)
{
    apr_size_t i;

    for (i = 0; i < sizeof(strings) / sizeof(strings[0]); i++) {
        us_json *doc = parse(
            apr_pstrcat(pool, "{\"v\":", strings[i].literal, "}", NULL));
        apr_size_t len = 12345;
        const char *text = us_json_string(doc, US_JSON_PATH("v"), &len);

        is_str(text, strings[i].decoded, "decodes %s", strings[i].literal);
        is_int((long long)len, (long long)strlen(strings[i].decoded),
               "and sets its length");
        is_str(slice_text(us_json_raw(doc, US_JSON_PATH("v"))),
               strings[i].literal, "and keeps its escapes in the slice");
    }
}

static void test_no_string(void)
{
    us_json *doc = parse("{\"n\":1,\"z\":null,\"o\":{\"s\":\"x\"},\"l\":[]}");

    is_str(us_json_string(doc, US_JSON_PATH("n"), NULL), NULL,
           "a number is no string");
    is_str(us_json_string(doc, US_JSON_PATH("z"), NULL), NULL,
           "null is no string");
    is_str(us_json_string(doc, US_JSON_PATH("o"), NULL), NULL,
           "an object is no string");
    is_str(us_json_string(doc, US_JSON_PATH("x"), NULL), NULL,
           "what is missing is no string");
    is_str(us_json_string(doc, US_JSON_PATH("o", "s"), NULL), "x",
           "a string further down");
    is_str(us_json_string(doc, US_JSON_PATH("n", "s"), NULL), NULL,
           "nothing is below a number");
}

static void test_no_document(void)
{
    is_int(us_json_type_of(NULL, US_JSON_PATH("a")), US_JSON_NONE,
           "no document: no type");
    is_str(us_json_string(NULL, US_JSON_PATH("a"), NULL), NULL,
           "no document: no string");
    ok(us_json_raw(NULL, US_JSON_PATH("a")).text == NULL,
       "no document: no slice");
    is_int(us_json_array_has(NULL, US_JSON_PATH("a"), "b", "c"), 0,
           "no document: no array");
}

static void test_array_has(void)
{
    us_json *doc = parse("{\"i\":[1,null,\"u\",[],{\"u\":7},{\"u\":\"a\"},"
                         "{\"v\":\"c\",\"u\":\"b\"},"
                         "{\"u\":\"\xC3\xA9\\n\"}],\"e\":[],\"o\":"
                         "{\"u\":\"a\"}}");

    is_int(us_json_array_has(doc, US_JSON_PATH("i"), "u", "a"), 1,
           "finds an element by its member");
    is_int(us_json_array_has(doc, US_JSON_PATH("i"), "u", "b"), 1,
           "whatever stands beside that member");
    is_int(us_json_array_has(doc, US_JSON_PATH("i"), "u", "\xC3\xA9\n"), 1,
           "and what is written with bytes and escapes");
    is_int(us_json_array_has(doc, US_JSON_PATH("i"), "u", "c"), 0,
           "the member's name counts");
    is_int(us_json_array_has(doc, US_JSON_PATH("i"), "u", "A"), 0,
           "and the value's case");
    is_int(us_json_array_has(doc, US_JSON_PATH("i"), "u", "7"), 0,
           "a number is not its digits");
    is_int(us_json_array_has(doc, US_JSON_PATH("e"), "u", "a"), 0,
           "nothing is in an empty array");
    is_int(us_json_array_has(doc, US_JSON_PATH("o"), "u", "a"), 0,
           "an object is no array");
    is_int(us_json_array_has(doc, US_JSON_PATH("x"), "u", "a"), 0,
           "a missing array has nothing");
}

/* --- slices --- */

/* Path "a" or "a.b" in the text; what us_json_raw must give. */
static const struct {
    const char *text;
    const char *first;
    const char *second;
    const char *slice;
} slices[] = {
    {"{\"a\":1}", "a", NULL, "1"},
    {" { \"a\" : -1.50e+3 } ", "a", NULL, "-1.50e+3"},
    {"{\"a\":123456789012345678901234567890}", "a", NULL,
     "123456789012345678901234567890"},
    {"{\"a\":true,\"b\":null}", "b", NULL, "null"},
    {"{\"a\":\"\\u0065\\/\"}", "a", NULL, "\"\\u0065\\/\""},
    {"{\"a\":\n[1, {\"x\":\"]\"} ]\t,\"b\":2}", "a", NULL,
     "[1, {\"x\":\"]\"} ]"},
    {"{\"a\":{ \"b\" : {} } }", "a", NULL, "{ \"b\" : {} }"},
    {"{\"a\":{\"b\":[ ]}}", "a", "b", "[ ]"},
    {"{\"b\":{\"a\":1},\"a\":2}", "a", NULL, "2"},
    {"{\"b\":[{\"a\":1}]}", "a", NULL, NULL},
    {"{\"b\":\"a\",\"c\":\"\\\"a\\\":7\"}", "a", NULL, NULL},
    {"{\"s\":\"}{\\\"a\\\":1,\\\\\",\"a\":3}", "a", NULL, "3"},
    {"{\"s\":[\"]\",\"\\\\\"],\"a\":4}", "a", NULL, "4"},
    {"{\"s\":\"\",\"a\":\"\"}", "a", NULL, "\"\""},
    /* duplicates: the last one counts, on each level */
    {"{\"a\":1,\"a\":2}", "a", NULL, "2"},
    {"{\"a\":{\"b\":1},\"a\":{\"b\":2}}", "a", "b", "2"},
    {"{\"a\":{\"b\":1},\"a\":{\"c\":2}}", "a", "b", NULL},
    {"{\"a\":{\"b\":1},\"a\":7}", "a", "b", NULL},
    {"{\"a\":{\"b\":1,\"b\":null}}", "a", "b", "null"},
    /* names with escapes are the same names */
    {"{\"\\u0061\":5}", "a", NULL, "5"},
    {"{\"a\":1,\"\\u0061\":2}", "a", NULL, "2"},
    {"{\"\\u0061\":1,\"a\":2}", "a", NULL, "2"},
    {"{\"\\u0061\":{\"\\u0062\":6}}", "a", "b", "6"},
    {"{\"a\\\"\":1,\"a\":2}", "a\"", NULL, "1"},
    {"{\"\\\\u0061\":1}", "a", NULL, NULL},
    {"{\"A\":1,\"aa\":2,\"\":3}", "a", NULL, NULL},
    {"{\"A\":1,\"aa\":2,\"\":3}", "", NULL, "3"},
    {"{\"\\u00e9\":1,\"\xC3\xA9\":2}", "\xC3\xA9", NULL, "2"},
    {"{\"\xC3\xA9\\\"\":1,\"\xC3\xA9\":2}", "\xC3\xA9\"", NULL, "1"},
    {"{\"\xC3\xA9\\u00e9\":1}", "\xC3\xA9", NULL, NULL},
    {"{\"\\uD83D\\uDE00\":1}", "\xF0\x9F\x98", NULL, NULL},
    /* nothing below what is no object */
    {"{\"a\":1}", "a", "b", NULL},
    {"{\"a\":\"{\\\"b\\\":1}\"}", "a", "b", NULL},
    {"{\"a\":[{\"b\":1}]}", "a", "b", NULL},
    {"{}", "a", NULL, NULL},
};

static void test_slices(void)
{
    apr_size_t i;

    for (i = 0; i < sizeof(slices) / sizeof(slices[0]); i++) {
        us_json *doc = parse(slices[i].text);
        const char *const path[] = {slices[i].first, slices[i].second, NULL};
        us_slice slice = us_json_raw(doc, path);

        is_str(slice_text(slice), slices[i].slice, "%s of %s", slices[i].first,
               readable(slices[i].text, strlen(slices[i].text)));
        /* type and slice must belong to the same member */
        ok((us_json_type_of(doc, path) == US_JSON_NONE)
               == (slice.text == NULL
                   || (slice.len == 4 && memcmp(slice.text, "null", 4) == 0)),
           "and the member is seen in the same place");
    }
}

static void test_slice_is_no_copy(void)
{
    static const char text[] = " {\"a\":[1]} ";
    us_json *doc = parse(text);
    us_slice whole = us_json_raw(doc, US_JSON_PATH(NULL));

    ok(us_json_raw(doc, US_JSON_PATH("a")).text == text + 6,
       "a slice points into the text");
    ok(whole.text == text + 1 && whole.len == sizeof(text) - 3,
       "no path: the object itself");
}

/* --- secrets --- */

#define SECRET "correct horse battery"

/* Is this memory, which a pool has not freed yet, all zero? */
static int is_wiped(const char *memory, apr_size_t len)
{
    apr_size_t i;

    for (i = 0; i < len && memory[i] == '\0'; i++) {
    }
    return i == len;
}

static const struct {
    const char *text;
    const char *literal; /* of password */
} secrets[] = {
    {"{\"password\":\"" SECRET "\",\"b\":[{\"c\":\"" SECRET "\"}]}",
     "\"" SECRET "\""},
    {"{\"password\":1,\"password\":\"" SECRET "\"}", "\"" SECRET "\""},
    {"{\"password\":\"\\u0063orrect horse battery\"}",
     "\"\\u0063orrect horse battery\""},
    {"{\"pass\\u0077ord\":\"" SECRET "\"}", "\"" SECRET "\""},
};

/* Reading makes no copy; decoding makes one, which is wiped. */
static void test_wiping(void)
{
    apr_size_t i;

    for (i = 0; i < sizeof(secrets) / sizeof(secrets[0]); i++) {
        const char *text = secrets[i].text;
        us_json *doc = NULL;
        us_slice raw;
        const char *copy;

        spy_on(SECRET);
        us_json_parse(pool, text, strlen(text), US_JSON_ANSWER_DEPTH, &doc);
        copy = us_json_string(doc, US_JSON_PATH("password"), NULL);
        is_str(copy, SECRET, "decoded: %s", text);
        is_int(spy_readings(), 0, "json-c has not read it");
        is_int(spy_leaks(), 0, "nor was it given it");
        raw = us_json_raw(doc, US_JSON_PATH("password"));
        ok(raw.len == strlen(secrets[i].literal)
               && memcmp(raw.text, secrets[i].literal, raw.len) == 0,
           "the literal as it came");
        us_json_free(doc);
        ok(is_wiped(copy, strlen(SECRET)), "the decoded copy is wiped");
    }
}

static const char *copy_in_pool;
static int copy_was_wiped;

/* Runs after cleanups that were registered later; the memory still exists. */
static apr_status_t look_at_copy(void *data)
{
    (void)data;
    copy_was_wiped = is_wiped(copy_in_pool, strlen(SECRET));
    return APR_SUCCESS;
}

static void test_wiping_with_the_pool(void)
{
    apr_pool_t *own;
    us_json *doc = NULL;

    apr_pool_create(&own, pool);
    apr_pool_cleanup_register(own, NULL, look_at_copy, apr_pool_cleanup_null);
    us_json_parse(own, secrets[0].text, strlen(secrets[0].text),
                  US_JSON_ANSWER_DEPTH, &doc);
    copy_in_pool = us_json_string(doc, US_JSON_PATH("password"), NULL);
    apr_pool_destroy(own);
    ok(copy_was_wiped, "a destroyed pool wipes what was decoded in it");
}

/* What was read before the text turned out to be invalid is wiped. */
static void test_wiping_after_refusal(void)
{
    static const char *const texts[] = {
        "{\"password\":\"" SECRET "\",}",
        "{\"password\":\"" SECRET "\"",
        "{\"a\":[{\"password\":\"" SECRET "\"},}",
        "{\"password\":\"" SECRET "\\x\"}",
        "[\"" SECRET "\"]",
        "\"" SECRET "\"",
    };
    apr_size_t i;

    for (i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        us_json *doc = NULL;
        const char *wrong;

        spy_on(SECRET);
        wrong = us_json_parse(pool, texts[i], strlen(texts[i]),
                              US_JSON_ANSWER_DEPTH, &doc);
        ok(wrong != NULL && strstr(wrong, SECRET) == NULL && doc == NULL,
           "refused, and the reason does not quote: %s", texts[i]);
        is_int(spy_readings() + spy_leaks(), 0, "json-c has not seen it");
    }
}

/* --- writing --- */

static const struct {
    const char *text;
    const char *literal;
} quoted[] = {
    {"", "\"\""},
    {"ada@example.com", "\"ada@example.com\""},
    {"\"\\/", "\"\\\"\\\\/\""},
    {"\b\f\n\r\t", "\"\\b\\f\\n\\r\\t\""},
    {"\x01\x1F", "\"\\u0001\\u001f\""},
    {"</script>", "\"</script>\""},
    {"\xC3\xA9\xF0\x9F\x98\x80\x7F", "\"\xC3\xA9\xF0\x9F\x98\x80\x7F\""},
};

static void test_quote(void)
{
    apr_size_t i;

    for (i = 0; i < sizeof(quoted) / sizeof(quoted[0]); i++) {
        const char *literal;
        us_json *doc;

        spy_on(quoted[i].text);
        literal = us_json_quote(pool, quoted[i].text);
        is_int(spy_leaks(), 1, "json-c writes it");
        is_int(spy_releases(), 1, "and what that takes is freed");
        doc = parse(apr_pstrcat(pool, "{\"v\":", literal, "}", NULL));
        is_str(literal, quoted[i].literal, "writes %s", quoted[i].literal);
        is_str(us_json_string(doc, US_JSON_PATH("v"), NULL), quoted[i].text,
               "and reads it back");
    }
}

static void test_writer(void)
{
    us_json_out *out = us_json_out_create(pool);
    apr_size_t len = 0;
    const char *text;

    is_str(us_json_out_text(out, &len), "{}", "an empty object");
    is_int((long long)len, 2, "and its length");
    us_json_out_string(out, "s", "a\"b");
    us_json_out_int(out, "n", -404);
    us_json_out_raw(out, "r", "[\"length\", \"\xC3\xA9\\u00e9\"]");
    us_json_out_complaint(out, "errors", "email", "is required");
    us_json_out_complaint(out, "errors", "", "is \\ wrong");
    text = us_json_out_text(out, &len);
    is_str(text,
           "{\"s\":\"a\\\"b\",\"n\":-404,"
           "\"r\":[\"length\", \"\xC3\xA9\\u00e9\"],"
           "\"errors\":[{\"field\":\"email\",\"message\":\"is required\"},"
           "{\"field\":\"\",\"message\":\"is \\\\ wrong\"}]}",
           "members in the order in which they were written");
    is_int((long long)len, (long long)strlen(text), "and their length");
    ok(is_taken(text, len), "and our own parser takes it");
}

static void test_writer_frees(void)
{
    apr_pool_t *own;
    us_json_out *out;

    apr_pool_create(&own, pool);
    out = us_json_out_create(own);
    us_json_out_string(out, "a", "b");
    spy_on("never");
    apr_pool_destroy(own);
    is_int(spy_releases(), 1, "the writer's tree is freed with its pool");
}

int main(void)
{
    apr_initialize();
    apr_pool_create(&pool, NULL);
    test_tables();
    test_control_characters();
    test_escapes();
    test_truncation();
    test_depth();
    test_types();
    test_strings();
    test_no_string();
    test_no_document();
    test_array_has();
    test_slices();
    test_slice_is_no_copy();
    test_wiping();
    test_wiping_with_the_pool();
    test_wiping_after_refusal();
    test_quote();
    test_writer();
    test_writer_frees();
    apr_pool_destroy(pool);
    apr_terminate();
    return done();
}
