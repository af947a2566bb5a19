/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "answer_code.h"
#include "answer_error.h"
#include "answer_text.h"
#include "us_values.h"

#include <apr_date.h>
#include <apr_lib.h>
#include <apr_strings.h>

#include <stdlib.h>
#include <string.h>

/* The longest code, text and id of Supabase that are passed on or logged. */
#define CODE_MAX 64
#define MESSAGE_MAX 300
#define ID_MAX 64

/* An answer that is being judged. */
typedef struct judgement {
    us_call *call;
    us_operation operation;
    const us_json *doc;
    const us_http_answer *answer;
    const char *message;       /* Supabase's text, cleaned; NULL: none */
    const us_answer_text *own; /* the row of that text; NULL: none */
} judgement;

static int has_flag(const judgement *j, int flag)
{
    return j->own != NULL && (j->own->flags & flag) != 0;
}

/* --- codes --- */

/*
 * Accepts a code of GoTrue's form: a word of a-z, digits and _, or
 * PostgreSQL's five characters.  "Unauthorized" or "401" comes from a gateway.
 */
static const char *checked_code(apr_pool_t *pool, const char *code)
{
    int sqlstate = 1;
    const char *p;

    if (code == NULL || strlen(code) > CODE_MAX) {
        return NULL;
    }
    for (p = code; *p != '\0'; p++) {
        sqlstate &= apr_isdigit(*p) || apr_isupper(*p);
    }
    if (sqlstate && p - code == 5) {
        return apr_pstrdup(pool, code);
    }
    for (p = code; apr_islower(*p) || apr_isdigit(*p) || *p == '_'; p++) {
    }
    return *p == '\0' && apr_islower(*code) ? apr_pstrdup(pool, code) : NULL;
}

/* Looks in all places where GoTrue's formats have their code, in order. */
static const char *find_code(const us_call *call, const us_json *doc,
                             const us_http_answer *answer)
{
    static const char *const members[] = {"code", "error_code", "error"};
    const char *code = NULL;
    int i;

    for (i = 0; i < 3 && code == NULL; i++) {
        code = checked_code(
            call->pool, us_json_string(doc, US_JSON_PATH(members[i]), NULL));
    }
    return code != NULL ? code
                        : checked_code(call->pool,
                                       answer->wanted[US_ANSWER_ERROR_CODE]);
}

static int has_code(const us_call *call, const char *code)
{
    return call->code != NULL && strcmp(call->code, code) == 0;
}

/*
 * With these statuses a gateway complains about our key or our project, in
 * words that may look like a code.  Only a code that GoTrue is known to use,
 * or that its own header has, overrides this.
 */
static int gateway_speaks(const judgement *j)
{
    const us_http_answer *answer = j->answer;

    return (answer->status == 401 || answer->status == 402
            || answer->status == 540)
           && us_answer_code_outcome(j->operation, j->call->code)
                  == US_OUTCOME_COUNT
           && answer->wanted[US_ANSWER_ERROR_CODE] == NULL;
}

/* --- texts --- */

/* Supabase's text, shortened and without control characters, or NULL. */
static const char *find_message(const us_call *call, const us_json *doc)
{
    static const char *const members[]
        = {"msg", "message", "error_description", "error"};
    const char *text = NULL;
    char *copy;
    apr_size_t len;
    int i;

    for (i = 0; i < 4 && text == NULL; i++) {
        text = us_json_string(doc, US_JSON_PATH(members[i]), NULL);
    }
    if (text == NULL || *text == '\0' || has_code(call, text)) {
        return NULL;
    }
    len = strlen(text);
    if (len > MESSAGE_MAX) {
        len = MESSAGE_MAX;
        while ((text[len] & 0xC0) == 0x80) {
            len--; /* not in the middle of a UTF-8 sequence */
        }
    }
    copy = apr_pstrmemdup(call->pool, text, len);
    for (i = 0; copy[i] != '\0'; i++) {
        if (apr_iscntrl(copy[i])) {
            copy[i] = ' ';
        }
    }
    return copy;
}

/* --- the outcome --- */

static int is_html(const us_http_answer *answer)
{
    return answer->content_type != NULL
           && strncasecmp(answer->content_type, "text/html", 9) == 0;
}

/*
 * Is this GoTrue's error format from before it had codes: the status as a
 * number and a text, or OAuth's two texts?
 */
static int is_old_format(const judgement *j)
{
    us_slice code = us_json_raw(j->doc, US_JSON_PATH("code"));
    const char *status = apr_ltoa(j->call->pool, j->answer->status);

    return (code.text != NULL && code.len == strlen(status)
            && strncmp(code.text, status, code.len) == 0
            && us_json_string(j->doc, US_JSON_PATH("msg"), NULL) != NULL)
           || (us_json_string(j->doc, US_JSON_PATH("error"), NULL) != NULL
               && us_json_string(j->doc, US_JSON_PATH("error_description"),
                                 NULL)
                      != NULL);
}

/* The edge's firewall: GoTrue sends no HTML. */
static int edge_refuses(const judgement *j)
{
    return j->answer->status == 403 && j->call->code == NULL
           && is_html(j->answer);
}

/* An answer without a GoTrue code, from a gateway or an old GoTrue. */
static us_outcome outcome_of_status(const judgement *j)
{
    us_call *call = j->call;

    switch (j->answer->status) {
    case 401:
        return US_KEY_REFUSED;
    case 403:
        if (!edge_refuses(j)) {
            return US_KEY_REFUSED;
        }
        return us_fail(call, US_UPSTREAM_UNAVAILABLE,
                       "Supabase's edge refuses this server (403, an HTML "
                       "page) and passes nothing on: see the network "
                       "restrictions of the project, and ask Supabase "
                       "whether this address is blocked");
    case 429:
        call->code = "over_request_rate_limit";
        return US_RATE_LIMITED;
    case 402:
    case 540:
        return us_fail(call, US_UPSTREAM_UNAVAILABLE,
                       "the Supabase project is restricted or paused: see "
                       "its dashboard");
    default:
        return j->answer->status / 100 == 4 && is_old_format(j)
                   ? US_REFUSED
                   : US_UPSTREAM_BAD_ANSWER;
    }
}

/* A GoTrue error by its code; its status matters only where it must. */
static us_outcome outcome_of_code(const judgement *j)
{
    const us_call *call = j->call;
    long status = j->answer->status;
    us_outcome known = us_answer_code_outcome(j->operation, call->code);

    if (status == 429
        && (known == US_OUTCOME_COUNT || has_code(call, "unknown"))) {
        return US_RATE_LIMITED;
    }
    if (known != US_OUTCOME_COUNT) {
        return known;
    }
    return status / 100 == 4 ? US_REFUSED : US_UPSTREAM_BAD_ANSWER;
}

/*
 * A hook that refuses without its own status gets 500 and GoTrue's code for
 * failures, but not GoTrue's header; the text is the hook's.
 */
static int is_hook_text(const judgement *j)
{
    return has_code(j->call, "unexpected_failure") && j->answer->status == 500
           && j->answer->wanted[US_ANSWER_ERROR_CODE] == NULL
           && j->message != NULL && j->own == NULL;
}

static int is_hook_away(const judgement *j)
{
    return has_flag(j, US_TEXT_HOOK)
           || (j->call->code != NULL
               && strncmp(j->call->code, "hook_", 5) == 0);
}

/*
 * The account is created before a session is, and in between GoTrue sets its
 * header about the user; so an account exists when that hook runs.
 */
static int is_after_account(const judgement *j)
{
    return has_flag(j, US_TEXT_AFTER)
           || j->answer->wanted[US_ANSWER_USER_ID] != NULL;
}

/*
 * The outcome that a usersync-hook has had for this user, or
 * US_OUTCOME_COUNT.  Supabase passes the text on with the code "unknown", or
 * in its old format without a code.
 */
static us_outcome hook_outcome(const judgement *j)
{
    int passed_on = j->call->code != NULL ? has_code(j->call, "unknown")
                                          : is_old_format(j);

    return passed_on ? us_answer_code_of_hook(j->message) : US_OUTCOME_COUNT;
}

static us_outcome find_outcome(judgement *j)
{
    us_call *call = j->call;

    call->code = find_code(call, j->doc, j->answer);
    if (call->code != NULL && gateway_speaks(j)) {
        call->code = NULL;
    }
    j->message = find_message(call, j->doc);
    j->own = us_answer_text_find(j->message);
    if (has_flag(j, US_TEXT_TOKEN) && j->operation != US_REFRESH
        && j->operation != US_LOG_OUT) {
        j->own = NULL; /* no token was sent */
    }
    if (j->own != NULL && j->own->code != NULL
        && (call->code == NULL || has_code(call, "invalid_grant")
            || us_answer_code_outcome(j->operation, call->code)
                   == US_OUTCOME_COUNT)) {
        call->code = j->own->code;
    }
    if (is_hook_text(j)) {
        call->code = "unknown";
    }
    if (is_hook_away(j)) {
        return j->operation == US_SIGN_UP && is_after_account(j)
                   ? US_UNKNOWN_BROKEN
                   : US_UPSTREAM_UNAVAILABLE;
    }
    if (hook_outcome(j) != US_OUTCOME_COUNT) {
        return hook_outcome(j);
    }
    return call->code != NULL ? outcome_of_code(j) : outcome_of_status(j);
}

/* --- what the reply and the log say besides the outcome --- */

static int digits_value(const char *p)
{
    long value = strtol(p, NULL, 10);

    return value > 0 && value <= US_ANSWER_RETRY_AFTER_MAX ? (int)value : 0;
}

/* Retry-After as a date (RFC 9110, section 10.2.3): the seconds until then. */
static int seconds_until(const char *date)
{
    apr_time_t when = apr_date_parse_http(date);
    apr_time_t left = when - apr_time_now();

    return when > 0 && left > 0
                   && left <= apr_time_from_sec(US_ANSWER_RETRY_AFTER_MAX)
               ? (int)apr_time_sec(left) + 1
               : 0;
}

/*
 * Seconds to wait: the edge's header, else the number in "...  only request
 * this after 42 seconds.", else 0 for the default.
 */
static int find_retry_after(const judgement *j)
{
    const char *header = j->answer->wanted[US_ANSWER_RETRY_AFTER];
    const char *after;

    if (header != NULL) {
        return apr_isdigit(*header) ? digits_value(header)
                                    : seconds_until(header);
    }
    after = j->message != NULL ? strstr(j->message, "after ") : NULL;
    return after != NULL && apr_isdigit(after[6]) ? digits_value(after + 6)
                                                  : 0;
}

/* The reasons of a weak password; an old GoTrue has them only in its text. */
static const char *find_reasons(const judgement *j)
{
    static const char *const words[][2]
        = {{"be at least ", "\"length\""},
           {"one character of each", "\"characters\""},
           {"known to be weak", "\"pwned\""}};
    apr_pool_t *pool = j->call->pool;
    us_slice raw
        = us_json_raw(j->doc, US_JSON_PATH("weak_password", "reasons"));
    const char *list = "";
    int i;

    if (us_json_type_of(j->doc, US_JSON_PATH("weak_password", "reasons"))
        == US_JSON_ARRAY) {
        return apr_pstrmemdup(pool, raw.text, raw.len);
    }
    for (i = 0; i < 3 && j->message != NULL; i++) {
        if (strstr(j->message, words[i][0]) != NULL) {
            list = apr_pstrcat(pool, list, *list != '\0' ? "," : "",
                               words[i][1], NULL);
        }
    }
    return *list != '\0' ? apr_pstrcat(pool, "[", list, "]", NULL) : NULL;
}

/* The text for the client, if the outcome's own text is not enough. */
static const char *find_detail(const judgement *j, us_outcome outcome)
{
    if (has_code(j->call, "unknown")
        || (outcome == US_REFUSED
            && has_code(j->call, "email_address_not_authorized"))) {
        return j->message;
    }
    if (outcome == US_INVALID_CREDENTIALS && j->own == NULL) {
        return j->message; /* from the hook that guards passwords */
    }
    return NULL;
}

/* Which hook it was, as far as this can be known. */
static const char *hook_name(const judgement *j)
{
    if (has_flag(j, US_TEXT_AFTER)) {
        return "after-user-created";
    }
    if (j->answer->wanted[US_ANSWER_USER_ID] != NULL) {
        return "custom-access-token";
    }
    if (j->operation == US_REFRESH) {
        return "custom-access-token";
    }
    return j->operation == US_SIGN_UP
               ? "before-user-created, or send-email"
               : "password-verification-attempt, or custom-access-token";
}

static const char *find_hint(const judgement *j, us_outcome outcome)
{
    if (outcome == US_KEY_REFUSED) {
        return ": check UserSyncSupabaseKey and UserSyncSupabaseURL";
    }
    if (is_hook_away(j)) {
        return apr_psprintf(
            j->call->pool,
            "; a hook of the project (%s) is away or gives no valid answer: "
            "see Authentication, Hooks in the project's dashboard, and the "
            "log of what serves it%s",
            hook_name(j),
            is_after_account(j) && j->operation == US_SIGN_UP
                ? "; the account exists"
                : "");
    }
    if (has_flag(j, US_TEXT_TAKEN)) {
        return "; no account was made: another sign-up of this address came "
               "first, or a trigger or a constraint of auth.users refuses "
               "the user: see the project's Postgres logs";
    }
    if (hook_outcome(j) != US_OUTCOME_COUNT) {
        return ": a usersync-hook of the project, in this server or another, "
               "refused: see its line";
    }
    if (has_code(j->call, "unknown")) {
        return "; a hook of the project refuses the request";
    }
    if (outcome == US_UPSTREAM_BAD_ANSWER
        && (j->answer->status == 404 || j->answer->status / 100 == 3)) {
        return ": check UserSyncSupabaseURL";
    }
    return "";
}

static const char *find_cause(const judgement *j, us_outcome outcome)
{
    const us_call *call = j->call;
    int tell = has_flag(j, US_TEXT_TELL);

    if (outcome == US_KEY_REFUSED) {
        return apr_psprintf(call->pool,
                            "Supabase refused our API key (status %ld)%s",
                            j->answer->status, find_hint(j, outcome));
    }
    return apr_psprintf(
        call->pool, "Supabase answered %ld%s%s%s%s%s%s", j->answer->status,
        call->code != NULL ? " with code " : "",
        call->code != NULL ? call->code : "", tell ? ", \"" : "",
        tell ? us_answer_text_known(call->pool, j->own, j->message) : "",
        tell ? "\"" : "", find_hint(j, outcome));
}

/* GoTrue's id of the failure, which its own log has, too. */
static const char *find_error_id(const judgement *j)
{
    const char *id = us_json_string(j->doc, US_JSON_PATH("error_id"), NULL);
    const char *p = id;

    while (p != NULL && (apr_isalnum(*p) || *p == '-')) {
        p++;
    }
    return p != NULL && *p == '\0' && p != id && p - id <= ID_MAX
               ? apr_pstrcat(j->call->pool, "error_id ", id, NULL)
               : NULL;
}

const char *us_answer_error_user(apr_pool_t *pool,
                                 const us_http_answer *answer)
{
    const char *id = answer->wanted[US_ANSWER_USER_ID];

    return id != NULL && us_value_is_uuid(id)
               ? apr_pstrcat(pool, "user ", id, NULL)
               : NULL;
}

static void explain(const judgement *j, us_outcome outcome)
{
    us_call *call = j->call;

    call->message = find_detail(j, outcome);
    if (outcome == US_RATE_LIMITED) {
        call->retry_after = find_retry_after(j);
    }
    else if (outcome == US_WEAK_PASSWORD) {
        call->reasons = find_reasons(j);
    }
    if (call->cause == NULL) {
        call->cause = find_cause(j, outcome);
    }
    call->about = find_error_id(j);
    if (call->about == NULL) {
        call->about = us_answer_error_user(call->pool, j->answer);
    }
}

/* --- judging --- */

/*
 * What an error says about Supabase.  GoTrue's own errors are no outage,
 * because a client may provoke them.  A gateway's errors are, and silence
 * behind one.
 */
static us_health health_of(const judgement *j)
{
    if (is_hook_away(j)) {
        return US_HEALTH_UNKNOWN;
    }
    if (edge_refuses(j)) {
        return US_HEALTH_BAD;
    }
    if (j->answer->status / 100 == 4 || hook_outcome(j) != US_OUTCOME_COUNT) {
        return US_HEALTH_GOOD;
    }
    return j->answer->status / 100 == 5 && j->call->code == NULL
                   && !is_old_format(j)
               ? US_HEALTH_BAD
               : US_HEALTH_UNKNOWN;
}

/* A sign-up that failed before its account was created. */
static int is_certain(const judgement *j, us_outcome outcome)
{
    return j->operation == US_SIGN_UP && outcome == US_UPSTREAM_BAD_ANSWER
           && has_flag(j, US_TEXT_NONE_MADE) && !is_after_account(j);
}

us_outcome us_answer_error_judge(us_call *call, us_operation operation,
                                 const us_json *doc,
                                 const us_http_answer *answer, int *certain)
{
    judgement j = {call, operation, doc, answer, NULL, NULL};
    us_outcome outcome = find_outcome(&j);

    explain(&j, outcome);
    call->health = health_of(&j);
    *certain = is_certain(&j, outcome);
    if (*certain) {
        call->message
            = has_flag(&j, US_TEXT_TAKEN)
                  ? "No account was created. Perhaps this address has just "
                    "been registered: try to log in, and register again if "
                    "that fails."
                  : "No account was created, for the authentication service "
                    "failed: try again later.";
    }
    return outcome;
}

int us_answer_error_is_refusal(us_call *call, const us_json *doc,
                               const us_http_answer *answer)
{
    judgement j = {call, US_LOG_IN, doc, answer, NULL, NULL};

    call->code = find_code(call, doc, answer);
    if (!has_code(call, "unknown")) {
        call->code = NULL;
        return 0;
    }
    j.message = find_message(call, doc);
    explain(&j, US_REFUSED);
    return 1;
}
