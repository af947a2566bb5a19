/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "us_pg.h"

#include <string.h>

int us_pg_is_class(const us_pg_result *error, const char *class_code)
{
    return error->sqlstate != NULL
           && strncmp(error->sqlstate, class_code, strlen(class_code)) == 0;
}

/* Does the SQLSTATE begin like one in the list, which ends with NULL? */
static int is_one_of(const us_pg_result *error, const char *const *classes)
{
    while (*classes != NULL && !us_pg_is_class(error, *classes)) {
        classes++;
    }
    return *classes != NULL;
}

/*
 * Errors in a trigger, or in a function that a default or a policy calls.
 * What it raises is its own decision, and an error in it says nothing about
 * the statement.  But the server can run out of a resource, or end a
 * statement, in there, too.
 */
static us_pg_fault fault_in_body(const us_pg_result *error)
{
    /* timeouts, resources, shutdowns */
    static const char *const server[]
        = {"53", "55P03", "57014", "57P", "58", NULL};

    if (us_pg_is_class(error, "23505")) {
        return US_FAULT_CONFLICT;
    }
    if (error->is_raised) {
        return US_FAULT_ROW;
    }
    if (us_pg_is_class(error, "40")) {
        return US_FAULT_REPEAT;
    }
    if (us_pg_is_class(error, "25006")) {
        return US_FAULT_CONNECTION;
    }
    return is_one_of(error, server) ? US_FAULT_SERVER : US_FAULT_ROW;
}

/*
 * Errors of the statement itself.  If an error of class 42 has no position in
 * the statement's text, the parser did not find it: it was raised at run time,
 * for example by a policy that reads a setting, and is about the row.  The
 * exceptions are errors of the planner and the rewriter.
 */
static us_pg_fault fault_of_statement(const us_pg_result *error)
{
    /* a pooler sends these, too, before it closes the connection; 25: read
     * only, or in a transaction that was left open */
    static const char *const connection[] = {"08", "25", "57P", "26", NULL};
    /* 55000: a deferrable unique index; 42P10: no unique index; 428C9: a
     * generated column; 42809: not a table; 2200H: a sequence at its end */
    static const char *const table[]
        = {"0A", "3F", "55000", "42P10", "428C9", "42809", "2200H", NULL};
    static const char *const server[] = {"28", "3D", "40", "53", "55", "57",
                                         "58", "72", "F0", "HV", "XX", NULL};

    if (us_pg_is_class(error, "23505")) {
        return US_FAULT_CONFLICT;
    }
    if (us_pg_is_class(error, "40")) {
        return US_FAULT_REPEAT;
    }
    if (is_one_of(error, connection)) {
        return US_FAULT_CONNECTION;
    }
    if (error->is_privilege || is_one_of(error, table)
        || (us_pg_is_class(error, "42") && error->is_in_text)) {
        return US_FAULT_TABLE;
    }
    return is_one_of(error, server) ? US_FAULT_SERVER : US_FAULT_ROW;
}

us_pg_fault us_pg_fault_of(const us_pg_result *error)
{
    if (error->sqlstate == NULL || error->is_fatal) {
        return US_FAULT_CONNECTION;
    }
    return error->is_in_body ? fault_in_body(error)
                             : fault_of_statement(error);
}
