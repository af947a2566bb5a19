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

#include "us_columns.h"
#include "us_pg.h"

/* The bits of a shape: what the table check finds out that decides how the
 * statements are written. */
#define US_SHAPE_ONLY 1u       /* an ordinary table: exclude its children */
#define US_SHAPE_TEXT_ID 2u    /* the id is text, whose case matters */
#define US_SHAPE_JSON_EMAIL 4u /* the e-mail is json or jsonb */
#define US_SHAPES 8u

/* A users table. */
typedef struct us_store_table {
    const char *name; /* quoted */
    const char
        *tombstones; /* quoted: the table of those whose row was deleted;
                         * NULL: none */
    const apr_array_header_t *columns; /* complete, see us_columns.h */
    int has_email;                     /* if so, it is the second column */
    /* the places of these columns; -1: none */
    int anonymous;
    int banned;
    int deleted;
    int updated;
} us_store_table;

/*
 * Describes a table.
 *
 * name     quoted
 * deletes  it has a table of tombstones: its name with "_deleted" after it
 * columns  must outlive the result
 */
us_store_table us_store_table_make(apr_pool_t *pool, const char *name,
                                   const apr_array_header_t *columns,
                                   int deletes);

/* How long a sign-in can take at Supabase, from its look at the user on, and
 * what its clock and PostgreSQL's may differ. */
#define US_SIGN_IN_TIME "10s"

/* The columns of a look-up's result; no row means that there is none. */
#define US_LOOK_EXACT 0 /* the id is spelled as it should be */
#define US_LOOK_LIFE 1  /* "deleted", the seconds until a ban ends, or NULL */
#define US_LOOK_EMAIL 2 /* the e-mail is the same; look_up only */
#define US_LOOK_LATER 3 /* the row has been given a later state; look_up */

/* A ban that ends later is looked at again after this time (seconds). */
#define US_BAN_MAX 86400

/* A statement without an sql: there is nothing that it could do. */
typedef struct us_store_sql {
    us_pg_statement look_up; /* $1 id, e-mail, as_of */
    us_pg_statement find;    /* $1 id */
    /* these skip a locked row */
    us_pg_statement update;    /* $1 id, e-mail, as_of, is_anonymous */
    us_pg_statement revive;    /* $1 id, as_of: ends a ban and a deletion */
    us_pg_statement pretend;   /* fails like the insert, but inserts nothing */
    us_pg_statement tombstone; /* $1 id: a row if there is a tombstone */
    us_pg_statement
        drop_tombstone; /* $1 id, $2 as_of, $3 an interval: removes a tombstone
                              * that is older by that */
    us_pg_statement sweep; /* $1 id: deletes a row that has a tombstone */
} us_store_sql;

/* child_init: composes the statements for a table of this shape.  Parameters
 * for columns that the table does not have are left out. */
us_store_sql us_store_sql_create(apr_pool_t *pool, const us_store_table *table,
                                 unsigned shape);

/*
 * The insert of a row.
 *
 * count   how many of the columns it names
 * params  the values of those columns; NULL gives the column the table's
 *         default.  The other values are moved together and become the
 *         statement's parameters.
 */
us_pg_statement us_store_sql_insert(apr_pool_t *pool,
                                    const us_store_table *table, int count,
                                    const char **params);

/* --- pieces, for users/change_sql.c and the batches of a program --- */

/* An operator or a type of PostgreSQL's own. */
#define US_EQUALS " OPERATOR(pg_catalog.=) "
#define US_LESS " OPERATOR(pg_catalog.<) "
#define US_GREATER " OPERATOR(pg_catalog.>) "
#define US_TIME(value) "CAST(" value " AS pg_catalog.timestamptz)"

/* "ONLY table" or "table". */
const char *us_store_sql_from(apr_pool_t *pool, const us_store_table *table,
                              unsigned shape);

/* " WHERE id = $1". */
const char *us_store_sql_where_id(apr_pool_t *pool,
                                  const us_store_table *table, unsigned shape);

/* The quoted name of a column. */
const char *us_store_sql_column(const us_store_table *table, int i);

/*
 * Does the row's state yield to one of this time?  "true" if the table has no
 * column for that.
 *
 * time  an expression of the type timestamptz; NULL yields to anything
 * dead  the new state says that the user is deleted: that wins a draw
 */
const char *us_store_sql_yields(apr_pool_t *pool, const us_store_table *table,
                                const char *time, int dead);

/* The condition that the e-mail is this parameter, such as "$2"; NULL equals
 * NULL. */
const char *us_store_sql_same_email(apr_pool_t *pool,
                                    const us_store_table *table,
                                    const char *parameter, unsigned shape);

#endif /* US_STORE_SQL_H */
