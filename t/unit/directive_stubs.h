/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * directive_stubs.h: configuration lines, read as httpd reads them.
 */
#ifndef DIRECTIVE_STUBS_H
#define DIRECTIVE_STUBS_H

#include "us_config.h"

/* A server with our configuration. */
typedef struct stub_server {
    server_rec s;
    void *configs[1];
} stub_server;

stub_server *stub_server_make(apr_pool_t *pool);

/* The directive of that name, in any case; NULL: none. */
const command_rec *stub_directive(const char *name);

/* The path of the section around the lines; NULL, the initial value: none. */
extern const char *stub_section;

/*
 * Reads a line in that server.
 *
 * dir     receives lines of sections
 * second  NULL: there is only one word
 *
 * Returns what is wrong with it, or NULL.
 */
const char *stub_line(apr_pool_t *pool, stub_server *server, us_dir_conf *dir,
                      const char *name, const char *first, const char *second);

#endif /* DIRECTIVE_STUBS_H */
