/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * http/http.c: nothing of requests and their answers is left in this process's
 * memory after they and their client have ended.  (libcurl 8 keeps a buffer
 * with the last request as long as a handle lives.)  The server is another
 * process.
 */
#include "crew.h"
#include "tap.h"
#include "upstream.h"
#include "http/heap.h"
#include "us_http.h"
#include "us_wipe.h"

#include <apr_general.h>
#include <apr_strings.h>

#include <fcntl.h>
#include <malloc.h>
#include <stdlib.h>
#include <unistd.h>

#define REQUESTS 3
#define SECRET_LEN 24
#define BODY_LEN 3000 /* a session is 2 KB: buffers grow */

static upstream *server;

static void start_server(int child)
{
    (void)child;
    if (!upstream_start(server, NULL)) {
        exit(1);
    }
    server->delivered = 1; /* it listens now */
}

static void serve_on(int child, int thread)
{
    (void)child;
    (void)thread;
    for (;;) {
        pause();
    }
}

/* Letters made from a number, so that they occur only where they are put. */
static void write_secret(char *at, unsigned int seed)
{
    int i;

    for (i = 0; i < SECRET_LEN; i++) {
        seed = seed * 1103515245U + 12345U;
        at[i] = (char)('a' + (seed >> 16) % 26);
    }
}

/* How many times this secret occurs in a piece of memory. */
static int count_in(const char *data, size_t len, unsigned int seed)
{
    int count = 0;
    size_t i;

    for (i = 0; i + SECRET_LEN <= len; i++) {
        unsigned int next = seed;
        int k;

        for (k = 0; k < SECRET_LEN; k++) {
            next = next * 1103515245U + 12345U;
            if (data[i + (size_t)k] != (char)('a' + (next >> 16) % 26)) {
                break;
            }
        }
        count += k == SECRET_LEN;
    }
    return count;
}

/* How many times it occurs in the writable memory of this process. */
static int count_in_memory(unsigned int seed)
{
    static char piece[64 * 1024];
    FILE *maps = fopen("/proc/self/maps", "re");
    int memory = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
    char line[512];
    int count = 0;

    while (fgets(line, sizeof(line), maps) != NULL) {
        char *rest;
        unsigned long from = strtoul(line, &rest, 16);
        unsigned long to = strtoul(rest + 1, &rest, 16);

        while (rest[2] == 'w' && from < to) { /* " rw-p" */
            size_t part
                = to - from < sizeof(piece) ? to - from : sizeof(piece);
            ssize_t got = pread(memory, piece, part, (off_t)from);

            if (got <= 0) {
                break;
            }
            count += count_in(piece, (size_t)got, seed);
            us_wipe(piece, sizeof(piece));
            from += (unsigned long)got;
        }
    }
    (void)fclose(maps);
    close(memory);
    return count;
}

/* One request and its answer, which contains the secret several times. */
static void exchange(us_http_client *client, us_http_url *url,
                     unsigned int seed)
{
    static const char *const wanted[] = {NULL};
    static const us_log no_log;
    us_http_request request
        = {.url = url, .timeout = apr_time_from_sec(30), .wanted = wanted};
    us_http_answer got;
    apr_pool_t *pool;
    char *header;
    char *body;
    int i;

    apr_pool_create(&pool, NULL);
    body = apr_palloc(pool, BODY_LEN);
    memset(body, 'x', BODY_LEN);
    us_wipe_with(pool, body, BODY_LEN);
    for (i = 0; i < BODY_LEN - SECRET_LEN; i += 500) {
        write_secret(body + i, seed);
    }
    header = apr_psprintf(pool, "X-Secret: %*s", SECRET_LEN, "");
    us_wipe_with(pool, header, strlen(header));
    write_secret(strchr(header, ':') + 2, seed);
    request.headers[0] = header;
    request.body = body;
    request.body_len = BODY_LEN;
    us_http_post(client, pool, &no_log, &request, &got);
    us_http_done(client, &got, 1);
    ok(got.result == US_HTTP_ANSWERED && got.body_len == BODY_LEN
           && memcmp(got.body, body, BODY_LEN) == 0,
       "the answer is the request's body");
    ok(count_in_memory(seed) >= 12, "which are in this process's memory");
    apr_pool_destroy(pool);
}

static void check_heap(void)
{
    char *block = malloc(100);
    char *larger;

    memset(block, 'x', 100);
    larger = us_heap_realloc(block, 50);
    ok(larger == block, "a block that is large enough stays");
    larger = us_heap_realloc(block, 100000);
    ok(larger[0] == 'x' && larger[99] == 'x', "a block grows");
    us_heap_free(larger);
    us_heap_free(NULL);
    larger = us_heap_realloc(NULL, 10);
    ok(larger != NULL && malloc_usable_size(larger) >= 10, "from nothing");
    us_heap_free(larger);
}

int main(void)
{
    static const char *const headers[] = {"Expect:", NULL};
    us_http_options options = {.headers = headers,
                               .advice = {"URL", "CA", "CONNECT"},
                               .user_agent = "test",
                               .connect_timeout = apr_time_from_sec(30)};
    unsigned int seed = (unsigned int)getpid();
    us_http_client *client;
    us_http_url *url;
    apr_pool_t *pchild;
    apr_pool_t *pool;
    pid_t child;
    unsigned int i;

#ifdef __SANITIZE_ADDRESS__
    (void)printf("1..0 # skip AddressSanitizer keeps freed memory, and maps "
                 "more of it than can be searched\n");
    return 0;
#endif
    apr_initialize();
    apr_pool_create(&pchild, NULL);
    crew_start("test_http_secrets");
    server = crew_share(sizeof(*server));
    child = crew_fork(0, 1, start_server, serve_on);
    while (server->delivered == 0) {
        crew_pause();
    }
    if (!us_http_start(pchild)) {
        ok(0, "libcurl");
        return done();
    }
    check_heap();
    apr_pool_create(&pool, pchild);
    url = us_http_url_create(
        pool, apr_psprintf(pool, "http://127.0.0.1:%d/", server->port));
    client = us_http_client_create(pool, &options);
    for (i = 0; i < REQUESTS; i++) {
        exchange(client, url, seed + i);
    }
    apr_pool_destroy(pool);
    for (i = 0; i < REQUESTS; i++) {
        is_int(count_in_memory(seed + i), 0, "and are not afterwards");
    }
    crew_kill(child);
    apr_pool_destroy(pchild);
    return done();
}
