/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "walk.h"

/* Deletions between two requests that need no step back. */
#define MARGIN 8

/* The first step back, and how it grows. */
#define FIRST_STEP 64
#define STEP_FACTOR 8

/* Before the first user. */
#define NEVER APR_INT64_MIN

void us_rec_walk_start(us_rec_walk *walk)
{
    walk->next = 0;
    walk->done = NEVER;
    walk->per_page_max = US_REC_PAGE_MAX;
    walk->back = FIRST_STEP;
    walk->in_crowd = 0;
    walk->rounds = 0;
}

/*
 * A page begins at a multiple of its size: the size is chosen so that one
 * begins at the wanted place or shortly before it.
 */
us_rec_request us_rec_walk_request(const us_rec_walk *walk)
{
    apr_int64_t wanted = walk->next > MARGIN ? walk->next - MARGIN : 0;
    us_rec_request best = {1, walk->per_page_max, 0};
    apr_int64_t best_new = 0;
    int size;

    for (size = walk->per_page_max; size > walk->per_page_max / 2; size--) {
        apr_int64_t start = wanted - wanted % size;
        apr_int64_t found = start + size - wanted; /* new places on it */

        if (found > best_new) {
            best.page = start / size + 1;
            best.per_page = size;
            best.start = start;
            best_new = found;
        }
    }
    return best;
}

static int is_sorted(const apr_time_t *created, int count)
{
    int i;

    for (i = 1; i < count; i++) {
        if (created[i] < created[i - 1]) {
            return 0;
        }
    }
    return 1;
}

/* The first who was created after that time. */
static int first_after(const apr_time_t *created, int count, apr_time_t when)
{
    int i = 0;

    while (i < count && created[i] <= when) {
        i++;
    }
    return i;
}

/* A page that does not begin with somebody who is done may leave a gap. */
static void step_back(us_rec_walk *walk)
{
    walk->next = walk->next > walk->back ? walk->next - walk->back : 0;
    walk->back *= STEP_FACTOR;
}

/* The next page of a crowd: all of its time are taken. */
static void take_crowd(us_rec_walk *walk, const us_rec_request *request,
                       const apr_time_t *created, int count,
                       us_rec_yield *yield)
{
    yield->is_crowd = 1;
    yield->to = first_after(created, count, walk->crowd);
    walk->next = request->start + yield->to;
    if (yield->to < count || count < request->per_page) {
        yield->crowd_size = walk->next - walk->crowd_begin;
        yield->is_last = yield->to == count && count < request->per_page;
    }
    else {
        walk->next += MARGIN; /* this page was full of it: go on behind it */
    }
}

int us_rec_walk_take(us_rec_walk *walk, const us_rec_request *request,
                     const apr_time_t *created, int count, us_rec_yield *yield)
{
    int last = count; /* where the last group begins */

    *yield = (us_rec_yield){0, 0, 0, 0, 0};
    if (!is_sorted(created, count)) {
        return 0;
    }
    if (request->start > 0
        && (count == 0
            || created[0] > (walk->in_crowd ? walk->crowd : walk->done))) {
        step_back(walk);
        return 1;
    }
    walk->back = FIRST_STEP;
    yield->from = first_after(created, count, walk->done);
    if (walk->in_crowd) {
        take_crowd(walk, request, created, count, yield);
        return 1;
    }
    if (count < request->per_page) {
        yield->to = count;
        yield->is_last = 1;
        walk->next = request->start + count;
        return 1;
    }
    while (last > yield->from && created[last - 1] == created[count - 1]) {
        last--;
    }
    yield->to = last;
    walk->next = request->start + last;
    if (last > yield->from) {
        walk->done = created[last - 1];
    }
    else if (yield->from < count) {
        walk->in_crowd = 1;
        walk->crowd = created[count - 1];
        walk->crowd_begin = walk->next;
        walk->rounds = 0;
    }
    return 1;
}

int us_rec_walk_crowd_ends(us_rec_walk *walk, apr_int64_t known,
                           apr_int64_t size)
{
    if (known < size) {
        walk->next = walk->crowd_begin;
        walk->rounds++;
        return 0;
    }
    walk->in_crowd = 0;
    walk->done = walk->crowd;
    return 1;
}
