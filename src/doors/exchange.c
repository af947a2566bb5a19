/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "exchange.h"
#include "us_config.h"
#include "us_reply.h"
#include "us_wipe.h"

#include <http_connection.h>
#include <http_protocol.h>

#include <apr_lib.h>
#include <apr_strings.h>

#include <string.h>

/* What Supabase tells about a session to whoever stands in front of it. */
#define SESSION_HEADERS "sb-auth-"

/* --- the answer's head --- */

static int is_about_session(const char *name)
{
    /* few names begin with this letter */
    return (*name == 's' || *name == 'S')
           && strncasecmp(name, SESSION_HEADERS, sizeof(SESSION_HEADERS) - 1)
                  == 0;
}

static int keep_others(void *headers, const char *name, const char *value)
{
    if (!is_about_session(name)) {
        apr_table_addn(headers, name, value);
    }
    return 1;
}

static int is_session_header(void *found, const char *name, const char *value)
{
    int *is = found;

    (void)value;
    *is = is_about_session(name);
    return !*is;
}

/* Takes the headers about the session from what goes to browsers. */
static void remove_headers(request_rec *r)
{
    apr_table_t *others;
    int found = 0;

    apr_table_do(is_session_header, &found, r->headers_out, NULL);
    if (found) {
        others
            = apr_table_make(r->pool, apr_table_elts(r->headers_out)->nelts);
        apr_table_do(keep_others, others, r->headers_out, NULL);
        r->headers_out = others;
    }
}

/* What an answer says about Supabase.  It marks its own errors with a code;
 * others are of a gateway that has got no answer. */
static us_health health_of(const request_rec *r)
{
    int status = r->status;

    if (status < HTTP_INTERNAL_SERVER_ERROR) {
        return status == HTTP_FORBIDDEN ? US_HEALTH_UNKNOWN : US_HEALTH_GOOD;
    }
    if (status == HTTP_INTERNAL_SERVER_ERROR
        || apr_table_get(r->headers_out, "x-sb-error-code") != NULL) {
        return US_HEALTH_UNKNOWN;
    }
    return US_HEALTH_BAD;
}

static int is_json_type(const char *type)
{
    return type == NULL || ap_strcasestr(type, "json") != NULL;
}

/* May there be somebody in the body?  The clients' libraries read an answer
 * with a session whatever its type. */
static int may_hold_user(const us_exchange *exchange)
{
    const request_rec *r = exchange->r;

    if (exchange->is.body == US_PROXIED_NOBODY || r->header_only) {
        return 0;
    }
    if (exchange->is.body == US_PROXIED_USER) {
        return r->status == HTTP_OK && is_json_type(r->content_type);
    }
    return r->status / 100 == 2 && r->status != HTTP_NO_CONTENT
           && (exchange->is.guarded || is_json_type(r->content_type));
}

/* One of the answer's Location headers. */
static int take_location(void *data, const char *name, const char *value)
{
    us_exchange *exchange = data;

    (void)name;
    exchange->locations++;
    if (us_proxied_has_token(value)) {
        exchange->location = value;
    }
    return 1;
}

/* Looks at the head of the answer: what is to become of its body? */
static us_exchange_state begin(us_exchange *exchange)
{
    request_rec *r = exchange->r;

    exchange->user_id = apr_table_get(r->headers_out, "Sb-Auth-User-Id");
    if (!exchange->reports && !us_config_proxy_headers(us_config_dir(r))) {
        remove_headers(r);
    }
    apr_table_do(take_location, exchange, r->headers_out, "Location", NULL);
    if (exchange->location == NULL && !may_hold_user(exchange)) {
        us_exchange_leave(exchange, health_of(r));
        if (!exchange->reports || !exchange->is.guarded
            || exchange->is_reported) {
            return US_EXCHANGE_PASSED;
        }
        exchange->verdict = US_OPTIONS;
        exchange->is_decided = 1;
    }
    if (exchange->reports) {
        return US_EXCHANGE_COPIED;
    }
    /* mod_cache would hand a session in a link out again, not looked at */
    r->no_cache |= exchange->location != NULL;
    exchange->kept = apr_brigade_create(r->pool, r->connection->bucket_alloc);
    return US_EXCHANGE_HELD;
}

/* --- the answer's end --- */

/* Cannot be read: it is compressed in a way that nobody asked for. */
static us_found find_encoded(us_exchange *exchange, const char *encoding)
{
    us_fail(&exchange->call, US_UPSTREAM_BAD_ANSWER,
            "Supabase's answer is compressed (%s) although nobody asked for "
            "that: mod_deflate would inflate gzip",
            encoding);
    return US_FOUND_UNREAD;
}

static us_found find_user(us_exchange *exchange, us_slice body)
{
    const apr_array_header_t *columns = exchange->response->columns;
    /* of all headers: one after the other */
    const char *encoding = apr_table_getm(
        exchange->r->pool, exchange->r->headers_out, "Content-Encoding");

    if (exchange->location != NULL && exchange->locations > 1) {
        us_fail(&exchange->call, US_UPSTREAM_BAD_ANSWER,
                "Supabase's answer leads to two places at once, and to one of "
                "them with a session");
        return US_FOUND_UNREAD;
    }
    if (exchange->location != NULL) {
        return us_proxied_take_location(&exchange->call, exchange->location,
                                        exchange->user_id, columns,
                                        &exchange->identity);
    }
    if (encoding != NULL && strcasecmp(encoding, "identity") != 0) {
        return find_encoded(exchange, encoding);
    }
    return us_proxied_take_body(&exchange->call, exchange->is.body, body,
                                columns, &exchange->identity);
}

us_outcome us_exchange_settle(us_exchange *exchange, us_slice body,
                              int *withheld)
{
    us_found found = find_user(exchange, body);
    us_outcome outcome = US_UPSTREAM_BAD_ANSWER;

    if (found == US_FOUND_SESSION || found == US_FOUND_USER) {
        outcome = us_users_ensure(exchange->response->users, &exchange->call,
                                  &exchange->identity);
    }
    else if (found == US_FOUND_NOBODY) {
        outcome = US_OPTIONS;
    }
    us_exchange_leave(exchange, found == US_FOUND_UNREAD ? US_HEALTH_UNKNOWN
                                                         : US_HEALTH_GOOD);
    *withheld = outcome != US_OK && outcome != US_OPTIONS
                && exchange->is.body != US_PROXIED_USER;
    return outcome == US_OK && exchange->identity.pending ? US_PENDING
                                                          : outcome;
}

/* Puts an error in place of the answer. */
static apr_status_t withhold(us_exchange *exchange, ap_filter_t *f,
                             us_outcome outcome)
{
    request_rec *r = exchange->r;
    const char *location = NULL;

    us_reply_name(r, &exchange->call);
    apr_brigade_cleanup(exchange->kept);
    if (exchange->location != NULL) {
        const char *text;
        const char *code = us_reply_words(&exchange->call, outcome, &text);

        location = us_proxied_error_location(
            r->pool, exchange->location,
            us_reply_proxied_status(outcome) < HTTP_INTERNAL_SERVER_ERROR
                ? "access_denied"
                : "server_error",
            code, text);
    }
    exchange->state = US_EXCHANGE_REPLACED;
    return us_reply_proxied(r, f->next, &exchange->call, outcome,
                            &exchange->identity, location);
}

static apr_status_t let_pass(us_exchange *exchange, ap_filter_t *f)
{
    ap_remove_output_filter(f);
    return ap_pass_brigade(f->next, exchange->kept);
}

/* The body in one piece: mostly it came in one. */
static apr_status_t body_of(us_exchange *exchange, us_slice *body)
{
    apr_bucket *first = APR_BRIGADE_FIRST(exchange->kept);
    apr_status_t rv;
    char *text;

    if (!APR_BUCKET_IS_METADATA(first) && first->length == exchange->len) {
        return apr_bucket_read(first, &body->text, &body->len, APR_BLOCK_READ);
    }
    rv = apr_brigade_pflatten(exchange->kept, &text, &body->len,
                              exchange->r->pool);
    if (rv == APR_SUCCESS) {
        us_wipe_with(exchange->r->pool, text, body->len);
        body->text = text;
    }
    return rv;
}

/* The whole answer is there: it goes out, or an error in its place. */
static apr_status_t conclude(us_exchange *exchange, ap_filter_t *f)
{
    us_slice body = {"", 0};
    us_outcome outcome;
    int withheld;

    if (exchange->location == NULL) {
        apr_status_t rv = body_of(exchange, &body);

        if (rv != APR_SUCCESS) {
            return rv;
        }
    }
    outcome = us_exchange_settle(exchange, body, &withheld);
    if (withheld) {
        return withhold(exchange, f, outcome);
    }
    if (outcome != US_OPTIONS) {
        us_reply_note(exchange->r, &exchange->call, outcome,
                      &exchange->identity);
        us_reply_log(exchange->r, &exchange->call, outcome,
                     &exchange->identity);
    }
    return let_pass(exchange, f);
}

/* --- holding it back --- */

us_outcome us_exchange_too_large(us_exchange *exchange)
{
    us_exchange_leave(exchange, US_HEALTH_UNKNOWN);
    return us_fail(&exchange->call, US_UPSTREAM_BAD_ANSWER,
                   "Supabase's answer is larger than 1 MiB, the most that is "
                   "looked at: the user's metadata is too large");
}

us_outcome us_exchange_cut_off(us_exchange *exchange)
{
    us_exchange_leave(exchange, US_HEALTH_BAD);
    return us_fail(&exchange->call, US_UPSTREAM_BAD_ANSWER,
                   "Supabase's answer was cut off: see mod_proxy's line");
}

/* Before the beginning: white space, and a byte order mark, which clients'
 * libraries skip. */
static int is_blank(char c)
{
    return apr_isspace(c) || (c != '\0' && strchr("\xEF\xBB\xBF", c) != NULL);
}

int us_exchange_is_no_object(us_exchange *exchange, const char *data,
                             apr_size_t len)
{
    apr_size_t i;

    for (i = 0; i < len && !exchange->began; i++) {
        if (!is_blank(data[i])) {
            exchange->began = 1;
            return data[i] != '{'
                   && apr_table_get(exchange->r->headers_out,
                                    "Content-Encoding")
                          == NULL;
        }
    }
    return 0;
}

/*
 * Copies data to the end of what is kept, into as few buckets as hold it:
 * Supabase may send it byte by byte, and a bucket for each would take two
 * hundred times its memory.
 */
static void append(us_exchange *exchange, const char *data, apr_size_t len)
{
    apr_bucket_alloc_t *alloc = exchange->kept->bucket_alloc;

    while (len > 0) {
        apr_bucket *last = APR_BRIGADE_LAST(exchange->kept);
        apr_bucket_heap *heap;
        apr_size_t n;

        if (exchange->left == 0) {
            exchange->left = APR_BUCKET_BUFF_SIZE;
            last = apr_bucket_heap_create(
                apr_bucket_alloc(exchange->left, alloc), exchange->left,
                apr_bucket_free, alloc);
            last->length = 0;
            APR_BRIGADE_INSERT_TAIL(exchange->kept, last);
        }
        heap = last->data;
        n = len < exchange->left ? len : exchange->left;
        memcpy(heap->base + last->length, data, n);
        last->length += n;
        exchange->left -= n;
        data += n;
        len -= n;
    }
}

/* Keeps the data of a bucket.  *outcome says if it is too much, *nobody if the
 * body cannot hold a user. */
static apr_status_t keep(us_exchange *exchange, apr_bucket *bucket,
                         us_outcome *outcome, int *nobody)
{
    const char *data;
    apr_size_t len;
    apr_status_t rv = apr_bucket_read(bucket, &data, &len, APR_BLOCK_READ);

    if (rv != APR_SUCCESS) {
        return rv;
    }
    if (exchange->location == NULL) {
        *nobody = us_exchange_is_no_object(exchange, data, len);
    }
    exchange->len += len;
    if (exchange->len > US_EXCHANGE_MAX) {
        if (exchange->is.body != US_PROXIED_USER) {
            *outcome = us_exchange_too_large(exchange);
            apr_bucket_delete(bucket);
            return APR_SUCCESS;
        }
        *nobody = 1; /* it is theirs, and no session */
    }
    append(exchange, data, len);
    apr_bucket_delete(bucket);
    return APR_SUCCESS;
}

/* An error in place of an answer that goes on: mod_proxy stops reading, as
 * there may be no end. */
static apr_status_t cut_short(us_exchange *exchange, ap_filter_t *f,
                              us_outcome outcome)
{
    apr_status_t rv = withhold(exchange, f, outcome);

    return rv == APR_SUCCESS ? APR_ECONNABORTED : rv;
}

/* What is there already goes out with all that follows. */
static apr_status_t give_up(us_exchange *exchange, ap_filter_t *f,
                            apr_bucket_brigade *bb)
{
    us_exchange_leave(exchange, US_HEALTH_GOOD);
    APR_BRIGADE_CONCAT(exchange->kept, bb);
    return let_pass(exchange, f);
}

/*
 * Keeps what has come, without the buckets that would send it on its way
 * (FLUSH: mod_proxy waits for more).  At the end of a whole answer the
 * connection to Supabase is free already: looking the user up holds nobody
 * else.
 */
static apr_status_t hold(us_exchange *exchange, ap_filter_t *f,
                         apr_bucket_brigade *bb)
{
    us_outcome outcome = US_OK;
    apr_status_t rv = APR_SUCCESS;
    int nobody = 0;

    while (rv == APR_SUCCESS && !APR_BRIGADE_EMPTY(bb)) {
        apr_bucket *bucket = APR_BRIGADE_FIRST(bb);

        if (!APR_BUCKET_IS_METADATA(bucket)) {
            rv = keep(exchange, bucket, &outcome, &nobody);
            if (outcome != US_OK) {
                apr_brigade_cleanup(bb);
                return cut_short(exchange, f, outcome);
            }
            if (nobody) {
                return give_up(exchange, f, bb);
            }
        }
        else if (AP_BUCKET_IS_ERROR(bucket)) {
            apr_brigade_cleanup(bb);
            return withhold(exchange, f, us_exchange_cut_off(exchange));
        }
        else if (APR_BUCKET_IS_FLUSH(bucket)) {
            apr_bucket_delete(bucket);
        }
        else {
            APR_BUCKET_REMOVE(bucket);
            APR_BRIGADE_INSERT_TAIL(exchange->kept, bucket);
            exchange->left = 0;
            if (APR_BUCKET_IS_EOS(bucket)) {
                return conclude(exchange, f);
            }
        }
    }
    return rv;
}

/* --- the filter --- */

/* Has Supabase closed the connection without an answer?  mod_proxy then closes
 * the client's, too, where it was used before, and marks that: whatever went
 * out would be taken for the answer to another request. */
static int is_unanswered(apr_bucket_brigade *bb)
{
    apr_bucket *bucket;

    for (bucket = APR_BRIGADE_FIRST(bb); bucket != APR_BRIGADE_SENTINEL(bb);
         bucket = APR_BUCKET_NEXT(bucket)) {
        if (AP_BUCKET_IS_EOC(bucket)) {
            return 1;
        }
    }
    return 0;
}

apr_status_t us_exchange_filter(ap_filter_t *f, apr_bucket_brigade *bb)
{
    us_exchange *exchange = f->ctx;

    if (exchange->state == US_EXCHANGE_NEW && is_unanswered(bb)) {
        us_exchange_leave(exchange, US_HEALTH_BAD);
        exchange->state = US_EXCHANGE_PASSED;
    }
    if (exchange->state == US_EXCHANGE_NEW && !APR_BRIGADE_EMPTY(bb)) {
        exchange->state = begin(exchange);
    }
    switch (exchange->state) {
    case US_EXCHANGE_HELD:
        return hold(exchange, f, bb);
    case US_EXCHANGE_COPIED:
        return us_exchange_copy(exchange, f, bb);
    case US_EXCHANGE_REPLACED:
        /* mod_proxy need not read the rest, which may have no end */
        apr_brigade_cleanup(bb);
        return APR_ECONNABORTED;
    case US_EXCHANGE_PASSED:
        ap_remove_output_filter(f);
        break;
    case US_EXCHANGE_NEW:
        break;
    }
    return ap_pass_brigade(f->next, bb);
}
