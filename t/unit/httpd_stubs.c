/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Stand-ins for the few functions of httpd that the lower layers call.  For
 * those layers, each behaves like httpd's, and does nothing more.
 */
#include "httpd_stubs.h"
#include "us_log.h"

#include <ap_expr.h>
#include <http_core.h>
#include <http_protocol.h>
#include <mpm_common.h>
#include <util_filter.h>

#include <apr_file_io.h>
#include <apr_strings.h>
#include <apr_thread_proc.h>

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* A vector of configurations has only our entry here. */
module AP_MODULE_DECLARE_DATA usersync_module
    = {.version = MODULE_MAGIC_NUMBER_MAJOR, .module_index = 0};

/* --- paths and state --- */

const char *stub_server_root = "/";

AP_DECLARE(char *) ap_server_root_relative(apr_pool_t *p, const char *fname)
{
    char *path = NULL;
    apr_status_t rv = apr_filepath_merge(&path, stub_server_root, fname,
                                         APR_FILEPATH_TRUENAME, p);

    return rv == APR_SUCCESS || APR_STATUS_IS_EBADPATH(rv)
                   || APR_STATUS_IS_ENOENT(rv) || APR_STATUS_IS_ENOTDIR(rv)
               ? path
               : NULL;
}

int stub_run_mode = AP_SQ_RM_NORMAL;

AP_DECLARE(int) ap_state_query(int query_code)
{
    return query_code == AP_SQ_RUN_MODE ? stub_run_mode : AP_SQ_NOT_SUPPORTED;
}

const char *stub_define;

AP_DECLARE(int) ap_exists_config_define(const char *name)
{
    return stub_define != NULL && strcmp(stub_define, name) == 0;
}

/* --- commands --- */

char *stub_exec_line;

/* The first line of a program's output, without its line end; its exit status
 * is ignored. */
AP_DECLARE(char *)
ap_get_exec_line(apr_pool_t *p, const char *cmd, const char *const *argv)
{
    char line[MAX_STRING_LEN];
    apr_size_t len = 0;
    apr_size_t one = 1;
    apr_procattr_t *attributes;
    apr_proc_t proc;
    char c = '\0';

    if (apr_procattr_create(&attributes, p) != APR_SUCCESS
        || apr_procattr_io_set(attributes, APR_FULL_BLOCK, APR_FULL_BLOCK,
                               APR_FULL_BLOCK)
               != APR_SUCCESS
        || apr_procattr_cmdtype_set(attributes, APR_PROGRAM) != APR_SUCCESS
        || apr_proc_create(&proc, cmd, argv, NULL, attributes, p)
               != APR_SUCCESS) {
        return NULL;
    }
    while (len < sizeof(line) - 1
           && apr_file_read(proc.out, &c, &one) == APR_SUCCESS && one == 1
           && c != '\n' && c != '\r') {
        line[len++] = c;
    }
    apr_file_close(proc.out);
    apr_file_close(proc.in);
    apr_file_close(proc.err);
    apr_proc_wait(&proc, NULL, NULL, APR_WAIT);
    stub_exec_line = apr_pstrmemdup(p, line, len);
    return stub_exec_line;
}

/* --- request bodies --- */

static const stub_read *body_reads;
static int body_left;

void stub_body(const stub_read *reads, int count)
{
    body_reads = reads;
    body_left = count;
}

AP_DECLARE(apr_status_t)
ap_get_brigade(ap_filter_t *filter, apr_bucket_brigade *bucket,
               ap_input_mode_t mode, apr_read_type_e block,
               apr_off_t readbytes)
{
    const stub_read *next = body_reads;

    (void)filter;
    if (mode != AP_MODE_READBYTES || block != APR_BLOCK_READ
        || readbytes <= 0) {
        return APR_ENOTIMPL;
    }
    if (body_left == 0) {
        return APR_EOF;
    }
    body_left--;
    body_reads++;
    if (next->rv == APR_SUCCESS) {
        APR_BRIGADE_CONCAT(bucket, next->brigade);
    }
    return next->rv;
}

AP_DECLARE(int) ap_map_http_request_error(apr_status_t rv, int status)
{
    switch (rv) {
    case AP_FILTER_ERROR:
        return AP_FILTER_ERROR;
    case APR_ENOSPC:
        return HTTP_REQUEST_ENTITY_TOO_LARGE;
    case APR_ENOTIMPL:
        return HTTP_NOT_IMPLEMENTED;
    case APR_TIMEUP:
    case APR_ETIMEDOUT:
        return HTTP_REQUEST_TIME_OUT;
    default:
        return status;
    }
}

/* --- the log --- */

char stub_log_line[512];
int stub_log_level = -1;
void (*stub_log_hook)(int level, const char *line);

/* Threads may log; a test reads the line after they have ended. */
static void keep_line(int level, const char *format, va_list args)
{
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

    pthread_mutex_lock(&mutex);
    stub_log_level = level;
    (void)vsnprintf(stub_log_line, sizeof(stub_log_line), format, args);
    if (stub_log_hook != NULL) {
        stub_log_hook(level, stub_log_line);
    }
    pthread_mutex_unlock(&mutex);
}

AP_DECLARE(void)
ap_log_error_(const char *file, int line, int module_index, int level,
              apr_status_t status, const server_rec *s, const char *fmt, ...)
{
    va_list args;

    (void)file;
    (void)line;
    (void)module_index;
    (void)status;
    (void)s;
    va_start(args, fmt);
    keep_line(level, fmt, args);
    va_end(args);
}

AP_DECLARE(void)
ap_log_rerror_(const char *file, int line, int module_index, int level,
               apr_status_t status, const request_rec *r, const char *fmt, ...)
{
    va_list args;

    (void)file;
    (void)line;
    (void)module_index;
    (void)status;
    (void)r;
    va_start(args, fmt);
    keep_line(level, fmt, args);
    va_end(args);
}

/* Every directive of the tests is allowed where it is. */
const char *ap_set_flag_slot(cmd_parms *cmd, void *conf, int on)
{
    *(int *)(void *)((char *)conf + (apr_size_t)cmd->info) = on != 0;
    return NULL;
}

const char *ap_check_cmd_context(cmd_parms *cmd, unsigned forbidden)
{
    (void)cmd;
    (void)forbidden;
    return NULL;
}

/* --- expressions --- */

/* An expression is its own text; "%{" must have an end. */
AP_DECLARE(ap_expr_info_t *)
ap_expr_parse_cmd_mi(const cmd_parms *cmd, const char *expr,
                     unsigned int flags, const char **err,
                     ap_expr_lookup_fn_t *lookup_fn, int module_index)
{
    ap_expr_info_t *info = apr_pcalloc(cmd->pool, sizeof(*info));
    const char *open = strstr(expr, "%{");

    (void)lookup_fn;
    (void)module_index;
    info->filename = expr;
    info->flags = flags;
    *err = open != NULL && strchr(open, '}') == NULL ? "syntax error" : NULL;
    return *err == NULL ? info : NULL;
}
