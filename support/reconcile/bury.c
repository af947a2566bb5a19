/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Rows that the walk has not shown a user for.  Each user is asked for:
 * absence from a list proves nothing.
 */
#include "target.h"
#include "ids.h"
#include "report.h"

#include <apr_strings.h>

#include <string.h>

#define ROWS 1000 /* that are read at a time */

typedef struct burial {
    us_rec_target *target;
    apr_array_header_t *dead; /* of const us_rec_user *, in run->pool */
    const char *asked;        /* when the first of them was asked for */
    apr_int64_t limit;
    apr_int64_t rows;
} burial;

/* A percentage of few rows is at least one. */
static us_rec_end set_limit(burial *b)
{
    us_rec_run *run = b->target->run;
    us_share share = run->options->max_delete;
    us_pg_result result;
    us_rec_end end = us_rec_db_ask(
        run->db, run->pool, us_batch_count(run->pool, &b->target->table), 0,
        NULL, &result);

    if (end == US_REC_OK) {
        b->rows = apr_atoi64(US_PG_CELL(&result, 0, 0));
        b->limit = share.number != 0 ? share.number
                                     : (b->rows * share.percent + 99) / 100;
    }
    return end;
}

/* A user of whom nothing is left; the time of the deletion is not known. */
static const us_rec_user *gone_user(apr_pool_t *pool, const char *id,
                                    const char *asked)
{
    us_rec_user *user = apr_pcalloc(pool, sizeof(*user));

    user->identity.id = apr_pstrdup(pool, id);
    user->identity.values[0].text = user->identity.id;
    user->identity.life = US_GONE;
    user->identity.as_of = apr_pstrdup(pool, asked);
    user->deleted_at = user->identity.as_of;
    return user;
}

/* What is needed of a deleted user later on. */
static const us_rec_user *deleted_user(apr_pool_t *pool,
                                       const us_rec_user *from)
{
    us_rec_user *user = apr_pcalloc(pool, sizeof(*user));

    user->identity.id = apr_pstrdup(pool, from->identity.id);
    user->identity.values[0].text = user->identity.id;
    user->identity.life = US_DELETED;
    user->identity.as_of = apr_pstrdup(pool, from->identity.as_of);
    user->deleted_at = apr_pstrdup(pool, from->deleted_at);
    return user;
}

/* With --apply the dead wait until all are counted. */
static us_rec_end take_dead(burial *b, apr_pool_t *pool,
                            const us_rec_user *user, const char *asked)
{
    us_rec_run *run = b->target->run;

    if (!run->options->apply || run->options->on_delete == US_REC_KEEP) {
        return us_rec_settle(b->target, pool, &user, 1, asked, 1);
    }
    if (b->dead->nelts == b->limit) {
        return us_rec_fail(run,
                           "more than %" APR_INT64_T_FMT
                           " of %" APR_INT64_T_FMT
                           " rows would be deleted: none is; "
                           "check --url or --from-db, or raise --max-delete",
                           b->limit, b->rows);
    }
    b->asked = b->asked != NULL ? b->asked : apr_pstrdup(run->pool, asked);
    APR_ARRAY_PUSH(b->dead, const us_rec_user *)
        = user->identity.life == US_GONE
              ? gone_user(run->pool, user->identity.id, asked)
              : deleted_user(run->pool, user);
    return US_REC_OK;
}

/* Asks for these users: those who live were missed in the walk. */
static us_rec_end ask_for(burial *b, apr_pool_t *pool, const char *const *ids,
                          int count)
{
    us_rec_run *run = b->target->run;
    us_rec_source *source = b->target->source;
    us_rec_end end;
    us_rec_page page;
    int i;
    int k;

    if (count == 0) {
        return US_REC_OK;
    }
    end = source->find(source, pool, ids, count, &page);
    for (i = 0; i < count && end == US_REC_OK; i++) {
        unsigned char bytes[US_REC_ID_SIZE];
        const us_rec_user *user = NULL;

        for (k = 0; k < page.count && user == NULL; k++) {
            if (strcmp(page.users[k]->identity.id, ids[i]) == 0) {
                user = page.users[k];
            }
        }
        us_rec_id_bytes(ids[i], bytes);
        run->users
            += user != NULL && !us_rec_ids_has(b->target->doubtful, bytes);
        if (user != NULL && user->identity.life == US_LIVES) {
            end = us_rec_settle(b->target, pool, &user, 1, page.asked, 0);
        }
        else {
            end = take_dead(b, pool,
                            user != NULL ? user
                                         : gone_user(pool, ids[i], page.asked),
                            page.asked);
        }
    }
    return end;
}

/* Is it sure that this row's user lives, or that they need no row? */
static int is_settled(const us_rec_target *target, const char *id)
{
    unsigned char bytes[US_REC_ID_SIZE];

    us_rec_id_bytes(id, bytes);
    return us_rec_ids_has(target->run->seen, bytes)
           && !us_rec_ids_has(target->doubtful, bytes);
}

static us_rec_end look_at_rows(burial *b, apr_pool_t *pool,
                               const us_pg_result *rows)
{
    int size = b->target->run->options->batch;
    const char **ids = apr_palloc(pool, sizeof(*ids) * (apr_size_t)size);
    us_rec_end end = US_REC_OK;
    int count = 0;
    int row;

    for (row = 0; row < rows->rows && end == US_REC_OK; row++) {
        const char *id = US_PG_CELL(rows, row, 0);

        if (!us_value_is_uuid(id)) {
            us_rec_report(b->target->run, US_REC_KEPT, "-",
                          "a row whose id is no UUID");
            continue;
        }
        if (is_settled(b->target, id)) {
            continue;
        }
        ids[count++] = id;
        if (count == size) {
            end = us_rec_stop ? US_REC_STOPPED : ask_for(b, pool, ids, count);
            count = 0;
        }
    }
    return end == US_REC_OK ? ask_for(b, pool, ids, count) : end;
}

static us_rec_end look_at_all(burial *b)
{
    us_rec_run *run = b->target->run;
    const us_batch_table *table = &b->target->table;
    const char *last = NULL;
    us_rec_end end;
    us_pg_result rows;
    apr_pool_t *pool;

    apr_pool_create(&pool, run->pool);
    do {
        const char *params[] = {last};

        end = us_rec_db_ask(run->db, pool,
                            us_batch_walk(pool, table, last == NULL, ROWS),
                            last != NULL, params, &rows);
        if (end != US_REC_OK || rows.rows == 0) {
            break;
        }
        end = look_at_rows(b, pool, &rows);
        last = apr_pstrdup(run->pool, US_PG_CELL(&rows, rows.rows - 1, 0));
        apr_pool_clear(pool);
    } while (end == US_REC_OK && rows.rows == ROWS);
    apr_pool_destroy(pool);
    return end;
}

us_rec_end us_rec_bury(us_rec_target *target)
{
    burial b = {.target = target};
    us_rec_end end;

    b.dead
        = apr_array_make(target->run->pool, 16, sizeof(const us_rec_user *));
    end = set_limit(&b);
    if (end == US_REC_OK) {
        end = look_at_all(&b);
    }
    if (end == US_REC_OK && b.dead->nelts > 0) {
        end = us_rec_settle(
            target, target->run->pool,
            (const us_rec_user *const *)(const void *)b.dead->elts,
            b.dead->nelts, b.asked, 1);
    }
    return end;
}
