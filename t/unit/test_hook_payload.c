/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * supabase/hook_payload.c: what is read from the bodies of a real Supabase
 * Auth and from made ones; what is refused; and which names get into the log.
 */
#include "fixtures.h"
#include "hook_captures.h"
#include "tap.h"
#include "us_config.h"
#include "us_hook_payload.h"

#include <apr_general.h>
#include <apr_lib.h>
#include <apr_strings.h>

#include <stdlib.h>

#define ID "7f1a2c9e-3b54-4d0e-9c61-52a8d0b4e117"
#define UPPER "7F1A2C9E-3B54-4D0E-9C61-52A8D0B4E117"
#define OTHER "00000000-3b54-4d0e-9c61-52a8d0b4e117"

#define TOKEN_HOOK "customize-access-token"

static apr_pool_t *pool;
static const hook_capture *captures;
static us_call call;
static us_hook_payload payload;

static const us_column columns[] = {
    {US_FIELD_ID, NULL, NULL, NULL},
    {US_FIELD_EMAIL, NULL, NULL, NULL},
    {US_FIELD_PHONE, NULL, NULL, NULL},
    {US_FIELD_USER_METADATA, "full_name", NULL, NULL},
    {US_FIELD_USER_METADATA, "n", NULL, NULL},
    {US_FIELD_APP_METADATA, "providers", NULL, NULL},
};
enum { AT_ID, AT_EMAIL, AT_PHONE, AT_NAME, AT_N, AT_PROVIDERS, COLUMNS };

/* --- helpers --- */

static us_outcome read_slice(us_slice body)
{
    apr_array_header_t *list
        = apr_array_make(pool, COLUMNS, sizeof(us_column));
    int i;

    for (i = 0; i < COLUMNS; i++) {
        APR_ARRAY_PUSH(list, us_column) = columns[i];
    }
    memset(&call, 0, sizeof(call));
    call.pool = pool;
    memset(&payload, 0x55, sizeof(payload));
    return us_hook_payload_read(&call, body, list, &payload);
}

/* Kept for the payload's slice, at exactly its length. */
static us_slice last_body;

static void keep(const char *text, apr_size_t len)
{
    char *copy = malloc(len > 0 ? len : 1);

    memcpy(copy, text, len);
    free((void *)(apr_uintptr_t)last_body.text);
    last_body.text = copy;
    last_body.len = len;
}

static us_outcome read_body(const char *text)
{
    keep(text, strlen(text));
    return read_slice(last_body);
}

/* A body of the token hook; claims behind "sub". */
static const char *token_body(const char *name, const char *method,
                              const char *user_id, const char *claims)
{
    return apr_pstrcat(pool, "{\"metadata\":{\"name\":\"", name,
                       "\"},\"user_id\":\"", user_id, "\",\"claims\":{",
                       claims, "},\"authentication_method\":\"", method, "\"}",
                       NULL);
}

static const char *token(const char *claims)
{
    return token_body(TOKEN_HOOK, "password", ID, claims);
}

static void is_value(int at, const char *text, const char *json,
                     const char *name)
{
    const us_value *value = &payload.identity.values[at];

    is_str(value->text, text, "%s: column %d", name, at);
    is_str(value->json, json, "%s: its JSON", name);
}

/* --- captures --- */

static const struct {
    us_hook_kind kind;
    const char *about;
    const char *id; /* NULL: no identity */
    const char *email;
    const char *name;
} expected[HOOK_CAPTURES] = {
    {US_HOOK_BEFORE_CREATED, "before-user-created", NULL, NULL, NULL},
    {US_HOOK_AFTER_CREATED, "after-user-created",
     "426dfb82-ea84-47b7-a1cb-c81043d690b7", "cyd@example.com", "Cyd"},
    {US_HOOK_TOKEN, TOKEN_HOOK ", anonymous",
     "6466fabc-9a74-46de-a5ef-66724a538eb4", NULL, NULL},
    {US_HOOK_TOKEN, TOKEN_HOOK ", otp", "27f67b07-ac1a-4ab3-8234-6a446a6ef206",
     "ada@example.com", "Ada <&> \xC3\x96"},
    {US_HOOK_TOKEN, TOKEN_HOOK ", password",
     "27f67b07-ac1a-4ab3-8234-6a446a6ef206", "ada@example.com",
     "Ada <&> \xC3\x96"},
    {US_HOOK_TOKEN, TOKEN_HOOK ", token_refresh",
     "27f67b07-ac1a-4ab3-8234-6a446a6ef206", "ada@example.com",
     "Ada <&> \xC3\x96"},
    {US_HOOK_TOKEN, TOKEN_HOOK ", password",
     "27f67b07-ac1a-4ab3-8234-6a446a6ef206", "ada@example.com",
     "Ada <&> \xC3\x96"},
};

/* The claims are those very bytes of the body. */
static void check_claims(const hook_capture *of, us_hook_kind kind)
{
    const char *start = strstr(of->body, "\"claims\":");
    const char *end = strstr(of->body, ",\"authentication_method\"");

    if (kind != US_HOOK_TOKEN) {
        ok(payload.claims.text == NULL, "%s: no claims", of->name);
        return;
    }
    ok(start != NULL && end != NULL
           && payload.claims.text == start + strlen("\"claims\":")
           && payload.claims.text + payload.claims.len == end,
       "%s: the claims as they stand in the body", of->name);
}

static void test_captures(void)
{
    int i;

    for (i = 0; i < HOOK_CAPTURES; i++) {
        const hook_capture *of = &captures[i];
        us_slice body = {of->body, of->len};

        is_int(read_slice(body), US_OK, "%s: read", of->name);
        is_str(call.cause, NULL, "%s: nothing is wrong", of->name);
        is_int(payload.kind, expected[i].kind, "%s: its kind", of->name);
        is_str(call.about, expected[i].about, "%s: for the log", of->name);
        is_str(payload.identity.id, expected[i].id, "%s: the id", of->name);
        check_claims(of, expected[i].kind);
        is_int(payload.identity.proven, expected[i].id != NULL, "%s: proven",
               of->name);
        ok(!payload.identity.pending && !payload.identity.snapshot
               && payload.identity.session.text == NULL,
           "%s: and nothing more", of->name);
        is_str(payload.identity.values[AT_ID].text, expected[i].id,
               "%s: the id as a value", of->name);
        is_str(payload.identity.values[AT_EMAIL].text, expected[i].email,
               "%s: the e-mail", of->name);
        is_str(payload.identity.values[AT_PHONE].text, NULL, "%s: no phone",
               of->name);
        is_str(payload.identity.values[AT_NAME].text, expected[i].name,
               "%s: the name", of->name);
    }
}

/* Go's way to write a large number and special characters stays. */
static void test_captured_values(void)
{
    us_slice body = {captures[4].body, captures[4].len};

    read_slice(body);
    is_value(AT_EMAIL, "ada@example.com", "\"ada@example.com\"", "captured");
    is_value(AT_PHONE, NULL, NULL, "captured");
    is_value(AT_NAME, "Ada <&> \xC3\x96",
             "\"Ada \\u003c\\u0026\\u003e \xC3\x96\"", "captured");
    is_value(AT_N, "1e+21", "1e+21", "captured");
    is_value(AT_PROVIDERS, "[\"email\"]", "[\"email\"]", "captured");
}

/* --- what is refused --- */

static const char *const wrong_bodies[] = {
    "",
    " ",
    "null",
    "[]",
    "\"x\"",
    "1",
    "{",
    "{\"metadata\":",
    "{}x",
    "{}{}",
    "{\"metadata\":{\"name\":\"x\"},}",
    "{\"a\":\"\xff\"}",
    "{\"a\":\"\\u0000\"}",
    "{\"a\":\"\n\"}",
    "\xEF\xBB\xBF{}",
    /* the token hook */
    "{\"metadata\":{\"name\":\"" TOKEN_HOOK "\"}}",
    "{\"metadata\":{\"name\":\"" TOKEN_HOOK "\"},\"user_id\":\"" ID "\"}",
    "{\"metadata\":{\"name\":\"" TOKEN_HOOK "\"},\"user_id\":\"" ID
    "\",\"claims\":null}",
    "{\"metadata\":{\"name\":\"" TOKEN_HOOK "\"},\"user_id\":\"" ID
    "\",\"claims\":[]}",
    "{\"metadata\":{\"name\":\"" TOKEN_HOOK "\"},\"user_id\":\"" ID
    "\",\"claims\":[{\"sub\":\"" ID "\"}]}",
    "{\"metadata\":{\"name\":\"" TOKEN_HOOK "\"},\"user_id\":\"" ID
    "\",\"claims\":\"{}\"}",
    "{\"metadata\":{\"name\":\"" TOKEN_HOOK "\"},\"user_id\":\"" ID
    "\",\"claims\":true}",
    "{\"metadata\":{\"name\":\"" TOKEN_HOOK "\"},\"user_id\":\"" ID
    "\",\"sub\":\"" ID "\",\"claims\":{}}",
    "{\"metadata\":{\"name\":\"" TOKEN_HOOK "\"},\"user_id\":\"" ID
    "\",\"Claims\":{\"sub\":\"" ID "\"}}",
    "{\"metadata\":{\"name\":\"" TOKEN_HOOK "\"},\"user_id\":null"
    ",\"claims\":{\"sub\":\"" ID "\"}}",
    "{\"metadata\":{\"name\":\"" TOKEN_HOOK "\"},\"user_id\":7"
    ",\"claims\":{\"sub\":\"" ID "\"}}",
    "{\"metadata\":{\"name\":\"" TOKEN_HOOK "\"},\"user_id\":[\"" ID
    "\"],\"claims\":{\"sub\":\"" ID "\"}}",
    "{\"metadata\":{\"name\":\"" TOKEN_HOOK "\"}"
    ",\"claims\":{\"sub\":\"" ID "\"}}",
    /* the others */
    "{\"metadata\":{\"name\":\"after-user-created\"}}",
    "{\"metadata\":{\"name\":\"after-user-created\"},\"user\":null}",
    "{\"metadata\":{\"name\":\"after-user-created\"},\"user\":[]}",
    "{\"metadata\":{\"name\":\"after-user-created\"},\"user\":{}}",
    "{\"metadata\":{\"name\":\"after-user-created\"},\"id\":\"" ID
    "\",\"user\":\"" ID "\"}",
    "{\"metadata\":{\"name\":\"after-user-created\"},\"user\":{\"sub\":\"" ID
    "\"}}",
};

/* As claims.sub, user_id and user.id: none is a user's id. */
static const char *const wrong_ids[] = {
    "",
    " ",
    "ada",
    "7f1a2c9e3b544d0e9c6152a8d0b4e117",
    "{7f1a2c9e-3b54-4d0e-9c61-52a8d0b4e117}",
    "urn:uuid:7f1a2c9e-3b54-4d0e-9c61-52a8d0b4e117",
    "7f1a2c9e-3b54-4d0e-9c61-52a8d0b4e11",
    "7f1a2c9e-3b54-4d0e-9c61-52a8d0b4e1170",
    "7f1a2c9e-3b54-4d0e-9c61-52a8d0b4e117 ",
    " 7f1a2c9e-3b54-4d0e-9c61-52a8d0b4e117",
    "7f1a2c9e-3b54-4d0e-9c61-52a8d0b4e11g",
    "7f1a2c9e_3b54_4d0e_9c61_52a8d0b4e117",
    "7f1a2c9e-3b54-4d0e-9c61-52a8d0b4e117\\n",
    "7f1a2c9-e3b54-4d0e-9c61-52a8d0b4e117",
    "\xEF\xBC\x97"
    "f1a2c9e-3b54-4d0e-9c61-52a8d0b4e117",
};

static void refused_ok(const char *body, const char *name)
{
    us_outcome outcome = read_body(body);

    ok(outcome == US_INVALID_REQUEST && call.cause != NULL
           && strncmp(call.cause,
                      "the signed body is not a hook's request: ", 41)
                  == 0,
       "refused: %s: %s", name, shown(call.cause));
    ok(!payload.identity.proven && payload.claims.text == NULL,
       "and nothing may be written or answered");
}

static void test_refused(void)
{
    apr_size_t i;

    for (i = 0; i < sizeof(wrong_bodies) / sizeof(wrong_bodies[0]); i++) {
        refused_ok(wrong_bodies[i],
                   apr_psprintf(pool, "body %lu", (unsigned long)i));
    }
    for (i = 0; i < sizeof(wrong_ids) / sizeof(wrong_ids[0]); i++) {
        const char *id = wrong_ids[i];
        const char *sub = apr_pstrcat(pool, "\"sub\":\"", id, "\"", NULL);

        refused_ok(token_body(TOKEN_HOOK, "x", ID, sub), "claims.sub");
        refused_ok(token_body(TOKEN_HOOK, "x", id, "\"sub\":\"" ID "\""),
                   "user_id");
        refused_ok(token_body(TOKEN_HOOK, "x", id, sub), "both");
        refused_ok(apr_pstrcat(pool,
                               "{\"metadata\":{\"name\":\"after-user-created"
                               "\"},\"user\":{\"id\":\"",
                               id, "\"}}", NULL),
                   "user.id");
    }
    refused_ok(token_body(TOKEN_HOOK, "x", OTHER, "\"sub\":\"" ID "\""),
               "another user");
    refused_ok(token("\"sub\":7"), "a number as sub");
    refused_ok(token("\"sub\":null"), "null as sub");
    refused_ok(token("\"sub\":{\"sub\":\"" ID "\"}"), "an object as sub");
}

/* --- kinds and names --- */

static const struct {
    const char *name; /* JSON, without quotes */
    us_hook_kind kind;
    const char *about;
} names[] = {
    {"send-email", US_HOOK_OTHER, "send-email"},
    {"send-sms", US_HOOK_OTHER, "send-sms"},
    {"mfa-verification-attempt", US_HOOK_OTHER, "mfa-verification-attempt"},
    {"pg-functions://x/y_z.v1", US_HOOK_OTHER, "?"},
    {"a/b_c.d-E9", US_HOOK_OTHER, "a/b_c.d-E9"},
    {"before-user-created", US_HOOK_BEFORE_CREATED, "before-user-created"},
    {"before\\u002duser-created", US_HOOK_BEFORE_CREATED,
     "before-user-created"},
    {"Before-User-Created", US_HOOK_OTHER, "Before-User-Created"},
    {"before-user-create", US_HOOK_OTHER, "before-user-create"},
    {"before-user-createds", US_HOOK_OTHER, "before-user-createds"},
    {"before-user-created ", US_HOOK_OTHER, "?"},
    {"", US_HOOK_OTHER, "?"},
    {" ", US_HOOK_OTHER, "?"},
    {"?", US_HOOK_OTHER, "?"},
    {"a b", US_HOOK_OTHER, "?"},
    {"a,b", US_HOOK_OTHER, "?"},
    {"a\\nb", US_HOOK_OTHER, "?"},
    {"a\\u0001b", US_HOOK_OTHER, "?"},
    {"a\\u001b[31mb", US_HOOK_OTHER, "?"},
    {"a\\u007fb", US_HOOK_OTHER, "?"},
    {"a\x7f"
     "b",
     US_HOOK_OTHER, "?"},
    {"a\\\"b", US_HOOK_OTHER, "?"},
    {"a'b", US_HOOK_OTHER, "?"},
    {"a\\\\b", US_HOOK_OTHER, "?"},
    {"a%sb", US_HOOK_OTHER, "?"},
    {"a<b>", US_HOOK_OTHER, "?"},
    {"a;b", US_HOOK_OTHER, "?"},
    {"a:b", US_HOOK_OTHER, "?"},
    {"a=b", US_HOOK_OTHER, "?"},
    {"a(b)", US_HOOK_OTHER, "?"},
    {"a\\u2028b", US_HOOK_OTHER, "?"},
    {"a\xe2\x80\xa8"
     "b",
     US_HOOK_OTHER, "?"},
    {"a\\u0085b", US_HOOK_OTHER, "?"},
    {"\xC3\xA4", US_HOOK_OTHER, "?"},
    {"\\ud800", US_HOOK_OTHER, "?"},
    {"\\ud83d\\ude00", US_HOOK_OTHER, "?"},
};

static void test_names(void)
{
    apr_size_t i;

    for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        is_int(read_body(token_body(names[i].name, "x", ID, "")), US_OK,
               "a hook of the name '%s'", names[i].name);
        is_int(payload.kind, names[i].kind, "its kind");
        is_str(call.about, names[i].about, "and what the log says");
        ok(payload.identity.id == NULL && !payload.identity.proven
               && payload.claims.text == NULL,
           "without a user");
    }
}

/* The same for the method of a token. */
static void test_methods(void)
{
    apr_size_t i;

    for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        is_int(read_body(token_body(TOKEN_HOOK, names[i].name, ID,
                                    "\"sub\":\"" ID "\"")),
               US_OK, "a token by '%s'", names[i].name);
        is_str(call.about,
               apr_pstrcat(pool, TOKEN_HOOK ", ", names[i].about, NULL),
               "what the log says");
    }
}

static void test_name_lengths(void)
{
    char name[66];

    memset(name, 'n', sizeof(name));
    name[64] = '\0';
    read_body(token_body(name, "x", ID, ""));
    is_str(call.about, name, "a name of 64 bytes");
    read_body(token_body(TOKEN_HOOK, name, ID, "\"sub\":\"" ID "\""));
    is_str(call.about, apr_pstrcat(pool, TOKEN_HOOK ", ", name, NULL),
           "a method of 64 bytes");
    name[64] = 'n';
    name[65] = '\0';
    read_body(token_body(name, "x", ID, ""));
    is_str(call.about, "?", "a name of 65 bytes");
    read_body(token_body(TOKEN_HOOK, name, ID, "\"sub\":\"" ID "\""));
    is_str(call.about, TOKEN_HOOK ", ?", "a method of 65 bytes");
}

/* The name is none, or not where it belongs. */
static void test_no_name(void)
{
    static const char *const bodies[] = {
        "{}",
        "{\"metadata\":{}}",
        "{\"metadata\":null}",
        "{\"metadata\":\"" TOKEN_HOOK "\"}",
        "{\"metadata\":[{\"name\":\"" TOKEN_HOOK "\"}]}",
        "{\"metadata\":{\"name\":null}}",
        "{\"metadata\":{\"name\":7}}",
        "{\"metadata\":{\"name\":[\"" TOKEN_HOOK "\"]}}",
        "{\"metadata\":{\"Name\":\"" TOKEN_HOOK "\"}}",
        "{\"name\":\"" TOKEN_HOOK "\"}",
        "{\"metadata.name\":\"" TOKEN_HOOK "\"}",
    };
    apr_size_t i;

    for (i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
        is_int(read_body(bodies[i]), US_OK, "%s", bodies[i]);
        is_int(payload.kind, US_HOOK_OTHER, "is another hook");
        is_str(call.about, "?", "without a name");
    }
    read_body("{\"metadata\":{\"name\":\"" TOKEN_HOOK "\"},\"user_id\":\"" ID
              "\",\"claims\":{\"sub\":\"" ID "\"}}");
    is_str(call.about, TOKEN_HOOK ", ?", "no method");
    is_int(payload.kind, US_HOOK_TOKEN, "is no reason to refuse it");
}

/* --- users --- */

static void test_ids(void)
{
    static const struct {
        const char *user_id;
        const char *sub;
    } cases[] = {{ID, ID}, {UPPER, UPPER}, {ID, UPPER}, {UPPER, ID}};
    apr_size_t i;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *sub
            = apr_pstrcat(pool, "\"sub\":\"", cases[i].sub, "\"", NULL);

        is_int(read_body(token_body(TOKEN_HOOK, "x", cases[i].user_id, sub)),
               US_OK, "%s and %s", cases[i].user_id, cases[i].sub);
        is_str(payload.identity.id, ID, "in lower case");
        is_str(payload.identity.values[AT_ID].text, ID, "as a value, too");
        ok(payload.claims.len == strlen(sub) + 2
               && memcmp(payload.claims.text + 1, sub, strlen(sub)) == 0,
           "but the claims stay");
    }
    read_body("{\"metadata\":{\"name\":\"after-user-created\"},\"user\":"
              "{\"id\":\"" UPPER "\"}}");
    is_str(payload.identity.id, ID, "also of a new user");
}

static void test_values(void)
{
    read_body(token("\"sub\":\"" ID "\",\"email\":\"\",\"phone\":\"\","
                    "\"user_metadata\":{\"full_name\":\"\",\"n\":null},"
                    "\"app_metadata\":{\"providers\":{}}"));
    is_value(AT_EMAIL, NULL, NULL, "an empty e-mail");
    is_value(AT_PHONE, NULL, NULL, "an empty phone");
    is_value(AT_NAME, "", "\"\"", "an empty name is one");
    is_value(AT_N, NULL, NULL, "null");
    is_value(AT_PROVIDERS, "{}", "{}", "an object");
    read_body(token("\"sub\":\"" ID "\",\"email\":null,\"phone\":\"49\","
                    "\"user_metadata\":null,\"app_metadata\":[1]"));
    is_value(AT_EMAIL, NULL, NULL, "null as e-mail");
    is_value(AT_PHONE, "49", "\"49\"", "a phone");
    is_value(AT_NAME, NULL, NULL, "null as metadata");
    is_value(AT_PROVIDERS, NULL, NULL, "an array as metadata");
    read_body(token("\"sub\":\"" ID "\""));
    is_value(AT_EMAIL, NULL, NULL, "no e-mail");
    is_value(AT_NAME, NULL, NULL, "no metadata");
}

/* As in Go, the last one counts; and all go back. */
static void test_duplicates(void)
{
    static const char last[] = "{\"sub\":\"" OTHER "\",\"email\":\"a@b\","
                               "\"sub\":\"" ID "\",\"email\":\"c@d\"}";

    is_int(read_body(apr_pstrcat(
               pool,
               "{\"metadata\":{\"name\":\"send-sms\"},\"user_id\":\"" OTHER
               "\",\"claims\":{\"sub\":\"" OTHER "\",\"phone\":\"1\"},"
               "\"metadata\":{\"name\":\"x\",\"name\":\"" TOKEN_HOOK "\"},"
               "\"user_id\":\"" ID "\",\"claims\":",
               last, "}", NULL)),
           US_OK, "duplicates");
    is_int(payload.kind, US_HOOK_TOKEN, "the last name");
    is_str(payload.identity.id, ID, "the last id");
    is_value(AT_EMAIL, "c@d", "\"c@d\"", "the last e-mail");
    is_value(AT_PHONE, NULL, NULL, "not a member of other claims");
    ok(payload.claims.len == strlen(last)
           && memcmp(payload.claims.text, last, strlen(last)) == 0,
       "the last claims, with all that is in them");
    refused_ok(token("\"sub\":\"" ID "\",\"sub\":\"" OTHER "\""),
               "the last sub is another user");
    refused_ok("{\"metadata\":{\"name\":\"" TOKEN_HOOK "\"},\"user_id\":\"" ID
               "\",\"claims\":{\"sub\":\"" ID "\"},\"claims\":null}",
               "the last claims are null");
}

/* --- depth --- */

static const char *nested(apr_size_t depth)
{
    char *text = apr_palloc(pool, depth * 2 + 1);

    memset(text, '[', depth);
    memset(text + depth, ']', depth);
    text[depth * 2] = '\0';
    return apr_pstrcat(pool, "\"sub\":\"" ID "\",\"x\":", text, NULL);
}

/* The body and the claims are two levels. */
static void test_depth(void)
{
    is_int(read_body(token(nested(1022))), US_OK, "a depth of 1024");
    refused_ok(token(nested(1023)), "a depth of 1025");
    refused_ok(token(nested(100000)), "a great depth");
}

int main(int argc, const char *const *argv)
{
    apr_initialize();
    apr_pool_create(&pool, NULL);
    captures = hook_captures_load(pool, fixtures_directory(argc, argv));
    if (!ok(captures != NULL, "captures")) {
        return done();
    }
    test_captures();
    test_captured_values();
    test_refused();
    test_names();
    test_methods();
    test_name_lengths();
    test_no_name();
    test_ids();
    test_values();
    test_duplicates();
    test_depth();
    free((void *)(apr_uintptr_t)last_body.text);
    apr_pool_destroy(pool);
    apr_terminate();
    return done();
}
