/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * One transaction with the differences of some users.
 */
#include "target.h"

#include <apr_strings.h>

#include <string.h>

/* What the statements of one transaction share. */
typedef struct job {
    us_rec_target *target;
    apr_pool_t *pool;
    us_rec_item *const *items;
    int count;
    const char *asked;
    us_pg_result *result;
} job;

/* Which of the items a statement is about. */
typedef int choose(const job *j, const us_rec_item *item, unsigned mask);

static int runs_on(const us_rec_item *item)
{
    return item->user->identity.life == US_LIVES;
}

static int is_changed(const job *j, const us_rec_item *item, unsigned mask)
{
    (void)j;
    (void)mask;
    return item->has_row && runs_on(item);
}

static int is_dead(const job *j, const us_rec_item *item, unsigned mask)
{
    (void)mask;
    return !runs_on(item)
           && (item->has_row
               || j->target->run->options->on_delete == US_REC_DELETE);
}

/* The columns that have a value for the user. */
static unsigned mask_of(const job *j, const us_rec_item *item)
{
    const apr_array_header_t *columns = j->target->table.columns;
    unsigned mask = 0;
    int i;

    for (i = 0; i < columns->nelts; i++) {
        if (us_rec_value(j->target, item->user, i) != NULL) {
            mask |= 1U << i;
        }
    }
    return mask | 1U;
}

static int is_new(const job *j, const us_rec_item *item, unsigned mask)
{
    return !item->has_row && !is_dead(j, item, 0)
           && (mask == 0 || mask_of(j, item) == mask);
}

/* The chosen users; returns how many. */
static int pick(const job *j, choose *is_chosen, unsigned mask,
                const us_rec_user **users)
{
    int count = 0;
    int i;

    for (i = 0; i < j->count; i++) {
        if (is_chosen(j, j->items[i], mask)) {
            users[count++] = j->items[i]->user;
        }
    }
    return count;
}

/* One value of each user as an array: the id, a time, or a column. */
enum { THE_ID = -1, THE_TIME = -2, THE_DEATH = -3 };

static const char *array_of(const job *j, const us_rec_user *const *users,
                            int count, int what)
{
    const char **texts
        = apr_palloc(j->pool, sizeof(*texts) * (apr_size_t)count);
    int i;

    for (i = 0; i < count; i++) {
        switch (what) {
        case THE_ID:
            texts[i] = users[i]->identity.id;
            break;
        case THE_TIME:
            texts[i] = users[i]->identity.as_of;
            break;
        case THE_DEATH:
            texts[i] = users[i]->deleted_at;
            break;
        default:
            texts[i] = us_rec_value(j->target, users[i], what);
            break;
        }
    }
    return us_rec_db_array(j->pool, texts, count);
}

static us_rec_db_end run(const job *j, const char *sql, int count,
                         const char *const *params)
{
    return us_rec_db_exec(j->target->run->db, j->pool, sql, count, params,
                          j->result);
}

/* --- the statements --- */

static us_rec_db_end insert_masked(const job *j, unsigned mask,
                                   const us_rec_user **users)
{
    const us_batch_table *table = &j->target->table;
    const char *params[1 + US_MAX_COLUMNS] = {j->asked};
    int count = pick(j, is_new, mask, users);
    int number = 1;
    int i;

    for (i = 0; i < table->columns->nelts; i++) {
        if ((mask & 1U << i) != 0) {
            params[number++] = array_of(j, users, count, i);
        }
    }
    return run(j, us_batch_insert(j->pool, table, mask), number, params);
}

/* A column without a value gets the table's default, so users who lack the
 * same ones are inserted together. */
static us_rec_db_end insert_all(const job *j, const us_rec_user **users)
{
    us_rec_db_end end = US_REC_DB_OK;
    int i;
    int k;

    for (i = 0; i < j->count && end == US_REC_DB_OK; i++) {
        unsigned mask = mask_of(j, j->items[i]);

        if (!is_new(j, j->items[i], 0)) {
            continue;
        }
        for (k = 0; k < i && !is_new(j, j->items[k], mask); k++) {
        }
        if (k == i) { /* the first of this kind */
            end = insert_masked(j, mask, users);
        }
    }
    return end;
}

static us_rec_db_end raise_all(const job *j, const us_rec_user **users)
{
    int count = pick(j, is_new, 0, users);
    const char *params[2] = {j->asked, array_of(j, users, count, THE_ID)};

    return count > 0 && j->target->table.dead != NULL
               ? run(j, us_batch_raise(j->pool, &j->target->table), 2, params)
               : US_REC_DB_OK;
}

static us_rec_db_end update_all(const job *j, const us_rec_user **users)
{
    int count = pick(j, is_changed, 0, users);
    const char *params[3 + US_BATCH_FOLLOWED] = {j->asked};
    int number = 3;

    if (count == 0) {
        return US_REC_DB_OK;
    }
    params[1] = array_of(j, users, count, THE_ID);
    params[2] = array_of(j, users, count, THE_TIME);
    number += us_rec_followed(j->target, j->pool, users, count, params + 3);
    return run(j, us_batch_update(j->pool, &j->target->table), number, params);
}

static us_rec_db_end bury_all(const job *j, const us_rec_user **users)
{
    const us_batch_table *table = &j->target->table;
    int count = pick(j, is_dead, 0, users);
    const char *params[4] = {j->asked};

    if (count == 0) {
        return US_REC_DB_OK;
    }
    params[1] = array_of(j, users, count, THE_ID);
    params[2] = array_of(j, users, count, THE_TIME);
    params[3] = array_of(j, users, count, THE_DEATH);
    return run(j,
               j->target->run->options->on_delete == US_REC_DELETE
                   ? us_batch_delete(j->pool, table)
                   : us_batch_mark(j->pool, table),
               4, params);
}

/* Takes the e-mails of rows that get another one, and of those that give
 * theirs up for good. */
static us_rec_db_end free_emails(const job *j, const us_rec_user **users,
                                 const apr_array_header_t *given)
{
    int count = pick(j, is_changed, 0, users);
    int more = given != NULL ? given->nelts : 0;
    const char **ids
        = apr_palloc(j->pool, sizeof(*ids) * (apr_size_t)(count + more + 1));
    const char **times = apr_pcalloc(
        j->pool, sizeof(*times) * (apr_size_t)(count + more + 1));
    const char *params[3] = {j->asked};
    int i;

    for (i = 0; i < count; i++) {
        ids[i] = users[i]->identity.id;
        times[i] = users[i]->identity.as_of;
    }
    for (i = 0; i < more; i++) {
        ids[count + i] = APR_ARRAY_IDX(given, i, const char *);
    }
    if (count + more == 0) {
        return US_REC_DB_OK;
    }
    params[1] = us_rec_db_array(j->pool, ids, count + more);
    params[2] = us_rec_db_array(j->pool, times, count + more);
    return run(j, us_batch_free_emails(j->pool, &j->target->table), 3, params);
}

static us_rec_db_end write_all(const job *j, int frees,
                               const apr_array_header_t *given)
{
    const us_rec_user **users
        = apr_palloc(j->pool, sizeof(*users) * (apr_size_t)(j->count + 1));
    us_rec_db_end end = US_REC_DB_OK;

    if (frees) {
        end = free_emails(j, users, given);
    }
    if (end == US_REC_DB_OK) {
        end = insert_all(j, users);
    }
    if (end == US_REC_DB_OK) {
        end = raise_all(j, users);
    }
    if (end == US_REC_DB_OK) {
        end = update_all(j, users);
    }
    return end == US_REC_DB_OK ? bury_all(j, users) : end;
}

us_rec_db_end us_rec_write(us_rec_target *target, apr_pool_t *pool,
                           us_rec_item *const *items, int count,
                           const char *asked, int frees,
                           const apr_array_header_t *given,
                           us_pg_result *result)
{
    job j = {target, pool, items, count, asked, result};
    us_rec_db_end end = us_rec_db_begin(target->run->db, pool, result);

    if (end == US_REC_DB_OK) {
        end = write_all(&j, frees, given);
    }
    if (end == US_REC_DB_OK) {
        end = us_rec_db_commit(target->run->db, pool, result);
    }
    if (end != US_REC_DB_OK) {
        us_rec_db_rollback(target->run->db, pool);
    }
    return end;
}
