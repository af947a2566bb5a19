/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_config.h: the configuration.
 *
 * The structs hold what was configured; the getters add the defaults, so that
 * merging never has to tell a default from a value.  config/options.h lists
 * the members, their defaults and how they merge.  Read-only once the server
 * runs.
 */
#ifndef US_CONFIG_H
#define US_CONFIG_H

#include "usersync.h"
#include "us_cache_choice.h"
#include "us_columns.h"
#include "us_event_header.h"
#include "us_hook_secret.h"
#include "us_secret.h"
#include "config/options.h"

#include <httpd.h>
#include <http_config.h>
#include <ap_expr.h>

typedef enum us_forward_ip {
    US_FORWARD_OFF,
    US_FORWARD_SB, /* Sb-Forwarded-For */
    US_FORWARD_X   /* X-Forwarded-For */
} us_forward_ip;

typedef enum us_on_error { US_ON_ERROR_DENY, US_ON_ERROR_ALLOW } us_on_error;

/* What becomes of an answer that mod_proxy brings and whose user has no row. */
typedef enum us_response_mode {
    US_RESPONSE_OFF,
    US_RESPONSE_REPORT, /* it goes out, and is counted */
    US_RESPONSE_ON      /* it is withheld */
} us_response_mode;

/* What becomes of the row of a user who is deleted at Supabase. */
typedef enum us_on_delete {
    US_ON_DELETE_KEEP,
    US_ON_DELETE_MARK,
    US_ON_DELETE_DELETE
} us_on_delete;

#define US_MEMBER(type, name, start, rest, directive, kind) type name;

typedef struct us_server_conf {
    US_SERVER_OPTIONS(US_MEMBER, US_MEMBER)
} us_server_conf;

typedef struct us_dir_conf {
    US_DIR_OPTIONS(US_MEMBER, US_MEMBER)
} us_dir_conf;

/* Getters: the configured value, or the default. */
#define US_NO_GETTER(type, name, start, rule, directive, kind)
#define US_SERVER_GETTER(type, name, unset, fallback, directive, kind) \
    static inline type us_config_##name(const us_server_conf *conf)    \
    {                                                                  \
        return conf->name != (unset) ? conf->name : (type)(fallback);  \
    }
#define US_DIR_GETTER(type, name, unset, fallback, directive, kind)   \
    static inline type us_config_##name(const us_dir_conf *conf)      \
    {                                                                 \
        return conf->name != (unset) ? conf->name : (type)(fallback); \
    }

US_SERVER_OPTIONS(US_SERVER_GETTER, US_NO_GETTER)
US_DIR_OPTIONS(US_DIR_GETTER, US_NO_GETTER)

/* Is UserSyncEnsure, or UserSyncEnsureHeaders, On anywhere in a server? */
static inline int us_config_has_gate(const us_server_conf *conf)
{
    return us_config_gate_level(conf) || conf->gate_inside;
}

static inline int us_config_has_headers(const us_server_conf *conf)
{
    return us_config_headers_level(conf) || conf->headers_inside;
}

/* Is UserSyncEnsureResponse On or Report anywhere in a server? */
static inline int us_config_has_response(const us_server_conf *conf)
{
    return us_config_response_level(conf) || conf->response_inside;
}

/* Does a server know what Supabase proves itself with, to a hook or an event
 * door? */
static inline int us_config_has_secrets(const us_server_conf *conf)
{
    return conf->hook_secrets != NULL || conf->event_header != NULL;
}

/* Has a server a door beside the routes, one that is worth a cache? */
static inline int us_config_has_door(const us_server_conf *conf)
{
    return us_config_has_gate(conf) || us_config_has_response(conf)
           || us_config_has_secrets(conf);
}

void *us_config_create_server(apr_pool_t *pool, server_rec *s);
void *us_config_merge_server(apr_pool_t *pool, void *base, void *add);
void *us_config_create_dir(apr_pool_t *pool, char *dir);
void *us_config_merge_dir(apr_pool_t *pool, void *base, void *add);

/* The configuration of a server, or the one for a request; never NULL. */
us_server_conf *us_config_server(const server_rec *s);
us_dir_conf *us_config_dir(const request_rec *r);

/* How many of these seats one client may hold when seats are scarce: at least
 * 1, or all of them if the limit is Off. */
apr_int64_t us_config_client_share(const us_server_conf *conf,
                                   apr_int64_t seats);

/* The columns to write, see us_columns_complete. */
apr_array_header_t *us_config_columns(apr_pool_t *pool,
                                      const us_server_conf *conf);

/* What UserSyncOnDelete says, or Mark where deleted_at has a column and Keep
 * elsewhere. */
us_on_delete us_config_delete_rule(const us_server_conf *conf,
                                   const apr_array_header_t *columns);

/* Does httpd only print its configuration?  Then no key is loaded. */
int us_config_is_dump(void);

/* Is a project configured? */
int us_config_is_complete(const us_server_conf *conf);

/* What the circuits of a server's proxied requests are called: the project, or
 * where none is configured the server itself. */
const char *us_config_project_name(const server_rec *s);

/* The directive table (config/directives.c). */
extern const command_rec us_directives[];

/*
 * check_config hook (config/config_check.c): checks every rule that involves
 * more than one directive.  Also runs under configtest, where post_config does
 * not.
 */
int us_config_check(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp,
                    server_rec *s);

/* Warns about unwise settings that work; called once from post_config. */
void us_config_notices(apr_pool_t *ptemp, server_rec *s);

#endif /* US_CONFIG_H */
