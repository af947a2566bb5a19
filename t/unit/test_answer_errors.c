/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * supabase/answer_error.c and supabase/answer_text.c: what errors without a
 * code mean, whose fault they are, what they say about Supabase's health, and
 * what is logged about them.
 */
#include "tap.h"
#include "supabase/answer.h"
#include "supabase/answer_text.h"

#include <apr_general.h>
#include <apr_strings.h>

#define ID "7f1a2c9e-3b54-4d0e-9c61-52a8d0b4e117"

static apr_pool_t *pool;
static us_call call;
static us_identity identity;

/* Judges an answer with X-Sb-Error-Code and Sb-Auth-User-Id; NULL: without. */
static us_outcome judge(us_operation operation, long status,
                        const char *error_code, const char *user,
                        const char *body)
{
    us_question question = {operation, "ada@example.com",
                            apr_array_make(pool, 1, sizeof(us_column))};
    us_http_answer answer;

    memset(&call, 0, sizeof(call));
    call.pool = pool;
    memset(&answer, 0, sizeof(answer));
    answer.result = US_HTTP_ANSWERED;
    answer.status = status;
    answer.content_type = *body == '<' ? "text/html" : "application/json";
    answer.body = apr_pstrdup(pool, body);
    answer.body_len = strlen(body);
    answer.wanted[US_ANSWER_ERROR_CODE] = error_code;
    answer.wanted[US_ANSWER_USER_ID] = user;
    return us_answer_judge(&call, &question, &answer, &identity);
}

/* --- texts without a code --- */

static const struct {
    long status;
    const char *body;
    us_outcome login;
    const char *code;
    const char *reasons;
} texts[] = {
    {400,
     "{\"error\":\"invalid_grant\",\"error_description\":\"Invalid login "
     "credentials\"}",
     US_INVALID_CREDENTIALS, "invalid_credentials", NULL},
    {400,
     "{\"error\":\"invalid_grant\",\"error_description\":\"Email not "
     "confirmed\"}",
     US_NOT_ALLOWED, "email_not_confirmed", NULL},
    {400,
     "{\"error\":\"invalid_grant\",\"error_description\":\"Phone not "
     "confirmed\"}",
     US_NOT_ALLOWED, "phone_not_confirmed", NULL},
    {400, "{\"code\":400,\"msg\":\"User is banned\"}", US_NOT_ALLOWED,
     "user_banned", NULL},
    {400, "{\"code\":400,\"msg\":\"User already registered\"}", US_USER_EXISTS,
     "user_already_exists", NULL},
    {422,
     "{\"code\":422,\"msg\":\"A user with this email address has already "
     "been registered\"}",
     US_USER_EXISTS, "user_already_exists", NULL},
    {422,
     "{\"code\":422,\"msg\":\"Password should be at least 6 characters\"}",
     US_WEAK_PASSWORD, "weak_password", "[\"length\"]"},
    {422,
     "{\"code\":422,\"msg\":\"Password should be at least 12 characters. "
     "Password should contain at least one character of each: abc, 123.\"}",
     US_WEAK_PASSWORD, "weak_password", "[\"length\",\"characters\"]"},
    {422,
     "{\"code\":422,\"msg\":\"Password should contain at least one character "
     "of each: abc. Password is known to be weak and easy to guess, please "
     "choose a different one.\"}",
     US_WEAK_PASSWORD, "weak_password", "[\"characters\",\"pwned\"]"},
    {422,
     "{\"code\":422,\"msg\":\"Password is known to be weak and easy to "
     "guess, please choose a different one.\",\"weak_password\":{\"reasons\":["
     "\"pwned\"]}}",
     US_WEAK_PASSWORD, "weak_password", "[\"pwned\"]"},
    {403, "{\"code\":403,\"msg\":\"Signups not allowed for this instance\"}",
     US_NOT_ALLOWED, "signup_disabled", NULL},
    {400, "{\"code\":400,\"msg\":\"Email logins are disabled\"}",
     US_NOT_ALLOWED, "email_provider_disabled", NULL},
    {400,
     "{\"code\":400,\"msg\":\"captcha protection: request disallowed "
     "(timeout-or-duplicate)\"}",
     US_REFUSED, "captcha_failed", NULL},
    {422,
     "{\"code\":422,\"msg\":\"Unable to validate email address: invalid "
     "format\"}",
     US_REFUSED, "validation_failed", NULL},
    {429, "{\"code\":429,\"msg\":\"Email rate limit exceeded\"}",
     US_RATE_LIMITED, "over_email_send_rate_limit", NULL},
    /* the address is taken, according to PostgreSQL itself */
    {500,
     "{\"code\":\"23505\",\"message\":\"duplicate key value violates unique "
     "constraint \\\"users_email_partial_key\\\"\"}",
     US_USER_EXISTS, "user_already_exists", NULL},
    {500,
     "{\"code\":\"23505\",\"message\":\"duplicate key value violates unique "
     "constraint \\\"profiles_name_key\\\"\"}",
     US_UPSTREAM_BAD_ANSWER, "23505", NULL},
    /* not a text of the table: GoTrue has refused all the same */
    {400, "{\"code\":400,\"msg\":\"Something else\"}", US_REFUSED, NULL, NULL},
    {422, "{\"code\":422,\"msg\":\"Something else\"}", US_REFUSED, NULL, NULL},
    {400, "{\"error\":\"Bad thing\",\"error_description\":\"x\"}", US_REFUSED,
     NULL, NULL},
    /* this needs GoTrue's format: the same status, and msg */
    {400, "{\"code\":422,\"msg\":\"Something else\"}", US_UPSTREAM_BAD_ANSWER,
     NULL, NULL},
    {400, "{\"code\":400,\"message\":\"Something else\"}",
     US_UPSTREAM_BAD_ANSWER, NULL, NULL},
    {400, "{\"code\":4,\"msg\":\"x\"}", US_UPSTREAM_BAD_ANSWER, NULL, NULL},
    {400, "{\"code\":4000,\"msg\":\"x\"}", US_UPSTREAM_BAD_ANSWER, NULL, NULL},
    {401, "{\"code\":401,\"msg\":\"x\"}", US_KEY_REFUSED, NULL, NULL},
    {403, "{\"code\":403,\"msg\":\"x\"}", US_KEY_REFUSED, NULL, NULL},
    /* a code overrides a text */
    {400, "{\"code\":\"user_banned\",\"message\":\"Email not confirmed\"}",
     US_NOT_ALLOWED, "user_banned", NULL},
    {400, "{\"code\":\"unknown\",\"message\":\"User already registered\"}",
     US_REFUSED, "unknown", NULL},
    /* the whole text, not a part of it */
    {400, "{\"code\":400,\"msg\":\"User already registered?\"}", US_REFUSED,
     NULL, NULL},
    {400, "{\"code\":400,\"msg\":\"User already\"}", US_REFUSED, NULL, NULL},
    {422, "{\"code\":422,\"msg\":\"Password should be at least characters\"}",
     US_REFUSED, NULL, NULL},
};

static void test_texts(void)
{
    apr_size_t i;

    for (i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        is_int(judge(US_LOG_IN, texts[i].status, NULL, NULL, texts[i].body),
               texts[i].login, "%ld %s", texts[i].status, texts[i].body);
        is_str(call.code, texts[i].code, "its code");
        is_str(call.reasons, texts[i].reasons, "its reasons");
        is_str(call.message,
               texts[i].code != NULL && strcmp(texts[i].code, "unknown") == 0
                   ? "User already registered"
                   : NULL,
               "Supabase's own texts are not shown");
        is_int(judge(US_SIGN_UP, texts[i].status, NULL, NULL, texts[i].body),
               texts[i].login == US_UPSTREAM_BAD_ANSWER ? US_UNKNOWN_BROKEN
                                                        : texts[i].login,
               "the same for a sign-up");
    }
}

static void test_forms(void)
{
    const us_answer_text *row;

    ok(us_answer_text_find(NULL) == NULL && us_answer_text_find("") == NULL,
       "no text, no row");
    row = us_answer_text_find("unexpected STATUS code returned from hook: 12");
    ok(row != NULL && row->flags == (US_TEXT_TELL | US_TEXT_HOOK),
       "a number, and whatever the case");
    ok(us_answer_text_find("Unexpected status code returned from hook: ")
               == NULL
           && us_answer_text_find(
                  "Unexpected status code returned from hook: 12x")
                  == NULL,
       "but there must be a number");
    row = us_answer_text_find("Error generating signatures: a@example.com");
    is_str(us_answer_text_known(pool, row,
                                "Error generating signatures: a@example.com"),
           "Error generating signatures: ...", "what is not known is cut off");
}

/* --- hooks --- */

#define FAILED(text) \
    "{\"code\":\"unexpected_failure\",\"message\":\"" text "\"}"
#define FAILED_OLD(text)                                                  \
    "{\"code\":500,\"error_code\":\"unexpected_failure\",\"msg\":\"" text \
    "\",\"error_id\":\"0b9f6d1c-8e27-4a35-9c40-7d1e2f3a4b5c\"}"
#define CODED "unexpected_failure"

static void refusal_ok(us_operation operation, const char *body,
                       const char *text)
{
    is_int(judge(operation, 500, NULL, NULL, body), US_REFUSED,
           "a hook's text without a status: %s", body);
    is_str(call.code, "unknown", "it is a hook's");
    is_str(call.message, text, "and shown");
    is_int(call.health, US_HEALTH_UNKNOWN, "and no outage");
    ok(strstr(call.cause, text) == NULL, "but not logged");
}

static void test_hook_texts(void)
{
    static const char *const own[] = {
        "Internal Server Error",
        "Unexpected failure, please check server logs for more information",
        "Database error whatever",
    };
    apr_size_t i;

    refusal_ok(US_LOG_IN, FAILED("Members only."), "Members only.");
    refusal_ok(US_SIGN_UP, FAILED("Members only."), "Members only.");
    refusal_ok(US_SIGN_UP, FAILED_OLD("Members only."), "Members only.");
    is_int(judge(US_LOG_IN, 500, CODED, NULL, FAILED("Members only.")),
           US_UPSTREAM_BAD_ANSWER, "with GoTrue's header it is none");
    is_str(call.message, NULL, "and is not shown");
    is_int(judge(US_LOG_IN, 502, NULL, NULL, FAILED("Members only.")),
           US_UPSTREAM_BAD_ANSWER, "nor with another status");
    is_int(judge(US_LOG_IN, 500, NULL, NULL, FAILED("")),
           US_UPSTREAM_BAD_ANSWER, "nor without a text");
    for (i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
        const char *body = apr_psprintf(
            pool, "{\"code\":\"unexpected_failure\",\"message\":\"%s\"}",
            own[i]);

        is_int(judge(US_LOG_IN, 500, NULL, NULL, body), US_UPSTREAM_BAD_ANSWER,
               "GoTrue's own without the header: %s", own[i]);
        is_str(call.message, NULL, "is not shown");
        is_int(judge(US_SIGN_UP, 500, NULL, NULL, body), US_UNKNOWN_BROKEN,
               "and does not mention the account");
    }
    is_int(judge(US_LOG_IN, 429, NULL, NULL,
                 "{\"code\":\"unknown\",\"message\":\"Slow down.\"}"),
           US_RATE_LIMITED, "a hook's 429 stays a 429");
    is_str(call.message, "Slow down.", "with its text");
    is_str(call.code, "unknown", "and its code");
}

static const struct {
    long status;
    const char *body;
} away[] = {
    {422, "{\"code\":\"hook_timeout\",\"message\":\"Failed to reach hook "
          "within maximum time of 5.000000 seconds\"}"},
    {422, "{\"code\":\"hook_timeout_after_retry\",\"message\":\"Failed to "
          "reach hook after maximum retries\"}"},
    {422, "{\"code\":\"hook_payload_over_size_limit\",\"message\":\"Payload "
          "size exceeded size limit of 204800 bytes\"}"},
    {400,
     "{\"code\":\"hook_payload_invalid_content_type\",\"message\":\"x\"}"},
    {422, "{\"code\":\"hook_of_the_future\",\"message\":\"x\"}"},
    {422, "{\"code\":422,\"error_code\":\"hook_timeout\",\"msg\":\"x\"}"},
    {500, FAILED("Service currently unavailable due to hook")},
    {500, FAILED("Invalid payload sent to hook")},
    {500, FAILED("Hook requires authorization token")},
    {500, FAILED("Unexpected status code returned from hook: 403")},
    {500, FAILED("Error unmarshaling JSON output.")},
    {500, FAILED_OLD("output claims field is missing")},
};

static void test_hooks_away(void)
{
    apr_size_t i;

    for (i = 0; i < sizeof(away) / sizeof(away[0]); i++) {
        const char *body = away[i].body;

        is_int(judge(US_LOG_IN, away[i].status, "x_y", NULL, body),
               US_UPSTREAM_UNAVAILABLE, "%s", body);
        is_int(call.health, US_HEALTH_UNKNOWN, "not Supabase's fault");
        ok(strstr(call.cause, "password-verification-attempt") != NULL
               && strstr(call.cause, "Hooks") != NULL,
           "the line says which hook, and where to look: %s", call.cause);
        judge(US_LOG_IN, away[i].status, "x_y", ID, body);
        ok(strstr(call.cause, "(custom-access-token)") != NULL,
           "a user is named: it is the last hook");
        is_int(judge(US_SIGN_UP, away[i].status, "x_y", NULL, body),
               US_UPSTREAM_UNAVAILABLE, "a sign-up has made no account");
        ok(strstr(call.cause, "before-user-created") != NULL, "%s",
           call.cause);
        is_int(judge(US_SIGN_UP, away[i].status, "x_y", ID, body),
               US_UNKNOWN_BROKEN, "but has where a user is named");
        ok(strstr(call.cause, "the account exists") != NULL, "%s", call.cause);
    }
    is_int(judge(US_SIGN_UP, 500, CODED, NULL, FAILED("Error invoking hook")),
           US_UNKNOWN_BROKEN, "the hook behind the account");
    ok(strstr(call.cause, "after-user-created") != NULL
           && strstr(call.cause, "the account exists") != NULL,
       "%s", call.cause);
}

/* --- sign-ups that created no account --- */

static void none_made_ok(const char *text, const char *advice)
{
    const char *body = apr_psprintf(
        pool, "{\"code\":\"unexpected_failure\",\"message\":\"%s\"}", text);

    is_int(judge(US_SIGN_UP, 500, CODED, NULL, body), US_UPSTREAM_BAD_ANSWER,
           "%s: no account, and that is known", text);
    ok(call.message != NULL
           && strncmp(call.message, "No account was created", 22) == 0
           && strstr(call.message, advice) != NULL,
       "the client is told: %s", shown(call.message));
    ok(strstr(call.cause, text) != NULL, "and the log: %s", call.cause);
    is_int(call.health, US_HEALTH_UNKNOWN, "that is no outage");
    is_int(judge(US_SIGN_UP, 500, CODED, ID, body), US_UNKNOWN_BROKEN,
           "not if a user is named");
    is_str(call.message, NULL, "nor reported then");
    is_int(judge(US_LOG_IN, 500, CODED, NULL, body), US_UPSTREAM_BAD_ANSWER,
           "a login creates none anyway");
    is_str(call.message, NULL, "and the client need not know");
}

static void test_none_made(void)
{
    none_made_ok("Database error saving new user", "try to log in");
    none_made_ok("Database error finding user", "try again later");
    none_made_ok("Error sending confirmation email", "try again later");
    none_made_ok("captcha verification process failed", "try again later");
    is_int(judge(US_SIGN_UP, 500, CODED, NULL,
                 FAILED("Database error granting user")),
           US_UNKNOWN_BROKEN, "an account may be there without a session");
    is_int(judge(US_SIGN_UP, 500, CODED, NULL, FAILED("Who knows")),
           US_UNKNOWN_BROKEN, "a text that is not known says nothing");
    is_int(judge(US_SIGN_UP, 504, "request_timeout", NULL,
                 "{\"code\":\"request_timeout\",\"message\":\"Processing this "
                 "request timed out, please retry after a moment.\"}"),
           US_UNKNOWN_TIMEOUT, "nor does GoTrue's own time-out");
}

/* --- the log --- */

static void test_log(void)
{
    judge(US_LOG_IN, 500, CODED, NULL, FAILED("Database error of eve@x.org"));
    is_str(call.cause,
           "Supabase answered 500 with code unexpected_failure, \"Database "
           "error ...\"",
           "as much of the text as is known");
    judge(US_LOG_IN, 500, CODED, NULL,
          FAILED_OLD("Database error querying schema"));
    is_str(call.cause,
           "Supabase answered 500 with code unexpected_failure, \"Database "
           "error querying schema\"",
           "or all of it");
    is_str(call.about, "error_id 0b9f6d1c-8e27-4a35-9c40-7d1e2f3a4b5c",
           "and its error_id");
    judge(US_LOG_IN, 500, CODED, NULL,
          FAILED("Cannot send to eve@example.com"));
    is_str(call.cause, "Supabase answered 500 with code unexpected_failure",
           "a text that is not known stays out");
    judge(US_LOG_IN, 500, CODED, NULL,
          "{\"code\":500,\"error_code\":\"unexpected_failure\",\"msg\":\"x\","
          "\"error_id\":\"a\\nb\"}");
    is_str(call.about, NULL, "an error_id is one word");
    judge(US_LOG_IN, 500, CODED, NULL,
          "{\"code\":500,\"error_code\":\"unexpected_failure\",\"msg\":\"x\","
          "\"error_id\":"
          "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
          "\"}");
    is_str(call.about, NULL, "and not a long one");
    judge(US_LOG_IN, 500, CODED, ID, FAILED("x"));
    is_str(call.about, "user " ID, "else the user in the header");
    judge(US_LOG_IN, 500, CODED, "eve@example.com", FAILED("x"));
    is_str(call.about, NULL, "which must be a UUID");
    judge(US_LOG_IN, 400, NULL, NULL,
          "{\"error\":\"invalid_grant\",\"error_description\":\"Invalid login "
          "credentials\"}");
    is_str(call.cause, "Supabase answered 400 with code invalid_credentials",
           "what is no failure needs no text");
    judge(US_LOG_IN, 403, NULL, NULL, "<html>");
    ok(strstr(call.cause, "edge") != NULL
           && strstr(call.cause, "UserSync") == NULL,
       "the edge's refusal: %s", call.cause);
}

/* --- health --- */

static const struct {
    us_health health;
    long status;
    const char *body;
} healths[] = {
    {US_HEALTH_GOOD, 400, "{\"code\":\"bad_json\"}"},
    {US_HEALTH_GOOD, 401, ""},
    {US_HEALTH_GOOD, 404, "404 page not found\n"},
    {US_HEALTH_GOOD, 429, "<html>"},
    {US_HEALTH_BAD, 403, "<html>"},
    {US_HEALTH_GOOD, 403, "{\"message\":\"x\"}"},
    {US_HEALTH_BAD, 500, ""},
    {US_HEALTH_BAD, 502, "<html>"},
    {US_HEALTH_BAD, 503, "{\"message\":\"no Route matched\"}"},
    {US_HEALTH_BAD, 540, "{}"},
    {US_HEALTH_UNKNOWN, 500, "{\"code\":\"unexpected_failure\"}"},
    {US_HEALTH_UNKNOWN, 504, "{\"code\":\"request_timeout\"}"},
    {US_HEALTH_UNKNOWN, 500, "{\"code\":\"P0001\",\"message\":\"x\"}"},
    /* a client could provoke it also before GoTrue had codes */
    {US_HEALTH_UNKNOWN, 500,
     "{\"code\":500,\"msg\":\"Database error saving new user\"}"},
    {US_HEALTH_UNKNOWN, 500, "{\"code\":500,\"msg\":\"x\"}"},
    {US_HEALTH_BAD, 500, "{\"code\":503,\"msg\":\"x\"}"},
    {US_HEALTH_UNKNOWN, 302, ""},
    {US_HEALTH_UNKNOWN, 200, "<html>"},
    {US_HEALTH_UNKNOWN, 200, "{}"},
};

static void test_health(void)
{
    apr_size_t i;
    char deep[1200];

    for (i = 0; i < sizeof(healths) / sizeof(healths[0]); i++) {
        judge(US_LOG_IN, healths[i].status, NULL, NULL, healths[i].body);
        is_int(call.health, healths[i].health, "%ld %s", healths[i].status,
               healths[i].body);
    }
    memset(deep, '[', sizeof(deep));
    memcpy(deep, "{\"a\":", 5);
    deep[sizeof(deep) - 1] = '\0';
    is_int(judge(US_LOG_IN, 200, NULL, NULL, deep), US_UPSTREAM_BAD_ANSWER,
           "metadata in metadata");
    is_int(call.health, US_HEALTH_UNKNOWN, "is no outage");
    ok(strstr(call.cause, "metadata") != NULL
           && strstr(call.cause, "UserSync") == NULL,
       "and the line says whose: %s", call.cause);
}

int main(void)
{
    apr_initialize();
    apr_pool_create(&pool, NULL);
    test_texts();
    test_forms();
    test_hook_texts();
    test_hooks_away();
    test_none_made();
    test_log();
    test_health();
    apr_pool_destroy(pool);
    apr_terminate();
    return done();
}
