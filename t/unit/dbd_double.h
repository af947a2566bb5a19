/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * dbd_double.h: a stand-in for mod_dbd with the two functions that we call.
 * Like mod_dbd, it lends connections and connects inside that call.  It counts
 * what would make mod_dbd's threads queue, wait without end, or abort.  The
 * test controls its PostgreSQL.
 */
#ifndef DBD_DOUBLE_H
#define DBD_DOUBLE_H

#include <httpd.h>

#include <apr_dbd.h>

#include <mod_dbd.h>

/* Stands for a PGconn, and for apr_dbd's handle of it. */
struct apr_dbd_t {
    int holders; /* how many threads have borrowed it: atomic */
    int broken;  /* mod_dbd replaces it before it lends it again */
    long used;   /* by its holder, without a lock */
};

/* What a connect does. */
typedef enum dbd_connect {
    DBD_CONNECTS,
    DBD_REFUSED,
    DBD_HANGS /* until the test sets something else */
} dbd_connect;

typedef struct dbd_counts {
    int connects; /* tried */
    int opened;   /* ap_dbd_open called */
    int refused;
    int hanging;    /* now */
    int out;        /* now */
    int most_out;   /* ever */
    int two_inside; /* two threads at a time in ap_dbd_open or _close */
    int beyond_max; /* asked while DBDMax were out: would wait without end */
    int strange;    /* given back twice, or never lent */
    int unguarded;  /* entered while SIGTERM could interrupt it */
} dbd_counts;

/* Call it once: makes the functions available for retrieval. */
void dbd_double_register(void);

/* A new mod_dbd without connections: DBDMax, DBDPersist; DBDKeep 0. */
void dbd_double_reset(int max, int persist);

/* Sets DBDKeep and DBDExptime (seconds, 0: none), before the first connection
 * is opened. */
void dbd_double_keep(int keep, int exptime);

void dbd_double_set(dbd_connect what);

dbd_counts dbd_double_look(void);

/* Returns when this many connects have been refused, or when one hangs. */
void dbd_double_await_refused(int count);
void dbd_double_await_hanging(void);

#endif /* DBD_DOUBLE_H */
