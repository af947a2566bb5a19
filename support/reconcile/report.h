/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * report.h: what the program says: differences, progress, the result.
 */
#ifndef US_REC_REPORT_H
#define US_REC_REPORT_H

#include "run.h"

/*
 * Counts what a user has come to, and prints a line with --list if it is a
 * difference.
 *
 * reason  without values of the row; NULL: none
 */
void us_rec_report(us_rec_run *run, us_rec_class class, const char *id,
                   const char *reason);

/* Shows on a terminal how far the walk is; total -1: unknown. */
void us_rec_progress(const us_rec_run *run, apr_int64_t total);
void us_rec_progress_end(const us_rec_run *run);

/* How many differences were found, whatever became of them. */
apr_int64_t us_rec_differences(const us_rec_run *run);

/* Prints the result, and returns the exit status. */
int us_rec_result(us_rec_run *run, us_rec_end end);

#endif /* US_REC_REPORT_H */
