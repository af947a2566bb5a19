/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_dump.h: "apachectl -t -D DUMP_USERSYNC" prints the configuration that
 * each server has in the end, without secrets.
 */
#ifndef US_DUMP_H
#define US_DUMP_H

#include <httpd.h>

/* The test_config hook: prints to the standard output, if it was asked to. */
void us_dump_config(apr_pool_t *pconf, server_rec *s);

#endif /* US_DUMP_H */
