/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_answer.h: judges what came back from Supabase Auth.  Pure: an HTTP
 * answer in, outcome and identity out.
 */
#ifndef US_ANSWER_H
#define US_ANSWER_H

#include "us_config.h"
#include "us_http.h"

/* Which headers us_http_post must fetch: index into us_http_answer.wanted. */
#define US_ANSWER_ERROR_CODE 0
#define US_ANSWER_RETRY_AFTER 1
extern const char *const us_answer_headers[];

/*
 * Judge an answer.
 *
 * columns   of us_column: whose values to take into the identity
 * identity  filled on US_OK and US_PENDING; slices point into answer->body
 *
 * Sets call->health, and call->code, message, reasons, retry_after and cause
 * as they apply.
 */
us_outcome us_answer_judge(us_call *call, us_operation operation,
                           const us_http_answer *answer,
                           const apr_array_header_t *columns,
                           us_identity *identity);

#endif /* US_ANSWER_H */
