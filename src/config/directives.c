/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The directives.  A setter validates before it stores; its message names the
 * directive, the value and what is allowed.
 */
#include "us_cafile.h"
#include "us_config.h"
#include "us_log.h"
#include "us_values.h"
#include "directives.h"

#include <http_core.h>

#include <apr_strings.h>

#include <string.h>

/* Bounds: a timeout shorter than 100 ms fails on any hiccup, one over a minute
 * outlives every client. */
#define TIMEOUT_MIN apr_time_from_msec(100)
#define TIMEOUT_MAX apr_time_from_sec(60)
#define MAX_CONCURRENT_MAX 100000
#define BREAKER_FAILURES_MAX 1000
#define CACHE_TIMEOUT_MIN apr_time_from_sec(1)
#define CACHE_TIMEOUT_MAX apr_time_from_sec(86400)
#define MAX_BODY_SIZE_MIN 256
#define MAX_BODY_SIZE_MAX ((apr_size_t)1024 * 1024)

us_server_conf *us_directive_own_conf(cmd_parms *cmd)
{
    us_server_conf *conf = us_config_server(cmd->server);

    conf->own_lines = 1;
    return conf;
}

/* "DIRECTIVE wrong", or NULL if nothing is wrong. */
static const char *named(cmd_parms *cmd, const char *wrong)
{
    return wrong == NULL
               ? NULL
               : apr_pstrcat(cmd->pool, cmd->cmd->name, " ", wrong, NULL);
}

static const char *set_url(cmd_parms *cmd, void *dir, const char *arg)
{
    const char *url = NULL;
    const char *wrong = us_value_supabase_url(cmd->pool, arg, &url);

    (void)dir;
    if (wrong == NULL) {
        us_directive_own_conf(cmd)->url = url;
    }
    return named(cmd, wrong);
}

/* Loads a secret; what: "API key" or the like. */
static const char *load_secret(cmd_parms *cmd, const char *arg,
                               const char *what, us_secret **secret)
{
    const char *wrong = us_secret_load(cmd->pool, cmd->temp_pool, arg, secret);

    return wrong == NULL
               ? NULL
               : apr_psprintf(cmd->pool,
                              "%s takes file:PATH, exec:COMMAND or the %s "
                              "itself: %s",
                              cmd->cmd->name, what, wrong);
}

static const char *set_key(cmd_parms *cmd, void *dir, const char *arg)
{
    us_secret *key = NULL;
    const char *wrong;

    (void)dir;
    if (us_config_is_dump()) {
        return NULL; /* a dump prints lines but runs no commands */
    }
    wrong = load_secret(cmd, arg, "API key", &key);
    if (wrong == NULL) {
        us_directive_own_conf(cmd)->key = key;
    }
    return wrong;
}

/* Every duration is stored by its offset, which is in cmd->info. */
static const char *set_duration(cmd_parms *cmd, void *dir, const char *arg)
{
    apr_interval_time_t value = 0;
    const char *wrong
        = us_value_duration(cmd->pool, arg, TIMEOUT_MIN, TIMEOUT_MAX, &value);

    (void)dir;
    if (wrong == NULL) {
        char *conf = (char *)us_directive_own_conf(cmd);

        *(apr_interval_time_t *)(void *)(conf + (apr_size_t)cmd->info) = value;
    }
    return named(cmd, wrong);
}

static const char *set_ca_file(cmd_parms *cmd, void *dir, const char *arg)
{
    const char *path = ap_server_root_relative(cmd->pool, arg);
    const char *wrong = path == NULL ? "is not a valid path"
                                     : us_cafile_check(cmd->pool, path);

    (void)dir;
    if (wrong != NULL) {
        return apr_psprintf(cmd->pool,
                            "%s takes a file of PEM certificates: \"%s\" %s",
                            cmd->cmd->name, arg, wrong);
    }
    us_directive_own_conf(cmd)->ca_file = path;
    return NULL;
}

static const char *set_proxy(cmd_parms *cmd, void *dir, const char *arg)
{
    const char *url = "";
    const char *wrong = NULL;

    (void)dir;
    if (strcasecmp(arg, "None") != 0) {
        wrong = us_value_proxy_url(cmd->pool, arg, &url);
    }
    if (wrong == NULL) {
        us_directive_own_conf(cmd)->proxy = url;
    }
    return named(cmd, wrong);
}

static const char *set_forward_ip(cmd_parms *cmd, void *dir, const char *arg)
{
    int value;

    (void)dir;
    if (strcasecmp(arg, "Off") == 0) {
        value = US_FORWARD_OFF;
    }
    else if (strcasecmp(arg, "Sb-Forwarded-For") == 0) {
        value = US_FORWARD_SB;
    }
    else if (strcasecmp(arg, "X-Forwarded-For") == 0) {
        value = US_FORWARD_X;
    }
    else {
        return apr_psprintf(cmd->pool,
                            "%s takes Off, Sb-Forwarded-For or "
                            "X-Forwarded-For, not \"%s\"",
                            cmd->cmd->name, arg);
    }
    us_directive_own_conf(cmd)->forward_ip = value;
    return NULL;
}

static const char *set_table(cmd_parms *cmd, void *dir, const char *arg)
{
    const char *quoted = NULL;
    const char *wrong = us_value_table(cmd->pool, arg, &quoted);

    (void)dir;
    if (wrong == NULL) {
        us_directive_own_conf(cmd)->table = quoted;
    }
    return named(cmd, wrong);
}

static const char *set_column(cmd_parms *cmd, void *dir, const char *field,
                              const char *name)
{
    us_column column;
    const char *wrong = us_column_parse(cmd->pool, field, name, &column);
    us_server_conf *conf;

    (void)dir;
    if (wrong != NULL) {
        return named(cmd, wrong);
    }
    conf = us_directive_own_conf(cmd);
    if (conf->columns == NULL) {
        conf->columns = apr_array_make(cmd->pool, 4, sizeof(us_column));
    }
    us_columns_set(conf->columns, &column);
    return NULL;
}

static const char *set_on_delete(cmd_parms *cmd, void *dir, const char *arg)
{
    static const struct {
        const char *name;
        us_on_delete value;
    } rules[] = {{"Keep", US_ON_DELETE_KEEP},
                 {"Mark", US_ON_DELETE_MARK},
                 {"Delete", US_ON_DELETE_DELETE}};
    apr_size_t i;

    (void)dir;
    for (i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
        if (strcasecmp(arg, rules[i].name) == 0) {
            us_directive_own_conf(cmd)->on_delete = (int)rules[i].value;
            return NULL;
        }
    }
    return apr_psprintf(cmd->pool, "%s takes Keep, Mark or Delete, not \"%s\"",
                        cmd->cmd->name, arg);
}

static const char *set_max_body_size(cmd_parms *cmd, void *dir,
                                     const char *arg)
{
    us_dir_conf *conf = dir;
    apr_size_t value = 0;
    const char *wrong = us_value_bytes(cmd->pool, arg, MAX_BODY_SIZE_MIN,
                                       MAX_BODY_SIZE_MAX, &value);

    if (wrong == NULL) {
        conf->max_body_size = value;
    }
    return named(cmd, wrong);
}

static const char *parse_share(cmd_parms *cmd, const char *arg, int has_off,
                               int *number, int *percent)
{
    const char *wrong = ap_check_cmd_context(cmd, GLOBAL_ONLY);
    us_share share;

    if (wrong != NULL) {
        return wrong;
    }
    wrong
        = us_value_share(cmd->pool, arg, has_off, MAX_CONCURRENT_MAX, &share);
    if (wrong == NULL) {
        us_directive_own_conf(cmd);
        *number = share.number;
        *percent = share.percent;
    }
    return named(cmd, wrong);
}

static const char *set_max_concurrent(cmd_parms *cmd, void *dir,
                                      const char *arg)
{
    us_server_conf *conf = us_config_server(cmd->server);

    (void)dir;
    return parse_share(cmd, arg, 0, &conf->max_concurrent,
                       &conf->max_concurrent_percent);
}

static const char *set_max_per_client(cmd_parms *cmd, void *dir,
                                      const char *arg)
{
    us_server_conf *conf = us_config_server(cmd->server);

    (void)dir;
    return parse_share(cmd, arg, 1, &conf->max_per_client,
                       &conf->max_per_client_percent);
}

static const char *set_breaker(cmd_parms *cmd, void *dir, const char *failures,
                               const char *duration)
{
    const char *wrong = ap_check_cmd_context(cmd, GLOBAL_ONLY);
    apr_interval_time_t pause = US_UNSET;
    us_server_conf *conf;
    int count = 0;

    (void)dir;
    if (wrong != NULL) {
        return wrong;
    }
    if (duration == NULL && strcasecmp(failures, "Off") != 0) {
        wrong = apr_psprintf(cmd->pool,
                             "takes Off or FAILURES DURATION, such as 5 10s, "
                             "not \"%s\"",
                             failures);
    }
    else if (duration != NULL) {
        wrong = us_value_count(cmd->pool, failures, 1, BREAKER_FAILURES_MAX,
                               &count);
        if (wrong == NULL) {
            wrong
                = us_value_duration(cmd->pool, duration, apr_time_from_sec(1),
                                    apr_time_from_sec(3600), &pause);
        }
    }
    if (wrong == NULL) {
        conf = us_directive_own_conf(cmd);
        conf->breaker_failures = count;
        conf->breaker_duration = pause;
    }
    return named(cmd, wrong);
}

/* --- the hooks --- */

/* Each line adds secrets; a server with a line of its own inherits none. */
static const char *set_hook_secret(cmd_parms *cmd, void *dir, const char *arg)
{
    us_server_conf *conf = us_directive_own_conf(cmd);
    us_secret *secret = NULL;
    const char *wrong;

    (void)dir;
    if (us_config_is_dump()) {
        return NULL;
    }
    wrong = load_secret(cmd, arg, "secret", &secret);
    if (wrong != NULL) {
        return wrong;
    }
    if (conf->hook_secrets == NULL) {
        conf->hook_secrets
            = apr_array_make(cmd->pool, 2, sizeof(us_hook_secret));
    }
    wrong = us_hook_secret_add(cmd->pool, secret, conf->hook_secrets);
    return wrong == NULL ? NULL
                         : apr_pstrcat(cmd->pool, cmd->cmd->name,
                                       ": the secret ", wrong, NULL);
}

static const char *set_cache(cmd_parms *cmd, void *dir, const char *arg)
{
    const char *wrong = ap_check_cmd_context(cmd, GLOBAL_ONLY);
    us_cache_choice *choice = NULL;

    (void)dir;
    if (wrong != NULL) {
        return wrong;
    }
    wrong = us_cache_choose(cmd->pool, cmd->temp_pool, arg, &choice);
    if (wrong == NULL) {
        us_directive_own_conf(cmd)->cache = choice;
    }
    return named(cmd, wrong);
}

static const char *set_cache_timeout(cmd_parms *cmd, void *dir,
                                     const char *arg)
{
    apr_interval_time_t value = 0;
    const char *wrong = us_value_duration(cmd->pool, arg, CACHE_TIMEOUT_MIN,
                                          CACHE_TIMEOUT_MAX, &value);

    (void)dir;
    if (wrong == NULL) {
        us_directive_own_conf(cmd)->cache_timeout = value;
    }
    return named(cmd, wrong);
}

static const char *set_hook_forward(cmd_parms *cmd, void *dir, const char *arg)
{
    const char *url = "";
    const char *wrong = NULL;

    (void)dir;
    if (strcasecmp(arg, "None") != 0) {
        wrong = us_value_hook_url(cmd->pool, arg, &url);
    }
    if (wrong == NULL) {
        us_directive_own_conf(cmd)->hook_forward = url;
    }
    return named(cmd, wrong);
}

/* --- events --- */

static const char *set_event_header(cmd_parms *cmd, void *dir,
                                    const char *name, const char *value)
{
    us_event_header *header = NULL;
    const char *wrong;

    (void)dir;
    if (us_config_is_dump()) {
        return NULL;
    }
    wrong = us_event_header_make(cmd->pool, cmd->temp_pool, name, value,
                                 &header);
    if (wrong == NULL) {
        us_directive_own_conf(cmd)->event_header = header;
    }
    return named(cmd, wrong);
}

/* --- the status page --- */

static const char *set_server_status(cmd_parms *cmd, void *dir, int on)
{
    (void)dir;
    us_directive_own_conf(cmd)->server_status = on;
    return NULL;
}

#define DURATION(name, member, help)                                       \
    AP_INIT_TAKE1(name, set_duration,                                      \
                  (void *)APR_OFFSETOF(us_server_conf, member), RSRC_CONF, \
                  help)

const command_rec us_directives[] = {
    AP_INIT_TAKE1("UserSyncSupabaseURL", set_url, NULL, RSRC_CONF,
                  "the project's URL, e.g. https://abcdefgh.supabase.co"),
    AP_INIT_TAKE1("UserSyncSupabaseKey", set_key, NULL, RSRC_CONF,
                  "the project's publishable API key: file:PATH, "
                  "exec:COMMAND or the key itself"),
    DURATION("UserSyncTimeout", timeout,
             "how long a login may take at Supabase, e.g. 5s"),
    DURATION("UserSyncRegisterTimeout", register_timeout,
             "how long a sign-up may take at Supabase, e.g. 12s"),
    DURATION("UserSyncConnectTimeout", connect_timeout,
             "how long connecting to Supabase may take, e.g. 2s"),
    AP_INIT_TAKE1("UserSyncCACertificateFile", set_ca_file, NULL, RSRC_CONF,
                  "PEM file of the CAs that may have signed Supabase's "
                  "certificate"),
    AP_INIT_TAKE1("UserSyncProxy", set_proxy, NULL, RSRC_CONF,
                  "forward proxy towards Supabase, or None"),
    AP_INIT_TAKE1("UserSyncForwardClientIP", set_forward_ip, NULL, RSRC_CONF,
                  "Off, Sb-Forwarded-For or X-Forwarded-For"),
    AP_INIT_TAKE1("UserSyncTable", set_table, NULL, RSRC_CONF,
                  "the users table: [schema.]table"),
    AP_INIT_TAKE2("UserSyncColumn", set_column, NULL, RSRC_CONF,
                  "a field of Supabase's user and the column it goes to, or "
                  "None"),
    AP_INIT_TAKE1("UserSyncOnDelete", set_on_delete, NULL, RSRC_CONF,
                  "what becomes of the row of a user who is deleted at "
                  "Supabase: Keep, Mark or Delete"),
    DURATION("UserSyncStoreTimeout", store_timeout,
             "how long looking up and writing the row may take, e.g. 3s"),
    AP_INIT_TAKE1("UserSyncMaxBodySize", set_max_body_size, NULL,
                  RSRC_CONF | ACCESS_CONF,
                  "largest request body in bytes, e.g. 8192"),
    AP_INIT_TAKE1("UserSyncMaxConcurrent", set_max_concurrent, NULL, RSRC_CONF,
                  "how many requests may wait for Supabase at a time: a "
                  "number, or a percentage of all request threads"),
    AP_INIT_TAKE1("UserSyncMaxPerClient", set_max_per_client, NULL, RSRC_CONF,
                  "how many of these one client may hold when they become "
                  "scarce: Off, a number, or a percentage"),
    AP_INIT_TAKE12("UserSyncCircuitBreaker", set_breaker, NULL, RSRC_CONF,
                   "Off, or after how many failures in a row Supabase is "
                   "left alone for how long, e.g. 5 10s"),
    AP_INIT_FLAG("UserSyncEnsure", us_set_ensure, NULL,
                 RSRC_CONF | ACCESS_CONF,
                 "On: authenticated users have a row before their requests "
                 "are handled"),
    AP_INIT_TAKE1("UserSyncEnsureUser", us_set_ensure_user, NULL,
                  RSRC_CONF | ACCESS_CONF,
                  "expression for the user's id, e.g. %{REMOTE_USER}"),
    AP_INIT_TAKE1("UserSyncEnsureEmail", us_set_ensure_email, NULL,
                  RSRC_CONF | ACCESS_CONF,
                  "expression for the user's e-mail, or None"),
    AP_INIT_TAKE1("UserSyncEnsureOnError", us_set_on_error,
                  (void *)APR_OFFSETOF(us_dir_conf, on_error),
                  RSRC_CONF | ACCESS_CONF,
                  "Deny or Allow requests while the database is away"),
    AP_INIT_FLAG("UserSyncEnsureHeaders", us_set_ensure_headers, NULL,
                 RSRC_CONF | ACCESS_CONF,
                 "On: tell a back end who the user is in request headers"),
    AP_INIT_TAKE1("UserSyncCache", set_cache, NULL, RSRC_CONF,
                  "where known users are kept: a provider of httpd's small "
                  "object cache with its arguments, e.g. shmcb, or none"),
    AP_INIT_TAKE1("UserSyncCacheTimeout", set_cache_timeout, NULL, RSRC_CONF,
                  "how long a user counts as known, e.g. 5mi"),
    AP_INIT_TAKE1("UserSyncHookSecret", set_hook_secret, NULL, RSRC_CONF,
                  "the secret of Supabase's hooks: file:PATH, exec:COMMAND or "
                  "v1,whsec_... itself; several lines for a rotation"),
    AP_INIT_TAKE1("UserSyncHookOnError", us_set_on_error,
                  (void *)APR_OFFSETOF(us_dir_conf, hook_on_error),
                  RSRC_CONF | ACCESS_CONF,
                  "Deny or Allow tokens while the database is away"),
    AP_INIT_TAKE1("UserSyncHookForward", set_hook_forward, NULL, RSRC_CONF,
                  "the project's own hook, asked once the row is sure: a URL "
                  "or None"),
    AP_INIT_TAKE2("UserSyncEventHeader", set_event_header, NULL, RSRC_CONF,
                  "the header by which Database Webhooks prove themselves: "
                  "its name, and file:PATH, exec:COMMAND or its value"),
    AP_INIT_TAKE1(
        "UserSyncEnsureResponse", us_set_response, NULL,
        RSRC_CONF | ACCESS_CONF,
        "On, Report or Off: whether no session that mod_proxy brings "
        "from Supabase reaches a client before the user's row is "
        "there"),
    AP_INIT_TAKE1(
        "UserSyncProxyAdmin", us_set_proxy_admin, NULL,
        RSRC_CONF | ACCESS_CONF,
        "Deny or Allow requests of administrators through mod_proxy"),
    AP_INIT_TAKE1("UserSyncProxyHeaders", us_set_proxy_headers, NULL,
                  RSRC_CONF | ACCESS_CONF,
                  "Remove or Keep Supabase's headers sb-auth-... in its "
                  "answers"),
    AP_INIT_FLAG("UserSyncServerStatus", set_server_status, NULL, RSRC_CONF,
                 "On: mod_status' page has a block about mod_usersync"),
    {NULL}};
