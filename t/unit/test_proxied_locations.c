/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Redirects: whose session is in a Location, which tokens in there are not
 * Supabase's, and what takes the session's place.
 */
#include "jwt.h"
#include "tap.h"
#include "us_config.h"
#include "us_proxied.h"

#include <apr_escape.h>
#include <apr_general.h>
#include <apr_strings.h>

#define ADA "7f1a2c9e-3b54-4d0e-9c61-52a8d0b4e117"
#define BOB "9d0c4b3a-1f2e-4d5c-8b7a-6f5e4d3c2b1a"

/* Filled in first, so that unchanged members are noticed. */
#define UNTOUCHED 0x55

static apr_pool_t *pool;
static us_call call;
static us_identity identity;

/* In a test's text: tokens of Ada and of Bob, who is anybody. */
static const char *tokens[2];

/* text with Ada's token in place of A$, and Bob's of B$ */
static const char *filled(const char *text)
{
    const char *at = strchr(text, '$');

    if (at == NULL) {
        return text;
    }
    return apr_pstrcat(pool,
                       apr_pstrmemdup(pool, text, (apr_size_t)(at - text) - 1),
                       tokens[at[-1] - 'A'], filled(at + 1), NULL);
}

static const char *take(const char *location, const char *user_id)
{
    static const us_column email = {US_FIELD_EMAIL, NULL, NULL, NULL};
    apr_array_header_t *columns = apr_array_make(pool, 1, sizeof(us_column));
    us_found found;

    APR_ARRAY_PUSH(columns, us_column) = email;
    memset(&call, 0, sizeof(call));
    call.pool = pool;
    memset(&identity, UNTOUCHED, sizeof(identity));
    found = us_proxied_take_location(&call, filled(location), user_id, columns,
                                     &identity);
    if (found == US_FOUND_SESSION) {
        return apr_pstrcat(pool, strcmp(identity.id, ADA) == 0 ? "Ada" : "Bob",
                           identity.proven && !identity.pending
                                   && !identity.may_enter
                                   && identity.life == US_LIVES
                               ? ""
                               : ", who is unproven",
                           call.cause != NULL ? ", with a cause" : "", NULL);
    }
    if (identity.id != NULL || identity.proven
        || (found == US_FOUND_UNREAD) != (call.cause != NULL)
        || strstr(shown(call.cause), "eyJ") != NULL) {
        return "what must not be";
    }
    return found == US_FOUND_NOBODY ? "nobody" : "unread";
}

#define SITE "https://site.example"
#define REST \
    "&expires_at=1795902547&expires_in=3600&refresh_token=oqiqxiek3edl"

/* A Location without a code of PKCE. */
static const struct {
    const char *location;
    const char *who;
} locations[] = {
    {SITE "#access_token=A$" REST "&sb=&token_type=bearer&type=signup", "Ada"},
    {SITE "/#access_token=A$", "Ada"},
    {SITE "/path?a=b&c#access_token=A$&x=y", "Ada"},
    {"app.example.my_app://callback#access_token=A$", "Ada"},
    {"#access_token=A$", "Ada"},
    {"/#x=y&access_token=A$", "Ada"},
    {SITE "#expires_in=1&access_token=A$&", "Ada"},
    {SITE "#&&access_token=A$", "Ada"},
    {SITE "#access_token=%00A$", "Ada"}, /* nobody reads its header */
    /* the site's router has a fragment of its own */
    {SITE "/#/welcome#access_token=A$" REST, "Ada"},
    {SITE "/#/welcome?a=b#access_token=A$", "Ada"},
    {SITE "/##access_token=A$", "Ada"},
    /* what Supabase appends counts, not what the client wanted there */
    {SITE "/?access_token=B$#access_token=A$" REST, "Ada"},
    {SITE "/#access_token=B$#access_token=A$" REST, "Ada"},
    {SITE "/?access_token=B$#x#access_token=A$", "Ada"},
    {SITE "/?access_token=B$", "nobody"},
    {SITE "/?a=b&access_token=B$&c=d", "nobody"},
    {SITE "/?access_token=B$#error=access_denied&error_code=otp_expired"
          "&error_description=Email+link+is+invalid+or+has+expired&sb=",
     "nobody"},
    {SITE "/#access_token=B$#error=server_error&sb=", "nobody"},
    {SITE "/access_token=B$", "nobody"},
    {SITE "/access_token=B$#", "nobody"},
    {"https://access_token=B$@site.example/", "nobody"},
    /* only what looks like it */
    {SITE "#/?access_token=B$", "nobody"},
    {SITE "#/access_token=B$", "nobody"},
    {SITE "#x=access_token=B$", "nobody"},
    {SITE "#provider_access_token=B$", "nobody"},
    {SITE "#access_tokens=B$", "nobody"},
    {SITE "#Access_token=B$", "nobody"},
    {SITE "#access_token", "nobody"},
    {SITE "#access_token&B$", "nobody"},
    {SITE "#error=access_denied&error_code=otp_expired&sb=", "nobody"},
    {SITE "#message=Confirmation+link+accepted&sb=", "nobody"},
    {SITE, "nobody"},
    {"", "nobody"},
    {"#", "nobody"},
    /* whose it is cannot be said */
    {SITE "#access_token=", "unread"},
    {SITE "#access_token=&token_type=bearer", "unread"},
    {SITE "#access_token=a.b.c", "unread"},
    {SITE "#access_token=x", "unread"},
    {SITE "#access_token=%", "unread"},
    {SITE "#access_token=A", "unread"},
};

static void test_locations(void)
{
    apr_size_t i;

    for (i = 0; i < sizeof(locations) / sizeof(locations[0]); i++) {
        const char *location = locations[i].location;
        const char *who = locations[i].who;

        is_str(take(location, NULL), who, "%s", location);
        is_int(us_proxied_has_token(filled(location)),
               strcmp(who, "nobody") != 0, "there is a token, or none");
        if (strcmp(who, "nobody") != 0) {
            /* an error says whose it is before the transaction */
            is_str(take(location, BOB), "unread", "not Bob's");
            is_str(take(location, ADA), who, "the same with a header");
        }
        else {
            is_str(take(location, ADA), "nobody", "whatever the header says");
        }
    }
}

/* Values are escaped, as in a form. */
static void test_escapes(void)
{
    const char *escaped = apr_pescape_urlencoded(pool, tokens[0]);
    char *all = apr_palloc(pool, 3 * strlen(tokens[0]) + 1);
    apr_size_t i;

    for (i = 0; tokens[0][i] != '\0'; i++) {
        (void)apr_snprintf(all + 3 * i, 4, i % 2 == 0 ? "%%%02X" : "%%%02x",
                           (unsigned char)tokens[0][i]);
    }
    is_str(take(apr_pstrcat(pool, SITE "#access_token=", escaped, NULL), NULL),
           "Ada", "a token in its escaped form");
    is_str(take(apr_pstrcat(pool, SITE "#access_token=", all, NULL), NULL),
           "Ada", "a token of escapes only");
    is_str(take(apr_pstrcat(pool, SITE "#access_token=",
                            apr_pstrmemdup(pool, tokens[0],
                                           (apr_size_t)(strrchr(tokens[0], '.')
                                                        - tokens[0])),
                            "&x=.y", NULL),
                NULL),
           "unread", "a token ends where its value does");
    is_str(take(SITE "#access_token=A$%", NULL), "Ada",
           "an escape without its end, after the payload");
    is_str(identity.values[0].text, "ada@example.com", "with an e-mail");
    is_str(identity.as_of, "2026-08-20T09:15:02.000000Z",
           "of the token's time");
}

/* --- PKCE --- */

/* With PKCE Supabase leaves the fragment as the client has chosen it, and says
 * nothing of the user: what is in there proves nobody. */
static void test_codes(void)
{
    static const char *const codes[]
        = {"?code=5e8d2f40", "?a=b&code=5e8d2f40&c=d", "/x?code=", "?&code=1"};
    static const char *const others[] = {"?codes=1", "?barcode=1", "?a=code=1",
                                         "/code=1",  "?code",      "?Code=1"};
    apr_size_t i;

    for (i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        const char *url = apr_pstrcat(pool, SITE, codes[i], NULL);
        const char *location
            = apr_pstrcat(pool, url, "#access_token=A$", NULL);

        is_str(take(location, NULL), "unread", "%s", location);
        is_str(take(location, BOB), "unread", "another user's");
        is_str(take(location, ADA), "Ada",
               "the site's own code, as Supabase names the user");
        is_str(take(apr_pstrcat(pool, url, "#/x#access_token=A$", NULL), NULL),
               "unread", "behind another fragment");
        is_str(take(url, NULL), "nobody", "the code alone");
        is_str(take(apr_pstrcat(pool, url, "#/welcome", NULL), NULL), "nobody",
               "with the site's own fragment");
    }
    for (i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        is_str(
            take(apr_pstrcat(pool, SITE, others[i], "#access_token=A$", NULL),
                 NULL),
            "Ada", "%s is no code", others[i]);
    }
    is_str(take(SITE "#code=1&access_token=A$", NULL), "Ada",
           "nor is one in the fragment");
    is_str(take(SITE "#/?code=1#access_token=A$", NULL), "Ada",
           "nor is one of the site's router");
}

/* The header in any case. */
static void test_headers(void)
{
    static const char location[] = SITE "#access_token=A$";

    is_str(take(location, "7F1A2C9E-3B54-4D0E-9C61-52A8D0B4E117"), "Ada",
           "in upper case");
    is_str(take(location, ADA "a"), "unread", "too long");
    is_str(take(location, "7f1a2c9e"), "unread", "too short");
    is_str(take(location, ""), "unread", "empty");
}

/* --- errors --- */

static const struct {
    const char *location;
    const char *before; /* the error */
} targets[] = {
    {SITE "#access_token=A$&x=y", SITE},
    {SITE "/#access_token=A$", SITE "/"},
    {SITE "/path?a=b&c=d#access_token=A$", SITE "/path?a=b&c=d"},
    {SITE "/#/welcome#access_token=A$", SITE "/"},
    {SITE "?code=1#access_token=A$", SITE "?code=1"},
    {"app.example://callback#access_token=A$", "app.example://callback"},
    {"#access_token=A$", ""},
    /* what the client has put there is not Supabase's, and stays */
    {SITE "?access_token=x#access_token=A$", SITE "?access_token=x"},
};

static void test_errors(void)
{
    static const struct {
        const char *text;
        const char *form;
    } texts[] = {
        {"Try again later.", "Try+again+later."},
        {"", ""},
        {"a+b&c=d#e?f/g%h\"", "a%2Bb%26c%3Dd%23e%3Ff%2Fg%25h%22"},
        {"L\xC3\xA9\r\n<x>", "L%C3%A9%0D%0A%3Cx%3E"},
        {"-._~09azAZ", "-._~09azAZ"},
        {"\x01\x7F\xFF", "%01%7F%FF"},
    };
    apr_size_t i;
    apr_size_t k;

    for (i = 0; i < sizeof(targets) / sizeof(targets[0]); i++) {
        for (k = 0; k < sizeof(texts) / sizeof(texts[0]); k++) {
            const char *error = us_proxied_error_location(
                pool, filled(targets[i].location), "server_error",
                "store_unavailable", texts[k].text);

            is_str(error,
                   apr_pstrcat(pool, targets[i].before,
                               "#error=server_error&error_code="
                               "store_unavailable&error_description=",
                               texts[k].form, "&sb=", NULL),
                   "%s", targets[i].location);
            ok(!us_proxied_has_token(error), "and there is no token");
        }
    }
}

int main(void)
{
    apr_initialize();
    apr_pool_create(&pool, NULL);
    tokens[0]
        = jwt_of(pool, "{\"sub\":\"" ADA "\",\"email\":\"ada@example.com\","
                       "\"iat\":1787217302}");
    tokens[1] = jwt_of(pool, "{\"sub\":\"" BOB "\"}");
    test_locations();
    test_escapes();
    test_codes();
    test_headers();
    test_errors();
    apr_pool_destroy(pool);
    apr_terminate();
    return done();
}
