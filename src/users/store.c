/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "store.h"
#include "store_error.h"
#include "visit.h"

#include <apr_atomic.h>
#include <apr_strings.h>

#include <stdatomic.h>
#include <string.h>

/* How often to look if another process keeps writing and deleting. */
#define ROUNDS 4

/* How long to wait for an update of the row, which may come later. */
#define UPDATE_TIME apr_time_from_msec(500)

/* An account is created only if the table has answered within this time. */
#define FRESH_TIME apr_time_from_sec(1)

/* The id of no user, to see if the table answers (RFC 9562, section 5.9). */
#define NIL_UUID "00000000-0000-0000-0000-000000000000"

us_store *us_store_create(apr_pool_t *pool, const us_server_conf *conf,
                          us_pg_pool *pg, us_fence *fence)
{
    us_store *store = apr_pcalloc(pool, sizeof(*store));
    apr_array_header_t *columns = us_config_columns(pool, conf);
    unsigned shape;

    store->pg = pg;
    store->fence = fence;
    store->on_delete = us_config_delete_rule(conf, columns);
    store->table
        = us_store_table_make(pool, us_config_table(conf), columns,
                              store->on_delete == US_ON_DELETE_DELETE);
    for (shape = 0; shape < US_SHAPES; shape++) {
        store->sql[shape] = us_store_sql_create(pool, &store->table, shape);
    }
    return store;
}

/* --- create --- */

/* Is the row's e-mail an earlier one? */
static int email_is_old(const us_visit *v, const us_row *row)
{
    return !v->identity->snapshot && !row->is_later && !row->same_email;
}

/* Does the row, or a tombstone, keep somebody out whom Supabase let in later?
 * Then an event was lost. */
static int is_dead_wrongly(const us_visit *v, const us_row *row)
{
    return v->identity->may_enter && !row->is_later
           && row->stands.kind != US_MAY_ENTER;
}

/* Runs a statement that changes the row; returns 1 if it did. */
static int change_row(us_visit *v, const us_pg_statement *statement,
                      const char *const *params, us_pg_status *status,
                      us_pg_result *result)
{
    apr_time_t deadline = us_clock_now() + UPDATE_TIME;

    *status = us_pg_exec(v->conn, v->call->pool,
                         deadline < v->deadline ? deadline : v->deadline,
                         statement, params, result);
    v->call->updated |= *status == US_PG_OK && result->rows > 0;
    return *status == US_PG_OK && result->rows > 0;
}

/*
 * The e-mail changed at Supabase.  The row exists in any case, so no failure
 * here refuses the login, and no request waits for a row that the application
 * has locked.  Returns 1 if the row is to be looked up again.
 */
static int follow_email(us_visit *v)
{
    const us_store_table *table = &v->store->table;
    const char *values[US_MAX_COLUMNS];
    const char *params[US_MAX_COLUMNS];
    us_pg_result result;
    us_pg_status status;
    int count = 0;

    us_visit_params(v, values);
    params[count++] = values[0];
    params[count++] = values[1];
    if (table->updated >= 0) {
        params[count++] = us_visit_as_of(v);
    }
    if (table->anonymous >= 0) {
        params[count++] = values[table->anonymous];
    }
    if (change_row(v, &us_visit_sql(v)->update, params, &status, &result)) {
        return 1;
    }
    v->call->email_stale = 1;
    v->call->cause = us_store_stale_text(v->call->pool, status, &result);
    return status == US_PG_OK;
}

/* Lets a user in again.  Whatever becomes of the statement, it may have been
 * committed. */
static int revive(us_visit *v, us_store_seen *seen)
{
    const us_pg_statement *statement = &us_visit_sql(v)->revive;
    const char *params[] = {v->identity->id, us_visit_as_of(v)};
    us_pg_result result;
    us_pg_status status;
    int removed = 0;

    seen->revived = 1;
    if (us_visit_drop_tombstone(v, US_SIGN_IN_TIME, &removed) != US_OK) {
        return 0;
    }
    return (statement->sql != NULL
            && change_row(v, statement, params, &status, &result))
           || removed;
}

/* Brings the row up to date, once in a visit.  Returns 1 if it is to be looked
 * up again. */
static int follow(us_visit *v, const us_row *row, us_store_seen *seen)
{
    int changed = 0;

    if (is_dead_wrongly(v, row)) {
        changed |= revive(v, seen);
    }
    if (email_is_old(v, row)) {
        changed |= follow_email(v);
    }
    return changed;
}

/*
 * Inserts the row.  If two requests of one new user collide in another unique
 * index, older than the id's, there is no conflict if the row exists
 * afterwards.
 *
 * inserted  set to whether PostgreSQL reports a new row
 */
static us_outcome insert(us_visit *v, int *inserted)
{
    const us_store_table *table = &v->store->table;
    const char *params[US_MAX_COLUMNS];
    const char *cause;
    us_row row;
    us_pg_statement statement;
    us_pg_result result;
    us_pg_status status;
    us_outcome outcome = us_visit_know_table(v, 1);

    if (outcome != US_OK) {
        return outcome;
    }
    us_visit_params(v, params);
    if (table->updated >= 0) {
        params[table->updated] = NULL; /* for events, which order themselves */
    }
    statement = us_store_sql_insert(
        v->call->pool, table,
        v->identity->snapshot ? 1 + table->has_email : table->columns->nelts,
        params);
    status = us_pg_exec(v->conn, v->call->pool, v->deadline, &statement,
                        params, &result);
    *inserted = status == US_PG_OK && result.rows > 0;
    v->call->created |= *inserted;
    if (status == US_PG_OK) {
        atomic_store(&v->store->wrote, us_clock_now());
    }
    outcome
        = status == US_PG_OK ? US_OK : us_visit_failed(v, status, &result, 1);
    cause = v->call->cause;
    if (outcome == US_ROW_CONFLICT && us_visit_look(v, &row) == US_OK
        && (row.exists || row.other_case)) {
        v->call->cause = NULL;
        return US_OK;
    }
    v->call->cause = cause;
    return outcome;
}

/* No row is made for a user whose row was deleted, unless Supabase knew them
 * afterwards. */
static us_outcome check_tombstone(us_visit *v, us_row *row,
                                  us_store_seen *seen)
{
    us_outcome outcome = US_OK;
    int removed;
    int has = 0;

    if (v->identity->may_enter) {
        outcome = us_visit_drop_tombstone(v, US_SIGN_IN_TIME, &removed);
        seen->revived |= removed;
    }
    if (outcome == US_OK) {
        outcome = us_visit_look_for_tombstone(v, &has);
    }
    if (outcome == US_OK && has) {
        row->stands.kind = US_IS_DELETED;
        outcome = US_USER_DELETED;
    }
    return outcome;
}

static us_outcome other_case(us_visit *v)
{
    const char *id = us_store_sql_column(&v->store->table, 0);

    return us_fail(v->call, US_ROW_REFUSED,
                   "the id of this user's row is in upper case: a foreign "
                   "key to the id that clients are given would fail: UPDATE "
                   "%s SET %s = lower(%s)",
                   v->store->table.name, id, id);
}

static us_outcome no_row(us_visit *v, int inserted)
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
static int table_is_another(us_visit *v)
{
    apr_uint32_t shape = apr_atomic_read32(&v->store->shape);

    return !v->checked && us_fence_recheck_due(v->store->fence)
           && us_visit_inspect(v) == US_OK
           && apr_atomic_read32(&v->store->shape) != shape;
}

/*
 * Looks, writes what is missing and looks again: OK is a row that was seen.
 * An insert that changes nothing means that another process was faster, unless
 * it happens again and again.
 */
static us_outcome check_and_create(us_visit *v, us_row *row,
                                   us_store_seen *seen)
{
    us_outcome outcome = US_OK;
    int inserted = 0;
    int followed = 0;
    int round;

    for (round = 0; round < ROUNDS; round++) {
        outcome = us_visit_look(v, row);
        if (outcome != US_OK) {
            return outcome;
        }
        if (row->exists && !followed && !inserted) {
            followed = 1;
            if (follow(v, row, seen)) {
                continue;
            }
        }
        if (row->exists || row->other_case || inserted
            || round == ROUNDS - 1) {
            break; /* never write without looking afterwards */
        }
        outcome = check_tombstone(v, row, seen);
        if (outcome == US_OK) {
            outcome = insert(v, &inserted);
        }
        if (outcome != US_OK) {
            return outcome;
        }
    }
    if (inserted && row->stands.kind == US_IS_DELETED) {
        return us_visit_sweep(v, &inserted); /* deleted meanwhile */
    }
    if (row->other_case) {
        return other_case(v);
    }
    if (!row->exists) {
        return table_is_another(v) ? check_and_create(v, row, seen)
                                   : no_row(v, inserted);
    }
    return US_OK;
}

/* Could the e-mail not follow? */
static void judge_email(us_visit *v, const us_row *row)
{
    if (v->identity->snapshot) {
        return;
    }
    if (!row->same_email && !row->is_later && !v->call->email_stale) {
        v->call->email_stale = 1;
        v->call->cause
            = US_EMAIL_STALE "a trigger of the table changes it back";
    }
    else if (row->same_email && v->call->email_stale) {
        v->call->email_stale = 0; /* another process has updated it */
        v->call->cause = NULL;
    }
}

/* May the row's user be let in? */
static us_outcome judge(us_visit *v, const us_row *row)
{
    judge_email(v, row);
    if (row->stands.kind == US_MAY_ENTER) {
        return US_OK;
    }
    v->call->email_stale = 0;
    return row->stands.kind == US_IS_BANNED
               ? us_fail(v->call, US_USER_BANNED,
                         "the user's row says that they are banned")
               : us_fail(v->call, US_USER_DELETED,
                         "the user's row says that they are deleted");
}

/* The insert that inserts nothing: it takes the same locks, and fails if a
 * privilege or an index is missing. */
static us_outcome pretend_insert(us_visit *v)
{
    const char *params[US_MAX_COLUMNS];
    us_pg_result result;
    us_pg_status status;

    us_visit_params(v, params);
    status = us_pg_exec(v->conn, v->call->pool, v->deadline,
                        &us_visit_sql(v)->pretend, params, &result);
    if (status != US_PG_OK) {
        return us_visit_failed(v, status, &result, 1);
    }
    atomic_store(&v->store->wrote, us_clock_now());
    return US_OK;
}

/*
 * An invented id: takes the same steps as for a real one, so that a failure of
 * the store does not reveal who has an account, and writes nothing.  (A
 * statement-level trigger runs, as for any INSERT that finds no row.)
 */
static us_outcome pretend(us_visit *v)
{
    us_row row;
    us_outcome outcome = us_visit_look(v, &row);
    int has;

    if (outcome == US_OK) {
        outcome = us_visit_look_for_tombstone(v, &has);
    }
    if (outcome == US_OK) {
        outcome = us_visit_know_table(v, 1);
    }
    if (outcome == US_OK) {
        outcome = pretend_insert(v);
    }
    return outcome == US_OK ? us_visit_look(v, &row) : outcome;
}

/* --- for users/users.c --- */

us_outcome us_store_ensure(us_store *store, us_call *call,
                           const us_identity *identity, apr_time_t deadline,
                           us_store_seen *seen)
{
    us_visit v = {.store = store,
                  .call = call,
                  .identity = identity,
                  .deadline = deadline};
    us_row row = {0};
    us_outcome outcome;

    memset(seen, 0, sizeof(*seen));
    if (!us_visit_begin(&v)) {
        return US_STORE_UNAVAILABLE;
    }
    outcome = us_visit_know_table(&v, 0);
    if (outcome == US_OK && identity->proven) {
        outcome = check_and_create(&v, &row, seen);
        if (outcome == US_OK) {
            outcome = judge(&v, &row);
        }
    }
    else if (outcome == US_OK) {
        outcome = pretend(&v);
    }
    if (outcome == US_STORE_UNAVAILABLE) {
        /* whatever was written before says nothing about the next write */
        atomic_store(&store->wrote, 0);
    }
    seen->history = v.history;
    seen->stands = row.stands;
    seen->email_is_same = row.same_email && !identity->snapshot;
    us_visit_end(&v);
    return outcome;
}

int us_store_is_new(us_store *store)
{
    return apr_atomic_read32(&store->shape) == 0
           && !us_pg_pool_is_away(store->pg);
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

/* Who has no row. */
static const us_identity nobody = {
    .id = NIL_UUID,
    .snapshot = 1,
    .values = {{.text = NIL_UUID}},
};

us_outcome us_store_probe(us_store *store, us_call *call, apr_time_t deadline,
                          int creates)
{
    us_visit v = {.store = store,
                  .call = call,
                  .identity = &nobody,
                  .deadline = deadline};
    us_row row;
    us_outcome outcome;

    if (!us_visit_begin(&v)) {
        return US_STORE_UNAVAILABLE;
    }
    outcome = us_visit_know_table(&v, creates);
    if (outcome == US_OK && creates && v.misfit.outcome != US_OK) {
        outcome = us_visit_misfit(&v);
    }
    if (outcome == US_OK) {
        outcome = us_visit_look(&v, &row);
    }
    if (outcome == US_OK && creates) {
        outcome = pretend_insert(&v);
    }
    us_visit_end(&v);
    return outcome;
}

us_outcome us_store_inspect(us_store *store, us_call *call,
                            apr_time_t deadline)
{
    us_visit v = {.store = store,
                  .call = call,
                  .identity = &nobody,
                  .deadline = deadline};
    us_row row;
    us_outcome outcome;

    if (!us_visit_begin(&v)) {
        return US_STORE_UNAVAILABLE;
    }
    outcome = us_visit_inspect(&v);
    if (outcome == US_OK) {
        outcome = us_visit_look(&v, &row);
    }
    us_visit_end(&v);
    return outcome;
}
