/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "status.h"
#include "us_reply.h"

#include <httpd.h>

#include <apr_strings.h>

/* Readable on a phone, by day and by night, without scripts. */
static const char head[]
    = "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width\">\n"
      "<meta http-equiv=\"refresh\" content=\"10\">\n"
      "<title>mod_usersync</title>\n<style>\n"
      ":root { color-scheme: light dark; }\n"
      "body { font: 16px/1.4 system-ui, sans-serif; margin: 1rem auto;"
      " max-width: 60rem; padding: 0 1rem; }\n"
      "table { border-collapse: collapse; margin: 0 0 1rem; }\n"
      "th, td { border-bottom: 1px solid #8886; padding: .2rem .8rem .2rem 0;"
      " text-align: left; vertical-align: top;"
      " overflow-wrap: anywhere; }\n"
      "td.n { text-align: right; font-variant-numeric: tabular-nums; }\n"
      ".well, .ill { border-radius: .3rem; color: #fff; font-weight: bold;"
      " padding: .1rem .5rem; }\n"
      ".well { background: #17743b; }\n.ill { background: #b3261e; }\n"
      "</style>\n</head>\n<body>\n";

static const char *escaped(apr_pool_t *pool, const char *text)
{
    return ap_escape_html2(pool, text, 1);
}

static void puts_to(apr_bucket_brigade *out, const char *text)
{
    apr_brigade_puts(out, NULL, NULL, text);
}

static void write_badge(apr_bucket_brigade *out, int well, const char *good,
                        const char *bad)
{
    apr_brigade_printf(out, NULL, NULL, "<span class=\"%s\">%s</span>",
                       well ? "well" : "ill", well ? good : bad);
}

/* "3 min ago" */
static const char *ago(apr_pool_t *pool, apr_interval_time_t elapsed)
{
    apr_int64_t seconds = elapsed > 0 ? apr_time_sec(elapsed) : 0;

    if (seconds < 120) {
        return apr_psprintf(pool, "%" APR_INT64_T_FMT " s", seconds);
    }
    if (seconds < 7200) {
        return apr_psprintf(pool, "%" APR_INT64_T_FMT " min", seconds / 60);
    }
    return apr_psprintf(pool, "%" APR_INT64_T_FMT " h", seconds / 3600);
}

/* --- the parts of the page --- */

static void write_tables(apr_bucket_brigade *out, const us_status_view *view)
{
    int i;

    puts_to(out, "<h2>Users tables</h2>\n<table>\n");
    for (i = 0; i < view->tables->nelts; i++) {
        const us_status_table *table
            = &APR_ARRAY_IDX(view->tables, i, us_status_table);

        apr_brigade_printf(out, NULL, NULL, "<tr><th>%s</th><td>",
                           escaped(out->p, table->server));
        write_badge(out, table->outcome == US_OK && !table->is_misfit, "up",
                    table->outcome == US_OK ? "does not match" : "down");
        apr_brigade_printf(
            out, NULL, NULL, "</td><td>%s</td></tr>\n",
            table->cause == NULL ? "" : escaped(out->p, table->cause));
    }
    puts_to(out, "</table>\n");
}

static void write_circuits(apr_bucket_brigade *out, const us_status_view *view)
{
    int i;

    puts_to(out, "<h2>Supabase</h2>\n<table>\n");
    apr_brigade_printf(out, NULL, NULL,
                       "<tr><th>Waiting now</th><td>%" APR_INT64_T_FMT
                       " of %" APR_INT64_T_FMT "</td><td></td></tr>\n",
                       view->limits.waiting, view->limits.most);
    for (i = 0; i < view->circuits->nelts; i++) {
        const us_circuit *circuit
            = &APR_ARRAY_IDX(view->circuits, i, us_circuit);

        apr_brigade_printf(out, NULL, NULL, "<tr><th>%s: %s</th><td>",
                           escaped(out->p, circuit->project),
                           us_status_timing((int)circuit->operation));
        write_badge(out, !circuit->is_open, "asked", "circuit open");
        puts_to(out, "</td><td>");
        if (circuit->is_open && circuit->seconds > 0) {
            apr_brigade_printf(out, NULL, NULL, "next try in %d s",
                               circuit->seconds);
        }
        else if (circuit->is_open_alone) {
            puts_to(out, "open for one client only");
        }
        puts_to(out, "</td></tr>\n");
    }
    puts_to(out, "</table>\n");
}

/* The texts of log lines say what to do. */
static void write_troubles(apr_bucket_brigade *out, const us_status_view *view)
{
    int i;

    puts_to(out, "<h2>Latest troubles</h2>\n");
    if (view->trouble_count == 0) {
        puts_to(out, "<p>None.</p>\n");
        return;
    }
    puts_to(out, "<table>\n<tr><th>Ago</th><th>Where</th><th>Code</th>"
                 "<th>What happened, and what to do</th></tr>\n");
    for (i = 0; i < view->trouble_count; i++) {
        const us_trouble *trouble = &view->troubles[i];

        apr_brigade_printf(out, NULL, NULL,
                           "<tr><td>%s</td><td>%s</td><td>%s</td><td>%s</td>"
                           "</tr>\n",
                           ago(out->p, view->now - trouble->when),
                           us_status_door(trouble->door),
                           us_reply_code(trouble->outcome),
                           escaped(out->p, trouble->cause));
    }
    puts_to(out, "</table>\n");
}

static void write_requests(apr_bucket_brigade *out, const us_status_view *view)
{
    int door;
    int i;

    puts_to(out, "<h2>Requests</h2>\n<table>\n");
    for (door = 0; door < US_DOOR_COUNT; door++) {
        for (i = 0; i < US_OUTCOME_COUNT; i++) {
            apr_int64_t n = us_status_count(view, (us_door)door, i);

            if (n > 0) {
                apr_brigade_printf(out, NULL, NULL,
                                   "<tr><th>%s</th><td>%s</td><td class=\"n\">"
                                   "%" APR_INT64_T_FMT "</td></tr>\n",
                                   us_status_door((us_door)door),
                                   us_reply_code((us_outcome)i), n);
            }
        }
    }
    puts_to(out, "</table>\n");
}

static void write_row(apr_bucket_brigade *out, const char *name,
                      apr_uint64_t n)
{
    apr_brigade_printf(out, NULL, NULL,
                       "<tr><th>%s</th><td class=\"n\">%" APR_UINT64_T_FMT
                       "</td></tr>\n",
                       name, n);
}

static void write_rows(apr_bucket_brigade *out, const us_status_view *view)
{
    const apr_uint64_t *n = view->stats.tallies;

    puts_to(out, "<h2>Rows and cache</h2>\n<table>\n");
    write_row(out, "Rows created", n[US_TALLY_ROW_CREATED]);
    write_row(out, "Rows updated", n[US_TALLY_ROW_UPDATED]);
    write_row(out, "Rows deleted", n[US_TALLY_ROW_DELETED]);
    write_row(out, "Let through without a row that is sure",
              n[US_TALLY_UNSYNCED_GATE] + n[US_TALLY_UNSYNCED_HOOK]
                  + n[US_TALLY_UNSYNCED_REPORT]);
    write_row(out, "E-mails that could not follow", n[US_TALLY_EMAIL_STALE]);
    write_row(out, "Users the cache knew", n[US_TALLY_CACHE_KNOWN]);
    write_row(out, "Users it did not know", n[US_TALLY_CACHE_UNKNOWN]);
    puts_to(out, "</table>\n");
}

static void write_timings(apr_bucket_brigade *out, const us_status_view *view)
{
    int i;

    puts_to(out, "<h2>Times</h2>\n<table>\n<tr><th></th><th>Requests</th>"
                 "<th>Mean, ms</th></tr>\n");
    for (i = 0; i < US_TIMINGS; i++) {
        const us_histogram *of = &view->stats.timings[i];

        apr_brigade_printf(
            out, NULL, NULL,
            "<tr><th>%s</th><td class=\"n\">%" APR_UINT64_T_FMT
            "</td><td class=\"n\">%.1f</td></tr>\n",
            us_status_timing(i), of->count,
            of->count > 0 ? (double)of->sum / (double)of->count / 1000 : 0.0);
    }
    puts_to(out, "</table>\n");
}

void us_status_html_block(apr_bucket_brigade *out, const us_status_view *view)
{
    puts_to(out, "<hr>\n<h2>mod_usersync</h2>\n");
    write_tables(out, view);
    write_circuits(out, view);
    write_troubles(out, view);
}

void us_status_html(apr_bucket_brigade *out, const us_status_view *view)
{
    puts_to(out, head);
    puts_to(out, "<h1>mod_usersync ");
    write_badge(out, us_status_is_well(view), "all well", "needs a look");
    apr_brigade_printf(out, NULL, NULL,
                       "</h1>\n<p>Version " US_VERSION ", counting for %s. "
                       "All numbers are of this server, since it was started."
                       "</p>\n",
                       ago(out->p, view->now - view->stats.since));
    write_tables(out, view);
    write_circuits(out, view);
    write_troubles(out, view);
    write_requests(out, view);
    write_rows(out, view);
    write_timings(out, view);
    puts_to(out, "</body>\n</html>\n");
}
