/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The parts of usersync-reconcile that need neither Supabase nor PostgreSQL:
 * pages of a list that moves, the state file, times, sets of ids, arrays.
 */
#include "tap.h"
#include "reconcile/answer.h"
#include "reconcile/db.h"
#include "reconcile/ids.h"
#include "reconcile/state.h"
#include "reconcile/walk.h"

#include <apr_general.h>
#include <apr_strings.h>

static apr_pool_t *pool;

static void test_times(void)
{
    apr_time_t z = 0;
    apr_time_t east = 0;

    ok(us_rec_answer_time("2026-08-20T09:15:02.4Z", &z)
           && us_rec_answer_time("2026-08-20T11:15:02.400000+02:00", &east)
           && z == east && apr_time_usec(z) == 400000,
       "one moment in two spellings");
    ok(!us_rec_answer_time("2026-08-20", &z), "a date is no time");
    ok(!us_rec_answer_time("2026-08-20T09:15:02", &z), "nor without a zone");
    ok(!us_rec_answer_time("2026-08-20T09:15:02Zx", &z), "nor with a rest");
}

/* Walks a list whose pages are cut exactly; returns how many were taken. */
static int walk_over(const apr_time_t *list, int count, int per_page)
{
    us_rec_yield yield = {0};
    us_rec_walk walk;
    int taken = 0;
    int guard = 0;

    us_rec_walk_start(&walk);
    walk.per_page_max = per_page;
    while (!yield.is_last && guard++ < 1000) {
        us_rec_request request = us_rec_walk_request(&walk);
        int start = request.start < count ? (int)request.start : count;
        int size = count - start < request.per_page ? count - start
                                                    : request.per_page;

        if (!us_rec_walk_take(&walk, &request, list + start, size, &yield)) {
            return -1;
        }
        taken += yield.is_crowd ? 0 : yield.to - yield.from;
        if (yield.crowd_size > 0) {
            taken += (int)yield.crowd_size;
            us_rec_walk_crowd_ends(&walk, yield.crowd_size, yield.crowd_size);
        }
    }
    return guard < 1000 ? taken : -2;
}

static void test_walk(void)
{
    apr_time_t list[1000];
    int i;

    for (i = 0; i < 1000; i++) {
        list[i] = i / 3; /* three at a time */
    }
    is_int(walk_over(list, 1000, 100), 1000, "nobody twice, nobody left out");
    is_int(walk_over(list, 0, 100), 0, "an empty list");
    is_int(walk_over(list, 100, 100), 100, "a list of one full page");
    for (i = 200; i < 700; i++) {
        list[i] = 200;
    }
    for (i = 700; i < 1000; i++) {
        list[i] = 1000 + i;
    }
    is_int(walk_over(list, 1000, 100), 1000, "a crowd of one time");
    list[10] = -1;
    is_int(walk_over(list, 1000, 100), -1, "a list that is not sorted");
}

static void test_gap(void)
{
    apr_time_t first[] = {1, 2, 3, 4};
    apr_time_t shifted[] = {9, 10};
    us_rec_request request = {1, 4, 0};
    us_rec_yield yield;
    us_rec_walk walk;

    us_rec_walk_start(&walk);
    us_rec_walk_take(&walk, &request, first, 4, &yield);
    is_int(yield.to, 3, "the last group of a page waits");
    request.start = 4;
    us_rec_walk_take(&walk, &request, shifted, 2, &yield);
    ok(yield.to == yield.from && !yield.is_last && walk.next == 0,
       "a page that is not joined is no progress: a step back");
}

static void test_notes(void)
{
    us_rec_notes notes = {.source = "https://a.example/auth/v1",
                          .target = "app 1 2",
                          .work = "apply 2",
                          .place = "offset 5 6",
                          .users = 7,
                          .applied = 8,
                          .ids = 9,
                          .counts = {1, 2, 3, 4, 5, 6, 7, 8, 9}};
    const char *text = us_rec_notes_text(pool, &notes);
    us_rec_notes read;
    apr_size_t len;
    int good = 0;

    ok(us_rec_notes_parse(pool, text, strlen(text), &read), "it is read");
    is_str(us_rec_notes_text(pool, &read), text, "as it was written");
    for (len = 0; len < strlen(text); len++) {
        good += us_rec_notes_parse(pool, text, len, &read);
    }
    is_int(good, 0, "no part of it is");
}

static void test_ids(void)
{
    us_rec_ids *ids = us_rec_ids_create(pool);
    unsigned char bytes[US_REC_ID_SIZE];
    int added = 0;
    int i;

    for (i = 1; i <= 20000; i++) {
        us_rec_id_bytes(
            apr_psprintf(pool, "00000000-0000-4000-8000-%012d", i % 10000),
            bytes);
        added += us_rec_ids_add(ids, bytes);
    }
    is_int(added, 10000, "each id once");
    ok(us_rec_ids_has(ids, bytes), "the last one is there");
    us_rec_id_bytes("ffffffff-0000-4000-8000-000000000001", bytes);
    ok(!us_rec_ids_has(ids, bytes), "another is not");
}

int main(void)
{
    const char *texts[] = {"a\"b\\c", NULL, ""};

    apr_initialize();
    apr_pool_create(&pool, NULL);
    test_times();
    test_walk();
    test_gap();
    test_notes();
    test_ids();
    is_str(us_rec_db_array(pool, texts, 3), "{\"a\\\"b\\\\c\",NULL,\"\"}",
           "an array");
    apr_pool_destroy(pool);
    return done();
}
