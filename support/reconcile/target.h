/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * target.h: the users table.  table.c reads its catalog entry, compare.c
 * finds the differences, apply.c writes them.
 */
#ifndef US_REC_TARGET_H
#define US_REC_TARGET_H

#include "db.h"
#include "source.h"
#include "users/batch_sql.h"

typedef struct us_rec_target {
    us_rec_run *run;
    us_rec_source *source; /* is asked who else has an e-mail */
    us_batch_table table;
    const char *identity;        /* for the state file: which table this is */
    int takes_marked;            /* a row with id and deleted_at only */
    const char *compare;         /* statements, composed once */
    struct us_rec_ids *doubtful; /* deleted at Supabase, and not yet here */
} us_rec_target;

/* One user on the way into the table. */
typedef struct us_rec_item {
    const us_rec_user *user;
    us_rec_class class;
    int has_row;
    int is_second;    /* its row came or went during the first attempt */
    unsigned differs; /* bits of us_batch_followed */
    const char *reason;
} us_rec_item;

/* Reads the table's catalog entry.  It must suit the options. */
us_rec_end us_rec_target_create(us_rec_run *run, us_rec_source *source,
                                us_rec_target **out);

/*
 * Compares some users with their rows: sets all but user of the items.
 * Returns US_REC_DB_ROW if the values of one of them fit no column.
 */
us_rec_db_end us_rec_compare(us_rec_target *target, apr_pool_t *pool,
                             us_rec_item *items, int count, const char *asked,
                             us_pg_result *result);

/*
 * Brings the rows of some users in order: compares, with --apply writes, and
 * reports each user once.
 *
 * asked   when the users were asked for
 * buries  whether deletions are done too; else who is deleted becomes doubtful
 */
us_rec_end us_rec_settle(us_rec_target *target, apr_pool_t *pool,
                         const us_rec_user *const *users, int count,
                         const char *asked, int buries);

/* Who has a row and was not seen: asks for each, and deletes as
 * --on-delete says. */
us_rec_end us_rec_bury(us_rec_target *target);

/*
 * Writes the differences of some users in one transaction.
 *
 * frees  take the e-mails away first, so that they can be swapped
 * given  ids of rows that give their e-mail up for good; of const char *
 */
us_rec_db_end us_rec_write(us_rec_target *target, apr_pool_t *pool,
                           us_rec_item *const *items, int count,
                           const char *asked, int frees,
                           const apr_array_header_t *given,
                           us_pg_result *result);

/* The user's value for a column, as that column takes it; NULL: SQL NULL. */
const char *us_rec_value(const us_rec_target *target, const us_rec_user *user,
                         int i);

/* The parameters of a comparison or an update from number on: the followed
 * fields.  Returns how many there are. */
int us_rec_followed(const us_rec_target *target, apr_pool_t *pool,
                    const us_rec_user *const *users, int count,
                    const char **params);

#endif /* US_REC_TARGET_H */
