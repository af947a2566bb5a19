/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * doors/status.h: what the formats of the status page show.
 */
#ifndef US_STATUS_VIEW_H
#define US_STATUS_VIEW_H

#include "us_breaker.h"
#include "us_limits.h"
#include "us_stats.h"
#include "us_status.h"
#include "us_users.h"

/* One users table, as it answers now. */
typedef struct us_status_table {
    const char *server; /* whose it is */
    us_outcome outcome;
    const char *cause; /* NULL: it answers, and is as it must be */
    int is_misfit;     /* not so: new users get no row, or nobody is found */
    us_users_connections connections;
} us_status_table;

typedef struct us_status_view {
    apr_time_t now;
    us_stats stats;
    us_limits_now limits;
    apr_array_header_t *circuits; /* of us_circuit */
    apr_array_header_t *tables;   /* of us_status_table */
    us_trouble troubles[US_TROUBLES];
    int trouble_count;
} us_status_view;

/* "login", "sign_up" ...: labels. */
const char *us_status_door(us_door door);
const char *us_status_timing(int timing);

/*
 * How often requests of a door ended with the code of outcome i.  Several
 * outcomes may have one code: the first of them has the sum, the others -1.
 */
apr_int64_t us_status_count(const us_status_view *view, us_door door, int i);

/* The same of any counts by outcome. */
apr_int64_t us_status_sum(const apr_uint64_t *counts, int i);

/* Does everything work? */
int us_status_is_well(const us_status_view *view);

/* The formats: each writes the whole text to a brigade. */
void us_status_html(apr_bucket_brigade *out, const us_status_view *view);
void us_status_html_block(apr_bucket_brigade *out, const us_status_view *view);
void us_status_json(apr_bucket_brigade *out, const us_status_view *view);

/* openmetrics: else the older text format of Prometheus, 0.0.4. */
void us_status_metrics(apr_bucket_brigade *out, const us_status_view *view,
                       int openmetrics);
/* "Key: value" lines, as mod_status writes them. */
void us_status_lines(apr_bucket_brigade *out, const us_status_view *view);

#endif /* US_STATUS_VIEW_H */
