/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "run.h"

#include <apr_general.h>
#include <apr_strings.h>

#include <errno.h>
#include <stdarg.h>
#include <time.h>

#define FIRST_WAIT apr_time_from_msec(500)
#define LONGEST_WAIT apr_time_from_sec(30)

volatile int us_rec_stop;

us_rec_end us_rec_fail(us_rec_run *run, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    run->problem = apr_pvsprintf(run->pool, format, args);
    va_end(args);
    return US_REC_FAILED;
}

us_rec_end us_rec_sleep(apr_interval_time_t usec)
{
    struct timespec left = {.tv_sec = (time_t)apr_time_sec(usec),
                            .tv_nsec = (long)apr_time_usec(usec) * 1000};

    while (!us_rec_stop && nanosleep(&left, &left) != 0 && errno == EINTR) {
    }
    return us_rec_stop ? US_REC_STOPPED : US_REC_OK;
}

apr_interval_time_t us_rec_backoff(int tries)
{
    apr_interval_time_t wait = FIRST_WAIT;
    apr_uint32_t dice = 0;

    while (--tries > 0 && wait < LONGEST_WAIT) {
        wait *= 2;
    }
    wait = wait < LONGEST_WAIT ? wait : LONGEST_WAIT;
    apr_generate_random_bytes((unsigned char *)&dice, sizeof(dice));
    return wait - (apr_interval_time_t)(dice % 1024) * (wait / 2) / 1024;
}

const char *us_rec_time_text(apr_pool_t *pool, apr_time_t when)
{
    apr_time_exp_t t;

    apr_time_exp_gmt(&t, when);
    return apr_psprintf(pool, "%04d-%02d-%02d %02d:%02d:%02d.%06d+00",
                        t.tm_year + 1900, t.tm_mon + 1, t.tm_mday, t.tm_hour,
                        t.tm_min, t.tm_sec, t.tm_usec);
}
