/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_jwt.h: what a JWT (RFC 7519) says.  Nothing is verified: whoever asks
 * trusts the sender.
 */
#ifndef US_JWT_H
#define US_JWT_H

#include "usersync.h"

/*
 * The payload of a JWT, decoded.
 *
 * token  need not end in NUL
 *
 * Returns the text, allocated from pool, which wipes it, and terminated; text
 * is NULL if there are no two dots.  What is not base64url ends it early.
 */
us_slice us_jwt_payload(apr_pool_t *pool, us_slice token);

#endif /* US_JWT_H */
