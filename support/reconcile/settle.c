/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "target.h"
#include "ids.h"
#include "report.h"

#include <apr_strings.h>

#include <stdlib.h>
#include <string.h>

/* How often a lock is waited for before its row is left out. */
#define LOCK_TRIES 5

/* The longest chain of users who hold each other's e-mail. */
#define CHAIN_MAX 20

typedef struct batch {
    us_rec_target *target;
    apr_pool_t *pool;
    const char *asked;
    int buries;
} batch;

static int by_id(const void *a, const void *b)
{
    const us_rec_item *one = a;
    const us_rec_item *other = b;

    return strcmp(one->user->identity.id, other->user->identity.id);
}

static int is_alive(const us_rec_item *item)
{
    return item->user->identity.life == US_LIVES;
}

static void refuse(const batch *b, const us_rec_item *item, const char *why)
{
    us_rec_report(b->target->run, US_REC_REFUSED, item->user->identity.id,
                  why);
}

static const char *problem(const batch *b, const us_pg_result *error)
{
    return us_rec_db_problem(b->target->run->db, b->pool, error);
}

/* --- after a write --- */

static us_rec_end write_items(const batch *b, us_rec_item **items, int count);

/* What is to be said of an item that was written, and is now like seen?
 * Returns 1 if its row has come or gone meanwhile, so that it has to be
 * written in another way. */
static int judge_written(const batch *b, us_rec_item *item,
                         const us_rec_item *seen)
{
    us_rec_run *run = b->target->run;
    const char *id = item->user->identity.id;

    if (seen->class == US_REC_SAME) {
        run->applied++;
        us_rec_report(run, item->class, id, item->reason);
    }
    else if (seen->class == US_REC_NEWER
             || (!is_alive(item) && !seen->has_row)) {
        us_rec_report(run, US_REC_NEWER, id, "the row has changed meanwhile");
    }
    else if (is_alive(item) && seen->has_row != item->has_row
             && !item->is_second) {
        *item = *seen;
        item->is_second = 1;
        return 1;
    }
    else {
        refuse(b, item,
               "a trigger, a rule or a policy of the table suppresses or "
               "changes it");
    }
    return 0;
}

/* Done is what was seen, not what was written: a trigger may have changed it.
 * done says how many of the items are reported. */
static us_rec_end verify(const batch *b, us_rec_item *const *items, int count,
                         int done)
{
    us_rec_item *seen = apr_palloc(b->pool, sizeof(*seen) * (apr_size_t)count);
    us_rec_item **again
        = apr_palloc(b->pool, sizeof(*again) * (apr_size_t)count);
    us_pg_result result;
    int agains = 0;
    int tries;
    int i;

    for (i = 0; i < count; i++) {
        seen[i] = *items[i];
    }
    for (tries = 1;; tries++) {
        us_rec_db_end end = us_rec_compare(b->target, b->pool, seen, count,
                                           b->asked, &result);
        us_rec_end pause;

        if (end == US_REC_DB_OK) {
            break;
        }
        pause = us_rec_db_pause(b->target->run->db, b->pool, tries, &result);
        if (pause != US_REC_OK) {
            return pause;
        }
    }
    for (i = 0; i < done; i++) {
        if (judge_written(b, items[i], &seen[i])) {
            again[agains++] = items[i];
        }
    }
    return agains > 0 ? write_items(b, again, agains) : US_REC_OK;
}

/* --- users who hold each other's e-mail --- */

typedef struct chain {
    us_rec_item items[CHAIN_MAX];
    us_rec_item *list[CHAIN_MAX];
    int count;
    apr_array_header_t *given; /* ids of rows that give theirs up */
    const char *hindrance;     /* NULL: none */
} chain;

static int is_in_chain(const chain *c, const char *id)
{
    int i = 0;

    while (i < c->count && strcmp(c->list[i]->user->identity.id, id) != 0) {
        i++;
    }
    return i < c->count;
}

/* A row has the e-mail of the chain's user at; what does Supabase say of its
 * user? */
static us_rec_end follow(const batch *b, chain *c, int at, const char *id)
{
    const us_rec_target *target = b->target;
    const char *wanted = us_rec_value(target, c->list[at]->user, 1);
    const char *has;
    us_rec_page page;
    us_rec_end end;

    if (is_in_chain(c, id)) {
        return US_REC_OK;
    }
    end = target->source->find(target->source, b->pool, &id, 1, &page);
    if (end != US_REC_OK) {
        return end;
    }
    if (page.count == 0 || page.users[0]->identity.life != US_LIVES) {
        if (target->table.takes_null[1]) {
            APR_ARRAY_PUSH(c->given, const char *) = id;
        }
        else {
            c->hindrance = "a deleted user's row has the e-mail, which must "
                           "not be NULL";
        }
        return US_REC_OK;
    }
    has = us_rec_value(target, page.users[0], 1);
    if ((has != NULL && strcasecmp(has, wanted) == 0)
        || c->count == CHAIN_MAX) {
        c->hindrance = "another user has the same e-mail at Supabase";
        return US_REC_OK;
    }
    memset(&c->items[c->count], 0, sizeof(us_rec_item));
    c->items[c->count].user = page.users[0];
    c->items[c->count].has_row = 1;
    c->list[c->count] = &c->items[c->count];
    c->count++;
    return US_REC_OK;
}

/* Collects all who have to change with the first. */
static us_rec_end collect(const batch *b, chain *c)
{
    us_rec_run *run = b->target->run;
    us_rec_end end = US_REC_OK;
    int at;
    int i;

    for (at = 0; at < c->count && end == US_REC_OK; at++) {
        const char *email = us_rec_value(b->target, c->list[at]->user, 1);
        const char *params[1];
        us_pg_result holders;

        if (email == NULL) {
            continue;
        }
        params[0] = us_rec_db_array(b->pool, &email, 1);
        end = us_rec_db_ask(run->db, b->pool,
                            us_batch_holders(b->pool, &b->target->table), 1,
                            params, &holders);
        for (i = 0; end == US_REC_OK && i < holders.rows; i++) {
            const char *id = US_PG_CELL(&holders, i, 0);

            if (us_value_is_uuid(id)) {
                end = follow(b, c, at, id);
            }
        }
    }
    return end;
}

/* Another row has a value of this user's: most likely the e-mail. */
static us_rec_end untangle(const batch *b, us_rec_item *item,
                           const us_pg_result *error)
{
    chain c = {.count = 1};
    us_pg_result result;
    us_rec_end end;

    c.list[0] = item;
    c.given = apr_array_make(b->pool, 2, sizeof(const char *));
    end = collect(b, &c);
    if (end != US_REC_OK) {
        return end;
    }
    if (c.hindrance == NULL && c.count + c.given->nelts > 1
        && us_rec_write(b->target, b->pool, c.list, c.count, b->asked, 1,
                        c.given, &result)
               == US_REC_DB_OK) {
        return verify(b, c.list, c.count, 1);
    }
    refuse(b, item,
           c.hindrance != NULL ? apr_pstrcat(b->pool, problem(b, error), "; ",
                                             c.hindrance, NULL)
                               : problem(b, error));
    return US_REC_OK;
}

/* --- writing --- */

/* A foreign key forbids to delete the row: it is marked, if it can be. */
static us_rec_end mark_instead(const batch *b, const us_rec_item *item,
                               const us_pg_result *error)
{
    us_rec_target *target = b->target;
    const char *id = item->user->identity.id;
    const char *at = item->user->identity.as_of;
    const char *death = item->user->deleted_at;
    const char *why = problem(b, error);
    us_rec_end end = US_REC_OK;

    if (us_columns_find(target->table.columns, US_FIELD_DELETED_AT) >= 0) {
        const char *params[] = {b->asked, us_rec_db_array(b->pool, &id, 1),
                                us_rec_db_array(b->pool, &at, 1),
                                us_rec_db_array(b->pool, &death, 1)};
        us_pg_result result;

        end = us_rec_db_ask(target->run->db, b->pool,
                            us_batch_mark(b->pool, &target->table), 4, params,
                            &result);
        why = apr_pstrcat(b->pool, why, "; the row is marked", NULL);
    }
    refuse(b, item, why);
    return end;
}

/* The one item that a statement is not accepted for. */
static us_rec_end refuse_one(const batch *b, us_rec_item *item,
                             const us_pg_result *error)
{
    if (!is_alive(item) && us_pg_is_class(error, "23503")) {
        return mark_instead(b, item, error);
    }
    if (us_pg_is_class(error, "23505")
        && us_columns_have_email(b->target->table.columns)
        && us_rec_value(b->target, item->user, 1) != NULL) {
        return untangle(b, item, error);
    }
    refuse(b, item, problem(b, error));
    return US_REC_OK;
}

static int is_locked(const us_pg_result *error)
{
    return us_pg_is_class(error, "55P03") || us_pg_is_class(error, "40P01");
}

/* Writes these items.  What is not accepted is looked for by halving. */
static us_rec_end write_items(const batch *b, us_rec_item **items, int count)
{
    us_rec_run *run = b->target->run;
    int has_email = us_columns_have_email(b->target->table.columns);
    us_pg_result result;
    us_rec_db_end written = US_REC_DB_AGAIN;
    us_rec_end end = US_REC_OK;
    int frees = 0;
    int tries;

    for (tries = 1; written == US_REC_DB_AGAIN; tries++) {
        written = us_rec_write(b->target, b->pool, items, count, b->asked,
                               frees, NULL, &result);
        if (written == US_REC_DB_ROW && !frees && has_email && count > 1
            && us_pg_is_class(&result, "23505")) {
            frees = 1; /* two of them may have swapped their e-mails */
            written = US_REC_DB_AGAIN;
            continue;
        }
        if (written == US_REC_DB_AGAIN
            && !(is_locked(&result) && tries >= LOCK_TRIES)) {
            end = us_rec_db_pause(run->db, b->pool, tries, &result);
            if (end != US_REC_OK) {
                return end;
            }
        }
        else {
            break;
        }
    }
    if (written == US_REC_DB_OK) {
        return verify(b, items, count, count);
    }
    if (written == US_REC_DB_WRONG) {
        return us_rec_fail(run, "--db: %s", problem(b, &result));
    }
    if (count == 1) {
        return refuse_one(b, items[0], &result);
    }
    end = write_items(b, items, count / 2);
    return end == US_REC_OK
               ? write_items(b, items + count / 2, count - count / 2)
               : end;
}

/* --- comparing --- */

/* Is this a deletion that has to wait until it is known how many there are? */
static us_rec_end set_aside(const batch *b, const us_rec_item *item)
{
    unsigned char bytes[US_REC_ID_SIZE];

    us_rec_id_bytes(item->user->identity.id, bytes);
    return us_rec_ids_add(b->target->doubtful, bytes) >= 0
               ? US_REC_OK
               : us_rec_fail(b->target->run, "out of memory");
}

static us_rec_end act_on(const batch *b, us_rec_item *items, int count)
{
    us_rec_run *run = b->target->run;
    us_rec_item **work
        = apr_palloc(b->pool, sizeof(*work) * (apr_size_t)(count + 1));
    us_rec_end end = US_REC_OK;
    int works = 0;
    int i;

    for (i = 0; i < count && end == US_REC_OK; i++) {
        us_rec_class class = items[i].class;

        if (class == US_REC_DELETED && items[i].has_row && !b->buries) {
            end = set_aside(b, &items[i]);
        }
        else if (run->options->apply && class != US_REC_SAME
                 && class <= US_REC_PHANTOM) {
            work[works++] = &items[i];
        }
        else {
            us_rec_report(run, class, items[i].user->identity.id,
                          items[i].reason);
        }
    }
    return works > 0 && end == US_REC_OK ? write_items(b, work, works) : end;
}

/* Compares these items and acts on the result.  A value that fits no column
 * fails for all: it is looked for by halving. */
static us_rec_end settle_items(const batch *b, us_rec_item *items, int count)
{
    us_rec_run *run = b->target->run;
    us_rec_db_end compared = US_REC_DB_AGAIN;
    us_pg_result result;
    us_rec_end end;
    int tries;

    for (tries = 1;; tries++) {
        compared = us_rec_compare(b->target, b->pool, items, count, b->asked,
                                  &result);
        if (compared != US_REC_DB_AGAIN) {
            break;
        }
        end = us_rec_db_pause(run->db, b->pool, tries, &result);
        if (end != US_REC_OK) {
            return end;
        }
    }
    switch (compared) {
    case US_REC_DB_OK:
        return act_on(b, items, count);
    case US_REC_DB_ROW:
        break;
    default:
        return us_rec_fail(run, "--db: %s", problem(b, &result));
    }
    if (count == 1) {
        refuse(b, items, problem(b, &result));
        return US_REC_OK;
    }
    end = settle_items(b, items, count / 2);
    return end == US_REC_OK
               ? settle_items(b, items + count / 2, count - count / 2)
               : end;
}

us_rec_end us_rec_settle(us_rec_target *target, apr_pool_t *pool,
                         const us_rec_user *const *users, int count,
                         const char *asked, int buries)
{
    batch b = {target, NULL, asked, buries};
    int size = target->run->options->batch;
    us_rec_item *items
        = apr_pcalloc(pool, sizeof(*items) * (apr_size_t)(count + 1));
    us_rec_end end = US_REC_OK;
    int i;

    for (i = 0; i < count; i++) {
        items[i].user = users[i];
    }
    qsort(items, (size_t)count, sizeof(*items), by_id);
    apr_pool_create(&b.pool, pool);
    for (i = 0; i < count && end == US_REC_OK; i += size) {
        int n = count - i < size ? count - i : size;

        end = us_rec_stop ? US_REC_STOPPED : settle_items(&b, items + i, n);
        apr_pool_clear(b.pool);
    }
    apr_pool_destroy(b.pool);
    return end;
}
