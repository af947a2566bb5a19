/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "us_clock.h"
#include "heap.h"
#include "handle.h"
#include "us_log.h"
#include "us_wipe.h"

#include <apr_strings.h>
#include <apr_thread_mutex.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#if !CURL_AT_LEAST_VERSION(7, 87, 0)
#error "libcurl 7.87 or newer is needed (CURLOPT_QUICK_EXIT)"
#endif

/* The time in which a host's new address is noticed. */
#define MAX_AGE apr_time_from_sec(60)

struct us_http_client {
    apr_thread_mutex_t *mutex; /* guards idle */
    us_http_handle *idle;      /* last in, first out: warm connections first */
    struct curl_slist *headers; /* read-only after creation */
    us_http_options options;
};

/* --- start and stop --- */

static apr_status_t stop_curl(void *data)
{
    (void)data;
    curl_global_cleanup();
    return APR_SUCCESS;
}

/*
 * Libcurl's buffers hold passwords and sessions, so they are wiped.  They are
 * not if another module of this process has started libcurl before: libcurl
 * then keeps using malloc and free, and blocks of both kinds may be mixed.
 */
int us_http_start(apr_pool_t *pchild)
{
    if (curl_global_init_mem(CURL_GLOBAL_DEFAULT, malloc, us_heap_free,
                             us_heap_realloc, strdup, calloc)
        != CURLE_OK) {
        return 0;
    }
    apr_pool_cleanup_register(pchild, NULL, stop_curl, apr_pool_cleanup_null);
    return 1;
}

static void free_headers(struct curl_slist *headers)
{
    struct curl_slist *h;

    for (h = headers; h != NULL; h = h->next) {
        us_wipe(h->data, strlen(h->data)); /* the API key */
    }
    curl_slist_free_all(headers);
}

/* Leaves handles that are in use: prefork runs this in a signal handler, which
 * may have interrupted one. */
static apr_status_t client_destroy(void *data)
{
    us_http_client *client = data;

    while (client->idle != NULL) {
        us_http_handle *handle = client->idle;

        client->idle = handle->next;
        us_http_handle_destroy(handle);
    }
    free_headers(client->headers);
    client->headers = NULL;
    return APR_SUCCESS;
}

us_http_client *us_http_client_create(apr_pool_t *pool,
                                      const us_http_options *options)
{
    us_http_client *client = apr_pcalloc(pool, sizeof(*client));
    int i;

    client->options.user_agent = apr_pstrdup(pool, options->user_agent);
    client->options.ca_file = apr_pstrdup(pool, options->ca_file);
    client->options.proxy = apr_pstrdup(pool, options->proxy);
    client->options.connect_timeout = options->connect_timeout;
    client->options.max_body = options->max_body;
    client->options.advice = options->advice;
    client->options.max_age
        = options->max_age != 0 ? options->max_age : MAX_AGE;
    if (apr_thread_mutex_create(&client->mutex, APR_THREAD_MUTEX_DEFAULT, pool)
        != APR_SUCCESS) {
        return NULL;
    }
    for (i = 0; options->headers[i] != NULL; i++) {
        struct curl_slist *longer
            = curl_slist_append(client->headers, options->headers[i]);

        if (longer == NULL) {
            free_headers(client->headers);
            return NULL;
        }
        client->headers = longer;
    }
    apr_pool_cleanup_register(pool, client, client_destroy,
                              apr_pool_cleanup_null);
    return client;
}

/* --- URLs --- */

struct us_http_url {
    const char *text;
    CURLU *parsed; /* libcurl works on its own copy */
};

static apr_status_t url_destroy(void *data)
{
    us_http_url *url = data;

    curl_url_cleanup(url->parsed);
    return APR_SUCCESS;
}

us_http_url *us_http_url_create(apr_pool_t *pool, const char *text)
{
    us_http_url *url = apr_palloc(pool, sizeof(*url));

    url->text = apr_pstrdup(pool, text);
    url->parsed = curl_url();
    if (url->parsed == NULL) {
        return NULL;
    }
    apr_pool_cleanup_register(pool, url, url_destroy, apr_pool_cleanup_null);
    return curl_url_set(url->parsed, CURLUPART_URL, text, 0) == CURLUE_OK
               ? url
               : NULL;
}

/* --- handles --- */

/* A handle with a kept connection if there is one, else a new one. */
static us_http_handle *handle_take(us_http_client *client)
{
    us_http_handle *handle;

    apr_thread_mutex_lock(client->mutex);
    handle = client->idle;
    if (handle != NULL) {
        client->idle = handle->next;
    }
    apr_thread_mutex_unlock(client->mutex);
    if (handle != NULL) {
        return handle;
    }
    return us_http_handle_create(&client->options);
}

/* Puts the handle back into the list, or destroys it if its transfer failed or
 * it is far larger than a session needs. */
static void handle_release(us_http_client *client, us_http_handle *handle,
                           int reusable)
{
    if (!reusable || us_http_handle_is_large(handle)) {
        us_http_handle_destroy(handle);
        return;
    }
    apr_thread_mutex_lock(client->mutex);
    handle->next = client->idle;
    client->idle = handle;
    apr_thread_mutex_unlock(client->mutex);
}

/* --- one request --- */

/*
 * Was no part of the request sent?  libcurl sets "pretransfer" when the first
 * bytes of the request are sent, also over TLS.
 */
static int nothing_sent(CURL *curl)
{
    curl_off_t pretransfer = 0;

    curl_easy_getinfo(curl, CURLINFO_PRETRANSFER_TIME_T, &pretransfer);
    return pretransfer == 0;
}

/* Content-Length says so, or the body was. */
static int is_too_big(const us_http_handle *handle, CURLcode rc)
{
    return handle->body_too_big || rc == CURLE_FILESIZE_EXCEEDED;
}

/* What an administrator can do about this failure, or "". */
static const char *hint_for(const us_http_client *client, apr_pool_t *pool,
                            CURL *curl, CURLcode rc)
{
    const us_http_advice *advice = &client->options.advice;
    long os_error = 0;

    curl_easy_getinfo(curl, CURLINFO_OS_ERRNO, &os_error);
    if (os_error == EACCES || os_error == EPERM) {
        return "; not permitted: with SELinux, setsebool -P "
               "httpd_can_network_connect on";
    }
    switch (rc) {
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
        return apr_pstrcat(pool, "; check the host in ", advice->url, " and ",
                           advice->ca, NULL);
    case CURLE_COULDNT_RESOLVE_HOST:
        return apr_pstrcat(pool, "; check the host in ", advice->url,
                           " and the resolver", NULL);
    case CURLE_COULDNT_RESOLVE_PROXY:
        return "; check UserSyncProxy";
    case CURLE_SSL_CONNECT_ERROR:
        return apr_pstrcat(pool, "; check ", advice->url, NULL);
    default:
        break;
    }
    if (!nothing_sent(curl)) {
        return "";
    }
    if (client->options.proxy != NULL) {
        return "; check UserSyncProxy";
    }
    return rc == CURLE_OPERATION_TIMEDOUT && advice->connect != NULL
               ? apr_pstrcat(pool, "; see ", advice->connect, NULL)
               : "";
}

/* Why there is no answer, and what may help. */
static const char *problem_text(const us_http_client *client,
                                const us_http_handle *handle, apr_pool_t *pool,
                                CURLcode rc, long status)
{
    if (is_too_big(handle, rc) && handle->max_body > US_HTTP_MAX_BODY) {
        return apr_psprintf(
            pool, "the answer is larger than %" APR_SIZE_T_FMT " bytes",
            handle->max_body);
    }
    if (is_too_big(handle, rc)) {
        return status / 100 == 2
                   ? "the answer is larger than 1 MiB; most likely this "
                     "user's metadata is that large"
                   : apr_psprintf(pool,
                                  "the answer, with status %ld, is larger "
                                  "than 1 MiB",
                                  status);
    }
    if (handle->head_too_big) {
        return "the headers of the answer are larger than 64 KiB";
    }
    return apr_pstrcat(pool,
                       handle->error[0] != '\0' ? handle->error
                                                : curl_easy_strerror(rc),
                       hint_for(client, pool, handle->curl, rc), NULL);
}

static us_http_result classify(const us_http_handle *handle, CURLcode rc)
{
    if (rc == CURLE_OK) {
        return US_HTTP_ANSWERED;
    }
    if (is_too_big(handle, rc)) {
        return US_HTTP_TOO_BIG;
    }
    if (nothing_sent(handle->curl)) {
        return US_HTTP_UNREACHABLE;
    }
    return rc == CURLE_OPERATION_TIMEDOUT ? US_HTTP_TIMEOUT : US_HTTP_BROKEN;
}

static void fill_wanted(const us_http_handle *handle, apr_pool_t *pool,
                        const us_http_request *request, us_http_answer *answer)
{
    struct curl_header *header;
    int i;

    for (i = 0; i < US_HTTP_MAX_WANTED && request->wanted[i] != NULL; i++) {
        if (curl_easy_header(handle->curl, request->wanted[i], 0, CURLH_HEADER,
                             -1, &header)
            == CURLHE_OK) {
            answer->wanted[i] = apr_pstrdup(pool, header->value);
        }
    }
}

/* Copies what the caller needs from the handle, which will be reused. */
static void fill_answer(const us_http_handle *handle, apr_pool_t *pool,
                        const us_http_request *request, us_http_answer *answer)
{
    const char *type = NULL;

    curl_easy_getinfo(handle->curl, CURLINFO_CONTENT_TYPE, &type);
    answer->content_type = apr_pstrdup(pool, type);
    answer->body = apr_pstrmemdup(pool, handle->body, handle->body_len);
    answer->body_len = handle->body_len;
    us_wipe_with(pool, answer->body, answer->body_len);
    if (answer->status / 100 != 2 || handle->is_get) {
        fill_wanted(handle, pool, request, answer);
    }
}

static void trace(const us_http_handle *handle, const us_log *log,
                  const us_http_request *request, const us_http_answer *answer)
{
    if (log->r == NULL || !APLOG_R_IS_LEVEL(log->r, APLOG_DEBUG)) {
        return;
    }
    us_trace(
        log, APLOG_DEBUG,
        "[%s] %s %s: %s, status %ld, %" APR_SIZE_T_FMT
        " bytes in %d ms, %s connection%s",
        log->request_id, handle->is_get ? "GET" : "POST", request->url->text,
        answer->result == US_HTTP_ANSWERED ? "answered" : answer->problem,
        answer->status, answer->body_len,
        (int)apr_time_as_msec(answer->elapsed), handle->kept ? "kept" : "new",
        handle->repeated ? " after an answer to no request on a kept one"
                         : "");
}

/*
 * The headers of a request: its own, in front of the list that all requests
 * share.  libcurl only reads them, so a secret needs no copy.
 *
 * extra  room for US_HTTP_MAX_HEADERS; must live as long as the request
 */
static struct curl_slist *all_headers(const us_http_client *client,
                                      const us_http_request *request,
                                      struct curl_slist *extra)
{
    struct curl_slist *first = client->headers;
    int i;

    for (i = 0; i < US_HTTP_MAX_HEADERS; i++) {
        if (request->headers[i] != NULL) {
            union {
                const char *in;
                char *out;
            } text = {request->headers[i]}; /* curl_slist has no const */

            extra[i].data = text.out;
            extra[i].next = first;
            first = &extra[i];
        }
    }
    return first;
}

static void exchange(us_http_client *client, apr_pool_t *pool,
                     const us_log *log, const us_http_request *request,
                     int is_get, us_http_answer *answer)
{
    us_http_handle *handle = handle_take(client);
    struct curl_slist extra[US_HTTP_MAX_HEADERS];
    apr_time_t start = us_clock_now();
    CURLcode rc;

    memset(answer, 0, sizeof(*answer));
    if (handle == NULL) {
        answer->result = US_HTTP_UNREACHABLE;
        answer->problem = "out of memory";
        return;
    }
    handle->is_get = is_get;
    curl_easy_setopt(handle->curl, CURLOPT_CURLU, request->url->parsed);
    curl_easy_setopt(handle->curl, CURLOPT_HTTPHEADER,
                     all_headers(client, request, extra));

    rc = us_http_handle_perform(handle, request);
    answer->elapsed = us_clock_now() - start;
    answer->result = classify(handle, rc);
    if (answer->result == US_HTTP_ANSWERED
        || answer->result == US_HTTP_TOO_BIG) {
        curl_easy_getinfo(handle->curl, CURLINFO_RESPONSE_CODE,
                          &answer->status);
    }
    if (answer->result == US_HTTP_ANSWERED) {
        fill_answer(handle, pool, request, answer);
    }
    else {
        answer->problem
            = problem_text(client, handle, pool, rc, answer->status);
    }
    if (answer->result == US_HTTP_TOO_BIG) { /* which user it is about */
        fill_wanted(handle, pool, request, answer);
    }
    trace(handle, log, request, answer);
    us_http_handle_forget(handle);
    if (rc == CURLE_OK) {
        answer->handle = handle;
    }
    else {
        handle_release(client, handle, 0);
    }
}

void us_http_post(us_http_client *client, apr_pool_t *pool, const us_log *log,
                  const us_http_request *request, us_http_answer *answer)
{
    exchange(client, pool, log, request, 0, answer);
}

void us_http_get(us_http_client *client, apr_pool_t *pool, const us_log *log,
                 const us_http_request *request, us_http_answer *answer)
{
    exchange(client, pool, log, request, 1, answer);
}

void us_http_done(us_http_client *client, us_http_answer *answer, int trusted)
{
    if (answer->handle != NULL) {
        handle_release(client, answer->handle, trusted);
        answer->handle = NULL;
    }
}
