/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "status.h"
#include "us_json.h"
#include "us_reply.h"

#include <apr_strings.h>

/* Text of any origin, as a JSON string. */
static const char *quote(apr_pool_t *pool, const char *text)
{
    const char *quoted = us_json_quote_checked(pool, text);

    return quoted != NULL ? quoted : "\"?\"";
}

static const char *time_text(apr_pool_t *pool, apr_time_t when)
{
    apr_time_exp_t t;

    apr_time_exp_gmt(&t, when);
    return apr_psprintf(pool, "\"%04d-%02d-%02dT%02d:%02d:%02dZ\"",
                        t.tm_year + 1900, t.tm_mon + 1, t.tm_mday, t.tm_hour,
                        t.tm_min, t.tm_sec);
}

static void write_requests(apr_bucket_brigade *out, const us_status_view *view)
{
    int door;
    int i;

    apr_brigade_puts(out, NULL, NULL, ",\"requests\":{");
    for (door = 0; door < US_DOOR_COUNT; door++) {
        const char *comma = "";

        apr_brigade_printf(out, NULL, NULL, "%s\"%s\":{", door > 0 ? "," : "",
                           us_status_door((us_door)door));
        for (i = 0; i < US_OUTCOME_COUNT; i++) {
            apr_int64_t n = us_status_count(view, (us_door)door, i);

            if (n > 0) {
                apr_brigade_printf(out, NULL, NULL,
                                   "%s\"%s\":%" APR_INT64_T_FMT, comma,
                                   us_reply_code((us_outcome)i), n);
                comma = ",";
            }
        }
        apr_brigade_puts(out, NULL, NULL, "}");
    }
    apr_brigade_puts(out, NULL, NULL, "}");
}

static void write_timings(apr_bucket_brigade *out, const us_status_view *view)
{
    int i;

    apr_brigade_puts(out, NULL, NULL, ",\"seconds\":{");
    for (i = 0; i < US_TIMINGS; i++) {
        const us_histogram *of = &view->stats.timings[i];

        apr_brigade_printf(out, NULL, NULL,
                           "%s\"%s\":{\"count\":%" APR_UINT64_T_FMT
                           ",\"sum\":%.6f}",
                           i > 0 ? "," : "", us_status_timing(i), of->count,
                           (double)of->sum / 1e6);
    }
    apr_brigade_puts(out, NULL, NULL, "}");
}

static void write_state(apr_bucket_brigade *out, const us_status_view *view)
{
    int i;

    apr_brigade_puts(out, NULL, NULL, ",\"tables\":[");
    for (i = 0; i < view->tables->nelts; i++) {
        const us_status_table *table
            = &APR_ARRAY_IDX(view->tables, i, us_status_table);

        apr_brigade_printf(out, NULL, NULL, "%s{\"server\":%s,\"up\":%s",
                           i > 0 ? "," : "", quote(out->p, table->server),
                           table->outcome == US_OK ? "true" : "false");
        apr_brigade_printf(out, NULL, NULL, ",\"misfit\":%s",
                           table->is_misfit ? "true" : "false");
        if (table->cause != NULL) {
            apr_brigade_printf(out, NULL, NULL, ",\"cause\":%s",
                               quote(out->p, table->cause));
        }
        if (table->connections.most > 0) {
            apr_brigade_printf(out, NULL, NULL,
                               ",\"connections_of_child\":{\"in_use\":%d,"
                               "\"most\":%d}",
                               table->connections.in_use,
                               table->connections.most);
        }
        apr_brigade_puts(out, NULL, NULL, "}");
    }
    apr_brigade_puts(out, NULL, NULL, "],\"circuits\":[");
    for (i = 0; i < view->circuits->nelts; i++) {
        const us_circuit *circuit
            = &APR_ARRAY_IDX(view->circuits, i, us_circuit);

        apr_brigade_printf(out, NULL, NULL,
                           "%s{\"project\":%s,\"operation\":\"%s\",\"open\":%s"
                           ",\"open_for_one_client\":%s,\"seconds\":%d}",
                           i > 0 ? "," : "", quote(out->p, circuit->project),
                           us_status_timing((int)circuit->operation),
                           circuit->is_open ? "true" : "false",
                           circuit->is_open_alone ? "true" : "false",
                           circuit->seconds);
    }
    apr_brigade_puts(out, NULL, NULL, "]");
}

static void write_troubles(apr_bucket_brigade *out, const us_status_view *view)
{
    int i;

    apr_brigade_puts(out, NULL, NULL, ",\"troubles\":[");
    for (i = 0; i < view->trouble_count; i++) {
        const us_trouble *trouble = &view->troubles[i];

        apr_brigade_printf(out, NULL, NULL,
                           "%s{\"at\":%s,\"route\":\"%s\",\"code\":\"%s\","
                           "\"cause\":%s}",
                           i > 0 ? "," : "", time_text(out->p, trouble->when),
                           us_status_door(trouble->door),
                           us_reply_code(trouble->outcome),
                           quote(out->p, trouble->cause));
    }
    apr_brigade_puts(out, NULL, NULL, "]");
}

void us_status_json(apr_bucket_brigade *out, const us_status_view *view)
{
    const apr_uint64_t *n = view->stats.tallies;

    apr_brigade_printf(out, NULL, NULL,
                       "{\"version\":\"" US_VERSION "\",\"well\":%s,\"since\":"
                       "%s,\"waiting\":{\"now\":%" APR_INT64_T_FMT
                       ",\"most\":%" APR_INT64_T_FMT "}",
                       us_status_is_well(view) ? "true" : "false",
                       time_text(out->p, view->stats.since),
                       view->limits.waiting, view->limits.most);
    apr_brigade_printf(out, NULL, NULL,
                       ",\"rows\":{\"created\":%" APR_UINT64_T_FMT
                       ",\"updated\":%" APR_UINT64_T_FMT
                       ",\"deleted\":%" APR_UINT64_T_FMT
                       ",\"email_stale\":%" APR_UINT64_T_FMT
                       "},\"cache\":{\"known\":%" APR_UINT64_T_FMT
                       ",\"unknown\":%" APR_UINT64_T_FMT "}",
                       n[US_TALLY_ROW_CREATED], n[US_TALLY_ROW_UPDATED],
                       n[US_TALLY_ROW_DELETED], n[US_TALLY_EMAIL_STALE],
                       n[US_TALLY_CACHE_KNOWN], n[US_TALLY_CACHE_UNKNOWN]);
    apr_brigade_printf(out, NULL, NULL,
                       ",\"unsynced\":{\"gate\":%" APR_UINT64_T_FMT
                       ",\"hook\":%" APR_UINT64_T_FMT
                       ",\"report\":%" APR_UINT64_T_FMT "}",
                       n[US_TALLY_UNSYNCED_GATE], n[US_TALLY_UNSYNCED_HOOK],
                       n[US_TALLY_UNSYNCED_REPORT]);
    write_requests(out, view);
    write_timings(out, view);
    write_state(out, view);
    write_troubles(out, view);
    apr_brigade_puts(out, NULL, NULL, "}\n");
}
