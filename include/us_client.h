/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_client.h: short identifiers of clients and accounts, for counters.  They
 * are salted hashes: nobody can choose addresses or e-mails that collide, and
 * the shared memory reveals none of them.
 *
 * Threads: any thread may call us_client_of and us_client_account.
 */
#ifndef US_CLIENT_H
#define US_CLIENT_H

#include <apr_errno.h>
#include <apr.h>

struct request_rec;

/* post_config: creates a new salt for the generation about to start. */
apr_status_t us_client_create(void);

/*
 * The client's address, as mod_remoteip sets it.  IPv6 addresses of one /64
 * are one client, and an IPv4 address in IPv6 form is the IPv4 address.
 * Requests without an address are one client, too.  Never 0.
 */
apr_uint64_t us_client_of(const struct request_rec *r);

/* The account that a request is about: what names it, as it is sent, which is
 * the e-mail or a token.  Never 0. */
apr_uint64_t us_client_account(const char *text, apr_size_t len);

#endif /* US_CLIENT_H */
