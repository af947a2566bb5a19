/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * users/flight.c: of the threads that ask for one user at a time, one looks
 * and the others get its finding, unless that takes too long.  Threads do not
 * wait for other users, and leave nothing behind.
 */
#include "crew.h"
#include "tap.h"
#include "us_clock.h"
#include "users/flight.h"

#include <apr_time.h>

#include <sched.h>
#include <stdatomic.h>

/* Longer than any part of this takes. */
#define LONG apr_time_from_sec(200)

#define THREADS 12
#define ROUNDS 300
#define TRIES 20
#define LOOPS 4000
#define USERS 3

static const char *const users[USERS] = {"ada", "bob", "cy"};
static const char table[2];
static const us_sight nothing;

/* --- alone --- */

static int leads(us_flight *flight, const char *of, const char *id)
{
    us_outcome outcome = US_OUTCOME_COUNT;

    return us_flight_begin(flight, of, id, nothing, us_clock_now(), 0,
                           &outcome);
}

static void nothing_is_left(const char *name)
{
    us_flight flight;
    int count = 0;
    int i;
    int j;

    for (i = 0; i < USERS; i++) {
        for (j = 0; j < 2; j++) {
            if (leads(&flight, &table[j], users[i])) {
                us_flight_end(&flight, US_OK);
                count++;
            }
        }
    }
    is_int(count, (long long)2 * USERS, "%s: nothing is left over", name);
}

/* A leader whose look began before a change is not waited for. */
static void test_sights(void)
{
    us_sight later = {nothing.instance, nothing.count + 1};
    us_outcome outcome = US_OUTCOME_COUNT;
    us_flight old;
    us_flight new;
    us_flight third;

    ok(leads(&old, &table[0], "ada"), "a look");
    ok(us_flight_begin(&new, &table[0], "ada", later, us_clock_now(), 0,
                       &outcome),
       "one that began after a change is made beside it");
    ok(!us_flight_begin(&third, &table[0], "ada", later, us_clock_now(), 0,
                        &outcome),
       "the next one waits for that");
    ok(!leads(&third, &table[0], "ada"), "an older one waits for the old one");
    us_flight_end(&old, US_OK);
    us_flight_end(&new, US_USER_BANNED);
    nothing_is_left("sights");
}

static void test_others(void)
{
    us_flight flights[4];

    ok(leads(&flights[0], &table[0], "ada"), "a single thread looks");
    ok(leads(&flights[1], &table[0], "bob"), "another user is not held up");
    ok(leads(&flights[2], &table[1], "ada"), "nor is one of another table");
    ok(leads(&flights[3], &table[0], "ad"), "nor one with a like id");
    us_flight_end(&flights[1], US_OK);
    us_flight_end(&flights[3], US_OK);
    us_flight_end(&flights[0], US_OK);
    us_flight_end(&flights[2], US_OK);
    nothing_is_left("others");
}

/* --- too late --- */

static void check_late(apr_time_t wait, const char *name)
{
    apr_time_t start = us_clock_now();
    us_outcome outcome = US_OK;
    char id[] = "ada"; /* compared as text */
    us_flight flight;

    ok(!us_flight_begin(&flight, &table[0], id, nothing, start + wait, 0,
                        &outcome)
           && us_clock_now() - start >= wait,
       "%s: does not look, and has waited", name);
    is_int(outcome, US_STORE_UNAVAILABLE, "%s: for nothing", name);
}

static void test_late(void)
{
    us_flight leader;

    ok(leads(&leader, &table[0], "ada"), "one looks, and takes long");
    check_late(0, "no time at all");
    check_late(apr_time_from_msec(30), "30 ms");
    check_late(-apr_time_from_sec(1), "too late before");
    us_flight_end(&leader, US_OK);
    nothing_is_left("too late");
}

/* --- a leader and its followers --- */

static struct {
    pthread_barrier_t barrier;
    _Atomic int leaders;
    _Atomic int right; /* threads that got the leader's outcome */
    _Atomic int late;  /* threads that did not wait for it */
    _Atomic int inside[USERS];
    _Atomic int crowded; /* two threads looked at the same time */
    _Atomic int found;
    _Atomic int wrong;
} shared;

/* Counts the followers, for the leader.  They are added under the mutex of
 * users/flight.c, which is not accessible here: it takes a few looks to see
 * the last one. */
__attribute__((no_sanitize_thread)) static int count_waiting(
    const us_flight *leader)
{
    const us_flight *volatile follower = leader->waiting;
    int count = 0;

    for (; follower != NULL; follower = follower->next) {
        count++;
    }
    return count;
}

static void wait_for_followers(const us_flight *leader, int count)
{
    while (count_waiting(leader) < count) {
        crew_pause();
    }
}

static us_outcome outcome_of(int round)
{
    static const us_outcome outcomes[]
        = {US_OK, US_ROW_REFUSED, US_ROW_CONFLICT, US_STORE_UNAVAILABLE};

    return outcomes[round % 4];
}

/* All ask at the same time: all but one wait, and get its outcome. */
static void ask(int child, int thread)
{
    int i;

    (void)child;
    (void)thread;
    for (i = 0; i < ROUNDS; i++) {
        us_flight flight;
        us_outcome outcome = US_OUTCOME_COUNT;

        pthread_barrier_wait(&shared.barrier);
        if (us_flight_begin(&flight, &table[0], "ada", nothing,
                            us_clock_now() + LONG, 0, &outcome)) {
            shared.leaders++;
            wait_for_followers(&flight, THREADS - 1);
            us_flight_end(&flight, outcome_of(i));
        }
        else {
            shared.right += outcome == outcome_of(i);
        }
    }
}

static void test_followers(void)
{
    crew_barrier_init(&shared.barrier, THREADS);
    crew_threads(0, THREADS, ask);
    is_int(shared.leaders, ROUNDS, "of %d one looks each time", THREADS);
    is_int(shared.right, (long long)ROUNDS * (THREADS - 1),
           "the others get its outcome");
    nothing_is_left("followers");
}

/* --- some give up --- */

static us_flight held;

/* Threads 1, 4, 7 ... have no patience; they are among the others in the
 * list. */
static void ask_with_patience(int child, int thread)
{
    apr_time_t wait = thread % 3 == 1 ? apr_time_from_msec(5) : LONG;
    us_flight flight;
    us_outcome outcome = US_OUTCOME_COUNT;

    (void)child;
    if (thread == 0) {
        while (shared.late < THREADS / 3) {
            crew_pause();
        }
        wait_for_followers(&held, THREADS - 1 - THREADS / 3);
        us_flight_end(&held, US_ROW_REFUSED);
        return;
    }
    shared.wrong += us_flight_begin(&flight, &table[0], "ada", nothing,
                                    us_clock_now() + wait, 0, &outcome);
    if (wait == LONG) {
        shared.right += outcome == US_ROW_REFUSED;
    }
    else {
        shared.late += outcome == US_STORE_UNAVAILABLE;
    }
}

static void test_patience(void)
{
    int good = 0;
    int i;

    shared.wrong = 0;
    for (i = 0; i < TRIES; i++) {
        shared.late = 0;
        shared.right = 0;
        good += leads(&held, &table[0], "ada");
        crew_threads(0, THREADS, ask_with_patience);
        good += shared.right == THREADS - 1 - THREADS / 3;
    }
    is_int(good, (long long)2 * TRIES,
           "those that stay get it, whichever others gave up");
    is_int(shared.wrong, 0, "and no other thread looks");
    nothing_is_left("patience");
}

/* --- the end and the deadline at the same moment --- */

#define GAP 20 /* usec: steps in the time between the two */

static apr_time_t meeting;

static void end_or_give_up(int child, int thread)
{
    int i;

    (void)child;
    for (i = 0; i < ROUNDS; i++) {
        us_outcome outcome = US_OUTCOME_COUNT;
        us_flight flight;

        if (thread == 0) {
            shared.wrong += !leads(&held, &table[0], "ada");
            meeting = us_clock_now() + 500;
        }
        pthread_barrier_wait(&shared.barrier);
        if (thread == 0) {
            while (us_clock_now()
                   < meeting + (apr_time_t)(i % 21 - 10) * GAP) {
            }
            us_flight_end(&held, US_ROW_REFUSED);
        }
        else if (us_flight_begin(&flight, &table[0], "ada", nothing, meeting,
                                 0, &outcome)) {
            us_flight_end(&flight, US_ROW_REFUSED); /* it came first */
        }
        else {
            shared.wrong += outcome != US_ROW_REFUSED
                            && outcome != US_STORE_UNAVAILABLE;
        }
        pthread_barrier_wait(&shared.barrier);
    }
}

static void test_meeting(void)
{
    crew_barrier_init(&shared.barrier, 3);
    shared.wrong = 0;
    crew_threads(0, 3, end_or_give_up);
    is_int(shared.wrong, 0, "an end at the deadline is one or the other");
    nothing_is_left("meeting");
}

/* --- a rush --- */

/* The thread that looks reports how many have looked before, for this user. */
static void rush(int child, int thread)
{
    int i;

    (void)child;
    for (i = 0; i < LOOPS; i++) {
        int user = (i + thread) % USERS;
        us_outcome outcome = US_OUTCOME_COUNT;
        us_flight flight;

        if (us_flight_begin(&flight, &table[0], users[user], nothing,
                            us_clock_now() + LONG, 0, &outcome)) {
            shared.crowded += shared.inside[user]++ != 0;
            if (i % 3 == 0) {
                sched_yield();
            }
            shared.found++;
            shared.inside[user]--;
            us_flight_end(&flight, US_ROW_CONFLICT);
        }
        else {
            shared.right += outcome == US_ROW_CONFLICT;
        }
    }
}

static void test_rush(void)
{
    shared.right = 0;
    crew_shaken = 1;
    crew_threads(0, THREADS, rush);
    crew_shaken = 0;
    is_int(shared.crowded, 0, "rush: never two look at one user at a time");
    is_int(shared.found + shared.right, (long long)THREADS * LOOPS,
           "rush: all get an outcome, %d by waiting", shared.right);
    nothing_is_left("rush");
}

int main(void)
{
    crew_start("test_flight");
    test_others();
    test_sights();
    test_late();
    test_followers();
    test_patience();
    test_meeting();
    test_rush();
    return done();
}
