/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * walk.h: walks a list that can be asked for pages only (offset mode), so that
 * nobody is passed over.
 *
 * The list is sorted by the time of creation.  Users of equal times come in
 * another order with each request, and users who are deleted meanwhile move
 * all others forward.  So a page counts as joined to what was read before only
 * if it begins with somebody at or before the last time that is done; and of
 * the last time on a page, nobody counts as read until a page has the whole
 * group.
 */
#ifndef US_REC_WALK_H
#define US_REC_WALK_H

#include <apr_pools.h>
#include <apr_time.h>

#define US_REC_PAGE_MAX 1000

typedef struct us_rec_walk {
    apr_int64_t next; /* place of the first user who is not done, from 0 */
    apr_time_t done;  /* all who were created until then are done */
    int per_page_max;
    apr_int64_t back; /* how far to step back if the next page is not joined */
    /* a group that is larger than a page is read again and again until as many
     * have been seen as there are places */
    int in_crowd;
    apr_time_t crowd;        /* the group's time */
    apr_int64_t crowd_begin; /* its first place */
    int rounds;
} us_rec_walk;

/* Which page to ask for. */
typedef struct us_rec_request {
    apr_int64_t page; /* from 1 */
    int per_page;
    apr_int64_t start; /* the place of its first user */
} us_rec_request;

/* What a page is worth: users from to (exclusive) are to be taken. */
typedef struct us_rec_yield {
    int from;
    int to;
    int is_last;  /* the list is over */
    int is_crowd; /* those taken belong to the crowd: count the new ones */
    apr_int64_t crowd_size; /* the crowd has ended, and has so many; else 0 */
} us_rec_yield;

void us_rec_walk_start(us_rec_walk *walk);

/* The page to ask for now. */
us_rec_request us_rec_walk_request(const us_rec_walk *walk);

/*
 * Takes an answer.
 *
 * created  the times of the users on the page, as they came
 *
 * Returns 0 if they are not sorted.
 */
int us_rec_walk_take(us_rec_walk *walk, const us_rec_request *request,
                     const apr_time_t *created, int count,
                     us_rec_yield *yield);

/*
 * A crowd has ended: are all of it known?
 *
 * known  how many different users of it were seen
 * size   as the yield had it
 *
 * Returns 1 if the walk goes on behind it, 0 if the crowd is read once more.
 */
int us_rec_walk_crowd_ends(us_rec_walk *walk, apr_int64_t known,
                           apr_int64_t size);

#endif /* US_REC_WALK_H */
