/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "status.h"
#include "us_reply.h"

#include <http_core.h>
#include <httpd.h>

#include <apr_strings.h>

#include <string.h>

/* Readable on a phone, by day and by night, without scripts.  Nothing is wider
 * than the screen: what does not fit goes into the next line. */
static const char head[]
    = "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width\">\n"
      "<meta http-equiv=\"refresh\" content=\"10\">\n"
      "<title>%s: mod_usersync</title>\n<style>\n"
      ":root { color-scheme: light dark;"
      " --edge: light-dark(#d8dce2, #3a3f47);"
      " --card: light-dark(#fff, #1d2025); --page: light-dark(#f3f4f6, "
      "#121417);"
      " --soft: light-dark(#5b626d, #a2a9b4);"
      " --well: light-dark(#17743b, #1f7a43);"
      " --ill: light-dark(#b3261e, #b9352c);"
      " --bad: light-dark(#b3261e, #ff8a80); }\n"
      "body { background: var(--page); font: 16px/1.45 system-ui, sans-serif;"
      " margin: 0 auto; max-width: 70rem; overflow-wrap: anywhere;"
      " padding: 1rem; }\n"
      "h1 { font-size: 1.5rem; margin: 0; }\n"
      "h2 { font-size: 1.05rem; margin: 0 0 .5rem; }\n"
      "h3 { color: var(--soft); font-size: .9rem; font-weight: normal;"
      " margin: .75rem 0 .3rem; }\n"
      "header, li > div, .codes { align-items: baseline; display: flex;"
      " flex-wrap: wrap; gap: .2rem .8rem; }\n"
      "p { color: var(--soft); margin: .25rem 0; }\n"
      "main { display: grid; gap: 1rem; margin-top: 1rem;"
      " grid-template-columns: repeat(auto-fit, minmax(min(100%%, 26rem), "
      "1fr));"
      " }\n"
      "section { background: var(--card); border: 1px solid var(--edge);"
      " border-radius: .6rem; min-width: 0; padding: .9rem 1rem; }\n"
      "section.wide { grid-column: 1 / -1; }\n"
      "ul { list-style: none; margin: 0; padding: 0; }\n"
      "li { border-top: 1px solid var(--edge); padding: .4rem 0; }\n"
      "h2 + ul > li:first-child { border-top: 0; }\n"
      "li > div > b { flex: 1 1 auto; }\n"
      "li p:not(.soft) { color: inherit; }\n"
      "table { border-collapse: collapse; width: 100%%; }\n"
      "th, td { border-top: 1px solid var(--edge); font-weight: normal;"
      " padding: .35rem .6rem .35rem 0; text-align: left;"
      " vertical-align: top; }\n"
      "h2 + table tr:first-child > * { border-top: 0; }\n"
      "th[scope=col] { color: var(--soft); }\n"
      "th, td.n { overflow-wrap: normal; }\n"
      "td.n, th.n { padding: .35rem 0 .35rem .6rem; text-align: right; }\n"
      "td.n { white-space: nowrap; }\n"
      ".doors th { width: 5rem; }\n"
      "td, .codes b { font-variant-numeric: tabular-nums; }\n"
      ".soft { color: var(--soft); }\n"
      ".bad { color: var(--bad); }\n"
      ".well, .ill { border-radius: 1rem; color: #fff; font-size: .85rem;"
      " font-weight: bold; padding: .05rem .65rem; white-space: nowrap; }\n"
      ".well { background: var(--well); }\n.ill { background: var(--ill); }\n"
      "header .well, header .ill { font-size: 1rem; }\n"
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

/* "3 min" */
static const char *duration(apr_pool_t *pool, apr_interval_time_t elapsed)
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

    puts_to(out, "<section>\n<h2>Users tables</h2>\n<ul>\n");
    for (i = 0; i < view->tables->nelts; i++) {
        const us_status_table *table
            = &APR_ARRAY_IDX(view->tables, i, us_status_table);

        apr_brigade_printf(out, NULL, NULL, "<li><div><b>%s</b> ",
                           escaped(out->p, table->server));
        write_badge(out, table->outcome == US_OK && !table->is_misfit, "up",
                    table->outcome == US_OK ? "does not match" : "down");
        puts_to(out, "</div>");
        if (table->cause != NULL) {
            apr_brigade_printf(out, NULL, NULL, "\n<p>%s</p>",
                               escaped(out->p, table->cause));
        }
        if (table->connections.most > 0) {
            apr_brigade_printf(out, NULL, NULL,
                               "\n<p class=\"soft\">%d of %d connections of a "
                               "child in use</p>",
                               table->connections.in_use,
                               table->connections.most);
        }
        puts_to(out, "</li>\n");
    }
    puts_to(out, "</ul>\n</section>\n");
}

static void write_circuit(apr_bucket_brigade *out, const us_circuit *circuit)
{
    apr_brigade_printf(out, NULL, NULL, "<li><div><b>%s</b> ",
                       us_status_timing((int)circuit->operation));
    if (circuit->is_open && circuit->seconds > 0) {
        apr_brigade_printf(out, NULL, NULL,
                           "<span class=\"soft\">next try in %d s</span> ",
                           circuit->seconds);
    }
    else if (circuit->is_open) {
        puts_to(out, "<span class=\"soft\">the next request tries</span> ");
    }
    else if (circuit->is_open_alone) {
        puts_to(out, "<span class=\"bad\">open for one client only</span> ");
    }
    write_badge(out, !circuit->is_open, "circuit closed", "circuit open");
    puts_to(out, "</div></li>\n");
}

/* Circuits of a project stand together. */
static void write_circuits(apr_bucket_brigade *out, const us_status_view *view)
{
    const char *project = NULL;
    int is_full = view->limits.waiting >= view->limits.most;
    int i;

    apr_brigade_printf(out, NULL, NULL,
                       "<section>\n<h2>Supabase</h2>\n<ul>\n"
                       "<li><div><b>Requests that wait now</b> "
                       "<span%s>%" APR_INT64_T_FMT " of %" APR_INT64_T_FMT
                       "</span></div></li>\n",
                       is_full ? " class=\"bad\"" : "", view->limits.waiting,
                       view->limits.most);
    for (i = 0; i < view->circuits->nelts; i++) {
        const us_circuit *circuit
            = &APR_ARRAY_IDX(view->circuits, i, us_circuit);

        if (project == NULL || strcmp(project, circuit->project) != 0) {
            project = circuit->project;
            apr_brigade_printf(out, NULL, NULL, "</ul>\n<h3>%s</h3>\n<ul>\n",
                               escaped(out->p, project));
        }
        write_circuit(out, circuit);
    }
    puts_to(out, "</ul>\n");
    if (view->circuits->nelts == 0) {
        puts_to(out, "<p>UserSyncCircuitBreaker is Off.</p>\n");
    }
    puts_to(out, "</section>\n");
}

/* The texts of log lines say what to do. */
static void write_troubles(apr_bucket_brigade *out, const us_status_view *view)
{
    int i;

    puts_to(out, "<section class=\"wide\">\n<h2>Latest troubles</h2>\n");
    if (view->trouble_count == 0) {
        puts_to(out, "<p>None.</p>\n</section>\n");
        return;
    }
    puts_to(out, "<ul>\n");
    for (i = 0; i < view->trouble_count; i++) {
        const us_trouble *trouble = &view->troubles[i];

        apr_brigade_printf(
            out, NULL, NULL,
            "<li><div><b>%s: %s</b> <span class=\"soft\">%s ago</span></div>"
            "\n<p>%s</p></li>\n",
            us_status_door(trouble->door), us_reply_code(trouble->outcome),
            duration(out->p, view->now - trouble->when),
            escaped(out->p, trouble->cause));
    }
    puts_to(out, "</ul>\n</section>\n");
}

/* Is it for the operator to mend? */
static int is_bad(us_outcome outcome)
{
    return outcome == US_UNSYNCED
           || us_reply_status(outcome) >= HTTP_INTERNAL_SERVER_ERROR;
}

/* One door's line.  Returns 0, and writes nothing, if nobody came. */
static int write_door(apr_bucket_brigade *out, const us_status_view *view,
                      us_door door)
{
    int found = 0;
    int i;

    for (i = 0; i < US_OUTCOME_COUNT; i++) {
        apr_int64_t n = us_status_count(view, door, i);

        if (n <= 0) {
            continue;
        }
        if (!found) {
            apr_brigade_printf(out, NULL, NULL,
                               "<tr id=\"%s\"><th scope=\"row\">%s</th><td>"
                               "<div class=\"codes\">",
                               us_status_door(door), us_status_door(door));
            found = 1;
        }
        apr_brigade_printf(out, NULL, NULL,
                           "<span%s>%s <b>%" APR_INT64_T_FMT "</b></span> ",
                           is_bad((us_outcome)i) ? " class=\"bad\"" : "",
                           us_reply_code((us_outcome)i), n);
    }
    if (found) {
        puts_to(out, "</div></td></tr>\n");
    }
    return found;
}

static void write_requests(apr_bucket_brigade *out, const us_status_view *view)
{
    int found = 0;
    int door;

    puts_to(out, "<section class=\"wide\">\n<h2>Requests</h2>\n"
                 "<table class=\"doors\">\n");
    for (door = 0; door < US_DOOR_COUNT; door++) {
        found |= write_door(out, view, (us_door)door);
    }
    puts_to(out, "</table>\n");
    if (!found) {
        puts_to(out, "<p>None yet.</p>\n");
    }
    puts_to(out, "</section>\n");
}

static void write_row(apr_bucket_brigade *out, const char *name,
                      apr_uint64_t n)
{
    apr_brigade_printf(out, NULL, NULL,
                       "<tr><th scope=\"row\">%s</th><td class=\"n\">"
                       "%" APR_UINT64_T_FMT "</td></tr>\n",
                       name, n);
}

static void write_rows(apr_bucket_brigade *out, const us_status_view *view)
{
    const apr_uint64_t *n = view->stats.tallies;

    puts_to(out, "<section>\n<h2>Rows and cache</h2>\n<table>\n");
    write_row(out, "Rows created", n[US_TALLY_ROW_CREATED]);
    write_row(out, "Rows updated", n[US_TALLY_ROW_UPDATED]);
    write_row(out, "Rows deleted", n[US_TALLY_ROW_DELETED]);
    write_row(out, "Let through without a row that is sure",
              n[US_TALLY_UNSYNCED_GATE] + n[US_TALLY_UNSYNCED_HOOK]
                  + n[US_TALLY_UNSYNCED_REPORT]);
    write_row(out, "E-mails that could not follow", n[US_TALLY_EMAIL_STALE]);
    write_row(out, "Users the cache knew", n[US_TALLY_CACHE_KNOWN]);
    write_row(out, "Users it did not know", n[US_TALLY_CACHE_UNKNOWN]);
    puts_to(out, "</table>\n</section>\n");
}

/* What 95 of 100 did not exceed, as exactly as the buckets tell: "250 ms". */
static const char *most_took(apr_pool_t *pool, const us_histogram *of)
{
    apr_uint64_t sum = 0;
    int i;

    for (i = 0; i < US_STATS_BUCKETS; i++) {
        sum += of->buckets[i];
        if (sum * 100 >= of->count * 95) {
            return apr_psprintf(pool, "%g ms",
                                (double)us_stats_bounds[i] / 1000);
        }
    }
    return "over 10 s";
}

static void write_timings(apr_bucket_brigade *out, const us_status_view *view)
{
    int i;

    puts_to(out, "<section>\n<h2>Times</h2>\n<table>\n"
                 "<tr><th scope=\"col\">Waits for</th>"
                 "<th scope=\"col\" class=\"n\">Count</th>"
                 "<th scope=\"col\" class=\"n\">Mean</th>"
                 "<th scope=\"col\" class=\"n\">95 % within</th></tr>\n");
    for (i = 0; i < US_TIMINGS; i++) {
        const us_histogram *of = &view->stats.timings[i];

        apr_brigade_printf(out, NULL, NULL,
                           "<tr><th scope=\"row\">%s</th><td class=\"n\">"
                           "%" APR_UINT64_T_FMT "</td>",
                           i == US_TIMING_STORE ? "the users table"
                                                : us_status_timing(i),
                           of->count);
        if (of->count == 0) {
            puts_to(out, "<td class=\"n\">-</td><td class=\"n\">-</td>"
                         "</tr>\n");
            continue;
        }
        apr_brigade_printf(
            out, NULL, NULL,
            "<td class=\"n\">%.1f ms</td><td class=\"n\">%s</td></tr>\n",
            (double)of->sum / (double)of->count / 1000, most_took(out->p, of));
    }
    puts_to(out, "</table>\n</section>\n");
}

void us_status_html_block(apr_bucket_brigade *out, const us_status_view *view)
{
    puts_to(out, "<hr>\n<h2>mod_usersync</h2>\n");
    write_tables(out, view);
    write_circuits(out, view);
    write_troubles(out, view);
}

static void write_head(apr_bucket_brigade *out, const us_status_view *view)
{
    int is_well = us_status_is_well(view);
    apr_time_exp_t now;

    apr_time_exp_gmt(&now, view->now);
    apr_brigade_printf(out, NULL, NULL, head,
                       is_well ? "all well" : "needs a look");
    puts_to(out, "<header><h1>mod_usersync</h1> ");
    write_badge(out, is_well, "all well", "needs a look");
    apr_brigade_printf(
        out, NULL, NULL,
        "</header>\n<p>Version " US_VERSION " in %s, at %02d:%02d:%02d UTC. "
        "This server has counted for %s.</p>\n<main>\n",
        escaped(out->p, ap_get_server_banner()), now.tm_hour, now.tm_min,
        now.tm_sec, duration(out->p, view->now - view->stats.since));
}

void us_status_html(apr_bucket_brigade *out, const us_status_view *view)
{
    write_head(out, view);
    write_tables(out, view);
    write_circuits(out, view);
    write_troubles(out, view);
    write_requests(out, view);
    write_rows(out, view);
    write_timings(out, view);
    puts_to(out, "</main>\n</body>\n</html>\n");
}
