/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * What the models claim.  A user has STATES, numbered in the order of
 * Supabase's time stamps; 0 is the first one.  Events tell of the others.
 */
#define STATES 3

bool out[STATES];       /* banned or deleted then: not to be let in */
bool committed[STATES]; /* the table has been given this state */
byte settled;           /* the newest state that an answer vouches for */

/*
 * The invariant, for a request that found settled to be least when it began:
 * it saw this state, or a newer one that was committed.
 */
inline check(least, is_in)
{
    d_step {
        if
        :: out[least] != (is_in)
        :: least < 1 && committed[1] && out[1] != (is_in)
        :: least < 2 && committed[2] && out[2] != (is_in)
        :: else -> assert(false)
        fi
    }
}

/* An event is answered: no request that begins from now on is to see less than
 * what the event has left. */
inline answer(found)
{
    d_step {
        if
        :: found > settled -> settled = found
        :: else
        fi
    }
}

inline any(flag)
{
    if
    :: flag = true
    :: skip
    fi
}
