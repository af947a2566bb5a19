/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * pg/pool.h: what pg/pools.c (start and stop) and pg/pool.c (lending) share.
 * Only they include it.
 */
#ifndef US_PG_POOL_H
#define US_PG_POOL_H

#include "conn.h"
#include "queue.h"

#include <apr_atomic.h>

#include <pthread.h>

/* Our hook stores the settings of mod_dbd's pool under this key. */
#define US_PG_SETTINGS_KEY "usersync-dbd-settings"

/* A connection that waits for its next borrower. */
typedef struct us_pg_warm {
    ap_dbd_t *record;
    apr_time_t since;
    int doubtful; /* another one turned out to lead nowhere */
} us_pg_warm;

/* pg/pool.c explains the lists. */
struct us_pg_pool {
    const char *key;      /* mod_dbd's lines that are in effect */
    const char *database; /* those that identify the database */
    int shared; /* another pool of ours may be the same for mod_dbd */
    server_rec *server;
    APR_OPTIONAL_FN_TYPE(ap_dbd_open) *open; /* mod_dbd's; NULL: not loaded */
    APR_OPTIONAL_FN_TYPE(ap_dbd_close) *close;
    int interruptible; /* prefork: SIGTERM can end the child anywhere */
    apr_interval_time_t patience;
    pthread_mutex_t mutex;
    us_pg_queue queue;
    int capacity;               /* DBDMax; 1 until it is known */
    int keep;                   /* how many warm ones stay */
    apr_interval_time_t expiry; /* of warm ones; DBDExptime, 0: none */
    apr_time_t visited;         /* when mod_dbd was last entered */
    int known;                  /* settings have been seen */
    int persistent;             /* DBDPersist */
    int out;
    int inside;
    apr_time_t inside_since;
    apr_time_t next_try;            /* no connect before this time */
    apr_time_t trouble_last;        /* the latest failure in this trouble */
    apr_time_t trouble_since;       /* 0: connecting works */
    volatile apr_uint32_t troubled; /* trouble_since != 0, without the mutex */
    volatile apr_uint32_t forgets;  /* a pooler loses prepared statements */
    us_pg_warm *warm;               /* the oldest first; room for capacity */
    int warm_count;
    ap_dbd_t **spoiled; /* room for capacity */
    void *blocks[2];    /* both lists, once DBDMax is known */
    int spoiled_count;
    us_pg_conn *lent;
    us_pg_history *history;
    us_pg_pool *next;
};

#endif /* US_PG_POOL_H */
