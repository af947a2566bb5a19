/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * One statement within a deadline, on a connection that us_pg_pool.c lent.
 *
 * Native libpq instead of apr_dbd: apr_dbd cannot bound time, does not tell
 * the SQLSTATE, and loses prepared statements when it repairs a connection.
 * Statements go unprepared, so that nothing is lost after a reconnect and
 * transaction poolers may stand in between.
 */
#include "us_clock.h"
#include "us_pg_conn.h"

#include <apr_strings.h>

#include <libpq-fe.h>

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

/* Between two attempts to reach a server that refuses, and before a repeat
 * after a serialization failure. */
#define RECONNECT_PAUSE apr_time_from_msec(50)
#define REPEAT_PAUSE apr_time_from_msec(5)

/* How often a statement may cost its connection before it is the suspect: one
 * that crashes its backend must not crash it again and again. */
#define LOSSES_MAX 3

/* How one attempt at a statement ended. */
typedef enum attempt {
    ATTEMPT_DONE,
    ATTEMPT_ERROR,  /* refused: the result tells why */
    ATTEMPT_REPEAT, /* refused, but worth repeating as it is */
    ATTEMPT_LOST,   /* the connection is gone */
    ATTEMPT_LATE    /* the deadline passed */
} attempt;

/* --- adopting and handing back --- */

/* apr_dbd_pgsql has set a notice receiver that keeps quiet: row values in
 * NOTICEs do not reach the error log. */
void us_pg_conn_adopt(us_pg_conn *conn)
{
    PQsetnonblocking(conn->native, 1);
}

/*
 * mod_dbd looks at PQstatus when it lends a connection again, and makes it
 * anew when that is bad.  Closing the socket under libpq gets there without
 * waiting for a server that may be frozen.
 */
static void spoil(PGconn *pg)
{
    int i;

    if (PQsocket(pg) >= 0) {
        shutdown(PQsocket(pg), SHUT_RDWR);
    }
    /* once for what had arrived, once for the end of file; TLS may need
     * one more */
    for (i = 0; i < 4 && PQstatus(pg) == CONNECTION_OK; i++) {
        PQconsumeInput(pg);
    }
}

void us_pg_conn_release(us_pg_conn *conn)
{
    PGconn *pg = conn->native;

    if (PQtransactionStatus(pg) != PQTRANS_IDLE) {
        conn->spoiled = 1; /* busy, or not in a known state */
    }
    if (conn->spoiled) {
        spoil(pg);
    }
    else {
        PQsetnonblocking(pg, 0);
    }
}

/* --- waiting --- */

/* Wait for events on the socket; 0 when the deadline passed, or poll failed. */
static int wait_for(PGconn *pg, short events, apr_time_t deadline)
{
    struct pollfd pollfd;
    int ready;

    do {
        pollfd.fd = PQsocket(pg);
        pollfd.events = events;
        pollfd.revents = 0;
        ready = poll(&pollfd, 1, us_clock_poll_ms(deadline));
    } while (ready < 0 && errno == EINTR);
    return ready > 0;
}

static int pause_until(apr_interval_time_t length, apr_time_t deadline)
{
    if (us_clock_now() + length >= deadline) {
        return 0;
    }
    apr_sleep(length);
    return 1;
}

/* --- making a lost connection anew, in place --- */

/* One attempt; 1 when the connection stands. */
static int reconnect_once(PGconn *pg, apr_time_t deadline)
{
    /* libpq's manual: begin as if PQresetPoll had asked for writing; called
     * too early it never gets to the next address of several */
    if (!PQresetStart(pg) || !wait_for(pg, POLLOUT, deadline)) {
        return 0;
    }
    for (;;) {
        switch (PQresetPoll(pg)) {
        case PGRES_POLLING_OK:
            return PQsetnonblocking(pg, 1) == 0;
        case PGRES_POLLING_READING:
            if (!wait_for(pg, POLLIN, deadline)) {
                return 0;
            }
            break;
        case PGRES_POLLING_WRITING:
            if (!wait_for(pg, POLLOUT, deadline)) {
                return 0;
            }
            break;
        default:
            return 0;
        }
    }
}

/*
 * In place, never by closing and opening: after a restart every pooled
 * connection is stale, and another open may bring the next stale one.
 */
static int reconnect(us_pg_conn *conn, apr_time_t deadline)
{
    apr_time_t since = us_clock_now();

    while (!reconnect_once(conn->native, deadline)) {
        if (us_pg_pool_trouble(conn->owner, since)
            || !pause_until(RECONNECT_PAUSE, deadline)) {
            return 0;
        }
    }
    return 1;
}

/* --- one attempt --- */

/* Send what is unsent and read until a result, or the end of them, is here. */
static attempt await_result(PGconn *pg, apr_time_t deadline)
{
    int unsent = PQflush(pg);

    while (unsent > 0 || (unsent == 0 && PQisBusy(pg))) {
        if (!wait_for(pg, unsent > 0 ? POLLIN | POLLOUT : POLLIN, deadline)) {
            return ATTEMPT_LATE;
        }
        if (!PQconsumeInput(pg)) {
            return ATTEMPT_LOST;
        }
        unsent = PQflush(pg);
    }
    return unsent < 0 ? ATTEMPT_LOST : ATTEMPT_DONE;
}

/* The result of what was sent, or NULL with the reason in *end. */
static PGresult *receive(PGconn *pg, apr_time_t deadline, attempt *end)
{
    PGresult *result = NULL;
    PGresult *next;

    /* one statement gives one result; only the NULL behind it makes the
     * connection idle again */
    while ((*end = await_result(pg, deadline)) == ATTEMPT_DONE) {
        next = PQgetResult(pg);
        if (next == NULL) {
            if (result == NULL) {
                *end = ATTEMPT_LOST;
            }
            return result;
        }
        PQclear(result);
        result = next;
    }
    PQclear(result);
    return NULL;
}

/*
 * Is this error the connection's?  libpq reports a lost one without an
 * SQLSTATE even when the server said 57P01.
 */
static attempt judge_error(const PGconn *pg, const char *sqlstate)
{
    if (sqlstate == NULL || PQstatus(pg) != CONNECTION_OK
        || strncmp(sqlstate, "08", 2) == 0
        || strncmp(sqlstate, "57P", 3) == 0) {
        return ATTEMPT_LOST;
    }
    return strncmp(sqlstate, "40", 2) == 0 ? ATTEMPT_REPEAT : ATTEMPT_ERROR;
}

static void copy_error(apr_pool_t *pool, const PGresult *from,
                       us_pg_result *result)
{
    result->sqlstate
        = apr_pstrdup(pool, PQresultErrorField(from, PG_DIAG_SQLSTATE));
    result->constraint
        = apr_pstrdup(pool, PQresultErrorField(from, PG_DIAG_CONSTRAINT_NAME));
    result->column
        = apr_pstrdup(pool, PQresultErrorField(from, PG_DIAG_COLUMN_NAME));
    result->message
        = apr_pstrdup(pool, PQresultErrorField(from, PG_DIAG_MESSAGE_PRIMARY));
}

static void copy_rows(apr_pool_t *pool, const PGresult *from,
                      us_pg_result *result)
{
    int row;
    int column;

    result->rows = PQntuples(from);
    result->columns = PQnfields(from);
    result->cells = apr_pcalloc(
        pool,
        sizeof(char *) * (apr_size_t)(result->rows * result->columns + 1));
    for (row = 0; row < result->rows; row++) {
        for (column = 0; column < result->columns; column++) {
            if (!PQgetisnull(from, row, column)) {
                US_PG_CELL(result, row, column)
                    = apr_pstrdup(pool, PQgetvalue(from, row, column));
            }
        }
    }
}

static attempt try_once(PGconn *pg, apr_pool_t *pool, apr_time_t deadline,
                        const char *sql, int count, const char *const *params,
                        us_pg_result *result)
{
    PGresult *received;
    attempt end = ATTEMPT_LOST;

    memset(result, 0, sizeof(*result));
    if (PQstatus(pg) != CONNECTION_OK
        || !PQsendQueryParams(pg, sql, count, NULL, params, NULL, NULL, 0)) {
        return ATTEMPT_LOST;
    }
    received = receive(pg, deadline, &end);
    if (received == NULL) {
        return end;
    }
    switch (PQresultStatus(received)) {
    case PGRES_TUPLES_OK:
    case PGRES_COMMAND_OK:
        copy_rows(pool, received, result);
        end = ATTEMPT_DONE;
        break;
    default:
        copy_error(pool, received, result);
        end = judge_error(pg, result->sqlstate);
        break;
    }
    PQclear(received);
    return end;
}

/* --- statements --- */

/*
 * JSON is UTF-8, so the connection must be: a database's or a role's setting
 * can make it something else.  The same ends as try_once.
 */
static attempt speak_utf8(PGconn *pg, apr_pool_t *pool, apr_time_t deadline,
                          us_pg_result *result)
{
    const char *encoding = PQparameterStatus(pg, "client_encoding");

    if (encoding == NULL || strcmp(encoding, "UTF8") == 0) {
        return ATTEMPT_DONE;
    }
    return try_once(pg, pool, deadline, "SET client_encoding TO 'UTF8'", 0,
                    NULL, result);
}

/* The first line of libpq's text; it names hosts and users, no password. */
static const char *first_line(apr_pool_t *pool, const char *text)
{
    return apr_pstrmemdup(pool, text, strcspn(text, "\n"));
}

/* The connection is lost for the losses-th time: make it anew, or give up. */
static int recover(us_pg_conn *conn, apr_pool_t *pool, apr_time_t deadline,
                   int losses, us_pg_result *result)
{
    if (losses >= LOSSES_MAX) {
        result->message = "each new connection is lost with this statement";
    }
    else if ((losses == 1 || pause_until(RECONNECT_PAUSE, deadline))
             && reconnect(conn, deadline)) {
        return 1;
    }
    else {
        result->message = us_clock_now() < deadline
                              ? first_line(pool, PQerrorMessage(conn->native))
                              : "no new connection in time";
    }
    conn->spoiled = 1;
    return 0;
}

us_pg_status us_pg_exec(us_pg_conn *conn, apr_pool_t *pool,
                        apr_time_t deadline, const char *sql, int count,
                        const char *const *params, us_pg_result *result)
{
    int losses = 0;

    for (;;) {
        attempt end;

        if (us_clock_now() >= deadline) {
            return US_PG_TIMEOUT; /* connecting took it all: nothing sent */
        }
        end = speak_utf8(conn->native, pool, deadline, result);
        if (end == ATTEMPT_DONE) {
            end = try_once(conn->native, pool, deadline, sql, count, params,
                           result);
        }
        switch (end) {
        case ATTEMPT_DONE:
            us_pg_pool_fine(conn->owner);
            return US_PG_OK;
        case ATTEMPT_ERROR:
            us_pg_pool_fine(conn->owner);
            return US_PG_ERROR;
        case ATTEMPT_LATE:
            conn->spoiled = 1;
            return US_PG_TIMEOUT;
        case ATTEMPT_REPEAT:
            if (!pause_until(REPEAT_PAUSE, deadline)) {
                return US_PG_ERROR;
            }
            break;
        case ATTEMPT_LOST:
            if (!recover(conn, pool, deadline, ++losses, result)) {
                return US_PG_AWAY;
            }
            break;
        }
    }
}
