/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "us_conftree.h"
#include "proxy_check.h"

#include <http_config.h>

#include <apr_strings.h>

#include <string.h>

/* The headers that a key goes into. */
static const char *const key_headers[] = {"apikey", "Authorization"};

#define KEY_HEADERS (sizeof(key_headers) / sizeof(key_headers[0]))

/* What holds at one place of the configuration: the lines that say so. */
typedef struct scope {
    int inside;  /* of a section */
    int ensures; /* UserSyncEnsureResponse is On or Report */
    const ap_directive_t *error_override;
    const ap_directive_t *preserve_host;
    const ap_directive_t *hosted; /* leads to Supabase's own servers */
    const ap_directive_t *tls;    /* leads to a server with TLS */
    const ap_directive_t
        *secrets[KEY_HEADERS];        /* a key of an admin in there */
    const ap_directive_t *admin;      /* UserSyncProxyAdmin Allow */
    const ap_directive_t **found_tls; /* set where it counts */
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

/* "https:", "h2:" and, behind a handler's or a socket's name, the same. */
static int is_tls_url(const char *word)
{
    return strstr(word, "https://") != NULL || strstr(word, "h2://") != NULL;
}

static int has_word(apr_pool_t *pool, const ap_directive_t *line,
                    int (*is)(const char *word))
{
    const char *args = line->args;
    int found = 0;

    while (*args != '\0' && !found) {
        found = is(ap_getword_conf(pool, &args));
    }
    return found;
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

/* --- where it leads to --- */

/* Do the flags of a RewriteRule, such as "[L,P]", say that it forwards? */
static int has_proxy_flag(apr_pool_t *pool, const ap_directive_t *line)
{
    const char *args = line->args;
    const char *p;

    (void)ap_getword_conf(pool, &args);
    (void)ap_getword_conf(pool, &args);
    p = ap_getword_conf(pool, &args);
    while (*p != '\0') {
        apr_size_t len;

        p += strspn(p, "[, ");
        len = strcspn(p, "], ");
        if ((len == 1 && strncasecmp(p, "P", len) == 0)
            || (len == 5 && strncasecmp(p, "proxy", len) == 0)) {
            return 1;
        }
        p += len;
        p += *p == ']';
    }
    return 0;
}

static void apply_target(apr_pool_t *pool, const ap_directive_t *line,
                         scope *here)
{
    if (is_named(line, "RewriteRule") && !has_proxy_flag(pool, line)) {
        return;
    }
    if (here->inside && is_named(line, "ProxyPass")) {
        here->hosted = NULL; /* the section has its own target */
        here->tls = NULL;
    }
    here->hosted = has_word(pool, line, is_hosted_url) ? line : here->hosted;
    here->tls = has_word(pool, line, is_tls_url) ? line : here->tls;
}

/* --- keys of admins --- */

/* Does Supabase take this value for an admin's key? */
static int is_secret(apr_pool_t *pool, const char *value)
{
    static const char expression[] = "expr=";
    static const char scheme[] = "Bearer ";
    us_secret key = {.value = value};
    us_key_kind kind;

    if (strncasecmp(key.value, expression, sizeof(expression) - 1) == 0) {
        key.value += sizeof(expression) - 1;
    }
    if (strncasecmp(key.value, scheme, sizeof(scheme) - 1) == 0) {
        key.value += sizeof(scheme) - 1;
    }
    key.len = strlen(key.value);
    kind = us_secret_key_kind(pool, &key);
    return kind == US_KEY_SECRET || kind == US_KEY_JWT_SERVICE;
}

/* Is this the header, with or without a colon? */
static int is_header(const char *word, const char *name)
{
    apr_size_t len = strlen(name);

    return strncasecmp(word, name, len) == 0
           && (word[len] == '\0' || strcmp(word + len, ":") == 0);
}

/* RequestHeader ACTION HEADER [REGEX] [VALUE] [CONDITION]: mod_headers follows
 * the lines in their order. */
static void apply_header(apr_pool_t *pool, const ap_directive_t *line,
                         scope *here)
{
    const char *args = line->args;
    const char *action = ap_getword_conf(pool, &args);
    const char *name = ap_getword_conf(pool, &args);
    int removes = strcasecmp(action, "unset") == 0;
    int replaces = removes || strcasecmp(action, "set") == 0;
    const char *value;
    apr_size_t i = 0;

    while (i < KEY_HEADERS && !is_header(name, key_headers[i])) {
        i++;
    }
    if (i == KEY_HEADERS) {
        return;
    }
    if (strncasecmp(action, "edit", 4) == 0) {
        (void)ap_getword_conf(pool, &args);
    }
    value = removes ? "" : ap_getword_conf(pool, &args);
    if (is_secret(pool, value)) {
        here->secrets[i] = line;
    }
    else if (replaces && *args == '\0') { /* without a condition */
        here->secrets[i] = NULL;
    }
}

/* --- all of it --- */

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
        apply_target(pool, line, here);
    }
    else if (is_named(line, "RequestHeader")) {
        apply_header(pool, line, here);
    }
}

/* --- judging --- */

static const char *place_of(apr_pool_t *pool, const ap_directive_t *line)
{
    return apr_psprintf(pool, "%s:%d", line->filename, line->line_num);
}

static const char *judge(apr_pool_t *pool, const scope *here)
{
    const ap_directive_t *secret
        = here->secrets[0] != NULL ? here->secrets[0] : here->secrets[1];

    if (!here->ensures) {
        return NULL;
    }
    if (here->tls != NULL) {
        *here->found_tls = here->tls;
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
    if (here->admin != NULL && secret != NULL) {
        return apr_psprintf(
            pool,
            "UserSyncProxyAdmin Allow (%s) and a RequestHeader "
            "with a secret key (%s) would make everybody an "
            "administrator of the project: remove one of them",
            place_of(pool, here->admin), place_of(pool, secret));
    }
    return NULL;
}

/* --- sections --- */

static int is_section(const ap_directive_t *line)
{
    return *line->directive == '<';
}

/* Applies the lines of one level, without its sections. */
static void apply_level(apr_pool_t *pool, const ap_directive_t *line,
                        scope *here)
{
    for (; line != NULL; line = line->next) {
        if (!is_section(line)) {
            apply(pool, line, here);
        }
    }
}

static void apply_section(apr_pool_t *pool, const ap_directive_t *section,
                          scope *here)
{
    here->inside = 1;
    apply_level(pool, section->first_child, here);
}

/* The lines of a section, which have been applied, and the sections within. */
static const char *judge_section(apr_pool_t *pool,
                                 const ap_directive_t *section,
                                 const scope *here)
{
    const ap_directive_t *line = section->first_child;
    const char *wrong = judge(pool, here);

    for (; wrong == NULL && line != NULL; line = line->next) {
        if (is_section(line)) {
            scope there = *here;

            apply_section(pool, line, &there);
            wrong = judge_section(pool, line, &there);
        }
    }
    return wrong;
}

/* What a section is for: the words between its name and ">". */
static const char *subject_of(apr_pool_t *pool, const ap_directive_t *section)
{
    const char *end = strrchr(section->args, '>');
    const char *args = end == NULL
                           ? section->args
                           : apr_pstrmemdup(pool, section->args,
                                            (apr_size_t)(end - section->args));
    const char *rest = args;
    const char *word = ap_getword_conf(pool, &rest);

    return *rest == '\0' ? word : args;
}

/* A section of a server itself. */
typedef struct place {
    const ap_directive_t *section;
    const char *subject;
} place;

/* Does httpd apply the one section wherever it applies the other?  It does if
 * both are for the same, or for a path and what is below. */
static int covers(const place *outer, const place *inner)
{
    const char *prefix = outer->subject;
    apr_size_t len = strlen(prefix);

    if (!is_named(outer->section, inner->section->directive)) {
        return 0;
    }
    return strcmp(prefix, inner->subject) == 0
           || (is_named(outer->section, "<Location") && *prefix == '/'
               && strncmp(prefix, inner->subject, len) == 0
               && (prefix[len - 1] == '/' || inner->subject[len] == '/'));
}

/* Adds the sections of one level to a list of place. */
static void add_places(apr_array_header_t *places, const ap_directive_t *line)
{
    for (; line != NULL; line = line->next) {
        if (is_section(line) && !is_named(line, "<VirtualHost")) {
            place *added = apr_array_push(places);

            added->section = line;
            added->subject = subject_of(places->pool, line);
        }
    }
}

/* Each section with all that httpd applies there, in the order in which it
 * does. */
static const char *judge_places(apr_pool_t *pool,
                                const apr_array_header_t *places,
                                const scope *here)
{
    const place *all = (const place *)(const void *)places->elts;
    const char *wrong = NULL;
    int i;
    int k;

    for (i = 0; i < places->nelts && wrong == NULL; i++) {
        scope there = *here;

        for (k = 0; k < places->nelts; k++) {
            if (covers(&all[k], &all[i])) {
                apply_section(pool, all[k].section, &there);
            }
        }
        wrong = judge_section(pool, all[i].section, &there);
    }
    return wrong;
}

/* Does mod_ssl verify a server somewhere below this line, or after it? */
static int verifies(apr_pool_t *pool, const ap_directive_t *line)
{
    for (; line != NULL; line = line->next) {
        if ((is_named(line, "SSLProxyVerify")
             && if_says(pool, line, "require") != NULL)
            || (is_section(line) && !is_named(line, "<VirtualHost")
                && verifies(pool, line->first_child))) {
            return 1;
        }
    }
    return 0;
}

const char *us_proxy_check(apr_pool_t *pool, const server_rec *s,
                           const server_rec *main_server,
                           const char **unverified)
{
    apr_array_header_t *places = apr_array_make(pool, 8, sizeof(place));
    const ap_directive_t *lines = us_conftree_lines(s);
    const ap_directive_t *tls = NULL;
    scope here = {.found_tls = &tls};
    const char *wrong;

    *unverified = NULL;
    if (ap_find_linked_module("mod_proxy.c") == NULL) {
        return "UserSyncEnsureResponse is about what mod_proxy forwards, and "
               "mod_proxy is not loaded: add LoadModule proxy_module and "
               "proxy_http_module (Debian: a2enmod proxy_http)";
    }
    if (s != main_server) {
        apply_level(pool, us_conftree_lines(main_server), &here);
        add_places(places, us_conftree_lines(main_server));
    }
    apply_level(pool, lines, &here);
    add_places(places, lines);
    wrong = judge(pool, &here);
    wrong = wrong == NULL ? judge_places(pool, places, &here) : wrong;
    /* without mod_ssl nothing is forwarded there */
    if (tls != NULL && ap_find_linked_module("mod_ssl.c") != NULL
        && !verifies(pool, us_conftree_lines(main_server))
        && (s == main_server || !verifies(pool, lines))) {
        *unverified = place_of(pool, tls);
    }
    return wrong;
}
