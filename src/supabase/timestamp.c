/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "timestamp.h"

#include <apr_strings.h>

#include <string.h>

/* Time zones of PostgreSQL are less than 16 hours from Greenwich. */
#define ZONE_HOURS_MAX 15

/* The last whole year of PostgreSQL's timestamptz. */
#define LAST_YEAR 294275

/* Nanoseconds, as Go writes them. */
#define FRACTION_DIGITS 9

/* Reads a number of exactly that many digits, from min to max. */
static int take_number(const char **text, int digits, int min, int max,
                       int *number)
{
    int i;

    *number = 0;
    for (i = 0; i < digits; i++) {
        char c = (*text)[i];

        if (c < '0' || c > '9') {
            return 0;
        }
        *number = *number * 10 + (c - '0');
    }
    *text += digits;
    return *number >= min && *number <= max;
}

static int take_char(const char **text, char c)
{
    int found = **text == c;

    *text += found;
    return found;
}

/* Days from 1970 to the first of a month: a year begins in March here, so that
 * a leap day is its last one. */
static apr_int64_t days_to(int year, int month)
{
    apr_int64_t y = month > 2 ? year : year - 1;
    apr_int64_t m = month > 2 ? month - 3 : month + 9;

    return y * 365 + y / 4 - y / 100 + y / 400 + (m * 153 + 2) / 5 - 719468;
}

static int take_date(const char **text, apr_int64_t *days)
{
    int year;
    int month;
    int day;
    int digits = (int)strspn(*text, "0123456789");

    /* a later year has more digits, and no zero before them */
    if (digits < 4 || digits > 6 || (digits > 4 && **text == '0')
        || !take_number(text, digits, 1, LAST_YEAR, &year)
        || !take_char(text, '-') || !take_number(text, 2, 1, 12, &month)
        || !take_char(text, '-') || !take_number(text, 2, 1, 31, &day)) {
        return 0;
    }
    *days = days_to(year, month) + day - 1;
    return *days
           < (month < 12 ? days_to(year, month + 1) : days_to(year + 1, 1));
}

static int take_clock(const char **text, apr_int64_t *seconds)
{
    int hour;
    int minute;
    int second;

    if (!take_number(text, 2, 0, 23, &hour) || !take_char(text, ':')
        || !take_number(text, 2, 0, 59, &minute) || !take_char(text, ':')
        || !take_number(text, 2, 0, 59, &second)) {
        return 0;
    }
    *seconds = hour * 3600 + minute * 60 + second;
    return 1;
}

/* Reads a fraction of a second, which may be missing. */
static int take_fraction(const char **text, apr_int64_t *usec)
{
    apr_int64_t unit = APR_USEC_PER_SEC / 10;
    int count = 0;
    int digit;

    *usec = 0;
    if (!take_char(text, '.')) {
        return 1;
    }
    while (count < FRACTION_DIGITS && take_number(text, 1, 0, 9, &digit)) {
        *usec += digit * unit;
        unit /= 10;
        count++;
    }
    return count > 0;
}

/* Reads "Z", or how far the local time is ahead: +HH, +HH:MM or +HH:MM:SS. */
static int take_zone(const char **text, apr_int64_t *ahead)
{
    int west = **text == '-';
    int hours;
    int minutes = 0;
    int seconds = 0;

    *ahead = 0;
    if (take_char(text, 'Z')) {
        return 1;
    }
    if (!take_char(text, west ? '-' : '+')
        || !take_number(text, 2, 0, ZONE_HOURS_MAX, &hours)) {
        return 0;
    }
    if (take_char(text, ':')
        && (!take_number(text, 2, 0, 59, &minutes)
            || (take_char(text, ':')
                && !take_number(text, 2, 0, 59, &seconds)))) {
        return 0;
    }
    *ahead = hours * 3600 + minutes * 60 + seconds;
    *ahead = west ? -*ahead : *ahead;
    return 1;
}

int us_timestamp_read(const char *text, apr_time_t *time)
{
    apr_int64_t days;
    apr_int64_t seconds;
    apr_int64_t usec;
    apr_int64_t ahead;

    if (strcmp(text, "infinity") == 0) {
        *time = US_TIMESTAMP_NEVER;
        return 1;
    }
    if (strcmp(text, "-infinity") == 0) {
        *time = US_TIMESTAMP_ALWAYS;
        return 1;
    }
    if (!take_date(&text, &days)
        || (!take_char(&text, 'T') && !take_char(&text, ' '))
        || !take_clock(&text, &seconds) || !take_fraction(&text, &usec)
        || !take_zone(&text, &ahead) || *text != '\0') {
        return 0;
    }
    *time = apr_time_from_sec(days * 86400 + seconds - ahead) + usec;
    return 1;
}

const char *us_timestamp_text(apr_pool_t *pool, apr_time_t time)
{
    apr_time_exp_t exp;

    apr_time_exp_gmt(&exp, time);
    return apr_psprintf(pool, "%04d-%02d-%02dT%02d:%02d:%02d.%06dZ",
                        exp.tm_year + 1900, exp.tm_mon + 1, exp.tm_mday,
                        exp.tm_hour, exp.tm_min, exp.tm_sec, exp.tm_usec);
}
