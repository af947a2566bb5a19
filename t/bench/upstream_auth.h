/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * upstream_auth.h: what the benchmark's Supabase Auth says.  Recorded answers
 * in which id and e-mail are replaced by those of the user who asks.
 */
#ifndef UPSTREAM_AUTH_H
#define UPSTREAM_AUTH_H

#include <stddef.h>

/* Room that every answer fits into, its head included. */
#define AUTH_ANSWER_MAX ((size_t)8192)

/* Read the two recorded answers; 0 and a word on stderr when they do not do. */
int auth_load(const char *login_file, const char *signup_file);

/*
 * The whole HTTP answer to a request, into out (AUTH_ANSWER_MAX bytes).
 * target is what stands behind the method; returns the length.  GET is answered
 * as an application of few words would.
 */
size_t auth_answer(const char *method, const char *target, const char *body,
                   size_t body_len, char *out);

#endif /* UPSTREAM_AUTH_H */
