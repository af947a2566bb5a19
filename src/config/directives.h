/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * config/directives.h: the setters of directives that sections may have, for
 * the table in config/directives.c.  They are httpd's cmd_func: each returns
 * NULL, or what is wrong.
 */
#ifndef US_DIRECTIVES_H
#define US_DIRECTIVES_H

#include "us_config.h"

/* The configuration of cmd's server, marked as having a line of its own. */
us_server_conf *us_directive_own_conf(cmd_parms *cmd);

const char *us_set_ensure(cmd_parms *cmd, void *dir, int on);
const char *us_set_ensure_headers(cmd_parms *cmd, void *dir, int on);
const char *us_set_ensure_user(cmd_parms *cmd, void *dir, const char *arg);
const char *us_set_ensure_email(cmd_parms *cmd, void *dir, const char *arg);

/* Deny or Allow, stored by its offset in us_dir_conf, which is in
 * cmd->info. */
const char *us_set_on_error(cmd_parms *cmd, void *dir, const char *arg);

const char *us_set_response(cmd_parms *cmd, void *dir, const char *arg);
const char *us_set_proxy_admin(cmd_parms *cmd, void *dir, const char *arg);
const char *us_set_proxy_headers(cmd_parms *cmd, void *dir, const char *arg);

#endif /* US_DIRECTIVES_H */
