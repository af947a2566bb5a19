/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "dbd_double.h"

#include <apr_dbd.h>
#include <apr_optional_hooks.h>
#include <apr_strings.h>

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

#define RECORDS 64 /* at most */

struct apr_dbd_driver_t {
    const char *name;
};

static const apr_dbd_driver_t driver = {"pgsql"};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static dbd_connect mode;
static dbd_counts counts;
static dbd_cfg_t settings;
static ap_dbd_t *idle[RECORDS];
static int idle_count;
static ap_dbd_t *lent[RECORDS];
static int made; /* connections that exist */
static _Atomic int inside;

/* Runs mod_dbd's hook like mod_dbd.  A hook's entry begins with its
 * function. */
static void run_post_connect(apr_pool_t *pool, ap_dbd_t *record)
{
    const apr_array_header_t *hooks = apr_optional_hook_get("post_connect");
    char *entry = hooks != NULL ? hooks->elts : NULL;
    int i;

    for (i = 0; hooks != NULL && i < hooks->nelts; i++) {
        dbd_HOOK_post_connect_t *const *function = (void *)entry;

        (*function)(pool, &settings, record);
        entry += hooks->elt_size;
    }
}

/* --- apr_dbd --- */

const char *apr_dbd_name(const apr_dbd_driver_t *of)
{
    return of->name;
}

void *apr_dbd_native_handle(const apr_dbd_driver_t *of, apr_dbd_t *handle)
{
    (void)of;
    return handle;
}

/* --- bookkeeping; with the mutex held --- */

static void note_lent(ap_dbd_t *record)
{
    int i;

    for (i = 0; i < RECORDS && lent[i] != NULL; i++) {
    }
    if (i == RECORDS) {
        counts.strange++;
        return;
    }
    lent[i] = record;
    counts.out++;
    if (counts.out > counts.most_out) {
        counts.most_out = counts.out;
    }
}

/* 0 when it was not lent. */
static int note_back(const ap_dbd_t *record)
{
    int i;

    for (i = 0; i < RECORDS; i++) {
        if (lent[i] == record) {
            lent[i] = NULL;
            counts.out--;
            return 1;
        }
    }
    counts.strange++;
    return 0;
}

/* --- connecting; with the mutex held, except while it hangs --- */

static int try_to_connect(void)
{
    counts.connects++;
    counts.hanging++;
    pthread_cond_broadcast(&changed);
    while (mode == DBD_HANGS) {
        pthread_cond_wait(&changed, &mutex);
    }
    counts.hanging--;
    if (mode == DBD_REFUSED) {
        counts.refused++;
        pthread_cond_broadcast(&changed);
        return 0;
    }
    return 1;
}

static ap_dbd_t *make_record(apr_pool_t *parent)
{
    apr_pool_t *own;
    ap_dbd_t *record;

    if (!try_to_connect() || apr_pool_create(&own, parent) != APR_SUCCESS) {
        return NULL;
    }
    record = apr_pcalloc(own, sizeof(*record));
    record->pool = own;
    record->driver = &driver;
    record->handle = apr_pcalloc(own, sizeof(*record->handle));
    run_post_connect(own, record);
    return record;
}

/* A connection from the reslist, or a new one. */
static ap_dbd_t *acquire(void)
{
    ap_dbd_t *record;

    if (idle_count > 0) {
        record = idle[--idle_count];
        if (record->handle->broken) {
            if (!try_to_connect()) {
                made--; /* mod_dbd closes it */
                return NULL;
            }
            record->handle->broken = 0;
        }
        return record;
    }
    if (made == settings.nmax) {
        counts.beyond_max++;
        return NULL;
    }
    made++;
    record = make_record(NULL);
    if (record == NULL) {
        made--;
    }
    return record;
}

/* --- mod_dbd --- */

static void come_in(void)
{
    int two = atomic_fetch_add(&inside, 1) != 0;
    sigset_t mask;

    pthread_sigmask(SIG_BLOCK, NULL, &mask);
    pthread_mutex_lock(&mutex);
    counts.two_inside += two;
    counts.unguarded += !sigismember(&mask, SIGTERM);
}

static void go_out(void)
{
    pthread_mutex_unlock(&mutex);
    atomic_fetch_sub(&inside, 1);
}

ap_dbd_t *ap_dbd_open(apr_pool_t *pool, server_rec *s)
{
    ap_dbd_t *record;

    (void)s;
    come_in();
    counts.opened++;
    record = settings.persist ? acquire() : make_record(pool);
    if (record != NULL) {
        note_lent(record);
    }
    go_out();
    return record;
}

void ap_dbd_close(server_rec *s, ap_dbd_t *record)
{
    (void)s;
    if (!settings.persist) { /* mod_dbd keeps none of those */
        pthread_mutex_lock(&mutex);
        note_back(record);
        pthread_mutex_unlock(&mutex);
        apr_pool_destroy(record->pool);
        return;
    }
    come_in();
    if (note_back(record)) {
        idle[idle_count++] = record;
    }
    go_out();
}

/* --- for the test --- */

void dbd_double_register(void)
{
    APR_REGISTER_OPTIONAL_FN(ap_dbd_open);
    APR_REGISTER_OPTIONAL_FN(ap_dbd_close);
}

void dbd_double_reset(int max, int persist)
{
    pthread_mutex_lock(&mutex);
    while (idle_count > 0) {
        apr_pool_destroy(idle[--idle_count]->pool);
    }
    memset(&counts, 0, sizeof(counts));
    memset(lent, 0, sizeof(lent));
    made = 0;
    mode = DBD_CONNECTS;
    settings.nkeep = 0;
    settings.exptime = 0;
    settings.nmax = max;
    settings.persist = persist;
    pthread_mutex_unlock(&mutex);
}

void dbd_double_keep(int keep, int exptime)
{
    pthread_mutex_lock(&mutex);
    settings.nkeep = keep;
    settings.exptime = exptime;
    pthread_mutex_unlock(&mutex);
}

void dbd_double_set(dbd_connect what)
{
    pthread_mutex_lock(&mutex);
    mode = what;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&mutex);
}

dbd_counts dbd_double_look(void)
{
    dbd_counts now;

    pthread_mutex_lock(&mutex);
    now = counts;
    pthread_mutex_unlock(&mutex);
    return now;
}

void dbd_double_await_refused(int count)
{
    pthread_mutex_lock(&mutex);
    while (counts.refused < count) {
        pthread_cond_wait(&changed, &mutex);
    }
    pthread_mutex_unlock(&mutex);
}

void dbd_double_await_hanging(void)
{
    pthread_mutex_lock(&mutex);
    while (mode != DBD_HANGS || counts.hanging == 0) {
        pthread_cond_wait(&changed, &mutex);
    }
    pthread_mutex_unlock(&mutex);
}
