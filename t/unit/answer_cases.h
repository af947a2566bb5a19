/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * answer_cases.h: how each recorded answer must be judged, derived by hand
 * from the rules and not from the code.
 */
#ifndef ANSWER_CASES_H
#define ANSWER_CASES_H

#include "usersync.h"

typedef struct answer_case {
    const char *file;  /* NULL at the end */
    us_outcome signup; /* as the answer to a sign-up */
    us_outcome login;  /* as the answer to a login */
    const char *id;    /* of the user; NULL: none */
    int proven;
    int foreign;                /* it is about another user */
    int foreign_signup;         /* ...  as the answer to a sign-up */
    int retry_after;            /* seconds it asks for */
    const char *code;           /* Supabase's; NULL: none */
    const char *message;        /* the part of its text that may be shown */
    const char *signup_message; /* the client's text after a sign-up */
    const char *reasons;
} answer_case;

extern const answer_case answer_cases[];

#endif /* ANSWER_CASES_H */
