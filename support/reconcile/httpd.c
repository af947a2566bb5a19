/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Stands in for the functions of httpd that the module's files refer to.  The
 * program has no requests, so nothing is ever logged about one.
 */
#include "us_log.h"

#include <apr_file_info.h>

module AP_MODULE_DECLARE_DATA usersync_module
    = {.version = MODULE_MAGIC_NUMBER_MAJOR};

/* Paths are relative to where the program runs. */
AP_DECLARE(char *) ap_server_root_relative(apr_pool_t *p, const char *fname)
{
    char *path = NULL;

    return apr_filepath_merge(&path, NULL, fname, 0, p) == APR_SUCCESS ? path
                                                                       : NULL;
}

/* Only for exec:, which is no value of --key. */
AP_DECLARE(char *)
ap_get_exec_line(apr_pool_t *p, const char *cmd, const char *const *argv)
{
    (void)p;
    (void)cmd;
    (void)argv;
    return NULL;
}

AP_DECLARE(void)
ap_log_rerror_(const char *file, int line, int module_index, int level,
               apr_status_t status, const request_rec *r, const char *fmt, ...)
{
    (void)file;
    (void)line;
    (void)module_index;
    (void)level;
    (void)status;
    (void)r;
    (void)fmt;
}
