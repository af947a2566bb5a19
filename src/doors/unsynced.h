/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * doors/unsynced.h: counts whom a door lets through without a row while the
 * user database is away (OnError Allow), and says so once it is back.
 *
 * Threads: any thread may call the functions below us_unsynced_create.
 */
#ifndef US_UNSYNCED_H
#define US_UNSYNCED_H

#include "us_stats.h"

#include <httpd.h>

typedef struct us_unsynced us_unsynced; /* of one door, in this child */

/*
 * child_init.  A count that is left when the child ends is logged then.
 *
 * what       such as "requests were let through without a row"
 * directive  that allows it
 * tally      where us_stats.h counts them
 */
us_unsynced *us_unsynced_create(apr_pool_t *pchild, server_rec *s,
                                const char *what, const char *directive,
                                us_tally tally);

/* One more. */
void us_unsynced_count(us_unsynced *unsynced);

/* The user database has answered: logs the count, if there is one. */
void us_unsynced_is_over(us_unsynced *unsynced);

#endif /* US_UNSYNCED_H */
