/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * paths.h: a second opinion on what Supabase's own clients ask.  Compares the
 * path as a text, with regular expressions, where the module has segments and
 * a table.
 */
#ifndef PATHS_H
#define PATHS_H

#include "us_proxied.h"

/* What us_proxied_of must return. */
us_proxied paths_judge(apr_pool_t *pool, const char *method, const char *url,
                       const char *query);

/* A text without its escapes (RFC 3986); the text itself if one of them is
 * none, or a NUL. */
const char *paths_unescaped(apr_pool_t *pool, const char *text);

#endif /* PATHS_H */
