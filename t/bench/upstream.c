/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * upstream.c: the Supabase Auth of the benchmark.  One thread that never
 * waits: a delayed answer is an entry in a queue.  TLS is its own and not a
 * terminator's in front of it, so that it costs no second process, the delay
 * is the same, and accepted connections are counted where they arrive.
 *
 *   upstream PLAIN TLS CONTROL LOGIN SIGNUP SETTINGS CERTIFICATE KEY
 *
 * The first three are ports of 127.0.0.1.  On CONTROL it answers
 *
 *   GET /stats              the counts, as JSON
 *   GET /set/delay/200      milliseconds before each answer
 *   GET /set/hang/1         read requests and answer none; 0: answer again
 */

#include "upstream_auth.h"

#include <openssl/err.h>
#include <openssl/ssl.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define IN_MAX ((size_t)16384)
#define EVENTS 256
#define CONNECTIONS_MAX 16384

typedef enum { PLAIN, TLS, CONTROL, LISTENERS } listener;

typedef struct connection {
    listener of;
    int fd; /* -1: closed, but still in the queue */
    SSL *ssl;
    int waiting; /* a request has arrived and its answer has not started */
    int queued;
    int closing; /* after the answer */
    int wants_write;
    int64_t due; /* microseconds */
    struct connection *next;
    size_t in_len;
    size_t out_len;
    size_t out_pos;
    char in[IN_MAX];
    char out[AUTH_ANSWER_MAX];
} connection;

static SSL_CTX *tls;
static int epoll_fd;
static int listen_fd[LISTENERS];
static connection *by_fd[CONNECTIONS_MAX];
static long delay_ms;
static int hang;
static struct {
    long accepted[LISTENERS];
    long open;
    long requests;
    long waiting;
} count;

/* Answers that are not due yet.  They had all the same delay when they came,
 * so the first is the next one (a changed delay applies to later requests). */
static connection *first;
static connection **last = &first;

static int64_t now_us(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

/* --- bytes --- */

static void close_connection(connection *c)
{
    if (c->fd < 0) {
        return;
    }
    if (c->ssl != NULL) {
        SSL_free(c->ssl);
        c->ssl = NULL;
    }
    close(c->fd);
    by_fd[c->fd] = NULL;
    c->fd = -1;
    count.open -= c->of != CONTROL;
    count.waiting -= c->waiting;
    c->waiting = 0;
    if (!c->queued) {
        free(c);
    }
}

/* The result of an OpenSSL call: 0 for "later", -1 for the end. */
static int tls_result(connection *c, int result)
{
    int error = SSL_get_error(c->ssl, result);

    ERR_clear_error();
    if (error == SSL_ERROR_WANT_WRITE) {
        c->wants_write = 1;
        return 0;
    }
    return error == SSL_ERROR_WANT_READ ? 0 : -1;
}

static int read_some(connection *c)
{
    size_t room = IN_MAX - 1 - c->in_len;
    ssize_t got;

    if (room == 0) {
        return -1; /* nothing here is that long */
    }
    if (c->ssl != NULL) {
        int n = SSL_read(c->ssl, c->in + c->in_len, (int)room);

        if (n <= 0) {
            return tls_result(c, n);
        }
        got = n;
    }
    else {
        got = recv(c->fd, c->in + c->in_len, room, 0);
        if (got <= 0) {
            return got < 0 && errno == EAGAIN ? 0 : -1;
        }
    }
    c->in_len += (size_t)got;
    return 1;
}

/* Returns 1 when everything has been sent. */
static int write_some(connection *c)
{
    while (c->out_pos < c->out_len) {
        size_t left = c->out_len - c->out_pos;
        ssize_t put;

        if (c->ssl != NULL) {
            int n = SSL_write(c->ssl, c->out + c->out_pos, (int)left);

            if (n <= 0) {
                return tls_result(c, n);
            }
            put = n;
        }
        else {
            put = send(c->fd, c->out + c->out_pos, left, MSG_NOSIGNAL);
            if (put < 0) {
                c->wants_write = errno == EAGAIN;
                return errno == EAGAIN ? 0 : -1;
            }
        }
        c->out_pos += (size_t)put;
    }
    c->out_pos = c->out_len = 0;
    return c->closing ? -1 : 1;
}

/* --- requests --- */

typedef struct {
    char *method;
    char *target;
    char *body;
    size_t body_len;
    size_t whole; /* bytes of the request */
} request;

/* The value of a header in the head, which is a string; NULL if not there. */
static const char *find_header(const char *head, const char *name)
{
    size_t len = strlen(name);
    const char *line = strstr(head, "\r\n");

    while (line != NULL) {
        line += 2;
        if (strncasecmp(line, name, len) == 0 && line[len] == ':') {
            return line + len + 1 + strspn(line + len + 1, " ");
        }
        line = strstr(line, "\r\n");
    }
    return NULL;
}

/* 1: a whole request has arrived, 0: not yet, -1: it is invalid. */
static int parse_request(connection *c, request *r)
{
    char *end;
    char *space;
    const char *value;

    c->in[c->in_len] = '\0';
    end = strstr(c->in, "\r\n\r\n");
    if (end == NULL) {
        return 0;
    }
    r->body = end + 4;
    end[2] = '\0';
    value = find_header(c->in, "Content-Length");
    r->body_len = value == NULL ? 0 : strtoul(value, NULL, 10);
    r->whole = (size_t)(r->body - c->in) + r->body_len;
    if (r->whole >= IN_MAX || find_header(c->in, "Transfer-Encoding")) {
        return -1;
    }
    if (r->whole > c->in_len) {
        end[2] = '\r';
        return 0;
    }
    value = find_header(c->in, "Connection");
    c->closing = value != NULL && strncasecmp(value, "close", 5) == 0;
    r->method = c->in;
    space = strchr(c->in, ' ');
    if (space == NULL) {
        return -1;
    }
    *space = '\0';
    r->target = space + 1;
    space = strpbrk(r->target, " \r");
    if (space == NULL || *space != ' ') {
        return -1;
    }
    if (strncmp(space + 1, "HTTP/1.0", 8) == 0) {
        c->closing = 1;
    }
    *space = '\0';
    return 1;
}

static void answer_control(connection *c, const char *target)
{
    char body[256];
    int body_len;

    if (strncmp(target, "/set/delay/", 11) == 0) {
        delay_ms = strtol(target + 11, NULL, 10);
    }
    else if (strncmp(target, "/set/hang/", 10) == 0) {
        hang = target[10] == '1';
    }
    body_len
        = snprintf(body, sizeof(body),
                   "{\"plain\":%ld,\"tls\":%ld,\"open\":%ld,\"requests\":%ld,"
                   "\"waiting\":%ld,\"delay\":%ld,\"hang\":%d}\n",
                   count.accepted[PLAIN], count.accepted[TLS], count.open,
                   count.requests, count.waiting, delay_ms, hang);
    c->out_len = (size_t)snprintf(
        c->out, sizeof(c->out),
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
        "Content-Length: %d\r\nConnection: close\r\n\r\n%s",
        body_len, body);
    c->closing = 1;
}

static void put_into_queue(connection *c)
{
    c->due = now_us() + delay_ms * 1000;
    c->queued = 1;
    c->next = NULL;
    *last = c;
    last = &c->next;
}

/* Removes a request from the input; its answer is in out, due now or later. */
static void take_request(connection *c, const request *r)
{
    if (c->of == CONTROL) {
        answer_control(c, r->target);
    }
    else {
        count.requests++;
        c->out_len
            = auth_answer(r->method, r->target, r->body, r->body_len, c->out);
        c->waiting = hang || delay_ms > 0;
        count.waiting += c->waiting;
        if (c->waiting && !hang) {
            put_into_queue(c);
        }
    }
    c->in_len -= r->whole;
    memmove(c->in, c->in + r->whole, c->in_len);
}

/* --- the loop --- */

static void watch(connection *c, int operation)
{
    struct epoll_event event = {0};

    event.events = c->wants_write ? EPOLLIN | EPOLLOUT : EPOLLIN;
    event.data.fd = c->fd;
    epoll_ctl(epoll_fd, operation, c->fd, &event);
}

/* Continues as far as the input allows; -1: the connection has ended. */
static int go_on(connection *c)
{
    request r;
    int rc;

    for (;;) {
        if (c->out_len > 0 && !c->waiting) {
            rc = write_some(c);
            if (rc <= 0) {
                return rc;
            }
        }
        if (!c->waiting && c->in_len > 0) {
            rc = parse_request(c, &r);
            if (rc < 0) {
                return rc;
            }
            if (rc > 0) {
                take_request(c, &r);
                continue;
            }
        }
        rc = read_some(c);
        if (rc <= 0) {
            return rc;
        }
    }
}

static void serve(connection *c)
{
    int wanted = c->wants_write;

    c->wants_write = 0;
    if (go_on(c) < 0) {
        close_connection(c);
    }
    else if (c->wants_write != wanted) {
        watch(c, EPOLL_CTL_MOD);
    }
}

static void add_connection(listener of, int fd)
{
    connection *c = fd < CONNECTIONS_MAX ? malloc(sizeof(*c)) : NULL;
    int on = 1;

    if (c == NULL) {
        close(fd);
        return;
    }
    memset(c, 0, offsetof(connection, in));
    c->of = of;
    c->fd = fd;
    by_fd[fd] = c;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    count.accepted[of]++;
    count.open += of != CONTROL;
    if (of == TLS) {
        c->ssl = SSL_new(tls);
        if (c->ssl == NULL || !SSL_set_fd(c->ssl, fd)) {
            close_connection(c);
            return;
        }
        SSL_set_accept_state(c->ssl);
    }
    watch(c, EPOLL_CTL_ADD);
}

/* 1 if fd is a listener: accepts all that wait there. */
static int accept_all(int fd)
{
    int of;

    for (of = 0; of < LISTENERS && listen_fd[of] != fd; of++) {
    }
    if (of == LISTENERS) {
        return 0;
    }
    for (;;) {
        int new_fd = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (new_fd < 0) {
            return 1;
        }
        add_connection((listener)of, new_fd);
    }
}

/* Sends answers that are due; returns milliseconds until the next one. */
static int send_what_is_due(void)
{
    int64_t now = now_us();

    while (first != NULL && first->due <= now) {
        connection *c = first;

        first = c->next;
        if (first == NULL) {
            last = &first;
        }
        c->queued = 0;
        if (c->fd < 0) {
            free(c);
            continue;
        }
        c->waiting = 0;
        count.waiting--;
        serve(c);
    }
    return first == NULL ? -1 : (int)((first->due - now + 999) / 1000);
}

static void loop(void)
{
    struct epoll_event events[EVENTS];

    for (;;) {
        int n = epoll_wait(epoll_fd, events, EVENTS, send_what_is_due());
        int i;

        for (i = 0; i < n; i++) {
            int fd = events[i].data.fd;

            if (!accept_all(fd) && by_fd[fd] != NULL) {
                serve(by_fd[fd]);
            }
        }
    }
}

/* --- start --- */

static int listen_on(listener of, const char *port)
{
    struct sockaddr_in address = {0};
    struct epoll_event event = {0};
    int on = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons((uint16_t)strtoul(port, NULL, 10));
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) != 0
        || listen(fd, 4096) != 0) {
        perror(port);
        return 0;
    }
    listen_fd[of] = fd;
    event.events = EPOLLIN;
    event.data.fd = fd;
    return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0;
}

static int start_tls(const char *certificate, const char *key)
{
    tls = SSL_CTX_new(TLS_server_method());
    if (tls == NULL
        || SSL_CTX_use_certificate_chain_file(tls, certificate) != 1
        || SSL_CTX_use_PrivateKey_file(tls, key, SSL_FILETYPE_PEM) != 1) {
        ERR_print_errors_fp(stderr);
        return 0;
    }
    SSL_CTX_set_mode(tls, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    return 1;
}

int main(int argc, char *argv[])
{
    struct sigaction ignore = {0};
    int of;

    if (argc != 9) {
        (void)fprintf(stderr, "usage: upstream PLAIN TLS CONTROL LOGIN "
                              "SIGNUP SETTINGS CERTIFICATE KEY\n");
        return 2;
    }
    ignore.sa_handler = SIG_IGN;
    sigaction(SIGPIPE, &ignore, NULL);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (!auth_load(argv[4], argv[5], argv[6])
        || !start_tls(argv[7], argv[8])) {
        return 1;
    }
    for (of = 0; of < LISTENERS; of++) {
        if (!listen_on((listener)of, argv[1 + of])) {
            return 1;
        }
    }
    loop();
    return 0;
}
