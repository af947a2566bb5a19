/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_pg.h: statements on mod_dbd's PostgreSQL connections, within a deadline.
 * us_pg_pool.c and us_pg_pools.c are the only users of mod_dbd, us_pg.c the
 * only one of libpq.
 *
 * Deadlines are absolute, on us_clock_now().
 */
#ifndef US_PG_H
#define US_PG_H

#include "usersync.h"

struct server_rec;

typedef struct us_pg_pool us_pg_pool; /* a mod_dbd pool in this child */
typedef struct us_pg_conn us_pg_conn; /* a connection that is lent to us */

typedef enum us_pg_status {
    US_PG_OK,
    US_PG_AWAY,        /* no connection by the deadline, or known to be away */
    US_PG_TIMEOUT,     /* the statement did not end by the deadline */
    US_PG_ERROR,       /* PostgreSQL refused the statement: see sqlstate */
    US_PG_WRONG_DRIVER /* DBDriver is not pgsql */
} us_pg_status;

/* A statement with text parameters. */
typedef struct us_pg_statement {
    const char *sql;
    int count;       /* of parameters */
    apr_uint64_t id; /* 0: not worth preparing; see us_pg_prepared */
} us_pg_statement;

/* What a statement gave.  Everything is in the pool given to us_pg_exec. */
typedef struct us_pg_result {
    int rows;
    int columns;
    const char **cells;     /* row by row, NULL: SQL NULL */
    const char *sqlstate;   /* US_PG_ERROR: five characters */
    const char *constraint; /* name or NULL */
    const char *column;     /* name or NULL */
    const char *message;    /* primary message only: DETAIL quotes values */
} us_pg_result;

#define US_PG_CELL(result, row, column) \
    ((result)->cells[(row) * (result)->columns + (column)])

/* Is mod_dbd loaded?  For check_config. */
int us_pg_available(void);

/* register_hooks time: learn of the connections that mod_dbd makes. */
void us_pg_register_hooks(void);

/* child_init, before mod_dbd's: bound a DBDParams without connect_timeout. */
void us_pg_child_environment(void);

/*
 * The pool that mod_dbd uses for server s in this child.  Servers with equal
 * DBD lines, inherited or repeated, share one, as they do in mod_dbd; it also
 * makes one of lines that mean the same, of which we have two then.
 * child_init only.
 *
 * patience  how long an outage is waited out before PostgreSQL counts as
 *           away (usec)
 */
us_pg_pool *us_pg_pool_get(apr_pool_t *pchild, struct server_rec *s,
                           apr_interval_time_t patience);

/* All of mod_dbd's lines that lead there, DBDInitSQL with its search_path
 * included, as one text; lives as long as the pool. */
const char *us_pg_pool_lines(const us_pg_pool *pg);

/* Has PostgreSQL been away for longer than the pool's patience? */
int us_pg_pool_is_away(us_pg_pool *pg);

/*
 * Borrow a connection, waiting until deadline at the most; the one thread
 * that is inside mod_dbd's own connect can take connect_timeout longer.
 *
 * pool   lives at least until us_pg_return
 * out    set on US_PG_OK; hand it to us_pg_return in the same thread
 * cause  set otherwise: words for the log, in pool
 */
us_pg_status us_pg_borrow(us_pg_pool *pg, apr_pool_t *pool, const us_log *log,
                          apr_time_t deadline, us_pg_conn **out,
                          const char **cause);

/* Give a connection back.  Does not wait for other requests of ours, but may
 * stand for a moment behind another module that is inside mod_dbd. */
void us_pg_return(us_pg_conn *conn);

/* A statement that each connection prepares once; sql must outlive it. */
us_pg_statement us_pg_prepared(const char *sql, int count);

/*
 * Run one statement (a parameter that is NULL: SQL NULL).  A connection that
 * turns out to be lost is made anew in place and the statement is repeated
 * until deadline, as it is after a serialization failure or a deadlock:
 * statements must be idempotent.  One that has cost three connections is not
 * sent again.
 *
 * A prepared statement that a changed table or a transaction pooler has made
 * useless is repeated unprepared.
 *
 * Making a connection anew looks its host name up synchronously and gives
 * each address the rest of the deadline: name one address in DBDParams.
 *
 * Returns US_PG_OK, US_PG_ERROR, US_PG_TIMEOUT or US_PG_AWAY.
 */
us_pg_status us_pg_exec(us_pg_conn *conn, apr_pool_t *pool,
                        apr_time_t deadline, const us_pg_statement *statement,
                        const char *const *params, us_pg_result *result);

/* Does the SQLSTATE of an error begin so?  "23", "42501" ... */
int us_pg_is_class(const us_pg_result *error, const char *class_code);

#endif /* US_PG_H */
