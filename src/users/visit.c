/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "us_log.h"
#include "store_check.h"
#include "store_error.h"
#include "visit.h"

#include <apr_atomic.h>
#include <apr_strings.h>

#include <stdlib.h>
#include <string.h>

/* A store's shape: the bits of users/store_sql.h, one bit for each column of
 * type json or jsonb, and one that says that the table has been seen. */
#define SHAPE_JSON(i) (1u << (8 + (i)))
#define SHAPE_SEEN (1u << 31)

unsigned us_visit_shape(const us_visit *v)
{
    return apr_atomic_read32(&v->store->shape) & (US_SHAPES - 1);
}

const us_store_sql *us_visit_sql(const us_visit *v)
{
    return &v->store->sql[us_visit_shape(v)];
}

void us_visit_params(const us_visit *v, const char *params[US_MAX_COLUMNS])
{
    apr_uint32_t shape = apr_atomic_read32(&v->store->shape);
    int i;

    for (i = 0; i < v->store->table.columns->nelts; i++) {
        const us_value *value = &v->identity->values[i];

        params[i] = (shape & SHAPE_JSON(i)) != 0 ? value->json : value->text;
    }
}

const char *us_visit_as_of(const us_visit *v)
{
    return v->identity->as_of != NULL ? v->identity->as_of : "-infinity";
}

/* --- failures --- */

/*
 * Late means that no answer came in time, also if PostgreSQL itself ended the
 * statement.  57014: statement_timeout, or an administrator; 55P03:
 * lock_timeout.
 */
static void note_failure(us_visit *v, us_pg_status status,
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

us_outcome us_visit_misfit(us_visit *v)
{
    return us_fail(v->call, v->misfit.outcome, "%s", v->misfit.text);
}

/* Keeps the check's findings: how to write statements, and what is wrong. */
static void take_verdict(us_visit *v, const us_store_verdict *verdict)
{
    us_store *store = v->store;
    apr_uint32_t shape = verdict->shape | SHAPE_SEEN;
    int i;

    for (i = 0; i < store->table.columns->nelts; i++) {
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
us_outcome us_visit_inspect(us_visit *v)
{
    us_store_verdict verdict;
    us_pg_status status = us_store_check(v->conn, v->call->pool, v->deadline,
                                         &v->store->table, &verdict);

    v->checked = 1;
    if (status != US_PG_OK) {
        note_failure(v, status, &verdict.error);
        return US_STORE_UNAVAILABLE;
    }
    take_verdict(v, &verdict);
    return v->misfit.reads ? us_visit_misfit(v) : US_OK;
}

/*
 * Looks at the catalog unless the table is known.  A table that does not match
 * is checked again from time to time, by requests that it keeps from their
 * work.
 */
us_outcome us_visit_know_table(us_visit *v, int writes)
{
    if (apr_atomic_read32(&v->store->shape) == 0) {
        return us_visit_inspect(v);
    }
    if (us_fence_misfit(v->store->fence, &v->misfit)
        && (v->misfit.reads || writes) && !v->checked
        && us_fence_recheck_due(v->store->fence)) {
        us_outcome outcome = us_visit_inspect(v);

        if (outcome != US_OK) {
            return outcome;
        }
    }
    return v->misfit.outcome != US_OK && (v->misfit.reads || writes)
               ? us_visit_misfit(v)
               : US_OK;
}

/*
 * The catalog may explain a failure better.  Returns 1 if so: then outcome and
 * call->cause are set, else they are unchanged.
 */
static int catalog_knows(us_visit *v, us_outcome *outcome)
{
    const char *cause = v->call->cause;

    if (!v->checked && us_fence_recheck_due(v->store->fence)
        && us_visit_inspect(v) == US_STORE_UNAVAILABLE) {
        *outcome = US_STORE_UNAVAILABLE;
        return 1;
    }
    if (us_fence_misfit(v->store->fence, &v->misfit)) {
        *outcome = us_visit_misfit(v);
        return 1;
    }
    v->call->cause = cause;
    return 0;
}

/* PostgreSQL says that the table is wrong.  If the catalog shows no problem,
 * the table may have changed since this child last looked at it. */
static us_outcome table_failed(us_visit *v, int writes)
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
us_outcome us_visit_failed(us_visit *v, us_pg_status status,
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

static int is_true(const char *cell)
{
    return cell != NULL && *cell == 't';
}

static us_standing standing_of(const char *cell)
{
    us_standing standing = {US_MAY_ENTER, 0};

    if (cell != NULL && strcmp(cell, "deleted") == 0) {
        standing.kind = US_IS_DELETED;
    }
    else if (cell != NULL) {
        standing.kind = US_IS_BANNED;
        standing.seconds = (int)strtol(cell, NULL, 10);
    }
    return standing;
}

static void read_row(const us_pg_result *result, us_row *found)
{
    int row;

    memset(found, 0, sizeof(*found));
    for (row = 0; row < result->rows; row++) {
        if (!is_true(US_PG_CELL(result, row, US_LOOK_EXACT))) {
            found->other_case = 1;
            continue;
        }
        found->exists = 1;
        found->other_case = 0;
        found->stands = standing_of(US_PG_CELL(result, row, US_LOOK_LIFE));
        if (result->columns > US_LOOK_EMAIL) {
            found->same_email
                = is_true(US_PG_CELL(result, row, US_LOOK_EMAIL));
            found->is_later = is_true(US_PG_CELL(result, row, US_LOOK_LATER));
        }
        return;
    }
}

us_outcome us_visit_look(us_visit *v, us_row *row)
{
    const us_store_sql *sql = us_visit_sql(v);
    const us_pg_statement *statement
        = v->identity->snapshot ? &sql->find : &sql->look_up;
    const char *params[US_MAX_COLUMNS];
    us_pg_result result;
    us_pg_status status;

    us_visit_params(v, params);
    params[v->store->table.has_email ? 2 : 1] = us_visit_as_of(v);
    status = us_pg_exec(v->conn, v->call->pool, v->deadline, statement, params,
                        &result);
    if (status != US_PG_OK) {
        return us_visit_failed(v, status, &result, 0);
    }
    v->history = us_pg_conn_history(v->conn);
    read_row(&result, row);
    return US_OK;
}

us_outcome us_visit_look_for_tombstone(us_visit *v, int *has)
{
    us_pg_result result;
    us_pg_status status;

    *has = 0;
    if (v->store->table.tombstones == NULL) {
        return US_OK;
    }
    status
        = us_pg_exec(v->conn, v->call->pool, v->deadline,
                     &us_visit_sql(v)->tombstone, &v->identity->id, &result);
    if (status != US_PG_OK) {
        return us_visit_failed(v, status, &result, 0);
    }
    *has = result.rows > 0;
    return US_OK;
}

us_outcome us_visit_drop_tombstone(us_visit *v, const char *by, int *removed)
{
    const char *params[] = {v->identity->id, v->identity->as_of, by};
    us_pg_result result;
    us_pg_status status;

    *removed = 0;
    if (v->store->table.tombstones == NULL || v->identity->as_of == NULL) {
        return US_OK;
    }
    status = us_pg_exec(v->conn, v->call->pool, v->deadline,
                        &us_visit_sql(v)->drop_tombstone, params, &result);
    if (status != US_PG_OK) {
        return us_visit_failed(v, status, &result, 1);
    }
    *removed = result.rows > 0;
    return US_OK;
}

int us_visit_is_referred_to(const us_pg_result *error)
{
    return error->sqlstate != NULL
           && (us_pg_is_class(error, "23503")
               || us_pg_is_class(error, "23001"));
}

us_outcome us_visit_sweep(us_visit *v, int *removed)
{
    us_pg_result result;
    us_pg_status status;

    *removed = 0;
    if (v->store->table.tombstones == NULL) {
        return US_OK;
    }
    status = us_pg_exec(v->conn, v->call->pool, v->deadline,
                        &us_visit_sql(v)->sweep, &v->identity->id, &result);
    if (status == US_PG_ERROR && us_pg_fault_of(&result) != US_FAULT_SERVER
        && us_pg_fault_of(&result) != US_FAULT_CONNECTION) {
        return US_OK; /* it stays beside the tombstone */
    }
    if (status != US_PG_OK) {
        return us_visit_failed(v, status, &result, 1);
    }
    *removed = result.rows > 0;
    return US_OK;
}

/* --- the connection --- */

int us_visit_begin(us_visit *v)
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
void us_visit_end(us_visit *v)
{
    if (v->time < v->call->store_limit / 2) {
        v->call->store_late = 0;
    }
    us_pg_return(v->conn);
}
