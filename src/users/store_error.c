/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "store_error.h"

#include <apr_strings.h>

#include <string.h>

/* SQLSTATE, message, constraint and column; never DETAIL, which quotes row
 * values.  Messages of class 22 quote them, too, and are left out, except
 * 2200H, which names a sequence. */
static const char *error_text(apr_pool_t *pool, const us_pg_result *error)
{
    const char *state = error->sqlstate != NULL ? error->sqlstate : "-----";
    int quotes = strncmp(state, "22", 2) == 0 && strcmp(state, "2200H") != 0;

    return apr_psprintf(
        pool, "%s (SQLSTATE %s%s%s%s%s)",
        error->message != NULL && !quotes ? error->message
                                          : "a value does not fit its column",
        state, error->constraint != NULL ? ", constraint " : "",
        error->constraint != NULL ? error->constraint : "",
        error->column != NULL ? ", column " : "",
        error->column != NULL ? error->column : "");
}

/* What the administrator can do about an error, or "". */
static const char *cure_for(const us_pg_result *error, int snapshot)
{
    if (us_pg_is_class(error, "25006")) {
        return "; DBDParams must lead to the primary";
    }
    if (us_pg_is_class(error, "2200H")) {
        return "; no row can be added: make the column bigint and the "
               "sequence longer, see ALTER SEQUENCE";
    }
    if (us_pg_is_class(error, "23502") && snapshot) {
        return "; UserSyncEnsure fills id and e-mail only: the column needs "
               "a default";
    }
    if (us_pg_is_class(error, "23502")) {
        return "; Supabase has no value for this user: the column needs a "
               "default";
    }
    if (us_pg_is_class(error, "42501") && error->message != NULL
        && strstr(error->message, "sequence") != NULL) {
        return "; GRANT USAGE ON SEQUENCE, see sql/grants.sql";
    }
    return "";
}

const char *us_store_error_text(apr_pool_t *pool, us_pg_status status,
                                const us_pg_result *error, int snapshot)
{
    switch (status) {
    case US_PG_TIMEOUT:
        return "PostgreSQL did not answer within UserSyncStoreTimeout: a lock "
               "on the row, a frozen server or too many clients";
    case US_PG_AWAY:
        return apr_psprintf(pool,
                            "PostgreSQL is away: %s; see DBDParams and the "
                            "PostgreSQL server",
                            error->message != NULL ? error->message : "");
    default:
        return apr_pstrcat(pool, "PostgreSQL: ", error_text(pool, error),
                           cure_for(error, snapshot), NULL);
    }
}

const char *us_store_stale_text(apr_pool_t *pool, us_pg_status status,
                                const us_pg_result *error)
{
    switch (status) {
    case US_PG_TIMEOUT:
        return US_EMAIL_STALE
            "PostgreSQL did not answer in time; a later login updates it";
    case US_PG_OK:
        return US_EMAIL_STALE
            "another transaction holds the row, or a trigger "
            "or a policy of the table suppresses the update";
    default:
        return apr_pstrcat(pool, US_EMAIL_STALE,
                           us_store_error_text(pool, status, error, 0), NULL);
    }
}
