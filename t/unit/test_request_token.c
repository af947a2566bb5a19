/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * doors/request.c: the token of a refresh, and the header and the body of a
 * logout.
 */
#include "httpd_stubs.h"
#include "json_spy.h"
#include "tap.h"
#include "us_config.h"
#include "doors/request.h"

#include <apr_escape.h>
#include <apr_general.h>
#include <apr_strings.h>

static apr_pool_t *pool;
static us_call call;

static const char *complaint(void)
{
    const us_field_error *error;

    if (call.fields == NULL) {
        return NULL;
    }
    error = &APR_ARRAY_IDX(call.fields, 0, us_field_error);
    return apr_pstrcat(pool, error->field, " ", error->message, NULL);
}

static void begin(void)
{
    memset(&call, 0, sizeof(call));
    call.pool = pool;
}

static const char *text_of(us_slice slice)
{
    return slice.text != NULL ? apr_pstrmemdup(pool, slice.text, slice.len)
                              : NULL;
}

static char *filled(char c, apr_size_t len)
{
    char *text = apr_palloc(pool, len + 1);

    memset(text, c, len);
    text[len] = '\0';
    return text;
}

/* --- the body of a refresh --- */

/* Bodies, and the token's literal or the complaint. */
static const struct {
    const char *body;
    const char *token;
    const char *said;
} refreshes[] = {
    {"{\"refresh_token\":\"a0l3l2t5k7ct\"}", "\"a0l3l2t5k7ct\"", NULL},
    {" { \"refresh_token\" : \"x\" , \"email\":7, \"password\":[] } ", "\"x\"",
     NULL},
    /* opaque: passed on as it is written */
    {"{\"refresh_token\":\" \\u0041\\/\\\" \xC3\xA9 \"}",
     "\" \\u0041\\/\\\" \xC3\xA9 \"", NULL},
    {"{\"refresh_token\":1,\"refresh_token\":\"b\",\"Refresh_Token\":\"c\"}",
     "\"b\"", NULL},
    {"{\"refresh\\u005ftoken\":\"b\"}", "\"b\"", NULL},
    {"{}", NULL, "refresh_token is required"},
    {"{\"Refresh_token\":\"a\"}", NULL, "refresh_token is required"},
    {"{\"refresh_token\":null}", NULL, "refresh_token is required"},
    {"{\"refresh_token\":\"a\",\"refresh_token\":null}", NULL,
     "refresh_token is required"},
    {"{\"refresh_token\":12}", NULL, "refresh_token must be a string"},
    {"{\"refresh_token\":[\"a\"]}", NULL, "refresh_token must be a string"},
    {"{\"refresh_token\":{\"a\":1}}", NULL, "refresh_token must be a string"},
    {"{\"refresh_token\":\"\"}", NULL, "refresh_token must not be empty"},
};

static void test_refresh(void)
{
    us_credentials credentials;
    apr_size_t i;

    for (i = 0; i < sizeof(refreshes) / sizeof(refreshes[0]); i++) {
        const char *body = refreshes[i].body;

        begin();
        memset(&credentials, 0x55, sizeof(credentials));
        is_int(us_request_parse(&call, US_REFRESH, body, strlen(body),
                                &credentials),
               refreshes[i].token != NULL ? US_OK : US_INVALID_REQUEST, "%s",
               apr_pescape_echo(pool, body, 0));
        is_str(text_of(credentials.refresh_token), refreshes[i].token,
               "the token");
        is_str(complaint(), refreshes[i].said, "the complaint");
        ok(credentials.email == NULL && credentials.password.text == NULL
               && credentials.data.text == NULL
               && credentials.captcha_token.text == NULL,
           "and nothing else");
    }
}

static us_outcome refresh_with(const char *token)
{
    const char *body
        = apr_pstrcat(pool, "{\"refresh_token\":\"", token, "\"}", NULL);
    us_credentials credentials;

    begin();
    return us_request_parse(&call, US_REFRESH, body, strlen(body),
                            &credentials);
}

static void test_refresh_length(void)
{
    is_int(refresh_with(filled('a', US_REFRESH_TOKEN_MAX)), US_OK,
           "a long token");
    is_int(refresh_with(filled('a', US_REFRESH_TOKEN_MAX + 1)),
           US_INVALID_REQUEST, "a longer one");
    is_str(complaint(), "refresh_token must not be longer than 4096 bytes",
           "the complaint");
    is_int(spy_readings() + spy_leaks(), 0, "json-c has seen no token");
}

/* Other operations have no such member. */
static void test_other_operation(void)
{
    static const char body[] = "{\"refresh_token\":\"a\",\"email\":\"a@b\","
                               "\"password\":\"x\"}";
    us_credentials credentials;

    begin();
    is_int(us_request_parse(&call, US_LOG_IN, body, sizeof(body) - 1,
                            &credentials),
           US_OK, "a login");
    ok(credentials.refresh_token.text == NULL, "has no refresh token");
}

/* --- the header of a logout --- */

#define JWT "eyJh.eyJz.c2ln"

static const struct {
    const char *header;
    us_outcome outcome;
    const char *token;
} headers[] = {
    {"Bearer " JWT, US_OK, JWT},
    {"bearer " JWT, US_OK, JWT},
    {"BEARER   " JWT, US_OK, JWT},
    {"Bearer A-z.0_~+/.9==", US_OK, "A-z.0_~+/.9=="},
    {NULL, US_NO_TOKEN, NULL},
    {"", US_NO_TOKEN, NULL},
    {"Bearer", US_NO_TOKEN, NULL},
    {"Bearer ", US_NO_TOKEN, NULL},
    {"Bearer    ", US_NO_TOKEN, NULL},
    {"Basic YTpi", US_NO_TOKEN, NULL},
    {"Bearers " JWT, US_NO_TOKEN, NULL},
    {"Bearer\t" JWT, US_NO_TOKEN, NULL},
    {"Bearer=" JWT, US_NO_TOKEN, NULL},
    {JWT, US_NO_TOKEN, NULL},
    {"Bearer " JWT " ", US_INVALID_TOKEN, NULL},
    {"Bearer " JWT ", Bearer " JWT, US_INVALID_TOKEN, NULL},
    {"Bearer " JWT "\r\nX: y", US_INVALID_TOKEN, NULL},
    {"Bearer \"" JWT "\"", US_INVALID_TOKEN, NULL},
    {"Bearer \t" JWT, US_INVALID_TOKEN, NULL},
    {"Bearer eyJh.ey\xC3\xA9.c2ln", US_INVALID_TOKEN, NULL},
    {"Bearer eyJh.ey\x01.c2ln", US_INVALID_TOKEN, NULL},
    {"Bearer eyJh=.eyJz.c2ln", US_INVALID_TOKEN, NULL},
    {"Bearer ==", US_INVALID_TOKEN, NULL},
    /* no JWT: an API key, or what a web page sends for lack of a token */
    {"Bearer sb_publishable_0123456789", US_INVALID_TOKEN, NULL},
    {"Bearer undefined", US_INVALID_TOKEN, NULL},
    {"Bearer eyJh.eyJz", US_INVALID_TOKEN, NULL},
    {"Bearer a.b.c.d.e", US_INVALID_TOKEN, NULL},
};

static void test_bearer(void)
{
    apr_size_t i;

    for (i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {
        us_slice token = {"x", 1};

        begin();
        is_int(us_request_parse_bearer(&call, headers[i].header, &token),
               headers[i].outcome, "%s",
               headers[i].header != NULL
                   ? apr_pescape_echo(pool, headers[i].header, 0)
                   : "no header");
        is_str(text_of(token), headers[i].token, "the token");
        ok(headers[i].outcome == US_OK
               ? call.cause == NULL
               : call.cause != NULL && strstr(call.cause, "ey") == NULL,
           "a cause, without what was sent: %s", shown(call.cause));
    }
}

static us_outcome bearer_of(apr_size_t len)
{
    us_slice token;

    begin();
    return us_request_parse_bearer(
        &call, apr_pstrcat(pool, "Bearer ..", filled('a', len - 2), NULL),
        &token);
}

static void test_bearer_length(void)
{
    is_int(bearer_of(US_ACCESS_TOKEN_MAX), US_OK, "a long token");
    is_int(bearer_of(US_ACCESS_TOKEN_MAX + 1), US_INVALID_TOKEN,
           "a longer one");
}

/* --- the body of a logout --- */

static const struct {
    const char *body;
    us_scope scope;
    const char *said; /* NULL: fine */
} scopes[] = {
    {"", US_SCOPE_LOCAL, NULL},
    {"{}", US_SCOPE_LOCAL, NULL},
    {"{\"scope\":null}", US_SCOPE_LOCAL, NULL},
    {"{\"Scope\":\"global\"}", US_SCOPE_LOCAL, NULL},
    {"{\"scope\":\"local\"}", US_SCOPE_LOCAL, NULL},
    {"{\"scope\":\"global\"}", US_SCOPE_GLOBAL, NULL},
    {"{\"scope\":\"others\",\"x\":[1]}", US_SCOPE_OTHERS, NULL},
    {"{\"scope\":\"\\u0067lobal\"}", US_SCOPE_GLOBAL, NULL},
    {"{\"scope\":\"global\",\"scope\":\"local\"}", US_SCOPE_LOCAL, NULL},
    {"{\"scope\":\"Global\"}", US_SCOPE_LOCAL,
     "scope must be local, global or others"},
    {"{\"scope\":\"\"}", US_SCOPE_LOCAL,
     "scope must be local, global or others"},
    {"{\"scope\":\"local&x=y\"}", US_SCOPE_LOCAL,
     "scope must be local, global or others"},
    {"{\"scope\":true}", US_SCOPE_LOCAL,
     "scope must be local, global or others"},
    {"{\"scope\":[\"local\"]}", US_SCOPE_LOCAL,
     "scope must be local, global or others"},
    {" ", US_SCOPE_LOCAL, " is not a JSON object: it is empty"},
    {"\"global\"", US_SCOPE_LOCAL, ""},
    {"[]", US_SCOPE_LOCAL, ""},
    {"{", US_SCOPE_LOCAL, ""},
};

static void test_scopes(void)
{
    apr_size_t i;

    for (i = 0; i < sizeof(scopes) / sizeof(scopes[0]); i++) {
        const char *body = scopes[i].body;
        us_farewell farewell = {{NULL, 0}, US_SCOPE_COUNT};

        begin();
        is_int(us_request_parse_farewell(&call, body, strlen(body), &farewell),
               scopes[i].said == NULL ? US_OK : US_INVALID_REQUEST, "'%s'",
               body);
        is_int(farewell.scope, scopes[i].scope, "the scope");
        ok(scopes[i].said == NULL
               ? complaint() == NULL
               : complaint() != NULL && call.cause != NULL
                     && (*scopes[i].said != 's'
                         || strcmp(complaint(), scopes[i].said) == 0),
           "the complaint: %s", shown(complaint()));
    }
}

/* --- reading a logout --- */

#define MAX 300

typedef struct fake_request {
    request_rec r;
    conn_rec connection;
    void *configs[1];
    us_dir_conf dir;
    us_call call;
    us_farewell farewell;
    stub_read read;
} fake_request;

/* A logout with this body and type; NULL: without. */
static fake_request *make_request(const char *type, const char *body)
{
    apr_pool_t *own;
    fake_request *fake;

    apr_pool_create(&own, pool);
    fake = apr_pcalloc(pool, sizeof(*fake));
    fake->r.pool = own;
    fake->r.connection = &fake->connection;
    fake->connection.bucket_alloc = apr_bucket_alloc_create(own);
    fake->r.headers_in = apr_table_make(own, 4);
    fake->configs[0] = &fake->dir;
    fake->r.per_dir_config = (ap_conf_vector_t *)fake->configs;
    fake->dir.max_body_size = MAX;
    fake->call.pool = own;
    fake->call.authorization = "Bearer " JWT;
    if (type != NULL) {
        apr_table_setn(fake->r.headers_in, "Content-Type", type);
    }
    fake->read.rv = APR_SUCCESS;
    fake->read.brigade
        = apr_brigade_create(own, fake->connection.bucket_alloc);
    if (body != NULL) {
        APR_BRIGADE_INSERT_TAIL(
            fake->read.brigade,
            apr_bucket_immortal_create(body, strlen(body),
                                       fake->connection.bucket_alloc));
    }
    APR_BRIGADE_INSERT_TAIL(
        fake->read.brigade,
        apr_bucket_eos_create(fake->connection.bucket_alloc));
    stub_body(&fake->read, 1);
    return fake;
}

static us_outcome read_it(fake_request *fake)
{
    return us_request_read_farewell(&fake->r, &fake->call, &fake->farewell);
}

static void test_reading(void)
{
    static const struct {
        const char *type;
        const char *body;
        us_outcome outcome;
        us_scope scope;
    } cases[] = {
        {NULL, NULL, US_OK, US_SCOPE_LOCAL},
        {"text/plain", NULL, US_OK, US_SCOPE_LOCAL},
        {"application/json", NULL, US_OK, US_SCOPE_LOCAL},
        {"application/json", "{\"scope\":\"global\"}", US_OK, US_SCOPE_GLOBAL},
        {NULL, "{\"scope\":\"global\"}", US_UNSUPPORTED_MEDIA, US_SCOPE_LOCAL},
        {"text/plain", "{}", US_UNSUPPORTED_MEDIA, US_SCOPE_LOCAL},
        {"application/json", "x", US_INVALID_REQUEST, US_SCOPE_LOCAL},
    };
    apr_size_t i;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        fake_request *fake = make_request(cases[i].type, cases[i].body);

        is_int(read_it(fake), cases[i].outcome, "%s, %s", shown(cases[i].type),
               shown(cases[i].body));
        if (cases[i].outcome == US_OK) {
            is_int(fake->farewell.scope, cases[i].scope, "the scope");
            is_str(text_of(fake->farewell.token), JWT, "the token");
        }
        apr_pool_destroy(fake->r.pool);
    }
}

static void test_no_token(void)
{
    fake_request *fake = make_request(NULL, NULL);

    fake->call.authorization = "Bearer a,b";
    is_int(read_it(fake), US_INVALID_TOKEN, "no token");
    apr_pool_destroy(fake->r.pool);
}

static void test_token_is_wiped(void)
{
    fake_request *fake = make_request(NULL, NULL);
    const volatile char *token;
    apr_size_t i;

    is_int(read_it(fake), US_OK, "a token");
    token = fake->farewell.token.text;
    ok(token[0] == 'e', "which is there while the request lasts");
    apr_pool_clear(fake->r.pool);
    for (i = 0; i < sizeof(JWT) - 1 && token[i] == '\0'; i++) {
    }
    is_int((long long)i, sizeof(JWT) - 1, "and gone with it");
}

int main(void)
{
    apr_initialize();
    apr_pool_create(&pool, NULL);
    test_refresh();
    test_refresh_length();
    test_other_operation();
    test_bearer();
    test_bearer_length();
    test_scopes();
    test_reading();
    test_no_token();
    test_token_is_wiped();
    apr_pool_destroy(pool);
    apr_terminate();
    return done();
}
