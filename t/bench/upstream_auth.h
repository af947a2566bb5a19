/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * upstream_auth.h: the answers of the benchmark's Supabase Auth.  They are
 * recorded, with id and e-mail replaced by those of the user who asks, in the
 * access token, too, whose signature is therefore good for nothing.
 */
#ifndef UPSTREAM_AUTH_H
#define UPSTREAM_AUTH_H

#include <stddef.h>

/* Room that every answer fits into, its head included. */
#define AUTH_ANSWER_MAX ((size_t)8192)

/* Reads the recorded answers; 0, with a message on stderr, on failure. */
int auth_load(const char *login_file, const char *signup_file,
              const char *settings_file);

/*
 * Writes the whole HTTP answer to a request into out (AUTH_ANSWER_MAX bytes).
 * target is the text after the method; returns the length.  GET is answered as
 * by a small application, but for /auth/v1/settings.
 */
size_t auth_answer(const char *method, const char *target, const char *body,
                   size_t body_len, char *out);

#endif /* UPSTREAM_AUTH_H */
