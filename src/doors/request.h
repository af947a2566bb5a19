/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * doors/request.h: reads what a client sends and checks it.
 */
#ifndef US_REQUEST_H
#define US_REQUEST_H

#include "usersync.h"

#include <httpd.h>

/* bcrypt, and so GoTrue, accepts no more bytes of a password. */
#define US_PASSWORD_MAX 72

/* The longest address that GoTrue accepts. */
#define US_EMAIL_MAX 255

/* GoTrue's refresh tokens have 12 bytes, or some more than 51. */
#define US_REFRESH_TOKEN_MAX 4096

/* httpd takes headers of 8190 bytes, unless LimitRequestFieldSize says more. */
#define US_ACCESS_TOKEN_MAX 8192

/*
 * Reads the body of r, which must be JSON by its type and have no content
 * encoding.
 *
 * max   the most bytes that are accepted
 * body  set on US_OK; lives in r->pool, and is wiped with it
 *
 * Returns US_OK, US_UNSUPPORTED_MEDIA, US_BODY_TOO_LARGE, US_BODY_TIMEOUT,
 * US_INVALID_REQUEST (with call->fields) or US_ANSWERED_ALREADY.
 */
us_outcome us_request_body(request_rec *r, us_call *call, apr_size_t max,
                           us_slice *body);

/*
 * Reads the body of r and checks it.
 *
 * credentials  filled in on US_OK; its texts live in call->pool, and the
 *              buffer with the secrets is wiped when that pool is cleared
 *
 * Returns US_OK, US_UNSUPPORTED_MEDIA, US_BODY_TOO_LARGE, US_BODY_TIMEOUT,
 * US_INVALID_REQUEST (with call->fields) or US_ANSWERED_ALREADY.
 */
us_outcome us_request_read(request_rec *r, us_call *call,
                           us_operation operation,
                           us_credentials *credentials);

/*
 * Checks a body that has been read.  Uses the members email, password, data
 * and captcha_token, for a refresh refresh_token alone, and ignores others;
 * login ignores data.
 *
 * body  must outlive the credentials, which point into it
 */
us_outcome us_request_parse(us_call *call, us_operation operation,
                            const char *body, apr_size_t len,
                            us_credentials *credentials);

/*
 * The same for a logout: the access token is in call->authorization, and the
 * body may be empty, without a type.  Can also return US_NO_TOKEN and
 * US_INVALID_TOKEN.
 */
us_outcome us_request_read_farewell(request_rec *r, us_call *call,
                                    us_farewell *farewell);

/* Checks the body of a logout: only the member scope is used.  Without it, as
 * without a body, only the token's own session ends. */
us_outcome us_request_parse_farewell(us_call *call, const char *body,
                                     apr_size_t len, us_farewell *farewell);

/*
 * The access token in the value of a header Authorization (RFC 6750).
 *
 * header  NULL: there is none
 * token   set on US_OK: a part of header
 *
 * Returns US_OK, US_NO_TOKEN or US_INVALID_TOKEN.
 */
us_outcome us_request_parse_bearer(us_call *call, const char *header,
                                   us_slice *token);

#endif /* US_REQUEST_H */
