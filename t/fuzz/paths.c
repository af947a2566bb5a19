/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "paths.h"
#include "fuzz.h"

#include <apr_strings.h>

#include <regex.h>
#include <string.h>
#include <strings.h>

/* One segment, and the paths below. */
#define ANY "/[^/]+"
#define IN_BODY "/token|/verify|/oauth/token|/(factors|passkeys)" ANY "/verify"
#define IN_LINK "/callback|/sso/saml/acs"
#define KNOWN                                                               \
    "^(/signup|" IN_BODY "|" IN_LINK                                        \
    "|/user|/otp|/magiclink|/recover|/resend|/logout|/factors|/factors" ANY \
    "/challenge|/sso)$"

/* The expressions that are asked for (REG_EXTENDED), compiled once. */
enum { LINK, BODY, PAGE, READER, PATH, ADMIN, EXPRESSIONS };

static int is_like(const char *text, int which)
{
    static const struct {
        const char *text;
        int flags;
    } expressions[EXPRESSIONS] = {
        [LINK] = {"^(" IN_LINK ")$", 0},
        [BODY] = {"^(" IN_BODY ")$", 0},
        [PAGE] = {"^(/verify|/callback)$", 0},
        [READER] = {"^(OPTIONS|DELETE|TRACE)$", 0},
        [PATH] = {KNOWN, 0},
        [ADMIN] = {"^/(admin|invite|scim)(/|$)", REG_ICASE},
    };
    static regex_t compiled[EXPRESSIONS];
    static int is_compiled[EXPRESSIONS];

    if (!is_compiled[which]) {
        require(regcomp(&compiled[which], expressions[which].text,
                        REG_EXTENDED | REG_NOSUB | expressions[which].flags)
                    == 0,
                "the expression is a good one");
        is_compiled[which] = 1;
    }
    return regexec(&compiled[which], text, 0, NULL, 0) == 0;
}

/* --- paths --- */

static int hex_value(char c)
{
    static const char digits[] = "0123456789abcdef0123456789ABCDEF";
    const char *digit = c != '\0' ? strchr(digits, c) : NULL;

    return digit != NULL ? (int)((digit - digits) & 0xF) : -1;
}

const char *paths_unescaped(apr_pool_t *pool, const char *text)
{
    char *to = apr_palloc(pool, strlen(text) + 1);
    const char *unescaped = to;
    const char *p;

    for (p = text; *p != '\0'; p++) {
        int byte = (unsigned char)*p;

        if (*p == '%') {
            int high = hex_value(p[1]);
            int low = high >= 0 ? hex_value(p[2]) : -1;

            byte = low >= 0 ? high * 16 + low : 0;
            if (byte == 0) {
                return text;
            }
            p += 2;
        }
        *to++ = (char)byte;
    }
    *to = '\0';
    return unescaped;
}

/* "/a/b" without empty segments and dots; "" for "/". */
static const char *canonical(apr_pool_t *pool, const char *path)
{
    char *to = apr_palloc(pool, strlen(path) + 2);
    char *rest = apr_pstrdup(pool, path);
    const char *item;

    *to = '\0';
    while ((item = strsep(&rest, "/")) != NULL) {
        if (strcmp(item, "..") == 0) {
            char *slash = strrchr(to, '/');

            *(slash != NULL ? slash : to) = '\0';
        }
        else if (*item != '\0' && strcmp(item, ".") != 0) {
            char *end = strchr(to, '\0');

            *end++ = '/';
            (void)apr_cpystrn(end, item, strlen(item) + 1);
        }
    }
    return to;
}

static const char *path_of(apr_pool_t *pool, const char *url)
{
    const char *bar = strncmp(url, "unix:", 5) == 0 ? strchr(url, '|') : NULL;
    const char *path = strstr(bar != NULL ? bar : url, "://");

    path = path != NULL ? strchr(path + 3, '/') : url;
    if (path == NULL) {
        return "";
    }
    path = apr_pstrmemdup(pool, path, strcspn(path, "?#"));
    return canonical(pool, paths_unescaped(pool, path));
}

/* --- what it is --- */

/* The path below the first service of Supabase's gateway; NULL: there is none.
 * *is_auth says whether it is Supabase Auth. */
static const char *below_service(const char *path, int *is_auth)
{
    static const char *const services[]
        = {"/auth/v1",      "/rest/v1",     "/storage/v1",
           "/functions/v1", "/realtime/v1", "/graphql/v1"};
    const char *p;
    apr_size_t i;

    for (p = strchr(path, '/'); p != NULL; p = strchr(p + 1, '/')) {
        for (i = 0; i < sizeof(services) / sizeof(services[0]); i++) {
            apr_size_t len = strlen(services[i]);

            if (strncmp(p, services[i], len) == 0
                && (p[len] == '/' || p[len] == '\0')) {
                *is_auth = i == 0;
                return p + len;
            }
        }
    }
    return NULL;
}

static us_proxied of_grant(apr_pool_t *pool, const char *query)
{
    static const struct {
        const char *item;
        us_operation circuit;
        int creates;
    } grants[] = {{"grant_type=password", US_LOG_IN, 0},
                  {"grant_type=refresh_token", US_REFRESH, 0},
                  {"grant_type=pkce", US_LOG_IN, 1}};
    us_proxied is = {US_PROXIED_SESSION, 0, 1, 1, 0, US_OPERATION_COUNT};
    const char *items
        = apr_pstrcat(pool, "&", query != NULL ? query : "", "&", NULL);
    apr_size_t i;

    for (i = 0; i < sizeof(grants) / sizeof(grants[0]); i++) {
        if (strstr(items, apr_pstrcat(pool, "&", grants[i].item, "&", NULL))
            != NULL) {
            is.creates = grants[i].creates;
            is.circuit = grants[i].circuit;
            return is;
        }
    }
    return is;
}

/* What a request for this path below Supabase Auth's is. */
static us_proxied of_path(apr_pool_t *pool, const char *method,
                          const char *path, const char *query)
{
    int gets = strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;
    int posts = strcmp(method, "POST") == 0;
    us_proxied is = {US_PROXIED_NOBODY, 0, 0, 0, 0, US_OPERATION_COUNT};

    if (posts && strcmp(path, "/token") == 0) {
        return of_grant(pool, query);
    }
    if ((posts && is_like(path, LINK)) || (gets && is_like(path, PAGE))) {
        is.body = US_PROXIED_SESSION;
        is.guarded = is.creates = is.is_page = 1;
        is.circuit
            = strcmp(path, "/verify") == 0 ? US_LOG_IN : US_OPERATION_COUNT;
    }
    else if (posts && strcmp(path, "/signup") == 0) {
        is.body = US_PROXIED_SIGN_UP;
        is.guarded = is.creates = 1;
        is.circuit = US_SIGN_UP;
    }
    else if (posts && is_like(path, BODY)) {
        is.body = US_PROXIED_SESSION;
        is.guarded = 1;
        is.creates = strcmp(path, "/verify") == 0;
        is.circuit = US_LOG_IN;
    }
    else if (strcmp(path, "/user") == 0
             && (gets || strcmp(method, "PUT") == 0)) {
        is.body = US_PROXIED_USER;
    }
    else if (!gets && !is_like(method, READER)
             && !(posts && is_like(path, PATH)
                  && strcmp(path, "/user") != 0)) {
        is.body = US_PROXIED_SESSION;
    }
    return is;
}

static int is_admins(const char *path)
{
    return is_like(path, ADMIN);
}

us_proxied paths_judge(apr_pool_t *pool, const char *method, const char *url,
                       const char *query)
{
    static const us_proxied nobodys
        = {US_PROXIED_NOBODY, 0, 0, 0, 0, US_OPERATION_COUNT};
    us_proxied admins = nobodys;
    const char *path = path_of(pool, url);
    int is_auth = 0;
    const char *own = below_service(path, &is_auth);
    const char *p;

    admins.is_admin = 1;
    if (own != NULL && !is_auth) {
        return nobodys;
    }
    if (is_admins(path) || (own != NULL && is_admins(own))) {
        return admins;
    }
    if (own != NULL) {
        return of_path(pool, method, own, query);
    }
    for (p = strchr(path, '/'); p != NULL; p = strchr(p + 1, '/')) {
        if (is_admins(p)) {
            return admins;
        }
        own = own == NULL && is_like(p, PATH) ? p : own;
    }
    return of_path(pool, method, own != NULL ? own : "", query);
}
