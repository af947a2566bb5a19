/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * supabase/answer.c, answer_error.c and answer_code.c: the answers to a
 * refresh and to a logout, and what the project's token hook says when it is a
 * usersync-hook.
 */
#include "fixtures.h"
#include "tap.h"
#include "supabase/answer.h"

#include <apr_escape.h>
#include <apr_general.h>
#include <apr_strings.h>

#define ID "7f1a2c9e-3b54-4d0e-9c61-52a8d0b4e117"

static apr_pool_t *pool;
static us_call call;
static us_identity identity;

static us_outcome judge(us_operation operation, const us_http_answer *answer)
{
    us_column column = {US_FIELD_EMAIL, NULL, "\"email\"", "email"};
    apr_array_header_t *columns = apr_array_make(pool, 1, sizeof(us_column));
    us_question question = {operation, NULL, columns};

    APR_ARRAY_PUSH(columns, us_column) = column;
    memset(&call, 0, sizeof(call));
    call.pool = pool;
    memset(&identity, 0x55, sizeof(identity));
    return us_answer_judge(&call, &question, answer, &identity);
}

static us_http_answer answer_of(long status, const char *body)
{
    us_http_answer answer;

    memset(&answer, 0, sizeof(answer));
    answer.result = US_HTTP_ANSWERED;
    answer.status = status;
    answer.content_type = "application/json";
    answer.body = apr_pstrdup(pool, body);
    answer.body_len = strlen(body);
    return answer;
}

static us_outcome judge_text(us_operation operation, long status,
                             const char *body)
{
    us_http_answer answer = answer_of(status, body);

    return judge(operation, &answer);
}

/* --- recorded answers --- */

static const struct {
    const char *file;
    us_outcome refresh;
    us_outcome logout;
} recorded[] = {
    {"token_refresh_session.json", US_OK, US_UPSTREAM_BAD_ANSWER},
    {"token_password_session_rt_v2.json", US_OK, US_UPSTREAM_BAD_ANSWER},
    /* without an e-mail, as nothing was sent that it could have */
    {"signup_anonymous_session.json", US_OK, US_UPSTREAM_BAD_ANSWER},
    {"logout_no_content.txt", US_UPSTREAM_BAD_ANSWER, US_LOGGED_OUT},
    {"user_get.json", US_UPSTREAM_BAD_ANSWER, US_UPSTREAM_BAD_ANSWER},
    {"health.json", US_UPSTREAM_BAD_ANSWER, US_UPSTREAM_BAD_ANSWER},
    {"err_refresh_token_malformed.v2024.json", US_INVALID_REFRESH, US_REFUSED},
    {"err_refresh_token_not_found.v2024.json", US_INVALID_REFRESH, US_REFUSED},
    {"err_refresh_token_not_found.legacy.json", US_INVALID_REFRESH,
     US_REFUSED},
    {"err_refresh_token_already_used.v2024.json", US_INVALID_REFRESH,
     US_REFUSED},
    {"err_refresh_token_already_used.legacy.json", US_INVALID_REFRESH,
     US_REFUSED},
    {"err_refresh_session_not_found.v2024.json", US_INVALID_REFRESH,
     US_LOGGED_OUT},
    {"err_refresh_session_expired.v2024.json", US_INVALID_REFRESH, US_REFUSED},
    {"err_refresh_user_banned.v2024.json", US_NOT_ALLOWED, US_NOT_ALLOWED},
    {"err_refresh_conflict.v2024.json", US_SESSION_BUSY, US_REFUSED},
    {"err_oauth_invalid_client.json", US_REFUSED, US_REFUSED},
    {"err_session_not_found.v2024.json", US_INVALID_REFRESH, US_LOGGED_OUT},
    {"err_session_not_found.legacy.json", US_INVALID_REFRESH, US_LOGGED_OUT},
    {"err_user_not_found_jwt.v2024.json", US_INVALID_REFRESH, US_LOGGED_OUT},
    {"err_user_banned_token.v2024.json", US_NOT_ALLOWED, US_NOT_ALLOWED},
    {"err_bad_jwt_expired.v2024.json", US_KEY_REFUSED, US_INVALID_TOKEN},
    {"err_bad_jwt_expired.legacy.json", US_KEY_REFUSED, US_INVALID_TOKEN},
    {"err_bad_jwt_missing_sub.v2024.json", US_KEY_REFUSED, US_INVALID_TOKEN},
    {"err_no_authorization.v2024.json", US_KEY_REFUSED, US_KEY_REFUSED},
    {"err_over_request_rate_limit.v2024.json", US_RATE_LIMITED,
     US_RATE_LIMITED},
    {"err_request_timeout.v2024.json", US_UPSTREAM_TIMEOUT,
     US_UPSTREAM_TIMEOUT},
    {"err_hook_timeout.v2024.json", US_UPSTREAM_UNAVAILABLE,
     US_UPSTREAM_UNAVAILABLE},
    {"err_hook_503.v2024.json", US_UPSTREAM_UNAVAILABLE,
     US_UPSTREAM_UNAVAILABLE},
    {"err_hook_token_signup.v2024.json", US_STORE_UNAVAILABLE,
     US_STORE_UNAVAILABLE},
    {"gw_hosted_invalid_api_key.json", US_KEY_REFUSED, US_KEY_REFUSED},
    {"gw_cloudflare_403.html", US_UPSTREAM_UNAVAILABLE,
     US_UPSTREAM_UNAVAILABLE},
    {"gw_cloudflare_522.html", US_UPSTREAM_BAD_ANSWER, US_UPSTREAM_BAD_ANSWER},
};

static void check_recorded(const fixture *given, us_operation operation,
                           us_outcome expected)
{
    us_http_answer answer = answer_of(given->status, given->body);
    int good = expected == US_OK || expected == US_LOGGED_OUT;

    answer.content_type = given->content_type;
    if (answer.status / 100 != 2) {
        answer.wanted[US_ANSWER_ERROR_CODE] = given->error_code;
        answer.wanted[US_ANSWER_RETRY_AFTER] = given->retry_after;
        answer.wanted[US_ANSWER_USER_ID] = given->user_id;
    }
    is_int(judge(operation, &answer), expected, "%s: %s", given->file,
           operation == US_REFRESH ? "refresh" : "logout");
    ok(expected == US_OK
           ? identity.proven && identity.session.text == answer.body
           : identity.id == NULL && !identity.proven
                 && identity.session.text == NULL,
       "a session with its user, or nobody");
    ok((good || call.cause != NULL)
           && (call.cause == NULL || strstr(call.cause, "eyJ") == NULL),
       "the log's words hold no token: %s", shown(call.cause));
    if (good) {
        is_int(call.health, US_HEALTH_GOOD, "Supabase is fine");
    }
}

static void test_recorded(const char *directory)
{
    int count = 0;
    const fixture *fixtures = fixtures_load(pool, directory, &count);
    apr_size_t i;

    for (i = 0; i < sizeof(recorded) / sizeof(recorded[0]); i++) {
        const fixture *given
            = fixtures_find(fixtures, count, recorded[i].file);

        if (given == NULL) {
            ok(0, "%s is not listed", recorded[i].file);
            continue;
        }
        check_recorded(given, US_REFRESH, recorded[i].refresh);
        check_recorded(given, US_LOG_OUT, recorded[i].logout);
    }
}

/* --- from before GoTrue had codes, and made ones --- */

#define GRANT(text) \
    "{\"error\":\"invalid_grant\",\"error_description\":\"" text "\"}"
#define OLD(status, text) "{\"code\":" status ",\"msg\":\"" text "\"}"

static const struct {
    us_operation operation;
    int status;
    const char *body;
    us_outcome outcome;
    const char *code;
} old[] = {
    {US_REFRESH, 400, GRANT("Invalid Refresh Token: Already Used"),
     US_INVALID_REFRESH, "refresh_token_not_found"},
    {US_REFRESH, 400, GRANT("Invalid Refresh Token"), US_INVALID_REFRESH,
     "refresh_token_not_found"},
    {US_REFRESH, 400, GRANT("Invalid Refresh Token: User Banned"),
     US_NOT_ALLOWED, "user_banned"},
    {US_REFRESH, 400, GRANT("who knows"), US_INVALID_REFRESH, "invalid_grant"},
    {US_REFRESH, 400, OLD("400", "Invalid Refresh Token: Session Expired"),
     US_INVALID_REFRESH, "refresh_token_not_found"},
    /* a code is more than the text */
    {US_REFRESH, 400,
     "{\"code\":\"session_expired\",\"message\":\"Invalid Refresh Token: "
     "Session Expired\"}",
     US_INVALID_REFRESH, "session_expired"},
    {US_LOG_IN, 400, GRANT("Invalid Refresh Token: Already Used"),
     US_INVALID_CREDENTIALS, "invalid_grant"},
    {US_LOG_OUT, 401, OLD("401", "Invalid token: token is expired by 1h"),
     US_INVALID_TOKEN, "bad_jwt"},
    {US_LOG_OUT, 403,
     OLD("403", "invalid JWT: unable to parse or verify signature"),
     US_INVALID_TOKEN, "bad_jwt"},
    {US_LOG_OUT, 403,
     OLD("403", "Session from session_id claim in JWT does not exist"),
     US_LOGGED_OUT, "session_not_found"},
    {US_LOG_OUT, 404, "{\"message\":\"no route\"}", US_UPSTREAM_BAD_ANSWER,
     NULL},
    {US_LOG_OUT, 200, "", US_UPSTREAM_BAD_ANSWER, NULL},
    {US_LOG_OUT, 200, "{\"access_token\":\"x\"}", US_UPSTREAM_BAD_ANSWER,
     NULL},
    {US_LOG_OUT, 204, "", US_LOGGED_OUT, NULL},
    {US_REFRESH, 204, "", US_UPSTREAM_BAD_ANSWER, NULL},
    {US_REFRESH, 200, "{\"access_token\":\"x\",\"user\":{\"id\":\"7\"}}",
     US_UPSTREAM_BAD_ANSWER, NULL},
    {US_REFRESH, 200, "{\"access_token\":\"\",\"user\":{\"id\":\"" ID "\"}}",
     US_UPSTREAM_BAD_ANSWER, NULL},
    /* a user without a session answers a sign-up only */
    {US_REFRESH, 200,
     "{\"id\":\"" ID "\",\"identities\":[{\"user_id\":\"" ID "\"}]}",
     US_UPSTREAM_BAD_ANSWER, NULL},
};

static void test_old(void)
{
    apr_size_t i;

    for (i = 0; i < sizeof(old) / sizeof(old[0]); i++) {
        is_int(judge_text(old[i].operation, old[i].status, old[i].body),
               old[i].outcome, "%d: %d %s", (int)old[i].operation,
               old[i].status, apr_pescape_echo(pool, old[i].body, 0));
        is_str(call.code, old[i].code, "its code");
    }
}

/* --- a usersync-hook behind Supabase --- */

#define STORE "The user database is not available: try again later."
#define REFUSED "The user database does not accept this user."
#define CONFLICT "Another user in the user database has the same address."
#define NEW(text) "{\"code\":\"unknown\",\"message\":\"" text "\"}"
#define LEGACY(text) \
    "{\"code\":503,\"error_code\":\"unknown\",\"msg\":\"" text "\"}"

static const struct {
    long status;
    const char *body;
    us_outcome outcome;
} hooks[] = {
    {503, NEW(STORE), US_STORE_UNAVAILABLE},
    {503, NEW(REFUSED), US_ROW_REFUSED},
    {503, NEW(CONFLICT), US_ROW_CONFLICT},
    {503, LEGACY(STORE), US_STORE_UNAVAILABLE},
    {503, LEGACY(REFUSED), US_ROW_REFUSED},
    {503, OLD("503", STORE), US_STORE_UNAVAILABLE},
    {503, OLD("503", CONFLICT), US_ROW_CONFLICT},
    {403, NEW(CONFLICT), US_ROW_CONFLICT},
    {429, NEW(STORE), US_STORE_UNAVAILABLE},
    /* without a status of its own: GoTrue's code for failures */
    {500, "{\"code\":\"unexpected_failure\",\"message\":\"" STORE "\"}",
     US_STORE_UNAVAILABLE},
    {500,
     "{\"code\":500,\"error_code\":\"unexpected_failure\",\"msg\":\"" REFUSED
     "\"}",
     US_ROW_REFUSED},
};

static void test_hooks(void)
{
    static const us_operation operations[]
        = {US_SIGN_UP, US_LOG_IN, US_REFRESH};
    apr_size_t i;
    int k;

    for (i = 0; i < sizeof(hooks) / sizeof(hooks[0]); i++) {
        for (k = 0; k < 3; k++) {
            us_http_answer answer = answer_of(hooks[i].status, hooks[i].body);

            answer.wanted[US_ANSWER_USER_ID] = ID;
            is_int(judge(operations[k], &answer), hooks[i].outcome, "%ld %s",
                   hooks[i].status, hooks[i].body);
            is_int(call.health, US_HEALTH_GOOD, "Supabase has answered");
            ok(strstr(shown(call.cause), "usersync-hook") != NULL,
               "the line says whose refusal it is: %s", shown(call.cause));
            is_str(call.about, "user " ID, "and the user");
        }
    }
}

/* What only looks like it: another text, another code, GoTrue's own word. */
static void test_no_hooks(void)
{
    us_http_answer answer;

    is_int(judge_text(US_LOG_IN, 503, NEW(STORE " ")), US_REFUSED,
           "a longer text");
    is_int(judge_text(US_LOG_IN, 503, NEW("Not today.")), US_REFUSED,
           "another hook's text");
    is_int(call.health, US_HEALTH_UNKNOWN, "which says nothing");
    is_int(judge_text(US_LOG_IN, 400,
                      "{\"code\":\"validation_failed\",\"message\":\"" STORE
                      "\"}"),
           US_REFUSED, "another code");
    is_int(judge_text(US_LOG_IN, 503, "{\"message\":\"" STORE "\"}"),
           US_UPSTREAM_BAD_ANSWER, "a gateway's form");
    is_int(call.health, US_HEALTH_BAD, "is a gateway's");
    answer = answer_of(500, "{\"code\":\"unexpected_failure\",\"message\":"
                            "\"" STORE "\"}");
    answer.wanted[US_ANSWER_ERROR_CODE] = "unexpected_failure";
    is_int(judge(US_LOG_IN, &answer), US_UPSTREAM_BAD_ANSWER,
           "with GoTrue's own header");
}

/* A hook that is away is named, and is no outage of Supabase. */
static void test_hook_away(void)
{
    is_int(judge_text(US_REFRESH, 422,
                      "{\"code\":\"hook_timeout\",\"message\":\"x\"}"),
           US_UPSTREAM_UNAVAILABLE, "a hook that is away");
    is_int(call.health, US_HEALTH_UNKNOWN, "opens no circuit");
    ok(strstr(shown(call.cause), "(custom-access-token)") != NULL,
       "a refresh has only one hook: %s", shown(call.cause));
}

int main(int argc, const char *const *argv)
{
    const char *directory = fixtures_directory(argc, argv);

    apr_initialize();
    apr_pool_create(&pool, NULL);
    test_recorded(directory);
    test_old();
    test_hooks();
    test_no_hooks();
    test_hook_away();
    apr_pool_destroy(pool);
    apr_terminate();
    return done();
}
