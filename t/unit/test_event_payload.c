/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * supabase/event_payload.c: what is read from messages and from recorded
 * Database Webhooks: who, whether they live, and since when; what is refused;
 * and what gets into the log.
 */
#include "fixtures.h"
#include "tap.h"
#include "us_config.h"
#include "us_event_payload.h"

#include <apr_general.h>
#include <apr_strings.h>

#include <stdlib.h>

#define ID "7f1a2c9e-3b54-4d0e-9c61-52a8d0b4e117"
#define UPPER "7F1A2C9E-3B54-4D0E-9C61-52A8D0B4E117"
#define T1 "2026-08-21T10:00:00.5+00:00"
#define T2 "2026-08-21T10:30:00.5+01:00" /* before T1 */
#define LATER "2026-08-22T09:59:59-05:00"

/* The reader's clock: 2026-08-21T10:00:01Z, which is after T1. */
#define NOW apr_time_from_sec(1787306401)
#define NOW_TEXT "2026-08-21T10:00:01.000000Z"

static apr_pool_t *pool;
static us_call call;
static us_identity identity;

static const us_column columns[] = {
    {US_FIELD_ID, NULL, NULL, NULL},
    {US_FIELD_EMAIL, NULL, NULL, NULL},
    {US_FIELD_PHONE, NULL, NULL, NULL},
    {US_FIELD_IS_ANONYMOUS, NULL, NULL, NULL},
    {US_FIELD_BANNED_UNTIL, NULL, NULL, NULL},
    {US_FIELD_DELETED_AT, NULL, NULL, NULL},
    {US_FIELD_UPDATED_AT, NULL, NULL, NULL},
    {US_FIELD_USER_METADATA, "full_name", NULL, NULL},
    {US_FIELD_APP_METADATA, "providers", NULL, NULL},
};
enum {
    AT_ID,
    AT_EMAIL,
    AT_PHONE,
    AT_ANONYMOUS,
    AT_BANNED,
    AT_DELETED,
    AT_UPDATED,
    AT_NAME,
    AT_PROVIDERS,
    COLUMNS
};

/* --- helpers --- */

/* A copy at exactly its length, for the sanitizers, is freed by the next. */
static us_outcome read_slice(us_event_format format, const char *text,
                             apr_size_t len, int count)
{
    static char *last;
    apr_array_header_t *list
        = apr_array_make(pool, COLUMNS, sizeof(us_column));
    us_slice body;
    int i;

    for (i = 0; i < count; i++) {
        APR_ARRAY_PUSH(list, us_column) = columns[i];
    }
    free(last);
    last = malloc(len > 0 ? len : 1);
    memcpy(last, text, len);
    body.text = last;
    body.len = len;
    memset(&call, 0, sizeof(call));
    call.pool = pool;
    memset(&identity, 0x55, sizeof(identity));
    return us_event_payload_read(&call, body, format, list, NOW, &identity);
}

static us_outcome read_body(us_event_format format, const char *text)
{
    return read_slice(format, text, strlen(text), COLUMNS);
}

static const char *join(const char *a, const char *b, const char *c)
{
    return apr_pstrcat(pool, a, b, c, NULL);
}

/* A message; members stand behind the type and the id. */
static const char *message(const char *type, const char *members)
{
    return apr_pstrcat(pool, "{\"type\":\"", type, "\",\"id\":\"" ID "\"",
                       *members != '\0' ? "," : "", members, "}", NULL);
}

/* A Database Webhook on auth.users. */
static const char *stock(const char *type, const char *record,
                         const char *old_record)
{
    return apr_pstrcat(
        pool, "{\"type\":\"", type,
        "\",\"table\":\"users\",\"schema\":\"auth\",\"record\":", record,
        ",\"old_record\":", old_record, "}", NULL);
}

static const char *row(const char *members)
{
    return join("{\"id\":\"" ID "\",", members, "}");
}

static void is_value(int at, const char *text, const char *name)
{
    const us_value *value = &identity.values[at];

    is_str(value->text, text, "%s: column %d", name, at);
    ok((value->json == NULL) == (text == NULL), "%s: and its JSON", name);
}

static void taken_ok(us_event_format format, const char *body, us_life life,
                     const char *as_of, const char *name)
{
    is_int(read_body(format, body), US_OK, "%s: read", name);
    is_str(call.cause, NULL, "%s: nothing is wrong", name);
    is_str(identity.id, ID, "%s: the id", name);
    is_int(identity.life, life, "%s: the life", name);
    is_str(identity.as_of, as_of, "%s: since when", name);
    is_value(AT_UPDATED, as_of, name);
    ok(identity.proven && !identity.pending && !identity.snapshot
           && identity.session.text == NULL,
       "%s: proven, and nothing more", name);
}

static void refused_ok(us_event_format format, const char *body,
                       const char *cause, const char *name)
{
    is_int(read_body(format, body), US_INVALID_REQUEST, "%s: refused", name);
    ok(call.cause != NULL
           && strncmp(call.cause, "the body is not an event: ", 26) == 0
           && strstr(call.cause, cause) != NULL,
       "%s: %s", name, shown(call.cause));
    ok(!identity.proven, "%s: nothing may be written", name);
}

/* --- messages --- */

#define UPDATED_AT "\"updated_at\":\"" T1 "\""

static void test_message(void)
{
    taken_ok(
        US_EVENT_MESSAGE,
        message("UPDATE",
                "\"email\":\"ada@example.com\",\"phone\":\"491234\","
                "\"is_anonymous\":false,\"banned_until\":\"" LATER "\","
                "\"deleted_at\":null,\"app_metadata\":{\"providers\":"
                "[\"email\"]},\"user_metadata\":{\"full_name\":\"Ada\"},"
                "\"raw_user_meta_data\":{\"full_name\":\"No\"}," UPDATED_AT),
        US_LIVES, T1, "an update");
    is_str(call.about, "UPDATE", "for the log");
    is_str(identity.values[AT_ID].text, ID, "the id as a value");
    is_value(AT_EMAIL, "ada@example.com", "an update");
    is_value(AT_PHONE, "491234", "an update");
    is_value(AT_ANONYMOUS, "false", "an update");
    is_value(AT_BANNED, LATER, "an update");
    is_value(AT_DELETED, NULL, "an update");
    is_value(AT_NAME, "Ada", "an update");
    is_value(AT_PROVIDERS, "[\"email\"]", "an update");
    is_str(identity.values[AT_UPDATED].json, "\"" T1 "\"", "JSON of a time");

    taken_ok(US_EVENT_MESSAGE,
             message("INSERT", "\"email\":\"\",\"phone\":\"\"," UPDATED_AT),
             US_LIVES, T1, "an insertion");
    is_value(AT_EMAIL, NULL, "no e-mail");
    is_value(AT_PHONE, NULL, "no phone");
    is_value(AT_BANNED, NULL, "not banned");
    taken_ok(US_EVENT_MESSAGE, message("INSERT", ""), US_LIVES,
             "1970-01-01T00:00:00Z", "an insertion without a time");
    taken_ok(US_EVENT_MESSAGE,
             message("INSERT", "\"updated_at\":null,\"banned_until\":null"),
             US_LIVES, "1970-01-01T00:00:00Z", "an insertion with null");
    is_int(read_body(US_EVENT_MESSAGE, "{\"type\":\"UPDATE\",\"id\":\"" UPPER
                                       "\"," UPDATED_AT "}"),
           US_OK, "an id in upper case");
    is_str(identity.id, ID, "is made lower case");
    taken_ok(US_EVENT_MESSAGE,
             message("UPDATE", "\"banned_until\":\"infinity\"," UPDATED_AT),
             US_LIVES, T1, "banned for ever");
    is_value(AT_BANNED, "infinity", "banned for ever");
}

#define HASHES "\"email\":\"5f1d\",\"phone\":\"9e2c\","

static void test_message_end(void)
{
    taken_ok(US_EVENT_MESSAGE,
             message("UPDATE",
                     HASHES "\"user_metadata\":{\"full_name\":\"A\"}"
                            ",\"deleted_at\":\"" T2 "\"," UPDATED_AT),
             US_DELETED, T1, "a soft deletion");
    is_value(AT_EMAIL, NULL, "no hash of the e-mail");
    is_value(AT_PHONE, NULL, "nor of the phone");
    is_value(AT_DELETED, T2, "a soft deletion");
    is_value(AT_NAME, "A", "a soft deletion");
    taken_ok(US_EVENT_MESSAGE,
             message("INSERT", HASHES "\"deleted_at\":\"" T2 "\"," UPDATED_AT),
             US_DELETED, T1, "deleted when inserted");
    is_value(AT_EMAIL, NULL, "deleted when inserted");
    taken_ok(US_EVENT_MESSAGE,
             message("DELETE", "\"email\":\"ada@example.com\",\"phone\":\"1\","
                               "\"deleted_at\":\"" T2 "\"," UPDATED_AT),
             US_GONE, T1, "a deletion");
    is_value(AT_EMAIL, NULL, "a deletion");
    is_value(AT_PHONE, NULL, "a deletion");
    is_value(AT_DELETED, T1, "it is the time of the deletion that counts");
    is_str(call.about, "DELETE", "for the log");
    refused_ok(US_EVENT_MESSAGE,
               message("DELETE", "\"deleted_at\":\"" T1 "\""),
               "without a time", "a deletion without a time");
    refused_ok(US_EVENT_MESSAGE, message("UPDATE", ""), "without a time",
               "an update without a time");
    refused_ok(US_EVENT_MESSAGE, message("UPDATE", "\"updated_at\":null"),
               "without a time", "an update with null");
}

/* --- Database Webhooks --- */

static void test_stock(void)
{
    taken_ok(US_EVENT_STOCK,
             stock("UPDATE",
                   row("\"email\":\"ada@example.com\",\"phone\":null,"
                       "\"is_anonymous\":true,\"raw_user_meta_data\":"
                       "{\"full_name\":\"Ada\"},\"raw_app_meta_data\":"
                       "{\"providers\":[]},\"user_metadata\":"
                       "{\"full_name\":\"No\"}," UPDATED_AT),
                   row("\"email\":\"old@example.com\",\"deleted_at\":\"" T2
                       "\",\"updated_at\":\"" LATER "\"")),
             US_LIVES, T1, "stock, an update");
    is_str(call.about, "UPDATE, auth.users", "for the log");
    is_value(AT_EMAIL, "ada@example.com", "the new e-mail");
    is_value(AT_ANONYMOUS, "true", "stock");
    is_value(AT_DELETED, NULL, "stock");
    is_value(AT_NAME, "Ada", "the raw metadata");
    is_value(AT_PROVIDERS, "[]", "the raw metadata");
    taken_ok(US_EVENT_STOCK, stock("INSERT", row(UPDATED_AT), "null"),
             US_LIVES, T1, "stock, an insertion");
    taken_ok(US_EVENT_STOCK, stock("INSERT", row("\"email\":null"), "null"),
             US_LIVES, "1970-01-01T00:00:00Z", "stock, without a time");
    taken_ok(US_EVENT_STOCK,
             stock("UPDATE",
                   row(HASHES "\"deleted_at\":\"" T2 "\"," UPDATED_AT),
                   "null"),
             US_DELETED, T1, "stock, a soft deletion");
    is_value(AT_EMAIL, NULL, "no hash");
}

/* The time of a deletion is now, but never before what is known already. */
static void test_stock_deletion(void)
{
    static const struct {
        const char *old;
        const char *as_of;
    } cases[] = {
        {"\"updated_at\":\"" T1 "\"", NOW_TEXT},
        {"\"updated_at\":\"" T2 "\"", NOW_TEXT},
        /* in the text it looks earlier than now */
        {"\"updated_at\":\"2026-08-21T05:00:02-05:00\"",
         "2026-08-21T05:00:02-05:00"},
        /* and here later */
        {"\"updated_at\":\"2026-08-21T15:00:00+05:30\"", NOW_TEXT},
        {"\"updated_at\":\"2026-08-21T10:00:01.000001Z\"",
         "2026-08-21T10:00:01.000001Z"},
        {"\"updated_at\":\"2026-08-21T10:00:01Z\"", "2026-08-21T10:00:01Z"},
        {"\"updated_at\":\"" LATER "\"", LATER},
        {"\"updated_at\":null", NOW_TEXT},
        {"\"updated_at\":\"infinity\"", NOW_TEXT},
        {"\"updated_at\":\"-infinity\"", NOW_TEXT},
        {"\"email\":\"ada@example.com\"", NOW_TEXT},
        {"\"deleted_at\":\"" T2 "\"," UPDATED_AT, NOW_TEXT},
    };
    apr_size_t i;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        taken_ok(US_EVENT_STOCK, stock("DELETE", "null", row(cases[i].old)),
                 US_GONE, cases[i].as_of, cases[i].old);
        is_value(AT_DELETED, cases[i].as_of, "it is deleted then");
        is_value(AT_EMAIL, NULL, "and has no e-mail");
    }
}

static void test_recorded(const char *directory)
{
    static const struct {
        const char *file;
        us_life life;
        const char *as_of;
        const char *email;
    } files[] = {
        {"insert", US_LIVES, "2026-08-20T09:15:02.412907+00:00",
         "ada@example.com"},
        {"update", US_LIVES, T1, "ada.new@example.com"},
        {"delete", US_GONE, NOW_TEXT, NULL},
    };
    apr_size_t i;

    for (i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        apr_size_t len = 0;
        char *body = fixtures_read(
            pool,
            apr_psprintf(pool, "%s/dbwebhook_auth_users_%s.request.json",
                         directory, files[i].file),
            &len);

        ok(body != NULL, "%s is there", files[i].file);
        if (body != NULL) {
            taken_ok(US_EVENT_STOCK, body, files[i].life, files[i].as_of,
                     files[i].file);
            is_value(AT_EMAIL, files[i].email, files[i].file);
            refused_ok(US_EVENT_MESSAGE, body, "a Database Webhook is signed",
                       "with a signature");
        }
    }
}

/* --- what is refused --- */

static void test_no_json(void)
{
    static const char *const bodies[] = {
        "",
        " ",
        "null",
        "[]",
        "\"x\"",
        "{",
        "{}x",
        "{}{}",
        "{\"a\":1,}",
        "\xEF\xBB\xBF{}",
        "{\"a\":\"\xff\"}",
        "{\"a\":\"\\u0000\"}",
        "{'a':1}",
        "type=INSERT&id=" ID,
    };
    apr_size_t i;

    for (i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
        refused_ok(US_EVENT_MESSAGE, bodies[i], "", bodies[i]);
        refused_ok(US_EVENT_STOCK, bodies[i], "", bodies[i]);
        is_str(call.about, NULL, "the log says nothing of it");
    }
}

static void test_wrong_door(void)
{
    refused_ok(US_EVENT_MESSAGE,
               "{\"metadata\":{\"name\":\"customize-access-token\"},"
               "\"user_id\":\"" ID "\",\"claims\":{\"sub\":\"" ID "\"}}",
               "usersync-hook", "a hook");
    refused_ok(US_EVENT_MESSAGE, stock("INSERT", row(UPDATED_AT), "null"),
               "a Database Webhook is signed", "stock, signed");
    refused_ok(US_EVENT_STOCK, message("INSERT", UPDATED_AT), "sign it",
               "a message without a signature");
    refused_ok(US_EVENT_STOCK, "{}", "sign it", "nothing");
    refused_ok(US_EVENT_MESSAGE, "{}", "its type", "nothing");
}

static void test_tables(void)
{
    static const struct {
        const char *schema;
        const char *table;
        const char *about;
    } cases[] = {
        {"\"public\"", "\"users\"", "INSERT, public.users"},
        {"\"auth\"", "\"sessions\"", "INSERT, auth.sessions"},
        {"\"AUTH\"", "\"users\"", "INSERT, AUTH.users"},
        {"\"auth\"", "\"users \"", "INSERT, auth.?"},
        {"\"auth\"", "\"users\\n[error] x\"", "INSERT, auth.?"},
        {"\"auth\"", "[\"users\"]", "INSERT, auth.?"},
        {"null", "\"users\"", "INSERT, ?.users"},
        {"\"auth\"", "null", "INSERT, auth.?"},
    };
    apr_size_t i;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        refused_ok(US_EVENT_STOCK,
                   apr_psprintf(pool,
                                "{\"type\":\"INSERT\",\"schema\":%s,"
                                "\"table\":%s,\"record\":%s}",
                                cases[i].schema, cases[i].table,
                                row(UPDATED_AT)),
                   "another table", cases[i].about);
        is_str(call.about, cases[i].about, "and the log says which");
    }
}

static void test_types(void)
{
    static const char *const types[] = {"",
                                        "insert",
                                        "INSERTED",
                                        "INSERT ",
                                        "TRUNCATE",
                                        "a\\nb",
                                        "\\u0049NSERT\\u2028",
                                        "\xC3\x84"};
    apr_size_t i;

    for (i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        refused_ok(US_EVENT_MESSAGE, message(types[i], UPDATED_AT),
                   "INSERT, UPDATE or DELETE", types[i]);
        refused_ok(US_EVENT_STOCK, stock(types[i], row(UPDATED_AT), "null"),
                   "INSERT, UPDATE or DELETE", types[i]);
    }
    is_str(call.about, "?, auth.users", "a type that is no name");
    refused_ok(US_EVENT_MESSAGE,
               "{\"type\":1,\"id\":\"" ID "\"," UPDATED_AT "}",
               "INSERT, UPDATE or DELETE", "a number");
    taken_ok(US_EVENT_MESSAGE, message("\\u0055PDATE", UPDATED_AT), US_LIVES,
             T1, "an escape");
}

static void test_records(void)
{
    static const char *const records[] = {"null", "[]", "\"" ID "\"", "1"};
    apr_size_t i;

    for (i = 0; i < sizeof(records) / sizeof(records[0]); i++) {
        refused_ok(US_EVENT_STOCK,
                   stock("INSERT", records[i], row(UPDATED_AT)), "no record",
                   records[i]);
        refused_ok(US_EVENT_STOCK,
                   stock("UPDATE", records[i], row(UPDATED_AT)), "no record",
                   records[i]);
        refused_ok(US_EVENT_STOCK,
                   stock("DELETE", row(UPDATED_AT), records[i]),
                   "no old_record", records[i]);
    }
}

static void test_ids(void)
{
    static const char *const ids[]
        = {"null",
           "7",
           "\"\"",
           "\"ada\"",
           "[\"" ID "\"]",
           "\"" ID "0\"",
           "\"" ID "\\n\"",
           "\"{" ID "}\"",
           "\"7f1a2c9e3b544d0e9c6152a8d0b4e117\"",
           "\"7f1a2c9e-3b54-4d0e-9c61-52a8d0b4e11g\""};
    apr_size_t i;

    for (i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
        refused_ok(US_EVENT_MESSAGE,
                   apr_psprintf(
                       pool, "{\"type\":\"INSERT\",\"id\":%s," UPDATED_AT "}",
                       ids[i]),
                   "not a user's id", ids[i]);
        refused_ok(
            US_EVENT_STOCK,
            stock("DELETE", "null", apr_psprintf(pool, "{\"id\":%s}", ids[i])),
            "not a user's id", ids[i]);
    }
}

static void test_times(void)
{
    static const char *const names[]
        = {"banned_until", "deleted_at", "updated_at"};
    static const char *const times[] = {"\"\"",
                                        "\"now\"",
                                        "\"today\"",
                                        "1795901295",
                                        "true",
                                        "{}",
                                        "[\"" T1 "\"]",
                                        "\"2026-08-21\"",
                                        "\"2026-02-30T00:00:00Z\"",
                                        "\"" T1 " BC\"",
                                        "\"" T1 "'::text||'\""};
    apr_size_t i;
    apr_size_t j;

    for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        for (j = 0; j < sizeof(times) / sizeof(times[0]); j++) {
            const char *members = apr_psprintf(pool, "%s\"%s\":%s",
                                               i < 2 ? UPDATED_AT "," : "",
                                               names[i], times[j]);

            refused_ok(US_EVENT_MESSAGE, message("UPDATE", members),
                       "not a time stamp", members);
            refused_ok(US_EVENT_STOCK, stock("DELETE", "null", row(members)),
                       "not a time stamp", members);
        }
    }
    refused_ok(US_EVENT_MESSAGE,
               message("UPDATE", "\"updated_at\":\"infinity\""),
               "without a time", "a state of infinity");
}

/* Of duplicates the last counts, and no other columns are needed. */
static void test_rest(void)
{
    taken_ok(US_EVENT_MESSAGE,
             message("UPDATE", "\"updated_at\":\"x\",\"email\":\"a@b\","
                               "\"email\":\"c@d\"," UPDATED_AT),
             US_LIVES, T1, "duplicates");
    is_value(AT_EMAIL, "c@d", "duplicates");
    is_int(read_slice(
               US_EVENT_MESSAGE,
               message("DELETE", "\"email\":\"a@b\"," UPDATED_AT),
               strlen(message("DELETE", "\"email\":\"a@b\"," UPDATED_AT)), 1),
           US_OK, "only the id has a column");
    is_int(identity.life, US_GONE, "the rest is known nevertheless");
    is_str(identity.as_of, T1, "and the time");
    is_str(identity.values[1].text, NULL, "there is no other value");
}

int main(int argc, const char *const *argv)
{
    apr_initialize();
    apr_pool_create(&pool, NULL);
    test_message();
    test_message_end();
    test_stock();
    test_stock_deletion();
    test_recorded(fixtures_directory(argc, argv));
    test_no_json();
    test_wrong_door();
    test_tables();
    test_types();
    test_records();
    test_ids();
    test_times();
    test_rest();
    read_body(US_EVENT_MESSAGE, "");
    apr_pool_destroy(pool);
    apr_terminate();
    return done();
}
