/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "us_config.h"
#include "us_json.h"
#include "us_log.h"
#include "us_request.h"

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
 * Trim and lower-case as GoTrue compares addresses (it lower-cases, but does
 * not trim).  Only the form that keeps them apart from something else is
 * checked here; what an address may be is GoTrue's to say.
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

static void take_password(us_call *call, us_request_kind kind,
                          const us_json *doc, us_credentials *credentials)
{
    apr_size_t len = 0;
    us_json_slice raw;

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
    if (kind == US_REQUEST_REGISTER && len > US_PASSWORD_MAX) {
        complain(call, "password", "must not be longer than 72 bytes");
        return;
    }
    raw = us_json_raw(doc, US_JSON_PATH("password"));
    credentials->password = raw.text;
    credentials->password_len = raw.len;
}

static void take_options(us_call *call, us_request_kind kind,
                         const us_json *doc, us_credentials *credentials)
{
    us_json_type data = us_json_type_of(doc, US_JSON_PATH("data"));
    us_json_type captcha = us_json_type_of(doc, US_JSON_PATH("captcha_token"));
    us_json_slice raw;

    if (kind == US_REQUEST_REGISTER && data == US_JSON_OBJECT) {
        raw = us_json_raw(doc, US_JSON_PATH("data"));
        credentials->data = raw.text;
        credentials->data_len = raw.len;
    }
    else if (kind == US_REQUEST_REGISTER && data != US_JSON_NONE) {
        complain(call, "data", "must be an object");
    }
    if (captcha == US_JSON_STRING) {
        raw = us_json_raw(doc, US_JSON_PATH("captcha_token"));
        credentials->captcha_token = raw.text;
        credentials->captcha_token_len = raw.len;
    }
    else if (captcha != US_JSON_NONE) {
        complain(call, "captcha_token", "must be a string");
    }
}

us_outcome us_request_parse(us_call *call, us_request_kind kind,
                            const char *body, apr_size_t len,
                            us_credentials *credentials)
{
    us_json *doc = NULL;
    const char *wrong
        = us_json_parse(call->pool, body, len, US_JSON_REQUEST_DEPTH, &doc);

    memset(credentials, 0, sizeof(*credentials));
    if (wrong != NULL) {
        call->cause = apr_psprintf(call->pool,
                                   "the body is no JSON object: "
                                   "%s",
                                   wrong);
        complain(call, "",
                 apr_pstrcat(call->pool, "is no JSON object: ", wrong, NULL));
        return US_INVALID_REQUEST;
    }
    take_email(call, doc, credentials);
    take_password(call, kind, doc, credentials);
    take_options(call, kind, doc, credentials);
    us_json_free(doc); /* with it goes the decoded password */
    if (call->fields != NULL) {
        const us_field_error *first
            = &APR_ARRAY_IDX(call->fields, 0, us_field_error);

        call->cause
            = apr_psprintf(call->pool, "%s %s", first->field, first->message);
        return US_INVALID_REQUEST;
    }
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

/* httpd's reason for a body that cannot be read, as one of ours. */
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

/* Append one brigade to the buffer; *done is set at the end of the body. */
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

/* The whole body into buffer, which holds max bytes. */
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

us_outcome us_request_read(request_rec *r, us_call *call, us_request_kind kind,
                           us_credentials *credentials)
{
    apr_size_t max = us_config_max_body_size(us_config_dir(r));
    const char *encoding = apr_table_get(r->headers_in, "Content-Encoding");
    const char *length = apr_table_get(r->headers_in, "Content-Length");
    us_outcome outcome;
    apr_size_t len = 0;
    char *buffer;

    if (!is_json_type(apr_table_get(r->headers_in, "Content-Type"))
        || (encoding != NULL && strcasecmp(encoding, "identity") != 0)) {
        return US_UNSUPPORTED_MEDIA;
    }
    /* httpd has checked its form; a chunked body is counted as it comes */
    if (length != NULL) {
        apr_int64_t announced = apr_strtoi64(length, NULL, 10);

        if (announced > (apr_int64_t)max) {
            return US_BODY_TOO_LARGE;
        }
        max = announced > 0 ? (apr_size_t)announced : 1;
    }
    buffer = apr_palloc(r->pool, max);
    us_secret_wipe_with(r->pool, buffer, max);
    outcome = read_body(r, call, buffer, max, &len);
    if (outcome != US_OK) {
        return outcome;
    }
    return us_request_parse(call, kind, buffer, len, credentials);
}
