/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * UserSyncOnDelete Delete, as docs/internals.md "A user who is deleted with
 * their row" tells it: two tables, the row and the tombstone, statements that
 * do not see each other, two requests and two events.  t/model/spin.t runs
 * it, and what it is without one of its safeguards:
 *
 * NO_TOMBSTONE   a look does not read the tombstone
 * ANY_TOMBSTONE  a look takes every tombstone for newer than the row
 * TRUST_INSERT   a request does not look again after its INSERT
 * LEAVE_OWN      it does not remove the row that it should not have made
 * LEAVE_ROW      a deletion does not look again for a row
 * LEAVE_LATE     another event does not
 *
 * READ COMMITTED: a statement sees what was committed when it began.  A row
 * that it has seen, it locks, and then judges its newest version; a row that it
 * has not seen, it never touches.  INSERT ON CONFLICT sees the newest one.
 */

#include "claim.pml"

/* The row. */
byte life;     /* which one; 0: there is none */
byte lives;    /* how many there have been */
byte row_time; /* updated_at; 0: NULL */

byte grave_time; /* the tombstone's; 0: there is none */

#define IS_DEAD (life != 0 && grave_time != 0 && row_time <= grave_time)

inline make_row(time)
{
    lives++;
    life = lives;
    row_time = time
}

inline remove_row()
{
    life = 0;
    row_time = 0
}

/* A statement: DELETE FROM the table USING the tombstones. */
inline sweep()
{
    atomic {
        seen = 0;
        if
        :: IS_DEAD ->
            seen = life;
            seen_grave = grave_time
        :: else
        fi
    };
    atomic {
        if
        :: seen != 0 && life == seen && row_time <= seen_grave -> remove_row()
        :: else
        fi;
        seen = 0;
        seen_grave = 0
    }
}

/* --- requests --- */

mtype = { missing, alive, dead };

/* A statement: SELECT, with the tombstone. */
inline look()
{
    d_step {
        if
#if !defined(NO_TOMBSTONE) && !defined(ANY_TOMBSTONE)
        :: IS_DEAD -> finding = dead
        :: life == 0 && grave_time != 0 -> finding = dead
        :: life != 0 && !IS_DEAD -> finding = alive
        :: life == 0 && grave_time == 0 -> finding = missing
#elif defined(ANY_TOMBSTONE)
        :: grave_time != 0 -> finding = dead
        :: life != 0 && grave_time == 0 -> finding = alive
        :: life == 0 && grave_time == 0 -> finding = missing
#else
        :: life != 0 -> finding = alive
        :: life == 0 -> finding = missing
#endif
        fi
    }
}

proctype request()
{
    byte least;
    byte seen;
    byte seen_grave;
    mtype finding;

    least = settled;
    look();
    if
    :: finding == missing ->
        d_step {
            if
            :: life == 0 -> make_row(0)
            :: else /* DO NOTHING */
            fi
        };
#ifdef TRUST_INSERT
        finding = alive
#else
        look();
#ifndef LEAVE_OWN
        if
        :: finding == dead -> sweep()
        :: else
        fi
#endif
#endif
    :: else
    fi;
    assert(finding != missing);
    check(least, finding == alive)
}

/* --- events --- */

/* One statement: the row is deleted, the tombstone put in its place. */
proctype deletion(byte told)
{
    byte found = told;
    byte seen;
    byte seen_grave;

    seen = life;
    atomic {
        if
        :: seen != 0 && life == seen && row_time < told -> remove_row()
        :: else
        fi;
        if
        :: grave_time < told -> grave_time = told
        :: else -> found = grave_time
        fi;
        if
        :: row_time > found -> found = row_time
        :: else
        fi;
        committed[told] = true;
        seen = 0
    };
#ifndef LEAVE_ROW
    sweep();
#endif
    answer(found)
}

/* One statement: the row is made or changed, an older tombstone removed. */
proctype change(byte told)
{
    byte found = told;
    byte seen;
    byte seen_grave;

    seen_grave = grave_time;
    atomic {
        if
        :: seen_grave > told ->
            found = seen_grave
        :: else ->
            if
            :: life == 0 -> make_row(told)
            :: life != 0 && row_time < told -> row_time = told
            :: life != 0 && row_time > told -> found = row_time
            fi;
            if
            :: seen_grave != 0 && grave_time < told -> grave_time = 0
            :: else
            fi;
            committed[told] = true
        fi;
        seen_grave = 0
    };
#ifndef LEAVE_LATE
    sweep();
#endif
    answer(found)
}

inline event(told)
{
    if
    :: out[told] -> run deletion(told)
    :: else -> run change(told)
    fi
}

init
{
    bool is_deleted;

    atomic {
        any(out[1]);
        any(out[2]);
        committed[0] = true;
        /* the first state: they have a row, or are not known */
        if
        :: make_row(0)
        :: skip
        fi;
        run request();
        run request();
        event(1);
        event(2)
    };
    _nr_pr == 1;
    /* in the end the table is as the newest event says */
    is_deleted = life == 0 || IS_DEAD;
    assert(!IS_DEAD);
    assert(is_deleted == out[2])
}
