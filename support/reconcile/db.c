/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "db.h"
#include "pg/pq.h"
#include "us_clock.h"

#include <apr_strings.h>

#include <string.h>

/* How long a connection may take to open. */
#define CONNECT_TIME apr_time_from_sec(10)

struct us_rec_db {
    us_rec_run *run;
    const char *conninfo;
    const char *option;
    void *native;     /* NULL: not open */
    int was_open;     /* it has worked before */
    const char *lost; /* why there is no connection, static or in run->pool */
};

static apr_status_t db_close(void *data)
{
    us_rec_db *db = data;

    us_pq_close(db->native);
    db->native = NULL;
    return APR_SUCCESS;
}

us_rec_db *us_rec_db_create(us_rec_run *run, const char *conninfo,
                            const char *option)
{
    us_rec_db *db = apr_pcalloc(run->pool, sizeof(*db));

    db->run = run;
    db->conninfo = conninfo;
    db->option = option;
    apr_pool_cleanup_register(run->pool, db, db_close, apr_pool_cleanup_null);
    return db;
}

/* Opens the connection unless it is open. */
static int is_open(us_rec_db *db)
{
    if (db->native != NULL) {
        return 1;
    }
    if (us_pq_connect(db->conninfo, "usersync-reconcile",
                      us_clock_now() + CONNECT_TIME, &db->native)) {
        us_pq_adopt(db->native);
        db->was_open = 1;
        return 1;
    }
    db->lost = "it did not answer";
    if (db->native != NULL
        && *us_pq_problem(db->run->pool, db->native) != '\0') {
        db->lost = us_pq_problem(db->run->pool, db->native);
    }
    db_close(db);
    return 0;
}

/* Timeouts and shutdowns pass, and so do other transactions. */
static us_rec_db_end judge(const us_pg_result *error)
{
    if (us_pg_is_class(error, "55P03") || us_pg_is_class(error, "57014")) {
        return US_REC_DB_AGAIN;
    }
    switch (us_pg_fault_of(error)) {
    case US_FAULT_ROW:
    case US_FAULT_CONFLICT:
        return US_REC_DB_ROW;
    case US_FAULT_TABLE:
        return US_REC_DB_WRONG;
    case US_FAULT_SERVER:
    case US_FAULT_CONNECTION:
    case US_FAULT_REPEAT:
        break;
    }
    /* 25006: read only; 28, 3D: who may connect, and where to */
    return us_pg_is_class(error, "25006") || us_pg_is_class(error, "28")
                   || us_pg_is_class(error, "3D")
               ? US_REC_DB_WRONG
               : US_REC_DB_AGAIN;
}

static us_rec_db_end finish(us_rec_db *db, us_pq_end end,
                            const us_pg_result *result)
{
    us_rec_db_end judged;

    switch (end) {
    case US_PQ_DONE:
        return US_REC_DB_OK;
    case US_PQ_ERROR:
        judged = judge(result);
        if (result->is_fatal) {
            db_close(db);
        }
        return judged;
    case US_PQ_LATE:
        us_pq_cancel(db->native);
        db->lost = "it did not answer in time";
        break;
    case US_PQ_LOST:
        db->lost = "the connection was lost";
        break;
    }
    db_close(db);
    return US_REC_DB_AGAIN;
}

us_rec_db_end us_rec_db_exec(us_rec_db *db, apr_pool_t *pool, const char *sql,
                             int count, const char *const *params,
                             us_pg_result *result)
{
    us_pg_statement statement = {sql, count, 0};

    memset(result, 0, sizeof(*result));
    if (!is_open(db)) {
        /* what has never worked is most likely a mistake */
        return db->was_open ? US_REC_DB_AGAIN : US_REC_DB_WRONG;
    }
    return finish(db,
                  us_pq_query(db->native, pool,
                              us_clock_now() + db->run->options->timeout,
                              &statement, params, result),
                  result);
}

/* --- transactions --- */

static us_rec_db_end simple(us_rec_db *db, apr_pool_t *pool, const char *sql,
                            us_pg_result *result)
{
    memset(result, 0, sizeof(*result));
    if (!is_open(db)) {
        /* what has never worked is most likely a mistake */
        return db->was_open ? US_REC_DB_AGAIN : US_REC_DB_WRONG;
    }
    return finish(db,
                  us_pq_simple(db->native, pool,
                               us_clock_now() + db->run->options->timeout, sql,
                               result),
                  result);
}

/* LOCAL: a pooler's connection belongs to others afterwards.  While we wait
 * for one row, logins may wait for those that we have locked before.  Rows are
 * found by their id: the planner may know nothing of a table that was empty a
 * minute ago, and read all of it for each batch. */
us_rec_db_end us_rec_db_begin(us_rec_db *db, apr_pool_t *pool,
                              us_pg_result *result)
{
    return simple(db, pool,
                  "BEGIN; SET LOCAL lock_timeout = '500ms'; SET LOCAL "
                  "idle_in_transaction_session_timeout = '10s'; "
                  "SET LOCAL enable_hashjoin = off; "
                  "SET LOCAL enable_mergejoin = off",
                  result);
}

us_rec_db_end us_rec_db_commit(us_rec_db *db, apr_pool_t *pool,
                               us_pg_result *result)
{
    return simple(db, pool, "COMMIT", result);
}

void us_rec_db_rollback(us_rec_db *db, apr_pool_t *pool)
{
    us_pg_result result;

    if (db->native != NULL) {
        simple(db, pool, "ROLLBACK", &result);
    }
}

/* --- failures --- */

/* Messages of class 22 quote values; DETAIL, which does so, too, is never
 * read. */
const char *us_rec_db_problem(const us_rec_db *db, apr_pool_t *pool,
                              const us_pg_result *result)
{
    int quotes = us_pg_is_class(result, "22");

    if (result->sqlstate == NULL) {
        return apr_psprintf(pool, "PostgreSQL (%s): %s", db->option,
                            db->lost != NULL ? db->lost : "unknown");
    }
    return apr_psprintf(
        pool, "PostgreSQL: %s (SQLSTATE %s%s%s%s%s)",
        quotes || result->message == NULL ? "a value does not fit its column"
                                          : result->message,
        result->sqlstate, result->constraint != NULL ? ", constraint " : "",
        result->constraint != NULL ? result->constraint : "",
        result->column != NULL ? ", column " : "",
        result->column != NULL ? result->column : "");
}

us_rec_end us_rec_db_pause(us_rec_db *db, apr_pool_t *pool, int tries,
                           const us_pg_result *result)
{
    if (us_rec_stop) {
        return US_REC_STOPPED;
    }
    if (tries > db->run->options->retries) {
        return us_rec_fail(db->run, "%s; tried %d times",
                           us_rec_db_problem(db, pool, result), tries);
    }
    return us_rec_sleep(us_rec_backoff(tries));
}

us_rec_end us_rec_db_ask(us_rec_db *db, apr_pool_t *pool, const char *sql,
                         int count, const char *const *params,
                         us_pg_result *result)
{
    int tries;

    for (tries = 1;; tries++) {
        us_rec_db_end end
            = us_rec_db_exec(db, pool, sql, count, params, result);
        us_rec_end pause;

        if (end == US_REC_DB_OK) {
            return US_REC_OK;
        }
        if (end != US_REC_DB_AGAIN) {
            return us_rec_fail(db->run, "%s",
                               us_rec_db_problem(db, pool, result));
        }
        pause = us_rec_db_pause(db, pool, tries, result);
        if (pause != US_REC_OK) {
            return pause;
        }
    }
}

/* --- arrays --- */

const char *us_rec_db_array(apr_pool_t *pool, const char *const *texts,
                            int count)
{
    apr_size_t size = 3;
    char *text;
    char *out;
    int i;

    for (i = 0; i < count; i++) {
        size += texts[i] != NULL ? 2 * strlen(texts[i]) + 3 : 5;
    }
    text = out = apr_palloc(pool, size);
    *out++ = '{';
    for (i = 0; i < count; i++) {
        const char *p = texts[i];

        if (i > 0) {
            *out++ = ',';
        }
        if (p == NULL) {
            memcpy(out, "NULL", 4);
            out += 4;
            continue;
        }
        *out++ = '"';
        for (; *p != '\0'; p++) {
            if (*p == '"' || *p == '\\') {
                *out++ = '\\';
            }
            *out++ = *p;
        }
        *out++ = '"';
    }
    *out++ = '}';
    *out = '\0';
    return text;
}
