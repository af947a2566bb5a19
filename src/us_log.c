/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "us_clock.h"
#include "us_log.h"

#include <apr_atomic.h>

/* A cause that persists is told once per this long, in seconds. */
#define QUIET_SECONDS 10

/*
 * Per child, one slot per outcome.  Plain atomics: two threads that race for
 * the same second may both write a line, which is harmless.
 */
static volatile apr_uint32_t next_line[US_OUTCOME_COUNT];
static volatile apr_uint32_t kept_back[US_OUTCOME_COUNT];

int us_log_permit(us_outcome outcome, unsigned *suppressed)
{
    /* seconds since boot fit 32 bits for 136 years */
    apr_uint32_t now = (apr_uint32_t)apr_time_sec(us_clock_now()) + 1;
    apr_uint32_t due = apr_atomic_read32(&next_line[outcome]);

    *suppressed = 0;
    if (now < due) {
        apr_atomic_inc32(&kept_back[outcome]);
        return 0;
    }
    if (apr_atomic_cas32(&next_line[outcome], now + QUIET_SECONDS, due)
        != due) {
        apr_atomic_inc32(&kept_back[outcome]);
        return 0; /* another thread writes it just now */
    }
    *suppressed = apr_atomic_xchg32(&kept_back[outcome], 0);
    return 1;
}
