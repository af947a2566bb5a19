/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * supabase/session.h: what the answers of Supabase Auth say about a user: a
 * session, or a user without one.
 */
#ifndef US_SESSION_H
#define US_SESSION_H

#include "us_json.h"

/* Is there an access token?  Whoever has it is signed in. */
int us_session_is_there(const us_json *doc);

/*
 * Takes the user of a session, without its slice.  columns are of us_column.
 *
 * Returns 0 if it is no session: it has no access token, or no user with a
 * usable id.
 */
int us_session_take(us_call *call, const us_json *doc,
                    const apr_array_header_t *columns, us_identity *identity);

/*
 * Takes a user without a session, of an answer to a sign-up: the confirmation
 * is pending, or the address is taken and the id invented.  Only an identity
 * with the same user id proves the user (GoTrue's signup.go, sanitizeUser: it
 * empties the identities of an invented user).
 *
 * Returns 0 if it is no such user.
 */
int us_session_take_pending(us_call *call, const us_json *doc,
                            const apr_array_header_t *columns,
                            us_identity *identity);

/* Takes the user that an authenticated request is answered with: they are who
 * they are.  Returns 0 if it is no user. */
int us_session_take_own(us_call *call, const us_json *doc,
                        const apr_array_header_t *columns,
                        us_identity *identity);

#endif /* US_SESSION_H */
