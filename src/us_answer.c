/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "us_answer.h"
#include "us_json.h"
#include "us_values.h"

#include <apr_date.h>
#include <apr_lib.h>
#include <apr_strings.h>

#include <stdlib.h>
#include <string.h>

/* Longest code and text of Supabase's that go on to a client. */
#define CODE_MAX 64
#define MESSAGE_MAX 300

/* Longest Retry-After that is believed, in seconds. */
#define RETRY_AFTER_MAX 86400

const char *const us_answer_headers[]
    = {"x-sb-error-code", "Retry-After", NULL};

/*
 * GoTrue's codes that mean more than "refused".  Statuses are not looked at:
 * a wrong password is a 400 there, a switched-off provider 400 or 422.
 */
static const struct {
    const char *code;
    us_outcome outcome;
} known_codes[] = {
    {"invalid_credentials", US_INVALID_CREDENTIALS},
    {"email_not_confirmed", US_NOT_ALLOWED},
    {"phone_not_confirmed", US_NOT_ALLOWED},
    {"user_banned", US_NOT_ALLOWED},
    {"signup_disabled", US_NOT_ALLOWED},
    {"email_provider_disabled", US_NOT_ALLOWED},
    {"phone_provider_disabled", US_NOT_ALLOWED},
    {"anonymous_provider_disabled", US_NOT_ALLOWED},
    {"provider_disabled", US_NOT_ALLOWED},
    {"user_already_exists", US_USER_EXISTS},
    {"email_exists", US_USER_EXISTS},
    {"weak_password", US_WEAK_PASSWORD},
    {"over_request_rate_limit", US_RATE_LIMITED},
    {"over_email_send_rate_limit", US_RATE_LIMITED},
    {"over_sms_send_rate_limit", US_RATE_LIMITED},
    /* on these two routes only our own key can be meant */
    {"no_authorization", US_KEY_REFUSED},
    {"bad_jwt", US_KEY_REFUSED},
    {"not_admin", US_KEY_REFUSED},
    {"request_timeout", US_UPSTREAM_TIMEOUT},
    {"unexpected_failure", US_UPSTREAM_BAD_ANSWER},
    {"unknown", US_REFUSED}, /* a hook's refusal, with any status at all */
};

/* --- identity --- */

static void take_value(apr_pool_t *pool, const us_json *doc,
                       const char *const *path, us_value *value)
{
    us_json_slice raw = us_json_raw(doc, path);

    value->text = NULL;
    value->json = NULL;
    if (raw.text == NULL || us_json_type_of(doc, path) == US_JSON_NONE) {
        return;
    }
    value->json = apr_pstrmemdup(pool, raw.text, raw.len);
    value->text = apr_pstrdup(pool, us_json_string(doc, path, NULL));
    if (value->text == NULL) {
        value->text = value->json;
    }
}

/* Supabase says "" where the user has no e-mail or phone: SQL NULL. */
static void empty_to_null(us_value *value)
{
    if (value->text != NULL && *value->text == '\0') {
        value->text = NULL;
        value->json = NULL;
    }
}

/* The path of a column's field in the answer; nested: below "user". */
static void field_path(const us_column *column, int nested,
                       const char *path[4])
{
    static const char *const names[]
        = {"id", "email", "phone", "user_metadata", "app_metadata"};
    int i = 0;

    if (nested) {
        path[i++] = "user";
    }
    path[i++] = names[column->field];
    if (column->key != NULL) {
        path[i++] = column->key;
    }
    path[i] = NULL;
}

/* Take id and values; 0 when there is no usable id. */
static int take_user(apr_pool_t *pool, const us_json *doc, int nested,
                     const apr_array_header_t *columns, us_identity *identity)
{
    const char *id = us_json_string(
        doc, nested ? US_JSON_PATH("user", "id") : US_JSON_PATH("id"), NULL);
    char *canonical;
    int i;

    if (id == NULL || !us_value_is_uuid(id)) {
        return 0;
    }
    canonical = apr_pstrdup(pool, id);
    for (i = 0; canonical[i] != '\0'; i++) {
        canonical[i] = (char)apr_tolower(canonical[i]);
    }
    identity->id = canonical;
    for (i = 0; i < columns->nelts; i++) {
        const us_column *column = &APR_ARRAY_IDX(columns, i, us_column);
        us_value *value = &identity->values[i];
        const char *path[4];

        if (column->field == US_FIELD_ID) {
            value->text = identity->id;
            value->json = NULL;
            continue;
        }
        field_path(column, nested, path);
        take_value(pool, doc, path, value);
        if (column->field == US_FIELD_EMAIL
            || column->field == US_FIELD_PHONE) {
            empty_to_null(value);
        }
    }
    return 1;
}

/* A string with something between its quotes; not decoded, it is a token. */
static int has_text(const us_json *doc, const char *const *path)
{
    return us_json_type_of(doc, path) == US_JSON_STRING
           && us_json_raw(doc, path).len > 2;
}

/* A session: whose access token and user stand in the answer. */
static int take_session(us_call *call, const us_json *doc,
                        const us_http_answer *answer,
                        const apr_array_header_t *columns,
                        us_identity *identity)
{
    if (!has_text(doc, US_JSON_PATH("access_token"))
        || !take_user(call->pool, doc, 1, columns, identity)) {
        return 0;
    }
    identity->proven = 1;
    identity->session = answer->body;
    identity->session_len = answer->body_len;
    return 1;
}

/*
 * A bare user: confirmation is pending, or the address is taken and the id
 * invented.  Proven only by an identity of that very user (GoTrue's
 * signup.go, sanitizeUser: it empties the identities of an invented one).
 */
static int take_bare_user(us_call *call, const us_json *doc,
                          const apr_array_header_t *columns,
                          us_identity *identity)
{
    if (us_json_type_of(doc, US_JSON_PATH("identities")) != US_JSON_ARRAY
        || !take_user(call->pool, doc, 0, columns, identity)) {
        return 0;
    }
    identity->proven
        = us_json_array_has(doc, US_JSON_PATH("identities"), "user_id",
                            us_json_string(doc, US_JSON_PATH("id"), NULL));
    return 1;
}

/* --- errors --- */

/*
 * A code as GoTrue makes them: a word of a-z, digits and _, or PostgreSQL's
 * five characters.  "Unauthorized" or "401" is some gateway's.
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

/* Where GoTrue's formats keep their code, in the order that covers all. */
static const char *find_code(us_call *call, const us_json *doc,
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

/* Supabase's text, bounded and without control characters; may be NULL. */
static const char *find_message(us_call *call, const us_json *doc)
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
    if (text == NULL || *text == '\0') {
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

static int digits_value(const char *p)
{
    long value = strtol(p, NULL, 10);

    return value > 0 && value <= RETRY_AFTER_MAX ? (int)value : 0;
}

/* Retry-After as a date (RFC 9110, section 10.2.3): the seconds until it. */
static int seconds_until(const char *date)
{
    apr_time_t when = apr_date_parse_http(date);
    apr_time_t left = when - apr_time_now();

    return when > 0 && left > 0 && left <= apr_time_from_sec(RETRY_AFTER_MAX)
               ? (int)apr_time_sec(left) + 1
               : 0;
}

/*
 * Seconds to wait: the edge's header, else the number in
 * "... only request this after 42 seconds.", else 0 for the default.
 */
static int find_retry_after(const us_http_answer *answer, const char *message)
{
    const char *header = answer->wanted[US_ANSWER_RETRY_AFTER];
    const char *after;

    if (header != NULL) {
        return apr_isdigit(*header) ? digits_value(header)
                                    : seconds_until(header);
    }
    after = message != NULL ? strstr(message, "after ") : NULL;
    return after != NULL && apr_isdigit(after[6]) ? digits_value(after + 6)
                                                  : 0;
}

/* What a code stands for, or US_OUTCOME_COUNT for one that is not listed. */
static us_outcome known_outcome(const char *code)
{
    apr_size_t i;

    for (i = 0; i < sizeof(known_codes) / sizeof(known_codes[0]); i++) {
        if (strcmp(code, known_codes[i].code) == 0) {
            return known_codes[i].outcome;
        }
    }
    return US_OUTCOME_COUNT;
}

/* A GoTrue error by its code; its status decides only where it has to. */
static us_outcome outcome_of_code(const char *code, long status)
{
    us_outcome known = known_outcome(code);

    if (known != US_OUTCOME_COUNT) {
        return known;
    }
    if (status == 429) {
        return US_RATE_LIMITED;
    }
    return status >= 400 && status < 500 ? US_REFUSED : US_UPSTREAM_BAD_ANSWER;
}

/*
 * With these statuses a gateway speaks of our key or our project, in words
 * that may look like a code; only one that GoTrue is known to use, or that
 * its own header names, is stronger.
 */
static int gateway_speaks(const us_http_answer *answer, const char *code)
{
    return (answer->status == 401 || answer->status == 402
            || answer->status == 540)
           && known_outcome(code) == US_OUTCOME_COUNT
           && answer->wanted[US_ANSWER_ERROR_CODE] == NULL;
}

static int is_html(const us_http_answer *answer)
{
    return answer->content_type != NULL
           && strncasecmp(answer->content_type, "text/html", 9) == 0;
}

/* An answer without a GoTrue code: made by a gateway, not by GoTrue. */
static us_outcome outcome_of_status(us_call *call,
                                    const us_http_answer *answer)
{
    switch (answer->status) {
    case 401:
        break;
    case 403:
        if (is_html(answer)) {
            return US_UPSTREAM_BAD_ANSWER; /* the edge's firewall */
        }
        break;
    case 429:
        call->code = "over_request_rate_limit";
        return US_RATE_LIMITED;
    case 402:
    case 540:
        call->cause = "the Supabase project is restricted or paused: see its "
                      "dashboard";
        return US_UPSTREAM_UNAVAILABLE;
    default:
        return US_UPSTREAM_BAD_ANSWER;
    }
    return US_KEY_REFUSED;
}

/* Fill in what the reply and the log say beside the outcome. */
static void explain(us_call *call, us_outcome outcome, const us_json *doc,
                    const us_http_answer *answer)
{
    const char *message = find_message(call, doc);
    us_json_slice reasons;

    if (outcome == US_RATE_LIMITED) {
        call->retry_after = find_retry_after(answer, message);
    }
    else if (outcome == US_WEAK_PASSWORD
             && us_json_type_of(doc, US_JSON_PATH("weak_password", "reasons"))
                    == US_JSON_ARRAY) {
        reasons = us_json_raw(doc, US_JSON_PATH("weak_password", "reasons"));
        call->reasons = apr_pstrmemdup(call->pool, reasons.text, reasons.len);
    }
    else if (outcome == US_REFUSED && call->code != NULL
             && (strcmp(call->code, "unknown") == 0
                 || strcmp(call->code, "email_address_not_authorized") == 0)) {
        call->message = message;
    }
    else if (outcome == US_KEY_REFUSED) {
        call->cause
            = apr_psprintf(call->pool,
                           "Supabase refused our API key (status %ld): check "
                           "UserSyncSupabaseKey and UserSyncSupabaseURL",
                           answer->status);
    }
    if (call->cause == NULL) {
        /* GoTrue's texts can quote the address: the code must do here */
        call->cause = apr_psprintf(
            call->pool, "Supabase answered %ld%s%s%s", answer->status,
            call->code != NULL ? " with code " : "",
            call->code != NULL ? call->code : "",
            answer->status == 404 || answer->status / 100 == 3
                ? ": check UserSyncSupabaseURL"
                : "");
    }
}

/* --- the judgement --- */

/* A 2xx: the expected object, a hook's refusal in disguise, or nonsense. */
static us_outcome judge_success(us_call *call, us_operation operation,
                                const us_json *doc,
                                const us_http_answer *answer,
                                const apr_array_header_t *columns,
                                us_identity *identity)
{
    if (take_session(call, doc, answer, columns, identity)) {
        return US_OK;
    }
    if (operation == US_SIGNUP
        && take_bare_user(call, doc, columns, identity)) {
        return US_PENDING;
    }
    call->code = find_code(call, doc, answer);
    if (call->code != NULL && strcmp(call->code, "unknown") == 0) {
        explain(call, US_REFUSED, doc, answer);
        return US_REFUSED; /* a hook may refuse with a 2xx of its own */
    }
    call->code = NULL;
    call->cause = apr_psprintf(call->pool,
                               "Supabase answered %ld without a user: check "
                               "UserSyncSupabaseURL",
                               answer->status);
    return US_UPSTREAM_BAD_ANSWER;
}

/* What an answer says of Supabase: a 4xx is an honest answer, too. */
static us_health health_of(us_outcome outcome, long status, const char *code)
{
    if (outcome == US_OK || outcome == US_PENDING || status / 100 == 4) {
        return US_HEALTH_GOOD;
    }
    return status / 100 == 5 && code == NULL ? US_HEALTH_BAD
                                             : US_HEALTH_UNKNOWN;
}

static us_outcome judge_answered(us_call *call, us_operation operation,
                                 const us_http_answer *answer,
                                 const apr_array_header_t *columns,
                                 us_identity *identity)
{
    us_json *doc = NULL;
    const char *wrong
        = us_json_parse(call->pool, answer->body, answer->body_len,
                        US_JSON_ANSWER_DEPTH, &doc);
    us_outcome outcome;

    if (answer->status / 100 == 2 && wrong == NULL) {
        outcome
            = judge_success(call, operation, doc, answer, columns, identity);
    }
    else if (answer->status / 100 == 2) {
        call->cause = apr_psprintf(call->pool,
                                   "Supabase answered %ld with a body that "
                                   "is no JSON object (%s): check "
                                   "UserSyncSupabaseURL",
                                   answer->status, wrong);
        outcome = US_UPSTREAM_BAD_ANSWER;
    }
    else {
        call->code = find_code(call, doc, answer);
        if (call->code != NULL && gateway_speaks(answer, call->code)) {
            call->code = NULL;
        }
        outcome = call->code != NULL
                      ? outcome_of_code(call->code, answer->status)
                      : outcome_of_status(call, answer);
        explain(call, outcome, doc, answer);
    }
    call->health = health_of(outcome, answer->status, call->code);
    if (doc != NULL) {
        us_json_free(doc); /* what was decoded need not wait for the pool */
    }
    return outcome;
}

/*
 * A sign-up that was sent and did not end in a clear yes or no may have
 * made an account: the client must be told that, never "failed".
 */
static us_outcome for_operation(us_operation operation, us_outcome outcome)
{
    if (operation == US_SIGNUP && outcome == US_UPSTREAM_TIMEOUT) {
        return US_UNKNOWN_TIMEOUT;
    }
    if (operation == US_SIGNUP && outcome == US_UPSTREAM_BAD_ANSWER) {
        return US_UNKNOWN_BROKEN;
    }
    return outcome;
}

/* The directive that ended the wait. */
static const char *timeout_hint(us_operation operation, us_http_result result)
{
    if (result != US_HTTP_TIMEOUT) {
        return "";
    }
    return operation == US_SIGNUP ? "; see UserSyncRegisterTimeout"
                                  : "; see UserSyncTimeout";
}

us_outcome us_answer_judge(us_call *call, us_operation operation,
                           const us_http_answer *answer,
                           const apr_array_header_t *columns,
                           us_identity *identity)
{
    us_outcome outcome = US_UPSTREAM_BAD_ANSWER;

    memset(identity, 0, sizeof(*identity));
    call->health = US_HEALTH_BAD;
    if (answer->result != US_HTTP_ANSWERED) {
        call->cause = apr_psprintf(call->pool, "no answer from Supabase: %s%s",
                                   answer->problem,
                                   timeout_hint(operation, answer->result));
    }
    switch (answer->result) {
    case US_HTTP_ANSWERED:
        outcome = judge_answered(call, operation, answer, columns, identity);
        break;
    case US_HTTP_UNREACHABLE:
        outcome = US_UPSTREAM_UNAVAILABLE;
        break;
    case US_HTTP_TIMEOUT:
        outcome = US_UPSTREAM_TIMEOUT;
        break;
    case US_HTTP_BROKEN:
    case US_HTTP_TOO_BIG:
        break;
    }
    return for_operation(operation, outcome);
}
