/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "queue.h"

#include <stddef.h>

/* How long a thread may be overtaken. */
#define TURN_TIME apr_time_from_msec(100)

void us_pg_queue_init(us_pg_queue *queue)
{
    queue->first = NULL;
    queue->last = &queue->first;
}

static void take_place(us_pg_queue *queue, us_pg_waiter *self, apr_time_t now)
{
    pthread_condattr_t attributes;

    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&self->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    self->since = now;
    *queue->last = self;
    queue->last = &self->next;
}

void us_pg_queue_wait(us_pg_queue *queue, us_pg_waiter *self,
                      pthread_mutex_t *mutex, apr_time_t now, apr_time_t until)
{
    struct timespec ts;

    ts.tv_sec = (time_t)apr_time_sec(until);
    ts.tv_nsec = (long)apr_time_usec(until) * 1000;
    if (self->since == 0) {
        take_place(queue, self, now);
    }
    pthread_cond_timedwait(&self->changed, mutex, &ts);
}

void us_pg_queue_leave(us_pg_queue *queue, us_pg_waiter *self)
{
    us_pg_waiter **link = &queue->first;

    if (self->since == 0) {
        return;
    }
    while (*link != self) {
        link = &(*link)->next;
    }
    *link = self->next;
    if (queue->last == &self->next) {
        queue->last = link;
    }
    pthread_cond_destroy(&self->changed);
}

int us_pg_queue_is_others_turn(const us_pg_queue *queue,
                               const us_pg_waiter *self, apr_time_t now)
{
    return queue->first != NULL && queue->first != self
           && now - queue->first->since > TURN_TIME;
}

void us_pg_queue_wake(us_pg_queue *queue)
{
    if (queue->first != NULL) {
        pthread_cond_signal(&queue->first->changed);
    }
}

void us_pg_queue_wake_all(us_pg_queue *queue)
{
    us_pg_waiter *waiter;

    for (waiter = queue->first; waiter != NULL; waiter = waiter->next) {
        pthread_cond_signal(&waiter->changed);
    }
}
