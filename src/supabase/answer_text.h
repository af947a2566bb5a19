/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * supabase/answer_text.h: the fixed texts of Supabase Auth (GoTrue), and what
 * each of them implies.
 */
#ifndef US_ANSWER_TEXT_H
#define US_ANSWER_TEXT_H

#include <apr_pools.h>

/* A failure: the text is logged. */
#define US_TEXT_TELL 1
/* The sign-up created no account. */
#define US_TEXT_NONE_MADE 2
/* ...  but another sign-up of the address perhaps has. */
#define US_TEXT_TAKEN 4
/* A hook of the project is away, or gives no valid answer. */
#define US_TEXT_HOOK 8
/* ...  and it is the hook that runs after the account was created. */
#define US_TEXT_AFTER 16
/* It is about a token, so it counts only where one was sent. */
#define US_TEXT_TOKEN 32

typedef struct us_answer_text {
    const char *text; /* "#" is a number, "*" at the end is anything */
    const char *code; /* the code if the answer has none, or NULL */
    int flags;        /* of US_TEXT_ */
} us_answer_text;

/* The row of a message, in any case; NULL: none, or message is NULL. */
const us_answer_text *us_answer_text_find(const char *message);

/*
 * The fixed part of the message, for the log: the text in place of "*" can
 * quote an address.  message is the one that found the row.
 */
const char *us_answer_text_known(apr_pool_t *pool, const us_answer_text *text,
                                 const char *message);

#endif /* US_ANSWER_TEXT_H */
