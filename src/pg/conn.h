/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * pg/conn.h: what pg/pg.c (statements) and pg/pool.c (lending) share.  Only
 * they and pg/pool.h include it.
 */
#ifndef US_PG_CONN_H
#define US_PG_CONN_H

#include "us_pg.h"

#include <apr_dbd.h>
#include <mod_dbd.h>

/* A lent connection, in the borrower's pool and linked into its us_pg_pool. */
struct us_pg_conn {
    us_pg_pool *owner;
    ap_dbd_t *record; /* mod_dbd's, ours until it is returned */
    void *native;     /* its PGconn */
    int spoiled;      /* unusable: mod_dbd must replace it */
    int aged;         /* was idle for longer than DBDExptime */
    us_pg_conn *next; /* among the lent ones */
    us_pg_conn **link;
};

/* pg/pg.c: prepares a connection for our use, and for its return. */
void us_pg_conn_adopt(us_pg_conn *conn);
void us_pg_conn_release(us_pg_conn *conn);

/* pg/pg.c: mod_dbd has opened a connection; record is as it was lent. */
void us_pg_conn_made(const ap_dbd_t *record);

/* pg/pools.c: DBDInitSQL's statements, as const char *; NULL: none. */
const apr_array_header_t *us_pg_conn_init_sql(const us_pg_conn *conn);

/*
 * pg/pool.c: tells the pool about PostgreSQL.  Trouble means that no
 * connection could be opened since the given time; any working connection ends
 * it.  us_pg_pool_trouble returns 1 if PostgreSQL counts as away, so that
 * further tries are useless.
 */
int us_pg_pool_trouble(us_pg_pool *pg, apr_time_t since);
void us_pg_pool_fine(us_pg_pool *pg);

/* A statement was late: if there is trouble, it continues. */
void us_pg_pool_late(us_pg_pool *pg);

/* A statement was late, and not even a cancel request ended it: the server may
 * have vanished without a word.  The pool's idle connections are then made anew
 * before they are used, or each would cost a request its deadline. */
void us_pg_pool_doubt(us_pg_pool *pg);

/* A connection was opened that leads to this history. */
void us_pg_pool_set_history(us_pg_pool *pg, apr_uint64_t history);

/* Is preparing useful: do connections last, and do statements stay where they
 * were prepared?  This child stops preparing once they did not. */
int us_pg_pool_prepares(us_pg_pool *pg);
void us_pg_pool_forgets_prepared(us_pg_pool *pg);

#endif /* US_PG_CONN_H */
