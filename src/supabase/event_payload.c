/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "us_event_payload.h"
#include "us_json.h"
#include "log_name.h"
#include "timestamp.h"
#include "user.h"

#include <apr_strings.h>

#include <string.h>

/* The deepest nesting of a body.  Users choose how deep their metadata is, and
 * that must not keep a ban away: no body of 512 KiB is any deeper. */
#define DEPTH (512 * 1024)

/* Of a user whom somebody inserted without a time: what happens to them later
 * is newer. */
#define LONG_AGO "1970-01-01T00:00:00Z"

/* What happened to the row of auth.users. */
typedef enum change { INSERTED, UPDATED, DELETED, UNKNOWN_CHANGE } change;

/* An event while it is read. */
typedef struct event {
    us_call *call;
    const us_json *doc;
    change what;
    us_user_place place;
} event;

static us_outcome invalid(us_call *call, const char *wrong)
{
    return us_fail(call, US_INVALID_REQUEST, "the body is not an event: %s",
                   wrong);
}

static change change_of(const char *type)
{
    static const char *const names[]
        = {[INSERTED] = "INSERT", [UPDATED] = "UPDATE", [DELETED] = "DELETE"};
    change what = INSERTED;

    while (what < UNKNOWN_CHANGE && strcmp(type, names[what]) != 0) {
        what++;
    }
    return what;
}

static const us_topic topics[] = {[INSERTED] = US_TOPIC_INSERT,
                                  [UPDATED] = US_TOPIC_UPDATE,
                                  [DELETED] = US_TOPIC_DELETE,
                                  [UNKNOWN_CHANGE] = US_TOPIC_UNKNOWN_EVENT};

static int has(const us_json *doc, const char *name)
{
    return us_json_type_of(doc, US_JSON_PATH(name)) != US_JSON_NONE;
}

/* Is this the form of a Database Webhook? */
static int is_stock(const us_json *doc)
{
    return has(doc, "table") || has(doc, "record") || has(doc, "old_record");
}

/* Refuses what is meant for another door, or proved in the other form's
 * way. */
static us_outcome check_format(us_call *call, const us_json *doc,
                               us_event_format format)
{
    if (has(doc, "metadata")) {
        return invalid(call, "it is the request of a hook, which belongs to a "
                             "location with SetHandler usersync-hook");
    }
    if (format == US_EVENT_MESSAGE && is_stock(doc)) {
        return invalid(call,
                       "a Database Webhook is signed: those are accepted with "
                       "the header of UserSyncEventHeader only, and "
                       "signatures on messages of sql/supabase-notify.sql");
    }
    if (format == US_EVENT_STOCK && !is_stock(doc)) {
        return invalid(call, "it is no Database Webhook, and nothing else is "
                             "accepted with the header of "
                             "UserSyncEventHeader: sign it");
    }
    return US_OK;
}

/* Is the event about auth.users?  Sets the words for the log. */
static us_outcome check_table(event *e, us_event_format format)
{
    us_call *call = e->call;
    const char *type = us_log_name(e->doc, US_JSON_PATH("type"));

    e->what = change_of(type);
    call->about = type;
    if (format == US_EVENT_STOCK) {
        const char *schema = us_log_name(e->doc, US_JSON_PATH("schema"));
        const char *table = us_log_name(e->doc, US_JSON_PATH("table"));

        call->about
            = apr_pstrcat(call->pool, type, ", ", schema, ".", table, NULL);
        if (strcmp(schema, "auth") != 0 || strcmp(table, "users") != 0) {
            return invalid(call, "the Database Webhook is of another table "
                                 "than auth.users: point it elsewhere");
        }
    }
    else {
        call->about = apr_pstrdup(call->pool, type);
    }
    call->topic = topics[e->what];
    return e->what != UNKNOWN_CHANGE
               ? US_OK
               : invalid(call, "its type is not INSERT, UPDATE or DELETE");
}

/* Where the user is. */
static us_outcome find_user(event *e, us_event_format format)
{
    memset(&e->place, 0, sizeof(e->place));
    e->place.id = "id";
    if (format == US_EVENT_MESSAGE) {
        return US_OK;
    }
    e->place.object = e->what == DELETED ? "old_record" : "record";
    e->place.is_row = 1;
    return us_json_type_of(e->doc, US_JSON_PATH(e->place.object))
                   == US_JSON_OBJECT
               ? US_OK
               : invalid(e->call, e->what == DELETED ? "it has no old_record"
                                                     : "it has no record");
}

/* A time stamp of the user; NULL: there is none.  Sets *wrong if there is
 * something else. */
static const char *time_at(const event *e, const char *name, apr_time_t *time,
                           int *wrong)
{
    const char *const in_object[] = {e->place.object, name, NULL};
    const char *const *path
        = e->place.object != NULL ? in_object : in_object + 1;
    const char *text = us_json_string(e->doc, path, NULL);

    if (text != NULL ? !us_timestamp_read(text, time)
                     : us_json_type_of(e->doc, path) != US_JSON_NONE) {
        *wrong = 1;
    }
    return text;
}

/* Takes life and as_of. */
static us_outcome take_times(const event *e, us_event_format format,
                             apr_time_t now, us_identity *identity)
{
    apr_pool_t *pool = e->call->pool;
    apr_time_t time = 0;
    int wrong = 0;

    time_at(e, "banned_until", &time, &wrong);
    if (time_at(e, "deleted_at", &time, &wrong) != NULL) {
        identity->life = US_DELETED;
    }
    if (e->what == DELETED) {
        identity->life = US_GONE;
    }
    time_at(e, "updated_at", &time, &wrong);
    if (wrong) {
        return invalid(e->call, "banned_until, deleted_at or updated_at is "
                                "not a time stamp");
    }
    if (format == US_EVENT_STOCK && e->what == DELETED
        && (identity->as_of == NULL || time < now)) {
        identity->as_of = us_timestamp_text(pool, now);
    }
    if (identity->as_of == NULL && e->what == INSERTED) {
        identity->as_of = LONG_AGO;
    }
    return identity->as_of != NULL
               ? US_OK
               : invalid(e->call, "without a time in updated_at nobody knows "
                                  "whether it is newer than the row");
}

static void set_value(us_call *call, const apr_array_header_t *columns,
                      us_field_kind field, const char *text,
                      us_identity *identity)
{
    int at = us_columns_find(columns, field);

    if (at >= 0) {
        identity->values[at].text = text;
        identity->values[at].json
            = text != NULL ? us_json_quote(call->pool, text) : NULL;
    }
}

static us_outcome take(event *e, us_event_format format,
                       const apr_array_header_t *columns, apr_time_t now,
                       us_identity *identity)
{
    us_call *call = e->call;
    us_outcome outcome = check_format(call, e->doc, format);

    if (outcome == US_OK) {
        outcome = check_table(e, format);
    }
    if (outcome == US_OK) {
        outcome = find_user(e, format);
    }
    if (outcome == US_OK
        && !us_user_take(call->pool, e->doc, &e->place, columns, identity)) {
        outcome = invalid(call, "its id is not a user's id");
    }
    if (outcome == US_OK) {
        outcome = take_times(e, format, now, identity);
    }
    if (outcome != US_OK) {
        return outcome;
    }
    set_value(call, columns, US_FIELD_UPDATED_AT, identity->as_of, identity);
    if (identity->life == US_GONE) {
        set_value(call, columns, US_FIELD_DELETED_AT, identity->as_of,
                  identity);
    }
    if (identity->life != US_LIVES) {
        set_value(call, columns, US_FIELD_EMAIL, NULL, identity);
        set_value(call, columns, US_FIELD_PHONE, NULL, identity);
    }
    identity->proven = 1;
    return US_OK;
}

us_outcome us_event_payload_read(us_call *call, us_slice body,
                                 us_event_format format,
                                 const apr_array_header_t *columns,
                                 apr_time_t now, us_identity *identity)
{
    us_json *doc = NULL;
    const char *wrong
        = us_json_parse(call->pool, body.text, body.len, DEPTH, &doc);
    event e = {.call = call, .doc = doc};
    us_outcome outcome;

    memset(identity, 0, sizeof(*identity));
    if (wrong != NULL) {
        return invalid(call, wrong);
    }
    outcome = take(&e, format, columns, now, identity);
    us_json_free(doc);
    return outcome;
}
