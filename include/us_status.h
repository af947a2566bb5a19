/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_status.h: the status page (SetHandler usersync-status): a page for
 * people, JSON, OpenMetrics and a health check; and a block in mod_status'
 * own page.  Who may see it is for httpd's Require to say.
 */
#ifndef US_STATUS_H
#define US_STATUS_H

#include "us_users.h"

#include <httpd.h>

/* child_init: begins the list of users tables of this child. */
void us_status_child_init(apr_pool_t *pchild);

/* child_init: adds the table of server s. */
void us_status_add(server_rec *s, us_users *users);

/* The handler.  Returns what it must return to httpd. */
int us_status_answer(request_rec *r);

/* mod_status' hook (mod_status.h): adds a block to its page, or lines to that
 * for machines. */
int us_status_extend(request_rec *r, int flags);

#endif /* US_STATUS_H */
