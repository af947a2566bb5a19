/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * supabase/answer.h: judges the answers of Supabase Auth.  Pure: takes an HTTP
 * answer, returns outcome and identity.
 */
#ifndef US_ANSWER_H
#define US_ANSWER_H

#include "answer_error.h"
#include "us_config.h"

/* The headers that us_http_post must fetch, in the order of
 * US_ANSWER_ERROR_CODE and the other indexes. */
extern const char *const us_answer_headers[];

/* What Supabase was asked. */
typedef struct us_question {
    us_operation operation;
    const char *email; /* the address that was sent; NULL: none was */
    const apr_array_header_t *columns; /* of us_column: the identity's
                                        * values */
} us_question;

/*
 * Judges an answer.
 *
 * identity  filled in on US_OK and US_PENDING; slices point into answer->body;
 *           else, as after a logout, nobody
 *
 * Sets call->health, and call->code, message, reasons, retry_after, cause,
 * about and foreign as they apply.
 */
us_outcome us_answer_judge(us_call *call, const us_question *question,
                           const us_http_answer *answer,
                           us_identity *identity);

#endif /* US_ANSWER_H */
