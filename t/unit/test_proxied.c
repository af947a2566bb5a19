/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_proxied_of: what a request of Supabase's own clients is, by its method
 * and path, and who must not get through.
 */
#include "tap.h"
#include "us_proxied.h"

#include <apr_general.h>
#include <apr_strings.h>

static apr_pool_t *pool;

/* --- in words --- */

/* "session guarded creates page log-in", as far as it is so. */
static const char *tell(const us_proxied *is)
{
    static const char *const bodies[] = {[US_PROXIED_NOBODY] = "nobody",
                                         [US_PROXIED_SESSION] = "session",
                                         [US_PROXIED_SIGN_UP] = "sign-up",
                                         [US_PROXIED_USER] = "user"};
    static const char *const circuits[] = {[US_SIGN_UP] = " by sign-up",
                                           [US_LOG_IN] = " by log-in",
                                           [US_REFRESH] = " by refresh",
                                           [US_LOG_OUT] = " by log-out",
                                           [US_OPERATION_COUNT] = ""};

    if (is->is_admin) {
        return "admin";
    }
    return apr_pstrcat(pool, bodies[is->body], is->guarded ? " guarded" : "",
                       is->creates ? " creates" : "",
                       is->is_page ? " page" : "", circuits[is->circuit],
                       NULL);
}

static const char *ask(const char *method, const char *url, const char *query)
{
    us_proxied is = us_proxied_of(pool, method, url, query);

    return tell(&is);
}

/* --- places --- */

/* Where Supabase Auth is, up to its own path. */
static const char *const places[] = {
    "https://abcdefgh.supabase.co/auth/v1/",
    "https://abcdefgh.supabase.co:8443/auth/v1/",
    "https://site.example/supabase/auth/v1/",
    "https://site.example/auth/auth/v1/",
    "https://site.example/%61uth/v1/",
    "https://site.example//auth/./v1//",
    "http://127.0.0.1:9999/",
    "https://gateway.example/identity/",
    "https://gateway.example/AUTH/V1/",
    "https://gateway.example/v1/auth/",
    "https://gateway.example/api/v1/",
    "https://gateway.example/api/v1/auth/v1/",
    "https://gateway.example/x/user/app/",
    "http://[::1]:9999/",
    "http://127.0.0.1/",
    "unix:/run/auth.sock|http://localhost/",
    "unix:/run/auth.sock|http://localhost/auth/v1/",
    "unix:/run/auth/v1/token|http://localhost/auth/v1/",
    "balancer://auth/",
    "balancer://auth/auth/v1/",
};

#define PLACES (sizeof(places) / sizeof(places[0]))

static const char *url_of(apr_size_t place, const char *path)
{
    return apr_pstrcat(pool, places[place], path, NULL);
}

/* --- paths and methods --- */

#define NOBODY "nobody"
#define SESSION "session"
#define LINK "session guarded creates page"

/* What GET and HEAD, POST, and PUT are.  PATCH is what nothing is known of, and
 * the rest carries nobody. */
static const struct {
    const char *path;
    const char *get;
    const char *post;
    const char *put;
} paths[] = {
    {"signup", NOBODY, "sign-up guarded creates by sign-up", SESSION},
    {"token", NOBODY, "session guarded creates", SESSION},
    {"verify", LINK " by log-in", "session guarded creates by log-in",
     SESSION},
    {"callback", LINK, LINK, SESSION},
    {"sso/saml/acs", NOBODY, LINK, SESSION},
    {"oauth/token", NOBODY, "session guarded by log-in", SESSION},
    {"factors/5e8d2f40-91b7-4c3a-8e6d-0f1a2b3c4d5e/verify", NOBODY,
     "session guarded by log-in", SESSION},
    {"passkeys/authentication/verify", NOBODY, "session guarded by log-in",
     SESSION},
    {"user", "user", SESSION, "user"},
    {"otp", NOBODY, NOBODY, SESSION},
    {"magiclink", NOBODY, NOBODY, SESSION},
    {"recover", NOBODY, NOBODY, SESSION},
    {"resend", NOBODY, NOBODY, SESSION},
    {"logout", NOBODY, NOBODY, SESSION},
    {"factors", NOBODY, NOBODY, SESSION},
    {"factors/5e8d2f40-91b7-4c3a-8e6d-0f1a2b3c4d5e/challenge", NOBODY, NOBODY,
     SESSION},
    {"sso", NOBODY, NOBODY, SESSION},
    /* known, and read only */
    {"reauthenticate", NOBODY, SESSION, SESSION},
    {"authorize", NOBODY, SESSION, SESSION},
    {"settings", NOBODY, SESSION, SESSION},
    {"health", NOBODY, SESSION, SESSION},
    {".well-known/jwks.json", NOBODY, SESSION, SESSION},
    {"sso/saml/metadata", NOBODY, SESSION, SESSION},
    {"user/identities/authorize", NOBODY, SESSION, SESSION},
    {"oauth/authorize", NOBODY, SESSION, SESSION},
    {"oauth/clients/register", NOBODY, SESSION, SESSION},
    {"passkeys/authentication/options", NOBODY, SESSION, SESSION},
    /* not known: only what looks like them */
    {"", NOBODY, SESSION, SESSION},
    {"signups", NOBODY, SESSION, SESSION},
    {"sign", NOBODY, SESSION, SESSION},
    {"Signup", NOBODY, SESSION, SESSION},
    {"signup/x", NOBODY, SESSION, SESSION},
    {"token/x", NOBODY, SESSION, SESSION},
    {"tokens", NOBODY, SESSION, SESSION},
    {"verify/x", NOBODY, SESSION, SESSION},
    {"callback/x", NOBODY, SESSION, SESSION},
    {"sso/saml", NOBODY, SESSION, SESSION},
    {"sso/saml/acs/x", NOBODY, SESSION, SESSION},
    {"oauth/tokens", NOBODY, SESSION, SESSION},
    {"factors/a/b", NOBODY, SESSION, SESSION},
    {"factors/a/verify/b", NOBODY, SESSION, SESSION},
    {"passkeys/verified", NOBODY, SESSION, SESSION},
    {"users", NOBODY, SESSION, SESSION},
    {"*", NOBODY, SESSION, SESSION},
    {"tomorrow", NOBODY, SESSION, SESSION},
};

static void check_path(apr_size_t place, apr_size_t i)
{
    const char *url = url_of(place, paths[i].path);

    is_str(ask("GET", url, NULL), paths[i].get, "GET %s", url);
    is_str(ask("HEAD", url, NULL), paths[i].get, "HEAD");
    is_str(ask("POST", url, NULL), paths[i].post, "POST");
    is_str(ask("PUT", url, NULL), paths[i].put, "PUT");
    is_str(ask("PATCH", url, NULL), SESSION, "PATCH");
    is_str(ask("DELETE", url, NULL), NOBODY, "DELETE");
    is_str(ask("OPTIONS", url, NULL), NOBODY, "OPTIONS");
}

static void test_paths(void)
{
    apr_size_t place;
    apr_size_t i;

    for (i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        for (place = 0; place < PLACES; place++) {
            check_path(place, i);
        }
    }
}

/* Only whole names of methods, in upper case, are known. */
static void test_methods(void)
{
    static const char *const others[]
        = {"post", "POS", "OST", "T", "LINK", "", " "};
    const char *url = "https://x.co/auth/v1/callback";
    apr_size_t i;

    for (i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        is_str(ask(others[i], url, NULL), SESSION, "\"%s\"", others[i]);
    }
    is_str(ask("TRACE", url, NULL), NOBODY, "TRACE");
}

/* One path in other letters: what a server makes of it. */
static void test_spellings(void)
{
    static const char *const same[]
        = {"token",    "/token",         "//token",         "token/",
           "token//",  "./token",        "token/.",         "x/../token",
           "%74oken",  "%74%6F%6b%65n",  "token?a=b",       "token?/admin",
           "token#x",  "x/%2e%2E/token", "x/y/../../token", "token%2f",
           "%2Ftoken", "user/..//token"};
    static const char *const others[]
        = {"token%20", "token%3fx", "token;x", "token%zz", "%2574oken",
           "tok/en",   "token/..",  "to..ken", "...token"};
    apr_size_t place;
    apr_size_t i;

    for (place = 0; place < PLACES; place++) {
        for (i = 0; i < sizeof(same) / sizeof(same[0]); i++) {
            const char *url = url_of(place, same[i]);

            is_str(ask("POST", url, NULL), "session guarded creates", "%s",
                   url);
        }
        for (i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
            const char *url = url_of(place, others[i]);

            is_str(ask("POST", url, NULL), SESSION, "not %s", url);
        }
    }
}

/* --- grants --- */

#define ANY "session guarded creates"
#define PASSWORD "session guarded by log-in"
#define REFRESH "session guarded by refresh"
#define PKCE "session guarded creates by log-in"

static const struct {
    const char *query;
    const char *is;
} grants[] = {
    {NULL, ANY},
    {"", ANY},
    {"grant_type=password", PASSWORD},
    {"grant_type=refresh_token", REFRESH},
    {"grant_type=pkce", PKCE},
    {"grant_type=id_token", ANY},
    {"grant_type=web3", ANY},
    {"grant_type=tomorrow", ANY},
    {"grant_type=", ANY},
    {"grant_type", ANY},
    /* wherever it stands */
    {"a=b&grant_type=password", PASSWORD},
    {"grant_type=refresh_token&a=b", REFRESH},
    {"a&grant_type=pkce&b", PKCE},
    {"&&grant_type=password&&", PASSWORD},
    {"redirect_to=https://x.example/&grant_type=refresh_token", REFRESH},
    {"xgrant_type=refresh_token&grant_type=password", PASSWORD},
    {"x=grant_type=refresh_token&grant_type=password", PASSWORD},
    {"grant_type=x&grant_type=password", PASSWORD},
    /* only what looks like it */
    {"xgrant_type=password", ANY},
    {"a=grant_type=password", ANY},
    {"grant_types=password", ANY},
    {"grant_type=passwords", ANY},
    {"grant_type=passwor", ANY},
    {"grant_type=password;a=b", ANY},
    {"grant_type=password ", ANY},
    {"grant_type=Password", ANY},
    {"GRANT_TYPE=password", ANY},
    {"grant_type=pass%77ord", ANY},
    {"grant%5ftype=password", ANY},
    {"grant_type=refresh_tokengrant_type=password", ANY},
};

static void test_grants(void)
{
    apr_size_t place;
    apr_size_t i;

    for (i = 0; i < sizeof(grants) / sizeof(grants[0]); i++) {
        for (place = 0; place < PLACES; place++) {
            is_str(ask("POST", url_of(place, "token"), grants[i].query),
                   grants[i].is, "%s at %s", shown(grants[i].query),
                   places[place]);
        }
        is_str(ask("GET", url_of(0, "token"), grants[i].query), NOBODY, "GET");
        is_str(ask("POST", url_of(0, "signup"), grants[i].query),
               "sign-up guarded creates by sign-up", "and of a sign-up");
    }
}

/* --- administrators --- */

/* "admin" stands for any of their names. */
static const char *const disguises[] = {
    "admin",
    "admin/",
    "admin//",
    "/admin",
    "//admin",
    "///admin/users",
    "admin/users",
    "admin/users/7f1a2c9e-3b54-4d0e-9c61-52a8d0b4e117",
    "admin?page=1",
    "admin#x",
    "./admin",
    "././/admin/",
    "x/../admin",
    "x/y/../../admin/users",
    "../../../../admin",
    "admin/.",
    "admin/x/..",
    "user/..//./admin",
    "%2e/admin",
    "%2E%2e/%2e%2E/admin",
    "x%2F..%2fadmin",
    "x\\..\\admin",
    "x%5c..%5Cadmin/users",
    "\\admin",
    "%2fadmin",
    "admin%2f",
    "admin%2Fusers",
};

static const char *const names[]
    = {"admin",   "Admin",  "ADMIN",  "aDmIn",    "%61dmin", "%41%44%4D%49%4e",
       "adm%69n", "invite", "INVITE", "%69nvite", "scim",    "ScIm",
       "s%43im"};

/* path with the name in place of "admin" */
static const char *as_named(const char *path, const char *name)
{
    const char *at = strstr(path, "admin");

    return apr_pstrcat(pool,
                       apr_pstrmemdup(pool, path, (apr_size_t)(at - path)),
                       name, at + 5, NULL);
}

static void test_admins(void)
{
    static const char *const methods[]
        = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "X"};
    apr_size_t place;
    apr_size_t i;
    apr_size_t k;

    for (place = 0; place < PLACES; place++) {
        for (i = 0; i < sizeof(disguises) / sizeof(disguises[0]); i++) {
            for (k = 0; k < sizeof(names) / sizeof(names[0]); k++) {
                const char *url
                    = url_of(place, as_named(disguises[i], names[k]));

                is_str(ask(i % 2 == 0 ? "GET" : "POST", url, NULL), "admin",
                       "%s", url);
            }
        }
    }
    for (i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        is_str(ask(methods[i], url_of(0, "admin/users"), "a=b"), "admin",
               "with %s", methods[i]);
    }
}

/* What has their name elsewhere, or a name like theirs. */
static void test_others(void)
{
    static const char *const others[]
        = {"administrator",
           "admins",
           "admi",
           "admin;x",
           "admin.",
           "admin%20",
           "admin%3fx",
           "admin%23x",
           "invites",
           "scimitar",
           "settings?/admin",
           "settings#/admin",
           "admin/..",
           "admin/../user",
           "%2561dmin",
           "user?redirect_to=https://x.example/auth/v1/admin"};
    static const char *const inside[]
        = {"user/admin", "factors/admin/verify", "settings/invite"};
    apr_size_t place;
    apr_size_t i;

    for (i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        for (place = 0; place < PLACES; place++) {
            const char *url = url_of(place, others[i]);

            ok(strcmp(ask("GET", url, NULL), "admin") != 0, "%s", url);
        }
    }
    for (i = 0; i < sizeof(inside) / sizeof(inside[0]); i++) {
        const char *url = url_of(0, inside[i]);

        ok(strcmp(ask("POST", url, NULL), "admin") != 0, "%s", url);
    }
    is_str(ask("GET", "https://admin.example/auth/v1/user", NULL), "user",
           "a host of that name");
    is_str(ask("GET", "unix:/admin|http://localhost/user", NULL), "user",
           "a socket of that name");
    is_str(ask("GET", "unix:///admin/x|http://localhost/user", NULL), "user",
           "or another form of it");
    is_str(ask("GET", "http://localhost/admin/users/auth/v1/user", NULL),
           "admin", "a path that only goes on like the gateway's");
    is_str(ask("GET", "http://localhost", "/admin"), NOBODY, "no path");
}

/* --- Supabase's other services --- */

/* Of what they answer, nothing is Supabase Auth's: a token in there is
 * anybody's. */
static void test_services(void)
{
    static const char *const services[]
        = {"rest/v1/",   "storage/v1/", "functions/v1/", "realtime/v1/",
           "graphql/v1", "%72est/v1/",  "x/rest/v1/"};
    static const char *const inside[] = {"",
                                         "token",
                                         "rpc/signup",
                                         "admin",
                                         "auth/v1/token",
                                         "auth/v1/admin",
                                         "factors/a/verify"};
    static const char *const hosts[]
        = {"https://x.supabase.co/", "http://127.0.0.1:8000/",
           "unix:/run/auth/v1/s|http://localhost/"};
    static const char *const others[] = {"rest/v2/token",
                                         "rest/token",
                                         "v1/token",
                                         "rest/v1/../token",
                                         "rest/v1/../../auth/v1/token",
                                         "auth/v1/x/rest/v1/../../../token"};
    apr_size_t i;
    apr_size_t k;
    apr_size_t h;

    for (h = 0; h < sizeof(hosts) / sizeof(hosts[0]); h++) {
        for (i = 0; i < sizeof(services) / sizeof(services[0]); i++) {
            for (k = 0; k < sizeof(inside) / sizeof(inside[0]); k++) {
                const char *url = apr_pstrcat(pool, hosts[h], services[i], "/",
                                              inside[k], NULL);

                is_str(ask("POST", url, NULL), NOBODY, "%s", url);
            }
        }
        for (i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
            const char *url = apr_pstrcat(pool, hosts[h], others[i], NULL);

            is_str(ask("POST", url, NULL), ANY, "not %s", url);
        }
    }
}

int main(void)
{
    apr_initialize();
    apr_pool_create(&pool, NULL);
    test_paths();
    test_methods();
    test_spellings();
    test_grants();
    test_admins();
    test_others();
    test_services();
    apr_pool_destroy(pool);
    apr_terminate();
    return done();
}
