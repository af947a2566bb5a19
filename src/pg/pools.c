/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The pools of a child, from its start to its end: one for each pool of
 * mod_dbd.
 */
#include "us_conftree.h"
#include "pool.h"

#include <ap_mpm.h>
#include <http_main.h>

#include <apr_hash.h>
#include <apr_strings.h>

#include <stdlib.h>
#include <string.h>

/* Of this child; complete after child_init. */
static us_pg_pool *pools;

/* mod_dbd's configuration of a server -> its pool.  The pointer is only
 * compared; an inherited one saves reading the configuration tree again. */
static apr_hash_t *pools_by_pointer;

/* mod_dbd's hook after each connect: the only way to see its settings. */
static apr_status_t remember_settings(apr_pool_t *pool, dbd_cfg_t *settings,
                                      ap_dbd_t *record)
{
    (void)pool;
    us_pg_conn_made(record);
    return apr_pool_userdata_setn(settings, US_PG_SETTINGS_KEY, NULL,
                                  record->pool);
}

void us_pg_register_hooks(void)
{
    APR_OPTIONAL_HOOK(dbd, post_connect, remember_settings, NULL, NULL,
                      APR_HOOK_MIDDLE);
}

/*
 * The child ends: whatever is lent must be returned before mod_dbd's pools are
 * destroyed, or apr-util's reslist aborts the child.  This matters in prefork,
 * whose SIGTERM handler runs this in the middle of a request.  If the handler
 * has interrupted a holder of the mutex, or mod_dbd, this does nothing.
 */
static apr_status_t stop_pool(void *data)
{
    us_pg_pool *pg = data;

    pools = NULL; /* they all end together */
    if (pthread_mutex_trylock(&pg->mutex) != 0) {
        return APR_SUCCESS;
    }
    if (!pg->inside) {
        for (; pg->lent != NULL; pg->lent = pg->lent->next) {
            pg->close(pg->server, pg->lent->record);
        }
        while (pg->warm_count > 0) {
            pg->close(pg->server, pg->warm[--pg->warm_count].record);
        }
        while (pg->spoiled_count > 0) {
            pg->close(pg->server, pg->spoiled[--pg->spoiled_count]);
        }
    }
    pthread_mutex_unlock(&pg->mutex);
    return APR_SUCCESS;
}

static apr_status_t free_blocks(void *data)
{
    us_pg_pool *pg = data;

    free(pg->blocks[0]);
    free(pg->blocks[1]);
    return APR_SUCCESS;
}

/*
 * mod_dbd makes one pool for servers whose lines mean the same, even if they
 * are written differently.  If two of ours share one of its pools, neither may
 * keep connections from the other.
 */
static void find_partners(us_pg_pool *pg)
{
    us_pg_pool *other;

    for (other = pools; other != NULL; other = other->next) {
        if (strcmp(other->database, pg->database) == 0) {
            other->shared = 1;
            pg->shared = 1;
        }
    }
}

static us_pg_pool *pool_create(apr_pool_t *pchild, server_rec *s,
                               const us_conftree *tree, us_pg_history *history)
{
    us_pg_pool *pg = apr_pcalloc(pchild, sizeof(*pg));
    int threaded = AP_MPMQ_NOT_SUPPORTED;

    pg->key = tree->dbd;
    pg->database = tree->database;
    find_partners(pg);
    pg->server = s;
    pg->history = history;
    pg->capacity = 1;
    pg->persistent = 1;
    pg->warm = apr_pcalloc(pchild, sizeof(*pg->warm));
    pg->spoiled = apr_pcalloc(pchild, sizeof(*pg->spoiled));
    pthread_mutex_init(&pg->mutex, NULL);
    us_pg_queue_init(&pg->queue);
    ap_mpm_query(AP_MPMQ_IS_THREADED, &threaded);
    pg->interruptible = threaded == AP_MPMQ_NOT_SUPPORTED;
    pg->open = APR_RETRIEVE_OPTIONAL_FN(ap_dbd_open);
    pg->close = APR_RETRIEVE_OPTIONAL_FN(ap_dbd_close);
    pg->next = pools;
    pools = pg;
    /* now, because a request must not use the child's pool */
    apr_pool_cleanup_register(pchild, pg, free_blocks, apr_pool_cleanup_null);
    apr_pool_pre_cleanup_register(pchild, pg, stop_pool);
    return pg;
}

us_pg_pool *us_pg_pool_get(apr_pool_t *pchild, server_rec *s,
                           apr_interval_time_t patience,
                           us_pg_history *history)
{
    module *dbd = ap_find_linked_module("mod_dbd.c");
    const void *pointer
        = dbd != NULL ? ap_get_module_config(s->module_config, dbd) : NULL;
    us_pg_pool *pg;

    if (pools == NULL) {
        pools_by_pointer = apr_hash_make(pchild);
    }
    pg = apr_hash_get(pools_by_pointer, &pointer, sizeof(pointer));
    if (pg == NULL) {
        us_conftree tree = us_conftree_read(pchild, s, ap_server_conf);

        for (pg = pools; pg != NULL && strcmp(pg->key, tree.dbd) != 0;
             pg = pg->next) {
        }
        if (pg == NULL) {
            pg = pool_create(pchild, s, &tree, history);
        }
        apr_hash_set(pools_by_pointer,
                     apr_pmemdup(pchild, &pointer, sizeof(pointer)),
                     sizeof(pointer), pg);
    }
    pg->patience = patience > pg->patience ? patience : pg->patience;
    return pg;
}

const char *us_pg_pool_lines(const us_pg_pool *pg)
{
    return pg->key;
}
