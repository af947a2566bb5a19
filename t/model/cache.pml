/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The protocol between a user's row, their slot and their entry in the cache,
 * as docs/internals.md "Cache, row and event" tells it: one user, one host, two
 * children, and everything in every order.  An event that dies on its way is in
 * it, as one that is never done.
 *
 * CREW    1: two requests of one child; 2: of two children; 3: two of one child
 *         and one of another
 * EVENTS  how many: 1 or 2
 *
 * t/model/spin.t runs it, and what it is without one of its safeguards:
 *
 * NO_STAMP        entries count whatever the slot says
 * LATE_STAMP      the slot is read after the row
 * FOLLOW_BLINDLY  a follower does not compare
 * NO_BUMP         an event only removes the entry
 * BUMP_FIRST      an event bumps before its commit, and not after it
 * ANSWER_FIRST    an event answers before it bumps
 * SILENT_REFUSAL  an event that is older than the row does not bump
 * BLIND_DENIAL    an event stores its denial with the new slot, without a look
 * NO_ORDER        an older event changes the row
 * OWN_SLOTS       each child, or generation, has slots of its own
 *
 * These are as right as the protocol: GENERATIONS, where each child has a cache
 * of its own, as before and after a graceful restart; JUST_REMOVE, where no
 * event stores a denial; STAMPED_DENIAL, where an event stores it without a
 * look, but only if nobody else has bumped since it read the slot.
 */

#include "claim.pml"

byte row; /* the state that it has been given; READ COMMITTED: a read sees the
           * last commit */

/* --- the slot --- */

byte slots[2];

#ifdef OWN_SLOTS
#define SLOT slots[child]
#else
#define SLOT slots[0]
#endif

/* --- the cache --- */

mtype = { nothing, known, denial };

mtype kind[2];
byte stamp[2];
mtype entry; /* what a request has just retrieved */

#ifdef GENERATIONS
#define PLACE child
#else
#define PLACE 0
#endif

/* The cache may fail to store: the old entry stays. */
inline store(new_kind, new_stamp)
{
    if
    :: d_step { kind[PLACE] = new_kind; stamp[PLACE] = new_stamp }
    :: skip
    fi
}

#ifdef NO_STAMP
#define COUNTS(stamp) true
#else
#define COUNTS(stamp) (stamp == SLOT)
#endif

/* The entry is read before the slot.  Here it is one step, which is the same:
 * stamps are never ahead of the slot, so that one that is equal to it in the
 * end was so in the beginning. */
inline retrieve()
{
    entry = kind[PLACE];
    if
    :: entry != nothing && !COUNTS(stamp[PLACE]) -> entry = nothing
    :: else
    fi
}

/* --- requests --- */

/* Of child 0: one thread looks, another may wait for it. */
bool is_flying, is_waited_for, has_told;
bool told_in;
byte told_stamp;

/* Reads the row, for a finding that may be kept. */
inline look()
{
#ifndef LATE_STAMP
    before = SLOT;
#endif
    is_in = !out[row];
#ifdef LATE_STAMP
    before = SLOT;
#endif
    atomic {
        if
        :: is_in -> store(known, before)
        :: else -> store(denial, before)
        fi
    }
}

#ifdef FOLLOW_BLINDLY
#define MAY_FOLLOW true
#else
#define MAY_FOLLOW (told_stamp == begun)
#endif

proctype request(byte child)
{
    byte least;  /* what was settled when it began */
    byte begun;  /* the slot then */
    byte before; /* the slot before the row was read */
    bool is_in;

    atomic {
        least = settled;
        begun = SLOT;
        if
        :: retrieve()
        :: skip /* the cache has forgotten */
        fi;
        if
        :: entry != nothing ->
            is_in = (entry == known);
            entry = nothing;
            goto done
        :: else
        fi
    };
    if
    :: atomic { child == 0 && !is_flying -> is_flying = true };
        look();
        atomic {
            is_flying = false;
            if
            :: is_waited_for ->
                is_waited_for = false;
                has_told = true;
                told_in = is_in;
                told_stamp = before
            :: else
            fi
        }
    :: atomic { child == 0 && is_flying -> is_waited_for = true };
        if
        :: atomic { has_told && MAY_FOLLOW ->
                has_told = false;
                is_in = told_in;
                told_in = false;
                told_stamp = 0
            }
#ifndef FOLLOW_BLINDLY
        :: atomic { has_told && !MAY_FOLLOW ->
                has_told = false;
                told_in = false;
                told_stamp = 0
            };
            look()
#endif
        fi
    :: child != 0 ->
        look()
    fi;
done:
    atomic {
        check(least, is_in);
        least = 0;
        begun = 0;
        before = 0;
        is_in = false
    }
}

/* --- events --- */

inline bump()
{
    d_step { at_bump = SLOT; SLOT++ }
}

#if defined(STAMPED_DENIAL)
#define IS_ALONE (at_bump == before)
#elif defined(BLIND_DENIAL)
#define IS_ALONE true
#endif

/* It tells of state told. */
proctype event(byte child; byte told)
{
    byte before; /* the slot before the commit */
    byte at_bump;
    byte found; /* the state that it leaves */
#if !defined(IS_ALONE) && !defined(JUST_REMOVE)
    bool is_in;
#endif

#ifdef IS_ALONE
    before = SLOT;
#endif
#ifdef BUMP_FIRST
    bump();
#endif
    /* one statement, which locks the row; then the commit */
    if
#ifdef NO_ORDER
    :: atomic { row != STATES ->
            row = told;
            committed[told] = true;
            found = told
        }
#else
    :: atomic { row < told ->
            row = told;
            committed[told] = true;
            found = told
        }
#endif
#if !defined(NO_ORDER) && EVENTS == 2
    :: row > told ->
        found = row;
#ifdef SILENT_REFUSAL
        goto end
#endif
#endif
    fi;
#ifdef ANSWER_FIRST
    answer(found);
#endif
#if !defined(BUMP_FIRST) && !defined(NO_BUMP)
    bump();
#endif
#if defined(IS_ALONE)
    atomic {
        if
        :: out[found] && IS_ALONE ->
            store(denial, at_bump + 1)
        :: else ->
            store(nothing, 0)
        fi
    };
#elif defined(JUST_REMOVE)
    store(nothing, 0);
#else
    look();
#endif
#ifdef SILENT_REFUSAL
end:
#endif
    answer(found)
}

init
{
    atomic {
        /* what the states are: any */
        any(out[0]);
        any(out[1]);
        any(out[2]);
        entry = nothing;
        committed[0] = true;
        kind[0] = nothing;
        kind[1] = nothing;
        run request(0);
#if CREW != 2
        run request(0);
#endif
#if CREW != 1
        run request(1);
#endif
#if EVENTS == 2
        run event(1, 2);
#endif
        run event(0, 1)
    }
}
