/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "status.h"
#include "us_reply.h"

#include <http_log.h>

#include <apr_strings.h>

#include <string.h>

/* A value in quotes as OpenMetrics and Prometheus want it. */
static const char *label(apr_pool_t *pool, const char *text)
{
    char *quoted = apr_palloc(pool, 2 * strlen(text) + 3);
    char *to = quoted;

    *to++ = '"';
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\' || *text == '\n') {
            *to++ = '\\';
        }
        *to++ = (char)(*text == '\n' ? 'n' : *text);
    }
    *to++ = '"';
    *to = '\0';
    return quoted;
}

/* The head of a metric.  In OpenMetrics a counter is named without _total. */
static void begin(apr_bucket_brigade *out, int openmetrics, const char *name,
                  const char *type, const char *help)
{
    const char *suffix
        = !openmetrics && strcmp(type, "counter") == 0 ? "_total" : "";

    apr_brigade_printf(out, NULL, NULL, "# TYPE usersync_%s%s %s\n", name,
                       suffix, type);
    apr_brigade_printf(out, NULL, NULL, "# HELP usersync_%s%s %s\n", name,
                       suffix, help);
}

static int is_used(const us_status_view *view, int door)
{
    int i = 0;

    while (i < US_OUTCOME_COUNT && view->stats.outcomes[door][i] == 0) {
        i++;
    }
    return i < US_OUTCOME_COUNT;
}

/* A rate sees the first of something only if it was there before, as 0.  So
 * is what is worth an alert, of all doors that are in use. */
static void write_requests(apr_bucket_brigade *out, const us_status_view *view)
{
    int door;
    int i;

    for (door = 0; door < US_DOOR_COUNT; door++) {
        int level = is_used(view, door) ? APLOG_WARNING : -1;

        for (i = 0; i < US_OUTCOME_COUNT; i++) {
            apr_int64_t n = us_status_count(view, (us_door)door, i);

            if (n > 0
                || (n == 0
                    && (i == US_OK
                        || us_reply_level((us_outcome)i) <= level))) {
                apr_brigade_printf(out, NULL, NULL,
                                   "usersync_requests_total{route=\"%s\","
                                   "code=\"%s\"} %" APR_INT64_T_FMT "\n",
                                   us_status_door((us_door)door),
                                   us_reply_code((us_outcome)i), n);
            }
        }
    }
}

/* The same of hooks and events. */
static void write_topics(apr_bucket_brigade *out, const us_status_view *view,
                         const char *name, us_topic first, us_topic last)
{
    static const char *const topics[US_TOPIC_COUNT]
        = {[US_TOPIC_TOKEN] = "name=\"customize-access-token\"",
           [US_TOPIC_BEFORE_CREATED] = "name=\"before-user-created\"",
           [US_TOPIC_AFTER_CREATED] = "name=\"after-user-created\"",
           [US_TOPIC_UNKNOWN_HOOK] = "name=\"unknown\"",
           [US_TOPIC_INSERT] = "type=\"insert\"",
           [US_TOPIC_UPDATE] = "type=\"update\"",
           [US_TOPIC_DELETE] = "type=\"delete\"",
           [US_TOPIC_UNKNOWN_EVENT] = "type=\"unknown\""};
    us_topic topic;
    int i;

    for (topic = first; topic <= last; topic++) {
        us_outcome usual = last == US_TOPIC_UNKNOWN_EVENT ? US_APPLIED : US_OK;

        for (i = 0; i < US_OUTCOME_COUNT; i++) {
            apr_int64_t n = us_status_sum(view->stats.topics[topic], i);
            int is_idle = i == US_OK && usual == US_APPLIED;

            if (n > 0 || (n == 0 && i == (int)usual)) {
                apr_brigade_printf(
                    out, NULL, NULL,
                    "usersync_%s_total{%s,result=\"%s\"} %" APR_INT64_T_FMT
                    "\n",
                    name, topics[topic],
                    is_idle ? "unchanged" : us_reply_code((us_outcome)i), n);
            }
        }
    }
}

static void write_doors(apr_bucket_brigade *out, const us_status_view *view,
                        int openmetrics)
{
    begin(out, openmetrics, "requests", "counter",
          "Requests by where they came in and how they ended.");
    write_requests(out, view);
    begin(out, openmetrics, "hook", "counter",
          "Requests to the hook by its name at Supabase and their result.");
    write_topics(out, view, "hook", US_TOPIC_TOKEN, US_TOPIC_UNKNOWN_HOOK);
    begin(out, openmetrics, "events", "counter",
          "Events by what happened at Supabase and their result.");
    write_topics(out, view, "events", US_TOPIC_INSERT, US_TOPIC_UNKNOWN_EVENT);
}

static void write_unsynced(apr_bucket_brigade *out, const us_status_view *view,
                           int openmetrics)
{
    const apr_uint64_t *n = view->stats.tallies;

    begin(out, openmetrics, "unsynced", "counter",
          "What was let through although no row of the user was sure.");
    apr_brigade_printf(
        out, NULL, NULL,
        "usersync_unsynced_total{route=\"gate\"} %" APR_UINT64_T_FMT "\n"
        "usersync_unsynced_total{route=\"hook\"} %" APR_UINT64_T_FMT "\n"
        "usersync_unsynced_total{route=\"report\"} %" APR_UINT64_T_FMT "\n",
        n[US_TALLY_UNSYNCED_GATE], n[US_TALLY_UNSYNCED_HOOK],
        n[US_TALLY_UNSYNCED_REPORT]);
}

static void write_tallies(apr_bucket_brigade *out, const us_status_view *view,
                          int openmetrics)
{
    const apr_uint64_t *n = view->stats.tallies;

    begin(out, openmetrics, "rows", "counter",
          "Rows of the users table that were written.");
    apr_brigade_printf(
        out, NULL, NULL,
        "usersync_rows_total{result=\"created\"} %" APR_UINT64_T_FMT "\n"
        "usersync_rows_total{result=\"updated\"} %" APR_UINT64_T_FMT "\n"
        "usersync_rows_total{result=\"deleted\"} %" APR_UINT64_T_FMT "\n",
        n[US_TALLY_ROW_CREATED], n[US_TALLY_ROW_UPDATED],
        n[US_TALLY_ROW_DELETED]);
    begin(out, openmetrics, "email_stale", "counter",
          "Sign-ins whose new e-mail the table did not take.");
    apr_brigade_printf(out, NULL, NULL,
                       "usersync_email_stale_total %" APR_UINT64_T_FMT "\n",
                       n[US_TALLY_EMAIL_STALE]);
    begin(out, openmetrics, "cache_lookups", "counter",
          "Users who were looked for in the cache.");
    apr_brigade_printf(
        out, NULL, NULL,
        "usersync_cache_lookups_total{result=\"known\"} %" APR_UINT64_T_FMT
        "\n"
        "usersync_cache_lookups_total{result=\"unknown\"} %" APR_UINT64_T_FMT
        "\n",
        n[US_TALLY_CACHE_KNOWN], n[US_TALLY_CACHE_UNKNOWN]);
}

/* One histogram; labels is "" or what stands before le. */
static void write_histogram(apr_bucket_brigade *out, const us_histogram *of,
                            const char *name, const char *labels)
{
    apr_uint64_t sum = 0;
    int i;

    for (i = 0; i < US_STATS_BUCKETS; i++) {
        sum += of->buckets[i];
        apr_brigade_printf(
            out, NULL, NULL,
            "usersync_%s_bucket{%s%sle=\"%g\"} %" APR_UINT64_T_FMT "\n", name,
            labels, *labels != '\0' ? "," : "",
            (double)us_stats_bounds[i] / 1e6, sum);
    }
    apr_brigade_printf(out, NULL, NULL,
                       "usersync_%s_bucket{%s%sle=\"+Inf\"} %" APR_UINT64_T_FMT
                       "\n",
                       name, labels, *labels != '\0' ? "," : "", of->count);
    apr_brigade_printf(out, NULL, NULL,
                       "usersync_%s_count%s%s%s %" APR_UINT64_T_FMT "\n"
                       "usersync_%s_sum%s%s%s %.6f\n",
                       name, *labels != '\0' ? "{" : "", labels,
                       *labels != '\0' ? "}" : "", of->count, name,
                       *labels != '\0' ? "{" : "", labels,
                       *labels != '\0' ? "}" : "", (double)of->sum / 1e6);
}

static void write_timings(apr_bucket_brigade *out, const us_status_view *view,
                          int openmetrics)
{
    int i;

    begin(out, openmetrics, "upstream_duration_seconds", "histogram",
          "How long the routes waited for Supabase.");
    for (i = 0; i < US_TIMING_STORE; i++) {
        write_histogram(
            out, &view->stats.timings[i], "upstream_duration_seconds",
            apr_psprintf(out->p, "operation=\"%s\"", us_status_timing(i)));
    }
    begin(out, openmetrics, "store_duration_seconds", "histogram",
          "How long requests waited for the users table.");
    write_histogram(out, &view->stats.timings[US_TIMING_STORE],
                    "store_duration_seconds", "");
}

static void write_gauges(apr_bucket_brigade *out, const us_status_view *view,
                         int openmetrics)
{
    int i;

    begin(out, openmetrics, "upstream_inflight", "gauge",
          "Requests that wait for Supabase now.");
    apr_brigade_printf(out, NULL, NULL,
                       "usersync_upstream_inflight %" APR_INT64_T_FMT "\n",
                       view->limits.waiting);
    begin(out, openmetrics, "upstream_limit", "gauge",
          "How many may wait, see UserSyncMaxConcurrent.");
    apr_brigade_printf(out, NULL, NULL,
                       "usersync_upstream_limit %" APR_INT64_T_FMT "\n",
                       view->limits.most);
    begin(out, openmetrics, "circuit_open", "gauge",
          "1 while Supabase is not asked, see UserSyncCircuitBreaker.");
    for (i = 0; i < view->circuits->nelts; i++) {
        const us_circuit *circuit
            = &APR_ARRAY_IDX(view->circuits, i, us_circuit);

        apr_brigade_printf(out, NULL, NULL,
                           "usersync_circuit_open{project=%s,operation=\"%s\"}"
                           " %d\n",
                           label(out->p, circuit->project),
                           us_status_timing((int)circuit->operation),
                           circuit->is_open);
    }
}

static void write_tables(apr_bucket_brigade *out, const us_status_view *view,
                         int openmetrics)
{
    const us_status_table *tables
        = (const us_status_table *)view->tables->elts;
    int i;

    begin(out, openmetrics, "store_up", "gauge",
          "1 if the users table can be asked.");
    for (i = 0; i < view->tables->nelts; i++) {
        apr_brigade_printf(
            out, NULL, NULL, "usersync_store_up{server=%s} %d\n",
            label(out->p, tables[i].server), tables[i].outcome == US_OK);
    }
    begin(out, openmetrics, "store_misfit", "gauge",
          "1 if the users table is not as the directives say.");
    for (i = 0; i < view->tables->nelts; i++) {
        apr_brigade_printf(
            out, NULL, NULL, "usersync_store_misfit{server=%s} %d\n",
            label(out->p, tables[i].server), tables[i].is_misfit);
    }
}

void us_status_metrics(apr_bucket_brigade *out, const us_status_view *view,
                       int openmetrics)
{
    begin(out, openmetrics, openmetrics ? "build" : "build_info",
          openmetrics ? "info" : "gauge", "The version of mod_usersync.");
    apr_brigade_puts(out, NULL, NULL,
                     "usersync_build_info{version=\"" US_VERSION "\"} 1\n");
    begin(out, openmetrics, "start_time_seconds", "gauge",
          "When counting began.");
    apr_brigade_printf(out, NULL, NULL, "usersync_start_time_seconds %.3f\n",
                       (double)view->stats.since / 1e6);
    write_doors(out, view, openmetrics);
    write_unsynced(out, view, openmetrics);
    write_tallies(out, view, openmetrics);
    write_timings(out, view, openmetrics);
    write_gauges(out, view, openmetrics);
    write_tables(out, view, openmetrics);
    if (openmetrics) {
        apr_brigade_puts(out, NULL, NULL, "# EOF\n");
    }
}

/* --- mod_status --- */

void us_status_lines(apr_bucket_brigade *out, const us_status_view *view)
{
    int door;
    int i;

    apr_brigade_printf(out, NULL, NULL, "UserSyncWell: %d\n",
                       us_status_is_well(view));
    apr_brigade_printf(out, NULL, NULL,
                       "UserSyncWaiting: %" APR_INT64_T_FMT "\n"
                       "UserSyncWaitingLimit: %" APR_INT64_T_FMT "\n",
                       view->limits.waiting, view->limits.most);
    for (door = 0; door < US_DOOR_COUNT; door++) {
        for (i = 0; i < US_OUTCOME_COUNT; i++) {
            apr_int64_t n = us_status_count(view, (us_door)door, i);

            if (n > 0) {
                apr_brigade_printf(out, NULL, NULL,
                                   "UserSyncRequests-%s-%s: %" APR_INT64_T_FMT
                                   "\n",
                                   us_status_door((us_door)door),
                                   us_reply_code((us_outcome)i), n);
            }
        }
    }
}
