/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * upstream.h: an HTTP server in this program that does what no server should.
 * Each connection has its own thread.  It answers 200 with the request's body,
 * and does what the request's header X-Act says.
 */
#ifndef UPSTREAM_H
#define UPSTREAM_H

#include <stdatomic.h>

typedef struct upstream {
    int tls;
    int port;
    _Atomic int accepted;  /* connections */
    _Atomic int closed;    /* of those: the client has closed them */
    _Atomic int served;    /* requests that were answered */
    _Atomic int delivered; /* surplus answers that have arrived */
    _Atomic int at_other;  /* connections to another address than 127.0.0.1 */
    int listener;
} upstream;

/* The text of surplus answers; no request may get it as its answer. */
#define UPSTREAM_STOLEN "the session of somebody else"

/*
 * Listens on all loopback addresses until the program ends; 0 on failure.
 *
 * tls  use a certificate for 127.0.0.1, which is written to ca_file
 */
int upstream_start(upstream *server, const char *ca_file);

#endif /* UPSTREAM_H */
