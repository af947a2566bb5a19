/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * source.h: where the users come from: the admin API (api.c) or the table
 * auth.users (auth_users.c).
 */
#ifndef US_REC_SOURCE_H
#define US_REC_SOURCE_H

#include "run.h"

/* Some users, and when they were asked for. */
typedef struct us_rec_page {
    const us_rec_user **users;
    int count;
    const char *asked; /* on the source's clock, as PostgreSQL reads it */
    int is_last;       /* the walk is over */
} us_rec_page;

typedef struct us_rec_source us_rec_source;

struct us_rec_source {
    void *data;        /* api.c's or auth_users.c's */
    const char *name;  /* for the state file: one line without secrets */
    apr_int64_t total; /* users there are, roughly; -1: unknown */

    /* The next users of the walk; pool receives them.  Some may come again. */
    us_rec_end (*next)(us_rec_source *source, apr_pool_t *pool,
                       us_rec_page *page);

    /*
     * Those of these users who exist, softly deleted ones among them.  A user
     * who is not found is proven to be gone.
     */
    us_rec_end (*find)(us_rec_source *source, apr_pool_t *pool,
                       const char *const *ids, int count, us_rec_page *page);

    /* Where the walk stands: one line, allocated from pool. */
    const char *(*place)(const us_rec_source *source, apr_pool_t *pool);

    /* Continues there.  0: this is no such line. */
    int (*resume)(us_rec_source *source, const char *place);
};

/* The admin API of run->options->url. */
us_rec_end us_rec_api_create(us_rec_run *run, us_rec_source **out);

/* auth.users in the database run->options->from_db. */
us_rec_end us_rec_auth_users_create(us_rec_run *run, us_rec_source **out);

#endif /* US_REC_SOURCE_H */
