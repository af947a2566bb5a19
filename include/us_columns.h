/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * us_columns.h: which fields of Supabase's user go to which columns of the
 * users table.
 */
#ifndef US_COLUMNS_H
#define US_COLUMNS_H

#include <apr_pools.h>
#include <apr_tables.h>

/* The end of the name of the table of tombstones, after the users table's. */
#define US_TOMBSTONES "_deleted"

/* The part of Supabase's user object that a column's value comes from. */
typedef enum us_field_kind {
    US_FIELD_ID,
    US_FIELD_EMAIL,
    US_FIELD_PHONE,
    US_FIELD_IS_ANONYMOUS,
    /* time stamps; see docs/lifecycle.md */
    US_FIELD_BANNED_UNTIL,
    US_FIELD_DELETED_AT,
    US_FIELD_UPDATED_AT, /* of the newest state that the row has been given */
    /* these have a key */
    US_FIELD_USER_METADATA,
    US_FIELD_APP_METADATA
} us_field_kind;

typedef struct us_column {
    us_field_kind field;
    const char *key;    /* NAME of ..._metadata.NAME, else NULL */
    const char *quoted; /* for SQL; NULL: "None", not written */
    const char *plain;
} us_column;

/*
 * Parses a field and the name of its column, as UserSyncColumn takes them.
 *
 * Returns NULL, or what is wrong: a sentence part that follows the directive's
 * name.  column is set in any case.
 */
const char *us_column_parse(apr_pool_t *pool, const char *field,
                            const char *name, us_column *column);

/* The field of a column, as us_column_parse takes it. */
const char *us_column_field(apr_pool_t *pool, const us_column *column);

/* Two fields are the same if their kind and, for metadata, their key are. */
int us_column_same_field(const us_column *a, const us_column *b);

/* Adds a column to a list; it replaces an earlier one for the same field. */
void us_columns_set(apr_array_header_t *columns, const us_column *column);

/*
 * The columns to write: id first, e-mail second unless it is None, then the
 * others as configured.
 *
 * configured  of us_column, as us_columns_set leaves them; NULL: none
 *
 * Returns a list of us_column, allocated from pool.
 */
apr_array_header_t *us_columns_complete(apr_pool_t *pool,
                                        const apr_array_header_t *configured);

/* Is the e-mail one of these columns?  Then it is the second. */
int us_columns_have_email(const apr_array_header_t *columns);

/* The place of a field without a key in a complete list; -1: it has no
 * column. */
int us_columns_find(const apr_array_header_t *columns, us_field_kind field);

#endif /* US_COLUMNS_H */
