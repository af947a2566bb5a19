/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "us_clock.h"
#include "pq.h"

#include <apr_strings.h>

#include <libpq-events.h>
#include <libpq-fe.h>

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* How long a cancelled statement may take to end. */
#define CANCEL_TIME apr_time_from_msec(250)

/* How many threads of a child may wait for a server that accepts no cancel. */
#define CANCELLERS_MAX 4

void us_pq_environment(void)
{
    /* libpq accepts no less than two seconds */
    setenv("PGCONNECT_TIMEOUT", "2", 0);
}

/* --- the session of a connection --- */

static int on_event(PGEventId event, void *info, void *nothing)
{
    us_pq_session *session;

    (void)nothing;
    switch (event) {
    case PGEVT_REGISTER:
        session = calloc(1, sizeof(*session));
        return session != NULL
               && PQsetInstanceData(((PGEventRegister *)info)->conn, on_event,
                                    session);
    case PGEVT_CONNRESET:
        session = PQinstanceData(((PGEventConnReset *)info)->conn, on_event);
        if (session != NULL) {
            memset(session, 0, sizeof(*session));
            session->was_reset = 1;
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

void us_pq_watch(void *native)
{
    if (PQinstanceData(native, on_event) == NULL) {
        PQregisterEventProc(native, on_event, "mod_usersync", NULL);
    }
}

us_pq_session *us_pq_session_of(const void *native)
{
    return PQinstanceData(native, on_event);
}

/* apr_dbd_pgsql has set a silent notice receiver: row values in NOTICEs do not
 * reach the error log. */
void us_pq_adopt(void *native)
{
    us_pq_watch(native);
    PQsetnonblocking(native, 1);
}

int us_pq_is_idle(const void *native)
{
    return PQtransactionStatus(native) == PQTRANS_IDLE;
}

int us_pq_release(void *native)
{
    return us_pq_is_idle(native) && PQsetnonblocking(native, 0) == 0;
}

void us_pq_spoil(void *native)
{
    int i;

    if (PQsocket(native) >= 0) {
        shutdown(PQsocket(native), SHUT_RDWR);
    }
    /* once for the data that has arrived, once for the end of file; TLS may
     * need one more */
    for (i = 0; i < 4 && PQstatus(native) == CONNECTION_OK; i++) {
        PQconsumeInput(native);
    }
}

int us_pq_speaks_utf8(const void *native)
{
    const char *encoding = PQparameterStatus(native, "client_encoding");

    return encoding == NULL || strcmp(encoding, "UTF8") == 0;
}

const char *us_pq_problem(apr_pool_t *pool, const void *native)
{
    const char *text = PQerrorMessage(native);

    return apr_pstrmemdup(pool, text, strcspn(text, "\n"));
}

/* --- waiting --- */

/* Waits for events on the socket; 0: the deadline passed, or poll failed. */
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

/*
 * Waits until the connection can be written to.  An address that does not even
 * refuse may take half of the time that is left: connect_timeout does not hold
 * for PQconnectPoll, which would never get to the next address.  Then the
 * socket is shut down, which libpq takes for the address's failure.
 */
static int wait_to_write(PGconn *pg, apr_time_t deadline)
{
    apr_time_t now = us_clock_now();

    if (PQstatus(pg) != CONNECTION_STARTED || now >= deadline) {
        return wait_for(pg, POLLOUT, deadline);
    }
    if (!wait_for(pg, POLLOUT, now + (deadline - now) / 2)) {
        shutdown(PQsocket(pg), SHUT_RDWR);
    }
    return 1;
}

/*
 * Waits for a connection that PQresetStart or PQconnectStart has begun; poll
 * is the function that goes with it.  libpq's manual: start as if it had
 * returned WRITING; called too early, it never gets to the next of several
 * addresses.
 */
static int finish_connect(PGconn *pg, apr_time_t deadline,
                          PostgresPollingStatusType (*poll_it)(PGconn *))
{
    if (!wait_to_write(pg, deadline)) {
        return 0;
    }
    for (;;) {
        switch (poll_it(pg)) {
        case PGRES_POLLING_OK:
            return PQsetnonblocking(pg, 1) == 0;
        case PGRES_POLLING_READING:
            if (!wait_for(pg, POLLIN, deadline)) {
                return 0;
            }
            break;
        case PGRES_POLLING_WRITING:
            if (!wait_to_write(pg, deadline)) {
                return 0;
            }
            break;
        default:
            return 0;
        }
    }
}

int us_pq_reconnect(void *native, apr_time_t deadline)
{
    return PQresetStart(native)
           && finish_connect(native, deadline, PQresetPoll);
}

/* --- connections of our own --- */

/* What libpq says about a wrong text may quote a password from it: it is not
 * passed on. */
int us_pq_is_conninfo(const char *conninfo, int *has_password)
{
    char *problem = NULL;
    PQconninfoOption *options;
    const PQconninfoOption *option;

    *has_password = 0;
    if (strchr(conninfo, '=') == NULL && strstr(conninfo, "://") == NULL) {
        return *conninfo != '\0'; /* the name of a database */
    }
    options = PQconninfoParse(conninfo, &problem);
    PQfreemem(problem);
    for (option = options; option != NULL && option->keyword != NULL;
         option++) {
        if (option->val != NULL
            && (strcmp(option->keyword, "password") == 0
                || strcmp(option->keyword, "sslpassword") == 0)) {
            *has_password = 1;
        }
    }
    PQconninfoFree(options);
    return options != NULL;
}

static void ignore_notice(void *nothing, const PGresult *notice)
{
    (void)nothing;
    (void)notice;
}

int us_pq_connect(const char *conninfo, const char *name, apr_time_t deadline,
                  void **native)
{
    /* what comes later counts: dbname holds the whole text */
    const char *const words[]
        = {"fallback_application_name", "dbname", "client_encoding", NULL};
    const char *const values[] = {name, conninfo, "UTF8", NULL};
    PGconn *pg = PQconnectStartParams(words, values, 1);

    *native = pg;
    if (pg == NULL || PQstatus(pg) == CONNECTION_BAD) {
        return 0;
    }
    PQsetNoticeReceiver(pg, ignore_notice, NULL);
    return finish_connect(pg, deadline, PQconnectPoll);
}

void us_pq_close(void *native)
{
    PQfinish(native);
}

/* --- results --- */

/* Sends what is unsent and reads until a result, or the end, has arrived. */
static us_pq_end await_result(PGconn *pg, apr_time_t deadline)
{
    int unsent = PQflush(pg);

    while (unsent > 0 || (unsent == 0 && PQisBusy(pg))) {
        if (!wait_for(pg, unsent > 0 ? POLLIN | POLLOUT : POLLIN, deadline)) {
            return US_PQ_LATE;
        }
        if (!PQconsumeInput(pg)) {
            return US_PQ_LOST;
        }
        unsent = PQflush(pg);
    }
    return unsent < 0 ? US_PQ_LOST : US_PQ_DONE;
}

/* The last result of what was sent, or NULL with the reason in *end. */
static PGresult *receive(PGconn *pg, apr_time_t deadline, us_pq_end *end)
{
    PGresult *result = NULL;
    PGresult *next;

    /* only the NULL after the last result makes the connection idle again */
    while ((*end = await_result(pg, deadline)) == US_PQ_DONE) {
        next = PQgetResult(pg);
        if (next == NULL) {
            if (result == NULL) {
                *end = US_PQ_LOST;
            }
            return result;
        }
        PQclear(result);
        result = next;
    }
    PQclear(result);
    return NULL;
}

static const char *copy_field(apr_pool_t *pool, const PGresult *from, int code)
{
    return apr_pstrdup(pool, PQresultErrorField(from, code));
}

static int starts_with(const char *text, const char *start)
{
    return text != NULL && strncmp(text, start, strlen(start)) == 0;
}

static void copy_error(apr_pool_t *pool, const PGresult *from,
                       us_pg_result *result)
{
    const char *severity
        = PQresultErrorField(from, PG_DIAG_SEVERITY_NONLOCALIZED);
    const char *function = PQresultErrorField(from, PG_DIAG_SOURCE_FUNCTION);

    result->sqlstate = copy_field(pool, from, PG_DIAG_SQLSTATE);
    result->constraint = copy_field(pool, from, PG_DIAG_CONSTRAINT_NAME);
    result->column = copy_field(pool, from, PG_DIAG_COLUMN_NAME);
    result->message = copy_field(pool, from, PG_DIAG_MESSAGE_PRIMARY);
    result->is_fatal
        = starts_with(severity, "FATAL") || starts_with(severity, "PANIC");
    result->is_in_text
        = PQresultErrorField(from, PG_DIAG_STATEMENT_POSITION) != NULL;
    result->is_in_body
        = PQresultErrorField(from, PG_DIAG_CONTEXT) != NULL
          || PQresultErrorField(from, PG_DIAG_INTERNAL_QUERY) != NULL;
    result->is_raised = starts_with(function, "exec_stmt_raise")
                        || starts_with(function, "PLy_")
                        || starts_with(function, "plperl_")
                        || starts_with(function, "pltcl_");
    result->is_privilege = starts_with(result->sqlstate, "42501")
                           && (starts_with(function, "aclcheck_error")
                               || starts_with(function, "nextval")
                               || starts_with(function, "check_enable_rls"));
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

/*
 * Takes the result of what was sent; was_sent: libpq accepted it.  libpq
 * reports a lost connection without an SQLSTATE, even if the server sent
 * 57P01.
 */
static us_pq_end take_result(PGconn *pg, apr_pool_t *pool, apr_time_t deadline,
                             int was_sent, us_pg_result *result)
{
    us_pq_end end = US_PQ_LOST;
    PGresult *received = was_sent ? receive(pg, deadline, &end) : NULL;

    memset(result, 0, sizeof(*result));
    if (received == NULL) {
        return end;
    }
    switch (PQresultStatus(received)) {
    case PGRES_TUPLES_OK:
    case PGRES_COMMAND_OK:
    case PGRES_EMPTY_QUERY:
        copy_rows(pool, received, result);
        end = US_PQ_DONE;
        break;
    default:
        copy_error(pool, received, result);
        end = result->sqlstate == NULL || PQstatus(pg) != CONNECTION_OK
                  ? US_PQ_LOST
                  : US_PQ_ERROR;
        break;
    }
    PQclear(received);
    return end;
}

/* --- statements --- */

us_pq_end us_pq_simple(void *native, apr_pool_t *pool, apr_time_t deadline,
                       const char *sql, us_pg_result *result)
{
    int was_sent
        = PQstatus(native) == CONNECTION_OK && PQsendQuery(native, sql);

    return take_result(native, pool, deadline, was_sent, result);
}

us_pq_end us_pq_query(void *native, apr_pool_t *pool, apr_time_t deadline,
                      const us_pg_statement *statement,
                      const char *const *params, us_pg_result *result)
{
    int was_sent
        = PQstatus(native) == CONNECTION_OK
          && PQsendQueryParams(native, statement->sql, statement->count, NULL,
                               params, NULL, NULL, 0);

    return take_result(native, pool, deadline, was_sent, result);
}

us_pq_end us_pq_prepare(void *native, apr_pool_t *pool, apr_time_t deadline,
                        const us_pg_statement *statement, const char *name,
                        us_pg_result *result)
{
    int was_sent = PQstatus(native) == CONNECTION_OK
                   && PQsendPrepare(native, name, statement->sql,
                                    statement->count, NULL);

    return take_result(native, pool, deadline, was_sent, result);
}

us_pq_end us_pq_execute(void *native, apr_pool_t *pool, apr_time_t deadline,
                        const char *name, int count, const char *const *params,
                        us_pg_result *result)
{
    int was_sent
        = PQstatus(native) == CONNECTION_OK
          && PQsendQueryPrepared(native, name, count, params, NULL, NULL, 0);

    return take_result(native, pool, deadline, was_sent, result);
}

/* --- cancelling --- */

/*
 * PQcancel connects and waits without a limit, for ever if the server is
 * frozen.  So a separate thread calls it, and is left behind if it takes too
 * long.  The last of the two users frees this.
 */
typedef struct canceller {
    PGcancel *cancel;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    int is_sent;
    int users;
} canceller;

/* Of this child. */
static pthread_mutex_t cancellers_mutex = PTHREAD_MUTEX_INITIALIZER;
static int cancellers;

static int count_canceller(int change)
{
    int fits;

    pthread_mutex_lock(&cancellers_mutex);
    fits = cancellers + change <= CANCELLERS_MAX;
    cancellers += fits ? change : 0;
    pthread_mutex_unlock(&cancellers_mutex);
    return fits;
}

/* Called with the mutex held, which this releases. */
static void canceller_leave(canceller *c)
{
    int last = --c->users == 0;

    pthread_mutex_unlock(&c->mutex);
    if (last) {
        PQfreeCancel(c->cancel);
        pthread_cond_destroy(&c->changed);
        pthread_mutex_destroy(&c->mutex);
        free(c);
    }
}

static void *canceller_main(void *data)
{
    canceller *c = data;
    char problem[256];

    /* a failure shows in that the statement does not end */
    PQcancel(c->cancel, problem, (int)sizeof(problem));
    count_canceller(-1);
    pthread_mutex_lock(&c->mutex);
    c->is_sent = 1;
    pthread_cond_signal(&c->changed);
    canceller_leave(c);
    return NULL;
}

static canceller *canceller_create(PGconn *pg)
{
    canceller *c = calloc(1, sizeof(*c));
    pthread_condattr_t attributes;

    if (c == NULL) {
        return NULL;
    }
    c->cancel = PQgetCancel(pg);
    if (c->cancel == NULL) {
        free(c);
        return NULL;
    }
    c->users = 1;
    pthread_mutex_init(&c->mutex, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&c->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    return c;
}

/* httpd's signals are meant for httpd's own threads; nobody waits for the new
 * one, so it is detached. */
static int canceller_start(canceller *c)
{
    pthread_attr_t attributes;
    pthread_t thread;
    sigset_t all;
    sigset_t before;
    int rc;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    c->users++;
    rc = pthread_create(&thread, &attributes, canceller_main, c);
    pthread_attr_destroy(&attributes);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0) {
        c->users--;
    }
    return rc == 0;
}

/* Asks PostgreSQL to cancel; 1 if it was told by the deadline. */
static int send_cancel(PGconn *pg, apr_time_t deadline)
{
    canceller *c = canceller_create(pg);
    struct timespec until;
    int late = 0;
    int is_sent;

    if (c == NULL) {
        return 0;
    }
    until.tv_sec = (time_t)apr_time_sec(deadline);
    until.tv_nsec = (long)apr_time_usec(deadline) * 1000;
    if (!count_canceller(1)) {
        late = 1;
    }
    else if (!canceller_start(c)) {
        count_canceller(-1);
        late = 1;
    }
    pthread_mutex_lock(&c->mutex);
    while (!c->is_sent && !late) {
        late = pthread_cond_timedwait(&c->changed, &c->mutex, &until) != 0;
    }
    is_sent = c->is_sent;
    canceller_leave(c);
    return is_sent;
}

int us_pq_cancel(void *native)
{
    apr_time_t deadline = us_clock_now() + CANCEL_TIME;
    us_pq_end end;
    PGresult *result;

    if (PQstatus(native) != CONNECTION_OK || !send_cancel(native, deadline)) {
        return 0;
    }
    result = receive(native, deadline, &end);
    PQclear(result);
    return PQtransactionStatus(native) == PQTRANS_IDLE;
}
