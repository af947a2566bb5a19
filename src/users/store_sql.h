/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * users/store_sql.h: the statements for one users table, as text.
 *
 * Operators, functions and types are named with their schema.  Otherwise
 * anybody who may create objects in a schema of the search_path could replace
 * PostgreSQL's operator by their own, and httpd's role would run it.
 */
#ifndef US_STORE_SQL_H
#define US_STORE_SQL_H

#include "us_config.h"
#include "us_pg.h"

/* The bits of a shape: what the table check finds out that decides how the
 * statements are written. */
#define US_SHAPE_ONLY 1u       /* an ordinary table: exclude its children */
#define US_SHAPE_TEXT_ID 2u    /* the id is text, whose case matters */
#define US_SHAPE_JSON_EMAIL 4u /* the e-mail is json or jsonb */
#define US_SHAPES 8u

/* The columns of a look-up's result; no row means that there is none. */
#define US_LOOK_EXACT 0 /* the id is spelled as it should be */
#define US_LOOK_EMAIL 1 /* the e-mail is the same; look_up only */

typedef struct us_store_sql {
    us_pg_statement look_up; /* $1 id, $2 e-mail; without that column: find */
    us_pg_statement find;    /* $1 id */
    us_pg_statement update;  /* of the e-mail; skips a locked row */
    us_pg_statement pretend; /* fails like the insert, but inserts nothing */
} us_store_sql;

/*
 * child_init: composes the statements for a table of this shape.
 *
 * columns  of us_column: id, e-mail (has_email), others; parameters are
 *          numbered in this order
 */
us_store_sql us_store_sql_create(apr_pool_t *pool, const char *table,
                                 const apr_array_header_t *columns,
                                 int has_email, unsigned shape);

/*
 * The insert of a row.
 *
 * count   how many of the columns it names
 * params  the values of those columns; NULL gives the column the table's
 *         default.  The other values are moved together and become the
 *         statement's parameters.
 */
us_pg_statement us_store_sql_insert(apr_pool_t *pool, const char *table,
                                    const apr_array_header_t *columns,
                                    int count, const char **params);

#endif /* US_STORE_SQL_H */
