/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * supabase/answer.c: an answer is accepted only if its user has the e-mail
 * that was sent, as GoTrue compares addresses.
 */
#include "tap.h"
#include "supabase/answer.h"

#include <apr_general.h>
#include <apr_strings.h>

#define ID "7f1a2c9e-3b54-4d0e-9c61-52a8d0b4e117"

static apr_pool_t *pool;
static us_call call;
static us_identity identity;

static us_outcome judge(us_operation operation, const char *sent,
                        const char *body)
{
    us_column column = {US_FIELD_EMAIL, NULL, "\"email\"", "email"};
    apr_array_header_t *columns = apr_array_make(pool, 1, sizeof(us_column));
    us_question question = {operation, sent, columns};
    us_http_answer answer;

    APR_ARRAY_PUSH(columns, us_column) = column;
    memset(&call, 0, sizeof(call));
    call.pool = pool;
    memset(&answer, 0, sizeof(answer));
    answer.result = US_HTTP_ANSWERED;
    answer.status = 200;
    answer.body = apr_pstrdup(pool, body);
    answer.body_len = strlen(body);
    return us_answer_judge(&call, &question, &answer, &identity);
}

/* A session, and a user who has yet to confirm the address.  email is the
 * member's JSON text, NULL: there is none. */
static const char *session_of(const char *email)
{
    return apr_pstrcat(pool, "{\"access_token\":\"t\",\"email\":\"x@y\",",
                       "\"user\":{\"id\":\"" ID "\"",
                       email != NULL ? ",\"email\":" : "",
                       email != NULL ? email : "", "}}", NULL);
}

static const char *user_of(const char *email, const char *role,
                           const char *identities)
{
    return apr_pstrcat(pool, "{\"id\":\"" ID "\",\"role\":\"", role, "\"",
                       email != NULL ? ",\"email\":" : "",
                       email != NULL ? email : "", ",\"identities\":[",
                       identities, "]}", NULL);
}

static void foreign_ok(us_operation operation, const char *name)
{
    ok(call.foreign, "%s: another user's", name);
    ok(identity.id == NULL && !identity.proven && identity.session.text == NULL
           && identity.values[0].text == NULL,
       "nothing of it is taken");
    is_int(call.health, US_HEALTH_UNKNOWN, "and Supabase is not blamed");
    ok(call.cause != NULL && strstr(call.cause, "e-mail") != NULL
           && strchr(call.cause, '@') == NULL,
       "the %s's line says so, without an address: %s",
       operation == US_LOG_IN ? "login" : "sign-up", shown(call.cause));
    ok(call.code == NULL && call.message == NULL && call.about == NULL,
       "nor does anything else speak of it");
}

/* --- addresses --- */

#define U_UML "\xC3\x9C"
#define u_UML "\xC3\xBC"

static const struct {
    const char *sent;
    const char *email; /* JSON */
    int same;
} addresses[] = {
    {"ada@example.com", "\"ada@example.com\"", 1},
    /* rows that were inserted into auth.users by hand keep their case */
    {"ada@example.com", "\"Ada@Example.COM\"", 1},
    {"ada@example.com", "\"\\u0061da\\u0040example.com\"", 1},
    {"ada+tag@example.com", "\"ada+tag@example.com\"", 1},
    {"a", "\"A\"", 1},
    {"ada@example.com", "\"ada@example.org\"", 0},
    {"ada@example.com", "\"eda@example.com\"", 0},
    {"ada@example.com", "\"ada@example.com.\"", 0},
    {"ada@example.com", "\"ada@example.co\"", 0},
    {"ada@example.com", "\"ada@example.com \"", 0},
    {"ada+tag@example.com", "\"ada@example.com\"", 0},
    {"a.da@example.com", "\"ada@example.com\"", 0},
    {"ada@example.com", "\"\"", 0},
    {"ada@example.com", "null", 0},
    {"ada@example.com", "7", 0},
    {"ada@example.com", "[\"ada@example.com\"]", 0},
    {"ada@example.com", NULL, 0},
    /* how other letters change their case depends on the database */
    {U_UML "ber@example.com", "\"" u_UML "ber@example.com\"", 1},
    {u_UML "ber@example.com", "\"" U_UML "ber@example.com\"", 1},
    {U_UML "ber@example.com", "\"" u_UML "ber@example.org\"", 0},
    {U_UML "ber@example.com", "\"ada@example.com\"", 0},
    /* two of them become ASCII: a dotted I, and the Kelvin sign */
    {"\xC4\xB0nci@example.com", "\"inci@example.com\"", 1},
    {"inci@example.com", "\"\xC4\xB0nci@example.com\"", 1},
    {"inci@example.com", "\"i\xCC\x87nci@example.com\"", 1},
    {"\xE2\x84\xAA@example.com", "\"k@example.com\"", 1},
    {"\xC4\xB0nci@example.com", "\"anci@example.com\"", 0},
    /* nothing is read after the end */
    {"\xE2", "\"ada@example.com\"", 0},
    {"\xC4", "\"i\"", 0},
};

static void test_addresses(void)
{
    apr_size_t i;

    for (i = 0; i < sizeof(addresses) / sizeof(addresses[0]); i++) {
        const char *name
            = apr_psprintf(pool, "sent %s, got %s", addresses[i].sent,
                           shown(addresses[i].email));
        const char *session = session_of(addresses[i].email);
        const char *user = user_of(addresses[i].email, "authenticated",
                                   "{\"user_id\":\"" ID "\"}");
        int same = addresses[i].same;

        is_int(judge(US_LOG_IN, addresses[i].sent, session),
               same ? US_OK : US_UPSTREAM_BAD_ANSWER, "%s", name);
        if (!same) {
            foreign_ok(US_LOG_IN, name);
        }
        is_int(judge(US_SIGN_UP, addresses[i].sent, session),
               same ? US_OK : US_UNKNOWN_BROKEN, "the same for a sign-up");
        is_int(call.foreign, !same, "and its mark");
        is_int(judge(US_SIGN_UP, addresses[i].sent, user),
               same ? US_PENDING : US_UNKNOWN_BROKEN,
               "and for a user without a session");
        if (!same) {
            foreign_ok(US_SIGN_UP, name);
        }
    }
}

/* An unconfirmed change of the address makes no difference. */
static void test_change_pending(void)
{
    static const char body[]
        = "{\"access_token\":\"t\",\"user\":{\"id\":\"" ID
          "\",\"email\":\"ada@example.com\",\"new_email\":\"new@example.com"
          "\"}}";

    is_int(judge(US_LOG_IN, "ada@example.com", body), US_OK,
           "the address is the old one until the new one is confirmed");
    is_int(judge(US_LOG_IN, "new@example.com", body), US_UPSTREAM_BAD_ANSWER,
           "the new one is not theirs yet");
}

/*
 * GoTrue finds an account by the addresses of all its identities, and makes
 * the invented user up from that account: the address may be another one.
 */
static void test_invented(void)
{
    static const char *const other = "\"other@example.com\"";

    is_int(judge(US_SIGN_UP, "ada@example.com", user_of(other, "", "")),
           US_PENDING, "an invented user may have another address");
    ok(!identity.proven && !call.foreign, "it stands for no account");
    is_int(judge(US_SIGN_UP, "ada@example.com", user_of("\"\"", "", "")),
           US_UNKNOWN_BROKEN, "but not none at all");
    is_int(judge(US_SIGN_UP, "ada@example.com",
                 user_of(other, "authenticated", "")),
           US_UNKNOWN_BROKEN, "and it has no role");
    is_int(judge(US_SIGN_UP, "ada@example.com",
                 user_of(other, "", "{\"user_id\":\"" ID "\"}")),
           US_UNKNOWN_BROKEN, "and no identity");
    is_int(judge(US_SIGN_UP, "ada@example.com",
                 "{\"access_token\":\"t\",\"role\":\"\",\"user\":{\"id\":\"" ID
                 "\",\"role\":\"\",\"email\":\"other@example.com\"}}"),
           US_UNKNOWN_BROKEN, "nor a session");
}

int main(void)
{
    apr_initialize();
    apr_pool_create(&pool, NULL);
    test_addresses();
    test_change_pending();
    test_invented();
    apr_pool_destroy(pool);
    apr_terminate();
    return done();
}
