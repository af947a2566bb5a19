/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "us_hook_payload.h"
#include "us_json.h"
#include "log_name.h"
#include "claims.h"
#include "user.h"

#include <apr_strings.h>

#include <string.h>
#include <strings.h>

/* The deepest nesting of a body: deeper than PostgreSQL clients and Go's
 * decoder produce in practice, and a bound for the parser. */
#define DEPTH 1024

static us_hook_kind kind_of(const char *name)
{
    static const char *const names[]
        = {[US_HOOK_TOKEN] = "customize-access-token",
           [US_HOOK_BEFORE_CREATED] = "before-user-created",
           [US_HOOK_AFTER_CREATED] = "after-user-created"};
    us_hook_kind kind = US_HOOK_TOKEN;

    while (kind < US_HOOK_OTHER && strcmp(name, names[kind]) != 0) {
        kind++;
    }
    return kind;
}

static us_outcome invalid(us_call *call, const char *wrong)
{
    return us_fail(call, US_INVALID_REQUEST,
                   "the signed body is not a hook's request: %s", wrong);
}

/* The claims of a token that is about to be signed: what a login returns is
 * in them, too. */
static us_outcome take_claims(us_call *call, const us_json *doc,
                              const apr_array_header_t *columns,
                              us_hook_payload *payload)
{
    us_identity *identity = &payload->identity;
    const char *user_id;

    if (us_json_type_of(doc, US_JSON_PATH("claims")) != US_JSON_OBJECT) {
        return invalid(call, "it has no claims");
    }
    if (!us_claims_take(call->pool, doc, "claims", columns, identity)) {
        return invalid(call, "claims.sub is not a user's id");
    }
    user_id = us_json_string(doc, US_JSON_PATH("user_id"), NULL);
    if (user_id == NULL || strcasecmp(user_id, identity->id) != 0) {
        return invalid(call, "user_id is not claims.sub");
    }
    identity->proven = 1;
    payload->claims = us_json_raw(doc, US_JSON_PATH("claims"));
    return US_OK;
}

static us_outcome take_user(us_call *call, const us_json *doc,
                            const apr_array_header_t *columns,
                            us_hook_payload *payload)
{
    static const us_user_place place = {.object = "user", .id = "id"};

    if (!us_user_take(call->pool, doc, &place, columns, &payload->identity)) {
        return invalid(call, "user.id is not a user's id");
    }
    payload->identity.proven = 1;
    return US_OK;
}

static const us_topic topics[]
    = {[US_HOOK_TOKEN] = US_TOPIC_TOKEN,
       [US_HOOK_BEFORE_CREATED] = US_TOPIC_BEFORE_CREATED,
       [US_HOOK_AFTER_CREATED] = US_TOPIC_AFTER_CREATED,
       [US_HOOK_OTHER] = US_TOPIC_UNKNOWN_HOOK};

static us_outcome take(us_call *call, const us_json *doc,
                       const apr_array_header_t *columns,
                       us_hook_payload *payload)
{
    const char *name = us_log_name(doc, US_JSON_PATH("metadata", "name"));
    const char *method
        = us_log_name(doc, US_JSON_PATH("authentication_method"));

    payload->kind = kind_of(name);
    call->topic = topics[payload->kind];
    call->about = apr_pstrcat(call->pool, name,
                              payload->kind == US_HOOK_TOKEN ? ", " : NULL,
                              method, NULL);
    switch (payload->kind) {
    case US_HOOK_TOKEN:
        return take_claims(call, doc, columns, payload);
    case US_HOOK_AFTER_CREATED:
        return take_user(call, doc, columns, payload);
    case US_HOOK_BEFORE_CREATED:
    case US_HOOK_OTHER:
        break;
    }
    return US_OK;
}

us_outcome us_hook_payload_read(us_call *call, us_slice body,
                                const apr_array_header_t *columns,
                                us_hook_payload *payload)
{
    us_json *doc = NULL;
    const char *wrong
        = us_json_parse(call->pool, body.text, body.len, DEPTH, &doc);
    us_outcome outcome;

    memset(payload, 0, sizeof(*payload));
    if (wrong != NULL) {
        return invalid(call, wrong);
    }
    outcome = take(call, doc, columns, payload);
    us_json_free(doc);
    return outcome;
}
