/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_event_payload_read.  Input: a character that is "M" for a message and "S"
 * for a Database Webhook, and the body of an event whose sender is known.
 */
#include "fuzz.h"
#include "identity.h"
#include "us_event_payload.h"

#include <string.h>
#include <strings.h>

/* Filled in first, so that unchanged members are noticed. */
#define UNTOUCHED 0x55

/* The time of the reader. */
#define NOW apr_time_from_sec(1795901295)
#define NOW_TEXT "2026-11-28T21:28:15.000000Z"

/* The columns of identity.c. */
enum { EMAIL = 1, PHONE = 2, DELETED_AT = 8, UPDATED_AT = 9 };

/* --- a second opinion --- */

static int is_there(const strict_node *node)
{
    return node != NULL && node->kind != STRICT_NULL;
}

static int is_stock(const strict_node *body)
{
    return is_there(strict_member(body, "table"))
           || is_there(strict_member(body, "record"))
           || is_there(strict_member(body, "old_record"));
}

static int is_change(const strict_node *body)
{
    const strict_node *type = strict_member(body, "type");

    return strict_is(type, "INSERT") || strict_is(type, "UPDATE")
           || strict_is(type, "DELETE");
}

static int is_deletion(const strict_node *body)
{
    return strict_is(strict_member(body, "type"), "DELETE");
}

static const strict_node *user_of(const strict_node *body, int stock)
{
    return !stock ? body
                  : strict_member(body,
                                  is_deletion(body) ? "old_record" : "record");
}

static int has_id(const strict_node *user)
{
    const strict_node *id = strict_member(user, "id");
    char lower[US_UUID_LEN + 1];
    int i;

    if (id == NULL || id->string == NULL
        || strlen(id->string) != US_UUID_LEN) {
        return 0;
    }
    for (i = 0; i <= US_UUID_LEN; i++) {
        char c = id->string[i];

        lower[i] = (char)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
    }
    return identity_is_canonical(lower);
}

static int has_time_or_null(const strict_node *user, const char *name)
{
    const strict_node *node = strict_member(user, name);

    return !is_there(node) || identity_is_time(node->string, 1);
}

/* Is the time of the state known, or follows from what happened? */
static int has_as_of(const strict_node *body, const strict_node *user,
                     int stock)
{
    const strict_node *time = strict_member(user, "updated_at");

    return (time != NULL && identity_is_time(time->string, 0))
           || strict_is(strict_member(body, "type"), "INSERT")
           || (stock && is_deletion(body));
}

static int is_good(const strict_node *body, int stock)
{
    const strict_node *user = user_of(body, stock);

    return !is_there(strict_member(body, "metadata"))
           && is_stock(body) == stock && is_change(body)
           && (!stock
               || (strict_is(strict_member(body, "schema"), "auth")
                   && strict_is(strict_member(body, "table"), "users")))
           && user != NULL && user->kind == STRICT_OBJECT && has_id(user)
           && has_time_or_null(user, "banned_until")
           && has_time_or_null(user, "deleted_at")
           && has_time_or_null(user, "updated_at")
           && has_as_of(body, user, stock);
}

/* --- what must hold --- */

static void check_life(const us_identity *identity, const strict_node *body,
                       const strict_node *user)
{
    us_life life = US_LIVES;

    if (is_deletion(body)) {
        life = US_GONE;
    }
    else if (is_there(strict_member(user, "deleted_at"))) {
        life = US_DELETED;
    }
    require(identity->life == life, "the user lives, or not");
}

static void check_as_of(const us_identity *identity, const strict_node *body,
                        const strict_node *user, int stock)
{
    const strict_node *time = strict_member(user, "updated_at");
    int has_time = time != NULL && identity_is_time(time->string, 0);

    require(identity_is_time(identity->as_of, 0), "a time is known");
    if (stock && is_deletion(body)) {
        require(strcmp(identity->as_of, NOW_TEXT) == 0
                    || (has_time && strict_is(time, identity->as_of)),
                "a deletion is now, or when they were changed last");
    }
    else if (has_time) {
        require(strict_is(time, identity->as_of), "the time is the user's");
    }
    else {
        require(strncmp(identity->as_of, "1970", 4) == 0,
                "an insertion without a time is old");
    }
}

static void check_values(const us_identity *identity, const strict_node *user,
                         int stock)
{
    int i;

    require(identity->values[0].text == identity->id, "the id comes first");
    for (i = 1; i < IDENTITY_COLUMNS; i++) {
        const us_value *value = &identity->values[i];

        if (i == UPDATED_AT
            || (i == DELETED_AT && identity->life == US_GONE)) {
            require(strcmp(value->text, identity->as_of) == 0,
                    "the time is that of the state");
        }
        else if (identity->life != US_LIVES && (i == EMAIL || i == PHONE)) {
            require(value->text == NULL && value->json == NULL,
                    "nothing is told of the deleted");
        }
        else {
            identity_check_value(user, stock, i, value);
        }
    }
}

static void check_identity(const us_identity *identity,
                           const strict_node *body, int stock)
{
    const strict_node *user = user_of(body, stock);
    const strict_node *id = strict_member(user, "id");

    require(identity->proven && !identity->pending && !identity->snapshot
                && identity->session.text == NULL,
            "an event proves its user");
    require(strcasecmp(id->string, identity->id) == 0
                && identity_is_canonical(identity->id),
            "the id is the user's, as a canonical UUID");
    check_life(identity, body, user);
    check_as_of(identity, body, user, stock);
    check_values(identity, user, stock);
}

void fuzz_one(apr_pool_t *pool, const char *data, apr_size_t size)
{
    us_call call = {.pool = pool};
    int stock = size > 0 && data[0] == 'S';
    us_slice slice = {size > 0 ? data + 1 : data, size > 0 ? size - 1 : 0};
    us_identity identity;
    int depth = 0;
    const strict_node *body
        = strict_parse(pool, slice.text, slice.len, &depth);
    us_outcome outcome;

    memset(&identity, UNTOUCHED, sizeof(identity));
    outcome = us_event_payload_read(&call, slice,
                                    stock ? US_EVENT_STOCK : US_EVENT_MESSAGE,
                                    identity_columns(pool), NOW, &identity);
    require(outcome == US_OK || outcome == US_INVALID_REQUEST,
            "it is an event or not");
    if (depth > STRICT_MAX_DEPTH) {
        return; /* the other reader has given up */
    }
    require((outcome == US_OK)
                == (body != NULL && body->kind == STRICT_OBJECT
                    && is_good(body, stock)),
            "an event is taken, and nothing else");
    require((outcome == US_OK) == (call.cause == NULL),
            "a failure has a cause");
    require_plain(call.cause, 1000, "a cause is one plain line");
    require_plain(call.about, 200, "what it is about is plain, too");
    if (outcome == US_OK) {
        check_identity(&identity, body, stock);
    }
    else {
        require(!identity.proven, "what is refused has no user");
    }
}
