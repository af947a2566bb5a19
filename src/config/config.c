/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "us_config.h"
#include "us_log.h"

#include <httpd.h>
#include <http_core.h>

#include <string.h>

/* --- create and merge --- */

/* Two fields are the same if their kind and, for metadata, their key are. */
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
        us_config_set_column(merged, &APR_ARRAY_IDX(add, i, us_column));
    }
    return merged;
}

#define START(type, name, start, rest) conf->name = (start);
#define MERGE_SET(type, name, unset, fallback) \
    merged->name = add->name != (unset) ? add->name : base->name;
#define MERGE_BY_RULE(type, name, start, rule) merged->name = (rule);

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

/* Appends a column to list, unless it is None. */
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

int us_config_has_email(const apr_array_header_t *columns)
{
    return columns->nelts > 1
           && APR_ARRAY_IDX(columns, 1, us_column).field == US_FIELD_EMAIL;
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
