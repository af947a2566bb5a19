/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * supabase/claims.h: takes a user from the claims of an access token.  They
 * are as fresh as the token, and as trustworthy as whoever sent it: nothing is
 * verified here.
 */
#ifndef US_CLAIMS_H
#define US_CLAIMS_H

#include "us_json.h"

/*
 * Takes a user from claims that a document has.
 *
 * object   the member with the claims; NULL: the document itself
 * columns  of us_column: the values to take
 *
 * Sets what us_user_take sets; as_of is when the token was made.  Returns 0 if
 * there is no usable id.
 */
int us_claims_take(apr_pool_t *pool, const us_json *doc, const char *object,
                   const apr_array_header_t *columns, us_identity *identity);

/*
 * The same from an access token itself, a JWT (RFC 7519), whose payload is
 * decoded; the identity is proven.
 *
 * Returns 0 also if it is not a JWT with such a payload.
 */
int us_claims_take_token(apr_pool_t *pool, us_slice token,
                         const apr_array_header_t *columns,
                         us_identity *identity);

#endif /* US_CLAIMS_H */
