/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * http/handle.h: one connection to the upstream, and one transfer at a time
 * over it.  Only http/http.c uses it, which hands out the handles.  Only the
 * thread that has a handle calls functions with it.
 */
#ifndef US_HTTP_HANDLE_H
#define US_HTTP_HANDLE_H

#include "us_http.h"

#include <curl/curl.h>

/*
 * An easy handle with its kept connection.  It belongs to the client's idle
 * list or to the one request that took it.  It lives on the C heap because it
 * outlives every request.
 */
struct us_http_handle {
    CURL *curl;
    char *body; /* what has arrived; wiped after each use */
    apr_size_t body_len;
    apr_size_t body_size;
    apr_size_t max_body;    /* the largest one that is read */
    apr_size_t request_len; /* of the request's body */
    int is_get;             /* else it is a POST */
    apr_size_t head_len;    /* bytes of headers and trailers so far */
    int body_too_big;
    int head_too_big;
    curl_socket_t socket; /* of the kept connection */
    int kept;             /* this transfer has opened no new connection */
    int stale;            /* what the kept one has sent is not our answer */
    int repeated;         /* the request was sent again on a new connection */
    int new_pairs;        /* libcurl may have made socket pairs */
    char error[CURL_ERROR_SIZE];
    us_http_handle *next; /* in the idle list */
};

/*
 * Creates a handle on the C heap, without a connection.  options must live as
 * long as it.  NULL if out of memory.
 */
us_http_handle *us_http_handle_create(const us_http_options *options);

/* Closes the connection and frees everything. */
void us_http_handle_destroy(us_http_handle *handle);

/*
 * Sends the request's body and waits for the answer: on the kept connection if
 * that is usable, and again on a new one if it brings no answer to the
 * request.  The caller sets URL and headers with curl_easy_setopt.
 */
CURLcode us_http_handle_perform(us_http_handle *handle,
                                const us_http_request *request);

/* Wipes what belongs to the finished request. */
void us_http_handle_forget(us_http_handle *handle);

/* Is the handle far larger than a session needs? */
int us_http_handle_is_large(const us_http_handle *handle);

#endif /* US_HTTP_HANDLE_H */
