/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "us_clock.h"
#include "flight.h"

#include <string.h>
#include <time.h>

/* Of this child.  There are never more leaders or followers than threads. */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static us_flight *leaders;

/* A thread that looks for this user, and has begun since their standing
 * changed last. */
static us_flight *find_leader(const void *table, const char *id,
                              us_sight sight)
{
    us_flight *leader;

    for (leader = leaders; leader != NULL; leader = leader->next) {
        if (leader->table == table && leader->sight.count == sight.count
            && strcmp(leader->id, id) == 0) {
            break;
        }
    }
    return leader;
}

static void unlink_from(us_flight **list, const us_flight *flight)
{
    while (*list != flight) {
        list = &(*list)->next;
    }
    *list = flight->next;
}

/* Called and left with the mutex held.  leader is valid until it has told us:
 * it does so, and forgets us, under the mutex. */
static us_outcome follow(us_flight *leader, us_flight *flight,
                         apr_time_t deadline, int patient)
{
    apr_time_t crowd_end = leader->since + US_FLIGHT_CROWD_TIME;
    struct timespec until;
    pthread_condattr_t attributes;
    int late = 0;

    if (!patient && leader->followers >= US_FLIGHT_FOLLOWERS
        && crowd_end < deadline) {
        deadline = crowd_end;
    }
    until.tv_sec = (time_t)apr_time_sec(deadline);
    until.tv_nsec = (long)apr_time_usec(deadline) * 1000;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&flight->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    flight->next = leader->waiting;
    leader->waiting = flight;
    leader->followers++;
    while (!flight->done && !late) {
        late = pthread_cond_timedwait(&flight->changed, &mutex, &until) != 0;
    }
    if (!flight->done) {
        unlink_from(&leader->waiting, flight);
        leader->followers--;
    }
    pthread_cond_destroy(&flight->changed);
    return flight->outcome;
}

int us_flight_begin(us_flight *flight, const void *table, const char *id,
                    us_sight sight, apr_time_t deadline, int patient,
                    us_outcome *outcome)
{
    us_flight *leader;

    memset(flight, 0, sizeof(*flight));
    flight->table = table;
    flight->id = id;
    flight->outcome = US_STORE_UNAVAILABLE;
    flight->sight = sight;
    pthread_mutex_lock(&mutex);
    leader = find_leader(table, id, sight);
    if (leader != NULL) {
        *outcome = follow(leader, flight, deadline, patient);
    }
    else {
        flight->since = us_clock_now();
        flight->next = leaders;
        leaders = flight;
    }
    pthread_mutex_unlock(&mutex);
    return leader == NULL;
}

void us_flight_end(us_flight *flight, us_outcome outcome)
{
    us_flight *follower;

    pthread_mutex_lock(&mutex);
    unlink_from(&leaders, flight);
    for (follower = flight->waiting; follower != NULL;
         follower = follower->next) {
        follower->outcome = outcome;
        follower->done = 1;
        pthread_cond_signal(&follower->changed);
    }
    pthread_mutex_unlock(&mutex);
}
