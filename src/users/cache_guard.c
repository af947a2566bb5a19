/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "cache_guard.h"
#include "us_clock.h"
#include "us_log.h"
#include "us_shm.h"

#include <ap_mpm.h>

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

/* For the threads of a child, or for children with a single thread. */
#define PLACES 2
#define PLACES_OF_CHILDREN 4

/* A call that takes longer than this hangs. */
#define HANGS_AFTER apr_time_from_msec(100)

/* How long to wait for a place in all, and in one step. */
#define WAIT_TIME apr_time_from_msec(5)
#define WAIT_STEP 250 /* usec */

/* The pause between two tries while the server hangs. */
#define TRY_PAUSE apr_time_from_sec(1)

/*
 * Which process is inside, and since when, in one word, so that both are read
 * together: the time (msec) above the pid.  0: the place is free.  In shared
 * memory it may have any value.
 */
typedef _Atomic apr_uint64_t guard_place;

#define PID_BITS 22 /* PID_MAX_LIMIT of Linux, proc(5) */
#define PID_MASK ((1U << PID_BITS) - 1)

typedef struct guard_words {
    guard_place places[PLACES_OF_CHILDREN];
    _Atomic apr_int64_t next_try; /* while the server hangs */
} guard_words;

static us_shm memory;         /* of all children, for single threads */
static guard_words own_words; /* of this child, for its threads */
static guard_words *words = &own_words;
static int places = PLACES;
static _Atomic int is_hung; /* as far as this child has seen and logged */

apr_status_t us_cache_guard_share(apr_pool_t *pconf)
{
    return us_shm_create(&memory, pconf, sizeof(guard_words));
}

void us_cache_guard_child_init(void)
{
    int threaded = AP_MPMQ_NOT_SUPPORTED;

    ap_mpm_query(AP_MPMQ_IS_THREADED, &threaded);
    words = &own_words;
    places = PLACES;
    if (threaded == AP_MPMQ_NOT_SUPPORTED && memory.counters != NULL) {
        words = memory.counters;
        places = PLACES_OF_CHILDREN;
    }
}

static void tell_hung(server_rec *s)
{
    if (atomic_exchange(&is_hung, 1) == 0) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, s,
                     "US017: the cache of known users does not answer: users "
                     "are looked up in the table meanwhile; see the server "
                     "that UserSyncCache names");
    }
}

static void tell_works(server_rec *s)
{
    if (atomic_load(&is_hung) && atomic_exchange(&is_hung, 0) != 0) {
        ap_log_error(APLOG_MARK, APLOG_NOTICE, 0, s,
                     "US017: the cache of known users answers again");
    }
}

static apr_uint64_t occupied(apr_int64_t now)
{
    return ((apr_uint64_t)apr_time_as_msec(now) << PID_BITS)
           | ((apr_uint64_t)getpid() & PID_MASK);
}

static apr_interval_time_t time_inside(apr_uint64_t word, apr_int64_t now)
{
    return now - apr_time_from_msec((apr_int64_t)(word >> PID_BITS));
}

/* Has a thread been inside for too long?  A child that was killed in there has
 * left its place behind; this frees it. */
static int somebody_hangs(void)
{
    int i;

    for (i = 0; i < places; i++) {
        apr_uint64_t word = atomic_load(&words->places[i]);
        /* read later than the word, which is not from the future then */
        apr_interval_time_t time = time_inside(word, us_clock_now());
        pid_t pid = (pid_t)(word & PID_MASK);

        if (word == 0 || (time >= 0 && time < HANGS_AFTER)) {
            continue;
        }
        if (pid == 0 || (kill(pid, 0) != 0 && errno == ESRCH)) {
            atomic_compare_exchange_strong(&words->places[i], &word, 0);
            continue;
        }
        return 1;
    }
    return 0;
}

/* While the server hangs: is this the call that tries? */
static int may_try(apr_int64_t now)
{
    apr_int64_t due = atomic_load(&words->next_try);

    return (due <= now || due > now + TRY_PAUSE)
           && atomic_compare_exchange_strong(&words->next_try, &due,
                                             now + TRY_PAUSE);
}

static int take_place(apr_uint64_t word)
{
    int i;

    for (i = 0; i < places; i++) {
        apr_uint64_t nobody = 0;

        if (atomic_load(&words->places[i]) == 0
            && atomic_compare_exchange_strong(&words->places[i], &nobody,
                                              word)) {
            return i;
        }
    }
    return -1;
}

static void free_place(us_cache_place place)
{
    apr_uint64_t word = place.word;

    atomic_compare_exchange_strong(&words->places[place.index], &word, 0);
}

int us_cache_guard_enter(server_rec *s, us_cache_place *place)
{
    apr_int64_t now = us_clock_now();
    apr_int64_t end = now + WAIT_TIME;

    place->word = occupied(now);
    place->index = take_place(place->word);
    while (place->index < 0 && now < end && !somebody_hangs()) {
        apr_sleep(WAIT_STEP);
        now = us_clock_now();
        place->word = occupied(now);
        place->index = take_place(place->word);
    }
    if (somebody_hangs()) {
        tell_hung(s);
    }
    if (place->index >= 0 && atomic_load(&is_hung) && !may_try(now)) {
        free_place(*place);
        return 0;
    }
    return place->index >= 0;
}

void us_cache_guard_leave(server_rec *s, us_cache_place place, int works)
{
    int quick = time_inside(place.word, us_clock_now()) < HANGS_AFTER;

    free_place(place);
    if (!quick) {
        tell_hung(s);
    }
    else if (works) {
        tell_works(s);
    }
}
