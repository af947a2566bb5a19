/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_http.h: POST over pooled keep-alive connections.  us_http.c is the only
 * user of libcurl.
 *
 * A client belongs to one child process and any of its threads may use it; a
 * request in progress has a handle of its own.  Environment proxies are
 * ignored, redirects are not followed, http and https are the only protocols.
 */
#ifndef US_HTTP_H
#define US_HTTP_H

#include "usersync.h"

/* Largest answer body that is read; a larger one is US_HTTP_TOO_BIG. */
#define US_HTTP_MAX_BODY ((apr_size_t)1024 * 1024)

/* Headers of an answer that a caller may ask for. */
#define US_HTTP_MAX_WANTED 4

typedef struct us_http_client us_http_client;
typedef struct us_http_url us_http_url; /* parsed once; read-only */

typedef struct us_http_options {
    const char *const *headers; /* "Name: value", NULL at the end */
    const char *user_agent;
    const char *ca_file;                 /* NULL: the system's */
    const char *proxy;                   /* NULL: none */
    apr_interval_time_t connect_timeout; /* usec */
} us_http_options;

typedef struct us_http_request {
    const us_http_url *url;
    const char *body;
    apr_size_t body_len;
    const char *header;          /* one more "Name: value", or NULL */
    apr_interval_time_t timeout; /* usec, for everything together */
    int fresh_connection;        /* never a kept one: sent exactly once */
    const char *const *wanted;   /* header names, NULL at the end */
} us_http_request;

typedef enum us_http_result {
    US_HTTP_ANSWERED,    /* any complete answer, whatever its status */
    US_HTTP_UNREACHABLE, /* failed before a byte of the request was sent */
    US_HTTP_TIMEOUT,     /* sent, no complete answer in time */
    US_HTTP_BROKEN,      /* sent, then cut off, reset or garbled */
    US_HTTP_TOO_BIG      /* sent, the answer exceeds US_HTTP_MAX_BODY */
} us_http_result;

typedef struct us_http_answer {
    us_http_result result;
    long status;
    char *body; /* NUL-terminated, wiped when the pool goes */
    apr_size_t body_len;
    const char *content_type;               /* NULL: none */
    const char *wanted[US_HTTP_MAX_WANTED]; /* unless 2xx; NULL: absent */
    const char *problem;         /* unless ANSWERED: why, and what may help */
    apr_interval_time_t elapsed; /* usec */
} us_http_answer;

/* Start libcurl in this child; before any other call.  0 on failure. */
int us_http_start(apr_pool_t *pchild);

/*
 * A client for one upstream, living as long as pool.  The options' texts
 * are copied.  NULL when libcurl is out of memory.
 */
us_http_client *us_http_client_create(apr_pool_t *pool,
                                      const us_http_options *options);

/* A URL to post to, living as long as pool.  NULL when it is none. */
us_http_url *us_http_url_create(apr_pool_t *pool, const char *text);

/*
 * Send a POST and wait for its answer, no longer than request->timeout.
 * A request that libcurl finds was sent on a dead kept connection is sent
 * again by it; with fresh_connection that cannot happen.
 *
 * pool    receives the answer
 */
void us_http_post(us_http_client *client, apr_pool_t *pool, const us_log *log,
                  const us_http_request *request, us_http_answer *answer);

#endif /* US_HTTP_H */
