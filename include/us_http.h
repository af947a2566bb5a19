/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_http.h: POST and GET over pooled keep-alive connections.  http/http.c is
 * the only user of libcurl.
 *
 * A client belongs to one process, and any of its threads may use it.
 * Each request in progress has its own handle.  Environment proxies are
 * ignored, redirects are not followed, http and https are the only protocols.
 */
#ifndef US_HTTP_H
#define US_HTTP_H

#include "usersync.h"

/* The largest answer body that is read unless a client's options say more; a
 * larger one gives US_HTTP_TOO_BIG. */
#define US_HTTP_MAX_BODY ((apr_size_t)1024 * 1024)

/* Headers that a request may have besides its client's. */
#define US_HTTP_MAX_HEADERS 4

/* Headers of an answer that a caller may ask for. */
#define US_HTTP_MAX_WANTED 4

typedef struct us_http_client us_http_client;
typedef struct us_http_url us_http_url; /* parsed once, then read-only */
typedef struct us_http_handle us_http_handle;

/* What an administrator can look at, for the words about a failure. */
typedef struct us_http_advice {
    const char *url;     /* the directive with the URL */
    const char *ca;      /* what says which CAs are trusted */
    const char *connect; /* the directive with connect_timeout; NULL: none */
} us_http_advice;

typedef struct us_http_options {
    const char *const *headers; /* "Name: value", NULL at the end */
    const char *user_agent;
    const char *ca_file;                 /* NULL: the system's */
    const char *proxy;                   /* NULL: none */
    apr_interval_time_t connect_timeout; /* usec */
    apr_interval_time_t max_age;         /* usec until a new address of the
                                          * host is noticed, at least 2 s; 0: a
                                          * minute */
    apr_size_t max_body;   /* bytes of an answer; 0: US_HTTP_MAX_BODY.  With
                          * more, connections keep buffers of that size */
    us_http_advice advice; /* static texts */
} us_http_options;

typedef struct us_http_request {
    const us_http_url *url;
    const char *body; /* of a POST */
    apr_size_t body_len;
    const char *headers[US_HTTP_MAX_HEADERS]; /* "Name: value" besides the
                                               * client's; NULL: none */
    apr_interval_time_t timeout;              /* usec, for the whole request */
    int fresh_connection;      /* do not reuse one: sent exactly once */
    const char *const *wanted; /* header names, NULL at the end */
} us_http_request;

typedef enum us_http_result {
    US_HTTP_ANSWERED,    /* a complete answer, whatever its status */
    US_HTTP_UNREACHABLE, /* failed before a byte of the request was sent */
    US_HTTP_TIMEOUT,     /* sent, no complete answer in time */
    US_HTTP_BROKEN,      /* sent, then cut off, reset or garbled */
    US_HTTP_TOO_BIG      /* sent, the answer's body exceeds the largest one:
                          * the server works, but its answer has that size */
} us_http_result;

typedef struct us_http_answer {
    us_http_result result;
    long status; /* of an answer that came or is too big; else 0 */
    char *body;  /* NUL-terminated, wiped with the pool */
    apr_size_t body_len;
    const char *content_type;               /* NULL: none */
    const char *wanted[US_HTTP_MAX_WANTED]; /* unless 2xx to a POST; or if
                                             * TOO_BIG */
    const char *problem;         /* unless ANSWERED: the reason and advice */
    apr_interval_time_t elapsed; /* usec */
    us_http_handle *handle;      /* for us_http_done; NULL: none to return */
} us_http_answer;

/* Starts libcurl in this child, before any other call.  0 on failure. */
int us_http_start(apr_pool_t *pchild);

/*
 * Creates a client for one upstream, which lives as long as pool.  The
 * options' texts are copied.  Returns NULL if libcurl is out of memory.
 */
us_http_client *us_http_client_create(apr_pool_t *pool,
                                      const us_http_options *options);

/* Parses a URL to ask, which lives as long as pool.  NULL on failure. */
us_http_url *us_http_url_create(apr_pool_t *pool, const char *text);

/*
 * Sends a POST and waits for the answer, at most for request->timeout.  The
 * caller judges the answer and then calls us_http_done.
 *
 * A request uses a kept connection only if nothing has arrived there since the
 * last answer: bytes that are already waiting cannot be its answer.  It is
 * sent again on a new connection if the kept one turns out to be dead, or
 * delivers an answer from before the request.  fresh_connection rules out
 * both.
 *
 * pool    receives the answer
 * request its headers may hold secrets: no copy of them is left behind
 */
void us_http_post(us_http_client *client, apr_pool_t *pool, const us_log *log,
                  const us_http_request *request, us_http_answer *answer);

/* The same with a GET, which has no body. */
void us_http_get(us_http_client *client, apr_pool_t *pool, const us_log *log,
                 const us_http_request *request, us_http_answer *answer);

/*
 * Gives back the connection of an answer.  The thread that called us_http_post
 * or us_http_get calls this once after it.  The answer itself stays valid.
 *
 * trusted  0: this was not the answer to the request.  The connection is
 *          closed, and no other request uses it.
 */
void us_http_done(us_http_client *client, us_http_answer *answer, int trusted);

#endif /* US_HTTP_H */
