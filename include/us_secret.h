/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_secret.h: API keys from file:, exec: or inline, and wiping.
 */
#ifndef US_SECRET_H
#define US_SECRET_H

#include <apr_pools.h>

/* Longest API key taken; legacy JWT keys are about 220 bytes. */
#define US_SECRET_MAX 4096

typedef enum us_secret_source {
    US_SECRET_INLINE,
    US_SECRET_FILE,
    US_SECRET_EXEC
} us_secret_source;

typedef struct us_secret {
    const char *value; /* NUL-terminated; wiped when its pool goes */
    apr_size_t len;
    us_secret_source source;
    int exposed; /* everybody may read the file, or its group change it */
} us_secret;

/* Kinds of Supabase API keys (supabase-auth-wire, section 11). */
typedef enum us_key_kind {
    US_KEY_PUBLISHABLE, /* sb_publishable_... */
    US_KEY_SECRET,      /* sb_secret_...: admin, captcha is off */
    US_KEY_JWT,         /* legacy anon key: also goes out as Bearer */
    US_KEY_JWT_SERVICE, /* legacy service_role key: admin */
    US_KEY_OTHER
} us_key_kind;

/*
 * Load a secret at configuration time.
 *
 * pool  owns it; the value is wiped when the pool is cleared
 * temp  for scratch memory
 * spec  file:PATH (relative to ServerRoot), exec:COMMAND [ARG...], or the
 *       value itself
 * out   set on success
 *
 * One line of printable ASCII without blanks; a trailing line end is cut.
 * Returns NULL, or what is wrong as a sentence part, never quoting the value.
 */
const char *us_secret_load(apr_pool_t *pool, apr_pool_t *temp,
                           const char *spec, us_secret **out);

/* What kind of key this is; a JWT's role claim is read, not verified. */
us_key_kind us_secret_key_kind(apr_pool_t *temp, const us_secret *secret);

/* Overwrite memory with zeros in a way that the compiler cannot drop. */
void us_secret_wipe(void *memory, apr_size_t len);

/* Overwrite memory when pool is cleared or destroyed. */
void us_secret_wipe_with(apr_pool_t *pool, void *memory, apr_size_t len);

#endif /* US_SECRET_H */
