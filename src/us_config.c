/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "us_config.h"
#include "us_log.h"

#include <httpd.h>
#include <http_core.h>

#include <string.h>

/* Defaults, in one place; README and conf/usersync.conf repeat them. */
#define US_DEFAULT_TIMEOUT apr_time_from_sec(5)
/* GoTrue sends the confirmation mail within the request and gives up after
 * ten seconds: shorter than that would leave accounts of unknown fate. */
#define US_DEFAULT_REGISTER_TIMEOUT apr_time_from_sec(12)
#define US_DEFAULT_CONNECT_TIMEOUT apr_time_from_sec(2)
#define US_DEFAULT_STORE_TIMEOUT apr_time_from_sec(3)
#define US_DEFAULT_TABLE "\"public\".\"users\""
#define US_DEFAULT_MAX_CONCURRENT_PERCENT 50
#define US_DEFAULT_BREAKER_FAILURES 5
#define US_DEFAULT_BREAKER_DURATION apr_time_from_sec(10)
#define US_DEFAULT_CACHE_TIMEOUT apr_time_from_sec(300)
#define US_DEFAULT_MAX_BODY_SIZE 8192

/* --- create and merge --- */

void *us_config_create_server(apr_pool_t *pool, server_rec *s)
{
    us_server_conf *conf = apr_pcalloc(pool, sizeof(*conf));

    (void)s;
    conf->timeout = US_UNSET;
    conf->register_timeout = US_UNSET;
    conf->connect_timeout = US_UNSET;
    conf->store_timeout = US_UNSET;
    conf->forward_ip = US_UNSET;
    conf->max_concurrent = US_UNSET;
    conf->max_concurrent_percent = US_UNSET;
    conf->breaker_failures = US_UNSET;
    conf->breaker_duration = US_UNSET;
    conf->cache_timeout = US_UNSET;
    return conf;
}

/* A field is the same if its kind and, for metadata, its key are. */
static int same_field(const us_column *a, const us_column *b)
{
    return a->field == b->field
           && (a->key == NULL || strcmp(a->key, b->key) == 0);
}

void us_config_set_column(apr_array_header_t *columns, const us_column *column)
{
    int i;

    for (i = 0; i < columns->nelts; i++) {
        if (same_field(&APR_ARRAY_IDX(columns, i, us_column), column)) {
            APR_ARRAY_IDX(columns, i, us_column) = *column;
            return;
        }
    }
    APR_ARRAY_PUSH(columns, us_column) = *column;
}

/* base with every field that add names replaced, and the new ones behind. */
static apr_array_header_t *merge_columns(apr_pool_t *pool,
                                         apr_array_header_t *base,
                                         apr_array_header_t *add)
{
    apr_array_header_t *merged;
    int i;

    if (base == NULL || add == NULL) {
        return add != NULL ? add : base;
    }
    merged = apr_array_copy(pool, base);
    for (i = 0; i < add->nelts; i++) {
        us_config_set_column(merged, &APR_ARRAY_IDX(add, i, us_column));
    }
    return merged;
}

#define MERGE_SET(member, unset) \
    merged->member = add->member != (unset) ? add->member : base->member

void *us_config_merge_server(apr_pool_t *pool, void *base_void, void *add_void)
{
    const us_server_conf *base = base_void;
    const us_server_conf *add = add_void;
    us_server_conf *merged = apr_pcalloc(pool, sizeof(*merged));

    MERGE_SET(url, NULL);
    MERGE_SET(key, NULL);
    MERGE_SET(timeout, US_UNSET);
    MERGE_SET(register_timeout, US_UNSET);
    MERGE_SET(connect_timeout, US_UNSET);
    MERGE_SET(store_timeout, US_UNSET);
    MERGE_SET(ca_file, NULL);
    MERGE_SET(proxy, NULL);
    MERGE_SET(forward_ip, US_UNSET);
    MERGE_SET(table, NULL);
    MERGE_SET(max_concurrent, US_UNSET);
    MERGE_SET(max_concurrent_percent, US_UNSET);
    MERGE_SET(breaker_failures, US_UNSET);
    MERGE_SET(breaker_duration, US_UNSET);
    MERGE_SET(cache, NULL);
    MERGE_SET(cache_timeout, US_UNSET);
    /* what a section of the main server says holds in its vhosts, too */
    merged->gate = base->gate || add->gate;
    merged->headers = base->headers || add->headers;
    merged->columns = merge_columns(pool, base->columns, add->columns);
    merged->own_lines = add->own_lines; /* intent is never inherited */
    return merged;
}

void *us_config_create_dir(apr_pool_t *pool, char *dir)
{
    us_dir_conf *conf = apr_pcalloc(pool, sizeof(*conf));

    (void)dir;
    conf->max_body_size = US_UNSET;
    conf->ensure = US_UNSET;
    conf->no_email = US_UNSET;
    conf->on_error = US_UNSET;
    conf->ensure_headers = US_UNSET;
    return conf;
}

void *us_config_merge_dir(apr_pool_t *pool, void *base_void, void *add_void)
{
    const us_dir_conf *base = base_void;
    const us_dir_conf *add = add_void;
    const us_dir_conf *email = add->no_email != US_UNSET ? add : base;
    us_dir_conf *merged = apr_pcalloc(pool, sizeof(*merged));

    MERGE_SET(max_body_size, US_UNSET);
    MERGE_SET(ensure, US_UNSET);
    MERGE_SET(user_expr, NULL);
    MERGE_SET(on_error, US_UNSET);
    MERGE_SET(ensure_headers, US_UNSET);
    /* one directive sets these two */
    merged->no_email = email->no_email;
    merged->email_expr = email->email_expr;
    return merged;
}

/* --- getters --- */

us_server_conf *us_config_server(const server_rec *s)
{
    return ap_get_module_config(s->module_config, &usersync_module);
}

us_dir_conf *us_config_dir(const request_rec *r)
{
    return ap_get_module_config(r->per_dir_config, &usersync_module);
}

static apr_interval_time_t or_default(apr_interval_time_t value,
                                      apr_interval_time_t fallback)
{
    return value != US_UNSET ? value : fallback;
}

apr_interval_time_t us_config_timeout(const us_server_conf *conf)
{
    return or_default(conf->timeout, US_DEFAULT_TIMEOUT);
}

apr_interval_time_t us_config_register_timeout(const us_server_conf *conf)
{
    return or_default(conf->register_timeout, US_DEFAULT_REGISTER_TIMEOUT);
}

apr_interval_time_t us_config_connect_timeout(const us_server_conf *conf)
{
    return or_default(conf->connect_timeout, US_DEFAULT_CONNECT_TIMEOUT);
}

apr_interval_time_t us_config_store_timeout(const us_server_conf *conf)
{
    return or_default(conf->store_timeout, US_DEFAULT_STORE_TIMEOUT);
}

us_forward_ip us_config_forward_ip(const us_server_conf *conf)
{
    return conf->forward_ip != US_UNSET ? (us_forward_ip)conf->forward_ip
                                        : US_FORWARD_OFF;
}

int us_config_max_concurrent(const us_server_conf *conf)
{
    return conf->max_concurrent != US_UNSET ? conf->max_concurrent : 0;
}

int us_config_max_concurrent_percent(const us_server_conf *conf)
{
    if (conf->max_concurrent != US_UNSET) {
        return 0;
    }
    return conf->max_concurrent_percent != US_UNSET
               ? conf->max_concurrent_percent
               : US_DEFAULT_MAX_CONCURRENT_PERCENT;
}

int us_config_breaker_failures(const us_server_conf *conf)
{
    return conf->breaker_failures != US_UNSET ? conf->breaker_failures
                                              : US_DEFAULT_BREAKER_FAILURES;
}

apr_interval_time_t us_config_breaker_duration(const us_server_conf *conf)
{
    return or_default(conf->breaker_duration, US_DEFAULT_BREAKER_DURATION);
}

apr_interval_time_t us_config_cache_timeout(const us_server_conf *conf)
{
    return or_default(conf->cache_timeout, US_DEFAULT_CACHE_TIMEOUT);
}

const char *us_config_table(const us_server_conf *conf)
{
    return conf->table != NULL ? conf->table : US_DEFAULT_TABLE;
}

apr_size_t us_config_max_body_size(const us_dir_conf *conf)
{
    return conf->max_body_size != US_UNSET ? (apr_size_t)conf->max_body_size
                                           : US_DEFAULT_MAX_BODY_SIZE;
}

int us_config_ensure(const us_dir_conf *conf)
{
    return conf->ensure == 1;
}

int us_config_ensure_headers(const us_dir_conf *conf)
{
    return conf->ensure_headers == 1;
}

us_on_error us_config_on_error(const us_dir_conf *conf)
{
    return conf->on_error != US_UNSET ? (us_on_error)conf->on_error
                                      : US_ON_ERROR_DENY;
}

/* Put column into list: once per field, None not at all. */
static void push_column(apr_array_header_t *list, const us_column *column)
{
    if (column->quoted != NULL && list->nelts < US_MAX_COLUMNS) {
        APR_ARRAY_PUSH(list, us_column) = *column;
    }
}

apr_array_header_t *us_config_columns(apr_pool_t *pool,
                                      const us_server_conf *conf)
{
    apr_array_header_t *list = apr_array_make(pool, 4, sizeof(us_column));
    us_column id = {US_FIELD_ID, NULL, "\"id\"", "id"};
    us_column email = {US_FIELD_EMAIL, NULL, "\"email\"", "email"};
    const us_column *written = conf->columns != NULL
                                   ? (const us_column *)conf->columns->elts
                                   : NULL;
    int count = conf->columns != NULL ? conf->columns->nelts : 0;
    int i;

    for (i = 0; i < count; i++) {
        if (written[i].field == US_FIELD_ID) {
            id = written[i];
        }
        else if (written[i].field == US_FIELD_EMAIL) {
            email = written[i];
        }
    }
    push_column(list, &id);
    push_column(list, &email);
    for (i = 0; i < count; i++) {
        if (written[i].field != US_FIELD_ID
            && written[i].field != US_FIELD_EMAIL) {
            push_column(list, &written[i]);
        }
    }
    return list;
}

int us_config_is_dump(void)
{
    /* mod_info's dump is an ordinary configtest with a name defined */
    return ap_state_query(AP_SQ_RUN_MODE) == AP_SQ_RM_CONFIG_DUMP
           || ap_exists_config_define("DUMP_CONFIG");
}

int us_config_is_complete(const us_server_conf *conf)
{
    return conf->url != NULL && conf->key != NULL;
}
