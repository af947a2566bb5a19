/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "us_json.h"
#include "us_reply.h"
#include "parts.h"

#include <http_protocol.h>

#include <string.h>

/* Keeps what browsers need to show an answer to a page, and drops all else. */
static int keep_header(void *headers, const char *name, const char *value)
{
    static const char cors[] = "Access-Control-";

    if (strncasecmp(name, cors, sizeof(cors) - 1) == 0
        || strcasecmp(name, "Vary") == 0) {
        apr_table_addn(headers, name, value);
    }
    return 1;
}

/* Of a failure on this side 503: at a 500, supabase-py and older versions of
 * supabase-js end the session of whose access token has expired. */
int us_reply_proxied_status(us_outcome outcome)
{
    switch (outcome) {
    case US_ROW_REFUSED:
    case US_ROW_CONFLICT:
    case US_NOT_CONFIGURED:
        return HTTP_SERVICE_UNAVAILABLE;
    default:
        return us_reply_status(outcome);
    }
}

/* The members of each version of the API: code and message, or error_code and
 * msg. */
static const char *proxied_body(apr_pool_t *pool, const us_call *call,
                                us_outcome outcome, apr_size_t *len)
{
    us_json_out *out = us_json_out_create(pool);
    const char *text;
    const char *code = us_reply_words(call, outcome, &text);

    us_json_out_string(out, "code", code);
    us_json_out_string(out, "message", text);
    us_json_out_string(out, "error_code", code);
    us_json_out_string(out, "msg", text);
    return us_json_out_text(out, len);
}

apr_status_t us_reply_proxied(request_rec *r, ap_filter_t *next, us_call *call,
                              us_outcome outcome, const us_identity *identity,
                              const char *location)
{
    apr_bucket_brigade *brigade
        = apr_brigade_create(r->pool, r->connection->bucket_alloc);
    apr_table_t *headers = apr_table_make(r->pool, 12);
    const char *type = NULL;

    us_reply_note(r, call, outcome, identity);
    us_reply_log(r, call, outcome, identity);
    apr_table_do(keep_header, headers, r->headers_out, NULL);
    r->headers_out = headers;
    r->content_encoding = NULL;
    r->status_line = NULL;
    us_reply_set_headers(r, call, outcome);
    if (location != NULL) {
        apr_table_setn(headers, "Location", location);
        apr_table_unset(headers, "Retry-After");
        apr_table_unset(headers, "WWW-Authenticate");
        ap_set_content_type(r, NULL);
        ap_set_content_length(r, 0);
    }
    else {
        apr_size_t len;
        const char *body = proxied_body(r->pool, call, outcome, &len);

        apr_table_setn(headers, "X-Supabase-Api-Version", "2024-01-01");
        type = US_JSON_TYPE;
        us_reply_append(brigade, body, len);
    }
    return us_reply_pass(r, next,
                         location != NULL ? r->status
                                          : us_reply_proxied_status(outcome),
                         type, brigade);
}
