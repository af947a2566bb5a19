/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * db.h: a PostgreSQL connection of the program's own.  It is made anew when it
 * is lost; what belongs together is repeated by the caller.
 */
#ifndef US_REC_DB_H
#define US_REC_DB_H

#include "run.h"
#include "us_pg.h"

typedef struct us_rec_db us_rec_db;

/* What became of a statement. */
typedef enum us_rec_db_end {
    US_REC_DB_OK,
    US_REC_DB_ROW,   /* one of the rows is not accepted: see the result */
    US_REC_DB_AGAIN, /* lost, late, locked, a deadlock: the same may work
                      * later; the transaction is over */
    US_REC_DB_WRONG  /* it cannot work: a table, a right */
} us_rec_db_end;

/*
 * A connection that is not open yet; it is closed with run->pool.
 *
 * conninfo  must live as long
 * option    the option that names it, for messages
 */
us_rec_db *us_rec_db_create(us_rec_run *run, const char *conninfo,
                            const char *option);

/*
 * Runs one statement, on a connection that is opened if there is none.
 *
 * pool    receives the result
 * params  count texts; NULL: SQL NULL
 */
us_rec_db_end us_rec_db_exec(us_rec_db *db, apr_pool_t *pool, const char *sql,
                             int count, const char *const *params,
                             us_pg_result *result);

/* Begins a transaction that waits for no lock for long, or ends it. */
us_rec_db_end us_rec_db_begin(us_rec_db *db, apr_pool_t *pool,
                              us_pg_result *result);
us_rec_db_end us_rec_db_commit(us_rec_db *db, apr_pool_t *pool,
                               us_pg_result *result);
void us_rec_db_rollback(us_rec_db *db, apr_pool_t *pool);

/* What went wrong in the last statement: one line without values of rows. */
const char *us_rec_db_problem(const us_rec_db *db, apr_pool_t *pool,
                              const us_pg_result *result);

/*
 * us_rec_db_exec, repeated with pauses while that may help.  Returns US_REC_OK
 * with the result, or what ends the program; a row that is not accepted is
 * such a thing here.
 */
us_rec_end us_rec_db_ask(us_rec_db *db, apr_pool_t *pool, const char *sql,
                         int count, const char *const *params,
                         us_pg_result *result);

/*
 * After US_REC_DB_AGAIN: waits a little.
 *
 * tries  of the same so far, from 1; too many end the program
 */
us_rec_end us_rec_db_pause(us_rec_db *db, apr_pool_t *pool, int tries,
                           const us_pg_result *result);

/* An array of texts as one parameter; NULL elements are SQL NULL. */
const char *us_rec_db_array(apr_pool_t *pool, const char *const *texts,
                            int count);

#endif /* US_REC_DB_H */
