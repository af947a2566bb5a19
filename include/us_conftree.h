/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_conftree.h: what httpd's configuration tree says of a server.  Needed
 * for what other modules keep to themselves: which sections set our routes,
 * and mod_dbd's settings.
 */
#ifndef US_CONFTREE_H
#define US_CONFTREE_H

#include "us_config.h"

typedef struct us_conftree {
    const char *route;   /* a usersync handler that is set in the server */
    const char *unknown; /* a handler usersync-... that does not exist */
    /* A UserSyncEnsure... expression that reads a header which
     * UserSyncEnsureHeaders takes away: of the server itself, and one of the
     * main server that holds in this one, too. */
    const char *circular;
    const char *circular_above;
    const char *driver; /* DBDriver in force: its own or the main server's */
    const char *dbd;    /* all DBD lines in force, to be compared only */
    const char
        *database; /* driver and DBDParams of those, unquoted; the same */
} us_conftree;

/*
 * Read what stands in the section of s, and what it inherits for mod_dbd.
 *
 * Returns the findings in pool.  Start-up and child_init only.
 */
us_conftree us_conftree_read(apr_pool_t *pool, const server_rec *s,
                             const server_rec *main_server);

#endif /* US_CONFTREE_H */
