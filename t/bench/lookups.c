/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * lookups.c: would prepared statements pay off?  Sends the look-up of a known
 * user like src/users/store.c, over one connection, without blocking, one
 * after the other, either with its text each time or prepared once.
 *
 *   lookups DSN params|prepared SECONDS ROWS SEED
 *
 * Prints, as JSON, look-ups per second and microseconds of CPU time for each,
 * of this program and of its backend.
 */

#include <libpq-fe.h>
#include <openssl/evp.h>

#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LOOK_UP \
    "SELECT email IS NOT DISTINCT FROM $2 FROM public.users WHERE id = $1"

static double now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* Seconds of CPU time that this process has used. */
static double own_cpu(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* The same for another process, which runs on this machine as the same
 * user. */
static double cpu_of(int pid)
{
    char path[64];
    char text[1024] = "";
    FILE *file;
    const char *p;
    unsigned long user = 0;
    int field;

    (void)snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    file = fopen(path, "r");
    if (file == NULL || fgets(text, sizeof(text), file) == NULL) {
        perror(path);
        exit(1);
    }
    (void)fclose(file);
    p = strrchr(text, ')');
    for (field = 2; p != NULL && field < 14; field++) {
        p = strchr(p + 1, ' ');
    }
    if (p != NULL) {
        char *end;

        user = strtoul(p, &end, 10);
        user += strtoul(end, NULL, 10); /* system */
    }
    return (double)user / (double)sysconf(_SC_CLK_TCK);
}

static void fail(PGconn *conn)
{
    (void)fprintf(stderr, "%s", PQerrorMessage(conn));
    exit(1);
}

/* Like the module: looks for the answer, and polls while there is none. */
static PGresult *wait_for_answer(PGconn *conn)
{
    PGresult *result;
    PGresult *more;

    while (PQflush(conn) > 0 || PQisBusy(conn)) {
        struct pollfd fd = {.fd = PQsocket(conn), .events = POLLIN};

        if (poll(&fd, 1, 5000) <= 0 || !PQconsumeInput(conn)) {
            fail(conn);
        }
    }
    result = PQgetResult(conn);
    while ((more = PQgetResult(conn)) != NULL) {
        PQclear(more);
    }
    return result;
}

static void look_up(PGconn *conn, int prepared, unsigned long n)
{
    static const char digits[] = "0123456789abcdef";
    char email[64];
    char id[33];
    size_t at = 0;
    const char *params[2] = {id, email};
    unsigned char md5[EVP_MAX_MD_SIZE];
    PGresult *result;
    int i;
    int sent;

    i = snprintf(email, sizeof(email), "bench-%09lu@example.com", n);
    EVP_Digest(email, (size_t)i, md5, NULL, EVP_md5(), NULL);
    for (i = 0; i < 16; i++) {
        id[at++] = digits[md5[i] >> 4];
        id[at++] = digits[md5[i] & 15];
    }
    id[at] = '\0';
    sent = prepared
               ? PQsendQueryPrepared(conn, "look_up", 2, params, NULL, NULL, 0)
               : PQsendQueryParams(conn, LOOK_UP, 2, NULL, params, NULL, NULL,
                                   0);
    if (!sent) {
        fail(conn);
    }
    result = wait_for_answer(conn);
    if (PQresultStatus(result) != PGRES_TUPLES_OK || PQntuples(result) != 1
        || *PQgetvalue(result, 0, 0) != 't') {
        fail(conn);
    }
    PQclear(result);
}

int main(int argc, char *argv[])
{
    PGconn *conn;
    double start;
    double used;
    double server;
    double seconds;
    unsigned long count = 0;
    unsigned long rows;
    uint64_t random;
    int prepared;

    if (argc != 6) {
        (void)fprintf(stderr, "usage: lookups DSN params|prepared SECONDS "
                              "ROWS SEED\n");
        return 2;
    }
    prepared = strcmp(argv[2], "prepared") == 0;
    seconds = strtod(argv[3], NULL);
    rows = strtoul(argv[4], NULL, 10);
    random = strtoul(argv[5], NULL, 10) * 2 + 1;
    conn = PQconnectdb(argv[1]);
    if (PQstatus(conn) != CONNECTION_OK || PQsetnonblocking(conn, 1) != 0) {
        fail(conn);
    }
    if (prepared) {
        if (!PQsendPrepare(conn, "look_up", LOOK_UP, 2, NULL)) {
            fail(conn);
        }
        PQclear(wait_for_answer(conn));
    }
    start = now();
    used = own_cpu();
    server = cpu_of(PQbackendPID(conn));
    while ((count & 63) != 0 || now() - start < seconds) {
        random = random * 6364136223846793005ULL + 1442695040888963407ULL;
        look_up(conn, prepared, (unsigned long)(random >> 33) % rows);
        count++;
    }
    seconds = now() - start;
    used = own_cpu() - used;
    server = cpu_of(PQbackendPID(conn)) - server;
    PQfinish(conn);
    printf("{\"rate\":%.1f,\"client_cpu\":%.3f,\"server_cpu\":%.3f}\n",
           (double)count / seconds, 1e6 * used / (double)count,
           1e6 * server / (double)count);
    return 0;
}
