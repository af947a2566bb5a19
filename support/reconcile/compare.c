/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "target.h"
#include "ids.h"

#include <apr_strings.h>

#include <stdlib.h>
#include <string.h>

static const char *const field_names[US_BATCH_FOLLOWED]
    = {"email", "is_anonymous", "banned_until", "deleted_at"};

/* Their places in us_batch_followed. */
#define BANNED (1U << 2)
#define DELETED (1U << 3)

const char *us_rec_value(const us_rec_target *target, const us_rec_user *user,
                         int i)
{
    const us_value *value = &user->identity.values[i];

    return target->table.takes_json[i] ? value->json : value->text;
}

int us_rec_followed(const us_rec_target *target, apr_pool_t *pool,
                    const us_rec_user *const *users, int count,
                    const char **params)
{
    const char **texts = apr_palloc(pool, sizeof(*texts) * (apr_size_t)count);
    int number = 0;
    int f;
    int u;

    for (f = 0; f < US_BATCH_FOLLOWED; f++) {
        int i = us_columns_find(target->table.columns, us_batch_followed[f]);

        if (i < 0) {
            continue;
        }
        for (u = 0; u < count; u++) {
            texts[u] = us_batch_followed[f] == US_FIELD_DELETED_AT
                           ? users[u]->deleted_at
                           : us_rec_value(target, users[u], i);
        }
        params[number++] = us_rec_db_array(pool, texts, count);
    }
    return number;
}

/* --- classes --- */

/* What a deleted user and their row come to. */
static us_rec_class class_of_deleted(const us_rec_target *target,
                                     const us_rec_item *item, int is_buried)
{
    us_rec_on_delete action = target->run->options->on_delete;
    int is_marked
        = item->has_row && (item->differs & DELETED) == 0
          && us_columns_find(target->table.columns, US_FIELD_DELETED_AT) >= 0;

    if (is_marked || (!item->has_row && action == US_REC_KEEP)) {
        return US_REC_SAME;
    }
    if (action == US_REC_KEEP) {
        return US_REC_KEPT;
    }
    if (!item->has_row
        && (action == US_REC_DELETE ? is_buried : !target->takes_marked)) {
        return US_REC_SAME;
    }
    return item->user->identity.life == US_GONE ? US_REC_PHANTOM
                                                : US_REC_DELETED;
}

/* The fields that differ, for the report. */
static const char *list_fields(apr_pool_t *pool, unsigned differs)
{
    const char *list = "";
    int f;

    for (f = 0; f < US_BATCH_FOLLOWED; f++) {
        if ((differs & 1U << f) != 0) {
            list = apr_pstrcat(pool, list, *list != '\0' ? "," : "",
                               field_names[f], NULL);
        }
    }
    return list;
}

static int is_true(const us_pg_result *rows, int row, int column)
{
    const char *cell = US_PG_CELL(rows, row, column);

    return cell != NULL && *cell == 't';
}

static void judge(const us_rec_target *target, apr_pool_t *pool,
                  us_rec_item *item, const us_pg_result *rows, int row)
{
    int f;

    item->has_row = is_true(rows, row, US_BATCH_ROW);
    item->differs = 0;
    item->reason = NULL;
    for (f = 0; f < US_BATCH_FOLLOWED && item->has_row; f++) {
        if (is_true(rows, row, US_BATCH_DIFFERS + f)) {
            item->differs |= 1U << f;
        }
    }
    if (item->has_row && !is_true(rows, row, US_BATCH_EXACT)) {
        item->class = US_REC_REFUSED;
        item->reason = "the id of the row is in upper case";
        return;
    }
    if (item->user->identity.life != US_LIVES) {
        item->class = class_of_deleted(target, item,
                                       is_true(rows, row, US_BATCH_BURIED));
        item->reason = item->has_row ? "the user is deleted at Supabase"
                                     : "deleted at Supabase, no row";
        if (item->user->identity.life == US_GONE) {
            item->reason = "Supabase has no such user";
        }
    }
    else if (!item->has_row) {
        item->class = US_REC_MISSING;
        item->reason = "no row";
    }
    else {
        item->class = item->differs == 0        ? US_REC_SAME
                      : item->differs == BANNED ? US_REC_BANNED
                                                : US_REC_STALE;
        item->reason = list_fields(pool, item->differs);
    }
    if (item->class != US_REC_SAME && is_true(rows, row, US_BATCH_NEWER)) {
        item->class = US_REC_NEWER;
        item->reason = item->has_row ? "the row has a later state"
                                     : "deleted here later";
    }
}

us_rec_db_end us_rec_compare(us_rec_target *target, apr_pool_t *pool,
                             us_rec_item *items, int count, const char *asked,
                             us_pg_result *result)
{
    const us_rec_user **users
        = apr_palloc(pool, sizeof(*users) * (apr_size_t)count);
    const char **ids = apr_palloc(pool, sizeof(*ids) * (apr_size_t)count);
    const char **times = apr_palloc(pool, sizeof(*times) * (apr_size_t)count);
    const char *params[3 + US_BATCH_FOLLOWED];
    us_rec_db_end end;
    int number = 3;
    int i;

    for (i = 0; i < count; i++) {
        users[i] = items[i].user;
        ids[i] = users[i]->identity.id;
        times[i] = users[i]->identity.as_of;
    }
    params[0] = asked;
    params[1] = us_rec_db_array(pool, ids, count);
    params[2] = us_rec_db_array(pool, times, count);
    number += us_rec_followed(target, pool, users, count, params + 3);
    end = us_rec_db_exec(target->run->db, pool, target->compare, number,
                         params, result);
    for (i = 0; end == US_REC_DB_OK && i < result->rows; i++) {
        apr_int64_t place = apr_atoi64(US_PG_CELL(result, i, US_BATCH_PLACE));

        judge(target, pool, &items[place - 1], result, i);
    }
    return end;
}
