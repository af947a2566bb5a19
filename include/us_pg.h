/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_pg.h: runs statements on mod_dbd's PostgreSQL connections, within a
 * deadline.  pg/pool.c and pg/pools.c are the only users of mod_dbd, pg/pq.c
 * is the only user of libpq.
 *
 * Deadlines are absolute, on us_clock_now().
 */
#ifndef US_PG_H
#define US_PG_H

#include "usersync.h"

struct server_rec;

/*
 * A server's history: a hash of its system identifier in the upper half, its
 * timeline in the lower half.  A fail-over starts a new timeline, and may have
 * lost the latest commits.  It is kept in shared memory, so it may have any
 * value.
 */
typedef _Atomic apr_uint64_t us_pg_history;

typedef struct us_pg_pool us_pg_pool; /* a mod_dbd pool in this child */
typedef struct us_pg_conn us_pg_conn; /* a borrowed connection */

typedef enum us_pg_status {
    US_PG_OK,
    US_PG_AWAY,        /* no connection by the deadline, or known to be away */
    US_PG_TIMEOUT,     /* the statement did not finish by the deadline */
    US_PG_ERROR,       /* PostgreSQL refused the statement: see sqlstate */
    US_PG_WRONG_DRIVER /* DBDriver is not pgsql */
} us_pg_status;

/* A statement with text parameters. */
typedef struct us_pg_statement {
    const char *sql;
    int count;       /* of parameters */
    apr_uint64_t id; /* 0: not prepared; see us_pg_prepared */
} us_pg_statement;

/* The result of a statement, all of it in the pool given to us_pg_exec. */
typedef struct us_pg_result {
    int rows;
    int columns;
    const char **cells;     /* row by row, NULL: SQL NULL */
    const char *sqlstate;   /* US_PG_ERROR: five characters */
    const char *constraint; /* name or NULL */
    const char *column;     /* name or NULL */
    const char *message;    /* primary message only: DETAIL quotes values */
    int is_fatal;           /* the error has ended the connection */
    int is_in_text;         /* the error points into our own statement */
    int is_in_body;         /* it comes from a trigger or another function */
    int is_raised;          /* a RAISE in such a function, of any SQLSTATE */
    int is_privilege;       /* a privilege is missing; not a policy */
} us_pg_result;

/* What an error is about. */
typedef enum us_pg_fault {
    US_FAULT_ROW,        /* this user's row is not accepted */
    US_FAULT_CONFLICT,   /* another row has one of its values */
    US_FAULT_TABLE,      /* the table does not match the configuration */
    US_FAULT_SERVER,     /* the server cannot do it now */
    US_FAULT_CONNECTION, /* this connection cannot be used any more */
    US_FAULT_REPEAT      /* another transaction interfered: try again */
} us_pg_fault;

#define US_PG_CELL(result, row, column) \
    ((result)->cells[(row) * (result)->columns + (column)])

/* register_hooks: prepares to notice the connections that mod_dbd opens. */
void us_pg_register_hooks(void);

/* child_init, before mod_dbd's: sets a connect timeout for DBDParams that have
 * no connect_timeout. */
void us_pg_child_environment(void);

/*
 * The pool that mod_dbd uses for server s in this child.  Servers with equal
 * DBD lines, inherited or repeated, share one pool, as in mod_dbd.  If lines
 * differ but mean the same, mod_dbd has one pool and we have two.  Only in
 * child_init.
 *
 * patience  how long an outage may last before PostgreSQL counts as away
 *           (usec)
 * history   where all children record the server's history; if several are
 *           given for one pool, the first is used
 */
us_pg_pool *us_pg_pool_get(apr_pool_t *pchild, struct server_rec *s,
                           apr_interval_time_t patience,
                           us_pg_history *history);

/*
 * The history of the pool's server, as far as any child knows; 0: no child has
 * connected yet.  What was seen in another history need not hold.
 */
apr_uint64_t us_pg_pool_history(const us_pg_pool *pg);

/* All of mod_dbd's lines for this pool, with DBDInitSQL and its search_path,
 * as one text; lives as long as the pool. */
const char *us_pg_pool_lines(const us_pg_pool *pg);

/* How many connections somebody has borrowed now; sets how many may be: DBDMax,
 * or 0 before the first one. */
int us_pg_pool_lent(us_pg_pool *pg, int *most);

/* Has PostgreSQL been away for longer than the pool's patience? */
int us_pg_pool_is_away(us_pg_pool *pg);

/*
 * Borrows a connection, waiting until deadline at most.  Only the one thread
 * that is inside mod_dbd's own connect can take connect_timeout longer.
 *
 * pool   lives at least until us_pg_return
 * out    set on US_PG_OK; pass it to us_pg_return in the same thread
 * cause  set otherwise: words for the log, allocated from pool
 */
us_pg_status us_pg_borrow(us_pg_pool *pg, apr_pool_t *pool, const us_log *log,
                          apr_time_t deadline, us_pg_conn **out,
                          const char **cause);

/* Gives a connection back.  Does not wait for our other requests, but may wait
 * briefly for another module that is inside mod_dbd. */
void us_pg_return(us_pg_conn *conn);

/* A statement that each connection prepares once; sql must outlive it. */
us_pg_statement us_pg_prepared(const char *sql, int count);

/*
 * Runs one statement.  A parameter that is NULL is SQL NULL.
 *
 * If the connection is lost, or leads to a server that accepts no writes, it
 * is reset in place and the statement is repeated until deadline.  After a
 * serialization failure or a deadlock it is repeated a few times.  So
 * statements must be idempotent.  A statement that has cost three connections
 * is not sent again.  A late statement is cancelled, which can take another
 * quarter of a second.
 *
 * A connection that was reset runs DBDInitSQL again; if that fails, PostgreSQL
 * counts as away.
 *
 * If a changed table or a transaction pooler has invalidated a prepared
 * statement, it is repeated unprepared.
 *
 * A reset looks up the host name synchronously and gives each address the rest
 * of the deadline.
 *
 * Returns US_PG_OK, US_PG_ERROR, US_PG_TIMEOUT or US_PG_AWAY; for US_PG_AWAY,
 * result->message gives the reason.
 */
us_pg_status us_pg_exec(us_pg_conn *conn, apr_pool_t *pool,
                        apr_time_t deadline, const us_pg_statement *statement,
                        const char *const *params, us_pg_result *result);

/* The history in which the connection's last statement ran; 0: unknown. */
apr_uint64_t us_pg_conn_history(const us_pg_conn *conn);

/*
 * What an error is about; decided only here.  Severity and origin come first,
 * the SQLSTATE second: a trigger, a default or a policy may raise any
 * SQLSTATE, and then the row was refused.
 */
us_pg_fault us_pg_fault_of(const us_pg_result *error);

/* Does the SQLSTATE of an error begin with this, such as "23" or "42501"? */
int us_pg_is_class(const us_pg_result *error, const char *class_code);

#endif /* US_PG_H */
