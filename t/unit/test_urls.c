/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * config/values.c: which URLs may be a project's or a proxy's, what they
 * become, and that no message shows a password or an API key.
 */
#include "tap.h"
#include "us_values.h"

#include <apr_escape.h>
#include <apr_general.h>
#include <apr_strings.h>

static apr_pool_t *pool;

/* A refusal must name the value, and what is allowed. */
static void check_message(const char *wrong, const char *arg)
{
    const char *quoted = apr_pstrcat(pool, "\"", arg, "\"", NULL);

    ok(wrong != NULL && strstr(wrong, quoted) != NULL
           && strncmp(wrong, "takes ", 6) == 0,
       "and the message names it: %s",
       apr_pescape_echo(pool, shown(wrong), 0));
}

/* --- URLs --- */

static const struct {
    const char *arg;
    const char *url; /* NULL: refused */
} urls[] = {
    {"https://abc.supabase.co", "https://abc.supabase.co/auth/v1"},
    {"https://abc.supabase.co/", "https://abc.supabase.co/auth/v1"},
    {"https://abc.supabase.co//", "https://abc.supabase.co/auth/v1"},
    {"https://abc.supabase.co/auth/v1", "https://abc.supabase.co/auth/v1"},
    {"https://abc.supabase.co/auth/v1/", "https://abc.supabase.co/auth/v1"},
    {"https://h.example/auth", "https://h.example/auth/auth/v1"},
    {"https://h.example/xauth/v1", "https://h.example/xauth/v1/auth/v1"},
    {"https://h.example/base", "https://h.example/base/auth/v1"},
    {"https://h.example/base/auth/v1", "https://h.example/base/auth/v1"},
    {"https://h.example:8443", "https://h.example:8443/auth/v1"},
    {"https://h.example:65535", "https://h.example:65535/auth/v1"},
    {"https://h-1_x.example", "https://h-1_x.example/auth/v1"},
    {"https://10.0.0.1", "https://10.0.0.1/auth/v1"},
    {"https://[2001:db8::1]:8443", "https://[2001:db8::1]:8443/auth/v1"},
    {"https://[::ffff:10.0.0.1]", "https://[::ffff:10.0.0.1]/auth/v1"},
    /* unencrypted only to this machine */
    {"http://127.0.0.1:9999", "http://127.0.0.1:9999/auth/v1"},
    {"http://127.255.0.9", "http://127.255.0.9/auth/v1"},
    {"http://localhost:9999/", "http://localhost:9999/auth/v1"},
    {"http://LOCALHOST", "http://LOCALHOST/auth/v1"},
    {"http://[::1]:9999", "http://[::1]:9999/auth/v1"},
    {"http://abc.supabase.co", NULL},
    {"http://10.0.0.1", NULL},
    {"http://0.0.0.0", NULL},
    {"http://128.0.0.1", NULL},
    {"http://12.7.0.1", NULL},
    {"http://[::2]", NULL},
    {"http://[::]", NULL},
    {"http://localhost.example", NULL},
    {"http://localhost.", NULL},
    {"http://xlocalhost", NULL},
    {"http://127.evil.example", NULL},
    {"http://127.0.0.1.evil.example", NULL},
    /* names, not addresses: a resolver would be asked */
    {"http://127.", NULL},
    {"http://127..1", NULL},
    {"http://127.1", NULL},
    {"http://127.0.0.1.", NULL},
    {"http://127.0.0.0.1", NULL},
    {"http://127.0.0.256", NULL},
    {"http://127.0.0", NULL},
    {"http://2130706433", NULL},
    {"http://0x7f.0.0.1", NULL},
    /* other schemes and no scheme */
    {"", NULL},
    {"abc.supabase.co", NULL},
    {"//abc.supabase.co", NULL},
    {"/auth/v1", NULL},
    {"ftp://abc.supabase.co", NULL},
    {"file:///etc/passwd", NULL},
    {"httpss://abc.supabase.co", NULL},
    {"https:abc.supabase.co", NULL},
    {"https:/abc.supabase.co", NULL},
    {"://abc.supabase.co", NULL},
    /* hosts and ports */
    {"https://", NULL},
    {"https:///", NULL},
    {"https://:443", NULL},
    {"https:///auth/v1", NULL},
    {"https://h.example:", NULL},
    {"https://h.example:0", NULL},
    {"https://h.example:65536", NULL},
    {"https://h.example:70000", NULL},
    {"https://h.example:4294967739", NULL},
    {"https://h.example:-1", NULL},
    {"https://h.example:44x", NULL},
    {"https://h.example:443:443", NULL},
    {"https://a,b", NULL},
    {"https://a;b", NULL},
    {"https://a%20b", NULL},
    {"https://a*b", NULL},
    {"https://[::1", NULL},
    {"https://[::1]x", NULL},
    {"https://[::g]", NULL},
    {"https://[fe80::1%25eth0]", NULL},
    {"https://h\xC3\xA9.example", NULL},
    /* what a base URL must not contain */
    {"https://user@h.example", NULL},
    {"https://user:secret@h.example", NULL},
    {"https://:secret@h.example", NULL},
    {"https://@h.example", NULL},
    {"https://h.example?x=1", NULL},
    {"https://h.example/?", NULL},
    {"https://h.example/auth/v1?x", NULL},
    {"https://h.example/#top", NULL},
    {"https://h.example#", NULL},
    /* blanks, line ends, backslashes */
    {" https://h.example", NULL},
    {"https://h.example ", NULL},
    {"https://h.example/a b", NULL},
    {"https://h.example\r\nX: y", NULL},
    {"https://h.example\n", NULL},
    {"https://h.example/\x7F", NULL},
    {"https://h.example\\@evil.example", NULL},
    {"https:\\\\h.example", NULL},
    /* Supabase's own hosts that are not projects */
    {"https://supabase.com", NULL},
    {"https://supabase.com/dashboard/project/abcdefgh", NULL},
    {"https://www.supabase.com", NULL},
    {"https://App.Supabase.com/project/abcdefgh", NULL},
    {"https://api.supabase.com/v1", NULL},
    {"https://aws-0-eu-central-1.pooler.supabase.com:6543", NULL},
    {"https://app.supabase.io", NULL},
    {"https://supabase.co", NULL},
    {"https://www.supabase.co", NULL},
    {"https://app.supabase.co", NULL},
    {"https://api.supabase.co", NULL},
    {"https://db.abcdefgh.supabase.co", NULL},
    {"https://db.abcdefgh.supabase.co:5432/postgres", NULL},
    {"https://abcdefgh.storage.supabase.co", NULL},
    {"https://dbx.supabase.co", "https://dbx.supabase.co/auth/v1"},
    {"https://application.supabase.co",
     "https://application.supabase.co/auth/v1"},
    {"https://notsupabase.com", "https://notsupabase.com/auth/v1"},
    {"https://a.notsupabase.co", "https://a.notsupabase.co/auth/v1"},
    {"https://supabase.com.example", "https://supabase.com.example/auth/v1"},
    {"https://api.supabase.example", "https://api.supabase.example/auth/v1"},
    /* paths of services, calls and pages */
    {"https://abcdefgh.supabase.co/rest/v1", NULL},
    {"https://abcdefgh.supabase.co/rest/v1/", NULL},
    {"https://abcdefgh.supabase.co/auth/v1/token", NULL},
    {"https://abcdefgh.supabase.co/auth/v1/auth/v1", NULL},
    {"https://abcdefgh.supabase.co/auth", NULL},
    {"https://abcdefgh.supabase.co/x/auth/v1", NULL},
    {"https://h.example/rest/v1", NULL},
    {"https://h.example/auth/v1/token", NULL},
    {"https://h.example/auth/v1/.well-known/jwks.json", NULL},
    {"https://h.example/storage/v1", NULL},
    {"https://h.example/functions/v1/hello", NULL},
    {"https://h.example/graphql/v1", NULL},
    {"https://h.example/realtime/v1/websocket", NULL},
    {"http://127.0.0.1:8000/project/default", NULL},
    {"https://h.example/dashboard/org", NULL},
    {"https://h.example/v1", "https://h.example/v1/auth/v1"},
    {"https://h.example/projects", "https://h.example/projects/auth/v1"},
    /* the key in the wrong directive */
    {"sb_publishable_0123456789", NULL},
    {"sb_secret_0123456789", NULL},
    {"eyJhbGciOiJIUzI1NiJ9.eyJyb2xlIjoiYW5vbiJ9.x", NULL},
};

/* Refused, and the message may not show these. */
static const struct {
    const char *arg;
    const char *secret;
    const char *part; /* of the message */
} hidden[] = {
    {"https://ada:hunter2@h.example", "hunter2", "user name or password"},
    {"postgresql://postgres:hunter2@db.abcdefgh.supabase.co:5432/postgres",
     "hunter2", "user name or password"},
    {"sb_publishable_hunter2", "hunter2", "UserSyncSupabaseKey"},
    {"sb_secret_hunter2", "hunter2", "UserSyncSupabaseKey"},
    {"eyJhbGciOiJIUzI1NiJ9.hunter2.x", "hunter2", "UserSyncSupabaseKey"},
    {"https://h.example?apikey=sb_secret_hunter2", "hunter2", "query"},
    {"https://h.example/#eyJhbGci.hunter2", "hunter2", "fragment"},
};

static void test_hidden_values(void)
{
    apr_size_t i;

    for (i = 0; i < sizeof(hidden) / sizeof(hidden[0]); i++) {
        const char *url = NULL;
        const char *wrong = us_value_supabase_url(pool, hidden[i].arg, &url);

        ok(wrong != NULL && strstr(wrong, hidden[i].secret) == NULL
               && strstr(wrong, hidden[i].part) != NULL,
           "a secret is not shown: %s", shown(wrong));
    }
}

static void test_urls(void)
{
    apr_size_t i;

    for (i = 0; i < sizeof(urls) / sizeof(urls[0]); i++) {
        const char *url = NULL;
        const char *wrong = us_value_supabase_url(pool, urls[i].arg, &url);

        is_str(url, urls[i].url, "URL %s",
               apr_pescape_echo(pool, urls[i].arg, 0));
        ok((wrong == NULL) == (url != NULL), "with a complaint or a value");
        if (urls[i].url == NULL) {
            ok(wrong != NULL && strncmp(wrong, "takes https://", 14) == 0,
               "and the message says what is allowed");
        }
    }
}

static const struct {
    const char *arg;
    const char *url; /* NULL: refused */
} proxies[] = {
    {"http://proxy.example", "http://proxy.example"},
    {"http://proxy.example/", "http://proxy.example"},
    {"http://proxy.example:3128", "http://proxy.example:3128"},
    {"https://proxy.example:3128/", "https://proxy.example:3128"},
    {"socks5://127.0.0.1:1080", "socks5://127.0.0.1:1080"},
    {"socks5h://[::1]:1080", "socks5h://[::1]:1080"},
    {"HTTP://proxy.example", "HTTP://proxy.example"},
    {"", NULL},
    {"none.example", NULL},
    {"proxy.example:3128", NULL},
    {"socks4://proxy.example", NULL},
    {"ftp://proxy.example", NULL},
    {"http://", NULL},
    {"http://proxy.example:0", NULL},
    {"http://proxy.example:70000", NULL},
    {"http://proxy.example/path", NULL},
    {"http://proxy.example?x", NULL},
    {"http://proxy.example#x", NULL},
    {"http://proxy example", NULL},
};

static void test_proxies(void)
{
    const char *hidden_url = NULL;
    const char *wrong;
    apr_size_t i;

    for (i = 0; i < sizeof(proxies) / sizeof(proxies[0]); i++) {
        const char *url = NULL;

        wrong = us_value_proxy_url(pool, proxies[i].arg, &url);

        is_str(url, proxies[i].url, "proxy \"%s\"", proxies[i].arg);
        if (proxies[i].url == NULL) {
            check_message(wrong, proxies[i].arg);
        }
    }
    wrong = us_value_proxy_url(pool, "http://user:hunter2@proxy.example",
                               &hidden_url);
    ok(hidden_url == NULL && wrong != NULL
           && strstr(wrong, "the value must not contain a user name") != NULL
           && strstr(wrong, "hunter2") == NULL,
       "a password is refused and not shown: %s", shown(wrong));
}

static const struct {
    const char *url;
    int is_loopback;
} places[] = {
    {"http://127.0.0.1", 1},         {"http://127.1.2.3:3128/", 1},
    {"socks5h://[::1]:1080", 1},     {"https://LocalHost", 1},
    {"http://128.0.0.1", 0},         {"http://127.0.0.1.example", 0},
    {"http://localhost.example", 0}, {"socks5://[::2]", 0},
    {"http://proxy.example", 0},     {"", 0},
};

static void test_loopback(void)
{
    apr_size_t i;

    for (i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        is_int(us_value_is_loopback_url(pool, places[i].url),
               places[i].is_loopback, "loopback: \"%s\"", places[i].url);
    }
}

int main(void)
{
    apr_initialize();
    apr_pool_create(&pool, NULL);
    test_urls();
    test_hidden_values();
    test_proxies();
    test_loopback();
    apr_pool_destroy(pool);
    apr_terminate();
    return done();
}
