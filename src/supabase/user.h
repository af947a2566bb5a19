/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * supabase/user.h: takes a user from Supabase's JSON: its user object, the
 * claims of a token, or a row of auth.users.
 */
#ifndef US_USER_H
#define US_USER_H

#include "us_config.h"
#include "us_json.h"

/* Where a document has a user. */
typedef struct us_user_place {
    const char *object; /* the member; NULL: the document itself */
    const char *id;     /* the name of the id in there */
    int is_row;         /* of auth.users, whose metadata have other names */
} us_user_place;

/*
 * Sets the identity's id, as_of and values, copied to pool.  A user without an
 * e-mail or phone, for whom Supabase sends "", gets NULL there, and so do
 * fields for time stamps that hold none.
 *
 * columns  of us_column: the values to take
 *
 * Returns 0 if there is no usable id.
 */
int us_user_take(apr_pool_t *pool, const us_json *doc,
                 const us_user_place *place, const apr_array_header_t *columns,
                 us_identity *identity);

/* Does the user object say that they are neither banned at this time nor
 * deleted?  A token's claims do not say so. */
int us_user_may_enter(const us_json *doc, const us_user_place *place,
                      apr_time_t now);

#endif /* US_USER_H */
