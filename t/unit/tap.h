/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * tap.h: the functions of unit tests.  Prints TAP; one program is one test
 * file, so the counters live here.
 */
#ifndef TAP_H
#define TAP_H

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static int tap_count;
static int tap_failed;
static int tap_planned;

/* The name is a printf format: table-driven cases can name themselves. */
static inline int tap_report(int good, const char *name, va_list args)
{
    tap_count++;
    tap_failed += !good;
    (void)printf("%sok %d - ", good ? "" : "not ", tap_count);
    (void)vprintf(name, args);
    (void)printf("\n");
    (void)fflush(stdout);
    return good;
}

__attribute__((format(printf, 2, 3))) static inline int ok(int good,
                                                           const char *name,
                                                           ...)
{
    va_list args;

    va_start(args, name);
    tap_report(good != 0, name, args);
    va_end(args);
    return good != 0;
}

/* A string that may be NULL, for printing. */
static inline const char *shown(const char *text)
{
    return text != NULL ? text : "NULL";
}

/* Compares two strings; NULL only equals NULL. */
__attribute__((format(printf, 3, 4))) static inline int is_str(
    const char *got, const char *want, const char *name, ...)
{
    int same
        = got == NULL || want == NULL ? got == want : strcmp(got, want) == 0;
    va_list args;

    va_start(args, name);
    tap_report(same, name, args);
    va_end(args);
    if (!same) {
        (void)printf("#      got: %s\n# expected: %s\n", shown(got),
                     shown(want));
    }
    return same;
}

__attribute__((format(printf, 3, 4))) static inline int is_int(
    long long got, long long want, const char *name, ...)
{
    va_list args;

    va_start(args, name);
    tap_report(got == want, name, args);
    va_end(args);
    if (got != want) {
        (void)printf("#      got: %lld\n# expected: %lld\n", got, want);
    }
    return got == want;
}

/* Prints the plan first: so missing cases of a table are noticed. */
static inline void plan(int count)
{
    tap_planned = count;
    (void)printf("1..%d\n", count);
}

/* Prints the plan at the end unless there was one; gives main's status. */
static inline int done(void)
{
    if (tap_planned == 0) {
        plan(tap_count);
    }
    return tap_failed == 0 && tap_planned == tap_count ? 0 : 1;
}

#endif /* TAP_H */
