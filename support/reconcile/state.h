/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * state.h: the file in which an interrupted walk is continued.  The ids of
 * users who were seen lie beside it, in PATH.ids, 16 bytes each.
 */
#ifndef US_REC_STATE_H
#define US_REC_STATE_H

#include "source.h"
#include "target.h"

typedef struct us_rec_state us_rec_state;

/* What the file says. */
typedef struct us_rec_notes {
    const char *source; /* each is one line */
    const char *target;
    const char *work; /* what was to be done */
    const char *place;
    int is_walked; /* the walk is over */
    apr_int64_t users;
    apr_int64_t applied;
    apr_int64_t ids; /* how many are beside it */
    apr_int64_t counts[US_REC_CLASSES];
} us_rec_notes;

/* Reads the text of a state file; 0: it is none. */
int us_rec_notes_parse(apr_pool_t *pool, const char *text, apr_size_t len,
                       us_rec_notes *notes);

/* The text of a state file. */
const char *us_rec_notes_text(apr_pool_t *pool, const us_rec_notes *notes);

/*
 * Opens the state of --state, and continues there if it has one: the source's
 * place, the counts and run->seen are set.  A state of another source, target
 * or work is refused.  Without --state the other functions do nothing.
 */
us_rec_end us_rec_state_open(us_rec_run *run, us_rec_source *source,
                             us_rec_target *target, us_rec_state **out);

/* Is only the rest to be done, after the walk? */
int us_rec_state_is_walked(const us_rec_state *state);

/* Keeps where the walk stands after this page, so that neither a kill nor a
 * power failure loses it. */
us_rec_end us_rec_state_save(us_rec_state *state, apr_pool_t *pool,
                             const us_rec_target *target,
                             const us_rec_page *page);

/* All is done: the next run begins anew. */
void us_rec_state_remove(us_rec_state *state);

#endif /* US_REC_STATE_H */
