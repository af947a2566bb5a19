/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * supabase/claims.c: the user of an access token that stands alone, and what
 * is no such token.
 */
#include "jwt.h"
#include "tap.h"
#include "us_config.h"
#include "supabase/claims.h"

#include <apr_escape.h>
#include <apr_general.h>
#include <apr_strings.h>

#define ID "7f1a2c9e-3b54-4d0e-9c61-52a8d0b4e117"
#define SUB "\"sub\":\"" ID "\""

/* Filled in first, so that unchanged members are noticed. */
#define UNTOUCHED 0x55

static apr_pool_t *pool;
static us_identity identity;

enum { COLUMN_ID, COLUMN_EMAIL, COLUMN_PHONE, COLUMN_NAME, COLUMN_GUEST };

static const apr_array_header_t *columns(void)
{
    static const us_column wanted[]
        = {[COLUMN_ID] = {US_FIELD_ID, NULL, NULL, NULL},
           [COLUMN_EMAIL] = {US_FIELD_EMAIL, NULL, NULL, NULL},
           [COLUMN_PHONE] = {US_FIELD_PHONE, NULL, NULL, NULL},
           [COLUMN_NAME] = {US_FIELD_USER_METADATA, "name", NULL, NULL},
           [COLUMN_GUEST] = {US_FIELD_IS_ANONYMOUS, NULL, NULL, NULL}};
    apr_array_header_t *list = apr_array_make(pool, 5, sizeof(us_column));
    apr_size_t i;

    for (i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
        APR_ARRAY_PUSH(list, us_column) = wanted[i];
    }
    return list;
}

/* The text may go on after the slice, which no NUL ends. */
static int take_slice(const char *text, apr_size_t len)
{
    us_slice token = {text, len};

    memset(&identity, UNTOUCHED, sizeof(identity));
    identity.id = NULL;
    identity.proven = 0;
    return us_claims_take_token(pool, token, columns(), &identity);
}

static int take(const char *token)
{
    return take_slice(token, strlen(token));
}

static int take_claims(const char *claims)
{
    return take(jwt_of(pool, claims));
}

static void nobody_ok(int found, const char *name)
{
    ok(!found && identity.id == NULL && !identity.proven, "nobody: %s",
       apr_pescape_echo(pool, name, 0));
}

/* --- who it is --- */

static void test_user(void)
{
    ok(take_claims("{" SUB ",\"email\":\"ada@example.com\",\"phone\":\"\","
                   "\"iat\":1787217302,\"is_anonymous\":false,"
                   "\"user_metadata\":{\"name\":\"Ada \\\"L\\u00e9\\\"\"}}"),
       "the user of a token");
    ok(identity.proven, "is proven");
    is_str(identity.id, ID, "has the id of sub");
    is_str(identity.values[COLUMN_ID].text, ID, "which is a value");
    is_str(identity.values[COLUMN_EMAIL].text, "ada@example.com", "an e-mail");
    is_str(identity.values[COLUMN_EMAIL].json, "\"ada@example.com\"",
           "also as JSON");
    is_str(identity.values[COLUMN_PHONE].text, NULL, "no phone");
    is_str(identity.values[COLUMN_NAME].text, "Ada \"L\xC3\xA9\"", "a name");
    is_str(identity.values[COLUMN_GUEST].json, "false", "and no guest's");
    is_str(identity.as_of, "2026-08-20T09:15:02.000000Z",
           "as of when it was made");
    ok(take_claims("{" SUB "}"), "an id is enough");
    is_str(identity.as_of, NULL, "of a time that nobody knows");
    is_str(identity.values[COLUMN_EMAIL].text, NULL, "without an e-mail");
    ok(take_claims("{\"sub\":\"7F1A2C9E-3B54-4D0E-9C61-52A8D0B4E117\"}"),
       "an id in upper case");
    is_str(identity.id, ID, "is taken in lower case");
    ok(take_claims("{\"sub\":\"7f1a2c9e\\u002d3b54-4d0e-9c61-52a8d0b4e117\"}"),
       "an id with an escape");
    is_str(identity.id, ID, "is decoded");
    ok(take_claims("{\"sub\":\"x\"," SUB ",\"id\":\"y\"}"),
       "of two the last one counts");
}

/* What else there is of a token does not matter: it is not verified here. */
static void test_around(void)
{
    const char *payload = jwt_encoded(pool, "{" SUB "}", strlen("{" SUB "}"));
    static const char *const around[][2]
        = {{"a", "b"},   {"", ""},         {"", "b"},  {"a", ""},
           {"a", "b.c"}, {"\xFF", "\xFF"}, {" ", " "}, {"a", "b.c.d"}};
    apr_size_t i;

    for (i = 0; i < sizeof(around) / sizeof(around[0]); i++) {
        ok(take(apr_pstrcat(pool, around[i][0], ".", payload, ".",
                            around[i][1], NULL)),
           "between \"%s\" and \"%s\"",
           apr_pescape_echo(pool, around[i][0], 0),
           apr_pescape_echo(pool, around[i][1], 0));
    }
    ok(take(apr_pstrcat(pool, "a.", payload, "==.b", NULL)), "with padding");
    nobody_ok(take(payload), "without dots");
    nobody_ok(take(apr_pstrcat(pool, "a.", payload, NULL)), "with one dot");
    nobody_ok(take(apr_pstrcat(pool, payload, ".b", NULL)), "before a dot");
    nobody_ok(take(apr_pstrcat(pool, payload, ".a.b", NULL)), "first of all");
    nobody_ok(take(apr_pstrcat(pool, "a.b.", payload, NULL)), "last of all");
    nobody_ok(take(apr_pstrcat(pool, "a..", payload, ".b", NULL)),
              "after an empty one");
    nobody_ok(take_slice(apr_pstrcat(pool, "a.", payload, ".b", NULL),
                         2 + strlen(payload)),
              "with a dot after the end");
}

/* --- what is no payload --- */

static void test_encodings(void)
{
    static const char *const bad[] = {
        "",         ".",          "..",      "a.b.c",  "a.b",       "a. .c",
        "a.=.c",    "a.====.c",   "a.A.c",   "a.AA.c", "a.\xFF.c",  "a.e30.c",
        "a.e30=.c", "a.bnVsbA.c", "a.W10.c", "a.MQ.c", "a.IngiIA.c"};
    /* {"sub":"<ID>"} in other alphabets, and with something in the middle */
    const char *payload = jwt_encoded(pool, "{" SUB "}", strlen("{" SUB "}"));
    static const char *const inside[]
        = {" ", "\n", "%", "@", "=", "\xC3\xA9", "*", "\\u0041"};
    apr_size_t i;

    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        nobody_ok(take(bad[i]), bad[i]);
    }
    for (i = 0; i < sizeof(inside) / sizeof(inside[0]); i++) {
        nobody_ok(
            take(apr_pstrcat(pool, "a.", apr_pstrmemdup(pool, payload, 8),
                             inside[i], payload + 8, ".c", NULL)),
            inside[i]);
    }
    for (i = 1; i < strlen(payload); i++) {
        nobody_ok(
            take(apr_pstrcat(pool, "a.", apr_pstrmemdup(pool, payload, i),
                             ".c", NULL)),
            "a part of a payload");
    }
}

/* The letters that base64url has in place of base64's. */
static void test_alphabet(void)
{
    const char *claims
        = "{\"a\":\"\xC3\xBE\xC3\xBF>>>???\xEF\xBB\xBF\"," SUB "}";
    const char *token = jwt_of(pool, claims);
    char *other = apr_pstrdup(pool, token);
    char *p;

    ok(strchr(token, '-') != NULL && strchr(token, '_') != NULL,
       "a payload with both of them");
    ok(take(token), "is read");
    for (p = other; *p != '\0'; p++) {
        *p = (char)(*p == '-' ? '+' : *p == '_' ? '/' : *p);
    }
    ok(take(other), "and so is base64's alphabet");
}

/* --- claims --- */

static void test_bad_claims(void)
{
    static const char *const bad[] = {
        "{}",
        "[]",
        "null",
        "\"" ID "\"",
        "7",
        "",
        " ",
        "{",
        "{" SUB,
        "{" SUB "}x",
        "{" SUB "}{}",
        "{" SUB ",}",
        "{\"sub\":null}",
        "{\"sub\":7}",
        "{\"sub\":true}",
        "{\"sub\":[\"" ID "\"]}",
        "{\"sub\":{\"id\":\"" ID "\"}}",
        "{\"sub\":\"\"}",
        "{\"sub\":\"ada\"}",
        "{\"sub\":\"ada@example.com\"}",
        "{\"sub\":\"7f1a2c9e3b544d0e9c6152a8d0b4e117\"}",
        "{\"sub\":\"{" ID "}\"}",
        "{\"sub\":\"urn:uuid:" ID "\"}",
        "{\"sub\":\" " ID "\"}",
        "{\"sub\":\"" ID " \"}",
        "{\"sub\":\"" ID "\\u0000\"}",
        "{\"sub\":\"7f1a2c9e-3b54-4d0e-9c61-52a8d0b4e11\"}",
        "{\"sub\":\"7f1a2c9e-3b54-4d0e-9c61-52a8d0b4e117a\"}",
        "{\"sub\":\"7g1a2c9e-3b54-4d0e-9c61-52a8d0b4e117\"}",
        "{\"sub\":\"7f1a2c9e-3b54-4d0e-9c6152a8d0b4e117-\"}",
        "{\"Sub\":\"" ID "\"}",
        "{\"id\":\"" ID "\"}",
        "{\"user\":{\"id\":\"" ID "\"," SUB "}}",
        "{\"claims\":{" SUB "}}",
        "{" SUB ",\"sub\":\"ada\"}",
        "{" SUB ",\"sub\":null}",
        "{" SUB ",\"x\":\"\xFF\"}",
        "{" SUB ",\"x\":\"\\u0000\"}",
        "{" SUB ",\"x\":NaN}",
    };
    apr_size_t i;

    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        nobody_ok(take_claims(bad[i]), bad[i]);
    }
}

/* An issue time, and as of when the user is known. */
static const struct {
    const char *iat;
    const char *as_of;
} times[] = {
    {"1787217302", "2026-08-20T09:15:02.000000Z"},
    {"1", "1970-01-01T00:00:01.000000Z"},
    {"1787217302.999", "2026-08-20T09:15:02.000000Z"},
    {"253402300799", "9999-12-31T23:59:59.000000Z"},
    {"253402300800", NULL},
    {"9223372036854775807", NULL},
    {"9223372036854775808", NULL},
    {"18446744073709551616", NULL},
    {"99999999999999999999999999", NULL},
    {"0", NULL},
    {"-0", NULL},
    {"-1", NULL},
    {"-9223372036854775809", NULL},
    {"null", NULL},
    {"true", NULL},
    {"\"1787217302\"", NULL},
    {"\"2026-08-20T09:15:02Z\"", NULL},
    {"[1787217302]", NULL},
    {"{\"iat\":1787217302}", NULL},
};

static void test_times(void)
{
    apr_size_t i;

    for (i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
        ok(take_claims(apr_pstrcat(pool, "{" SUB ",\"iat\":", times[i].iat,
                                   ",\"updated_at\":"
                                   "\"2031-01-01T00:00:00Z\"}",
                                   NULL)),
           "a user, with iat %s", times[i].iat);
        is_str(identity.as_of, times[i].as_of, "who is of that time");
    }
}

/* --- large and deep --- */

static char *repeated(const char *text, apr_size_t count)
{
    apr_size_t len = strlen(text);
    char *all = apr_palloc(pool, len * count + 1);
    apr_size_t i;

    for (i = 0; i < count; i++) {
        memcpy(all + i * len, text, len);
    }
    all[len * count] = '\0';
    return all;
}

static const char *nested(int depth)
{
    return apr_pstrcat(pool,
                       "{" SUB ",\"x\":", repeated("[", (apr_size_t)depth - 1),
                       repeated("]", (apr_size_t)depth - 1), "}", NULL);
}

static void test_sizes(void)
{
    apr_size_t million = (apr_size_t)1024 * 1024;

    ok(take_claims(apr_pstrcat(pool, "{\"x\":\"", repeated("<", million),
                               "\"," SUB "}", NULL)),
       "a payload of 1 MiB");
    is_str(identity.id, ID, "has its user");
    nobody_ok(take(repeated("a", million)), "1 MiB without a dot");
    nobody_ok(take(repeated(".", million)), "1 MiB of dots");
    nobody_ok(
        take(apr_pstrcat(pool, "a.", repeated("A", million), ".c", NULL)),
        "1 MiB of zeros");
    ok(take_claims(nested(US_JSON_ANSWER_DEPTH)), "as deep as may be");
    nobody_ok(take_claims(nested(US_JSON_ANSWER_DEPTH + 1)), "deeper");
}

int main(void)
{
    apr_initialize();
    apr_pool_create(&pool, NULL);
    test_user();
    test_around();
    test_encodings();
    test_alphabet();
    test_bad_claims();
    test_times();
    test_sizes();
    apr_pool_destroy(pool);
    apr_terminate();
    return done();
}
