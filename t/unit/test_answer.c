/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * supabase/answer.c: each recorded answer of Supabase, each way to get no
 * answer, and answers as a hostile or broken upstream would make them.
 *
 *   test_answer [DIRECTORY OF FIXTURES]
 */
#include "answer_cases.h"
#include "fixtures.h"
#include "json_spy.h"
#include "tap.h"
#include "supabase/answer.h"

#include <apr_escape.h>
#include <apr_general.h>
#include <apr_strings.h>

static apr_pool_t *pool;

/* id, e-mail, phone and three members of the metadata. */
static apr_array_header_t *make_columns(void)
{
    static const us_column columns[]
        = {{US_FIELD_ID, NULL, "\"id\"", "id"},
           {US_FIELD_EMAIL, NULL, "\"email\"", "email"},
           {US_FIELD_PHONE, NULL, "\"phone\"", "phone"},
           {US_FIELD_USER_METADATA, "full_name", "\"n\"", "n"},
           {US_FIELD_APP_METADATA, "provider", "\"p\"", "p"},
           {US_FIELD_APP_METADATA, "providers", "\"ps\"", "ps"}};
    apr_array_header_t *list = apr_array_make(pool, 6, sizeof(us_column));
    apr_size_t i;

    for (i = 0; i < sizeof(columns) / sizeof(columns[0]); i++) {
        APR_ARRAY_PUSH(list, us_column) = columns[i];
    }
    return list;
}

enum { ID, EMAIL, PHONE, FULL_NAME, PROVIDER, PROVIDERS };

#define U1 "7f1a2c9e-3b54-4d0e-9c61-52a8d0b4e117"
#define U2 "e4b1d7a6-2c08-4f93-b5de-90a7c3f16b22"

static apr_array_header_t *columns;
static us_call call;
static us_identity identity;

/* The address that was sent, unless a test sets another. */
#define ADA "ada@example.com"
static const char *sent = ADA;

static us_outcome judge(us_operation operation, const us_http_answer *answer)
{
    us_question question = {operation, sent, columns};

    memset(&call, 0, sizeof(call));
    call.pool = pool;
    memset(&identity, 0x55, sizeof(identity));
    return us_answer_judge(&call, &question, answer, &identity);
}

/* An answer with these bytes as its body, in memory of its own. */
static us_http_answer answer_of(long status, const char *body, apr_size_t len)
{
    us_http_answer answer;

    memset(&answer, 0, sizeof(answer));
    answer.result = US_HTTP_ANSWERED;
    answer.status = status;
    answer.content_type = "application/json";
    answer.body = apr_pstrmemdup(pool, body, len);
    answer.body_len = len;
    return answer;
}

/* The outcome of this body as the answer to a sign-up or login. */
static us_outcome judge_text(us_operation operation, long status,
                             const char *body)
{
    us_http_answer answer = answer_of(status, body, strlen(body));

    return judge(operation, &answer);
}

/* --- the fixtures --- */

static void check_case(const answer_case *want, const fixture *given,
                       us_operation operation)
{
    us_outcome expected = operation == US_SIGN_UP ? want->signup : want->login;
    int has_user = expected == US_OK || expected == US_PENDING;
    us_http_answer answer = answer_of(given->status != 0 ? given->status : 200,
                                      given->body, given->len);
    const char *op = operation == US_SIGN_UP ? "sign-up" : "login";

    answer.content_type = given->content_type;
    if (answer.status / 100 != 2) { /* as us_http.h describes */
        answer.wanted[US_ANSWER_ERROR_CODE] = given->error_code;
        answer.wanted[US_ANSWER_RETRY_AFTER] = given->retry_after;
        answer.wanted[US_ANSWER_USER_ID] = given->user_id;
    }
    is_int(judge(operation, &answer), expected, "%s to a %s", want->file, op);
    is_str(identity.id, has_user ? want->id : NULL, "the user");
    is_int(identity.proven, has_user ? want->proven : 0, "proven");
    ok(expected == US_OK ? identity.session.text == answer.body
                               && identity.session.len == given->len
                         : identity.session.text == NULL,
       "the session is the body as it came, or none");
    is_str(call.code, has_user ? NULL : want->code, "Supabase's code");
    is_int(call.retry_after, want->retry_after, "seconds to wait");
    is_str(call.message,
           operation == US_SIGN_UP && want->signup_message != NULL
               ? want->signup_message
               : want->message,
           "the text that may be shown");
    is_int(call.foreign,
           want->foreign || (operation == US_SIGN_UP && want->foreign_signup),
           "another user's");
    is_str(call.reasons, want->reasons, "reasons");
    ok(has_user ? call.cause == NULL
                : call.cause != NULL && strstr(call.cause, "ada@") == NULL
                      && strstr(call.cause, "eyJ") == NULL,
       "the log's words hold no address and no token");
}

static void test_fixtures(const char *directory)
{
    int count = 0;
    const fixture *fixtures = fixtures_load(pool, directory, &count);
    int cases;

    ok(fixtures != NULL, "the fixtures can be read");
    for (cases = 0; fixtures != NULL && answer_cases[cases].file != NULL;
         cases++) {
        const answer_case *want = &answer_cases[cases];
        const fixture *given = fixtures_find(fixtures, count, want->file);

        if (given == NULL) {
            ok(0, "%s is not listed", want->file);
            continue;
        }
        check_case(want, given, US_SIGN_UP);
        check_case(want, given, US_LOG_IN);
    }
    is_int(cases, count, "each fixture has its case");
}

/* The values that the recorded users give the columns. */
static void test_fixture_values(const char *directory)
{
    int count = 0;
    const fixture *fixtures = fixtures_load(pool, directory, &count);
    const fixture *given;

    if (fixtures == NULL) {
        return;
    }
    given = fixtures_find(fixtures, count,
                          "token_password_session_escapes.json");
    judge_text(US_LOG_IN, 200, given->body);
    is_str(identity.values[ID].text, "7f1a2c9e-3b54-4d0e-9c61-52a8d0b4e117",
           "id");
    is_str(identity.values[EMAIL].text, "ada@example.com", "e-mail");
    is_str(identity.values[PHONE].text, NULL, "an empty phone is NULL");
    is_str(identity.values[FULL_NAME].text,
           "Zo\xC3\xAB \"Z\" <b>&</b> \xF0\x9F\x98\x80 \xE2\x80\xA8 \\ /",
           "a text is decoded");
    is_str(identity.values[FULL_NAME].json,
           "\"Zo\xC3\xAB \\\"Z\\\" \\u003cb\\u003e\\u0026\\u003c/b\\u003e "
           "\xF0\x9F\x98\x80 \\u2028 \\\\ /\"",
           "and its JSON is as it came");
    is_str(identity.values[PROVIDER].text, "email", "app_metadata");
    is_str(identity.values[PROVIDERS].text, "[\"email\"]",
           "an array's text is its JSON");
    is_str(identity.values[PROVIDERS].json, "[\"email\"]", "as its JSON is");
    given = fixtures_find(fixtures, count, "user_get_mfa.json");
    judge_text(US_SIGN_UP, 200, given->body);
    is_str(identity.values[PHONE].text, NULL, "an empty phone as JSON: NULL");
    is_str(identity.values[PHONE].json, NULL, "as JSON too");
}

/* --- transport --- */

static void test_transport(void)
{
    static const struct {
        us_http_result result;
        us_outcome signup;
        us_outcome login;
        us_health health;
        const char *why;
        const char *name;
    } results[] = {
        {US_HTTP_UNREACHABLE, US_UPSTREAM_UNAVAILABLE, US_UPSTREAM_UNAVAILABLE,
         US_HEALTH_BAD, "it rained", "nothing sent"},
        {US_HTTP_TIMEOUT, US_UNKNOWN_TIMEOUT, US_UPSTREAM_TIMEOUT,
         US_HEALTH_BAD, "it rained", "a time-out"},
        {US_HTTP_BROKEN, US_UNKNOWN_BROKEN, US_UPSTREAM_BAD_ANSWER,
         US_HEALTH_BAD, "it rained", "a broken answer"},
        {US_HTTP_TOO_BIG, US_UNKNOWN_BROKEN, US_UPSTREAM_BAD_ANSWER,
         US_HEALTH_UNKNOWN, "the user's metadata is too large",
         "an answer too big"},
    };
    apr_size_t i;

    for (i = 0; i < sizeof(results) / sizeof(results[0]); i++) {
        us_http_answer answer;

        memset(&answer, 0, sizeof(answer));
        answer.result = results[i].result;
        answer.problem = "it rained";
        answer.wanted[US_ANSWER_USER_ID] = U1;
        is_int(judge(US_SIGN_UP, &answer), results[i].signup, "sign-up: %s",
               results[i].name);
        ok(call.cause != NULL && strstr(call.cause, results[i].why) != NULL,
           "the log says why: %s", shown(call.cause));
        is_int(call.health, results[i].health, "Supabase's health");
        ok(identity.id == NULL && !identity.proven
               && identity.session.text == NULL,
           "and there is no user");
        ok((strstr(call.cause, "UserSyncRegisterTimeout") != NULL)
               == (results[i].result == US_HTTP_TIMEOUT),
           "and which directive ended the wait, if one did");
        is_int(judge(US_LOG_IN, &answer), results[i].login, "login: %s",
               results[i].name);
        ok((strstr(call.cause, "UserSyncTimeout") != NULL)
               == (results[i].result == US_HTTP_TIMEOUT),
           "and its directive");
        is_str(call.about,
               results[i].result == US_HTTP_TOO_BIG ? "user " U1 : NULL,
               "which user it is about, if known");
    }
}

/* --- which users are proven --- */

/* The end of an id, and the address. */
#define MAIL "\",\"email\":\"" ADA "\""

/* 2xx bodies; id NULL: a bad answer. */
static const struct {
    us_operation operation;
    int proven;
    const char *id;
    const char *body;
} bodies[] = {
    /* sessions */
    {US_LOG_IN, 1, U1,
     "{\"access_token\":\"t\",\"user\":{\"id\":\"" U1 MAIL "}}"},
    {US_SIGN_UP, 1, U1,
     "{\"access_token\":\"t\",\"user\":{\"id\":\"" U1 MAIL "}}"},
    {US_LOG_IN, 1, U1,
     " {\"user\":{\"id\":\"" U1 MAIL "},\"access_token\":\"t\"} "},
    {US_LOG_IN, 1, U1,
     "{\"access_token\":\"t\",\"id\":\"" U2 MAIL ",\"user\":{\"id\":\"" U1 MAIL
     "}}"},
    {US_LOG_IN, 1, U1,
     "{\"access_token\":\"t\",\"user\":{\"id\":\"" U2 MAIL
     "},\"user\":{\"id\":\"" U1 MAIL "}}"},
    {US_LOG_IN, 1, U1,
     "{\"access_token\":\"t\",\"user\":{\"id\":"
     "\"7F1A2C9E-3B54-4D0E-9C61-52A8D0B4E117" MAIL "}}"},
    {US_LOG_IN, 0, NULL,
     "{\"access_token\":\"\",\"user\":{\"id\":\"" U1 MAIL "}}"},
    {US_LOG_IN, 0, NULL,
     "{\"access_token\":null,\"user\":{\"id\":\"" U1 MAIL "}}"},
    {US_LOG_IN, 0, NULL,
     "{\"access_token\":1,\"user\":{\"id\":\"" U1 MAIL "}}"},
    {US_LOG_IN, 0, NULL,
     "{\"access_token\":{},\"user\":{\"id\":\"" U1 MAIL "}}"},
    {US_LOG_IN, 0, NULL, "{\"user\":{\"id\":\"" U1 MAIL "}}"},
    {US_LOG_IN, 0, NULL, "{\"access_token\":\"t\"}"},
    {US_LOG_IN, 0, NULL, "{\"access_token\":\"t\",\"user\":null}"},
    {US_LOG_IN, 0, NULL, "{\"access_token\":\"t\",\"user\":\"" U1 "\"}"},
    {US_LOG_IN, 0, NULL,
     "{\"access_token\":\"t\",\"user\":[{\"id\":\"" U1 MAIL "}]}"},
    {US_LOG_IN, 0, NULL, "{\"access_token\":\"t\",\"user\":{}}"},
    {US_LOG_IN, 0, NULL, "{\"access_token\":\"t\",\"user\":{\"id\":null}}"},
    {US_LOG_IN, 0, NULL, "{\"access_token\":\"t\",\"user\":{\"id\":7}}"},
    {US_LOG_IN, 0, NULL, "{\"access_token\":\"t\",\"user\":{\"id\":\"\"}}"},
    {US_LOG_IN, 0, NULL,
     "{\"access_token\":\"t\",\"user\":{\"id\":\"x'; DROP\"}}"},
    {US_LOG_IN, 0, NULL,
     "{\"access_token\":\"t\",\"user\":{\"id\":\"" U1 "0\"}}"},
    {US_LOG_IN, 0, NULL, "{\"access_token\":\"t\",\"id\":\"" U1 "\"}"},
    {US_LOG_IN, 0, NULL,
     "{\"Access_Token\":\"t\",\"User\":{\"ID\":\"" U1 "\"}}"},
    {US_LOG_IN, 0, NULL,
     "[{\"access_token\":\"t\",\"user\":{\"id\":\"" U1 MAIL "}}]"},
    /* users without a session: proven only by an identity of their own */
    {US_SIGN_UP, 1, U1,
     "{\"id\":\"" U1 MAIL ",\"identities\":[{\"user_id\":\"" U1 "\"}]}"},
    {US_SIGN_UP, 1, U1,
     "{\"id\":\"" U1 MAIL ",\"identities\":[{\"user_id\":\"" U2
     "\"},{\"user_id\":\"" U1 "\"}]}"},
    {US_SIGN_UP, 0, U1, "{\"id\":\"" U1 MAIL ",\"identities\":[]}"},
    {US_SIGN_UP, 0, U1,
     "{\"id\":\"" U1 MAIL ",\"role\":\"x\",\"identities\":[]}"},
    {US_SIGN_UP, 0, U1,
     "{\"id\":\"" U1 MAIL ",\"identities\":[{\"user_id\":\"" U2 "\"}]}"},
    {US_SIGN_UP, 0, U1,
     "{\"id\":\"" U1 MAIL ",\"identities\":[{\"id\":\"" U1 MAIL "}]}"},
    {US_SIGN_UP, 0, U1,
     "{\"id\":\"" U1 MAIL ",\"identities\":[\"" U1 "\",null,7,[]]}"},
    {US_SIGN_UP, 0, NULL, "{\"id\":\"" U1 MAIL ",\"identities\":null}"},
    {US_SIGN_UP, 0, NULL,
     "{\"id\":\"" U1 MAIL ",\"identities\":{\"user_id\":\"" U1 "\"}}"},
    {US_SIGN_UP, 0, NULL, "{\"id\":\"" U1 MAIL "}"},
    {US_SIGN_UP, 0, NULL,
     "{\"id\":\"x\",\"identities\":[{\"user_id\":\"x\"}]}"},
    {US_SIGN_UP, 0, NULL, "{\"identities\":[{\"user_id\":\"" U1 "\"}]}"},
    {US_SIGN_UP, 0, NULL,
     "{\"user\":{\"id\":\"" U1 MAIL ",\"identities\":[{\"user_id\":\"" U1
     "\"}]}}"},
    {US_LOG_IN, 0, NULL,
     "{\"id\":\"" U1 MAIL ",\"identities\":[{\"user_id\":\"" U1 "\"}]}"},
    /* no usable answer */
    {US_SIGN_UP, 0, NULL, ""},
    {US_SIGN_UP, 0, NULL, "{}"},
    {US_SIGN_UP, 0, NULL, "null"},
    {US_SIGN_UP, 0, NULL, "\"" U1 "\""},
    {US_SIGN_UP, 0, NULL, "<html></html>"},
    {US_SIGN_UP, 0, NULL,
     "{\"access_token\":\"t\",\"user\":{\"id\":\"" U1 MAIL "}"},
    {US_SIGN_UP, 0, NULL,
     "{\"access_token\":\"t\",\"user\":{\"id\":\"" U1 MAIL "}}{}"},
    {US_SIGN_UP, 0, NULL,
     "{\"access_token\":\"t\xFF\",\"user\":{\"id\":\"" U1 MAIL "}}"},
    {US_SIGN_UP, 0, NULL, "{\"code\":\"200\",\"msg\":\"x\"}"},
    {US_SIGN_UP, 0, NULL, "{\"code\":\"weak_password\",\"msg\":\"x\"}"},
    {US_LOG_IN, 0, NULL, "{\"code\":\"invalid_credentials\"}"},
};

static void test_bodies(void)
{
    static const long statuses[] = {200, 201, 299};
    apr_size_t i;

    for (i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
        int session = strstr(bodies[i].body, "access_token") != NULL;
        us_outcome want = bodies[i].id != NULL
                              ? (session ? US_OK : US_PENDING)
                              : (bodies[i].operation == US_SIGN_UP
                                     ? US_UNKNOWN_BROKEN
                                     : US_UPSTREAM_BAD_ANSWER);

        is_int(
            judge_text(bodies[i].operation, statuses[i % 3], bodies[i].body),
            want, "%s", bodies[i].body);
        is_str(identity.id, bodies[i].id, "the user");
        is_int(identity.proven, bodies[i].proven, "proven");
        ok(call.code == NULL && call.message == NULL, "no code, no text");
    }
}

/* A bad answer must not leave a partly read user. */
static void test_nothing_left(void)
{
    judge_text(US_LOG_IN, 200,
               "{\"id\":\"" U1 "\",\"email\":\"a@b\",\"identities\":[]}");
    ok(identity.id == NULL && identity.values[EMAIL].text == NULL,
       "a bad answer leaves no user");
}

/* --- values --- */

static void test_values(void)
{
    sent = "a@b";
    judge_text(US_LOG_IN, 200,
               "{\"access_token\":\"t\",\"email\":\"no@no\",\"user\":{"
               "\"id\":\"7F1A2C9E-3B54-4D0E-9C61-52A8D0B4E117\",\"email\":"
               "\"A@B\",\"phone\":null,"
               "\"user_metadata\":{\"full_name\":\"\"},"
               "\"app_metadata\":{\"provider\":1.50,\"providers\":null}}}");
    is_str(identity.values[ID].text, U1, "the id in small letters");
    is_str(identity.values[EMAIL].text, "A@B", "as Supabase returned it");
    is_str(identity.values[EMAIL].json, "\"A@B\"", "and as JSON");
    is_str(identity.values[PHONE].text, NULL, "null is NULL");
    is_str(identity.values[FULL_NAME].text, "", "empty metadata stays empty");
    is_str(identity.values[FULL_NAME].json, "\"\"", "as JSON too");
    is_str(identity.values[PROVIDER].text, "1.50", "a number's digits");
    is_str(identity.values[PROVIDERS].text, NULL, "null in metadata: NULL");
    is_str(identity.values[PROVIDERS].json, NULL, "as JSON too");
    judge_text(US_LOG_IN, 200,
               "{\"access_token\":\"t\",\"user\":{\"id\":\"" U1 "\","
               "\"email\":\"a@b\",\"user_metadata\":[],\"app_metadata\":"
               "{\"provider\":{\"a\": 1},\"providers\":true}}}");
    is_str(identity.values[FULL_NAME].text, NULL,
           "metadata that is no object has no members");
    is_str(identity.values[PROVIDER].text, "{\"a\": 1}",
           "an object's text is its JSON");
    is_str(identity.values[PROVIDERS].text, "true", "a word");
    sent = ADA;
}

static void test_no_copies(void)
{
    spy_on("token-123");
    judge_text(US_LOG_IN, 200,
               "{\"access_token\":\"token-123\",\"refresh_token\":"
               "\"token-123\",\"user\":{\"id\":\"" U1 MAIL "}}");
    is_int(spy_readings() + spy_leaks(), 0, "json-c has not seen the tokens");
}

/* --- errors --- */

/* Answers of other statuses; NULL members: absent. */
static const struct {
    long status;
    const char *type;
    const char *body;
    const char *header_code;
    us_outcome login;
    const char *code;
} errors[] = {
    /* where the code is, and the order of the places */
    {400, "application/json", "{\"code\":\"a\",\"error_code\":\"b\"}", "c",
     US_REFUSED, "a"},
    {400, "application/json", "{\"code\":400,\"error_code\":\"b\"}", "c",
     US_REFUSED, "b"},
    {400, "application/json", "{\"code\":400,\"error\":\"d\"}", "c",
     US_REFUSED, "d"},
    {400, "application/json", "{\"code\":400}", "c", US_REFUSED, "c"},
    {400, "application/json", "{\"code\":\"\",\"error_code\":null}", "c",
     US_REFUSED, "c"},
    {400, "text/plain", "what?", "user_banned", US_NOT_ALLOWED, "user_banned"},
    /* text that cannot be a code is no code */
    {400, "application/json", "{\"code\":\"a b\"}", NULL,
     US_UPSTREAM_BAD_ANSWER, NULL},
    {400, "application/json", "{\"code\":\"a\\r\\nSet-Cookie: x\"}", NULL,
     US_UPSTREAM_BAD_ANSWER, NULL},
    {400, "application/json", "{\"code\":\"<script>\"}", "real_code",
     US_REFUSED, "real_code"},
    {400, "application/json", "{\"code\":\"\\u00e9\"}", NULL,
     US_UPSTREAM_BAD_ANSWER, NULL},
    {400, "application/json", "{\"error\":{\"code\":\"x\"}}", NULL,
     US_UPSTREAM_BAD_ANSWER, NULL},
    {400, "application/json",
     "{\"code\":\"a123456789a123456789a123456789a123456789a123456789a123456789"
     "a1234\"}",
     NULL, US_UPSTREAM_BAD_ANSWER, NULL},
    {400, "application/json", "{\"code\":\"x\"}", "a b", US_REFUSED, "x"},
    {400, "application/json", "{\"error\":\"Bad Request\"}", NULL,
     US_UPSTREAM_BAD_ANSWER, NULL},
    {400, "application/json", "{\"code\":\"Refused\"}", NULL,
     US_UPSTREAM_BAD_ANSWER, NULL},
    {400, "application/json", "{\"code\":\"400\"}", NULL,
     US_UPSTREAM_BAD_ANSWER, NULL},
    {400, "application/json", "{\"code\":\"_x\"}", NULL,
     US_UPSTREAM_BAD_ANSWER, NULL},
    {400, "application/json", "{\"code\":\"x_1\"}", NULL, US_REFUSED, "x_1"},
    {400, "application/json", "{\"code\":\"22P02\"}", NULL, US_REFUSED,
     "22P02"},
    {400, "application/json", "{\"code\":\"22p02\"}", NULL,
     US_UPSTREAM_BAD_ANSWER, NULL},
    {400, "application/json", "{\"code\":\"22P020\"}", NULL,
     US_UPSTREAM_BAD_ANSWER, NULL},
    /* a gateway's words are no code with the statuses it uses itself */
    {401, "application/json", "{\"code\":\"unauthorized\"}", NULL,
     US_KEY_REFUSED, NULL},
    {401, "application/json", "{\"error\":\"Unauthorized\"}", NULL,
     US_KEY_REFUSED, NULL},
    {401, "application/json", "{\"code\":\"new_code\"}", "new_code",
     US_REFUSED, "new_code"},
    {402, "application/json", "{\"code\":\"exceed_quota\"}", NULL,
     US_UPSTREAM_UNAVAILABLE, NULL},
    {540, "application/json", "{\"code\":\"project_paused\"}", NULL,
     US_UPSTREAM_UNAVAILABLE, NULL},
    {402, "application/json", "{\"code\":\"user_banned\"}", NULL,
     US_NOT_ALLOWED, "user_banned"},
    /* by code, not by status */
    {500, "application/json", "{\"code\":\"invalid_credentials\"}", NULL,
     US_INVALID_CREDENTIALS, "invalid_credentials"},
    {503, "application/json", "{\"code\":\"over_request_rate_limit\"}", NULL,
     US_RATE_LIMITED, "over_request_rate_limit"},
    {422, "application/json", "{\"code\":\"over_sms_send_rate_limit\"}", NULL,
     US_RATE_LIMITED, "over_sms_send_rate_limit"},
    {404, "application/json", "{\"code\":\"email_exists\"}", NULL,
     US_USER_EXISTS, "email_exists"},
    {401, "application/json", "{\"code\":\"phone_not_confirmed\"}", NULL,
     US_NOT_ALLOWED, "phone_not_confirmed"},
    {403, "text/html", "x", "provider_disabled", US_NOT_ALLOWED,
     "provider_disabled"},
    {422, "application/json", "{\"code\":\"phone_provider_disabled\"}", NULL,
     US_NOT_ALLOWED, "phone_provider_disabled"},
    {302, "application/json", "{\"code\":\"unknown\"}", NULL, US_REFUSED,
     "unknown"},
    {500, "application/json", "{\"code\":\"unknown\"}", NULL, US_REFUSED,
     "unknown"},
    /* an unknown code: by status */
    {400, "application/json", "{\"code\":\"new_code\"}", NULL, US_REFUSED,
     "new_code"},
    {499, "application/json", "{\"code\":\"new_code\"}", NULL, US_REFUSED,
     "new_code"},
    {429, "application/json", "{\"code\":\"new_code\"}", NULL, US_RATE_LIMITED,
     "new_code"},
    {500, "application/json", "{\"code\":\"new_code\"}", NULL,
     US_UPSTREAM_BAD_ANSWER, "new_code"},
    {302, "application/json", "{\"code\":\"new_code\"}", NULL,
     US_UPSTREAM_BAD_ANSWER, "new_code"},
    /* no code: from a gateway */
    {401, "application/json", "{\"message\":\"x\"}", NULL, US_KEY_REFUSED,
     NULL},
    {401, "text/html", "<html>", NULL, US_KEY_REFUSED, NULL},
    {401, NULL, "", NULL, US_KEY_REFUSED, NULL},
    {403, "application/json", "{\"message\":\"x\"}", NULL, US_KEY_REFUSED,
     NULL},
    {403, "text/plain", "Forbidden", NULL, US_KEY_REFUSED, NULL},
    {403, NULL, "", NULL, US_KEY_REFUSED, NULL},
    {403, "text/html", "<html>", NULL, US_UPSTREAM_UNAVAILABLE, NULL},
    {403, "Text/HTML; charset=UTF-8", "<html>", NULL, US_UPSTREAM_UNAVAILABLE,
     NULL},
    {429, "text/html", "<html>", NULL, US_RATE_LIMITED,
     "over_request_rate_limit"},
    {429, NULL, "", NULL, US_RATE_LIMITED, "over_request_rate_limit"},
    {402, "application/json", "{}", NULL, US_UPSTREAM_UNAVAILABLE, NULL},
    {540, "text/html", "<html>", NULL, US_UPSTREAM_UNAVAILABLE, NULL},
    {100, NULL, "", NULL, US_UPSTREAM_BAD_ANSWER, NULL},
    {301, "text/html", "<html>", NULL, US_UPSTREAM_BAD_ANSWER, NULL},
    {400, "text/html", "<html>", NULL, US_UPSTREAM_BAD_ANSWER, NULL},
    {404, "text/plain", "404 page not found\n", NULL, US_UPSTREAM_BAD_ANSWER,
     NULL},
    {407, NULL, "", NULL, US_UPSTREAM_BAD_ANSWER, NULL},
    {413, "text/html", "<html>", NULL, US_UPSTREAM_BAD_ANSWER, NULL},
    {500, NULL, "", NULL, US_UPSTREAM_BAD_ANSWER, NULL},
    {502, "text/html", "<html>", NULL, US_UPSTREAM_BAD_ANSWER, NULL},
    {503, "application/json", "{\"message\":\"x\"}", NULL,
     US_UPSTREAM_BAD_ANSWER, NULL},
    {504, NULL, "", NULL, US_UPSTREAM_BAD_ANSWER, NULL},
    {400, "application/json",
     "{\"access_token\":\"t\",\"user\":{\"id\":\"" U1 "\"}}", NULL,
     US_UPSTREAM_BAD_ANSWER, NULL},
};

static void test_errors(void)
{
    apr_size_t i;

    for (i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        us_http_answer answer = answer_of(errors[i].status, errors[i].body,
                                          strlen(errors[i].body));
        us_outcome signup = errors[i].login == US_UPSTREAM_BAD_ANSWER
                                ? US_UNKNOWN_BROKEN
                                : errors[i].login;

        answer.content_type = errors[i].type;
        answer.wanted[US_ANSWER_ERROR_CODE] = errors[i].header_code;
        is_int(judge(US_LOG_IN, &answer), errors[i].login, "login: %ld %.60s",
               errors[i].status, apr_pescape_echo(pool, errors[i].body, 0));
        is_str(call.code, errors[i].code, "its code");
        ok(identity.id == NULL && identity.session.text == NULL,
           "and no user");
        is_int(judge(US_SIGN_UP, &answer), signup, "sign-up: the same");
    }
}

int main(int argc, const char *const *argv)
{
    const char *directory = fixtures_directory(argc, argv);

    apr_initialize();
    apr_pool_create(&pool, NULL);
    columns = make_columns();
    test_fixtures(directory);
    test_fixture_values(directory);
    test_transport();
    test_bodies();
    test_nothing_left();
    test_values();
    test_no_copies();
    test_errors();
    apr_pool_destroy(pool);
    apr_terminate();
    return done();
}
