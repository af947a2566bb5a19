/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "us_log.h"
#include "unsynced.h"

#include <http_config.h>

#include <apr_atomic.h>

struct us_unsynced {
    server_rec *server;
    const char *what;
    const char *directive;
    us_tally tally;
    volatile apr_uint32_t count; /* since the store failed */
};

static void tell(us_unsynced *unsynced, const char *when)
{
    apr_uint32_t count = apr_atomic_read32(&unsynced->count) == 0
                             ? 0
                             : apr_atomic_xchg32(&unsynced->count, 0);

    if (count > 0) {
        ap_log_error(APLOG_MARK, APLOG_NOTICE, 0, unsynced->server,
                     "US014: %s: %u %s (%s Allow)", when, count,
                     unsynced->what, unsynced->directive);
    }
}

static apr_status_t tell_at_the_end(void *unsynced)
{
    tell(unsynced, "this child ends while the user database is away");
    return APR_SUCCESS;
}

us_unsynced *us_unsynced_create(apr_pool_t *pchild, server_rec *s,
                                const char *what, const char *directive,
                                us_tally tally)
{
    us_unsynced *unsynced = apr_pcalloc(pchild, sizeof(*unsynced));

    unsynced->server = s;
    unsynced->what = what;
    unsynced->directive = directive;
    unsynced->tally = tally;
    apr_pool_cleanup_register(pchild, unsynced, tell_at_the_end,
                              apr_pool_cleanup_null);
    return unsynced;
}

void us_unsynced_count(us_unsynced *unsynced)
{
    apr_atomic_inc32(&unsynced->count);
    us_stats_tally(unsynced->tally);
}

void us_unsynced_is_over(us_unsynced *unsynced)
{
    tell(unsynced, "the user database answers again");
}
