/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * supabase/log_name.h: names in a body of Supabase's that the log tells, such
 * as that of a hook.
 */
#ifndef US_LOG_NAME_H
#define US_LOG_NAME_H

#include "us_json.h"

/* A name for the log, which belongs to doc; "?" instead of a text that is no
 * name, or of nothing. */
const char *us_log_name(const us_json *doc, const char *const *path);

#endif /* US_LOG_NAME_H */
