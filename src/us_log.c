/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "us_clock.h"
#include "us_log.h"

#include <apr_atomic.h>
#include <apr_lib.h>

/* A cause that persists is told once per this long, in seconds. */
#define QUIET_SECONDS 10

/* Causes that are told apart; two in one slot share its silence. */
#define SLOTS 256

/*
 * Per child.  Plain atomics: two threads that race for the same second may
 * both write a line, which is harmless.
 */
static volatile apr_uint32_t next_line[SLOTS];
static volatile apr_uint32_t kept_back[SLOTS];

/* FNV-1a over all that tells one cause from another. */
static unsigned slot_of(const void *scope, us_outcome outcome,
                        const char *cause)
{
    apr_uint64_t hash = 14695981039346656037ULL;

    hash = (hash ^ (apr_uint64_t)(apr_uintptr_t)scope) * 1099511628211ULL;
    hash = (hash ^ (apr_uint64_t)outcome) * 1099511628211ULL;
    for (; cause != NULL && *cause != '\0'; cause++) {
        if (!apr_isdigit(*cause)) {
            hash = (hash ^ (unsigned char)*cause) * 1099511628211ULL;
        }
    }
    return (unsigned)((hash >> 32) % SLOTS);
}

int us_log_permit(const void *scope, us_outcome outcome, const char *cause,
                  unsigned *suppressed)
{
    unsigned slot = slot_of(scope, outcome, cause);
    /* seconds since boot fit 32 bits for 136 years */
    apr_uint32_t now = (apr_uint32_t)apr_time_sec(us_clock_now()) + 1;
    apr_uint32_t due = apr_atomic_read32(&next_line[slot]);

    *suppressed = 0;
    if (now < due
        || apr_atomic_cas32(&next_line[slot], now + QUIET_SECONDS, due)
               != due) {
        apr_atomic_inc32(&kept_back[slot]);
        return 0; /* or another thread writes it just now */
    }
    *suppressed = apr_atomic_xchg32(&kept_back[slot], 0);
    return 1;
}
