/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * supabase/answer_code.h: the codes of Supabase Auth (GoTrue), and what each
 * of them means.
 */
#ifndef US_ANSWER_CODE_H
#define US_ANSWER_CODE_H

#include "usersync.h"

/* The outcome of a code in the answer to this operation, or US_OUTCOME_COUNT
 * if the code is not listed. */
us_outcome us_answer_code_outcome(us_operation operation, const char *code);

/* The outcome that a usersync-hook, in this server or another, has told
 * Supabase with this text, or US_OUTCOME_COUNT.  message may be NULL. */
us_outcome us_answer_code_of_hook(const char *message);

#endif /* US_ANSWER_CODE_H */
