/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "us_clock.h"
#include "us_log.h"
#include "store.h"
#include "store_check.h"
#include "store_error.h"
#include "store_sql.h"

#include <apr_atomic.h>
#include <apr_strings.h>

#include <stdatomic.h>
#include <string.h>

/* How often to look if another process keeps writing and deleting. */
#define ROUNDS 4

/* How long to wait for the update of an e-mail, which may come later. */
#define EMAIL_TIME apr_time_from_msec(500)

/* An account is created only if the table has answered within this time. */
#define FRESH_TIME apr_time_from_sec(1)

/* The id of no user, to see if the table answers (RFC 9562, section 5.9). */
#define NIL_UUID "00000000-0000-0000-0000-000000000000"

/* A store's shape: the bits of users/store_sql.h, one bit for each column of
 * type json or jsonb, and one that says that the table has been seen. */
#define SHAPE_JSON(i) (1u << (8 + (i)))
#define SHAPE_SEEN (1u << 31)

struct us_store {
    us_pg_pool *pg;
    us_fence *fence;
    const char *table;
    const apr_array_header_t *columns;
    int has_email; /* if so, it is the second column */
    us_store_sql sql[US_SHAPES];
    volatile apr_uint32_t shape;  /* 0: the table has not been seen */
    volatile apr_uint32_t warned; /* about what may surprise, once per child */
    _Atomic apr_int64_t wrote;    /* when the table last accepted a write, or a
                                * pretended one */
};

/* One visit to the table: what its steps share. */
typedef struct visit {
    us_store *store;
    us_call *call;
    const us_identity *identity;
    us_pg_conn *conn;
    apr_time_t deadline;
    apr_interval_time_t time; /* what was left when the connection came */
    us_misfit misfit;         /* as far as this visit knows */
    int checked;              /* this visit has looked at the catalog */
    apr_uint64_t history;     /* of the server of the last look-up */
} visit;

typedef enum row_state {
    ROW_SAME,
    ROW_OTHER_EMAIL,
    ROW_OTHER_CASE, /* the id exists in upper case */
    ROW_MISSING
} row_state;

/* --- set-up --- */

us_store *us_store_create(apr_pool_t *pool, const us_server_conf *conf,
                          us_pg_pool *pg, us_fence *fence)
{
    us_store *store = apr_pcalloc(pool, sizeof(*store));
    unsigned shape;

    store->pg = pg;
    store->fence = fence;
    store->table = us_config_table(conf);
    store->columns = us_config_columns(pool, conf);
    store->has_email = us_columns_have_email(store->columns);
    for (shape = 0; shape < US_SHAPES; shape++) {
        store->sql[shape] = us_store_sql_create(
            pool, store->table, store->columns, store->has_email, shape);
    }
    return store;
}

static const us_store_sql *sql_of(const visit *v)
{
    return &v->store
                ->sql[apr_atomic_read32(&v->store->shape) & (US_SHAPES - 1)];
}

/* Values in the order of the columns. */
static void fill_params(const visit *v, const char *params[US_MAX_COLUMNS])
{
    apr_uint32_t shape = apr_atomic_read32(&v->store->shape);
    int i;

    for (i = 0; i < v->store->columns->nelts; i++) {
        const us_value *value = &v->identity->values[i];

        params[i] = (shape & SHAPE_JSON(i)) != 0 ? value->json : value->text;
    }
}

/* --- failures --- */

/*
 * Late means that no answer came in time, also if PostgreSQL itself ended the
 * statement.  57014: statement_timeout, or an administrator; 55P03:
 * lock_timeout.
 */
static void note_failure(visit *v, us_pg_status status,
                         const us_pg_result *error)
{
    v->call->store_late |= status == US_PG_TIMEOUT
                           || (status == US_PG_ERROR && !error->is_raised
                               && (us_pg_is_class(error, "57014")
                                   || us_pg_is_class(error, "55P03")));
    v->call->cause = us_store_error_text(v->call->pool, status, error,
                                         v->identity->snapshot);
}

/* --- the table against the configuration --- */

static us_outcome misfit(visit *v)
{
    return us_fail(v->call, v->misfit.outcome, "%s", v->misfit.text);
}

/* Keeps the check's findings: how to write statements, and what is wrong. */
static void take_verdict(visit *v, const us_store_verdict *verdict)
{
    us_store *store = v->store;
    apr_uint32_t shape = verdict->shape | SHAPE_SEEN;
    int i;

    for (i = 0; i < store->columns->nelts; i++) {
        shape |= verdict->json_column[i] ? SHAPE_JSON(i) : 0;
    }
    if (verdict->read_problem != NULL) {
        us_fence_set_misfit(store->fence, US_TABLE_MISFIT, 1,
                            verdict->read_problem);
    }
    else if (verdict->insert_problem != NULL) {
        us_fence_set_misfit(store->fence,
                            verdict->unfillable ? US_ROW_REFUSED
                                                : US_TABLE_MISFIT,
                            0, verdict->insert_problem);
    }
    else {
        us_fence_clear_misfit(store->fence);
    }
    us_fence_misfit(store->fence, &v->misfit);
    apr_atomic_set32(&store->shape, shape);
    if (verdict->warning != NULL && !apr_atomic_xchg32(&store->warned, 1)) {
        us_trace(&v->call->log, APLOG_WARNING, "[%s] %s",
                 v->call->log.request_id, verdict->warning);
    }
}

/* Looks at the catalog.  US_OK: look-ups work, but there may be a misfit. */
static us_outcome inspect(visit *v)
{
    us_store_verdict verdict;
    us_pg_status status
        = us_store_check(v->conn, v->call->pool, v->deadline, v->store->table,
                         v->store->columns, &verdict);

    v->checked = 1;
    if (status != US_PG_OK) {
        note_failure(v, status, &verdict.error);
        return US_STORE_UNAVAILABLE;
    }
    take_verdict(v, &verdict);
    return v->misfit.reads ? misfit(v) : US_OK;
}

/*
 * Looks at the catalog unless the table is known.  A table that does not match
 * is checked again from time to time, by requests that it keeps from their
 * work.
 */
static us_outcome know_table(visit *v, int writes)
{
    if (apr_atomic_read32(&v->store->shape) == 0) {
        return inspect(v);
    }
    if (us_fence_misfit(v->store->fence, &v->misfit)
        && (v->misfit.reads || writes) && !v->checked
        && us_fence_recheck_due(v->store->fence)) {
        us_outcome outcome = inspect(v);

        if (outcome != US_OK) {
            return outcome;
        }
    }
    return v->misfit.outcome != US_OK && (v->misfit.reads || writes)
               ? misfit(v)
               : US_OK;
}

/*
 * The catalog may explain a failure better.  Returns 1 if so: then outcome and
 * call->cause are set, else they are unchanged.
 */
static int catalog_knows(visit *v, us_outcome *outcome)
{
    const char *cause = v->call->cause;

    if (!v->checked && us_fence_recheck_due(v->store->fence)
        && inspect(v) == US_STORE_UNAVAILABLE) {
        *outcome = US_STORE_UNAVAILABLE;
        return 1;
    }
    if (us_fence_misfit(v->store->fence, &v->misfit)) {
        *outcome = misfit(v);
        return 1;
    }
    v->call->cause = cause;
    return 0;
}

/* PostgreSQL says that the table is wrong.  If the catalog shows no problem,
 * the table may have changed since this child last looked at it. */
static us_outcome table_failed(visit *v, int writes)
{
    apr_uint32_t shape = apr_atomic_read32(&v->store->shape);
    us_outcome outcome = US_TABLE_MISFIT;

    if (!catalog_knows(v, &outcome)
        && apr_atomic_read32(&v->store->shape) == shape) {
        us_fence_set_odd_misfit(v->store->fence, !writes, v->call->cause);
    }
    return outcome;
}

/*
 * A statement failed.  A value that does not fit (22) or is missing (23502) is
 * the row's fault, unless the table has changed.
 */
static us_outcome failed(visit *v, us_pg_status status,
                         const us_pg_result *error, int writes)
{
    us_outcome outcome;

    note_failure(v, status, error);
    if (status != US_PG_ERROR) {
        return US_STORE_UNAVAILABLE;
    }
    switch (us_pg_fault_of(error)) {
    case US_FAULT_TABLE:
        return table_failed(v, writes);
    case US_FAULT_CONFLICT:
        return US_ROW_CONFLICT;
    case US_FAULT_SERVER:
    case US_FAULT_CONNECTION:
        return US_STORE_UNAVAILABLE;
    case US_FAULT_REPEAT:
        return error->is_in_body ? US_ROW_REFUSED : US_STORE_UNAVAILABLE;
    case US_FAULT_ROW:
        break;
    }
    outcome = US_ROW_REFUSED;
    if (us_pg_is_class(error, "22") || us_pg_is_class(error, "23502")) {
        catalog_knows(v, &outcome);
    }
    return outcome;
}

/* --- look --- */

static row_state state_of(const us_pg_result *result)
{
    row_state state = ROW_MISSING;
    int row;

    for (row = 0; row < result->rows; row++) {
        const char *exact = US_PG_CELL(result, row, US_LOOK_EXACT);
        const char *same = result->columns > US_LOOK_EMAIL
                               ? US_PG_CELL(result, row, US_LOOK_EMAIL)
                               : exact;

        if (exact == NULL || *exact != 't') {
            state = ROW_OTHER_CASE;
            continue;
        }
        return same != NULL && *same == 't' ? ROW_SAME : ROW_OTHER_EMAIL;
    }
    return state;
}

static us_outcome look_up(visit *v, row_state *state)
{
    const us_store_sql *sql = sql_of(v);
    const char *params[US_MAX_COLUMNS];
    us_pg_result result;
    us_pg_status status;

    fill_params(v, params);
    status = us_pg_exec(v->conn, v->call->pool, v->deadline,
                        v->identity->snapshot ? &sql->find : &sql->look_up,
                        params, &result);
    if (status != US_PG_OK) {
        return failed(v, status, &result, 0);
    }
    v->history = us_pg_conn_history(v->conn);
    *state = state_of(&result);
    return US_OK;
}

/* --- create --- */

/*
 * The e-mail changed at Supabase.  The row exists in any case, so no failure
 * here refuses the login, and no request waits for a row that the application
 * has locked.  Returns 1 if the row is to be looked up again.
 */
static int follow_email(visit *v)
{
    const char *params[US_MAX_COLUMNS];
    apr_time_t deadline = us_clock_now() + EMAIL_TIME;
    us_pg_result result;
    us_pg_status status;

    fill_params(v, params);
    status = us_pg_exec(v->conn, v->call->pool,
                        deadline < v->deadline ? deadline : v->deadline,
                        &sql_of(v)->update, params, &result);
    if (status == US_PG_OK && result.rows > 0) {
        return 1;
    }
    v->call->email_stale = 1;
    v->call->cause = us_store_stale_text(v->call->pool, status, &result);
    return status == US_PG_OK;
}

/*
 * Inserts the row.  If two requests of one new user collide in another unique
 * index, older than the id's, there is no conflict if the row exists
 * afterwards.
 *
 * inserted  set to whether PostgreSQL reports a new row
 */
static us_outcome insert(visit *v, int *inserted)
{
    const char *params[US_MAX_COLUMNS];
    const char *cause;
    row_state state = ROW_MISSING;
    us_pg_statement statement;
    us_pg_result result;
    us_pg_status status;
    us_outcome outcome = know_table(v, 1);

    if (outcome != US_OK) {
        return outcome;
    }
    fill_params(v, params);
    statement = us_store_sql_insert(
        v->call->pool, v->store->table, v->store->columns,
        v->identity->snapshot ? 1 + v->store->has_email
                              : v->store->columns->nelts,
        params);
    status = us_pg_exec(v->conn, v->call->pool, v->deadline, &statement,
                        params, &result);
    *inserted = status == US_PG_OK && result.rows > 0;
    if (status == US_PG_OK) {
        atomic_store(&v->store->wrote, us_clock_now());
    }
    outcome = status == US_PG_OK ? US_OK : failed(v, status, &result, 1);
    cause = v->call->cause;
    if (outcome == US_ROW_CONFLICT && look_up(v, &state) == US_OK
        && state != ROW_MISSING) {
        v->call->cause = NULL;
        return US_OK;
    }
    v->call->cause = cause;
    return outcome;
}

static us_outcome other_case(visit *v)
{
    const char *id = APR_ARRAY_IDX(v->store->columns, 0, us_column).quoted;

    return us_fail(v->call, US_ROW_REFUSED,
                   "the id of this user's row is in upper case: a foreign "
                   "key to the id that clients are given would fail: UPDATE "
                   "%s SET %s = lower(%s)",
                   v->store->table, id, id);
}

static us_outcome no_row(visit *v, int inserted)
{
    return us_fail(
        v->call, US_ROW_REFUSED, "%s",
        inserted ? "the insert succeeded and left no row of this id: a "
                   "trigger of the table changes the id or removes the row"
                 : "the insert left no row: a trigger or a policy of the "
                   "table suppresses it");
}

/* Has the table changed since this child last looked at it?  A partitioned
 * table has no rows of its own, and no error says so. */
static int table_is_another(visit *v)
{
    apr_uint32_t shape = apr_atomic_read32(&v->store->shape);

    return !v->checked && us_fence_recheck_due(v->store->fence)
           && inspect(v) == US_OK
           && apr_atomic_read32(&v->store->shape) != shape;
}

/*
 * Looks, writes what is missing and looks again: OK is a row that was seen.
 * An insert that changes nothing means that another process was faster, unless
 * it happens again and again.
 */
static us_outcome check_and_create(visit *v, us_store_seen *seen)
{
    us_outcome outcome = US_OK;
    row_state state = ROW_MISSING;
    int inserted = 0;
    int followed = 0;
    int round;

    for (round = 0; round < ROUNDS; round++) {
        outcome = look_up(v, &state);
        if (outcome != US_OK) {
            return outcome;
        }
        if (state == ROW_OTHER_EMAIL && !followed) {
            followed = 1;
            if (follow_email(v)) {
                continue;
            }
        }
        if (state != ROW_MISSING || inserted || round == ROUNDS - 1) {
            break; /* never write without looking afterwards */
        }
        outcome = insert(v, &inserted);
        if (outcome != US_OK) {
            return outcome;
        }
    }
    if (state == ROW_OTHER_CASE) {
        return other_case(v);
    }
    if (state == ROW_MISSING) {
        return table_is_another(v) ? check_and_create(v, seen)
                                   : no_row(v, inserted);
    }
    if (state == ROW_OTHER_EMAIL && !v->call->email_stale) {
        v->call->email_stale = 1;
        v->call->cause
            = US_EMAIL_STALE "a trigger of the table changes it back";
    }
    else if (state == ROW_SAME && v->call->email_stale) {
        v->call->email_stale = 0; /* another process has updated it */
        v->call->cause = NULL;
    }
    seen->email_is_same = state == ROW_SAME && !v->identity->snapshot;
    return US_OK;
}

/* The insert that inserts nothing: it takes the same locks, and fails if a
 * privilege or an index is missing. */
static us_outcome pretend_insert(visit *v)
{
    const char *params[US_MAX_COLUMNS];
    us_pg_result result;
    us_pg_status status;

    fill_params(v, params);
    status = us_pg_exec(v->conn, v->call->pool, v->deadline,
                        &sql_of(v)->pretend, params, &result);
    if (status != US_PG_OK) {
        return failed(v, status, &result, 1);
    }
    atomic_store(&v->store->wrote, us_clock_now());
    return US_OK;
}

/*
 * An invented id: takes the same steps as for a real one, so that a failure of
 * the store does not reveal who has an account, and writes nothing.  (A
 * statement-level trigger runs, as for any INSERT that finds no row.)
 */
static us_outcome pretend(visit *v)
{
    row_state state;
    us_outcome outcome = look_up(v, &state);

    if (outcome == US_OK) {
        outcome = know_table(v, 1);
    }
    if (outcome == US_OK) {
        outcome = pretend_insert(v);
    }
    return outcome == US_OK ? look_up(v, &state) : outcome;
}

/* --- for users/users.c --- */

static int borrow(visit *v)
{
    us_call *call = v->call;

    if (us_pg_borrow(v->store->pg, call->pool, &call->log, v->deadline,
                     &v->conn, &call->cause)
        != US_PG_OK) {
        atomic_store(&v->store->wrote, 0); /* as after any failure */
        return 0;
    }
    v->time = v->deadline - us_clock_now();
    return 1;
}

/* If the request had to wait for a connection, PostgreSQL did not have its
 * full time: being late then shows that there are many users, not that the
 * table hangs. */
static void give_back(visit *v)
{
    if (v->time < v->call->store_limit / 2) {
        v->call->store_late = 0;
    }
    us_pg_return(v->conn);
}

us_outcome us_store_ensure(us_store *store, us_call *call,
                           const us_identity *identity, apr_time_t deadline,
                           us_store_seen *seen)
{
    visit v = {.store = store,
               .call = call,
               .identity = identity,
               .deadline = deadline};
    us_outcome outcome;

    memset(seen, 0, sizeof(*seen));
    if (!borrow(&v)) {
        return US_STORE_UNAVAILABLE;
    }
    outcome = know_table(&v, 0);
    if (outcome == US_OK) {
        outcome = identity->proven ? check_and_create(&v, seen) : pretend(&v);
    }
    if (outcome == US_STORE_UNAVAILABLE) {
        /* whatever was written before says nothing about the next write */
        atomic_store(&store->wrote, 0);
    }
    seen->history = v.history;
    give_back(&v);
    return outcome;
}

int us_store_is_in_doubt(us_store *store, int creates)
{
    us_misfit misfit;

    if (us_pg_pool_is_away(store->pg)
        || apr_atomic_read32(&store->shape) == 0) {
        return 1;
    }
    if (us_fence_misfit(store->fence, &misfit) && (misfit.reads || creates)) {
        return 1;
    }
    return creates && us_clock_now() - atomic_load(&store->wrote) > FRESH_TIME;
}

us_outcome us_store_probe(us_store *store, us_call *call, apr_time_t deadline,
                          int creates)
{
    static const us_identity nobody = {
        .id = NIL_UUID,
        .snapshot = 1,
        .values = {{.text = NIL_UUID}},
    };
    visit v = {.store = store,
               .call = call,
               .identity = &nobody,
               .deadline = deadline};
    row_state state;
    us_outcome outcome;

    if (!borrow(&v)) {
        return US_STORE_UNAVAILABLE;
    }
    outcome = know_table(&v, creates);
    if (outcome == US_OK && creates && v.misfit.outcome != US_OK) {
        outcome = misfit(&v);
    }
    if (outcome == US_OK) {
        outcome = look_up(&v, &state);
    }
    if (outcome == US_OK && creates) {
        outcome = pretend_insert(&v);
    }
    give_back(&v);
    return outcome;
}
