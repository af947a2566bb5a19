/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_pg_pool.h: what us_pg_pools.c (start and stop) and us_pg_pool.c (lending)
 * share.  Nobody else includes it.
 */
#ifndef US_PG_POOL_H
#define US_PG_POOL_H

#include "us_pg_conn.h"

#include <apr_atomic.h>

#include <pthread.h>

/* A pool of mod_dbd's keeps its settings here, put there by our hook. */
#define US_PG_SETTINGS_KEY "usersync-dbd-settings"

/* A connection that waits for its next borrower. */
typedef struct us_pg_warm {
    ap_dbd_t *record;
    apr_time_t since;
} us_pg_warm;

/* us_pg_pool.c says what the lists are for. */
struct us_pg_pool {
    const char *key;      /* mod_dbd's lines that are in force */
    const char *database; /* what of them says where it is */
    int shared; /* another pool here may be the same one of mod_dbd's */
    server_rec *server;
    APR_OPTIONAL_FN_TYPE(ap_dbd_open) *open; /* mod_dbd's; NULL: not loaded */
    APR_OPTIONAL_FN_TYPE(ap_dbd_close) *close;
    int interruptible; /* prefork: SIGTERM ends the child within whatever */
    apr_interval_time_t patience;
    pthread_mutex_t mutex;
    pthread_cond_t changed;     /* on CLOCK_MONOTONIC */
    int capacity;               /* DBDMax; 1 until it is known */
    int keep;                   /* warm ones that stay */
    apr_interval_time_t expiry; /* of those; DBDExptime, 0: none */
    apr_time_t visited;         /* when mod_dbd was last entered */
    int known;                  /* settings have been seen */
    int persistent;             /* DBDPersist */
    int out;
    int waiting;
    int inside;
    apr_time_t inside_since;
    apr_time_t next_try;            /* no connect before this time */
    apr_time_t trouble_last;        /* the last failure of that time */
    apr_time_t trouble_since;       /* 0: connecting works */
    volatile apr_uint32_t troubled; /* trouble_since != 0, to be peeked at */
    volatile apr_uint32_t forgets;  /* a pooler loses prepared statements */
    us_pg_warm *warm;               /* the oldest first; room for capacity */
    int warm_count;
    ap_dbd_t **spoiled; /* room for capacity */
    void *blocks[2];    /* both lists, once DBDMax is known */
    int spoiled_count;
    us_pg_conn *lent;
    us_pg_pool *next;
};

#endif /* US_PG_POOL_H */
