/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * identity.h: what a user that was taken from Supabase's JSON must be like,
 * whether from an answer or from a hook's body.
 */
#ifndef IDENTITY_H
#define IDENTITY_H

#include "us_config.h"
#include "fuzz.h"

/* The columns that targets ask for; the first one is the id. */
#define IDENTITY_COLUMNS 10
const apr_array_header_t *identity_columns(apr_pool_t *pool);

/* Is this a time stamp of PostgreSQL's or Go's? */
int identity_is_time(const char *text, int may_be_infinite);

/* Is this a UUID of 36 characters, in lower case? */
int identity_is_canonical(const char *id);

/* Requires that value is what column i must be of a user.  is_row: the user is
 * a row of auth.users. */
void identity_check_value(const strict_node *user, int is_row, int i,
                          const us_value *value);

/*
 * Requires that id and values are those of the user, and as_of that of its
 * updated_at.
 *
 * user  an object: a user of Supabase, or the claims of a token, whose time is
 *       that of iat
 * name  of the id in there: "sub" in claims
 */
void identity_check(const us_identity *identity, const strict_node *user,
                    const char *name);

#endif /* IDENTITY_H */
