/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_values.h: parsers for the values of directives.  Each parser either sets
 * its result or says what is allowed; on an error it stores nothing.  Every
 * message is a sentence part that follows the directive's name.
 */
#ifndef US_VALUES_H
#define US_VALUES_H

#include <apr_pools.h>
#include <apr_time.h>

/* PostgreSQL cuts identifiers at NAMEDATALEN - 1 bytes. */
#define US_IDENTIFIER_MAX 63

/*
 * A duration: digits and an optional unit ms, s, mi or h (seconds without
 * one), as httpd writes them.  This is our own parser because
 * ap_timeout_parameter_parse accepts "ms" and "10sfoo".
 *
 * min, max  bounds in microseconds, both allowed
 */
const char *us_value_duration(apr_pool_t *pool, const char *arg,
                              apr_interval_time_t min, apr_interval_time_t max,
                              apr_interval_time_t *value);

/* A number of bytes, digits only, min to max. */
const char *us_value_bytes(apr_pool_t *pool, const char *arg, apr_size_t min,
                           apr_size_t max, apr_size_t *value);

/* A number, digits only, min to max. */
const char *us_value_count(apr_pool_t *pool, const char *arg, int min, int max,
                           int *value);

/* A number, or a percentage where it is 0; both 0: Off. */
typedef struct us_share {
    int number;
    int percent;
} us_share;

/* A number from 1 to max, or 1% to 100%, or Off if has_off. */
const char *us_value_share(apr_pool_t *pool, const char *arg, int has_off,
                           int max, us_share *share);

/*
 * The base URL of Supabase Auth: https, or http to a loopback address; no user
 * information, query or fragment; with or without /auth/v1.  The dashboard, a
 * database or another Supabase service is refused.  The message does not show
 * a value that may contain a password or an API key.
 *
 * url  set to scheme://host[:port][/path]/auth/v1, without a final slash
 */
const char *us_value_supabase_url(apr_pool_t *pool, const char *arg,
                                  const char **url);

/* A forward proxy: http://, https://, socks5:// or socks5h://host[:port].
 * The message does not show a password. */
const char *us_value_proxy_url(apr_pool_t *pool, const char *arg,
                               const char **url);

/*
 * The URL of a hook: https, or http to a loopback address, as Supabase demands
 * of hooks; no user information, query or fragment.
 *
 * url  set to scheme://host[:port]/path
 */
const char *us_value_hook_url(apr_pool_t *pool, const char *arg,
                              const char **url);

/* Is the host of this URL this machine: localhost, 127.0.0.0/8, ::1? */
int us_value_is_loopback_url(apr_pool_t *pool, const char *url);

/*
 * A column's name: a bare PostgreSQL identifier, or anything in double
 * quotes.  Case is kept as written.
 *
 * quoted  set to the form for SQL, always in double quotes
 * plain   set to the name itself
 */
const char *us_value_identifier(apr_pool_t *pool, const char *arg,
                                const char **quoted, const char **plain);

/* A table's name: [schema.]table, each an identifier as above. */
const char *us_value_table(apr_pool_t *pool, const char *arg,
                           const char **quoted);

/* Is s a UUID in the 8-4-4-4-12 form of RFC 9562? */
int us_value_is_uuid(const char *s);

#endif /* US_VALUES_H */
