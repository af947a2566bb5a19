/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_hook_payload.h: what Supabase Auth sends to a hook.
 */
#ifndef US_HOOK_PAYLOAD_H
#define US_HOOK_PAYLOAD_H

#include "usersync.h"

#include <apr_tables.h>

typedef enum us_hook_kind {
    US_HOOK_TOKEN,          /* customize-access-token */
    US_HOOK_BEFORE_CREATED, /* before-user-created: the id is provisional */
    US_HOOK_AFTER_CREATED,  /* after-user-created */
    US_HOOK_OTHER
} us_hook_kind;

typedef struct us_hook_payload {
    us_hook_kind kind;
    us_slice claims;      /* of US_HOOK_TOKEN: a slice of the body */
    us_identity identity; /* of US_HOOK_TOKEN and US_HOOK_AFTER_CREATED */
} us_hook_payload;

/*
 * Reads the body of a hook's request, whose signature was verified.
 *
 * body     must outlive the payload's slice
 * columns  of us_column: the identity's values
 * payload  filled in on US_OK
 *
 * Returns US_OK, or US_INVALID_REQUEST if the body is not what Supabase sends.
 * Sets call->topic, and call->about to the names of the hook and of the method,
 * for the log.
 */
us_outcome us_hook_payload_read(us_call *call, us_slice body,
                                const apr_array_header_t *columns,
                                us_hook_payload *payload);

#endif /* US_HOOK_PAYLOAD_H */
