/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * users/slots.h: counts how often the standing of users has changed, for all
 * children of this httpd.  What was seen of a user holds only while their
 * count is what it was before the look; docs/internals.md, "Cache, row and
 * event", has the protocol.
 *
 * Users share slots: a change of one makes some others unknown, which costs a
 * look.  The slots live as long as httpd's parent, so that the children of an
 * old generation see what those of a new one count, and the reverse.
 */
#ifndef US_SLOTS_H
#define US_SLOTS_H

#include <httpd.h>

/* When and where something was seen. */
typedef struct us_sight {
    apr_uint32_t instance; /* this httpd, since its start */
    apr_uint32_t count;    /* of the user's slot, before the look */
} us_sight;

/* post_config: creates the slots, unless an earlier generation has. */
apr_status_t us_slots_share(server_rec *s);

/* child_init and later, any thread: the sight of a look that begins now.  It
 * comes before the statement that looks. */
us_sight us_slots_sight(const char *id);

/* The user's standing has changed: counts it.  It comes after the commit. */
void us_slots_change(const char *id);

/*
 * Does what was seen then still hold?  What another httpd has seen, which
 * shares the cache with this one, does unless something has changed here
 * lately.
 *
 * lately  how long such a sight can last, from its look to its end (usec)
 */
int us_slots_hold(const char *id, us_sight sight, apr_interval_time_t lately);

#endif /* US_SLOTS_H */
