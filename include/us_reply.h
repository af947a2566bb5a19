/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_reply.h: turns an outcome into the reply, the notes and the log line.
 */
#ifndef US_REPLY_H
#define US_REPLY_H

#include "usersync.h"

#include <httpd.h>
#include <util_filter.h>

/*
 * Answers the request.
 *
 * identity  for US_OK and US_PENDING, and for the note of the user; else it
 *           may be NULL
 *
 * Returns what the handler must return to httpd.
 */
int us_reply_send(request_rec *r, us_call *call, us_outcome outcome,
                  const us_identity *identity);

/*
 * Answers a hook of Supabase's whose signature was verified: allows what the
 * hook is about, or refuses it with the status and text of the outcome, which
 * Supabase passes on.
 *
 * claims  of the token to allow; or nothing, if the hook is about no token
 *
 * Arguments and result else as above.
 */
int us_reply_hook(request_rec *r, us_call *call, us_outcome outcome,
                  const us_identity *identity, us_slice claims);

/* Answers a hook with what UserSyncHookForward has answered.  outcome is that
 * of the user's row.  Arguments and result else as above. */
int us_reply_forward(request_rec *r, us_call *call, us_outcome outcome,
                     const us_identity *identity, const us_hook_reply *hook);

/*
 * Answers one of Supabase's own clients in Supabase's place: in the form of its
 * errors, in every version of its API, with what clients in browsers need.  Of
 * the headers that r has for Supabase's answer only those about CORS stay.  A
 * failure of the user database is always 503: at others, clients end their
 * session.
 *
 * next      the filter that gets the answer
 * location  of a redirect that goes out in place of an error, with the status
 *           that r has; or NULL
 *
 * Returns what the filter returns.
 */
apr_status_t us_reply_proxied(request_rec *r, ap_filter_t *next, us_call *call,
                              us_outcome outcome, const us_identity *identity,
                              const char *location);

/* What us_reply_proxied says to the client: the code, and in *text the text. */
const char *us_reply_words(const us_call *call, us_outcome outcome,
                           const char **text);

/* Sets Retry-After where httpd itself answers the error of an outcome. */
void us_reply_retry_after(request_rec *r, const us_call *call,
                          us_outcome outcome);

/* The status of us_reply_proxied. */
int us_reply_proxied_status(us_outcome outcome);

/* The public code of an outcome, and the name of a door in the log. */
const char *us_reply_code(us_outcome outcome);
const char *us_reply_door(us_door door);

/* The HTTP status of an outcome; 0 if it has none of its own. */
int us_reply_status(us_outcome outcome);

/* The level of its log line: APLOG_... */
int us_reply_level(us_outcome outcome);

/* The other parts of us_reply_send, without the answer: the notes for
 * CustomLog and the one line about the request.  Arguments as there. */
void us_reply_note(request_rec *r, const us_call *call, us_outcome outcome,
                   const us_identity *identity);
void us_reply_log(const request_rec *r, const us_call *call,
                  us_outcome outcome, const us_identity *identity);

/*
 * Begins the call of a request that most likely logs nothing: the id is made
 * by us_reply_name, once it is needed.
 */
void us_reply_begin(request_rec *r, us_call *call, us_door door);
void us_reply_name(request_rec *r, us_call *call);

/*
 * An id for this request: mod_unique_id's, else 128 random bits in hex.  Never
 * a value from the client.
 */
const char *us_reply_request_id(request_rec *r);

#endif /* US_REPLY_H */
