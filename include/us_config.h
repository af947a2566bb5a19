/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_config.h: what the directives say.
 *
 * The structs hold what was written, US_UNSET or NULL where nothing was;
 * defaults are resolved by the getters, so that merging never has to tell a
 * default from a value.  Read-only once the server runs.
 */
#ifndef US_CONFIG_H
#define US_CONFIG_H

#include "usersync.h"
#include "us_secret.h"

#include <httpd.h>
#include <http_config.h>
#include <ap_expr.h>

#define US_UNSET (-1)

typedef enum us_forward_ip {
    US_FORWARD_OFF,
    US_FORWARD_SB, /* Sb-Forwarded-For */
    US_FORWARD_X   /* X-Forwarded-For */
} us_forward_ip;

/* Where in Supabase's user object a column's value comes from. */
typedef enum us_field_kind {
    US_FIELD_ID,
    US_FIELD_EMAIL,
    US_FIELD_PHONE,
    US_FIELD_USER_METADATA,
    US_FIELD_APP_METADATA
} us_field_kind;

typedef struct us_column {
    us_field_kind field;
    const char *key;    /* NAME of ..._metadata.NAME, else NULL */
    const char *quoted; /* for SQL; NULL: None, not written */
    const char *plain;
} us_column;

/* The provider of httpd's small-object cache that UserSyncCache names. */
typedef struct us_cache_choice us_cache_choice;

typedef struct us_server_conf {
    const char *url; /* base, ends in /auth/v1 */
    us_secret *key;
    apr_interval_time_t timeout;
    apr_interval_time_t register_timeout;
    apr_interval_time_t connect_timeout;
    apr_interval_time_t store_timeout;
    const char *ca_file;
    const char *proxy;           /* "": None said explicitly */
    int forward_ip;              /* us_forward_ip */
    const char *table;           /* quoted for SQL */
    apr_array_header_t *columns; /* of us_column, as written */
    int max_concurrent;          /* requests; US_UNSET: as a percentage */
    int max_concurrent_percent;  /* of all request threads */
    int breaker_failures;        /* 0: Off */
    apr_interval_time_t breaker_duration;
    us_cache_choice *cache;
    apr_interval_time_t cache_timeout;
    int gate;      /* UserSyncEnsure is On somewhere in this server */
    int headers;   /* UserSyncEnsureHeaders is */
    int own_lines; /* a UserSync directive stands in this server */
} us_server_conf;

typedef enum us_on_error { US_ON_ERROR_DENY, US_ON_ERROR_ALLOW } us_on_error;

typedef struct us_dir_conf {
    apr_int64_t max_body_size;       /* bytes */
    int ensure;                      /* On or Off */
    const ap_expr_info_t *user_expr; /* NULL: r->user */
    const ap_expr_info_t *email_expr;
    int no_email;       /* 1: None, 0: email_expr, US_UNSET: neither said */
    int on_error;       /* us_on_error */
    int ensure_headers; /* On or Off */
} us_dir_conf;

void *us_config_create_server(apr_pool_t *pool, server_rec *s);
void *us_config_merge_server(apr_pool_t *pool, void *base, void *add);
void *us_config_create_dir(apr_pool_t *pool, char *dir);
void *us_config_merge_dir(apr_pool_t *pool, void *base, void *add);

/* The configuration of a server or of a request's place; never NULL. */
us_server_conf *us_config_server(const server_rec *s);
us_dir_conf *us_config_dir(const request_rec *r);

/* Getters: the value written or the default. */
apr_interval_time_t us_config_timeout(const us_server_conf *conf);
apr_interval_time_t us_config_register_timeout(const us_server_conf *conf);
apr_interval_time_t us_config_connect_timeout(const us_server_conf *conf);
apr_interval_time_t us_config_store_timeout(const us_server_conf *conf);
us_forward_ip us_config_forward_ip(const us_server_conf *conf);
const char *us_config_table(const us_server_conf *conf);
/* At most one of the two is positive, the other one is 0. */
int us_config_max_concurrent(const us_server_conf *conf);
int us_config_max_concurrent_percent(const us_server_conf *conf);
int us_config_breaker_failures(const us_server_conf *conf); /* 0: Off */
apr_interval_time_t us_config_breaker_duration(const us_server_conf *conf);
apr_interval_time_t us_config_cache_timeout(const us_server_conf *conf);
apr_size_t us_config_max_body_size(const us_dir_conf *conf);
int us_config_ensure(const us_dir_conf *conf);
int us_config_ensure_headers(const us_dir_conf *conf);
us_on_error us_config_on_error(const us_dir_conf *conf);

/* Add a UserSyncColumn line; an earlier one for the same field is replaced. */
void us_config_set_column(apr_array_header_t *columns,
                          const us_column *column);

/*
 * The columns that are written: id first, e-mail second unless it is None,
 * then the others as configured.  In pool, of us_column.
 */
apr_array_header_t *us_config_columns(apr_pool_t *pool,
                                      const us_server_conf *conf);

/* Does httpd only show its configuration?  Then no key is loaded. */
int us_config_is_dump(void);

/* Is there a project to talk to? */
int us_config_is_complete(const us_server_conf *conf);

/* The directive table (us_directives.c). */
extern const command_rec us_directives[];

/*
 * check_config hook (us_config_check.c): every rule that needs more than one
 * directive.  Runs under configtest, where post_config does not.
 */
int us_config_check(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp,
                    server_rec *s);

/* Start-up notices that are no errors; called once from post_config. */
void us_config_notices(apr_pool_t *ptemp, server_rec *s);

/* Names of the handlers, from the route table in mod_usersync.c. */
extern const char *const us_route_names[];

#endif /* US_CONFIG_H */
