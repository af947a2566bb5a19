/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * answer.h: reads the answers of the admin API.
 */
#ifndef US_REC_ANSWER_H
#define US_REC_ANSWER_H

#include "run.h"

/* A list of users. */
typedef struct us_rec_list {
    const us_rec_user **users;
    int count;
    int has_cursor;     /* the server pages by cursor */
    const char *cursor; /* for the next page; NULL: this was the last */
} us_rec_list;

/*
 * Reads a list, or one user.  columns is of us_column, complete; text must
 * live as long as pool.
 *
 * Returns NULL, or what is wrong with it: static text.
 */
const char *us_rec_answer_list(apr_pool_t *pool, const char *text,
                               apr_size_t len,
                               const apr_array_header_t *columns,
                               us_rec_list *list);
const char *us_rec_answer_user(apr_pool_t *pool, const char *text,
                               apr_size_t len,
                               const apr_array_header_t *columns,
                               us_rec_user **out);

/* Supabase's code for an error: error_code, or code in older versions; NULL:
 * none. */
const char *us_rec_answer_code(apr_pool_t *pool, const char *text,
                               apr_size_t len);

/* The hashes in place of a deleted user's e-mail and phone are no values. */
void us_rec_user_forget(us_rec_user *user, const apr_array_header_t *columns);

/* A time as Supabase writes it (RFC 3339), in usec since 1970.  0: it is
 * none. */
int us_rec_answer_time(const char *text, apr_time_t *when);

#endif /* US_REC_ANSWER_H */
