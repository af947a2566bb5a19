/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * pg/fault.c: what an error is about.  The data is what PostgreSQL 15 and 17
 * send.
 */
#include "tap.h"
#include "us_pg.h"

#define RAISED                          \
    {                                   \
        .is_in_body = 1, .is_raised = 1 \
    }
#define IN_BODY         \
    {                   \
        .is_in_body = 1 \
    }
#define IN_TEXT         \
    {                   \
        .is_in_text = 1 \
    }
#define PRIVILEGE         \
    {                     \
        .is_privilege = 1 \
    }
#define FATAL         \
    {                 \
        .is_fatal = 1 \
    }

static const struct {
    const char *what;
    const char *sqlstate;
    us_pg_result is;
    us_pg_fault fault;
} cases[] = {
    {"no SQLSTATE", NULL, {0}, US_FAULT_CONNECTION},
    {"an administrator's shutdown", "57P01", FATAL, US_FAULT_CONNECTION},
    {"a pooler's complaint", "08P01", {0}, US_FAULT_CONNECTION},
    {"a read-only server", "25006", {0}, US_FAULT_CONNECTION},
    {"a transaction that was left open", "25P02", {0}, US_FAULT_CONNECTION},
    {"a prepared statement that is gone", "26000", {0}, US_FAULT_CONNECTION},
    {"a read-only server, noticed by a trigger", "25006", IN_BODY,
     US_FAULT_CONNECTION},

    {"no such table", "42P01", IN_TEXT, US_FAULT_TABLE},
    {"no such column", "42703", IN_TEXT, US_FAULT_TABLE},
    {"no unique index", "42P10", {0}, US_FAULT_TABLE},
    {"a deferrable unique index", "55000", {0}, US_FAULT_TABLE},
    {"a generated column", "428C9", {0}, US_FAULT_TABLE},
    {"no privilege", "42501", PRIVILEGE, US_FAULT_TABLE},
    {"no schema", "3F000", {0}, US_FAULT_TABLE},

    {"a deadlock", "40P01", {0}, US_FAULT_REPEAT},
    {"a conflict", "40001", {0}, US_FAULT_REPEAT},
    {"a conflict in a trigger", "40001", IN_BODY, US_FAULT_REPEAT},

    {"a lock that was not given", "55P03", {0}, US_FAULT_SERVER},
    {"a statement that took too long", "57014", {0}, US_FAULT_SERVER},
    {"the same in a trigger", "57014", IN_BODY, US_FAULT_SERVER},
    {"no space", "53100", {0}, US_FAULT_SERVER},
    {"no space, noticed by a trigger", "53100", IN_BODY, US_FAULT_SERVER},
    {"a broken index", "XX002", {0}, US_FAULT_SERVER},

    {"another row has it", "23505", {0}, US_FAULT_CONFLICT},
    {"says a trigger", "23505", RAISED, US_FAULT_CONFLICT},

    {"a sequence at its end", "2200H", {0}, US_FAULT_TABLE},
    {"no value", "23502", {0}, US_FAULT_ROW},
    {"a check", "23514", {0}, US_FAULT_ROW},
    {"a value that does not fit", "22P02", {0}, US_FAULT_ROW},
    {"a policy that refuses", "42501", {0}, US_FAULT_ROW},
    {"a policy that reads a setting", "42704", {0}, US_FAULT_ROW},
    {"a trigger whose table is missing", "42P01", IN_BODY, US_FAULT_ROW},
    {"a trigger without a privilege",
     "42501",
     {.is_in_body = 1, .is_privilege = 1},
     US_FAULT_ROW},
    {"a foreign server that a trigger asks", "08001", IN_BODY, US_FAULT_ROW},
};

/* Whatever is raised on purpose, the row was refused. */
static const char *const raised[]
    = {"08001", "0A000", "25006", "26000", "28000", "3D000", "40001", "42P01",
       "53300", "55P03", "57014", "57P03", "58030", "P0001", "XX000"};

int main(void)
{
    us_pg_result error;
    apr_size_t i;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        error = cases[i].is;
        error.sqlstate = cases[i].sqlstate;
        is_int(us_pg_fault_of(&error), cases[i].fault, "%s", cases[i].what);
    }
    for (i = 0; i < sizeof(raised) / sizeof(raised[0]); i++) {
        us_pg_result on_purpose = RAISED;

        on_purpose.sqlstate = raised[i];
        is_int(us_pg_fault_of(&on_purpose), US_FAULT_ROW, "RAISE %s",
               raised[i]);
    }
    return done();
}
