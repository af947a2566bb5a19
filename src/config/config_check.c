/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Rules that involve more than one directive.  They run in check_config,
 * because configtest does not run post_config.
 */
#include "us_config.h"
#include "us_conftree.h"
#include "us_log.h"
#include "us_values.h"
#include "proxy_check.h"

#include <http_core.h>
#include <unixd.h>

#include <apr_strings.h>

#include <string.h>
#include <unistd.h>

/* The longest name that PostgreSQL does not cut. */
#define NAME_BYTES 63

/* "vhost (file:line)" for messages. */
static const char *where(apr_pool_t *pool, const server_rec *s)
{
    if (!s->is_virtual) {
        return "main server";
    }
    return apr_psprintf(pool, "vhost %s (%s:%u)",
                        s->server_hostname != NULL ? s->server_hostname : "-",
                        s->defn_name != NULL ? s->defn_name : "-",
                        s->defn_line_number);
}

static const char *check_handlers(apr_pool_t *pool, const us_conftree *found)
{
#define NAME(handler, operation) " " handler
    static const char handlers[]
        = US_ROUTES(NAME) " " US_HOOK_HANDLER " " US_EVENT_HANDLER
                          " " US_STATUS_HANDLER;
#undef NAME

    return found->unknown == NULL
               ? NULL
               : apr_psprintf(pool,
                              "SetHandler %s: there is no such handler; there "
                              "are%s",
                              found->unknown, handlers);
}

/* Returns what is wrong with the project that the routes ask, or NULL. */
static const char *check_project(const us_server_conf *conf)
{
    if (conf->url == NULL) {
        return "UserSyncSupabaseURL is missing: say which project to talk "
               "to, e.g. UserSyncSupabaseURL https://abcdefgh.supabase.co";
    }
    if (conf->key == NULL && !us_config_is_dump()) {
        return "UserSyncSupabaseKey is missing: give the project's "
               "publishable key, e.g. UserSyncSupabaseKey file:PATH";
    }
    return NULL;
}

static const char *check_hook(const us_server_conf *conf)
{
    return conf->hook_secrets == NULL && !us_config_is_dump()
               ? "UserSyncHookSecret is missing: SetHandler usersync-hook "
                 "needs the secret that Supabase shows for the hook, e.g. "
                 "UserSyncHookSecret file:PATH"
               : NULL;
}

static const char *check_event(apr_pool_t *pool, const us_server_conf *conf)
{
    if (!us_config_has_secrets(conf) && !us_config_is_dump()) {
        return "UserSyncHookSecret is missing: SetHandler usersync-event "
               "needs the secret of sql/supabase-notify.sql, e.g. "
               "UserSyncHookSecret file:PATH, or UserSyncEventHeader for "
               "Database Webhooks";
    }
    return us_columns_find(us_config_columns(pool, conf), US_FIELD_UPDATED_AT)
                   < 0
               ? "usersync-event needs UserSyncColumn updated_at COLUMN, a "
                 "timestamptz column: without it a late event would undo a "
                 "newer one"
               : NULL;
}

/* http:// is allowed to a loopback address because nothing leaves the machine.
 * Through a remote proxy it does, and any proxy can read it. */
static const char *check_proxy(apr_pool_t *pool, const us_server_conf *conf)
{
    if (conf->url == NULL || strncasecmp(conf->url, "http:", 5) != 0
        || conf->proxy == NULL || *conf->proxy == '\0'
        || us_value_is_loopback_url(pool, conf->proxy)) {
        return NULL;
    }
    return apr_psprintf(pool,
                        "UserSyncProxy %s would get the passwords for "
                        "UserSyncSupabaseURL %s in the clear: say "
                        "UserSyncProxy None, or use https",
                        conf->proxy, conf->url);
}

static const char *check_timeouts(const us_server_conf *conf)
{
    apr_interval_time_t connect = us_config_connect_timeout(conf);

    if (connect > us_config_timeout(conf)) {
        return "UserSyncConnectTimeout must not be longer than "
               "UserSyncTimeout";
    }
    if (connect > us_config_register_timeout(conf)) {
        return "UserSyncConnectTimeout must not be longer than "
               "UserSyncRegisterTimeout";
    }
    return NULL;
}

static const char *check_columns(apr_pool_t *pool, const us_server_conf *conf)
{
    apr_array_header_t *columns = us_config_columns(pool, conf);
    int i;
    int j;

    if (conf->columns != NULL && conf->columns->nelts > US_MAX_COLUMNS - 2) {
        return "too many UserSyncColumn lines: 14 are allowed";
    }
    for (i = 0; i < columns->nelts; i++) {
        for (j = 0; j < i; j++) {
            const char *name = APR_ARRAY_IDX(columns, i, us_column).plain;

            if (strcmp(name, APR_ARRAY_IDX(columns, j, us_column).plain)
                == 0) {
                return apr_psprintf(pool,
                                    "UserSyncColumn: two fields go to the "
                                    "column %s",
                                    name);
            }
        }
    }
    return NULL;
}

/* How many bytes the last part of a quoted name has, where "" is a quote. */
static int last_part_bytes(const char *quoted)
{
    size_t i = strlen(quoted) - 1; /* the quote at its end */
    int bytes = 0;

    while (i > 0 && (quoted[--i] != '"' || (i > 0 && quoted[i - 1] == '"'))) {
        i -= quoted[i] == '"';
        bytes++;
    }
    return bytes;
}

/* PostgreSQL would cut a longer name of the table of tombstones, and find
 * another table or none. */
static const char *check_on_delete(apr_pool_t *pool,
                                   const us_server_conf *conf)
{
    static const char suffix[] = US_TOMBSTONES;
    apr_array_header_t *columns = us_config_columns(pool, conf);
    const char *table = us_config_table(conf);
    int most = NAME_BYTES - (int)strlen(suffix);

    if (conf->on_delete == US_ON_DELETE_MARK
        && us_columns_find(columns, US_FIELD_DELETED_AT) < 0) {
        return "UserSyncOnDelete Mark needs UserSyncColumn deleted_at COLUMN, "
               "a timestamptz column";
    }
    if (conf->on_delete == US_ON_DELETE_DELETE
        && last_part_bytes(table) > most) {
        return apr_psprintf(pool,
                            "UserSyncOnDelete Delete: the name of the table "
                            "of tombstones, that of UserSyncTable %s with %s "
                            "after it, is longer than PostgreSQL's %d bytes: "
                            "give the table a name of at most %d bytes",
                            table, suffix, NAME_BYTES, most);
    }
    return NULL;
}

/* Checks mod_dbd; its settings are visible only in the tree. */
static const char *check_database(apr_pool_t *pool, const us_conftree *found)
{
    const char *driver = found->driver;

    if (ap_find_linked_module("mod_dbd.c") == NULL) {
        return "mod_dbd is not loaded: add LoadModule dbd_module "
               "modules/mod_dbd.so (Debian: a2enmod dbd)";
    }
    if (driver == NULL) {
        return "DBDriver is missing: say DBDriver pgsql and DBDParams";
    }
    if (strcmp(driver, "pgsql") != 0) {
        return apr_psprintf(pool, "DBDriver is %s: mod_usersync needs pgsql",
                            driver);
    }
    return NULL;
}

static const char *size_text(apr_pool_t *pool, const us_dbd_size *size)
{
    return apr_psprintf(pool, "%s %d (%s)", size->name, size->value,
                        size->where != NULL ? size->where
                                            : "mod_dbd's default");
}

/*
 * Checks for sizes that apr_reslist_create refuses.  mod_dbd creates its pools
 * in the children, threaded or not, and continues without a pool: no request
 * ever gets a connection.
 */
static const char *check_pool_sizes(apr_pool_t *pool, const us_conftree *found)
{
    const us_dbd_size *sizes = found->sizes;
    int i;

    if (found->unpooled) {
        return NULL;
    }
    for (i = US_DBD_MIN; i < US_DBD_MAX; i++) {
        if (sizes[i].value > sizes[i + 1].value) {
            return apr_psprintf(
                pool,
                "%s is above %s: mod_dbd creates no pool of "
                "that size, and every login and every request "
                "at a gate or a hook would fail; DBDMin must not be "
                "above DBDKeep, nor DBDKeep above DBDMax",
                size_text(pool, &sizes[i]), size_text(pool, &sizes[i + 1]));
        }
    }
    return sizes[US_DBD_MAX].value > 0
               ? NULL
               : apr_psprintf(pool,
                              "%s allows no connection: every login and every "
                              "request at a gate or a hook would fail",
                              size_text(pool, &sizes[US_DBD_MAX]));
}

/* Trailers are merged into the headers after ours have been removed and set,
 * and before CGI variables are made from them. */
static int merges_trailers(const server_rec *s)
{
    const core_server_config *core
        = ap_get_core_module_config(s->module_config);

    return core->merge_trailers == AP_MERGE_TRAILERS_ENABLE;
}

/* Checks what a door beside the routes needs beside the database. */
static const char *check_cache(const us_server_conf *conf,
                               const us_server_conf *main_conf)
{
    return us_config_has_door(conf) && main_conf->cache == NULL
               ? us_cache_check_default()
               : NULL;
}

/*
 * Warns about a secret in a file that users other than root can read, or in
 * the configuration itself.  If httpd is started as root, the children's user
 * is one of them: CGI programs and applications run as that user.
 */
static void warn_about_place(apr_pool_t *pool, const server_rec *s,
                             const us_secret *secret, const char *directive)
{
    if (secret->exposed) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, s,
                     "US001: %s: the file of %s may be read or changed by "
                     "others than its owner; chmod 0600 suffices, httpd reads "
                     "it as root",
                     where(pool, s), directive);
    }
    else if (geteuid() == 0 && ap_unixd_config.user_id != 0
             && us_secret_is_readable_by(secret, ap_unixd_config.user_id,
                                         ap_unixd_config.group_id)) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, s,
                     "US001: %s: httpd's children, and so CGI programs and "
                     "applications, may read the file of %s; chown root and "
                     "chmod 0600 suffice, httpd reads it as root",
                     where(pool, s), directive);
    }
    if (secret->source == US_SECRET_INLINE) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, s,
                     "US002: %s: %s is in the configuration itself, where "
                     "mod_info and backups show it; use file:PATH",
                     where(pool, s), directive);
    }
}

/* Warns about hook secrets in the server where their lines are.  Those of one
 * line share their source. */
static void warn_about_hook_secrets(apr_pool_t *pool, const server_rec *s,
                                    const us_server_conf *conf,
                                    const us_server_conf *main_conf)
{
    const apr_array_header_t *secrets = conf->hook_secrets;
    const us_secret *last = NULL;
    int i;

    if (secrets == NULL
        || (conf != main_conf && secrets == main_conf->hook_secrets)) {
        return;
    }
    for (i = 0; i < secrets->nelts; i++) {
        const us_secret *source
            = APR_ARRAY_IDX(secrets, i, us_hook_secret).source;

        if (source != last) {
            warn_about_place(pool, s, source, "UserSyncHookSecret");
        }
        last = source;
    }
}

/* The same for the header of events. */
static void warn_about_event_header(apr_pool_t *pool, const server_rec *s,
                                    const us_server_conf *conf,
                                    const us_server_conf *main_conf)
{
    const us_event_header *header = conf->event_header;

    if (header != NULL
        && (conf == main_conf || header != main_conf->event_header)) {
        warn_about_place(pool, s, header->value, "UserSyncEventHeader");
    }
}

/* Does the key have rights that this module does not need? */
static int is_key_too_strong(apr_pool_t *pool, const us_server_conf *conf)
{
    us_key_kind kind = us_secret_key_kind(pool, conf->key);

    return kind == US_KEY_JWT_SERVICE
           || (kind == US_KEY_SECRET
               && us_config_forward_ip(conf) != US_FORWARD_SB);
}

/* Warns about a key in the server where its line is, not in vhosts that
 * inherit it. */
static void warn_about_key(apr_pool_t *pool, const server_rec *s,
                           const us_server_conf *conf,
                           const us_server_conf *main_conf)
{
    int inherited = conf != main_conf && conf->key == main_conf->key;

    if (!inherited) {
        warn_about_place(pool, s, conf->key, "UserSyncSupabaseKey");
    }
    if (is_key_too_strong(pool, conf)
        && !(inherited && is_key_too_strong(pool, main_conf))) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, s,
                     "US003: %s: UserSyncSupabaseKey is a secret or "
                     "service_role key: it has admin rights and switches "
                     "Supabase's captcha off; use the publishable key",
                     where(pool, s));
    }
}

/* Does this server itself have a UserSync line?  A vhost without one shares
 * the main server's configuration, including the pointer. */
static int has_own_lines(const server_rec *s, const server_rec *main_server)
{
    const us_server_conf *conf = us_config_server(s);

    return conf->own_lines
           && (s == main_server || conf != us_config_server(main_server));
}

/* One pass over all servers, the main server first. */
typedef struct check {
    apr_pool_t *pool;
    const server_rec *main_server;
    int main_uses_store;    /* then its vhosts do, too, as they inherit it */
    int main_misproxies;    /* the same */
    int main_is_unverified; /* the same */
} check;

/* Checks mod_dbd for a server that has a door.  What a vhost
 * inherits is reported for the main server instead, if that has one, too. */
static const char *check_store(const check *run, const server_rec *s,
                               const us_conftree *found, int asks)
{
    const char *wrong = asks ? check_database(run->pool, found) : NULL;

    if (wrong == NULL && found->driver != NULL
        && strcmp(found->driver, "pgsql") == 0
        && (s == run->main_server || found->own_sizes
            || !run->main_uses_store)) {
        wrong = check_pool_sizes(run->pool, found);
    }
    return wrong;
}

/* Checks the lines of a server against each other. */
static const char *check_lines(apr_pool_t *pool, const us_server_conf *conf)
{
    const char *wrong = check_proxy(pool, conf);

    wrong = wrong == NULL ? check_timeouts(conf) : wrong;
    wrong = wrong == NULL ? check_columns(pool, conf) : wrong;
    return wrong == NULL ? check_on_delete(pool, conf) : wrong;
}

/* Checks what mod_proxy forwards.  What is wrong in the main server is told for
 * that one alone. */
static const char *check_response(check *run, const server_rec *s)
{
    const char *unverified;
    const char *wrong;

    if (run->main_misproxies) {
        return NULL;
    }
    wrong = us_proxy_check(run->pool, s, run->main_server, &unverified);
    if (s == run->main_server) {
        run->main_misproxies = wrong != NULL;
    }
    if (wrong == NULL && unverified != NULL && !run->main_is_unverified) {
        run->main_is_unverified = s == run->main_server;
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, s,
                     "US004: %s: mod_ssl encrypts what is forwarded (%s), but "
                     "takes any server for Supabase, whose answers decide who "
                     "gets a row: say SSLProxyVerify require beside "
                     "SSLProxyEngine, with SSLProxyVerifyDepth and "
                     "SSLProxyCACertificateFile",
                     where(run->pool, s), unverified);
    }
    return wrong;
}

/* Returns what is wrong with one server, or NULL. */
static const char *find_fault(check *run, const server_rec *s,
                              const us_conftree *found)
{
    const us_server_conf *conf = us_config_server(s);
    int own_lines = has_own_lines(s, run->main_server);
    int has_handler
        = found->route != NULL || found->hook != NULL || found->event != NULL;
    int asks
        = has_handler
          || (own_lines
              && (us_config_has_gate(conf) || us_config_has_response(conf)));
    const char *wrong = check_handlers(run->pool, found);

    if (s == run->main_server) {
        run->main_uses_store = asks;
    }
    if (wrong == NULL && us_config_has_headers(conf) && merges_trailers(s)) {
        return "MergeTrailers On would let clients send X-User-Id after a "
               "body: UserSyncEnsureHeaders needs MergeTrailers Off";
    }
    /* A server that only passes values on to vhosts needs no project. */
    if (wrong == NULL && found->route != NULL) {
        wrong = check_project(conf);
    }
    if (wrong == NULL && found->hook != NULL) {
        wrong = check_hook(conf);
    }
    if (wrong == NULL && found->event != NULL) {
        wrong = check_event(run->pool, conf);
    }
    if (wrong == NULL && (has_handler || own_lines)) {
        wrong = check_lines(run->pool, conf);
    }
    if (wrong == NULL && (asks || run->main_uses_store)) {
        wrong = check_store(run, s, found, asks);
    }
    if (wrong == NULL && (has_handler || own_lines)) {
        wrong = check_cache(conf, us_config_server(run->main_server));
    }
    if (wrong == NULL && us_config_has_response(conf)) {
        wrong = check_response(run, s);
    }
    return wrong;
}

/* Checks one server; returns 0 if the configuration must not be used. */
static int check_server(check *run, server_rec *s)
{
    const us_server_conf *conf = us_config_server(s);
    us_conftree found = us_conftree_read(run->pool, s, run->main_server);
    const char *wrong = find_fault(run, s, &found);

    if (wrong != NULL) {
        ap_log_error(APLOG_MARK, APLOG_CRIT, 0, s, "US000: %s: %s",
                     where(run->pool, s), wrong);
        return 0;
    }
    if (has_own_lines(s, run->main_server)) {
        const us_server_conf *main_conf = us_config_server(run->main_server);

        if (conf->key != NULL) {
            warn_about_key(run->pool, s, conf, main_conf);
        }
        warn_about_hook_secrets(run->pool, s, conf, main_conf);
        warn_about_event_header(run->pool, s, conf, main_conf);
    }
    return 1;
}

int us_config_check(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp,
                    server_rec *s)
{
    check run = {.pool = ptemp, .main_server = s};
    int fine = 1;

    (void)pconf;
    (void)plog;
    for (; s != NULL; s = s->next) {
        fine &= check_server(&run, s);
    }
    return fine ? OK : HTTP_INTERNAL_SERVER_ERROR;
}

void us_config_notices(apr_pool_t *ptemp, server_rec *s)
{
    server_rec *main_server = s;
    const server_rec *first = NULL;
    int count = 0;

    for (; s != NULL; s = s->next) {
        const us_server_conf *conf = us_config_server(s);

        if (has_own_lines(s, main_server)
            && (us_config_is_complete(conf) || us_config_has_response(conf))
            && us_config_forward_ip(conf) == US_FORWARD_OFF) {
            first = first != NULL ? first : s;
            count++;
        }
    }
    if (count > 0) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, main_server,
                     "US010: %s%s: UserSyncForwardClientIP is Off: Supabase "
                     "counts all users as one client (30 logins at once, then "
                     "one every 2 s), so that some 32 wrong passwords from "
                     "one client lock out everybody",
                     where(ptemp, first),
                     count > 1 ? apr_psprintf(ptemp, " and %d more", count - 1)
                               : "");
    }
}
