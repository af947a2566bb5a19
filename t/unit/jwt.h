/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * jwt.h: access tokens, which nobody has signed.
 */
#ifndef JWT_H
#define JWT_H

#include <apr_pools.h>

/* A JWT (RFC 7519) with this payload. */
const char *jwt_of(apr_pool_t *pool, const char *payload);

/* base64url (RFC 4648, section 5) without padding. */
const char *jwt_encoded(apr_pool_t *pool, const char *text, apr_size_t len);

#endif /* JWT_H */
