/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "us_json.h"
#include "us_log.h"
#include "us_reply.h"
#include "us_stats.h"
#include "parts.h"

#include <http_core.h>
#include <http_protocol.h>
#include <util_filter.h>

#include <apr_general.h>
#include <apr_strings.h>

#include <string.h>

/* The methods of every route, for the Allow header. */
#define ALLOWED "POST, OPTIONS"

/* Flags of a row besides its status and code. */
#define SUPABASE_CODE 1 /* show Supabase's code when there is one */
#define WITH_ALLOW 2
#define WITH_AUTHENTICATE 4
#define WITH_INVALID_TOKEN 16 /* say so there (RFC 6750, section 3.1) */
#define QUIET 8 /* log repeated lines of one cause only now and then */
#define WITH_SIGNATURE 32 /* the challenge for a hook's sender */

/*
 * The outcome table: the only place where an outcome becomes a status, a
 * public code, a text, a Retry-After (seconds, 0: none) and a log level.
 * docs/routes.md has the same table.
 */
static const struct outcome_row {
    us_outcome outcome;
    int status;
    int level;
    int retry_after;
    int flags;
    const char *code;
    const char *detail;
} outcomes[US_OUTCOME_COUNT] = {
    {US_OK, 200, APLOG_DEBUG, 0, 0, "ok", ""},
    {US_PENDING, 200, APLOG_DEBUG, 0, 0, "pending", ""},
    {US_LOGGED_OUT, 204, APLOG_DEBUG, 0, 0, "logged_out", ""},
    {US_APPLIED, 204, APLOG_DEBUG, 0, 0, "applied", ""},
    {US_OPTIONS, 204, APLOG_DEBUG, 0, WITH_ALLOW, "options", ""},
    {US_NOT_FOUND, 404, APLOG_INFO, 0, 0, "not_found",
     "There is nothing at this path."},
    {US_METHOD_NOT_ALLOWED, 405, APLOG_INFO, 0, WITH_ALLOW,
     "method_not_allowed", "Send a POST request."},
    {US_UNSUPPORTED_MEDIA, 415, APLOG_INFO, 0, 0, "unsupported_media_type",
     "Send the body as application/json, without a content encoding."},
    {US_BODY_TOO_LARGE, 413, APLOG_INFO, 0, 0, "body_too_large",
     "The request body is too large."},
    {US_BODY_TIMEOUT, 408, APLOG_INFO, 0, 0, "body_timeout",
     "The request body did not arrive in time."},
    {US_INVALID_REQUEST, 400, APLOG_INFO, 0, 0, "invalid_request",
     "The request body is not valid."},
    {US_INVALID_CREDENTIALS, 401, APLOG_INFO, 0, WITH_AUTHENTICATE,
     "invalid_credentials", "The e-mail address or the password is wrong."},
    {US_INVALID_REFRESH, 401, APLOG_INFO, 0, WITH_AUTHENTICATE,
     "invalid_refresh_token", "The session has ended: log in again."},
    {US_NO_TOKEN, 401, APLOG_INFO, 0, WITH_AUTHENTICATE, "no_authorization",
     "Send the access token in the header Authorization, as Bearer."},
    {US_INVALID_TOKEN, 401, APLOG_INFO, 0,
     WITH_AUTHENTICATE | WITH_INVALID_TOKEN, "invalid_token",
     "The access token is not valid, or not valid any more."},
    {US_NOT_ALLOWED, 403, APLOG_INFO, 0, SUPABASE_CODE, "not_allowed",
     "This account or this way to sign in is not allowed."},
    {US_USER_EXISTS, 409, APLOG_INFO, 0, 0, "user_already_exists",
     "This address is registered already: log in instead."},
    {US_WEAK_PASSWORD, 422, APLOG_INFO, 0, 0, "weak_password",
     "The password is too weak: choose another one."},
    {US_REFUSED, 400, APLOG_INFO, 0, SUPABASE_CODE, "refused",
     "The authentication service refused the request."},
    {US_RATE_LIMITED, 429, APLOG_WARNING, 60, SUPABASE_CODE | QUIET,
     "over_request_rate_limit", "Too many requests: try again later."},
    {US_SESSION_BUSY, 503, APLOG_INFO, 1, 0, "conflict",
     "Other requests refresh this session: try again."},
    {US_KEY_REFUSED, 502, APLOG_ERR, 0, QUIET, "upstream_rejected_key",
     "The authentication service is not available."},
    {US_UPSTREAM_UNAVAILABLE, 503, APLOG_ERR, 5, QUIET, "upstream_unavailable",
     "The authentication service cannot be reached: try again later."},
    {US_UPSTREAM_BAD_ANSWER, 502, APLOG_ERR, 0, QUIET, "upstream_bad_answer",
     "The authentication service gave no usable answer."},
    {US_UPSTREAM_TIMEOUT, 504, APLOG_ERR, 0, QUIET, "upstream_timeout",
     "The authentication service did not answer in time."},
    {US_UNKNOWN_TIMEOUT, 504, APLOG_ERR, 0, QUIET, "outcome_unknown",
     "No answer came in time and the account may have been created: try to "
     "log in before registering again."},
    {US_UNKNOWN_BROKEN, 502, APLOG_ERR, 0, QUIET, "outcome_unknown",
     "The answer was lost and the account may have been created: try to log "
     "in before registering again."},
    {US_STORE_UNAVAILABLE, 503, APLOG_ERR, 5, QUIET, "store_unavailable",
     US_TEXT_STORE_UNAVAILABLE},
    {US_TABLE_MISFIT, 503, APLOG_ERR, 5, QUIET, "store_unavailable",
     US_TEXT_STORE_UNAVAILABLE},
    {US_ROW_REFUSED, 500, APLOG_ERR, 0, QUIET, "user_row_refused",
     US_TEXT_ROW_REFUSED},
    {US_ROW_CONFLICT, 409, APLOG_ERR, 0, QUIET, "user_row_conflict",
     US_TEXT_ROW_CONFLICT},
    {US_USER_BANNED, 403, APLOG_INFO, 0, 0, "user_banned",
     US_TEXT_USER_BANNED},
    {US_USER_DELETED, 401, APLOG_INFO, 0,
     WITH_AUTHENTICATE | WITH_INVALID_TOKEN, "user_deleted",
     US_TEXT_USER_DELETED},
    {US_NO_USER_ID, 403, APLOG_WARNING, 0, QUIET, "user_not_identified",
     "This user cannot be served here."},
    {US_UNSYNCED, 0, APLOG_WARNING, 0, QUIET, "unsynced", ""},
    {US_UNSIGNED, 401, APLOG_WARNING, 0, WITH_SIGNATURE | QUIET,
     "invalid_signature", "The request is not signed with a known secret."},
    {US_WRONG_HOOK, 500, APLOG_ERR, 0, QUIET, "hook_not_served",
     "This server does not serve this hook."},
    {US_FORWARD_FAILED, 503, APLOG_ERR, 5, QUIET, "hook_forward_failed",
     US_TEXT_FORWARD_FAILED},
    {US_ADMIN_REFUSED, 403, APLOG_INFO, 0, 0, "admin_not_proxied",
     "Requests of administrators are not forwarded here."},
    {US_BUSY, 503, APLOG_WARNING, 1, QUIET, "busy", US_TEXT_BUSY},
    {US_CIRCUIT_OPEN, 503, APLOG_WARNING, 1, QUIET, "upstream_unavailable",
     "The authentication service cannot be reached: try again later."},
    {US_NOT_CONFIGURED, 500, APLOG_ERR, 0, QUIET, "not_configured",
     "This server is not set up for sign-in."},
    {US_ANSWERED_ALREADY, 0, APLOG_DEBUG, 0, 0, "answered_already", ""},
};

const char *us_reply_request_id(request_rec *r)
{
    static const char hex[] = "0123456789abcdef";
    const char *unique = apr_table_get(r->subprocess_env, "UNIQUE_ID");
    unsigned char bytes[16];
    char *id;
    apr_size_t i;

    if (unique != NULL) {
        return unique;
    }
    if (apr_generate_random_bytes(bytes, sizeof(bytes)) != APR_SUCCESS) {
        return "-";
    }
    id = apr_palloc(r->pool, 2 * sizeof(bytes) + 1);
    for (i = 0; i < sizeof(bytes); i++) {
        id[2 * i] = hex[bytes[i] >> 4];
        id[2 * i + 1] = hex[bytes[i] & 15];
    }
    id[2 * sizeof(bytes)] = '\0';
    return id;
}

/* A report has the name of what it reports about. */
static const char *const doors[US_DOOR_COUNT]
    = {[US_DOOR_REGISTER] = "usersync-register",
       [US_DOOR_LOGIN] = "usersync-login",
       [US_DOOR_REFRESH] = "usersync-refresh",
       [US_DOOR_LOGOUT] = "usersync-logout",
       [US_DOOR_HOOK] = US_HOOK_HANDLER,
       [US_DOOR_EVENT] = US_EVENT_HANDLER,
       [US_DOOR_GATE] = "usersync-gate",
       [US_DOOR_RESPONSE] = "usersync-response",
       [US_DOOR_REPORT] = "usersync-response"};

const char *us_reply_door(us_door door)
{
    return doors[door];
}

const char *us_reply_code(us_outcome outcome)
{
    return outcomes[outcome].code;
}

/* The id of a request that logs nothing. */
static const char no_name[] = "-";

void us_reply_name(request_rec *r, us_call *call)
{
    if (call->log.request_id == no_name) {
        call->log.request_id = us_reply_request_id(r);
    }
}

void us_reply_begin(request_rec *r, us_call *call, us_door door)
{
    memset(call, 0, sizeof(*call));
    call->pool = r->pool;
    call->door = door;
    call->log.r = r;
    call->log.request_id = no_name;
    if (APLOG_R_IS_LEVEL(r, APLOG_DEBUG)) {
        us_reply_name(r, call);
    }
    call->upstream_time = -1;
    call->store_time = -1;
}

/* What users can do about some of Supabase's codes. */
static const struct code_detail {
    const char *code;
    const char *detail;
} code_details[] = {
    {"email_not_confirmed", "Confirm the e-mail address first: a mail with a "
                            "link was sent to it."},
    {"user_banned", US_TEXT_USER_BANNED},
    {"signup_disabled", "Registration is switched off."},
    {"captcha_failed", "The captcha is missing or was not accepted."},
    {"email_address_invalid", "This e-mail address is not accepted."},
};

static const char *public_code(const struct outcome_row *row,
                               const us_call *call)
{
    return (row->flags & SUPABASE_CODE) != 0 && call->code != NULL ? call->code
                                                                   : row->code;
}

/* --- notes and log --- */

static void set_ms_note(request_rec *r, const char *name,
                        apr_interval_time_t elapsed)
{
    if (elapsed >= 0) {
        apr_table_setn(r->notes, name,
                       apr_psprintf(r->pool, "%" APR_TIME_T_FMT,
                                    apr_time_as_msec(elapsed)));
    }
}

int us_reply_status(us_outcome outcome)
{
    return outcomes[outcome].status;
}

int us_reply_level(us_outcome outcome)
{
    return outcomes[outcome].level;
}

/* A hook's request that proved nothing may claim to be any hook. */
static us_topic topic_of(const us_call *call)
{
    if (call->topic != US_TOPIC_NONE) {
        return call->topic;
    }
    return call->door == US_DOOR_HOOK    ? US_TOPIC_UNKNOWN_HOOK
           : call->door == US_DOOR_EVENT ? US_TOPIC_UNKNOWN_EVENT
                                         : US_TOPIC_NONE;
}

static void count_topic(const us_call *call, us_outcome outcome)
{
    us_topic topic = topic_of(call);

    if (topic != US_TOPIC_NONE) {
        int is_idle = outcome == US_APPLIED && !call->created && !call->updated
                      && !call->deleted;

        us_stats_topic(topic, is_idle ? US_OK : outcome);
    }
}

/* Every request comes by here once. */
static void count(const us_call *call, us_outcome outcome)
{
    us_stats_outcome(call->door, outcome);
    count_topic(call, outcome);
    us_stats_time(US_TIMING_STORE, call->store_time);
    if (call->door <= US_DOOR_LOGOUT) {
        us_stats_time((int)call->door, call->upstream_time);
    }
    if (call->created) {
        us_stats_tally(US_TALLY_ROW_CREATED);
    }
    if (call->updated) {
        us_stats_tally(US_TALLY_ROW_UPDATED);
    }
    if (call->deleted) {
        us_stats_tally(US_TALLY_ROW_DELETED);
    }
    if (call->email_stale) {
        us_stats_tally(US_TALLY_EMAIL_STALE);
    }
}

/* %{usersync-outcome}n and the other notes. */
void us_reply_note(request_rec *r, const us_call *call, us_outcome outcome,
                   const us_identity *identity)
{
    const char *code = public_code(&outcomes[outcome], call);

    count(call, outcome);
    apr_table_setn(r->notes, "usersync-outcome",
                   call->email_stale ? "email-stale" : code);
    if (identity != NULL && identity->proven) {
        apr_table_setn(r->notes, "usersync-user", identity->id);
    }
    set_ms_note(r, "usersync-upstream-ms", call->upstream_time);
    set_ms_note(r, "usersync-store-ms", call->store_time);
}

void us_reply_log(const request_rec *r, const us_call *call,
                  us_outcome outcome, const us_identity *identity)
{
    const struct outcome_row *row = &outcomes[outcome];
    int warns = call->email_stale || call->has_warning
                || (call->is_hook && row->level == APLOG_INFO);
    int level = warns ? APLOG_WARNING : row->level;
    const char *more = "";
    unsigned suppressed = 0;

    if (!APLOG_R_IS_LEVEL(r, level)
        || (((row->flags & QUIET) != 0 || warns)
            && !us_log_permit(r->server, row->outcome, call->cause,
                              &suppressed))) {
        return;
    }
    if (level <= APLOG_WARNING) {
        us_stats_trouble_add(call->door, outcome, call->cause);
    }
    if (suppressed > 0) {
        more = apr_psprintf(r->pool, " (%u more like it since the last line)",
                            suppressed);
    }
    if (call->about != NULL) {
        more = apr_pstrcat(r->pool, " (", call->about, ")", more, NULL);
    }
    ap_log_rerror(APLOG_MARK, level, 0, r, "[%s] %s: %s%s%s%s%s%s",
                  call->log.request_id, us_reply_door(call->door),
                  public_code(row, call),
                  identity != NULL && identity->proven ? ", user " : "",
                  identity != NULL && identity->proven ? identity->id : "",
                  call->cause != NULL ? ": " : "",
                  call->cause != NULL ? call->cause : "", more);
}

/* --- headers and bodies --- */

/* Our own Retry-After varies by a fifth, so that clients that failed together
 * do not come back together. */
static int retry_after(const struct outcome_row *row, const us_call *call)
{
    int spread = row->retry_after / 5;

    if (row->retry_after == 0 || call->retry_after > 0) {
        return row->retry_after == 0 ? 0 : call->retry_after;
    }
    return (int)ap_random_pick((apr_uint32_t)(row->retry_after - spread),
                               (apr_uint32_t)(row->retry_after + spread));
}

void us_reply_retry_after(request_rec *r, const us_call *call,
                          us_outcome outcome)
{
    int seconds = retry_after(&outcomes[outcome], call);

    if (seconds > 0) {
        apr_table_setn(r->err_headers_out, "Retry-After",
                       apr_itoa(r->pool, seconds));
    }
}

void us_reply_set_headers(request_rec *r, const us_call *call,
                          us_outcome outcome)
{
    const struct outcome_row *row = &outcomes[outcome];
    int seconds = retry_after(row, call);

    /* httpd cuts any 200 to the requested range: a session must be whole */
    apr_table_unset(r->headers_in, "Range");
    apr_table_unset(r->headers_in, "Request-Range");
    apr_table_setn(r->headers_out, "Cache-Control", "no-store");
    apr_table_setn(r->headers_out, "X-Content-Type-Options", "nosniff");
    apr_table_setn(r->headers_out, "X-Request-Id", call->log.request_id);
    if (seconds > 0) {
        apr_table_setn(r->headers_out, "Retry-After",
                       apr_itoa(r->pool, seconds));
    }
    if ((row->flags & WITH_ALLOW) != 0) {
        apr_table_setn(r->headers_out, "Allow", ALLOWED);
    }
    if ((row->flags & WITH_SIGNATURE) != 0) {
        /* RFC 9110, section 15.5.2: a 401 names a scheme */
        apr_table_setn(r->headers_out, "WWW-Authenticate",
                       "Standard-Webhooks");
    }
    if ((row->flags & WITH_AUTHENTICATE) != 0) {
        const char *realm = ap_auth_name(r);

        /* never Basic: a browser would open its own password dialog */
        apr_table_setn(r->headers_out, "WWW-Authenticate",
                       apr_pstrcat(r->pool, "Bearer realm=\"",
                                   realm != NULL
                                       ? ap_escape_quotes(r->pool, realm)
                                       : "usersync",
                                   (row->flags & WITH_INVALID_TOKEN) != 0
                                       ? "\", error=\"invalid_token\""
                                       : "\"",
                                   NULL));
    }
}

/* The text for the user: Supabase's if it may be shown, else ours. */
static const char *public_detail(const struct outcome_row *row,
                                 const us_call *call, const char *code)
{
    apr_size_t i;

    if (call->message != NULL) {
        return call->message;
    }
    for (i = 0; i < sizeof(code_details) / sizeof(code_details[0]); i++) {
        if (strcmp(code, code_details[i].code) == 0) {
            return code_details[i].detail;
        }
    }
    return row->detail;
}

/* RFC 9457 problem details. */
static const char *problem_body(const request_rec *r, const us_call *call,
                                const struct outcome_row *row,
                                const char *code, apr_size_t *len)
{
    us_json_out *out = us_json_out_create(r->pool);
    int i;

    us_json_out_string(out, "type", "about:blank");
    us_json_out_string(out, "title", ap_get_status_line(row->status) + 4);
    us_json_out_int(out, "status", row->status);
    us_json_out_string(out, "detail", public_detail(row, call, code));
    us_json_out_string(out, "code", code);
    us_json_out_string(out, "request_id", call->log.request_id);
    if (row->outcome == US_INVALID_REQUEST && call->fields != NULL) {
        for (i = 0; i < call->fields->nelts; i++) {
            const us_field_error *error
                = &APR_ARRAY_IDX(call->fields, i, us_field_error);

            us_json_out_complaint(out, "errors", error->field, error->message);
        }
    }
    if (row->outcome == US_WEAK_PASSWORD) {
        us_json_out_raw(out, "reasons",
                        call->reasons != NULL ? call->reasons : "[]");
    }
    return us_json_out_text(out, len);
}

void us_reply_append(apr_bucket_brigade *brigade, const char *text,
                     apr_size_t len)
{
    apr_bucket *bucket
        = apr_bucket_pool_create(text, len, brigade->p, brigade->bucket_alloc);

    APR_BRIGADE_INSERT_TAIL(brigade, bucket);
}

/* {"user_id": ..., "session": ...}, with the session as Supabase sent it. */
static void append_success(apr_bucket_brigade *brigade,
                           const us_identity *identity)
{
    const char *head = apr_pstrcat(brigade->p, "{\"user_id\":\"", identity->id,
                                   "\",\"session\":", NULL);

    us_reply_append(brigade, head, strlen(head));
    if (identity->session.text != NULL) {
        us_reply_append(brigade, identity->session.text,
                        identity->session.len);
    }
    else {
        us_reply_append(brigade, "null", 4);
    }
    us_reply_append(brigade, "}", 1);
}

apr_status_t us_reply_pass(request_rec *r, ap_filter_t *next, int status,
                           const char *type, apr_bucket_brigade *brigade)
{
    apr_off_t length = 0;

    r->status = status;
    r->no_local_copy = 1;
    if (type != NULL) {
        ap_set_content_type(r, type);
        apr_brigade_length(brigade, 1, &length);
        ap_set_content_length(r, length);
    }
    APR_BRIGADE_INSERT_TAIL(
        brigade, apr_bucket_eos_create(r->connection->bucket_alloc));
    return ap_pass_brigade(next, brigade);
}

int us_reply_deliver(request_rec *r, int status, const char *type,
                     apr_bucket_brigade *brigade)
{
    return us_reply_pass(r, r->output_filters, status, type, brigade)
                   == APR_SUCCESS
               ? OK
               : AP_FILTER_ERROR;
}

int us_reply_send(request_rec *r, us_call *call, us_outcome outcome,
                  const us_identity *identity)
{
    const struct outcome_row *row = &outcomes[outcome];
    apr_bucket_brigade *brigade;
    const char *type = NULL;

    us_reply_note(r, call, outcome, identity);
    us_reply_log(r, call, outcome, identity);
    if (outcome == US_ANSWERED_ALREADY) {
        return AP_FILTER_ERROR;
    }
    us_reply_set_headers(r, call, outcome);
    brigade = apr_brigade_create(r->pool, r->connection->bucket_alloc);
    if (outcome == US_OK || outcome == US_PENDING) {
        type = US_JSON_TYPE;
        append_success(brigade, identity);
    }
    else if (row->status != HTTP_NO_CONTENT) {
        apr_size_t len;
        const char *body
            = problem_body(r, call, row, public_code(row, call), &len);

        type = "application/problem+json";
        us_reply_append(brigade, body, len);
    }
    return us_reply_deliver(r, row->status, type, brigade);
}

const char *us_reply_words(const us_call *call, us_outcome outcome,
                           const char **text)
{
    const struct outcome_row *row = &outcomes[outcome];
    const char *code = public_code(row, call);

    *text = public_detail(row, call, code);
    return code;
}
