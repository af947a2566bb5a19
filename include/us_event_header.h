/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_event_header.h: the header of UserSyncEventHeader, by which Supabase's
 * Database Webhooks prove themselves, as they cannot sign.
 */
#ifndef US_EVENT_HEADER_H
#define US_EVENT_HEADER_H

#include "us_secret.h"

/* The shortest value: less could be tried out. */
#define US_EVENT_HEADER_MIN 16

typedef struct us_event_header {
    const char *name;
    const us_secret *value;
} us_event_header;

/*
 * Checks the name and loads the value, as us_secret_load does.
 *
 * pool  owns the header; the value is wiped when the pool is cleared
 * temp  for scratch memory
 * out   set on success
 *
 * Returns NULL, or an error as a sentence part that follows the directive's
 * name, and never quotes the value.
 */
const char *us_event_header_make(apr_pool_t *pool, apr_pool_t *temp,
                                 const char *name, const char *spec,
                                 us_event_header **out);

/* Does a header's text have the value?  How long this takes does not tell how
 * much of it is right. */
int us_event_header_is(const us_event_header *header, const char *text);

#endif /* US_EVENT_HEADER_H */
