/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "us_conftree.h"
#include "proxy_check.h"

#include <http_config.h>

#include <apr_strings.h>

#include <string.h>

/* What holds at one place of the configuration: the lines that say so. */
typedef struct scope {
    int ensures; /* UserSyncEnsureResponse is On or Report */
    const ap_directive_t *error_override;
    const ap_directive_t *preserve_host;
    const ap_directive_t *hosted; /* leads to Supabase's own servers */
    const ap_directive_t *secret; /* adds a key with an admin's rights */
    const ap_directive_t *admin;  /* UserSyncProxyAdmin Allow */
} scope;

/* --- reading a line --- */

static const char *first_word(apr_pool_t *pool, const ap_directive_t *line)
{
    const char *args = line->args;

    return ap_getword_conf(pool, &args);
}

/* Is this the URL of a project that Supabase hosts? */
static int is_hosted_url(const char *word)
{
    static const char *const domains[] = {".supabase.co", ".supabase.in"};
    const char *host = strstr(word, "://");
    apr_size_t len;
    apr_size_t i;

    if (host == NULL) {
        return 0;
    }
    host += 3;
    len = strcspn(host, ":/?");
    for (i = 0; i < sizeof(domains) / sizeof(domains[0]); i++) {
        apr_size_t end = strlen(domains[i]);

        if (len > end && strncasecmp(host + len - end, domains[i], end) == 0) {
            return 1;
        }
    }
    return 0;
}

static int has_hosted_url(apr_pool_t *pool, const ap_directive_t *line)
{
    const char *args = line->args;
    int found = 0;

    while (*args != '\0' && !found) {
        found = is_hosted_url(ap_getword_conf(pool, &args));
    }
    return found;
}

/* Does this RequestHeader add a key that Supabase takes for an admin's? */
static int adds_secret(apr_pool_t *pool, const ap_directive_t *line)
{
    static const char scheme[] = "Bearer ";
    const char *args = line->args;
    const char *action = ap_getword_conf(pool, &args);
    const char *name = ap_getword_conf(pool, &args);
    us_secret key = {.value = ap_getword_conf(pool, &args)};
    us_key_kind kind;

    if (strcasecmp(action, "unset") == 0
        || (strncasecmp(name, "apikey", 6) != 0
            && strncasecmp(name, "Authorization", 13) != 0)) {
        return 0;
    }
    if (strncasecmp(key.value, scheme, sizeof(scheme) - 1) == 0) {
        key.value += sizeof(scheme) - 1;
    }
    key.len = strlen(key.value);
    kind = us_secret_key_kind(pool, &key);
    return kind == US_KEY_SECRET || kind == US_KEY_JWT_SERVICE;
}

static int is_named(const ap_directive_t *line, const char *name)
{
    return strcasecmp(line->directive, name) == 0;
}

/* The line if its first word is this one, else NULL: it says something else. */
static const ap_directive_t *if_says(apr_pool_t *pool,
                                     const ap_directive_t *line,
                                     const char *word)
{
    return strcasecmp(first_word(pool, line), word) == 0 ? line : NULL;
}

static void apply(apr_pool_t *pool, const ap_directive_t *line, scope *here)
{
    if (is_named(line, "UserSyncEnsureResponse")) {
        here->ensures = if_says(pool, line, "Off") == NULL;
    }
    else if (is_named(line, "UserSyncProxyAdmin")) {
        here->admin = if_says(pool, line, "Allow");
    }
    else if (is_named(line, "ProxyErrorOverride")) {
        here->error_override = if_says(pool, line, "On");
    }
    else if (is_named(line, "ProxyPreserveHost")) {
        here->preserve_host = if_says(pool, line, "On");
    }
    else if (is_named(line, "ProxyPass") || is_named(line, "ProxyPassMatch")
             || is_named(line, "RewriteRule")
             || is_named(line, "SetHandler")) {
        here->hosted = has_hosted_url(pool, line) ? line : here->hosted;
    }
    else if (is_named(line, "RequestHeader")) {
        here->secret = adds_secret(pool, line) ? line : here->secret;
    }
}

/* --- judging --- */

static const char *place_of(apr_pool_t *pool, const ap_directive_t *line)
{
    return apr_psprintf(pool, "%s:%d", line->filename, line->line_num);
}

static const char *judge(apr_pool_t *pool, const scope *here)
{
    if (!here->ensures) {
        return NULL;
    }
    if (here->error_override != NULL) {
        return apr_psprintf(pool,
                            "ProxyErrorOverride On (%s) puts httpd's pages in "
                            "place of Supabase's errors, which its clients "
                            "cannot read: say Off beside "
                            "UserSyncEnsureResponse",
                            place_of(pool, here->error_override));
    }
    if (here->preserve_host != NULL && here->hosted != NULL) {
        return apr_psprintf(pool,
                            "ProxyPreserveHost On (%s) sends this site's name "
                            "to Supabase (%s), which then finds no project: "
                            "say Off beside UserSyncEnsureResponse",
                            place_of(pool, here->preserve_host),
                            place_of(pool, here->hosted));
    }
    if (here->admin != NULL && here->secret != NULL) {
        return apr_psprintf(
            pool,
            "UserSyncProxyAdmin Allow (%s) and a RequestHeader "
            "with a secret key (%s) would make everybody an "
            "administrator of the project: remove one of them",
            place_of(pool, here->admin), place_of(pool, here->secret));
    }
    return NULL;
}

/* Applies the lines of one level, without its sections. */
static void apply_level(apr_pool_t *pool, const ap_directive_t *line,
                        scope *here)
{
    for (; line != NULL; line = line->next) {
        if (*line->directive != '<') {
            apply(pool, line, here);
        }
    }
}

/* The lines of one level, then its sections, each with what it inherits. */
static const char *walk(apr_pool_t *pool, const ap_directive_t *line,
                        scope here)
{
    const char *wrong;

    apply_level(pool, line, &here);
    wrong = judge(pool, &here);
    for (; wrong == NULL && line != NULL; line = line->next) {
        if (*line->directive == '<' && !is_named(line, "<VirtualHost")) {
            wrong = walk(pool, line->first_child, here);
        }
    }
    return wrong;
}

const char *us_proxy_check(apr_pool_t *pool, const server_rec *s,
                           const server_rec *main_server)
{
    scope here = {0};

    if (ap_find_linked_module("mod_proxy.c") == NULL) {
        return "UserSyncEnsureResponse is about what mod_proxy forwards, and "
               "mod_proxy is not loaded: add LoadModule proxy_module and "
               "proxy_http_module (Debian: a2enmod proxy_http)";
    }
    if (s != main_server) {
        apply_level(pool, us_conftree_lines(main_server), &here);
    }
    return walk(pool, us_conftree_lines(s), here);
}
