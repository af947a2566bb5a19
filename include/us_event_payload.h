/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_event_payload.h: what an event says about a user: the message of
 * sql/supabase-notify.sql, or one of Supabase's stock Database Webhooks on
 * auth.users.
 */
#ifndef US_EVENT_PAYLOAD_H
#define US_EVENT_PAYLOAD_H

#include "usersync.h"

#include <apr_tables.h>

typedef enum us_event_format {
    US_EVENT_MESSAGE, /* of sql/supabase-notify.sql */
    US_EVENT_STOCK    /* {type, table, schema, record, old_record} */
} us_event_format;

/*
 * Reads the body of an event whose sender has been verified.
 *
 * format    the only one that is taken: it belongs to how the sender proved
 *           themselves
 * columns   of us_column: the identity's values
 * now       the time of a deletion that does not tell its own
 * identity  filled in, proven on US_OK, with life and as_of.  The columns of
 *           updated_at and of a gone user's deleted_at have as_of, and a
 *           deleted user has neither e-mail nor phone.
 *
 * Returns US_OK, or US_INVALID_REQUEST if the body is no such event.  Sets
 * call->topic, and call->about to what happened to which table, for the log.
 */
us_outcome us_event_payload_read(us_call *call, us_slice body,
                                 us_event_format format,
                                 const apr_array_header_t *columns,
                                 apr_time_t now, us_identity *identity);

#endif /* US_EVENT_PAYLOAD_H */
