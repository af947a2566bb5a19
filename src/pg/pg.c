/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Runs one statement within a deadline, on a connection that pg/pool.c lent:
 * what a connection needs before its first statement, and when a statement is
 * repeated.
 *
 * Uses native libpq because apr_dbd cannot limit time, does not report the
 * SQLSTATE, and loses prepared statements when it repairs a connection.
 *
 * Preparing saves PostgreSQL two fifths of what a login costs it.  Statements
 * are named after their text.  So behind a pooler that assigns server
 * connections per transaction, a statement of that name is at least the right
 * one, and a missing one is not prepared again.
 */
#include "us_clock.h"
#include "conn.h"
#include "pq.h"

#include <apr_strings.h>

#include <stdlib.h>
#include <string.h>

/* The pause between two attempts to reach a server that refuses, and the pause
 * before the first repeat after a serialization failure, which doubles. */
#define RECONNECT_PAUSE apr_time_from_msec(50)
#define REPEAT_PAUSE apr_time_from_msec(5)

/* How often a statement may cost its connection before it is suspected: a
 * statement that crashes its backend must not crash it again and again. */
#define LOSSES_MAX 3

/* How often a statement is repeated on the same connection. */
#define REPEATS_MAX 5

#define NAME_FORMAT "usersync_%016" APR_UINT64_T_HEX_FMT
#define NAME_SIZE 32

void us_pg_child_environment(void)
{
    us_pq_environment();
}

/* --- start and end of a loan --- */

void us_pg_conn_made(const ap_dbd_t *record)
{
    if (strcmp(apr_dbd_name(record->driver), "pgsql") == 0) {
        us_pq_watch(apr_dbd_native_handle(record->driver, record->handle));
    }
}

void us_pg_conn_adopt(us_pg_conn *conn)
{
    us_pq_adopt(conn->native);
    if (conn->aged || !us_pq_is_idle(conn->native)) {
        us_pq_spoil(conn->native); /* the next statement resets it */
    }
}

void us_pg_conn_release(us_pg_conn *conn)
{
    if (!us_pq_release(conn->native)) {
        conn->spoiled = 1; /* busy, or in an unknown state */
    }
    if (conn->spoiled) {
        us_pq_spoil(conn->native);
    }
}

apr_uint64_t us_pg_conn_history(const us_pg_conn *conn)
{
    const us_pq_session *session = us_pq_session_of(conn->native);

    return session != NULL ? session->history : 0;
}

/* --- what a connection needs before its first statement --- */

/* FNV-1a. */
static apr_uint64_t hash_of(const char *text)
{
    apr_uint64_t hash = 14695981039346656037ULL;

    for (; *text != '\0'; text++) {
        hash = (hash ^ (unsigned char)*text) * 1099511628211ULL;
    }
    return hash;
}

/*
 * Finds out the server's history.  If the server does not tell, because a
 * privilege is missing or because it is a pooler or another product, the
 * history is unknown, and cached entries end with UserSyncCacheTimeout.  A
 * standby reports the timeline of its last restart point.
 */
static us_pq_end learn_history(us_pg_conn *conn, apr_pool_t *pool,
                               apr_time_t deadline, us_pq_session *session)
{
    static const us_pg_statement ask
        = {"SELECT CAST((pg_catalog.pg_control_system()).system_identifier"
           " AS pg_catalog.text),"
           " CASE WHEN pg_catalog.pg_is_in_recovery()"
           " THEN pg_catalog.to_hex((pg_catalog.pg_control_checkpoint())"
           ".timeline_id)"
           " ELSE pg_catalog.substr(pg_catalog.pg_walfile_name("
           "pg_catalog.pg_current_wal_lsn()), 1, 8) END",
           0, 0};
    us_pg_result result;
    us_pq_end end
        = us_pq_query(conn->native, pool, deadline, &ask, NULL, &result);

    if (end == US_PQ_ERROR) {
        /* no privilege or no such function; otherwise ask again */
        session->is_set_up
            = us_pg_is_class(&result, "42") || us_pg_is_class(&result, "0A");
        return US_PQ_DONE;
    }
    session->is_set_up = end == US_PQ_DONE;
    if (end == US_PQ_DONE && result.rows == 1
        && US_PG_CELL(&result, 0, 0) != NULL
        && US_PG_CELL(&result, 0, 1) != NULL) {
        apr_uint64_t system = hash_of(US_PG_CELL(&result, 0, 0)) >> 32;

        /* never 0, which means unknown */
        session->history = (system | 1) << 32
                           | strtoul(US_PG_CELL(&result, 0, 1), NULL, 16);
        us_pg_pool_set_history(conn->owner, session->history);
    }
    return end;
}

/* mod_dbd runs DBDInitSQL when it connects.  After a reset in place, nobody
 * has run it. */
static us_pq_end run_init_sql(us_pg_conn *conn, apr_pool_t *pool,
                              apr_time_t deadline, us_pg_result *result)
{
    const apr_array_header_t *queries = us_pg_conn_init_sql(conn);
    us_pq_end end = US_PQ_DONE;
    int i;

    for (i = 0; queries != NULL && i < queries->nelts && end == US_PQ_DONE;
         i++) {
        end = us_pq_simple(conn->native, pool, deadline,
                           APR_ARRAY_IDX(queries, i, const char *), result);
    }
    if (end == US_PQ_ERROR) {
        result->message
            = apr_psprintf(pool, "DBDInitSQL failed: %s", result->message);
    }
    else if (end == US_PQ_DONE && !us_pq_is_idle(conn->native)) {
        result->message = "DBDInitSQL failed: it leaves a transaction open";
        end = US_PQ_ERROR;
    }
    return end;
}

/*
 * JSON is UTF-8, so the connection must be, too.  A setting of the database or
 * of a role, or DBDInitSQL, can change that.
 */
static us_pq_end speak_utf8(us_pg_conn *conn, apr_pool_t *pool,
                            apr_time_t deadline, us_pg_result *result)
{
    return us_pq_speaks_utf8(conn->native)
               ? US_PQ_DONE
               : us_pq_simple(conn->native, pool, deadline,
                              "SET client_encoding TO 'UTF8'", result);
}

static us_pq_end set_up(us_pg_conn *conn, apr_pool_t *pool,
                        apr_time_t deadline, us_pg_result *result)
{
    us_pq_session *session = us_pq_session_of(conn->native);
    us_pq_end end = US_PQ_DONE;

    if (session != NULL && !session->is_set_up) {
        if (session->was_reset) {
            end = run_init_sql(conn, pool, deadline, result);
            session->was_reset = end != US_PQ_DONE;
        }
        if (end == US_PQ_DONE) {
            end = learn_history(conn, pool, deadline, session);
        }
    }
    return end == US_PQ_DONE ? speak_utf8(conn, pool, deadline, result) : end;
}

/* --- prepared statements --- */

us_pg_statement us_pg_prepared(const char *sql, int count)
{
    us_pg_statement statement = {sql, count, hash_of(sql)};

    return statement;
}

static int has_prepared(const us_pq_session *session, apr_uint64_t id)
{
    int i;

    for (i = 0; i < session->prepared_count && session->prepared[i] != id;
         i++) {
    }
    return i < session->prepared_count;
}

/* The session that records prepared statements; NULL: send it unprepared. */
static us_pq_session *session_for(const us_pg_conn *conn,
                                  const us_pg_statement *statement)
{
    us_pq_session *session
        = statement->id != 0 && us_pg_pool_prepares(conn->owner)
              ? us_pq_session_of(conn->native)
              : NULL;

    return session != NULL
                   && (session->prepared_count < US_PQ_PREPARED_MAX
                       || has_prepared(session, statement->id))
               ? session
               : NULL;
}

/*
 * What failed when prepared has worked unprepared.  A new connection prepares
 * it again.  If the statement had only just been prepared, or was lost, there
 * is a pooler: its server connection, with what it has prepared before, also
 * serves a new connection.  So the child stops preparing.
 */
static void give_up_prepared(us_pg_conn *conn, int pooled)
{
    if (pooled) {
        us_pg_pool_forgets_prepared(conn->owner);
    }
    else {
        conn->spoiled = 1;
    }
}

/*
 * Could the error occur only because the statement was prepared?  After a
 * change of the table, it has other types (42, 22) or another result (0A); a
 * pooler or a DEALLOCATE removes statements (26).  Privileges are checked each
 * time, and errors of a trigger or a function do not depend on preparing.  But
 * PostgreSQL gives a 22 a context, too: a parameter, or a piece of JSON.
 */
static int may_be_stale(const us_pg_result *error)
{
    return (us_pg_is_class(error, "22") && !error->is_raised)
           || (!error->is_in_body
               && ((us_pg_is_class(error, "42")
                    && !us_pg_is_class(error, "42501"))
                   || us_pg_is_class(error, "0A")
                   || us_pg_is_class(error, "26")));
}

/* --- one attempt --- */

/* The arguments of us_pg_exec, and its state so far. */
typedef struct execution {
    us_pg_conn *conn;
    apr_pool_t *pool;
    apr_time_t deadline;
    const us_pg_statement *statement;
    const char *const *params;
    us_pg_result *result;
    int fresh;     /* prepared for this very execution */
    int plain;     /* no longer prepared */
    int vanished;  /* ...  because the prepared statement was gone */
    int losses;    /* connections that it has cost */
    int condemned; /* ...  of these, how many led to the wrong server */
    int repeats;
    int is_ready; /* the connection was set up completely */
} execution;

static us_pq_end prepare(const execution *e, us_pq_session *session,
                         const char *name)
{
    us_pq_end end = us_pq_prepare(e->conn->native, e->pool, e->deadline,
                                  e->statement, name, e->result);

    if (end == US_PQ_ERROR && us_pg_is_class(e->result, "42P05")) {
        end = US_PQ_DONE; /* a pooler's: another client has prepared it */
    }
    if (end == US_PQ_DONE) {
        session->prepared[session->prepared_count++] = e->statement->id;
    }
    return end;
}

static us_pq_end try_prepared(execution *e, us_pq_session *session)
{
    char name[NAME_SIZE];
    us_pq_end end = US_PQ_DONE;

    apr_snprintf(name, sizeof(name), NAME_FORMAT, e->statement->id);
    if (!has_prepared(session, e->statement->id)) {
        e->fresh = 1;
        end = prepare(e, session, name);
    }
    return end != US_PQ_DONE
               ? end
               : us_pq_execute(e->conn->native, e->pool, e->deadline, name,
                               e->statement->count, e->params, e->result);
}

static us_pq_end try_once(execution *e, int *was_prepared)
{
    us_pq_session *session
        = e->plain ? NULL : session_for(e->conn, e->statement);
    us_pq_end end = set_up(e->conn, e->pool, e->deadline, e->result);

    *was_prepared = session != NULL;
    e->is_ready = end == US_PQ_DONE;
    if (end != US_PQ_DONE) {
        return end;
    }
    return session != NULL ? try_prepared(e, session)
                           : us_pq_query(e->conn->native, e->pool, e->deadline,
                                         e->statement, e->params, e->result);
}

/* --- after it --- */

static int pause_until(apr_interval_time_t length, apr_time_t deadline)
{
    if (us_clock_now() + length >= deadline) {
        return 0;
    }
    apr_sleep(length);
    return 1;
}

/*
 * Resets the connection in place instead of closing and opening: after a
 * restart every pooled connection is stale, and opening may return the next
 * stale one.
 */
static int reconnect(us_pg_conn *conn, apr_time_t deadline)
{
    apr_time_t since = us_clock_now();

    while (!us_pq_reconnect(conn->native, deadline)) {
        if (us_pg_pool_trouble(conn->owner, since)
            || !pause_until(RECONNECT_PAUSE, deadline)) {
            return 0;
        }
    }
    return 1;
}

/* The connection is lost: resets it, or fails with a message in the result. */
static int recover(execution *e)
{
    e->losses++;
    if (e->losses >= LOSSES_MAX) {
        e->result->message = "each new connection is lost with this statement";
    }
    else if ((e->losses == 1 || pause_until(RECONNECT_PAUSE, e->deadline))
             && reconnect(e->conn, e->deadline)) {
        return 1;
    }
    else {
        e->result->message = us_clock_now() < e->deadline
                                 ? us_pq_problem(e->pool, e->conn->native)
                                 : "no new connection in time";
    }
    e->conn->spoiled = 1;
    return 0;
}

/*
 * The connection leads to the wrong server, perhaps a former primary: with
 * several hosts in DBDParams a new one finds the right server.  If that one is
 * no better, the statement fails with the error it had.
 */
static int leave_server(execution *e)
{
    us_pg_result error = *e->result;

    if (e->condemned++ == 0 && recover(e)) {
        return 1;
    }
    *e->result = error;
    e->conn->spoiled = 1;
    return 0;
}

/* Handles an error; returns 1 if the statement is to be sent again. */
static int try_again(execution *e, int was_prepared)
{
    if (was_prepared && may_be_stale(e->result)) {
        e->vanished = us_pg_is_class(e->result, "26");
        e->plain = 1;
        return 1;
    }
    switch (us_pg_fault_of(e->result)) {
    case US_FAULT_CONNECTION:
        return leave_server(e);
    case US_FAULT_REPEAT:
        return e->repeats < REPEATS_MAX
               && pause_until(REPEAT_PAUSE << e->repeats++, e->deadline);
    default:
        return 0;
    }
}

us_pg_status us_pg_exec(us_pg_conn *conn, apr_pool_t *pool,
                        apr_time_t deadline, const us_pg_statement *statement,
                        const char *const *params, us_pg_result *result)
{
    execution e = {.conn = conn,
                   .pool = pool,
                   .deadline = deadline,
                   .statement = statement,
                   .params = params,
                   .result = result};
    int was_prepared;

    memset(result, 0, sizeof(*result));
    for (;;) {
        if (us_clock_now() >= deadline) {
            return US_PG_TIMEOUT; /* connecting took it all: nothing was
                                   * sent */
        }
        switch (try_once(&e, &was_prepared)) {
        case US_PQ_DONE:
            us_pg_pool_fine(conn->owner);
            if (e.plain) {
                give_up_prepared(conn, e.vanished || e.fresh);
            }
            return US_PG_OK;
        case US_PQ_ERROR:
            if (!e.is_ready) {
                conn->spoiled = 1; /* it must not be used like this */
                return US_PG_AWAY;
            }
            if (!try_again(&e, was_prepared)) {
                us_pg_pool_fine(conn->owner);
                return US_PG_ERROR;
            }
            break;
        case US_PQ_LATE:
            conn->spoiled = !us_pq_cancel(conn->native);
            us_pg_pool_late(conn->owner);
            if (conn->spoiled) {
                us_pg_pool_doubt(conn->owner);
            }
            return US_PG_TIMEOUT;
        case US_PQ_LOST:
            if (!recover(&e)) {
                return US_PG_AWAY;
            }
            break;
        }
    }
}
