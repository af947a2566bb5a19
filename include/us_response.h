/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_response.h: turns an outcome into the reply, the notes and the log line.
 */
#ifndef US_RESPONSE_H
#define US_RESPONSE_H

#include "usersync.h"

#include <httpd.h>

/*
 * Answer the request.
 *
 * identity  for US_OK and US_PENDING, and for the note of who it was; else
 *           may be NULL
 *
 * Returns what the handler must return to httpd.
 */
int us_response_send(request_rec *r, us_call *call, us_outcome outcome,
                     const us_identity *identity);

/* The status of an outcome; 0 where it has none of its own. */
int us_response_status(us_outcome outcome);

/* What us_response_send does beside answering: the notes for CustomLog and
 * the one line about the request.  Arguments as there. */
void us_response_note(request_rec *r, const us_call *call, us_outcome outcome,
                      const us_identity *identity);
void us_response_log(const request_rec *r, const us_call *call,
                     us_outcome outcome, const us_identity *identity);

/*
 * An id for this request: mod_unique_id's, else 128 random bits in hex.
 * Never what the client sent.
 */
const char *us_response_request_id(request_rec *r);

#endif /* US_RESPONSE_H */
