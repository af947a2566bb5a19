/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_conftree.h: reads a server's part of httpd's configuration tree.  It is
 * needed for what other modules do not publish: which sections set our routes,
 * and mod_dbd's settings.
 */
#ifndef US_CONFTREE_H
#define US_CONFTREE_H

#include "us_config.h"

#include <util_cfgtree.h>

/* DBDMin, DBDKeep or DBDMax. */
typedef struct us_dbd_size {
    const char *name;
    int value;
    const char *where; /* "FILE:LINE"; NULL: mod_dbd's default */
} us_dbd_size;

/* Indexes of us_conftree.sizes. */
enum { US_DBD_MIN, US_DBD_KEEP, US_DBD_MAX, US_DBD_SIZES };

typedef struct us_conftree {
    const char *route;   /* a route's handler that the server sets */
    const char *hook;    /* US_HOOK_HANDLER if the server sets it */
    const char *event;   /* US_EVENT_HANDLER likewise */
    const char *unknown; /* a handler "usersync-..." that does not exist */
    const char *driver;  /* DBDriver in effect: its own or the main server's */
    const char *dbd;     /* all DBD lines in effect; only for comparing */
    const char
        *database; /* driver and DBDParams of these, unquoted; likewise */
    us_dbd_size sizes[US_DBD_SIZES]; /* in effect */
    int own_sizes; /* one of these lines is in the server itself */
    int unpooled;  /* DBDPersist Off: mod_dbd does not use these sizes */
} us_conftree;

/*
 * Reads the section of server s, and what it inherits for mod_dbd.  Only at
 * start-up and in child_init.
 *
 * Returns the findings, allocated from pool.
 */
us_conftree us_conftree_read(apr_pool_t *pool, const server_rec *s,
                             const server_rec *main_server);

/* The first of a server's own lines, or NULL.  Among those of the main server
 * are the sections of virtual hosts. */
const ap_directive_t *us_conftree_lines(const server_rec *s);

#endif /* US_CONFTREE_H */
