/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "us_clock.h"
#include "us_http.h"
#include "us_log.h"
#include "us_secret.h"

#include <apr_strings.h>
#include <apr_thread_mutex.h>

#include <curl/curl.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#if !CURL_AT_LEAST_VERSION(7, 87, 0)
#error "libcurl 7.87 or newer is needed (CURLOPT_QUICK_EXIT)"
#endif

/* A session is about 2 KB; what a handle keeps between requests. */
#define BODY_START ((apr_size_t)8192)

/*
 * An easy handle with its kept connection.  It belongs to the client's idle
 * list or to the one request that took it, and lives on the C heap because it
 * outlives every request.
 */
typedef struct http_handle {
    CURL *curl;
    char *body; /* what arrived so far; wiped after each use */
    apr_size_t body_len;
    apr_size_t body_size;
    int too_big;
    char error[CURL_ERROR_SIZE];
    struct http_handle *next; /* in the idle list */
} http_handle;

struct us_http_client {
    apr_thread_mutex_t *mutex; /* guards idle */
    http_handle *idle;         /* last in, first out: warm connections first */
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

int us_http_start(apr_pool_t *pchild)
{
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        return 0;
    }
    apr_pool_cleanup_register(pchild, NULL, stop_curl, apr_pool_cleanup_null);
    return 1;
}

static void free_headers(struct curl_slist *headers)
{
    struct curl_slist *h;

    for (h = headers; h != NULL; h = h->next) {
        us_secret_wipe(h->data, strlen(h->data)); /* the API key */
    }
    curl_slist_free_all(headers);
}

static void handle_destroy(http_handle *handle)
{
    curl_easy_cleanup(handle->curl);
    if (handle->body != NULL) {
        us_secret_wipe(handle->body, handle->body_size);
    }
    free(handle->body);
    free(handle);
}

/* Handles still in use are left alone: prefork runs this in a signal handler
 * that may have interrupted one. */
static apr_status_t client_destroy(void *data)
{
    us_http_client *client = data;

    while (client->idle != NULL) {
        http_handle *handle = client->idle;

        client->idle = handle->next;
        handle_destroy(handle);
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
    CURLU *parsed; /* libcurl works on a copy of its own */
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

/* libcurl's write callback: collect the body, up to US_HTTP_MAX_BODY. */
static size_t collect(char *data, size_t one, size_t len, void *context)
{
    http_handle *handle = context;

    (void)one; /* always 1, says libcurl's manual */
    if (len > US_HTTP_MAX_BODY - handle->body_len) {
        handle->too_big = 1;
        return 0; /* ends the transfer */
    }
    if (len > handle->body_size - handle->body_len) {
        apr_size_t size = handle->body_size;
        char *larger;

        while (len > size - handle->body_len) {
            size *= 2;
        }
        larger = malloc(size);
        if (larger == NULL) {
            return 0;
        }
        /* not realloc: the old block must be wiped */
        memcpy(larger, handle->body, handle->body_len);
        us_secret_wipe(handle->body, handle->body_len);
        free(handle->body);
        handle->body = larger;
        handle->body_size = size;
    }
    memcpy(handle->body + handle->body_len, data, len);
    handle->body_len += len;
    return len;
}

/* Options that never change, set once in a handle's life. */
static void set_constant_options(const us_http_client *client,
                                 http_handle *handle)
{
    CURL *curl = handle->curl;
    const us_http_options *options = &client->options;

    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    /* a resolver that hangs must not hold us beyond the deadline */
    curl_easy_setopt(curl, CURLOPT_QUICK_EXIT, 1L);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(curl, CURLOPT_MAXCONNECTS, 1L);
    curl_easy_setopt(curl, CURLOPT_BUFFERSIZE, 8192L);
    curl_easy_setopt(curl, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS,
                     (long)apr_time_as_msec(options->connect_timeout));
    /* "" instead of NULL: ignore http_proxy and no_proxy of the environment */
    curl_easy_setopt(curl, CURLOPT_PROXY,
                     options->proxy != NULL ? options->proxy : "");
    curl_easy_setopt(curl, CURLOPT_NOPROXY, "");
    curl_easy_setopt(curl, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    if (options->ca_file != NULL) {
        curl_easy_setopt(curl, CURLOPT_CAINFO, options->ca_file);
        curl_easy_setopt(curl, CURLOPT_CAPATH, NULL);
    }
    curl_easy_setopt(curl, CURLOPT_USERAGENT, options->user_agent);
    curl_easy_setopt(curl, CURLOPT_POST, 1L);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, collect);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, handle);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, handle->error);
}

/* A handle with a kept connection if there is one, else a new one. */
static http_handle *handle_take(us_http_client *client)
{
    http_handle *handle;

    apr_thread_mutex_lock(client->mutex);
    handle = client->idle;
    if (handle != NULL) {
        client->idle = handle->next;
    }
    apr_thread_mutex_unlock(client->mutex);
    if (handle != NULL) {
        return handle;
    }
    handle = calloc(1, sizeof(*handle));
    if (handle == NULL) {
        return NULL;
    }
    handle->curl = curl_easy_init();
    handle->body = malloc(BODY_START);
    handle->body_size = BODY_START;
    if (handle->curl == NULL || handle->body == NULL) {
        handle_destroy(handle);
        return NULL;
    }
    set_constant_options(client, handle);
    return handle;
}

/* Back into the list, clean; destroyed when its transport failed or when it
 * grew far beyond what a session needs. */
static void handle_release(us_http_client *client, http_handle *handle,
                           int reusable)
{
    if (!reusable || handle->body_size > 8 * BODY_START) {
        handle_destroy(handle);
        return;
    }
    us_secret_wipe(handle->body, handle->body_len);
    /* forget pointers into the request's pool, password included */
    curl_easy_setopt(handle->curl, CURLOPT_POSTFIELDS, NULL);
    curl_easy_setopt(handle->curl, CURLOPT_HTTPHEADER, NULL);
    apr_thread_mutex_lock(client->mutex);
    handle->next = client->idle;
    client->idle = handle;
    apr_thread_mutex_unlock(client->mutex);
}

/* --- one request --- */

/*
 * Was nothing of the request sent?  libcurl stamps "pretransfer" when the
 * first bytes of the request have gone out, over TLS included.
 */
static int nothing_sent(CURL *curl)
{
    curl_off_t pretransfer = 0;

    curl_easy_getinfo(curl, CURLINFO_PRETRANSFER_TIME_T, &pretransfer);
    return pretransfer == 0;
}

/* What an administrator can do about this failure; "" when unknown. */
static const char *hint_for(const us_http_client *client, CURL *curl,
                            CURLcode rc)
{
    long os_error = 0;

    curl_easy_getinfo(curl, CURLINFO_OS_ERRNO, &os_error);
    if (os_error == EACCES || os_error == EPERM) {
        return "; not permitted: with SELinux, setsebool -P "
               "httpd_can_network_connect on";
    }
    switch (rc) {
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
        return "; check the host in UserSyncSupabaseURL and "
               "UserSyncCACertificateFile";
    case CURLE_COULDNT_RESOLVE_HOST:
        return "; check the host in UserSyncSupabaseURL and the resolver";
    case CURLE_COULDNT_RESOLVE_PROXY:
        return "; check UserSyncProxy";
    case CURLE_SSL_CONNECT_ERROR:
        return "; check UserSyncSupabaseURL";
    default:
        break;
    }
    if (!nothing_sent(curl)) {
        return "";
    }
    if (client->options.proxy != NULL) {
        return "; check UserSyncProxy";
    }
    return rc == CURLE_OPERATION_TIMEDOUT ? "; see UserSyncConnectTimeout"
                                          : "";
}

/* Why there is no answer, and what may help. */
static const char *problem_text(const us_http_client *client,
                                const http_handle *handle, apr_pool_t *pool,
                                CURLcode rc)
{
    if (handle->too_big) {
        return "the answer is larger than 1 MiB; check UserSyncSupabaseURL";
    }
    return apr_pstrcat(pool,
                       handle->error[0] != '\0' ? handle->error
                                                : curl_easy_strerror(rc),
                       hint_for(client, handle->curl, rc), NULL);
}

static us_http_result classify(const http_handle *handle, CURLcode rc)
{
    if (rc == CURLE_OK) {
        return US_HTTP_ANSWERED;
    }
    if (handle->too_big) {
        return US_HTTP_TOO_BIG;
    }
    if (nothing_sent(handle->curl)) {
        return US_HTTP_UNREACHABLE;
    }
    return rc == CURLE_OPERATION_TIMEDOUT ? US_HTTP_TIMEOUT : US_HTTP_BROKEN;
}

/* Copy what the caller needs out of the handle, which is used again. */
static void fill_answer(const http_handle *handle, apr_pool_t *pool,
                        const us_http_request *request, us_http_answer *answer)
{
    const char *type = NULL;
    struct curl_header *header;
    int i;

    curl_easy_getinfo(handle->curl, CURLINFO_RESPONSE_CODE, &answer->status);
    curl_easy_getinfo(handle->curl, CURLINFO_CONTENT_TYPE, &type);
    answer->content_type = apr_pstrdup(pool, type);
    answer->body = apr_pstrmemdup(pool, handle->body, handle->body_len);
    answer->body_len = handle->body_len;
    us_secret_wipe_with(pool, answer->body, answer->body_len);
    if (answer->status / 100 == 2) {
        return;
    }
    for (i = 0; i < US_HTTP_MAX_WANTED && request->wanted[i] != NULL; i++) {
        if (curl_easy_header(handle->curl, request->wanted[i], 0, CURLH_HEADER,
                             -1, &header)
            == CURLHE_OK) {
            answer->wanted[i] = apr_pstrdup(pool, header->value);
        }
    }
}

static void trace(const http_handle *handle, const us_log *log,
                  const us_http_request *request, const us_http_answer *answer)
{
    long connects = 0;

    if (log->r == NULL || !APLOG_R_IS_LEVEL(log->r, APLOG_DEBUG)) {
        return;
    }
    curl_easy_getinfo(handle->curl, CURLINFO_NUM_CONNECTS, &connects);
    us_trace(log, APLOG_DEBUG,
             "[%s] POST %s: %s, status %ld, %" APR_SIZE_T_FMT
             " bytes in %d ms, %s connection",
             log->request_id, request->url->text,
             answer->result == US_HTTP_ANSWERED ? "answered" : answer->problem,
             answer->status, answer->body_len,
             (int)apr_time_as_msec(answer->elapsed),
             connects > 0 ? "new" : "kept");
}

void us_http_post(us_http_client *client, apr_pool_t *pool, const us_log *log,
                  const us_http_request *request, us_http_answer *answer)
{
    http_handle *handle = handle_take(client);
    struct curl_slist extra;
    apr_time_t start = us_clock_now();
    CURLcode rc;

    memset(answer, 0, sizeof(*answer));
    if (handle == NULL) {
        answer->result = US_HTTP_UNREACHABLE;
        answer->problem = "out of memory";
        return;
    }
    handle->body_len = 0;
    handle->too_big = 0;
    handle->error[0] = '\0';
    /* one more header in front of the shared list; libcurl reads only */
    extra.data = apr_pstrdup(pool, request->header);
    extra.next = client->headers;
    curl_easy_setopt(handle->curl, CURLOPT_CURLU, request->url->parsed);
    curl_easy_setopt(handle->curl, CURLOPT_HTTPHEADER,
                     request->header != NULL ? &extra : client->headers);
    curl_easy_setopt(handle->curl, CURLOPT_POSTFIELDS, request->body);
    curl_easy_setopt(handle->curl, CURLOPT_POSTFIELDSIZE_LARGE,
                     (curl_off_t)request->body_len);
    curl_easy_setopt(handle->curl, CURLOPT_TIMEOUT_MS,
                     (long)apr_time_as_msec(request->timeout));
    curl_easy_setopt(handle->curl, CURLOPT_FRESH_CONNECT,
                     request->fresh_connection ? 1L : 0L);

    rc = curl_easy_perform(handle->curl);

    answer->elapsed = us_clock_now() - start;
    answer->result = classify(handle, rc);
    if (answer->result == US_HTTP_ANSWERED) {
        fill_answer(handle, pool, request, answer);
    }
    else {
        answer->problem = problem_text(client, handle, pool, rc);
    }
    trace(handle, log, request, answer);
    handle_release(client, handle, rc == CURLE_OK);
}
