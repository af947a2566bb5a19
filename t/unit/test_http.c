/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * http/http.c: many threads share a client, over loopback to a server in this
 * program.  Each request gets its own answer, whatever happened to the
 * connection before, and there are no more connections than threads.
 */
#include "crew.h"
#include "tap.h"
#include "us_http.h"
#include "us_secret.h"

#include <apr_general.h>
#include <apr_strings.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define THREADS 8
#define REQUESTS 80 /* of each thread */
#define ROOM 64     /* connections of the server */

/* The request's first letter tells the server what to do. */
enum {
    ECHO = 'e',  /* 200 with the body */
    LARGE = 'l', /* 200 with the body many times: the handle is not kept */
    BUSY = 'b',  /* 503, Retry-After: the number in the body */
    CLOSE = 'c', /* as ECHO, and then the connection ends */
    CUT = 'x'    /* half of an answer, and then the connection ends */
};

/* --- the server: one thread, all connections --- */

typedef struct connection {
    int fd;
    size_t len;
    char data[4096];
} connection;

static int listener = -1;
static int stop_pipe[2];
static char url_text[64];
static us_http_url *url;
static _Atomic int accepted;
static _Atomic int served;

static void send_all(int fd, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t sent = send(fd, data, len, MSG_NOSIGNAL);

        if (sent <= 0) {
            return;
        }
        data += sent;
        len -= (size_t)sent;
    }
}

/* How many times the body comes back. */
static int times_of(char what)
{
    return what == LARGE ? 5000 : 1;
}

/* The answer; 0 when the connection ends with it. */
static int answer(int fd, const char *body, int len)
{
    char head[256];
    char what = body[0];
    int times = times_of(what);
    int i;

    served++;
    (void)snprintf(head, sizeof(head),
                   "HTTP/1.1 %s\r\nContent-Type: text/plain\r\n"
                   "Retry-After: %.*s\r\nContent-Length: %d\r\n%s\r\n",
                   what == BUSY ? "503 Busy" : "200 OK", len - 1, body + 1,
                   what == CUT ? len + 10 : len * times,
                   what == CLOSE ? "Connection: close\r\n" : "");
    send_all(fd, head, strlen(head));
    for (i = 0; i < times; i++) {
        send_all(fd, body, (size_t)len);
    }
    return what != CLOSE && what != CUT;
}

/* Reads on; 0 at the end of the connection. */
static int serve(connection *c)
{
    ssize_t got = read(c->fd, c->data + c->len, sizeof(c->data) - c->len - 1);
    const char *length;
    char *body;
    size_t need;

    if (got <= 0) {
        return 0;
    }
    c->len += (size_t)got;
    c->data[c->len] = '\0';
    body = strstr(c->data, "\r\n\r\n");
    length = strstr(c->data, "Content-Length: ");
    if (body == NULL || length == NULL) {
        return 1;
    }
    body += 4;
    need = (size_t)strtol(length + 16, NULL, 10);
    if (c->len - (size_t)(body - c->data) < need) {
        return 1;
    }
    c->len = 0;
    return answer(c->fd, body, (int)need);
}

static void accept_one(connection *connections)
{
    int fd = accept(listener, NULL, NULL);
    int on = 1;
    int i;

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    for (i = 0; i < ROOM; i++) {
        if (fd >= 0 && connections[i].fd < 0) {
            connections[i].fd = fd;
            connections[i].len = 0;
            accepted++;
            return;
        }
    }
    close(fd);
}

static void *run_server(void *data)
{
    static connection connections[ROOM];
    struct pollfd fds[ROOM + 2];
    int i;

    (void)data;
    for (i = 0; i < ROOM; i++) {
        connections[i].fd = -1;
    }
    for (;;) {
        for (i = 0; i < ROOM + 2; i++) {
            fds[i].fd = i < ROOM ? connections[i].fd
                                 : (i == ROOM ? listener : stop_pipe[0]);
            fds[i].events = POLLIN;
            fds[i].revents = 0;
        }
        if (poll(fds, ROOM + 2, -1) <= 0) {
            continue;
        }
        if (fds[ROOM + 1].revents != 0) {
            return NULL;
        }
        for (i = 0; i < ROOM; i++) {
            if (fds[i].revents != 0 && !serve(&connections[i])) {
                close(connections[i].fd);
                connections[i].fd = -1;
            }
        }
        if (fds[ROOM].revents != 0) {
            accept_one(connections);
        }
    }
}

static int start_server(pthread_t *thread)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t len = sizeof(address);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    listener = socket(AF_INET, SOCK_STREAM, 0);
    if (listener < 0 || pipe(stop_pipe) != 0
        || bind(listener, (struct sockaddr *)&address, len) != 0
        || listen(listener, ROOM) != 0
        || getsockname(listener, (struct sockaddr *)&address, &len) != 0) {
        return 0;
    }
    (void)snprintf(url_text, sizeof(url_text), "http://127.0.0.1:%d/",
                   ntohs(address.sin_port));
    return pthread_create(thread, NULL, run_server, NULL) == 0;
}

/* --- the clients --- */

static us_http_client *client;
static const char *repertoire;
static _Atomic int wrong;
static _Atomic int cut;

static const char *const wanted[] = {"Retry-After", NULL};
static const us_log no_log;

/* Is this body the request's, as many times as it should be? */
static int is_echo(const us_http_answer *got, const char *body)
{
    size_t len = strlen(body);
    size_t times = (size_t)times_of(body[0]);
    size_t i;

    if (got->body_len != len * times) {
        return 0;
    }
    for (i = 0; i < times; i++) {
        if (memcmp(got->body + i * len, body, len) != 0) {
            return 0;
        }
    }
    return 1;
}

static int is_right(const us_http_answer *got, const char *body)
{
    switch (body[0]) {
    case CUT:
        cut++;
        return got->result == US_HTTP_BROKEN && got->problem != NULL;
    case BUSY:
        return got->result == US_HTTP_ANSWERED && got->status == 503
               && is_echo(got, body) && got->wanted[0] != NULL
               && strcmp(got->wanted[0], body + 1) == 0;
    default:
        return got->result == US_HTTP_ANSWERED && got->status == 200
               && is_echo(got, body);
    }
}

static void ask(int child, int thread)
{
    int kinds = (int)strlen(repertoire);
    apr_pool_t *pool;
    int i;

    (void)child;
    apr_pool_create(&pool, NULL);
    for (i = 0; i < REQUESTS; i++) {
        us_http_request request = {
            .url = url,
            .timeout = apr_time_from_sec(60),
            .fresh_connection = kinds > 1 && i % 5 == 0,
            .wanted = wanted,
        };
        us_http_answer got;

        request.headers[0] = apr_psprintf(pool, "X-Number: %d.%d", thread, i);
        request.body = apr_psprintf(
            pool, "%c%d%03d", repertoire[(i + thread) % kinds], thread, i);
        request.body_len = strlen(request.body);
        us_http_post(client, pool, &no_log, &request, &got);
        us_http_done(client, &got, 1);
        wrong += !is_right(&got, request.body);
        apr_pool_clear(pool);
    }
    apr_pool_destroy(pool);
}

static void check(const char *kinds, const char *name)
{
    wrong = 0;
    served = 0;
    accepted = 0;
    repertoire = kinds;
    crew_threads(0, THREADS, ask);
    is_int(wrong, 0, "%s: everybody gets the own answer", name);
    is_int(served, (long long)THREADS * REQUESTS, "%s: each is sent once",
           name);
}

int main(void)
{
    static const char *const headers[] = {"apikey: secret", NULL};
    us_http_options options = {.headers = headers,
                               .advice = {"URL", "CA", "CONNECT"},
                               .user_agent = "test",
                               .connect_timeout = apr_time_from_sec(60)};
    apr_pool_t *root;
    apr_pool_t *pchild;
    pthread_t server;

    apr_initialize();
    apr_pool_create(&root, NULL);
    apr_pool_create(&pchild, root);
    crew_start("test_http");
    if (!start_server(&server) || !us_http_start(pchild)) {
        ok(0, "a server on 127.0.0.1, and libcurl");
        return done();
    }
    client = us_http_client_create(pchild, &options);
    url = us_http_url_create(pchild, url_text);
    ok(us_http_url_create(pchild, "http://") == NULL, "no URL");
    check("e", "kept connections");
    ok(accepted <= THREADS, "kept connections: %d for %d threads", accepted,
       THREADS);
    check("eblec", "all that can be answered");
    check("exbcle", "some are cut");
    ok(cut > 0, "some are cut: %d", cut);
    check("e", "afterwards");
    ok(accepted <= THREADS, "afterwards: %d connections for %d threads",
       accepted, THREADS);
    apr_pool_destroy(pchild);
    if (write(stop_pipe[1], "", 1) == 1) {
        pthread_join(server, NULL);
    }
    return done();
}
