/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_log.h: tracing for every layer, and the limiter of repeated lines.
 *
 * Lower layers trace (debug and below).  reply/reply.c writes the one line
 * that a failed request may log at info or above.  The only other lines are
 * about a state, such as a surprising table, and are written once.
 */
#ifndef US_LOG_H
#define US_LOG_H

#include "usersync.h"

#include <httpd.h>
#include <http_config.h>
#include <http_log.h>

/* Default visibility: -fvisibility=hidden would hide it from LoadModule. */
extern module AP_MODULE_DECLARE_DATA __attribute__((visibility("default")))
usersync_module;

APLOG_USE_MODULE(usersync);

/* Writes a debug or trace line: us_trace(log, APLOG_DEBUG, "...", ...). */
#define us_trace(log, level, ...)                                       \
    do {                                                                \
        if ((log)->r != NULL && APLOG_R_IS_LEVEL((log)->r, level)) {    \
            ap_log_rerror(APLOG_MARK, level, 0, (log)->r, __VA_ARGS__); \
        }                                                               \
    } while (0)

/*
 * May a line about this cause be written now?  A child writes one line about a
 * cause every ten seconds.
 *
 * scope       what the cause belongs to: a server
 * cause       its text; digits in it are ignored, as they are times and sizes
 * suppressed  set to how many lines were suppressed since the last one
 *
 * Returns 1 to write the line, 0 to suppress it.  Any thread.
 */
int us_log_permit(const void *scope, us_outcome outcome, const char *cause,
                  unsigned *suppressed);

#endif /* US_LOG_H */
