/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Rules that need more than one directive.  They run in check_config, which
 * configtest reaches and post_config is not.
 */
#include "us_cache.h"
#include "us_config.h"
#include "us_conftree.h"
#include "us_log.h"
#include "us_pg.h"

#include <http_core.h>

#include <apr_strings.h>

#include <string.h>

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

/* What is wrong with the routes and the project, or NULL. */
static const char *check_project(apr_pool_t *pool, const us_server_conf *conf,
                                 const us_conftree *found)
{
    if (found->unknown != NULL) {
        return apr_psprintf(pool,
                            "SetHandler %s: there is no such route; "
                            "usersync-register and usersync-login are",
                            found->unknown);
    }
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

/* mod_dbd's part; its own settings can be seen in the tree only. */
static const char *check_database(apr_pool_t *pool, const us_conftree *found)
{
    const char *driver = found->driver;

    if (!us_pg_available()) {
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

/* Trailers that are merged into the headers come when ours have been taken
 * away and set, and before CGI variables are made of them. */
static int merges_trailers(const server_rec *s)
{
    const core_server_config *core
        = ap_get_core_module_config(s->module_config);

    return core->merge_trailers == AP_MERGE_TRAILERS_ENABLE;
}

/* The gate's partners, but for the database. */
static const char *check_gate(apr_pool_t *pool, const us_server_conf *conf,
                              const us_server_conf *main_conf,
                              const us_conftree *found)
{
    const char *circular = found->circular;

    /* where the main server takes headers away itself, it is told */
    if (circular == NULL && !main_conf->headers) {
        circular = found->circular_above;
    }
    if (conf->headers && circular != NULL) {
        return apr_psprintf(pool,
                            "UserSyncEnsureHeaders takes away what clients "
                            "send as X-User-Id, X-User-Email and "
                            "X-Usersync-Outcome: an expression cannot read "
                            "it: %s",
                            circular);
    }
    return conf->gate && main_conf->cache == NULL
               ? us_cache_check_default(pool)
               : NULL;
}

static void warn_about_key(apr_pool_t *pool, const server_rec *s,
                           const us_server_conf *conf)
{
    us_key_kind kind = us_secret_key_kind(pool, conf->key);

    if (conf->key->source == US_SECRET_INLINE) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, s,
                     "US002: %s: UserSyncSupabaseKey stands in the "
                     "configuration itself, where mod_info and backups show "
                     "it; use file:PATH",
                     where(pool, s));
    }
    if (kind == US_KEY_JWT_SERVICE
        || (kind == US_KEY_SECRET
            && us_config_forward_ip(conf) != US_FORWARD_SB)) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, s,
                     "US003: %s: UserSyncSupabaseKey is a secret or "
                     "service_role key: it has admin rights and switches "
                     "Supabase's captcha off; use the publishable key",
                     where(pool, s));
    }
}

/* Does a line of ours stand in this very server?  A vhost without one shares
 * the main server's configuration, pointer and all. */
static int has_own_lines(const server_rec *s, const server_rec *main_server)
{
    const us_server_conf *conf = us_config_server(s);

    return conf->own_lines
           && (s == main_server || conf != us_config_server(main_server));
}

/* Everything about one server; 0 when the configuration must not be used. */
static int check_server(apr_pool_t *ptemp, server_rec *s,
                        const server_rec *main_server)
{
    us_server_conf *conf = us_config_server(s);
    us_conftree found = us_conftree_read(ptemp, s, main_server);
    int own_lines = has_own_lines(s, main_server);
    int uses_store;
    const char *wrong = NULL;

    if (conf->headers && merges_trailers(s)) {
        wrong = "MergeTrailers On would let clients send X-User-Id behind a "
                "body: UserSyncEnsureHeaders needs MergeTrailers Off";
    }
    else if (!own_lines && found.route == NULL && found.unknown == NULL) {
        return 1; /* this server never asked for us */
    }
    uses_store = found.route != NULL || (own_lines && conf->gate);
    /* Lines that only lend values to vhosts need no project of their own. */
    if (wrong == NULL && (found.route != NULL || found.unknown != NULL)) {
        wrong = check_project(ptemp, conf, &found);
    }
    if (wrong == NULL) {
        wrong = check_timeouts(conf);
    }
    if (wrong == NULL) {
        wrong = check_columns(ptemp, conf);
    }
    if (wrong == NULL && uses_store) {
        wrong = check_database(ptemp, &found);
    }
    if (wrong == NULL) {
        wrong = check_gate(ptemp, conf, us_config_server(main_server), &found);
    }
    if (wrong != NULL) {
        ap_log_error(APLOG_MARK, APLOG_CRIT, 0, s, "US000: %s: %s",
                     where(ptemp, s), wrong);
        return 0;
    }
    if (conf->key != NULL && own_lines) {
        warn_about_key(ptemp, s, conf);
    }
    return 1;
}

int us_config_check(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp,
                    server_rec *s)
{
    const server_rec *main_server = s;
    int fine = 1;

    (void)pconf;
    (void)plog;
    for (; s != NULL; s = s->next) {
        fine &= check_server(ptemp, s, main_server);
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

        if (has_own_lines(s, main_server) && us_config_is_complete(conf)
            && us_config_forward_ip(conf) == US_FORWARD_OFF) {
            first = first != NULL ? first : s;
            count++;
        }
    }
    if (count > 0) {
        ap_log_error(APLOG_MARK, APLOG_NOTICE, 0, main_server,
                     "US010: %s%s: UserSyncForwardClientIP is Off: all users "
                     "share one Supabase rate bucket (30 logins at once, then "
                     "one each 2 s)",
                     where(ptemp, first),
                     count > 1 ? apr_psprintf(ptemp, " and %d more", count - 1)
                               : "");
    }
}
