/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "us_clock.h"
#include "cloexec.h"
#include "handle.h"
#include "us_wipe.h"

#include <openssl/ssl.h>

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#ifdef __linux__
#include <linux/sockios.h>
#endif

/* A handle keeps a body buffer of this size; a session has about 2 KB. */
#define BODY_START ((apr_size_t)8192)

/* Supabase's headers have about 1 KB, with a CDN in front of it more. */
#define MAX_HEAD ((apr_size_t)64 * 1024)

/* --- is it the answer to this request? --- */

/*
 * HTTP/1.1 does not say which request an answer belongs to: the next answer on
 * the connection is taken.  If the server has sent one too many, each user
 * gets the session of the previous user.  So nothing may have arrived before
 * the request is sent.
 */

/*
 * Does the TLS library hold bytes that it has read from the socket?  Only
 * OpenSSL is asked; with another library the answer is always yes.
 */
static int tls_pending(const us_http_handle *handle)
{
    struct curl_tlssessioninfo *tls = NULL;

    if (curl_easy_getinfo(handle->curl, CURLINFO_TLS_SSL_PTR, &tls) != CURLE_OK
        || tls == NULL || tls->internals == NULL) {
        return 0; /* no TLS */
    }
    return tls->backend != CURLSSLBACKEND_OPENSSL
           || SSL_has_pending((const SSL *)tls->internals);
}

/*
 * Can a request go out on this kept connection?  Not if anything is waiting
 * there: an answer, an alert or the end.  Session tickets of TLS 1.3 are not
 * waiting: a server sends them before its first answer, so libcurl has already
 * read them.
 */
static int is_clean(const us_http_handle *handle)
{
    struct pollfd waiting = {.fd = handle->socket, .events = POLLIN};

    return handle->socket != CURL_SOCKET_BAD && poll(&waiting, 1, 0) == 0
           && !tls_pending(handle);
}

/*
 * Did the server send this answer before it got the request?  If so, part of
 * the request has not left yet, or TCP still waits for the acknowledgment,
 * which an answer to the request would have carried.
 */
static int came_early(const us_http_handle *handle)
{
    curl_off_t sent = 0;
#ifdef SIOCOUTQ
    int unacknowledged = 0;

    if (ioctl(handle->socket, SIOCOUTQ, &unacknowledged) == 0
        && unacknowledged > 0) {
        return 1;
    }
#endif
    curl_easy_getinfo(handle->curl, CURLINFO_SIZE_UPLOAD_T, &sent);
    return sent < (curl_off_t)handle->request_len;
}

/* --- callbacks --- */

/* libcurl's write callback: collects the body, up to max_body. */
static size_t collect(char *data, size_t one, size_t len, void *context)
{
    us_http_handle *handle = context;

    (void)one; /* always 1, according to libcurl's manual */
    if (len > handle->max_body - handle->body_len) {
        handle->body_too_big = 1;
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
        us_wipe(handle->body, handle->body_len);
        free(handle->body);
        handle->body = larger;
        handle->body_size = size;
    }
    memcpy(handle->body + handle->body_len, data, len);
    handle->body_len += len;
    return len;
}

/*
 * libcurl's header callback, for each line of final and interim answers and of
 * trailers.  libcurl itself parses and stores them.
 */
static size_t watch_head(char *data, size_t one, size_t len, void *context)
{
    us_http_handle *handle = context;

    (void)data;
    (void)one;
    if (handle->head_len == 0 && handle->kept && came_early(handle)) {
        handle->stale = 1;
        return 0; /* ends the transfer */
    }
    if (len > MAX_HEAD - handle->head_len) {
        handle->head_too_big = 1;
        return 0;
    }
    handle->head_len += len;
    return len;
}

/* libcurl's prerequest callback: it is connected, nothing is sent yet. */
static int before_request(void *context, char *remote_ip, char *local_ip,
                          int remote_port, int local_port)
{
    us_http_handle *handle = context;

    (void)remote_ip;
    (void)local_ip;
    (void)remote_port;
    (void)local_port;
    handle->stale = handle->kept && !is_clean(handle);
    return handle->stale ? CURL_PREREQFUNC_ABORT : CURL_PREREQFUNC_OK;
}

/* libcurl's socket callback: programs that httpd starts do not inherit it. */
static curl_socket_t open_socket(void *context, curlsocktype purpose,
                                 struct curl_sockaddr *address)
{
    us_http_handle *handle = context;

    (void)purpose;
    handle->kept = 0;
    return socket(address->family, address->socktype | SOCK_CLOEXEC,
                  address->protocol);
}

/* libcurl's callback before a look-up, for which it makes a socket pair. */
static int before_lookup(void *resolver, void *reserved, void *context)
{
    us_http_handle *handle = context;

    (void)resolver;
    (void)reserved;
    handle->new_pairs = 1;
    return 0;
}

/* libcurl's progress callback, which runs soonest after a new socket pair. */
static int progress(void *context, curl_off_t to_get, curl_off_t got,
                    curl_off_t to_send, curl_off_t sent)
{
    us_http_handle *handle = context;

    (void)to_get;
    (void)got;
    (void)to_send;
    (void)sent;
    if (handle->new_pairs) {
        handle->new_pairs = 0;
        us_cloexec_pairs();
    }
    return 0;
}

static void set_callbacks(us_http_handle *handle)
{
    CURL *curl = handle->curl;

    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, collect);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, handle);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, watch_head);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, handle);
    curl_easy_setopt(curl, CURLOPT_PREREQFUNCTION, before_request);
    curl_easy_setopt(curl, CURLOPT_PREREQDATA, handle);
    curl_easy_setopt(curl, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    curl_easy_setopt(curl, CURLOPT_OPENSOCKETDATA, handle);
    curl_easy_setopt(curl, CURLOPT_RESOLVER_START_FUNCTION, before_lookup);
    curl_easy_setopt(curl, CURLOPT_RESOLVER_START_DATA, handle);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, progress);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, handle);
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
}

/* --- a handle's life --- */

/* Half of max_age is for a connection, half for the address it was made to.
 * libcurl counts both in seconds, and takes 0 for no limit. */
static void set_ages(CURL *curl, apr_interval_time_t max_age)
{
    long half = (long)apr_time_sec(max_age / 2);
    long seconds = half > 0 ? half : 1;

    curl_easy_setopt(curl, CURLOPT_MAXLIFETIME_CONN, seconds);
    curl_easy_setopt(curl, CURLOPT_DNS_CACHE_TIMEOUT, seconds);
}

/* With TLS inside TLS, is_clean cannot see what the outer layer holds. */
static int is_tls_proxy(const us_http_options *options)
{
    return options->proxy != NULL
           && strncasecmp(options->proxy, "https:", 6) == 0;
}

/* Options that are set once and never change. */
static void set_constant_options(us_http_handle *handle,
                                 const us_http_options *options)
{
    CURL *curl = handle->curl;

    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    /* a hanging resolver must not delay us beyond the deadline */
    curl_easy_setopt(curl, CURLOPT_QUICK_EXIT, 1L);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(curl, CURLOPT_MAXCONNECTS, 1L);
    curl_easy_setopt(curl, CURLOPT_BUFFERSIZE, 8192L);
    curl_easy_setopt(curl, CURLOPT_UPLOAD_BUFFERSIZE, 16384L);
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
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, handle->error);
    curl_easy_setopt(curl, CURLOPT_MAXFILESIZE_LARGE,
                     (curl_off_t)handle->max_body);
    set_ages(curl, options->max_age);
    curl_easy_setopt(curl, CURLOPT_FORBID_REUSE,
                     is_tls_proxy(options) ? 1L : 0L);
    set_callbacks(handle);
}

us_http_handle *us_http_handle_create(const us_http_options *options)
{
    us_http_handle *handle = calloc(1, sizeof(*handle));

    if (handle == NULL) {
        return NULL;
    }
    handle->curl = curl_easy_init();
    handle->body = malloc(BODY_START);
    handle->body_size = BODY_START;
    handle->max_body
        = options->max_body != 0 ? options->max_body : US_HTTP_MAX_BODY;
    if (handle->curl == NULL || handle->body == NULL) {
        us_http_handle_destroy(handle);
        return NULL;
    }
    handle->new_pairs = 1;
    set_constant_options(handle, options);
    return handle;
}

void us_http_handle_destroy(us_http_handle *handle)
{
    curl_easy_cleanup(handle->curl);
    if (handle->body != NULL) {
        us_wipe(handle->body, handle->body_size);
    }
    free(handle->body);
    free(handle);
}

void us_http_handle_forget(us_http_handle *handle)
{
    us_wipe(handle->body, handle->body_len);
    handle->body_len = 0;
    /* drop pointers into the request's pool, including the password */
    curl_easy_setopt(handle->curl, CURLOPT_POSTFIELDS, NULL);
    curl_easy_setopt(handle->curl, CURLOPT_HTTPHEADER, NULL);
}

int us_http_handle_is_large(const us_http_handle *handle)
{
    /* a client that asks for more has large answers all the time */
    return handle->body_size > 8 * BODY_START
           && handle->max_body <= US_HTTP_MAX_BODY;
}

/* --- one transfer --- */

/* Sends the request once. */
static CURLcode attempt(us_http_handle *handle, apr_interval_time_t timeout,
                        int fresh_connection)
{
    handle->body_len = 0;
    handle->head_len = 0;
    handle->body_too_big = 0;
    handle->head_too_big = 0;
    handle->kept = 1; /* until a socket is opened */
    handle->stale = 0;
    handle->error[0] = '\0';
    /* libcurl reports it only between transfers */
    handle->socket = CURL_SOCKET_BAD;
    curl_easy_getinfo(handle->curl, CURLINFO_ACTIVESOCKET, &handle->socket);
    curl_easy_setopt(handle->curl, CURLOPT_TIMEOUT_MS,
                     (long)apr_time_as_msec(timeout));
    curl_easy_setopt(handle->curl, CURLOPT_FRESH_CONNECT,
                     fresh_connection ? 1L : 0L);
    return curl_easy_perform(handle->curl);
}

/*
 * Is this not an answer to the request?  A server that closes an idle
 * connection may send a 408; then it has not read the request.
 */
static int must_repeat(const us_http_handle *handle, CURLcode rc)
{
    long status = 0;

    if (handle->stale) {
        return 1;
    }
    curl_easy_getinfo(handle->curl, CURLINFO_RESPONSE_CODE, &status);
    return rc == CURLE_OK && handle->kept && status == 408;
}

/* The method comes last: libcurl takes a body for a POST. */
static void set_request(us_http_handle *handle, const us_http_request *request)
{
    handle->request_len = handle->is_get ? 0 : request->body_len;
    curl_easy_setopt(handle->curl, CURLOPT_POSTFIELDS,
                     handle->is_get ? NULL : request->body);
    curl_easy_setopt(handle->curl, CURLOPT_POSTFIELDSIZE_LARGE,
                     (curl_off_t)handle->request_len);
    curl_easy_setopt(handle->curl,
                     handle->is_get ? CURLOPT_HTTPGET : CURLOPT_POST, 1L);
}

CURLcode us_http_handle_perform(us_http_handle *handle,
                                const us_http_request *request)
{
    apr_time_t deadline = us_clock_now() + request->timeout;
    apr_interval_time_t left;
    CURLcode rc;

    set_request(handle, request);
    rc = attempt(handle, request->timeout, request->fresh_connection);
    left = deadline - us_clock_now();
    handle->repeated
        = must_repeat(handle, rc) && left >= apr_time_from_msec(1);
    return handle->repeated ? attempt(handle, left, 1) : rc;
}
