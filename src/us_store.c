/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "us_clock.h"
#include "us_log.h"
#include "us_store.h"
#include "us_store_check.h"

#include <apr_atomic.h>
#include <apr_strings.h>

#include <string.h>

/* How often to look when somebody else keeps writing and deleting. */
#define ROUNDS 3

#define EMAIL_STALE "the e-mail in the user's row could not follow: "

struct us_store {
    us_pg_pool *pg;
    apr_interval_time_t timeout;
    const char *table;
    const apr_array_header_t *columns;
    int has_email; /* then it is the second column */
    us_pg_statement look_up;
    us_pg_statement find; /* the same whatever the e-mail is */
    us_pg_statement update;
    us_pg_statement insert;
    us_pg_statement insert_snapshot; /* id and e-mail, the others' defaults */
    us_pg_statement pretend; /* fails as the insert would, inserts nothing */
    /* Set once the table has been seen to suit.  json_column is written
     * before by whoever sets it: any two threads write the same. */
    volatile apr_uint32_t suits;
    volatile apr_uint32_t warned; /* of what may surprise, once per child */
    volatile apr_uint32_t json_column[US_MAX_COLUMNS];
};

/* One visit to the table: what its steps share. */
typedef struct visit {
    us_store *store;
    us_call *call;
    const us_identity *identity;
    us_pg_conn *conn;
    apr_time_t deadline;
    us_store_verdict verdict;
    int checked; /* the verdict is this visit's own */
} visit;

typedef enum row_state { ROW_SAME, ROW_OTHER_EMAIL, ROW_MISSING } row_state;

/* --- the statements --- */

/* For the first count columns; before, behind: what stands around the list of
 * parameters. */
static us_pg_statement insert_statement(apr_pool_t *pool,
                                        const us_store *store, int count,
                                        const char *before, const char *behind)
{
    const us_column *columns = (const us_column *)store->columns->elts;
    const char *names = "";
    const char *params = "";
    int i;

    for (i = 0; i < count; i++) {
        names = apr_pstrcat(pool, names, i > 0 ? ", " : "", columns[i].quoted,
                            NULL);
        params
            = apr_psprintf(pool, "%s%s$%d", params, i > 0 ? ", " : "", i + 1);
    }
    /* Always (id): an untargeted DO NOTHING would lose a user in silence
     * when another unique index collides. */
    return us_pg_prepared(
        apr_psprintf(pool,
                     "INSERT INTO %s (%s) %s%s%s "
                     "ON CONFLICT (%s) DO NOTHING RETURNING true",
                     store->table, names, before, params, behind,
                     columns[0].quoted),
        count);
}

us_store *us_store_create(apr_pool_t *pool, const us_server_conf *conf,
                          us_pg_pool *pg)
{
    us_store *store = apr_pcalloc(pool, sizeof(*store));
    const char *id;
    const char *email;

    store->pg = pg;
    store->timeout = us_config_store_timeout(conf);
    store->table = us_config_table(conf);
    store->columns = us_config_columns(pool, conf);
    store->has_email = store->columns->nelts > 1
                       && APR_ARRAY_IDX(store->columns, 1, us_column).field
                              == US_FIELD_EMAIL;
    id = APR_ARRAY_IDX(store->columns, 0, us_column).quoted;
    if (store->has_email) {
        email = APR_ARRAY_IDX(store->columns, 1, us_column).quoted;
        store->look_up = us_pg_prepared(
            apr_psprintf(pool,
                         "SELECT %s IS NOT DISTINCT FROM $2 FROM %s "
                         "WHERE %s = $1",
                         email, store->table, id),
            2);
        store->update = us_pg_prepared(
            apr_psprintf(pool,
                         "UPDATE %s SET %s = $2 WHERE %s = $1 RETURNING true",
                         store->table, email, id),
            2);
    }
    store->find = us_pg_prepared(
        apr_psprintf(pool, "SELECT true FROM %s WHERE %s = $1", store->table,
                     id),
        1);
    if (!store->has_email) {
        store->look_up = store->find;
    }
    store->insert = insert_statement(pool, store, store->columns->nelts,
                                     "VALUES (", ")");
    store->insert_snapshot = insert_statement(
        pool, store, store->has_email ? 2 : 1, "VALUES (", ")");
    store->pretend = insert_statement(pool, store, store->columns->nelts,
                                      "SELECT ", " WHERE false");
    return store;
}

/* Parameters in the order of the columns. */
static void fill_params(const visit *v, const char *params[US_MAX_COLUMNS])
{
    int i;

    for (i = 0; i < v->store->columns->nelts; i++) {
        const us_value *value = &v->identity->values[i];

        params[i] = apr_atomic_read32(&v->store->json_column[i]) ? value->json
                                                                 : value->text;
    }
}

/* --- failures --- */

/* SQLSTATE, message, constraint and column; never DETAIL, which quotes row
 * values.  Neither the message of class 22, which quotes them too. */
static const char *error_text(apr_pool_t *pool, const us_pg_result *error)
{
    const char *state = error->sqlstate != NULL ? error->sqlstate : "-----";
    int quotes = strncmp(state, "22", 2) == 0;

    return apr_psprintf(
        pool, "%s (SQLSTATE %s%s%s%s%s)",
        error->message != NULL && !quotes ? error->message
                                          : "a value does not fit its column",
        state, error->constraint != NULL ? ", constraint " : "",
        error->constraint != NULL ? error->constraint : "",
        error->column != NULL ? ", column " : "",
        error->column != NULL ? error->column : "");
}

/*
 * Does this error speak of the server, the connection or the table, so that
 * another try may succeed later?  Everything else that an INSERT can get is
 * about the row: data, integrity, a check option, a policy, a trigger that
 * raises with any SQLSTATE it likes.
 */
static int is_servers_fault(const us_pg_result *error)
{
    static const char *const classes[]
        = {"08", "0A", "25", "28", "3D", "3F", "40", "42", "53",
           "55", "57", "58", "72", "F0", "HV", "XX", NULL};
    int i;

    for (i = 0; classes[i] != NULL; i++) {
        if (us_pg_is_class(error, classes[i])) {
            return !us_pg_is_class(error, "42501");
        }
    }
    return error->sqlstate == NULL;
}

/* May this error come from the table's shape?  55000: no fit unique index;
 * 22: a column's type changed; 23502: a new column that nobody fills. */
static int may_be_the_table(const us_pg_result *error)
{
    return us_pg_is_class(error, "42") || us_pg_is_class(error, "0A")
           || us_pg_is_class(error, "55000") || us_pg_is_class(error, "22")
           || us_pg_is_class(error, "23502");
}

/* Take note of a statement that got no answer in time, be it that PostgreSQL
 * has ended it itself.  57014: statement_timeout, or an administrator; 55P03:
 * lock_timeout. */
static void note_late(visit *v, us_pg_status status, const us_pg_result *error)
{
    v->call->store_late |= status == US_PG_TIMEOUT
                           || (status == US_PG_ERROR
                               && (us_pg_is_class(error, "57014")
                                   || us_pg_is_class(error, "55P03")));
}

/* What the administrator reads when a statement did not succeed. */
static const char *failure_text(visit *v, us_pg_status status,
                                const us_pg_result *error)
{
    apr_pool_t *pool = v->call->pool;

    switch (status) {
    case US_PG_TIMEOUT:
        return apr_psprintf(pool, "PostgreSQL did not answer within "
                                  "UserSyncStoreTimeout: a lock on the row, a "
                                  "frozen server or too many clients");
    case US_PG_AWAY:
        return apr_psprintf(pool,
                            "PostgreSQL is away: %s; see DBDParams and the "
                            "PostgreSQL server",
                            error->message != NULL ? error->message : "");
    default:
        return apr_pstrcat(pool, "PostgreSQL: ", error_text(pool, error),
                           us_pg_is_class(error, "25006")
                               ? "; DBDParams must lead to the primary"
                               : "",
                           us_pg_is_class(error, "23502")
                                   && v->identity->snapshot
                               ? "; UserSyncEnsure fills id and e-mail only: "
                                 "give the others a default"
                               : "",
                           NULL);
    }
}

/* --- the table against the configuration --- */

static us_outcome insert_refused(visit *v)
{
    v->call->cause = v->verdict.insert_problem;
    return v->verdict.unfillable ? US_ROW_REFUSED : US_STORE_UNAVAILABLE;
}

/*
 * Look at the catalog unless the table is known to suit.  US_OK: lookups
 * work; an insert_problem may still stand in the verdict.
 */
static us_outcome inspect(visit *v)
{
    us_store *store = v->store;
    us_pg_result error;
    us_pg_status status;
    int i;

    status = us_store_check(v->conn, v->call->pool, v->deadline, store->table,
                            store->columns, &v->verdict, &error);
    v->checked = 1;
    if (status != US_PG_OK) {
        note_late(v, status, &error);
        v->call->cause = failure_text(v, status, &error);
        return US_STORE_UNAVAILABLE;
    }
    for (i = 0; i < store->columns->nelts; i++) {
        apr_atomic_set32(&store->json_column[i],
                         (apr_uint32_t)v->verdict.json_column[i]);
    }
    if (v->verdict.read_problem != NULL) {
        apr_atomic_set32(&store->suits, 0);
        v->call->cause = v->verdict.read_problem;
        return US_STORE_UNAVAILABLE;
    }
    apr_atomic_set32(&store->suits, v->verdict.insert_problem == NULL);
    if (v->verdict.warning != NULL && !apr_atomic_xchg32(&store->warned, 1)) {
        us_trace(&v->call->log, APLOG_WARNING, "[%s] %s",
                 v->call->log.request_id, v->verdict.warning);
    }
    return US_OK;
}

/*
 * A statement failed.  When it may be the table's shape, look at the catalog
 * for words that name the cure.
 */
static us_outcome failed(visit *v, us_pg_status status,
                         const us_pg_result *error)
{
    const char *cause = failure_text(v, status, error);

    note_late(v, status, error);
    v->call->cause = cause;
    if (status != US_PG_ERROR) {
        return US_STORE_UNAVAILABLE;
    }
    if (may_be_the_table(error)) {
        if (!v->checked && inspect(v) != US_OK) {
            return US_STORE_UNAVAILABLE;
        }
        if (v->verdict.insert_problem != NULL) {
            return insert_refused(v);
        }
        v->call->cause = cause;
    }
    if (us_pg_is_class(error, "23505")) {
        return US_ROW_CONFLICT;
    }
    return is_servers_fault(error) ? US_STORE_UNAVAILABLE : US_ROW_REFUSED;
}

/* --- check and create --- */

static us_outcome look_up(visit *v, row_state *state)
{
    const char *params[US_MAX_COLUMNS];
    us_pg_result result;
    us_pg_status status;

    fill_params(v, params);
    status = us_pg_exec(v->conn, v->call->pool, v->deadline,
                        v->identity->snapshot ? &v->store->find
                                              : &v->store->look_up,
                        params, &result);
    if (status != US_PG_OK) {
        us_outcome outcome = failed(v, status, &result);

        /* nothing is written here: unless a value does not fit its column,
         * it was not the row */
        return outcome == US_STORE_UNAVAILABLE || us_pg_is_class(&result, "22")
                   ? outcome
                   : US_STORE_UNAVAILABLE;
    }
    if (result.rows == 0) {
        *state = ROW_MISSING;
    }
    else {
        const char *same = US_PG_CELL(&result, 0, 0);

        *state = same != NULL && *same == 't' ? ROW_SAME : ROW_OTHER_EMAIL;
    }
    return US_OK;
}

/*
 * The e-mail changed at Supabase.  The row exists whatever happens here, so
 * nothing that goes wrong refuses the login.  *changed is 0 when there was no
 * row to change any more, or a trigger or a policy kept it as it was.
 */
static void follow_email(visit *v, int *changed)
{
    const char *params[US_MAX_COLUMNS];
    us_pg_result result;
    us_pg_status status;

    fill_params(v, params);
    status = us_pg_exec(v->conn, v->call->pool, v->deadline, &v->store->update,
                        params, &result);
    *changed = status != US_PG_OK || result.rows > 0;
    if (status != US_PG_OK) {
        v->call->email_stale = 1;
        v->call->cause = apr_pstrcat(v->call->pool, EMAIL_STALE,
                                     failure_text(v, status, &result), NULL);
    }
}

/* Run the insert; it may be the one that can insert nothing. */
static us_outcome insert(visit *v, const us_pg_statement *statement,
                         int *inserted)
{
    const char *params[US_MAX_COLUMNS];
    us_pg_result result;
    us_pg_status status;

    if (v->verdict.insert_problem != NULL) {
        return insert_refused(v);
    }
    fill_params(v, params);
    status = us_pg_exec(v->conn, v->call->pool, v->deadline, statement, params,
                        &result);
    if (status != US_PG_OK) {
        return failed(v, status, &result);
    }
    *inserted = result.rows > 0;
    return US_OK;
}

/*
 * Insert the row.  Two requests of one new user that meet in another unique
 * index, older than the id's, are no conflict: *done is 0 then, as when
 * somebody else was faster.
 */
static us_outcome create(visit *v, int *done)
{
    row_state state = ROW_MISSING;
    const char *cause;
    us_outcome outcome = insert(
        v,
        v->identity->snapshot ? &v->store->insert_snapshot : &v->store->insert,
        done);

    if (outcome != US_ROW_CONFLICT) {
        return outcome;
    }
    cause = v->call->cause;
    if (look_up(v, &state) == US_OK && state != ROW_MISSING) {
        v->call->cause = NULL;
        return US_OK;
    }
    v->call->cause = cause;
    return US_ROW_CONFLICT;
}

/*
 * Look, then write what is missing.  A write that changes nothing means that
 * somebody else was faster, so look again; when it still does so, a trigger
 * or a policy of the table suppresses it.
 */
static us_outcome check_and_create(visit *v)
{
    us_outcome outcome = US_OK;
    row_state state = ROW_MISSING;
    int done = 0;
    int round;

    for (round = 0; round < ROUNDS && !done; round++) {
        outcome = look_up(v, &state);
        if (outcome != US_OK || state == ROW_SAME) {
            return outcome;
        }
        if (state == ROW_OTHER_EMAIL) {
            follow_email(v, &done);
        }
        else {
            outcome = create(v, &done);
            if (outcome != US_OK) {
                return outcome;
            }
        }
    }
    if (!done && state == ROW_OTHER_EMAIL) {
        v->call->email_stale = 1;
        v->call->cause = EMAIL_STALE "a trigger or a policy of the table "
                                     "suppresses the update";
    }
    else if (!done) {
        v->call->cause = "the insert left no row: a trigger or a policy of "
                         "the table suppresses it";
        return US_ROW_REFUSED;
    }
    return US_OK;
}

/*
 * An invented id: take the same steps as for a real one, so that a failure
 * of the store does not tell who has an account, and write nothing.  (A
 * statement-level trigger runs, as for any INSERT that finds no row.)
 */
static us_outcome pretend(visit *v)
{
    row_state state;
    int inserted;
    us_outcome outcome = look_up(v, &state);

    return outcome == US_OK ? insert(v, &v->store->pretend, &inserted)
                            : outcome;
}

static us_outcome visit_table(visit *v)
{
    us_outcome outcome = US_OK;

    if (!apr_atomic_read32(&v->store->suits)) {
        outcome = inspect(v);
    }
    if (outcome != US_OK) {
        return outcome;
    }
    return v->identity->proven ? check_and_create(v) : pretend(v);
}

apr_interval_time_t us_store_timeout(const us_store *store)
{
    return store->timeout;
}

us_outcome us_store_ready(us_store *store, us_call *call)
{
    static const us_pg_statement select_1 = {"SELECT 1", 0, 0};
    apr_time_t start = us_clock_now();
    apr_time_t deadline = start + store->timeout;
    us_pg_conn *conn;
    us_pg_result result;
    us_pg_status status;

    if (!us_pg_pool_is_away(store->pg)) {
        return US_OK;
    }
    status = us_pg_borrow(store->pg, call->pool, &call->log, deadline, &conn,
                          &call->cause);
    if (status == US_PG_OK) {
        status
            = us_pg_exec(conn, call->pool, deadline, &select_1, NULL, &result);
        us_pg_return(conn);
        call->cause = NULL;
    }
    call->store_time = us_clock_now() - start;
    if (status == US_PG_OK) {
        return US_OK;
    }
    if (call->cause == NULL) {
        call->cause = "PostgreSQL is still away: see DBDParams and the "
                      "PostgreSQL server";
    }
    return US_STORE_UNAVAILABLE;
}

us_outcome us_store_ensure_user(us_store *store, us_call *call,
                                const us_identity *identity)
{
    apr_time_t start = us_clock_now();
    visit v = {.store = store,
               .call = call,
               .identity = identity,
               .deadline = start + store->timeout};
    us_outcome outcome = US_STORE_UNAVAILABLE;

    if (us_pg_borrow(store->pg, call->pool, &call->log, v.deadline, &v.conn,
                     &call->cause)
        == US_PG_OK) {
        outcome = visit_table(&v);
        us_pg_return(v.conn);
    }
    call->store_time = us_clock_now() - start;
    call->store_late |= outcome == US_STORE_UNAVAILABLE
                        && call->store_time >= store->timeout;
    return outcome;
}
