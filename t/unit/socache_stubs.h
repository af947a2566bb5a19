/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * socache_stubs.h: a provider of a small object cache, "list", that a test can
 * inspect; "shmcb" is the same under that name.
 */
#ifndef SOCACHE_STUBS_H
#define SOCACHE_STUBS_H

#include <ap_socache.h>

#include <apr_global_mutex.h>

#define STUB_SOCACHE_MAX 64
#define STUB_SOCACHE_KEY 64

typedef struct stub_socache_entry {
    apr_time_t expiry;
    unsigned key_len;
    unsigned value_len;
    unsigned char key[STUB_SOCACHE_KEY];
    unsigned char value[32];
} stub_socache_entry;

/* Is "shmcb" loaded?  Initially yes. */
extern int stub_socache_has_shmcb;

/* What was stored, in that order; an equal key replaces. */
extern stub_socache_entry stub_socache[STUB_SOCACHE_MAX];
extern int stub_socache_count;

/* The arguments of the provider; "": none. */
extern const char *stub_socache_args;

/* The hints that init got. */
extern struct ap_socache_hints stub_socache_hints;

/* Is it between init and destroy? */
extern int stub_socache_alive;

/* What all its functions return; initially APR_SUCCESS. */
extern apr_status_t stub_socache_rv;

/* AP_SOCACHE_FLAG_NOTMPSAFE or 0, for both. */
void stub_socache_flags(unsigned flags);

/* The mutex that ap_global_mutex_create created last. */
extern apr_global_mutex_t *stub_global_mutex;

/* The file of the next mutexes, without which a child cannot join; NULL, the
 * initial value: they need none. */
extern const char *stub_global_mutex_file;

#endif /* SOCACHE_STUBS_H */
