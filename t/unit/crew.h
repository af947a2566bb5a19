/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * crew.h: child processes with threads, and memory that they share with the
 * parent.  The parent stays without threads, as httpd's does.
 *
 * Nothing here depends on time: all meet at barriers, or wait for what must
 * come.  A test that hangs is ended by crew_start's alarm.
 */
#ifndef CREW_H
#define CREW_H

#include <pthread.h>
#include <sys/types.h>

#define CREW_CHILDREN 8 /* at the most, at a time */
#define CREW_THREADS 16 /* of a child */

/* Zeroed memory that children inherit; never freed. */
void *crew_share(size_t size);

/* A barrier in such memory. */
void crew_barrier_init(pthread_barrier_t *barrier, int count);

/* Ends the program with a message when it takes far too long. */
void crew_start(const char *name);

/*
 * Forks a child that runs set_up, if there is one, and then run in each of
 * its threads; it ends when all of them have.
 *
 * child   handed to set_up and run: the test's number for it
 * thread  handed to run: from 0
 *
 * Returns its pid.
 */
pid_t crew_fork(int child, int threads, void (*set_up)(int child),
                void (*run)(int child, int thread));

/* Waits for a child; 1 when it has ended by itself and well.  A sanitizer's
 * finding in it is its exit status. */
int crew_wait(pid_t pid);

/* Kills a child with SIGKILL and waits for it. */
void crew_kill(pid_t pid);

/* Threads of this process: runs them all and waits for them. */
void crew_threads(int child, int threads, void (*run)(int child, int thread));

/*
 * Set, threads are interrupted again and again, wherever they are, to let
 * others run.  Between two instructions that belong together somebody else
 * comes then, even on a machine with one processor that is busy.
 */
extern int crew_shaken;

/* Lets others run: between two looks at something that must come. */
void crew_pause(void);

#endif /* CREW_H */
