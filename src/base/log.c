/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "us_clock.h"
#include "us_log.h"

#include <apr_lib.h>

#include <pthread.h>

/* A persistent cause is logged once in this time. */
#define QUIET apr_time_from_sec(10)

/* How many causes are remembered at a time. */
#define CAUSES 64

/* Per child.  Only failures get here, so a mutex costs nothing. */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct cause {
    apr_uint64_t hash;
    apr_time_t due; /* no line before it; in the past: the entry is free */
    unsigned kept_back;
} causes[CAUSES];

/* FNV-1a over everything that distinguishes causes. */
static apr_uint64_t hash_of(const void *scope, us_outcome outcome,
                            const char *cause)
{
    apr_uint64_t hash = 14695981039346656037ULL;

    hash = (hash ^ (apr_uint64_t)(apr_uintptr_t)scope) * 1099511628211ULL;
    hash = (hash ^ (apr_uint64_t)outcome) * 1099511628211ULL;
    for (; cause != NULL && *cause != '\0'; cause++) {
        if (!apr_isdigit(*cause)) {
            hash = (hash ^ (unsigned char)*cause) * 1099511628211ULL;
        }
    }
    return hash;
}

int us_log_permit(const void *scope, us_outcome outcome, const char *cause,
                  unsigned *suppressed)
{
    apr_uint64_t hash = hash_of(scope, outcome, cause);
    apr_time_t now = us_clock_now();
    struct cause *found = NULL;
    int permit = 1;
    int i;

    *suppressed = 0;
    pthread_mutex_lock(&mutex);
    for (i = 0; i < CAUSES && (found == NULL || found->hash != hash); i++) {
        if (causes[i].hash == hash
            || (found == NULL && causes[i].due <= now)) {
            found = &causes[i];
        }
    }
    if (found != NULL && found->hash == hash && now < found->due) {
        found->kept_back++;
        permit = 0;
    }
    else if (found != NULL) { /* none: too many causes to suppress any */
        *suppressed = found->hash == hash ? found->kept_back : 0;
        found->hash = hash;
        found->due = now + QUIET;
        found->kept_back = 0;
    }
    pthread_mutex_unlock(&mutex);
    return permit;
}
