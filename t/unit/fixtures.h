/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fixtures.h: the recorded answers of Supabase Auth and its gateways, as
 * t/fixtures/supabase/index.json lists them.
 */
#ifndef FIXTURES_H
#define FIXTURES_H

#include <apr_pools.h>

typedef struct fixture {
    const char *file;
    long status;              /* 0: the body of a request, not an answer */
    const char *content_type; /* and the headers; NULL: absent */
    const char *error_code;
    const char *retry_after;
    const char *user_id;
    char *body;
    apr_size_t len;
} fixture;

/* The directory: the first argument, $FIXTURES, or t/fixtures/supabase. */
const char *fixtures_directory(int argc, const char *const *argv);

/* Loads all; returns NULL, with a line on stderr, if one cannot be read. */
const fixture *fixtures_load(apr_pool_t *pool, const char *directory,
                             int *count);

/* A file with a NUL behind it; NULL, with a line on stderr: unreadable. */
char *fixtures_read(apr_pool_t *pool, const char *path, apr_size_t *len);

/* The fixture of that name, or NULL. */
const fixture *fixtures_find(const fixture *fixtures, int count,
                             const char *file);

#endif /* FIXTURES_H */
