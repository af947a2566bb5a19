/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "session.h"
#include "user.h"

/* Where a user is in an answer. */
static const us_user_place in_session = {.object = "user", .id = "id"};
static const us_user_place bare = {.id = "id"};

/* It is a token, so it is not decoded. */
int us_session_is_there(const us_json *doc)
{
    const char *const *path = US_JSON_PATH("access_token");

    return us_json_type_of(doc, path) == US_JSON_STRING
           && us_json_raw(doc, path).len > 2;
}

int us_session_take(us_call *call, const us_json *doc,
                    const apr_array_header_t *columns, us_identity *identity)
{
    if (!us_session_is_there(doc)
        || !us_user_take(call->pool, doc, &in_session, columns, identity)) {
        return 0;
    }
    identity->proven = 1;
    identity->may_enter = us_user_may_enter(doc, &in_session, apr_time_now());
    return 1;
}

int us_session_take_pending(us_call *call, const us_json *doc,
                            const apr_array_header_t *columns,
                            us_identity *identity)
{
    if (us_json_type_of(doc, US_JSON_PATH("identities")) != US_JSON_ARRAY
        || !us_user_take(call->pool, doc, &bare, columns, identity)) {
        return 0;
    }
    identity->pending = 1;
    identity->proven
        = us_json_array_has(doc, US_JSON_PATH("identities"), "user_id",
                            us_json_string(doc, US_JSON_PATH("id"), NULL));
    return 1;
}

int us_session_take_own(us_call *call, const us_json *doc,
                        const apr_array_header_t *columns,
                        us_identity *identity)
{
    if (!us_user_take(call->pool, doc, &bare, columns, identity)) {
        return 0;
    }
    identity->proven = 1;
    return 1;
}
