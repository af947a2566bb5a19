/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "report.h"
#include "us_clock.h"
#include "us_json.h"

#include <apr_strings.h>

#include <stdio.h>
#include <unistd.h>

#define BAR_WIDTH 30

static const char *const names[US_REC_CLASSES]
    = {"ok",      "missing", "stale", "banned", "deleted",
       "phantom", "refused", "newer", "kept"};

static int is_difference(int class)
{
    return class != US_REC_SAME && class != US_REC_NEWER
           && class != US_REC_KEPT;
}

void us_rec_report(us_rec_run *run, us_rec_class class, const char *id,
                   const char *reason)
{
    run->counts[class]++;
    if (run->options->list && class != US_REC_SAME) {
        (void)printf("%s %s %s\n", names[class], id,
                     reason != NULL ? reason : "");
    }
}

apr_int64_t us_rec_differences(const us_rec_run *run)
{
    apr_int64_t count = 0;
    int i;

    for (i = 0; i < US_REC_CLASSES; i++) {
        count += is_difference(i) ? run->counts[i] : 0;
    }
    return count;
}

/* --- progress --- */

static int shows_progress(const us_rec_run *run)
{
    return !run->options->quiet && isatty(STDERR_FILENO);
}

void us_rec_progress(const us_rec_run *run, apr_int64_t total)
{
    static apr_time_t start;
    static apr_int64_t before; /* users of an interrupted run */
    char bar[BAR_WIDTH + 1];
    apr_time_t now = us_clock_now();
    apr_int64_t rate;
    apr_int64_t left;
    int i;

    if (!shows_progress(run)) {
        return;
    }
    if (start == 0) {
        start = now;
        before = run->users;
    }
    rate = (run->users - before) * APR_USEC_PER_SEC / (now - start + 1);
    if (total < run->users) {
        (void)fprintf(stderr,
                      "\r%" APR_INT64_T_FMT " users, %" APR_INT64_T_FMT "/s ",
                      run->users, rate);
        return;
    }
    left = rate > 0 ? (total - run->users) / rate : 0;
    for (i = 0; i < BAR_WIDTH; i++) {
        bar[i] = run->users * BAR_WIDTH > total * i ? '#' : '.';
    }
    bar[BAR_WIDTH] = '\0';
    (void)fprintf(stderr,
                  "\r[%s] %" APR_INT64_T_FMT "/%" APR_INT64_T_FMT
                  " users, %" APR_INT64_T_FMT "/s, %" APR_INT64_T_FMT
                  ":%02d left ",
                  bar, run->users, total, rate, left / 60, (int)(left % 60));
}

void us_rec_progress_end(const us_rec_run *run)
{
    if (shows_progress(run)) {
        (void)fprintf(stderr, "\n");
    }
}

/* --- the result --- */

static void print_json(const us_rec_run *run, us_rec_end end, int status)
{
    us_json_out *out = us_json_out_create(run->pool);
    apr_size_t len;
    int i;

    us_json_out_string(out, "mode", run->options->apply ? "apply" : "dry-run");
    us_json_out_int(out, "users", (int)run->users);
    for (i = 0; i < US_REC_CLASSES; i++) {
        us_json_out_int(out, names[i], (int)run->counts[i]);
    }
    us_json_out_int(out, "applied", (int)run->applied);
    us_json_out_int(out, "exit", status);
    if (end == US_REC_FAILED) {
        us_json_out_string(out, "error", run->problem);
    }
    else if (end == US_REC_STOPPED) {
        us_json_out_string(out, "error", "stopped by a signal");
    }
    (void)printf("%s\n", us_json_out_text(out, &len));
}

static void print_summary(const us_rec_run *run)
{
    int i;

    (void)printf("%" APR_INT64_T_FMT " users", run->users);
    for (i = 0; i < US_REC_CLASSES; i++) {
        if (run->counts[i] != 0) {
            (void)printf(", %" APR_INT64_T_FMT " %s", run->counts[i],
                         names[i]);
        }
    }
    if (run->options->apply) {
        (void)printf("; %" APR_INT64_T_FMT " written\n", run->applied);
    }
    else {
        (void)printf("%s\n", us_rec_differences(run) > 0
                                 ? "; nothing is written without --apply"
                                 : "");
    }
}

int us_rec_result(us_rec_run *run, us_rec_end end)
{
    int status = 2;

    if (end == US_REC_OK) {
        status = (run->options->apply ? run->counts[US_REC_REFUSED]
                                      : us_rec_differences(run))
                 > 0;
    }
    if (end == US_REC_FAILED) {
        (void)fprintf(stderr, "usersync-reconcile: %s\n", run->problem);
    }
    else if (end == US_REC_STOPPED) {
        (void)fprintf(
            stderr, "usersync-reconcile: stopped by a signal%s\n",
            run->options->state != NULL ? "; the same command continues" : "");
    }
    if (!run->options->quiet && !run->options->json) {
        print_summary(run);
    }
    if (run->options->json) {
        print_json(run, end, status);
    }
    return status;
}
