/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * pg/pq.h: libpq within a deadline.  pg/pq.c is the only user of libpq;
 * pg/pg.c decides what to do about an answer.
 *
 * native is the PGconn of a connection that mod_dbd has lent to us.  Deadlines
 * are absolute, on us_clock_now().
 */
#ifndef US_PQ_H
#define US_PQ_H

#include "us_pg.h"

/* How many statements a connection prepares; others are sent unprepared. */
#define US_PQ_PREPARED_MAX 16

/*
 * What is known about a connection.  It lives as long as its PGconn, as
 * libpq's instance data, and is cleared when the connection is reset in place.
 */
typedef struct us_pq_session {
    apr_uint64_t prepared[US_PQ_PREPARED_MAX]; /* ids of the statements */
    int prepared_count;
    int is_set_up;        /* pg/pg.c has made its settings */
    int was_reset;        /* what DBDInitSQL has set is lost */
    apr_uint64_t history; /* see us_pg_history; 0: unknown */
} us_pq_session;

/* How one exchange with PostgreSQL ended. */
typedef enum us_pq_end {
    US_PQ_DONE,
    US_PQ_ERROR, /* PostgreSQL refused it: see the result */
    US_PQ_LOST,  /* the connection is gone */
    US_PQ_LATE   /* the deadline passed: the connection is busy */
} us_pq_end;

/* child_init: limits the time to connect if DBDParams does not. */
void us_pq_environment(void);

/*
 * Is this a connection string of libpq's: NAME=VALUE ..., a postgresql:// URI,
 * or the name of a database?
 *
 * has_password  set to whether a password or a key's passphrase is in it
 */
int us_pq_is_conninfo(const char *conninfo, int *has_password);

/*
 * Opens a connection of our own; mod_dbd knows nothing of it.  It speaks
 * UTF-8, does not block, and keeps the server's notices to itself.
 *
 * conninfo  as above
 * name      application_name, unless conninfo or the environment has one
 * native    set to the connection, for us_pq_close; NULL: out of memory
 *
 * Returns 1 if it is open.  Else us_pq_problem says why it is not, unless the
 * deadline has passed.
 */
int us_pq_connect(const char *conninfo, const char *name, apr_time_t deadline,
                  void **native);

/* Closes it; native may be NULL. */
void us_pq_close(void *native);

/* Starts a session for a connection.  There is none if memory is short. */
void us_pq_watch(void *native);

/* The connection's session, or NULL. */
us_pq_session *us_pq_session_of(const void *native);

/* Starts to use the connection: nothing blocks from now on. */
void us_pq_adopt(void *native);

/* Is no transaction open and nothing in progress?  If somebody has left a
 * transaction open, what is written in it is not committed. */
int us_pq_is_idle(const void *native);

/* Prepares it for its return to mod_dbd.  0: its state does not allow that. */
int us_pq_release(void *native);

/*
 * Makes PQstatus bad, without waiting for a server that may be frozen: the
 * next user of the connection resets it in place.
 */
void us_pq_spoil(void *native);

/* Does the connection use UTF-8, as JSON does? */
int us_pq_speaks_utf8(const void *native);

/* Tries once to reset the connection in place; 1: it is open. */
int us_pq_reconnect(void *native, apr_time_t deadline);

/* libpq's message about the connection: the first line, allocated from pool.
 * It contains hosts and users, but no password. */
const char *us_pq_problem(apr_pool_t *pool, const void *native);

/* Runs SQL without parameters; gives the result of the last statement. */
us_pq_end us_pq_simple(void *native, apr_pool_t *pool, apr_time_t deadline,
                       const char *sql, us_pg_result *result);

/* Runs a statement without preparing it. */
us_pq_end us_pq_query(void *native, apr_pool_t *pool, apr_time_t deadline,
                      const us_pg_statement *statement,
                      const char *const *params, us_pg_result *result);

/* Prepares a statement under a name. */
us_pq_end us_pq_prepare(void *native, apr_pool_t *pool, apr_time_t deadline,
                        const us_pg_statement *statement, const char *name,
                        us_pg_result *result);

/* Runs a statement that is prepared under a name. */
us_pq_end us_pq_execute(void *native, apr_pool_t *pool, apr_time_t deadline,
                        const char *name, int count, const char *const *params,
                        us_pg_result *result);

/*
 * Gives up what the connection is doing: asks PostgreSQL to cancel it, and
 * waits for its end.  Takes at most a quarter of a second, even if the server
 * is frozen.  Returns 1 if the connection is idle again.
 */
int us_pq_cancel(void *native);

#endif /* US_PQ_H */
