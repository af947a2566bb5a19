/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "crew.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Far longer than any of the programs takes, even with a sanitizer. */
#define TOO_LONG 240

typedef struct member {
    pthread_t thread;
    int child;
    int number;
    void (*run)(int child, int thread);
} member;

__attribute__((noreturn)) static void give_up(const char *what)
{
    perror(what);
    exit(2);
}

void *crew_share(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED) {
        give_up("mmap");
    }
    return memory;
}

void crew_barrier_init(pthread_barrier_t *barrier, int count)
{
    pthread_barrierattr_t attributes;

    pthread_barrierattr_init(&attributes);
    pthread_barrierattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_barrier_init(barrier, &attributes, (unsigned)count);
    pthread_barrierattr_destroy(&attributes);
}

static char too_long[128];

static void on_alarm(int number)
{
    ssize_t written = write(STDOUT_FILENO, too_long, strlen(too_long));

    _exit(written > 0 ? number : 2);
}

/* The child that is being killed. */
static volatile pid_t victim;

/* A thread that waits at a barrier for a dead child would wait for ever. */
static void on_child(int number, siginfo_t *info, void *context)
{
    static const char died[] = "Bail out! a child has died\n";

    (void)number;
    (void)context;
    if (info->si_pid != victim
        && (info->si_code != CLD_EXITED || info->si_status != 0)) {
        _exit(write(STDOUT_FILENO, died, sizeof(died) - 1) > 0 ? 1 : 2);
    }
}

void crew_start(const char *name)
{
    struct sigaction action;

    memset(&action, 0, sizeof(action));
    action.sa_sigaction = on_child;
    action.sa_flags = SA_SIGINFO | SA_RESTART | SA_NOCLDSTOP;
    sigaction(SIGCHLD, &action, NULL);
    (void)snprintf(too_long, sizeof(too_long),
                   "Bail out! %s hangs: somebody waits for ever\n", name);
    memset(&action, 0, sizeof(action));
    action.sa_handler = on_alarm;
    sigaction(SIGALRM, &action, NULL);
    alarm(TOO_LONG);
}

/* --- shaking --- */

/* How often a running thread is interrupted (nsec). */
#define SHAKE 1000000

int crew_shaken;

static void on_shake(int number)
{
    int saved = errno;

    (void)number;
    sched_yield();
    errno = saved;
}

/* Starts a timer that interrupts this thread. */
static timer_t start_shaking(void)
{
    struct sigaction action = {.sa_handler = on_shake, .sa_flags = SA_RESTART};
    struct sigevent event
        = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR2};
    struct itimerspec often
        = {.it_interval = {.tv_nsec = SHAKE}, .it_value = {.tv_nsec = SHAKE}};
    timer_t timer;

    sigaction(SIGUSR2, &action, NULL);
    event._sigev_un._tid = gettid();
    if (timer_create(CLOCK_MONOTONIC, &event, &timer) != 0
        || timer_settime(timer, 0, &often, NULL) != 0) {
        give_up("timer");
    }
    return timer;
}

/* --- threads and children --- */

static void *run_member(void *data)
{
    member *self = data;

    if (crew_shaken) {
        timer_t timer = start_shaking();

        self->run(self->child, self->number);
        timer_delete(timer);
    }
    else {
        self->run(self->child, self->number);
    }
    return NULL;
}

void crew_threads(int child, int threads, void (*run)(int child, int thread))
{
    member members[CREW_THREADS];
    int i;

    for (i = 0; i < threads; i++) {
        members[i].child = child;
        members[i].number = i;
        members[i].run = run;
        if (pthread_create(&members[i].thread, NULL, run_member, &members[i])
            != 0) {
            give_up("pthread_create");
        }
    }
    for (i = 0; i < threads; i++) {
        pthread_join(members[i].thread, NULL);
    }
}

pid_t crew_fork(int child, int threads, void (*set_up)(int child),
                void (*run)(int child, int thread))
{
    pid_t pid = fork();

    if (pid < 0) {
        give_up("fork");
    }
    if (pid > 0) {
        return pid;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (set_up != NULL) {
        set_up(child);
    }
    crew_threads(child, threads, run);
    exit(0);
}

int crew_wait(pid_t pid)
{
    int status = -1;

    return waitpid(pid, &status, 0) == pid && WIFEXITED(status)
           && WEXITSTATUS(status) == 0;
}

void crew_kill(pid_t pid)
{
    victim = pid;
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

void crew_pause(void)
{
    usleep(200);
}
