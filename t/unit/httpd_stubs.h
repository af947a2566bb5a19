/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * httpd_stubs.h: how a test controls the stand-ins for httpd.
 */
#ifndef HTTPD_STUBS_H
#define HTTPD_STUBS_H

#include <apr_buckets.h>
#include <httpd.h>

/* What ap_server_root_relative resolves against; initially "/". */
extern const char *stub_server_root;

/* ap_state_query's answer to AP_SQ_RUN_MODE; initially AP_SQ_RM_NORMAL. */
extern int stub_run_mode;

/* The one name that -D defines on the command line, or NULL. */
extern const char *stub_define;

/* The line that ap_get_exec_line returned last, in the caller's pool. */
extern char *stub_exec_line;

/* The last logged line and its level; initially "" and -1. */
extern char stub_log_line[512];
extern int stub_log_level;

/* Called with each line, one at a time; initially NULL. */
extern void (*stub_log_hook)(int level, const char *line);

/*
 * One read of a request body: ap_get_brigade returns the pieces one by one.
 * If rv is not APR_SUCCESS, the read fails with it.
 */
typedef struct stub_read {
    apr_status_t rv;
    apr_bucket_brigade *brigade;
} stub_read;

/* Sets the pieces of the next request's body; APR_EOF follows them. */
void stub_body(const stub_read *reads, int count);

#endif /* HTTPD_STUBS_H */
