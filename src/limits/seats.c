/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "seats.h"
#include "us_shm.h"

#include <ap_mpm.h>

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

typedef _Atomic apr_uint64_t word;

/*
 * A slot is a row of words.  The first word is the child's count: its pid in
 * the upper half (0: the slot is free), and the number of its waiting requests
 * in the lower half.  They share one word so that the parent, which clears it
 * after the child has ended, cannot clear what a new child has taken over in
 * the meantime.  The child itself never clears it, because a thread of
 * mod_http2 may outlive the child's pools.
 *
 * The second word is the number of hooks' requests that wait to be forwarded.
 * The other words are its seats: the client whose request waits there, or 0.
 * In a free slot all these mean nothing.
 */
#define FORWARDS 1
#define SEATS 2 /* the first of them */

#define SLOT(pid) ((apr_uint64_t)(apr_uint32_t)(pid) << 32)

/* The bit of a seat that says which kind of thread its request runs on. */
#define HTTP2 ((apr_uint64_t)1)

/*
 * Children that end stay until their last requests are done, and worker puts
 * new children into their places on the scoreboard meanwhile.  So there can be
 * far more of them than ServerLimit.
 */
#define SLOTS_FOR(daemons) (4 * (daemons) + 64)

/* Of this generation; created before the children.  The shared memory has only
 * counters, see us_shm.h: the number of slots that were ever taken, which are
 * the first ones, and then the slots. */
static us_shm memory;
static int slot_count;
static int seat_count; /* of a slot */

/* Of this child. */
static word *own_slot;
static word *lone_slot; /* used if no slot is free */
static _Atomic int http2_taken;

static word *used_word(void)
{
    return memory.counters;
}

static word *slot_at(int i)
{
    return used_word() + 1 + (apr_size_t)i * (apr_size_t)(SEATS + seat_count);
}

apr_status_t us_seats_create(apr_pool_t *pconf, int per_child)
{
    apr_size_t size = sizeof(word) * (apr_size_t)(SEATS + per_child);
    int daemons = 0;

    ap_mpm_query(AP_MPMQ_HARD_LIMIT_DAEMONS, &daemons);
    slot_count = SLOTS_FOR(daemons);
    seat_count = per_child;
    lone_slot = apr_pcalloc(pconf, size);
    return us_shm_create(&memory, pconf,
                         sizeof(word) + (apr_size_t)slot_count * size);
}

/* --- slots --- */

static int pid_of(apr_uint64_t count)
{
    return (int)(apr_uint32_t)(count >> 32);
}

static apr_int64_t waiting_of(apr_uint64_t count)
{
    return (apr_int64_t)(count & 0xffffffffU);
}

/* How many slots to look at: never more than exist. */
static int used_slots(void)
{
    apr_uint64_t used = atomic_load(used_word());

    return used < (apr_uint64_t)slot_count ? (int)used : slot_count;
}

/* Makes all children look at the first count slots from now on. */
static void use_slots(int count)
{
    apr_uint64_t used = atomic_load(used_word());
    int tries;

    for (tries = 0; tries < slot_count && used < (apr_uint64_t)count;
         tries++) {
        if (atomic_compare_exchange_weak(used_word(), &used,
                                         (apr_uint64_t)count)) {
            return;
        }
    }
}

/* May this child take the slot?  A slot with its own pid is left over from an
 * earlier process with that pid. */
static int is_free(int holder, int pid)
{
    return holder <= 0 || holder == pid
           || (kill(holder, 0) != 0 && errno == ESRCH);
}

static void clear_slot(word *slot)
{
    int i;

    for (i = FORWARDS; i < SEATS + seat_count; i++) {
        atomic_store(&slot[i], 0);
    }
}

static word *claim_slot(int pid)
{
    int i;

    for (i = 0; i < slot_count; i++) {
        word *slot = slot_at(i);
        apr_uint64_t count = atomic_load(slot);

        if (is_free(pid_of(count), pid)
            && atomic_compare_exchange_strong(slot, &count, SLOT(pid))) {
            clear_slot(slot);
            use_slots(i + 1);
            return slot;
        }
    }
    return NULL;
}

int us_seats_child_init(void)
{
    atomic_store(&http2_taken, 0);
    own_slot = claim_slot((int)getpid());
    if (own_slot != NULL) {
        return 1;
    }
    own_slot = lone_slot;
    return 0;
}

/* Runs in the parent, so it must be safe whatever the memory contains. */
void us_seats_child_gone(pid_t pid)
{
    int i;

    for (i = 0; used_word() != NULL && i < used_slots(); i++) {
        apr_uint64_t count = atomic_load(slot_at(i));

        if (pid_of(count) == (int)pid) {
            /* unless a new child has just taken it over */
            atomic_compare_exchange_strong(slot_at(i), &count, 0);
        }
    }
}

/* --- seats --- */

us_seat us_seats_of(apr_uint64_t client, int http2)
{
    us_seat seat = {.http2 = http2 != 0};

    /* 0 and 1 would be a free seat */
    seat.client = (client | (client > 1 ? 0 : 2)) & ~HTTP2;
    seat.client |= http2 ? HTTP2 : 0;
    return seat;
}

/* Replaces one value by another in one of this child's seats.  There are as
 * many seats as the child may take; a surplus request, which steps back at
 * once, may find none. */
static void change_seat(apr_uint64_t from, apr_uint64_t to)
{
    int i;

    for (i = SEATS; i < SEATS + seat_count; i++) {
        apr_uint64_t before = atomic_load(&own_slot[i]);

        if (before == from
            && atomic_compare_exchange_strong(&own_slot[i], &before, to)) {
            return;
        }
    }
}

void us_seats_take(us_seat seat)
{
    atomic_fetch_add(own_slot, 1);
    atomic_fetch_add(&http2_taken, seat.http2);
    change_seat(0, seat.client);
}

void us_seats_leave(us_seat seat)
{
    change_seat(seat.client, 0);
    atomic_fetch_sub(&http2_taken, seat.http2);
    atomic_fetch_sub(own_slot, 1);
}

/* Sequentially consistent, like the counting: if two requests count themselves
 * and then look, at least one sees the other. */
us_seat_counts us_seats_taken(void)
{
    us_seat_counts taken = {0};
    int used = used_slots();
    int i;

    for (i = 0; i < used; i++) {
        taken.all += waiting_of(atomic_load(slot_at(i)));
    }
    taken.child = waiting_of(atomic_load(own_slot));
    taken.http2 = atomic_load(&http2_taken);
    return taken;
}

/* A client's seats in a slot, on one kind of thread. */
static apr_int64_t seats_in(const word *slot, apr_uint64_t client)
{
    apr_int64_t count = 0;
    int i;

    for (i = SEATS; i < SEATS + seat_count; i++) {
        count += atomic_load(&slot[i]) == client;
    }
    return count;
}

us_seat_counts us_seats_held(us_seat seat)
{
    us_seat_counts held = {0};
    int used = used_slots();
    int i;

    for (i = 0; i < used; i++) {
        if (waiting_of(atomic_load(slot_at(i))) != 0) {
            held.all += seats_in(slot_at(i), seat.client & ~HTTP2)
                        + seats_in(slot_at(i), seat.client | HTTP2);
        }
    }
    held.http2 = seats_in(own_slot, seat.client | HTTP2);
    held.child = held.http2 + seats_in(own_slot, seat.client & ~HTTP2);
    return held;
}

/* --- forwarded requests --- */

void us_seats_forward(int more)
{
    atomic_fetch_add(&own_slot[FORWARDS], (apr_uint64_t)(apr_int64_t)more);
}

us_seat_counts us_seats_forwarded(void)
{
    us_seat_counts forwarded = {0};
    int used = used_slots();
    int i;

    for (i = 0; i < used; i++) {
        if (pid_of(atomic_load(slot_at(i))) != 0) {
            forwarded.all += (apr_int64_t)atomic_load(&slot_at(i)[FORWARDS]);
        }
    }
    forwarded.child = (apr_int64_t)atomic_load(&own_slot[FORWARDS]);
    return forwarded;
}
