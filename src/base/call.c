/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "usersync.h"

#include <apr_strings.h>

#include <stdarg.h>

us_outcome us_fail(us_call *call, us_outcome outcome, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    call->cause = apr_pvsprintf(call->pool, format, args);
    va_end(args);
    return outcome;
}
