/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * http/http.c: the limits of a kept connection.  What a server has sent on it
 * before a request is not the answer to that request; how large an answer may
 * be; how long a connection lives; what a program inherits.
 */
#include "crew.h"
#include "tap.h"
#include "upstream.h"
#include "us_clock.h"
#include "us_http.h"
#include "us_secret.h"

#include <apr_general.h>
#include <apr_strings.h>

#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define LARGE_BODY ((apr_size_t)1024 * 1024)

static apr_pool_t *root;
static const us_log no_log;
static char ca_file[] = "/tmp/test_http_connection.XXXXXX";

/* --- a client of one upstream --- */

typedef struct caller {
    apr_pool_t *pool;
    us_http_client *client;
    us_http_url *url;
    upstream *server;
} caller;

static caller caller_create(upstream *server, const char *host,
                            apr_interval_time_t max_age)
{
    static const char *const headers[] = {"apikey: secret", "Expect:", NULL};
    us_http_options options = {.headers = headers,
                               .advice = {"URL", "CA", "CONNECT"},
                               .user_agent = "test",
                               .ca_file = server->tls ? ca_file : NULL,
                               .connect_timeout = apr_time_from_sec(30),
                               .max_age = max_age};
    caller self = {.server = server};

    apr_pool_create(&self.pool, root);
    self.url = us_http_url_create(self.pool,
                                  apr_psprintf(self.pool, "%s://%s:%d/",
                                               server->tls ? "https" : "http",
                                               host, server->port));
    self.client = us_http_client_create(self.pool, &options);
    server->accepted = 0;
    server->closed = 0;
    server->served = 0;
    server->delivered = 0;
    server->at_other = 0;
    return self;
}

/* A connection is counted once its server thread has seen the end, too. */
static void caller_end(caller *self)
{
    upstream *server = self->server;

    apr_pool_destroy(self->pool);
    while (server->closed < server->accepted) {
        crew_pause();
    }
}

static us_http_answer post(caller *self, const char *act, const char *body,
                           int trusted)
{
    static const char *const wanted[] = {NULL};
    us_http_request request = {
        .url = self->url,
        .body = body,
        .body_len = strlen(body),
        .headers = {apr_psprintf(self->pool, "X-Act: %s", act)},
        .timeout = apr_time_from_sec(30),
        .wanted = wanted,
    };
    us_http_answer got;

    us_http_post(self->client, self->pool, &no_log, &request, &got);
    us_http_done(self->client, &got, trusted);
    return got;
}

/* The body of a 200, else the problem. */
static const char *said(const us_http_answer *got)
{
    if (got->result != US_HTTP_ANSWERED) {
        return got->problem;
    }
    return got->status == 200 ? got->body : "another status";
}

static void wait_for(_Atomic int *counter, int value)
{
    while (*counter < value) {
        crew_pause();
    }
}

static const char *protocol(const upstream *server)
{
    return server->tls ? "https" : "http";
}

/* --- answers without a request --- */

/* One user's request, after which act happens; then other users' requests. */
static void check_surplus(upstream *server, const char *act, int delivered,
                          int connections)
{
    caller self = caller_create(server, "127.0.0.1", 0);
    us_http_answer got = post(&self, act, "ada", 1);
    const char *name
        = apr_pstrcat(self.pool, protocol(server), ", ", act, NULL);

    if (strcmp(act, "no-content") != 0) {
        is_str(said(&got), "ada", "%s: the first gets the own answer", name);
    }
    wait_for(&server->delivered, delivered);
    got = post(&self, "", "bob", 1);
    is_str(said(&got), "bob", "%s: and so does the second", name);
    got = post(&self, "", "carol", 1);
    is_str(said(&got), "carol", "%s: and the third", name);
    if (connections > 0) {
        is_int(server->accepted, connections, "%s: connections", name);
    }
    is_int(server->served, 3, "%s: each is sent once", name);
    caller_end(&self);
}

static void check_all_surplus(upstream *server)
{
    check_surplus(server, "none", 0, 1);
    check_surplus(server, "200", 1, 2);
    check_surplus(server, "408", 1, 2);
    check_surplus(server, "400", 1, 2);
    check_surplus(server, "429", 1, 2);
    check_surplus(server, "joined", 1, 2);
    /* libcurl may drop the surplus that it has read, or the connection */
    check_surplus(server, "at-once", 1, 0);
    check_surplus(server, "chunked", 1, 0);
    check_surplus(server, "no-content", 1, 0);
    check_surplus(server, "both", 0, 0);
    check_surplus(server, "old", 0, 1);
    if (server->tls) {
        /* TLS 1.3 sends tickets after the handshake; this one comes later */
        check_surplus(server, "ticket", 1, 0);
    }
}

/* --- answers that cross the request --- */

static void check_crossing(upstream *server)
{
    caller self = caller_create(server, "127.0.0.1", 0);
    char *large = apr_palloc(self.pool, LARGE_BODY + 1);
    us_http_answer got;

    memset(large, 'b', LARGE_BODY);
    large[LARGE_BODY] = '\0';
    got = post(&self, "", "ada", 1);
    is_str(said(&got), "ada", "%s: a connection is kept", protocol(server));
    got = post(&self, "timeout", "bob", 1);
    is_str(said(&got), "bob", "%s: 408 is the end of the connection",
           protocol(server));
    is_int(server->accepted, 2, "%s: and the next is used", protocol(server));
    got = post(&self, "early", large, 1);
    ok(got.result == US_HTTP_ANSWERED && got.body_len == LARGE_BODY
           && strcmp(got.body, large) == 0,
       "%s: an answer that comes before its request is none",
       protocol(server));
    is_int(server->accepted, 3, "%s: the request goes elsewhere",
           protocol(server));
    caller_end(&self);
}

/* --- an answer that the caller refuses --- */

static void check_distrust(upstream *server)
{
    caller self = caller_create(server, "127.0.0.1", 0);
    us_http_answer got = post(&self, "", "ada", 0);

    is_str(said(&got), "ada", "%s: an answer that is refused",
           protocol(server));
    wait_for(&server->closed, 1);
    is_int(server->closed, 1, "%s: the connection is closed at once",
           protocol(server));
    got = post(&self, "", "bob", 1);
    is_str(said(&got), "bob", "%s: the next one", protocol(server));
    is_int(server->accepted, 2, "%s: has a new one", protocol(server));
    caller_end(&self);
}

/* --- answers that are too large --- */

static void check_size(upstream *server, const char *act,
                       us_http_result result, long status, const char *problem)
{
    caller self = caller_create(server, "127.0.0.1", 0);
    us_http_answer got = post(&self, act, "ada", 1);

    is_int(got.result, result, "%s, %s: result", protocol(server), act);
    is_int(got.status, status, "%s, %s: status", protocol(server), act);
    ok(got.problem != NULL && strstr(got.problem, problem) != NULL
           && strstr(got.problem, "UserSyncSupabaseURL") == NULL,
       "%s, %s: %s", protocol(server), act, shown(got.problem));
    got = post(&self, "", "bob", 1);
    is_str(said(&got), "bob", "%s, %s: the next one", protocol(server), act);
    caller_end(&self);
}

static void check_sizes(upstream *server)
{
    check_size(server, "length", US_HTTP_TOO_BIG, 200, "metadata");
    check_size(server, "lie", US_HTTP_TOO_BIG, 200, "metadata");
    check_size(server, "chunks", US_HTTP_TOO_BIG, 200, "metadata");
    check_size(server, "page", US_HTTP_TOO_BIG, 502, "status 502");
    check_size(server, "headers", US_HTTP_BROKEN, 0, "64 KiB");
    check_size(server, "interim", US_HTTP_BROKEN, 0, "64 KiB");
    check_size(server, "trailers", US_HTTP_BROKEN, 0, "64 KiB");
}

/* --- a host whose address changes --- */

static const char *_Atomic address_of_moving = "127.0.0.1";
static _Atomic int lookups_held;
static _Atomic int lookups_waiting;

typedef int lookup(const char *node, const char *service,
                   const struct addrinfo *hints, struct addrinfo **result);

/* Replaces the C library's function: libcurl calls this one. */
__attribute__((visibility("default"))) int getaddrinfo(
    const char *name, const char *service, const struct addrinfo *req,
    struct addrinfo **pai)
{
    union {
        void *found;
        lookup *call;
    } real;

    if (name != NULL && strcmp(name, "moving.test") == 0) {
        lookups_waiting++;
        while (lookups_held) {
            crew_pause();
        }
        name = address_of_moving;
    }
    real.found = dlsym(RTLD_NEXT, "getaddrinfo");
    return real.call(name, service, req, pai);
}

static void check_move(upstream *server)
{
    caller self = caller_create(server, "moving.test", apr_time_from_sec(2));
    int wrong = 0;
    us_http_answer got;

    got = post(&self, "", "ada", 1);
    is_str(said(&got), "ada", "a name");
    is_int(server->at_other, 0, "is where it was");
    address_of_moving = "127.0.0.2";
    while (server->at_other == 0) { /* no pause is long enough to close it */
        apr_pool_t *pool = self.pool;

        apr_pool_create(&self.pool, pool);
        got = post(&self, "", "ada", 1);
        wrong += strcmp(said(&got), "ada") != 0;
        apr_pool_destroy(self.pool);
        self.pool = pool;
        crew_pause();
    }
    is_int(wrong, 0, "it moves under steady traffic, nothing fails");
    ok(server->accepted <= 4, "with few connections: %d", server->accepted);
    address_of_moving = "127.0.0.1";
    caller_end(&self);
}

/* --- what a program inherits --- */

static int inherited_before;

/* Descriptors without close-on-exec, except files and the standard ones. */
static int inheritable(void)
{
    DIR *descriptors = opendir("/proc/self/fd");
    const struct dirent *entry;
    int count = 0;

    while ((entry = readdir(descriptors)) != NULL) {
        int fd = (int)strtol(entry->d_name, NULL, 10);
        int flags = fd > STDERR_FILENO ? fcntl(fd, F_GETFD) : -1;
        struct stat kind;

        count += flags >= 0 && (flags & FD_CLOEXEC) == 0
                 && fstat(fd, &kind) == 0 && !S_ISREG(kind.st_mode);
    }
    closedir(descriptors);
    return count - inherited_before;
}

static caller asking;

static void ask(int child, int thread)
{
    apr_time_t deadline = us_clock_now() + apr_time_from_sec(10);
    us_http_answer got;

    (void)child;
    if (thread == 1) {
        got = post(&asking, "", "ada", 1);
        is_str(said(&got), "ada", "a look-up that takes long");
        return;
    }
    wait_for(&lookups_waiting, 1);
    /* libcurl's pair for the look-up is marked right after it is created */
    while (inheritable() > 0 && us_clock_now() < deadline) {
        crew_pause();
    }
    is_int(inheritable(), 0, "during a look-up a program inherits nothing");
    lookups_held = 0;
}

static void check_inheritance(upstream *server)
{
    us_http_answer got;

    lookups_waiting = 0;
    lookups_held = 1;
    asking = caller_create(server, "moving.test", 0);
    crew_threads(0, 2, ask);
    got = post(&asking, "", "bob", 1);
    is_str(said(&got), "bob", "a connection is kept");
    is_int(server->accepted, 1, "just this one");
    is_int(inheritable(), 0, "which a program does not inherit");
    caller_end(&asking);
}

int main(void)
{
    static upstream plain;
    static upstream tls = {.tls = 1};
    apr_pool_t *pchild;
    int fd;

    apr_initialize();
    apr_pool_create(&root, NULL);
    apr_pool_create(&pchild, root);
    crew_start("test_http_connection");
    fd = mkstemp(ca_file);
    if (fd < 0 || close(fd) != 0 || !upstream_start(&plain, NULL)
        || !upstream_start(&tls, ca_file) || !us_http_start(pchild)) {
        ok(0, "servers on 127.0.0.1, and libcurl");
        return done();
    }
    inherited_before = inheritable();
    check_inheritance(&plain);
    check_all_surplus(&plain);
    check_all_surplus(&tls);
    check_crossing(&plain);
    check_crossing(&tls);
    check_distrust(&plain);
    check_distrust(&tls);
    check_sizes(&plain);
    check_sizes(&tls);
    check_move(&plain);
    check_move(&tls);
    unlink(ca_file);
    apr_pool_destroy(root);
    return done();
}
