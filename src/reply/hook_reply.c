/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "us_json.h"
#include "us_reply.h"
#include "parts.h"

#include <apr_strings.h>

#include <string.h>

/* What Supabase passes on to the client of its own. */
static void append_refusal(apr_bucket_brigade *brigade, const us_call *call,
                           us_outcome outcome)
{
    const char *message;
    const char *body;

    us_reply_words(call, outcome, &message);
    body = apr_psprintf(
        brigade->p, "{\"error\":{\"http_code\":%d,\"message\":%s}}",
        us_reply_status(outcome), us_json_quote(brigade->p, message));
    us_reply_append(brigade, body, strlen(body));
}

int us_reply_hook(request_rec *r, us_call *call, us_outcome outcome,
                  const us_identity *identity, us_slice claims)
{
    apr_bucket_brigade *brigade
        = apr_brigade_create(r->pool, r->connection->bucket_alloc);

    us_reply_note(r, call, outcome, identity);
    us_reply_log(r, call, outcome, identity);
    us_reply_set_headers(r, call, outcome);
    /* the status is 200 */
    apr_table_unset(r->headers_out, "Retry-After");
    apr_table_unset(r->headers_out, "WWW-Authenticate");
    if (outcome != US_OK && outcome != US_UNSYNCED) {
        append_refusal(brigade, call, outcome);
    }
    else if (claims.text != NULL) {
        us_reply_append(brigade, "{\"claims\":", 10);
        us_reply_append(brigade, claims.text, claims.len);
        us_reply_append(brigade, "}", 1);
    }
    else {
        us_reply_append(brigade, "{}", 2);
    }
    return us_reply_deliver(r, HTTP_OK, US_JSON_TYPE, brigade);
}

int us_reply_forward(request_rec *r, us_call *call, us_outcome outcome,
                     const us_identity *identity, const us_hook_reply *hook)
{
    apr_bucket_brigade *brigade
        = apr_brigade_create(r->pool, r->connection->bucket_alloc);

    us_reply_note(r, call, outcome, identity);
    us_reply_log(r, call, outcome, identity);
    us_reply_set_headers(r, call, US_OK);
    if (hook->retry_after != NULL) {
        apr_table_setn(r->headers_out, "Retry-After", hook->retry_after);
    }
    us_reply_append(brigade, hook->body.text, hook->body.len);
    return us_reply_deliver(r, hook->status, hook->type, brigade);
}
