/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * directive_stubs.h: lines of a configuration, read as httpd reads them.
 */
#ifndef DIRECTIVE_STUBS_H
#define DIRECTIVE_STUBS_H

#include "us_config.h"

/* A server with a configuration of ours. */
typedef struct stub_server {
    server_rec s;
    void *configs[1];
} stub_server;

stub_server *stub_server_make(apr_pool_t *pool);

/* Of that name, in any case; NULL: there is none. */
const command_rec *stub_directive(const char *name);

/*
 * A line that stands in that server.
 *
 * dir     where lines of sections go
 * second  NULL: there is one word only
 *
 * Returns what is wrong with it, or NULL.
 */
const char *stub_line(apr_pool_t *pool, stub_server *server, us_dir_conf *dir,
                      const char *name, const char *first, const char *second);

#endif /* DIRECTIVE_STUBS_H */
