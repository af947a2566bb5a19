/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * One statement within a deadline, on a connection that us_pg_pool.c lent.
 *
 * Native libpq instead of apr_dbd: apr_dbd cannot bound time, does not tell
 * the SQLSTATE, and loses prepared statements when it repairs a connection.
 *
 * Preparing saves PostgreSQL two fifths of what a login costs it.  What a
 * connection has prepared is kept with its PGconn, which libpq tells us of
 * when it is reset.  Statements are named after their text: behind a pooler
 * that hands out server connections by the transaction, one of that name is
 * at least the right one, and one that is missing is not asked for again.
 */
#include "us_clock.h"
#include "us_pg_conn.h"

#include <apr_strings.h>

#include <libpq-events.h>
#include <libpq-fe.h>

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* Between two attempts to reach a server that refuses, and before a repeat
 * after a serialization failure. */
#define RECONNECT_PAUSE apr_time_from_msec(50)
#define REPEAT_PAUSE apr_time_from_msec(5)

/* How often a statement may cost its connection before it is the suspect: one
 * that crashes its backend must not crash it again and again. */
#define LOSSES_MAX 3

/* Statements that one connection prepares; the others go unprepared. */
#define PREPARED_MAX 16

/* How often a connection may give up what it has prepared: PostgreSQL keeps
 * all of it for as long as the connection lives. */
#define EPOCHS_MAX 16

#define NAME_FORMAT "usersync_%016" APR_UINT64_T_HEX_FMT "_%u"
#define NAME_SIZE 40

/* How one attempt at a statement ended. */
typedef enum attempt {
    ATTEMPT_DONE,
    ATTEMPT_ERROR,  /* refused: the result tells why */
    ATTEMPT_REPEAT, /* refused, but worth repeating as it is */
    ATTEMPT_STALE,  /* refused, maybe for being prepared long ago */
    ATTEMPT_LOST,   /* the connection is gone */
    ATTEMPT_LATE    /* the deadline passed */
} attempt;

/* --- libpq's environment --- */

void us_pg_child_environment(void)
{
    /* two seconds are the least that libpq takes */
    setenv("PGCONNECT_TIMEOUT", "2", 0);
}

/* --- what a connection has prepared --- */

/* Lives as long as its PGconn, as libpq's instance data. */
typedef struct prepared_set {
    apr_uint64_t ids[PREPARED_MAX];
    int count;
    unsigned epoch; /* part of the names: those before it are given up */
} prepared_set;

static int on_event(PGEventId event, void *info, void *nothing)
{
    PGconn *pg;
    prepared_set *set;

    (void)nothing;
    switch (event) {
    case PGEVT_REGISTER:
        pg = ((PGEventRegister *)info)->conn;
        set = calloc(1, sizeof(*set));
        return set != NULL && PQsetInstanceData(pg, on_event, set);
    case PGEVT_CONNRESET:
        set = PQinstanceData(((PGEventConnReset *)info)->conn, on_event);
        if (set != NULL) {
            memset(set, 0, sizeof(*set));
        }
        break;
    case PGEVT_CONNDESTROY:
        free(PQinstanceData(((PGEventConnDestroy *)info)->conn, on_event));
        break;
    default:
        break;
    }
    return 1;
}

static int has_prepared(const prepared_set *set, apr_uint64_t id)
{
    int i;

    for (i = 0; i < set->count && set->ids[i] != id; i++) {
    }
    return i < set->count;
}

/* Where to note what is prepared; NULL: send it unprepared. */
static prepared_set *set_for(const us_pg_conn *conn,
                             const us_pg_statement *statement)
{
    prepared_set *set = statement->id != 0 && us_pg_pool_prepares(conn->owner)
                            ? PQinstanceData(conn->native, on_event)
                            : NULL;

    return set != NULL && set->epoch < EPOCHS_MAX
                   && (set->count < PREPARED_MAX
                       || has_prepared(set, statement->id))
               ? set
               : NULL;
}

/* What was refused when it was prepared went well unprepared: prepare again,
 * or nothing any more where statements get lost. */
static void give_up_prepared(const us_pg_conn *conn, int lost)
{
    prepared_set *set = PQinstanceData(conn->native, on_event);

    if (set != NULL) {
        set->count = 0;
        set->epoch++;
    }
    if (lost) {
        us_pg_pool_forgets_prepared(conn->owner);
    }
}

us_pg_statement us_pg_prepared(const char *sql, int count)
{
    us_pg_statement statement = {sql, count, 14695981039346656037ULL};
    const char *p;

    for (p = sql; *p != '\0'; p++) { /* FNV-1a */
        statement.id = (statement.id ^ (unsigned char)*p) * 1099511628211ULL;
    }
    return statement;
}

/* --- adopting and handing back --- */

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

/* apr_dbd_pgsql has set a notice receiver that keeps quiet: row values in
 * NOTICEs do not reach the error log. */
void us_pg_conn_adopt(us_pg_conn *conn)
{
    PQsetnonblocking(conn->native, 1);
    if (PQinstanceData(conn->native, on_event) == NULL) {
        PQregisterEventProc(conn->native, on_event, "mod_usersync", NULL);
    }
    if (conn->aged) {
        spoil(conn->native); /* the next statement makes it anew, in place */
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

/* Take the result of what was sent. */
static attempt take_result(PGconn *pg, apr_pool_t *pool, apr_time_t deadline,
                           us_pg_result *result)
{
    attempt end = ATTEMPT_LOST;
    PGresult *received = receive(pg, deadline, &end);

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

static attempt try_unprepared(PGconn *pg, apr_pool_t *pool,
                              apr_time_t deadline,
                              const us_pg_statement *statement,
                              const char *const *params, us_pg_result *result)
{
    memset(result, 0, sizeof(*result));
    if (PQstatus(pg) != CONNECTION_OK
        || !PQsendQueryParams(pg, statement->sql, statement->count, NULL,
                              params, NULL, NULL, 0)) {
        return ATTEMPT_LOST;
    }
    return take_result(pg, pool, deadline, result);
}

int us_pg_is_class(const us_pg_result *error, const char *class_code)
{
    return error->sqlstate != NULL
           && strncmp(error->sqlstate, class_code, strlen(class_code)) == 0;
}

/* Prepare the statement on this connection. */
static attempt prepare(PGconn *pg, apr_pool_t *pool, apr_time_t deadline,
                       const us_pg_statement *statement, const char *name,
                       prepared_set *set, us_pg_result *result)
{
    attempt end;

    memset(result, 0, sizeof(*result));
    if (PQstatus(pg) != CONNECTION_OK
        || !PQsendPrepare(pg, name, statement->sql, statement->count, NULL)) {
        return ATTEMPT_LOST;
    }
    end = take_result(pg, pool, deadline, result);
    if (end == ATTEMPT_ERROR && us_pg_is_class(result, "42P05")) {
        end = ATTEMPT_DONE; /* a pooler's: another client was here before */
    }
    if (end == ATTEMPT_DONE) {
        set->ids[set->count++] = statement->id;
    }
    return end;
}

/*
 * May the error come from the statement's having been prepared?  A table that
 * changed has other types (42, 22) or gives another result (0A); a pooler or
 * a DEALLOCATE takes statements away (26).  Privileges are looked at anew.
 */
static int may_be_stale(const us_pg_result *error)
{
    return (us_pg_is_class(error, "42") && !us_pg_is_class(error, "42501"))
           || us_pg_is_class(error, "22") || us_pg_is_class(error, "0A")
           || us_pg_is_class(error, "26");
}

static attempt try_prepared(us_pg_conn *conn, apr_pool_t *pool,
                            apr_time_t deadline,
                            const us_pg_statement *statement,
                            prepared_set *set, const char *const *params,
                            us_pg_result *result)
{
    PGconn *pg = conn->native;
    char name[NAME_SIZE];
    attempt end = ATTEMPT_DONE;

    apr_snprintf(name, sizeof(name), NAME_FORMAT, statement->id, set->epoch);
    if (!has_prepared(set, statement->id)) {
        end = prepare(pg, pool, deadline, statement, name, set, result);
    }
    if (end != ATTEMPT_DONE) {
        return end;
    }
    memset(result, 0, sizeof(*result));
    if (PQstatus(pg) != CONNECTION_OK
        || !PQsendQueryPrepared(pg, name, statement->count, params, NULL, NULL,
                                0)) {
        return ATTEMPT_LOST;
    }
    end = take_result(pg, pool, deadline, result);
    return end == ATTEMPT_ERROR && may_be_stale(result) ? ATTEMPT_STALE : end;
}

/* --- statements --- */

/*
 * JSON is UTF-8, so the connection must be: a database's or a role's setting
 * can make it something else.  The same ends as try_unprepared.
 */
static attempt speak_utf8(PGconn *pg, apr_pool_t *pool, apr_time_t deadline,
                          us_pg_result *result)
{
    static const us_pg_statement set_utf8
        = {"SET client_encoding TO 'UTF8'", 0, 0};
    const char *encoding = PQparameterStatus(pg, "client_encoding");

    if (encoding == NULL || strcmp(encoding, "UTF8") == 0) {
        return ATTEMPT_DONE;
    }
    return try_unprepared(pg, pool, deadline, &set_utf8, NULL, result);
}

/* One attempt, in whichever way; plain: not prepared. */
static attempt try_once(us_pg_conn *conn, apr_pool_t *pool,
                        apr_time_t deadline, const us_pg_statement *statement,
                        int plain, const char *const *params,
                        us_pg_result *result)
{
    prepared_set *set = plain ? NULL : set_for(conn, statement);
    attempt end = speak_utf8(conn->native, pool, deadline, result);

    if (end != ATTEMPT_DONE) {
        return end;
    }
    return set != NULL ? try_prepared(conn, pool, deadline, statement, set,
                                      params, result)
                       : try_unprepared(conn->native, pool, deadline,
                                        statement, params, result);
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
                        apr_time_t deadline, const us_pg_statement *statement,
                        const char *const *params, us_pg_result *result)
{
    int losses = 0;
    int plain = 0;
    int lost = 0; /* it was not there any more */

    for (;;) {
        if (us_clock_now() >= deadline) {
            return US_PG_TIMEOUT; /* connecting took it all: nothing sent */
        }
        switch (
            try_once(conn, pool, deadline, statement, plain, params, result)) {
        case ATTEMPT_DONE:
            us_pg_pool_fine(conn->owner);
            if (plain) {
                give_up_prepared(conn, lost);
            }
            return US_PG_OK;
        case ATTEMPT_ERROR:
            us_pg_pool_fine(conn->owner);
            return US_PG_ERROR;
        case ATTEMPT_LATE:
            conn->spoiled = 1;
            us_pg_pool_late(conn->owner);
            return US_PG_TIMEOUT;
        case ATTEMPT_STALE:
            lost = us_pg_is_class(result, "26");
            plain = 1;
            break;
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
