/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_hook_payload_read.  Input: the body of a hook's request, which is signed.
 */
#include "fuzz.h"
#include "identity.h"
#include "us_hook_payload.h"

#include <string.h>
#include <strings.h>

/* As supabase/hook_payload.c has them. */
#define DEPTH 1024
#define NAME_LEN 64

/* Filled in first, so that unchanged members are noticed. */
#define UNTOUCHED 0x55

/* --- a second opinion --- */

static us_hook_kind kind_of(const strict_node *body)
{
    const strict_node *name
        = strict_member(strict_member(body, "metadata"), "name");

    if (strict_is(name, "customize-access-token")) {
        return US_HOOK_TOKEN;
    }
    if (strict_is(name, "before-user-created")) {
        return US_HOOK_BEFORE_CREATED;
    }
    return strict_is(name, "after-user-created") ? US_HOOK_AFTER_CREATED
                                                 : US_HOOK_OTHER;
}

/* Is the node a UUID in any case? */
static int is_id(const strict_node *node)
{
    char id[US_UUID_LEN + 1];
    int i;

    if (node == NULL || node->string == NULL
        || strlen(node->string) != US_UUID_LEN) {
        return 0;
    }
    for (i = 0; i <= US_UUID_LEN; i++) {
        char c = node->string[i];

        id[i] = (char)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
    }
    return identity_is_canonical(id);
}

/* Is it what Supabase sends? */
static int is_good(const strict_node *body)
{
    const strict_node *claims = strict_member(body, "claims");
    const strict_node *sub = strict_member(claims, "sub");
    const strict_node *user_id = strict_member(body, "user_id");

    switch (kind_of(body)) {
    case US_HOOK_TOKEN:
        return is_id(sub) && is_id(user_id)
               && strcasecmp(sub->string, user_id->string) == 0;
    case US_HOOK_AFTER_CREATED:
        return is_id(strict_member(strict_member(body, "user"), "id"));
    case US_HOOK_BEFORE_CREATED:
    case US_HOOK_OTHER:
        break;
    }
    return 1;
}

/* --- what must hold --- */

/* At text there is the name if it is one, else "?".  Returns what follows. */
static const char *skip_name(const char *text, const strict_node *node)
{
    const char *name = node != NULL ? node->string : NULL;
    apr_size_t len = name != NULL ? strlen(name) : 0;

    if (len == 0 || len > NAME_LEN
        || strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                        "0123456789-_/.")
               != len) {
        name = "?";
        len = 1;
    }
    require(strncmp(text, name, len) == 0, "the log has a name, or ?");
    return text + len;
}

static void check_about(const us_call *call, const strict_node *body)
{
    const char *rest = skip_name(
        call->about, strict_member(strict_member(body, "metadata"), "name"));

    if (kind_of(body) == US_HOOK_TOKEN) {
        require(strncmp(rest, ", ", 2) == 0, "a method follows");
        rest = skip_name(rest + 2,
                         strict_member(body, "authentication_method"));
    }
    require(*rest == '\0', "and nothing else");
}

static void check_payload(const us_hook_payload *payload,
                          const strict_node *body, const char *data,
                          apr_size_t size)
{
    const us_identity *identity = &payload->identity;
    const strict_node *claims = strict_member(body, "claims");

    require(payload->kind == kind_of(body), "the hook is the one it says");
    require(!identity->pending && !identity->snapshot
                && identity->session.text == NULL,
            "a hook has no session");
    if (payload->kind == US_HOOK_TOKEN) {
        require(payload->claims.text >= data
                    && payload->claims.text + payload->claims.len
                           <= data + size,
                "the claims lie in the body");
        require(claims->kind == STRICT_OBJECT
                    && payload->claims.text == claims->text
                    && payload->claims.len == claims->len,
                "they are the object that the body has");
        identity_check(identity, claims, "sub");
    }
    else {
        require(payload->claims.text == NULL, "other hooks have no claims");
    }
    if (payload->kind == US_HOOK_AFTER_CREATED) {
        identity_check(identity, strict_member(body, "user"), "id");
    }
    require(identity->proven
                == (payload->kind == US_HOOK_TOKEN
                    || payload->kind == US_HOOK_AFTER_CREATED),
            "a user is proven when it is not provisional");
    require(identity->proven || identity->id == NULL, "or there is none");
}

void fuzz_one(apr_pool_t *pool, const char *data, apr_size_t size)
{
    us_call call = {.pool = pool};
    us_slice slice = {data, size};
    us_hook_payload payload;
    int depth = 0;
    const strict_node *body = strict_parse(pool, data, size, &depth);
    us_outcome outcome;
    int taken;

    memset(&payload, UNTOUCHED, sizeof(payload));
    outcome
        = us_hook_payload_read(&call, slice, identity_columns(pool), &payload);
    taken = body != NULL && body->kind == STRICT_OBJECT && depth <= DEPTH;
    require(outcome == US_OK || outcome == US_INVALID_REQUEST,
            "it is a hook's body or not");
    require((outcome == US_OK) == (taken && is_good(body)),
            "what Supabase sends is taken, and nothing else");
    require((outcome == US_OK) == (call.cause == NULL),
            "a failure has a cause");
    require_plain(call.cause, 1000, "a cause is one plain line");
    require((call.about != NULL) == taken, "the log names what is JSON");
    if (taken) {
        check_about(&call, body);
    }
    if (outcome == US_OK) {
        check_payload(&payload, body, data, size);
    }
    else {
        require(!payload.identity.proven && payload.claims.text == NULL,
                "what is refused has no user and no claims");
    }
}
