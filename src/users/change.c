/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * users/change.c: brings a row to the state that Supabase tells of.  Events
 * may come late, twice and in any order: each statement changes only what
 * yields to its state.
 */
#include "change_sql.h"
#include "store.h"
#include "store_error.h"
#include "visit.h"

#include <apr_strings.h>

#include <string.h>

/* How often to try if another process keeps writing and deleting. */
#define ROUNDS 4

static us_change change_of(const us_visit *v)
{
    const us_store_table *table = &v->store->table;
    us_change change = {.table = table, .shape = us_visit_shape(v)};

    us_visit_params(v, change.values);
    change.as_of = v->identity->as_of;
    if (table->updated >= 0) {
        change.values[table->updated] = change.as_of;
    }
    if (table->deleted >= 0) {
        change.deleted_at = change.values[table->deleted];
    }
    return change;
}

/* Only events need what this statement needs, such as a privilege to delete:
 * if that is missing, the table still suits those who sign in. */
static us_outcome failed(us_visit *v, us_pg_status status,
                         const us_pg_result *error)
{
    us_call *call = v->call;

    if (status == US_PG_ERROR && us_pg_fault_of(error) == US_FAULT_TABLE) {
        call->cause = apr_pstrcat(
            call->pool, us_store_error_text(call->pool, status, error, 0),
            error->is_privilege
                ? ": events need the right to UPDATE all mapped columns, and "
                  "to DELETE with UserSyncOnDelete Delete: see "
                  "sql/user_life.sql"
                : "",
            NULL);
        return US_TABLE_MISFIT;
    }
    return us_visit_failed(v, status, error, 1);
}

/* Has the table refused what the statement was to write? */
static int is_refused(us_outcome outcome)
{
    return outcome == US_ROW_REFUSED || outcome == US_ROW_CONFLICT
           || outcome == US_TABLE_MISFIT;
}

/* Runs a statement; *changed: it has changed a row. */
static us_outcome run(us_visit *v, const us_change_sql *sql, int *changed,
                      us_pg_result *result)
{
    us_pg_status status = us_pg_exec(v->conn, v->call->pool, v->deadline,
                                     &sql->statement, sql->params, result);

    *changed = status == US_PG_OK && result->rows > 0;
    return status == US_PG_OK ? US_OK : failed(v, status, result);
}

/* --- users who live --- */

/*
 * Takes the e-mail from whoever had it before; *taken: somebody had.
 *
 * kept  set if another row keeps it that should not.  If it is not set, the
 *       other row's state is later: then this user's own later state is still
 *       to come
 */
static us_outcome vacate(us_visit *v, const us_change *change, int *taken,
                         int *kept)
{
    us_change_sql sql;
    us_pg_result result;
    us_outcome outcome;

    *taken = 0;
    *kept = 0;
    if (change->table->updated < 0 || !change->table->has_email
        || change->values[1] == NULL) {
        return US_OK;
    }
    sql = us_change_sql_vacate(v->call->pool, change);
    outcome = run(v, &sql, taken, &result);
    if (is_refused(outcome)) {
        *kept = 1;
        outcome = US_OK;
    }
    if (outcome == US_OK && !*taken && !*kept) {
        sql = us_change_sql_find_owner(v->call->pool, change);
        outcome = run(v, &sql, kept, &result);
    }
    return outcome;
}

/*
 * Sets what the table takes.  Users choose their metadata, and somebody else
 * may have their e-mail: nothing of that keeps a ban away.
 *
 * refused  the outcome for all columns, with its cause
 */
static us_outcome update_life(us_visit *v, const us_change *change,
                              us_outcome refused, int *changed)
{
    const char *cause = v->call->cause;
    us_change_sql sql
        = us_change_sql_update(v->call->pool, change, US_CHANGE_LIFE);
    us_pg_result result;
    us_outcome outcome = run(v, &sql, changed, &result);

    if (outcome == US_OK) {
        v->call->has_warning = 1;
        v->call->cause = apr_pstrcat(
            v->call->pool,
            "only whether the user is banned, deleted or anonymous was set: ",
            cause, NULL);
        return US_OK;
    }
    v->call->cause = cause;
    return is_refused(outcome) ? refused : outcome;
}

/*
 * Supabase knows each address once.  If two users have exchanged theirs and
 * the events come in another order, the other row has an e-mail that is not
 * its own any more: it goes without until its own event comes.
 */
static us_outcome exchange(us_visit *v, const us_change *change, int *changed)
{
    us_change_sql sql;
    us_pg_result result;
    us_outcome outcome;
    int taken;
    int kept;

    outcome = vacate(v, change, &taken, &kept);
    if (outcome != US_OK) {
        return outcome;
    }
    v->call->cause = NULL;
    sql = us_change_sql_update(v->call->pool, change,
                               taken ? US_CHANGE_ALL : US_CHANGE_NO_EMAIL);
    outcome = run(v, &sql, changed, &result);
    if (outcome == US_OK && *changed && kept) {
        v->call->email_stale = 1;
        v->call->cause = US_EMAIL_STALE
            "another row has this e-mail and keeps it: usersync-reconcile "
            "exchanges e-mails, or let the column be NULL";
    }
    return outcome;
}

static us_outcome update(us_visit *v, int *changed)
{
    us_change change = change_of(v);
    us_change_sql sql
        = us_change_sql_update(v->call->pool, &change, US_CHANGE_ALL);
    us_pg_result result;
    us_outcome outcome = run(v, &sql, changed, &result);

    if (outcome == US_ROW_CONFLICT) {
        outcome = exchange(v, &change, changed);
    }
    if (is_refused(outcome)) {
        outcome = update_life(v, &change, outcome, changed);
    }
    v->call->updated |= *changed;
    return outcome;
}

static us_outcome insert(us_visit *v, const us_change *change, int *inserted)
{
    us_outcome outcome = us_visit_know_table(v, 1);
    us_change_sql sql;
    us_pg_result result;

    *inserted = 0;
    if (outcome != US_OK) {
        return outcome;
    }
    memset(&sql, 0, sizeof(sql));
    memcpy(sql.params, change->values, sizeof(change->values));
    sql.statement
        = us_store_sql_insert(v->call->pool, change->table,
                              change->table->columns->nelts, sql.params);
    outcome = run(v, &sql, inserted, &result);
    v->call->created |= *inserted;
    return outcome;
}

/* The same for a user whose row does not exist yet. */
static us_outcome create(us_visit *v, int *inserted)
{
    us_change change = change_of(v);
    us_outcome outcome = insert(v, &change, inserted);
    const char *cause;
    int taken;
    int kept;

    if (outcome == US_ROW_CONFLICT
        && vacate(v, &change, &taken, &kept) == US_OK) {
        if (!taken && change.table->has_email) {
            change.values[1] = NULL;
        }
        outcome = insert(v, &change, inserted);
    }
    if (outcome != US_ROW_REFUSED && outcome != US_ROW_CONFLICT) {
        return outcome;
    }
    cause = v->call->cause;
    us_change_keep_life(&change);
    if (insert(v, &change, inserted) != US_OK) {
        v->call->cause = cause;
        return outcome;
    }
    v->call->has_warning = 1;
    v->call->cause = apr_pstrcat(
        v->call->pool, "the new row has neither e-mail nor metadata: ", cause,
        NULL);
    return US_OK;
}

/* *alive is set to 0 if a tombstone says that the user was deleted later. */
static us_outcome set_state(us_visit *v, int *alive)
{
    us_row row = {0};
    int done = 0;
    int has_tombstone = 0;
    int round;
    us_outcome outcome = us_visit_drop_tombstone(v, "0", &done);

    if (outcome == US_OK) {
        outcome = us_visit_look_for_tombstone(v, &has_tombstone);
    }
    *alive = !has_tombstone;
    done = has_tombstone;
    for (round = 0; round < ROUNDS && !done && outcome == US_OK; round++) {
        outcome = update(v, &done);
        if (outcome == US_OK && !done) {
            outcome = us_visit_look(v, &row);
            done = row.exists || row.other_case; /* it is later */
        }
        if (outcome == US_OK && !done) {
            outcome = create(v, &done);
        }
    }
    return outcome;
}

/* --- users who are deleted --- */

/*
 * Marks the row.  A user without one gets a row that is marked, so that no
 * event of an earlier state makes one that is not.  If the table does not take
 * it, because an e-mail must be there, nothing remembers the deletion.
 */
static us_outcome mark(us_visit *v)
{
    us_change change = change_of(v);
    us_change_sql sql = us_change_sql_mark(v->call->pool, &change);
    us_pg_result result;
    us_outcome outcome = US_OK;
    us_row row = {0};
    int done = 0;
    int round;

    us_change_keep_life(&change);
    change.values[change.table->deleted]
        = change.deleted_at != NULL ? change.deleted_at : change.as_of;
    for (round = 0; round < ROUNDS && !done; round++) {
        outcome = run(v, &sql, &done, &result);
        v->call->updated |= done;
        if (outcome == US_OK && !done) {
            outcome = us_visit_look(v, &row);
            done = row.exists || row.other_case;
        }
        if (outcome != US_OK || done) {
            break;
        }
        outcome = insert(v, &change, &done);
        if (is_refused(outcome)) {
            v->call->has_warning = 1;
            v->call->cause = apr_pstrcat(
                v->call->pool,
                "the table takes no row that marks this deleted user, who "
                "had none, and a token of theirs that is still valid can "
                "make one: ",
                v->call->cause, NULL);
            return US_OK;
        }
    }
    return outcome;
}

/* Makes a tombstone and deletes the row.  If that is refused, because other
 * rows refer to it or a trigger forbids it, the row is marked. */
static us_outcome delete_row(us_visit *v)
{
    us_change change = change_of(v);
    us_change_sql sql = us_change_sql_delete(v->call->pool, &change);
    us_pg_result result;
    us_outcome refused;
    us_outcome outcome;
    int done;

    refused = run(v, &sql, &done, &result);
    v->call->deleted |= done;
    if (!is_refused(refused)) {
        return refused;
    }
    v->call->has_warning = 1;
    v->call->cause = apr_pstrcat(
        v->call->pool,
        "UserSyncOnDelete Delete: the user's row stays and counts as "
        "deleted: ",
        v->call->cause,
        us_visit_is_referred_to(&result) ? "; see ON DELETE CASCADE" : "",
        NULL);
    sql = us_change_sql_tombstone(v->call->pool, &change);
    outcome = run(v, &sql, &done, &result);
    if (outcome == US_OK && change.table->deleted >= 0) {
        const char *cause = v->call->cause;

        sql = us_change_sql_mark(v->call->pool, &change);
        if (is_refused(run(v, &sql, &done, &result))) {
            v->call->cause = cause; /* the tombstone is enough */
        }
    }
    return outcome;
}

/* --- for users/users.c --- */

static us_outcome write_state(us_visit *v, int *alive)
{
    *alive = 0;
    if (v->identity->life == US_LIVES) {
        return set_state(v, alive);
    }
    switch (v->store->on_delete) {
    case US_ON_DELETE_MARK:
        return mark(v);
    case US_ON_DELETE_DELETE:
        return delete_row(v);
    case US_ON_DELETE_KEEP:
        break;
    }
    return US_OK;
}

/* The row as it is now, which may be later than this state. */
static us_outcome look_again(us_visit *v, int alive, us_store_seen *seen)
{
    us_row row = {0};
    int has_tombstone = 0;
    us_outcome outcome = us_visit_look(v, &row);

    if (outcome == US_OK && !row.exists) {
        outcome = us_visit_look_for_tombstone(v, &has_tombstone);
        row.stands.kind = has_tombstone ? US_IS_DELETED : US_MAY_ENTER;
    }
    if (outcome == US_OK && alive && !row.exists && !has_tombstone) {
        outcome = us_fail(v->call, US_ROW_REFUSED,
                          "the row of this event was written and is not "
                          "there: a trigger or a policy of the table "
                          "suppresses it");
    }
    seen->stands = row.stands;
    seen->history = v->history;
    return outcome;
}

us_outcome us_store_apply(us_store *store, us_call *call,
                          const us_identity *identity, apr_time_t deadline,
                          us_store_seen *seen)
{
    us_visit v = {.store = store,
                  .call = call,
                  .identity = identity,
                  .deadline = deadline};
    us_outcome outcome;
    int alive = 0;
    int swept;

    memset(seen, 0, sizeof(*seen));
    if (!us_visit_begin(&v)) {
        return US_STORE_UNAVAILABLE;
    }
    outcome = us_visit_know_table(&v, 0);
    if (outcome == US_OK) {
        outcome = write_state(&v, &alive);
        if (outcome == US_OK) {
            outcome = us_visit_sweep(&v, &swept);
        }
        us_slots_change(identity->id);
        seen->sight = us_slots_sight(identity->id);
    }
    if (outcome == US_OK) {
        outcome = look_again(&v, alive, seen);
    }
    us_visit_end(&v);
    return outcome;
}
