/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * httpd_stubs.h: what a test may tell the stand-ins for httpd.
 */
#ifndef HTTPD_STUBS_H
#define HTTPD_STUBS_H

#include <apr_buckets.h>
#include <httpd.h>

/* What ap_server_root_relative resolves against; "/" at first. */
extern const char *stub_server_root;

/* What ap_state_query says to AP_SQ_RUN_MODE; AP_SQ_RM_NORMAL at first. */
extern int stub_run_mode;

/* The one name that -D defines on the command line, or NULL. */
extern const char *stub_define;

/* The line that ap_get_exec_line returned last, in the caller's pool. */
extern char *stub_exec_line;

/* The last line that was logged, and its level; "" and -1 at first. */
extern char stub_log_line[512];
extern int stub_log_level;

/* Is told of each line, too, one at a time; NULL at first. */
extern void (*stub_log_hook)(int level, const char *line);

/*
 * One read of a request body: ap_get_brigade hands the pieces out one by one.
 * rv other than APR_SUCCESS: the read itself fails with it.
 */
typedef struct stub_read {
    apr_status_t rv;
    apr_bucket_brigade *brigade;
} stub_read;

/* The pieces of the body of the next request; behind them APR_EOF. */
void stub_body(const stub_read *reads, int count);

#endif /* HTTPD_STUBS_H */
