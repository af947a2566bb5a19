/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * supabase/answer.c: which of Supabase's texts reach a client or the log:
 * messages, reasons and Retry-After.
 */
#include "tap.h"
#include "supabase/answer.h"

#include <apr_general.h>
#include <apr_strings.h>

static apr_pool_t *pool;
static us_call call;
static us_identity identity;

static us_outcome judge(us_operation operation, long status,
                        const char *retry_after, const char *body)
{
    us_question question = {operation, "ada@example.com",
                            apr_array_make(pool, 1, sizeof(us_column))};
    us_http_answer answer;

    memset(&call, 0, sizeof(call));
    call.pool = pool;
    memset(&answer, 0, sizeof(answer));
    answer.result = US_HTTP_ANSWERED;
    answer.status = status;
    answer.content_type = "application/json";
    answer.body = apr_pstrdup(pool, body);
    answer.body_len = strlen(body);
    answer.wanted[US_ANSWER_RETRY_AFTER] = retry_after;
    return us_answer_judge(&call, &question, &answer, &identity);
}

/* --- messages --- */

#define TEN "abcdefghi "
#define FIFTY TEN TEN TEN TEN TEN
#define LONGEST FIFTY FIFTY FIFTY FIFTY FIFTY FIFTY
#define E_ACUTE "\xC3\xA9"

static const struct {
    const char *body;
    const char *message;
} messages[] = {
    /* shown if it is a hook's, or names the administrator's task */
    {"{\"code\":\"unknown\",\"message\":\"No.\"}", "No."},
    {"{\"code\":\"email_address_not_authorized\",\"message\":\"No.\"}", "No."},
    {"{\"code\":\"validation_failed\",\"message\":\"No.\"}", NULL},
    {"{\"code\":\"invalid_credentials\",\"message\":\"No.\"}", "No."},
    {"{\"code\":\"invalid_credentials\",\"message\":\"Invalid login "
     "credentials\"}",
     NULL},
    {"{\"error\":\"invalid_grant\",\"error_description\":\"No.\"}", "No."},
    {"{\"error\":\"invalid_grant\"}", NULL},
    {"{\"code\":\"user_banned\",\"message\":\"No.\"}", NULL},
    {"{\"code\":\"unexpected_failure\",\"message\":\"No.\"}", NULL},
    {"{\"message\":\"No.\"}", NULL},
    /* where it is */
    {"{\"error_code\":\"unknown\",\"msg\":\"No.\"}", "No."},
    {"{\"code\":\"unknown\",\"error_description\":\"No.\"}", "No."},
    {"{\"code\":\"unknown\",\"error\":\"No.\"}", "No."},
    {"{\"code\":\"unknown\",\"msg\":\"a\",\"message\":\"b\"}", "a"},
    {"{\"code\":\"unknown\",\"msg\":7,\"message\":\"b\"}", "b"},
    {"{\"code\":\"unknown\"}", NULL},
    {"{\"code\":\"unknown\",\"message\":\"\"}", NULL},
    {"{\"code\":\"unknown\",\"message\":{\"a\":1}}", NULL},
    /* always one line */
    {"{\"code\":\"unknown\",\"message\":\"a\\r\\nb\\tc\\u0001d\\u007fe\"}",
     "a  b c d e"},
    {"{\"code\":\"unknown\",\"message\":\"\\u00e9 \\u2028 <b>\"}",
     E_ACUTE " \xE2\x80\xA8 <b>"},
    /* at most 300 bytes, without half a character */
    {"{\"code\":\"unknown\",\"message\":\"" LONGEST "\"}", LONGEST},
    {"{\"code\":\"unknown\",\"message\":\"" LONGEST "x\"}", LONGEST},
    {"{\"code\":\"unknown\",\"message\":\"x" LONGEST "\"}",
     "x" FIFTY FIFTY FIFTY FIFTY FIFTY TEN TEN TEN TEN "abcdefghi"},
    {"{\"code\":\"unknown\",\"message\":\"" FIFTY FIFTY FIFTY FIFTY FIFTY TEN
         TEN TEN TEN "abcdefgh" E_ACUTE E_ACUTE "\"}",
     FIFTY FIFTY FIFTY FIFTY FIFTY TEN TEN TEN TEN "abcdefgh" E_ACUTE},
    {"{\"code\":\"unknown\",\"message\":\"" FIFTY FIFTY FIFTY FIFTY FIFTY TEN
         TEN TEN TEN "abcdefghi" E_ACUTE "\"}",
     FIFTY FIFTY FIFTY FIFTY FIFTY TEN TEN TEN TEN "abcdefghi"},
    {"{\"code\":\"unknown\",\"message\":\"" FIFTY FIFTY FIFTY FIFTY FIFTY TEN
         TEN TEN TEN "abcdefg\xF0\x9F\x98\x80\"}",
     FIFTY FIFTY FIFTY FIFTY FIFTY TEN TEN TEN TEN "abcdefg"},
};

static void test_messages(void)
{
    apr_size_t i;

    for (i = 0; i < sizeof(messages) / sizeof(messages[0]); i++) {
        judge(US_SIGN_UP, 403, NULL, messages[i].body);
        is_str(call.message, messages[i].message, "%.70s", messages[i].body);
    }
}

/* A hook may refuse with any status, even 2xx. */
static void test_hook_with_success(void)
{
    static const char body[] = "{\"code\":\"unknown\",\"message\":\"No.\"}";

    is_int(judge(US_SIGN_UP, 200, NULL, body), US_REFUSED, "with 200");
    is_str(call.code, "unknown", "its code");
    is_str(call.message, "No.", "and its text");
    is_int(judge(US_LOG_IN, 202, NULL, body), US_REFUSED, "on login");
    is_int(judge(US_SIGN_UP, 200, NULL,
                 "{\"code\":200,\"error_code\":\"unknown\",\"msg\":\"No.\"}"),
           US_REFUSED, "in the old format");
    is_str(call.message, "No.", "and its text");
    is_int(judge(US_SIGN_UP, 200, NULL,
                 "{\"code\":\"hook_timeout\",\"message\":\"No.\"}"),
           US_UNKNOWN_BROKEN, "no other code makes a refusal of a 2xx");
    ok(call.code == NULL && call.message == NULL, "and nothing is shown");
}

/* --- reasons --- */

static void test_reasons(void)
{
    static const struct {
        const char *body;
        const char *reasons;
    } cases[] = {
        {"{\"code\":\"weak_password\",\"weak_password\":{\"reasons\":"
         "[ \"length\" ]}}",
         "[ \"length\" ]"},
        {"{\"code\":\"weak_password\",\"weak_password\":{\"reasons\":[]}}",
         "[]"},
        {"{\"code\":\"weak_password\",\"weak_password\":{\"reasons\":null}}",
         NULL},
        {"{\"code\":\"weak_password\",\"weak_password\":{\"reasons\":\"x\"}}",
         NULL},
        {"{\"code\":\"weak_password\",\"weak_password\":[\"length\"]}", NULL},
        {"{\"code\":\"weak_password\",\"reasons\":[\"length\"]}", NULL},
        {"{\"code\":\"weak_password\"}", NULL},
        {"{\"code\":\"bad_json\",\"weak_password\":{\"reasons\":[\"x\"]}}",
         NULL},
    };
    apr_size_t i;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        judge(US_SIGN_UP, 422, NULL, cases[i].body);
        is_str(call.reasons, cases[i].reasons, "%s", cases[i].body);
    }
}

/* --- Retry-After --- */

#define LIMITED "{\"code\":\"over_email_send_rate_limit\",\"message\":\""

static const struct {
    const char *header;
    const char *body;
    int seconds; /* 0: ours */
} waits[] = {
    {NULL, "{}", 0},
    {"30", "{}", 30},
    {"1", "", 1},
    {"86400", "", 86400},
    {"0", "", 0},
    {"86401", "", 0},
    {"99999999999999999999", "", 0},
    {"-5", "", 0},
    {"soon", "", 0},
    {"", "", 0},
    {"Thu, 01 Jan 1970 00:00:10 GMT", "", 0},
    {"Fri, 31 Dec 9999 23:59:59 GMT", "", 0},
    {NULL, LIMITED "you can only request this after 42 seconds.\"}", 42},
    {NULL, LIMITED "after 1 seconds.\"}", 1},
    {NULL, LIMITED "after 0 seconds.\"}", 0},
    {NULL, LIMITED "after 999999999 seconds.\"}", 0},
    {NULL, LIMITED "after 99999999999999999999 seconds.\"}", 0},
    {NULL, LIMITED "after -3 seconds.\"}", 0},
    {NULL, LIMITED "after \"}", 0},
    {NULL, LIMITED "after\"}", 0},
    {NULL, LIMITED "42 seconds\"}", 0},
    {NULL, LIMITED "\"}", 0},
    /* the edge's header overrides the text */
    {"30", LIMITED "after 42 seconds.\"}", 30},
};

static void test_waits(void)
{
    apr_size_t i;

    for (i = 0; i < sizeof(waits) / sizeof(waits[0]); i++) {
        is_int(judge(US_LOG_IN, 429, waits[i].header, waits[i].body),
               US_RATE_LIMITED, "429, %s, %s",
               waits[i].header != NULL ? waits[i].header : "no header",
               waits[i].body);
        is_int(call.retry_after, waits[i].seconds, "seconds");
    }
}

static void test_wait_until(void)
{
    char date[APR_RFC822_DATE_LEN];

    apr_rfc822_date(date, apr_time_now() + apr_time_from_sec(100));
    judge(US_LOG_IN, 429, date, "");
    ok(call.retry_after >= 90 && call.retry_after <= 101,
       "a date: the seconds until it (%d)", call.retry_after);
}

/* Only a rate limit asks clients to wait. */
static void test_no_wait(void)
{
    judge(US_LOG_IN, 400, "30", "{\"code\":\"invalid_credentials\"}");
    is_int(call.retry_after, 0,
           "a Retry-After with another error is not ours");
}

/* --- causes, for the log --- */

/* What the line must contain, and what it must not. */
static const struct {
    long status;
    const char *body;
    const char *word;
    int there;
} causes[] = {
    {401, "{}", "UserSyncSupabaseKey", 1},
    {401, "{}", "status 401", 1},
    {403, "{}", "UserSyncSupabaseKey", 1},
    {404, "404 page not found", "check UserSyncSupabaseURL", 1},
    {301, "<html>", "check UserSyncSupabaseURL", 1},
    {308, "", "check UserSyncSupabaseURL", 1},
    {400, "<html>", "UserSync", 0},
    {500, "<html>", "UserSync", 0},
    {500, "<html>", "answered 500", 1},
    {400, "{\"code\":\"bad_json\"}", "with code bad_json", 1},
    {400, "{\"code\":\"bad_json\",\"message\":\"secret\"}", "secret", 0},
    {402, "{}", "paused", 1},
    {540, "", "paused", 1},
    {200, "<html>", "check UserSyncSupabaseURL", 1},
    {200, "<html>secret", "secret", 0},
    {200, "{}", "without a user: check UserSyncSupabaseURL", 1},
    {200, "{\"message\":\"secret\"}", "secret", 0},
};

static void test_causes(void)
{
    apr_size_t i;

    for (i = 0; i < sizeof(causes) / sizeof(causes[0]); i++) {
        judge(US_LOG_IN, causes[i].status, NULL, causes[i].body);
        ok((strstr(shown(call.cause), causes[i].word) != NULL)
               == causes[i].there,
           "%s: %s", causes[i].there ? causes[i].word : "nothing else",
           shown(call.cause));
    }
}

int main(void)
{
    apr_initialize();
    apr_pool_create(&pool, NULL);
    test_messages();
    test_hook_with_success();
    test_reasons();
    test_waits();
    test_wait_until();
    test_no_wait();
    test_causes();
    apr_pool_destroy(pool);
    apr_terminate();
    return done();
}
