/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_values.h: the kinds of values that directives take.  Each parser either
 * fills its result or says what is allowed; nothing is stored on an error.
 * Every message is a sentence part that follows the directive's name.
 */
#ifndef US_VALUES_H
#define US_VALUES_H

#include <apr_pools.h>
#include <apr_time.h>

/* PostgreSQL cuts identifiers at NAMEDATALEN - 1 bytes. */
#define US_IDENTIFIER_MAX 63

/*
 * A duration: digits and an optional unit ms, s, mi or h (seconds without
 * one), as httpd writes them.  Own parser because ap_timeout_parameter_parse
 * takes "ms" and "10sfoo".
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

/* A number from 1 to max, or 1% to 100%: then *percent is set to 1. */
const char *us_value_share(apr_pool_t *pool, const char *arg, int max,
                           int *value, int *percent);

/*
 * The base URL of Supabase Auth: https, or http to a loopback address;
 * no user information, query or fragment; with or without /auth/v1.
 *
 * url  set to scheme://host[:port][/path]/auth/v1, without a final slash
 */
const char *us_value_supabase_url(apr_pool_t *pool, const char *arg,
                                  const char **url);

/* A forward proxy: http://, https://, socks5:// or socks5h://host[:port]. */
const char *us_value_proxy_url(apr_pool_t *pool, const char *arg,
                               const char **url);

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
