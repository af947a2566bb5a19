/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * crew.h: child processes with threads, and memory that they share with the
 * parent.  The parent has no threads, as in httpd.
 *
 * Nothing here depends on time: threads meet at barriers, or wait for what
 * must happen.  crew_start's alarm ends a test that hangs.
 */
#ifndef CREW_H
#define CREW_H

#include <pthread.h>
#include <sys/types.h>

#define CREW_CHILDREN 8 /* at most, at a time */
#define CREW_THREADS 16 /* of a child */

/* Zeroed memory that children inherit; never freed. */
void *crew_share(size_t size);

/* A barrier in such memory. */
void crew_barrier_init(pthread_barrier_t *barrier, int count);

/* Ends the program with a message if it takes far too long. */
void crew_start(const char *name);

/*
 * Forks a child that runs set_up, if given, and then run in each of its
 * threads; it ends when all threads have.
 *
 * child   passed to set_up and run: the test's number for it
 * thread  passed to run: from 0
 *
 * Returns its pid.
 */
pid_t crew_fork(int child, int threads, void (*set_up)(int child),
                void (*run)(int child, int thread));

/* Waits for a child; 1 if it has ended by itself and well.  A sanitizer's
 * finding in it is its exit status. */
int crew_wait(pid_t pid);

/* Kills a child with SIGKILL and waits for it. */
void crew_kill(pid_t pid);

/* Runs threads of this process and waits for them. */
void crew_threads(int child, int threads, void (*run)(int child, int thread));

/*
 * If set, threads are interrupted again and again, anywhere, to let others
 * run.  So another thread comes between two related instructions, even on a
 * busy machine with one processor.
 */
extern int crew_shaken;

/* Lets others run, between two looks at something that must happen. */
void crew_pause(void);

#endif /* CREW_H */
