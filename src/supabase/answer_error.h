/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * supabase/answer_error.h: judges the errors of Supabase Auth, of a hook of
 * the project, or of a gateway.  Pure, like supabase/answer.h.
 */
#ifndef US_ANSWER_ERROR_H
#define US_ANSWER_ERROR_H

#include "us_http.h"
#include "us_json.h"

/* Indexes into us_http_answer.wanted: what us_http_post must fetch. */
#define US_ANSWER_ERROR_CODE 0
#define US_ANSWER_RETRY_AFTER 1
#define US_ANSWER_USER_ID 2

/* The longest Retry-After that is accepted, in seconds. */
#define US_ANSWER_RETRY_AFTER_MAX 86400

/*
 * Judges an answer that is not a 2xx.
 *
 * doc      its body; NULL if that is not a JSON object
 * certain  set to 1 if a sign-up certainly created no account, else to 0
 *
 * Sets call->health and call->cause, and call->code, message, reasons,
 * retry_after and about as they apply.
 */
us_outcome us_answer_error_judge(us_call *call, us_operation operation,
                                 const us_json *doc,
                                 const us_http_answer *answer, int *certain);

/*
 * A hook of the project may refuse with its own 2xx.  Returns 1 if this answer
 * is such a refusal, with call->code, message and cause set.
 */
int us_answer_error_is_refusal(us_call *call, const us_json *doc,
                               const us_http_answer *answer);

/* The user in Supabase's header, as "user UUID" for the log; NULL: none. */
const char *us_answer_error_user(apr_pool_t *pool,
                                 const us_http_answer *answer);

#endif /* US_ANSWER_ERROR_H */
