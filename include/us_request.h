/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_request.h: the request body, read and checked into credentials.
 */
#ifndef US_REQUEST_H
#define US_REQUEST_H

#include "usersync.h"

#include <httpd.h>

/* bcrypt, and with it GoTrue, takes no more bytes of a password. */
#define US_PASSWORD_MAX 72

/* Longest address that GoTrue takes. */
#define US_EMAIL_MAX 255

typedef enum us_request_kind {
    US_REQUEST_REGISTER,
    US_REQUEST_LOGIN
} us_request_kind;

/*
 * Read the body of r and check it.
 *
 * credentials  filled on US_OK; its texts live in call->pool, and the buffer
 *              that holds the password is wiped when that pool goes
 *
 * Returns US_OK, US_UNSUPPORTED_MEDIA, US_BODY_TOO_LARGE, US_BODY_TIMEOUT,
 * US_INVALID_REQUEST (with call->fields) or US_ANSWERED_ALREADY.
 */
us_outcome us_request_read(request_rec *r, us_call *call, us_request_kind kind,
                           us_credentials *credentials);

/*
 * Check a body that has been read.  Of its members email, password, data and
 * captcha_token are taken, others are ignored; login ignores data.
 *
 * body  must outlive the credentials, which point into it
 */
us_outcome us_request_parse(us_call *call, us_request_kind kind,
                            const char *body, apr_size_t len,
                            us_credentials *credentials);

#endif /* US_REQUEST_H */
