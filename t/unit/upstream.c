/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "crew.h"
#include "upstream.h"

#include <arpa/inet.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define ROOM ((size_t)2 * 1024 * 1024) /* for a request */

typedef struct connection {
    upstream *server;
    int fd;
    SSL *ssl;
    int number; /* of the request on this connection, from 1 */
    char *data; /* what was read and not used yet */
    size_t len;
    char act[32];
    char *body;
    size_t body_len;
} connection;

static SSL_CTX *context;

/* --- bytes --- */

static int get_some(connection *c)
{
    size_t room = ROOM - c->len - 1;
    ssize_t got = c->ssl != NULL
                      ? SSL_read(c->ssl, c->data + c->len, (int)room)
                      : read(c->fd, c->data + c->len, room);

    if (got <= 0) {
        return 0;
    }
    c->len += (size_t)got;
    c->data[c->len] = '\0';
    return 1;
}

/* Sends one segment or TLS record, if it is short; 0: the client is gone. */
static int put_bytes(connection *c, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t sent = c->ssl != NULL ? SSL_write(c->ssl, data, (int)len)
                                      : send(c->fd, data, len, MSG_NOSIGNAL);

        if (sent <= 0) {
            return 0;
        }
        data += sent;
        len -= (size_t)sent;
    }
    return 1;
}

static int put(connection *c, const char *text)
{
    return put_bytes(c, text, strlen(text));
}

/* Waits until everything that was sent is in the client's socket. */
static void wait_for_arrival(const connection *c)
{
    int left = 1;

    while (ioctl(c->fd, SIOCOUTQ, &left) == 0 && left > 0) {
        crew_pause();
    }
}

/* --- answers --- */

static int is(const connection *c, const char *act)
{
    return strcmp(c->act, act) == 0;
}

/* Head and body of an answer, in text. */
static char *answer(const char *head, const char *body, size_t len)
{
    size_t size = strlen(head) + len + 64;
    char *text = malloc(size);

    (void)snprintf(text, size,
                   "HTTP/1.1 %s\r\nContent-Length: %zu\r\n\r\n%.*s", head, len,
                   (int)len, body);
    return text;
}

static char *stolen(const char *head)
{
    return answer(head, UPSTREAM_STOLEN, strlen(UPSTREAM_STOLEN));
}

static void put_answer(connection *c, const char *head)
{
    char *text = answer(head, c->body, c->body_len);

    put(c, text);
    free(text);
}

/* Sends a surplus answer, once the client has the other one. */
static int put_surplus(connection *c, const char *head)
{
    char *text = stolen(head);

    wait_for_arrival(c);
    put(c, text);
    free(text);
    wait_for_arrival(c);
    c->server->delivered++;
    return strstr(head, "close") == NULL;
}

/* The end of the answer and a surplus one in one piece, after the head. */
static int put_joined(connection *c)
{
    char text[1024];
    char *more = stolen("200 OK");

    (void)snprintf(text, sizeof(text),
                   "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n",
                   c->body_len);
    put(c, text);
    (void)snprintf(text, sizeof(text), "%s%s", c->body, more);
    free(more);
    put(c, text);
    wait_for_arrival(c);
    c->server->delivered++;
    return 1;
}

/* All in one piece. */
static int put_at_once(connection *c)
{
    char text[1024];
    char *one = answer("200 OK", c->body, c->body_len);
    char *more = stolen("200 OK");

    (void)snprintf(text, sizeof(text), "%s%s", one, more);
    free(one);
    free(more);
    put(c, text);
    wait_for_arrival(c);
    c->server->delivered++;
    return 1;
}

/* In one chunk, with a surplus answer in the same piece or after it. */
static int put_chunked(connection *c, const char *headers, const char *more)
{
    char text[1024];

    (void)snprintf(text, sizeof(text),
                   "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n%s\r\n"
                   "%zx\r\n%s\r\n0\r\n\r\n%s",
                   headers, c->body_len, c->body, more);
    put(c, text);
    return 1;
}

static int put_chunked_and_stolen(connection *c)
{
    char *more = stolen("200 OK");

    put_chunked(c, "", more);
    free(more);
    wait_for_arrival(c);
    c->server->delivered++;
    return 1;
}

/* Chunks of a kilobyte after the head until the client gives up. */
static int put_large(connection *c, const char *head)
{
    char data[1025];
    char piece[1100];

    memset(data, 'a', 1024);
    data[1024] = '\0';
    (void)snprintf(piece, sizeof(piece), "400\r\n%s\r\n", data);
    put(c, head);
    while (put(c, piece)) {
    }
    return 0;
}

/* The same lines until the client gives up. */
static int put_forever(connection *c, const char *first, const char *again)
{
    put(c, first);
    while (put(c, again)) {
    }
    return 0;
}

static int put_large_things(connection *c)
{
    if (is(c, "length")) {
        put(c, "HTTP/1.1 200 OK\r\nContent-Length: 1048577\r\n\r\n");
        return 0; /* and nothing of the answer */
    }
    if (is(c, "lie")) {
        return put_large(c, "HTTP/1.1 200 OK\r\n"
                            "Content-Length: 99999999999999999999\r\n\r\n");
    }
    if (is(c, "chunks")) {
        return put_large(c, "HTTP/1.1 200 OK\r\n"
                            "Transfer-Encoding: chunked\r\n\r\n");
    }
    if (is(c, "page")) {
        return put_large(c, "HTTP/1.1 502 Bad Gateway\r\n"
                            "Content-Length: 2097152\r\n\r\n");
    }
    if (is(c, "headers")) {
        return put_forever(c, "HTTP/1.1 200 OK\r\n", "X-More: more\r\n");
    }
    if (is(c, "interim")) {
        return put_forever(c, "",
                           "HTTP/1.1 103 Early Hints\r\n"
                           "X-More: more\r\n\r\n");
    }
    return put_forever(c,
                       "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
                       "Trailer: X-More\r\n\r\n1\r\na\r\n0\r\n",
                       "X-More: more\r\n");
}

/* Does what the header says, after a good request; 0: the connection ends. */
static int act(connection *c)
{
    if (is(c, "length") || is(c, "lie") || is(c, "chunks") || is(c, "page")
        || is(c, "headers") || is(c, "interim") || is(c, "trailers")) {
        return put_large_things(c);
    }
    if (is(c, "joined")) {
        return put_joined(c);
    }
    if (is(c, "at-once")) {
        return put_at_once(c);
    }
    if (is(c, "chunked")) {
        return put_chunked_and_stolen(c);
    }
    if (is(c, "both")) {
        return put_chunked(c, "Content-Length: 1\r\n", "");
    }
    if (is(c, "no-content")) {
        put(c, "HTTP/1.1 204 No Content\r\nConnection: keep-alive\r\n");
        return put(c, "Content-Length: 4\r\n\r\nbody")
               && ++c->server->delivered;
    }
    if (is(c, "old")) {
        char *text
            = answer("200 OK\r\nConnection: keep-alive", c->body, c->body_len);

        text[7] = '0'; /* HTTP/1.0 */
        put(c, text);
        free(text);
        return 1;
    }
    if (is(c, "timeout") && c->number > 1) {
        put_answer(c, "408 Request Timeout\r\nConnection: close");
        return 0;
    }
    put_answer(c, "200 OK");
    if (is(c, "200")) {
        return put_surplus(c, "200 OK");
    }
    if (is(c, "408")) {
        return put_surplus(c, "408 Request Timeout\r\nConnection: close");
    }
    if (is(c, "400")) {
        return put_surplus(c, "400 Bad Request\r\nConnection: close");
    }
    if (is(c, "429")) {
        return put_surplus(c, "429 Too Many Requests");
    }
    if (is(c, "ticket") && c->ssl != NULL) {
        SSL_new_session_ticket(c->ssl);
        SSL_do_handshake(c->ssl);
        wait_for_arrival(c);
        c->server->delivered++;
    }
    return 1;
}

/* --- requests --- */

/* Reads a head and notes what it says; 0 at the end of the connection. */
static int read_head(connection *c)
{
    const char *found;

    while (c->len == 0 || strstr(c->data, "\r\n\r\n") == NULL) {
        if (!get_some(c)) {
            return 0;
        }
    }
    c->body = strstr(c->data, "\r\n\r\n") + 4;
    c->act[0] = '\0';
    found = strstr(c->data, "\r\nX-Act: ");
    if (found != NULL) {
        size_t len = strcspn(found + 9, "\r");

        (void)snprintf(c->act, sizeof(c->act), "%.*s", (int)len, found + 9);
    }
    found = strstr(c->data, "\r\nContent-Length: ");
    c->body_len = found != NULL ? strtoul(found + 18, NULL, 10) : 0;
    c->number++;
    return 1;
}

/* One request and its answer; 0: the connection ends. */
static int serve(connection *c)
{
    if (!read_head(c)) {
        return 0;
    }
    if (is(c, "early") && c->number > 1) {
        /* the answer to another request crosses most of this one */
        char *text = stolen("200 OK");
        int served = c->server->served;

        put(c, text);
        free(text);
        /* what is not read is not acknowledged, however late the client is */
        while (c->server->served == served) {
            crew_pause();
        }
        return 0;
    }
    while (c->len - (size_t)(c->body - c->data) < c->body_len) {
        if (!get_some(c)) {
            return 0;
        }
    }
    c->body[c->body_len] = '\0';
    c->len = 0; /* the client waits for the answer before it continues */
    c->server->served++;
    return act(c);
}

static void *run_connection(void *data)
{
    connection *c = data;
    char byte;

    c->data = malloc(ROOM);
    c->data[0] = '\0';
    if (c->server->tls) {
        c->ssl = SSL_new(context);
        SSL_set_fd(c->ssl, c->fd);
    }
    if (c->ssl == NULL || SSL_accept(c->ssl) == 1) {
        while (serve(c)) {
        }
    }
    if (!is(c, "length")) {
        shutdown(c->fd, SHUT_WR);
    }
    while (read(c->fd, &byte, 1) > 0) {
    }
    c->server->closed++;
    SSL_free(c->ssl);
    close(c->fd);
    free(c->data);
    free(c);
    return NULL;
}

static void *run_server(void *data)
{
    upstream *server = data;

    for (;;) {
        struct sockaddr_in address = {.sin_family = AF_INET};
        socklen_t len = sizeof(address);
        connection *c = calloc(1, sizeof(*c));
        pthread_t thread;
        int on = 1;

        c->server = server;
        c->fd = accept4(server->listener, NULL, NULL, SOCK_CLOEXEC);
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        getsockname(c->fd, (struct sockaddr *)&address, &len);
        if (address.sin_addr.s_addr != htonl(INADDR_LOOPBACK)) {
            server->at_other++;
        }
        server->accepted++;
        pthread_create(&thread, NULL, run_connection, c);
        pthread_detach(thread);
    }
    return NULL;
}

/* --- start --- */

/* Makes a self-signed certificate for 127.0.0.1. */
static int make_certificate(const char *ca_file)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = X509_new();
    X509_EXTENSION *names = X509V3_EXT_conf_nid(
        NULL, NULL, NID_subject_alt_name, "IP:127.0.0.1,DNS:moving.test");
    X509_NAME *name = X509_get_subject_name(certificate);
    FILE *file = fopen(ca_file, "we");
    int good;

    X509_set_version(certificate, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
    X509_gmtime_adj(X509_getm_notBefore(certificate), -60);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 86400L);
    X509_set_pubkey(certificate, key);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
                               (const unsigned char *)"upstream", -1, -1, 0);
    X509_set_issuer_name(certificate, name);
    X509_add_ext(certificate, names, -1);
    context = SSL_CTX_new(TLS_server_method());
    good = file != NULL && X509_sign(certificate, key, EVP_sha256()) > 0
           && PEM_write_X509(file, certificate) == 1
           && SSL_CTX_use_certificate(context, certificate) == 1
           && SSL_CTX_use_PrivateKey(context, key) == 1;
    X509_EXTENSION_free(names);
    X509_free(certificate);
    EVP_PKEY_free(key);
    return file != NULL && fclose(file) == 0 && good;
}

int upstream_start(upstream *server, const char *ca_file)
{
    /* as httpd does: OpenSSL writes without MSG_NOSIGNAL */
    const struct sigaction ignore = {.sa_handler = SIG_IGN};
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t len = sizeof(address);
    pthread_t thread;
    int small = 16 * 1024;

    sigaction(SIGPIPE, &ignore, NULL);
    if (server->tls && !make_certificate(ca_file)) {
        return 0;
    }
    server->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    /* a large request does not fit into what TCP accepts unread */
    setsockopt(server->listener, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    if (server->listener < 0
        || bind(server->listener, (struct sockaddr *)&address, len) != 0
        || listen(server->listener, 64) != 0
        || getsockname(server->listener, (struct sockaddr *)&address, &len)
               != 0) {
        return 0;
    }
    server->port = ntohs(address.sin_port);
    return pthread_create(&thread, NULL, run_server, server) == 0;
}
