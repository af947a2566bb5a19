/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_clock.h: a clock that does not jump.  Deadlines are absolute times on
 * CLOCK_MONOTONIC in microseconds: setting the system's clock neither prolongs
 * nor shortens a wait, as it would with apr_time_now().
 */
#ifndef US_CLOCK_H
#define US_CLOCK_H

#include <apr_time.h>
#include <time.h>

/* Now, in microseconds.  Only differences mean anything. */
static inline apr_time_t us_clock_now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return apr_time_from_sec((apr_time_t)ts.tv_sec) + ts.tv_nsec / 1000;
}

/* Milliseconds until deadline for poll(2): rounded up, never negative. */
static inline int us_clock_poll_ms(apr_time_t deadline)
{
    apr_time_t left = deadline - us_clock_now();

    return left <= 0 ? 0 : (int)((left + 999) / 1000);
}

#endif /* US_CLOCK_H */
