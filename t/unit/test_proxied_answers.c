/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_proxied_take_body: who is in the body of a good answer, recorded and
 * made ones.
 */
#include "fixtures.h"
#include "jwt.h"
#include "tap.h"
#include "us_config.h"
#include "us_json.h"
#include "us_proxied.h"

#include <apr_escape.h>
#include <apr_general.h>
#include <apr_strings.h>

#define ADA "7f1a2c9e-3b54-4d0e-9c61-52a8d0b4e117"
#define BOB "9d0c4b3a-1f2e-4d5c-8b7a-6f5e4d3c2b1a"
#define INVENTED "e4b1d7a6-2c08-4f93-b5de-90a7c3f16b22"
#define PHONE_ONLY "21b6c0de-77aa-4e15-8f0b-6d2f9a4c3e88"

/* Filled in first, so that unchanged members are noticed. */
#define UNTOUCHED 0x55

static apr_pool_t *pool;
static us_call call;
static us_identity identity;

static const apr_array_header_t *columns(void)
{
    static const us_column email = {US_FIELD_EMAIL, NULL, NULL, NULL};
    static const us_column name = {US_FIELD_USER_METADATA, "name", NULL, NULL};
    apr_array_header_t *list = apr_array_make(pool, 2, sizeof(us_column));

    APR_ARRAY_PUSH(list, us_column) = email;
    APR_ARRAY_PUSH(list, us_column) = name;
    return list;
}

static us_found take_slice(us_proxied_body body, const char *text,
                           apr_size_t len)
{
    us_slice slice = {text, len};

    memset(&call, 0, sizeof(call));
    call.pool = pool;
    memset(&identity, UNTOUCHED, sizeof(identity));
    return us_proxied_take_body(&call, body, slice, columns(), &identity);
}

static us_found take(us_proxied_body body, const char *text)
{
    return take_slice(body, text, strlen(text));
}

/* --- in words --- */

static const char *word_for(us_found found)
{
    switch (found) {
    case US_FOUND_NOBODY:
        return "nobody";
    case US_FOUND_USER:
        return "user";
    case US_FOUND_SESSION:
        return "session";
    case US_FOUND_UNREAD:
        return "unread";
    }
    return "?";
}

static const char *name_of(us_proxied_body body)
{
    static const char *const names[] = {[US_PROXIED_NOBODY] = "nobody's",
                                        [US_PROXIED_SESSION] = "session's",
                                        [US_PROXIED_SIGN_UP] = "sign-up's",
                                        [US_PROXIED_USER] = "user's"};

    return names[body];
}

/* "session ID proven may-enter", as far as it is so. */
static const char *tell(us_found found)
{
    return apr_pstrcat(pool, word_for(found), identity.id != NULL ? " " : "",
                       identity.id != NULL ? identity.id : "",
                       identity.proven ? " proven" : "",
                       identity.pending ? " pending" : "",
                       identity.may_enter ? " may-enter" : "",
                       identity.snapshot ? " snapshot" : "",
                       identity.life != US_LIVES ? " dead" : "",
                       identity.session.text != NULL ? " text" : "", NULL);
}

/* What must be so whoever is found. */
static void sound_ok(us_found found)
{
    ok((found == US_FOUND_UNREAD) == (call.cause != NULL)
           && (call.cause == NULL
               || (strstr(call.cause, "nobody can say whose") != NULL
                   && strstr(call.cause, "eyJ") == NULL
                   && strchr(call.cause, '@') == NULL)),
       "the log's words: %s", shown(call.cause));
}

static void found_ok(us_proxied_body body, const char *text, const char *want,
                     const char *name)
{
    us_found found = take(body, text);

    is_str(tell(found), want, "%s: %s", name_of(body),
           apr_pescape_echo(pool, name, 0));
    sound_ok(found);
}

/* --- recorded answers --- */

#define SESSION_OF(id) "session " id " proven may-enter"

/* What each is as the answer that may have a session, as a sign-up's, and as
 * an authenticated user's. */
static const struct {
    const char *file;
    const char *session;
    const char *sign_up;
    const char *user;
} recorded[] = {
#define SESSION(file, id)                                    \
    {                                                        \
        file, SESSION_OF(id), SESSION_OF(id), SESSION_OF(id) \
    }
#define PENDING(file, id, is_proven)                                          \
    {                                                                         \
        file, "nobody", "user " id is_proven " pending", "user " id " proven" \
    }
#define NOBODY(file)                       \
    {                                      \
        file, "nobody", "nobody", "nobody" \
    }
    SESSION("signup_autoconfirm_session.json", ADA),
    SESSION("signup_anonymous_session.json", BOB),
    SESSION("token_password_session.json", ADA),
    SESSION("token_password_session_rt_v2.json", ADA),
    SESSION("token_password_session_weak.json", ADA),
    SESSION("token_password_session_escapes.json", ADA),
    SESSION("token_refresh_session.json", ADA),
    PENDING("signup_pending_confirmation_user.json", ADA, " proven"),
    PENDING("signup_existing_unconfirmed_real_user.json", ADA, " proven"),
    PENDING("signup_existing_confirmed_fake_user.json", INVENTED, ""),
    PENDING("signup_existing_confirmed_fake_user_with_data.json", INVENTED,
            ""),
    PENDING("signup_existing_confirmed_fake_user_was_invited.json", INVENTED,
            ""),
    PENDING("signup_phone_existing_fake_user.json", INVENTED, ""),
    /* without identities: like an invented one */
    PENDING("signup_invited_unconfirmed_real_user.json", ADA, ""),
    PENDING("user_get.json", ADA, " proven"),
    PENDING("user_get_mfa.json", ADA, " proven"),
    PENDING("user_get_phone_only.json", PHONE_ONLY, " proven"),
    PENDING("user_get_anonymous.json", BOB, ""),
    PENDING("user_update_email_pending.json", ADA, " proven"),
    NOBODY("verify_email_change_single_confirmation.json"),
    NOBODY("settings.json"),
    NOBODY("health.json"),
    NOBODY("jwks_es256_rs256.json"),
    NOBODY("logout_no_content.txt"),
    NOBODY("auth_404_unknown_route.txt"),
    NOBODY("err_weak_password.v2024.json"),
    NOBODY("err_invalid_credentials.legacy.json"),
    NOBODY("gw_cloudflare_522.html"),
    NOBODY("gw_kong_no_api_key.json"),
#undef SESSION
#undef PENDING
#undef NOBODY
};

static void test_recorded(const char *directory)
{
    int count = 0;
    const fixture *fixtures = fixtures_load(pool, directory, &count);
    apr_size_t i;

    for (i = 0; i < sizeof(recorded) / sizeof(recorded[0]); i++) {
        const fixture *given
            = fixtures_find(fixtures, count, recorded[i].file);

        if (given == NULL) {
            ok(0, "%s is not listed", recorded[i].file);
            continue;
        }
        found_ok(US_PROXIED_SESSION, given->body, recorded[i].session,
                 given->file);
        found_ok(US_PROXIED_SIGN_UP, given->body, recorded[i].sign_up,
                 given->file);
        found_ok(US_PROXIED_USER, given->body, recorded[i].user, given->file);
    }
}

/* The address that PUT /user has sent counts when it is confirmed. */
static void test_recorded_values(const char *directory)
{
    int count = 0;
    const fixture *fixtures = fixtures_load(pool, directory, &count);
    const fixture *given
        = fixtures_find(fixtures, count, "user_update_email_pending.json");

    if (given != NULL) {
        take_slice(US_PROXIED_USER, given->body, given->len);
        is_str(identity.values[0].text, "ada@example.com",
               "the old address until the new one is confirmed");
    }
    given = fixtures_find(fixtures, count,
                          "token_password_session_escapes.json");
    if (given != NULL) {
        take_slice(US_PROXIED_SESSION, given->body, given->len);
        is_str(identity.values[0].text, "ada@example.com", "an address");
        ok(identity.as_of != NULL, "of a time");
    }
}

/* --- made ones --- */

#define USER(id) "{\"id\":\"" id "\",\"email\":\"ada@example.com\"}"
#define WITH(token, user) \
    "{\"access_token\":" token ",\"user\":" user ",\"x\":[]}"
#define PROVEN "[{\"user_id\":\"" ADA "\"}]"
#define BARE(identities) \
    "{\"id\":\"" ADA     \
    "\",\"email\":\"ada@example.com\",\"identities\":" identities "}"

/* As the answer that may have a session. */
static const struct {
    const char *text;
    const char *is;
} sessions[] = {
    {WITH("\"t\"", USER(ADA)), SESSION_OF(ADA)},
    {" \r\n\t" WITH("\"t\"", USER(ADA)) "\n ", SESSION_OF(ADA)},
    {"{\"user\":" USER(ADA) ",\"access_token\":\"t\"}", SESSION_OF(ADA)},
    {WITH("\"\\u0074\"", USER(ADA)), SESSION_OF(ADA)},
    {"{\"access\\u005ftoken\":\"t\",\"u\\u0073er\":" USER(ADA) "}",
     SESSION_OF(ADA)},
    {WITH("\"t\"", "{\"i\\u0064\":\"7F1A2C9E-3B54-4D0E-9C61-52A8D0B4E117\"}"),
     SESSION_OF(ADA)},
    /* Supabase says that they must not enter: the store judges */
    {WITH("\"t\"",
          "{\"id\":\"" ADA "\",\"banned_until\":\"2999-01-01T00:00:00Z\"}"),
     "session " ADA " proven"},
    {WITH("\"t\"",
          "{\"id\":\"" ADA "\",\"deleted_at\":\"2020-01-01T00:00:00Z\"}"),
     "session " ADA " proven"},
    {WITH("\"t\"",
          "{\"id\":\"" ADA "\",\"banned_until\":\"2020-01-01T00:00:00Z\"}"),
     SESSION_OF(ADA)},
    /* of two members the last one counts */
    {"{\"access_token\":null,\"access_token\":\"t\",\"user\":" USER(ADA) "}",
     SESSION_OF(ADA)},
    {"{\"access_token\":\"t\",\"access_token\":null,\"user\":" USER(ADA) "}",
     "nobody"},
    {"{\"access_token\":\"t\",\"user\":" USER(BOB) ",\"user\":" USER(ADA) "}",
     SESSION_OF(ADA)},
    {WITH("\"t\"", "{\"id\":\"" BOB "\",\"id\":\"" ADA "\"}"),
     SESSION_OF(ADA)},
    {WITH("\"t\"", "{\"id\":\"" ADA "\",\"id\":null}"), "unread"},
    {"{\"access_token\":\"t\",\"user\":" USER(ADA) ",\"user\":null}",
     "unread"},
    /* no token, no session */
    {WITH("null", USER(ADA)), "nobody"},
    {WITH("\"\"", USER(ADA)), "nobody"},
    {WITH("7", USER(ADA)), "nobody"},
    {WITH("true", USER(ADA)), "nobody"},
    {WITH("[\"t\"]", USER(ADA)), "nobody"},
    {WITH("{\"t\":\"t\"}", USER(ADA)), "nobody"},
    {"{\"user\":" USER(ADA) "}", "nobody"},
    {"{\"Access_token\":\"t\",\"user\":" USER(ADA) "}", "nobody"},
    {"{\"data\":" WITH("\"t\"", USER(ADA)) "}", "nobody"},
    {USER(ADA), "nobody"},
    {BARE(PROVEN), "nobody"},
    {"{}", "nobody"},
    /* a token, and nobody whose it is */
    {WITH("\"t\"", "null"), "unread"},
    {WITH("\"t\"", "{}"), "unread"},
    {WITH("\"t\"", "\"" ADA "\""), "unread"},
    {WITH("\"t\"", "[" USER(ADA) "]"), "unread"},
    {WITH("\"t\"", USER("ada")), "unread"},
    {WITH("\"t\"", USER("")), "unread"},
    {WITH("\"t\"", "{\"id\":7}"), "unread"},
    {WITH("\"t\"", "{\"sub\":\"" ADA "\"}"), "unread"},
    {"{\"access_token\":\"t\"}", "unread"},
    {"{\"access_token\":\"t\",\"id\":\"" ADA "\"}", "unread"},
    {"{\"access_token\":\"a.b.c\"}", "unread"},
    {"{\"access_token\":\" \"}", "unread"},
};

static void test_sessions(void)
{
    static const us_proxied_body bodies[]
        = {US_PROXIED_SESSION, US_PROXIED_SIGN_UP, US_PROXIED_USER};
    apr_size_t i;
    apr_size_t k;

    for (i = 0; i < sizeof(sessions) / sizeof(sessions[0]); i++) {
        found_ok(US_PROXIED_SESSION, sessions[i].text, sessions[i].is,
                 sessions[i].text);
        for (k = 1; k < 3 && strcmp(sessions[i].is, "nobody") != 0; k++) {
            found_ok(bodies[k], sessions[i].text, sessions[i].is,
                     "the same there");
        }
    }
    take(US_PROXIED_SESSION,
         WITH("\"t\"", "{\"id\":\"" ADA "\",\"email\":\"\","
                       "\"updated_at\":\"2026-08-21T10:00:00Z\","
                       "\"user_metadata\":{\"name\":7}}"));
    is_str(identity.values[0].text, NULL, "an e-mail that is empty");
    is_str(identity.values[1].json, "7", "a value of the metadata");
    is_str(identity.as_of, "2026-08-21T10:00:00Z", "and its time");
}

/* Tokens of the OAuth server, which has no user in its answer. */
static void test_tokens(void)
{
    const char *token = jwt_of(
        pool, "{\"sub\":\"" BOB "\",\"email\":\"bob@example.com\","
              "\"iat\":1787217302,\"user_metadata\":{\"name\":\"Bob\"}}");
    const char *nobodys = jwt_of(pool, "{\"sub\":\"client\"}");

    found_ok(US_PROXIED_SESSION,
             apr_pstrcat(pool, "{\"access_token\":\"", token,
                         "\",\"token_type\":\"bearer\"}", NULL),
             "session " BOB " proven", "a token without a user");
    is_str(identity.values[0].text, "bob@example.com", "its e-mail");
    is_str(identity.values[1].text, "Bob", "its metadata");
    is_str(identity.as_of, "2026-08-20T09:15:02.000000Z", "its time");
    found_ok(US_PROXIED_SESSION,
             apr_pstrcat(pool, "{\"access_token\":\"\\u0065", token + 1, "\"}",
                         NULL),
             "session " BOB " proven", "a token with an escape");
    found_ok(US_PROXIED_SESSION,
             apr_pstrcat(pool, "{\"user\":{\"id\":\"?\"},\"access_token\":\"",
                         token, "\"}", NULL),
             "session " BOB " proven", "a user without a usable id");
    found_ok(US_PROXIED_SESSION,
             apr_pstrcat(pool, "{\"user\":" USER(ADA) ",\"access_token\":\"",
                         token, "\"}", NULL),
             SESSION_OF(ADA), "a user is more than a token");
    found_ok(US_PROXIED_SESSION,
             apr_pstrcat(pool, "{\"access_token\":\"", nobodys, "\"}", NULL),
             "unread", "a token of no user");
    found_ok(US_PROXIED_SESSION,
             apr_pstrcat(pool, "{\"access_token\":\"x\",\"id_token\":\"",
                         token, "\"}", NULL),
             "unread", "another token does not say who it is");
}

/* --- users without a session --- */

static const struct {
    const char *identities;
    const char *is;
} pending[] = {
    {PROVEN, "user " ADA " proven pending"},
    {"[{\"user_id\":\"" BOB "\"},{\"user_id\":\"" ADA "\"}]",
     "user " ADA " proven pending"},
    {"[1,null,{},[],{\"user_id\":7},{\"user_id\":\"" ADA "\"}]",
     "user " ADA " proven pending"},
    {"[]", "user " ADA " pending"},
    {"[{}]", "user " ADA " pending"},
    {"[\"" ADA "\"]", "user " ADA " pending"},
    {"[{\"id\":\"" ADA "\"}]", "user " ADA " pending"},
    {"[{\"user_id\":\"" BOB "\"}]", "user " ADA " pending"},
    {"[{\"user_id\":\"" ADA "x\"}]", "user " ADA " pending"},
    {"[{\"identity\":{\"user_id\":\"" ADA "\"}}]", "user " ADA " pending"},
    {"null", "nobody"},
    {"{}", "nobody"},
    {"{\"user_id\":\"" ADA "\"}", "nobody"},
    {"\"" ADA "\"", "nobody"},
};

static void test_users(void)
{
    apr_size_t i;

    for (i = 0; i < sizeof(pending) / sizeof(pending[0]); i++) {
        const char *text = apr_pstrcat(
            pool, "{\"id\":\"" ADA "\",\"identities\":", pending[i].identities,
            "}", NULL);

        found_ok(US_PROXIED_SIGN_UP, text, pending[i].is,
                 pending[i].identities);
        found_ok(US_PROXIED_USER, text, "user " ADA " proven",
                 "they are who they are");
        found_ok(US_PROXIED_SESSION, text, "nobody", "who has no session");
        found_ok(US_PROXIED_NOBODY, text, "nobody", "where nobody is");
    }
    found_ok(US_PROXIED_SIGN_UP, USER(ADA), "nobody", "no identities");
    found_ok(US_PROXIED_USER, USER(ADA), "user " ADA " proven", "a user");
    is_str(identity.values[0].text, "ada@example.com", "with an e-mail");
    found_ok(US_PROXIED_USER, USER("ada"), "nobody", "no usable id");
    found_ok(US_PROXIED_USER, "{\"user\":" USER(ADA) "}", "nobody",
             "a user elsewhere");
    found_ok(US_PROXIED_SIGN_UP, "{\"user\":" BARE(PROVEN) "}", "nobody",
             "a user elsewhere");
    found_ok(US_PROXIED_SIGN_UP,
             "{\"access_token\":null,\"id\":\"" ADA "\",\"identities\":" PROVEN
             "}",
             "user " ADA " proven pending", "a token that is null");
}

/* --- what is not JSON --- */

/* Whatever holds a token, for a lenient reader, is not handed out. */
static void test_unreadable(void)
{
    static const char *const texts[] = {
        "",
        " ",
        "null",
        "[]",
        "[%s]",
        "7",
        "%s%s",
        "%sx",
        "x%s",
        "\xEF\xBB\xBF%s",
        "\xFF%s",
        "callback(%s)",
        "{\"x\":%s",
        "{\"x\":%s,}",
        "{'x':%s}",
        "{x:%s}",
        "{\"x\":\"\xFF\",\"y\":%s}",
        "{\"x\":\"\\u0000\",\"y\":%s}",
        "{\"x\":01,\"y\":%s}",
        "{\"x\":NaN,\"y\":%s}",
        "{\"x\":\"a\nb\",\"y\":%s}",
        "{/**/\"x\":%s}",
        "<html>%s</html>",
        "access_token=t&user=%s",
    };
    static const char session[] = WITH("\"t\"", USER(ADA));
    apr_size_t i;

    for (i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        const char *at = strstr(texts[i], "%s");
        const char *text = texts[i];
        const char *other = texts[i];

        if (at != NULL) {
            const char *before
                = apr_pstrmemdup(pool, text, (apr_size_t)(at - text));

            text = apr_pstrcat(pool, before, session, at + 2, NULL);
            other = apr_pstrcat(pool, before, USER(ADA), at + 2, NULL);
        }
        found_ok(US_PROXIED_SESSION, text, at != NULL ? "unread" : "nobody",
                 text);
        found_ok(US_PROXIED_SIGN_UP, other,
                 strstr(other, "access_token") != NULL ? "unread" : "nobody",
                 "the same without a token");
    }
    for (i = 1; i < strlen(session); i++) {
        us_found found = take_slice(US_PROXIED_SESSION, session, i);

        is_str(tell(found),
               i < strlen("{\"access_token") ? "nobody" : "unread",
               "%d bytes of it", (int)i);
    }
}

static const char *deep(int depth, const char *more)
{
    char *open = apr_palloc(pool, (apr_size_t)depth);
    char *close = apr_palloc(pool, (apr_size_t)depth);

    memset(open, '[', (apr_size_t)depth);
    memset(close, ']', (apr_size_t)depth);
    return apr_pstrcat(
        pool, "{\"x\":", apr_pstrmemdup(pool, open, (apr_size_t)depth - 1),
        apr_pstrmemdup(pool, close, (apr_size_t)depth - 1), more, "}", NULL);
}

static void test_depths(void)
{
    static const char more[] = ",\"access_token\":\"t\",\"user\":" USER(ADA);

    found_ok(US_PROXIED_SESSION, deep(US_JSON_ANSWER_DEPTH, more),
             SESSION_OF(ADA), "as deep as may be");
    found_ok(US_PROXIED_SESSION, deep(US_JSON_ANSWER_DEPTH + 1, more),
             "unread", "deeper");
    found_ok(US_PROXIED_SESSION, deep(100000, more), "unread", "very deep");
    found_ok(US_PROXIED_SESSION, deep(US_JSON_ANSWER_DEPTH + 1, ""), "nobody",
             "deeper, without a token");
}

/* A body is not terminated, and may have any bytes. */
static void test_bytes(void)
{
    static const char text[] = WITH("\"t\"", USER(ADA)) "\0}";
    apr_size_t len = strlen(text);

    is_str(tell(take_slice(US_PROXIED_SESSION, text, len)), SESSION_OF(ADA),
           "what comes after the end does not count");
    is_str(tell(take_slice(US_PROXIED_SESSION, text, len + 1)), "unread",
           "a NUL is no white space");
    is_str(tell(take_slice(US_PROXIED_SESSION, "", 0)), "nobody", "nothing");
    is_str(tell(take_slice(US_PROXIED_SESSION, "access_token", 12)), "unread",
           "nothing but the name");
    is_str(tell(take_slice(US_PROXIED_SESSION, "access_token", 11)), "nobody",
           "of which one letter is missing");
}

int main(int argc, const char *const *argv)
{
    apr_initialize();
    apr_pool_create(&pool, NULL);
    test_recorded(fixtures_directory(argc, argv));
    test_recorded_values(fixtures_directory(argc, argv));
    test_sessions();
    test_tokens();
    test_users();
    test_unreadable();
    test_depths();
    test_bytes();
    apr_pool_destroy(pool);
    apr_terminate();
    return done();
}
