/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * pg/queue.h: the threads that wait for one of a pool's connections, in the
 * order in which they came.  The pool's mutex protects it.
 */
#ifndef US_PG_QUEUE_H
#define US_PG_QUEUE_H

#include <apr_time.h>

#include <pthread.h>

/* A thread that may have to wait; lives on its stack, zero at first. */
typedef struct us_pg_waiter {
    pthread_cond_t changed; /* on CLOCK_MONOTONIC, once it waits */
    apr_time_t since;       /* 0: it has not waited yet */
    struct us_pg_waiter *next;
} us_pg_waiter;

typedef struct us_pg_queue {
    us_pg_waiter *first; /* has waited longest */
    us_pg_waiter **last; /* where the next one is added */
} us_pg_queue;

void us_pg_queue_init(us_pg_queue *queue);

/*
 * Sleeps until woken, or until a time on us_clock_now().  The first time takes
 * the last place of the queue, which the thread keeps until us_pg_queue_leave.
 *
 * mutex  held by the caller
 */
void us_pg_queue_wait(us_pg_queue *queue, us_pg_waiter *self,
                      pthread_mutex_t *mutex, apr_time_t now,
                      apr_time_t until);

/* Gives the place up, if the thread has one.  The one that is first then may
 * have been woken for nothing before: the caller wakes it if it can go on. */
void us_pg_queue_leave(us_pg_queue *queue, us_pg_waiter *self);

/*
 * Is it another thread's turn?  Whoever has just come may be faster than a
 * thread that has to be woken, which keeps the connections busy.  But not once
 * that thread has waited for a tenth of a second: under load it would never
 * get one.
 */
int us_pg_queue_is_others_turn(const us_pg_queue *queue,
                               const us_pg_waiter *self, apr_time_t now);

/* Wakes the thread that has waited longest, or all. */
void us_pg_queue_wake(us_pg_queue *queue);
void us_pg_queue_wake_all(us_pg_queue *queue);

#endif /* US_PG_QUEUE_H */
