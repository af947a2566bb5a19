/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_breaker.h: the circuit breaker, which decides when Supabase is not asked
 * at all.  It counts across the children of a generation, in shared memory.
 *
 * The circuit opens after as many failures in a row as UserSyncCircuitBreaker
 * says.  A client cannot open it for others:
 *
 *  - Each failure of the row comes from another client and another account.
 *    The owner of an account can make it slow, and a client can have any
 *    number of accounts; addresses are harder to get.
 *  - A failure counts only if Supabase has answered no request since this one
 *    was sent.  So an attacker with many addresses cannot open the circuit on
 *    a site that is in use: while their requests hang, others are answered.
 *  - Failures of one client alone, with different accounts, open the circuit
 *    for that client only.  If all clients share one address, behind a proxy,
 *    that is all of them.
 *  - A client whose probe failed leaves the next probe to others for a while.
 *
 * Threads: any thread may call the functions below us_breaker_create.
 */
#ifndef US_BREAKER_H
#define US_BREAKER_H

#include "us_config.h"

/* post_config: creates a circuit breaker for each operation of each project,
 * for the generation that is about to start. */
apr_status_t us_breaker_create(apr_pool_t *pconf, server_rec *s);

typedef struct us_breaker us_breaker;

/* child_init: the breaker of an operation of a project, which has the name that
 * us_config_project_name returns.  Returns NULL, which the functions below
 * accept, if UserSyncCircuitBreaker is Off. */
us_breaker *us_breaker_find(const char *url, us_operation operation);

/* One request's question to Supabase. */
typedef struct us_attempt {
    /* set by the caller; salted hashes, see us_client.h */
    apr_uint64_t client;
    apr_uint64_t account;
    /* set by us_breaker_permit */
    apr_time_t asked;
    apr_int64_t probe; /* the ticket of a probe; 0: not a probe */
    int alone;         /* the probe is for its client's own circuit */
} us_attempt;

/*
 * May Supabase be asked?  While the circuit is open, only one request at a
 * time may: the probe, once it is due.
 *
 * lease    how long a probe may take at most (usec); after that another
 *          request may be the probe
 * seconds  if the answer is no, set to the time that is left
 */
int us_breaker_permit(us_breaker *breaker, us_attempt *attempt,
                      apr_interval_time_t lease, int *seconds);

/* Would us_breaker_permit refuse this client now, whatever the account?
 * seconds is set as there. */
int us_breaker_is_open(const us_breaker *breaker, apr_uint64_t client,
                       int *seconds);

/* Reports how the request ended.  A change of state writes one log line. */
void us_breaker_report(us_breaker *breaker, const us_log *log,
                       const us_attempt *attempt, us_health health);

/* For the status page: one circuit. */
typedef struct us_circuit {
    const char *project;
    us_operation operation;
    int seconds; /* until a probe may go; 0: it is closed, or one is due */
    int is_open; /* for all clients */
    int is_open_alone; /* for one client only */
} us_circuit;

/* Looks at circuit i of those that there are, from 0; returns 0 after the
 * last one. */
int us_breaker_look(int i, us_circuit *seen);

#endif /* US_BREAKER_H */
