/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "us_config.h"
#include "us_log.h"

#include <httpd.h>
#include <http_core.h>

/* --- create and merge --- */

/* base with the fields of add, which replace its own or are appended. */
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
        us_columns_set(merged, &APR_ARRAY_IDX(add, i, us_column));
    }
    return merged;
}

#define START(type, name, start, rest, directive, kind) conf->name = (start);
#define MERGE_SET(type, name, unset, fallback, directive, kind) \
    merged->name = add->name != (unset) ? add->name : base->name;
#define MERGE_BY_RULE(type, name, start, rule, directive, kind) \
    merged->name = (rule);

void *us_config_create_server(apr_pool_t *pool, server_rec *s)
{
    us_server_conf *conf = apr_pcalloc(pool, sizeof(*conf));

    (void)s;
    US_SERVER_OPTIONS(START, START)
    return conf;
}

void *us_config_merge_server(apr_pool_t *pool, void *base_void, void *add_void)
{
    const us_server_conf *base = base_void;
    const us_server_conf *add = add_void;
    us_server_conf *merged = apr_pcalloc(pool, sizeof(*merged));

    US_SERVER_OPTIONS(MERGE_SET, MERGE_BY_RULE)
    return merged;
}

void *us_config_create_dir(apr_pool_t *pool, char *dir)
{
    us_dir_conf *conf = apr_pcalloc(pool, sizeof(*conf));

    (void)dir;
    US_DIR_OPTIONS(START, START)
    return conf;
}

void *us_config_merge_dir(apr_pool_t *pool, void *base_void, void *add_void)
{
    const us_dir_conf *base = base_void;
    const us_dir_conf *add = add_void;
    us_dir_conf *merged = apr_pcalloc(pool, sizeof(*merged));

    US_DIR_OPTIONS(MERGE_SET, MERGE_BY_RULE)
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

apr_int64_t us_config_client_share(const us_server_conf *conf,
                                   apr_int64_t seats)
{
    apr_int64_t most = us_config_max_per_client(conf);
    int percent = us_config_max_per_client_percent(conf);

    if (most == 0) {
        most = percent > 0 ? seats * percent / 100 : seats;
    }
    return most > 1 ? most : 1;
}

apr_array_header_t *us_config_columns(apr_pool_t *pool,
                                      const us_server_conf *conf)
{
    return us_columns_complete(pool, conf->columns);
}

us_on_delete us_config_delete_rule(const us_server_conf *conf,
                                   const apr_array_header_t *columns)
{
    if (conf->on_delete != US_UNSET) {
        return (us_on_delete)conf->on_delete;
    }
    return us_columns_find(columns, US_FIELD_DELETED_AT) >= 0
               ? US_ON_DELETE_MARK
               : US_ON_DELETE_KEEP;
}

int us_config_is_dump(void)
{
    /* mod_info's dump is an ordinary configtest with this name defined */
    return ap_state_query(AP_SQ_RUN_MODE) == AP_SQ_RM_CONFIG_DUMP
           || ap_exists_config_define("DUMP_CONFIG");
}

int us_config_is_complete(const us_server_conf *conf)
{
    return conf->url != NULL && conf->key != NULL;
}

const char *us_config_project_name(const server_rec *s)
{
    const us_server_conf *conf = us_config_server(s);

    if (conf->url != NULL) {
        return conf->url;
    }
    return s->server_hostname != NULL ? s->server_hostname : "localhost";
}
