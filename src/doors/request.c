/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "us_config.h"
#include "us_json.h"
#include "us_log.h"
#include "us_wipe.h"
#include "request.h"

#include <http_protocol.h>
#include <util_filter.h>

#include <apr_lib.h>
#include <apr_strings.h>

#include <string.h>

/* --- the checks --- */

static void complain(us_call *call, const char *field, const char *message)
{
    us_field_error *error;

    if (call->fields == NULL) {
        call->fields = apr_array_make(call->pool, 2, sizeof(*error));
    }
    error = apr_array_push(call->fields);
    error->field = field;
    error->message = message;
}

static int is_blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/*
 * Trims and lower-cases the address, because GoTrue compares addresses in
 * lower case (but does not trim).  Checks only what tells an address from
 * other text; GoTrue decides what a valid address is.
 */
static const char *normal_email(apr_pool_t *pool, const char *text,
                                apr_size_t len)
{
    char *email;
    char *p;
    const char *at;

    while (len > 0 && is_blank(*text)) {
        text++;
        len--;
    }
    while (len > 0 && is_blank(text[len - 1])) {
        len--;
    }
    if (len > US_EMAIL_MAX) {
        return NULL;
    }
    email = apr_pstrmemdup(pool, text, len);
    for (p = email; *p != '\0'; p++) {
        if (is_blank(*p) || apr_iscntrl(*p)) {
            return NULL;
        }
        *p = (char)apr_tolower(*p);
    }
    at = strchr(email, '@');
    return at != NULL && at != email && at[1] != '\0' ? email : NULL;
}

static void take_email(us_call *call, const us_json *doc,
                       us_credentials *credentials)
{
    apr_size_t len = 0;
    const char *text = us_json_string(doc, US_JSON_PATH("email"), &len);

    if (text == NULL) {
        complain(call, "email",
                 us_json_type_of(doc, US_JSON_PATH("email")) == US_JSON_NONE
                     ? "is required"
                     : "must be a string");
        return;
    }
    credentials->email = normal_email(call->pool, text, len);
    if (credentials->email == NULL) {
        complain(call, "email", "is not an e-mail address");
    }
}

static void take_password(us_call *call, us_operation operation,
                          const us_json *doc, us_credentials *credentials)
{
    apr_size_t len = 0;

    if (us_json_string(doc, US_JSON_PATH("password"), &len) == NULL) {
        complain(call, "password",
                 us_json_type_of(doc, US_JSON_PATH("password")) == US_JSON_NONE
                     ? "is required"
                     : "must be a string");
        return;
    }
    if (len == 0) {
        complain(call, "password", "must not be empty");
        return;
    }
    if (operation == US_SIGN_UP && len > US_PASSWORD_MAX) {
        complain(call, "password", "must not be longer than 72 bytes");
        return;
    }
    credentials->password = us_json_raw(doc, US_JSON_PATH("password"));
}

static void take_options(us_call *call, us_operation operation,
                         const us_json *doc, us_credentials *credentials)
{
    us_json_type data = us_json_type_of(doc, US_JSON_PATH("data"));
    us_json_type captcha = us_json_type_of(doc, US_JSON_PATH("captcha_token"));

    if (operation == US_SIGN_UP && data == US_JSON_OBJECT) {
        credentials->data = us_json_raw(doc, US_JSON_PATH("data"));
    }
    else if (operation == US_SIGN_UP && data != US_JSON_NONE) {
        complain(call, "data", "must be an object");
    }
    if (captcha == US_JSON_STRING) {
        credentials->captcha_token
            = us_json_raw(doc, US_JSON_PATH("captcha_token"));
    }
    else if (captcha != US_JSON_NONE) {
        complain(call, "captcha_token", "must be a string");
    }
}

/* The token is Supabase's own affair: any text of a sensible length. */
static void take_refresh_token(us_call *call, const us_json *doc,
                               us_credentials *credentials)
{
    apr_size_t len = 0;

    if (us_json_string(doc, US_JSON_PATH("refresh_token"), &len) == NULL) {
        complain(call, "refresh_token",
                 us_json_type_of(doc, US_JSON_PATH("refresh_token"))
                         == US_JSON_NONE
                     ? "is required"
                     : "must be a string");
    }
    else if (len == 0) {
        complain(call, "refresh_token", "must not be empty");
    }
    else if (len > US_REFRESH_TOKEN_MAX) {
        complain(call, "refresh_token", "must not be longer than 4096 bytes");
    }
    else {
        credentials->refresh_token
            = us_json_raw(doc, US_JSON_PATH("refresh_token"));
    }
}

static void take_scope(us_call *call, const us_json *doc,
                       us_farewell *farewell)
{
    static const char *const names[US_SCOPE_COUNT]
        = {"local", "global", "others"};
    const char *text = us_json_string(doc, US_JSON_PATH("scope"), NULL);
    int i;

    if (us_json_type_of(doc, US_JSON_PATH("scope")) == US_JSON_NONE) {
        return;
    }
    for (i = 0; i < US_SCOPE_COUNT; i++) {
        if (text != NULL && strcmp(text, names[i]) == 0) {
            farewell->scope = (us_scope)i;
            return;
        }
    }
    complain(call, "scope", "must be local, global or others");
}

/* The body as a JSON object, or a complaint. */
static us_outcome parse_object(us_call *call, const char *body, apr_size_t len,
                               us_json **doc)
{
    const char *wrong
        = us_json_parse(call->pool, body, len, US_JSON_REQUEST_DEPTH, doc);

    if (wrong == NULL) {
        return US_OK;
    }
    complain(call, "",
             apr_pstrcat(call->pool, "is not a JSON object: ", wrong, NULL));
    return us_fail(call, US_INVALID_REQUEST,
                   "the body is not a JSON object: %s", wrong);
}

/* The outcome of all checks of the members. */
static us_outcome verdict(us_call *call)
{
    const us_field_error *first;

    if (call->fields == NULL) {
        return US_OK;
    }
    first = &APR_ARRAY_IDX(call->fields, 0, us_field_error);
    return us_fail(call, US_INVALID_REQUEST, "%s %s", first->field,
                   first->message);
}

us_outcome us_request_parse(us_call *call, us_operation operation,
                            const char *body, apr_size_t len,
                            us_credentials *credentials)
{
    us_json *doc = NULL;
    us_outcome outcome = parse_object(call, body, len, &doc);

    memset(credentials, 0, sizeof(*credentials));
    if (outcome != US_OK) {
        return outcome;
    }
    if (operation == US_REFRESH) {
        take_refresh_token(call, doc, credentials);
    }
    else {
        take_email(call, doc, credentials);
        take_password(call, operation, doc, credentials);
        take_options(call, operation, doc, credentials);
    }
    us_json_free(doc); /* also wipes the decoded secrets */
    return verdict(call);
}

us_outcome us_request_parse_farewell(us_call *call, const char *body,
                                     apr_size_t len, us_farewell *farewell)
{
    us_json *doc = NULL;
    us_outcome outcome;

    farewell->scope = US_SCOPE_LOCAL;
    if (len == 0) {
        return US_OK;
    }
    outcome = parse_object(call, body, len, &doc);
    if (outcome != US_OK) {
        return outcome;
    }
    take_scope(call, doc, farewell);
    us_json_free(doc);
    return verdict(call);
}

/*
 * Is it an access token?  RFC 6750 (section 2.1) says which characters it may
 * have, so nothing in it can end the header that it is sent in.  Supabase's
 * are JWTs, which have two dots; an API key has none.
 */
static int is_access_token(const char *token)
{
    static const char others[] = "-._~+/";
    const char *p;
    int dots = 0;

    for (p = token; apr_isalnum(*p) || (*p != '\0' && strchr(others, *p));
         p++) {
        dots += *p == '.';
    }
    while (p != token && *p == '=') {
        p++;
    }
    return *p == '\0' && dots == 2 && p - token <= US_ACCESS_TOKEN_MAX;
}

us_outcome us_request_parse_bearer(us_call *call, const char *header,
                                   us_slice *token)
{
    static const char scheme[] = "Bearer";
    const apr_size_t len = sizeof(scheme) - 1;

    token->text = NULL;
    token->len = 0;
    if (header == NULL || strncasecmp(header, scheme, len) != 0
        || (header[len] != ' ' && header[len] != '\0')) {
        return us_fail(call, US_NO_TOKEN,
                       "the request has no header Authorization with Bearer");
    }
    for (header += len; *header == ' '; header++) {
    }
    if (*header == '\0') {
        return us_fail(call, US_NO_TOKEN, "there is no token after Bearer");
    }
    if (!is_access_token(header)) {
        return us_fail(call, US_INVALID_TOKEN,
                       "what follows Bearer has not the form of an access "
                       "token");
    }
    token->text = header;
    token->len = strlen(header);
    return US_OK;
}

/* --- reading the body --- */

/* application/json, with or without parameters (RFC 9110, section 8.3). */
static int is_json_type(const char *type)
{
    static const char json[] = "application/json";
    const apr_size_t len = sizeof(json) - 1;

    if (type == NULL || strncasecmp(type, json, len) != 0) {
        return 0;
    }
    for (type += len; is_blank(*type); type++) {
    }
    return *type == '\0' || *type == ';';
}

/* Maps httpd's reason for an unreadable body to an outcome. */
static us_outcome read_failure(us_call *call, apr_status_t rv)
{
    char reason[120];

    call->cause = apr_psprintf(call->pool, "the body cannot be read: %s",
                               apr_strerror(rv, reason, sizeof(reason)));
    switch (ap_map_http_request_error(rv, HTTP_BAD_REQUEST)) {
    case HTTP_REQUEST_ENTITY_TOO_LARGE:
        return US_BODY_TOO_LARGE;
    case HTTP_REQUEST_TIME_OUT:
        return US_BODY_TIMEOUT;
    case AP_FILTER_ERROR:
        return US_ANSWERED_ALREADY;
    default:
        break;
    }
    if (APR_STATUS_IS_TIMEUP(rv)) {
        return US_BODY_TIMEOUT;
    }
    complain(call, "",
             "cannot be read: the body ends early or is badly "
             "framed");
    return US_INVALID_REQUEST;
}

/* Appends one brigade to the buffer; sets *done at the end of the body. */
static us_outcome take_brigade(us_call *call, apr_bucket_brigade *brigade,
                               char *buffer, apr_size_t max, apr_size_t *len,
                               int *done)
{
    apr_bucket *bucket;

    for (bucket = APR_BRIGADE_FIRST(brigade);
         bucket != APR_BRIGADE_SENTINEL(brigade);
         bucket = APR_BUCKET_NEXT(bucket)) {
        const char *data;
        apr_size_t size;
        apr_status_t rv;

        if (APR_BUCKET_IS_EOS(bucket)) {
            *done = 1;
            break;
        }
        if (APR_BUCKET_IS_METADATA(bucket)) {
            continue;
        }
        rv = apr_bucket_read(bucket, &data, &size, APR_BLOCK_READ);
        if (rv != APR_SUCCESS) {
            return read_failure(call, rv);
        }
        if (size > max - *len) {
            return US_BODY_TOO_LARGE;
        }
        memcpy(buffer + *len, data, size);
        *len += size;
    }
    return US_OK;
}

/* Reads the whole body into buffer, which has room for max bytes. */
static us_outcome read_body(request_rec *r, us_call *call, char *buffer,
                            apr_size_t max, apr_size_t *len)
{
    apr_bucket_brigade *brigade
        = apr_brigade_create(r->pool, r->connection->bucket_alloc);
    us_outcome outcome = US_OK;
    int done = 0;

    while (outcome == US_OK && !done) {
        apr_status_t rv
            = ap_get_brigade(r->input_filters, brigade, AP_MODE_READBYTES,
                             APR_BLOCK_READ, HUGE_STRING_LEN);

        outcome = rv == APR_SUCCESS
                      ? take_brigade(call, brigade, buffer, max, len, &done)
                      : read_failure(call, rv);
        apr_brigade_cleanup(brigade);
    }
    apr_brigade_destroy(brigade);
    return outcome;
}

/* Do the headers say that the body is JSON, as it is? */
static int is_json(const request_rec *r)
{
    const char *encoding = apr_table_get(r->headers_in, "Content-Encoding");

    return is_json_type(apr_table_get(r->headers_in, "Content-Type"))
           && (encoding == NULL || strcasecmp(encoding, "identity") == 0);
}

/* Reads the whole body into memory that is wiped with the request's pool. */
static us_outcome read_all(request_rec *r, us_call *call, apr_size_t max,
                           us_slice *body)
{
    us_outcome outcome;
    apr_size_t len = 0;
    char *buffer;
    const char *length = apr_table_get(r->headers_in, "Content-Length");

    /* httpd has checked the number; a chunked body is counted as it is read */
    if (length != NULL) {
        apr_int64_t announced = apr_strtoi64(length, NULL, 10);

        if (announced > (apr_int64_t)max) {
            return US_BODY_TOO_LARGE;
        }
        max = announced > 0 ? (apr_size_t)announced : 1;
    }
    buffer = apr_palloc(r->pool, max);
    us_wipe_with(r->pool, buffer, max);
    outcome = read_body(r, call, buffer, max, &len);
    body->text = buffer;
    body->len = len;
    return outcome;
}

us_outcome us_request_body(request_rec *r, us_call *call, apr_size_t max,
                           us_slice *body)
{
    return is_json(r) ? read_all(r, call, max, body) : US_UNSUPPORTED_MEDIA;
}

/* The most that a client may send to a route. */
static apr_size_t max_body(const request_rec *r)
{
    return us_config_max_body_size(us_config_dir(r));
}

us_outcome us_request_read(request_rec *r, us_call *call,
                           us_operation operation, us_credentials *credentials)
{
    us_slice body;
    us_outcome outcome = us_request_body(r, call, max_body(r), &body);

    return outcome == US_OK ? us_request_parse(call, operation, body.text,
                                               body.len, credentials)
                            : outcome;
}

us_outcome us_request_read_farewell(request_rec *r, us_call *call,
                                    us_farewell *farewell)
{
    us_slice token;
    us_outcome outcome
        = us_request_parse_bearer(call, call->authorization, &token);
    us_slice body;
    char *copy;

    if (outcome != US_OK) {
        return outcome;
    }
    copy = apr_pstrmemdup(r->pool, token.text, token.len);
    us_wipe_with(r->pool, copy, token.len);
    farewell->token.text = copy;
    farewell->token.len = token.len;
    outcome = read_all(r, call, max_body(r), &body);
    if (outcome == US_OK && body.len > 0 && !is_json(r)) {
        outcome = US_UNSUPPORTED_MEDIA;
    }
    return outcome == US_OK
               ? us_request_parse_farewell(call, body.text, body.len, farewell)
               : outcome;
}
