/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * doors/request.c: which bodies are credentials, what is wrong with others,
 * how a body is read, and that the password does not outlive the request.
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

/* --- checking a body --- */

static const char *repeat(const char *piece, int count)
{
    const char *text = "";
    int i;

    for (i = 0; i < count; i++) {
        text = apr_pstrcat(pool, text, piece, NULL);
    }
    return text;
}

static us_outcome parse(us_operation operation, const char *body,
                        us_call *call, us_credentials *credentials)
{
    memset(call, 0, sizeof(*call));
    call->pool = pool;
    memset(credentials, 0x55, sizeof(*credentials));
    return us_request_parse(call, operation, body, strlen(body), credentials);
}

static const char *text_of(const char *slice, apr_size_t len)
{
    return slice != NULL ? apr_pstrmemdup(pool, slice, len) : NULL;
}

/* The complaints as "field message; field message". */
static const char *complaints(const us_call *call)
{
    const char *text = "";
    int i;

    for (i = 0; call->fields != NULL && i < call->fields->nelts; i++) {
        const us_field_error *error
            = &APR_ARRAY_IDX(call->fields, i, us_field_error);

        text = apr_pstrcat(pool, text, i > 0 ? "; " : "", error->field, " ",
                           error->message, NULL);
    }
    return text;
}

#define BOTH (-1)
#define PASSWORD "\"password\":\"secret\""
#define EMAIL "\"email\":\"a@b\""

/* Good bodies, and the result of each member. */
static const struct {
    int operation;
    const char *body;
    const char *email;
    const char *password; /* literal */
    const char *data;
    const char *captcha;
} good[] = {
    {BOTH, "{" EMAIL "," PASSWORD "}", "a@b", "\"secret\"", NULL, NULL},
    {BOTH, " { \"password\" : \"x\" , \"email\" : \"A@B.Example\" } ",
     "a@b.example", "\"x\"", NULL, NULL},
    {BOTH, "{\"email\":\"  Ada@Example.COM \"," PASSWORD "}",
     "ada@example.com", "\"secret\"", NULL, NULL},
    {BOTH, "{\"email\":\"\\t\\n\\u000b\\f\\ra@b\\r\\n\"," PASSWORD "}", "a@b",
     "\"secret\"", NULL, NULL},
    {BOTH, "{\"email\":\"a+tag.x@b\"," PASSWORD "}", "a+tag.x@b", "\"secret\"",
     NULL, NULL},
    /* only the form: GoTrue judges the rest */
    {BOTH, "{\"email\":\"a@b@c\"," PASSWORD "}", "a@b@c", "\"secret\"", NULL,
     NULL},
    {BOTH, "{\"email\":\"\xC3\x84@\xC3\x96\"," PASSWORD "}",
     "\xC3\x84@\xC3\x96", "\"secret\"", NULL, NULL},
    {BOTH, "{\"email\":\"\\u0061\\u0040b\"," PASSWORD "}", "a@b", "\"secret\"",
     NULL, NULL},
    /* the password's literal is sent on unchanged */
    {BOTH, "{" EMAIL ",\"password\":\"\\u0041\\\"\\\\\\/ \xC3\xA9\"}", "a@b",
     "\"\\u0041\\\"\\\\\\/ \xC3\xA9\"", NULL, NULL},
    {BOTH, "{" EMAIL ",\"password\":\" spaces count \"}", "a@b",
     "\" spaces count \"", NULL, NULL},
    /* of duplicates the last counts; other spellings do not count */
    {BOTH, "{\"email\":\"x@y\",\"email\":\"a@b\",\"password\":1," PASSWORD "}",
     "a@b", "\"secret\"", NULL, NULL},
    {BOTH,
     "{" EMAIL "," PASSWORD ",\"Email\":\"x@y\",\"PASSWORD\":\"no\","
     "\"phone\":\"123\",\"code_challenge\":[]}",
     "a@b", "\"secret\"", NULL, NULL},
    {BOTH, "{\"\\u0065mail\":\"a@b\",\"passw\\u006frd\":\"secret\"}", "a@b",
     "\"secret\"", NULL, NULL},
    /* data: on register, unchanged */
    {US_SIGN_UP, "{" EMAIL "," PASSWORD ",\"data\":{}}", "a@b", "\"secret\"",
     "{}", NULL},
    {US_SIGN_UP,
     "{" EMAIL "," PASSWORD ",\"data\":{ \"n\": 1.50, \"e\":\"\\u00e9\"}}",
     "a@b", "\"secret\"", "{ \"n\": 1.50, \"e\":\"\\u00e9\"}", NULL},
    {US_SIGN_UP, "{" EMAIL "," PASSWORD ",\"data\":null}", "a@b", "\"secret\"",
     NULL, NULL},
    {US_LOG_IN, "{" EMAIL "," PASSWORD ",\"data\":{\"x\":1}}", "a@b",
     "\"secret\"", NULL, NULL},
    {US_LOG_IN, "{" EMAIL "," PASSWORD ",\"data\":7}", "a@b", "\"secret\"",
     NULL, NULL},
    /* captcha_token */
    {BOTH, "{" EMAIL "," PASSWORD ",\"captcha_token\":\"t\\/k\"}", "a@b",
     "\"secret\"", NULL, "\"t\\/k\""},
    {BOTH, "{" EMAIL "," PASSWORD ",\"captcha_token\":null}", "a@b",
     "\"secret\"", NULL, NULL},
};

static void check_good(us_operation operation, apr_size_t i)
{
    const char *name = operation == US_LOG_IN ? "login" : "register";
    us_credentials credentials;
    us_call call;

    is_int(parse(operation, good[i].body, &call, &credentials), US_OK, "%s %s",
           name, apr_pescape_echo(pool, good[i].body, 0));
    is_str(credentials.email, good[i].email, "e-mail");
    is_str(text_of(credentials.password.text, credentials.password.len),
           good[i].password, "password");
    is_str(text_of(credentials.data.text, credentials.data.len), good[i].data,
           "data");
    is_str(
        text_of(credentials.captcha_token.text, credentials.captcha_token.len),
        good[i].captcha, "captcha token");
    ok(call.fields == NULL && call.cause == NULL, "and no complaint");
}

static void test_good(void)
{
    apr_size_t i;

    for (i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        if (good[i].operation != US_LOG_IN) {
            check_good(US_SIGN_UP, i);
        }
        if (good[i].operation != US_SIGN_UP) {
            check_good(US_LOG_IN, i);
        }
    }
}

#define BAD_EMAIL "email is not an e-mail address"

/* Bad bodies, and the complaints about them. */
static const struct {
    int operation;
    const char *body;
    const char *said;
} bad[] = {
    {BOTH, "{}", "email is required; password is required"},
    {BOTH, "{" PASSWORD "}", "email is required"},
    {BOTH, "{" EMAIL "}", "password is required"},
    {BOTH, "{\"Email\":\"a@b\",\"Password\":\"x\"}",
     "email is required; password is required"},
    {BOTH, "{\"email\":null,\"password\":null}",
     "email is required; password is required"},
    {BOTH, "{\"email\":1,\"password\":[]}",
     "email must be a string; password must be a string"},
    {BOTH, "{\"email\":{},\"password\":true}",
     "email must be a string; password must be a string"},
    {BOTH, "{" EMAIL ",\"email\":null," PASSWORD "}", "email is required"},
    {BOTH, "{\"email\":\"\"," PASSWORD "}", BAD_EMAIL},
    {BOTH, "{\"email\":\" \\t\"," PASSWORD "}", BAD_EMAIL},
    {BOTH, "{\"email\":\"ab\"," PASSWORD "}", BAD_EMAIL},
    {BOTH, "{\"email\":\"@\"," PASSWORD "}", BAD_EMAIL},
    {BOTH, "{\"email\":\"@b\"," PASSWORD "}", BAD_EMAIL},
    {BOTH, "{\"email\":\" @b\"," PASSWORD "}", BAD_EMAIL},
    {BOTH, "{\"email\":\"a@\"," PASSWORD "}", BAD_EMAIL},
    {BOTH, "{\"email\":\"a@ \"," PASSWORD "}", BAD_EMAIL},
    {BOTH, "{\"email\":\"a b@c\"," PASSWORD "}", BAD_EMAIL},
    {BOTH, "{\"email\":\"a@b c\"," PASSWORD "}", BAD_EMAIL},
    {BOTH, "{\"email\":\"a@b\\r\\nc\"," PASSWORD "}", BAD_EMAIL},
    {BOTH, "{\"email\":\"a\\u0001@b\"," PASSWORD "}", BAD_EMAIL},
    {BOTH, "{\"email\":\"a\\u007f@b\"," PASSWORD "}", BAD_EMAIL},
    {BOTH, "{" EMAIL ",\"password\":\"\"}", "password must not be empty"},
    {BOTH, "{" EMAIL ",\"password\":123456}", "password must be a string"},
    {BOTH, "{" EMAIL "," PASSWORD ",\"password\":null}",
     "password is required"},
    {US_SIGN_UP, "{" EMAIL "," PASSWORD ",\"data\":[]}",
     "data must be an object"},
    {US_SIGN_UP, "{" EMAIL "," PASSWORD ",\"data\":\"{}\"}",
     "data must be an object"},
    {US_SIGN_UP, "{" EMAIL "," PASSWORD ",\"data\":false}",
     "data must be an object"},
    {BOTH, "{" EMAIL "," PASSWORD ",\"captcha_token\":7}",
     "captcha_token must be a string"},
    {BOTH, "{" EMAIL "," PASSWORD ",\"captcha_token\":{}}",
     "captcha_token must be a string"},
    {US_SIGN_UP,
     "{\"email\":7,\"password\":\"\",\"data\":7,\"captcha_token\":7}",
     "email must be a string; password must not be empty; data must be an "
     "object; captcha_token must be a string"},
};

static void check_bad(us_operation operation, apr_size_t i)
{
    const char *name = operation == US_LOG_IN ? "login" : "register";
    us_credentials credentials;
    us_call call;

    is_int(parse(operation, bad[i].body, &call, &credentials),
           US_INVALID_REQUEST, "%s %s", name, bad[i].body);
    is_str(complaints(&call), bad[i].said, "the complaints");
    ok(call.cause != NULL
           && strncmp(bad[i].said, call.cause, strlen(call.cause)) == 0,
       "the log names the first: %s", shown(call.cause));
}

static void test_bad(void)
{
    apr_size_t i;

    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (bad[i].operation != US_LOG_IN) {
            check_bad(US_SIGN_UP, i);
        }
        if (bad[i].operation != US_SIGN_UP) {
            check_bad(US_LOG_IN, i);
        }
    }
}

static void test_no_json(void)
{
    static const char *const bodies[]
        = {"",
           "null",
           "[]",
           "\"a@b\"",
           "email=a%40b&password=x",
           "{" EMAIL "," PASSWORD,
           "{" EMAIL "," PASSWORD ",}",
           "{" EMAIL ",\"password\":\"secret\xFF\"}",
           "{" EMAIL ",\"password\":\"sec\\u0000ret\"}",
           "{" EMAIL "," PASSWORD ",\"x\":NaN}"};
    apr_size_t i;

    for (i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
        us_credentials credentials;
        us_call call;
        const char *said;

        is_int(parse(US_SIGN_UP, bodies[i], &call, &credentials),
               US_INVALID_REQUEST, "no JSON object: %s",
               apr_pescape_echo(pool, bodies[i], 0));
        said = complaints(&call);
        ok(strncmp(said, " is not a JSON object: ", 23) == 0,
           "one complaint about the whole:%s", shown(said));
        ok(strstr(said, "secret") == NULL
               && strstr(call.cause, "secret") == NULL,
           "which does not quote it");
        ok(credentials.email == NULL && credentials.password.text == NULL
               && credentials.data.text == NULL
               && credentials.captcha_token.text == NULL,
           "and there are no credentials");
    }
}

/* --- limits --- */

static us_outcome with_password(us_operation operation, const char *piece,
                                int count)
{
    us_credentials credentials;
    us_call call;

    return parse(operation,
                 apr_pstrcat(pool, "{" EMAIL ",\"password\":\"",
                             repeat(piece, count), "\"}", NULL),
                 &call, &credentials);
}

static void test_password_length(void)
{
    is_int(with_password(US_SIGN_UP, "x", 72), US_OK, "72 bytes on register");
    is_int(with_password(US_SIGN_UP, "x", 73), US_INVALID_REQUEST,
           "73 bytes on register");
    is_int(with_password(US_SIGN_UP, "\xC3\xA9", 36), US_OK,
           "36 characters of two bytes");
    is_int(with_password(US_SIGN_UP, "\xC3\xA9", 37), US_INVALID_REQUEST,
           "37 characters of two bytes");
    is_int(with_password(US_SIGN_UP, "\\u00e9", 36), US_OK,
           "36 escapes: their meaning counts");
    is_int(with_password(US_SIGN_UP, "\\u00e9", 37), US_INVALID_REQUEST,
           "37 escapes");
    is_int(with_password(US_SIGN_UP, "\\uD83D\\uDE00", 18), US_OK,
           "18 characters of four bytes");
    is_int(with_password(US_SIGN_UP, "\\uD83D\\uDE00", 19), US_INVALID_REQUEST,
           "19 characters of four bytes");
    is_int(with_password(US_LOG_IN, "x", 73), US_OK, "73 bytes on login");
    is_int(with_password(US_LOG_IN, "x", 4000), US_OK, "any length on login");
}

static us_outcome with_email(const char *before, int count)
{
    us_credentials credentials;
    us_call call;

    return parse(US_LOG_IN,
                 apr_pstrcat(pool, "{\"email\":\"", before, repeat("x", count),
                             "@b  \"," PASSWORD "}", NULL),
                 &call, &credentials);
}

static void test_email_length(void)
{
    is_int(with_email("", US_EMAIL_MAX - 2), US_OK, "255 bytes of e-mail");
    is_int(with_email("", US_EMAIL_MAX - 1), US_INVALID_REQUEST, "256 bytes");
    is_int(with_email("   ", US_EMAIL_MAX - 2), US_OK,
           "blanks around it do not count");
    is_int(with_email("\\u0078", US_EMAIL_MAX - 3), US_OK,
           "an escape counts by its meaning");
}

static us_outcome with_data(int depth)
{
    us_credentials credentials;
    us_call call;

    return parse(US_SIGN_UP,
                 apr_pstrcat(pool, "{" EMAIL "," PASSWORD ",\"data\":{\"a\":",
                             repeat("[", depth), repeat("]", depth), "}}",
                             NULL),
                 &call, &credentials);
}

static void test_data_depth(void)
{
    is_int(with_data(10), US_OK, "data that is nested");
    is_int(with_data(100), US_INVALID_REQUEST, "data that is nested too deep");
}

static void test_no_copies(void)
{
    us_credentials credentials;
    us_call call;

    spy_on("correct horse");
    parse(US_LOG_IN,
          "{" EMAIL ",\"password\":\"correct horse\",\"x\":[\"correct horse\"]"
          "}",
          &call, &credentials);
    is_int(spy_readings() + spy_leaks(), 0,
           "json-c has not seen the password");
}

/* --- reading a body --- */

#define MAX 300

typedef struct fake_request {
    request_rec r;
    conn_rec connection;
    void *configs[1];
    us_dir_conf dir;
    us_call call;
    us_credentials credentials;
} fake_request;

static fake_request *make_request(const char *type)
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
    if (type != NULL) {
        apr_table_setn(fake->r.headers_in, "Content-Type", type);
    }
    return fake;
}

static us_outcome read_it(fake_request *fake, const stub_read *reads,
                          int count)
{
    stub_body(reads, count);
    return us_request_read(&fake->r, &fake->call, US_LOG_IN,
                           &fake->credentials);
}

/* A piece of the body; the last one has the end. */
static stub_read piece(fake_request *fake, const char *text, int last)
{
    apr_bucket_alloc_t *alloc = fake->connection.bucket_alloc;
    stub_read read = {APR_SUCCESS, apr_brigade_create(fake->r.pool, alloc)};

    if (text != NULL) {
        APR_BRIGADE_INSERT_TAIL(read.brigade, apr_bucket_immortal_create(
                                                  text, strlen(text), alloc));
    }
    APR_BRIGADE_INSERT_TAIL(read.brigade, apr_bucket_flush_create(alloc));
    if (last) {
        APR_BRIGADE_INSERT_TAIL(read.brigade, apr_bucket_eos_create(alloc));
    }
    return read;
}

#define BODY "{" EMAIL "," PASSWORD "}"

static void test_media_types(void)
{
    static const struct {
        const char *type;
        const char *encoding;
        us_outcome outcome;
    } cases[] = {
        {"application/json", NULL, US_OK},
        {"Application/JSON", NULL, US_OK},
        {"application/json;charset=utf-8", NULL, US_OK},
        {"application/json ; charset=UTF-8", NULL, US_OK},
        {"application/json", "identity", US_OK},
        {"application/json", "Identity", US_OK},
        {NULL, NULL, US_UNSUPPORTED_MEDIA},
        {"", NULL, US_UNSUPPORTED_MEDIA},
        {"text/plain", NULL, US_UNSUPPORTED_MEDIA},
        {"text/json", NULL, US_UNSUPPORTED_MEDIA},
        {"application/jsonp", NULL, US_UNSUPPORTED_MEDIA},
        {"application/json-seq", NULL, US_UNSUPPORTED_MEDIA},
        {"application/json, text/plain", NULL, US_UNSUPPORTED_MEDIA},
        {"application/problem+json", NULL, US_UNSUPPORTED_MEDIA},
        {"application/x-www-form-urlencoded", NULL, US_UNSUPPORTED_MEDIA},
        {"multipart/form-data; boundary=application/json", NULL,
         US_UNSUPPORTED_MEDIA},
        {"application/json", "gzip", US_UNSUPPORTED_MEDIA},
        {"application/json", "identity, gzip", US_UNSUPPORTED_MEDIA},
    };
    apr_size_t i;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        fake_request *fake = make_request(cases[i].type);
        stub_read body = piece(fake, BODY, 1);

        if (cases[i].encoding != NULL) {
            apr_table_setn(fake->r.headers_in, "Content-Encoding",
                           cases[i].encoding);
        }
        is_int(read_it(fake, &body, 1), cases[i].outcome, "type %s, %s",
               cases[i].type != NULL ? cases[i].type : "none",
               cases[i].encoding != NULL ? cases[i].encoding : "as it is");
        apr_pool_destroy(fake->r.pool);
    }
}

static void test_pieces(void)
{
    fake_request *fake = make_request("application/json");
    stub_read reads[] = {piece(fake, "{" EMAIL ",", 0), piece(fake, NULL, 0),
                         piece(fake, PASSWORD, 0), piece(fake, "}", 0),
                         piece(fake, NULL, 1)};

    is_int(read_it(fake, reads, 5), US_OK, "a body in pieces");
    is_str(fake->credentials.email, "a@b", "is put together");
    apr_pool_destroy(fake->r.pool);
}

/* A body of that many bytes, with blanks after the object. */
static us_outcome read_sized(apr_size_t len, const char *content_length)
{
    fake_request *fake = make_request("application/json");
    char *text = apr_palloc(fake->r.pool, len + 1);
    stub_read reads[2];
    us_outcome outcome;

    memset(text, ' ', len);
    memcpy(text, BODY, sizeof(BODY) - 1);
    text[len] = '\0';
    if (content_length != NULL) {
        apr_table_setn(fake->r.headers_in, "Content-Length", content_length);
    }
    reads[0] = piece(fake, apr_pstrmemdup(fake->r.pool, text, 100), 0);
    reads[1] = piece(fake, text + 100, 1);
    outcome = read_it(fake, reads, 2);
    apr_pool_destroy(fake->r.pool);
    return outcome;
}

static void test_sizes(void)
{
    is_int(read_sized(MAX, NULL), US_OK, "as long as allowed, chunked");
    is_int(read_sized(MAX + 1, NULL), US_BODY_TOO_LARGE, "a byte more");
    is_int(read_sized(3000, NULL), US_BODY_TOO_LARGE, "much more");
    is_int(read_sized(MAX, "300"), US_OK, "as long as allowed, announced");
    is_int(read_sized(MAX, "301"), US_BODY_TOO_LARGE,
           "more announced: refused unread");
    is_int(read_sized(MAX, "99999999999999999999"), US_BODY_TOO_LARGE,
           "more announced than a number holds");
    is_int(read_sized(MAX + 1, "300"), US_BODY_TOO_LARGE,
           "more sent than announced");
}

static void test_read_failures(void)
{
    static const struct {
        apr_status_t rv;
        us_outcome outcome;
        const char *name;
    } cases[] = {
        {APR_ENOSPC, US_BODY_TOO_LARGE, "LimitRequestBody"},
        {APR_TIMEUP, US_BODY_TIMEOUT, "a time-out"},
        {APR_ETIMEDOUT, US_BODY_TIMEOUT, "a time-out of the socket"},
        {AP_FILTER_ERROR, US_ANSWERED_ALREADY, "a filter that has answered"},
        {APR_EOF, US_INVALID_REQUEST, "an early end"},
        {APR_INCOMPLETE, US_INVALID_REQUEST, "an incomplete chunk"},
        {APR_EGENERAL, US_INVALID_REQUEST, "anything else"},
    };
    apr_size_t i;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        fake_request *fake = make_request("application/json");
        stub_read reads[]
            = {piece(fake, "{" EMAIL ",", 0), {cases[i].rv, NULL}};

        is_int(read_it(fake, reads, 2), cases[i].outcome, "%s", cases[i].name);
        ok(fake->call.cause != NULL
               && (cases[i].outcome != US_INVALID_REQUEST
                   || fake->call.fields != NULL),
           "with a cause: %s", shown(fake->call.cause));
        apr_pool_destroy(fake->r.pool);
    }
}

/* The brigade arrives, but its content cannot be read. */
static void test_unreadable_bucket(void)
{
    fake_request *fake = make_request("application/json");
    stub_read body = piece(fake, NULL, 1);
    apr_file_t *file = NULL;

    apr_file_open(&file, "/dev/null", APR_WRITE, APR_OS_DEFAULT, fake->r.pool);
    APR_BRIGADE_INSERT_HEAD(
        body.brigade,
        apr_bucket_pipe_create(file, fake->connection.bucket_alloc));
    is_int(read_it(fake, &body, 1), US_INVALID_REQUEST, "an unreadable piece");
    ok(strstr(shown(fake->call.cause), "cannot be read") != NULL,
       "with its cause: %s", shown(fake->call.cause));
    apr_pool_destroy(fake->r.pool);
}

static void test_body_is_wiped(void)
{
    fake_request *fake = make_request("application/json");
    stub_read body = piece(fake, BODY, 1);
    const volatile char *password;
    apr_size_t i;

    is_int(read_it(fake, &body, 1), US_OK, "a body with a password");
    password = fake->credentials.password.text;
    ok(password[1] == 's', "which is there while the request lasts");
    apr_pool_clear(fake->r.pool);
    for (i = 0; i < sizeof("secret") + 1 && password[i] == '\0'; i++) {
    }
    is_int((long long)i, sizeof("secret") + 1, "and gone with it");
}

int main(void)
{
    apr_initialize();
    apr_pool_create(&pool, NULL);
    test_good();
    test_bad();
    test_no_json();
    test_password_length();
    test_email_length();
    test_data_depth();
    test_no_copies();
    test_media_types();
    test_pieces();
    test_sizes();
    test_read_failures();
    test_unreadable_bucket();
    test_body_is_wiped();
    apr_pool_destroy(pool);
    apr_terminate();
    return done();
}
