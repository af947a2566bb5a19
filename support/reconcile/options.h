/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * options.h: the command line of usersync-reconcile.
 */
#ifndef US_REC_OPTIONS_H
#define US_REC_OPTIONS_H

#include "us_secret.h"
#include "us_values.h"

#include <apr_tables.h>

typedef enum us_rec_on_delete {
    US_REC_ON_DELETE_DEFAULT, /* Mark if deleted_at has a column, else Keep */
    US_REC_KEEP,
    US_REC_MARK,
    US_REC_DELETE
} us_rec_on_delete;

typedef struct us_rec_options {
    const char *url;                   /* of Supabase Auth; NULL: from_db */
    const us_secret *key;              /* with url */
    const char *from_db;               /* conninfo of the project's database */
    const char *db;                    /* conninfo of the target */
    const char *table;                 /* quoted for SQL */
    const apr_array_header_t *columns; /* of us_column, complete */
    us_rec_on_delete on_delete;        /* never the default */
    const char *ca_file;               /* NULL: the system's */
    const char *proxy;                 /* NULL: none */
    const char *state;                 /* a path; NULL: none */
    us_share max_delete;
    int batch;                   /* rows of a transaction */
    int retries;                 /* of what failed, before giving up */
    apr_interval_time_t timeout; /* usec, of a request or a statement */
    int apply;
    int list;
    int json;
    int quiet;
} us_rec_options;

/* What to do after the command line was read. */
typedef enum us_rec_wish {
    US_REC_WORK,
    US_REC_HELP,
    US_REC_VERSION,
    US_REC_WRONG
} us_rec_wish;

/*
 * Reads the command line, and the files with secrets that it names.
 *
 * options  set if the wish is US_REC_WORK; secrets in it are wiped with pool
 * wrong    set if it is US_REC_WRONG: one line, which shows no secret
 */
us_rec_wish us_rec_options_read(apr_pool_t *pool, int argc,
                                const char *const *argv,
                                us_rec_options *options, const char **wrong);

/* The text of --help. */
extern const char us_rec_usage[];

#endif /* US_REC_OPTIONS_H */
