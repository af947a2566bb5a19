/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_secret.h: API keys from file:, exec: or inline.
 */
#ifndef US_SECRET_H
#define US_SECRET_H

#include <apr_pools.h>
#include <apr_user.h>

/* The longest API key accepted; legacy JWT keys have about 220 bytes. */
#define US_SECRET_MAX 4096

typedef enum us_secret_source {
    US_SECRET_INLINE,
    US_SECRET_FILE,
    US_SECRET_EXEC
} us_secret_source;

typedef struct us_secret {
    const char *value; /* NUL-terminated; wiped with its pool */
    apr_size_t len;
    us_secret_source source;
    int exposed;     /* others can read the file, or its group write it */
    apr_uid_t user;  /* of a file */
    apr_gid_t group; /* of a file; see group_reads */
    int group_reads;
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
 * Loads a secret at configuration time.
 *
 * pool  owns the secret; the value is wiped when the pool is cleared
 * temp  for scratch memory
 * spec  file:PATH (relative to ServerRoot), exec:COMMAND [ARG...], or the
 *       value itself
 * out   set on success
 *
 * A secret is one line of printable ASCII without blanks; a trailing line end
 * is removed.  Quotes, NAME=VALUE and the like are refused, as they were
 * copied along with it.  Returns NULL, or an error as a sentence part, which
 * never quotes the value.
 */
const char *us_secret_load(apr_pool_t *pool, apr_pool_t *temp,
                           const char *spec, us_secret **out);

/* Can a process of this user and group read the secret's file?  Permissions
 * for everybody do not count here; exposed reports them. */
int us_secret_is_readable_by(const us_secret *secret, apr_uid_t user,
                             apr_gid_t group);

/* The kind of this key; a JWT's role claim is read but not verified. */
us_key_kind us_secret_key_kind(apr_pool_t *temp, const us_secret *secret);

#endif /* US_SECRET_H */
