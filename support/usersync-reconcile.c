/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * usersync-reconcile: compares all users of a Supabase project with the users
 * table, and mends what differs.
 */
#include "reconcile/ids.h"
#include "reconcile/report.h"
#include "reconcile/state.h"
#include "reconcile/target.h"

#include <apr_allocator.h>
#include <apr_general.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Memory that a page no longer needs goes back to the system. */
#define KEPT_MEMORY ((apr_size_t)8 * 1024 * 1024)

static void stop(int number)
{
    (void)number;
    us_rec_stop = 1;
}

static void catch_signals(void)
{
    struct sigaction action = {.sa_handler = stop};

    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    action.sa_handler = SIG_IGN;
    sigaction(SIGPIPE, &action, NULL);
}

/* Keeps those who were not seen before, and remembers them. */
static us_rec_end take_new(us_rec_run *run, us_rec_page *page)
{
    int count = 0;
    int i;

    for (i = 0; i < page->count; i++) {
        unsigned char bytes[US_REC_ID_SIZE];
        int is_new;

        us_rec_id_bytes(page->users[i]->identity.id, bytes);
        is_new = us_rec_ids_add(run->seen, bytes);
        if (is_new < 0) {
            return us_rec_fail(run, "out of memory");
        }
        if (is_new > 0) {
            page->users[count++] = page->users[i];
        }
    }
    page->count = count;
    return US_REC_OK;
}

/* One page after the other: ask, compare, write, remember. */
static us_rec_end walk(us_rec_run *run, us_rec_source *source,
                       us_rec_target *target, us_rec_state *state)
{
    us_rec_end end = US_REC_OK;
    us_rec_page page = {NULL, 0, NULL, 0};
    apr_pool_t *pool;

    apr_pool_create(&pool, run->pool);
    while (end == US_REC_OK && !page.is_last) {
        apr_pool_clear(pool);
        end = source->next(source, pool, &page);
        if (end == US_REC_OK) {
            end = take_new(run, &page);
        }
        if (end == US_REC_OK) {
            end = us_rec_settle(target, pool, page.users, page.count,
                                page.asked, 0);
        }
        if (end == US_REC_OK) {
            run->users += page.count;
            end = us_rec_state_save(state, pool, target, &page);
            us_rec_progress(run, source->total);
        }
    }
    us_rec_progress_end(run);
    apr_pool_destroy(pool);
    return end;
}

static us_rec_end reconcile(us_rec_run *run)
{
    us_rec_source *source = NULL;
    us_rec_target *target = NULL;
    us_rec_state *state = NULL;
    us_rec_end end = run->options->url != NULL
                         ? us_rec_api_create(run, &source)
                         : us_rec_auth_users_create(run, &source);

    if (end == US_REC_OK) {
        end = us_rec_target_create(run, source, &target);
    }
    if (end == US_REC_OK) {
        end = us_rec_state_open(run, source, target, &state);
    }
    if (end == US_REC_OK && !us_rec_state_is_walked(state)) {
        end = walk(run, source, target, state);
    }
    if (end == US_REC_OK) {
        end = us_rec_bury(target);
    }
    if (end == US_REC_OK) {
        us_rec_state_remove(state);
    }
    return end;
}

static int run_with(apr_pool_t *pool, const us_rec_options *options)
{
    us_rec_run run = {.pool = pool, .options = options};

    catch_signals();
    run.seen = us_rec_ids_create(pool);
    if (run.seen == NULL) {
        return us_rec_result(&run, us_rec_fail(&run, "out of memory"));
    }
    run.db = us_rec_db_create(&run, options->db, "--db");
    return us_rec_result(&run, reconcile(&run));
}

int main(int argc, const char *const *argv)
{
    const char *wrong = NULL;
    us_rec_options options;
    apr_pool_t *pool;
    int status = 2;

    if (apr_initialize() != APR_SUCCESS
        || apr_pool_create(&pool, NULL) != APR_SUCCESS) {
        return status;
    }
    apr_allocator_max_free_set(apr_pool_allocator_get(pool), KEPT_MEMORY);
    switch (us_rec_options_read(pool, argc, argv, &options, &wrong)) {
    case US_REC_HELP:
        (void)fputs(us_rec_usage, stdout);
        status = 0;
        break;
    case US_REC_VERSION:
        (void)printf("usersync-reconcile %s\n", US_VERSION);
        status = 0;
        break;
    case US_REC_WRONG:
        (void)fprintf(stderr,
                      "usersync-reconcile: %s (--help lists the options)\n",
                      wrong);
        break;
    case US_REC_WORK:
        status = run_with(pool, &options);
        break;
    }
    /* what is not written is not done */
    if (fflush(stdout) != 0 && status == 0) {
        status = 2;
    }
    apr_pool_destroy(pool);
    apr_terminate();
    return status;
}
