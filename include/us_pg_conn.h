/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_pg_conn.h: what us_pg.c (statements) and us_pg_pool.c (lending) share.
 * Nobody else includes it, but for us_pg_pool.h.
 */
#ifndef US_PG_CONN_H
#define US_PG_CONN_H

#include "us_pg.h"

#include <apr_dbd.h>
#include <mod_dbd.h>

/* A lent connection: in the borrower's pool, linked into its us_pg_pool. */
struct us_pg_conn {
    us_pg_pool *owner;
    ap_dbd_t *record; /* mod_dbd's, ours until it is returned */
    void *native;     /* its PGconn */
    int spoiled;      /* unusable: mod_dbd must make it anew */
    int aged;         /* has lain idle for longer than DBDExptime */
    us_pg_conn *next; /* among the lent ones */
    us_pg_conn **link;
};

/* us_pg.c: prepare a connection for our use, and for handing it back. */
void us_pg_conn_adopt(us_pg_conn *conn);
void us_pg_conn_release(us_pg_conn *conn);

/*
 * us_pg_pool.c: tell the pool how PostgreSQL does.  Trouble means that no
 * connection could be made since the given time; any connection that works
 * ends it.  us_pg_pool_trouble returns 1 when PostgreSQL counts as away, so
 * that trying on is of no use.
 */
int us_pg_pool_trouble(us_pg_pool *pg, apr_time_t since);
void us_pg_pool_fine(us_pg_pool *pg);

/* A statement was late: if there is trouble, it goes on. */
void us_pg_pool_late(us_pg_pool *pg);

/* Is preparing worth it: do connections last, and statements stay where they
 * were made?  Once they did not, they are of no use in this child. */
int us_pg_pool_prepares(us_pg_pool *pg);
void us_pg_pool_forgets_prepared(us_pg_pool *pg);

#endif /* US_PG_CONN_H */
